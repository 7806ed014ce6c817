//! How each kind of sink writes a query's result, as far as a submit and a reader must know it.
//!
//! Owns: the trait, the registry. Does not own: a kind's settings and facts
//! (`streamctl_proto::spec::SinkKind`), what types and texts files have ([`crate::written`]), how
//! rows are staged (the worker) and become visible (the controller).
//! Rule: it follows from the settings and the result's columns alone, so that submit, explain,
//! preview and every task agree.

mod files;
mod iceberg;

pub use iceberg::{PinError, pinned_fields, pinned_schema, pinned_spec, writer};

use crate::resolve::foreign::ForeignRule;
use crate::storage::{StorageError, Storages};
use crate::written::Form;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use streamctl_proto::JobSpec;
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
    /// What another system states of the place where the rows go; changes nothing there.
    async fn find(&self, _place: Place<'_>, _result: &SchemaRef) -> Found {
        Found::default()
    }
    /// Makes what [`Self::find`] found to be missing. `None`: nothing is missing.
    ///
    /// # Errors
    /// It cannot be made, or is another one now.
    async fn make(
        &self,
        _place: Place<'_>,
        _result: &SchemaRef,
    ) -> Result<Option<SinkKind>, NotMade> {
        Ok(None)
    }
}

/// What a kind of sink is found with.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub storages: &'a Storages,
    pub foreign: &'a ForeignRule,
    pub spec: &'a JobSpec,
}

/// What is known of the place where rows go.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The settings with what was found pinned.
    pub sink: Option<SinkKind>,
    /// For users: what, and how it is, or will be.
    pub facts: Vec<(&'static str, String)>,
    pub problems: Vec<Problem>,
    /// The key that needed a system that did not answer, and the reason.
    pub unavailable: Vec<(String, String)>,
}

/// What could not be made at submit.
#[derive(Clone, Debug)]
pub enum NotMade {
    Problems(Vec<Problem>),
    Unavailable { field: String, reason: String },
}

/// The registry: the layout of each kind.
pub fn layout(kind: &SinkKind) -> &dyn Layout {
    match kind {
        SinkKind::Files(sink) => sink,
        SinkKind::Iceberg(sink) => sink,
    }
}
