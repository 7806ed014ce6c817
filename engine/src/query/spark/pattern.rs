//! Patterns of time as Java and Spark have them: `yyyy-MM-dd HH:mm:ss`.
//!
//! Owns: reading a pattern, writing and reading times by it, in UTC and English. Does not own: texts
//! without a pattern (`clock`).
//! Rule: a letter that is not proven to mean the same is refused when the query is planned.

use super::call::Refusal;
use super::clock::{micros_of, year_text};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use std::fmt::Write as _;
use streamctl_proto::time_pattern::{MONTHS, WEEKDAYS};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A letter, and how often it is written.
    Field(char, usize),
    Text(String),
}

/// A pattern that is understood.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// What a pattern is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    Read,
}

/// Whether a field may be written this often.
fn is_known(letter: char, count: usize, purpose: Use) -> bool {
    match (letter, count) {
        ('y', 1 | 2 | 4) | ('M' | 'd' | 'H' | 'm' | 's', 1 | 2) => true,
        ('M', 3 | 4) | ('S', 1..=9) | ('a', 1) | ('h', 1 | 2) => true,
        ('X', 1..=3) => true,
        ('E', 1..=4) | ('D', 1 | 3) | ('k' | 'K', 1 | 2) => purpose == Use::Write,
        ('L', 1 | 2) => purpose == Use::Write,
        _ => false,
    }
}

impl Pattern {
    /// # Errors
    /// The letter that is not supported.
    pub(super) fn new(text: &str, purpose: Use) -> Result<Self, Refusal> {
        let refused = |what: String| {
            Refusal::new(
                format!(
                    "the pattern '{text}' has {what}, which dialect \"spark\" does not support"
                ),
                "supported are y M d H h m s S a X, and E D k K for writing; other letters go between single quotes: \"yyyy-MM-dd'T'HH:mm:ss\"",
            )
        };
        let mut parts: Vec<Part> = vec![];
        let mut literal = String::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let run = rest.len() - rest.trim_start_matches(letter).len();
            if letter == '\'' {
                let after = &rest[1..];
                if let Some(after) = after.strip_prefix('\'') {
                    literal.push('\'');
                    rest = after;
                    continue;
                }
                let mut quoted = after;
                loop {
                    let Some(end) = quoted.find('\'') else {
                        return Err(refused("a quote without its end".into()));
                    };
                    literal.push_str(&quoted[..end]);
                    quoted = &quoted[end + 1..];
                    match quoted.strip_prefix('\'') {
                        Some(more) => {
                            literal.push('\'');
                            quoted = more;
                        }
                        None => break,
                    }
                }
                rest = quoted;
                continue;
            }
            if letter.is_ascii_alphabetic() {
                let count = rest[..run].chars().count();
                if !is_known(letter, count, purpose) {
                    return Err(refused(format!("the field {}", &rest[..run])));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Field(letter, count));
                rest = &rest[run..];
                continue;
            }
            if matches!(letter, '[' | ']' | '{' | '}' | '#') {
                return Err(refused(format!("the sign {letter}")));
            }
            literal.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        let pattern = Self { parts };
        if purpose == Use::Read {
            pattern.check_reading().map_err(refused)?;
        }
        Ok(pattern)
    }

    fn has(&self, letter: char) -> bool {
        let is_field = |part: &Part| matches!(part, Part::Field(other, _) if *other == letter);
        self.parts.iter().any(is_field)
    }

    /// Combinations that are read in ways of their own.
    fn check_reading(&self) -> Result<(), String> {
        if self.has('h') != self.has('a') {
            return Err("hh without a, or a without hh".into());
        }
        if self.has('h') && self.has('H') {
            return Err("both h and H".into());
        }
        let fields = "yMdHhmsSa";
        for letter in fields.chars() {
            let is_field = |part: &&Part| matches!(part, Part::Field(other, _) if *other == letter);
            if self.parts.iter().filter(is_field).count() > 1 {
                return Err(format!("the field {letter} twice"));
            }
        }
        // One digit or more, right before another number, would be read in another way.
        for pair in self.parts.windows(2) {
            let [Part::Field(letter, count), Part::Field(next, _)] = pair else {
                continue;
            };
            let is_number = |letter: char, count: usize| {
                "ydHhmsS".contains(letter) || letter == 'M' && count < 3
            };
            let open = *count == 1 || *letter == 'S' && *count < 9;
            if open && is_number(*letter, *count) && is_number(*next, 1) {
                return Err(format!("the field {letter} right before {next}"));
            }
            if *next == 'S' && *letter == 's' {
                return Err("S right after s, without a point".into());
            }
        }
        Ok(())
    }

    /// A time as text.
    pub(super) fn write(&self, at: NaiveDateTime) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Field(letter, count) => write_field(&mut text, *letter, *count, at),
            }
        }
        text
    }

    /// A text as microseconds since 1970.
    pub(super) fn read(&self, text: &str) -> Option<i64> {
        let mut fields = Fields::default();
        let mut rest = text;
        for part in &self.parts {
            rest = match part {
                Part::Text(literal) => without_prefix(rest, literal)?,
                Part::Field(letter, count) => fields.read(rest, *letter, *count)?,
            };
        }
        if !rest.is_empty() {
            return None;
        }
        fields.micros()
    }
}

/// The text after a literal, in which capitals do not count.
fn without_prefix<'t>(text: &'t str, literal: &str) -> Option<&'t str> {
    let head = text.get(..literal.len())?;
    let same = head == literal || head.to_lowercase() == literal.to_lowercase();
    same.then(|| &text[literal.len()..])
}

