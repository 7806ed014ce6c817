//! Functions on dates and times.
//!
//! Owns: what each gives. Does not own: patterns (`pattern`), texts without one (`clock`).
//! Rule: the zone is UTC; an hour of a window is the same hour whenever it is read.

use super::call::{Given, Refusal, Row, Rows};
use super::clock::{DAY_MICROS, date_of, days_of, micros_of, moment, month_days, months_later};
use super::pattern::{Pattern, Use};
use super::types::{self, TIME};
use super::value::Value;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Weekday};
use datafusion::common::{Result, exec_err};

const SECOND_MICROS: i64 = 1_000_000;
const MINUTE_MICROS: i64 = 60 * SECOND_MICROS;

fn of_date(rows: &Rows<'_>, of: impl Fn(NaiveDate) -> i32) -> Result<ArrayRef> {
    rows.ints(|row| Some(of(date_of(row.date(0)?)?)))
}

fn of_time(rows: &Rows<'_>, of: impl Fn(NaiveDateTime) -> i32) -> Result<ArrayRef> {
    rows.ints(|row| Some(of(moment(row.time(0)?)?)))
}

pub(super) fn year(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.year())
}

pub(super) fn quarter(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.month0() as i32 / 3 + 1)
}

pub(super) fn month(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.month() as i32)
}

pub(super) fn day(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.day() as i32)
}

/// 1 to 7 from Sunday.
pub(super) fn day_of_week(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| {
        date.weekday().num_days_from_sunday() as i32 + 1
    })
}

/// 0 to 6 from Monday.
pub(super) fn weekday(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.weekday().num_days_from_monday() as i32)
}

pub(super) fn day_of_year(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.ordinal() as i32)
}

pub(super) fn week_of_year(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.iso_week().week() as i32)
}

/// The year that the week of a day belongs to.
pub(super) fn year_of_week(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.iso_week().year())
}

/// 1 to 7 from Monday.
pub(super) fn iso_day_of_week(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_date(rows, |date| date.weekday().number_from_monday() as i32)
}

pub(super) fn hour(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_time(rows, |time| time.hour() as i32)
}

pub(super) fn minute(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_time(rows, |time| time.minute() as i32)
}

pub(super) fn second(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_time(rows, |time| time.second() as i32)
}

/// `extract(SECOND FROM ts)`: with the fraction.
pub(super) fn exact_second(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.decimals(|row| Some(row.time(0)?.rem_euclid(60 * SECOND_MICROS).into()))
}

/// The pattern argument, checked when the query is planned.
fn check_pattern(given: &Given<'_>, place: usize, purpose: Use) -> Result<(), Refusal> {
    match given.constant_text(place)? {
        Some(text) => Pattern::new(text, purpose).map(|_| ()),
        None => Ok(()),
    }
}

pub(super) fn written(given: &Given<'_>) -> Result<(), Refusal> {
    check_pattern(given, 1, Use::Write)
}

pub(super) fn read(given: &Given<'_>) -> Result<(), Refusal> {
    if given.types.len() == 2 && *given.kind(0) != DataType::Utf8 {
        return Err(given.refuse(
            format!(
                "with a pattern does not take {}",
                types::name(given.kind(0))
            ),
            "leave the pattern out",
        ));
    }
    check_pattern(given, 1, Use::Read)
}

pub(super) fn readable(given: &Given<'_>) -> Result<(), Refusal> {
    match given.kind(0) {
        DataType::Utf8 | DataType::Null => {}
        kind if types::is_time(kind) => {}
        // As a cast has it: seconds.
        kind if given.name == "to_timestamp"
            && given.types.len() == 1
            && (types::is_whole(kind) || types::is_decimal(kind)) => {}
        kind => {
            return Err(given.refuse(
                format!("does not take {}", types::name(kind)),
                "it takes a date, a timestamp or a text",
            ));
        }
    }
    read(given)
}

fn pattern(rows: &Rows<'_>, purpose: Use, default: &str) -> Result<Pattern> {
    let text = rows.constant_text(1).unwrap_or_else(|| default.to_owned());
    Ok(Pattern::new(&text, purpose)?)
}

const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

pub(super) fn date_format(rows: &Rows<'_>) -> Result<ArrayRef> {
    let pattern = pattern(rows, Use::Write, DEFAULT)?;
    rows.texts(|row| Some(pattern.write(moment(row.time(0)?)?)))
}

pub(super) fn from_unixtime(rows: &Rows<'_>) -> Result<ArrayRef> {
    let pattern = pattern(rows, Use::Write, DEFAULT)?;
    rows.texts(|row| {
        let micros = row.long(0)?.wrapping_mul(SECOND_MICROS);
        Some(pattern.write(moment(micros)?))
    })
}

