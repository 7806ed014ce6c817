//! JSON read token by token, as the parser of Spark (Jackson) does.
//!
//! Owns: tokens, their order, and where reading continues after a fault. Does not own: what a token
//! means for a column (`from_json`), records of a source (`format`).
//! Rule: after a fault the state is Jackson's: Spark reads on from there, and the values of other
//! fields depend on it. Texts in single quotes are read, comments are not.

use std::fmt::Write as _;

/// Most levels, and most signs of a number, of Jackson 2.15.
const LEVELS_MAX: usize = 1_000;
const NUMBER_BYTES_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    StartObject,
    EndObject,
    StartArray,
    EndArray,
    FieldName,
    Text,
    Int,
    Float,
    True,
    False,
    Null,
}

/// The text is no JSON at this place, or a value is of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault;

type Read<T> = Result<T, Fault>;

/// What is read beyond the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// `NaN` and `Infinity`: `from_json`.
    Infinity,
    /// Control characters in texts: `get_json_object`.
    Controls,
}

struct Scope {
    is_object: bool,
    /// Whether a value was read in it: a comma is expected before the next one.
    has_values: bool,
    name: Option<String>,
}

pub(super) struct Tokens<'j> {
    text: &'j str,
    beyond: Beyond,
    at: usize,
    pub current: Option<Token>,
    /// The value behind a name, which is read together with it.
    ahead: Option<Token>,
    /// The text behind `at` is not read yet.
    is_pending: bool,
    scopes: Vec<Scope>,
    number: String,
    content: Vec<u16>,
}

