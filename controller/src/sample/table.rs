//! Rows as text.
//!
//! Owns: the text of a value and where it is cut, how much text a sample has. Does not own: the rows.
//! Rule: the text of a value is never built beyond its cut, however large the value is.

use arrow::array::{Array, ArrayRef, BinaryArray};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::{self, Write as _};

/// Characters of a value; a longer one ends with `…`.
pub const CELL_CHARS_MAX: usize = 500;
/// Text of a sample: it ends after the row that reaches this.
pub const SAMPLE_TEXT_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The Arrow type.
    pub data_type: String,
}

/// Some rows; `None` is a null.
#[derive(Clone, Debug)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Option<String>>>,
    rows_max: usize,
    text_bytes: usize,
}

impl Table {
    /// Without rows, for at most this many.
    pub fn new(schema: &Schema, rows_max: usize) -> Self {
        let column = |field: &std::sync::Arc<arrow::datatypes::Field>| Column {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
        };
        Self {
            columns: schema.fields().iter().map(column).collect(),
            rows: vec![],
            rows_max,
            text_bytes: 0,
        }
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max || self.text_bytes >= SAMPLE_TEXT_BYTES_MAX
    }

    /// Adds rows until the table is full.
    ///
    /// # Errors
    /// A type has no text.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let cells = batch.columns().iter().map(Cells::of);
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            if self.is_full() {
                return Ok(());
            }
            let texts: Vec<_> = cells.iter().map(|column| column.text(row)).collect();
            self.text_bytes += texts.iter().flatten().map(String::len).sum::<usize>();
            self.rows.push(texts);
        }
        Ok(())
    }
}

/// The values of a column of a batch.
struct Cells<'a> {
    array: &'a ArrayRef,
    formatter: ArrayFormatter<'a>,
}

impl<'a> Cells<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self, ArrowError> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(array.as_ref(), &OPTIONS)?;
        Ok(Self { array, formatter })
    }

    fn text(&self, row: usize) -> Option<String> {
        if self.array.is_null(row) {
            return None;
        }
        let mut cut = Cut::default();
        // An error is the end of the room.
        let _whole = match self.bytes_that_are_text(row) {
            Some(text) => cut.write_str(text),
            None => write!(cut, "{}", self.formatter.value(row)),
        };
        Some(cut.text)
    }

    /// The payload of a dead letter is bytes, and text nearly always.
    fn bytes_that_are_text(&self, row: usize) -> Option<&str> {
        let bytes = self
            .array
            .as_any()
            .downcast_ref::<BinaryArray>()?
            .value(row);
        // A character has at most four bytes; one more is enough to be cut.
        let head = &bytes[..bytes.len().min(4 * (CELL_CHARS_MAX + 1))];
        match std::str::from_utf8(head) {
            Ok(text) => Some(text),
            // A character in the middle of which the head ends.
            Err(error) if head.len() < bytes.len() && error.error_len().is_none() => {
                std::str::from_utf8(&head[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        }
    }
}

/// Takes text until its room is used up.
#[derive(Default)]
struct Cut {
    text: String,
    chars: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for one in more.chars() {
            if self.chars == CELL_CHARS_MAX {
                self.text.push('…');
                return Err(fmt::Error);
            }
            self.text.push(one);
            self.chars += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
        RecordBatch::try_from_iter_with_nullable(nullable).unwrap()
    }

    fn table(batch: &RecordBatch, rows_max: usize) -> Table {
        let mut table = Table::new(&batch.schema(), rows_max);
        table.add(batch).unwrap();
        table
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn values_are_text_and_a_null_is_none() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(-7), None]));
        let batch = batch(vec![("n", numbers), ("t", texts(&["<b>", ""]))]);
        let table = table(&batch, 10);
        assert_eq!(
            table.rows,
            [
                [Some("-7".to_owned()), Some("<b>".to_owned())],
                [None, Some(String::new())]
            ]
        );
        assert_eq!(table.columns[0].data_type, "Int64");
        assert!(!table.is_full());
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let exact = "ä".repeat(CELL_CHARS_MAX);
        let longer = "ä".repeat(CELL_CHARS_MAX + 1);
        let bytes = [exact.as_bytes(), longer.as_bytes(), &[0xff, b'a']];
        let binary: ArrayRef = Arc::new(BinaryArray::from(bytes.to_vec()));
        let other = texts(&[&exact, &longer, "a"]);
        let table = table(&batch(vec![("b", binary), ("t", other)]), 10);
        for column in 0..2 {
            assert_eq!(table.rows[0][column].as_deref(), Some(&exact[..]));
            assert_eq!(table.rows[1][column], Some(format!("{exact}…")));
        }
        assert_eq!(table.rows[2][0].as_deref(), Some("ff61"), "no text: hex");
    }

    #[test]
    fn bytes_are_cut_inside_of_a_wide_character_too() {
        // Three bytes each: the head ends inside of one.
        let long = "€".repeat(3 * CELL_CHARS_MAX);
        let binary: ArrayRef = Arc::new(BinaryArray::from(vec![long.as_bytes()]));
        let table = table(&batch(vec![("b", binary)]), 1);
        let expected = format!("{}…", "€".repeat(CELL_CHARS_MAX));
        assert_eq!(table.rows[0][0], Some(expected));
    }

    #[test]
    fn a_table_ends_with_its_rows_or_its_room() {
        let few = batch(vec![("t", texts(&["a", "b", "c"]))]);
        let two = table(&few, 2);
        assert_eq!((two.rows.len(), two.is_full()), (2, true));

        let wide = "x".repeat(CELL_CHARS_MAX);
        let many = vec![&wide[..]; 2 * SAMPLE_TEXT_BYTES_MAX / CELL_CHARS_MAX];
        let full = table(&batch(vec![("t", texts(&many))]), usize::MAX);
        assert!(full.is_full());
        assert_eq!(
            full.rows.len(),
            SAMPLE_TEXT_BYTES_MAX.div_ceil(CELL_CHARS_MAX)
        );
    }
}
