//! Results of one window of one task into staged objects.
//!
//! Owns: names of objects, partitions, formats, cutting by size. Does not own: when they become visible (the commit).
//! Rule: nothing here is visible to anybody. A window that fails is thrown away whole and read again.
//!
//! An object's name is `<path><k=v/...><window>-<job>-<task>-<n>.<ext>`; `n` counts from 0000 in each folder. A task
//! is its attempt, so that no two attempts ever name the same object.

mod compress;
mod encode;
mod object;
mod partition;
#[cfg(test)]
pub(crate) mod tests;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
pub(crate) use compress::Compressed;
pub use encode::EncodeError;
pub(crate) use encode::Encoder;
use futures::stream::{self, StreamExt as _};
pub(crate) use object::{ObjectWriter, abandon_all};
pub(crate) use partition::Partitioner;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::storage::{Storage, StorageError};
use streamctl_proto::report::{ObjectKind, StagedObject, object_name};
use streamctl_proto::spec::SinkSpec;
use streamctl_proto::{JobName, TaskId, Window};

/// Folders that one window of one task may write to: each is an object of its own.
pub const PARTITIONS_MAX: usize = 1_000;
/// Memory that the row groups in the making of one window may take together; above it the largest are written.
const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Objects finished at the same time: each is a call to the service.
const FINISH_CONCURRENCY: usize = 16;

/// Rows could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The service.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The format.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Finding the rows of each folder.
    #[error("rows can not be split into partitions")]
    Split(#[source] ArrowError),
    /// Each value would be an object.
    #[error(
        "one window has more than {limit} partitions; partition by columns with fewer values, or by ingest_hour and coarser only"
    )]
    TooManyPartitions {
        /// [`PARTITIONS_MAX`].
        limit: usize,
    },
    /// A partition column that the query does not give.
    #[error("the result has no column {column} to partition by; it has {}", columns.join(", "))]
    UnknownColumn {
        /// What was asked for.
        column: String,
        /// What there is.
        columns: Vec<String>,
    },
    /// Objects without content.
    #[error("every column of the result is a partition; leave at least one to be written")]
    NoColumns,
}

/// What a sink must know of the window that it writes.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// Format, compression, partitions, size.
    pub spec: Arc<SinkSpec>,
    /// Part of the names.
    pub job: JobName,
    /// Part of the names.
    pub task: TaskId,
    /// Part of the names, and the time of `ingest_*` folders.
    pub window: Window,
    /// Where `spec.path` lies.
    pub storage: Arc<dyn Storage>,
}

impl SinkContext {
    fn location(&self, folder: &str, number: u32) -> String {
        let Self { spec, job, task, window, .. } = self;
        let extension = spec.extension(ObjectKind::Data);
        spec.path.join(&format!("{folder}{}", object_name(*window, job, *task, number, extension)))
    }
}

/// One folder.
#[derive(Default)]
struct Folder {
    /// Of the next object.
    number: u32,
    open: Option<(Encoder, ObjectWriter)>,
}

/// Writes the result of one window of one task.
pub struct WindowSink {
    context: SinkContext,
    partitioner: Partitioner,
    folders: BTreeMap<String, Folder>,
    done: Vec<StagedObject>,
}

impl WindowSink {
    /// `output_schema` is that of the query's result.
    pub fn new(context: SinkContext, output_schema: SchemaRef) -> Result<Self, SinkError> {
        let partitioner = Partitioner::new(&context.spec.partition_by, context.window, &output_schema)?;
        Ok(Self { context, partitioner, folders: BTreeMap::new(), done: Vec::new() })
    }

    /// Adds rows of the result. After an error only [`WindowSink::abort`] is of use.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        for (folder, rows) in self.partitioner.split(&batch)? {
            self.write_folder(folder, &rows).await?;
        }
        self.release_largest().await
    }

    /// Stages the rest. On an error everything of this window is thrown away.
    pub async fn finish(mut self) -> Result<Vec<StagedObject>, SinkError> {
        let open: Vec<_> = self.folders.values_mut().filter_map(|folder| folder.open.take()).collect();
        let finished = stream::iter(open).map(|(encoder, writer)| finish_object(encoder, writer));
        let results: Vec<_> = finished.buffered(FINISH_CONCURRENCY).collect().await;
        let mut failed = None;
        for result in results {
            match result {
                Ok(object) => self.done.push(object),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            self.abort().await;
            return Err(error);
        }
        self.done.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(self.done)
    }

    /// Throws everything of this window away.
    pub async fn abort(self) {
        for (_, writer) in self.folders.into_values().filter_map(|folder| folder.open) {
            writer.abort().await;
        }
        abandon_all(&*self.context.storage, &self.done).await;
    }

    async fn write_folder(&mut self, name: String, rows: &RecordBatch) -> Result<(), SinkError> {
        if self.folders.len() == PARTITIONS_MAX && !self.folders.contains_key(&name) {
            return Err(SinkError::TooManyPartitions { limit: PARTITIONS_MAX });
        }
        let SinkSpec { format, compression, target_size, .. } = *self.context.spec;
        let location = |number| self.context.location(&name, number);
        let folder = self.folders.entry(name.clone()).or_default();
        if folder.open.is_none() {
            let encoder = Encoder::new(format, compression, self.partitioner.schema())?;
            let writer = ObjectWriter::open(&*self.context.storage, &location(folder.number)).await?;
            folder.open = Some((encoder, writer));
            folder.number += 1;
        }
        let Some((encoder, writer)) = &mut folder.open else { return Ok(()) };
        let bytes = encoder.encode(rows)?;
        writer.write(bytes, rows.num_rows() as u64).await?;
        if writer.bytes() + encoder.held() as u64 >= target_size
            && let Some((encoder, writer)) = folder.open.take()
        {
            self.done.push(finish_object(encoder, writer).await?);
        }
        Ok(())
    }

    /// Many partitions each with a small row group in the making are together as large as one with a large one.
    async fn release_largest(&mut self) -> Result<(), SinkError> {
        let mut open: Vec<_> = self.folders.values_mut().filter_map(|folder| folder.open.as_mut()).collect();
        let mut memory: usize = open.iter().map(|(encoder, _)| encoder.memory()).sum();
        if memory <= MEMORY_BYTES_MAX {
            return Ok(());
        }
        open.sort_by_key(|(encoder, _)| std::cmp::Reverse(encoder.memory()));
        for (encoder, writer) in open {
            memory -= encoder.memory();
            writer.write(encoder.release()?, 0).await?;
            // Half is let go of at once, so that this is not done again for each batch.
            if memory <= MEMORY_BYTES_MAX / 2 {
                break;
            }
        }
        Ok(())
    }
}

async fn finish_object(encoder: Encoder, mut writer: ObjectWriter) -> Result<StagedObject, SinkError> {
    let last = match encoder.finish() {
        Ok(last) => last,
        Err(error) => {
            writer.abort().await;
            return Err(error.into());
        }
    };
    if let Err(error) = writer.write(last, 0).await {
        writer.abort().await;
        return Err(error.into());
    }
    Ok(writer.finish(ObjectKind::Data).await?)
}
