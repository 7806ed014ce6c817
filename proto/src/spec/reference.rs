//! The reference of the job file, from which `docs/job-file.md` is generated.
//!
//! Owns: a description of every key, from its declaration. Does not own: the declarations (`keys`),
//! the page.
//! Rule: the reference describes only what the parser does.

use super::format::FORMATS;
use super::key::Part;
pub use super::key::{KeyReference, Without};
use super::{function, keys, sink, source};

/// A table of a job file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReference {
    /// Its header in a file: `[sink]`.
    pub title: &'static str,
    /// Its purpose, in Markdown; may be empty.
    pub about: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: Vec<KeyReference>,
}

/// All tables, in the order in which they are explained.
fn parts() -> impl Iterator<Item = &'static Part> {
    let sources = source::KINDS.iter().map(|kind| kind.part);
    let before = [&keys::JOB, &source::SOURCE, &keys::CATALOG, &keys::SCHEMA];
    let between: [&Part; 6] = [
        &keys::WINDOW,
        &keys::LOOKUP,
        &keys::TRANSFORM,
        &function::FUNCTION,
        &function::FUNCTION_SCHEMA,
        &sink::SINK,
    ];
    let sinks = sink::KINDS
        .iter()
        .flat_map(|kind| [kind.part].into_iter().chain(kind.tables.iter().copied()));
    let after = [&keys::DEAD_LETTER, &keys::CHECKPOINT, &keys::RETRY];
    let formats = FORMATS.iter().filter_map(|format| format.part);
    before
        .into_iter()
        .chain(sources)
        .chain(formats)
        .chain(between)
        .chain(sinks)
        .chain(after)
}

/// All tables with all their keys.
pub fn reference() -> Vec<TableReference> {
    let table = |part: &Part| TableReference {
        title: part.title,
        about: part.about,
        keys: part.keys.iter().map(|key| key.describe()).collect(),
    };
    parts().map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;

    /// A job with an unknown key in each of its tables.
    const STRANGE: &str = "zzz = 1\nname = \"a\"\n[source]\nzzz = 1\ntype = \"KIND\"\n[window]\nzzz = 1\nsize = \"1s\"\n\
                           [[lookup]]\nzzz = 1\nname = \"l\"\npath = \"/l\"\n[transform]\nzzz = 1\nsql = \"SELECT 1\"\n[function]\nzzz = 1\nfile = \"x.py\"\n\
                           [sink]\nzzz = 1\npath = \"/s\"\n[dead_letter]\nzzz = 1\npath = \"/d\"\n\
                           [checkpoint]\nzzz = 1\nlocation = \"/c\"\n[retry]\nzzz = 1\n";

    /// The keys that the parser reads in each table, from its error messages.
    fn known(kind: &str) -> Vec<(String, Vec<String>)> {
        let problems = JobSpec::parse(&STRANGE.replace("KIND", kind)).unwrap_err();
        let strange = problems
            .0
            .into_iter()
            .filter(|problem| problem.message == "unknown key");
        let keys = |problem: super::super::Problem| {
            let hint = problem.hint.unwrap();
            let keys = hint
                .strip_prefix("known keys: ")
                .unwrap()
                .split(", ")
                .map(str::to_owned);
            let mut keys: Vec<_> = keys.collect();
            keys.sort();
            keys.dedup();
            let table = problem.field.trim_end_matches("zzz").trim_end_matches('.');
            (table.to_owned(), keys)
        };
        strange.map(keys).collect()
    }

    fn described(titles: &[&str]) -> Vec<String> {
        let tables = reference()
            .into_iter()
            .filter(|table| titles.contains(&table.title));
        let mut names: Vec<_> = tables
            .flat_map(|table| table.keys)
            .map(|key| key.name.to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_described_keys_are_those_that_the_parser_reads() {
        for kind in ["kinesis", "files", "generator", "stdin"] {
            let known = known(kind);
            assert_eq!(known.len(), 10, "{known:?}");
            for (table, keys) in known {
                let own = format!("[source] with type = \"{kind}\"");
                let titles = match table.as_str() {
                    "" => vec!["The job"],
                    "source" => vec!["[source]", &own],
                    "lookup[1]" => vec!["[[lookup]]"],
                    "sink" => vec!["[sink]", "[sink] with type = \"files\""],
                    _ => vec![
                        reference()
                            .into_iter()
                            .find(|part| part.title == format!("[{table}]"))
                            .unwrap()
                            .title,
                    ],
                };
                assert_eq!(described(&titles), keys, "{table} of {kind}");
            }
        }
    }

    #[test]
    fn every_key_has_a_description() {
        for table in reference() {
            assert!(!table.keys.is_empty(), "{}", table.title);
            for key in table.keys {
                assert!(
                    !key.value.is_empty() && !key.about.is_empty(),
                    "{}: {key:?}",
                    table.title
                );
                assert_ne!(
                    key.without,
                    Without::Default(String::new()),
                    "{}: {key:?}",
                    table.title
                );
            }
        }
    }
}
