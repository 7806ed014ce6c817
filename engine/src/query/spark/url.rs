//! Parts of addresses.
//!
//! Owns: `parse_url`. Does not own: the escapes of `url_encode` (`binary`).
//! Rule: an address is read as `java.net.URI` reads it, which Spark calls; what that refuses is NULL.

use super::call::{Given, Refusal, Rows};
use arrow::array::ArrayRef;
use datafusion::common::Result;
use std::net::Ipv6Addr;
use std::ops::Range;

/// The part of an address that a call names.
const PARTS: [&str; 8] = [
    "HOST",
    "PATH",
    "QUERY",
    "REF",
    "PROTOCOL",
    "FILE",
    "AUTHORITY",
    "USERINFO",
];

/// Signs that mean something in a pattern: Spark takes the key of a query for a pattern.
const SIGNS_OF_PATTERNS: &str = "\\^$.|?*+()[]{}";

/// `parse_url(address, part)` and `parse_url(address, 'QUERY', key)`.
pub(super) fn known_part(given: &Given<'_>) -> Result<(), Refusal> {
    if *given.kind(1) != arrow::datatypes::DataType::Null {
        let part = given.constant_text(1)?.unwrap_or_default();
        if !PARTS.contains(&part) {
            return Err(given.refuse(
                format!("does not know the part '{part}'"),
                "the parts are 'HOST', 'PATH', 'QUERY', 'REF', 'PROTOCOL', 'FILE', 'AUTHORITY' and 'USERINFO'",
            ));
        }
    }
    match given.constant_text(2)? {
        Some(key) if key.contains(|sign| SIGNS_OF_PATTERNS.contains(sign)) => Err(given.refuse(
            format!("with the key '{key}', which Spark takes for a pattern"),
            "write regexp_extract(parse_url(x, 'QUERY'), '(&|^)key=([^&]*)', 2)",
        )),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Address<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    user: Option<&'a str>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

fn is_unreserved(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.!~*'()".contains(letter)
}

/// Whether a text has these signs alone, escapes, and letters beyond ASCII.
fn has_only(text: &str, signs: &str) -> bool {
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        let fits = match letter {
            '%' => (0..2).all(|_| rest.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            letter if letter.is_ascii() => is_unreserved(letter) || signs.contains(letter),
            letter => letter > '\u{80}' && !letter.is_control() && !letter.is_whitespace(),
        };
        if !fits {
            return false;
        }
    }
    true
}

const IN_PATH: &str = ":@&=+$,;/";
const ANYWHERE: &str = ";/?:@&=+$,[]";
const IN_USER: &str = ";:&=+$,";
const IN_NAME: &str = "$,;:@&=+";
const IN_SERVER: &str = ";:&=+$,.@[]-";

/// The text up to the first of these signs, and the rest.
fn until<'a>(text: &'a str, signs: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(signs).unwrap_or(text.len()))
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut address = Self::default();
        let (main, fragment) = match text.split_once('#') {
            Some((main, fragment)) => (main, Some(fragment)),
            None => (text, None),
        };
        if let Some(fragment) = fragment {
            has_only(fragment, ANYWHERE).then_some(())?;
            address.fragment = Some(fragment);
        }
        let (scheme, rest) = until(main, &[':', '/', '?']);
        let Some(behind) = rest.strip_prefix(':') else {
            return address.hierarchical(main);
        };
        let mut letters = scheme.chars();
        letters.next().filter(char::is_ascii_alphabetic)?;
        letters
            .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
            .then_some(())?;
        address.scheme = Some(scheme);
        if behind.starts_with('/') {
            return address.hierarchical(behind);
        }
        (!behind.is_empty() && has_only(behind, ANYWHERE)).then_some(address)
    }

    fn hierarchical(mut self, text: &'a str) -> Option<Self> {
        let mut rest = text;
        if let Some(behind) = text.strip_prefix("//") {
            let (authority, after) = until(behind, &['/', '?']);
            // Without an authority there is something behind it.
            if authority.is_empty() && after.is_empty() && self.fragment.is_none() {
                return None;
            }
            if !authority.is_empty() {
                self.read_authority(authority)?;
            }
            rest = after;
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        has_only(path, IN_PATH).then_some(())?;
        self.path = Some(path);
        if let Some(query) = query {
            has_only(query, ANYWHERE).then_some(())?;
            self.query = Some(query);
        }
        Some(self)
    }

    /// A server, or a name that some registry knows.
    fn read_authority(&mut self, text: &'a str) -> Option<()> {
        let is_name = has_only(text, IN_NAME);
        let without_escapes = text.contains(']') || !text.contains('%');
        let may_be_server = without_escapes
            && text
                .chars()
                .all(|letter| is_unreserved(letter) || IN_SERVER.contains(letter) || letter == '%');
        self.authority = Some(text);
        if may_be_server && self.read_server(text).is_some() {
            return Some(());
        }
        self.user = None;
        self.host = None;
        is_name.then_some(())
    }

    fn read_server(&mut self, text: &'a str) -> Option<()> {
        let mut rest = text;
        if let Some((user, behind)) = text.split_once('@') {
            has_only(user, IN_USER).then_some(())?;
            self.user = Some(user);
            rest = behind;
        }
        let end = match rest.strip_prefix('[') {
            Some(inner) => {
                let (address, _) = inner.split_once(']')?;
                let plain = address.split('%').next()?;
                plain.parse::<Ipv6Addr>().ok()?;
                address.len() + 2
            }
            None => name_of_host(rest)?.end,
        };
        self.host = Some(&rest[..end]);
        let port = &rest[end..];
        let is_port = match port.strip_prefix(':') {
            Some("") => true,
            Some(port) => port.parse::<i32>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()),
            None => port.is_empty(),
        };
        is_port.then_some(())
    }
}

