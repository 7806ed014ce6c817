//! Regular expressions of Java.
//!
//! Owns: their translation, and the functions that use them. Does not own: LIKE.
//! Rule: a pattern is a constant; what it has that would match other texts here, or in other ways,
//! is refused when the query is planned.

use super::call::{Given, Refusal, Rows};
use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use regex::{Regex, RegexBuilder};
use std::sync::Arc;

/// Most bytes of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// The signs that end a line in Java.
const LINE_ENDS: &str = "\\n\\r\\u{85}\\u{2028}\\u{2029}";

/// What `$` may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Only whether, or a group of the match, is used: the match may take in the end of the line.
    Test,
    /// The whole match is used: `$` before the last end of a line has no equivalent.
    Whole,
}

struct Translator<'p> {
    pattern: &'p str,
    letters: std::iter::Peekable<std::str::CharIndices<'p>>,
    out: String,
    any_case: bool,
    purpose: Purpose,
}

fn refused(pattern: &str, what: &str) -> Refusal {
    Refusal::new(
        format!("the pattern '{pattern}' has {what}, which dialect \"spark\" does not support"),
        "write it without; dialect = \"datafusion\" has patterns of its own",
    )
}

/// A pattern of Java as one of this program.
fn translated(pattern: &str, purpose: Purpose) -> Result<String, Refusal> {
    let (any_case, rest) = match pattern.strip_prefix("(?i)") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    if any_case && !rest.is_ascii() {
        return Err(refused(pattern, "(?i) and letters beyond ASCII"));
    }
    let mut translator = Translator {
        pattern: rest,
        letters: rest.char_indices().peekable(),
        out: String::new(),
        any_case,
        purpose,
    };
    translator.all()?;
    Ok(translator.out)
}

