//! Numbers as text, and the arithmetic of decimals.
//!
//! Owns: how Spark and Java write and read numbers, rounding. Does not own: types of results
//! (`arithmetic`).
//! Rule: digits are exact; what does not fit is NULL.

use arrow::datatypes::i256;

/// 10 to this power; scales are at most 38.
pub(super) fn power(scale: i8) -> i128 {
    10_i128.pow(u32::from(scale.unsigned_abs()).min(38))
}

/// Without white space and control characters at both ends.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_ascii_whitespace() || letter.is_ascii_control())
}

/// A text as a whole number, of which a fraction is cut off. `lowest`: the least number of the type.
pub(super) fn whole(text: &str, lowest: i64) -> Option<i64> {
    let text = trimmed(text).as_bytes();
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let point = digits.iter().position(|byte| *byte == b'.');
    let (digits, fraction) = match point {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    if !digits.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits {
        value = value
            .checked_mul(10)?
            .checked_sub(i64::from(digit - b'0'))
            .filter(|value| *value >= lowest)?;
    }
    if negative {
        return Some(value);
    }
    value.checked_neg().filter(|value| *value <= -(lowest + 1))
}

/// Whether a text is a number as Java reads it, apart from `NaN` and `Infinity`.
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && all_digits(exponent)
    });
    all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent_fits
}

fn special(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    }
}

/// The part of a text that is its number: Java allows a letter for the type behind it.
fn numeric(text: &str) -> Option<&str> {
    let text = text.trim_matches(|letter: char| letter <= ' ');
    if is_float(text) {
        return Some(text);
    }
    text.strip_suffix(['d', 'D', 'f', 'F'])
        .filter(|text| is_float(text))
}

pub(super) fn double(text: &str) -> Option<f64> {
    match numeric(text) {
        Some(number) => number.parse().ok(),
        None => {
            let text = text.trim_matches(|letter: char| letter <= ' ');
            special(text).or_else(|| hexadecimal(text))
        }
    }
}

/// Digits of sixteen that fit into the number that they are read into.
const HEX_DIGITS_MAX: usize = 16;

/// `0x1.8p3`, which Java reads: hexadecimal digits times a power of two. With more digits than a
/// double has it is NULL.
fn hexadecimal(text: &str) -> Option<f64> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let text = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    let (digits, exponent) = text.split_at(text.find(['p', 'P'])?);
    let exponent = exponent[1..].trim_end_matches(['d', 'D', 'f', 'F']);
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let all = all.trim_start_matches('0');
    if whole.is_empty() && fraction.is_empty() || all.len() > HEX_DIGITS_MAX {
        return None;
    }
    let mantissa = match all {
        "" => 0,
        digits => u64::from_str_radix(digits, 16).ok()?,
    };
    let power = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    let value = mantissa as f64 * 2_f64.powi(power);
    Some(if is_negative { -value } else { value })
}

pub(super) fn float(text: &str) -> Option<f32> {
    match numeric(text) {
        Some(number) => number.parse().ok(),
        None => special(text.trim_matches(|letter: char| letter <= ' ')).map(|value| value as f32),
    }
}

pub(super) fn truth(text: &str) -> Option<bool> {
    match trimmed(text).to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Digits and the exponent of the first: `d.ddd` times 10 to the exponent.
fn scientific(written: &str) -> (String, i32) {
    let (digits, exponent) = written.split_once('e').unwrap_or((written, "0"));
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    (digits, exponent.parse().unwrap_or(0))
}

/// As `Double.toString` of Java writes it.
fn java_text(negative: bool, written: &str) -> String {
    let (mut digits, exponent) = scientific(written);
    let sign = if negative { "-" } else { "" };
    if (-3..7).contains(&exponent) {
        if exponent < 0 {
            let zeros = "0".repeat((-exponent - 1) as usize);
            return format!("{sign}0.{zeros}{digits}");
        }
        let point = exponent as usize + 1;
        while digits.len() < point + 1 {
            digits.push('0');
        }
        let (whole, fraction) = digits.split_at(point);
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let rest = if rest.is_empty() { "0" } else { rest };
    format!("{sign}{first}.{rest}E{exponent}")
}

pub(super) fn double_text(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        // Java writes the smallest numbers with two digits.
        value if value.abs() == 5e-324 => java_text(value < 0.0, "4.9e-324"),
        value if value == 0.0 => java_text(value.is_sign_negative(), "0e0"),
        value => java_text(value < 0.0, &format!("{:e}", value.abs())),
    }
}

pub(super) fn float_text(value: f32) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f32::INFINITY => "Infinity".into(),
        f32::NEG_INFINITY => "-Infinity".into(),
        value if value == 0.0 => java_text(value.is_sign_negative(), "0e0"),
        value => java_text(value < 0.0, &format!("{:e}", value.abs())),
    }
}

