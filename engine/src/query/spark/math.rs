//! Functions on numbers.
//!
//! Owns: rounding, and the functions whose results Java's `Math` gives to the last bit. Does not
//! own: operators (`arithmetic`).
//! Rule: a function of which other machines give other last digits is not here.

use super::call::{Given, Refusal, Rows};
use super::fdlibm;
use super::number::{Half, divided, power, rounded, wide_power};
use super::types::{self, is_decimal, is_float};
use super::value::Value;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, i256};
use datafusion::common::Result;

pub(super) fn abs(rows: &Rows<'_>) -> Result<ArrayRef> {
    match rows.gives {
        DataType::Decimal128(..) => rows.decimals(|row| match row.value(0)? {
            Value::Decimal(value, _) => Some(value.abs()),
            _ => None,
        }),
        gives if is_float(gives) => {
            rows.values(|row| row.double(0).map(|value| Value::Double(value.abs())))
        }
        _ => rows.values(|row| row.long(0).map(|value| Value::Whole(value.wrapping_abs()))),
    }
}

pub(super) fn sign(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| {
        let value = row.double(0)?;
        Some(if value == 0.0 || value.is_nan() {
            value
        } else {
            value.signum()
        })
    })
}

/// `round(x, digits)`: the digits are a text, so that they are known at submit.
fn places(given: &Given<'_>) -> Result<i32, Refusal> {
    match given.constant_text(1)? {
        Some(text) => text.parse().map_err(|_| {
            given.refuse(
                "needs a number of digits that is written in the query",
                "write 2",
            )
        }),
        None => Ok(0),
    }
}

pub(super) fn round_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let places = places(given)?;
    Ok(match given.kind(0) {
        DataType::Decimal128(digits, scale) => {
            let digits = i32::from(*digits);
            let scale = i32::from(*scale);
            let whole = digits - scale + 1;
            if places < 0 {
                DataType::Decimal128(whole.max(-places + 1).min(38) as u8, 0)
            } else {
                let scale = scale.min(places);
                DataType::Decimal128((whole + scale).min(38) as u8, scale as i8)
            }
        }
        DataType::Utf8 | DataType::Null => DataType::Float64,
        other => other.clone(),
    })
}

fn round_with(rows: &Rows<'_>, half: Half) -> Result<ArrayRef> {
    let places: i32 = rows
        .constant_text(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    match rows.gives {
        DataType::Decimal128(digits, to) => rows.decimals(|row| {
            let Value::Decimal(value, scale) = row.value(0)? else {
                return None;
            };
            let cut = i32::from(scale) - places;
            let value = if cut > 0 {
                let unit = wide_power(cut as u32)?;
                divided(i256::from_i128(value), unit, half)?.to_i128()?
            } else {
                value
            };
            // Digits before the point that were cut are zeros.
            let zeros = match (cut > 0, places < 0) {
                (true, true) => i128::from(10).checked_pow(places.unsigned_abs())?,
                (true, false) => 1,
                (false, _) => power(*to) / power(scale).min(power(*to)),
            };
            let value = value.checked_mul(zeros)?;
            super::number::fits(value, *digits).then_some(value)
        }),
        gives if is_float(gives) => rows.values(|row| match row.value(0)? {
            Value::Float(value) => {
                // A float is rounded by its own shortest digits.
                let text: f64 = value.to_string().parse().ok()?;
                Some(Value::Float(rounded(text, places, half) as f32))
            }
            other => Some(Value::Double(rounded(other.double()?, places, half))),
        }),
        _ => rows.values(|row| {
            let value = row.long(0)?;
            if places >= 0 {
                return Some(Value::Whole(value));
            }
            let unit = wide_power(places.unsigned_abs())?;
            let value = divided(i256::from_i128(value.into()), unit, half)?.checked_mul(unit)?;
            Some(Value::Whole(value.to_i128()? as i64))
        }),
    }
}

pub(super) fn round(rows: &Rows<'_>) -> Result<ArrayRef> {
    round_with(rows, Half::Up)
}

pub(super) fn bround(rows: &Rows<'_>) -> Result<ArrayRef> {
    round_with(rows, Half::Even)
}

pub(super) fn ceil_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(match given.kind(0) {
        DataType::Decimal128(digits, scale) if *scale == 0 => DataType::Decimal128(*digits, 0),
        DataType::Decimal128(digits, scale) => {
            DataType::Decimal128((digits - scale.unsigned_abs() + 1).min(38), 0)
        }
        _ => DataType::Int64,
    })
}