impl Translator<'_> {
    fn refuse(&self, what: &str) -> Refusal {
        refused(self.pattern, what)
    }

    fn all(&mut self) -> Result<(), Refusal> {
        while let Some((at, letter)) = self.letters.next() {
            match letter {
                '\\' => {
                    let escaped = self.escape(false)?;
                    self.out.push_str(&escaped);
                }
                '.' => self.out.push_str(&format!("[^{LINE_ENDS}]")),
                '[' => self.class()?,
                '^' => self.out.push_str("\\A"),
                '$' => self.end()?,
                '(' => {
                    let rest = &self.pattern[at + 1..];
                    let is_plain = !rest.starts_with('?') || rest.starts_with("?:");
                    if !is_plain {
                        return Err(self.refuse("a group that begins with (?"));
                    }
                    self.out.push('(');
                    if rest.starts_with("?:") {
                        self.letters.next();
                        self.letters.next();
                        self.out.push_str("?:");
                    }
                }
                '*' | '+' | '?' | '}' => {
                    self.out.push(letter);
                    if let Some((_, '+')) = self.letters.peek() {
                        return Err(self.refuse("a possessive quantifier"));
                    }
                }
                '{' => {
                    let rest = &self.pattern[at + 1..];
                    let inner = rest.split('}').next().unwrap_or_default();
                    let is_count = !inner.is_empty()
                        && inner.starts_with(|c: char| c.is_ascii_digit())
                        && inner.chars().all(|c| c.is_ascii_digit() || c == ',');
                    if !is_count {
                        return Err(self.refuse("a brace that counts nothing"));
                    }
                    self.out.push('{');
                }
                ')' | '|' => self.out.push(letter),
                other => self.literal(other),
            }
        }
        Ok(())
    }

    fn literal(&mut self, letter: char) {
        if self.any_case && letter.is_ascii_alphabetic() {
            let lower = letter.to_ascii_lowercase();
            let upper = letter.to_ascii_uppercase();
            self.out.push_str(&format!("[{lower}{upper}]"));
            return;
        }
        self.out.push_str(&regex::escape(&letter.to_string()));
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match self.purpose {
            Purpose::Test => self
                .out
                .push_str(&format!("(?:(?:\\r\\n|[{LINE_ENDS}])?\\z)")),
            Purpose::Whole => self.out.push_str("\\z"),
        }
        Ok(())
    }

    /// What follows a backslash, inside of brackets or not.
    fn escape(&mut self, in_class: bool) -> Result<String, Refusal> {
        let Some((_, letter)) = self.letters.next() else {
            return Err(self.refuse("a backslash at its end"));
        };
        let set = |inner: &str| {
            if in_class {
                inner.to_owned()
            } else {
                format!("[{inner}]")
            }
        };
        Ok(match letter {
            'd' => set("0-9"),
            'w' => set("0-9A-Za-z_"),
            's' => set(" \\t\\n\\x0B\\f\\r"),
            'D' => "[^0-9]".into(),
            'W' => "[^0-9A-Za-z_]".into(),
            'S' => "[^ \\t\\n\\x0B\\f\\r]".into(),
            't' | 'n' | 'r' | 'f' => format!("\\{letter}"),
            letter if letter.is_ascii_alphanumeric() => {
                return Err(self.refuse(&format!("\\{letter}")));
            }
            letter => regex::escape(&letter.to_string()),
        })
    }

    /// A set of characters in brackets.
    fn class(&mut self) -> Result<(), Refusal> {
        self.out.push('[');
        if let Some((_, '^')) = self.letters.peek() {
            self.letters.next();
            self.out.push('^');
        }
        let mut before: Option<char> = None;
        let mut is_first = true;
        loop {
            let Some((_, letter)) = self.letters.next() else {
                return Err(self.refuse("a bracket without its end"));
            };
            match letter {
                ']' if !is_first => break,
                ']' | '[' => return Err(self.refuse("a bracket inside of brackets")),
                '&' if matches!(self.letters.peek(), Some((_, '&'))) => {
                    return Err(self.refuse("&& inside of brackets"));
                }
                '\\' => {
                    let escaped = self.escape(true)?;
                    self.out.push_str(&escaped);
                    before = None;
                }
                '-' => match (before, self.letters.peek().copied()) {
                    (Some(from), Some((_, to))) if to != ']' => {
                        self.letters.next();
                        let to = if to == '\\' {
                            return Err(self.refuse("a range that ends with a backslash"));
                        } else {
                            to
                        };
                        if to < from {
                            return Err(self.refuse("a range whose end is before its begin"));
                        }
                        self.out.push('-');
                        self.class_letter(to);
                        if self.any_case {
                            self.other_case_range(from, to)?;
                        }
                        before = None;
                    }
                    _ => {
                        self.out.push_str("\\-");
                        before = None;
                    }
                },
                other => {
                    self.class_letter(other);
                    if self.any_case && other.is_ascii_alphabetic() {
                        // A range may follow: its begin stays the last letter.
                        let is_range = matches!(self.letters.peek(), Some((_, '-')));
                        if !is_range {
                            self.class_letter(swapped(other));
                        }
                    }
                    before = Some(other);
                }
            }
            is_first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn class_letter(&mut self, letter: char) {
        if matches!(letter, '^' | '-' | '~' | '&' | '[' | ']' | '\\') {
            self.out.push('\\');
        }
        self.out.push(letter);
    }

    fn other_case_range(&mut self, from: char, to: char) -> Result<(), Refusal> {
        let same_case = from.is_ascii_lowercase() && to.is_ascii_lowercase()
            || from.is_ascii_uppercase() && to.is_ascii_uppercase();
        if same_case {
            self.out
                .push_str(&format!("{}-{}", swapped(from), swapped(to)));
            return Ok(());
        }
        if from.is_ascii_digit() && to.is_ascii_digit() {
            return Ok(());
        }
        Err(self.refuse("(?i) and such a range"))
    }
}

fn swapped(letter: char) -> char {
    if letter.is_ascii_lowercase() {
        letter.to_ascii_uppercase()
    } else {
        letter.to_ascii_lowercase()
    }
}

fn compiled(pattern: &str, purpose: Purpose) -> Result<Regex, Refusal> {
    let translated = translated(pattern, purpose)?;
    RegexBuilder::new(&translated)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|_| refused(pattern, "a form that cannot be compiled"))
}

/// A pattern that is used for the whole match may have `$` only where no text ends with the end of
/// a line; that is not known, so a text's last line end is looked at when it is used.
fn check(given: &Given<'_>, purpose: Purpose) -> Result<(), Refusal> {
    match given.constant_text(1)? {
        Some(pattern) => compiled(pattern, purpose).map(|_| ()),
        None => Ok(()),
    }
}

pub(super) fn tested(given: &Given<'_>) -> Result<(), Refusal> {
    check(given, Purpose::Test)
}

/// Java finds nothing right behind a match, where this program does not look.
fn refuse_empty(given: &Given<'_>) -> Result<(), Refusal> {
    let pattern = given.constant_text(1)?.unwrap_or_default();
    if !pattern.is_empty() && compiled(pattern, Purpose::Whole)?.is_match("") {
        return Err(given.refuse(
            format!("does not take '{pattern}', which matches an empty text,"),
            "write + in place of *, so that it matches something",
        ));
    }
    Ok(())
}

