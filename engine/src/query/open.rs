//! A query running on one window.
//!
//! Owns: the bounded channel in, the stream out, the memory limit. Does not own: the part of a query
//! that handles each row alone (`steps`).
//! Rule: a slow reader of the output blocks the pusher; closing the input ends the window.

use super::error::QueryError;
use super::fit;
use super::naming::{Tried, named};
use super::pace::{Pace, paced};
use super::pool::{QueryMemory, SharedPool};
use super::profile::{QueryProfile, StepsPlan};
use super::steps::{
    BlamedRow, Following, INPUT_BATCHES_MAX, Pushed, Split, Steps, arguments_below, split,
};
use super::table::{Feed, PushedRows, Rows};
use super::unmatched::{UnmatchedCounter, count_unmatched};
use super::{BATCH_ROWS, GROWING_BATCH_ROWS, KEPT_BATCH_ROWS, QueryPlan, SOURCE, bounded, sql};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use futures::{FutureExt, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;

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
    /// What its operators did; final when the output has ended.
    pub profile: QueryProfile,
}

/// Takes the rows of one window. Dropping it ends the window.
#[derive(Debug)]
pub struct QueryInput {
    to: Destination,
    schema: SchemaRef,
}

/// Where a pushed batch goes.
#[derive(Debug)]
enum Destination {
    /// Into the plan, which reads it when the output is read.
    Plan {
        sender: mpsc::Sender<PushedRows>,
        keeps: bool,
    },
    /// It is computed at once.
    Steps(Box<Steps>),
}

/// Rows of a few that are tried one by one, to find the one that failed: their batch is computed
/// again in halves.
const TRIED_ROWS_MAX: usize = 64;

impl QueryInput {
    /// Pushes a batch of [`QueryPlan::input_schema`], of one shard, whose rows must come in their
    /// order. A query that handles each row alone computes it now; waits while
    /// [`INPUT_BATCHES_MAX`] are unread.
    ///
    /// # Errors
    /// [`QueryError::Input`] for a batch of another schema. [`QueryError::Rows`] for the first row
    /// that the query cannot take.
    pub async fn push(&mut self, shard: &str, batch: RecordBatch) -> Result<Pushed, QueryError> {
        let mut blamed = Vec::new();
        let pushed = self.push_good(shard, batch, &mut blamed).await?;
        match blamed.into_iter().next() {
            Some(first) => Err(QueryError::Rows(first.reason)),
            None => Ok(pushed),
        }
    }

    /// The same; rows that the query cannot take are left out and added to `blamed`, in their
    /// order.
    ///
    /// # Errors
    /// [`QueryError::Input`] as above; any other error that is not of a single row.
    pub async fn push_good(
        &mut self,
        shard: &str,
        batch: RecordBatch,
        blamed: &mut Vec<BlamedRow>,
    ) -> Result<Pushed, QueryError> {
        self.push_records(shard, batch, &[], blamed).await
    }

    /// The same for records that have several rows: the rows of each range are of one record, and
    /// are taken together or not at all. Of such a record the first row is blamed.
    ///
    /// # Errors
    /// As for [`Self::push_good`].
    pub async fn push_records(
        &mut self,
        shard: &str,
        batch: RecordBatch,
        together: &[Range<usize>],
        blamed: &mut Vec<BlamedRow>,
    ) -> Result<Pushed, QueryError> {
        self.check(&batch)?;
        match &mut self.to {
            Destination::Steps(steps) => steps.push(&batch, together, blamed).await,
            Destination::Plan { sender, keeps } => {
                let rows = PushedRows {
                    shard: keeps.then(|| shard.to_owned()),
                    batches: vec![batch],
                    memory: None,
                };
                let sent = sender.send(rows).await;
                Ok(sent.map_or(Pushed::NotNeeded, |()| Pushed::Taken))
            }
        }
    }

    fn check(&self, batch: &RecordBatch) -> Result<(), QueryError> {
        let types = |schema: &SchemaRef| {
            schema
                .fields()
                .iter()
                .map(|field| field.data_type().clone())
                .collect::<Vec<_>>()
        };
        if types(&batch.schema()) == types(&self.schema) {
            return Ok(());
        }
        Err(QueryError::Input(format!(
            "{:?}, not {:?}",
            batch.schema().fields(),
            self.schema.fields()
        )))
    }

    /// Ends the window: the output returns the rest and ends.
    pub fn close(self) {}
}

/// Returns the result of one window.
pub struct QueryOutput {
    from: ResultRows,
    memory_bytes_max: usize,
}

/// Where the result comes from.
enum ResultRows {
    /// It ended: a pusher must not wait for a reader that is gone.
    Nowhere,
    Plan(SendableRecordBatchStream),
    Steps(Computed),
}

/// Rows that were computed when they were pushed.
struct Computed {
    receiver: mpsc::Receiver<PushedRows>,
    waiting: VecDeque<RecordBatch>,
    /// Gathers small batches into batches of this many rows; 0: none.
    batch_rows: usize,
    gathered: Option<BatchCoalescer>,
}

