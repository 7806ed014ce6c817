//! Schemas as Spark writes them in a text: `a INT, b ARRAY<STRUCT<c: STRING>>`.
//!
//! Owns: their syntax. Does not own: names of single types (`types`), types of the catalog.
//! Rule: a text is one type or a list of columns, as Spark's `DataType.fromDDL` has it. Types that
//! the dialect does not have are refused by name.

use super::types;
use arrow::datatypes::{DataType, Field, Fields};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most levels of a type.
const LEVELS_MAX: usize = 64;

/// The type that a text stands for.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parsed(text: &str) -> Result<DataType, String> {
    let words = words(text)?;
    let mut whole = Parser {
        words: &words,
        at: 0,
    };
    // `a int` begins with a word that may be a type, too.
    if let Ok(data_type) = whole.data_type(0)
        && whole.at == words.len()
    {
        return Ok(data_type);
    }
    let mut columns = Parser {
        words: &words,
        at: 0,
    };
    let fields = columns.fields(0, None)?;
    Ok(DataType::Struct(fields))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Name(String),
    Quoted(String),
    Text,
    Sign(char),
}

impl Word {
    fn shown(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Quoted(name) => format!("`{name}`"),
            Self::Text => "a text".into(),
            Self::Sign(sign) => sign.to_string(),
        }
    }
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = vec![];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' | '\r' => {}
            '<' | '>' | '(' | ')' | ',' | ':' => words.push(Word::Sign(letter)),
            '`' => {
                let mut name = String::new();
                loop {
                    match letters.next() {
                        Some('`') if letters.peek() == Some(&'`') => {
                            letters.next();
                            name.push('`');
                        }
                        Some('`') => break,
                        Some(letter) => name.push(letter),
                        None => return Err("a name in backticks has no end".into()),
                    }
                }
                words.push(Word::Quoted(name));
            }
            '\'' | '"' => {
                let mut before = ' ';
                loop {
                    match letters.next() {
                        Some(end) if end == letter && before != '\\' => break,
                        Some(inner) => before = inner,
                        None => return Err("a text has no end".into()),
                    }
                }
                words.push(Word::Text);
            }
            letter if letter.is_ascii_alphanumeric() || letter == '_' => {
                let mut name = String::from(letter);
                while let Some(next) =
                    letters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_')
                {
                    name.push(next);
                }
                words.push(Word::Name(name));
            }
            other => return Err(format!("the sign {other} is not expected in it")),
        }
    }
    Ok(words)
}

struct Parser<'w> {
    words: &'w [Word],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    fn takes(&mut self, sign: char) -> bool {
        let is_there = self.peek() == Some(&Word::Sign(sign));
        self.at += usize::from(is_there);
        is_there
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_there =
            matches!(self.peek(), Some(Word::Name(name)) if name.eq_ignore_ascii_case(word));
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(format!("{sign} is expected {}", self.place()))
    }

    fn place(&self) -> String {
        match self.peek() {
            Some(word) => format!("before {}", word.shown()),
            None => "at its end".into(),
        }
    }

    fn data_type(&mut self, level: usize) -> Result<DataType, String> {
        if level > LEVELS_MAX {
            return Err(format!("it has more than {LEVELS_MAX} levels"));
        }
        let Some(Word::Name(name)) = self.peek() else {
            return Err(format!("a type is expected {}", self.place()));
        };
        let name = name.to_lowercase();
        self.at += 1;
        match name.as_str() {
            "array" => {
                self.expect('<')?;
                let element = self.data_type(level + 1)?;
                self.expect('>')?;
                Ok(list(element))
            }
            "map" => {
                self.expect('<')?;
                let key = self.data_type(level + 1)?;
                self.expect(',')?;
                let value = self.data_type(level + 1)?;
                self.expect('>')?;
                Ok(map(key, value))
            }
            "struct" => {
                self.expect('<')?;
                let fields = self.fields(level + 1, Some('>'))?;
                Ok(DataType::Struct(fields))
            }
            _ => self.single(name),
        }
    }

    fn single(&mut self, mut name: String) -> Result<DataType, String> {
        if self.takes('(') {
            name.push('(');
            while let Some(word) = self.peek() {
                let part = word.shown();
                self.at += 1;
                name.push_str(&part);
                if part == ")" {
                    break;
                }
            }
        }
        types::named(&name)
            .filter(|named| *named != DataType::Binary)
            .ok_or_else(|| format!("the type {name} is not supported"))
    }

    /// Columns of a table, or those of a struct, which may have a colon behind their names.
    fn fields(&mut self, level: usize, end: Option<char>) -> Result<Fields, String> {
        let mut fields: Vec<Field> = vec![];
        let mut names = BTreeSet::new();
        if let Some(end) = end
            && self.takes(end)
        {
            return Err("a struct without fields is not supported".into());
        }
        loop {
            let name = match self.peek() {
                Some(Word::Name(name) | Word::Quoted(name)) => name.clone(),
                _ => return Err(format!("a name is expected {}", self.place())),
            };
            self.at += 1;
            if end.is_some() {
                self.takes(':');
            }
            let data_type = self.data_type(level)?;
            if self.takes_word("not") && !self.takes_word("null") {
                return Err(format!("NULL is expected {}", self.place()));
            }
            if self.takes_word("comment") {
                if self.peek() != Some(&Word::Text) {
                    return Err(format!("a text is expected {}", self.place()));
                }
                self.at += 1;
            }
            if !names.insert(name.to_lowercase()) {
                return Err(format!("two fields are named {name}"));
            }
            fields.push(Field::new(name, data_type, true));
            if self.takes(',') {
                continue;
            }
            match end {
                Some(end) => self.expect(end)?,
                None if self.at == self.words.len() => {}
                None => return Err(format!(", is expected {}", self.place())),
            }
            return Ok(fields.into());
        }
    }
}

pub(super) fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

pub(super) fn map(key: DataType, value: DataType) -> DataType {
    let entries = DataType::Struct(Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value, true),
    ]));
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}
