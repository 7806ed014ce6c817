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

/// A stream of bytes that is being cut into lines.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// The line is longer than what is kept of it.
    cut: bool,
}

/// The newest lines.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    dropped: u64,
    /// All bytes that were written, kept or not.
    written: u64,
    stdout: Partial,
    stderr: Partial,
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

/// What was kept, and how much was not.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub lines: Vec<LogLine>,
    pub dropped: u64,
}

impl Ring {
    /// Adds bytes of a pipe.
    pub fn add_bytes(&mut self, source: LogSource, mut bytes: &[u8]) {
        self.written += bytes.len() as u64;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.add_part(source, &bytes[..end]);
            self.end_line(source);
            bytes = &bytes[end + 1..];
        }
        self.add_part(source, bytes);
    }

    /// Adds a line of `context.log`, or several.
    pub fn add_text(&mut self, level: Level, text: &str) {
        self.written += text.len() as u64;
        for line in text.lines() {
            let mut end = line.len().min(LINE_BYTES_MAX);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            let cut = if end < line.len() { "…" } else { "" };
            self.push(LogLine {
                source: LogSource::Context(level),
                text: format!("{}{cut}", &line[..end]),
            });
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
        Kept {
            lines: std::mem::take(&mut self.lines).into(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }

    /// Bytes that were written since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn partial(&mut self, source: LogSource) -> &mut Partial {
        match source {
            LogSource::Stdout => &mut self.stdout,
            LogSource::Stderr | LogSource::Context(_) => &mut self.stderr,
        }
    }

    fn add_part(&mut self, source: LogSource, part: &[u8]) {
        let partial = self.partial(source);
        let room = LINE_BYTES_MAX - partial.bytes.len();
        partial.cut |= part.len() > room;
        partial
            .bytes
            .extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self, source: LogSource) {
        let partial = std::mem::take(self.partial(source));
        let mut text = String::from_utf8_lossy(&partial.bytes).into_owned();
        if partial.cut {
            text.push('…');
        }
        self.push(LogLine { source, text });
    }

    fn push(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
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
    fn the_newest_lines_are_kept_and_the_others_counted() {
        let mut ring = Ring::default();
        for number in 0..1_000 {
            ring.add_bytes(LogSource::Stdout, format!("line {number}\n").as_bytes());
        }
        let kept = ring.take();
        assert_eq!(kept.lines.len(), LINES_MAX);
        assert_eq!(kept.lines.last().unwrap().text, "line 999");
        assert_eq!(kept.dropped, 1_000 - LINES_MAX as u64);
        assert_eq!(ring.take().dropped, 0);
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