impl Computed {
    async fn next(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        loop {
            if let Some(full) = self
                .gathered
                .as_mut()
                .and_then(BatchCoalescer::next_completed_batch)
            {
                return Ok(Some(full));
            }
            if let Some(batch) = self.waiting.pop_front() {
                if self.batch_rows == 0 {
                    return Ok(Some(batch));
                }
                let most = self.batch_rows;
                self.gathered
                    .get_or_insert_with(|| {
                        BatchCoalescer::new(batch.schema(), most)
                            .with_biggest_coalesce_batch_size(Some(most / 2))
                    })
                    .push_batch(batch)?;
                continue;
            }
            match (self.receiver.recv().await, &mut self.gathered) {
                (Some(rows), _) => self.waiting.extend(rows.batches),
                (None, Some(gathered)) => {
                    gathered.finish_buffered_batch()?;
                    return Ok(gathered.next_completed_batch());
                }
                (None, None) => return Ok(None),
            }
        }
    }
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
        loop {
            let next = match &mut self.from {
                ResultRows::Nowhere => return Ok(None),
                ResultRows::Plan(stream) => stream.next().await.transpose(),
                ResultRows::Steps(computed) => computed.next().await,
            };
            match next {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                Ok(Some(batch)) => return Ok(Some(batch)),
                Ok(None) => self.from = ResultRows::Nowhere,
                Err(error) => {
                    self.from = ResultRows::Nowhere;
                    return Err(QueryError::at_run_time(&error, self.memory_bytes_max));
                }
            }
        }
    }
}

/// The resources of a query.
pub(super) struct QueryResources {
    pub pool: Arc<dyn MemoryPool>,
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
    let started = start(query, &lookups, (sender, feed), resources, &unmatched).await;
    let Started { to, from, profile } =
        started.map_err(|error| QueryError::at_start(&error, memory_bytes_max))?;
    Ok(OpenQuery {
        input: QueryInput {
            to,
            schema: Arc::clone(&query.input_schema),
        },
        output: QueryOutput {
            from,
            memory_bytes_max,
        },
        unmatched,
        profile,
    })
}

/// A query that runs.
struct Started {
    to: Destination,
    from: ResultRows,
    profile: QueryProfile,
}

async fn start(
    query: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
    (sender, feed): (mpsc::Sender<PushedRows>, Feed),
    resources: QueryResources,
    unmatched: &UnmatchedCounter,
) -> Result<Started, DataFusionError> {
    let QueryResources {
        pool,
        memory_bytes_max,
        batch_rows,
        pace,
    } = resources;
    let keeps = query.keeps_rows;
    let state = sql::session(runtime(pool)?, batch_rows);
    let mut plan = physical(query, lookups, Arc::new(feed), &state).await?;
    if !keeps {
        plan = arguments_below(plan)?;
    }
    let finished = |plan, unmatched: &UnmatchedCounter, tried| {
        let plan = count_unmatched(plan, unmatched)?;
        let plan = bounded::in_pieces(plan)?;
        named(paced(plan, &pace)?, tried)
    };
    let task = Arc::new(TaskContext::from(&state));
    let Some(parts) = (if keeps { None } else { split(&plan, query)? }) else {
        let plan = finished(plan, unmatched, Tried::All)?;
        let profile = QueryProfile::of_plan(&plan);
        let stream = execute_stream(plan, task)?;
        return Ok(Started {
            to: Destination::Plan { sender, keeps },
            from: ResultRows::Plan(stream),
            profile,
        });
    };
    drop((sender, plan));
    let runs = unmatched.of_runs();
    let parts = Split {
        steps: finished(parts.steps, &runs, Tried::Few(TRIED_ROWS_MAX))?,
        rows: parts.rows,
        rest: match parts.rest {
            Some((rest, sender)) => Some((finished(rest, unmatched, Tried::All)?, sender)),
            None => None,
        },
    };
    let plan = Arc::new(StepsPlan::new(Arc::clone(&parts.steps)));
    let profile = QueryProfile::of_steps(parts.rest.as_ref().map(|(rest, _)| rest), &plan);
    let (steps, following) = parts.start(plan, task, &pace, runs, memory_bytes_max)?;
    let from = match following {
        Following::Plan(stream) => ResultRows::Plan(stream),
        Following::Rows { receiver, gathers } => ResultRows::Steps(Computed {
            receiver,
            waiting: VecDeque::new(),
            batch_rows: if gathers { batch_rows } else { 0 },
            gathered: None,
        }),
    };
    Ok(Started {
        to: Destination::Steps(Box::new(steps)),
        from,
        profile,
    })
}

pub(super) async fn physical(
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
pub(super) fn runtime(pool: Arc<dyn MemoryPool>) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()
}

/// The lookups' rows with the planned columns, in the planned order: a column added since is
/// harmless.
pub(super) fn fitted(
    query: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
) -> Result<BTreeMap<String, RecordBatch>, QueryError> {
    let fit = |name: &String| {
        let wrong = |reason: String| QueryError::Lookup {
            name: name.clone(),
            reason,
        };
        let (needs, rows) = query
            .needs(name)
            .zip(lookups.get(name))
            .ok_or_else(|| wrong("it was not loaded".into()))?;
        let rows = fit::fit(rows, &needs).map_err(|misfit| wrong(misfit.to_string()))?;
        Ok((name.clone(), rows))
    };
    query.lookups.keys().map(fit).collect()
}
