//! Types that have types inside.
//!
//! Rule: a text is read from front to back, with a limit on its levels and parts; names of fields are
//! in lower case.

use super::{HiveField, HiveType, Inside, NotAType, TYPE_LEVELS_MAX, TYPE_PARTS_MAX, single};

pub(super) const ARRAY: &str = "array";
pub(super) const MAP: &str = "map";
pub(super) const STRUCT: &str = "struct";

/// Characters of a part in a message.
const PART_CHARS_MAX: usize = 40;

/// The name of a nested type, and what is between its angles.
pub(super) fn outer(text: &str) -> Option<(&'static str, &str)> {
    let (name, rest) = text.split_once('<')?;
    let name = [ARRAY, MAP, STRUCT]
        .into_iter()
        .find(|nested| *nested == name.trim_end())?;
    Some((name, rest.strip_suffix('>')?))
}

/// Reads a type in lower case, without white space around it.
pub(super) fn parse(text: &str) -> Result<HiveType, NotAType> {
    if outer(text).is_none() {
        return single(text);
    }
    let mut parts = Parts {
        rest: text,
        read: 0,
    };
    let found = parts.one(1)?;
    match parts.rest.trim_start() {
        "" => Ok(found),
        _ => Err(parts.expected("the end")),
    }
}

struct Parts<'t> {
    rest: &'t str,
    /// How many types were begun.
    read: usize,
}

impl<'t> Parts<'t> {
    fn one(&mut self, level: usize) -> Result<HiveType, NotAType> {
        if level > TYPE_LEVELS_MAX {
            return Err(NotAType::Levels);
        }
        self.read += 1;
        if self.read > TYPE_PARTS_MAX {
            return Err(NotAType::Parts);
        }
        self.rest = self.rest.trim_start();
        let begin = self.rest;
        let name_end = begin.find(['<', '(', ',', '>', ':']).unwrap_or(begin.len());
        let is_angled = begin[name_end..].starts_with('<');
        match begin[..name_end].trim_end() {
            ARRAY if is_angled => {
                self.rest = &begin[name_end + 1..];
                let item = self.one(level + 1)?;
                self.take('>', "the end of the array, >")?;
                Ok(HiveType::Array(Box::new(item)))
            }
            MAP if is_angled => {
                self.rest = &begin[name_end + 1..];
                let key = self.key(level + 1)?;
                self.take(',', "a comma between key and value")?;
                let value = self.one(level + 1)?;
                self.take('>', "the end of the map, >")?;
                Ok(HiveType::Map(Box::new(key), Box::new(value)))
            }
            STRUCT if is_angled => {
                self.rest = &begin[name_end + 1..];
                self.fields(level + 1)
            }
            _ => self.single(begin),
        }
    }

    fn key(&mut self, level: usize) -> Result<HiveType, NotAType> {
        let begin = self.rest;
        let key = self.one(level)?;
        match key {
            HiveType::Array(_) | HiveType::Map(..) | HiveType::Struct(_) => {
                Err(inside(begin, Inside::Key))
            }
            key => Ok(key),
        }
    }

    fn fields(&mut self, level: usize) -> Result<HiveType, NotAType> {
        let begin = self.rest;
        let mut fields: Vec<HiveField> = Vec::new();
        loop {
            let name = self.name()?;
            self.take(':', "a colon and a type behind the name of a field")?;
            let hive_type = self.one(level)?;
            if fields.iter().any(|field| field.name == name) {
                return Err(inside(begin, Inside::Twice(name)));
            }
            fields.push(HiveField { name, hive_type });
            if self.takes(',') {
                continue;
            }
            self.take('>', "a comma, or the end of the struct, >")?;
            return Ok(HiveType::Struct(fields));
        }
    }

