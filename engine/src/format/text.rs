//! A column of text while its batch is being built.
//!
//! Owns: copying short values fast. Does not own: which value is null, other types (`columns`).
//! Rule: values are whole, valid text: a span ends at characters.

use super::json::scan::unescape;
use super::{Kind, Span};
use arrow::array::{ArrayRef, NullBufferBuilder, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use std::fmt;
use std::mem::take;
use std::sync::Arc;

/// Values of up to this many bytes are copied as one block, whose rest the next value overwrites:
/// a copy of a length that is known needs no call.
const BLOCK: usize = 16;

#[derive(Debug)]
pub(super) struct TextColumn {
    values: Vec<u8>,
    /// Where each value ends; the first is where the first one begins.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl TextColumn {
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            values: Vec::with_capacity(bytes + BLOCK),
            offsets,
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Appends the value of a span, or null.
    #[inline]
    pub fn append(&mut self, span: &Span, text: &str) {
        match span.kind {
            Kind::Null => return self.append_null(),
            Kind::Escaped => {
                unescape(span.of(text), &mut Text(&mut self.values))
                    .expect("escapes were validated, and a buffer takes any text");
            }
            Kind::Plain | Kind::Number | Kind::Boolean | Kind::Nested => self.copy(span, text),
        }
        self.nulls.append_non_null();
        self.end_value();
    }

    pub fn append_null(&mut self) {
        self.nulls.append_null();
        self.end_value();
    }

    #[inline]
    fn copy(&mut self, span: &Span, text: &str) {
        let bytes = text.as_bytes();
        let length = span.end - span.start;
        match bytes[span.start..].first_chunk::<BLOCK>() {
            Some(block) if length <= BLOCK => {
                let end = self.values.len() + length;
                self.values.extend_from_slice(block);
                self.values.truncate(end);
            }
            _ => self.values.extend_from_slice(&bytes[span.start..span.end]),
        }
    }

    #[inline]
    fn end_value(&mut self) {
        let end = i32::try_from(self.values.len());
        self.offsets
            .push(end.expect("a batch has at most BATCH_BYTES_MAX of payload"));
    }

    /// Bytes of text so far.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// The values; the column is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let array = StringArray::try_new(
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(take(&mut self.values)),
            self.nulls.finish(),
        );
        Arc::new(array.expect("values are whole, valid text, and as many as their ends"))
    }
}

/// Writes at the end of values.
struct Text<'v>(&'v mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_each_length_and_place_are_copied_whole() {
        let text = "aé\\n".repeat(20);
        let mut column = TextColumn::with_capacity(1, 1);
        let mut expected: Vec<Option<String>> = vec![];
        let places: Vec<usize> = (0..=text.len())
            .filter(|at| text.is_char_boundary(*at))
            .collect();
        for (number, start) in places.iter().enumerate() {
            for end in &places[number..] {
                let span = Span {
                    kind: Kind::Plain,
                    start: *start,
                    end: *end,
                };
                column.append(&span, &text);
                expected.push(Some(text[*start..*end].to_owned()));
            }
            column.append_null();
            expected.push(None);
        }
        let escaped = Span {
            kind: Kind::Escaped,
            start: 0,
            end: text.len(),
        };
        column.append(&escaped, &text);
        expected.push(Some("aé\n".repeat(20)));
        assert_eq!(
            column.bytes(),
            expected.iter().flatten().map(String::len).sum::<usize>()
        );
        let array = column.finish();
        assert_eq!(*array, StringArray::from(expected));
        column.append(&Span::NULL, "");
        assert_eq!(*column.finish(), StringArray::from(vec![None::<&str>]));
    }
}
