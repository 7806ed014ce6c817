//! `streamctl explain`: what a job would do, as far as it can be determined.
//!
//! Owns: the output. Does not own: any check (`JobSpec::parse`, `engine::resolve`), the plan
//! (`engine::query`).
//! Rule: nothing is started or written; what could not be determined is named, never guessed.

use super::{job_file_error, pack, read, spec_of};
use crate::error::CliError;
use crate::output::{Output, table};
use crate::views::bytes;
use crate::views::spec::{duration, name_of, what};
use arrow::datatypes::DataType;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use streamctl_controller::shards::{SourceShards, explore_all};
use streamctl_core::assign::TASKS_PER_WORKER_MAX;
use streamctl_core::job::WINDOWS_AHEAD_MAX;
use streamctl_engine::query::RecordColumn;
use streamctl_engine::resolve::World;
use streamctl_engine::resolve::explore::{Explored, ExploredLookup};
use streamctl_engine::sink::layout;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{FunctionSpec, Per, Problems};
use streamctl_proto::{JobSpec, count};

/// Of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Job file
    pub file: PathBuf,
}

/// What is known about a job.
struct Explained {
    spec: JobSpec,
    found: Explored,
    /// The operators, the last one first.
    plan: Option<String>,
    shards: Option<usize>,
    /// Keys that are missing in the file, and their defaults.
    defaults: Vec<(String, String)>,
}

/// Prints it. Exits with 2 if something is wrong, with 5 if something could not be checked.
pub async fn run(args: &ExplainArgs, mut world: World, out: &mut Output) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let spec = spec_of(&args.file, &text)?;
    world.function.code = pack(&args.file, &text, &spec)?;
    let progress = out.progress("asking for columns, lookups, shards and places");
    let lister = SourceShards::new(world.aws.clone(), world.storages.clone()).local();
    let (mut found, listing) = explore_all(&world, &lister, &spec, true).await;
    let shards = listing.map(|listing| listing.shards.len());
    let plan = match &found.plan {
        Some(plan) => plan.describe().await.ok(),
        None => None,
    };
    drop(progress);
    found.problems = Problems(found.problems).located(&text).0;
    let defaults = defaults(&text, &spec);
    let explained = Explained {
        spec,
        found,
        plan,
        shards,
        defaults,
    };
    out.either(|| as_text(&explained), || as_json(&explained))?;
    let Explored {
        problems,
        unavailable,
        ..
    } = explained.found;
    if !problems.is_empty() {
        return Err(job_file_error(&args.file, &Problems(problems)));
    }
    check_available(&unavailable)
}

/// Missing information is unavailable: neither right nor wrong.
pub(super) fn check_available(unavailable: &[(String, String)]) -> Result<(), CliError> {
    let Some((field, reason)) = unavailable.first() else {
        return Ok(());
    };
    let more = if unavailable.len() > 1 {
        format!(", and {} more", unavailable.len() - 1)
    } else {
        String::new()
    };
    Err(CliError::Partly {
        message: format!("{field} could not be read: {reason}{more}"),
        hint: "check network, region and credentials (AWS_PROFILE, AWS_REGION), and try again"
            .into(),
    })
}

