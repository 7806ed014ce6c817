//! Dates and times from text.
//!
//! Owns: the forms that are read without a pattern. Does not own: zones ([`super::zone`]), numbers.
//! Rule: the forms that Spark 3.5 reads in its JSON and CSV sources, in the proleptic Gregorian
//! calendar; a time without a zone is UTC. The most common form goes before all others.

use super::zone::{Zone, offset_s};

const DAY_S: i64 = 86_400;
pub(super) const DAY_US: i64 = DAY_S * 1_000_000;
/// Digits of a second that are kept.
pub(super) const US_DIGITS: i64 = 6;
/// 0001-01-01, in days since the Unix epoch.
const DAYS_MIN: i32 = -719_162;
/// 9999-12-31.
const DAYS_MAX: i32 = 2_932_896;
const YEAR_MAX: i64 = 9_999;
/// Most digits of a year, with zeros before it.
const YEAR_DIGITS_MAX: usize = 6;

/// A time, if its year is in 1 to 9999.
pub(super) fn in_range(us: i64) -> Option<i64> {
    let least = DAYS_MIN as i64 * DAY_US;
    let most = (DAYS_MAX as i64 + 1) * DAY_US;
    (least..most).contains(&us).then_some(us)
}

/// A date, if its year is in 1 to 9999.
pub(super) fn in_range_days(days: i32) -> Option<i32> {
    (DAYS_MIN..=DAYS_MAX).contains(&days).then_some(days)
}

