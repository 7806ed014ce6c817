//! The query: how a job transforms the rows of a window.
//!
//! Owns: which SQL is allowed ([`sql`], [`allowed`], [`limits`]) and its error messages ([`words`],
//! [`functions`]), what its functions may return ([`bounded`]), the dialect of Spark ([`spark`]),
//! the threads on which it is planned ([`planning`]), whether it needs the whole window ([`rule`]),
//! the columns of a record's place ([`record_columns`]), its execution over a stream of batches
//! ([`open`]), the search for rows that it cannot take ([`steps`], [`naming`]), the count of rows
//! without a match ([`unmatched`]), the figures of its operators ([`profile`]), which rows of a lookup it can use ([`fit`], [`trial`]).
//! Does not own: decoding, lookup versions, writing results.
//! Rule: a query is planned once per job; the stream is never the side of a join that is collected.

mod allowed;
mod bounded;
mod compared;
mod error;
mod fit;
mod functions;
mod json_text;
mod limits;
mod map_keys;
mod names;
mod naming;
mod open;
mod operators;
mod pace;
mod phrase;
mod planning;
mod pool;
mod probe;
mod profile;
mod record_columns;
mod repeatable;
mod rule;
mod spark;
mod sql;
mod steps;
mod strftime;
mod table;
#[cfg(test)]
mod tests;
mod texts;
mod trial;
mod unmatched;
mod words;

pub use error::QueryError;
pub use fit::{Misfit, Needs, fit, lossless};
pub use open::{OpenQuery, QueryInput, QueryOutput};
pub use pace::Pace;
pub use pool::QueryMemory;
pub use profile::QueryProfile;
pub use record_columns::RecordColumn;
pub use steps::{BlamedRow, INPUT_BATCHES_MAX, Pushed};
pub use texts::QueryText;
pub use unmatched::{KEY_CHARS_MAX, KEYS_TRACKED_MAX, UnmatchedCounter};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamctl_proto::Duplicates;

/// The table name of the stream's rows.
pub const SOURCE: &str = "source";

/// Rows per batch inside a query. A join or a filter emits its rows when it has half of these
/// together or its input ends, so each holds back fewer than this many rows while the window is
/// open: a bound, not a delay that grows.
pub const BATCH_ROWS: usize = 8192;

/// Rows per batch inside a query that keeps the rows of its window. It is constant, so that a
/// window that is computed again gives the same rows where several would be valid: the first of
/// equals, a limit.
pub const KEPT_BATCH_ROWS: usize = 1_024;

/// Rows per batch inside a query with functions whose results may be many times their arguments, if
/// it keeps no rows: operators gather rows by number, not by size.
pub const GROWING_BATCH_ROWS: usize = 256;

/// Most columns of a table, and of each part of a query: planning is quadratic in their number.
pub const COLUMNS_MAX: usize = 2_000;
/// Most bytes of one constant: as a column it takes this much for each row.
pub const CONSTANT_BYTES_MAX: u64 = 16 << 10;

/// Checks everything that does not need the columns: that the text is one SELECT over the stream
/// and these lookups. Returns the names of the result's columns, if the text names them all. Blocks
/// the thread.
///
/// # Errors
/// [`QueryError::Sql`], with a hint if there is one.
pub fn check<'a>(
    text: impl Into<QueryText<'a>>,
    lookups: &[&str],
) -> Result<Option<Vec<String>>, QueryError> {
    let text = text.into().owned();
    let lookups: Vec<String> = lookups.iter().map(|name| (*name).to_owned()).collect();
    planning::blocking(move || {
        let names: Vec<&str> = lookups.iter().map(String::as_str).collect();
        sql::check(text.borrowed(), &names)
    })
}

/// A query, planned once per job; executed once per window with [`QueryPlan::open`].
#[derive(Clone, Debug)]
pub struct QueryPlan {
    plan: Arc<LogicalPlan>,
    source_columns: Vec<usize>,
    record_columns: Vec<RecordColumn>,
    /// Both, as indexes into the source's columns with those of records behind them.
    input_columns: Vec<usize>,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
    lookups: BTreeMap<String, SchemaRef>,
    /// The columns of each lookup that it reads.
    lookup_columns: BTreeMap<String, BTreeSet<String>>,
    scan: rule::SourceUse,
    keeps_rows: bool,
    makes_large_rows: bool,
}

