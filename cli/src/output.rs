//! The only place that prints.
//!
//! Rule: data goes to standard output, in the format asked for; notes, errors and hints go to standard error.

use crate::error::CliError;
use clap::ValueEnum;
use serde_json::Value;
use std::io::{self, Write};

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document per answer, one line per row.
    Json,
}

/// Where it is printed.
pub struct Output {
    format: Format,
    color: bool,
    data: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
}

impl Output {
    /// Standard output and standard error; `color` is about the latter.
    pub fn standard(format: Format, color: bool) -> Self {
        Self::to(format, color, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// Anywhere.
    pub fn to(format: Format, color: bool, data: Box<dyn Write + Send>, notes: Box<dyn Write + Send>) -> Self {
        Self { format, color, data, notes }
    }

    /// The format asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints one of the two, as the format says.
    pub fn either(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.text(&text()),
            Format::Json => self.text(&json().to_string()),
        }
    }

    /// Prints data as it is, and ends the line.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.data, "{}", text.trim_end_matches('\n'))?;
        Ok(self.data.flush()?)
    }

    /// Prints bytes as they are, and an end.
    pub fn bytes(&mut self, bytes: &[u8], end: u8) -> Result<(), CliError> {
        self.data.write_all(bytes)?;
        self.data.write_all(&[end])?;
        Ok(self.data.flush()?)
    }

    /// Says something that is not data.
    pub fn note(&mut self, text: &str) {
        // Where even standard error is closed, nobody is left to be told.
        let _ = writeln!(self.notes, "{text}");
    }

    /// Says what went wrong and what to do.
    pub fn error(&mut self, error: &CliError) {
        if matches!(error, CliError::Closed(_)) {
            return;
        }
        let (error_word, hint_word) =
            if self.color { ("\x1b[1;31merror:\x1b[0m", "\x1b[36mhint:\x1b[0m") } else { ("error:", "hint:") };
        self.note(&format!("{error_word} {error}"));
        if let Some(hint) = error.hint() {
            self.note(&format!("{hint_word} {hint}"));
        }
    }
}

/// Columns under headings, two blanks apart; numbers are not aligned to the right, so that a line can be copied.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings)];
    lines.extend(rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str()))));
    lines.join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A writer whose content can be looked at.
    #[derive(Clone, Default)]
    pub struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output, its data and its notes.
    pub fn captured(format: Format) -> (Output, Shared, Shared) {
        let (data, notes) = (Shared::default(), Shared::default());
        (Output::to(format, false, Box::new(data.clone()), Box::new(notes.clone())), data, notes)
    }

    #[test]
    fn data_and_errors_never_mix() {
        let (mut out, data, notes) = captured(Format::Table);
        out.text("row").unwrap();
        out.error(&CliError::Unreachable("http://x: refused".into()));
        assert_eq!(data.text(), "row\n");
        assert_eq!(
            notes.text(),
            "error: no controller answers: http://x: refused\n\
             hint: start streamctl-controller, or name its address with --controller\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["sales".to_owned(), "1".to_owned()], ["ö".to_owned(), "22".to_owned()]];
        assert_eq!(table(["JOB", "N"], &rows), "JOB    N\nsales  1\nö      22");
    }
}
