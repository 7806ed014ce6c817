//! Zones of times: offsets, and names of the time zone database.
//!
//! Owns: the names of Java's `ZoneId` as Spark uses them, a local time that is there twice or not
//! at all. Does not own: where in a text a zone stands.
//! Rule: a local time that is there twice is the first of them; one that a change of clocks leaves
//! out counts by the offset before the change. This is how Spark reads them.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use streamctl_proto::time_pattern::PatternZone;

/// Largest offset from UTC.
const OFFSET_S_MAX: i64 = 18 * 3_600;
/// No change of clocks leaves out more than a day.
const GAP_HOURS_MAX: i64 = 25;
/// Java's short names, `ZoneId.SHORT_IDS`.
pub(crate) const SHORT_NAMES: [(&str, &str); 28] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Harare"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("EST", "-05:00"),
    ("HST", "-10:00"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("MST", "-07:00"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
];

/// A zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Offset(i64),
    Named(Tz),
}

impl Zone {
    /// A name, or an offset with or without `UTC`, `GMT` or `UT` before it. Names are compared with
    /// regard to case.
    pub fn parse(text: &str) -> Option<Self> {
        let short = SHORT_NAMES.iter().find(|(short, _)| *short == text);
        let name = short.map_or(text, |(_, name)| *name);
        if let "Z" | "z" | "UTC" | "GMT" | "UT" = name {
            return Some(Self::Offset(0));
        }
        let prefixes = ["UTC", "GMT", "UT"];
        let prefixed = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        let offset = prefixed.unwrap_or(name);
        if offset.starts_with(['+', '-']) {
            return offset_s(offset.as_bytes()).map(Self::Offset);
        }
        name.parse().ok().map(Self::Named)
    }

    pub fn of_pattern(zone: PatternZone<'_>) -> Option<Self> {
        match zone {
            PatternZone::Offset(offset_s) => Some(Self::Offset(offset_s.into())),
            PatternZone::Name(name) => Self::parse(name),
        }
    }

    /// A local time in microseconds as UTC. `None`: out of range.
    pub fn to_utc_us(self, local_us: i64) -> Option<i64> {
        let offset_s = match self {
            Self::Offset(offset_s) => offset_s,
            Self::Named(zone) => {
                let local = DateTime::from_timestamp_micros(local_us)?.naive_utc();
                named_offset_s(zone, local)?
            }
        };
        local_us.checked_sub(offset_s * 1_000_000)
    }
}

fn named_offset_s(zone: Tz, local: NaiveDateTime) -> Option<i64> {
    let offset = |hours_before| {
        let at = local.checked_sub_signed(TimeDelta::hours(hours_before))?;
        match zone.offset_from_local_datetime(&at) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _)
                if hours_before == 0 =>
            {
                Some(offset)
            }
            LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => Some(offset),
            LocalResult::None => None,
        }
    };
    let offset = (0..=GAP_HOURS_MAX).find_map(offset)?;
    Some(offset.fix().local_minus_utc().into())
}

/// `+h`, `+hh`, `+hhmm`, `+hhmmss`, or with colons between; `h` and `m` in one digit only before or
/// behind a colon, as Spark reads them.
pub(super) fn offset_s(text: &[u8]) -> Option<i64> {
    let (sign, digits) = text.split_first()?;
    let two = |tens: u8, ones: u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes, seconds) = match *digits {
        [h] => (two(b'0', h)?, 0, 0),
        [h1, h2] => (two(h1, h2)?, 0, 0),
        [h, b':', m1, m2] => (two(b'0', h)?, two(m1, m2)?, 0),
        [h, b':', m] => (two(b'0', h)?, two(b'0', m)?, 0),
        [h1, h2, b':', m] => (two(h1, h2)?, two(b'0', m)?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (two(h1, h2)?, two(m1, m2)?, 0),
        [h1, h2, m1, m2, s1, s2] | [h1, h2, b':', m1, m2, b':', s1, s2] => {
            (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?)
        }
        [h, b':', m1, m2, b':', s1, s2] => (two(b'0', h)?, two(m1, m2)?, two(s1, s2)?),
        _ => return None,
    };
    let size = hours * 3_600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && size <= OFFSET_S_MAX).then_some(())?;
    match sign {
        b'+' => Some(size),
        b'-' => Some(-size),
        _ => None,
    }
}