/// A time: of a text by a pattern, or converted.
fn time_of(row: Row<'_>, pattern: Option<&Pattern>) -> Option<i64> {
    match (row.value(0)?, pattern) {
        (Value::Text(text), Some(pattern)) => pattern.read(text),
        (value, _) => value.time(),
    }
}

fn reading(rows: &Rows<'_>, default: Option<&str>) -> Result<Option<Pattern>> {
    if rows.args() < 2 && default.is_none() {
        return Ok(None);
    }
    pattern(rows, Use::Read, default.unwrap_or(DEFAULT)).map(Some)
}

pub(super) fn to_timestamp(rows: &Rows<'_>) -> Result<ArrayRef> {
    let pattern = reading(rows, None)?;
    rows.times(|row| time_of(row, pattern.as_ref()))
}

pub(super) fn to_date(rows: &Rows<'_>) -> Result<ArrayRef> {
    let pattern = reading(rows, None)?;
    if pattern.is_none() {
        return rows.dates(|row| row.date(0));
    }
    rows.dates(|row| {
        let micros = time_of(row, pattern.as_ref())?;
        i32::try_from(micros.div_euclid(DAY_MICROS)).ok()
    })
}

pub(super) fn unix_timestamp(rows: &Rows<'_>) -> Result<ArrayRef> {
    let pattern = reading(rows, Some(DEFAULT))?;
    rows.longs(|row| Some(time_of(row, pattern.as_ref())? / SECOND_MICROS))
}

pub(super) fn timestamp_seconds(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.times(|row| row.long(0)?.checked_mul(SECOND_MICROS))
}

pub(super) fn timestamp_millis(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.times(|row| row.long(0)?.checked_mul(1_000))
}

pub(super) fn timestamp_micros(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.times(|row| row.long(0))
}

pub(super) fn unix_seconds(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| Some(row.time(0)?.div_euclid(SECOND_MICROS)))
}

pub(super) fn unix_millis(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| Some(row.time(0)?.div_euclid(1_000)))
}

pub(super) fn unix_micros(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| row.time(0))
}

pub(super) fn unix_date(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| row.date(0))
}

pub(super) fn date_from_unix_date(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| row.int(0))
}

pub(super) fn date_add(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| Some(row.date(0)?.wrapping_add(row.int(1)?)))
}

pub(super) fn date_sub(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| Some(row.date(0)?.wrapping_sub(row.int(1)?)))
}

pub(super) fn datediff(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| Some(row.date(0)?.wrapping_sub(row.date(1)?)))
}

pub(super) fn add_months(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| months_later(date_of(row.date(0)?)?, row.int(1)?).map(days_of))
}

pub(super) fn last_day(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| {
        let date = date_of(row.date(0)?)?;
        date.with_day(month_days(date.year(), date.month())?)
            .map(days_of)
    })
}

fn weekday_named(name: &str) -> Option<Weekday> {
    Some(match name.to_ascii_uppercase().as_str() {
        "SU" | "SUN" | "SUNDAY" => Weekday::Sun,
        "MO" | "MON" | "MONDAY" => Weekday::Mon,
        "TU" | "TUE" | "TUESDAY" => Weekday::Tue,
        "WE" | "WED" | "WEDNESDAY" => Weekday::Wed,
        "TH" | "THU" | "THURSDAY" => Weekday::Thu,
        "FR" | "FRI" | "FRIDAY" => Weekday::Fri,
        "SA" | "SAT" | "SATURDAY" => Weekday::Sat,
        _ => return None,
    })
}

pub(super) fn next_day(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| {
        let date = date_of(row.date(0)?)?;
        let wanted = weekday_named(&row.text(1)?)?;
        let ahead = wanted.num_days_from_monday() + 7 - date.weekday().num_days_from_monday();
        let ahead = if ahead % 7 == 0 { 7 } else { ahead % 7 };
        date.checked_add_days(Days::new(ahead.into())).map(days_of)
    })
}

pub(super) fn make_date(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| {
        let part = |place| row.int(place).and_then(|part| u32::try_from(part).ok());
        NaiveDate::from_ymd_opt(row.int(0)?, part(1)?, part(2)?).map(days_of)
    })
}

