//! The query: what a job does with the rows of a window.
//!
//! Owns: what SQL is allowed ([`sql`]) and what is said of it ([`words`], [`functions`]), whether it needs the whole
//! window ([`rule`]), its execution over a stream of batches ([`open`]), the count of rows without a partner
//! ([`unmatched`]).
//! Does not own: decoding, lookup versions, writing results.
//! Rule: a query is planned once per job; the stream is never the side of a join that is collected.

mod error;
mod functions;
mod open;
mod pace;
mod phrase;
mod pool;
mod probe;
mod rule;
mod sql;
mod table;
#[cfg(test)]
mod tests;
mod unmatched;
mod words;

pub use error::QueryError;
pub use open::{INPUT_BATCHES_MAX, OpenQuery, Pushed, QueryInput, QueryOutput};
pub use pace::Pace;
pub use pool::QueryMemory;
pub use sql::check;
pub use unmatched::{KEY_CHARS_MAX, KEYS_TRACKED_MAX, UnmatchedCounter};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The table name of the stream's rows.
pub const SOURCE: &str = "source";

/// Rows per batch inside a query. A join or a filter hands on its rows when it has half of these together or its input
/// ended, so each holds back fewer than this many rows while the window is open: a bound, not a delay that grows.
pub const BATCH_ROWS: usize = 8192;

/// A query, planned once per job; executed once per window with [`QueryPlan::open`].
#[derive(Clone, Debug)]
pub struct QueryPlan {
    plan: LogicalPlan,
    source_columns: Vec<usize>,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
    lookups: BTreeMap<String, SchemaRef>,
    scan: rule::SourceUse,
}

impl QueryPlan {
    /// Plans `sql` over `source` (lower-case columns) and the lookups, given by name and schema.
    ///
    /// # Errors
    /// [`QueryError::Sql`], with a hint where one can be given.
    pub fn new(source: SchemaRef, lookups: Vec<(String, SchemaRef)>, sql: &str) -> Result<Self, QueryError> {
        let plan = sql::plan(&source, &lookups, sql)?;
        let source_columns = rule::source_columns(&plan, source.fields().len());
        let input_schema = source.project(&source_columns).map_err(|error| QueryError::Plan(error.to_string()))?;
        Ok(Self {
            output_schema: plan.schema().as_arrow().clone().into(),
            scan: rule::source_use(&plan),
            plan,
            source_columns,
            input_schema: input_schema.into(),
            lookups: lookups.into_iter().collect(),
        })
    }

    /// The columns of the result.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// Whether the query is right only over all rows of a window together, so that one task must read all shards.
    /// Otherwise each row of the source is handled alone, and its results may be written while the window is open.
    pub fn whole_window(&self) -> bool {
        self.scan != rule::SourceUse::RowWise
    }

    /// Which columns of the source the query reads, as indexes into the source's schema, ascending. May be empty
    /// (`count(*)`): batches then carry only a number of rows.
    pub fn source_columns(&self) -> &[usize] {
        &self.source_columns
    }

    /// The schema of the batches that [`QueryInput::push`] takes: the source's, cut to [`Self::source_columns`].
    pub fn input_schema(&self) -> &SchemaRef {
        &self.input_schema
    }

    /// The operators that run the query, the last one first, each below the one that reads it: for people.
    ///
    /// # Errors
    /// [`QueryError::Plan`] when the planner fails.
    pub async fn describe(&self) -> Result<String, QueryError> {
        open::describe(self).await
    }

    /// Opens the query for one window. `lookups` holds the rows of every lookup by name; `memory_bytes_max` bounds
    /// what joins, aggregates and kept rows may hold.
    ///
    /// # Errors
    /// [`QueryError::Lookup`] when a lookup is missing, or lacks a column that it was planned with; added columns and another
    /// order do no harm.
    pub async fn open(
        &self,
        lookups: &BTreeMap<String, RecordBatch>,
        memory_bytes_max: usize,
    ) -> Result<OpenQuery, QueryError> {
        open::open(self, lookups, open::Means::of_bytes(memory_bytes_max)).await
    }

    /// As [`Self::open`], with memory that others share, and batches of at most `batch_rows` rows inside: fewer than
    /// [`BATCH_ROWS`] where rows are large, because operators hold back up to half of a batch. It gives way and stops as
    /// `pace` says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_within(
        &self,
        lookups: &BTreeMap<String, RecordBatch>,
        memory: Arc<dyn QueryMemory>,
        batch_rows: usize,
        pace: &Arc<Pace>,
    ) -> Result<OpenQuery, QueryError> {
        open::open(self, lookups, open::Means::shared(memory, batch_rows, pace)).await
    }
}