/// The name or the four numbers at the beginning of a text; a port may follow.
fn name_of_host(text: &str) -> Option<Range<usize>> {
    let (name, _) = until(text, &[':']);
    let numbers: Vec<&str> = name.split('.').collect();
    let is_number =
        |part: &&str| part.parse::<u8>().is_ok() && part.bytes().all(|b| b.is_ascii_digit());
    if numbers.len() == 4 && numbers.iter().all(is_number) {
        return Some(0..name.len());
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    let mut last = "";
    for label in labels.split('.') {
        let has_signs = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if label.is_empty() || !has_signs || label.starts_with('-') || label.ends_with('-') {
            return None;
        }
        last = label;
    }
    let is_alone = !labels.contains('.');
    let begins = last.starts_with(|letter: char| letter.is_ascii_alphabetic());
    (begins || is_alone).then_some(0..name.len())
}

/// The value of a key of a query.
fn value_of<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let sought = format!("{key}=");
    let mut from = 0;
    while let Some(at) = query[from..].find(&sought) {
        let at = from + at;
        if at == 0 || query[..at].ends_with('&') {
            return query[at + sought.len()..].split('&').next();
        }
        from = at + 1;
        while !query.is_char_boundary(from) {
            from += 1;
        }
    }
    None
}

pub(super) fn parse_url(rows: &Rows<'_>) -> Result<ArrayRef> {
    let part = rows.constant_text(1).unwrap_or_default();
    let has_key = rows.args() > 2;
    rows.texts(|row| {
        let text = row.text(0)?;
        let address = Address::parse(&text)?;
        let found = match part.as_str() {
            "HOST" => address.host,
            "PATH" => address.path,
            "QUERY" => address.query,
            "REF" => address.fragment,
            "PROTOCOL" => address.scheme,
            "AUTHORITY" => address.authority,
            "USERINFO" => address.user,
            "FILE" => {
                let path = address.path?;
                return Some(match address.query {
                    Some(query) => format!("{path}?{query}"),
                    None => path.to_owned(),
                });
            }
            _ => None,
        }?;
        if !has_key {
            return Some(found.to_owned());
        }
        let key = row.text(2)?;
        (part == "QUERY").then_some(())?;
        value_of(found, &key).map(str::to_owned)
    })
}
