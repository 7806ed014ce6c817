//! Functions on text.
//!
//! Owns: what each gives. Does not own: regular expressions (`regex`), the size of results
//! (`bounded`).
//! Rule: characters are Unicode's, counted as Spark counts them.

use super::call::{Given, Refusal, Row, Rows};
use super::types;
use super::value::Value;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::Result;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use std::borrow::Cow;
use std::fmt::Write as _;

pub(super) fn upper(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| row.text(0).map(|text| text.to_uppercase()))
}

pub(super) fn lower(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| row.text(0).map(|text| text.to_lowercase()))
}

pub(super) fn length(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| row.text(0).map(|text| text.chars().count() as i32))
}

pub(super) fn octet_length(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| row.text(0).map(|text| text.len() as i32))
}

pub(super) fn bit_length(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| row.text(0).map(|text| text.len() as i32 * 8))
}

/// A part of a text that one of its functions returns.
fn part<'r>(row: Row<'r>, of: impl Fn(&str) -> std::ops::Range<usize>) -> Option<Cow<'r, str>> {
    Some(match row.text(0)? {
        Cow::Borrowed(text) => Cow::Borrowed(&text[of(text)]),
        Cow::Owned(text) => {
            let range = of(&text);
            Cow::Owned(text[range].to_owned())
        }
    })
}

fn trimmed(text: &str, letters: &str, begin: bool, end: bool) -> std::ops::Range<usize> {
    let mut kept = text;
    if end {
        kept = kept.trim_end_matches(|letter| letters.contains(letter));
    }
    let to = kept.len();
    if begin {
        kept = kept.trim_start_matches(|letter| letters.contains(letter));
    }
    to - kept.len()..to
}

fn trim_sides(rows: &Rows<'_>, begin: bool, end: bool) -> Result<ArrayRef> {
    rows.texts(|row| {
        if !row.has(1) {
            return part(row, |text| trimmed(text, " ", begin, end));
        }
        let letters = row.text(1)?;
        part(row, |text| trimmed(text, &letters, begin, end))
    })
}

pub(super) fn trim(rows: &Rows<'_>) -> Result<ArrayRef> {
    trim_sides(rows, true, true)
}

pub(super) fn trim_start(rows: &Rows<'_>) -> Result<ArrayRef> {
    trim_sides(rows, true, false)
}

pub(super) fn trim_end(rows: &Rows<'_>) -> Result<ArrayRef> {
    trim_sides(rows, false, true)
}

/// The byte at which the character with this number begins, or the end.
fn byte_at(text: &str, character: usize) -> usize {
    text.char_indices()
        .nth(character)
        .map_or(text.len(), |(at, _)| at)
}

/// As `UTF8String.substringSQL` of Spark.
fn substring_range(text: &str, from: i64, count: i64) -> std::ops::Range<usize> {
    let length = text.chars().count() as i64;
    let start = match from {
        1.. => from - 1,
        0 => 0,
        _ => length + from,
    };
    let end = start.saturating_add(count).min(length);
    let start = start.max(0);
    if end <= start {
        return 0..0;
    }
    byte_at(text, start as usize)..byte_at(text, end as usize)
}

pub(super) fn substring(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let from = row.int(1)?;
        let count = if row.has(2) { row.int(2)? } else { i32::MAX };
        part(row, |text| substring_range(text, from.into(), count.into()))
    })
}

pub(super) fn left(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let count = row.int(1)?;
        part(row, |text| substring_range(text, 1, count.into()))
    })
}

pub(super) fn right(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let count = row.int(1)?;
        part(row, |text| {
            if count <= 0 {
                return 0..0;
            }
            let length = text.chars().count();
            byte_at(text, length.saturating_sub(count as usize))..text.len()
        })
    })
}

pub(super) fn concat(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let mut all = String::new();
        for place in 0..row.args() {
            all.push_str(&row.text(place)?);
        }
        Some(all)
    })
}

fn padded(row: Row<'_>, before: bool) -> Option<String> {
    let text = row.text(0)?;
    let wanted = usize::try_from(row.int(1)?).unwrap_or(0);
    let fill = if row.has(2) {
        row.text(2)?
    } else {
        Cow::Borrowed(" ")
    };
    let length = text.chars().count();
    if wanted <= length || fill.is_empty() {
        return Some(text[..byte_at(&text, wanted)].to_owned());
    }
    let filling: String = fill.chars().cycle().take(wanted - length).collect();
    Some(if before {
        filling + &text
    } else {
        text.into_owned() + &filling
    })
}

