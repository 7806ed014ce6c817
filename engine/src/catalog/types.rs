//! Hive types as Arrow types.
//!
//! Rule: all columns may be null, and their names are lower-case, as the catalog compares them. An
//! array, a map or a struct is a text column with its JSON: rows that are passed on do not need
//! `get_field` and similar functions.

use super::CatalogError;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::collections::BTreeSet;
use std::sync::Arc;
use streamctl_proto::resolved::ColumnType;

/// Digits that a decimal may have.
const DECIMAL_DIGITS_MAX: u8 = 38;

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

fn data_type(type_name: &str) -> Option<DataType> {
    let text = type_name.trim().to_lowercase();
    let (base, arguments) = match text.find(['(', '<']) {
        Some(at) => (text[..at].trim_end(), Some(&text[at..])),
        None => (text.as_str(), None),
    };
    match (base, arguments) {
        ("string", None) => Some(DataType::Utf8),
        ("char" | "varchar", None) => Some(DataType::Utf8),
        ("char" | "varchar", Some(length)) => in_brackets(length)?
            .parse::<u32>()
            .ok()
            .map(|_| DataType::Utf8),
        ("boolean", None) => Some(DataType::Boolean),
        ("tinyint", None) => Some(DataType::Int8),
        ("smallint", None) => Some(DataType::Int16),
        ("int" | "integer", None) => Some(DataType::Int32),
        ("bigint", None) => Some(DataType::Int64),
        ("float", None) => Some(DataType::Float32),
        ("double", None) => Some(DataType::Float64),
        ("decimal", None) => Some(DataType::Decimal128(10, 0)),
        ("decimal", Some(arguments)) => decimal(in_brackets(arguments)?),
        ("date", None) => Some(DataType::Date32),
        ("timestamp", None) => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("binary", None) => Some(DataType::Binary),
        ("array" | "map" | "struct", Some(inner))
            if inner.starts_with('<') && inner.ends_with('>') =>
        {
            Some(DataType::Utf8)
        }
        _ => None,
    }
}

fn in_brackets(arguments: &str) -> Option<&str> {
    arguments
        .strip_prefix('(')?
        .strip_suffix(')')
        .map(str::trim)
}

fn decimal(arguments: &str) -> Option<DataType> {
    let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: i8 = scale.trim().parse().ok()?;
    let good = (1..=DECIMAL_DIGITS_MAX).contains(&precision)
        && scale >= 0
        && scale.unsigned_abs() <= precision;
    good.then_some(DataType::Decimal128(precision, scale))
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
