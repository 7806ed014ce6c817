//! The only place that prints; only the screen of `streamctl top` is drawn elsewhere (`top`).
//!
//! Rule: data goes to standard output, in the requested format; notes, errors, hints and progress
//! go to standard error. Colours are for terminals only.

use crate::error::CliError;
use crate::progress::Progress;
use clap::{ColorChoice, ValueEnum};
use indicatif::ProgressBar;
use serde_json::Value;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use tokio::sync::watch;

// The variants have no doc comments: clap would print each value on its own line.
/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // For people.
    Table,
    // For programs: one JSON document per response, one line per row.
    Json,
}

/// The output options.
#[derive(Clone, Copy, Debug)]
pub struct OutputOptions {
    /// `--output`.
    pub format: Format,
    /// `--color`.
    pub color: ColorChoice,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    /// `--quiet`.
    pub quiet: bool,
}

impl OutputOptions {
    /// Whether the output is coloured: `--color` takes precedence over `NO_COLOR`, and that over
    /// the kind of output.
    fn colors(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !self.no_color,
        }
    }
}

impl OutputOptions {
    /// Whether to show progress: only on a terminal, and not if another program reads the output,
    /// because its own lines would mix with ours.
    fn attended(&self, terminal: bool, piped: bool) -> bool {
        terminal && !piped && !self.quiet && self.format == Format::Table
    }
}

/// Whether the output goes to another program.
fn is_pipe(out: BorrowedFd<'_>) -> bool {
    let kind = out
        .try_clone_to_owned()
        .and_then(|out| File::from(out).metadata())
        .map(|about| about.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
}

/// The meaning of a word, for terminals with colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Healthy.
    Good,
    /// Needs attention.
    Waiting,
    /// Something is wrong.
    Bad,
    /// Less important.
    Dim,
}

/// Colours words, or leaves them unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Whether colours are on.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// The word, in its colour if colours are on.
    pub fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Waiting => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
        };
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The output streams.
pub struct Output {
    format: Format,
    color: bool,
    paint: Paint,
    quiet: bool,
    /// Progress is shown.
    attended: bool,
    /// The current progress, so that lines are printed above it.
    bar: Option<ProgressBar>,
    data: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    /// Progress messages that were shown.
    #[cfg(test)]
    pub(crate) slow: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Output {
    /// Standard output and standard error.
    pub fn standard(options: OutputOptions) -> Self {
        let out = io::stdout().is_terminal();
        let err = io::stderr().is_terminal();
        let output = Self::to(
            options.format,
            options.colors(err),
            Box::new(io::stdout()),
            Box::new(io::stderr()),
        );
        let paint = Paint {
            on: options.colors(out),
        };
        let attended = options.attended(err, is_pipe(io::stdout().as_fd()));
        Self {
            paint,
            quiet: options.quiet,
            attended,
            ..output
        }
    }

    /// To any writers.
    pub fn to(
        format: Format,
        color: bool,
        data: Box<dyn Write + Send>,
        notes: Box<dyn Write + Send>,
    ) -> Self {
        let paint = Paint::default();
        let quiet = false;
        let attended = false;
        let bar = None;
        #[cfg(not(test))]
        return Self {
            format,
            color,
            paint,
            quiet,
            attended,
            bar,
            data,
            notes,
        };
        #[cfg(test)]
        Self {
            format,
            color,
            paint,
            quiet,
            attended,
            bar,
            data,
            notes,
            slow: Default::default(),
        }
    }

    /// How words of the data are coloured.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Shows progress on a terminal until the returned value is dropped.
    pub fn progress(&mut self, message: &str) -> Progress {
        #[cfg(test)]
        self.slow
            .lock()
            .expect("no test panics while it holds this")
            .push(message.to_owned());
        let progress = if self.attended {
            Progress::on_terminal(message)
        } else {
            Progress::hidden()
        };
        self.bar = Some(progress.bar());
        progress
    }

    /// Waits for `work` with progress, and prints what it waits for, each time that this changes.
    pub async fn during_call<T>(
        &mut self,
        message: &str,
        mut waits: watch::Receiver<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let progress = self.progress(message);
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                Ok(()) = waits.changed() => {
                    let text = waits.borrow_and_update().clone();
                    self.note(&format!("waiting: {text}"));
                }
            }
        };
        drop(progress);
        done
    }

    /// Waits for `work`, with progress as [`Self::progress`].
    pub async fn during<T>(&mut self, message: &str, work: impl Future<Output = T>) -> T {
        let progress = self.progress(message);
        let done = work.await;
        drop(progress);
        done
    }

    /// Runs `print` while the progress is hidden.
    fn above(bar: Option<&ProgressBar>, print: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// The requested format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints one of the two, depending on the format.
    pub fn either(
        &mut self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.text(&text()),
            Format::Json => self.text(&json().to_string()),
        }
    }

    /// Prints a list. An empty table has no headings; `none` is printed as a note instead.
    pub fn list<T>(
        &mut self,
        items: &[T],
        none: &str,
        text: impl FnOnce(&[T]) -> String,
        json: impl FnOnce(&[T]) -> Value,
    ) -> Result<(), CliError> {
        if items.is_empty() && self.format == Format::Table {
            self.note(none);
            return Ok(());
        }
        self.either(|| text(items), || json(items))
    }

    /// Prints data unchanged, and ends the line.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        let data = &mut self.data;
        Ok(Self::above(self.bar.as_ref(), || {
            writeln!(data, "{}", text.trim_end_matches('\n'))?;
            data.flush()
        })?)
    }

    /// Prints bytes unchanged, and an end.
    pub fn bytes(&mut self, bytes: &[u8], end: u8) -> Result<(), CliError> {
        let data = &mut self.data;
        Ok(Self::above(self.bar.as_ref(), || {
            data.write_all(bytes)?;
            data.write_all(&[end])?;
            data.flush()
        })?)
    }

    /// Prints a note that is not data; nothing with `--quiet`.
    pub fn note(&mut self, text: &str) {
        if !self.quiet {
            self.write_note(text);
        }
    }

    fn write_note(&mut self, text: &str) {
        let notes = &mut self.notes;
        // If even standard error is closed, there is no reader left.
        let _closed = Self::above(self.bar.as_ref(), || writeln!(notes, "{text}"));
    }

    /// Prints an error and what to do.
    pub fn error(&mut self, error: &CliError) {
        if matches!(error, CliError::Closed(_) | CliError::Differs) {
            return;
        }
        let (error_label, hint_label) = if self.color {
            ("\x1b[1;31merror:\x1b[0m", "\x1b[36mhint:\x1b[0m")
        } else {
            ("error:", "hint:")
        };
        self.write_note(&format!("{error_label} {error}"));
        if let Some(hint) = error.hint() {
            self.write_note(&format!("{hint_label} {hint}"));
        }
    }
}

