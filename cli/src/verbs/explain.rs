//! `streamctl explain`: what a job would do, as far as it can be determined.
//!
//! With `--analyze` of a job: what its query did ([`analyze`]).
//! Owns: the output. Does not own: explaining (the controller; [`crate::local::looks`] here).
//! Rule: nothing is started or written; what could not be determined is named, never guessed.

pub mod analyze;

use super::{JobFile, job_file, job_file_error, pack, read, spec_of};
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::local::looks::explain_here;
use crate::output::{Output, table};
use crate::views::bytes;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use streamctl_engine::resolve::World;
use streamctl_proto::count;
use streamctl_proto::spec::{Problem, Problems};
use streamctl_proto::v1::{
    ExplainRequest, ExplainResponse, ExplainedColumn, ExplainedColumns, ExplainedFunction,
    ExplainedLookup, JobFileProblem, KeyValue, NotAsked,
};

/// Of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Job file
    #[arg(required_unless_present = "analyze")]
    pub file: Option<PathBuf>,
    /// Use this process and your credentials, not the cluster (default if no controller is configured)
    #[arg(long)]
    pub local: bool,
    /// Show rows and time per operator of a running job, of its last windows
    #[arg(long, value_name = "JOB", conflicts_with_all = ["file", "local"])]
    pub analyze: Option<String>,
}

/// Keys of `[function]` that the text shows: the others are in its description.
const FUNCTION_KEYS: [&str; 10] = [
    "frame",
    "per",
    "by",
    "requirements",
    "wheels",
    "timeout",
    "memory",
    "network",
    "deterministic",
    "on_published",
];

const PROGRESS: &str = "asking for columns, lookups, shards and places";

/// Has a controller explain the job. Exits with 2 if something is wrong, with 5 if something could
/// not be checked.
pub async fn run(file: &Path, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let JobFile { text, code, .. } = job_file(file)?;
    let request = ExplainRequest {
        spec_toml: text,
        base_dir: String::new(),
        function_code: code,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).explain(request).await }
    };
    let called = controller.call_once(call);
    let response = out.during_call(PROGRESS, controller.waits(), called).await;
    let response = response.map_err(|error| error.of_job_file(file))?;
    show(file, &response, out)
}

/// Explains it in this process.
pub async fn run_local(file: &Path, mut world: World, out: &mut Output) -> Result<(), CliError> {
    let text = read(file)?;
    let spec = spec_of(file, &text)?;
    world.function.code = pack(file, &text, &spec)?;
    let explained = explain_here(&world, &spec, &text);
    let response = out.during(PROGRESS, explained).await;
    show(file, &response, out)
}

fn show(file: &Path, response: &ExplainResponse, out: &mut Output) -> Result<(), CliError> {
    out.either(|| as_text(response), || as_json(response))?;
    if !response.problems.is_empty() {
        let problems = response.problems.iter().map(problem).collect();
        return Err(job_file_error(file, &Problems(problems)));
    }
    match &response.not_asked[..] {
        [] => Ok(()),
        [first, more @ ..] => Err(unavailable(first, more.len())),
    }
}

