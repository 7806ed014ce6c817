//! Which keys of a record hold its columns.
//!
//! Owns: the keys that the decoder looks for, and the form in which keys are compared. Does not own:
//! the search ([`super::keys`]).
//! Rule: the schema carries it: a field's metadata its key, the schema's metadata the comparison.

use arrow::datatypes::{Field, Schema, SchemaRef};
use std::borrow::Cow;
use std::collections::HashMap;
use streamctl_proto::resolved::RecordKeys;

/// Metadata of a field: its key in a record, if that is not its name.
const KEY: &str = "streamctl.key";
/// Metadata of a schema.
const DOTS_ARE_UNDERSCORES: &str = "streamctl.dots_are_underscores";
const CASE_COUNTS: &str = "streamctl.case_counts";

/// The schema of a source with the keys of its records.
pub fn with_keys(schema: SchemaRef, keys: &RecordKeys) -> SchemaRef {
    if keys.is_plain() {
        return schema;
    }
    let field = |field: &Field| match keys.of_column(field.name()) {
        Some(key) => field
            .clone()
            .with_metadata(HashMap::from([(KEY.to_owned(), key.to_owned())])),
        None => field.clone(),
    };
    let fields: Vec<Field> = schema.fields().iter().map(|f| field(f)).collect();
    let flags = [
        (DOTS_ARE_UNDERSCORES, keys.dots_are_underscores),
        (CASE_COUNTS, keys.case_counts),
    ];
    let flags = flags.into_iter().filter(|(_, holds)| *holds);
    let metadata = flags.map(|(flag, _)| (flag.to_owned(), String::new()));
    Schema::new_with_metadata(fields, metadata.collect()).into()
}

/// How keys are compared.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::format) struct Comparison {
    dots_are_underscores: bool,
    case_counts: bool,
}

impl Comparison {
    pub fn of(schema: &Schema) -> Self {
        let has = |flag| schema.metadata().contains_key(flag);
        Self {
            dots_are_underscores: has(DOTS_ARE_UNDERSCORES),
            case_counts: has(CASE_COUNTS),
        }
    }

    /// A key as far as any difference of names counts.
    pub fn exact(self, key: &str) -> Cow<'_, str> {
        if self.dots_are_underscores && key.contains('.') {
            Cow::Owned(key.replace('.', "_"))
        } else {
            Cow::Borrowed(key)
        }
    }

    /// A key in the form in which it is compared with the keys of columns.
    pub fn folded(self, exact: &str) -> Cow<'_, str> {
        if self.case_counts {
            Cow::Borrowed(exact)
        } else {
            Cow::Owned(exact.to_lowercase())
        }
    }
}

/// The key of a column, if it is not the column's name.
pub(super) fn key_of(field: &Field) -> Option<&str> {
    field.metadata().get(KEY).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Decoder;
    use arrow::array::AsArray;
    use arrow::datatypes::DataType;
    use std::collections::BTreeMap;
    use streamctl_proto::spec::PayloadFormat;

    /// The values of these columns in a record.
    fn decoded(columns: &[&str], keys: &RecordKeys, record: &str) -> Vec<Option<String>> {
        let fields = columns
            .iter()
            .map(|name| Field::new(*name, DataType::Utf8, true));
        let schema = Schema::new(fields.collect::<Vec<_>>()).into();
        let wanted: Vec<usize> = (0..columns.len()).collect();
        let schema = with_keys(schema, keys);
        let mut decoder = Decoder::new(&PayloadFormat::default(), schema, &wanted).unwrap();
        let batch = decoder.decode_payloads([record.as_bytes()]).batch;
        let no_metadata = |field: &Field| field.metadata().is_empty();
        assert!(
            batch
                .schema()
                .fields()
                .iter()
                .all(|field| no_metadata(field))
        );
        let value = |index| {
            batch
                .column(index)
                .as_string::<i32>()
                .iter()
                .next()
                .flatten()
        };
        wanted
            .into_iter()
            .map(|index| value(index).map(str::to_owned))
            .collect()
    }

    #[test]
    fn p15_a_column_is_read_from_the_key_that_the_catalog_maps_it_to() {
        let names = [("ts", "timestamp"), ("req_id", "Request-Id")];
        let names = names.map(|(column, key)| (column.to_owned(), key.to_owned()));
        let mut keys = RecordKeys {
            names: BTreeMap::from(names),
            dots_are_underscores: true,
            case_counts: false,
        };
        let record = r#"{"Timestamp":"t","ts":"not this","a.b":"dotted","request-id":"r"}"#;
        let columns = ["ts", "a_b", "req_id"];
        let some = |values: [&str; 3]| values.map(|value| Some(value.to_owned()));
        assert_eq!(decoded(&columns, &keys, record), some(["t", "dotted", "r"]));
        keys.case_counts = true;
        let capitals = r#"{"timestamp":"t","Timestamp":"other","a.b":"dotted","A_B":"other","Request-Id":"r","REQUEST-ID":"o"}"#;
        assert_eq!(
            decoded(&columns, &keys, capitals),
            some(["t", "dotted", "r"])
        );
        keys.dots_are_underscores = false;
        assert_eq!(decoded(&columns, &keys, r#"{"a.b":"dotted"}"#)[1], None);
    }
}
