//! `streamctl demo`: generated sales, three windows of them, in this process and in local folders.

use crate::demo::{WINDOWS, prepare, sample};
use crate::error::CliError;
use crate::local::{Flow, LocalJob, MemoryLimit, Runner};
use crate::output::Output;
use crate::views::{now_line, progress_line, status_json};
use clap::Args;
use clap::builder::FalseyValueParser;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The default folder.
const DIR: &str = "streamctl-demo";

/// Of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Directory for the job file, the lookup and the results
    #[arg(long, value_name = "DIR", default_value = DIR)]
    pub dir: PathBuf,
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

/// Writes the job, runs it until it has published [`WINDOWS`] more windows, and shows a few rows.
pub async fn run(
    args: &DemoArgs,
    dashboard: &str,
    runner: impl Runner,
    out: &mut Output,
) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        path: args.dir.display().to_string(),
        source,
    };
    let demo = std::path::absolute(&args.dir)
        .and_then(|root| prepare(&root))
        .map_err(failed)?;
    out.note(&format!(
        "the job: {}\ndashboard: {dashboard}",
        demo.job_file.display()
    ));
    let mut first = None;
    let mut shown = 0;
    let progress = out.progress("starting");
    let mut listener = |status: &streamctl_proto::v1::JobStatus| {
        progress.show(now_line(status));
        let first = *first.get_or_insert(status.published);
        if status.published > shown.max(first) {
            shown = status.published;
            out.note(&progress_line(status));
        }
        if status.published >= first + WINDOWS {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    let last = runner(
        LocalJob {
            memory_limit: args.memory_limit,
            ..demo.job.clone()
        },
        &mut listener,
    )
    .await?;
    drop(progress);
    if !last.error.is_empty() {
        return Err(CliError::Local {
            message: last.error,
            hint: last.hint,
        });
    }
    let rows = sample(&demo.sink).map_err(|error| CliError::Local {
        message: format!("the result cannot be read: {error}"),
        hint: String::new(),
    })?;
    out.either(|| rows, || status_json(&last))?;
    let dir = if args.dir == Path::new(DIR) {
        String::new()
    } else {
        format!(" --dir {}", args.dir.display())
    };
    out.note(&format!(
        "the files: {}\nagain, going on where it stopped: streamctl demo{dir}",
        demo.sink.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Listener;
    use crate::output::Format;
    use crate::output::tests::captured;
    use crate::views::tests::status;
    use streamctl_proto::v1::JobStatus;

    #[tokio::test]
    async fn the_demo_stops_after_three_more_windows() {
        let folder = tempfile::tempdir().unwrap();
        let (mut out, _, notes) = captured(Format::Json);
        let runner = async |_: LocalJob, listener: &mut Listener<'_>| {
            let options = [7, 8, 9, 10].map(|published| {
                listener(&JobStatus {
                    published,
                    ..status()
                })
            });
            assert_eq!(
                options,
                [Flow::Continue, Flow::Continue, Flow::Continue, Flow::Stop]
            );
            Ok(status())
        };
        let http_listen = "127.0.0.1:0".parse().unwrap();
        let args = DemoArgs {
            dir: folder.path().join("demo"),
            memory_limit: None,
            http_listen,
            insecure: false,
        };
        run(&args, "http://x/", runner, &mut out).await.unwrap();
        assert_eq!(
            notes
                .text()
                .lines()
                .filter(|line| line.starts_with("epoch "))
                .count(),
            3
        );
    }
}
