//! Dates and times as text, and the calendar.
//!
//! Owns: how Spark reads and writes dates and times without a pattern, in UTC. Does not own:
//! patterns (`pattern`).
//! Rule: a text that Spark does not read is NULL.

use crate::values::SHORT_NAMES;
use arrow::array::timezone::Tz;
use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};

pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// The date of a number of days since 1970.
pub(super) fn date_of(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(days)
}

pub(super) fn days_of(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

/// The date and the time of microseconds since 1970.
pub(super) fn moment(micros: i64) -> Option<NaiveDateTime> {
    let date = date_of(i32::try_from(micros.div_euclid(DAY_MICROS)).ok()?)?;
    let rest = micros.rem_euclid(DAY_MICROS);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(
        (rest / 1_000_000) as u32,
        (rest % 1_000_000) as u32 * 1_000,
    )?;
    Some(date.and_time(time))
}

pub(super) fn micros_of(moment: NaiveDateTime) -> i64 {
    let time = moment.time();
    let seconds = i64::from(time.num_seconds_from_midnight());
    i64::from(days_of(moment.date())) * DAY_MICROS
        + seconds * 1_000_000
        + i64::from(time.nanosecond() / 1_000)
}

pub(super) fn year_text(year: i32) -> String {
    match year {
        10_000.. => format!("+{year}"),
        0..10_000 => format!("{year:04}"),
        _ => format!("-{:04}", year.unsigned_abs()),
    }
}

pub(super) fn date_text(days: i32) -> String {
    match date_of(days) {
        Some(date) => format!(
            "{}-{:02}-{:02}",
            year_text(date.year()),
            date.month(),
            date.day()
        ),
        None => days.to_string(),
    }
}

pub(super) fn time_text(micros: i64) -> String {
    let Some(moment) = moment(micros) else {
        return micros.to_string();
    };
    let date = date_text(days_of(moment.date()));
    let time = moment.time();
    let seconds = format!(
        "{:02}:{:02}:{:02}",
        time.hour(),
        time.minute(),
        time.second()
    );
    let fraction = time.nanosecond() / 1_000;
    if fraction == 0 {
        return format!("{date} {seconds}");
    }
    let fraction = format!("{fraction:06}");
    format!("{date} {seconds}.{}", fraction.trim_end_matches('0'))
}

/// Without white space and control characters at both ends.
fn trimmed(text: &str) -> &str {
    super::number::trimmed(text)
}

/// A number of as many digits as allowed, and the rest.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(least..=most).contains(&count) {
        return None;
    }
    let (number, rest) = text.split_at(count);
    Some((number.parse().ok()?, rest))
}

/// Year, month and day at the beginning of a text, and the rest.
fn leading_date(text: &str) -> Option<(NaiveDate, &str, usize)> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (year, mut rest) = digits(unsigned, 4, 7)?;
    let year = if negative { -year } else { year };
    let mut parts = [1_i64, 1];
    let mut read = 1;
    for part in &mut parts {
        let Some(after) = rest.strip_prefix('-') else {
            break;
        };
        let (number, after) = digits(after, 1, 2)?;
        *part = number;
        rest = after;
        read += 1;
    }
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        u32::try_from(parts[0]).ok()?,
        u32::try_from(parts[1]).ok()?,
    )?;
    Some((date, rest, read))
}

/// A text as the days since 1970.
pub(super) fn date(text: &str) -> Option<i32> {
    let (date, rest, read) = leading_date(trimmed(text))?;
    let ends = rest.is_empty() || read == 3 && rest.starts_with([' ', 'T']);
    ends.then(|| days_of(date))
}

