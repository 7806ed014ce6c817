//! A job as keys and values, as its file could have them.
//!
//! Rule: the resolved value counts, not how it was resolved: a stream named by the catalog and the
//! same one named in the file are one value.

use crate::resolved::{ColumnType, NestedColumns, StreamAddress};
use crate::spec::{
    AssumedRole, LookupCsv, LookupSpec, SchemaFrom, SinkKind, SourceSpec, bytes_text, duration_text,
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
    let errors = &spec.query_errors;
    all.push(("transform.on_query_error".into(), value_text(&errors.on)));
    all.push(("transform.max_bad_share".into(), errors.max_bad_share()));
    all.push(("transform.dialect".into(), spec.dialect.word().to_owned()));
    if let Some(function) = &spec.function {
        let named = |(key, value)| (format!("function.{key}"), value);
        all.extend(function.fields().into_iter().map(named));
    }
    if let Some(code) = &job.function_code {
        all.push(("function.code".into(), code.to_string()));
    }
    sink(&spec.sink, &mut all);
    all.push(("dead_letter.path".into(), spec.dead_letters().to_string()));
    all.push(("checkpoint.location".into(), spec.checkpoint.to_string()));
    all.push(("checkpoint.keep".into(), spec.keep.text()));
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
            role,
        } => {
            let account = catalog_id
                .as_ref()
                .map_or_else(String::new, |id| format!(" of {id}"));
            let region = region
                .as_ref()
                .map_or_else(String::new, |region| format!(" in {region}"));
            let role = role
                .as_ref()
                .map_or_else(String::new, |role| format!(" by {}", role.describe()));
            add(
                "catalog",
                format!("{database}.{table}{account}{region}{role}"),
            );
        }
        SchemaFrom::File(path) => add("schema_file", path.clone()),
        // Its columns are compared one by one.
        SchemaFrom::Inline(_) => add("schema", "written in the job file".into()),
        SchemaFrom::BuiltIn => {}
    }
    add("on_data_loss", value_text(&spec.on_data_loss));
    for (key, value) in spec.values.fields() {
        add(key, value);
    }
}

fn columns(job: &ResolvedJob, all: &mut Fields) {
    let value = |column: &ColumnType| match job.keys.of_column(&column.name) {
        Some(key) => format!("{}, key {key:?}", column.type_name),
        None => column.type_name.clone(),
    };
    let field = |column: &ColumnType| format!("columns.{}", column.name.to_lowercase());
    all.extend(job.columns.iter().map(|c| (field(c), value(c))));
    if job.nested == NestedColumns::Typed {
        let value = "lists, maps and structs".to_owned();
        all.push(("columns.(nested types)".to_owned(), value));
    }
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
        role,
        format,
        refresh,
        size_max,
        allow_empty,
        csv,
        schema,
        folder_columns,
    } = spec;
    let mut values = vec![
        ("path".to_owned(), path.to_string()),
        ("format".to_owned(), value_text(format)),
        ("refresh".to_owned(), duration_text(*refresh)),
        ("size_max".to_owned(), bytes_text(*size_max)),
    ];
    let of_role = AssumedRole::fields(role.as_ref()).into_iter();
    values.extend(of_role.map(|(key, value)| (key.to_owned(), value)));
    let default = LookupCsv::default();
    // Defaults are not named: jobs of earlier builds do not have these keys.
    let set = |is: bool, value: String| if is { value } else { String::new() };
    values.extend(
        [
            ("allow_empty", set(*allow_empty, "true".into())),
            (
                "delimiter",
                set(csv.delimiter != default.delimiter, csv.delimiter.into()),
            ),
            ("quote", set(csv.quote != default.quote, csv.quote.into())),
            (
                "encoding",
                set(csv.encoding != default.encoding, value_text(&csv.encoding)),
            ),
            ("null_text", csv.null_text.clone()),
            ("folders", set(!folder_columns, "passed over".into())),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let typed = |column: &ColumnType| (format!("schema.{}", column.name), column.type_name.clone());
    values.extend(schema.iter().map(typed));
    all.extend(
        values
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (format!("lookup.{name}.{key}"), value)),
    );
}

fn sink(spec: &SinkKind, all: &mut Fields) {
    all.push(("sink.type".to_owned(), spec.type_name().to_owned()));
    let fields = spec.fields().into_iter();
    all.extend(fields.map(|(key, value)| (format!("sink.{key}"), value)));
}

/// The text of a value in a job file.
pub(crate) fn value_text(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