pub(super) fn lpad(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| padded(row, true))
}

pub(super) fn rpad(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| padded(row, false))
}

pub(super) fn repeat(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let times = usize::try_from(row.int(1)?).unwrap_or(0);
        Some(row.text(0)?.repeat(times))
    })
}

pub(super) fn reverse(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        row.text(0)
            .map(|text| text.chars().rev().collect::<String>())
    })
}

/// Words begin after blanks alone.
pub(super) fn initcap(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let lower = row.text(0)?.to_lowercase();
        let mut all = String::with_capacity(lower.len());
        let mut begins = true;
        for letter in lower.chars() {
            if begins {
                all.extend(letter.to_uppercase());
            } else {
                all.push(letter);
            }
            begins = letter == ' ';
        }
        Some(all)
    })
}

pub(super) fn replace(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let (text, from) = (row.text(0)?, row.text(1)?);
        let to = if row.has(2) {
            row.text(2)?
        } else {
            Cow::Borrowed("")
        };
        if from.is_empty() {
            return Some(text.into_owned());
        }
        Some(text.replace(&*from, &to))
    })
}

pub(super) fn translate(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let (text, from, to) = (row.text(0)?, row.text(1)?, row.text(2)?);
        let mut pairs: Vec<(char, Option<char>)> = vec![];
        let mut targets = to.chars();
        for letter in from.chars() {
            let target = targets.next();
            if !pairs.iter().any(|(other, _)| *other == letter) {
                pairs.push((letter, target));
            }
        }
        let translated = text.chars().filter_map(|letter| {
            let pair = pairs.iter().find(|(from, _)| *from == letter);
            pair.map_or(Some(letter), |(_, to)| *to)
        });
        Some(translated.collect::<String>())
    })
}

/// The place of a text in another, from 1; 0 if it is not there. `from`: where to begin, from 1.
fn place_of(text: &str, part: &str, from: i32) -> i32 {
    let Ok(skipped) = usize::try_from(from - 1) else {
        return 0;
    };
    if skipped > text.chars().count() {
        return 0;
    }
    let begin = byte_at(text, skipped);
    match text[begin..].find(part) {
        Some(at) => (skipped + text[begin..begin + at].chars().count()) as i32 + 1,
        None => 0,
    }
}

pub(super) fn instr(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| Some(place_of(&row.text(0)?, &row.text(1)?, 1)))
}

pub(super) fn locate(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| {
        let from = if row.has(2) {
            match row.int(2) {
                Some(from) => from,
                None => return Some(0),
            }
        } else {
            1
        };
        let part = row.text(0)?;
        let text = row.text(1)?;
        Some(if from < 1 {
            0
        } else {
            place_of(&text, &part, from)
        })
    })
}

pub(super) fn split_part(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let (text, between, place) = (row.text(0)?, row.text(1)?, row.int(2)?);
        let parts: Vec<&str> = if between.is_empty() {
            vec![&text]
        } else {
            text.split(&*between).collect()
        };
        let at = if place > 0 {
            place as usize - 1
        } else {
            parts.len().wrapping_sub(place.unsigned_abs() as usize)
        };
        Some(parts.get(at).copied().unwrap_or("").to_owned())
    })
}

pub(super) fn substring_index(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let (text, between, count) = (row.text(0)?, row.text(1)?, row.int(2)?);
        if between.is_empty() || count == 0 {
            return Some(String::new());
        }
        let found = if count > 0 {
            text.match_indices(&*between)
                .nth(count as usize - 1)
                .map(|(at, _)| &text[..at])
        } else {
            text.rmatch_indices(&*between)
                .nth(count.unsigned_abs() as usize - 1)
                .map(|(at, _)| &text[at + between.len()..])
        };
        Some(found.unwrap_or(&text).to_owned())
    })
}

pub(super) fn starts_with(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| Some(row.text(0)?.starts_with(&*row.text(1)?)))
}

pub(super) fn ends_with(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| Some(row.text(0)?.ends_with(&*row.text(1)?)))
}

pub(super) fn contains(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| Some(row.text(0)?.contains(&*row.text(1)?)))
}

pub(super) fn ascii(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| Some(row.text(0)?.chars().next().map_or(0, |first| first as i32)))
}

pub(super) fn chr(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let number = row.long(0)?;
        if number < 0 {
            return Some(String::new());
        }
        Some(char::from((number & 0xFF) as u8).to_string())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}");
        all
    })
}