pub(super) fn ceil(rows: &Rows<'_>) -> Result<ArrayRef> {
    toward(rows, f64::ceil, 1)
}

pub(super) fn floor(rows: &Rows<'_>) -> Result<ArrayRef> {
    toward(rows, f64::floor, -1)
}

fn toward(rows: &Rows<'_>, double: fn(f64) -> f64, step: i128) -> Result<ArrayRef> {
    if is_decimal(rows.gives) {
        return rows.decimals(|row| {
            let Value::Decimal(value, scale) = row.value(0)? else {
                return None;
            };
            let unit = power(scale);
            let below = value.div_euclid(unit);
            let is_whole = value.rem_euclid(unit) == 0;
            Some(if is_whole || step < 0 {
                below
            } else {
                below + 1
            })
        });
    }
    rows.longs(|row| match row.value(0)? {
        Value::Whole(value) => Some(value),
        other => Some(double(other.double()?) as i64),
    })
}

pub(super) fn sqrt(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| row.double(0).map(f64::sqrt))
}

pub(super) fn rint(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| row.double(0).map(f64::round_ties_even))
}

/// The natural logarithm, or one to a base.
pub(super) fn log(rows: &Rows<'_>) -> Result<ArrayRef> {
    let positive = |value: f64| (value > 0.0 || value.is_nan()).then_some(value);
    rows.doubles(|row| {
        if row.has(1) {
            let base = positive(row.double(0)?)?;
            let value = positive(row.double(1)?)?;
            return Some(fdlibm::ln(value) / fdlibm::ln(base));
        }
        positive(row.double(0)?).map(fdlibm::ln)
    })
}

pub(super) fn log10(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| {
        let value = row.double(0)?;
        (value > 0.0 || value.is_nan()).then(|| fdlibm::log10(value))
    })
}

pub(super) fn log2(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| {
        let value = row.double(0)?;
        (value > 0.0 || value.is_nan()).then(|| fdlibm::ln(value) / fdlibm::ln(2.0))
    })
}

pub(super) fn exp(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| row.double(0).map(fdlibm::exp))
}

pub(super) fn factorial(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| {
        let number = row.int(0)?;
        (0..=20)
            .contains(&number)
            .then(|| (1..=i64::from(number)).product())
    })
}

pub(super) fn bin(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| row.long(0).map(|value| format!("{value:b}")))
}

/// Numbers and truth values.
pub(super) fn counted(given: &Given<'_>) -> Result<(), Refusal> {
    match given.kind(0) {
        DataType::Boolean | DataType::Null => Ok(()),
        kind if types::is_whole(kind) => Ok(()),
        kind => Err(given.refuse(
            format!("does not take {}", types::name(kind)),
            "it takes whole numbers",
        )),
    }
}

/// The ones of a number of 64 bits.
pub(super) fn bit_count(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| Some(row.long(0)?.count_ones() as i32))
}

/// The digits before the first other sign, as a number of this base; the largest if it does not fit.
fn digits_of(text: &str, base: u32) -> u64 {
    let mut number = 0_u64;
    for digit in text.chars().map_while(|letter| letter.to_digit(base)) {
        let next = number.checked_mul(base.into());
        match next.and_then(|next| next.checked_add(digit.into())) {
            Some(next) => number = next,
            None => return u64::MAX,
        }
    }
    number
}

