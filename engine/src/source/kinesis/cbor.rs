//! CBOR (RFC 8949), as far as AWS services send and accept it.
//!
//! Owns: items, their lengths and nesting. Does not own: what a response contains (`answer`).
//! Rule: pure; a length is compared with the bytes that are left before anything is allocated, and
//! nesting is bounded.

use std::borrow::Cow;

/// Deepest nesting of arrays, maps and tags. A response of the service has 5 levels.
const DEPTH_MAX: usize = 32;
/// The length of an item that ends with a break.
const INDEFINITE: u8 = 31;
/// Ends an item of indefinite length.
const BREAK: u8 = 0xff;

/// The bytes are not CBOR, or not what must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not CBOR at byte {at}: {problem}")]
pub struct Syntax {
    pub at: usize,
    pub problem: &'static str,
}

/// The kinds of items, by their first three bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Major {
    Unsigned,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Simple,
}

impl Major {
    #[inline]
    fn of(byte: u8) -> Self {
        match byte >> 5 {
            0 => Self::Unsigned,
            1 => Self::Negative,
            2 => Self::Bytes,
            3 => Self::Text,
            4 => Self::Array,
            5 => Self::Map,
            6 => Self::Tag,
            _ => Self::Simple,
        }
    }
}

/// The first bytes of an item.
#[derive(Clone, Copy, Debug)]
struct Head {
    major: Major,
    /// The lower five bits of the first byte.
    info: u8,
    /// A number, a length or a count; 0 for an indefinite length.
    value: u64,
}

impl Head {
    fn is_indefinite(self) -> bool {
        self.info == INDEFINITE
    }
}

/// One value. Arrays and maps are read item by item, or skipped.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Null or undefined.
    Null,
    Bool(bool),
    Unsigned(u64),
    /// -1 minus this.
    Negative(u64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// An array or a map, which was skipped, or a simple value without a meaning.
    Other,
}

/// How many items of an array, or pairs of a map, are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Known(u64),
    UntilBreak,
}

