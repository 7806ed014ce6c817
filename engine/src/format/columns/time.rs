//! Dates and times from text.
//!
//! Rule: ISO 8601 in one form each, in the proleptic Gregorian calendar; a time without an offset
//! is UTC.

const DAY_S: i64 = 86_400;

/// `YYYY-MM-DD`: days since the Unix epoch.
pub(super) fn date(text: &str) -> Option<i32> {
    (text.len() == 10).then_some(())?;
    date_prefix(text.as_bytes())
}

/// `YYYY-MM-DDTHH:MM:SS[.f]` or with a space instead of the `T`, then `Z`, `+HH:MM`, `-HH:MM` or
/// nothing: microseconds since the Unix epoch. Fractions have one to nine digits; digits below a
/// microsecond are cut off.
pub(super) fn timestamp_us(text: &str) -> Option<i64> {
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
    let local_s = i64::from(days) * DAY_S + hours * 3_600 + minutes * 60 + seconds;
    Some((local_s - offset_s(zone)?) * 1_000_000 + fraction_us)
}

fn date_prefix(bytes: &[u8]) -> Option<i32> {
    let date = bytes.get(..10)?;
    (date[4] == b'-' && date[7] == b'-').then_some(())?;
    let year = number(&date[..4])?;
    let month = number(&date[5..7])?;
    let day = number(&date[8..])?;
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

fn offset_s(zone: &[u8]) -> Option<i64> {
    match zone {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = number(&[*h1, *h2])?;
            let minutes = number(&[*m1, *m2])?;
            (hours < 24 && minutes < 60).then_some(())?;
            let size = hours * 3_600 + minutes * 60;
            Some(if *sign == b'-' { -size } else { size })
        }
        _ => None,
    }
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

    #[test]
    fn dates_are_those_of_the_calendar() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in (-719_162..2_932_896).step_by(97) {
            let text = (epoch + chrono::Days::new(0) + chrono::TimeDelta::days(i64::from(days)))
                .to_string();
            assert_eq!(date(&text), Some(days), "{text}");
        }
        for bad in [
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-04-31",
            "2024-1-01",
            "24-01-01",
            "2024-01-01 ",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(date("2000-02-29"), Some(11_016));
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-11-24T00:45:00.123456+05:30",
            "1969-12-31T23:59:59.999-00:01",
        ] {
            let expected = DateTime::parse_from_rfc3339(text)
                .unwrap()
                .timestamp_micros();
            assert_eq!(timestamp_us(text), Some(expected), "{text}");
        }
        assert_eq!(timestamp_us("1970-01-01 00:00:01.5"), Some(1_500_000));
        assert_eq!(timestamp_us("1970-01-01 00:00:00.123456789"), Some(123_456));
        for bad in [
            "1970-01-01",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00",
            "0",
        ] {
            assert_eq!(timestamp_us(bad), None, "{bad}");
        }
    }
}
