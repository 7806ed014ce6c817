//! What a table says of how its records are read: its SerDe, its parameters, its storage.
//!
//! Owns: which of it is honoured, what changes nothing, what is refused. Does not own: how a source
//! reads its records ([`streamctl_proto::spec::SourceFacts::record_form`]), decoding.
//! Rule: pure; each property that a reader in Hive, Athena or Glue heeds is honoured, compared with
//! what the source does, or refused by its name. None is ignored without a reason in [`UNUSED`].

use super::properties::{Family, INPUT_FORMATS, UNUSED, family, timestamp_pattern_is_read};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::count;
use streamctl_proto::resolved::{ColumnType, RecordKeys};
use streamctl_proto::spec::{RecordForm, SourceSpec};

/// How to go on with a table that is refused.
const OWN_COLUMNS: &str = "change the table; or save `aws glue get-table`, edit the copy and name it with schema_file; \
     or write the columns in [source.schema]";

/// A table as the catalog describes it, without its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableReading {
    /// `database.table`, as far as known.
    pub(super) table: String,
    pub(super) library: Option<String>,
    pub(super) input_format: Option<String>,
    pub(super) is_compressed: bool,
    pub(super) is_view: bool,
    /// The SerDe's parameters.
    pub(super) serde: BTreeMap<String, String>,
    /// Those of the table and of its storage, by lower-case key.
    pub(super) parameters: BTreeMap<String, String>,
}

/// What reading a table's records takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub keys: RecordKeys,
    /// What a user may not expect.
    pub notes: Vec<String>,
    pub refused: Vec<RefusedProperty>,
}

/// A property that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedProperty {
    /// The table, the property, its value and the reason.
    pub message: String,
    pub hint: String,
}

/// Compares a table with a source.
struct Check<'a> {
    reading: &'a TableReading,
    form: &'a RecordForm,
    /// Patterns that the job has its timestamps read by.
    timestamp_formats: &'a [String],
    columns: BTreeSet<String>,
    asked: Asked,
}

impl TableReading {
    /// What the table asks of a source.
    pub fn asked_of(&self, source: &SourceSpec, columns: &[ColumnType]) -> Asked {
        let form = &source.kind.record_form();
        let columns = columns.iter().map(|column| column.name.to_lowercase());
        let mut check = Check {
            reading: self,
            form,
            timestamp_formats: &source.values.timestamp_formats,
            columns: columns.collect(),
            asked: Asked::default(),
        };
        check.storage();
        let family = check.family();
        for (property, value) in &self.serde {
            match family {
                Some(Family::Json) => check.json(property, value),
                Some(Family::Csv) => check.csv(property, value),
                Some(Family::Other(_)) | None => {}
            }
        }
        check.parameters(family);
        check.shared_keys();
        check.asked
    }

    /// The table's name in messages.
    pub fn name(&self) -> &str {
        &self.table
    }
}