/// Reads one item after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Begins a map.
    ///
    /// # Errors
    /// The next item is none, or would be longer than the input.
    pub fn map(&mut self) -> Result<Left, Syntax> {
        self.begin(Major::Map, "expected a map")
    }

    /// Begins an array.
    ///
    /// # Errors
    /// The next item is none, or would be longer than the input.
    pub fn array(&mut self) -> Result<Left, Syntax> {
        self.begin(Major::Array, "expected an array")
    }

    /// Begins an array, or takes a null in its place.
    ///
    /// # Errors
    /// The next item is neither.
    pub fn array_or_null(&mut self) -> Result<Option<Left>, Syntax> {
        if matches!(self.bytes.get(self.at), Some(0xf6 | 0xf7)) {
            self.at += 1;
            return Ok(None);
        }
        self.array().map(Some)
    }

    /// Whether a further item, or pair of a map, follows; counts it.
    ///
    /// # Errors
    /// The input ends.
    #[inline]
    pub fn more(&mut self, left: &mut Left) -> Result<bool, Syntax> {
        match left {
            Left::Known(0) => Ok(false),
            Left::Known(count) => {
                *count -= 1;
                Ok(true)
            }
            Left::UntilBreak => {
                if self.peek()? != BREAK {
                    return Ok(true);
                }
                self.at += 1;
                Ok(false)
            }
        }
    }

    /// A text, such as the key of a map.
    ///
    /// # Errors
    /// The next item is none.
    pub fn text(&mut self) -> Result<Cow<'a, str>, Syntax> {
        let bytes = self.key()?;
        self.utf8(bytes)
    }

    /// The bytes of a text to compare with known ones, which are UTF-8: [`Self::skip`] checks others.
    ///
    /// # Errors
    /// The next item is no text.
    #[inline]
    pub fn key(&mut self) -> Result<Cow<'a, [u8]>, Syntax> {
        let head = self.head()?;
        if head.major != Major::Text {
            return Err(self.fault("expected a text"));
        }
        self.string(head)
    }

    /// The next value; tags are dropped.
    ///
    /// # Errors
    /// It is not valid.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, Syntax> {
        let head = self.head()?;
        self.value_of(head, 0)
    }

    /// Skips the value of this key.
    ///
    /// # Errors
    /// The key is not UTF-8, or the value is not valid.
    pub fn skip(&mut self, key: &[u8]) -> Result<(), Syntax> {
        self.utf8(Cow::Borrowed(key))?;
        self.value().map(|_| ())
    }

    /// The input ends here.
    ///
    /// # Errors
    /// It does not.
    pub fn end(&self) -> Result<(), Syntax> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.fault("expected the end"))
        }
    }

    /// A record has numbers and strings only: what nests is kept out of their way.
    #[inline]
    fn value_of(&mut self, head: Head, depth: usize) -> Result<Value<'a>, Syntax> {
        match head.major {
            Major::Unsigned => Ok(Value::Unsigned(head.value)),
            Major::Negative => Ok(Value::Negative(head.value)),
            Major::Bytes => self.string(head).map(Value::Bytes),
            Major::Text => {
                let bytes = self.string(head)?;
                self.utf8(bytes).map(Value::Text)
            }
            Major::Array | Major::Map | Major::Tag => self.nested(head, depth + 1),
            Major::Simple => self.simple(head),
        }
    }

    #[inline(never)]
    fn nested(&mut self, head: Head, depth: usize) -> Result<Value<'a>, Syntax> {
        if depth > DEPTH_MAX {
            return Err(self.fault("nested too deeply"));
        }
        match head.major {
            Major::Array => self.skip_items(head, 1, depth),
            Major::Map => self.skip_items(head, 2, depth),
            _ => {
                let head = self.head()?;
                self.value_of(head, depth)
            }
        }
    }

    /// Skips the rest of an array or map, of which each entry has this many values.
    fn skip_items(&mut self, head: Head, values: usize, depth: usize) -> Result<Value<'a>, Syntax> {
        let mut left = self.left(head)?;
        while self.more(&mut left)? {
            for _ in 0..values {
                let head = self.head()?;
                self.value_of(head, depth)?;
            }
        }
        Ok(Value::Other)
    }

    fn simple(&self, head: Head) -> Result<Value<'a>, Syntax> {
        Ok(match head.info {
            20 => Value::Bool(false),
            21 => Value::Bool(true),
            22 | 23 => Value::Null,
            25 => Value::Float(half(head.value as u16)),
            26 => Value::Float(f64::from(f32::from_bits(head.value as u32))),
            27 => Value::Float(f64::from_bits(head.value)),
            INDEFINITE => return Err(self.fault("a break without a beginning")),
            _ => Value::Other,
        })
    }

    fn begin(&mut self, major: Major, problem: &'static str) -> Result<Left, Syntax> {
        let head = self.head()?;
        if head.major != major {
            return Err(self.fault(problem));
        }
        self.left(head)
    }

    fn left(&self, head: Head) -> Result<Left, Syntax> {
        if head.is_indefinite() {
            return Ok(Left::UntilBreak);
        }
        // Each item has at least one byte.
        let rest = (self.bytes.len() - self.at) as u64;
        if head.value > rest {
            return Err(self.fault("more items than bytes"));
        }
        Ok(Left::Known(head.value))
    }

    /// The content of a string: a slice of the input, or its parts put together.
    #[inline]
    fn string(&mut self, head: Head) -> Result<Cow<'a, [u8]>, Syntax> {
        if head.is_indefinite() {
            self.parts(head).map(Cow::Owned)
        } else {
            self.take(head.value).map(Cow::Borrowed)
        }
    }

    #[inline(never)]
    fn parts(&mut self, head: Head) -> Result<Vec<u8>, Syntax> {
        let mut whole = Vec::new();
        let mut left = Left::UntilBreak;
        while self.more(&mut left)? {
            let part = self.head()?;
            if part.major != head.major || part.is_indefinite() {
                return Err(self.fault("a part of another kind"));
            }
            whole.extend_from_slice(self.take(part.value)?);
        }
        Ok(whole)
    }

    #[inline]
    fn utf8<'t>(&self, bytes: Cow<'t, [u8]>) -> Result<Cow<'t, str>, Syntax> {
        let text = match bytes {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.ok_or_else(|| self.fault("a text that is not UTF-8"))
    }

    #[inline]
    fn head(&mut self) -> Result<Head, Syntax> {
        let byte = self.peek()?;
        self.at += 1;
        let major = Major::of(byte);
        let info = byte & 0x1f;
        let value = match info {
            0..=23 => u64::from(info),
            24 => u64::from(u8::from_be_bytes(self.array_of()?)),
            25 => u64::from(u16::from_be_bytes(self.array_of()?)),
            26 => u64::from(u32::from_be_bytes(self.array_of()?)),
            27 => u64::from_be_bytes(self.array_of()?),
            INDEFINITE => match major {
                Major::Unsigned | Major::Negative | Major::Tag => {
                    return Err(self.fault("a number without an end"));
                }
                Major::Bytes | Major::Text | Major::Array | Major::Map | Major::Simple => 0,
            },
            _ => return Err(self.fault("a reserved length")),
        };
        Ok(Head { major, info, value })
    }

    #[inline]
    fn peek(&self) -> Result<u8, Syntax> {
        let byte = self.bytes.get(self.at).copied();
        byte.ok_or_else(|| self.fault("it breaks off"))
    }

    #[inline]
    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Syntax> {
        let taken = self.bytes[self.at..].first_chunk();
        let taken = *taken.ok_or_else(|| self.fault("it breaks off"))?;
        self.at += N;
        Ok(taken)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], Syntax> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.bytes[self.at..].get(..length));
        let taken = taken.ok_or_else(|| self.fault("it breaks off"))?;
        self.at += taken.len();
        Ok(taken)
    }

    #[cold]
    fn fault(&self, problem: &'static str) -> Syntax {
        Syntax {
            at: self.at,
            problem,
        }
    }
}

