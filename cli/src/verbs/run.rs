//! `streamctl run`: a job in this process, until it ends or is interrupted.

use super::{job_file_error, pack, read};
use crate::error::CliError;
use crate::local::{Flow, LocalJob, MemoryLimit, Runner};
use crate::output::Output;
use crate::views::{now_line, progress_line, status_json, status_text};
use clap::Args;
use clap::builder::FalseyValueParser;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use streamctl_engine::clock::system_clock;
use streamctl_proto::v1::JobState;
use streamctl_proto::{JobName, JobSpec};

/// Of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Job file
    pub file: PathBuf,
    /// State directory, needed to resume (default: next to the job file)
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Replace the job file of an existing state; the new version starts after the last epoch
    #[arg(long)]
    pub change: bool,
    /// Memory limit of the worker, at least 128MiB (default: 75 % of the machine or control group,
    /// at most 16GiB)
    #[arg(long, env = "STREAMCTL_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<MemoryLimit>,
    /// Address of the dashboard; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub http_listen: SocketAddr,
    /// Serve the dashboard to other machines and users, without TLS or authentication
    #[arg(long, env = "STREAMCTL_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// Runs the job; progress goes to standard error, the last status to standard output. The
/// dashboard's address is printed once the job was accepted: before, there is nothing to show.
pub async fn run(
    args: &RunArgs,
    dashboard: &str,
    runner: impl Runner,
    out: &mut Output,
) -> Result<(), CliError> {
    let job = LocalJob {
        change: args.change,
        memory_limit: args.memory_limit,
        ..job(&args.file, args.state.as_deref())?
    };
    let spec = JobSpec::parse_in(&job.spec_text, &job.base_dir);
    let source = spec.map(|spec| spec.source.kind);
    let bounded = source.as_ref().is_ok_and(|source| source.is_bounded());
    let reads_once = source.as_ref().is_ok_and(|source| source.reads_once());
    let mut epoch_shown = 0;
    let mut was_over = None;
    let began_ms = system_clock()();
    let progress = out.progress("starting");
    let mut listener = |status: &streamctl_proto::v1::JobStatus| {
        if was_over.is_none() {
            let is_old = status.submitted_ms < began_ms;
            let is_over = is_old && status.state() == JobState::Completed;
            was_over = Some(is_over);
            out.note(&format!("dashboard: {dashboard}"));
            if is_old && status.published > 0 {
                // Epochs that an earlier run published are not shown again.
                epoch_shown = status.published;
                out.note(&format!("going on after epoch {epoch_shown}"));
            }
            if reads_once && is_old && !is_over && status.published == 0 {
                out.note(
                    "note: an earlier run of this job has committed nothing: what it read of its input is not read again",
                );
            }
        }
        progress.show(now_line(status));
        let shards = u64::from(status.shards_open) + u64::from(status.shards_ended);
        if bounded {
            progress.at(status.shards_ended.into(), shards);
        }
        if status.published > epoch_shown {
            epoch_shown = status.published;
            out.note(&progress_line(status));
        }
        Flow::Continue
    };
    let last = runner(job, &mut listener)
        .await
        .map_err(|error| error.of_job_file(&args.file))?;
    drop(progress);
    if was_over == Some(true) && reads_once {
        return Err(CliError::Local {
            message: "the job is completed: it has read the input of an earlier run, and reads no other".into(),
            hint: "give the job another name; or remove its state folder, its checkpoint and its output, to begin anew"
                .into(),
        });
    }
    if was_over == Some(true) {
        out.note(
            "note: the job had read its files before and is completed; files that came since are not read by it: give a \
             job that reads them all another name",
        );
    }
    let paint = out.paint();
    out.either(|| status_text(&last, paint), || status_json(&last))?;
    if last.error.is_empty() {
        Ok(())
    } else {
        Err(CliError::Local {
            message: last.error,
            hint: last.hint,
        })
    }
}