fn as_text(job: &Explained) -> String {
    let Explained {
        spec,
        found,
        plan,
        shards,
        defaults,
    } = job;
    let mut parts = vec![what(spec)];
    let mut part =
        |heading: &str, text: String| parts.push(format!("{heading}\n{}", indented(&text)));
    if let Some(stream) = &found.stream {
        let region = stream
            .region
            .as_deref()
            .unwrap_or("the environment's region");
        part(
            "STREAM",
            format!(
                "{} in {region}",
                stream.arn.as_ref().unwrap_or(&stream.name)
            ),
        );
    }
    if let Some(columns) = columns(found) {
        let read = |read: Option<bool>| {
            read.map_or("unknown", |read| if read { "yes" } else { "no" })
                .to_owned()
        };
        let row = |column: SourceColumn| {
            let kind = match column.key {
                Some(key) => format!("{}, key {key:?}", column.kind),
                None => column.kind,
            };
            [column.name, kind, read(column.is_read)]
        };
        let rows: Vec<_> = columns.into_iter().map(row).collect();
        part(
            "COLUMNS OF THE SOURCE",
            table(["COLUMN", "TYPE", "READ"], &rows),
        );
    }
    if let Some(columns) = record_columns(found) {
        let row = |(name, kind, is_read): (&str, &str, bool)| {
            let read = if is_read { "yes" } else { "no" };
            [name.to_owned(), kind.to_owned(), read.to_owned()]
        };
        let rows: Vec<_> = columns.into_iter().map(row).collect();
        part(
            "COLUMNS OF EACH RECORD'S PLACE (not in *)",
            table(["COLUMN", "TYPE", "READ"], &rows),
        );
    }
    if !found.notes.is_empty() {
        part("NOTES", found.notes.join("\n"));
    }
    for (name, lookup) in &found.lookups {
        let schema = lookup.rows.schema();
        let rows: Vec<_> = schema
            .fields()
            .iter()
            .map(|f| [f.name().clone(), f.data_type().to_string()])
            .collect();
        let size = [
            count(lookup.rows.num_rows(), "row"),
            count(lookup.files, "file"),
            bytes(lookup.bytes),
        ]
        .join(", ");
        let mut text = table(["COLUMN", "TYPE"], &rows);
        for remark in remarks(spec, name, lookup) {
            text.push_str(&format!("\nnote: {remark}"));
        }
        part(&format!("LOOKUP {name} ({size})"), text);
    }
    if let Some(function) = &spec.function {
        part("FUNCTION", function_text(function, found));
    }
    if let Some(result) = &found.result {
        let form = layout(&spec.sink).form(result);
        let fields = form.schema().fields().iter();
        let rows: Vec<_> = fields
            .map(|f| [f.name().clone(), f.data_type().to_string()])
            .collect();
        part("RESULT", table(["COLUMN", "TYPE"], &rows));
    }
    if let Some(plan) = plan {
        part("PLAN (each operator reads those below it)", plan.clone());
    }
    part("SPREAD", spread(spec, found, *shards));
    let rows: Vec<_> = stored(spec)
        .into_iter()
        .map(|(what, place)| [what.to_owned(), place])
        .collect();
    part("STORED", table(["WHAT", "WHERE"], &rows));
    if !defaults.is_empty() {
        let rows: Vec<_> = defaults
            .iter()
            .map(|(key, value)| [key.clone(), value.clone()])
            .collect();
        part("DEFAULTS", table(["KEY", "VALUE"], &rows));
    }
    if !found.unavailable.is_empty() {
        let lines: Vec<_> = found
            .unavailable
            .iter()
            .map(|(field, reason)| format!("{field}: {reason}"))
            .collect();
        part("COULD NOT BE ASKED", lines.join("\n"));
    }
    parts.join("\n\n")
}

/// The function: what it is given, and its limits.
fn function_text(function: &FunctionSpec, found: &Explored) -> String {
    let given = found.plan.as_ref().map(|plan| {
        let fields = plan.output_schema().fields().iter();
        let columns: Vec<_> = fields
            .map(|f| format!("{} {}", f.name(), f.data_type()))
            .collect();
        columns.join(", ")
    });
    let mut rows = vec![["function".to_owned(), function.describe()]];
    rows.extend(given.map(|given| ["columns given".to_owned(), given]));
    let code = found.function_code.as_ref();
    rows.extend(code.map(|code| ["code".to_owned(), code.to_string()]));
    let keys = [
        "frame",
        "per",
        "requirements",
        "timeout",
        "memory",
        "network",
        "deterministic",
        "on_published",
    ];
    let fields = function.fields().into_iter();
    let fields = fields.filter(|(key, _)| keys.contains(key));
    rows.extend(fields.map(|(key, value)| [key.to_owned(), value]));
    table(["WHAT", "VALUE"], &rows)
}

