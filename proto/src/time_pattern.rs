//! Java's patterns of dates and times, such as `yyyy/MM/dd HH:mm:ss`.
//!
//! Owns: which patterns there are, which texts fit one. Does not own: zones by their names, the
//! types of columns, the forms that are read without a pattern (`streamctl_engine::values`).
//! Rule: a text that Spark's `timestampFormat` reads by a pattern gives the same time here; a
//! pattern that Spark does not parse by is refused, except for names of weekdays.

use chrono::{Datelike, NaiveDate};

/// Longest pattern, in bytes.
pub const TIME_PATTERN_BYTES_MAX: usize = 128;
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// Letters of a short name.
const SHORT: usize = 3;
/// Largest offset from UTC.
const OFFSET_S_MAX: i32 = 18 * 3_600;

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimePatternError {
    #[error("{0:?} stands for no field of a time")]
    Field(String),
    #[error("{0:?} is reserved; put it between single quotes")]
    Reserved(char),
    #[error("a single quote is not closed")]
    Quote,
    #[error("a square bracket has no partner")]
    Bracket,
    #[error("{0:?} has no fixed number of digits, and a number follows it")]
    OpenWidth(String),
    #[error("it has no field of a date or a time")]
    Empty,
    #[error("it has more than {TIME_PATTERN_BYTES_MAX} bytes")]
    Long,
}

/// A pattern that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimePattern {
    items: Vec<Item>,
}

/// A time by the fields of a text, in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternTime<'a> {
    /// Days since the Unix epoch.
    pub days: i32,
    /// The pattern has a field of a date. Fields that it does not have are those of the epoch.
    pub has_date: bool,
    /// Microseconds of the day; digits below are cut off.
    pub us: i64,
    pub zone: Option<PatternZone<'a>>,
}

/// The zone that a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternZone<'a> {
    /// Seconds east of UTC.
    Offset(i32),
    /// A name, or an offset in another form.
    Name(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(String),
    Number {
        field: Field,
        least: usize,
        most: usize,
    },
    /// At most so many digits.
    Fraction(usize),
    Month {
        short: bool,
    },
    Weekday {
        short: bool,
    },
    HalfDay,
    Offset(Offset),
    Zone,
    Optional(Vec<Item>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    /// Its last two digits: 2000 to 2099.
    YearOfCentury,
    Month,
    Day,
    DayOfYear,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    ClockHour,
    /// 0 to 11.
    HalfDayHour,
    /// 1 to 12.
    HalfDayClockHour,
    Minute,
    Second,
}

/// How an offset is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    /// `Z` is an offset of zero.
    zulu: bool,
    colon: bool,
    minutes: bool,
    /// Seconds may follow.
    seconds: bool,
}

/// The fields that a text has.
#[derive(Clone, Copy, Debug, Default)]
struct Found<'a> {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    weekday: Option<usize>,
    hour: Option<u32>,
    half_day_hour: Option<u32>,
    is_afternoon: bool,
    minute: u32,
    second: u32,
    us: u32,
    zone: Option<PatternZone<'a>>,
}

impl TimePattern {
    /// Checks a pattern.
    pub fn parse(pattern: &str) -> Result<Self, TimePatternError> {
        if pattern.len() > TIME_PATTERN_BYTES_MAX {
            return Err(TimePatternError::Long);
        }
        let mut rest = pattern;
        let items = items(&mut rest, 0)?;
        if !items.iter().any(is_field) {
            return Err(TimePatternError::Empty);
        }
        Ok(Self { items })
    }

    /// The time of a text. `None`: the text does not fit the pattern, or there is no such time.
    pub fn read<'a>(&self, text: &'a str) -> Option<PatternTime<'a>> {
        let mut found = Found::default();
        let rest = take(&self.items, text, &mut found)?;
        rest.is_empty().then(|| found.time())?
    }
}

fn is_field(item: &Item) -> bool {
    match item {
        Item::Literal(_) => false,
        Item::Optional(items) => items.iter().any(is_field),
        Item::Number { .. }
        | Item::Fraction(_)
        | Item::Month { .. }
        | Item::Weekday { .. }
        | Item::HalfDay
        | Item::Offset(_)
        | Item::Zone => true,
    }
}

