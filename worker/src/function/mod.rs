//! The user's Python function, as a task calls it.
//!
//! Owns: what a call gives and returns ([`Function`]), and the two kinds of runners: a sandboxed
//! child process ([`child`]) and a function server that the user runs ([`remote`]). Does not own: when
//! a window is handed to its function, retries, the sink, the code's digest.
//! Rule: what comes from a function is hostile. Every length, count and wait has a limit, and
//! whatever a function does ends as an [`Outcome`] or as a [`FunctionError`] within them.
//!
//! What a sandbox holds is in `docs/functions-sandbox.md`.

pub mod child;
pub mod credentials;
mod error;
mod exchange;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
pub mod frame;
mod home;
mod launch;
mod log;
mod pool;
mod process;
mod python;
pub mod remote;
mod room;
pub mod sandbox;
#[cfg(test)]
mod tests;

pub use child::{Child, ChildSettings};
pub use error::{FunctionError, InputError, Raised};
pub use home::sweep;
pub use launch::child_main_if_asked;
pub use log::{Level, LogLine, LogSource};
pub use pool::{FunctionPool, Lease};
pub use process::Launcher;
pub use remote::{Remote, RemoteSettings};
pub use room::{NoRoom, ResultRoom};
pub use sandbox::{Layers, Protection};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::query::QueryMemory;
use streamctl_proto::spec::Frame;
use streamctl_proto::{JobName, LookupVersion, Window};

/// Where a function runs.
#[derive(Clone, Debug)]
pub enum Runner {
    /// In a child process of this worker.
    Child(ChildSettings),
    /// In a function server that the user runs.
    Remote(RemoteSettings),
    /// Nowhere: a test decides what happens.
    #[cfg(any(test, feature = "test-util"))]
    Fake(Arc<dyn fake::Script>),
}

/// The user's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Readable by other users than the worker's: a function of a worker that runs as root has a
    /// user of its own.
    pub folder: PathBuf,
    pub module: Module,
    /// The function's name in it.
    pub name: String,
    /// `None`: by the function's annotation.
    pub frame: Option<Frame>,
    /// The function that is called after publishing: the code must have it.
    pub on_published: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// `transform.py` in the folder.
    File(String),
    /// `package.module` below the folder.
    Module(String),
}

/// What one call may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the last input row to the result.
    pub timeout: Duration,
    /// Of the child, Python and its packages included. Also the most bytes of input and of result
    /// of a call.
    pub memory_bytes: u64,
    /// Whether the function may open connections.
    pub network: bool,
}

/// One call: a window, at one try.
#[derive(Clone, Debug)]
pub struct Call {
    /// The window's number: the same at every try.
    pub batch_id: i64,
    pub window: Window,
    /// From 1.
    pub attempt: u32,
    pub job: JobName,
    pub lookups: BTreeMap<String, LookupRows>,
    /// The call without rows that learns the result's schema.
    pub empty: bool,
    /// The function is called once for each value of these columns; empty: once.
    pub by: Vec<String>,
    /// Has room for the result; `None`: only the limit of the function counts.
    pub memory: Option<Arc<dyn QueryMemory>>,
}

/// The rows of a lookup at one version.
#[derive(Clone, Debug)]
pub struct LookupRows {
    pub version: LookupVersion,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// What a call returned.
#[derive(Debug)]
pub struct Outcome {
    /// `None`: the function returned None. At most [`Limits::memory_bytes`] of encoded rows. Results
    /// of keys may differ in their types: each batch has its own schema, the first has this one.
    pub result: Option<(SchemaRef, Vec<RecordBatch>)>,
    /// Encoded bytes of the result.
    pub result_bytes: u64,
    /// Their room in the worker's memory: keep it as long as the result.
    pub room: ResultRoom,
    pub dead: Vec<DeadRows>,
    /// The newest lines since the previous call.
    pub log: Vec<LogLine>,
    /// Lines that were left out of `log`.
    pub log_lines_dropped: u64,
    pub rows_in: u64,
    pub bytes_in: u64,
    /// From the end of the input to the result.
    pub elapsed: Duration,
    /// The most that the child has used since it started; `None` if that is not known.
    pub peak_memory: Option<u64>,
}

/// Rows of the input that the function gave to `context.dead_letter`.
#[derive(Clone, Debug)]
pub struct DeadRows {
    /// One per row.
    pub reasons: Vec<String>,
    pub rows: DeadLetterRows,
}

#[derive(Clone, Debug)]
pub enum DeadLetterRows {
    /// Rows with the schema of the input.
    Batch(RecordBatch),
    /// A row per line, from a function server.
    JsonLines(String),
}

/// What `on_published` is given.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    pub batch_id: i64,
    pub epoch: u64,
    pub objects: Vec<PublishedObject>,
    /// Name of the user's function.
    pub name: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct PublishedObject {
    pub location: String,
    pub rows: u64,
    pub bytes: u64,
}

/// The rows of a call, while the query computes them.
pub type Input<'a> = &'a mut (dyn Stream<Item = Result<RecordBatch, InputError>> + Send + Unpin);

/// A function that is ready to be called.
#[async_trait]
pub trait Function: Send {
    /// Sends all rows of a call, and returns the result. After an error, and if the call is
    /// dropped, check [`is_usable()`](Self::is_usable).
    async fn call(
        &mut self,
        call: Call,
        schema: SchemaRef,
        input: Input<'_>,
    ) -> Result<Outcome, FunctionError>;

    /// Reports a published epoch. Returns what the function logged.
    async fn published(&mut self, published: Published) -> Result<Vec<LogLine>, FunctionError>;

    /// Whether it takes another call.
    fn is_usable(&self) -> bool;

    /// Ends it in an orderly way.
    async fn close(self: Box<Self>);
}
