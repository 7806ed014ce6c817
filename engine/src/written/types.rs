//! The type of a written column.
//!
//! Rule: a written type is one of Hive's, and reads back the same in Spark, Trino and DuckDB. What
//! has no such type is refused.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;
use streamctl_proto::spec::SinkFormat;

/// Most digits of a decimal in Hive and Spark.
const DIGITS_MAX: u8 = 38;

/// What rows are written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Files(SinkFormat),
    /// Parquet files of a table, whose format has a type for the time of a day.
    Table,
}

/// Why a type cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// No reader has such a type.
    NoType,
    /// A text format has no form for lists, structs and maps.
    Nested,
    /// More than [`DIGITS_MAX`] digits.
    Digits,
    /// There is no value in it, and so no type.
    Null,
}

impl Unwritable {
    /// What to write into the query instead.
    pub fn hint(self, column: &str) -> String {
        let to = match self {
            Self::Nested => return format!("write to_json({column}) AS {column}, or leave it out"),
            Self::NoType | Self::Null => "VARCHAR",
            Self::Digits => "DECIMAL(38, 10)",
        };
        format!("cast it: CAST({column} AS {to}), or leave it out")
    }
}

/// The type that a column of the result has in files.
///
/// | result | file |
/// | --- | --- |
/// | `UInt8`, `UInt16`, `UInt32` | the next larger signed type |
/// | `UInt64` | `Int64`; a row with a larger value is refused |
/// | `Float16` | `Float32` |
/// | timestamps of every unit | microseconds |
/// | `Date64` | `Date32` |
/// | durations | `Int64`, microseconds |
/// | `Time32`, `Time64` | text; in a table microseconds |
/// | views, large types, dictionaries | the plain type of their values |
///
/// # Errors
/// There is none.
pub(super) fn written(data_type: &DataType, target: Target) -> Result<DataType, Unwritable> {
    use DataType::*;
    let inner = |field: &Arc<Field>| -> Result<Arc<Field>, Unwritable> {
        let data_type = written(field.data_type(), target)?;
        Ok(Arc::new(Field::new(field.name(), data_type, true)))
    };
    Ok(match data_type {
        Null => return Err(Unwritable::Null),
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Date32 => data_type.clone(),
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 | UInt64 | Duration(_) => Int64,
        Float16 => Float32,
        Date64 => Date32,
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Time32(_) | Time64(_) if target == Target::Table => Time64(TimeUnit::Microsecond),
        Utf8 | LargeUtf8 | Utf8View | Time32(_) | Time64(_) => Utf8,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Decimal32(digits, scale)
        | Decimal64(digits, scale)
        | Decimal128(digits, scale)
        | Decimal256(digits, scale) => decimal(*digits, *scale)?,
        Dictionary(_, value) => written(value, target)?,
        RunEndEncoded(_, values) => written(values.data_type(), target)?,
        List(_) | LargeList(_) | ListView(_) | LargeListView(_) | FixedSizeList(..) | Struct(_)
        | Map(..)
            if target == Target::Files(SinkFormat::Csv) =>
        {
            return Err(Unwritable::Nested);
        }
        List(item)
        | LargeList(item)
        | ListView(item)
        | LargeListView(item)
        | FixedSizeList(item, _) => List(inner(item)?),
        Struct(fields) => Struct(fields.iter().map(inner).collect::<Result<Fields, _>>()?),
        Map(entries, _) => map(entries, target)?,
        Interval(_) | Union(..) => return Err(Unwritable::NoType),
    })
}

/// JSON has no keys but texts.
fn map(entries: &Arc<Field>, target: Target) -> Result<DataType, Unwritable> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Unwritable::NoType);
    };
    let [key, value] = fields.as_ref() else {
        return Err(Unwritable::NoType);
    };
    let key_type = match target {
        Target::Files(SinkFormat::Json) => DataType::Utf8,
        Target::Files(SinkFormat::Parquet | SinkFormat::Csv) | Target::Table => {
            written(key.data_type(), target)?
        }
    };
    let value_type = written(value.data_type(), target)?;
    let fields = vec![
        Field::new(key.name(), key_type, false),
        Field::new(value.name(), value_type, true),
    ];
    let entries = Field::new(entries.name(), DataType::Struct(fields.into()), false);
    Ok(DataType::Map(Arc::new(entries), false))
}

/// A decimal of Hive: at most 38 digits, a scale from 0.
fn decimal(digits: u8, scale: i8) -> Result<DataType, Unwritable> {
    let digits = match scale {
        ..0 => digits.saturating_add(scale.unsigned_abs()),
        _ => digits.max(scale.unsigned_abs()),
    };
    if digits > DIGITS_MAX {
        return Err(Unwritable::Digits);
    }
    Ok(DataType::Decimal128(digits, scale.max(0)))
}

/// For jobs that write Arrow's types: what its own writers cannot write.
pub(super) fn without_form(data_type: &DataType, format: SinkFormat) -> Option<Unwritable> {
    match data_type {
        DataType::Interval(_) | DataType::Union(..) => Some(Unwritable::NoType),
        nested if nested.is_nested() && format == SinkFormat::Csv => Some(Unwritable::Nested),
        _ => None,
    }
}

/// Whether values of the first type may have none in the second.
pub(super) fn may_lose(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (UInt64, Int64) | (Decimal256(..), _) | (Date64, _) => true,
        (
            Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _)
            | Duration(TimeUnit::Second | TimeUnit::Millisecond),
            _,
        ) => true,
        (Dictionary(_, value), to) => may_lose(value, to),
        (RunEndEncoded(_, values), to) => may_lose(values.data_type(), to),
        (
            List(from)
            | LargeList(from)
            | ListView(from)
            | LargeListView(from)
            | FixedSizeList(from, _)
            | Map(from, _),
            List(to) | Map(to, _),
        ) => may_lose(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => from
            .iter()
            .zip(to)
            .any(|(from, to)| may_lose(from.data_type(), to.data_type())),
        _ => false,
    }
}
