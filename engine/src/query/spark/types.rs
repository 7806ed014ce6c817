//! The types of Spark SQL, and which type two values have together.
//!
//! Owns: names of types, common types. Does not own: conversions (`cast`).
//! Rule: as Spark 3.5 does with ANSI off; `None` where Spark refuses, or where this is not known.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};

pub(super) const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Most digits of a decimal.
pub(super) const DIGITS_MAX: u8 = 38;

/// The type in which values of this type are computed: one for each type of Spark.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(..) => TIME,
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

/// Spark's name of a type.
pub(super) fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "void".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(digits, scale) => format!("decimal({digits},{scale})"),
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::List(element) => format!("array<{}>", name(element.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types: Vec<String> = fields.iter().map(|one| name(one.data_type())).collect();
                format!("map<{}>", types.join(","))
            }
            _ => "map".into(),
        },
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| format!("{}:{}", field.name(), name(field.data_type()));
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("struct<{}>", fields.join(","))
        }
        other => other.to_string(),
    }
}

/// The type of this name; `None` if it is none of those that are supported.
pub(super) fn named(text: &str) -> Option<DataType> {
    let text = text.to_lowercase();
    let (base, inner) = match text.split_once('(') {
        Some((base, rest)) => (base.trim(), Some(rest.strip_suffix(')')?)),
        None => (text.trim(), None),
    };
    if let "decimal" | "dec" | "numeric" = base {
        let Some(inner) = inner else {
            return Some(DataType::Decimal128(10, 0));
        };
        let (digits, scale) = inner.split_once(',').unwrap_or((inner, "0"));
        let digits: u8 = digits.trim().parse().ok()?;
        let scale: i8 = scale.trim().parse().ok()?;
        let is_valid = (1..=DIGITS_MAX).contains(&digits) && scale >= 0 && scale <= digits as i8;
        return is_valid.then_some(DataType::Decimal128(digits, scale));
    }
    if inner.is_some() {
        return None;
    }
    Some(match base {
        "boolean" | "bool" => DataType::Boolean,
        "tinyint" | "byte" => DataType::Int8,
        "smallint" | "short" => DataType::Int16,
        "int" | "integer" => DataType::Int32,
        "bigint" | "long" => DataType::Int64,
        "float" | "real" => DataType::Float32,
        "double" | "double precision" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => TIME,
        _ => return None,
    })
}

pub(super) fn is_whole(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64
    )
}

pub(super) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

pub(super) fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

pub(super) fn is_number(data_type: &DataType) -> bool {
    is_whole(data_type) || is_float(data_type) || is_decimal(data_type)
}

pub(super) fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32) || *data_type == TIME
}

/// A value that is no list and no structure.
pub(super) fn is_atomic(data_type: &DataType) -> bool {
    is_number(data_type)
        || is_time(data_type)
        || matches!(
            data_type,
            DataType::Null | DataType::Boolean | DataType::Utf8
        )
}

/// The digits and the scale of a decimal that holds every number of a whole type.
pub(super) fn decimal_of(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((20, 0)),
        DataType::Decimal128(digits, scale) => Some((*digits, *scale)),
        _ => None,
    }
}

/// A decimal with these digits, cut to the most digits there are.
fn bounded(digits: u8, scale: i8) -> DataType {
    DataType::Decimal128(digits.min(DIGITS_MAX), scale.min(DIGITS_MAX as i8))
}

/// The common type of two numbers.
pub(super) fn of_numbers(left: &DataType, right: &DataType) -> Option<DataType> {
    const ORDER: [DataType; 6] = [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
    ];
    let place = |data_type: &DataType| ORDER.iter().position(|other| other == data_type);
    if let (Some(left), Some(right)) = (place(left), place(right)) {
        return Some(ORDER[left.max(right)].clone());
    }
    if is_float(left) || is_float(right) {
        return (is_number(left) && is_number(right)).then_some(DataType::Float64);
    }
    let (left_digits, left_scale) = decimal_of(left)?;
    let (right_digits, right_scale) = decimal_of(right)?;
    let scale = left_scale.max(right_scale);
    let whole = (left_digits as i8 - left_scale).max(right_digits as i8 - right_scale);
    Some(bounded((whole + scale) as u8, scale))
}

/// The type in which two values are compared.
pub(super) fn compared(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (DataType::Utf8, DataType::Decimal128(..)) | (DataType::Decimal128(..), DataType::Utf8) => {
            Some(DataType::Float64)
        }
        (DataType::Utf8, other) | (other, DataType::Utf8)
            if is_number(other) || is_time(other) || *other == DataType::Boolean =>
        {
            Some(other.clone())
        }
        (left, right) if is_time(left) && is_time(right) => Some(TIME),
        (left, right) => of_numbers(left, right),
    }
}

/// The type of a value that is one or the other: the branches of CASE, the values of IN.
pub(super) fn either(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (DataType::Utf8, other) | (other, DataType::Utf8) if is_number(other) || is_time(other) => {
            Some(DataType::Utf8)
        }
        (left, right) if is_time(left) && is_time(right) => Some(TIME),
        (left, right) => of_numbers(left, right),
    }
}

/// The type of a value that is any of these. Text counts first, as in Spark.
pub(super) fn any<'t>(types: impl Iterator<Item = &'t DataType> + Clone) -> Option<DataType> {
    let texts = types.clone().filter(|one| **one == DataType::Utf8);
    let others = types.filter(|one| **one != DataType::Utf8);
    let mut ordered = texts.chain(others);
    let first = ordered.next()?.clone();
    ordered.try_fold(first, |common, next| either(&common, next))
}
