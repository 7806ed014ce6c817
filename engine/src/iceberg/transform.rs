//! Partition transforms.
//!
//! Owns: their names, the value that they give, its type and its text in a folder's name. Does not
//! own: which columns a table is partitioned by (`partition`).
//! Rule: the result is the specification's for every value, also for negative ones: other engines
//! must find the rows.

use super::datum::{Datum, minimal};
use super::types::Primitive;
use base64::Engine as _;
use chrono::{DateTime, Datelike as _, Days, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    Bucket(u32),
    Truncate(u32),
    Void,
    /// One that this version does not know: such a table can be read, not written.
    Other(String),
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Bucket(count) => return write!(f, "bucket[{count}]"),
            Self::Truncate(width) => return write!(f, "truncate[{width}]"),
            Self::Void => "void",
            Self::Other(name) => name,
        })
    }
}

impl Transform {
    pub fn parse(text: &str) -> Self {
        let argument = |name: &str| {
            let inner = text
                .strip_prefix(name)?
                .strip_prefix('[')?
                .strip_suffix(']')?;
            inner
                .trim()
                .parse::<u32>()
                .ok()
                .filter(|number| *number > 0)
        };
        match text {
            "identity" => Self::Identity,
            "year" => Self::Year,
            "month" => Self::Month,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "void" => Self::Void,
            _ => argument("bucket")
                .map(Self::Bucket)
                .or_else(|| argument("truncate").map(Self::Truncate))
                .unwrap_or_else(|| Self::Other(text.to_owned())),
        }
    }

    /// The type of the result; `None`: the transform does not take this type.
    pub fn result(&self, source: &Primitive) -> Option<Primitive> {
        use Primitive as P;
        match self {
            Self::Identity => (!matches!(source, P::Other(_))).then(|| source.clone()),
            Self::Void => Some(source.clone()),
            Self::Year | Self::Month => is_day_or_finer(source).then_some(P::Int),
            Self::Day => is_day_or_finer(source).then_some(P::Date),
            Self::Hour => (is_day_or_finer(source) && *source != P::Date).then_some(P::Int),
            Self::Bucket(_) => match source {
                P::Boolean | P::Float | P::Double | P::Other(_) => None,
                P::TimestampNs | P::TimestamptzNs => None,
                _ => Some(P::Int),
            },
            Self::Truncate(_) => match source {
                P::Int | P::Long | P::Decimal { .. } | P::String | P::Binary => {
                    Some(source.clone())
                }
                _ => None,
            },
            Self::Other(_) => None,
        }
    }

    /// The partition value of a row's value of the type `source`, for which [`Self::result`] is
    /// not `None`.
    pub fn apply(&self, value: &Datum, source: &Primitive) -> Option<Datum> {
        match self {
            Self::Identity => Some(value.clone()),
            Self::Void | Self::Other(_) => None,
            Self::Year => Some(Datum::Int(date(value, source)?.year() - 1970)),
            Self::Month => {
                let date = date(value, source)?;
                let month = i32::try_from(date.month0()).ok()?;
                Some(Datum::Int((date.year() - 1970) * 12 + month))
            }
            Self::Day => Some(Datum::Int(days(value, source)?)),
            Self::Hour => match value {
                Datum::Long(micros) => {
                    let hours = micros.div_euclid(MICROS_PER_HOUR);
                    Some(Datum::Int(i32::try_from(hours).ok()?))
                }
                _ => None,
            },
            Self::Bucket(count) => {
                let hash = hash(value)? & i32::MAX;
                let count = i32::try_from(*count).ok()?;
                Some(Datum::Int(hash % count))
            }
            Self::Truncate(width) => truncate(value, *width),
        }
    }

    /// The value in a folder's name.
    pub fn text(&self, value: Option<&Datum>, source: &Primitive) -> String {
        let Some(value) = value else {
            return "null".to_owned();
        };
        match (self, value) {
            (Self::Year, Datum::Int(years)) => format!("{:04}", 1970 + years),
            (Self::Month, Datum::Int(months)) => {
                let year = 1970 + months.div_euclid(12);
                format!("{year:04}-{:02}", months.rem_euclid(12) + 1)
            }
            (Self::Day, Datum::Int(days)) => text_of_day(*days),
            (Self::Hour, Datum::Int(hours)) => {
                let day = text_of_day(hours.div_euclid(24));
                format!("{day}-{:02}", hours.rem_euclid(24))
            }
            (Self::Bucket(_), Datum::Int(bucket)) => bucket.to_string(),
            _ => text_of(value, source),
        }
    }
}

