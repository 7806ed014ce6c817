//! Rows that no folder can be named for, kept beside the dead letters.
//!
//! Owns: the form of such a row. Does not own: which rows (`partition`), when they become visible (the commit).
//! Rule: exactly one line per row, with all its columns, in the same epoch as its neighbours.

use super::{Compressed, EncodeError, ObjectWriter, SinkContext, SinkError, abandon_all};
use arrow::array::RecordBatch;
use std::io::Write as _;
use streamctl_proto::names::BadName;
use streamctl_proto::report::{ObjectKind, StagedObject, object_name};
use streamctl_proto::spec::Compression;

/// Objects are cut at about this size, compressed.
const OBJECT_BYTES: u64 = 64 << 20;

/// Rows that no folder can be named for.
pub(crate) struct RejectedRows {
    /// Why.
    pub reason: BadName,
    /// With all columns of the result.
    pub rows: RecordBatch,
}

/// Writes the rejected rows of one window of one task: JSON lines, gzip.
#[derive(Default)]
pub(super) struct RejectedSink {
    /// Of the next object.
    number: u32,
    open: Option<(Compressed, ObjectWriter)>,
    done: Vec<StagedObject>,
}

impl RejectedSink {
    /// What the compressor and the part that is being filled take.
    pub fn memory(&self) -> usize {
        self.open.as_ref().map_or(0, |(out, writer)| out.memory() + writer.held())
    }

    /// Adds rows. After an error only [`RejectedSink::abort`] is of use.
    pub async fn write(&mut self, context: &SinkContext, rejected: &RejectedRows) -> Result<(), SinkError> {
        let lines = lines(context, rejected)?;
        if self.open.is_none() {
            let out = Compressed::new(Compression::Gzip).map_err(EncodeError::from)?;
            let SinkContext { spec, job, task, window, .. } = context;
            let extension = spec.extension(ObjectKind::RejectedRow);
            let name = object_name(*window, job, *task, self.number, extension);
            let writer = ObjectWriter::open(&*context.rejected_storage, &context.rejected.join(&name)).await?;
            self.open = Some((out, writer));
            self.number += 1;
        }
        let Some((out, writer)) = &mut self.open else { return Ok(()) };
        out.write_all(&lines).map_err(EncodeError::from)?;
        writer.write(out.take(), rejected.rows.num_rows() as u64).await?;
        if writer.bytes() >= OBJECT_BYTES { self.close().await } else { Ok(()) }
    }

    /// Finishes the object that is being written.
    pub async fn close(&mut self) -> Result<(), SinkError> {
        let Some((out, mut writer)) = self.open.take() else { return Ok(()) };
        let written = match out.finish() {
            Ok(last) => writer.write(last, 0).await.map_err(SinkError::from),
            Err(error) => Err(EncodeError::from(error).into()),
        };
        if let Err(error) = written {
            writer.abort().await;
            return Err(error);
        }
        self.done.push(writer.finish(ObjectKind::RejectedRow).await?);
        Ok(())
    }

    /// What was staged.
    pub fn take(&mut self) -> Vec<StagedObject> {
        std::mem::take(&mut self.done)
    }

    /// Throws everything away.
    pub async fn abort(self, context: &SinkContext) {
        if let Some((_, writer)) = self.open {
            writer.abort().await;
        }
        abandon_all(&*context.rejected_storage, &self.done).await;
    }
}

/// `{"window_start": ..., "reason": ..., "row": {...}}`, a line each.
fn lines(context: &SinkContext, rejected: &RejectedRows) -> Result<Vec<u8>, SinkError> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let window_start = chrono::DateTime::from_timestamp_millis(context.window.start_ms).unwrap_or_default();
    let window_start = window_start.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let reason = format!("no folder can be named for its partition: {}", rejected.reason);
    let head = format!(r#"{{"window_start":{},"reason":{},"row":"#, text(&window_start), text(&reason));
    let mut lines = Vec::new();
    for row in rows_as_json(&rejected.rows)?.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
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
