//! One pass over the bytes of one JSON text: what is where, and whether it is JSON at all.
//!
//! Owns: the grammar (RFC 8259, and `NaN` and infinity as Jackson reads them), the limit on depth,
//! unescaping. Does not own: which keys matter, what values mean.
//! Rule: everything is validated, including values that are not read; a span that was handed out
//! holds a whole, valid value.

use crate::format::{Kind, Span};
use std::fmt;
use wide::u8x16;

/// Objects and arrays inside each other, the record's own object counted.
pub const JSON_DEPTH_MAX: usize = 64;

/// Stands for a surrogate that is not one of a pair, as in Spark.
const REPLACEMENT: char = '?';
/// Numbers that are not of RFC 8259.
const NOT_FINITE: [&str; 6] = ["NaN", "Infinity", "-Infinity", "-INF", "+Infinity", "+INF"];

/// Why a text is not acceptable JSON. Offsets are in bytes from the beginning of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    /// Nothing, or white space only.
    #[error("record is empty")]
    Empty,
    /// One document, or records that were put together: a record is one object, or several, one
    /// behind the other.
    #[error("a JSON array, not an object")]
    Array,
    /// The text begins like JSON but not like an object.
    #[error("not a JSON object")]
    NotAnObject,
    #[error("not JSON: ends at byte {at} where {expected} was expected")]
    Truncated { at: usize, expected: &'static str },
    /// A byte that the grammar does not allow.
    #[error("not JSON at byte {at}: expected {expected}")]
    Unexpected { at: usize, expected: &'static str },
    #[error("more than {JSON_DEPTH_MAX} objects and arrays inside each other at byte {at}")]
    Depth {
        /// Where the limit is exceeded.
        at: usize,
    },
    /// A whole object, then something else.
    #[error("something follows the JSON object at byte {at}")]
    Trailing { at: usize },
}

/// Reads one text from front to back.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The text must be valid UTF-8, so that spans end at characters.
    pub fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
        }
    }

    /// Reads on from here; the text up to here is not looked at.
    pub fn starting_at(text: &'a str, at: usize) -> Self {
        Self {
            bytes: text.as_bytes(),
            at,
        }
    }

    /// Where the next byte is.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads again from a position that it had.
    pub fn back_to(&mut self, position: usize) {
        self.at = position;
    }

    /// Takes the opening brace of the record. `false`: the object ended at once.
    pub fn begin_object(&mut self) -> Result<bool, Syntax> {
        self.white_space();
        match self.bytes.get(self.at) {
            None => return Err(Syntax::Empty),
            Some(b'{') => self.at += 1,
            Some(b'[') => return Err(Syntax::Array),
            Some(_) => return Err(Syntax::NotAnObject),
        }
        self.white_space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// The bytes that are not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Takes a key and its colon, which the caller knows to be here and to have this length.
    #[inline]
    pub fn known_key(&mut self, length: usize) {
        self.at += length;
        self.white_space();
    }

    /// A key and its colon.
    pub fn key(&mut self) -> Result<Span, Syntax> {
        let key = match self.short_string() {
            Some(key) => key,
            None if self.bytes.get(self.at) == Some(&b'"') => self.string()?,
            None => return Err(self.unexpected("a key")),
        };
        self.white_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(self.unexpected("a colon"));
        }
        self.at += 1;
        self.white_space();
        Ok(key)
    }

    /// Reads what follows a value of the record's object: `true` if a key follows, `false` if the
    /// object ends.
    #[inline]
    pub fn more(&mut self) -> Result<bool, Syntax> {
        self.white_space();
        match self.bytes.get(self.at) {
            Some(b',') => {
                self.at += 1;
                self.white_space();
                Ok(true)
            }
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.unexpected("a comma or the end of the object")),
        }
    }

    /// Takes the bracket that opens an array. `false`: it ended at once.
    pub fn begin_array(&mut self) -> Result<bool, Syntax> {
        if self.bytes.get(self.at) != Some(&b'[') {
            return Err(self.unexpected("an array"));
        }
        self.at += 1;
        self.white_space();
        let ends = self.bytes.get(self.at) == Some(&b']');
        self.at += usize::from(ends);
        Ok(!ends)
    }

    /// Reads what follows an item of an array: `true` if another item follows, `false` if the array
    /// ends.
    pub fn more_items(&mut self) -> Result<bool, Syntax> {
        self.white_space();
        let next = self.bytes.get(self.at);
        if !matches!(next, Some(b',' | b']')) {
            return Err(self.unexpected("a comma or the end of the array"));
        }
        let more = next == Some(&b',');
        self.at += 1;
        self.white_space();
        Ok(more)
    }

    /// Checks that only white space is left.
    pub fn end(&mut self) -> Result<(), Syntax> {
        match self.end_or_object()? {
            None => Ok(()),
            Some(at) => Err(Syntax::Trailing { at }),
        }
    }

    /// Checks that only white space is left, or another object: returns where it begins.
    #[inline]
    pub fn end_or_object(&mut self) -> Result<Option<usize>, Syntax> {
        self.white_space();
        match self.bytes.get(self.at) {
            None => Ok(None),
            Some(b'{') => Ok(Some(self.at)),
            Some(_) => Err(Syntax::Trailing { at: self.at }),
        }
    }

    /// Any value of the record's object.
    #[inline]
    pub fn value(&mut self) -> Result<Span, Syntax> {
        self.short_string().map_or_else(|| self.any_value(), Ok)
    }

    /// The same, written to its place word by word. A span that is returned is written and then
    /// copied in larger units, and a processor stalls when it reads a unit of which only parts were
    /// just written: that is a fifth of the time of decoding.
    #[inline(always)]
    pub fn value_to(&mut self, span: &mut Span) -> Result<(), Syntax> {
        let start = self.at + 1;
        if let Some(length) = self.short_length() {
            span.kind = Kind::Plain;
            span.start = start;
            span.end = start + length;
            self.at = span.end + 1;
        } else if self.bytes.get(self.at) == Some(&b'"') {
            span.kind = self.string_kind()?;
            span.start = start;
            span.end = self.at - 1;
        } else {
            *span = self.any_value()?;
        }
        Ok(())
    }

    /// A plain string that ends within a block, as most do. `None`: it is something else, and
    /// nothing is consumed.
    #[inline]
    fn short_string(&mut self) -> Option<Span> {
        let length = self.short_length()?;
        let start = self.at + 1;
        self.at = start + length + 1;
        Some(Span {
            kind: Kind::Plain,
            start,
            end: start + length,
        })
    }

    /// The length between the quotes of a plain string that ends within a block.
    #[inline(always)]
    fn short_length(&self) -> Option<usize> {
        let block = self.rest().strip_prefix(b"\"")?.first_chunk::<BLOCK>()?;
        let length = ends(block).trailing_zeros() as usize;
        (block.get(length) == Some(&b'"')).then_some(length)
    }

    fn any_value(&mut self) -> Result<Span, Syntax> {
        match self.bytes.get(self.at) {
            Some(b'{' | b'[') => {
                let start = self.at;
                self.nested()?;
                Ok(Span {
                    kind: Kind::Nested,
                    start,
                    end: self.at,
                })
            }
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Span, Syntax> {
        match self.bytes.get(self.at) {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Kind::Boolean),
            Some(b'f') => self.literal("false", Kind::Boolean),
            Some(b'n') => self.literal("null", Kind::Null),
            _ => self.not_finite("a value"),
        }
    }

    /// An object or array with all its content. No recursion: one bit per level records whether it
    /// is an object or an array.
    fn nested(&mut self) -> Result<(), Syntax> {
        let mut objects: u64 = 0;
        let mut depth = 1;
        loop {
            match self.bytes.get(self.at) {
                Some(&open @ (b'{' | b'[')) => {
                    if depth == JSON_DEPTH_MAX {
                        return Err(Syntax::Depth { at: self.at });
                    }
                    depth += 1;
                    objects = objects << 1 | u64::from(open == b'{');
                    self.at += 1;
                    self.white_space();
                    if !self.closes(objects) {
                        self.key_inside(objects)?;
                        continue;
                    }
                    (objects, depth) = (objects >> 1, depth - 1);
                }
                _ if self.short_string().is_some() => {}
                _ => _ = self.scalar()?,
            }
            loop {
                if depth == 1 {
                    return Ok(());
                }
                self.white_space();
                if self.bytes.get(self.at) == Some(&b',') {
                    self.at += 1;
                    self.white_space();
                    self.key_inside(objects)?;
                    break;
                }
                if !self.closes(objects) {
                    return Err(self.unexpected("a comma or the end of the object or array"));
                }
                (objects, depth) = (objects >> 1, depth - 1);
            }
        }
    }

    /// Takes the bracket that closes the innermost object or array, if it is the next byte.
    fn closes(&mut self, objects: u64) -> bool {
        let close = if objects & 1 == 1 { b'}' } else { b']' };
        let closes = self.bytes.get(self.at) == Some(&close);
        self.at += usize::from(closes);
        closes
    }

    fn key_inside(&mut self, objects: u64) -> Result<(), Syntax> {
        if objects & 1 == 1 {
            self.key()?;
        }
        Ok(())
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Result<Span, Syntax> {
        let start = self.at + 1;
        let kind = self.string_kind()?;
        Ok(Span {
            kind,
            start,
            end: self.at - 1,
        })
    }

    /// Takes a string, from its opening quote to its last one. Escapes are validated here and
    /// resolved by [`unescape`].
    fn string_kind(&mut self) -> Result<Kind, Syntax> {
        self.at += 1;
        let mut kind = Kind::Plain;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(kind);
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(_) => return Err(self.unexpected("no bare control character in a string")),
                None => return Err(self.unexpected("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Syntax> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                self.at += 2;
                self.hex()
            }
            _ => {
                self.at += 1;
                Err(self.unexpected("a character that can be escaped"))
            }
        }
    }

    /// Half of a pair of surrogates may stand alone: its text is replaced.
    fn hex(&mut self) -> Result<(), Syntax> {
        for _ in 0..4 {
            if !self.bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                return Err(self.unexpected("four hexadecimal digits"));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Span, Syntax> {
        let start = self.at;
        self.at += usize::from(self.bytes[self.at] == b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'I') => {
                self.at = start;
                return self.not_finite("a digit");
            }
            _ => self.digits()?,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Span {
            kind: Kind::Number,
            start,
            end: self.at,
        })
    }

    /// Infinity, or no number.
    #[cold]
    fn not_finite(&mut self, expected: &'static str) -> Result<Span, Syntax> {
        let rest = self.rest();
        let word = NOT_FINITE
            .iter()
            .find(|word| rest.starts_with(word.as_bytes()))
            .ok_or_else(|| self.unexpected(expected))?;
        let start = self.at;
        self.at += word.len();
        Ok(Span {
            kind: Kind::Number,
            start,
            end: self.at,
        })
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.unexpected("a digit"))
        } else {
            Ok(())
        }
    }

    fn literal(&mut self, word: &'static str, kind: Kind) -> Result<Span, Syntax> {
        let start = self.at;
        let end = self.at + word.len();
        if self.bytes.get(start..end) != Some(word.as_bytes()) {
            return Err(self.unexpected(word));
        }
        self.at = end;
        Ok(Span { kind, start, end })
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    #[cold]
    fn unexpected(&self, expected: &'static str) -> Syntax {
        let at = self.at.min(self.bytes.len());
        if at == self.bytes.len() {
            Syntax::Truncated { at, expected }
        } else {
            Syntax::Unexpected { at, expected }
        }
    }
}

/// Bytes that are compared with one instruction.
const BLOCK: usize = 16;

/// How many bytes from the front are neither a quote, a backslash nor a control character.
fn plain_prefix(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        let ends = ends(block);
        if ends != 0 {
            return number * BLOCK + ends.trailing_zeros() as usize;
        }
    }
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F));
    bytes.len() - rest.len() + end.unwrap_or(rest.len())
}

