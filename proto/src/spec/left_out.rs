//! The keys that a job file leaves out, and their defaults.
//!
//! Owns: which keys are listed. Does not own: the defaults (`keys`, the kinds).
//! Rule: only a key that is missing in the text is listed.

use super::summary::{duration, name_of};
use crate::JobSpec;
use crate::count::bytes;

/// Keys that are missing in the file and have a default.
pub fn left_out(text: &str, spec: &JobSpec) -> Vec<(String, String)> {
    let Ok(file) = text.parse::<toml::Table>() else {
        return vec![];
    };
    let is_set =
        |table: &str, key: &str| file.get(table).and_then(|table| table.get(key)).is_some();
    let left_out = of_tables(spec)
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
        let name = &lookup.name;
        defaults.extend(left_out.map(|(key, value)| (format!("lookup.{name}.{key}"), value)));
    }
    defaults
}

/// Table, key and value of every key that has a default.
fn of_tables(spec: &JobSpec) -> Vec<(&'static str, &'static str, String)> {
    let mut all = vec![("source", "on_data_loss", name_of(&spec.source.on_data_loss))];
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
        ("checkpoint", "keep", spec.keep.text()),
        ("retry", "max", spec.retries_max.to_string()),
    ]);
    all
}
