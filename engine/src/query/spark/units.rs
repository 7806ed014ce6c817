//! Times and units: `timestampadd(HOUR, 1, ts)`, `timestampdiff(DAY, a, b)`, series of times.
//!
//! Owns: what they give. Does not own: their syntax (`lower`), parts of times (`times`).
//! Rule: the zone is UTC, so that a day has 24 hours; months have the days of the calendar.

use super::call::{Given, Refusal, Rows};
use super::clock::{DAY_MICROS, date_of, days_of, moment, months_later};
use super::types::{self, TIME};
use super::value::Value;
use crate::query::bounded;
use arrow::array::{
    ArrayRef, Date32Array, Int64Array, ListArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use chrono::{Datelike, NaiveDateTime};
use datafusion::common::{Result, exec_err};
use std::sync::Arc;

/// Months, days and microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub months: i64,
    pub days: i64,
    pub micros: i64,
}

impl Span {
    /// One of this unit, as Spark names it.
    pub(super) fn of_unit(unit: &str) -> Option<Self> {
        let span = |months, days, micros| Self {
            months,
            days,
            micros,
        };
        Some(match unit.to_uppercase().as_str() {
            "YEAR" => span(12, 0, 0),
            "QUARTER" => span(3, 0, 0),
            "MONTH" => span(1, 0, 0),
            "WEEK" => span(0, 7, 0),
            "DAY" | "DAYOFYEAR" => span(0, 1, 0),
            "HOUR" => span(0, 0, 3_600_000_000),
            "MINUTE" => span(0, 0, 60_000_000),
            "SECOND" => span(0, 0, 1_000_000),
            "MILLISECOND" => span(0, 0, 1_000),
            "MICROSECOND" => span(0, 0, 1),
            _ => return None,
        })
    }

    fn times(self, count: i64) -> Option<Self> {
        Some(Self {
            months: self.months.checked_mul(count)?,
            days: self.days.checked_mul(count)?,
            micros: self.micros.checked_mul(count)?,
        })
    }

    /// A time so much later.
    fn after(self, micros: i64) -> Option<i64> {
        let date = date_of(i32::try_from(micros.div_euclid(DAY_MICROS)).ok()?)?;
        let date = months_later(date, i32::try_from(self.months).ok()?)?;
        let day = i64::from(days_of(date)).checked_add(self.days)?;
        day.checked_mul(DAY_MICROS)?
            .checked_add(micros.rem_euclid(DAY_MICROS))?
            .checked_add(self.micros)
    }

    /// That of the arguments from this place on, which are texts.
    fn of_rows(rows: &Rows<'_>, from: usize) -> Result<Self> {
        let figure = |place| match rows.constant_text(place).map(|text| text.parse::<i64>()) {
            Some(Ok(figure)) => Ok(figure),
            _ => exec_err!("an interval is a constant"),
        };
        Ok(Self {
            months: figure(from)?,
            days: figure(from + 1)?,
            micros: figure(from + 2)?,
        })
    }
}

fn unit(rows: &Rows<'_>) -> Result<Span> {
    match rows.constant_text(0).and_then(|unit| Span::of_unit(&unit)) {
        Some(span) => Ok(span),
        None => exec_err!("{}() lacks a unit", rows.name),
    }
}

/// `timestampadd(unit, count, time)`.
pub(super) fn timestamp_add(rows: &Rows<'_>) -> Result<ArrayRef> {
    let unit = unit(rows)?;
    rows.times(|row| unit.times(row.int(1)?.into())?.after(row.time(2)?))
}

/// Whole months from one time to another, as Java counts them.
fn months_between(from: NaiveDateTime, to: NaiveDateTime) -> i64 {
    // A day is not over before its time.
    let packed = |time: NaiveDateTime, shift: i64| {
        let date = time.date() + chrono::TimeDelta::days(shift);
        let months = i64::from(date.year()) * 12 + i64::from(date.month0());
        months * 32 + i64::from(date.day())
    };
    let shift = match (to.date().cmp(&from.date()), to.time().cmp(&from.time())) {
        (std::cmp::Ordering::Greater, std::cmp::Ordering::Less) => -1,
        (std::cmp::Ordering::Less, std::cmp::Ordering::Greater) => 1,
        _ => 0,
    };
    (packed(to, shift) - packed(from, 0)) / 32
}