/// `conv(digits, from, to)`: a number in another base; a negative base keeps the sign.
pub(super) fn conv(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let text = row.text(0)?;
        let text = text.trim_matches(' ');
        let (from, to) = (row.int(1)?, row.int(2)?);
        let is_base = |base: i32| (2..=36).contains(&base);
        let to_base = to.unsigned_abs();
        if text.is_empty() || !is_base(from) || !is_base(to_base as i32) {
            return None;
        }
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut number = digits_of(digits, from as u32);
        if is_negative && to > 0 {
            // Below zero is above the largest of 63 bits.
            number = if (number as i64) < 0 {
                u64::MAX
            } else {
                number.wrapping_neg()
            };
        }
        let mut is_negative = is_negative;
        if to < 0 && (number as i64) < 0 {
            number = number.wrapping_neg();
            is_negative = true;
        }
        let mut letters = vec![];
        while number > 0 || letters.is_empty() {
            let digit = (number % u64::from(to_base)) as u32;
            letters.push(char::from_digit(digit, to_base)?.to_ascii_uppercase());
            number /= u64::from(to_base);
        }
        if is_negative && to < 0 {
            letters.push('-');
        }
        Some(letters.into_iter().rev().collect::<String>())
    })
}

pub(super) fn shift_left(rows: &Rows<'_>) -> Result<ArrayRef> {
    shift(rows, i32::wrapping_shl, i64::wrapping_shl)
}

pub(super) fn shift_right(rows: &Rows<'_>) -> Result<ArrayRef> {
    shift(rows, i32::wrapping_shr, i64::wrapping_shr)
}

fn shift(rows: &Rows<'_>, int: fn(i32, u32) -> i32, long: fn(i64, u32) -> i64) -> Result<ArrayRef> {
    rows.values(|row| {
        let by = row.int(1)? as u32;
        Some(Value::Whole(match rows.gives {
            DataType::Int64 => long(row.long(0)?, by),
            _ => int(row.int(0)?, by).into(),
        }))
    })
}

pub(super) fn shift_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::Int64 => Ok(DataType::Int64),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Ok(DataType::Int32),
        _ => Err(given.refuse("takes whole numbers alone", "cast it to BIGINT")),
    }
}

/// Most digits behind the point that Java writes of a number.
const FORMATTED_PLACES_MAX: i32 = 340;

/// `format_number(x, 2)`: the digits are a text, so that they are known at submit.
pub(super) fn formatted(given: &Given<'_>) -> Result<(), Refusal> {
    match places(given)? {
        0..=FORMATTED_PLACES_MAX => Ok(()),
        _ => Err(given.refuse(
            format!("takes 0 to {FORMATTED_PLACES_MAX} digits"),
            "write 2",
        )),
    }
}

/// With a comma between thousands, half to even.
pub(super) fn format_number(rows: &Rows<'_>) -> Result<ArrayRef> {
    let places: usize = rows
        .constant_text(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    rows.texts(|row| {
        let text = match row.value(0)? {
            Value::Decimal(value, scale) => decimal_with(value, scale, places)?,
            Value::Whole(value) => decimal_with(value.into(), 0, places)?,
            other => {
                let value = other.double()?;
                if value.is_nan() {
                    return Some("NaN".to_owned());
                }
                if value.is_infinite() {
                    return Some(if value < 0.0 { "-\u{221e}" } else { "\u{221e}" }.to_owned());
                }
                // Java has the shortest digits of a number, and zeros behind them.
                let shortest = value.to_string();
                let given = shortest.find('.').map_or(0, |at| shortest.len() - at - 1);
                match given > places {
                    true => format!("{value:.places$}"),
                    false if places == 0 => shortest,
                    false => {
                        let point = if given == 0 { "." } else { "" };
                        format!("{shortest}{point}{:0<1$}", "", places - given)
                    }
                }
            }
        };
        Some(with_commas(&text))
    })
}

/// A decimal with this many digits behind the point.
fn decimal_with(value: i128, scale: i8, places: usize) -> Option<String> {
    let cut = usize::try_from(scale).ok()?.saturating_sub(places);
    let value = divided(i256::from_i128(value), wide_power(cut as u32)?, Half::Even)?.to_i128()?;
    let scale = scale as usize - cut;
    let digits = format!("{:0>1$}", value.unsigned_abs(), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    Some(match places {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction:0<places$}"),
    })
}

fn with_commas(text: &str) -> String {
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", text),
    };
    let whole = number.find('.').unwrap_or(number.len());
    let mut all = sign.to_owned();
    for (place, digit) in number[..whole].chars().enumerate() {
        if place > 0 && (whole - place) % 3 == 0 {
            all.push(',');
        }
        all.push(digit);
    }
    all.push_str(&number[whole..]);
    all
}

