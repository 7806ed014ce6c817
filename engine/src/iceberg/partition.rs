//! How a table is partitioned, and the partition of a data file.
//!
//! Owns: partition specs, the types of their values, names of folders. Does not own: the transforms
//! themselves (`transform`).
//! Rule: a file is of the spec that it was written with, also after the table got another one.

use super::datum::Datum;
use super::transform::Transform;
use super::types::{Primitive, Schema, Type};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The id of the first partition field of a table.
pub const FIRST_FIELD_ID: i32 = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionField {
    pub source_id: i32,
    /// Missing in tables of version 1: counted from [`FIRST_FIELD_ID`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_id: Option<i32>,
    pub name: String,
    pub transform: Transform,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionSpec {
    #[serde(default)]
    pub spec_id: i32,
    #[serde(default)]
    pub fields: Vec<PartitionField>,
}

/// A partition field whose types are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundField {
    pub field_id: i32,
    pub name: String,
    pub transform: Transform,
    pub source_id: i32,
    pub source: Primitive,
    pub result: Primitive,
}

/// The values of a data file, in the order of the spec's fields; `None` is null.
pub type PartitionValues = Vec<Option<Datum>>;

/// Why a table's partitions cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition field {field:?}: {reason}")]
pub struct BadPartition {
    pub field: String,
    pub reason: String,
    pub hint: String,
}

impl PartitionSpec {
    pub fn is_unpartitioned(&self) -> bool {
        self.fields
            .iter()
            .all(|field| field.transform == Transform::Void)
    }

    /// The fields with the types that `schema` gives them.
    ///
    /// # Errors
    /// A column that is not in the schema, or a transform that does not take its type.
    pub fn bind(&self, schema: &Schema) -> Result<Vec<BoundField>, BadPartition> {
        let fields = self.fields.iter().enumerate();
        fields.map(|(at, field)| bind(at, field, schema)).collect()
    }
}

fn bind(at: usize, field: &PartitionField, schema: &Schema) -> Result<BoundField, BadPartition> {
    let bad = |reason: String, hint: &str| BadPartition {
        field: field.name.clone(),
        reason,
        hint: hint.to_owned(),
    };
    let at = i32::try_from(at).unwrap_or(i32::MAX);
    let field_id = field
        .field_id
        .unwrap_or_else(|| FIRST_FIELD_ID.saturating_add(at));
    let known = schema.field(field.source_id);
    let (source, result) = match known.map(|column| &column.r#type) {
        // The source of a void field may have been dropped.
        None if field.transform == Transform::Void => (Primitive::Int, Primitive::Int),
        None => {
            let reason = format!(
                "its column, with id {}, is not in the table",
                field.source_id
            );
            return Err(bad(
                reason,
                "replace the field in the table's partition spec",
            ));
        }
        Some(Type::Primitive(source)) => {
            let result = field.transform.result(source).ok_or_else(|| {
                let reason = format!("{} does not take {source}", field.transform);
                bad(reason, "use identity, year, month, day, hour, bucket or truncate on a column of a type that it takes")
            })?;
            (source.clone(), result)
        }
        Some(nested) => {
            let reason = format!("a column of type {nested} cannot be partitioned by");
            return Err(bad(reason, "partition by a column of a plain type"));
        }
    };
    Ok(BoundField {
        field_id,
        name: field.name.clone(),
        transform: field.transform.clone(),
        source_id: field.source_id,
        source,
        result,
    })
}

/// The folder of a partition below the table's data folder: `day=2024-01-05/country=PE`, empty
/// without partitions.
pub fn folder(fields: &[BoundField], values: &[Option<Datum>]) -> String {
    let mut folder = String::new();
    for (field, value) in fields.iter().zip(values) {
        if !folder.is_empty() {
            folder.push('/');
        }
        let text = field.transform.text(value.as_ref(), &field.source);
        folder.push_str(&form_encoded(&field.name));
        folder.push('=');
        folder.push_str(&form_encoded(&text));
    }
    folder
}

/// As forms of web pages are sent: what other engines use in these names.
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => write!(encoded, "%{byte:02X}").expect("a text takes every write"),
        }
    }
    encoded
}

/// Equal for the same partition only.
pub fn key(values: &[Option<Datum>]) -> Vec<u8> {
    let mut key = Vec::new();
    for value in values {
        let bytes = value.as_ref().map(Datum::key);
        key.push(u8::from(bytes.is_some()));
        let bytes = bytes.unwrap_or_default();
        key.extend((bytes.len() as u64).to_be_bytes());
        key.extend(bytes);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::super::types::Field;
    use super::*;

    fn schema() -> Schema {
        let field = |id, name, primitive| Field::new(id, name, false, Type::Primitive(primitive));
        Schema::new(vec![
            field(1, "at", Primitive::Timestamptz),
            field(2, "country", Primitive::String),
            Field::new(
                3,
                "tags",
                false,
                Type::List {
                    element: Box::new(field(4, "element", Primitive::String)),
                },
            ),
        ])
    }

    fn spec(fields: &[(i32, &str, &str)]) -> PartitionSpec {
        let fields = fields
            .iter()
            .map(|(source_id, name, transform)| PartitionField {
                source_id: *source_id,
                field_id: None,
                name: (*name).to_owned(),
                transform: Transform::parse(transform),
            });
        PartitionSpec {
            spec_id: 0,
            fields: fields.collect(),
        }
    }

    #[test]
    fn a_folder_is_named_by_transformed_values() {
        let fields = spec(&[(1, "at_day", "day"), (2, "country", "identity")]);
        let fields = fields.bind(&schema()).unwrap();
        let values = [
            Some(Datum::Int(19_727)),
            Some(Datum::Text("a b/c=é".into())),
        ];
        assert_eq!(
            folder(&fields, &values),
            "at_day=2024-01-05/country=a+b%2Fc%3D%C3%A9"
        );
        assert_eq!(folder(&fields, &[None, None]), "at_day=null/country=null");
    }

    #[test]
    fn a_field_that_cannot_be_bound_is_named() {
        let bad = |fields| spec(fields).bind(&schema()).unwrap_err();
        assert_eq!(bad(&[(9, "gone", "identity")]).field, "gone");
        assert!(
            bad(&[(2, "c", "day")])
                .to_string()
                .contains("day does not take string")
        );
        assert!(
            bad(&[(3, "t", "identity")])
                .to_string()
                .contains("list<string>")
        );
        assert!(bad(&[(1, "z", "zorder")]).to_string().contains("zorder"));
        assert!(spec(&[(9, "gone", "void")]).bind(&schema()).is_ok());
    }

    #[test]
    fn keys_differ_where_values_differ() {
        let text = |text: &str| Some(Datum::Text(text.into()));
        assert_ne!(key(&[text("a"), text("bc")]), key(&[text("ab"), text("c")]));
        assert_ne!(key(&[None]), key(&[text("")]));
        assert_eq!(key(&[text("a")]), key(&[text("a")]));
    }
}