/// A text as a date, in days since the Unix epoch: `2026-11-24`; or with one digit for month or
/// day, or `2026-11` or `2026` for the first day, or a full date with a `T` or a blank and anything
/// behind it.
pub(super) fn date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() == 10
        && let Some(days) = date_prefix(bytes)
    {
        return in_range_days(days);
    }
    match date_and_rest(bytes)? {
        (days, [] | [b'T' | b' ', ..]) => in_range_days(days),
        _ => None,
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.f]` or with a space instead of the `T`, then `Z`, `+HH:MM`, `-HH:MM` or
/// nothing: microseconds since the Unix epoch. Fractions have one to nine digits; digits below a
/// microsecond are cut off.
pub(super) fn iso_us(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let days = date_prefix(bytes)?;
    matches!(bytes.get(10)?, b'T' | b't' | b' ').then_some(())?;
    let clock = bytes.get(11..19)?;
    (clock[2] == b':' && clock[5] == b':').then_some(())?;
    let hours = number(&clock[..2])?;
    let minutes = number(&clock[3..5])?;
    let seconds = number(&clock[6..])?;
    (hours < 24 && minutes < 60 && seconds < 60).then_some(())?;
    let (fraction_us, zone) = fraction(&bytes[19..])?;
    let offset_s = match zone {
        [] | [b'Z' | b'z'] => 0,
        [b'+' | b'-', _, _, b':', _, _] => offset_s(zone)?,
        _ => return None,
    };
    let local_s = i64::from(days) * DAY_S + hours * 3_600 + minutes * 60 + seconds;
    Some((local_s - offset_s) * 1_000_000 + fraction_us)
}

/// A text as a time, in microseconds since the Unix epoch: a date as in [`date`] with nothing
/// behind it, or `2026-11-24T00:45:00.123 Europe/Oslo` with one or two digits for each field and
/// `T` or a blank before the clock. Minutes, seconds, fraction and zone may be missing from the end
/// on; a zone stands behind seconds. Digits below a microsecond are cut off.
pub(super) fn timestamp_us(text: &str) -> Option<i64> {
    if let Some(us) = iso_us(text) {
        return in_range(us);
    }
    let (days, rest) = date_and_rest(text.as_bytes())?;
    let day_us = i64::from(days) * DAY_US;
    let clock = match rest {
        [] => return in_range(day_us),
        [b'T' | b't' | b' ', clock @ ..] => clock,
        _ => return None,
    };
    let (us, zone) = clock_us(clock)?;
    // Everything before it is ASCII, so it begins at a character.
    match text.get(text.len() - zone.len()..)?.trim_ascii() {
        "" => in_range(day_us + us),
        zone => in_range(Zone::parse(zone)?.to_utc_us(day_us + us)?),
    }
}

/// `2026-1-4`, `2026-11` or `2026`, a plus sign allowed before it: the day, and what follows.
fn date_and_rest(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let bytes = bytes.strip_prefix(b"+").unwrap_or(bytes);
    let (year, rest) = digits(bytes, 4, YEAR_DIGITS_MAX)?;
    (1..=YEAR_MAX).contains(&year).then_some(())?;
    let [b'-', rest @ ..] = rest else {
        return rest.is_empty().then_some((days(year, 1, 1)?, rest));
    };
    let (month, rest) = digits(rest, 1, 2)?;
    let [b'-', rest @ ..] = rest else {
        return rest.is_empty().then_some((days(year, month, 1)?, rest));
    };
    let (day, rest) = digits(rest, 1, 2)?;
    Some((days(year, month, day)?, rest))
}

/// `1`, `1:2` or `1:2:3.4`: microseconds of the day, and what follows seconds.
fn clock_us(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (hours, rest) = digits(bytes, 1, 2)?;
    (hours < 24).then_some(())?;
    let hours_us = hours * 3_600_000_000;
    let [b':', rest @ ..] = rest else {
        return rest.is_empty().then_some((hours_us, rest));
    };
    let (minutes, rest) = digits(rest, 1, 2)?;
    (minutes < 60).then_some(())?;
    let minutes_us = hours_us + minutes * 60_000_000;
    let [b':', rest @ ..] = rest else {
        return rest.is_empty().then_some((minutes_us, rest));
    };
    let (seconds, rest) = digits(rest, 1, 2)?;
    (seconds < 60).then_some(())?;
    let seconds_us = minutes_us + seconds * 1_000_000;
    let [b'.', rest @ ..] = rest else {
        return Some((seconds_us, rest));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at(count);
    let digit = |at: usize| fraction.get(at).map_or(0, |byte| i64::from(byte - b'0'));
    let fraction_us = (0..6).fold(0, |sum, at| sum * 10 + digit(at));
    Some((seconds_us + fraction_us, rest))
}

/// All digits at the beginning as one number, if there are so many, and the rest.
fn digits(bytes: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let count = count.take(most + 1).count();
    (least..=most).contains(&count).then_some(())?;
    Some((number(&bytes[..count])?, &bytes[count..]))
}

fn date_prefix(bytes: &[u8]) -> Option<i32> {
    let date = bytes.get(..10)?;
    (date[4] == b'-' && date[7] == b'-').then_some(())?;
    days(
        number(&date[..4])?,
        number(&date[5..7])?,
        number(&date[8..])?,
    )
}

/// The days since the Unix epoch of a date, if there is such a date.
fn days(year: i64, month: i64, day: i64) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    (1..=length).contains(&day).then_some(())?;
    i32::try_from(days_since_epoch(year, month, day)).ok()
}

/// Years begin in March here, so that the leap day is the last one and months have a regular
/// pattern.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Microseconds, and the rest of the text.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = bytes.split_first() else {
        return Some((0, bytes));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=9).contains(&count).then_some(())?;
    let nanoseconds = number(&rest[..count])? * 10_i64.pow(9 - count as u32);
    Some((nanoseconds / 1_000, &rest[count..]))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDate};

    fn shown(us: Option<i64>) -> String {
        us.map_or("bad".to_owned(), |us| {
            let time = DateTime::from_timestamp_micros(us).unwrap();
            time.format("%Y-%m-%d %H:%M:%S%.f").to_string()
        })
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in (DAYS_MIN..=DAYS_MAX).step_by(97) {
            let day = epoch + chrono::TimeDelta::days(i64::from(days));
            assert_eq!(date(&day.to_string()), Some(days), "{day}");
            let text = day.format("%Y-%-m-%-d").to_string();
            assert_eq!(date(&text), Some(days), "{text}");
        }
        assert_eq!(date("2000-02-29"), Some(11_016));
    }

    /// Answers of Spark 3.5.3 for a `date` column of JSON, whose years end at 9999 here.
    #[test]
    fn p03_a_date_has_the_forms_that_spark_reads() {
        for text in [
            "2026-11-24",
            "2026-11-24T00:00:00Z",
            "2026-11-24 00:00:00",
            "2026-11-24T23:59:59+14:00",
            "2026-11-24T23:00:00-05:00",
            "2026-11-24T",
            "2026-11-24 ",
            "2026-11-24 garbage",
            "+2026-11-24",
            "002026-11-24",
        ] {
            assert_eq!(date(text), Some(20_781), "{text}");
        }
        for (text, day) in [
            ("2026-1-4", "2026-01-04"),
            ("2026", "2026-01-01"),
            ("2026-11", "2026-11-01"),
            ("2026-1", "2026-01-01"),
            ("1582-10-10", "1582-10-10"),
            ("0001-01-01", "0001-01-01"),
            ("9999-12-31", "9999-12-31"),
        ] {
            let day: NaiveDate = day.parse().unwrap();
            let days = day.signed_duration_since(NaiveDate::default()).num_days();
            assert_eq!(date(text).map(i64::from), Some(days), "{text}");
        }
        for bad in [
            "",
            "24/11/2026",
            "2026/11/24",
            "20261124",
            "20781",
            "0",
            "0000-00-00",
            "0000-01-01",
            "10000-01-01",
            "999999-12-31",
            "-2026-11-24",
            "2026-",
            "2026-11-",
            "2026-11 ",
            "2026-11T",
            "2026-11-24Z",
            "2026-11-24garbage",
            "2026-11-24t00:00",
            "2023-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "2026-011-24",
            "2026-11-024",
            "226-11-24",
            "26-11-24",
            "epoch",
            "now",
            "null",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-11-24T00:45:00.123456+05:30",
            "1969-12-31T23:59:59.999-00:01",
        ] {
            let expected = DateTime::parse_from_rfc3339(text).unwrap();
            assert_eq!(
                timestamp_us(text),
                Some(expected.timestamp_micros()),
                "{text}"
            );
        }
        // As RFC 3339 allows; Spark has NULL for both.
        assert_eq!(timestamp_us("1970-01-01t00:00:01z"), Some(1_000_000));
    }

    /// Answers of Spark 3.5.3 for a `timestamp` column of JSON, session zone UTC.
    #[test]
    fn p02_a_time_has_the_forms_that_spark_reads() {
        for (text, expected) in [
            ("2026-11-24T00:45:00Z", "2026-11-24 00:45:00"),
            ("2026-11-24T00:45:00.39256Z", "2026-11-24 00:45:00.392560"),
            ("2026-11-24 00:45:00.14", "2026-11-24 00:45:00.140"),
            ("2026-11-24T00:45:00+01:00", "2026-11-23 23:45:00"),
            ("2026-11-24T00:45:00+0100", "2026-11-23 23:45:00"),
            ("2026-11-24T00:45:00+01", "2026-11-23 23:45:00"),
            ("2026-11-24 00:45:00 UTC", "2026-11-24 00:45:00"),
            ("2026-11-24 00:45", "2026-11-24 00:45:00"),
            ("2026-11-24", "2026-11-24 00:00:00"),
            ("2026-1-4 00:45:00", "2026-01-04 00:45:00"),
            ("2026-01-04 0:45:00", "2026-01-04 00:45:00"),
            (
                "2026-11-24T00:45:00.1234567891Z",
                "2026-11-24 00:45:00.123456",
            ),
            ("2026-11-24 00:45:00.000 +0000", "2026-11-24 00:45:00"),
            ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
            ("2026", "2026-01-01 00:00:00"),
            ("2026-11", "2026-11-01 00:00:00"),
            ("2026-1", "2026-01-01 00:00:00"),
            ("2026-11-24T1", "2026-11-24 01:00:00"),
            ("2026-11-24T01", "2026-11-24 01:00:00"),
            ("2026-11-24 1:2:3", "2026-11-24 01:02:03"),
            ("2026-11-24 1:2", "2026-11-24 01:02:00"),
            ("2026-11-24T01:02:03.", "2026-11-24 01:02:03"),
            (
                "2026-11-24T01:02:03.1234569999",
                "2026-11-24 01:02:03.123456",
            ),
            (
                "2026-11-24T01:02:03.000000000000000001Z",
                "2026-11-24 01:02:03",
            ),
            ("2026-11-24T01:02:03 Z", "2026-11-24 01:02:03"),
            ("2026-11-24T01:02:03 +01:00", "2026-11-24 00:02:03"),
            ("2026-11-24T01:02:03 +1:00", "2026-11-24 00:02:03"),
            ("2026-11-24T01:02:03+1", "2026-11-24 00:02:03"),
            ("2026-11-24T01:02:03+1:0", "2026-11-24 00:02:03"),
            ("2026-11-24T01:02:03-1:30", "2026-11-24 02:32:03"),
            ("2026-11-24T01:02:03+01:30:15", "2026-11-23 23:31:48"),
            ("2026-11-24T01:02:03+010203", "2026-11-24 00:00:00"),
            ("2026-11-24T01:02:03+18:00", "2026-11-23 07:02:03"),
            ("2026-11-24T01:02:03-00:00", "2026-11-24 01:02:03"),
            ("2026-11-24 01:02:03 -05", "2026-11-24 06:02:03"),
            ("2026-11-24T01:02:03 Europe/Oslo", "2026-11-24 00:02:03"),
            ("2026-11-24T01:02:03Europe/Oslo", "2026-11-24 00:02:03"),
            ("2026-11-24 01:02:03 GMT+1", "2026-11-24 00:02:03"),
            ("2026-11-24 01:02:03 UTC+01:00", "2026-11-24 00:02:03"),
            ("2026-11-24 01:02:03 GMT", "2026-11-24 01:02:03"),
            ("2026-11-24 01:02:03 UT", "2026-11-24 01:02:03"),
            ("2026-11-24 01:02:03 Zulu", "2026-11-24 01:02:03"),
            ("2026-11-24 01:02:03 EST", "2026-11-24 06:02:03"),
            ("2026-11-24 01:02:03 PST", "2026-11-24 09:02:03"),
            ("2026-11-24 01:02:03 CET", "2026-11-24 00:02:03"),
            ("2026-11-24 01:02:03 PRT", "2026-11-24 05:02:03"),
            ("2026-11-24 01:02:03 ACT", "2026-11-23 15:32:03"),
            (
                "2026-11-24 01:02:03 America/New_York",
                "2026-11-24 06:02:03",
            ),
            (
                "2026-07-24 01:02:03 America/New_York",
                "2026-07-24 05:02:03",
            ),
            // Left out by a change of clocks, and there twice.
            ("2026-03-29 02:30:00 Europe/Oslo", "2026-03-29 01:30:00"),
            ("2026-10-25 02:30:00 Europe/Oslo", "2026-10-25 00:30:00"),
            ("2026-11-24T01:02:03.5UTC", "2026-11-24 01:02:03.500"),
            ("2026-11-24T01:02:03.1+0100", "2026-11-24 00:02:03.100"),
            ("+2026-11-24", "2026-11-24 00:00:00"),
            ("1582-10-10 00:00:00", "1582-10-10 00:00:00"),
            ("0026-11-24 01:02:03", "0026-11-24 01:02:03"),
            ("1234", "1234-01-01 00:00:00"),
        ] {
            assert_eq!(shown(timestamp_us(text)), expected, "{text}");
        }
    }

    /// NULL or an error in Spark 3.5.3, or a year out of 1 to 9999, or the day of today.
    #[test]
    fn p02_what_is_no_time_for_spark_is_none_here() {
        for bad in [
            "",
            "2026-11-24T00:45Z",
            "2026-11-24T00:45:00,123Z",
            "2026-11-24T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "11/24/2026 00:45:00",
            "20261124T004500Z",
            "Tue, 24 Nov 2026 00:45:00 GMT",
            "2026-11-24T00:45:00.000Z[UTC]",
            "2026-",
            "2026-11-",
            "2026-11-24T",
            "2026-11-24T01:",
            "2026-11-24T01:02:",
            "2026-11-24T01:60:00",
            "2026-11-24T001:02:03",
            "2026-11-24T01:02:03+19:00",
            "2026-11-24T01:02:03-18:01",
            "2026-11-24T01:02:03+010",
            "2026-11-24T01:02:03+01000",
            "2026-11-24 01:02:03+1:",
            "2026-11-24 01:02:03 +",
            "2026-11-24 01:02:03 utc",
            "2026-11-24 01:02:03 XYZ",
            "2026-11-24 01:02:03 A",
            "2026-11-24Z",
            "2026-11-24 Z",
            "2026-11-24+01:00",
            "2026-11-24T01Z",
            "2026-11-24T01+01:00",
            "2026-11-24T01:02+01:00",
            "2026-11-24  01:02:03",
            "2026-11-24\t01:02:03",
            "2026-11 01:02:03",
            "12026-11-24",
            "999999-12-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
            "-2026-11-24T00:00:00Z",
            "0000-01-01",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "226-11-24",
            "T01:02:03",
            "01:02:03",
            "2026-02-30",
            "2026-11-31 00:00:00",
            "2026-13-01",
            "2026-011-24",
            "2026-11-024",
            "1795481100",
            "12345",
            "123",
            "1e3",
            "now",
            "2026-11-24 12:00 PM",
            "2026-11-24 01:02:03 é",
        ] {
            assert_eq!(timestamp_us(bad), None, "{bad}");
        }
    }
}
