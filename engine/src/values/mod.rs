//! Times and numbers from the texts of values, by the rules of a job.
//!
//! Owns: which text is which time, date or number. Does not own: the place of a value in a record
//! ([`crate::format`]), what becomes of a bad one.
//! Rule: one product has one reading: a column of times and the arrival time of a record use the
//! same functions.

pub mod exact;
pub mod time;
mod zone;

use exact::Exact;
use streamctl_proto::TimePattern;
use streamctl_proto::spec::{TimestampNumbers, ValueRules};
use streamctl_proto::time_pattern::PatternTime;
use time::{DAY_US, in_range};
pub(crate) use zone::SHORT_NAMES;
use zone::Zone;

/// Digits before the point from which a number is no longer of this unit: seconds end in the year
/// 5138, where milliseconds begin in March 1973, and so on.
const SECONDS_DIGITS_MAX: i64 = 11;
const MILLISECONDS_DIGITS_MAX: i64 = 14;
const MICROSECONDS_DIGITS_MAX: i64 = 17;

/// The time of a text that a pattern reads: microseconds since the Unix epoch. A time without a zone
/// is UTC. `None`: there is no such zone, or its year is not in 1 to 9999.
pub(crate) fn of_pattern(found: PatternTime<'_>) -> Option<i64> {
    let local_us = i64::from(found.days) * DAY_US + found.us;
    match found.zone {
        Some(zone) => in_range(Zone::of_pattern(zone)?.to_utc_us(local_us)?),
        None => in_range(local_us),
    }
}

/// How a job reads times.
#[derive(Clone, Debug, Default)]
pub struct Times {
    numbers: TimestampNumbers,
    patterns: Vec<TimePattern>,
}

impl Times {
    /// By the rules of a source. The parser of the job file has checked the patterns.
    pub fn new(rules: &ValueRules) -> Self {
        let patterns = rules.timestamp_formats.iter();
        Self {
            numbers: rules.timestamp_numbers,
            patterns: patterns
                .filter_map(|pattern| TimePattern::parse(pattern).ok())
                .collect(),
        }
    }

    /// A number as a time: microseconds since the Unix epoch, digits below are cut off. `None`: it
    /// is not a number, or its year is not in 1 to 9999.
    pub fn of_number(&self, text: &str) -> Option<i64> {
        let us = match text.parse::<i64>() {
            Ok(number) => self.of_whole(number)?,
            Err(_) => {
                let number = Exact::parse(text)?;
                let scale = -self.unit_exponent(number.whole_digits()) + time::US_DIGITS;
                i64::try_from(number.floor_at_scale(i8::try_from(scale).ok()?)?).ok()?
            }
        };
        in_range(us)
    }

    fn of_whole(&self, number: i64) -> Option<i64> {
        let digits = number.unsigned_abs().checked_ilog10().map_or(0, |n| n + 1);
        match self.unit_exponent(digits.into()) {
            0 => number.checked_mul(1_000_000),
            3 => number.checked_mul(1_000),
            6 => Some(number),
            _ => Some(number.div_euclid(1_000)),
        }
    }

    /// The unit of a number with so many digits before the point: 10^-n seconds.
    fn unit_exponent(&self, whole_digits: i64) -> i64 {
        match self.numbers {
            TimestampNumbers::Auto if whole_digits <= SECONDS_DIGITS_MAX => 0,
            TimestampNumbers::Auto if whole_digits <= MILLISECONDS_DIGITS_MAX => 3,
            TimestampNumbers::Auto if whole_digits <= MICROSECONDS_DIGITS_MAX => 6,
            TimestampNumbers::Auto => 9,
            TimestampNumbers::Seconds => 0,
            TimestampNumbers::Milliseconds => 3,
            TimestampNumbers::Microseconds => 6,
            TimestampNumbers::Nanoseconds => 9,
        }
    }

