//! Times of other zones.
//!
//! Owns: `from_utc_timestamp`, `to_utc_timestamp`. Does not own: offsets in texts (`clock`).
//! Rule: the zone is a constant, which is known at submit; hours that a zone leaves out or has twice
//! are read as Java reads them.

use super::call::{Given, Refusal, Rows};
use super::clock::{micros_of, moment, zone_seconds};
use crate::values::SHORT_NAMES;
use arrow::array::ArrayRef;
use chrono::{FixedOffset, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use datafusion::common::{Result, exec_err};

/// Longer than the hours that any zone leaves out at once, shorter than the time between two changes.
const BEFORE_GAP: TimeDelta = TimeDelta::hours(25);

enum Zone {
    Region(Tz),
    Offset(FixedOffset),
}

impl Zone {
    fn named(name: &str) -> Option<Self> {
        let short = SHORT_NAMES.iter().find(|(short, _)| *short == name);
        let name = short.map_or(name, |(_, name)| name);
        match zone_seconds(name) {
            Some(seconds) => FixedOffset::east_opt(seconds).map(Self::Offset),
            None => name.parse().ok().map(Self::Region),
        }
    }

    /// How far its clocks are ahead at a moment of UTC.
    fn ahead(&self, moment: NaiveDateTime) -> TimeDelta {
        let seconds = match self {
            Self::Region(tz) => tz.offset_from_utc_datetime(&moment).fix(),
            Self::Offset(offset) => *offset,
        };
        TimeDelta::seconds(seconds.local_minus_utc().into())
    }

    /// The moment at which its clocks show this: the earlier of two, and of none the one by which the
    /// clock is ahead before the gap.
    fn moment(&self, shown: NaiveDateTime) -> Option<NaiveDateTime> {
        let ahead = match self {
            Self::Offset(offset) => *offset,
            Self::Region(tz) => match tz.offset_from_local_datetime(&shown) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset.fix(),
                LocalResult::None => {
                    let before = shown.checked_sub_signed(BEFORE_GAP)?;
                    tz.offset_from_local_datetime(&before).earliest()?.fix()
                }
            },
        };
        shown.checked_sub_signed(TimeDelta::seconds(ahead.local_minus_utc().into()))
    }
}

pub(super) fn known(given: &Given<'_>) -> Result<(), Refusal> {
    match given.constant_text(1)? {
        Some(name) if Zone::named(name).is_none() => Err(given.refuse(
            format!("does not know the zone {name:?}"),
            "write a place such as 'Europe/Berlin', an offset such as '+02:00', or 'UTC'",
        )),
        _ => Ok(()),
    }
}

fn converted(
    rows: &Rows<'_>,
    of: impl Fn(&Zone, NaiveDateTime) -> Option<NaiveDateTime>,
) -> Result<ArrayRef> {
    let zone = rows
        .constant_text(1)
        .and_then(|name| Zone::named(name.as_str()));
    let Some(zone) = zone else {
        return exec_err!("{}() lacks a zone", rows.name);
    };
    rows.times(|row| of(&zone, moment(row.time(0)?)?).map(micros_of))
}

pub(super) fn from_utc_timestamp(rows: &Rows<'_>) -> Result<ArrayRef> {
    converted(rows, |zone, moment| {
        moment.checked_add_signed(zone.ahead(moment))
    })
}

pub(super) fn to_utc_timestamp(rows: &Rows<'_>) -> Result<ArrayRef> {
    converted(rows, Zone::moment)
}
