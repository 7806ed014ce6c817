//! Patterns of time as Java and Spark have them: `yyyy-MM-dd HH:mm:ss`.
//!
//! Owns: which patterns a query may have, writing times by them, in UTC and English. Does not own:
//! reading times by them (`streamctl_proto::time_pattern`, as sources do), texts without a pattern
//! (`clock`).
//! Rule: a letter that is not proven to mean the same is refused when the query is planned.

use super::call::Refusal;
use super::clock::year_text;
use crate::values;
use chrono::{Datelike, NaiveDateTime, Timelike};
use std::fmt::Write as _;
use streamctl_proto::TimePattern;
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
    /// The same as sources read by it; `None`: it writes.
    reading: Option<TimePattern>,
}

/// What a pattern is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    Read,
}

/// Whether a field may be written this often. What may be read is decided by [`TimePattern`]; Spark
/// reads no names of weekdays.
fn is_known(letter: char, count: usize, purpose: Use) -> bool {
    if purpose == Use::Read {
        return letter != 'E';
    }
    matches!(
        (letter, count),
        ('y' | 'Z', 1..=5)
            | ('M' | 'L' | 'E' | 'Q' | 'z', 1..=4)
            | ('d' | 'H' | 'm' | 's' | 'h' | 'k' | 'K' | 'q', 1 | 2)
            | ('S', 1..=9)
            | ('a', 1)
            | ('D' | 'X' | 'x', 1..=3)
            | ('V', 2)
            | ('O', 1 | 4)
    )
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
                "supported are y M L d D H h k K m s S a X x Z z V O, and E Q q for writing; other letters go between single quotes: \"yyyy-MM-dd'T'HH:mm:ss\"",
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
            if matches!(letter, '{' | '}' | '#') {
                return Err(refused(format!("the sign {letter}")));
            }
            // Parts that may be missing are always written.
            if matches!(letter, '[' | ']') {
                rest = &rest[1..];
                continue;
            }
            literal.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        let mut pattern = Self {
            parts,
            reading: None,
        };
        if purpose == Use::Read {
            pattern.check_reading().map_err(refused)?;
        }
        // Its brackets have partners in both uses.
        if purpose == Use::Read || text.contains(['[', ']']) {
            let reading = TimePattern::parse(text);
            let reading = reading.map_err(|error| refused(format!("a fault: {error}")))?;
            pattern.reading = (purpose == Use::Read).then_some(reading);
        }
        Ok(pattern)
    }

    fn has(&self, letter: char) -> bool {
        let is_field = |part: &Part| matches!(part, Part::Field(other, _) if *other == letter);
        self.parts.iter().any(is_field)
    }

    /// Combinations that are read in ways of their own.
    fn check_reading(&self) -> Result<(), String> {
        if self.has('a') && !self.has('h') && !self.has('K') {
            return Err("a without hh".into());
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
        for pair in self.parts.windows(2) {
            let [Part::Field(letter, _), Part::Field(next, _)] = pair else {
                continue;
            };
            if *next == 'S' && "dHhkKms".contains(*letter) {
                return Err(format!("S right after {letter}, without a point"));
            }
            if *letter == 'S' && "yMdDHhkKms".contains(*next) {
                return Err(format!("{next} right after S"));
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
        values::of_pattern(self.reading.as_ref()?.read(text)?)
    }
}

const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

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
        ('y', 4) => text.push_str(&year_text(date.year())),
        ('y', _) => {
            let _ = write!(text, "{:0count$}", date.year());
        }
        ('M' | 'L', 3) => text.push_str(&MONTHS[date.month0() as usize][..3]),
        ('M' | 'L', 4) => text.push_str(MONTHS[date.month0() as usize]),
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
        ('Q', 3) => {
            let _ = write!(text, "Q{}", date.month0() / 3 + 1);
        }
        ('Q', 4) => text.push_str(QUARTERS[date.month0() as usize / 3]),
        ('Q' | 'q', _) => number(date.month0() / 3 + 1),
        // Times are in UTC.
        ('X', _) | ('Z', 5) => text.push('Z'),
        ('x', 1) => text.push_str("+00"),
        ('x', 3) => text.push_str("+00:00"),
        ('z', 4) => text.push_str("Coordinated Universal Time"),
        ('z' | 'V', _) => text.push_str("UTC"),
        ('O', _) | ('Z', 4) => text.push_str("GMT"),
        ('x' | 'Z', _) => text.push_str("+0000"),
        _ => {}
    }
}
