//! What a Glue job does, from a script or from the nodes of the visual editor.
//!
//! Owns: its sources, steps and sink, and the notes of what could not be carried over. Does not
//! own: where they come from (`script`, `nodes`), the job file (`write`).
//! Rule: a step refers only to earlier steps, so a flow has no cycle.

use std::collections::{BTreeMap, BTreeSet};

/// A step of a flow, by its index.
pub type StepId = usize;

/// Most steps of a flow.
pub const STEPS_MAX: usize = 256;

/// What a Glue job does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// In the order in which they were found.
    pub steps: Vec<Step>,
    /// Where results go; the first one found.
    pub sink: Option<Sink>,
    /// `windowSize`, as written.
    pub window: Option<String>,
    /// `checkpointLocation`.
    pub checkpoint: Option<String>,
    /// `batchMaxRetries`.
    pub retries: Option<String>,
    /// The job's arguments that its steps use, known or not.
    pub asked: BTreeSet<String>,
    /// The batch function, where its code is carried over; then no step stands for its body.
    pub function: Option<Function>,
    /// What a user must check.
    pub notes: Vec<Note>,
}

/// A batch function as a file of Python.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// The frame that it is called with.
    pub input: StepId,
    pub name: String,
    pub frame: FrameKind,
    /// The whole file.
    pub text: String,
    /// Lookups that it reads, by their names in the job file.
    pub lookups: Vec<(String, StepId)>,
}

/// The frames that a function works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Pandas,
    Pyspark,
}

impl FrameKind {
    /// Its name in a job file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Pandas => "pandas",
            Self::Pyspark => "pyspark",
        }
    }
}

/// Something that a user must check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line in the script, or the node's name; `None`: the job as a whole.
    pub place: Option<String>,
    /// What is not carried over, or is different here, and what to do.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The name in the Glue job.
    pub name: String,
    pub kind: StepKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    Stream(Stream),
    Lookup {
        /// Its folder; `None` if only a table of the catalog is named.
        path: Option<String>,
        /// `csv` or `parquet`.
        format: String,
    },
    /// ApplyMapping: (source, its type, target, its type).
    Map(StepId, Vec<[String; 4]>),
    Join {
        /// The first frame and its keys.
        left: (StepId, Vec<String>),
        /// The second frame and its keys.
        right: (StepId, Vec<String>),
        /// `INNER`, `LEFT`, `RIGHT`, `FULL`, `LEFT SEMI`, `LEFT ANTI`.
        how: &'static str,
    },
    Drop(StepId, Vec<String>),
    Select(StepId, Vec<String>),
    Rename(StepId, String, String),
    Filter(StepId, String),
    /// What is selected, and what follows the table: `GROUP BY`.
    Compute(StepId, String, String),
    /// A column that is added, or replaces one: its name and its SQL.
    With(StepId, String, String),
    /// SQL, with the names of its tables.
    Sql(String, Vec<(String, StepId)>),
}

/// The stream's address and options.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Database and table of the catalog.
    pub table: Option<(String, String)>,
    /// Every option, keys in lower case.
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sink {
    pub input: StepId,
    pub path: String,
    /// `csv`, `json`, `parquet`, `glueparquet` ...
    pub format: String,
    /// `snappy`, `gzip` ...
    pub compression: Option<String>,
    pub partition_by: Vec<String>,
    /// The table of the catalog that the job keeps up to date.
    pub catalog: Option<SinkTable>,
}

/// A table of the catalog that shows a target's files.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkTable {
    pub database: String,
    pub table: String,
    /// New columns reach the table.
    pub add_columns: bool,
}

impl SinkTable {
    /// `behavior`: Glue's `updateBehavior`, which adds columns unless it is `LOG`. `None`: a name is
    /// missing.
    pub fn named(
        database: Option<String>,
        table: Option<String>,
        behavior: Option<&str>,
    ) -> Option<Self> {
        let name = |name: Option<String>| name.filter(|name| !name.is_empty());
        Some(Self {
            database: name(database)?,
            table: name(table)?,
            add_columns: !behavior.is_some_and(|word| word.eq_ignore_ascii_case("log")),
        })
    }
}

impl Flow {
    /// Adds a step; beyond [`STEPS_MAX`], the step is omitted with a note.
    pub fn add(&mut self, name: &str, kind: StepKind) -> Option<StepId> {
        if self.steps.len() >= STEPS_MAX {
            self.note(
                None,
                format!("more than {STEPS_MAX} steps: the rest is not carried over"),
            );
            return None;
        }
        self.steps.push(Step {
            name: name.to_owned(),
            kind,
        });
        Some(self.steps.len() - 1)
    }

    /// Whether a step has as many rows as the stream: the steps between only rename, cast or drop
    /// columns.
    pub fn is_every_row_of_the_stream(&self, step: StepId) -> bool {
        let mut at = step;
        loop {
            match self.steps.get(at).map(|step| &step.kind) {
                Some(StepKind::Stream(_)) => return true,
                // A step refers only to earlier steps.
                Some(
                    StepKind::Map(input, _)
                    | StepKind::Drop(input, _)
                    | StepKind::Select(input, _)
                    | StepKind::Rename(input, ..),
                ) => at = *input,
                _ => return false,
            }
        }
    }

    pub fn note(&mut self, place: Option<String>, text: impl Into<String>) {
        let note = Note {
            place,
            text: text.into(),
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The first sink is the job's; each further one is omitted with a note.
    pub fn set_sink(&mut self, sink: Sink, place: Option<String>) {
        if self.sink.is_some() {
            let text = format!(
                "a second target ({}) is not carried over: write a second job for it",
                sink.path
            );
            return self.note(place, text);
        }
        self.sink = Some(sink);
    }
}

/// `windowSize` of Glue as a duration of a job file: `100 seconds` is `100s`.
pub fn duration(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().ok()?;
    let unit = match text[digits.len()..].trim() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hour" | "hours" => "h",
        "ms" | "millisecond" | "milliseconds" => "ms",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_sizes_are_read_as_glue_writes_them() {
        for (glue, ours) in [
            ("100 seconds", "100s"),
            ("60", "60s"),
            ("1 minute", "1m"),
            ("2 Hours", "2h"),
        ] {
            assert_eq!(duration(glue).as_deref(), Some(ours));
        }
        for bad in ["", "soon", "1 fortnight", "é"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