    /// The name of a field; between backticks it may have any characters.
    fn name(&mut self) -> Result<String, NotAType> {
        self.rest = self.rest.trim_start();
        let (name, rest) = match self.rest.strip_prefix('`') {
            Some(quoted) => quoted
                .split_once('`')
                .ok_or_else(|| self.expected("a second backtick"))?,
            None => {
                let end = self.rest.find([':', ',', '<', '>']);
                self.rest.split_at(end.unwrap_or(self.rest.len()))
            }
        };
        let name = name.trim();
        if name.is_empty() {
            return Err(self.expected("the name of a field"));
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    /// A type without angles, with its brackets.
    fn single(&mut self, begin: &'t str) -> Result<HiveType, NotAType> {
        let mut brackets = 0_usize;
        let end = begin.find(|letter: char| {
            match letter {
                '(' => brackets += 1,
                ')' => brackets = brackets.saturating_sub(1),
                ',' | '>' => return brackets == 0,
                _ => {}
            }
            false
        });
        let (text, rest) = begin.split_at(end.unwrap_or(begin.len()));
        self.rest = rest;
        single(text.trim()).map_err(|why| inside(text.trim(), Inside::NotAType(Box::new(why))))
    }

    fn takes(&mut self, letter: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(letter) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, letter: char, what: &'static str) -> Result<(), NotAType> {
        if self.takes(letter) {
            return Ok(());
        }
        Err(self.expected(what))
    }

    fn expected(&self, what: &'static str) -> NotAType {
        inside(self.rest, Inside::Expected(what))
    }
}

fn inside(part: &str, why: Inside) -> NotAType {
    NotAType::Inside {
        part: part.chars().take(PART_CHARS_MAX).collect(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match HiveType::parse(text) {
            Ok(found) => found.to_string(),
            Err(error) => error.hint(),
        }
    }

    #[test]
    fn p17_nested_types_are_read_to_any_depth_within_the_limits() {
        for (text, expected) in [
            (
                "struct<user:struct<id:string,tier:int>,items:array<struct<sku:string,price:decimal(10,2)>>,tags:map<string,string>>",
                None,
            ),
            (
                "Struct< A : INT , `b c`: decimal( 10 , 2 ) >",
                Some("struct<a:int,b c:decimal(10,2)>"),
            ),
            (
                " array < map < string , array<timestamp> > > ",
                Some("array<map<string,array<timestamp>>>"),
            ),
            ("array<char(3)>", None),
            ("array<varchar(20)>", None),
            ("map<int,double>", None),
        ] {
            assert_eq!(shown(text), expected.unwrap_or(text), "{text}");
        }
        let levels = |count: usize| format!("{}int{}", "array<".repeat(count), ">".repeat(count));
        assert!(HiveType::parse(&levels(TYPE_LEVELS_MAX - 1)).is_ok());
        assert_eq!(
            HiveType::parse(&levels(TYPE_LEVELS_MAX)),
            Err(NotAType::Levels)
        );
        assert_eq!(HiveType::parse(&levels(100_000)), Err(NotAType::Levels));
        let wide = |count: usize| {
            let fields: Vec<String> = (0..count).map(|number| format!("f{number}:int")).collect();
            format!("struct<{}>", fields.join(","))
        };
        assert!(HiveType::parse(&wide(TYPE_PARTS_MAX - 1)).is_ok());
        assert_eq!(HiveType::parse(&wide(TYPE_PARTS_MAX)), Err(NotAType::Parts));
    }

    #[test]
    fn what_is_wrong_inside_of_a_type_is_named() {
        for (text, hint) in [
            (
                "array<strng>",
                "\"strng\" in it is not a type; known types:",
            ),
            (
                "array<decimal(99,1)>",
                "\"decimal(99,1)\" in it is not a type; write it as in",
            ),
            ("array<>", "\"\" in it is not a type"),
            ("struct<>", "the name of a field was expected"),
            (
                "struct<a>",
                "a colon and a type behind the name of a field was expected",
            ),
            ("struct<a:int,A:string>", "two fields \"a\""),
            ("struct<a:int b:int>", "\"int b:int\" in it is not a type"),
            ("map<string>", "a comma between key and value was expected"),
            ("map<array<int>,int>", "cannot be the key of a map"),
            ("array<int>>", "the end was expected"),
            ("array<array<int>", "the end of the array, > was expected"),
        ] {
            let found = shown(text);
            assert!(found.contains(hint), "{text}: {found}");
        }
    }
}
