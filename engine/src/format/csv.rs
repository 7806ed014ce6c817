//! `format = "csv"`: one row per record, without a header (RFC 4180).
//!
//! Owns: the places of fields in a row, which of them are null. Does not own: which text becomes
//! which type.
//! Rule: a row has as many fields as the schema has columns, or it is a bad record.

use super::unknown::UnknownKeys;
use super::{Kind, Locate, Located, Span};
use streamctl_proto::count;
use streamctl_proto::spec::CsvFormat;

/// Longest row, as the longest record of Kinesis. A source may cut longer ones off behind it.
const ROW_BYTES_MAX: usize = 10 << 20;

#[derive(Debug)]
pub(super) struct CsvLocator {
    delimiter: u8,
    quote: u8,
    null_text: String,
    /// For each column of the schema: its index among the wanted ones.
    places: Vec<Option<usize>>,
    /// Wanted fields of a row that has quotes, without them.
    unquoted: String,
}

/// A field of a row.
struct Field {
    start: usize,
    end: usize,
    /// The field is quoted, and this is the text between the quotes.
    is_quoted: bool,
    /// It contains doubled quotes.
    is_escaped: bool,
    /// Where the next field begins; `None` after the last one.
    next: Option<usize>,
}

impl CsvLocator {
    pub fn new(format: &CsvFormat, columns: usize, wanted: &[usize]) -> Self {
        let mut places = vec![None; columns];
        for (place, index) in wanted.iter().enumerate() {
            places[*index] = Some(place);
        }
        // The parser of the job file takes ASCII only.
        let byte = |char: char| u8::try_from(char).unwrap_or_default();
        Self {
            delimiter: byte(format.delimiter),
            quote: byte(format.quote),
            null_text: format.null_text.clone(),
            places,
            unquoted: String::new(),
        }
    }

    /// The field that begins at `start`.
    fn field(&self, row: &str, start: usize) -> Result<Field, String> {
        if row.as_bytes().get(start) == Some(&self.quote) {
            return self.quoted(row, start + 1);
        }
        let rest = &row.as_bytes()[start..];
        let stops = |byte: &u8| matches!(*byte, b'\n' | b'\r') || *byte == self.delimiter;
        let length = rest.iter().position(stops);
        let end = start + length.unwrap_or(rest.len());
        let next = match row.as_bytes().get(end) {
            None => None,
            Some(byte) if *byte == self.delimiter => Some(end + 1),
            Some(_) => return Err(format!("more than one row: a line ends at byte {end}")),
        };
        Ok(Field {
            start,
            end,
            is_quoted: false,
            is_escaped: false,
            next,
        })
    }

    /// The field whose first byte after the opening quote is at `start`.
    fn quoted(&self, row: &str, start: usize) -> Result<Field, String> {
        let bytes = row.as_bytes();
        let mut at = start;
        let mut is_escaped = false;
        loop {
            let Some(length) = bytes[at..].iter().position(|byte| *byte == self.quote) else {
                let message = "the quote that opens before it is never closed";
                return Err(format!("not CSV at byte {start}: {message}"));
            };
            let quote = at + length;
            match bytes.get(quote + 1) {
                Some(byte) if *byte == self.quote => {
                    is_escaped = true;
                    at = quote + 2;
                }
                Some(byte) if *byte != self.delimiter => {
                    let message = "a closing quote is followed by more text";
                    return Err(format!("not CSV at byte {}: {message}", quote + 1));
                }
                after => {
                    return Ok(Field {
                        start,
                        end: quote,
                        is_quoted: true,
                        is_escaped,
                        next: after.map(|_| quote + 2),
                    });
                }
            }
        }
    }

    /// The field as a span of the row, or of the unquoted copy.
    fn span(&mut self, row: &str, field: &Field) -> Span {
        let text = &row[field.start..field.end];
        if !field.is_quoted && text.is_empty() {
            return Span::NULL;
        }
        let start = self.unquoted.len();
        let doubled = [self.quote, self.quote];
        match std::str::from_utf8(&doubled) {
            Ok(doubled) if field.is_escaped => {
                for (index, part) in text.split(doubled).enumerate() {
                    if index > 0 {
                        self.unquoted.push(char::from(self.quote));
                    }
                    self.unquoted.push_str(part);
                }
            }
            _ => self.unquoted.push_str(text),
        }
        let end = self.unquoted.len();
        if self.unquoted[start..] == self.null_text {
            return Span::NULL;
        }
        Span {
            kind: Kind::Plain,
            start,
            end,
        }
    }
}

/// The row of a record: one line end behind it belongs to it.
fn row(payload: &str) -> &str {
    let row = payload.strip_suffix('\n').unwrap_or(payload);
    row.strip_suffix('\r').unwrap_or(row)
}

