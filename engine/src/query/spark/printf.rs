//! `format_string('%05d %s', n, s)`: Java's patterns of `printf`.
//!
//! Owns: which patterns are known, what they give. Does not own: the texts of numbers (`number`).
//! Rule: a pattern whose text would depend on Java's own objects is refused at submit.

use super::call::{Given, Refusal, Row, Rows};
use super::types::{self, is_float, is_whole};
use super::value::Value;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::Result;

/// Most characters of a width or a precision.
const WIDTH_MAX: usize = 200;
/// Decimals with more digits behind the point may be written with an exponent.
const SCALE_MAX: i8 = 6;
const HINT: &str = "write %s, %d, %x, %o or %.2f, with the flags - 0 + , and a width";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    Hex,
    Octal,
    Fixed,
}

struct Field {
    kind: Kind,
    is_upper: bool,
    is_left: bool,
    has_zeros: bool,
    has_sign: bool,
    has_commas: bool,
    width: usize,
    precision: Option<usize>,
}

enum Piece {
    Literal(String),
    Field(Field),
}

/// The parts of a pattern; `None` for one that is not known.
fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = vec![];
    let mut literal = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            literal.push(letter);
            continue;
        }
        match letters.peek()? {
            '%' | 'n' => {
                literal.push(if letters.next()? == 'n' { '\n' } else { '%' });
                continue;
            }
            _ => {}
        }
        let mut flags = String::new();
        while let Some(flag) = letters.next_if(|letter| "-0+,".contains(*letter)) {
            if flags.contains(flag) {
                return None;
            }
            flags.push(flag);
        }
        let number = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits
        };
        let digits = number(&mut letters);
        let width = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
        let precision = match letters.next_if_eq(&'.') {
            Some(_) => Some(number(&mut letters).parse::<usize>().ok()?),
            None => None,
        };
        let kind = letters.next()?;
        let field = Field {
            kind: match kind.to_ascii_lowercase() {
                's' => Kind::Text,
                'd' => Kind::Whole,
                'x' => Kind::Hex,
                'o' => Kind::Octal,
                'f' => Kind::Fixed,
                _ => return None,
            },
            is_upper: kind.is_ascii_uppercase(),
            is_left: flags.contains('-'),
            has_zeros: flags.contains('0'),
            has_sign: flags.contains('+'),
            has_commas: flags.contains(','),
            width,
            precision,
        };
        if !field.is_known(kind) {
            return None;
        }
        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        pieces.push(Piece::Field(field));
    }
    pieces.push(Piece::Literal(literal));
    Some(pieces)
}

impl Field {
    /// Whether Java takes these flags together.
    fn is_known(&self, letter: char) -> bool {
        let has_flag = self.has_zeros || self.has_sign || self.has_commas;
        let needs_width = self.is_left || self.has_zeros;
        let flags = match self.kind {
            Kind::Text => !has_flag,
            Kind::Hex | Kind::Octal => !self.has_sign && !self.has_commas,
            Kind::Whole | Kind::Fixed => true,
        };
        let precision = self.precision.is_none() || matches!(self.kind, Kind::Text | Kind::Fixed);
        let is_case = letter.is_ascii_lowercase() || matches!(self.kind, Kind::Text | Kind::Hex);
        let widths = self.width.max(self.precision.unwrap_or_default()) <= WIDTH_MAX;
        flags
            && precision
            && is_case
            && widths
            && !(self.is_left && self.has_zeros)
            && (!needs_width || self.width > 0)
    }

    fn takes(&self, kind: &DataType) -> bool {
        match self.kind {
            Kind::Text => match kind {
                DataType::Decimal128(_, scale) => *scale <= SCALE_MAX,
                DataType::Utf8 | DataType::Boolean | DataType::Null => true,
                other => is_whole(other) || is_float(other),
            },
            Kind::Whole | Kind::Hex | Kind::Octal => is_whole(kind) || *kind == DataType::Null,
            // Java does not take Spark's decimals there.
            Kind::Fixed => is_float(kind) || *kind == DataType::Null,
        }
    }

    fn written(&self, row: Row<'_>, place: usize, kind: &DataType) -> String {
        let Some(value) = row.value(place) else {
            return self.padded(self.cut("null"), "");
        };
        match self.kind {
            Kind::Text => self.padded(self.cut(&value.text()), ""),
            Kind::Whole => {
                let number = value.long().unwrap_or_default();
                let digits = number.unsigned_abs().to_string();
                self.signed(number < 0, digits)
            }
            Kind::Hex => self.padded(format!("{:x}", unsigned(value, kind)), ""),
            Kind::Octal => self.padded(format!("{:o}", unsigned(value, kind)), ""),
            Kind::Fixed => {
                let number = value.double().unwrap_or_default();
                if !number.is_finite() {
                    return self.special(number);
                }
                let plain = number.to_string();
                let (is_negative, digits) = match plain.strip_prefix('-') {
                    Some(digits) => (true, digits),
                    None => (false, plain.as_str()),
                };
                self.signed(is_negative, rounded(digits, self.precision.unwrap_or(6)))
            }
        }
    }

