//! Rows whose partition is not a valid folder name, stored beside the dead letters.
//!
//! Owns: the format of such a row. Does not own: which rows (`partition`), when they become visible
//! (the commit).
//! Rule: exactly one line per row, with all its columns, in the same epoch as its neighbours.

use super::gzip_lines::{GzipLines, LinesPlace};
use super::{EncodeError, SinkContext, SinkError};
use crate::dead_letter::rfc3339;
use arrow::array::RecordBatch;
use std::sync::Arc;
use streamctl_proto::Window;
use streamctl_proto::names::BadName;
use streamctl_proto::report::ObjectKind;

/// Rows whose partition is not a valid folder name.
pub(crate) struct RejectedRows {
    pub reason: BadName,
    /// With all columns of the result.
    pub rows: RecordBatch,
}

/// Objects for the rejected rows of one window of one task.
pub(super) fn objects(context: &SinkContext) -> GzipLines {
    let SinkContext {
        spec,
        job,
        task,
        window,
        ..
    } = context;
    let kind = ObjectKind::RejectedRow;
    GzipLines::new(LinesPlace {
        folder: context.rejected.clone(),
        storage: Arc::clone(&context.rejected_storage),
        job: job.clone(),
        task: *task,
        window: *window,
        kind,
        extension: spec.extension(kind),
    })
}

/// `{"window_start": ..., "reason": ..., "row": {...}}`, one line each.
pub(super) fn lines(window: Window, rejected: &RejectedRows) -> Result<Vec<u8>, SinkError> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let window_start = rfc3339(window.start_ms);
    let reason = format!(
        "its partition cannot be the name of a folder: {}",
        rejected.reason
    );
    let head = format!(
        r#"{{"window_start":{},"reason":{},"row":"#,
        text(&window_start),
        text(&reason)
    );
    let mut lines = Vec::new();
    for row in rows_as_json(&rejected.rows)?
        .split(|byte| *byte == b'\n')
        .filter(|row| !row.is_empty())
    {
        lines.extend_from_slice(head.as_bytes());
        lines.extend_from_slice(row);
        lines.extend_from_slice(b"}\n");
    }
    Ok(lines)
}

/// Rows as JSON lines, with nulls.
pub(crate) fn rows_as_json(rows: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write(rows).and_then(|()| writer.finish())?;
    Ok(writer.into_inner())
}