    /// A text without white space around it as a time: microseconds since the Unix epoch, digits
    /// below are cut off. `None`: it is not a time, or its year is not in 1 to 9999.
    pub fn of_text(&self, text: &str) -> Option<i64> {
        if self.patterns.is_empty()
            && let Some(us) = time::iso_us(text)
        {
            return in_range(us);
        }
        self.of_other_text(text)
    }

    /// A text that is not in the most common form.
    #[cold]
    fn of_other_text(&self, text: &str) -> Option<i64> {
        for pattern in &self.patterns {
            if let Some(found) = pattern.read(text) {
                return of_pattern(found);
            }
        }
        // A year looks like a number: only a unit that the job names tells them apart.
        if self.numbers != TimestampNumbers::Auto
            && let Some(us) = self.of_number(text)
        {
            return Some(us);
        }
        time::timestamp_us(text)
    }

    /// A text without white space around it as a date: days since the Unix epoch. Of a text with a
    /// time, the date as it is written. `None`: it is not a date, or its year is not in 1 to 9999.
    pub fn date(&self, text: &str) -> Option<i32> {
        for pattern in &self.patterns {
            if let Some(found) = pattern.read(text).filter(|found| found.has_date) {
                return time::in_range_days(found.days);
            }
        }
        time::date(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(numbers: TimestampNumbers, patterns: &[&str]) -> Times {
        Times::new(&ValueRules {
            timestamp_numbers: numbers,
            timestamp_formats: patterns.iter().map(|text| (*text).to_owned()).collect(),
            ..ValueRules::default()
        })
    }

    fn shown(us: Option<i64>) -> String {
        us.map_or("bad".to_owned(), |us| {
            let time = chrono::DateTime::from_timestamp_micros(us).unwrap();
            time.format("%Y-%m-%d %H:%M:%S%.f").to_string()
        })
    }

    #[test]
    fn p01_a_number_is_a_time_by_its_size() {
        let auto = Times::default();
        for (number, expected) in [
            ("1795481100", "2026-11-24 00:45:00"),
            ("1795481100000", "2026-11-24 00:45:00"),
            ("1795481100000000", "2026-11-24 00:45:00"),
            ("1795481100000000000", "2026-11-24 00:45:00"),
            ("1795481100.25", "2026-11-24 00:45:00.250"),
            ("1795481100.1234567", "2026-11-24 00:45:00.123456"),
            ("1795481100123.456", "2026-11-24 00:45:00.123456"),
            ("1795481100123456.789", "2026-11-24 00:45:00.123456"),
            ("1795481100123456789.5", "2026-11-24 00:45:00.123456"),
            ("1.7954811e9", "2026-11-24 00:45:00"),
            ("1.7954811E12", "2026-11-24 00:45:00"),
            ("0", "1970-01-01 00:00:00"),
            ("-0", "1970-01-01 00:00:00"),
            ("0.5", "1970-01-01 00:00:00.500"),
            ("-1", "1969-12-31 23:59:59"),
            ("-0.5", "1969-12-31 23:59:59.500"),
            ("-0.0000005", "1969-12-31 23:59:59.999999"),
            ("-1e-7", "1969-12-31 23:59:59.999999"),
            // Each unit's last and first number.
            ("99999999999", "5138-11-16 09:46:39"),
            ("100000000000", "1973-03-03 09:46:40"),
            ("99999999999999", "5138-11-16 09:46:39.999"),
            ("100000000000000", "1973-03-03 09:46:40"),
            ("99999999999999999", "5138-11-16 09:46:39.999999"),
            ("100000000000000000", "1973-03-03 09:46:40"),
            ("9223372036854775807", "2262-04-11 23:47:16.854775"),
            ("-62135596800", "0001-01-01 00:00:00"),
            ("-62135596801", "bad"),
            ("-9223372036854775808", "1677-09-21 00:12:43.145224"),
            ("99999999999999999999", "5138-11-16 09:46:39.999999"),
            ("1e300", "bad"),
            ("1e22", "bad"),
            ("NaN", "bad"),
            ("Infinity", "bad"),
            ("", "bad"),
        ] {
            assert_eq!(shown(auto.of_number(number)), expected, "{number}");
        }
    }

    #[test]
    fn p01_a_unit_that_the_job_names_counts_for_every_number() {
        let of = |numbers, text: &str| shown(times(numbers, &[]).of_number(text));
        assert_eq!(
            of(TimestampNumbers::Seconds, "1795481100"),
            "2026-11-24 00:45:00"
        );
        // Out of the years of a timestamp: bad, where Spark has the year 58866.
        assert_eq!(of(TimestampNumbers::Seconds, "1795481100000"), "bad");
        assert_eq!(
            of(TimestampNumbers::Seconds, "253402300799.999999"),
            "9999-12-31 23:59:59.999999"
        );
        assert_eq!(of(TimestampNumbers::Seconds, "253402300800"), "bad");
        assert_eq!(of(TimestampNumbers::Seconds, "9223372036854775807"), "bad");
        assert_eq!(
            of(TimestampNumbers::Milliseconds, "1795481100"),
            "1970-01-21 18:44:41.100"
        );
        assert_eq!(
            of(TimestampNumbers::Milliseconds, "1000.25"),
            "1970-01-01 00:00:01.000250"
        );
        assert_eq!(
            of(TimestampNumbers::Microseconds, "1795481100000000"),
            "2026-11-24 00:45:00"
        );
        assert_eq!(
            of(TimestampNumbers::Nanoseconds, "1795481100000001999"),
            "2026-11-24 00:45:00.000001"
        );
    }

    #[test]
    fn p01_a_number_in_a_text_is_bad_as_in_spark_unless_the_job_names_its_unit() {
        let auto = Times::default();
        for text in [
            "1795481100",
            "1795481100000",
            "1234567",
            "0",
            "12",
            "-1",
            "1e3",
            "1.5",
        ] {
            assert_eq!(auto.of_text(text), None, "{text}");
        }
        // A year, as in Spark.
        assert_eq!(shown(auto.of_text("1234")), "1234-01-01 00:00:00");
        let seconds = times(TimestampNumbers::Seconds, &[]);
        assert_eq!(shown(seconds.of_text("1795481100")), "2026-11-24 00:45:00");
        assert_eq!(
            shown(seconds.of_text("1795481100.5")),
            "2026-11-24 00:45:00.500"
        );
        assert_eq!(shown(seconds.of_text("1234")), "1970-01-01 00:20:34");
        assert_eq!(
            shown(seconds.of_text("2026-11-24T00:45:00Z")),
            "2026-11-24 00:45:00"
        );
        assert_eq!(shown(seconds.of_text("2026-11")), "2026-11-01 00:00:00");
    }

    #[test]
    fn p02_patterns_are_tried_in_their_order_before_the_forms_that_are_always_read() {
        let both = times(
            TimestampNumbers::Auto,
            &[
                "yyyy/MM/dd HH:mm:ss",
                "dd.MM.yyyy",
                "yyyy-dd-MM",
                "dd/MM/yyyy HH:mm z",
            ],
        );
        for (text, expected) in [
            ("2026/11/24 00:45:00", "2026-11-24 00:45:00"),
            ("24.11.2026", "2026-11-24 00:00:00"),
            ("2026-01-04", "2026-04-01 00:00:00"),
            ("2026-11-24", "2026-11-24 00:00:00"),
            ("2026-11-24T00:45:00+0100", "2026-11-23 23:45:00"),
            ("24/11/2026 01:45 Europe/Oslo", "2026-11-24 00:45:00"),
            ("24/11/2026 01:45 Nowhere", "bad"),
            ("11/24/2026", "bad"),
            ("", "bad"),
        ] {
            assert_eq!(shown(both.of_text(text)), expected, "{text}");
        }
        assert_eq!(both.date("24.11.2026"), Some(20_781));
        assert_eq!(both.date("24/11/2026 23:45 America/New_York"), Some(20_781));
        assert_eq!(
            times(TimestampNumbers::Auto, &["HH:mm"]).date("01:45"),
            None
        );
    }
}