/// Why a row of a file does not fit the file's header.
pub(super) fn misfit(row: &str) -> String {
    if row.len() >= ROW_BYTES_MAX {
        return too_long();
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(row.as_bytes());
    let mut fields = csv::ByteRecord::new();
    match reader.read_byte_record(&mut fields) {
        Ok(true) => format!(
            "the row has {}, not as many as the header of its file",
            count(fields.len(), "field")
        ),
        Ok(false) => "record is empty".to_owned(),
        Err(error) => format!("not CSV: {error}"),
    }
}

fn too_long() -> String {
    format!("the row has more than {} MiB", ROW_BYTES_MAX >> 20)
}

impl Locate for CsvLocator {
    fn locate<'a>(
        &'a mut self,
        payload: &'a str,
        spans: &mut [Span],
        _unknown: &mut UnknownKeys,
    ) -> Result<Located<'a>, String> {
        if payload.len() > ROW_BYTES_MAX {
            return Err(too_long());
        }
        let row = row(payload);
        if row.is_empty() {
            return Err("record is empty".to_owned());
        }
        self.unquoted.clear();
        let columns = self.places.len();
        let mut fields = 0;
        let mut next = Some(0);
        while let Some(start) = next {
            let field = self.field(row, start)?;
            if let Some(place) = self.places.get(fields).copied().flatten() {
                spans[place] = self.span(row, &field);
            }
            fields += 1;
            next = field.next;
        }
        if fields != columns {
            let fields = count(fields, "field");
            return Err(format!(
                "the row has {fields}, the source {}",
                count(columns, "column")
            ));
        }
        Ok(Located {
            text: &self.unquoted,
            next: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(format: CsvFormat, wanted: &[usize]) -> CsvLocator {
        CsvLocator::new(&format, 3, wanted)
    }

    fn plain() -> CsvFormat {
        CsvFormat {
            delimiter: ',',
            quote: '"',
            null_text: String::new(),
        }
    }

    /// The wanted fields of a row; none for null.
    fn fields(
        locator: &mut CsvLocator,
        row: &str,
        wanted: usize,
    ) -> Result<Vec<Option<String>>, String> {
        let mut spans = vec![Span::NULL; wanted];
        let text = locator
            .locate(row, &mut spans, &mut UnknownKeys::default())?
            .text;
        let field = |span: &Span| (span.kind != Kind::Null).then(|| span.of(text).to_owned());
        Ok(spans.iter().map(field).collect())
    }

    fn all(row: &str) -> Result<Vec<Option<String>>, String> {
        fields(&mut locator(plain(), &[0, 1, 2]), row, 3)
    }

    fn some(values: [&str; 3]) -> Vec<Option<String>> {
        values.map(|value| Some(value.to_owned())).to_vec()
    }

    #[test]
    fn fields_are_the_columns_in_their_order() {
        assert_eq!(all("1,2,3").unwrap(), some(["1", "2", "3"]));
        assert_eq!(all("1,é, 3 \r\n").unwrap(), some(["1", "é", " 3 "]));
        let quoted = "\"Bolivia, \"\"Plurinational\"\"\",\"two\nlines\",a\"b";
        assert_eq!(
            all(quoted).unwrap(),
            some(["Bolivia, \"Plurinational\"", "two\nlines", "a\"b"])
        );
        let mut last = locator(plain(), &[2]);
        assert_eq!(
            fields(&mut last, "1,\"2\",\"x\"", 1).unwrap(),
            [Some("x".into())]
        );
    }

    #[test]
    fn an_empty_field_is_null_and_so_is_the_null_text() {
        assert_eq!(all(",\"\",").unwrap(), [None, None, None]);
        let format = CsvFormat {
            delimiter: '|',
            quote: '\'',
            null_text: "\\N".into(),
        };
        let mut locator = locator(format, &[0, 1, 2]);
        assert_eq!(
            fields(&mut locator, "\\N|'it''s'|", 3).unwrap(),
            [None, Some("it's".into()), None]
        );
        // Another text for null leaves an empty one in quotes as it is.
        assert_eq!(
            fields(&mut locator, "'\\N'||''", 3).unwrap(),
            [None, None, Some(String::new())]
        );
    }

    #[test]
    fn a_row_that_may_be_cut_off_is_no_row() {
        let long = format!("{},2,3", "x".repeat(ROW_BYTES_MAX - 4));
        assert!(all(&long).is_ok());
        assert_eq!(
            all(&format!("{long}4")).unwrap_err(),
            "the row has more than 10 MiB"
        );
    }

    #[test]
    fn what_is_not_one_row_of_the_schema_is_refused_with_its_reason() {
        for (row, reason) in [
            ("", "record is empty"),
            ("\n", "record is empty"),
            ("1,2", "the row has 2 fields, the source 3 columns"),
            ("1,2,3,4", "the row has 4 fields, the source 3 columns"),
            ("1,2,3\n4,5,6", "more than one row: a line ends at byte 5"),
            (
                "1,\"2,3",
                "not CSV at byte 3: the quote that opens before it is never closed",
            ),
            (
                "\"1\"x,2,3",
                "not CSV at byte 3: a closing quote is followed by more text",
            ),
        ] {
            assert_eq!(all(row).unwrap_err(), reason, "{row:?}");
        }
    }
}
