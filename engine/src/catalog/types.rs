//! Hive types as Arrow types.
//!
//! Rule: all columns may be null, and their names are lower-case, as the catalog compares them. An
//! array, a map or a struct is a text column with its JSON: rows that are passed on do not need
//! `get_field` and similar functions. The length of a `char` or `varchar` changes nothing: a text is
//! what its producer wrote, neither cut nor padded.

use super::CatalogError;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::collections::BTreeSet;
use std::sync::Arc;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::HiveType;

/// The rows' schema.
///
/// # Errors
/// [`CatalogError::UnknownType`], [`CatalogError::DuplicateColumn`], [`CatalogError::NoColumns`].
pub fn arrow_schema(columns: &[ColumnType]) -> Result<SchemaRef, CatalogError> {
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
            data_type(&column.type_name).ok_or_else(unknown)?,
            true,
        ));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// What a value of the type becomes; `None`: the text is not a type.
fn data_type(type_name: &str) -> Option<DataType> {
    let data_type = match HiveType::parse(type_name).ok()? {
        HiveType::String | HiveType::Varchar(_) | HiveType::Char(_) | HiveType::Nested => {
            DataType::Utf8
        }
        HiveType::Boolean => DataType::Boolean,
        HiveType::TinyInt => DataType::Int8,
        HiveType::SmallInt => DataType::Int16,
        HiveType::Int => DataType::Int32,
        HiveType::BigInt => DataType::Int64,
        HiveType::Float => DataType::Float32,
        HiveType::Double => DataType::Float64,
        HiveType::Decimal { precision, scale } => {
            DataType::Decimal128(precision, i8::try_from(scale).ok()?)
        }
        HiveType::Date => DataType::Date32,
        HiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        HiveType::Binary => DataType::Binary,
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
            ("array<string>", DataType::Utf8),
            ("map<string,int>", DataType::Utf8),
            ("struct<a:int,b:array<decimal(3,1)>>", DataType::Utf8),
        ];
        for (hive, arrow) in expected {
            let schema = arrow_schema(&[column("C", hive)]).unwrap();
            assert_eq!(schema.field(0), &Field::new("c", arrow, true), "{hive}");
        }
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
            let error = arrow_schema(&[column("a", "int"), column("Price", bad)]).unwrap_err();
            assert!(error.to_string().contains("Price"), "{bad}: {error}");
        }
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused() {
        let error = arrow_schema(&[column("Uuid", "int"), column("uuid", "int")]).unwrap_err();
        assert!(
            matches!(error, CatalogError::DuplicateColumn { ref name } if name == "uuid"),
            "{error}"
        );
        assert!(arrow_schema(&[]).is_err() && arrow_schema(&[column(" ", "int")]).is_err());
    }
}