/// The items up to the end of the pattern, or of the optional part that is `depth` levels deep.
fn items(rest: &mut &str, depth: usize) -> Result<Vec<Item>, TimePatternError> {
    let mut items: Vec<Item> = Vec::new();
    let mut open: Option<String> = None;
    while let Some(letter) = rest.chars().next() {
        let length = rest.len() - rest.trim_start_matches(letter).len();
        let (run, after) = rest.split_at(length);
        let single = &rest[letter.len_utf8()..];
        let item = match letter {
            '\'' => quoted(rest)?,
            '[' => {
                *rest = single;
                Item::Optional(self::items(rest, depth + 1)?)
            }
            ']' if depth > 0 => {
                *rest = single;
                return Ok(items);
            }
            ']' => return Err(TimePatternError::Bracket),
            '#' | '{' | '}' => return Err(TimePatternError::Reserved(letter)),
            'A'..='Z' | 'a'..='z' => {
                *rest = after;
                field(run)?
            }
            _ => {
                *rest = single;
                Item::Literal(letter.to_string())
            }
        };
        if let Some(open) = open.filter(|_| begins_with_digit(&item)) {
            return Err(TimePatternError::OpenWidth(open));
        }
        open = matches!(item, Item::Number { least, most, .. } if least != most)
            .then(|| run.to_owned());
        items.push(item);
    }
    if depth > 0 {
        return Err(TimePatternError::Bracket);
    }
    Ok(items)
}

fn begins_with_digit(item: &Item) -> bool {
    match item {
        Item::Number { .. } | Item::Fraction(_) => true,
        Item::Optional(items) => items.first().is_some_and(begins_with_digit),
        Item::Literal(text) => text.starts_with(|c: char| c.is_ascii_digit()),
        Item::Month { .. }
        | Item::Weekday { .. }
        | Item::HalfDay
        | Item::Offset(_)
        | Item::Zone => false,
    }
}

/// A text between single quotes; two of them are one.
fn quoted(rest: &mut &str) -> Result<Item, TimePatternError> {
    let mut text = String::new();
    let mut after = &rest[1..];
    loop {
        let end = after.find('\'').ok_or(TimePatternError::Quote)?;
        text.push_str(&after[..end]);
        after = &after[end + 1..];
        match after.strip_prefix('\'') {
            Some(more) if !text.is_empty() || end > 0 => {
                text.push('\'');
                after = more;
            }
            _ => break,
        }
    }
    *rest = after;
    if text.is_empty() {
        text.push('\'');
    }
    Ok(Item::Literal(text))
}

/// The field of a run of one letter.
fn field(run: &str) -> Result<Item, TimePatternError> {
    let unknown = || TimePatternError::Field(run.to_owned());
    let count = run.len();
    let number = |field, least, most| Item::Number { field, least, most };
    let one_or_two = |field| match count {
        1 => Ok(number(field, 1, 2)),
        2 => Ok(number(field, 2, 2)),
        _ => Err(unknown()),
    };
    let letter = run.chars().next().ok_or_else(unknown)?;
    match (letter, count) {
        ('y', 1) => Ok(number(Field::Year, 1, 4)),
        ('y', 2) => Ok(number(Field::YearOfCentury, 2, 2)),
        ('y', 4) => Ok(number(Field::Year, 4, 4)),
        ('M' | 'L', 3 | 4) => Ok(Item::Month { short: count == 3 }),
        ('M' | 'L', _) => one_or_two(Field::Month),
        ('d', _) => one_or_two(Field::Day),
        ('D', 1..=3) => Ok(number(Field::DayOfYear, count, 3)),
        ('H', _) => one_or_two(Field::Hour),
        ('k', _) => one_or_two(Field::ClockHour),
        ('K', _) => one_or_two(Field::HalfDayHour),
        ('h', _) => one_or_two(Field::HalfDayClockHour),
        ('m', _) => one_or_two(Field::Minute),
        ('s', _) => one_or_two(Field::Second),
        ('S', 1..=9) => Ok(Item::Fraction(count)),
        ('E', 1..=4) => Ok(Item::Weekday { short: count < 4 }),
        ('a', 1) => Ok(Item::HalfDay),
        ('z', 1..=4) | ('V', 2) | ('O', 1 | 4) | ('Z', 4) => Ok(Item::Zone),
        ('X' | 'x', 1..=5) => Ok(Item::Offset(Offset {
            zulu: letter == 'X',
            colon: count == 3 || count == 5,
            minutes: count > 1,
            seconds: count > 3,
        })),
        ('Z', 1..=3 | 5) => Ok(Item::Offset(Offset {
            zulu: count == 5,
            colon: count == 5,
            minutes: true,
            seconds: count == 5,
        })),
        _ => Err(unknown()),
    }
}

