//! Decimal numbers without loss.
//!
//! Rule: a number becomes an integer of a scale only if the result is exact; nothing is rounded.

/// `digits * 10^exponent`; `digits` does not end in a zero unless it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    digits: i128,
    exponent: i64,
}

/// Larger exponents are of no use to any type.
const EXPONENT_MAX: i64 = 10_000;

impl Exact {
    /// Sign, digits, fraction, exponent; at least one digit. `None`: not a number, or more than 38
    /// significant digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, mut exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let mut digits = 0_i128;
        let mut zeros = 0_u32;
        let mut any = false;
        let mut fraction = false;
        for byte in mantissa.bytes() {
            match byte {
                b'.' if !fraction => fraction = true,
                b'0'..=b'9' => {
                    any = true;
                    exponent -= i64::from(fraction);
                    if byte == b'0' {
                        // Zeros count only when another digit follows: 1.000 has one digit.
                        zeros += 1;
                        continue;
                    }
                    if digits != 0 {
                        digits = digits.checked_mul(10_i128.checked_pow(zeros + 1)?)?;
                    }
                    digits = digits.checked_add(i128::from(byte - b'0'))?;
                    zeros = 0;
                }
                _ => return None,
            }
        }
        let digits = if negative { -digits } else { digits };
        any.then_some(Self {
            digits,
            exponent: exponent + i64::from(zeros),
        })
    }

    /// The number times `10^scale`, if that is an integer of at most 38 digits.
    pub fn at_scale(self, scale: i8) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        let shift = u32::try_from(self.exponent + i64::from(scale)).ok()?;
        self.digits.checked_mul(10_i128.checked_pow(shift)?)
    }
}

fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size =
        digits
            .trim_start_matches('0')
            .parse()
            .unwrap_or(if digits.bytes().all(|b| b == b'0') {
                0
            } else {
                i64::MAX
            });
    let size: i64 = i64::min(size, EXPONENT_MAX);
    Some(if text.starts_with('-') { -size } else { size })
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
        assert_eq!(scaled("0.00e99999999999999999999", 0), Some(0));
        assert_eq!(scaled("1e-99999999999999999999", 2), None);
        assert_eq!(scaled("00012", 0), Some(12));
        assert_eq!(scaled("1e00", 0), Some(1));
    }

    #[test]
    fn text_that_is_no_number_is_none() {
        for bad in [
            "", "-", "+", ".", "1e", "1e+", "e5", "1..2", "1.2.3", "0x10", "1_000", "--1", "１",
            "NaN", "1e1.5",
        ] {
            assert_eq!(Exact::parse(bad), None, "{bad}");
        }
        let fits = "9".repeat(38);
        let many = "9".repeat(40);
        assert!(Exact::parse(&fits).is_some() && Exact::parse(&many).is_none());
    }
}
