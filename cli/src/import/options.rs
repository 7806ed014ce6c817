//! Options of Glue's readers and writers of files: which of them have no effect here, and which
//! need a note.
//!
//! Rule: an unknown option gets a note; only options that are known to make no difference are
//! ignored.

use std::collections::BTreeMap;

/// Notes about a lookup's options (keys in lower case).
pub fn lookup(format: &str, options: &BTreeMap<String, String>) -> Vec<String> {
    let mut notes = Vec::new();
    for (key, value) in options {
        match (key.as_str(), value.as_str()) {
            ("separator", value) if value != "," => {
                notes.push("a separator other than a comma is not carried over: rewrite the lookup's files".to_owned());
            }
            ("quotechar", value) if value != "\"" => {
                notes.push(format!(
                    "quotes are {value:?} in the lookup's files; here they are double: rewrite \
                     the files"
                ));
            }
            ("recurse", "false") => {
                notes
                    .push("files in folders below the lookup's are read here too: recurse is false in Glue".to_owned());
            }
            (
                "separator"
                | "quotechar"
                | "recurse"
                | "withheader"
                | "optimizeperformance"
                | "multiline",
                _,
            ) => {}
            // How Spark reads many files; the data is the same.
            (
                "groupfiles" | "groupsize" | "usesdatasource" | "maxband" | "maxfilesinband"
                | "compressiontype",
                _,
            ) => {}
            (key, _) => notes.push(format!(
                "the option {key:?} of the lookup is not carried over"
            )),
        }
    }
    if format == "csv"
        && options
            .get("withheader")
            .is_none_or(|value| value != "true")
    {
        notes.push(
            "the lookup's files have no header line for Glue, which numbers their columns (col0, \
             col1 ...): write one into each, with these names"
                .to_owned(),
        );
    }
    notes
}

/// Notes about a target's options; `path`, `partitionKeys` and `compression` are carried over.
pub fn target(options: &BTreeMap<String, String>) -> Vec<String> {
    let silent = [
        "path",
        "partitionkeys",
        "compression",
        "useglueparquetwriter",
        "blocksize",
        "pagesize",
        "usesdatasource",
    ];
    let reported = options.keys().filter(|key| !silent.contains(&key.as_str()));
    reported
        .map(|key| format!("the option {key:?} of the target is not carried over"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_relevant_differences_are_named() {
        let usual = map(&[
            ("separator", ","),
            ("quotechar", "\""),
            ("withheader", "true"),
            ("recurse", "true"),
        ]);
        assert_eq!(lookup("csv", &usual), Vec::<String>::new());
        let odd = lookup(
            "csv",
            &map(&[
                ("separator", ";"),
                ("quotechar", "'"),
                ("recurse", "false"),
                ("exclusions", "x"),
            ]),
        );
        assert_eq!(odd.len(), 5, "{odd:?}");
        assert!(odd[4].contains("no header line"), "{odd:?}");
        assert_eq!(lookup("parquet", &map(&[])), Vec::<String>::new());
        assert_eq!(
            target(&map(&[
                ("path", "x"),
                ("compression", "gzip"),
                ("writeheader", "false")
            ]))
            .len(),
            1
        );
    }
}