    fn special(&self, number: f64) -> String {
        let text = if number.is_nan() { "NaN" } else { "Infinity" };
        let sign = match number {
            _ if number < 0.0 => "-",
            _ if self.has_sign && !number.is_nan() => "+",
            _ => "",
        };
        self.blank_padded(format!("{sign}{text}"))
    }

    fn cut(&self, text: &str) -> String {
        match self.precision {
            Some(most) => cut(text, most),
            None => text.to_owned(),
        }
    }

    fn signed(&self, is_negative: bool, digits: String) -> String {
        let digits = if self.has_commas {
            with_commas(&digits)
        } else {
            digits
        };
        let sign = match (is_negative, self.has_sign) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        self.padded(digits, sign)
    }

    fn padded(&self, text: String, sign: &str) -> String {
        let length = units(&text) + sign.len();
        let missing = self.width.saturating_sub(length);
        // Zeros stand before numbers alone.
        let is_number =
            text.starts_with(|letter: char| letter.is_ascii_hexdigit()) && text != "null";
        if self.has_zeros && is_number {
            let text = format!("{sign}{}{text}", "0".repeat(missing));
            return self.cased(text);
        }
        self.blank_padded(format!("{sign}{text}"))
    }

    fn blank_padded(&self, text: String) -> String {
        let missing = self.width.saturating_sub(units(&text));
        let blanks = " ".repeat(missing);
        self.cased(if self.is_left {
            text + &blanks
        } else {
            blanks + &text
        })
    }

    fn cased(&self, text: String) -> String {
        if self.is_upper {
            text.to_uppercase()
        } else {
            text
        }
    }
}

/// Java counts characters as UTF-16 does.
fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The first characters of a text; half of one is a question mark.
fn cut(text: &str, most: usize) -> String {
    let mut left = most;
    let mut kept = String::new();
    for letter in text.chars() {
        match left.checked_sub(letter.len_utf16()) {
            Some(less) => left = less,
            None => {
                if left > 0 {
                    kept.push('?');
                }
                break;
            }
        }
        kept.push(letter);
    }
    kept
}

/// The bits of a number of its own width.
fn unsigned(value: Value<'_>, kind: &DataType) -> u64 {
    let number = value.long().unwrap_or_default() as u64;
    match kind {
        DataType::Int8 => number & 0xff,
        DataType::Int16 => number & 0xffff,
        DataType::Int32 => number & 0xffff_ffff,
        _ => number,
    }
}

/// Digits with so many places behind the point; half is rounded up.
fn rounded(digits: &str, places: usize) -> String {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut kept: Vec<u8> = whole.bytes().collect();
    let padded = fraction.bytes().chain(std::iter::repeat(b'0'));
    kept.extend(padded.take(places));
    if fraction
        .as_bytes()
        .get(places)
        .is_some_and(|next| *next >= b'5')
    {
        let nines = kept
            .iter()
            .rev()
            .take_while(|digit| **digit == b'9')
            .count();
        let from = kept.len() - nines;
        kept[from..].fill(b'0');
        match from.checked_sub(1) {
            Some(last) => kept[last] += 1,
            None => kept.insert(0, b'1'),
        }
    }
    let mut text: String = kept.into_iter().map(char::from).collect();
    if places > 0 {
        text.insert(text.len() - places, '.');
    }
    text
}

fn with_commas(digits: &str) -> String {
    let (whole, rest) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (digits, String::new()),
    };
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + &rest
}

pub(super) fn checked(given: &Given<'_>) -> Result<(), Refusal> {
    let pattern = given.constant_text(0)?.unwrap_or_default();
    let Some(pieces) = pieces(pattern) else {
        return Err(given.refuse(format!("does not take the pattern '{pattern}'"), HINT));
    };
    let mut place = 0;
    for piece in &pieces {
        let Piece::Field(field) = piece else { continue };
        place += 1;
        if place >= given.types.len() {
            let what = format!("has fewer values than '{pattern}' takes");
            return Err(given.refuse(what, "write a value for each %"));
        }
        let kind = given.kind(place);
        if !field.takes(kind) {
            let what = format!("does not write {} so", types::name(kind));
            return Err(given.refuse(
                what,
                "cast it: CAST(x AS STRING) for %s, CAST(x AS DOUBLE) for %.2f",
            ));
        }
    }
    Ok(())
}

pub(super) fn format_string(rows: &Rows<'_>) -> Result<ArrayRef> {
    let pattern = rows.constant_text(0);
    let pieces = pattern.as_deref().and_then(pieces);
    let kinds: Vec<DataType> = (0..rows.args()).map(|place| rows.kind(place)).collect();
    rows.texts(|row| {
        let mut text = String::new();
        let mut place = 0;
        for piece in pieces.as_ref()? {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Field(field) => {
                    place += 1;
                    text.push_str(&field.written(row, place, &kinds[place]));
                }
            }
        }
        Some(text)
    })
}
