//! `streamctl validate`: checks a job file without any connection.

use super::{job_file_error, pack, read, spec_of};
use crate::args::ValidateArgs;
use crate::error::CliError;
use crate::output::Output;
use serde_json::json;
use streamctl_engine::resolve::check_text;
use streamctl_proto::JobSpec;
use streamctl_proto::spec::Problems;
use streamctl_proto::spec::summary;

/// Prints what the job would do. It does not check outside systems (columns, lookups, buckets):
/// `explain` does that.
pub fn run(args: &ValidateArgs, out: &mut Output) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let spec = spec_of(&args.file, &text)?;
    pack(&args.file, &text, &spec)?;
    let problems = check_text(&spec);
    if !problems.is_empty() {
        return Err(job_file_error(
            &args.file,
            &Problems(problems).located(&text),
        ));
    }
    out.either(|| summary(&spec), || json!({"valid": true, "job": spec}))?;
    if JobSpec::parse(&text).is_err() {
        out.note("note: it has relative paths, which a cluster cannot take: they only work in the local mode");
    }
    Ok(())
}

fn summary(spec: &JobSpec) -> String {
    format!(
        "{}\nThe job file is well formed. `streamctl explain` looks at its columns, lookups and \
         places too.",
        summary::summary(spec)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::{captured, documented};
    use std::path::PathBuf;

    fn validate(example: &str, format: Format) -> (String, String) {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy/jobs")
            .join(example);
        let (mut out, data, notes) = captured(format);
        run(&ValidateArgs { file }, &mut out).unwrap();
        (data.text(), notes.text())
    }

    #[test]
    fn a_correct_job_is_summed_up() {
        let (data, notes) = validate("sales-by-country.toml", Format::Table);
        assert!(data.starts_with(
            "job:         sales-by-country\nsource:      the Kinesis stream of the catalog table, "
        ));
        assert!(
            data.contains("\nwindow:      1m\n")
                && data.contains(" as parquet, snappy, 4 partition columns\n"),
            "{data}"
        );
        assert!(
            data.contains("\nThe job file is well formed. `streamctl explain` ")
                && notes.is_empty()
        );
    }

    #[test]
    fn relative_paths_are_correct_but_noted() {
        let (data, notes) = validate("generator.toml", Format::Json);
        let json: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!(
            (&json["valid"], &json["job"]["name"]),
            (&true.into(), &"generated-sales".into())
        );
        documented("validate", &json);
        assert!(notes.starts_with("note: it has relative paths"));
    }

    #[test]
    fn an_invalid_query_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.toml");
        let text = include_str!("../../../deploy/jobs/generator.toml")
            .replace("FROM source", "FORM source");
        std::fs::write(&file, &text).unwrap();
        let (mut out, ..) = captured(Format::Table);
        let error = run(&ValidateArgs { file }, &mut out).unwrap_err();
        let line = text
            .lines()
            .position(|line| line.contains("FORM source"))
            .unwrap()
            + 1;
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains(&format!("\nline {line}: transform.sql: Expected: ")),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_wrong_usage() {
        let (mut out, ..) = captured(Format::Table);
        let error = run(
            &ValidateArgs {
                file: "/no/such/job.toml".into(),
            },
            &mut out,
        )
        .unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