fn is_day_or_finer(source: &Primitive) -> bool {
    matches!(
        source,
        Primitive::Date | Primitive::Timestamp | Primitive::Timestamptz
    )
}

fn days(value: &Datum, source: &Primitive) -> Option<i32> {
    match (value, source) {
        (Datum::Int(days), Primitive::Date) => Some(*days),
        (Datum::Long(micros), _) => i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok(),
        _ => None,
    }
}

fn date(value: &Datum, source: &Primitive) -> Option<NaiveDate> {
    day(days(value, source)?)
}

fn day(days: i32) -> Option<NaiveDate> {
    let by = Days::new(days.unsigned_abs().into());
    if days < 0 {
        NaiveDate::default().checked_sub_days(by)
    } else {
        NaiveDate::default().checked_add_days(by)
    }
}

fn text_of_day(days: i32) -> String {
    day(days).map_or_else(|| days.to_string(), |day| day.to_string())
}

fn text_of(value: &Datum, source: &Primitive) -> String {
    use Primitive as P;
    match (value, source) {
        (Datum::Boolean(value), _) => value.to_string(),
        (Datum::Int(days), P::Date) => text_of_day(*days),
        (Datum::Int(value), _) => value.to_string(),
        (Datum::Long(micros), P::Timestamp | P::Timestamptz) => {
            let zone = if *source == P::Timestamptz {
                "+00:00"
            } else {
                ""
            };
            match DateTime::from_timestamp_micros(*micros) {
                Some(time) => format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
                None => micros.to_string(),
            }
        }
        (Datum::Long(micros), P::Time) => {
            let time = DateTime::from_timestamp_micros(*micros);
            time.map_or_else(String::new, |time| time.format("%H:%M:%S%.6f").to_string())
        }
        (Datum::Long(value), _) => value.to_string(),
        (Datum::Float(value), _) => value.to_string(),
        (Datum::Double(value), _) => value.to_string(),
        (Datum::Decimal(value), P::Decimal { scale, .. }) => decimal_text(*value, *scale),
        (Datum::Decimal(value), _) => value.to_string(),
        (Datum::Text(value), _) => value.clone(),
        (Datum::Bytes(value), P::Uuid) => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            match hex.len() {
                32 => format!(
                    "{}-{}-{}-{}-{}",
                    &hex[..8],
                    &hex[8..12],
                    &hex[12..16],
                    &hex[16..20],
                    &hex[20..]
                ),
                _ => hex,
            }
        }
        (Datum::Bytes(value), _) => base64::engine::general_purpose::STANDARD.encode(value),
    }
}

fn decimal_text(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

fn truncate(value: &Datum, width: u32) -> Option<Datum> {
    let wide = i64::from(width);
    Some(match value {
        Datum::Int(value) => {
            let value = i64::from(*value);
            // Below the smallest int the value wraps around, as in the reference's arithmetic.
            #[allow(clippy::cast_possible_truncation)]
            Datum::Int((value - value.rem_euclid(wide)) as i32)
        }
        Datum::Long(value) => Datum::Long(value.wrapping_sub(value.rem_euclid(wide))),
        Datum::Decimal(value) => {
            Datum::Decimal(value.wrapping_sub(value.rem_euclid(i128::from(width))))
        }
        Datum::Text(value) => Datum::Text(value.chars().take(width as usize).collect()),
        Datum::Bytes(value) => Datum::Bytes(value.iter().copied().take(width as usize).collect()),
        Datum::Boolean(_) | Datum::Float(_) | Datum::Double(_) => return None,
    })
}

/// The hash of the specification's appendix B.
fn hash(value: &Datum) -> Option<i32> {
    let bytes = match value {
        Datum::Int(value) => i64::from(*value).to_le_bytes().to_vec(),
        Datum::Long(value) => value.to_le_bytes().to_vec(),
        Datum::Decimal(value) => minimal(*value),
        Datum::Text(value) => value.as_bytes().to_vec(),
        Datum::Bytes(value) => value.clone(),
        Datum::Boolean(_) | Datum::Float(_) | Datum::Double(_) => return None,
    };
    Some(murmur3(&bytes))
}

/// MurmurHash3, 32 bits, x86 variant, seed 0.
fn murmur3(bytes: &[u8]) -> i32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let mut hash = 0_u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        hash ^= scramble(u32::from_le_bytes(*block));
        hash = hash
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash ^= scramble(u32::from_le_bytes(last));
    }
    // The specification's hash is of the length modulo 2^32.
    #[allow(clippy::cast_possible_truncation)]
    let length = bytes.len() as u32;
    hash ^= length;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)).cast_signed()
}