fn write_field(text: &mut String, letter: char, count: usize, at: NaiveDateTime) {
    let date = at.date();
    let time = at.time();
    let hour = time.hour();
    let mut number = |value: u32| {
        let _ = write!(text, "{value:0count$}");
    };
    match (letter, count) {
        ('y', 2) => number(date.year().rem_euclid(100).unsigned_abs()),
        ('y', 1) => {
            let _ = write!(text, "{}", date.year());
        }
        ('y', _) => text.push_str(&year_text(date.year())),
        ('M', 3) => text.push_str(&MONTHS[date.month0() as usize][..3]),
        ('M', 4) => text.push_str(MONTHS[date.month0() as usize]),
        ('M' | 'L', _) => number(date.month()),
        ('d', _) => number(date.day()),
        ('D', _) => number(date.ordinal()),
        ('E', 4) => text.push_str(WEEKDAYS[date.weekday().num_days_from_monday() as usize]),
        ('E', _) => text.push_str(&WEEKDAYS[date.weekday().num_days_from_monday() as usize][..3]),
        ('H', _) => number(hour),
        ('k', _) => number(if hour == 0 { 24 } else { hour }),
        ('K', _) => number(hour % 12),
        ('h', _) => number(if hour.is_multiple_of(12) {
            12
        } else {
            hour % 12
        }),
        ('m', _) => number(time.minute()),
        ('s', _) => number(time.second()),
        ('S', _) => {
            let digits = format!("{:09}", time.nanosecond());
            text.push_str(&digits[..count]);
        }
        ('a', _) => text.push_str(if hour < 12 { "AM" } else { "PM" }),
        // Times are in UTC.
        ('X', _) => text.push('Z'),
        _ => {}
    }
}

#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
    offset_seconds: i64,
}

/// A number of as many digits as allowed, and the rest.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let found = text
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count()
        .min(most);
    if found < least {
        return None;
    }
    let (number, rest) = text.split_at(found);
    Some((number.parse().ok()?, rest))
}

impl Fields {
    fn read<'t>(&mut self, text: &'t str, letter: char, count: usize) -> Option<&'t str> {
        let number = |most: usize| match count {
            1 => digits(text, 1, most),
            count => digits(text, count, count),
        };
        let (slot, (value, rest)) = match (letter, count) {
            ('y', 2) => {
                let (year, rest) = digits(text, 2, 2)?;
                (&mut self.year, (2_000 + year, rest))
            }
            ('y', _) => (&mut self.year, number(18)?),
            ('M', 3 | 4) => {
                let at = MONTHS.iter().position(|month| {
                    let name = if count == 3 { &month[..3] } else { month };
                    without_prefix(text, name).is_some()
                })?;
                let length = if count == 3 { 3 } else { MONTHS[at].len() };
                (&mut self.month, (at as i64 + 1, &text[length..]))
            }
            ('M', _) => (&mut self.month, number(18)?),
            ('d', _) => (&mut self.day, number(18)?),
            ('H', _) => (&mut self.hour, number(18)?),
            ('h', _) => (&mut self.hour_of_half, number(18)?),
            ('m', _) => (&mut self.minute, number(18)?),
            ('s', _) => (&mut self.second, number(18)?),
            ('S', _) => {
                let found = text.bytes().take_while(u8::is_ascii_digit).count();
                let found = found.min(count);
                if found == 0 {
                    return None;
                }
                let nanos = format!("{:0<9}", &text[..found]).parse().ok()?;
                (&mut self.nanos, (nanos, &text[found..]))
            }
            ('a', _) => {
                let head = text.get(..2)?;
                self.afternoon = Some(match head.to_ascii_uppercase().as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                return Some(&text[2..]);
            }
            ('X', count) => {
                let (offset, rest) = offset(text, count)?;
                self.offset_seconds = offset;
                return Some(rest);
            }
            _ => return None,
        };
        *slot = Some(value);
        Some(rest)
    }

    fn micros(&self) -> Option<i64> {
        let part = |value: Option<i64>, absent: u32| match value {
            Some(value) => u32::try_from(value).ok(),
            None => Some(absent),
        };
        let year = i32::try_from(self.year.unwrap_or(1970)).ok()?;
        if self.year == Some(0) {
            return None;
        }
        let date = NaiveDate::from_ymd_opt(year, part(self.month, 1)?, part(self.day, 1)?)?;
        let hour = match (self.hour_of_half, self.afternoon) {
            (Some(hour @ 1..=12), Some(afternoon)) => {
                (hour % 12) as u32 + if afternoon { 12 } else { 0 }
            }
            (None, _) => part(self.hour, 0)?,
            _ => return None,
        };
        let micros = (self.nanos.unwrap_or(0) / 1_000) as u32;
        let time = NaiveTime::from_hms_micro_opt(
            hour,
            part(self.minute, 0)?,
            part(self.second, 0)?,
            micros,
        )?;
        micros_of(date.and_time(time)).checked_sub(self.offset_seconds * 1_000_000)
    }
}

/// The offset at the beginning of a text: `Z`, or `+02:00` for XXX, `+0200` for XX, `+02` and
/// `+0230` for X.
fn offset(text: &str, count: usize) -> Option<(i64, &str)> {
    if let Some(rest) = text.strip_prefix(['Z', 'z']) {
        return Some((0, rest));
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(&text[1..], 2, 2)?;
    let (minutes, rest) = match count {
        3 => digits(rest.strip_prefix(':')?, 2, 2)?,
        2 => digits(rest, 2, 2)?,
        _ => digits(rest, 2, 2).unwrap_or((0, rest)),
    };
    let total = hours * 3_600 + minutes * 60;
    (minutes < 60 && total <= 18 * 3_600).then_some((sign * total, rest))
}
