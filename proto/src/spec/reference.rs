//! The job file in words: what `docs/job-file.md` is made of.
//!
//! Owns: a description of every key, taken from its declaration. Does not own: the declarations
//! (`keys`), the page.
//! Rule: nothing is said here that the parser does not do.

use super::key::{Absent, Key, Kind};
use super::keys::{self, parts};

/// A table of a job file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReference {
    /// As it is begun in a file: `[sink]`.
    pub title: &'static str,
    /// What it is for, in Markdown; may be empty.
    pub about: &'static str,
    /// Its keys, in the order in which they are explained.
    pub keys: Vec<KeyReference>,
}

/// A key of a job file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    pub name: &'static str,
    /// What its value looks like, with its limits; Markdown.
    pub value: String,
    /// What holds when it is not there.
    pub without: Without,
    /// What it is for, in Markdown.
    pub about: &'static str,
}

/// What holds when a key is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Without {
    /// The job file is refused.
    Refused,
    /// It is as if this value had been written.
    Default(String),
    Means(&'static str),
}

/// All tables with all their keys.
pub fn reference() -> Vec<TableReference> {
    let table = |part: &keys::Part| TableReference {
        title: part.title,
        about: part.about,
        keys: part.keys.iter().map(|key| key.describe()).collect(),
    };
    parts().map(table).collect()
}

/// A key of any kind.
pub(super) trait Described {
    fn name(&self) -> &'static str;
    fn describe(&self) -> KeyReference;
}

impl<K: Kind> Described for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> KeyReference {
        let without = match &self.absent {
            Absent::Refused(_) => Without::Refused,
            Absent::Is(value) => Without::Default(self.kind.shown(value)),
            Absent::Means(words) => Without::Means(words),
        };
        KeyReference {
            name: self.name,
            value: self.kind.words(),
            without,
            about: self.about,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;

    /// A job with a key that nobody knows in each of its tables.
    const STRANGE: &str = "zzz = 1\nname = \"a\"\n[source]\nzzz = 1\ntype = \"KIND\"\n[window]\nzzz = 1\nsize = \"1s\"\n\
                           [[lookup]]\nzzz = 1\nname = \"l\"\npath = \"/l\"\n[transform]\nzzz = 1\nsql = \"SELECT 1\"\n\
                           [sink]\nzzz = 1\npath = \"/s\"\n[dead_letter]\nzzz = 1\npath = \"/d\"\n\
                           [checkpoint]\nzzz = 1\nlocation = \"/c\"\n[retry]\nzzz = 1\n";

    /// The keys that the parser asked for in each table, as it tells them.
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
    fn what_is_described_is_what_the_parser_asks_for() {
        for kind in ["kinesis", "files", "generator", "stdin"] {
            let known = known(kind);
            assert_eq!(known.len(), 9, "{known:?}");
            for (table, keys) in known {
                let own = format!("[source] with type = \"{kind}\"");
                let titles = match table.as_str() {
                    "" => vec!["The job"],
                    "source" => vec!["[source]", &own],
                    "lookup[1]" => vec!["[[lookup]]"],
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
    fn every_key_says_what_it_is_for() {
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