/// Takes the items from the text; returns the rest of it.
fn take<'a>(items: &[Item], mut text: &'a str, found: &mut Found<'a>) -> Option<&'a str> {
    for item in items {
        text = match item {
            Item::Literal(literal) => strip_ignoring_case(text, literal)?,
            Item::Number { field, least, most } => {
                let (number, rest) = digits(text, *least, *most)?;
                found.set(*field, number)?;
                rest
            }
            Item::Fraction(most) => {
                let (_, rest) = digits(text, 1, *most)?;
                found.us = micros(&text[..text.len() - rest.len()]);
                rest
            }
            Item::Month { short } => {
                let (index, rest) = name(text, &MONTHS, *short)?;
                found.month = Some(u32::try_from(index).ok()? + 1);
                rest
            }
            Item::Weekday { short } => {
                let (index, rest) = name(text, &WEEKDAYS, *short)?;
                found.weekday = Some(index);
                rest
            }
            Item::HalfDay => match strip_ignoring_case(text, "PM") {
                Some(rest) => {
                    found.is_afternoon = true;
                    rest
                }
                None => strip_ignoring_case(text, "AM")?,
            },
            Item::Offset(form) => {
                let (offset_s, rest) = form.take(text)?;
                found.zone = Some(PatternZone::Offset(offset_s));
                rest
            }
            Item::Zone => {
                let is_zone = |c: char| c.is_ascii_alphanumeric() || "_/+-:".contains(c);
                let rest = text.trim_start_matches(is_zone);
                let name = &text[..text.len() - rest.len()];
                found.zone = (!name.is_empty()).then_some(PatternZone::Name(name));
                found.zone?;
                rest
            }
            Item::Optional(items) => {
                let mut tried = *found;
                match take(items, text, &mut tried) {
                    Some(rest) => {
                        *found = tried;
                        rest
                    }
                    None => text,
                }
            }
        };
    }
    Some(text)
}

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// So many digits at the beginning of the text as one number, and the rest.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit);
    let count = count.count();
    (count >= least).then_some(())?;
    Some((text[..count].parse().ok()?, &text[count..]))
}

/// Digits behind the point of seconds as microseconds.
fn micros(digits: &str) -> u32 {
    let digit = |at: usize| digits.as_bytes().get(at).map_or(0, |byte| byte - b'0');
    (0..6).fold(0, |sum, at| sum * 10 + u32::from(digit(at)))
}

/// The index of the name at the beginning of the text, and the rest.
fn name<'a>(text: &'a str, names: &[&str], short: bool) -> Option<(usize, &'a str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = if short { &name[..SHORT] } else { name };
        Some((index, strip_ignoring_case(text, name)?))
    })
}

impl Offset {
    /// Seconds east of UTC, and the rest of the text.
    fn take(self, text: &str) -> Option<(i32, &str)> {
        if let Some(rest) = text.strip_prefix(['Z', 'z']).filter(|_| self.zulu) {
            return Some((0, rest));
        }
        let is_west = text.starts_with('-');
        let (hours, mut rest) = digits(text.strip_prefix(['+', '-'])?, 2, 2)?;
        let mut size = hours * 3_600;
        if let Some((minutes, after)) = self.part(rest) {
            size += minutes * 60;
            rest = after;
            if let Some((seconds, after)) = self.part(rest).filter(|_| self.seconds) {
                size += seconds;
                rest = after;
            }
        } else if self.minutes {
            return None;
        }
        let size = i32::try_from(size).ok().filter(|s| *s <= OFFSET_S_MAX)?;
        Some((if is_west { -size } else { size }, rest))
    }

    /// Two digits below 60.
    fn part(self, text: &str) -> Option<(u32, &str)> {
        let text = if self.colon {
            text.strip_prefix(':')?
        } else {
            text
        };
        digits(text, 2, 2).filter(|(number, _)| *number < 60)
    }
}

