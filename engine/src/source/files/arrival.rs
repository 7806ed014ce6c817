//! When a record of a file arrived, by one of its own columns.
//!
//! Rule: pure; a value that is not a time is `None`, never a guess.

use serde_json::{Map, Value};

/// Numbers below this are seconds, others milliseconds: as milliseconds it is March 1973, as
/// seconds the year 5138.
const SECONDS_BELOW: f64 = 1e11;
const FORMATS: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];

/// The time in `column` of a JSON record (names compared without regard to case), milliseconds
/// since the Unix epoch.
pub fn of_record(data: &[u8], column: &str) -> Option<i64> {
    let object: Map<String, Value> = serde_json::from_slice(data).ok()?;
    let value = object.get(column).or_else(|| {
        let mut same = object
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(column));
        same.next().map(|(_, value)| value)
    })?;
    match value {
        Value::Number(number) => of_number(number.as_f64()?),
        Value::String(text) => of_text(text.trim()),
        _ => None,
    }
}

fn of_number(number: f64) -> Option<i64> {
    let ms = if number.abs() < SECONDS_BELOW {
        number * 1000.0
    } else {
        number
    };
    (ms.is_finite() && ms.abs() < 1e15).then(|| ms.floor() as i64)
}

fn of_text(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        return of_number(number);
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let parse = |format| chrono::NaiveDateTime::parse_from_str(text, format).ok();
    FORMATS
        .into_iter()
        .find_map(parse)
        .map(|time| time.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_numbers_and_as_text() {
        let of = |value: &str| of_record(format!("{{\"Time\":{value}}}").as_bytes(), "time");
        for same in [
            "1795481100",
            "1795481100000",
            "\"1795481100\"",
            "\"2026-11-24T00:45:00Z\"",
            "\"2026-11-24 00:45:00\"",
            "\"2026-11-24T01:45:00+01:00\"",
            "\"2026-11-24 00:45:00.000\"",
        ] {
            assert_eq!(of(same), Some(1_795_481_100_000), "{same}");
        }
        for none in ["null", "\"soon\"", "true", "\"\"", "1e300", "\"nan\""] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of_record(b"broken", "time"), None);
    }
}
