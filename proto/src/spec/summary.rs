//! A job file as text for users.
//!
//! Owns: the lines, the forms of durations and named values. Does not own: what each kind writes
//! about itself (`describe` of the kinds).
//! Rule: values have the form of a job file.

use super::{Location, SchemaFrom};
use crate::{JobSpec, count};
use serde_json::Value;
use std::time::Duration;

/// What a job is, in a few lines.
pub fn summary(spec: &JobSpec) -> String {
    let lookups = spec
        .lookups
        .iter()
        .map(|lookup| format!("\nlookup:      {} from {}", lookup.name, lookup.path));
    let function = spec.function.as_ref();
    let function = function.map(|function| format!("\nfunction:    {}", function.describe()));
    let dead = spec
        .dead_letter
        .as_ref()
        .map_or("below the checkpoint", Location::as_str);
    format!(
        "job:         {}\nsource:      {}\nwindow:      {}{}\nsink:        {}\n\
         dead letter: {dead}\ncheckpoint:  {}",
        spec.name,
        source(spec),
        duration(Duration::from_millis(spec.window.ms().unsigned_abs())),
        lookups.chain(function).collect::<String>(),
        spec.sink.describe(),
        spec.checkpoint,
    )
}

fn source(spec: &JobSpec) -> String {
    let columns = match &spec.source.schema {
        SchemaFrom::Catalog {
            database, table, ..
        } => format!("columns of {database}.{table}"),
        SchemaFrom::File(path) => format!("columns of {path}"),
        SchemaFrom::Inline(columns) => count(columns.len(), "column"),
        SchemaFrom::BuiltIn => "its own columns".to_owned(),
    };
    let place = spec.source.kind.describe();
    format!("{place}, {columns}")
}

/// `90s`, `1m`, `250ms`, in the form of a job file.
pub fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms > 0 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// The name of a value, as in a job file.
pub fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name_of)) => name_of,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_form_of_a_job_file() {
        let show = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            [
                show(250),
                show(1_000),
                show(90_000),
                show(60_000),
                show(7_200_000)
            ],
            ["250ms", "1s", "90s", "1m", "2h"]
        );
    }
}