/// A number of 16 bits: 1 of sign, 5 of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff);
    let exponent = i32::from(bits >> 10 & 0x1f);
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1_024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

/// Writes a map of this many pairs; the pairs follow.
pub fn write_map(pairs: u64, out: &mut Vec<u8>) {
    write_head(5, pairs, out);
}

/// Writes a text.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    write_head(3, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Writes a number.
pub fn write_unsigned(number: u64, out: &mut Vec<u8>) {
    write_head(0, number, out);
}

fn write_head(major: u8, value: u64, out: &mut Vec<u8>) {
    let first = |info: u8| major << 5 | info;
    let bytes = value.to_be_bytes();
    match value {
        0..=23 => out.push(first(bytes[7])),
        24..=0xff => out.extend_from_slice(&[first(24), bytes[7]]),
        0x100..=0xffff => {
            out.push(first(25));
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(first(26));
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(first(27));
            out.extend_from_slice(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of RFC 8949, appendix A, that have one value.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let examples: &[(&[u8], Value<'_>)] = &[
            (&[0x00], Value::Unsigned(0)),
            (&[0x17], Value::Unsigned(23)),
            (&[0x18, 0x18], Value::Unsigned(24)),
            (&[0x19, 0x03, 0xe8], Value::Unsigned(1_000)),
            (
                &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                Value::Unsigned(18_446_744_073_709_551_615),
            ),
            (&[0x20], Value::Negative(0)),
            (
                &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                Value::Negative(u64::MAX),
            ),
            (&[0xf9, 0x3e, 0x00], Value::Float(1.5)),
            (&[0xf9, 0x00, 0x01], Value::Float(5.960_464_477_539_063e-8)),
            (&[0xf9, 0xc4, 0x00], Value::Float(-4.0)),
            (&[0xf9, 0x7c, 0x00], Value::Float(f64::INFINITY)),
            (&[0xfa, 0x47, 0xc3, 0x50, 0x00], Value::Float(100_000.0)),
            (
                &[0xfb, 0xc0, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66],
                Value::Float(-4.1),
            ),
            (&[0xf4], Value::Bool(false)),
            (&[0xf6], Value::Null),
            (&[0xf7], Value::Null),
            (
                &[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0],
                Value::Unsigned(1_363_896_240),
            ),
            (
                &[0x44, 1, 2, 3, 4],
                Value::Bytes(Cow::Borrowed(&[1, 2, 3, 4])),
            ),
            (&[0x62, 0xc3, 0xbc], Value::Text(Cow::Borrowed("ü"))),
            (&[0x83, 1, 2, 3], Value::Other),
            (&[0xa1, 0x61, 0x61, 1], Value::Other),
            (
                &[0x5f, 0x42, 1, 2, 0x43, 3, 4, 5, 0xff],
                Value::Bytes(Cow::Owned(vec![1, 2, 3, 4, 5])),
            ),
            (&[0x9f, 0x01, 0x9f, 0xff, 0xff], Value::Other),
            (&[0xbf, 0x61, 0x61, 0x01, 0xff], Value::Other),
        ];
        for (bytes, value) in examples {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.value().as_ref(), Ok(value), "{bytes:x?}");
            assert_eq!(reader.end(), Ok(()), "{bytes:x?}");
        }
    }

    #[test]
    fn broken_and_hostile_bytes_are_refused_without_allocation() {
        let refused: &[(&[u8], &str)] = &[
            (&[], "it breaks off"),
            (&[0x19, 0x03], "it breaks off"),
            (
                &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "it breaks off",
            ),
            (
                &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "more items than bytes",
            ),
            (&[0x61, 0xff], "a text that is not UTF-8"),
            (&[0x5f, 0x61, 0x61, 0xff], "a part of another kind"),
            (&[0x5f, 0x5f, 0xff, 0xff], "a part of another kind"),
            (&[0x1f], "a number without an end"),
            (&[0x1c], "a reserved length"),
            (&[0xff], "a break without a beginning"),
            (&[0xbf, 0x61, 0x61, 0xff], "a break without a beginning"),
        ];
        for (bytes, problem) in refused {
            let found = Reader::new(bytes).value().map_err(|error| error.problem);
            assert_eq!(found, Err(*problem), "{bytes:x?}");
        }
        for opening in [0x81, 0x9f, 0xc1] {
            let deep = vec![opening; 100_000];
            let found = Reader::new(&deep).value().map_err(|error| error.problem);
            assert_eq!(found, Err("nested too deeply"));
        }
    }

    #[test]
    fn written_items_are_read_again() {
        for number in [
            0,
            23,
            24,
            255,
            256,
            65_535,
            65_536,
            u64::from(u32::MAX),
            1 << 32,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            write_unsigned(number, &mut out);
            assert_eq!(Reader::new(&out).value(), Ok(Value::Unsigned(number)));
        }
        for length in [0, 1, 23, 24, 300, 70_000] {
            let text = "é".repeat(length);
            let mut out = Vec::new();
            write_map(1, &mut out);
            write_text("key", &mut out);
            write_text(&text, &mut out);
            let mut reader = Reader::new(&out);
            let mut left = reader.map().unwrap();
            assert!(reader.more(&mut left).unwrap());
            assert_eq!(reader.text().unwrap(), "key");
            assert_eq!(reader.text().unwrap(), text);
            assert!(!reader.more(&mut left).unwrap());
            reader.end().unwrap();
        }
    }
}
