//! How each kind of sink writes a query's result, as far as a submit and a reader must know it.
//!
//! Owns: the trait, the registry. Does not own: a kind's settings and facts
//! (`streamctl_proto::spec::SinkKind`), what types and texts files have ([`crate::written`]), how
//! rows are staged (the worker) and become visible (the controller).
//! Rule: it follows from the settings and the result's columns alone, so that submit, explain,
//! preview and every task agree.

mod files;

use crate::storage::{StorageError, Storages};
use crate::written::Form;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use streamctl_proto::spec::{Problem, SinkKind};

/// How a kind of sink writes a query's result.
#[async_trait]
pub trait Layout: Sync {
    /// The columns and values that it writes for this result.
    fn form(&self, result: &SchemaRef) -> Form;
    /// What it refuses of the names of a result's columns, and of the columns that its own keys
    /// name. The types may be unknown; then they are text.
    fn refused_names(&self, result: &SchemaRef) -> Vec<Problem>;
    /// The columns of a result that it cannot hold.
    fn refused_types(&self, result: &SchemaRef) -> Vec<Problem>;
    /// The places that it writes to and that are not there, each with its key below `[sink]`.
    async fn unreachable(&self, storages: &Storages) -> Vec<(&'static str, StorageError)>;
}

/// The registry: the layout of each kind.
pub fn layout(kind: &SinkKind) -> &dyn Layout {
    match kind {
        SinkKind::Files(sink) => sink,
    }
}