impl<'j> Tokens<'j> {
    pub(super) fn new(text: &'j str, beyond: Beyond) -> Self {
        Self {
            text,
            beyond,
            at: 0,
            current: None,
            ahead: None,
            is_pending: false,
            scopes: vec![],
            number: String::new(),
            content: vec![],
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    /// The next sign that is no white space; `None` at the end of the text.
    fn visible(&mut self) -> Read<Option<char>> {
        while let Some(letter) = self.take() {
            match letter {
                ' ' | '\t' | '\n' | '\r' => {}
                '/' => return Err(Fault),
                control if control < ' ' => return Err(Fault),
                other => return Ok(Some(other)),
            }
        }
        Ok(None)
    }

    /// The name of the current field, that of the object around an array or object that begins.
    pub(super) fn name(&self) -> Option<&str> {
        let begins = matches!(self.current, Some(Token::StartObject | Token::StartArray));
        let depth = self.scopes.len().checked_sub(1 + usize::from(begins))?;
        self.scopes[depth].name.as_deref()
    }

    fn open(&mut self, is_object: bool) -> Read<()> {
        if self.scopes.len() >= LEVELS_MAX {
            return Err(Fault);
        }
        self.scopes.push(Scope {
            is_object,
            has_values: false,
            name: None,
        });
        Ok(())
    }

    /// The next token; `None` at the end.
    ///
    /// # Errors
    /// Where Jackson throws. Reading may go on.
    pub(super) fn next(&mut self) -> Read<Option<Token>> {
        if self.current == Some(Token::FieldName) {
            let token = self.ahead.take();
            match token {
                Some(Token::StartArray) => self.open(false)?,
                Some(Token::StartObject) => self.open(true)?,
                _ => {}
            }
            self.current = token;
            return Ok(token);
        }
        if std::mem::take(&mut self.is_pending) {
            self.finish('"')?;
        }
        let Some(mut letter) = self.visible()? else {
            if !self.scopes.is_empty() {
                return Err(Fault);
            }
            self.current = None;
            return Ok(None);
        };
        if matches!(letter, ']' | '}') {
            return self.close(letter == '}').map(Some);
        }
        let expects_comma = match self.scopes.last_mut() {
            Some(scope) => std::mem::replace(&mut scope.has_values, true),
            None => false,
        };
        if expects_comma {
            if letter != ',' {
                return Err(Fault);
            }
            letter = self.visible()?.ok_or(Fault)?;
        }
        let in_object = self.scopes.last().is_some_and(|scope| scope.is_object);
        if in_object {
            letter = self.field(letter)?;
        }
        let token = self.value(letter)?;
        if in_object {
            self.ahead = Some(token);
            return Ok(Some(Token::FieldName));
        }
        match token {
            Token::StartArray => self.open(false)?,
            Token::StartObject => self.open(true)?,
            _ => {}
        }
        self.current = Some(token);
        Ok(Some(token))
    }

    fn close(&mut self, is_object: bool) -> Read<Token> {
        if self.scopes.last().map(|scope| scope.is_object) != Some(is_object) {
            return Err(Fault);
        }
        self.scopes.pop();
        let token = if is_object {
            Token::EndObject
        } else {
            Token::EndArray
        };
        self.current = Some(token);
        Ok(token)
    }

    /// A name and its colon. Returns the first sign of the value.
    fn field(&mut self, quote: char) -> Read<char> {
        if !matches!(quote, '"' | '\'') {
            return Err(Fault);
        }
        self.finish(quote)?;
        let name = self.content();
        if let Some(scope) = self.scopes.last_mut() {
            scope.name = Some(name);
        }
        self.current = Some(Token::FieldName);
        if self.visible()? != Some(':') {
            return Err(Fault);
        }
        self.visible()?.ok_or(Fault)
    }

    fn value(&mut self, first: char) -> Read<Token> {
        match first {
            '"' => {
                self.is_pending = true;
                Ok(Token::Text)
            }
            '\'' => self.finish('\'').map(|()| Token::Text),
            '[' => Ok(Token::StartArray),
            '{' => Ok(Token::StartObject),
            't' => self.word("true", 1).map(|()| Token::True),
            'f' => self.word("false", 1).map(|()| Token::False),
            'n' => self.word("null", 1).map(|()| Token::Null),
            'N' => self.no_number("NaN", 1),
            'I' => self.no_number("Infinity", 1),
            '-' => match self.take() {
                Some(digit) if digit.is_ascii_digit() => self.digits("-", digit),
                Some('I') => match self.take() {
                    Some('N') => self.no_number("-INF", 3),
                    Some('n') => self.no_number("-Infinity", 3),
                    _ => Err(Fault),
                },
                _ => Err(Fault),
            },
            '+' => match (self.take(), self.peek()) {
                (Some('I'), Some('N')) => {
                    self.take();
                    self.no_number("+INF", 3)
                }
                (Some('I'), Some('n')) => {
                    self.take();
                    self.no_number("+Infinity", 3)
                }
                _ => Err(Fault),
            },
            digit if digit.is_ascii_digit() => self.digits("", digit),
            other => {
                if other.is_alphabetic() || matches!(other, '_' | '$') {
                    self.skip_word();
                }
                Err(Fault)
            }
        }
    }

    fn skip_word(&mut self) {
        while self.peek().is_some_and(in_word) {
            self.take();
        }
    }

    /// The rest of a word.
    fn word(&mut self, word: &str, from: usize) -> Read<()> {
        for letter in word[from..].chars() {
            if self.peek() != Some(letter) {
                self.skip_word();
                return Err(Fault);
            }
            self.take();
        }
        if self.peek().is_some_and(in_word) {
            self.skip_word();
            return Err(Fault);
        }
        Ok(())
    }

    fn no_number(&mut self, word: &str, from: usize) -> Read<Token> {
        self.word(word, from)?;
        if self.beyond != Beyond::Infinity {
            return Err(Fault);
        }
        self.number.clear();
        self.number.push_str(word);
        Ok(Token::Float)
    }

    fn digits(&mut self, sign: &str, first: char) -> Read<Token> {
        self.number.clear();
        self.number.push_str(sign);
        self.number.push(first);
        let next_is_digit = |tokens: &Self| tokens.peek().is_some_and(|c| c.is_ascii_digit());
        if first == '0' && next_is_digit(self) {
            return Err(Fault);
        }
        self.more_digits();
        let mut token = Token::Int;
        if self.peek() == Some('.') {
            token = Token::Float;
            self.keep();
            if !next_is_digit(self) {
                self.take();
                return Err(Fault);
            }
            self.more_digits();
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            token = Token::Float;
            self.keep();
            if matches!(self.peek(), Some('+' | '-')) {
                self.keep();
            }
            if !next_is_digit(self) {
                self.take();
                return Err(Fault);
            }
            self.more_digits();
        }
        let is_apart = |next: char| matches!(next, ' ' | '\t' | '\n' | '\r');
        if self.scopes.is_empty() && self.peek().is_some_and(|next| !is_apart(next)) {
            return Err(Fault);
        }
        if self.number.len() > NUMBER_BYTES_MAX {
            return Err(Fault);
        }
        Ok(token)
    }

    /// The next sign is a part of the number.
    fn keep(&mut self) {
        let next = self.take();
        self.number.extend(next);
    }

    fn more_digits(&mut self) {
        while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
            self.number.push(digit);
            self.take();
        }
    }

    /// Reads a text up to its end.
    fn finish(&mut self, quote: char) -> Read<()> {
        self.content.clear();
        loop {
            let letter = self.take().ok_or(Fault)?;
            match letter {
                letter if letter == quote => return Ok(()),
                '\\' => {
                    let unit = self.escaped()?;
                    self.content.push(unit);
                }
                control if control < ' ' && self.beyond != Beyond::Controls => return Err(Fault),
                other => {
                    let mut units = [0; 2];
                    self.content
                        .extend_from_slice(other.encode_utf16(&mut units));
                }
            }
        }
    }

    fn escaped(&mut self) -> Read<u16> {
        let letter = self.take().ok_or(Fault)?;
        Ok(match letter {
            'b' => 8,
            't' => 9,
            'n' => 10,
            'f' => 12,
            'r' => 13,
            '"' => u16::from(b'"'),
            '/' => u16::from(b'/'),
            '\\' => u16::from(b'\\'),
            '\'' => u16::from(b'\''),
            'u' => {
                let mut unit = 0;
                for _ in 0..4 {
                    let digit = self.take().and_then(|digit| digit.to_digit(16));
                    unit = unit * 16 + digit.ok_or(Fault)? as u16;
                }
                unit
            }
            _ => return Err(Fault),
        })
    }

    /// Java writes half of a pair as a question mark.
    fn content(&self) -> String {
        let letters = char::decode_utf16(self.content.iter().copied());
        letters.map(|letter| letter.unwrap_or('?')).collect()
    }

    /// The content of a text, the digits of a number.
    pub(super) fn text(&mut self) -> Read<String> {
        if self.current != Some(Token::Text) {
            return Ok(self.number.clone());
        }
        if std::mem::take(&mut self.is_pending) {
            self.finish('"')?;
        }
        Ok(self.content())
    }

    /// The content of a text, without halves of pairs: Jackson does not write them.
    pub(super) fn whole_text(&mut self) -> Read<String> {
        let text = self.text()?;
        let is_whole = char::decode_utf16(self.content.iter().copied()).all(|one| one.is_ok());
        if is_whole { Ok(text) } else { Err(Fault) }
    }

    pub(super) fn digits_of_number(&self) -> &str {
        &self.number
    }

    /// Passes over an object or array that begins here.
    pub(super) fn skip_children(&mut self) -> Read<()> {
        if !matches!(self.current, Some(Token::StartObject | Token::StartArray)) {
            return Ok(());
        }
        let mut open = 1_usize;
        while open > 0 {
            match self.next()? {
                Some(Token::StartObject | Token::StartArray) => open += 1,
                Some(Token::EndObject | Token::EndArray) => open -= 1,
                Some(_) => {}
                None if self.scopes.is_empty() => return Ok(()),
                None => return Err(Fault),
            }
        }
        Ok(())
    }

    /// Writes the value that begins here, without white space.
    pub(super) fn copy(&mut self, out: &mut String) -> Read<()> {
        let mut open = 0_usize;
        let mut needs_comma = false;
        loop {
            let token = self.current.ok_or(Fault)?;
            let is_end = matches!(token, Token::EndObject | Token::EndArray);
            if is_end && open == 0 {
                return Err(Fault);
            }
            if needs_comma && !is_end {
                out.push(',');
            }
            needs_comma = true;
            match token {
                Token::StartObject => out.push('{'),
                Token::StartArray => out.push('['),
                Token::EndObject => out.push('}'),
                Token::EndArray => out.push(']'),
                Token::FieldName => {
                    let name = self.name().unwrap_or_default();
                    write_units(out, &name.encode_utf16().collect::<Vec<_>>());
                    out.push(':');
                }
                Token::Text => {
                    self.text()?;
                    write_units(out, &self.content);
                }
                Token::Int => match self.number.as_str() {
                    "-0" => out.push('0'),
                    digits => out.push_str(digits),
                },
                Token::Float => write_float(out, &self.number),
                Token::True => out.push_str("true"),
                Token::False => out.push_str("false"),
                Token::Null => out.push_str("null"),
            }
            match token {
                Token::StartObject | Token::StartArray => {
                    open += 1;
                    needs_comma = false;
                }
                Token::EndObject | Token::EndArray => open -= 1,
                Token::FieldName => needs_comma = false,
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
            self.next()?;
        }
    }
}

fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$')
}

fn write_float(out: &mut String, digits: &str) {
    let value = match digits {
        "NaN" => f64::NAN,
        "Infinity" | "+Infinity" | "+INF" => f64::INFINITY,
        "-Infinity" | "-INF" => f64::NEG_INFINITY,
        digits => digits.parse().unwrap_or(f64::NAN),
    };
    let text = super::number::double_text(value);
    if value.is_finite() {
        out.push_str(&text);
    } else {
        _ = write!(out, "\"{text}\"");
    }
}

/// A text as Jackson writes it into bytes: letters of two units as two escapes.
pub(super) fn write_units(out: &mut String, units: &[u16]) {
    out.push('"');
    for letter in char::decode_utf16(units.iter().copied()) {
        match letter {
            Ok('"') => out.push_str("\\\""),
            Ok('\\') => out.push_str("\\\\"),
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok('\n') => out.push_str("\\n"),
            Ok('\r') => out.push_str("\\r"),
            Ok('\t') => out.push_str("\\t"),
            Ok(letter) if letter >= ' ' && letter.len_utf16() == 1 => out.push(letter),
            Ok(letter) => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    _ = write!(out, "\\u{unit:04X}");
                }
            }
            Err(half) => _ = write!(out, "\\u{:04X}", half.unpaired_surrogate()),
        }
    }
    out.push('"');
}