impl<'a> Found<'a> {
    /// `None`: the number is out of the field's range.
    fn set(&mut self, field: Field, number: u32) -> Option<()> {
        let (least, most) = match field {
            Field::Year => (0, 9_999),
            Field::YearOfCentury => (0, 99),
            Field::Month => (1, 12),
            Field::Day => (1, 31),
            Field::DayOfYear => (1, 366),
            Field::Hour => (0, 23),
            Field::ClockHour => (1, 24),
            Field::HalfDayHour => (0, 11),
            Field::HalfDayClockHour => (1, 12),
            Field::Minute | Field::Second => (0, 59),
        };
        (least..=most).contains(&number).then_some(())?;
        match field {
            Field::Year => self.year = i32::try_from(number).ok(),
            Field::YearOfCentury => self.year = i32::try_from(2_000 + number).ok(),
            Field::Month => self.month = Some(number),
            Field::Day => self.day = Some(number),
            Field::DayOfYear => self.day_of_year = Some(number),
            Field::Hour => self.hour = Some(number),
            Field::ClockHour => self.hour = Some(number % 24),
            Field::HalfDayHour => self.half_day_hour = Some(number),
            Field::HalfDayClockHour => self.half_day_hour = Some(number % 12),
            Field::Minute => self.minute = number,
            Field::Second => self.second = number,
        }
        Some(())
    }