/// `getbit(number, place)`; a place that no bit has is NULL, where Spark stops the job.
pub(super) fn get_bit(rows: &Rows<'_>) -> Result<ArrayRef> {
    let bits = match rows.kind(0) {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        _ => 64,
    };
    rows.values(|row| {
        let (number, place) = (row.long(0)?, row.int(1)?);
        (0..bits)
            .contains(&place)
            .then(|| Value::Whole(number >> place & 1))
    })
}

/// `shiftrightunsigned(number, bits)`: zeros come in.
pub(super) fn shift_right_unsigned(rows: &Rows<'_>) -> Result<ArrayRef> {
    let is_long = *rows.gives == DataType::Int64;
    rows.values(|row| {
        let (number, bits) = (row.long(0)?, row.int(1)? as u32);
        Some(Value::Whole(if is_long {
            (number as u64).wrapping_shr(bits) as i64
        } else {
            i64::from((number as i32 as u32).wrapping_shr(bits) as i32)
        }))
    })
}

/// `width_bucket(value, from, to, count)`: in which of so many equal parts a value lies, from 1.
pub(super) fn width_bucket(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| {
        let (value, from, to) = (row.double(0)?, row.double(1)?, row.double(2)?);
        let count = row.long(3)?;
        let is_valid = count > 0
            && count < i64::MAX
            && !value.is_nan()
            && from.is_finite()
            && to.is_finite()
            && from != to;
        if !is_valid {
            return None;
        }
        let part = |distance: f64, whole: f64| (count as f64 * distance / whole) as i64 + 1;
        Some(if from < to {
            match value {
                value if value < from => 0,
                value if value >= to => count + 1,
                value => part(value - from, to - from),
            }
        } else {
            match value {
                value if value > from => 0,
                value if value <= to => count + 1,
                value => part(from - value, from - to),
            }
        })
    })
}

/// The decimal in which `ceil(x, 2)` and `floor(x, 2)` see a number.
fn exact(kind: &DataType) -> Option<(u8, i8)> {
    match kind {
        DataType::Float32 => Some((14, 7)),
        DataType::Float64 | DataType::Utf8 | DataType::Null => Some((30, 15)),
        other => types::decimal_of(other),
    }
}

/// `ceil(x, digits)` gives a decimal.
pub(super) fn ceil_to_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let places = places(given)?;
    let Some((digits, scale)) = exact(given.kind(0)) else {
        return Err(given.refuse("takes a number", "cast it"));
    };
    let whole = i32::from(digits) - i32::from(scale) + 1;
    Ok(if places < 0 {
        DataType::Decimal128(whole.max(-places + 1).min(38) as u8, 0)
    } else {
        let scale = i32::from(scale).min(places);
        DataType::Decimal128((whole + scale).min(38) as u8, scale as i8)
    })
}

pub(super) fn ceil_to(rows: &Rows<'_>) -> Result<ArrayRef> {
    toward_places(rows, true)
}

pub(super) fn floor_to(rows: &Rows<'_>) -> Result<ArrayRef> {
    toward_places(rows, false)
}

fn toward_places(rows: &Rows<'_>, up: bool) -> Result<ArrayRef> {
    let places: i32 = rows
        .constant_text(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let kind = exact(&rows.kind(0));
    let DataType::Decimal128(most, to) = *rows.gives else {
        return Ok(arrow::array::new_null_array(rows.gives, rows.count));
    };
    rows.decimals(|row| {
        let (digits, scale) = kind?;
        let value = row.value(0)?.decimal(digits, scale)?;
        let cut = (i32::from(scale) - places).max(0);
        let unit = 10_i128.checked_pow(cut as u32)?;
        let below = value.div_euclid(unit);
        let above = below + i128::from(up && value.rem_euclid(unit) != 0);
        // Back to the digits of the result.
        let zeros = (i32::from(to) - (i32::from(scale) - cut)).max(0);
        let value = above.checked_mul(10_i128.checked_pow(zeros as u32)?)?;
        super::number::fits(value, most).then_some(value)
    })
}
