//! `streamctl import`: a job file from a job of AWS Glue.
//!
//! Owns: where the Glue job is read, where the job file and its function go, how notes are printed.
//! Does not own: what it means (`crate::import`).
//! Rule: an existing file is never overwritten; notes go to standard error, the job file to
//! standard output.

use super::catalog::table_name;
use crate::args::{ImportArgs, ImportJobArgs, ImportScriptArgs, ImportVerb};
use crate::error::CliError;
use crate::import::flow::{Flow, Note};
use crate::import::{SCRIPT_BYTES_MAX, nodes, script, write};
use crate::output::Output;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use streamctl_engine::aws::Aws;
use streamctl_engine::catalog::get_job_json;
use streamctl_engine::storage::Storages;

/// Permissions of a job file, before the user's umask.
const FOR_ALL: u32 = 0o666;

/// Creates the job file, and prints what could not be carried over.
pub async fn run(verb: &ImportVerb, aws: &Aws, out: &mut Output) -> Result<(), CliError> {
    match verb {
        ImportVerb::GlueJob(args) => glue_job(args, aws, out).await,
        ImportVerb::GlueScript(args) => glue_script(args, out),
    }
}

fn glue_script(args: &ImportScriptArgs, out: &mut Output) -> Result<(), CliError> {
    let text = super::read(&args.file)?;
    let what = args.file.display().to_string();
    let stem = args
        .file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut known = arguments(&args.made)?;
    known
        .entry("JOB_NAME".to_owned())
        .or_insert_with(|| stem.clone());
    let flow = script::read(&text, &known).map_err(|reason| impossible(&what, reason))?;
    finish(&what, flow, &stem, &args.made, out)
}

async fn glue_job(args: &ImportJobArgs, aws: &Aws, out: &mut Output) -> Result<(), CliError> {
    let (what, json) = match (&args.file, &args.name) {
        (Some(file), _) => (file.display().to_string(), super::read(file)?),
        (None, name) => {
            let name = name.clone().unwrap_or_default();
            let response = out
                .during(
                    "asking Glue for the job",
                    get_job_json(aws, &name, args.region.as_deref()),
                )
                .await;
            let json = response.map_err(|error| {
                let message = error.to_string();
                let hint = error.hint().to_owned();
                if error.missing {
                    CliError::NotThere { message, hint }
                } else {
                    CliError::Local { message, hint }
                }
            })?;
            (format!("the Glue job {name:?}"), json)
        }
    };
    let job = nodes::parse_get_job(&json).map_err(|reason| impossible(&what, reason))?;
    let mut flow = if job.nodes.is_empty() {
        let location = job
            .script
            .clone()
            .ok_or_else(|| impossible(&what, "it has neither nodes nor a script".into()))?;
        let mut known = job.args.clone();
        known.insert("JOB_NAME".to_owned(), job.name.clone());
        known.extend(arguments(&args.made)?);
        let text = out
            .during("reading its script", fetch(aws, &location))
            .await?;
        out.note(&format!(
            "it has no nodes of the visual editor: its script {location} was read"
        ));
        script::read(&text, &known).map_err(|reason| impossible(&location, reason))?
    } else {
        nodes::read(&job)
    };
    job.note_settings(&mut flow);
    finish(&what, flow, &job.name, &args.made, out)
}

/// The script of a job, from S3.
async fn fetch(aws: &Aws, location: &str) -> Result<String, CliError> {
    let failed = |reason: String| CliError::Local {
        message: format!("the script {location} cannot be read: {reason}"),
        hint: "copy it here, then: streamctl import glue-script FILE".into(),
    };
    if !location.starts_with("s3://") {
        return Err(failed("it does not lie in S3".into()));
    }
    let storage = Storages::new(aws.clone()).for_location(location);
    let bytes = storage
        .get(location, SCRIPT_BYTES_MAX as u64)
        .await
        .map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| failed("it is no UTF-8 text".into()))
}

fn arguments(args: &ImportArgs) -> Result<BTreeMap<String, String>, CliError> {
    let read = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.trim_start_matches('-').to_owned(), value.to_owned()))
        }
        _ => Err(CliError::Usage {
            message: format!("{text:?} is not NAME=VALUE"),
            hint: "for example --set s3_bucket=my-bucket".into(),
        }),
    };
    args.set.iter().map(read).collect()
}