/// `timestampdiff(unit, from, to)`: whole units.
pub(super) fn timestamp_diff(rows: &Rows<'_>) -> Result<ArrayRef> {
    let unit = unit(rows)?;
    rows.longs(|row| {
        let (from, to) = (row.time(1)?, row.time(2)?);
        if unit.months > 0 {
            return Some(months_between(moment(from)?, moment(to)?) / unit.months);
        }
        Some(to.checked_sub(from)? / (unit.days * DAY_MICROS + unit.micros))
    })
}

/// Most elements of a series.
const ELEMENTS_MAX: i64 = 100_000;

/// `sequence(from, to, interval)` of dates or times, the interval as three texts.
pub(super) fn series_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let kinds = [given.kind(0), given.kind(1)];
    let element = match kinds {
        [DataType::Date32, DataType::Date32] => DataType::Date32,
        [one, two] if types::is_time(one) && types::is_time(two) => TIME,
        [one, two] => {
            let message = format!(
                "sequence() does not take {} and {} with an interval in dialect \"spark\"",
                types::name(one),
                types::name(two)
            );
            return Err(Refusal::new(message, "cast both to DATE or to TIMESTAMP"));
        }
    };
    let micros = given.constant_text(4)?.unwrap_or("0");
    if element == DataType::Date32 && micros != "0" {
        let message =
            "sequence() of dates with a part of a day is not supported in dialect \"spark\"";
        return Err(Refusal::new(message, "cast both to TIMESTAMP"));
    }
    Ok(DataType::List(Arc::new(Field::new_list_field(
        element, false,
    ))))
}

/// The times of a series; `None` if the step leads away from its end, where Spark stops the job.
fn series_of(from: i64, to: i64, step: Span) -> Result<Option<Vec<i64>>> {
    let is_up = step.months > 0 || step.days > 0 || step.micros > 0;
    let is_down = step.months < 0 || step.days < 0 || step.micros < 0;
    let leads = from == to || from < to && is_up || from > to && is_down;
    if !leads || is_up && is_down {
        return Ok(None);
    }
    let mut times = vec![];
    for count in 0.. {
        let Some(next) = step.times(count).and_then(|span| span.after(from)) else {
            break;
        };
        if is_up && next > to || is_down && next < to || count > 0 && from == to {
            break;
        }
        if count >= ELEMENTS_MAX {
            return exec_err!("sequence() makes more elements: {ELEMENTS_MAX} are the most");
        }
        times.push(next);
    }
    Ok(Some(times))
}

pub(super) fn series(rows: &Rows<'_>) -> Result<ArrayRef> {
    let step = Span::of_rows(rows, 2)?;
    series_by(rows, |_, _| step)
}

/// A day up or down, where no interval is written.
pub(super) fn series_of_days(rows: &Rows<'_>) -> Result<ArrayRef> {
    series_by(rows, |from, to| Span {
        months: 0,
        days: if from <= to { 1 } else { -1 },
        micros: 0,
    })
}

fn series_by(rows: &Rows<'_>, step: impl Fn(i64, i64) -> Span) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("sequence() gives a list");
    };
    let mut lists: Vec<Option<Vec<i64>>> = vec![];
    for row in (0..rows.count).map(|row| rows.row(row)) {
        let ends = row
            .value(0)
            .and_then(Value::time)
            .zip(row.value(1).and_then(Value::time));
        let list = match ends {
            Some((from, to)) => series_of(from, to, step(from, to))?,
            None => None,
        };
        // Of a batch, not more than its share of memory.
        let bytes: ArrayRef = Arc::new(Int64Array::from(vec![0]));
        let count = list.as_ref().map_or(0, Vec::len) as u64;
        bounded::charge_copies(rows.name, &[bytes], |_| count)?;
        lists.push(list);
    }
    if lists.is_empty() {
        return Ok(new_null_array(rows.gives, 0));
    }
    let lengths = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let valid = lists.iter().map(Option::is_some).collect();
    let all = lists.iter().flatten().flatten().copied();
    let values: ArrayRef = match element.data_type() {
        DataType::Date32 => {
            let days = all.map(|micros| micros.div_euclid(DAY_MICROS) as i32);
            Arc::new(Date32Array::from_iter_values(days))
        }
        _ => Arc::new(TimestampMicrosecondArray::from_iter_values(all)),
    };
    Ok(Arc::new(ListArray::try_new(
        element.clone(),
        offsets,
        values,
        Some(valid),
    )?))
}