/// As `BigDecimal.toString` of Java writes it.
pub(super) fn decimal_text(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let scale = usize::from(scale.unsigned_abs());
    let exponent = digits.len() as i64 - 1 - scale as i64;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    if exponent < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}E{exponent}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

pub(super) fn decimal_double(value: i128, scale: i8) -> f64 {
    // Both are exact as doubles, so the quotient is rounded once.
    if value.unsigned_abs() < 1 << 53 && (0..=22).contains(&scale) {
        return value as f64 / power(scale) as f64;
    }
    decimal_text(value, scale).parse().unwrap_or(f64::NAN)
}

/// How the half is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Up,
    Even,
}

/// The quotient, rounded to a whole number.
pub(super) fn divided(value: i256, by: i256, half: Half) -> Option<i256> {
    let quotient = value.checked_div(by)?;
    let rest = value.checked_rem(by)?;
    let negative = (value < i256::ZERO) != (by < i256::ZERO);
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    let away = match twice.cmp(&by.wrapping_abs()) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => {
            half == Half::Up || quotient.wrapping_rem(i256::from_i128(2)) != i256::ZERO
        }
        std::cmp::Ordering::Less => false,
    };
    let step = match (away, negative) {
        (false, _) => i256::ZERO,
        (true, false) => i256::ONE,
        (true, true) => i256::MINUS_ONE,
    };
    quotient.checked_add(step)
}

/// 10 to this power.
pub(super) fn wide_power(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

/// An unscaled number with another scale, rounded; `None` if it has more digits than allowed.
pub(super) fn rescaled_wide(
    value: i256,
    from: i32,
    digits: u8,
    scale: i8,
    half: Half,
) -> Option<i128> {
    let by = i32::from(scale) - from;
    let factor = wide_power(by.unsigned_abs())?;
    let value = if by >= 0 {
        value.checked_mul(factor)?
    } else {
        divided(value, factor, half)?
    };
    let value = value.to_i128()?;
    fits(value, digits).then_some(value)
}

pub(super) fn fits(value: i128, digits: u8) -> bool {
    value.unsigned_abs() < 10_u128.pow(u32::from(digits).min(38))
}

pub(super) fn rescaled(value: i128, from: i8, digits: u8, scale: i8) -> Option<i128> {
    if from == scale {
        return fits(value, digits).then_some(value);
    }
    rescaled_wide(i256::from_i128(value), from.into(), digits, scale, Half::Up)
}

/// A text as the unscaled number of a decimal.
pub(super) fn decimal(text: &str, digits: u8, scale: i8) -> Option<i128> {
    if !is_float(text) {
        return None;
    }
    let negative = text.starts_with('-');
    let text = text.trim_start_matches(['-', '+']);
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all: String = format!("{whole}{fraction}");
    // The place of the point, counted from the first digit.
    let leading = all.len() - all.trim_start_matches('0').len();
    let point = whole.len() as i64 + exponent - leading as i64;
    let all = all.trim_start_matches('0');
    if all.is_empty() {
        return Some(0);
    }
    let wanted = point + i64::from(scale);
    if wanted > i64::from(digits) {
        return None;
    }
    if wanted < 0 {
        return Some(0);
    }
    let wanted = wanted as usize;
    let mut value = 0_i128;
    for place in 0..wanted {
        let digit = all.as_bytes().get(place).map_or(0, |byte| byte - b'0');
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    if all.as_bytes().get(wanted).is_some_and(|byte| *byte >= b'5') {
        value += 1;
    }
    let value = if negative { -value } else { value };
    fits(value, digits).then_some(value)
}

/// A double, rounded to digits behind the point as `BigDecimal` of Java does it.
pub(super) fn rounded(value: f64, places: i32, half: Half) -> f64 {
    if !value.is_finite() {
        return value;
    }
    // A decimal of Java has no negative zero.
    if value == 0.0 {
        return 0.0;
    }
    // Of its shortest text, as `BigDecimal.valueOf`.
    let (digits, exponent) = scientific(&format!("{:e}", value.abs()));
    let keep = i64::from(exponent) + 1 + i64::from(places);
    if keep >= digits.len() as i64 {
        return value;
    }
    let sign = if value < 0.0 { "-" } else { "" };
    if keep < 0 {
        // A decimal of Java has no negative zero.
        return 0.0;
    }
    let keep = keep as usize;
    let (kept, cut) = digits.split_at(keep);
    let rest = cut[1..].bytes().any(|byte| byte != b'0');
    let last_is_odd = kept.bytes().last().is_some_and(|byte| byte % 2 == 1);
    let up = match cut.as_bytes()[0] {
        b'5' if !rest && half == Half::Even => last_is_odd,
        digit => digit >= b'5',
    };
    let mut number: u128 = if kept.is_empty() {
        0
    } else {
        kept.parse().unwrap_or(0)
    };
    number += u128::from(up);
    if number == 0 {
        return 0.0;
    }
    format!("{sign}{number}e{}", -places)
        .parse()
        .unwrap_or(value)
}