/// A text as microseconds since 1970.
pub(super) fn time(text: &str) -> Option<i64> {
    let text = trimmed(text);
    let (date, rest, read) = leading_date(text)?;
    if rest.is_empty() {
        return Some(micros_of(date.and_time(NaiveTime::MIN)));
    }
    if read < 3 {
        return None;
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    let (time, rest) = leading_time(rest)?;
    let local = date.and_time(time);
    let offset = match rest.trim_start() {
        "" if rest.is_empty() => 0,
        zone => zone_seconds(zone).or_else(|| place_seconds(zone, local))?,
    };
    micros_of(local).checked_sub(i64::from(offset) * 1_000_000)
}

/// The offset of a zone that is named after a place, at a local time. A time that was skipped there
/// has the offset from before.
fn place_seconds(zone: &str, local: NaiveDateTime) -> Option<i32> {
    let zone = SHORT_NAMES
        .iter()
        .find(|(short, _)| *short == zone)
        .map_or(zone, |(_, name)| name);
    if let Some(seconds) = zone_seconds(zone) {
        return Some(seconds);
    }
    // A name begins with a letter: an offset that is not read above is none.
    if !zone.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        return None;
    }
    let place: Tz = zone.parse().ok()?;
    let offset = place
        .offset_from_local_datetime(&local)
        .earliest()
        .or_else(|| {
            let before = local.checked_sub_days(Days::new(1))?;
            place.offset_from_local_datetime(&before).earliest()
        })?;
    Some(offset.fix().local_minus_utc())
}

/// Hour, minute, second and fraction at the beginning of a text, and the rest: a zone.
fn leading_time(text: &str) -> Option<(NaiveTime, &str)> {
    let mut parts = [0_u32; 3];
    let (hour, mut rest) = digits(text, 1, 2)?;
    parts[0] = u32::try_from(hour).ok()?;
    let mut read = 1;
    for part in &mut parts[1..] {
        let Some(after) = rest.strip_prefix(':') else {
            break;
        };
        let (number, after) = digits(after, 1, 2)?;
        *part = u32::try_from(number).ok()?;
        rest = after;
        read += 1;
    }
    // A zone follows seconds alone.
    if read < 3 && !rest.is_empty() {
        return None;
    }
    let mut micros = 0;
    if read == 3
        && let Some(after) = rest.strip_prefix('.')
    {
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, after) = after.split_at(count);
        let cut = &fraction[..count.min(6)];
        micros = format!("{cut:0<6}").parse().ok()?;
        rest = after;
    }
    let time = NaiveTime::from_hms_micro_opt(parts[0], parts[1], parts[2], micros)?;
    Some((time, rest))
}

/// The offset of a zone that has no place, in seconds.
pub(super) fn zone_seconds(zone: &str) -> Option<i32> {
    let offset = match zone {
        "Z" | "UTC" | "GMT" | "UT" => return Some(0),
        other => ["UTC", "GMT", "UT"]
            .iter()
            .find_map(|prefix| other.strip_prefix(prefix))
            .unwrap_or(other),
    };
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let parts: Vec<&str> = offset[1..].split(':').collect();
    let two = |part: &str| {
        let is_number = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours] if hours.len() == 4 => (two(&hours[..2])?, two(&hours[2..])?, 0),
        [hours] if hours.len() == 6 => (two(&hours[..2])?, two(&hours[2..4])?, two(&hours[4..])?),
        [hours] => (two(hours)?, 0, 0),
        [hours, minutes] => (two(hours)?, two(minutes)?, 0),
        [hours, minutes, seconds] => (two(hours)?, two(minutes)?, two(seconds)?),
        _ => return None,
    };
    let total = hours * 3_600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= 18 * 3_600).then_some(sign * total)
}

/// The same day of another month, or its last.
pub(super) fn months_later(date: NaiveDate, months: i32) -> Option<NaiveDate> {
    let total = i64::from(date.year()) * 12 + i64::from(date.month0()) + i64::from(months);
    let year = i32::try_from(total.div_euclid(12)).ok()?;
    let month = total.rem_euclid(12) as u32 + 1;
    let day = date.day().min(month_days(year, month)?);
    NaiveDate::from_ymd_opt(year, month, day)
}

pub(super) fn month_days(year: i32, month: u32) -> Option<u32> {
    let next = if month == 12 {
        NaiveDate::from_ymd_opt(year + 1, 1, 1)
    } else {
        NaiveDate::from_ymd_opt(year, month + 1, 1)
    };
    next?.pred_opt().map(|last| last.day())
}
