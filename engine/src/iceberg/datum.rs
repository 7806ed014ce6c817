//! Single values: partition values and bounds.
//!
//! Owns: their binary form, their order, their text. Does not own: which value a row has
//! (`transform`, `stats`).
//! Rule: the binary form is the one of the specification's appendix D; a value without one has no
//! bound.

use super::types::Primitive;
use serde::{Deserialize, Serialize};

/// A value; its [`Primitive`] states what the number means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Datum {
    Boolean(bool),
    /// Int, and days since the Unix epoch.
    Int(i32),
    /// Long; microseconds of times and timestamps.
    Long(i64),
    Float(f32),
    Double(f64),
    /// Without its scale.
    Decimal(i128),
    Text(String),
    /// Binary, fixed and UUID.
    Bytes(Vec<u8>),
}

impl Datum {
    /// The single-value serialisation.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Boolean(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_le_bytes().to_vec(),
            Self::Long(value) => value.to_le_bytes().to_vec(),
            Self::Float(value) => value.to_le_bytes().to_vec(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::Decimal(value) => minimal(*value),
            Self::Text(value) => value.as_bytes().to_vec(),
            Self::Bytes(value) => value.clone(),
        }
    }

    /// The reverse of [`Self::to_bytes`]; `None`: not a value of this type.
    pub fn from_bytes(primitive: &Primitive, bytes: &[u8]) -> Option<Self> {
        use Primitive as P;
        Some(match primitive {
            P::Boolean => Self::Boolean(*bytes.first()? != 0),
            P::Int | P::Date => Self::Int(i32::from_le_bytes(bytes.try_into().ok()?)),
            P::Long
            | P::Time
            | P::Timestamp
            | P::Timestamptz
            | P::TimestampNs
            | P::TimestamptzNs => Self::Long(i64::from_le_bytes(bytes.try_into().ok()?)),
            P::Float => Self::Float(f32::from_le_bytes(bytes.try_into().ok()?)),
            P::Double => Self::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
            P::Decimal { .. } => Self::Decimal(from_two_s_complement(bytes)?),
            P::String => Self::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
            P::Uuid | P::Fixed(_) | P::Binary => Self::Bytes(bytes.to_vec()),
            P::Other(_) => return None,
        })
    }

    /// A number as the type of the column holds it: a file may hold a narrower one.
    pub fn promoted(self, to: &Primitive) -> Self {
        use Primitive as P;
        match (self, to) {
            (Self::Int(value), P::Long) => Self::Long(value.into()),
            (Self::Float(value), P::Double) => Self::Double(value.into()),
            (same, _) => same,
        }
    }

    /// Equal keys for equal values, and in their order for values of one type but decimals.
    pub fn key(&self) -> Vec<u8> {
        let flip = |bits: u64| {
            if bits >> 63 == 1 {
                !bits
            } else {
                bits ^ (1 << 63)
            }
        };
        match self {
            Self::Int(value) => (i64::from(*value) ^ i64::MIN).to_be_bytes().to_vec(),
            Self::Long(value) => (value ^ i64::MIN).to_be_bytes().to_vec(),
            Self::Decimal(value) => (value ^ i128::MIN).to_be_bytes().to_vec(),
            Self::Float(value) => flip(f64::from(*value).to_bits()).to_be_bytes().to_vec(),
            Self::Double(value) => flip(value.to_bits()).to_be_bytes().to_vec(),
            Self::Boolean(_) | Self::Text(_) | Self::Bytes(_) => self.to_bytes(),
        }
    }

    pub fn is_nan(&self) -> bool {
        match self {
            Self::Float(value) => value.is_nan(),
            Self::Double(value) => value.is_nan(),
            Self::Boolean(_)
            | Self::Int(_)
            | Self::Long(_)
            | Self::Decimal(_)
            | Self::Text(_)
            | Self::Bytes(_) => false,
        }
    }
}

/// Two's complement, big-endian, in as few bytes as hold it.
pub fn minimal(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let fill = if value < 0 { 0xff } else { 0 };
    let sign = |byte: u8| byte & 0x80 == fill & 0x80;
    let mut from = 0;
    while from < 15 && bytes[from] == fill && sign(bytes[from + 1]) {
        from += 1;
    }
    bytes[from..].to_vec()
}

/// The reverse of [`minimal`], for up to 16 bytes.
pub fn from_two_s_complement(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    if bytes.len() > 16 {
        return None;
    }
    let fill = if first & 0x80 == 0 { 0 } else { 0xff };
    let mut all = [fill; 16];
    all[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(all))
}

/// The bytes in which a decimal of this precision is held as a fixed.
pub fn decimal_bytes(precision: u8) -> usize {
    let mut most = 1_u128;
    for _ in 0..precision.min(38) {
        most = most.saturating_mul(10);
    }
    (1..16)
        .find(|bytes| most - 1 < 1_u128 << (8 * bytes - 1))
        .unwrap_or(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_the_fewest_bytes_and_come_back() {
        assert_eq!(minimal(0), [0]);
        assert_eq!(minimal(1420), [0x05, 0x8c]);
        assert_eq!(minimal(-1), [0xff]);
        assert_eq!(minimal(128), [0, 0x80]);
        assert_eq!(minimal(-128), [0x80]);
        assert_eq!(minimal(-129), [0xff, 0x7f]);
        for value in [
            0,
            1,
            -1,
            127,
            128,
            -128,
            -129,
            i128::MAX,
            i128::MIN,
            1 << 70,
        ] {
            assert_eq!(from_two_s_complement(&minimal(value)), Some(value));
        }
    }

    #[test]
    fn a_fixed_holds_every_decimal_of_its_precision() {
        assert_eq!(decimal_bytes(1), 1);
        assert_eq!(decimal_bytes(2), 1);
        assert_eq!(decimal_bytes(3), 2);
        assert_eq!(decimal_bytes(9), 4);
        assert_eq!(decimal_bytes(18), 8);
        assert_eq!(decimal_bytes(38), 16);
    }

    #[test]
    fn keys_are_in_the_order_of_the_values() {
        let sorted = [f64::NEG_INFINITY, -2.5, -0.1, 0.0, 0.1, 3.0];
        let keys: Vec<_> = sorted.map(|value| Datum::Double(value).key()).to_vec();
        assert!(keys.is_sorted());
        let keys: Vec<_> = [-5, -1, 0, 7].map(|value| Datum::Int(value).key()).to_vec();
        assert!(keys.is_sorted());
    }

    #[test]
    fn the_binary_form_is_read_back() {
        use Primitive as P;
        let decimal = P::Decimal {
            precision: 9,
            scale: 2,
        };
        for (primitive, value) in [
            (P::Boolean, Datum::Boolean(true)),
            (P::Date, Datum::Int(-3)),
            (P::Timestamptz, Datum::Long(i64::MIN)),
            (P::Double, Datum::Double(-0.5)),
            (decimal, Datum::Decimal(-129)),
            (P::String, Datum::Text("é".into())),
            (P::Uuid, Datum::Bytes(vec![7; 16])),
        ] {
            assert_eq!(
                Datum::from_bytes(&primitive, &value.to_bytes()),
                Some(value)
            );
        }
        assert_eq!(Datum::from_bytes(&P::Int, &[1, 2]), None);
    }

    #[test]
    fn a_narrow_number_takes_the_column_s_width() {
        let wide = Datum::Int(7).promoted(&Primitive::Long);
        assert_eq!(wide.to_bytes(), 7_i64.to_le_bytes());
    }
}
