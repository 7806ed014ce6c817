//! Decimal numbers without loss.
//!
//! Rule: a number is kept as it is written; what becomes of digits that a type has no room for is
//! the caller's choice: none may be there, the nearest number, or the next lower one.

/// Digits that are kept; no type has more.
const DIGITS_MAX: u32 = 38;
const SIZE_MAX: i128 = 10_i128.pow(DIGITS_MAX) - 1;
/// Larger exponents are of no use to any type.
const EXPONENT_MAX: i64 = 10_000;

/// `digits * 10^exponent`, and what comes behind the digits that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    is_negative: bool,
    /// The first significant digits, at most [`DIGITS_MAX`].
    digits: u128,
    exponent: i64,
    cut: Cut,
}

/// Digits that were cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cut {
    /// The first of them.
    first: u8,
    /// One of them is not zero.
    any: bool,
}

impl Exact {
    /// Sign, digits, fraction, exponent; at least one digit. `None`: not a number.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, bytes) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        let mut digits = 0_u128;
        let mut kept = 0;
        let mut dropped = 0_u32;
        let mut cut = Cut::default();
        let mut exponent = 0;
        let mut any = false;
        let mut fraction = false;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'.' if !fraction => fraction = true,
                b'0'..=b'9' => {
                    any = true;
                    let digit = byte - b'0';
                    if kept < DIGITS_MAX {
                        digits = digits * 10 + u128::from(digit);
                        kept += u32::from(digits != 0);
                        exponent -= i64::from(fraction);
                    } else {
                        if dropped == 0 {
                            cut.first = digit;
                        }
                        dropped += 1;
                        cut.any |= digit != 0;
                        exponent += i64::from(!fraction);
                    }
                }
                b'e' | b'E' => {
                    exponent += read_exponent(&bytes[at + 1..])?;
                    break;
                }
                _ => return None,
            }
        }
        any.then_some(Self {
            is_negative,
            digits,
            exponent,
            cut,
        })
    }

    /// How many digits the number has before its point; 0 or less below 1.
    pub fn whole_digits(self) -> i64 {
        match self.digits.checked_ilog10() {
            Some(log) => i64::from(log) + 1 + self.exponent,
            None => 0,
        }
    }

    /// The number times `10^scale`, if that is an integer of at most 38 digits.
    pub fn at_scale(self, scale: i8) -> Option<i128> {
        let (size, cut) = self.cut_at(scale)?;
        (!cut.any).then(|| self.signed(size))?
    }

    /// The integer nearest to the number times `10^scale`, half away from zero, if it has at most
    /// 38 digits.
    pub fn rounded_at_scale(self, scale: i8) -> Option<i128> {
        let (size, cut) = self.cut_at(scale)?;
        self.signed(size + u128::from(cut.first >= 5))
    }

    /// The largest integer that is not above the number times `10^scale`, if it has at most 38
    /// digits.
    pub fn floor_at_scale(self, scale: i8) -> Option<i128> {
        let (size, cut) = self.cut_at(scale)?;
        self.signed(size + u128::from(self.is_negative && cut.any))
    }

    /// The size of the number times `10^scale` without its fraction, and the fraction.
    fn cut_at(self, scale: i8) -> Option<(u128, Cut)> {
        if self.digits == 0 {
            return Some((0, Cut::default()));
        }
        let shift = self.exponent + i64::from(scale);
        if let Ok(shift) = u32::try_from(shift) {
            let size = self.digits.checked_mul(10_u128.checked_pow(shift)?)?;
            return Some((size, self.cut));
        }
        let lost = u32::try_from(-shift).unwrap_or(u32::MAX);
        if lost > DIGITS_MAX {
            let all = Cut {
                first: 0,
                any: true,
            };
            return Some((0, all));
        }
        let unit = 10_u128.pow(lost);
        let rest = self.digits % unit;
        let cut = Cut {
            first: u8::try_from(rest / (unit / 10)).ok()?,
            any: rest != 0 || self.cut.any,
        };
        Some((self.digits / unit, cut))
    }

    fn signed(self, size: u128) -> Option<i128> {
        let size = i128::try_from(size).ok()?;
        (size <= SIZE_MAX).then_some(if self.is_negative { -size } else { size })
    }
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    (!digits.is_empty()).then_some(())?;
    let size = digits.iter().try_fold(0_i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        Some((sum * 10 + digit).min(EXPONENT_MAX))
    })?;
    Some(if is_negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(text: &str, scale: i8) -> Option<i128> {
        Exact::parse(text)?.at_scale(scale)
    }

    #[test]
    fn a_number_is_taken_exactly_or_not_at_all() {
        assert_eq!(scaled("12.50", 2), Some(1250));
        assert_eq!(scaled("-12.5", 2), Some(-1250));
        assert_eq!(scaled("12.505", 2), None);
        assert_eq!(scaled("+1e3", 0), Some(1000));
        assert_eq!(scaled("1.5e1", 0), Some(15));
        assert_eq!(scaled("1.5", 0), None);
        assert_eq!(scaled("100", -2), Some(1));
        assert_eq!(
            scaled("1.0000000000000000000000000000000000000000000000000", 0),
            Some(1)
        );
        assert_eq!(
            scaled("1.0000000000000000000000000000000000000000000000001", 0),
            None
        );
        assert_eq!(scaled("0.00e99999999999999999999", 0), Some(0));
        assert_eq!(scaled("1e-99999999999999999999", 2), None);
        assert_eq!(scaled("00012", 0), Some(12));
        assert_eq!(scaled("1e00", 0), Some(1));
        let most = "9".repeat(38);
        assert_eq!(scaled(&most, 0), most.parse().ok());
        assert_eq!(scaled(&format!("{most}.000"), 0), most.parse().ok());
        assert_eq!(scaled(&format!("{most}e-10"), 10), most.parse().ok());
        assert_eq!(scaled(&format!("1{}", "0".repeat(38)), 0), None);
        assert_eq!(scaled(&format!("1{}", "0".repeat(60)), -60), Some(1));
    }

    /// Answers of Spark 3.5.3 for `decimal(10,2)`, `decimal(5,0)` and `decimal(38,2)`.
    #[test]
    fn p04_a_number_is_rounded_half_up() {
        let rounded = |text: &str, scale| Exact::parse(text)?.rounded_at_scale(scale);
        for (text, expected) in [
            ("19.99", 1_999),
            ("19.990000000000002", 1_999),
            ("0.30000000000000004", 30),
            ("12.505", 1_251),
            ("12.504999", 1_250),
            ("-12.505", -1_251),
            ("-12.504", -1_250),
            ("12.5049999999999", 1_250),
            ("1e2", 10_000),
            ("1.5E-1", 15),
            ("99999999.995", 10_000_000_000),
            ("-0.0", 0),
            ("0.001", 0),
            ("0.005", 1),
            ("-0.005", -1),
            ("0.0049999999999999999999999999999999999999999999999999", 0),
            ("0.1234567890123456789012345678901234567890123", 12),
            ("1e-400", 0),
            ("12.345678901234567890123456789012345678901234567890", 1_235),
            (
                "123456789012345678901234567890123456789012345678901234567890e-55",
                1_234_568,
            ),
        ] {
            assert_eq!(rounded(text, 2), Some(expected), "{text}");
        }
        for (text, expected) in [("1.5", 2), ("2.5", 3), ("0.5", 1), ("-0.5", -1), ("0.4", 0)] {
            assert_eq!(rounded(text, 0), Some(expected), "{text}");
        }
        let nines = "9".repeat(36);
        let most = "9".repeat(38).parse().ok();
        assert_eq!(rounded(&format!("{nines}.994"), 2), most);
        assert_eq!(rounded(&format!("{nines}.995"), 2), None);
        assert_eq!(rounded("1234567890123456789012345678901234567890", 2), None);
        assert_eq!(rounded("1e400", 2), None);
    }

    #[test]
    fn a_floor_is_the_next_lower_number() {
        let floor = |text: &str, scale| Exact::parse(text)?.floor_at_scale(scale);
        assert_eq!(floor("1.999", 0), Some(1));
        assert_eq!(floor("-1.001", 0), Some(-2));
        assert_eq!(floor("-1.000", 0), Some(-1));
        assert_eq!(floor("-1e-99", 6), Some(-1));
        assert_eq!(floor("1999", -3), Some(1));
    }

    #[test]
    fn a_number_s_digits_before_the_point_are_counted() {
        for (text, count) in [
            ("1795481100.25", 10),
            ("0", 0),
            ("0.05", -1),
            ("0.5", 0),
            ("001", 1),
            ("1.5e9", 10),
            ("99999999999999999999999999999999999999999", 41),
        ] {
            assert_eq!(Exact::parse(text).unwrap().whole_digits(), count, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_number_is_none() {
        for bad in [
            "", "-", "+", ".", "1e", "1e+", "e5", "1..2", "1.2.3", "0x10", "1_000", "--1", "１",
            "NaN", "1e1.5", "1,5", " 1",
        ] {
            assert_eq!(Exact::parse(bad), None, "{bad}");
        }
    }
}