impl Check<'_> {
    fn refuse(&mut self, property: &str, value: &str, why: &str, hint: &str) {
        let table = &self.reading.table;
        self.asked.refused.push(RefusedProperty {
            message: format!("table {table}: {property} = {value:?}: {why}"),
            hint: hint.to_owned(),
        });
    }

    fn note(&mut self, text: String) {
        self.asked.notes.push(text);
    }

    /// The source's value of a key; empty if it has none.
    fn of_source(&self, key: &str) -> &str {
        let all = self.form.keys.iter().chain(&self.form.fixed);
        let mut found = all.filter(|(name, _)| *name == key);
        found.next().map_or("", |(_, value)| value)
    }

    /// Kind of table and storage.
    fn storage(&mut self) {
        let reading = self.reading;
        if reading.is_view {
            let why = "a view has no records of its own";
            self.refuse("TableType", "VIRTUAL_VIEW", why, OWN_COLUMNS);
        }
        if let Some(class) = reading.input_format.as_deref().filter(|c| !c.is_empty())
            && !INPUT_FORMATS.contains(&class)
        {
            let why = "records are read as lines of text, or as the payloads of a stream";
            self.refuse("InputFormat", class, why, OWN_COLUMNS);
        }
        let named = reading.parameters.contains_key("compressiontype");
        if reading.is_compressed && !named && self.form.unpacks.is_empty() {
            let hint = self.unpack_hint();
            self.refuse("Compressed", "true", "the source unpacks nothing", hint);
        }
    }

    /// What the table's records are written in: as its `classification` says, else its SerDe.
    /// `None`: neither says it, or it is not what the source reads; then this is a problem.
    fn family(&mut self) -> Option<Family> {
        let reading = self.reading;
        let format = self.form.format;
        let library = reading.library.as_deref().filter(|class| !class.is_empty());
        let of_library = library.map(family);
        let classification = reading.parameters.get("classification").map(String::as_str);
        let of_classification = match classification.map(str::to_lowercase).as_deref() {
            None | Some("" | "unknown") => None,
            Some("json") => Some(Family::Json),
            Some("csv") => Some(Family::Csv),
            Some(_) => Some(Family::Other("records in it are not read")),
        };
        let (property, value, family) = match (of_classification, of_library) {
            (Some(of_classification), _) => (
                "classification",
                classification.unwrap_or_default(),
                of_classification,
            ),
            (None, Some(of_library)) => (
                "SerializationLibrary",
                library.unwrap_or_default(),
                of_library,
            ),
            (None, None) => return None,
        };
        match family {
            Family::Other(why) => self.refuse(property, value, why, OWN_COLUMNS),
            family if family.word() == format => {
                if let (Some(class), Some(other)) = (library, of_library)
                    && other != family
                {
                    self.note(format!(
                        "the table's SerDe {class} is not used, and its parameters are not: the \
                         table is classified as {value}"
                    ));
                    return None;
                }
                return Some(family);
            }
            family => {
                let word = family.word();
                let why = format!("the source reads {format}");
                self.refuse(
                    property,
                    value,
                    &why,
                    &format!("write format = {word:?} in [source]"),
                );
            }
        }
        None
    }

    fn json(&mut self, property: &str, value: &str) {
        let key = property.to_lowercase();
        if let Some(column) = key.strip_prefix("mapping.") {
            return self.mapping(property, column, value);
        }
        match key.as_str() {
            "dots.in.keys" => {
                self.asked.keys.dots_are_underscores = self.flag(property, value) == Some(true);
            }
            "case.insensitive" => {
                self.asked.keys.case_counts = self.flag(property, value) == Some(false);
            }
            "ignore.malformed.json" => {
                if self.flag(property, value) == Some(true) {
                    self.note(format!(
                        "{property}: a record that is not JSON becomes a dead letter, not a row of \
                         NULLs"
                    ));
                }
            }
            _ => self.text(property, value),
        }
    }

    fn mapping(&mut self, property: &str, column: &str, key: &str) {
        if key.trim().is_empty() {
            return self.refuse(property, key, "no key is empty", OWN_COLUMNS);
        }
        if !self.columns.contains(column) {
            return self.note(format!("{property}: the table has no column {column}"));
        }
        let names = &mut self.asked.keys.names;
        names.insert(column.to_owned(), key.to_owned());
    }

    fn csv(&mut self, property: &str, value: &str) {
        let value = &*unescaped(value);
        match property.to_lowercase().as_str() {
            "separatorchar" | "field.delim" => self.same(property, value, "delimiter"),
            // The default of `field.delim`; a number is its code.
            "serialization.format" => {
                let is_code = value.parse::<u8>().is_ok();
                if !is_code && !self.reading.serde.contains_key("field.delim") {
                    self.same(property, value, "delimiter");
                }
            }
            "quotechar" | "quote.delim" => self.same(property, value, "quote"),
            "escapechar" | "escape.delim" => {
                if value != self.of_source("quote") {
                    let why =
                        "a quote inside of a field is doubled here, and no other character escapes";
                    let hint = "if no record has that character, leave the property out of a copy of the table and name \
                                the copy with schema_file; else write the records as JSON";
                    self.refuse(property, value, why, hint);
                }
            }
            "serialization.last.column.takes.rest" => self.off(property, value),
            _ => self.text(property, value),
        }
    }

    /// Properties of both families.
    fn text(&mut self, property: &str, value: &str) {
        let key = property.to_lowercase();
        match key.as_str() {
            "timestamp.formats" => self.timestamps(property, value),
            "serialization.encoding" | "encoding" => {
                let is_utf8 = matches!(value.to_lowercase().as_str(), "utf-8" | "utf8");
                if !is_utf8 {
                    let hint = "write the records in UTF-8";
                    self.refuse(property, value, "records are read as UTF-8", hint);
                }
            }
            "line.delim" => {
                if !matches!(&*unescaped(value), "\n" | "10") {
                    let hint = "end each record with a line feed";
                    self.refuse(property, value, "only a line feed ends a record", hint);
                }
            }
            "serialization.null.format" | "skip.header.line.count" | "skip.footer.line.count" => {
                self.lines_and_nulls(property, value);
            }
            key if UNUSED.iter().any(|(unused, _)| *unused == key) => {}
            _ => {
                let why = "this property of the SerDe is not known here";
                self.refuse(property, value, why, OWN_COLUMNS);
            }
        }
    }

    /// These three are parameters of the SerDe or of the table.
    fn lines_and_nulls(&mut self, property: &str, value: &str) {
        let is_csv = self.form.format == "csv";
        match property.to_lowercase().as_str() {
            "serialization.null.format" if is_csv => {
                self.same(property, &unescaped(value), "null_text");
            }
            // JSON has a null of its own.
            "serialization.null.format" => {}
            "skip.footer.line.count" => self.off(property, value),
            _ => {
                let skipped = self.form.header_lines;
                if value.trim() != skipped.to_string() {
                    let lines = count(skipped, "line");
                    let why = format!("the source skips {lines} before the first record");
                    self.refuse(property, value, &why, OWN_COLUMNS);
                }
            }
        }
    }

    /// Each pattern must be one that a timestamp column reads in any case, or one of the job's.
    fn timestamps(&mut self, property: &str, value: &str) {
        let is_read = |pattern: &&str| {
            timestamp_pattern_is_read(pattern)
                || self.timestamp_formats.iter().any(|own| own == pattern)
        };
        let mut patterns = value.split(',').map(str::trim);
        if let Some(pattern) = patterns.find(|pattern| !is_read(pattern)) {
            let why = format!("timestamps are not read by the pattern {pattern:?}");
            let hint = format!("write timestamp_formats = [{pattern:?}] in [source]");
            self.refuse(property, value, &why, &hint);
        }
    }

    /// Parameters of the table and of its storage; others than these are of no meaning for a reader.
    fn parameters(&mut self, family: Option<Family>) {
        for (key, value) in &self.reading.parameters {
            match key.as_str() {
                "serialization.null.format"
                | "skip.header.line.count"
                | "skip.footer.line.count" => {
                    self.lines_and_nulls(key, value);
                }
                "delimiter" if family == Some(Family::Csv) => {
                    self.same(key, &unescaped(value), "delimiter");
                }
                "compressiontype" => self.compression(key, value),
                "has_encrypted_data" => self.off(key, value),
                "table_type" if is_managed_format(value) => {
                    let why = "its files are not read one by one";
                    self.refuse(key, value, why, OWN_COLUMNS);
                }
                "spark.sql.sources.provider" if !is_text_provider(value) => {
                    let why = "records are JSON or CSV";
                    self.refuse(key, value, why, OWN_COLUMNS);
                }
                _ => {}
            }
        }
    }

    fn compression(&mut self, property: &str, value: &str) {
        let wanted = value.trim().to_lowercase();
        if matches!(wanted.as_str(), "" | "none") {
            return;
        }
        if self.form.unpacks.contains(&wanted.as_str()) {
            return;
        }
        let why = match self.form.unpacks {
            [] => "the source unpacks nothing".to_owned(),
            unpacks => format!("the source unpacks {}", unpacks.join(", ")),
        };
        let hint = self.unpack_hint();
        self.refuse(property, value, &why, hint);
    }

    fn unpack_hint(&self) -> &'static str {
        if self.form.may_unpack && self.form.unpacks.is_empty() {
            "write compression = \"auto\" in [source]"
        } else {
            OWN_COLUMNS
        }
    }

    /// The source must have the same value under this key of the job file.
    fn same(&mut self, property: &str, value: &str, key: &str) {
        let found = self.of_source(key).to_owned();
        if found == value {
            return;
        }
        let why = format!("the source's {key} is {found:?}");
        let is_fixed = self.form.fixed.iter().any(|(name, _)| *name == key);
        let hint = if is_fixed {
            OWN_COLUMNS.to_owned()
        } else {
            format!("write {key} = {value:?} in [source]")
        };
        self.refuse(property, value, &why, &hint);
    }

    fn off(&mut self, property: &str, value: &str) {
        if !matches!(value.trim().to_lowercase().as_str(), "" | "0" | "false") {
            self.refuse(property, value, "this is not done here", OWN_COLUMNS);
        }
    }

    /// `None`: the value is neither; it is refused.
    fn flag(&mut self, property: &str, value: &str) -> Option<bool> {
        match value.trim().to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.refuse(property, value, "it is true or false", OWN_COLUMNS);
                None
            }
        }
    }

    /// A key of a record fills one column.
    fn shared_keys(&mut self) {
        let keys = &self.asked.keys;
        let mut of_key: BTreeMap<String, &str> = BTreeMap::new();
        let mut shared = None;
        for column in &self.columns {
            let key = keys.names.get(column).unwrap_or(column);
            let key = normal_key(key.clone(), keys);
            if let Some(other) = of_key.insert(key.clone(), column) {
                shared = Some((key, other.to_owned(), column.clone()));
            }
        }
        if let Some((key, one, two)) = shared {
            let mapped = if keys.names.contains_key(&two) {
                &two
            } else {
                &one
            };
            let why = format!("columns {one} and {two} would both be the record's key {key:?}");
            self.refuse(&format!("mapping.{mapped}"), &key, &why, OWN_COLUMNS);
        }
    }
}

/// A key as it is compared.
fn normal_key(key: String, keys: &RecordKeys) -> String {
    let key = if keys.case_counts {
        key
    } else {
        key.to_lowercase()
    };
    if keys.dots_are_underscores {
        key.replace('.', "_")
    } else {
        key
    }
}

fn is_managed_format(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "iceberg" | "delta" | "hudi")
}

fn is_text_provider(value: &str) -> bool {
    matches!(
        value.to_lowercase().as_str(),
        "json" | "csv" | "text" | "hive"
    )
}

/// `\t` and `\u0001` as the characters that they name in Hive's texts.
fn unescaped(value: &str) -> std::borrow::Cow<'_, str> {
    let char = match value {
        "\\t" => Some('\t'),
        "\\n" => Some('\n'),
        "\\\\" => Some('\\'),
        "\\'" => Some('\''),
        "\\\"" => Some('"'),
        value => value
            .strip_prefix("\\u")
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32),
    };
    char.map_or(value.into(), |char| char.to_string().into())
}

#[cfg(test)]
mod tests;