/// A bit for each byte that ends plain text, that of the first one lowest.
#[inline]
fn ends(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::from(*block);
    let control = bytes.min(u8x16::splat(0x1F)).simd_eq(bytes);
    let ends = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | control;
    ends.to_bitmask()
}

/// Writes a string's text without its escapes. `raw` must come from a span of kind
/// [`Kind::Escaped`].
pub(crate) fn unescape(raw: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        out.write_str(&rest[..backslash])?;
        let taken = match rest.as_bytes()[backslash + 1] {
            b'u' => write_unicode(&rest[backslash..], out)?,
            byte => {
                out.write_char(match byte {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(other),
                })?;
                2
            }
        };
        rest = &rest[backslash + taken..];
    }
    out.write_str(rest)
}

/// Writes the character of a `\u` escape, or of a pair of them; returns how many bytes it took.
fn write_unicode(escape: &str, out: &mut impl fmt::Write) -> Result<usize, fmt::Error> {
    let unit = |at: usize| u32::from_str_radix(escape.get(at..at + 4)?, 16).ok();
    let high = unit(2).ok_or(fmt::Error)?;
    let low = (0xD800..=0xDBFF)
        .contains(&high)
        .then(|| unit(8).filter(|_| escape[6..].starts_with("\\u")))
        .flatten()
        .filter(|low| (0xDC00..=0xDFFF).contains(low));
    let (code, taken) = match low {
        Some(low) => (0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12),
        None => (high, 6),
    };
    out.write_char(char::from_u32(code).unwrap_or(REPLACEMENT))?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of Spark 3.5.3.
    #[test]
    fn p14_half_of_a_pair_of_surrogates_is_replaced() {
        for (raw, expected) in [
            (r"pair \ud83d\ude00", "pair 😀"),
            (r"cut \ud83d", "cut ?"),
            (r"low \ude00\ud83d", "low ??"),
            (r"\ud83dabc", "?abc"),
            (r"\ud83d\ud83d\uDE00", "?😀"),
            (r"\ude00x", "?x"),
            (r"\ud83d\n", "?\n"),
            (r"\ud83d\u0041", "?A"),
            (r"\ud83dé", "?é"),
            (r"a\u0000b", "a\0b"),
        ] {
            let mut out = String::new();
            unescape(raw, &mut out).unwrap();
            assert_eq!(out, expected, "{raw}");
        }
    }

    #[test]
    fn a_string_s_plain_part_ends_at_the_first_byte_that_is_not_plain_wherever_it_stands() {
        for length in 0..=4 * BLOCK {
            let plain = "aé~".bytes().cycle().take(length).collect::<Vec<u8>>();
            assert_eq!(plain_prefix(&plain), length);
            for (at, end) in
                (0..length).flat_map(|at| [b'"', b'\\', 0x00, 0x1f].map(|end| (at, end)))
            {
                let mut text = plain.clone();
                text[at] = end;
                assert_eq!(plain_prefix(&text), at, "{end:#04x} at {at} of {length}");
            }
        }
    }
}
