//! A CSV row as a JSON object of strings, so that decoding has one path. An empty field is null, in
//! quotes too, as in Spark.
//!
//! Rule: a row that does not match its header is unchanged; it does not decode and becomes a dead
//! letter.

use crate::format::replaced;
use std::borrow::Cow;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The names of the columns, each as a JSON string.
pub struct Header {
    names: Vec<String>,
}

impl Header {
    /// From the file's first row.
    pub fn parse(line: &[u8]) -> Self {
        let line = line.strip_prefix(BOM).unwrap_or(line);
        let names = match fields(line) {
            Some(row) => row.iter().map(|name| json(text(name).trim())).collect(),
            None => Vec::new(),
        };
        Self { names }
    }

    /// Returns the row as JSON. Returns it unchanged if it was cut off or has more or fewer fields
    /// than the header.
    pub fn to_json(&self, line: Vec<u8>, cut: bool) -> Vec<u8> {
        let row = if cut { None } else { fields(&line) };
        let Some(row) = row.filter(|row| row.len() == self.names.len()) else {
            return line;
        };
        let mut out = Vec::with_capacity(line.len() * 2 + 64);
        for (i, (name, value)) in self.names.iter().zip(row.iter()).enumerate() {
            out.push(if i == 0 { b'{' } else { b',' });
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            match value {
                [] => out.extend_from_slice(b"null"),
                value => out.extend_from_slice(json(&text(value)).as_bytes()),
            }
        }
        out.push(b'}');
        out
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => replaced(value).into(),
    }
}

fn fields(line: &[u8]) -> Option<csv::ByteRecord> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(line.len().clamp(64, 8 << 10))
        .from_reader(line);
    let mut row = csv::ByteRecord::new();
    matches!(reader.read_byte_record(&mut row), Ok(true)).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_an_object_of_strings() {
        let header = Header::parse(b"\xEF\xBB\xBFCountryName,Code");
        let json = header.to_json(
            b"\"Bolivia, \"\"Plurinational\"\" State of\",BO".to_vec(),
            false,
        );
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"CountryName": "Bolivia, \"Plurinational\" State of", "Code": "BO"})
        );
        assert_eq!(
            header.to_json(b"Namibia,NA".to_vec(), false),
            b"{\"CountryName\":\"Namibia\",\"Code\":\"NA\"}"
        );
    }

    #[test]
    fn p09_an_empty_field_is_null_and_other_bytes_are_replaced() {
        let header = Header::parse(b"a,b,c");
        let json = |row: &[u8]| String::from_utf8(header.to_json(row.to_vec(), false)).unwrap();
        assert_eq!(json(b",\"\", "), r#"{"a":null,"b":null,"c":" "}"#);
        assert_eq!(
            json(b"\xFF,1,"),
            "{\"a\":\"\u{fffd}\",\"b\":\"1\",\"c\":null}"
        );
    }

    #[test]
    fn a_row_that_does_not_fit_stays_as_it_is() {
        let header = Header::parse(b"a,b");
        for row in [&b"1"[..], b"1,2,3"] {
            assert_eq!(header.to_json(row.to_vec(), false), row);
        }
        assert_eq!(header.to_json(b"1,2".to_vec(), true), b"1,2");
    }
}