fn remarks(spec: &JobSpec, name: &str, lookup: &ExploredLookup) -> Vec<String> {
    let of = spec.lookups.iter().find(|spec| spec.name == name);
    of.map(|spec| lookup.remarks(spec)).unwrap_or_default()
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A column of the source.
struct SourceColumn {
    name: String,
    kind: String,
    /// The key of a record that holds it, if that is not its name.
    key: Option<String>,
    /// Whether the query reads it; only a plan shows that.
    is_read: Option<bool>,
}

fn columns(found: &Explored) -> Option<Vec<SourceColumn>> {
    let columns = found.columns.as_ref()?;
    let is_read = |index| {
        let plan = found.plan.as_ref();
        plan.map(|plan| plan.source_columns().contains(&index))
    };
    let column = |(index, column): (usize, &ColumnType)| SourceColumn {
        name: column.name.clone(),
        kind: column.type_name.clone(),
        key: found.keys.of_column(&column.name).map(str::to_owned),
        is_read: is_read(index),
    };
    Some(columns.iter().enumerate().map(column).collect())
}

/// The columns that a query may name besides: name, type, whether it does.
fn record_columns(found: &Explored) -> Option<Vec<(&'static str, &'static str, bool)>> {
    let plan = found.plan.as_ref()?;
    let own = found.columns.iter().flatten();
    let own: Vec<_> = own.map(|column| column.name.to_lowercase()).collect();
    let column = |column: RecordColumn| {
        let kind = match column.data_type() {
            DataType::Utf8 => "string",
            _ => "timestamp",
        };
        let is_read = plan.record_columns().contains(&column);
        (column.name(), kind, is_read)
    };
    let all = RecordColumn::ALL.into_iter().map(column);
    Some(
        all.filter(|(name, ..)| !own.iter().any(|own| own == name))
            .collect(),
    )
}

fn spread(spec: &JobSpec, found: &Explored, shards: Option<usize>) -> String {
    let shards = match shards {
        Some(shards) => spec.source.kind.describe_shards(shards),
        None => "an unknown number of shards".to_owned(),
    };
    let tasks = match found.plan.as_ref().map(|plan| plan.whole_window()) {
        Some(true) => format!("{shards}, all read by one task: the query needs whole windows"),
        Some(false) if takes_windows(spec) => {
            format!("{shards}, all read by one task: the function takes whole windows")
        }
        Some(false) => {
            format!(
                "{shards}, over all workers, in at most {TASKS_PER_WORKER_MAX} tasks on each: \
                 rows are handled alone"
            )
        }
        None => {
            format!("{shards}; whether one task must read them all is not known without a plan")
        }
    };
    let size = duration(Duration::from_millis(
        u64::try_from(spec.window.ms()).unwrap_or(0),
    ));
    format!(
        "{tasks}\nwindows of {size} by arrival time; one is committed when every shard is past it, \
         and at most {WINDOWS_AHEAD_MAX} are open at a time"
    )
}

fn takes_windows(spec: &JobSpec) -> bool {
    let per = spec.function.as_ref().map(|function| function.per);
    per == Some(Per::Window)
}

/// What is stored, and where.
fn stored(spec: &JobSpec) -> Vec<(&'static str, String)> {
    let below = format!("{}{}/", spec.checkpoint, spec.name);
    let dead = spec
        .dead_letter
        .as_ref()
        .map_or_else(|| format!("{below}dead-letters/"), ToString::to_string);
    let mut stored = vec![
        ("rows", spec.sink.object_names(&spec.name)),
        (
            "dead letters",
            format!("{dead}<window>-{}-<task>-<n>.json.gz", spec.name),
        ),
        ("manifests", format!("{below}epochs/<epoch>-<digest>.json")),
    ];
    if spec.function.as_ref().is_some_and(FunctionSpec::has_code) {
        stored.push(("function's code", format!("{below}functions/<code>/")));
    }
    if !spec.lookups.is_empty() {
        stored.push((
            "lookup versions",
            format!("{below}lookups/<lookup>/<version>/"),
        ));
    }
    stored
}

/// Keys that are missing in the file and have a default.
fn defaults(text: &str, spec: &JobSpec) -> Vec<(String, String)> {
    let Ok(file) = text.parse::<toml::Table>() else {
        return vec![];
    };
    let is_set =
        |table: &str, key: &str| file.get(table).and_then(|table| table.get(key)).is_some();
    let mut all: Vec<(&str, &str, String)> =
        vec![("source", "on_data_loss", name_of(&spec.source.on_data_loss))];
    let source = spec.source.kind.defaults(&spec.source);
    all.extend(
        source
            .into_iter()
            .chain(spec.source.values.fields())
            .map(|(key, value)| ("source", key, value)),
    );
    all.extend([
        (
            "transform",
            "on_query_error",
            name_of(&spec.query_errors.on),
        ),
        (
            "transform",
            "max_bad_share",
            spec.query_errors.max_bad_share(),
        ),
    ]);
    let sink = spec.sink.defaults().into_iter();
    all.extend(sink.map(|(key, value)| ("sink", key, value)));
    all.extend([
        ("dead_letter", "path", "below the checkpoint".to_owned()),
        ("retry", "max", spec.retries_max.to_string()),
    ]);
    let left_out = all
        .into_iter()
        .filter(|(table, key, _)| !is_set(table, key));
    let mut defaults: Vec<_> = left_out
        .map(|(table, key, value)| (format!("{table}.{key}"), value))
        .collect();
    let tables = file
        .get("lookup")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    for (table, lookup) in tables.zip(&spec.lookups) {
        let values = [
            ("format", name_of(&lookup.format)),
            ("refresh", duration(lookup.refresh)),
            ("size_max", bytes(lookup.size_max)),
            ("allow_empty", lookup.allow_empty.to_string()),
        ];
        let left_out = values
            .into_iter()
            .filter(|(key, _)| table.get(key).is_none());
        defaults
            .extend(left_out.map(|(key, value)| (format!("lookup.{}.{key}", lookup.name), value)));
    }
    defaults
}

fn as_json(job: &Explained) -> Value {
    let Explained {
        spec,
        found,
        plan,
        shards,
        defaults,
    } = job;
    let fields = |schema: &arrow::datatypes::Schema| -> Vec<Value> {
        let field = |f: &arrow::datatypes::FieldRef| json!({"name": f.name(), "type": f.data_type().to_string()});
        schema.fields().iter().map(field).collect()
    };
    let columns = columns(found).map(|columns| {
        let column = |column: SourceColumn| {
            json!({
                "name": column.name, "type": column.kind, "key": column.key, "read": column.is_read,
            })
        };
        columns.into_iter().map(column).collect::<Vec<_>>()
    });
    let lookup = |(name, lookup): (&String, &ExploredLookup)| {
        json!({
            "name": name, "rows": lookup.rows.num_rows(), "files": lookup.files, "bytes": lookup.bytes,
            "columns": fields(&lookup.rows.schema()), "remarks": remarks(spec, name, lookup),
        })
    };
    let problem = |problem: &streamctl_proto::spec::Problem| {
        json!({
            "line": problem.line, "field": problem.field, "message": problem.message, "hint": problem.hint,
        })
    };
    json!({
        "job": spec.name.as_str(), "window_ms": spec.window.ms(), "shards": shards,
        "stream": found.stream.as_ref().map(|stream| stream.arn.as_ref().unwrap_or(&stream.name)),
        "source_columns": columns,
        "record_columns": record_columns(found).map(|columns| {
            let column = |(name, kind, is_read)| json!({"name": name, "type": kind, "read": is_read});
            columns.into_iter().map(column).collect::<Vec<_>>()
        }),
        "notes": found.notes,
        "lookups": found.lookups.iter().map(lookup).collect::<Vec<_>>(),
        "output_columns": found.result.as_ref().map(|result| fields(layout(&spec.sink).form(result).schema())),
        "whole_window": found.plan.as_ref().map(|plan| plan.whole_window() || takes_windows(spec)),
        "function": spec.function.as_ref().map(|function| {
            let values = function.fields().into_iter().map(|(key, value)| (key.to_owned(), Value::from(value)));
            values.collect::<serde_json::Map<_, _>>()
        }),
        "function_code": found.function_code.as_ref().map(ToString::to_string),
        "plan": plan.as_ref().map(|plan| plan.lines().collect::<Vec<_>>()),
        "stored": stored(spec).into_iter().map(|(what, place)| json!({"what": what, "where": place})).collect::<Vec<_>>(),
        "defaults": defaults.iter().map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>(),
        "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
        "not_asked": found.unavailable.iter().map(|(field, reason)| json!({"field": field, "reason": reason})).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