fn problem(problem: &JobFileProblem) -> Problem {
    Problem {
        line: problem.line.map(|line| line as usize),
        field: problem.field.clone(),
        part: None,
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}

/// Missing information is unavailable: neither right nor wrong. `more` parts are missing too.
pub(super) fn unavailable(NotAsked { field, reason }: &NotAsked, more: usize) -> CliError {
    let more = match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    CliError::Partly {
        message: format!("{field} could not be read: {reason}{more}"),
        hint: "check network, region and credentials (AWS_PROFILE, AWS_REGION), and try again"
            .into(),
    }
}

fn as_text(job: &ExplainResponse) -> String {
    let mut parts = vec![job.summary.clone()];
    let mut part =
        |heading: &str, text: String| parts.push(format!("{heading}\n{}", indented(&text)));
    if let Some(stream) = &job.stream {
        let region = job.region.as_deref().unwrap_or("the environment's region");
        part("STREAM", format!("{stream} in {region}"));
    }
    if let Some(columns) = &job.source_columns {
        part("COLUMNS OF THE SOURCE", read_columns(columns));
    }
    if let Some(columns) = &job.record_columns {
        part(
            "COLUMNS OF EACH RECORD'S PLACE (not in *)",
            read_columns(columns),
        );
    }
    if !job.notes.is_empty() {
        part("NOTES", job.notes.join("\n"));
    }
    for lookup in &job.lookups {
        let size = [
            count(lookup.rows, "row"),
            count(lookup.files, "file"),
            bytes(lookup.bytes),
        ]
        .join(", ");
        let mut text = typed_columns(&lookup.columns);
        for remark in &lookup.remarks {
            text.push_str(&format!("\nnote: {remark}"));
        }
        part(&format!("LOOKUP {} ({size})", lookup.name), text);
    }
    if let Some(function) = &job.function {
        part("FUNCTION", function_text(function));
    }
    if let Some(result) = &job.output_columns {
        part("RESULT", typed_columns(&result.columns));
    }
    if !job.table.is_empty() {
        let rows: Vec<_> = job
            .table
            .iter()
            .map(|fact| [fact.key.clone(), fact.value.clone()])
            .collect();
        part("TABLE", table(["WHAT", "VALUE"], &rows));
    }
    if let Some(plan) = &job.plan {
        part("PLAN (each operator reads those below it)", plan.clone());
    }
    part("SPREAD", job.spread.clone());
    let stored = job.stored.iter();
    let rows: Vec<_> = stored
        .map(|one| [one.what.clone(), one.r#where.clone()])
        .collect();
    part("STORED", table(["WHAT", "WHERE"], &rows));
    if !job.defaults.is_empty() {
        let defaults = job.defaults.iter();
        let rows: Vec<_> = defaults
            .map(|one| [one.key.clone(), one.value.clone()])
            .collect();
        part("DEFAULTS", table(["KEY", "VALUE"], &rows));
    }
    if !job.not_asked.is_empty() {
        let lines: Vec<_> = job
            .not_asked
            .iter()
            .map(|one| format!("{}: {}", one.field, one.reason))
            .collect();
        part("COULD NOT BE ASKED", lines.join("\n"));
    }
    parts.join("\n\n")
}

/// Columns, and whether the query reads them.
fn read_columns(columns: &ExplainedColumns) -> String {
    let row = |column: &ExplainedColumn| {
        let kind = match &column.key {
            Some(key) => format!("{}, key {key:?}", column.r#type),
            None => column.r#type.clone(),
        };
        let read = column
            .read
            .map_or("unknown", |read| if read { "yes" } else { "no" });
        [column.name.clone(), kind, read.to_owned()]
    };
    let rows: Vec<_> = columns.columns.iter().map(row).collect();
    table(["COLUMN", "TYPE", "READ"], &rows)
}

fn typed_columns(columns: &[ExplainedColumn]) -> String {
    let row = |column: &ExplainedColumn| [column.name.clone(), column.r#type.clone()];
    let rows: Vec<_> = columns.iter().map(row).collect();
    table(["COLUMN", "TYPE"], &rows)
}

/// The function: what it is given, and its limits.
fn function_text(function: &ExplainedFunction) -> String {
    let mut rows = vec![["function".to_owned(), function.description.clone()]];
    if let Some(given) = &function.given {
        let columns = given.columns.iter();
        let columns: Vec<_> = columns
            .map(|column| format!("{} {}", column.name, column.r#type))
            .collect();
        rows.push(["columns given".to_owned(), columns.join(", ")]);
    }
    if let Some(code) = &function.code {
        rows.push(["code".to_owned(), code.clone()]);
    }
    let fields = function.fields.iter();
    let fields = fields.filter(|field| FUNCTION_KEYS.contains(&field.key.as_str()));
    rows.extend(fields.map(|field| [field.key.clone(), field.value.clone()]));
    table(["WHAT", "VALUE"], &rows)
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn as_json(job: &ExplainResponse) -> Value {
    let typed = |column: &ExplainedColumn| json!({"name": column.name, "type": column.r#type});
    let read = |column: &ExplainedColumn| json!({"name": column.name, "type": column.r#type, "read": column.read});
    let keyed = |column: &ExplainedColumn| {
        json!({
            "name": column.name, "type": column.r#type, "key": column.key, "read": column.read,
        })
    };
    let lookup = |lookup: &ExplainedLookup| {
        json!({
            "name": lookup.name, "rows": lookup.rows, "files": lookup.files, "bytes": lookup.bytes,
            "columns": lookup.columns.iter().map(typed).collect::<Vec<_>>(), "remarks": lookup.remarks,
        })
    };
    let problem = |problem: &JobFileProblem| {
        json!({
            "line": problem.line, "field": problem.field, "message": problem.message, "hint": problem.hint,
        })
    };
    let columns = |columns: &Option<ExplainedColumns>, one: &dyn Fn(&ExplainedColumn) -> Value| {
        let columns = columns.as_ref()?;
        Some(columns.columns.iter().map(one).collect::<Vec<_>>())
    };
    let field = |field: &KeyValue| (field.key.clone(), Value::from(field.value.clone()));
    let function = job.function.as_ref();
    json!({
        "job": job.job, "window_ms": job.window_ms, "shards": job.shards,
        "stream": job.stream,
        "source_columns": columns(&job.source_columns, &keyed),
        "record_columns": columns(&job.record_columns, &read),
        "notes": job.notes,
        "lookups": job.lookups.iter().map(lookup).collect::<Vec<_>>(),
        "output_columns": columns(&job.output_columns, &typed),
        "table": job.table.iter().map(|fact| json!({"what": fact.key, "value": fact.value})).collect::<Vec<_>>(),
        "whole_window": job.whole_window,
        "function": function.map(|one| one.fields.iter().map(field).collect::<serde_json::Map<_, _>>()),
        "function_code": function.and_then(|one| one.code.clone()),
        "plan": job.plan.as_ref().map(|plan| plan.lines().collect::<Vec<_>>()),
        "stored": job.stored.iter().map(|one| json!({"what": one.what, "where": one.r#where})).collect::<Vec<_>>(),
        "defaults": job.defaults.iter().map(|one| json!({"key": one.key, "value": one.value})).collect::<Vec<_>>(),
        "problems": job.problems.iter().map(problem).collect::<Vec<_>>(),
        "not_asked": job.not_asked.iter().map(|one| json!({"field": one.field, "reason": one.reason})).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
