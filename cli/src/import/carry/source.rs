//! The text of a script, and its code without texts and comments.
//!
//! Owns: where words, calls and their arguments stand in a text. Does not own: what they mean
//! (`carry`), statements (`python`).
//! Rule: code has the same length as its text, so that a place in one is the place in the other.

use std::ops::Range;

/// The code of a text: texts and comments are blanks, the values in an f-string stay.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => {
                let end = line_end(bytes, at);
                blank(&mut code, at..end);
                at = end;
            }
            b'"' | b'\'' => at = blank_text(bytes, &mut code, at),
            _ => at += 1,
        }
    }
    // What is no ASCII is blank too: a blank is one byte.
    code.iter_mut()
        .filter(|byte| !byte.is_ascii())
        .for_each(|byte| *byte = b'_');
    String::from_utf8_lossy(&code).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter().position(|byte| *byte == b'\n');
    rest.map_or(bytes.len(), |length| at + length)
}

fn blank(code: &mut [u8], range: Range<usize>) {
    code[range]
        .iter_mut()
        .filter(|byte| **byte != b'\n')
        .for_each(|byte| *byte = b' ');
}

/// Blanks the text that begins at a quote; returns where it ends.
fn blank_text(bytes: &[u8], code: &mut [u8], begin: usize) -> usize {
    let quote = bytes[begin];
    let word = bytes[..begin]
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
    let prefix: Vec<u8> = word.take(3).map(u8::to_ascii_lowercase).collect();
    let is_prefix = prefix.len() < 3 && prefix.iter().all(|byte| b"rbuf".contains(byte));
    let has_values = is_prefix && prefix.contains(&b'f');
    if is_prefix {
        blank(code, begin - prefix.len()..begin);
    }
    let is_long = bytes[begin..].starts_with(&[quote; 3]);
    let ends = if is_long { 3 } else { 1 };
    let quotes = [quote; 3];
    let mut at = begin + ends;
    let mut open = 0_usize;
    while at < bytes.len() && !bytes[at..].starts_with(&quotes[..ends]) {
        let is_brace = has_values && bytes[at] == b'{';
        let width = match bytes[at] {
            b'\\' => 2,
            b'{' if is_brace && open == 0 && bytes.get(at + 1) == Some(&b'{') => 2,
            _ => 1,
        };
        if is_brace && width == 1 {
            open += 1;
        }
        if bytes[at] == b'}' {
            open = open.saturating_sub(1);
        }
        let done = (at + width).min(bytes.len());
        if open == 0 || is_brace {
            blank(code, at..done);
        }
        at = done;
    }
    let end = (at + ends).min(bytes.len());
    blank(code, begin..(begin + ends).min(end));
    blank(code, at.min(end)..end);
    end
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The names that a code reads: neither attributes nor names of arguments.
pub fn names(code: &str) -> Vec<&str> {
    let bytes = code.as_bytes();
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_part(bytes[at]) {
            at += 1;
            continue;
        }
        let length = bytes[at..]
            .iter()
            .take_while(|byte| is_part(**byte))
            .count();
        let before = code[..at].trim_end();
        let after = code[at + length..].trim_start();
        let is_set = after.starts_with('=') && !after.starts_with("==");
        if !before.ends_with('.') && !bytes[at].is_ascii_digit() && !is_set {
            names.push(&code[at..at + length]);
        }
        at += length;
    }
    names
}

/// Where a word stands, as a whole word; `word` may have dots and a bracket in it.
pub fn find(code: &str, word: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    let stands_alone = |at: usize| {
        let last = at + word.len();
        let begins = !word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            || at == 0
            || !is_part(bytes[at - 1]);
        let ends = !word.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            || bytes.get(last).is_none_or(|byte| !is_part(*byte));
        begins && ends
    };
    code.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| stands_alone(*at))
}

/// A call in a text.
pub struct CallText {
    /// From the first letter of its name to behind its bracket.
    pub range: Range<usize>,
    /// Arguments with their names, as they are written.
    pub args: Vec<(Option<String>, String)>,
}

impl CallText {
    /// The first call whose name ends so: `DynamicFrame.fromDF`, `.toPandas`.
    pub fn find(text: &str, name: &str) -> Option<Self> {
        let code = code(text);
        let at = find(&code, name)?;
        let open = at + name.len() + code[at + name.len()..].find('(')?;
        if !code[at + name.len()..open].trim().is_empty() {
            return None;
        }
        let close = closing(&code, open)?;
        let mut args = Vec::new();
        let mut begin = open + 1;
        for end in commas(&code, open + 1..close).into_iter().chain([close]) {
            let arg = begin..end;
            begin = end + 1;
            if text[arg.clone()].trim().is_empty() {
                continue;
            }
            args.push(argument(text, &code, arg));
        }
        Some(Self {
            range: at..close + 1,
            args,
        })
    }

    /// The argument of this name, or at this position.
    pub fn arg(&self, name: &str, place: usize) -> Option<&str> {
        let named = self
            .args
            .iter()
            .find(|(key, _)| key.as_deref() == Some(name));
        let placed = self.args.get(place).filter(|(key, _)| key.is_none());
        named.or(placed).map(|(_, value)| value.as_str())
    }
}

fn argument(text: &str, code: &str, range: Range<usize>) -> (Option<String>, String) {
    let plain = &code[range.clone()];
    if let Some(at) = plain.find('=')
        && !plain[at + 1..].starts_with('=')
        && plain[..at].trim().bytes().all(is_part)
        && !plain[..at].trim().is_empty()
    {
        let name = plain[..at].trim().to_owned();
        return (
            Some(name),
            text[range.start + at + 1..range.end].trim().to_owned(),
        );
    }
    (None, text[range].trim().to_owned())
}

/// Where the bracket that opens here is closed.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn commas(code: &str, range: Range<usize>) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut commas = Vec::new();
    for (at, byte) in code.bytes().enumerate().take(range.end).skip(range.start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => commas.push(at),
            _ => {}
        }
    }
    commas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_are_no_code_and_values_in_them_are() {
        for (text, expected) in [
            ("a = 'b' # c", vec!["a"]),
            ("x(f\"{b}/{{c}}/d\", r'\\d' + e)", vec!["x", "b", "e"]),
            ("y(\"\"\"a\n'b' \"\"\", k=v) == z.w", vec!["y", "v", "z"]),
            ("p('it\\'s a', q)", vec!["p", "q"]),
        ] {
            let code = code(text);
            assert_eq!(code.len(), text.len(), "{text}");
            let without_set = code.replace("a =", "a ");
            let found = names(&without_set);
            assert_eq!(found, expected, "{text}: {code}");
        }
        for odd in ["'", "f'{", "\"\"\"", "'\\", "é'é", "f'{é", "#"] {
            assert_eq!(code(odd).len(), odd.len(), "{odd}");
        }
    }

    #[test]
    fn a_call_has_its_arguments_by_name_and_by_place() {
        let call = CallText::find("f = g(D.of(a.b(1, 2), \"x,)\", k = [1, 2]))", "D.of").unwrap();
        assert_eq!(call.arg("frame", 0), Some("a.b(1, 2)"));
        assert_eq!(call.arg("k", 9), Some("[1, 2]"));
        assert_eq!(call.range, 6..40);
        assert!(CallText::find("xD.of(1)", "D.of").is_none());
        assert!(CallText::find("D.of(1", "D.of").is_none());
    }
}