    fn time(self) -> Option<PatternTime<'a>> {
        let year = self.year.unwrap_or(1970);
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, day)?,
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let weekday = usize::try_from(date.weekday().num_days_from_monday()).ok()?;
        (self.weekday.is_none_or(|named| named == weekday)).then_some(())?;
        let afternoon = if self.is_afternoon { 12 } else { 0 };
        let hour = match (self.hour, self.half_day_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + afternoon,
            (None, None) => 0,
        };
        let seconds = i64::from(hour * 3_600 + self.minute * 60 + self.second);
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        let has_date = self.year.is_some()
            || self.month.is_some()
            || self.day.is_some()
            || self.day_of_year.is_some();
        Some(PatternTime {
            days: i32::try_from(days).ok()?,
            has_date,
            us: seconds * 1_000_000 + i64::from(self.us),
            zone: self.zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UTC, as in Spark's output; the zone's name behind it.
    fn read(pattern: &str, text: &str) -> Option<String> {
        let pattern = TimePattern::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        let time = pattern.read(text)?;
        let (offset_s, name) = match time.zone {
            Some(PatternZone::Offset(offset_s)) => (offset_s, None),
            Some(PatternZone::Name(name)) => (0, Some(name)),
            None => (0, None),
        };
        let us = (i64::from(time.days) * 86_400 - i64::from(offset_s)) * 1_000_000 + time.us;
        let time = chrono::DateTime::from_timestamp_micros(us)?;
        let text = time.format("%Y-%m-%d %H:%M:%S%.f").to_string();
        Some(name.map_or(text.clone(), |name| format!("{text} {name}")))
    }

    /// Answers of Spark 3.5.3: `timestampFormat` of its JSON reader.
    #[test]
    fn p02_a_pattern_reads_what_spark_reads_with_it() {
        let slashes = "yyyy/MM/dd HH:mm:ss";
        let american = "M/d/yyyy h:mm a";
        let oracle = "dd-MMM-yy HH.mm.ss.SSSSSS";
        let compact = "yyyyMMdd'T'HHmmssX";
        let optional = "yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]";
        for (pattern, text, expected) in [
            (slashes, "2026/11/24 00:45:00", "2026-11-24 00:45:00"),
            (american, "11/24/2026 1:45 PM", "2026-11-24 13:45:00"),
            (american, "1/4/2026 12:45 AM", "2026-01-04 00:45:00"),
            (american, "01/04/2026 01:45 am", "2026-01-04 01:45:00"),
            (
                oracle,
                "24-NOV-26 01.02.03.123456",
                "2026-11-24 01:02:03.123456",
            ),
            (oracle, "24-Nov-99 01.02.03.123", "2099-11-24 01:02:03.123"),
            (compact, "20261124T004500Z", "2026-11-24 00:45:00"),
            (compact, "20261124T004500+01", "2026-11-23 23:45:00"),
            (compact, "20261124T004500+0100", "2026-11-23 23:45:00"),
            (optional, "2026-11-24T01:02:03", "2026-11-24 01:02:03"),
            (
                optional,
                "2026-11-24T01:02:03.12",
                "2026-11-24 01:02:03.120",
            ),
            (
                optional,
                "2026-11-24T01:02:03.123+01:00",
                "2026-11-24 00:02:03.123",
            ),
            (optional, "2026-11-24T01:02:03Z", "2026-11-24 01:02:03"),
            (
                "yyyy-MM-dd HH:mm:ss.SSSSSSSSS",
                "2026-11-24 01:02:03.123456789",
                "2026-11-24 01:02:03.123456",
            ),
            (
                "yyyy-MM-dd HH:mm:ss Z",
                "2026-11-24 01:02:03 +0100",
                "2026-11-24 00:02:03",
            ),
            (
                "yyyy-MM-dd HH:mm:ss z",
                "2026-11-24 01:02:03 Europe/Oslo",
                "2026-11-24 01:02:03 Europe/Oslo",
            ),
            (
                "yyyy-MM-dd HH:mm:ss VV",
                "2026-11-24 01:02:03 UTC",
                "2026-11-24 01:02:03 UTC",
            ),
            (
                "yyyy-MM-dd HH:mm:ss O",
                "2026-11-24 01:02:03 GMT+1",
                "2026-11-24 01:02:03 GMT+1",
            ),
            ("yyyy-MM-dd HH", "2026-11-24 01", "2026-11-24 01:00:00"),
            ("yyyy-DDD", "2026-328", "2026-11-24 00:00:00"),
            ("HH:mm", "01:02", "1970-01-01 01:02:00"),
            ("yyyy-MM", "2026-11", "2026-11-01 00:00:00"),
            ("y-M-d H:m:s", "26-1-4 1:2:3", "0026-01-04 01:02:03"),
            ("MMMM d, yyyy", "November 24, 2026", "2026-11-24 00:00:00"),
            (
                "yyyy-MM-dd hh:mm:ss",
                "2026-11-24 01:02:03",
                "2026-11-24 01:02:03",
            ),
            ("yyyy''MM", "2026'11", "2026-11-01 00:00:00"),
            ("k:mm", "24:00", "1970-01-01 00:00:00"),
            // Spark refuses names of weekdays.
            (
                "EEE, dd MMM yyyy HH:mm:ss z",
                "Tue, 24 Nov 2026 00:45:00 GMT",
                "2026-11-24 00:45:00 GMT",
            ),
        ] {
            assert_eq!(
                read(pattern, text).as_deref(),
                Some(expected),
                "{text} by {pattern}"
            );
        }
        for (pattern, text) in [
            (slashes, "2026/1/4 00:45:00"),
            (slashes, "2026/01/04 0:45:00"),
            (slashes, "26/11/24 00:45:00"),
            (slashes, "2026/11/24 24:00:00"),
            (slashes, "2026/02/30 00:00:00"),
            (slashes, "12026/11/24 00:45:00"),
            (slashes, "2026/11/24"),
            (slashes, "2026/11/24 00:45:00 "),
            (american, "11/24/2026 13:45 PM"),
            (optional, "2026-11-24T01:02:03.1234"),
            ("yyyy-MM-dd HH:mm:ss.S", "2026-11-24 01:02:03.12"),
            ("yyyy-MM-dd HH:mm:ss Z", "2026-11-24 01:02:03 +01:00"),
            ("yyyy-MM-dd HH:mm:ssXXX", "2026-11-24 01:02:03+19:00"),
            ("MMMM d, yyyy", "Nov 24, 2026"),
            ("yyyy-MM-dd hh:mm:ss", "2026-11-24 13:02:03"),
            ("EEE, dd MMM yyyy", "Mon, 24 Nov 2026"),
            ("yyyy-MM-dd", "é"),
        ] {
            assert_eq!(read(pattern, text), None, "{text} by {pattern}");
        }
    }

    #[test]
    fn an_invalid_pattern_has_a_reason() {
        let of = |pattern: &str| TimePattern::parse(pattern).unwrap_err().to_string();
        assert_eq!(of("YYYY-MM-dd"), "\"YYYY\" stands for no field of a time");
        assert_eq!(of("uuuu-MM-dd"), "\"uuuu\" stands for no field of a time");
        assert_eq!(
            of("yyyy-MM-ddTHH:mm"),
            "\"T\" stands for no field of a time"
        );
        assert_eq!(of("yyy"), "\"yyy\" stands for no field of a time");
        assert_eq!(of("yyyy#"), "'#' is reserved; put it between single quotes");
        assert_eq!(of("yyyy'T"), "a single quote is not closed");
        assert_eq!(of("yyyy[MM"), "a square bracket has no partner");
        assert_eq!(of("yyyy]"), "a square bracket has no partner");
        assert_eq!(of("%-/"), "it has no field of a date or a time");
        assert_eq!(
            of("yMMdd"),
            "\"y\" has no fixed number of digits, and a number follows it"
        );
        assert_eq!(of(&"-".repeat(129)), "it has more than 128 bytes");
        assert!(TimePattern::parse(&"[".repeat(128)).is_err());
    }
}