impl Serialize for Transform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Primitive as P;

    /// The test vectors of the specification's appendix B.
    #[test]
    fn hashes_are_those_of_the_specification() {
        let long = |value| hash(&Datum::Long(value));
        assert_eq!(hash(&Datum::Int(34)), Some(2_017_239_379));
        assert_eq!(long(34), Some(2_017_239_379));
        assert_eq!(hash(&Datum::Decimal(1420)), Some(-500_754_589));
        // 2017-11-16
        assert_eq!(hash(&Datum::Int(17_486)), Some(-653_330_422));
        // 22:31:08
        assert_eq!(long(81_068_000_000), Some(-662_762_989));
        // 2017-11-16T22:31:08, and .000001
        assert_eq!(long(1_510_871_468_000_000), Some(-2_047_944_441));
        assert_eq!(long(1_510_871_468_000_001), Some(-1_207_196_810));
        assert_eq!(hash(&Datum::Text("iceberg".into())), Some(1_210_000_089));
        let uuid = 0xf79c_3e09_677c_4bbd_a479_3f34_9cb7_85e7_u128.to_be_bytes();
        assert_eq!(hash(&Datum::Bytes(uuid.to_vec())), Some(1_488_055_340));
        assert_eq!(hash(&Datum::Bytes(vec![0, 1, 2, 3])), Some(-188_683_207));
    }

    #[test]
    fn times_before_1970_are_in_the_period_that_holds_them() {
        let before = Datum::Long(-1);
        let of = |transform: Transform| transform.apply(&before, &P::Timestamp).unwrap();
        assert_eq!(of(Transform::Year), Datum::Int(-1));
        assert_eq!(of(Transform::Month), Datum::Int(-1));
        assert_eq!(of(Transform::Day), Datum::Int(-1));
        assert_eq!(of(Transform::Hour), Datum::Int(-1));
        let text = |transform: Transform| transform.text(Some(&Datum::Int(-1)), &P::Timestamp);
        assert_eq!(text(Transform::Year), "1969");
        assert_eq!(text(Transform::Month), "1969-12");
        assert_eq!(text(Transform::Day), "1969-12-31");
        assert_eq!(text(Transform::Hour), "1969-12-31-23");
    }

    #[test]
    fn truncation_goes_down() {
        let by = |value: Datum, width| truncate(&value, width).unwrap();
        assert_eq!(by(Datum::Int(1), 10), Datum::Int(0));
        assert_eq!(by(Datum::Int(-1), 10), Datum::Int(-10));
        assert_eq!(by(Datum::Long(-1), 10), Datum::Long(-10));
        assert_eq!(by(Datum::Decimal(1065), 50), Datum::Decimal(1050));
        assert_eq!(
            by(Datum::Text("iceberg".into()), 3),
            Datum::Text("ice".into())
        );
        assert_eq!(by(Datum::Text("éa".into()), 1), Datum::Text("é".into()));
        assert_eq!(by(Datum::Bytes(vec![1, 2, 3]), 2), Datum::Bytes(vec![1, 2]));
    }

    #[test]
    fn names_are_read_back() {
        for name in [
            "identity",
            "year",
            "bucket[16]",
            "truncate[4]",
            "void",
            "zorder[2]",
        ] {
            assert_eq!(Transform::parse(name).to_string(), name);
        }
        assert_eq!(
            Transform::parse("bucket[0]"),
            Transform::Other("bucket[0]".into())
        );
    }

    #[test]
    fn a_transform_takes_only_its_types() {
        assert_eq!(Transform::Day.result(&P::Timestamp), Some(P::Date));
        assert_eq!(Transform::Hour.result(&P::Date), None);
        assert_eq!(Transform::Bucket(4).result(&P::Double), None);
        assert_eq!(Transform::Truncate(4).result(&P::Date), None);
    }

    #[test]
    fn identity_values_read_as_elsewhere() {
        let decimal = P::Decimal {
            precision: 9,
            scale: 2,
        };
        let text = |value: Datum, source: &P| Transform::Identity.text(Some(&value), source);
        assert_eq!(text(Datum::Decimal(-5), &decimal), "-0.05");
        assert_eq!(text(Datum::Int(17_486), &P::Date), "2017-11-16");
        let time = Datum::Long(1_510_871_468_000_001);
        assert_eq!(
            text(time.clone(), &P::Timestamp),
            "2017-11-16T22:31:08.000001"
        );
        assert_eq!(
            text(time, &P::Timestamptz),
            "2017-11-16T22:31:08.000001+00:00"
        );
        assert_eq!(Transform::Identity.text(None, &P::String), "null");
    }
}