pub(super) fn counted(given: &Given<'_>) -> Result<(), Refusal> {
    refuse_end(given)?;
    check(given, Purpose::Whole)?;
    refuse_empty(given)
}

fn refuse_end(given: &Given<'_>) -> Result<(), Refusal> {
    let pattern = given.constant_text(1)?.unwrap_or_default();
    let has_end = pattern.replace("\\\\", "").replace("\\$", "").contains('$');
    // `[$]` is a plain sign; it is rare, and written `\$` as well.
    if has_end {
        return Err(Refusal::new(
            format!(
                "{}() with $ in its pattern is not supported in dialect \"spark\"",
                given.name
            ),
            "in Java $ also stands before the last end of a line; rtrim(x) takes blanks off, and RLIKE has $",
        ));
    }
    Ok(())
}

pub(super) fn replaced(given: &Given<'_>) -> Result<(), Refusal> {
    refuse_end(given)?;
    check(given, Purpose::Whole)?;
    if given.constant_text(1)? == Some("") {
        return Err(given.refuse("does not take an empty pattern", "write what is replaced"));
    }
    refuse_empty(given)?;
    let to = given.constant_text(2)?.unwrap_or_default();
    replacement(to).map(|_| ()).ok_or_else(|| {
        given.refuse(
            format!("does not take {to:?} as replacement"),
            "groups are $0 to $9; \\\\$ is the sign itself",
        )
    })
}

pub(super) fn split_checked(given: &Given<'_>) -> Result<DataType, Refusal> {
    refuse_end(given)?;
    check(given, Purpose::Whole)?;
    refuse_empty(given)?;
    Ok(list_of_texts())
}

pub(super) fn extracted(given: &Given<'_>) -> Result<(), Refusal> {
    let group = match given.constant_text(2)? {
        Some(group) => group.parse::<usize>().ok(),
        None => Some(1),
    };
    let Some(group) = group else {
        return Err(given.refuse("needs a group that is written in the query", "write 1"));
    };
    if group == 0 {
        refuse_end(given)?;
        check(given, Purpose::Whole)?;
    } else {
        check(given, Purpose::Test)?;
    }
    let pattern = given.constant_text(1)?.unwrap_or_default();
    let groups = compiled(pattern, Purpose::Whole)?.captures_len() - 1;
    if group > groups {
        return Err(given.refuse(
            format!("is called for group {group}, and '{pattern}' has {groups}"),
            "0 is the whole match, 1 the first part in brackets",
        ));
    }
    Ok(())
}

fn of_rows(rows: &Rows<'_>, purpose: Purpose) -> Result<Option<Regex>> {
    match rows.constant_text(1) {
        Some(pattern) => Ok(Some(compiled(&pattern, purpose)?)),
        None => Ok(None),
    }
}

pub(super) fn rlike(rows: &Rows<'_>) -> Result<ArrayRef> {
    let regex = of_rows(rows, Purpose::Test)?;
    rows.bools(|row| Some(regex.as_ref()?.is_match(&row.text(0)?)))
}

/// A part of a replacement.
enum Piece {
    Text(String),
    Group(usize),
}

fn replacement(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = vec![];
    let mut literal = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => literal.push(letters.next()?),
            '$' => {
                let group = letters.next()?.to_digit(10)? as usize;
                // Java takes more digits if there are as many groups.
                if letters.peek().is_some_and(char::is_ascii_digit) {
                    return None;
                }
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
                pieces.push(Piece::Group(group));
            }
            other => literal.push(other),
        }
    }
    pieces.push(Piece::Text(literal));
    Some(pieces)
}

pub(super) fn regexp_replace(rows: &Rows<'_>) -> Result<ArrayRef> {
    let regex = of_rows(rows, Purpose::Whole)?;
    let pieces = rows
        .constant_text(2)
        .and_then(|text| replacement(&text))
        .unwrap_or_default();
    let groups = regex.as_ref().map_or(0, Regex::captures_len);
    if pieces
        .iter()
        .any(|piece| matches!(piece, Piece::Group(group) if *group >= groups))
    {
        return exec_err!("the replacement of regexp_replace() names a group that is not there");
    }
    rows.texts(|row| {
        let text = row.text(0)?;
        let regex = regex.as_ref()?;
        row.text(2)?;
        let mut all = String::with_capacity(text.len());
        let mut from = 0;
        for found in regex.captures_iter(&text) {
            let whole = found.get(0)?;
            all.push_str(&text[from..whole.start()]);
            for piece in &pieces {
                match piece {
                    Piece::Text(text) => all.push_str(text),
                    Piece::Group(group) => {
                        all.push_str(found.get(*group).map_or("", |group| group.as_str()))
                    }
                }
            }
            from = whole.end();
        }
        all.push_str(&text[from..]);
        Some(all)
    })
}

