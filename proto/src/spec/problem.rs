//! Problems of a job file: all at once, each with its line and a fix.

pub use super::locate::Part;
use super::locate::line_of;
use std::fmt;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the job file, from 1; `None` if it is about a missing key.
    pub line: Option<usize>,
    /// The key, in dots: `sink.format`.
    pub field: String,
    /// The part of the key's value; `None` if it is about all of it.
    pub part: Option<Part>,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that was found without the file: [`Problems::located`] finds its line.
    pub fn new(field: impl Into<String>, message: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            line: None,
            field: field.into(),
            part: None,
            message: message.into(),
            hint,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All problems of a job file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The problems in the order of the file, with their lines: those found by outside systems look
    /// like those of the file alone. Those about missing keys come last.
    pub fn located(mut self, text: &str) -> Self {
        for problem in &mut self.0 {
            problem.line = problem
                .line
                .or_else(|| line_of(text, &problem.field, problem.part));
        }
        self.0
            .sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
