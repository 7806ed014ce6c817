//! A worker's half of each kind of sink: the result of one window of one task becomes something
//! staged.
//!
//! Owns: the traits, the registry, what kinds share: objects being staged, lines of JSON beside the
//! rows. Does not own: a kind's settings (`streamctl_proto::spec::SinkKind`), when what is staged
//! becomes visible (the commit), how (the controller's half).
//! Rule: nothing here is visible outside. A window that fails is discarded as a whole and read
//! again.

mod compress;
mod error;
mod files;
mod gzip_lines;
mod iceberg;
mod object;
mod objects;
pub(crate) mod read_back;
pub(crate) mod stored;

pub(crate) use compress::Compressed;
pub use error::{EncodeError, SinkError};
#[cfg(test)]
pub(crate) use files::tests;
pub(crate) use gzip_lines::{GzipLines, LinesPlace};
pub(crate) use iceberg::rewriter;
pub(crate) use object::{ObjectWriter, abandon_all};
#[cfg(test)]
pub(crate) use objects::OBJECT_BYTES_ALWAYS;

use crate::function::DeadRows;
use crate::memory::Holding;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use read_back::ReadBack;
use std::sync::Arc;
use stored::StoredRows;
use streamctl_engine::storage::Storages;
use streamctl_engine::written::back::NotExact;
use streamctl_proto::report::StagedObject;
use streamctl_proto::spec::{Location, SinkFacts, SinkKind};
use streamctl_proto::{JobName, TaskId, Window};

/// A worker's half of a kind of sink.
#[async_trait]
pub trait Sink: SinkFacts + Sync {
    /// Begins the rows of one window of one task; `result` is the schema of the query's result.
    fn writer(
        &self,
        context: WriterContext,
        result: SchemaRef,
    ) -> Result<Box<dyn Writer>, SinkError>;
    /// Throws away what a writer has staged. Failures are left to the sweep.
    async fn discard(&self, storages: &Storages, staged: &[StagedObject]) {
        for object in staged {
            let storage = storages.for_staged(self.role(), object);
            abandon_all(&*storage, std::slice::from_ref(object)).await;
        }
    }
    /// The part of its task's rows that a staged object belongs to. Which of a part's rows are in
    /// which of its objects is not known.
    fn part_of(&self, staged: &StagedObject) -> String;
    /// The rows of a window, to compare what is stored with what the query returns.
    fn rows(&self, result: &SchemaRef, window: Window) -> Result<Box<dyn StoredRows>, SinkError>;
    /// Reads the objects of a window back as rows of the result.
    fn read_back(
        &self,
        result: &SchemaRef,
        window: Window,
    ) -> Result<Box<dyn ReadBack>, NotReadBack>;
}

/// Why the objects of a window do not give its rows back.
#[derive(Debug, thiserror::Error)]
pub enum NotReadBack {
    #[error(transparent)]
    NotExact(#[from] NotExact),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// The registry: the worker's half of each kind.
pub fn of(kind: &SinkKind) -> &dyn Sink {
    match kind {
        SinkKind::Files(sink) => sink,
        SinkKind::Iceberg(sink) => sink,
    }
}

/// Which rows a writer takes: the name of their part, `None` for rows that are rejected.
pub type Wanted<'w> = &'w (dyn Fn(Option<&str>) -> bool + Sync);

/// Writes the rows of one window of one task.
#[async_trait]
pub trait Writer: Send {
    /// Adds the wanted rows of a result. After an error only [`Writer::abort`] may be called.
    async fn write_only(&mut self, batch: RecordBatch, wanted: Wanted<'_>)
    -> Result<(), SinkError>;
    /// Adds all rows of a result.
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.write_only(batch, &|_part| true).await
    }
    /// Adds rows that the job's function put aside, as rejected rows.
    async fn write_dead(&mut self, dead: DeadRows) -> Result<(), SinkError>;
    /// Stages the rest. On an error everything of this window is thrown away.
    async fn finish(self: Box<Self>) -> Result<Staged, SinkError>;
    /// Throws away everything of this window.
    async fn abort(self: Box<Self>);
}

/// What a writer has staged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    pub objects: Vec<StagedObject>,
    /// Rows that cannot be written where or as they should be; they lie beside the dead letters.
    pub rows_rejected: u64,
}

/// The context of a writer.
#[derive(Clone, Debug)]
pub struct WriterContext {
    pub job: JobName,
    pub task: TaskId,
    /// Part of the names, and the time of `ingest_*` folders.
    pub window: Window,
    pub storages: Storages,
    /// The folder of rejected rows: that of the dead letters.
    pub rejected: Location,
    /// Memory for what is not staged yet.
    pub memory: Arc<Holding>,
}
