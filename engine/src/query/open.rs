//! A query running on one window.
//!
//! Owns: the bounded channel in, the stream out, the memory limit.
//! Rule: a slow reader of the output blocks the pusher; closing the input ends the window.

use super::error::QueryError;
use super::pace::{Pace, paced};
use super::pool::{QueryMemory, SharedPool};
use super::table::{Feed, PushedRows, Rows};
use super::unmatched::{UnmatchedCounter, count_unmatched};
use super::{BATCH_ROWS, GROWING_BATCH_ROWS, KEPT_BATCH_ROWS, QueryPlan, SOURCE, bounded, sql};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use futures::{FutureExt, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that may wait between the decoder and the query.
pub const INPUT_BATCHES_MAX: usize = 4;

/// A query that takes the rows of one window. Two tasks use input and output, or one task in turn:
/// a waiting pusher makes progress only while the output is read.
#[derive(Debug)]
pub struct OpenQuery {
    /// The window's rows go in here.
    pub input: QueryInput,
    /// The result comes out here.
    pub output: QueryOutput,
    /// Rows without a match; final when the output has ended.
    pub unmatched: UnmatchedCounter,
}

/// Takes the rows of one window. Dropping it ends the window.
#[derive(Debug)]
pub struct QueryInput {
    sender: mpsc::Sender<PushedRows>,
    schema: SchemaRef,
    keeps: bool,
}

/// Whether a batch was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// The query reads no more rows: it has all that it needs (a limit), or it failed; the output
    /// returns the reason.
    NotNeeded,
}

impl QueryInput {
    /// Pushes a batch of [`QueryPlan::input_schema`], of one shard, whose rows must come in their
    /// order; waits while [`INPUT_BATCHES_MAX`] are unread.
    ///
    /// # Errors
    /// [`QueryError::Input`] for a batch of another schema.
    pub async fn push(&self, shard: &str, batch: RecordBatch) -> Result<Pushed, QueryError> {
        let types = |schema: &SchemaRef| {
            schema
                .fields()
                .iter()
                .map(|field| field.data_type().clone())
                .collect::<Vec<_>>()
        };
        if types(&batch.schema()) != types(&self.schema) {
            return Err(QueryError::Input(format!(
                "{:?}, not {:?}",
                batch.schema().fields(),
                self.schema.fields()
            )));
        }
        let rows = PushedRows {
            shard: self.keeps.then(|| shard.to_owned()),
            batch,
        };
        Ok(self
            .sender
            .send(rows)
            .await
            .map_or(Pushed::NotNeeded, |()| Pushed::Taken))
    }

    /// Ends the window: the output returns the rest and ends.
    pub fn close(self) {}
}

/// Returns the result of one window.
pub struct QueryOutput {
    /// `None` when it ended: a pusher must not wait for a reader that is gone.
    stream: Option<SendableRecordBatchStream>,
    memory_bytes_max: usize,
}

impl std::fmt::Debug for QueryOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryOutput").finish_non_exhaustive()
    }
}

impl QueryOutput {
    /// The next rows; `None` when the window is over. Computes on the caller's thread. Skips empty
    /// batches.
    ///
    /// # Errors
    /// [`QueryError::Rows`] or [`QueryError::Memory`]; nothing follows an error.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        while let Some(stream) = &mut self.stream {
            match stream.next().await {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => return Ok(Some(batch)),
                Some(Err(error)) => {
                    self.stream = None;
                    return Err(QueryError::at_run_time(&error, self.memory_bytes_max));
                }
                None => self.stream = None,
            }
        }
        Ok(None)
    }
}

/// The resources of a query.
pub(super) struct QueryResources {
    pool: Arc<dyn MemoryPool>,
    memory_bytes_max: usize,
    batch_rows: usize,
    pace: Arc<Pace>,
}

impl QueryResources {
    pub fn of_bytes(memory_bytes_max: usize) -> Self {
        Self {
            pool: Arc::new(GreedyMemoryPool::new(memory_bytes_max)),
            memory_bytes_max,
            batch_rows: BATCH_ROWS,
            pace: Arc::default(),
        }
    }
    /// Uses shared memory.
    pub fn shared(memory: Arc<dyn QueryMemory>, batch_rows: usize, pace: &Arc<Pace>) -> Self {
        let memory_bytes_max = memory.most();
        Self {
            pool: Arc::new(SharedPool(memory)),
            memory_bytes_max,
            batch_rows: batch_rows.clamp(1, BATCH_ROWS),
            pace: Arc::clone(pace),
        }
    }
}

