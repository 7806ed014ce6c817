//! The type that a written column has in a table of the Data Catalog.
//!
//! Rule: what a table declares is what its SerDe reads from the file.

use super::TextForm;
use arrow::datatypes::{DataType, Field};
use streamctl_proto::spec::{HiveField, HiveType, SinkFormat, TimestampFormat};

/// Why a written column has no type in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoColumn {
    /// The SerDes read another text of a timestamp.
    IsoTimestamp,
    /// A type that no table has.
    Type,
}

impl NoColumn {
    /// What to write instead.
    pub fn hint(self, column: &str) -> String {
        match self {
            Self::IsoTimestamp => format!(
                "add timestamp_format = \"hive\" to [sink], which the SerDes of Hive and Athena \
                 read; or write CAST({column} AS VARCHAR)"
            ),
            Self::Type => format!("cast it: CAST({column} AS VARCHAR), or leave it out"),
        }
    }
}

/// The type of a column of the files.
///
/// # Errors
/// There is none that a reader of the table could read.
pub fn table_type(
    data_type: &DataType,
    format: SinkFormat,
    form: TextForm,
) -> Result<HiveType, NoColumn> {
    match format {
        SinkFormat::Parquet => of_type(data_type, None),
        SinkFormat::Json => of_type(data_type, Some(form)),
        // OpenCSVSerde reads other types only from some of their texts, and none from an empty one.
        SinkFormat::Csv => Ok(HiveType::String),
    }
}

/// `text`: the file holds texts, in this form.
fn of_type(data_type: &DataType, text: Option<TextForm>) -> Result<HiveType, NoColumn> {
    let inner = |field: &Field| of_type(field.data_type(), text).map(Box::new);
    Ok(match data_type {
        DataType::Boolean => HiveType::Boolean,
        DataType::Int8 => HiveType::TinyInt,
        DataType::Int16 => HiveType::SmallInt,
        DataType::Int32 => HiveType::Int,
        DataType::Int64 => HiveType::BigInt,
        DataType::Float32 => HiveType::Float,
        DataType::Float64 => HiveType::Double,
        DataType::Date32 => HiveType::Date,
        DataType::Utf8 => HiveType::String,
        DataType::Binary => match text {
            None => HiveType::Binary,
            // The text is base64.
            Some(_) => HiveType::String,
        },
        DataType::Timestamp(..) => match text {
            Some(TextForm {
                timestamps: TimestampFormat::Iso,
                ..
            }) => return Err(NoColumn::IsoTimestamp),
            Some(_) | None => HiveType::Timestamp,
        },
        DataType::Decimal128(precision, scale) => HiveType::Decimal {
            precision: *precision,
            scale: u8::try_from(*scale).map_err(|_| NoColumn::Type)?,
        },
        DataType::List(item) => HiveType::Array(inner(item)?),
        DataType::Struct(fields) => {
            let field = |field: &std::sync::Arc<Field>| {
                Ok(HiveField {
                    name: field.name().to_lowercase(),
                    hive_type: of_type(field.data_type(), text)?,
                })
            };
            HiveType::Struct(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => match fields.as_ref() {
                [key, value] => HiveType::Map(inner(key)?, inner(value)?),
                _ => return Err(NoColumn::Type),
            },
            _ => return Err(NoColumn::Type),
        },
        _ => return Err(NoColumn::Type),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Fields, TimeUnit};
    use std::sync::Arc;

    fn named(data_type: &DataType, format: SinkFormat) -> String {
        match table_type(data_type, format, TextForm::default()) {
            Ok(hive) => {
                // What the table states is a type of the catalog.
                assert_eq!(HiveType::parse(&hive.to_string()).unwrap(), hive);
                hive.to_string()
            }
            Err(reason) => format!("{reason:?}"),
        }
    }

    #[test]
    fn each_format_has_the_types_that_its_serde_reads() {
        let at = DataType::Timestamp(TimeUnit::Microsecond, None);
        let list = DataType::List(Arc::new(Field::new("item", DataType::Binary, true)));
        let fields: Fields = vec![
            Field::new("A", DataType::Int32, true),
            Field::new("b", list.clone(), true),
        ]
        .into();
        let entries: Fields = vec![
            Field::new("keys", DataType::Utf8, false),
            Field::new("values", DataType::Decimal128(10, 2), true),
        ]
        .into();
        let entries = Field::new("entries", DataType::Struct(entries), false);
        for (data_type, parquet, json) in [
            (DataType::Int64, "bigint", "bigint"),
            (DataType::Binary, "binary", "string"),
            (DataType::Date32, "date", "date"),
            (at, "timestamp", "IsoTimestamp"),
            (list, "array<binary>", "array<string>"),
            (
                DataType::Struct(fields),
                "struct<a:int,b:array<binary>>",
                "struct<a:int,b:array<string>>",
            ),
            (
                DataType::Map(Arc::new(entries), false),
                "map<string,decimal(10,2)>",
                "map<string,decimal(10,2)>",
            ),
            (DataType::UInt64, "Type", "Type"),
        ] {
            assert_eq!(named(&data_type, SinkFormat::Parquet), parquet);
            assert_eq!(named(&data_type, SinkFormat::Json), json);
            assert_eq!(named(&data_type, SinkFormat::Csv), "string");
        }
    }
}