/// Columns under headings, two blanks apart; numbers are not aligned to the right, so that a line
/// can be copied.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| width_of(&row[column]));
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let pad = |(cell, width): (&&str, usize)| {
            format!("{cell}{:1$}", "", width.saturating_sub(width_of(cell)))
        };
        cells
            .iter()
            .zip(widths)
            .map(pad)
            .collect::<Vec<_>>()
            .join("  ")
            .trim_end()
            .to_owned()
    };
    let mut lines = vec![line(headings)];
    lines.extend(
        rows.iter()
            .map(|row| line(std::array::from_fn(|column| row[column].as_str()))),
    );
    lines.join("\n")
}

/// Visible characters, without colour codes.
fn width_of(cell: &str) -> usize {
    let mut parts = cell.split("\x1b[");
    let first = parts.next().map_or(0, |text| text.chars().count());
    let rest = parts.map(|part| {
        part.split_once('m')
            .map_or(0, |(_, text)| text.chars().count())
    });
    first + rest.sum::<usize>()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A writer whose content can be inspected.
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

    /// Checks that a verb's JSON has the keys of its part of `docs/json.md`: no other one, and all
    /// of the first level.
    pub fn documented(verb: &str, json: &Value) {
        let page = include_str!("../../docs/json.md");
        let part = page
            .split("\n## ")
            .find(|part| part.lines().next() == Some(verb));
        let part = part.unwrap_or_else(|| panic!("docs/json.md has nothing on {verb}"));
        let row = |line: &str| {
            let (key, text) = line.strip_prefix("| `")?.split_once("` |")?;
            Some((
                key.to_owned(),
                text.trim().trim_end_matches('|').trim().to_owned(),
            ))
        };
        let rows: std::collections::BTreeMap<String, String> =
            part.lines().filter_map(row).collect();
        let written: std::collections::BTreeSet<String> = rows.keys().cloned().collect();
        let mut found = std::collections::BTreeSet::new();
        // Rows have the columns of their job; some forms are not documented; some are those of
        // another verb.
        let own = |key: &str| {
            let other = rows.get(key).map_or("", String::as_str);
            !["a key for each column", "not fixed"]
                .iter()
                .any(|text| other.contains(text))
                && other_verb(other).is_none()
        };
        paths(json, "", &own, &mut found);
        for (key, text) in &rows {
            if let (Some(verb), Some(values)) = (other_verb(text), json[key.as_str()].as_array()) {
                assert!(!values.is_empty(), "{verb}: nothing stands for {key:?}");
                values.iter().for_each(|value| documented(verb, value));
            }
        }
        let unwritten: Vec<_> = found.difference(&written).collect();
        assert!(
            unwritten.is_empty(),
            "{verb}: docs/json.md does not name {unwritten:?}"
        );
        let gone: Vec<_> = written
            .difference(&found)
            .filter(|key| !key.contains(['.', '[']))
            .collect();
        assert!(gone.is_empty(), "{verb}: docs/json.md promises {gone:?}");
    }

    /// "as `workers`": each of these has the keys of that part; `list` is an array of `status`.
    fn other_verb(text: &str) -> Option<&str> {
        let (verb, _) = text.strip_prefix("as `")?.split_once('`')?;
        Some(if verb == "list" { "status" } else { verb })
    }

    /// `a`, `a.b`, `a[].b` of every existing key, not below keys that are not this verb's `own`.
    fn paths(
        json: &Value,
        before: &str,
        own: &impl Fn(&str) -> bool,
        found: &mut std::collections::BTreeSet<String>,
    ) {
        match json {
            _ if !own(before) => {}
            Value::Object(all) => {
                for (key, value) in all {
                    let path = if before.is_empty() {
                        key.clone()
                    } else {
                        format!("{before}.{key}")
                    };
                    found.insert(path.clone());
                    paths(value, &path, own, found);
                }
            }
            Value::Array(all) => all
                .iter()
                .for_each(|each| paths(each, &format!("{before}[]"), own, found)),
            _ => {}
        }
    }

    /// An output, its data and its notes.
    pub fn captured(format: Format) -> (Output, Shared, Shared) {
        let data = Shared::default();
        let notes = Shared::default();
        (
            Output::to(
                format,
                false,
                Box::new(data.clone()),
                Box::new(notes.clone()),
            ),
            data,
            notes,
        )
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
             hint: start streamctl-controller, or name its address with --controller (https:// where it speaks TLS)\n"
        );
    }

    #[test]
    fn an_empty_list_is_noted_beside_the_data() {
        let text = |items: &[u32]| format!("N: {}", items.len());
        let json = |items: &[u32]| Value::from(items);
        let listed = |format, items: &[u32]| {
            let (mut out, data, notes) = captured(format);
            out.list(items, "no numbers yet", text, json).unwrap();
            (data.text(), notes.text())
        };
        assert_eq!(
            listed(Format::Table, &[7]),
            ("N: 1\n".to_owned(), String::new())
        );
        assert_eq!(
            listed(Format::Table, &[]),
            (String::new(), "no numbers yet\n".to_owned())
        );
        assert_eq!(
            listed(Format::Json, &[]),
            ("[]\n".to_owned(), String::new())
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["sales".to_owned(), "1".to_owned()],
            ["ö".to_owned(), "22".to_owned()],
        ];
        assert_eq!(table(["JOB", "N"], &rows), "JOB    N\nsales  1\nö      22");
        let red = Paint { on: true }.text(Tone::Bad, "failed");
        let painted = table(
            ["A", "B"],
            &[
                [red.clone(), "x".to_owned()],
                ["y".to_owned(), "z".to_owned()],
            ],
        );
        assert_eq!(painted, format!("A       B\n{red}  x\ny       z"));
    }

    #[test]
    fn colours_are_for_terminals_unless_asked_otherwise() {
        let options = |color, no_color| OutputOptions {
            format: Format::Table,
            color,
            no_color,
            quiet: false,
        };
        for (color, no_color, terminal, expected) in [
            (ColorChoice::Auto, false, true, true),
            (ColorChoice::Auto, false, false, false),
            (ColorChoice::Auto, true, true, false),
            (ColorChoice::Always, true, false, true),
            (ColorChoice::Never, false, true, false),
        ] {
            assert_eq!(
                options(color, no_color).colors(terminal),
                expected,
                "{color:?} {no_color} {terminal}"
            );
        }
    }

    #[test]
    fn progress_is_for_people_who_look_on() {
        let options = |format, quiet| OutputOptions {
            format,
            color: ColorChoice::Auto,
            no_color: false,
            quiet,
        };
        assert!(options(Format::Table, false).attended(true, false));
        for (format, quiet, terminal, piped) in [
            (Format::Table, false, false, false),
            (Format::Table, false, true, true),
            (Format::Table, true, true, false),
            (Format::Json, false, true, false),
        ] {
            assert!(
                !options(format, quiet).attended(terminal, piped),
                "{format:?} {quiet} {terminal} {piped}"
            );
        }
    }

    #[test]
    fn a_quiet_output_still_prints_errors() {
        let (out, _, notes) = captured(Format::Table);
        let mut out = Output { quiet: true, ..out };
        out.note("follow it");
        out.error(&CliError::Unreachable("x".into()));
        assert!(notes.text().starts_with("error: "), "{}", notes.text());
    }
}
