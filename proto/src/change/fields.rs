//! A job as keys and values, as its file could have them.
//!
//! Rule: the resolved value counts, not how it was resolved: a stream named by the catalog and the
//! same one named in the file are one value.

use crate::resolved::{ColumnType, StreamAddress};
use crate::spec::{
    LookupSpec, PartitionColumn, SchemaFrom, SinkSpec, SourceSpec, bytes_text, duration_text,
};
use crate::{ResolvedJob, WindowSize};
use serde::Serialize;
use std::time::Duration;

/// Keys and values; keys without a value are left out.
type Fields = Vec<(String, String)>;

/// Every key of a job that has a value, in the order of a job file.
pub(super) fn fields(job: &ResolvedJob) -> Fields {
    let spec = &job.spec;
    let mut all = Fields::new();
    source(&spec.source, job.stream.as_ref(), &mut all);
    columns(job, &mut all);
    all.push(("window.size".into(), window_text(spec.window)));
    spec.lookups.iter().for_each(|spec| lookup(spec, &mut all));
    all.push(("transform.sql".into(), spec.sql.trim().to_owned()));
    sink(&spec.sink, &mut all);
    all.push(("dead_letter.path".into(), spec.dead_letters().to_string()));
    all.push(("checkpoint.location".into(), spec.checkpoint.to_string()));
    all.push(("retry.max".into(), spec.retries_max.to_string()));
    all
}

/// `1m`.
pub(super) fn window_text(size: WindowSize) -> String {
    duration_text(Duration::from_millis(size.ms().unsigned_abs()))
}

fn source(spec: &SourceSpec, stream: Option<&StreamAddress>, all: &mut Fields) {
    let mut add = |key: &str, value: String| all.push((format!("source.{key}"), value));
    add("type", spec.kind.type_name().to_owned());
    for (key, value) in spec.kind.fields(spec, stream) {
        add(key, value);
    }
    match &spec.schema {
        SchemaFrom::Catalog {
            catalog_id,
            database,
            table,
            region,
        } => {
            let account = catalog_id
                .as_ref()
                .map_or_else(String::new, |id| format!(" of {id}"));
            let region = region
                .as_ref()
                .map_or_else(String::new, |region| format!(" in {region}"));
            add("catalog", format!("{database}.{table}{account}{region}"));
        }
        SchemaFrom::File(path) => add("schema_file", path.clone()),
        // Its columns are compared one by one.
        SchemaFrom::Inline(_) => add("schema", "written in the job file".into()),
        SchemaFrom::BuiltIn => {}
    }
    add("on_data_loss", value_text(&spec.on_data_loss));
}

fn columns(job: &ResolvedJob, all: &mut Fields) {
    let value = |column: &ColumnType| match job.keys.of_column(&column.name) {
        Some(key) => format!("{}, key {key:?}", column.type_name),
        None => column.type_name.clone(),
    };
    let field = |column: &ColumnType| format!("columns.{}", column.name.to_lowercase());
    all.extend(job.columns.iter().map(|c| (field(c), value(c))));
    let rules = [
        ("dots in keys", job.keys.dots_are_underscores, "count as _"),
        ("case of keys", job.keys.case_counts, "counts"),
    ];
    let rules = rules.into_iter().filter(|(_, holds, _)| *holds);
    all.extend(rules.map(|(rule, _, value)| (format!("columns.({rule})"), value.to_owned())));
}

fn lookup(spec: &LookupSpec, all: &mut Fields) {
    let LookupSpec {
        name,
        path,
        format,
        refresh,
        size_max,
    } = spec;
    let values = [
        ("path", path.to_string()),
        ("format", value_text(format)),
        ("refresh", duration_text(*refresh)),
        ("size_max", bytes_text(*size_max)),
    ];
    all.extend(values.map(|(key, value)| (format!("lookup.{name}.{key}"), value)));
}

fn sink(spec: &SinkSpec, all: &mut Fields) {
    let columns: Vec<&str> = spec
        .partition_by
        .iter()
        .map(PartitionColumn::name)
        .collect();
    let values = [
        ("path", spec.path.to_string()),
        ("format", value_text(&spec.format)),
        ("compression", value_text(&spec.compression)),
        ("partition_by", columns.join(", ")),
        ("target_size", bytes_text(spec.target_size)),
    ];
    all.extend(
        values
            .into_iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(key, value)| (format!("sink.{key}"), value)),
    );
}

/// The text of a value in a job file.
pub(crate) fn value_text(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
