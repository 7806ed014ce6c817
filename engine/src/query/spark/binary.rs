//! Binary values, and texts that stand for bytes.
//!
//! Owns: base64 and hexadecimal text as bytes, charsets, forms of addresses. Does not own: texts of
//! bytes (`text`).
//! Rule: where Spark stops a job (a text that is no base64), the value is NULL.

use super::call::{Given, Refusal, Rows};
use super::types;
use arrow::array::ArrayRef;
use datafusion::common::Result;
use std::fmt::Write;

/// The six bits of a letter; `None`: it is passed over, as in mails.
fn bits_of(letter: u8) -> Option<u32> {
    Some(
        match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }
        .into(),
    )
}

/// Bytes of base64 as Java reads it in mails: other letters are passed over.
fn of_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0_u32;
    let mut letters = 0;
    let mut rest = text.bytes();
    while let Some(letter) = rest.next() {
        if letter == b'=' {
            // One sign behind three letters, two behind two.
            let is_whole = match letters {
                3 => true,
                2 => rest.next() == Some(b'='),
                _ => false,
            };
            if !is_whole || rest.any(|letter| bits_of(letter).is_some()) {
                return None;
            }
            break;
        }
        let Some(six) = bits_of(letter) else { continue };
        bits = bits << 6 | six;
        letters += 1;
        if letters == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
            letters = 0;
        }
    }
    match letters {
        0 => {}
        1 => return None,
        2 => bytes.push((bits >> 4) as u8),
        _ => bytes.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
    }
    Some(bytes)
}

pub(super) fn unbase64(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.binaries(|row| of_base64(&row.text(0)?))
}

/// An odd number of digits has a zero before it.
fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|letter| letter.to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>()?;
    let (first, pairs) = digits.split_at(digits.len() % 2);
    let pairs = pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
    let all = first.iter().copied().chain(pairs);
    Some(all.map(|byte| byte as u8).collect())
}

pub(super) fn unhex(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.binaries(|row| of_hex(&row.text(0)?))
}

#[derive(Clone, Copy)]
enum Charset {
    Utf8,
    Ascii,
    Latin1,
}

impl Charset {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_uppercase().as_str() {
            "UTF-8" | "UTF8" => Self::Utf8,
            "US-ASCII" | "ASCII" => Self::Ascii,
            "ISO-8859-1" | "LATIN1" => Self::Latin1,
            _ => return None,
        })
    }

    fn last(self) -> u32 {
        match self {
            Self::Utf8 => u32::MAX,
            Self::Ascii => 0x7f,
            Self::Latin1 => 0xff,
        }
    }
}

pub(super) fn charset(given: &Given<'_>) -> Result<(), Refusal> {
    let name = given.constant_text(1)?.unwrap_or_default();
    match Charset::named(name) {
        Some(_) => Ok(()),
        None => Err(given.refuse(
            format!("with the charset '{name}' is not supported"),
            "the charsets are 'UTF-8', 'US-ASCII' and 'ISO-8859-1'; for a table of values write CASE",
        )),
    }
}

/// `to_binary(x, 'hex')`.
pub(super) fn to_bytes(given: &Given<'_>) -> Result<(), Refusal> {
    let form = given.constant_text(1)?.unwrap_or("hex").to_lowercase();
    match form.as_str() {
        "hex" | "utf-8" | "utf8" => Ok(()),
        "base64" => Err(given.refuse("with 'base64' is not supported", "write unbase64(x)")),
        other => Err(given.refuse(
            format!("with the form '{other}' is not supported"),
            "the forms are 'hex' and 'utf-8'",
        )),
    }
}

pub(super) fn to_binary(rows: &Rows<'_>) -> Result<ArrayRef> {
    let form = rows.constant_text(1).unwrap_or_else(|| "hex".to_owned());
    let is_hex = form.eq_ignore_ascii_case("hex");
    rows.binaries(|row| {
        let text = row.text(0)?;
        match is_hex {
            true => of_hex(&text),
            false => Some(text.into_owned().into_bytes()),
        }
    })
}

fn charset_of(rows: &Rows<'_>) -> Option<Charset> {
    Charset::named(&rows.constant_text(1)?)
}

/// Bytes in a charset; a letter that it lacks is a question mark.
pub(super) fn encode(rows: &Rows<'_>) -> Result<ArrayRef> {
    let charset = charset_of(rows);
    rows.binaries(|row| {
        let text = row.text(0)?;
        let charset = charset?;
        if let Charset::Utf8 = charset {
            return Some(text.into_owned().into_bytes());
        }
        let byte = |letter: char| match u32::from(letter) {
            code if code <= charset.last() => code as u8,
            _ => b'?',
        };
        Some(text.chars().map(byte).collect())
    })
}

pub(super) fn decode(rows: &Rows<'_>) -> Result<ArrayRef> {
    let charset = charset_of(rows);
    rows.texts(|row| {
        let bytes = row.bytes(0)?;
        let charset = charset?;
        if let Charset::Utf8 = charset {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        let letter = |byte: &u8| match u32::from(*byte) {
            code if code <= charset.last() => char::from(*byte),
            _ => char::REPLACEMENT_CHARACTER,
        };
        Some(bytes.iter().map(letter).collect())
    })
}

/// The form of a field of a form in an address.
pub(super) fn url_encode(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let text = row.text(0)?;
        let mut form = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                    form.push(char::from(byte));
                }
                b' ' => form.push('+'),
                _ => {
                    let _ = write!(form, "%{byte:02X}");
                }
            }
        }
        Some(form)
    })
}

/// The text of such a form; NULL where it is none.
pub(super) fn url_decode(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let form = row.text(0)?;
        let mut bytes = Vec::with_capacity(form.len());
        let mut letters = form.bytes();
        while let Some(letter) = letters.next() {
            bytes.push(match letter {
                b'+' => b' ',
                b'%' => {
                    let mut digit = || char::from(letters.next()?).to_digit(16);
                    (digit()? << 4 | digit()?) as u8
                }
                other => other,
            });
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// The name of the argument's type.
pub(super) fn type_name(rows: &Rows<'_>) -> Result<ArrayRef> {
    let name = types::name(&rows.kind(0));
    rows.texts(|_| Some(name.clone()))
}
