//! The hash keys of a Kinesis shard: the data that the controller's listing passes to its reader.
//!
//! Owns: the text form of such a shard's detail. Does not own: which record has which key.
//! Rule: a range that cannot be parsed is unknown, and an unknown range excludes nothing.

/// First and last hash key of a shard, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    first: u128,
    last: u128,
}

impl HashRange {
    /// From the service's decimal numbers; `None` if they are not decimal numbers.
    pub fn new(first: &str, last: &str) -> Option<Self> {
        Some(Self {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        })
    }
    /// The text that travels as a shard's detail: two hexadecimal numbers.
    pub fn to_detail(self) -> String {
        format!("{:x}-{:x}", self.first, self.last)
    }
    /// From a shard's detail; `None` if it is not a hash range.
    pub fn from_detail(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        Some(Self {
            first: u128::from_str_radix(first, 16).ok()?,
            last: u128::from_str_radix(last, 16).ok()?,
        })
    }
    /// Whether this key belongs to the shard.
    pub fn contains(&self, key: u128) -> bool {
        (self.first..=self.last).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_survives_the_way_to_the_worker() {
        let last = "340282366920938463463374607431768211455";
        let range = HashRange::new("170141183460469231731687303715884105728", last).unwrap();
        assert_eq!(
            range.to_detail(),
            "80000000000000000000000000000000-ffffffffffffffffffffffffffffffff"
        );
        assert_eq!(HashRange::from_detail(&range.to_detail()), Some(range));
        for bad in ["", "-", "0-", "0-g", "{\"location\":\"s3://b/a-b\"}"] {
            assert_eq!(HashRange::from_detail(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn both_ends_belong_to_the_range() {
        let range = HashRange::new("10", "20").unwrap();
        assert!(
            range.contains(10) && range.contains(20) && !range.contains(9) && !range.contains(21)
        );
    }
}
