//! `window(ts, '10 minutes', '5 minutes')`: the spans of time that a time lies in.
//!
//! Owns: the spans, their bounds. Does not own: where they stand in a query (`lower`).
//! Rule: spans are counted from 1970-01-01T00:00Z, as Spark counts them.

use super::call::{Given, Refusal, Rows};
use super::types::TIME;
use arrow::array::{ArrayRef, ListArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err};
use std::sync::Arc;

/// Most spans that a time may lie in.
pub(super) const OVERLAPS_MAX: i64 = 300;

fn fields() -> Fields {
    ["start", "end"]
        .map(|name| Field::new(name, TIME, true))
        .into_iter()
        .collect()
}

/// The length of spans, the time from one to the next, and where they begin, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spans {
    pub length: i64,
    pub slide: i64,
    pub start: i64,
}

impl Spans {
    /// What is wrong with them.
    pub(super) fn problem(self) -> Option<(&'static str, String)> {
        if self.length <= 0 || self.slide <= 0 {
            let hint = "write a length such as '5 minutes'".to_owned();
            return Some(("window() without a length", hint));
        }
        if self.slide > self.length {
            let hint = "the third argument is at most the second".to_owned();
            return Some(("window() that leaves times out", hint));
        }
        if self.start.saturating_abs() >= self.slide {
            let hint = "the fourth argument is less than the third".to_owned();
            return Some(("window() that begins so late", hint));
        }
        if self.overlaps() > OVERLAPS_MAX {
            let hint =
                format!("a time may lie in {OVERLAPS_MAX} of them: let them begin less often");
            return Some(("window() with so many spans around a time", hint));
        }
        None
    }

    fn overlaps(self) -> i64 {
        self.length / self.slide + i64::from(self.length % self.slide != 0)
    }

    /// The begins of all spans around a time, the last one first.
    fn around(self, micros: i64) -> impl Iterator<Item = i64> {
        let last = micros - (micros - self.start).rem_euclid(self.slide);
        let begins = (0..self.overlaps()).map(move |place| last - place * self.slide);
        begins.filter(move |begin| micros < begin + self.length)
    }

    fn of_rows(rows: &Rows<'_>) -> Result<Self> {
        let figure = |place| match rows.constant_text(place).map(|text| text.parse::<i64>()) {
            Some(Ok(figure)) => Ok(figure),
            _ => exec_err!("window() has constants"),
        };
        Ok(Self {
            length: figure(1)?,
            slide: figure(2)?,
            start: figure(3)?,
        })
    }
}

/// Spans of these begins.
fn structs(begins: &[i64], length: i64, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let column = |shift: i64| -> ArrayRef {
        let times = begins.iter().map(|begin| begin + shift);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times))
    };
    let columns = vec![column(0), column(length)];
    Ok(StructArray::try_new_with_length(
        fields(),
        columns,
        nulls,
        begins.len(),
    )?)
}

pub(super) fn window_type(_: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(DataType::Struct(fields()))
}

/// The one span around each time.
pub(super) fn window(rows: &Rows<'_>) -> Result<ArrayRef> {
    let spans = Spans::of_rows(rows)?;
    let begins: Vec<Option<i64>> = (0..rows.count)
        .map(|row| spans.around(rows.row(row).time(0)?).next())
        .collect();
    let nulls: NullBuffer = begins.iter().map(Option::is_some).collect();
    let begins: Vec<i64> = begins.into_iter().map(Option::unwrap_or_default).collect();
    Ok(Arc::new(structs(&begins, spans.length, Some(nulls))?))
}

pub(super) fn windows_type(_: &Given<'_>) -> Result<DataType, Refusal> {
    let element = Field::new_list_field(DataType::Struct(fields()), true);
    Ok(DataType::List(Arc::new(element)))
}

/// All spans around each time; none for NULL.
pub(super) fn windows(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("window() gives a list");
    };
    let spans = Spans::of_rows(rows)?;
    let mut begins = vec![];
    let mut lengths = vec![];
    for row in (0..rows.count).map(|row| rows.row(row)) {
        let before = begins.len();
        if let Some(micros) = row.time(0) {
            begins.extend(spans.around(micros));
        }
        lengths.push(begins.len() - before);
    }
    let values: ArrayRef = Arc::new(structs(&begins, spans.length, None)?);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        offsets,
        values,
        None,
    )?))
}