fn impossible(what: &str, reason: String) -> CliError {
    let hint = match reason.contains("--catalog") {
        true => "for example --catalog my_database.my_table; `streamctl catalog show` prints it"
            .to_owned(),
        false => {
            "write the job file by hand: deploy/jobs/sales-by-country.toml is an example".to_owned()
        }
    };
    CliError::Usage {
        message: format!("{what} cannot be imported: {reason}"),
        hint,
    }
}

/// Notes arguments without an effect: misspelled, or not needed.
fn note_unused(flow: &mut Flow, made: &ImportArgs) -> Result<(), CliError> {
    let asked: Vec<_> = flow.asked.iter().map(String::as_str).collect();
    let used = match asked.is_empty() {
        true => "it uses no arguments".to_owned(),
        false => format!("it uses: {}", asked.join(", ")),
    };
    let unused: Vec<_> = arguments(made)?
        .into_keys()
        .filter(|name| !flow.asked.contains(name))
        .collect();
    for name in unused {
        flow.note(
            None,
            format!("--set {name} changes nothing: what is imported does not use it; {used}"),
        );
    }
    Ok(())
}

fn finish(
    what: &str,
    mut flow: Flow,
    name: &str,
    args: &ImportArgs,
    out: &mut Output,
) -> Result<(), CliError> {
    let table = args.catalog.as_deref().map(table_name).transpose()?;
    let name = args.job_name.as_deref().unwrap_or(name);
    note_unused(&mut flow, args)?;
    let written = write::job_file(flow, name, table).map_err(|reason| impossible(what, reason))?;
    if let Some(path) = &args.to {
        create(path, &written)?;
    }
    let shown = if args.to.is_some() {
        String::new()
    } else {
        written.toml.clone()
    };
    match out.format() {
        crate::output::Format::Json => out.text(&as_json(&written).to_string())?,
        crate::output::Format::Table if shown.is_empty() => {}
        crate::output::Format::Table => out.text(&shown)?,
    }
    tell(&written.notes, out);
    if let Some(path) = &args.to {
        out.note(&format!(
            "written: {0}; check it with: streamctl submit {0} --dry-run",
            path.display()
        ));
    } else if written.function.is_some() {
        out.note(&format!(
            "the function is not shown here: --to FILE writes it beside the job file, as {}",
            write::FUNCTION_FILE
        ));
    }
    Ok(())
}

/// Creates the job file, and the file of its function beside it: both or neither.
fn create(path: &Path, written: &write::Written) -> Result<(), CliError> {
    let Some(function) = &written.function else {
        return super::create(path, &written.toml, FOR_ALL, "--to");
    };
    let beside = path.with_file_name(write::FUNCTION_FILE);
    if path.exists() {
        return super::create(path, &written.toml, FOR_ALL, "--to");
    }
    super::create(&beside, function, FOR_ALL, "--to, in another folder")?;
    super::create(path, &written.toml, FOR_ALL, "--to")
}

fn as_json(written: &write::Written) -> Value {
    let note = |note: &Note| json!({"place": note.place, "note": note.text});
    json!({
        "job_file": written.toml,
        "function": written.function,
        "notes": written.notes.iter().map(note).collect::<Vec<_>>(),
    })
}

