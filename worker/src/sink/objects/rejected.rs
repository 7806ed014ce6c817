//! Rows that cannot be written where or as they should be, stored beside the dead letters.
//!
//! Owns: the format of such a row. Does not own: which rows (`Split`), when they become visible
//! (the commit).
//! Rule: exactly one line per row, with all its columns, in the same epoch as its neighbours.

use super::{EncodeError, GzipLines, ObjectsContext, SinkError};
use crate::dead_letter::rfc3339;
use crate::function::{DeadLetterRows, DeadRows};
use crate::sink::LinesPlace;
use arrow::array::RecordBatch;
use std::sync::Arc;
use streamctl_engine::written::{TextForm, json};
use streamctl_proto::Window;
use streamctl_proto::names::BadName;
use streamctl_proto::report::{ObjectKind, REJECTED_ROW_EXTENSION};

/// Rows that are in no object of the result.
pub(crate) struct RejectedRows {
    pub reason: Rejection,
    /// With all columns of the result.
    pub rows: RecordBatch,
}

/// Why a row is rejected.
pub(crate) enum Rejection {
    /// Its partition is not a valid folder name.
    Folder(BadName),
    /// A value has no place in the type that its column is written in.
    Value(String),
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(reason) => {
                write!(f, "its partition cannot be the name of a folder: {reason}")
            }
            Self::Value(reason) => f.write_str(reason),
        }
    }
}

/// Objects for the rejected rows of one window of one task.
pub(super) fn objects(context: &ObjectsContext) -> GzipLines {
    let ObjectsContext {
        job, task, window, ..
    } = context;
    GzipLines::new(LinesPlace {
        folder: context.rejected.clone(),
        storage: Arc::clone(&context.rejected_storage),
        job: job.clone(),
        task: *task,
        window: *window,
        kind: ObjectKind::RejectedRow,
        extension: REJECTED_ROW_EXTENSION,
    })
}

/// `{"window_start": ..., "reason": ..., "row": {...}}`, one line each.
pub(super) fn lines(
    window: Window,
    rejected: &RejectedRows,
    form: TextForm,
) -> Result<Vec<u8>, SinkError> {
    let reason = rejected.reason.to_string();
    let rows = rows_as_json(&rejected.rows, form)?;
    Ok(lines_of(window, std::iter::repeat(&reason), &rows))
}

/// The same for rows in JSON lines, each with its reason.
pub(super) fn lines_of<'r>(
    window: Window,
    reasons: impl Iterator<Item = &'r String>,
    rows: &[u8],
) -> Vec<u8> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let window_start = text(&rfc3339(window.start_ms));
    let mut lines = Vec::new();
    let rows = rows
        .split(|byte| *byte == b'\n')
        .filter(|row| !row.is_empty());
    for (row, reason) in rows.zip(reasons) {
        let reason = text(reason);
        let head = format!(r#"{{"window_start":{window_start},"reason":{reason},"row":"#);
        lines.extend_from_slice(head.as_bytes());
        lines.extend_from_slice(row);
        lines.extend_from_slice(b"}\n");
    }
    lines
}

/// Rows that a function put aside, as JSON lines.
pub(crate) fn dead_rows_as_json(dead: &DeadRows, form: TextForm) -> Result<Vec<u8>, EncodeError> {
    match &dead.rows {
        DeadLetterRows::Batch(rows) => rows_as_json(rows, form),
        DeadLetterRows::JsonLines(lines) => Ok(lines.clone().into_bytes()),
    }
}

/// Rows as JSON lines, with nulls.
pub(crate) fn rows_as_json(rows: &RecordBatch, form: TextForm) -> Result<Vec<u8>, EncodeError> {
    let mut lines = Vec::new();
    json::write_lines(rows, form, true, &mut lines)?;
    Ok(lines)
}