pub(super) fn regexp_extract(rows: &Rows<'_>) -> Result<ArrayRef> {
    let group = match rows.constant_text(2) {
        Some(text) => text.parse().unwrap_or(1),
        None => 1,
    };
    let purpose = if group == 0 {
        Purpose::Whole
    } else {
        Purpose::Test
    };
    let regex = of_rows(rows, purpose)?;
    rows.texts(|row| {
        let text = row.text(0)?;
        let found = regex.as_ref()?.captures(&text);
        let part = found.and_then(|found| found.get(group).map(|part| part.as_str().to_owned()));
        Some(part.unwrap_or_default())
    })
}

pub(super) fn regexp_count(rows: &Rows<'_>) -> Result<ArrayRef> {
    let regex = of_rows(rows, Purpose::Whole)?;
    rows.ints(|row| Some(regex.as_ref()?.find_iter(&row.text(0)?).count() as i32))
}

/// `regexp_substr(x, pattern)` takes a pattern whose whole match is known.
pub(super) fn found_whole(given: &Given<'_>) -> Result<(), Refusal> {
    refuse_end(given)?;
    check(given, Purpose::Whole)
}

/// The first match, or NULL.
pub(super) fn regexp_substr(rows: &Rows<'_>) -> Result<ArrayRef> {
    let regex = of_rows(rows, Purpose::Whole)?;
    rows.texts(|row| {
        let text = row.text(0)?;
        let found = regex.as_ref()?.find(&text)?;
        Some(found.as_str().to_owned())
    })
}

/// The place of the first match, from 1; 0 without one.
pub(super) fn regexp_instr(rows: &Rows<'_>) -> Result<ArrayRef> {
    let regex = of_rows(rows, Purpose::Whole)?;
    rows.ints(|row| {
        let text = row.text(0)?;
        Some(match regex.as_ref()?.find(&text) {
            Some(found) => text[..found.start()].encode_utf16().count() as i32 + 1,
            None => 0,
        })
    })
}

pub(super) fn all_extracted(given: &Given<'_>) -> Result<DataType, Refusal> {
    counted(given)?;
    extracted(given)?;
    Ok(list_of_texts())
}

/// A group of each match.
pub(super) fn regexp_extract_all(rows: &Rows<'_>) -> Result<ArrayRef> {
    let group = match rows.constant_text(2) {
        Some(text) => text.parse().unwrap_or(1),
        None => 1,
    };
    let regex = of_rows(rows, Purpose::Whole)?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in (0..rows.count).map(|row| rows.row(row)) {
        let (Some(text), Some(regex)) = (row.text(0), &regex) else {
            lists.append_null();
            continue;
        };
        for found in regex.captures_iter(&text) {
            let part = found.get(group).map_or("", |part| part.as_str());
            lists.values().append_value(part);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

pub(super) fn list_of_texts() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

/// As `String.split` of Java, with the limit -1 or the given one.
pub(super) fn split(rows: &Rows<'_>) -> Result<ArrayRef> {
    let regex = of_rows(rows, Purpose::Whole)?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in (0..rows.count).map(|row| rows.row(row)) {
        let limit = if row.has(2) { row.int(2) } else { Some(-1) };
        let (Some(text), Some(regex), Some(limit)) = (row.text(0), &regex, limit) else {
            lists.append_null();
            continue;
        };
        let most = usize::try_from(limit).ok().filter(|most| *most > 0);
        let mut parts = 1;
        let mut from = 0;
        for found in regex.find_iter(&text) {
            if most.is_some_and(|most| parts >= most) {
                break;
            }
            // A match of nothing splits between characters, not before the first or after the last.
            if found.is_empty() && (found.start() == 0 || found.start() == text.len()) {
                continue;
            }
            if found.end() == 0 {
                continue;
            }
            lists.values().append_value(&text[from..found.start()]);
            from = found.end();
            parts += 1;
        }
        lists.values().append_value(&text[from..]);
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