fn tell(notes: &[Note], out: &mut Output) {
    match notes.len() {
        0 => {}
        1 => out.note("1 thing to look at:"),
        several => out.note(&format!("{several} things to look at:")),
    }
    for note in notes {
        match &note.place {
            Some(place) => out.note(&format!("- {place}: {}", note.text)),
            None => out.note(&format!("- {}", note.text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::captured;

    const SCRIPT: &str = include_str!("../import/testdata/workshop.py");
    const OWN_CODE: &str = include_str!("../import/testdata/pandas.py");

    fn import(
        made: ImportArgs,
        text: &str,
        format: Format,
    ) -> (Result<(), CliError>, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Glue Workshop.py");
        std::fs::write(&file, text).unwrap();
        let (mut out, data, notes) = captured(format);
        let result = glue_script(&ImportScriptArgs { file, made }, &mut out);
        (result, data.text(), notes.text())
    }

    #[test]
    fn the_job_file_goes_to_standard_output_and_notes_beside_it() {
        let made = ImportArgs {
            set: vec!["s3_bucket=my-bucket".into()],
            ..Default::default()
        };
        let (result, data, notes) = import(made, SCRIPT, Format::Table);
        result.unwrap();
        assert!(data.contains("name = \"glue-workshop\""), "{data}");
        assert!(notes.contains("things to look at:\n- "), "{notes}");
    }

    #[test]
    fn json_holds_the_job_file_and_each_note_with_its_place() {
        let (result, data, _) = import(ImportArgs::default(), SCRIPT, Format::Json);
        result.unwrap();
        let value: Value = serde_json::from_str(&data).unwrap();
        crate::output::tests::documented("import", &value);
        assert!(value["job_file"].as_str().unwrap().contains("[sink]"));
        let notes = value["notes"].as_array().unwrap();
        assert!(
            notes.iter().any(|note| note["note"]
                .as_str()
                .unwrap()
                .contains("--set s3_bucket=VALUE")),
            "{notes:?}"
        );
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("job.toml");
        let made = || ImportArgs {
            to: Some(to.clone()),
            ..Default::default()
        };
        import(made(), SCRIPT, Format::Table).0.unwrap();
        let before = std::fs::read_to_string(&to).unwrap();
        let error = import(made(), SCRIPT, Format::Table).0.unwrap_err();
        assert_eq!(
            (error.exit_code(), std::fs::read_to_string(&to).unwrap()),
            (2, before)
        );
        assert_eq!(
            error.to_string(),
            format!("{} is there already: it is not overwritten", to.display())
        );
        assert_eq!(error.hint().unwrap(), "name another file with --to");
    }

    #[test]
    fn a_function_is_written_beside_the_job_file_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str| ImportArgs {
            to: Some(folder.path().join(name)),
            ..Default::default()
        };
        import(made("a.toml"), OWN_CODE, Format::Table).0.unwrap();
        let file = folder.path().join("transform.py");
        let before = std::fs::read_to_string(&file).unwrap();
        assert!(
            before.contains("def process_batch(data_frame, batch_id):"),
            "{before}"
        );
        std::fs::write(&file, "changed").unwrap();
        let error = import(made("b.toml"), OWN_CODE, Format::Table)
            .0
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is there already: it is not overwritten", file.display())
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "changed");
        assert!(!folder.path().join("b.toml").exists());
        let (_, json, _) = import(ImportArgs::default(), OWN_CODE, Format::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["function"], before);
        let (_, _, notes) = import(ImportArgs::default(), OWN_CODE, Format::Table);
        assert!(
            notes.contains("--to FILE writes it beside the job file"),
            "{notes}"
        );
    }

    #[test]
    fn an_unused_argument_is_refused_with_those_that_are_used() {
        let set = ["s3_bucket=b", "s3_buckett=c"].map(str::to_owned).to_vec();
        let (result, _, notes) = import(
            ImportArgs {
                set,
                ..Default::default()
            },
            SCRIPT,
            Format::Table,
        );
        result.unwrap();
        let reported: Vec<_> = notes
            .lines()
            .filter(|line| line.contains("changes nothing"))
            .collect();
        assert_eq!(reported.len(), 1, "{notes}");
        assert!(
            reported[0].starts_with("- --set s3_buckett ") && reported[0].contains("it uses: "),
            "{notes}"
        );
        assert!(reported[0].contains("s3_bucket"), "{notes}");
    }

    #[test]
    fn what_is_no_streaming_job_is_refused_with_what_to_do() {
        let (result, ..) = import(ImportArgs::default(), "print('hello')\n", Format::Table);
        let error = result.unwrap_err();
        assert!(
            error.to_string().contains("reads no Kinesis stream"),
            "{error}"
        );
        assert!(error.hint().is_some());
        let made = ImportArgs {
            set: vec!["x".into()],
            ..Default::default()
        };
        assert_eq!(
            import(made, SCRIPT, Format::Table)
                .0
                .unwrap_err()
                .exit_code(),
            2
        );
    }
}
