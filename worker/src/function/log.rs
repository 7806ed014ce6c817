//! The last lines that a function wrote.
//!
//! Owns: their number and size. Does not own: the pipes ([`super::process`]).
//! Rule: a function that writes without end costs time, never memory.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most lines that are kept.
pub const LINES_MAX: usize = 200;
/// Most bytes of kept lines.
pub const BYTES_MAX: usize = 64 << 10;
/// Most bytes of one line; the rest is cut off.
pub const LINE_BYTES_MAX: usize = 4 << 10;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    Stdout,
    Stderr,
    /// `context.log`.
    Context(Level),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub source: LogSource,
    pub text: String,
}

/// A line as it was written.
#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
    /// It is longer than what is kept of it.
    cut: bool,
}

impl Written {
    fn add(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX - self.bytes.len();
        self.cut |= part.len() > room;
        self.bytes.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn text(&self) -> String {
        let mut text = plain(&String::from_utf8_lossy(&self.bytes));
        if self.cut {
            text.push('…');
        }
        text
    }
}

/// The newest lines.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<(LogSource, Written)>,
    bytes: usize,
    dropped: u64,
    /// All bytes that were written, kept or not.
    written: u64,
    stdout: Written,
    stderr: Written,
}

/// The lines of one child; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Ring>>);

impl Log {
    /// Not across an `.await`.
    pub fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text that a terminal and a log show as it is: with line ends and tabs, without other controls.
pub fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// What was kept, and how much was not.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub lines: Vec<LogLine>,
    pub dropped: u64,
}

impl Ring {
    /// Adds bytes of a pipe.
    pub fn add_bytes(&mut self, source: LogSource, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let mut rest = self.without_overtaken(source, bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial(source).add(&rest[..end]);
            self.end_line(source);
            rest = &rest[end + 1..];
        }
        self.partial(source).add(rest);
    }

    /// Adds a line of `context.log`, or several.
    pub fn add_text(&mut self, level: Level, text: &str) {
        self.written += text.len() as u64;
        for line in text.lines() {
            let mut written = Written::default();
            written.add(line.as_bytes());
            self.push(LogSource::Context(level), written);
        }
    }

    /// Adds what has no end of line.
    pub fn end_lines(&mut self) {
        for source in [LogSource::Stdout, LogSource::Stderr] {
            if !self.partial(source).bytes.is_empty() {
                self.end_line(source);
            }
        }
    }

    /// Takes all kept lines.
    pub fn take(&mut self) -> Kept {
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        let line = |(source, written): (LogSource, Written)| LogLine {
            source,
            text: written.text(),
        };
        Kept {
            lines: lines.into_iter().map(line).collect(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }

    /// Bytes that were written since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Leaves out lines that are followed by as many as are kept: a function that writes much costs
    /// a search for line ends, and nothing for each line.
    fn without_overtaken<'a>(&mut self, source: LogSource, bytes: &'a [u8]) -> &'a [u8] {
        let is_end = |(_, byte): &(usize, &u8)| **byte == b'\n';
        let mut ends = bytes.iter().enumerate().filter(is_end);
        let Some((end, _)) = ends.by_ref().rev().nth(LINES_MAX) else {
            return bytes;
        };
        // Those before it, and the one that ends there.
        self.dropped += ends.count() as u64 + 1;
        *self.partial(source) = Written::default();
        &bytes[end + 1..]
    }

    fn partial(&mut self, source: LogSource) -> &mut Written {
        match source {
            LogSource::Stdout => &mut self.stdout,
            LogSource::Stderr | LogSource::Context(_) => &mut self.stderr,
        }
    }

    fn end_line(&mut self, source: LogSource) {
        let line = std::mem::take(self.partial(source));
        self.push(source, line);
    }

    fn push(&mut self, source: LogSource, line: Written) {
        self.bytes += line.bytes.len();
        self.lines.push_back((source, line));
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes.len();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ring: &mut Ring) -> Vec<String> {
        let kept = ring.take();
        kept.lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_put_together_from_parts_of_any_size() {
        let written = b"one\ntwo two\n\nlast";
        for cut in 0..written.len() {
            let mut ring = Ring::default();
            ring.add_bytes(LogSource::Stdout, &written[..cut]);
            ring.add_bytes(LogSource::Stderr, b"beside");
            ring.add_bytes(LogSource::Stdout, &written[cut..]);
            ring.end_lines();
            let found = texts(&mut ring);
            assert_eq!(found, ["one", "two two", "", "last", "beside"], "{cut}");
        }
    }

    #[test]
    fn a_line_cannot_control_a_terminal() {
        let mut ring = Ring::default();
        ring.add_bytes(LogSource::Stdout, b"\x1b[2Ja\tb\xff\r\n");
        ring.add_text(Level::Error, "one\ntwo\x07");
        let shown = ["\u{fffd}[2Ja\tb\u{fffd}\u{fffd}", "one", "two\u{fffd}"];
        assert_eq!(texts(&mut ring), shown);
    }

    #[test]
    fn the_newest_lines_are_kept_and_the_others_counted() {
        let mut ring = Ring::default();
        for at_once in [1, 7, 201, 300, 1_000] {
            let lines: Vec<String> = (0..1_000)
                .map(|number| format!("line {number}\n"))
                .collect();
            for lines in lines.chunks(at_once) {
                ring.add_bytes(LogSource::Stdout, lines.concat().as_bytes());
            }
            let kept = ring.take();
            assert_eq!(kept.lines.len(), LINES_MAX, "{at_once}");
            assert_eq!(kept.lines[0].text, "line 800");
            assert_eq!(kept.lines[LINES_MAX - 1].text, "line 999");
            assert_eq!(kept.dropped, 1_000 - LINES_MAX as u64, "{at_once}");
        }
    }

    #[test]
    fn a_line_without_an_end_costs_no_more_than_a_line() {
        let mut ring = Ring::default();
        for _ in 0..1_000 {
            ring.add_bytes(LogSource::Stderr, &[b'x'; 8_192]);
            ring.add_text(Level::Info, &"ü".repeat(10_000));
        }
        assert!(ring.stderr.bytes.len() <= LINE_BYTES_MAX);
        assert!(ring.bytes <= BYTES_MAX);
        assert_eq!(ring.written(), 1_000 * (8_192 + 20_000));
        ring.end_lines();
        let last = texts(&mut ring).pop().unwrap();
        assert_eq!(last.len(), LINE_BYTES_MAX + "…".len());
    }
}
