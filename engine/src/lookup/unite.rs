//! One schema for all files of a lookup.
//!
//! Rule: columns belong together by name. A type becomes a larger one of its family if both have a
//! place in it; otherwise the lookup is refused with both types and both files.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// Most digits of the decimals that queries compute with.
const DIGITS_MAX: u8 = 38;

/// Two files that are not one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    pub column: String,
    pub first: (String, DataType),
    pub second: (String, DataType),
}

/// The columns of all files, given with their names: those of the first in its order, then those
/// that others add.
pub(super) fn unite<'f>(
    files: impl IntoIterator<Item = (&'f str, SchemaRef)>,
) -> Result<SchemaRef, Clash> {
    // With the file that gave the type.
    let mut columns: Vec<(String, DataType, &str)> = vec![];
    for (file, schema) in files {
        for field in schema.fields() {
            let known = columns.iter_mut().find(|(name, ..)| name == field.name());
            let Some((name, data_type, first)) = known else {
                columns.push((field.name().clone(), field.data_type().clone(), file));
                continue;
            };
            let Some(both) = wider(data_type, field.data_type()) else {
                return Err(Clash {
                    column: name.clone(),
                    first: ((*first).to_owned(), data_type.clone()),
                    second: (file.to_owned(), field.data_type().clone()),
                });
            };
            if both != *data_type {
                (*data_type, *first) = (both, file);
            }
        }
    }
    let field = |(name, data_type, _): (String, DataType, &str)| {
        // A column without a single value has no type of its own.
        let data_type = match data_type {
            DataType::Null => DataType::Utf8,
            other => other,
        };
        Field::new(name, data_type, true)
    };
    let fields: Vec<_> = columns.into_iter().map(field).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The type in which a query sees a column: text is text, however a tool stores it.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => plain(value),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other.clone(),
    }
}

/// A type that has a place for all values of both.
fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Float16 | Float32 | Float64, Float16 | Float32 | Float64) => {
            let double = matches!(a, Float64) || matches!(b, Float64);
            Some(if double { Float64 } else { Float32 })
        }
        (Decimal128(p, s), Decimal128(q, t)) => decimal((*p, *s), (*q, *t)),
        (Timestamp(u, zone), Timestamp(v, other)) if zone == other => {
            Some(Timestamp(finer(*u, *v), zone.clone()))
        }
        _ => integer(a, b),
    }
}

fn integer(a: &DataType, b: &DataType) -> Option<DataType> {
    let (signed_a, bits_a) = bits(a)?;
    let (signed_b, bits_b) = bits(b)?;
    let needed = |signed: bool, bits: u8, other_signed: bool| match !signed && other_signed {
        true => bits.saturating_mul(2),
        false => bits,
    };
    let bits = needed(signed_a, bits_a, signed_b).max(needed(signed_b, bits_b, signed_a));
    Some(match (signed_a || signed_b, bits) {
        (true, 8) => DataType::Int8,
        (true, 16) => DataType::Int16,
        (true, 32) => DataType::Int32,
        (true, 64) => DataType::Int64,
        (false, 8) => DataType::UInt8,
        (false, 16) => DataType::UInt16,
        (false, 32) => DataType::UInt32,
        (false, 64) => DataType::UInt64,
        _ => return None,
    })
}

/// Whether it has a sign, and its bits.
fn bits(data_type: &DataType) -> Option<(bool, u8)> {
    Some(match data_type {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    })
}

fn decimal((p, s): (u8, i8), (q, t): (u8, i8)) -> Option<DataType> {
    let scale = s.max(t);
    let whole = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
    let digits = u8::try_from(whole + i16::from(scale)).ok()?;
    (digits <= DIGITS_MAX).then_some(DataType::Decimal128(digits, scale))
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |unit: TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p23_types_of_one_family_become_the_larger_one_and_others_do_not() {
        use DataType::*;
        let cases = [
            (Int32, Int64, Some(Int64)),
            (UInt32, Int8, Some(Int64)),
            (UInt8, UInt16, Some(UInt16)),
            (UInt64, Int64, None),
            (Float32, Float64, Some(Float64)),
            (Null, Utf8, Some(Utf8)),
            (
                Decimal128(10, 2),
                Decimal128(12, 4),
                Some(Decimal128(12, 4)),
            ),
            (Decimal128(38, 0), Decimal128(38, 4), None),
            (
                Timestamp(TimeUnit::Millisecond, None),
                Timestamp(TimeUnit::Nanosecond, None),
                Some(Timestamp(TimeUnit::Nanosecond, None)),
            ),
            (
                Timestamp(TimeUnit::Second, None),
                Timestamp(TimeUnit::Second, Some("UTC".into())),
                None,
            ),
            (Int64, Float64, None),
            (Utf8, Int64, None),
            (Date32, Timestamp(TimeUnit::Second, None), None),
        ];
        for (a, b, both) in cases {
            assert_eq!(wider(&a, &b), both, "{a} and {b}");
            assert_eq!(wider(&b, &a), both, "{b} and {a}");
        }
    }
}
