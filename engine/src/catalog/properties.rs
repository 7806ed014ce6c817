//! Names that Hive, Athena and Glue give to formats and properties of tables.
//!
//! Rule: a list of facts; nothing is decided here.

/// What records are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Json,
    Csv,
    /// Something that no source reads; why.
    Other(&'static str),
}

impl Family {
    /// The value of `format` in a job file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Other(_) => "another format",
        }
    }
}

/// Libraries that read what a source reads.
const LIBRARIES: [(&str, Family); 6] = [
    ("org.openx.data.jsonserde.jsonserde", Family::Json),
    ("org.apache.hive.hcatalog.data.jsonserde", Family::Json),
    ("org.apache.hadoop.hive.serde2.jsonserde", Family::Json),
    ("org.apache.hcatalog.data.jsonserde", Family::Json),
    ("org.apache.hadoop.hive.serde2.opencsvserde", Family::Csv),
    (
        "org.apache.hadoop.hive.serde2.lazy.lazysimpleserde",
        Family::Csv,
    ),
];

/// What a SerDe's class reads.
pub(super) fn family(class: &str) -> Family {
    let class = class.trim().to_lowercase();
    let known = LIBRARIES.iter().find(|(name, _)| *name == class);
    known.map_or(
        Family::Other("records in the format of this library are not read"),
        |(_, family)| *family,
    )
}

/// Input formats that give lines of text; the others pack records in their own way.
pub(super) const INPUT_FORMATS: [&str; 1] = ["org.apache.hadoop.mapred.TextInputFormat"];

/// Properties of a SerDe that change nothing for a reader of records here, and why.
pub(super) const UNUSED: [(&str, &str); 13] = [
    (
        "serialization.format",
        "a default of field.delim, where that is missing",
    ),
    ("paths", "the keys that a crawler saw"),
    ("explicit.null", "for writing"),
    ("field.delim", "JSON has none"),
    ("separatorchar", "JSON has none"),
    ("quotechar", "JSON has its own"),
    ("escapechar", "JSON has its own"),
    ("escape.delim", "JSON has its own"),
    ("collection.delim", "JSON has its own"),
    ("colelction.delim", "the same, as Hive misspells it"),
    ("mapkey.delim", "JSON has its own"),
    ("serialization.escape.crlf", "for writing"),
    (
        "hive.serialization.extend.nesting.levels",
        "JSON has its own",
    ),
];

/// Whether every timestamp column reads texts of this pattern of Java, whatever the table says.
pub(super) fn timestamp_pattern_is_read(pattern: &str) -> bool {
    let plain: String = pattern.chars().filter(|c| *c != '\'').collect();
    let Some(rest) = plain.strip_prefix("yyyy-MM-dd") else {
        return false;
    };
    let Some(rest) = rest
        .strip_prefix(['T', ' '])
        .and_then(|rest| rest.strip_prefix("HH:mm:ss"))
    else {
        return false;
    };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches('S');
            if !(1..=9).contains(&(fraction.len() - zone.len())) {
                return false;
            }
            zone
        }
        None => rest,
    };
    matches!(rest, "" | "Z" | "XXX")
}