/// The first day of the unit that a day lies in.
/// `make_timestamp(year, month, day, hour, minute, seconds)`; 60 seconds are the next minute.
pub(super) fn make_timestamp(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.times(|row| {
        let part = |place: usize| row.int(place)?.try_into().ok();
        let date = NaiveDate::from_ymd_opt(row.int(0)?, part(1)?, part(2)?)?;
        let minute = date.and_hms_opt(part(3)?, part(4)?, 0)?;
        let micros: i64 = row.value(5)?.decimal(16, 6)?.try_into().ok()?;
        (0..=MINUTE_MICROS)
            .contains(&micros)
            .then(|| super::clock::micros_of(minute) + micros)
    })
}

fn first_day(date: NaiveDate, unit: &str) -> Option<NaiveDate> {
    match unit.to_ascii_uppercase().as_str() {
        "YEAR" | "YYYY" | "YY" => NaiveDate::from_ymd_opt(date.year(), 1, 1),
        "QUARTER" => NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1),
        "MONTH" | "MM" | "MON" => date.with_day(1),
        "WEEK" => date.checked_sub_days(Days::new(date.weekday().num_days_from_monday().into())),
        _ => None,
    }
}

pub(super) fn trunc(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.dates(|row| first_day(date_of(row.date(0)?)?, &row.text(1)?).map(days_of))
}

pub(super) fn date_trunc(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.times(|row| {
        let unit = row.text(0)?.to_ascii_uppercase();
        let micros = row.time(1)?;
        let step = match unit.as_str() {
            "MICROSECOND" => 1,
            "MILLISECOND" => 1_000,
            "SECOND" => SECOND_MICROS,
            "MINUTE" => 60 * SECOND_MICROS,
            "HOUR" => 3_600 * SECOND_MICROS,
            "DAY" | "DD" => DAY_MICROS,
            unit => {
                let first = first_day(moment(micros)?.date(), unit)?;
                return Some(micros_of(first.and_time(NaiveTime::MIN)));
            }
        };
        Some(micros.div_euclid(step) * step)
    })
}

/// `plus_interval(time, months, days, microseconds)`, the figures as texts.
pub(super) fn plus_interval_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let micros = given.constant_text(3)?.unwrap_or("0") != "0";
    match given.kind(0) {
        DataType::Date32 if micros => Ok(TIME),
        DataType::Date32 => Ok(DataType::Date32),
        kind if *kind == TIME => Ok(TIME),
        kind => Err(Refusal::new(
            format!(
                "an interval is not added to {} in dialect \"spark\"",
                types::name(kind)
            ),
            "cast it: CAST(x AS TIMESTAMP) + INTERVAL 1 DAY",
        )),
    }
}

pub(super) fn plus_interval(rows: &Rows<'_>) -> Result<ArrayRef> {
    let figure = |place| -> Result<i64> {
        match rows.constant_text(place).map(|text| text.parse::<i64>()) {
            Some(Ok(figure)) => Ok(figure),
            _ => exec_err!("an interval is a constant"),
        }
    };
    let months = figure(1)?;
    let days = figure(2)?;
    let micros = figure(3)?;
    let moved = |date: NaiveDate| {
        let date = months_later(date, i32::try_from(months).ok()?)?;
        days_of(date).checked_add(i32::try_from(days).ok()?)
    };
    if *rows.gives == DataType::Date32 {
        return rows.dates(|row| moved(date_of(row.date(0)?)?));
    }
    rows.times(|row| {
        let from = row.time(0)?;
        let date = date_of(i32::try_from(from.div_euclid(DAY_MICROS)).ok()?)?;
        let days = i64::from(moved(date)?);
        (days * DAY_MICROS + from.rem_euclid(DAY_MICROS)).checked_add(micros)
    })
}

/// `months_between(end, start)`: to eight digits, but for a third argument that is false.
pub(super) fn months_between(rows: &Rows<'_>) -> Result<ArrayRef> {
    const MONTH_SECONDS: f64 = 31.0 * 86_400.0;
    rows.doubles(|row| {
        let is_rounded = !row.has(2) || row.bool(2)?;
        let (one, two) = (moment(row.time(0)?)?, moment(row.time(1)?)?);
        let months = |time: NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month());
        let between = (months(one) - months(two)) as f64;
        let is_last =
            |time: NaiveDateTime| month_days(time.year(), time.month()) == Some(time.day());
        if one.day() == two.day() || (is_last(one) && is_last(two)) {
            return Some(between);
        }
        let seconds = |time: NaiveDateTime| {
            i64::from(time.day()) * 86_400 + i64::from(time.num_seconds_from_midnight())
        };
        let more = between + (seconds(one) - seconds(two)) as f64 / MONTH_SECONDS;
        Some(if is_rounded {
            (more * 1e8 + 0.5).floor() / 1e8
        } else {
            more
        })
    })
}
