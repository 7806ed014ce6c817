//! A script as tokens, line by line.
//!
//! Owns: texts of all kinds, numbers, operators, logical lines. Does not own: what they mean
//! together (`reader`).
//! Rule: brackets join lines; text that is not a script is refused with its line.

use super::{Expr, expression};

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Name(String),
    Text(String),
    Parts(Vec<Expr>),
    Number(String),
    Op(String),
    End,
}

pub struct Line {
    pub line: usize,
    pub end: usize,
    pub indent: usize,
    pub tokens: Vec<(Token, usize)>,
}

const OPERATORS: [&str; 22] = [
    "**=", "//=", "...", "->", ":=", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "|=", "&=",
    "^=", "%=", "**", "//", "<<", ">>", "@=",
];

/// The lines of a script.
///
/// # Errors
/// The text is malformed.
pub fn tokens(script: &str) -> Result<Vec<Line>, String> {
    let mut cursor = Cursor {
        chars: script.chars().collect(),
        at: 0,
        line: 1,
    };
    let mut lines = Vec::new();
    let mut current: Option<Line> = None;
    let mut open = 0_usize;
    let mut indent = 0;
    let mut fresh = true;
    while let Some(c) = cursor.peek(0) {
        match c {
            '\n' => {
                cursor.next();
                if open == 0 {
                    lines.extend(current.take());
                    (fresh, indent) = (true, 0);
                }
            }
            ' ' | '\t' | '\r' | '\u{c}' => {
                cursor.next();
                indent += usize::from(fresh) * if c == '\t' { 8 } else { 1 };
            }
            '#' => {
                while cursor.peek(0).is_some_and(|c| c != '\n') {
                    cursor.next();
                }
            }
            '\\' if matches!(cursor.peek(1), Some('\n' | '\r')) => {
                while cursor.next() != Some('\n') {}
            }
            ';' if open == 0 => {
                cursor.next();
                lines.extend(current.take());
            }
            _ => {
                fresh = false;
                let line = cursor.line;
                let token = cursor.token()?;
                match &token {
                    Token::Op(op) if matches!(op.as_str(), "(" | "[" | "{") => open += 1,
                    Token::Op(op) if matches!(op.as_str(), ")" | "]" | "}") => {
                        open = open
                            .checked_sub(1)
                            .ok_or_else(|| format!("line {line}: a bracket closes nothing"))?;
                    }
                    _ => {}
                }
                let entry = current.get_or_insert_with(|| Line {
                    line,
                    end: line,
                    indent,
                    tokens: Vec::new(),
                });
                entry.tokens.push((token, line));
                entry.end = cursor.line;
            }
        }
    }
    if open > 0 {
        return Err(format!(
            "a bracket is never closed in the statement that begins in line {}",
            current.map_or(0, |l| l.line)
        ));
    }
    lines.extend(current);
    Ok(lines)
}

struct Cursor {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Cursor {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn while_in(&mut self, fits: impl Fn(char) -> bool) -> String {
        let begin = self.at;
        while self.peek(0).is_some_and(&fits) {
            self.at += 1;
        }
        self.chars[begin..self.at].iter().collect()
    }

    fn token(&mut self) -> Result<Token, String> {
        let Some(c) = self.peek(0) else {
            return Ok(Token::End);
        };
        if matches!(c, '"' | '\'') {
            return self.text("");
        }
        if c.is_alphabetic() || c == '_' {
            let word = self.while_in(|c| c.is_alphanumeric() || c == '_');
            let prefix = word.to_lowercase();
            let quoted = matches!(self.peek(0), Some('"' | '\''));
            if quoted
                && matches!(
                    prefix.as_str(),
                    "r" | "b" | "u" | "f" | "rb" | "br" | "fr" | "rf"
                )
            {
                return self.text(&prefix);
            }
            return Ok(Token::Name(word));
        }
        if c.is_ascii_digit() {
            return Ok(Token::Number(self.while_in(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '.' | '_')
            })));
        }
        for op in OPERATORS {
            if op
                .chars()
                .enumerate()
                .all(|(ahead, c)| self.peek(ahead) == Some(c))
            {
                self.at += op.len();
                return Ok(Token::Op(op.to_owned()));
            }
        }
        self.next();
        Ok(Token::Op(c.to_string()))
    }

    fn text(&mut self, prefix: &str) -> Result<Token, String> {
        let begin = self.line;
        let quote = self.next().unwrap_or('"');
        let triple = self.peek(0) == Some(quote) && self.peek(1) == Some(quote);
        if triple {
            self.at += 2;
        }
        let raw = prefix.contains('r');
        let mut text = String::new();
        loop {
            let unended = || format!("line {begin}: a text is never ended");
            let c = self.next().ok_or_else(unended)?;
            let ends = c == quote
                && (!triple || self.peek(0) == Some(quote) && self.peek(1) == Some(quote));
            match c {
                _ if ends => break,
                '\n' if !triple => return Err(unended()),
                '\\' => {
                    let escaped = self.next().ok_or_else(unended)?;
                    push_escaped(&mut text, escaped, raw);
                }
                _ => text.push(c),
            }
        }
        if triple {
            self.at += 2;
        }
        Ok(if prefix.contains('f') {
            Token::Parts(parts(&text))
        } else {
            Token::Text(text)
        })
    }
}

fn push_escaped(text: &mut String, escaped: char, raw: bool) {
    match escaped {
        _ if raw => text.extend(['\\', escaped]),
        '\n' => {}
        'n' => text.push('\n'),
        't' => text.push('\t'),
        'r' => text.push('\r'),
        '\\' | '\'' | '"' => text.push(escaped),
        other => text.extend(['\\', other]),
    }
}

/// The texts and the values in braces of an f-string.
fn parts(text: &str) -> Vec<Expr> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let brace = &rest[at..=at];
        if after.starts_with(brace) || brace == "}" {
            plain.push_str(brace);
            rest = after.strip_prefix(brace).unwrap_or(after);
            continue;
        }
        let (inner, after) = after.split_once('}').unwrap_or((after, ""));
        if !plain.is_empty() {
            parts.push(Expr::Text(std::mem::take(&mut plain)));
        }
        let inner = inner.rsplit_once(':').map_or(inner, |(value, _)| value);
        // Nested f-strings are read to one level.
        let value = if inner.contains("f\"") || inner.contains("f'") {
            None
        } else {
            expression(inner)
        };
        parts.push(value.unwrap_or(Expr::Other));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Expr::Text(plain));
    }
    parts
}