pub(super) fn job(path: &Path, state: Option<&Path>) -> Result<LocalJob, CliError> {
    named_job(path, state).map(|(job, _)| job)
}

/// The job of a file, and its name.
pub(super) fn named_job(
    path: &Path,
    state: Option<&Path>,
) -> Result<(LocalJob, JobName), CliError> {
    let spec_text = read(path)?;
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| CliError::File {
            path: path.display().to_string(),
            source,
        })
    };
    let file = absolute(path)?;
    let base_dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let spec = JobSpec::parse_in(&spec_text, &base_dir)
        .map_err(|problems| job_file_error(path, &problems))?;
    let function_code = pack(path, &spec_text, &spec)?;
    let state_dir = match state {
        Some(folder) => absolute(folder)?,
        None => base_dir.join(format!(".streamctl-{}", spec.name)),
    };
    Ok((
        LocalJob {
            spec_text,
            base_dir,
            function_code,
            state_dir,
            change: false,
            memory_limit: None,
        },
        spec.name,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Listener;
    use crate::output::Format;
    use crate::output::tests::captured;
    use crate::views::tests::status;
    use streamctl_proto::v1::JobStatus;

    fn args() -> RunArgs {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/jobs/generator.toml");
        let http_listen = "127.0.0.1:0".parse().unwrap();
        RunArgs {
            file,
            state: None,
            change: false,
            memory_limit: None,
            http_listen,
            insecure: false,
        }
    }

    #[tokio::test]
    async fn each_published_epoch_is_noted_once_and_the_last_status_is_data() {
        let (mut out, data, notes) = captured(Format::Json);
        let runner = async |job: LocalJob, listener: &mut Listener<'_>| {
            assert!(job.state_dir.ends_with(".streamctl-generated-sales"));
            for published in [6, 7, 7] {
                assert_eq!(
                    listener(&JobStatus {
                        published,
                        ..status()
                    }),
                    Flow::Continue
                );
            }
            Ok(status())
        };
        run(&args(), "http://x/", runner, &mut out).await.unwrap();
        assert!(
            notes
                .text()
                .starts_with("dashboard: http://x/\ngoing on after epoch 6\nepoch 7 "),
            "{}",
            notes.text()
        );
        assert_eq!(notes.text().lines().count(), 3);
        assert!(data.text().contains("\"published\":7"));
    }

    #[tokio::test]
    async fn a_job_that_failed_is_an_error() {
        let (mut out, ..) = captured(Format::Table);
        let failed = JobStatus {
            error: "no".into(),
            hint: "fix it".into(),
            ..status()
        };
        let runner = async |_: LocalJob, _: &mut Listener<'_>| Ok(failed);
        let error = run(&args(), "http://x/", runner, &mut out)
            .await
            .unwrap_err();
        assert_eq!(
            (error.exit_code(), error.hint().unwrap().as_str()),
            (1, "fix it")
        );
    }
    #[tokio::test]
    async fn a_job_that_was_complete_before_reports_that_it_read_nothing() {
        let (mut out, _, notes) = captured(Format::Table);
        let over = || JobStatus {
            state: JobState::Completed.into(),
            ..status()
        };
        let runner = async |_: LocalJob, listener: &mut Listener<'_>| {
            listener(&over());
            Ok(over())
        };
        run(&args(), "http://x/", runner, &mut out).await.unwrap();
        assert!(
            notes.text().contains("files that came since are not read"),
            "{}",
            notes.text()
        );
    }

    #[tokio::test]
    async fn problems_that_the_controller_finds_are_shown_like_those_found_here() {
        let (mut out, ..) = captured(Format::Table);
        let refused =
            tonic::Status::invalid_argument("line 7: sink.path: is not there\n  hint: make it");
        let runner = async |_: LocalJob, _: &mut Listener<'_>| Err(refused.into());
        let error = run(&args(), "http://x/", runner, &mut out)
            .await
            .unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("generator.toml is not a valid job file\nline 7: sink.path"),
            "{error}"
        );
    }
}
