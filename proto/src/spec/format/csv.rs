//! `format = "csv"`: one row per record, without a header.

use super::{FormatFacts, PayloadFormat, Registered};
use crate::spec::key::{Absent, AnyText, Ascii, Fields, Key, Part};
use crate::spec::keys::key;
use crate::spec::raw::Table;
use serde::{Deserialize, Serialize};

/// One row per record; the fields are the columns, in the order of the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvFormat {
    /// Between two fields; ASCII.
    pub delimiter: char,
    /// Around a field that holds the delimiter, a line end, or itself, doubled; ASCII.
    pub quote: char,
    /// A field with this text is null, in quotes too, as in Spark. An empty field without quotes is
    /// null in any case.
    pub null_text: String,
}

static DELIMITER: Key<Ascii> = key(
    "delimiter",
    Ascii,
    Absent::Is(','),
    "between two fields; `\"\\t\"` is a tab",
);
static QUOTE: Key<Ascii> = key(
    "quote",
    Ascii,
    Absent::Is('"'),
    "around a field that holds the delimiter, a line end or a quote; a quote inside is doubled",
);
static NULL_TEXT: Key<AnyText> = key(
    "null_text",
    AnyText,
    Absent::Means("empty"),
    "a field of just this text is null, in quotes too (as in Spark); an empty field without quotes \
     always is",
);
static PART: Part = Part {
    title: "[source] with format = \"csv\"",
    about: "Each record is one row, without a header; its fields are the columns, in the order of the schema. \
            A record with more or fewer fields than columns, or with more than one row, is a dead letter. \
            Values become types as strings of JSON do.",
    keys: &[&DELIMITER, &QUOTE, &NULL_TEXT],
};

pub(super) static FORMAT: Registered = Registered {
    word: "csv",
    part: Some(&PART),
    read,
};

fn read(table: &mut Table<'_>) -> Option<PayloadFormat> {
    let delimiter = table.value(&DELIMITER);
    let quote = table.value(&QUOTE);
    let null_text = table.optional(&NULL_TEXT);
    if delimiter.is_some() && delimiter == quote {
        table.refuse(
            "delimiter and quote are the same character",
            "choose another quote",
        );
    }
    Some(PayloadFormat::Csv(CsvFormat {
        delimiter: delimiter?,
        quote: quote?,
        null_text: null_text?.unwrap_or_default(),
    }))
}

impl FormatFacts for CsvFormat {
    fn name(&self) -> &'static str {
        FORMAT.word
    }

    fn fields(&self) -> Fields {
        let mut fields = vec![
            ("delimiter", self.delimiter.to_string()),
            ("quote", self.quote.to_string()),
        ];
        if !self.null_text.is_empty() {
            fields.push(("null_text", self.null_text.clone()));
        }
        fields
    }
}
