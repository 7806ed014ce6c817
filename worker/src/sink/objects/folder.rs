//! One part of a window: waiting rows, and the object being written.
//!
//! Owns: when rows are encoded, when an object is full. Does not own: which rows (`Split`), how
//! much memory all parts may take (`ObjectsWriter`).
//! Rule: an open object costs tens of kilobytes however few rows it has, so a folder opens one only
//! for enough rows. Its memory is known after every call ([`Folder::memory`]).

use super::encode::{Encoded, Encoder};
use super::{ObjectWriter, ObjectsContext, SinkError, Split};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use streamctl_proto::report::{ObjectKind, StagedObject};

/// Rows are buffered up to this size: an encoder is slow if it gets single rows.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// The part of an object's size that may be buffered, so that objects are cut at the right size.
const WAITING_PER_OBJECT: u64 = 8;

/// One part of one window.
pub(in crate::sink) struct Folder {
    /// Of the part.
    key: String,
    name: String,
    number: u32,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    open: Option<(Encoder, ObjectWriter)>,
}

impl Folder {
    /// An empty folder. `name` ends in a slash, or is empty.
    pub fn new(key: String, name: String) -> Self {
        Self {
            key,
            name,
            number: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            open: None,
        }
    }

    /// Memory of rows, unfinished row groups, and a part being filled.
    pub fn memory(&self) -> usize {
        self.waiting_bytes
            + self
                .open
                .as_ref()
                .map_or(0, |(encoder, writer)| encoder.memory() + writer.held())
    }

    /// What [`Folder::release`] would free.
    pub fn releasable(&self) -> usize {
        self.open
            .as_ref()
            .map_or(0, |(encoder, _)| encoder.releasable())
    }

    /// Adds rows. Returns the object that they complete.
    pub async fn add(
        &mut self,
        context: &ObjectsContext,
        split: &dyn Split,
        rows: RecordBatch,
    ) -> Result<Option<StagedObject>, SinkError> {
        self.waiting_bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        let worth_it = context.target_size / WAITING_PER_OBJECT;
        if self.waiting_bytes as u64 <= worth_it.min(WAITING_BYTES_MAX as u64) {
            return Ok(None);
        }
        self.encode(context, split).await?;
        let full = |(encoder, writer): &(Encoder, ObjectWriter)| {
            writer.bytes() + encoder.held() as u64 >= context.target_size
        };
        if self.open.as_ref().is_some_and(full) {
            self.finish(context, split).await
        } else {
            Ok(None)
        }
    }

    /// Encodes the buffered rows into the object.
    async fn encode(
        &mut self,
        context: &ObjectsContext,
        split: &dyn Split,
    ) -> Result<(), SinkError> {
        let rows = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let schema = split.schema();
        if self.open.is_none() {
            let encoder = Encoder::new(context.encoding(schema), schema)?;
            let writer = ObjectWriter::open(
                &*context.storage,
                &context.location(&self.name, context.numbers.next(self.number)),
            )
            .await?;
            self.open = Some((encoder, writer));
            self.number += 1;
        }
        let Some((encoder, writer)) = &mut self.open else {
            return Ok(());
        };
        let rows = if rows.len() == 1 {
            rows
        } else {
            vec![concat(schema, &rows)?]
        };
        for batch in rows {
            let bytes = encoder.encode(&batch)?;
            writer.write(bytes, batch.num_rows() as u64).await?;
        }
        Ok(())
    }

    /// Writes the unfinished row group early, at the price of a small one.
    pub async fn release(&mut self) -> Result<(), SinkError> {
        if let Some((encoder, writer)) = &mut self.open {
            writer.write(encoder.release()?, 0).await?;
        }
        Ok(())
    }

    /// Stages the object with all rows so far; later rows go into another one. On an error the
    /// object is deleted.
    pub async fn finish(
        &mut self,
        context: &ObjectsContext,
        split: &dyn Split,
    ) -> Result<Option<StagedObject>, SinkError> {
        if !self.waiting.is_empty() {
            self.encode(context, split).await?;
        }
        let Some((encoder, mut writer)) = self.open.take() else {
            return Ok(None);
        };
        let written = match encoder.finish() {
            Ok(Encoded { last, footer }) => {
                let written = writer.write(last, 0).await;
                written.map(|()| footer).map_err(SinkError::from)
            }
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(footer) => {
                let mut staged = writer.finish(ObjectKind::Data).await?;
                let file = footer.and_then(|footer| split.table_file(&self.key, &footer));
                staged.table_file = file.map(Box::new);
                Ok(Some(staged))
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    /// Deletes what is not staged.
    pub async fn abort(self) {
        if let Some((_, writer)) = self.open {
            writer.abort().await;
        }
    }
}

fn concat(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<RecordBatch, SinkError> {
    arrow::compute::concat_batches(schema, rows).map_err(SinkError::Split)
}
