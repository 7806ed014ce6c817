//! When a record of a file arrived, by one of its own columns.
//!
//! Rule: pure; a value is the time that it would be in a column of times ([`Times`]); one that is not
//! a time is `None`, never a guess.

use crate::values::Times;
use serde_json::{Map, Value};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The time in `column` of a JSON record (the exact name goes before those that differ in case),
/// milliseconds since the Unix epoch.
pub fn of_record(data: &[u8], column: &str, times: &Times) -> Option<i64> {
    let data = data.strip_prefix(BYTE_ORDER_MARK).unwrap_or(data);
    let object: Map<String, Value> = serde_json::from_slice(data).ok()?;
    let value = object.get(column).or_else(|| {
        let mut same = object
            .iter()
            .filter(|(name, _)| name.to_lowercase() == column.to_lowercase());
        same.next_back().map(|(_, value)| value)
    })?;
    let us = match value {
        Value::Number(number) => times.of_number(&number.to_string()),
        Value::String(text) => times.of_text(text.trim_ascii()),
        _ => None,
    };
    us.map(|us| us.div_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p01_times_are_read_as_a_column_of_times_reads_them() {
        let times = Times::default();
        let of =
            |value: &str| of_record(format!("{{\"Time\":{value}}}").as_bytes(), "time", &times);
        for same in [
            "1795481100",
            "1795481100000",
            "1795481100000000",
            "1795481100000000000",
            "1795481100.0",
            "\"2026-11-24T00:45:00Z\"",
            "\"2026-11-24 00:45:00\"",
            "\"2026-11-24T01:45:00+01:00\"",
            "\"2026-11-24T01:45:00+0100\"",
            "\"2026-11-24 00:45:00.000\"",
            "\" 2026-11-24 00:45 \"",
        ] {
            assert_eq!(of(same), Some(1_795_481_100_000), "{same}");
        }
        for none in [
            "null",
            "\"soon\"",
            "true",
            "\"\"",
            "1e300",
            "\"nan\"",
            "\"1795481100\"",
            "\"20261124\"",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of_record(b"broken", "time", &times), None);
    }

    #[test]
    fn p10_p13_the_exact_name_counts_behind_a_byte_order_mark_too() {
        let of = |record: &str| of_record(record.as_bytes(), "ts", &Times::default());
        assert_eq!(of("\u{feff}{\"ts\":1,\"TS\":2}"), Some(1_000));
        assert_eq!(of("{\"Ts\":1}"), Some(1_000));
    }
}