impl QueryPlan {
    /// Plans a query over `source` (lower-case columns) and the lookups, given by name and schema, on
    /// its own thread: bounded in time and depth, with few plannings at once.
    ///
    /// [`QueryError::Sql`], with a hint if there is one; [`QueryError::Late`] or
    /// [`QueryError::Busy`] if it cannot be planned in time.
    pub async fn new<'a>(
        source: SchemaRef,
        lookups: Vec<(String, SchemaRef)>,
        text: impl Into<QueryText<'a>>,
    ) -> Result<Self, QueryError> {
        let text = text.into().owned();
        planning::bounded(move || Self::here(source, lookups, text.borrowed())).await
    }

    /// Like [`Self::new`], for tests: blocks the thread.
    #[cfg(test)]
    pub(crate) fn blocking<'a>(
        source: SchemaRef,
        lookups: Vec<(String, SchemaRef)>,
        text: impl Into<QueryText<'a>>,
    ) -> Result<Self, QueryError> {
        let text = text.into().owned();
        planning::blocking(move || Self::here(source, lookups, text.borrowed()))
    }

    fn here(
        source: SchemaRef,
        lookups: Vec<(String, SchemaRef)>,
        text: QueryText<'_>,
    ) -> Result<Self, QueryError> {
        let width = source.fields().len();
        let record_columns::Planned {
            plan,
            columns,
            source,
        } = record_columns::planned(&source, text.sql, |source, hidden| {
            sql::plan(source, hidden, &lookups, text)
        })?;
        let input_columns = rule::source_columns(&plan, source.fields().len());
        let input_schema = source
            .project(&input_columns)
            .map_err(|error| QueryError::Plan(error.to_string()))?;
        let (source_columns, of_records) = input_columns
            .iter()
            .partition::<Vec<usize>, _>(|index| **index < width);
        let record_columns = of_records.iter().map(|index| columns[index - width]);
        Ok(Self {
            output_schema: plan.schema().as_arrow().clone().into(),
            keeps_rows: rule::keeps_rows(&plan),
            makes_large_rows: bounded::makes_large_rows(&plan)
                .map_err(|error| QueryError::Plan(error.to_string()))?,
            scan: rule::source_use(&plan),
            lookup_columns: rule::lookup_columns(&plan),
            plan: Arc::new(plan),
            source_columns,
            record_columns: record_columns.collect(),
            input_columns,
            input_schema: input_schema.into(),
            lookups: lookups.into_iter().collect(),
        })
    }

    /// The columns of the result.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// Whether the query is correct only over all rows of a window together, so that one task must
    /// read all shards. Otherwise each row of the source is handled alone, and its results may be
    /// written while the window is open.
    pub fn whole_window(&self) -> bool {
        self.scan != rule::SourceUse::RowWise
    }

    /// Whether the rows of a window are kept until it is over: the result depends on their order,
    /// or they are read twice.
    pub fn keeps_rows(&self) -> bool {
        self.keeps_rows
    }

    /// The columns of the source that the query reads, as indexes into the source's schema,
    /// ascending. May be empty (`count(*)`): batches then carry only a number of rows.
    pub fn source_columns(&self) -> &[usize] {
        &self.source_columns
    }

    /// The columns of records that the query reads, ascending.
    pub fn record_columns(&self) -> &[RecordColumn] {
        &self.record_columns
    }

    /// The schema of the batches that [`QueryInput::push`] takes: the source's, cut to
    /// [`Self::source_columns`], and [`Self::record_columns`] behind them.
    pub fn input_schema(&self) -> &SchemaRef {
        &self.input_schema
    }

    /// The operators that run the query as text, the last one first, each below the one that reads
    /// it.
    ///
    /// # Errors
    /// [`QueryError::Plan`] if the planner fails.
    pub async fn describe(&self) -> Result<String, QueryError> {
        let query = self.clone();
        planning::bounded(move || open::describe(&query)).await
    }

    /// What the rows of a lookup must have; `None`: there is no such lookup.
    pub fn needs(&self, lookup: &str) -> Option<Needs> {
        Some(Needs {
            columns: Arc::clone(self.lookups.get(lookup)?),
            read: self.lookup_columns.get(lookup).cloned().unwrap_or_default(),
        })
    }

    /// Runs the query on no records, with these rows of one lookup: the keys that more than one of
    /// them has. Computes on the caller's thread.
    ///
    /// # Errors
    /// [`QueryError::Lookup`] if the rows do not fit, [`QueryError::Rows`] if the query fails on
    /// one of them.
    pub async fn trial(
        &self,
        lookup: &str,
        rows: &RecordBatch,
        memory_bytes_max: usize,
    ) -> Result<Duplicates, QueryError> {
        trial::run(self, lookup, rows, memory_bytes_max).await
    }

    /// Opens the query for one window. `lookups` holds the rows of every lookup by name;
    /// `memory_bytes_max` bounds what joins, aggregates and kept rows may hold.
    ///
    /// # Errors
    /// [`QueryError::Lookup`] if a lookup is missing or lacks a column that the query reads. Added
    /// columns and another order are harmless.
    pub async fn open(
        &self,
        lookups: &BTreeMap<String, RecordBatch>,
        memory_bytes_max: usize,
    ) -> Result<OpenQuery, QueryError> {
        open::open(
            self,
            lookups,
            open::QueryResources::of_bytes(memory_bytes_max),
        )
        .await
    }

    /// Like [`Self::open`], with shared memory, and batches of at most `batch_rows` rows inside:
    /// fewer than [`BATCH_ROWS`] if rows are large, because operators hold back up to half of a
    /// batch. `pace` controls when it yields and stops.
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
        open::open(
            self,
            lookups,
            open::QueryResources::shared(memory, batch_rows, pace),
        )
        .await
    }
}