pub(super) async fn open(
    query: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
    resources: QueryResources,
) -> Result<OpenQuery, QueryError> {
    let memory_bytes_max = resources.memory_bytes_max;
    let lookups = fitted(query, lookups)?;
    let (sender, receiver) = mpsc::channel(INPUT_BATCHES_MAX);
    let keeps = query.keeps_rows;
    let feed = Feed::new(receiver, query.input_columns.clone(), keeps);
    let unmatched = UnmatchedCounter::default();
    // If the order of rows matters, so do the sizes of batches inside: they decide ties.
    let batch_rows = if keeps {
        KEPT_BATCH_ROWS
    } else if query.makes_large_rows {
        resources.batch_rows.min(GROWING_BATCH_ROWS)
    } else {
        resources.batch_rows
    };
    let resources = QueryResources {
        batch_rows,
        ..resources
    };
    let stream = start(query, &lookups, Arc::new(feed), resources, &unmatched).await;
    let stream = stream.map_err(|error| QueryError::at_start(&error, memory_bytes_max))?;
    Ok(OpenQuery {
        input: QueryInput {
            sender,
            schema: Arc::clone(&query.input_schema),
            keeps,
        },
        output: QueryOutput {
            stream: Some(stream),
            memory_bytes_max,
        },
        unmatched,
    })
}

async fn start(
    query: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
    feed: Arc<Feed>,
    resources: QueryResources,
    unmatched: &UnmatchedCounter,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let state = sql::session(runtime(resources.pool)?, resources.batch_rows);
    let plan = physical(query, lookups, feed, &state).await?;
    let plan = count_unmatched(plan, unmatched)?;
    let plan = bounded::in_pieces(plan)?;
    let plan = paced(plan, &resources.pace)?;
    execute_stream(plan, Arc::new(TaskContext::from(&state)))
}

async fn physical(
    query: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
    feed: Arc<Feed>,
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let bound = sql::with_rows(&query.plan, |name| match name {
        SOURCE => Some(Rows::Stream(Arc::clone(&feed))),
        lookup => lookups.get(lookup).cloned().map(Rows::Held),
    })?;
    drop(feed);
    state
        .query_planner()
        .create_physical_plan(&bound, state)
        .await
}

/// The operators as text, on lookups without rows.
pub(super) fn describe(query: &QueryPlan) -> Result<String, QueryError> {
    let failed = |error: DataFusionError| QueryError::Plan(error.strip_backtrace());
    let empty = |(name, schema): (&String, &SchemaRef)| {
        (name.clone(), RecordBatch::new_empty(Arc::clone(schema)))
    };
    let lookups = query.lookups.iter().map(empty).collect();
    let (_, receiver) = mpsc::channel(INPUT_BATCHES_MAX);
    let feed = Feed::new(receiver, query.input_columns.clone(), query.keeps_rows);
    let state = sql::session(Arc::new(RuntimeEnv::default()), BATCH_ROWS);
    let planned = physical(query, &lookups, Arc::new(feed), &state).now_or_never();
    let plan = planned
        .ok_or_else(|| QueryError::Plan("planning waited for something".into()))?
        .map_err(failed)?;
    Ok(displayable(plan.as_ref())
        .indent(false)
        .to_string()
        .trim_end()
        .to_owned())
}

/// Nothing is spilled: a worker keeps nothing on disk, and reaching a limit is an error that names
/// it.
fn runtime(pool: Arc<dyn MemoryPool>) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()
}

/// The lookups' rows with the planned columns, in the planned order: a column added since is
/// harmless.
fn fitted(
    query: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
) -> Result<BTreeMap<String, RecordBatch>, QueryError> {
    let fit = |(name, planned): (&String, &SchemaRef)| {
        let wrong = |reason: String| QueryError::Lookup {
            name: name.clone(),
            reason,
        };
        let rows = lookups
            .get(name)
            .ok_or_else(|| wrong("it was not loaded".into()))?;
        let mut columns = Vec::with_capacity(planned.fields().len());
        for field in planned.fields() {
            let column = rows.column_by_name(field.name());
            let column =
                column.ok_or_else(|| wrong(format!("its column {:?} is gone", field.name())))?;
            if column.data_type() != field.data_type() {
                let was = field.data_type();
                let is = column.data_type();
                return Err(wrong(format!(
                    "its column {:?} was {was} and is {is} now",
                    field.name()
                )));
            }
            columns.push(Arc::clone(column));
        }
        let rows = RecordBatch::try_new(Arc::clone(planned), columns)
            .map_err(|error| wrong(error.to_string()))?;
        Ok((name.clone(), rows))
    };
    query.lookups.iter().map(fit).collect()
}