pub(super) fn md5(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| Some(hex(&Md5::digest(row.bytes(0)?))))
}

pub(super) fn sha1(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| Some(hex(&Sha1::digest(row.bytes(0)?))))
}

/// Letters of a line of base64 in mails, which is what Spark writes.
const BASE64_LINE: usize = 76;

pub(super) fn base64(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let code = STANDARD.encode(row.bytes(0)?);
        let mut lines = String::with_capacity(code.len() + code.len() / BASE64_LINE * 2);
        for (at, letter) in code.char_indices() {
            if at > 0 && at % BASE64_LINE == 0 {
                lines.push_str("\r\n");
            }
            lines.push(letter);
        }
        Some(lines)
    })
}

/// `elt(2, a, b)` is b.
pub(super) fn elt(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let place = usize::try_from(row.int(0)?).ok()?;
        (place > 0 && place < row.args())
            .then(|| row.text(place))
            .flatten()
    })
}

/// `overlay(text PLACING other FROM 3 FOR 2)`.
pub(super) fn overlay(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let (text, other, from) = (row.text(0)?, row.text(1)?, row.int(2)?);
        let count = if row.has(3) { row.int(3)? } else { -1 };
        let count = match count {
            0.. => count,
            _ => other.chars().count() as i32,
        };
        let before = substring_range(&text, 1, from.wrapping_sub(1).into());
        let after = substring_range(&text, from.wrapping_add(count).into(), i32::MAX.into());
        Some([&text[before], &*other, &text[after]].concat())
    })
}

/// The code of each letter; `7` is as if it was not there.
const SOUNDS: &[u8; 26] = b"01230127022455012623017202";

pub(super) fn soundex(rows: &Rows<'_>) -> Result<ArrayRef> {
    let code = |letter: u8| SOUNDS[usize::from(letter.to_ascii_uppercase() - b'A')];
    rows.texts(|row| {
        let text = row.text(0)?;
        let mut letters = text.bytes();
        let first = letters.next().filter(u8::is_ascii_alphabetic);
        let Some(first) = first else {
            return Some(text.into_owned());
        };
        let mut sounds = String::from(char::from(first.to_ascii_uppercase()));
        let mut last = code(first);
        for letter in letters {
            if !letter.is_ascii_alphabetic() {
                last = b'0';
                continue;
            }
            let sound = code(letter);
            if sound == b'7' {
                continue;
            }
            if sound != b'0' && sound != last {
                sounds.push(char::from(sound));
                if sounds.len() == 4 {
                    break;
                }
            }
            last = sound;
        }
        Some(format!("{sounds:0<4}"))
    })
}

pub(super) fn sha2(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        let bytes = row.bytes(0)?;
        match row.int(1)? {
            224 => Some(hex(&Sha224::digest(&bytes))),
            0 | 256 => Some(hex(&Sha256::digest(&bytes))),
            384 => Some(hex(&Sha384::digest(&bytes))),
            512 => Some(hex(&Sha512::digest(&bytes))),
            _ => None,
        }
    })
}

pub(super) fn crc32(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| {
        let mut sum = flate2::Crc::new();
        sum.update(&row.bytes(0)?);
        Some(sum.sum().into())
    })
}

pub(super) fn hex_kind(given: &Given<'_>) -> Result<(), Refusal> {
    match given.kind(0) {
        DataType::Utf8 | DataType::Binary | DataType::Null => Ok(()),
        kind if types::is_whole(kind) => Ok(()),
        kind => Err(given.refuse(
            format!("does not take {}", types::name(kind)),
            "cast it to BIGINT or STRING",
        )),
    }
}

pub(super) fn hex_of(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.texts(|row| {
        Some(match row.value(0)? {
            Value::Whole(number) => format!("{number:X}"),
            other => hex(&other.bytes()).to_uppercase(),
        })
    })
}

pub(super) fn levenshtein(rows: &Rows<'_>) -> Result<ArrayRef> {
    use datafusion::common::utils::datafusion_strsim::levenshtein;
    rows.ints(|row| Some(levenshtein(&row.text(0)?, &row.text(1)?) as i32))
}

pub(super) fn find_in_set(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| {
        let word = row.text(0)?;
        let set = row.text(1)?;
        if word.contains(',') {
            return Some(0);
        }
        let place = set.split(',').position(|other| *other == *word);
        Some(place.map_or(0, |place| place as i32 + 1))
    })
}
