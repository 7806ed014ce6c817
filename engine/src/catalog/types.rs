//! Hive types as Arrow types.
//!
//! Rule: all columns and fields may be null, and their names are lower-case, as the catalog compares
//! them. An array, a map or a struct is one, or a text column with its JSON ([`NestedColumns`]). The
//! length of a `char` or `varchar` changes nothing: a text is what its producer wrote, neither cut
//! nor padded.

use super::CatalogError;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use std::collections::BTreeSet;
use std::sync::Arc;
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{HiveField, HiveType};

/// The rows' schema.
///
/// # Errors
/// [`CatalogError::UnknownType`], [`CatalogError::DuplicateColumn`], [`CatalogError::NoColumns`].
pub fn arrow_schema(
    columns: &[ColumnType],
    nested: NestedColumns,
) -> Result<SchemaRef, CatalogError> {
    if columns.is_empty() {
        return Err(CatalogError::NoColumns("there are no columns".into()));
    }
    let mut seen = BTreeSet::new();
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.name.trim().to_lowercase();
        if name.is_empty() {
            return Err(CatalogError::NoColumns(format!(
                "column {} has no name",
                fields.len() + 1
            )));
        }
        if !seen.insert(name.clone()) {
            return Err(CatalogError::DuplicateColumn { name });
        }
        let unknown = || CatalogError::UnknownType {
            column: column.name.clone(),
            type_name: column.type_name.clone(),
        };
        fields.push(Field::new(
            name,
            data_type(&column.type_name, nested).ok_or_else(unknown)?,
            true,
        ));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// What a value of the type becomes; `None`: the text is not a type.
fn data_type(type_name: &str, nested: NestedColumns) -> Option<DataType> {
    if nested == NestedColumns::Text && HiveType::is_nested(type_name) {
        return Some(DataType::Utf8);
    }
    arrow_type(&HiveType::parse(type_name).ok()?)
}

fn arrow_type(hive_type: &HiveType) -> Option<DataType> {
    let data_type = match hive_type {
        HiveType::String | HiveType::Varchar(_) | HiveType::Char(_) => DataType::Utf8,
        HiveType::Boolean => DataType::Boolean,
        HiveType::TinyInt => DataType::Int8,
        HiveType::SmallInt => DataType::Int16,
        HiveType::Int => DataType::Int32,
        HiveType::BigInt => DataType::Int64,
        HiveType::Float => DataType::Float32,
        HiveType::Double => DataType::Float64,
        HiveType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).ok()?)
        }
        HiveType::Date => DataType::Date32,
        HiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        HiveType::Binary => DataType::Binary,
        HiveType::Array(item) => {
            DataType::List(Arc::new(Field::new_list_field(arrow_type(item)?, true)))
        }
        HiveType::Map(key, value) => {
            // The names that the planner's own maps have.
            let entries = vec![
                Field::new("key", arrow_type(key)?, false),
                Field::new("value", arrow_type(value)?, true),
            ];
            let entries = Field::new("entries", DataType::Struct(entries.into()), false);
            DataType::Map(Arc::new(entries), false)
        }
        HiveType::Struct(fields) => {
            let field = |field: &HiveField| {
                Some(Field::new(&field.name, arrow_type(&field.hive_type)?, true))
            };
            DataType::Struct(fields.iter().map(field).collect::<Option<Fields>>()?)
        }
    };
    Some(data_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_name: &str) -> ColumnType {
        ColumnType {
            name: name.into(),
            type_name: type_name.into(),
        }
    }

    #[test]
    fn every_hive_type_has_its_arrow_type() {
        let expected = [
            ("string", DataType::Utf8),
            ("varchar(20)", DataType::Utf8),
            ("CHAR(3)", DataType::Utf8),
            ("boolean", DataType::Boolean),
            ("tinyint", DataType::Int8),
            ("smallint", DataType::Int16),
            ("int", DataType::Int32),
            ("Integer", DataType::Int32),
            ("bigint", DataType::Int64),
            ("float", DataType::Float32),
            ("real", DataType::Float32),
            ("double", DataType::Float64),
            ("decimal", DataType::Decimal128(10, 0)),
            ("decimal(12)", DataType::Decimal128(12, 0)),
            (" decimal( 10 , 2 ) ", DataType::Decimal128(10, 2)),
            ("date", DataType::Date32),
            (
                "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ),
            ("binary", DataType::Binary),
        ];
        for (hive, arrow) in expected {
            for nested in [NestedColumns::Text, NestedColumns::Typed] {
                let schema = arrow_schema(&[column("C", hive)], nested).unwrap();
                let expected = Field::new("c", arrow.clone(), true);
                assert_eq!(schema.field(0), &expected, "{hive}");
            }
        }
    }

    #[test]
    fn p17_nested_types_are_lists_maps_and_structs_or_texts_in_earlier_jobs() {
        let list = |item| DataType::new_list(item, true);
        let pair = vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", list(DataType::Decimal128(3, 1)), true),
        ];
        let entries = vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Int32, true),
        ];
        let entries = Field::new("entries", DataType::Struct(entries.into()), false);
        for (hive, arrow) in [
            ("array<string>", list(DataType::Utf8)),
            ("map<string,int>", DataType::Map(Arc::new(entries), false)),
            (
                "struct<A:int,b:array<decimal(3,1)>>",
                DataType::Struct(pair.into()),
            ),
        ] {
            let typed = arrow_schema(&[column("C", hive)], NestedColumns::Typed).unwrap();
            assert_eq!(typed.field(0), &Field::new("c", arrow, true), "{hive}");
            let text = arrow_schema(&[column("C", hive)], NestedColumns::Text).unwrap();
            assert_eq!(text.field(0), &Field::new("c", DataType::Utf8, true));
        }
        // An earlier build did not look inside.
        let odd = [column("c", "struct<anything>")];
        assert!(arrow_schema(&odd, NestedColumns::Text).is_ok());
        let error = arrow_schema(&odd, NestedColumns::Typed).unwrap_err();
        assert!(
            error.hint().unwrap().contains("a colon and a type"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_type_is_refused_with_its_column() {
        for bad in [
            "",
            "strng",
            "decimal(39,1)",
            "decimal(3,4)",
            "decimal(a)",
            "array",
            "int(3)",
            "varchar(x)",
            "timestamp with time zone",
        ] {
            let error = arrow_schema(
                &[column("a", "int"), column("Price", bad)],
                NestedColumns::Typed,
            )
            .unwrap_err();
            assert!(error.to_string().contains("Price"), "{bad}: {error}");
        }
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused() {
        let error = arrow_schema(
            &[column("Uuid", "int"), column("uuid", "int")],
            NestedColumns::Typed,
        )
        .unwrap_err();
        assert!(
            matches!(error, CatalogError::DuplicateColumn { ref name } if name == "uuid"),
            "{error}"
        );
        for columns in [&[][..], &[column(" ", "int")]] {
            assert!(arrow_schema(columns, NestedColumns::Typed).is_err());
        }
    }
}
