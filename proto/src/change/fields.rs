//! A job as keys and values, as its file could say them.
//!
//! Rule: what the world said counts, not how the file left it to the world: a stream that the
//! catalog names and the same one named in the file are one value.

use crate::json::time;
use crate::resolved::StreamAddress;
use crate::spec::{
    LookupSpec, PartitionColumn, SchemaFrom, SinkSpec, SourceKind, SourceSpec, StartingPosition,
    bytes_text, duration_text,
};
use crate::{ResolvedJob, WindowSize};
use serde::Serialize;
use std::time::Duration;

/// Keys and values; what has no value is left out.
type Fields = Vec<(String, String)>;

/// Every key of a job that has a value, in the order of a job file.
pub(super) fn fields(job: &ResolvedJob) -> Fields {
    let spec = &job.spec;
    let mut all = Fields::new();
    source(&spec.source, job.stream.as_ref(), &mut all);
    all.extend(job.columns.iter().map(|c| {
        (
            format!("columns.{}", c.name.to_lowercase()),
            c.type_name.clone(),
        )
    }));
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
    let mut add = |key: &str, value: Option<String>| {
        all.extend(value.map(|value| (format!("source.{key}"), value)))
    };
    match &spec.kind {
        SourceKind::Kinesis {
            poll_interval,
            max_records_per_read,
            compression,
            grace,
            ..
        } => {
            add("type", Some("kinesis".into()));
            let stream = stream.cloned().unwrap_or_default();
            add("stream", Some(stream.name));
            add("arn", stream.arn);
            add("endpoint", stream.endpoint);
            add("region", stream.region);
            add("role_arn", stream.role_arn);
            add("session_name", stream.session_name);
            add("poll_interval", Some(duration_text(*poll_interval)));
            add(
                "max_records_per_read",
                Some(max_records_per_read.to_string()),
            );
            add("compression", Some(word(compression)));
            add("grace", Some(duration_text(*grace)));
            add("starting_position", Some(start(spec.starting_position)));
        }
        SourceKind::Files {
            path,
            format,
            arrival_time,
        } => {
            add("type", Some("files".into()));
            add("path", Some(path.to_string()));
            add("format", Some(word(format)));
            add("arrival_time", arrival_time.clone());
        }
        SourceKind::Generator {
            seed,
            shards,
            rate,
            records_per_shard,
            bad_every,
            unmatched_every,
        } => {
            add("type", Some("generator".into()));
            add("seed", Some(seed.to_string()));
            add("shards", Some(shards.to_string()));
            add("rate", Some(rate.to_string()));
            add(
                "records_per_shard",
                records_per_shard.map(|count| count.to_string()),
            );
            add("bad_every", Some(bad_every.to_string()));
            add("unmatched_every", Some(unmatched_every.to_string()));
        }
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
            add(
                "catalog",
                Some(format!("{database}.{table}{account}{region}")),
            );
        }
        SchemaFrom::File(path) => add("schema_file", Some(path.clone())),
        // Its columns are compared one by one.
        SchemaFrom::Inline(_) => add("schema", Some("written in the job file".into())),
        SchemaFrom::BuiltIn => {}
    }
    add("on_data_loss", Some(word(&spec.on_data_loss)));
}

fn start(position: StartingPosition) -> String {
    match position {
        StartingPosition::Latest => "latest".into(),
        StartingPosition::TrimHorizon => "trim_horizon".into(),
        StartingPosition::Timestamp(ms) => time(ms),
    }
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
        ("format", word(format)),
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
        ("format", word(&spec.format)),
        ("compression", word(&spec.compression)),
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

/// The word of a value, as it stands in a job file.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
