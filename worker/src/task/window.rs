//! One window of one task: records in, staged objects out, while the window is open.
//!
//! Owns: decode → query → sink, dead letters, the counts. Does not own: which records belong to it
//! (`shards`), when it closes (`task`).
//! Rule: rows stream through; when the input closes, only the work in flight is left.

use super::bad_share::BadShare;
use super::timed::timed;
use super::{Context, TaskError, reader::Room};
use crate::compute::Workload;
use crate::dead_letter::{DeadLetterContext, DeadLetterSink};
use crate::memory::{Holding, WindowMemory};
use crate::pipeline::{CallContext, Cause, Input, Output, Pipeline, Produced, Taken};
use crate::results::{Results, Rows};
use crate::sink::{self, Staged, Writer, WriterContext};
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_engine::query::{BATCH_ROWS, Pace, QueryError, QueryMemory};
use streamctl_engine::source::Record;
use streamctl_proto::profile::{OPERATORS_MAX, OperatorFigures};
use streamctl_proto::report::{
    NullValues, StageTimes, UnknownKey, UnmatchedKey, most_null, most_unknown, sum_null,
    sum_unknown,
};
use streamctl_proto::spec::JobSpec;
use streamctl_proto::{Counts, LookupVersion, ShardId, StagedObject, TaskId, Window};
use tokio::sync::mpsc;

/// What operators of a query may hold back: they gather rows by number, so large rows are gathered
/// in smaller batches.
const HELD_BACK_BYTES_MAX: usize = 8 << 20;

/// Records of one shard that belong to the window, in order. The permit returns to the shard's
/// reader when they are decoded.
pub struct Feed {
    pub shard: ShardId,
    pub records: Vec<Record>,
    /// Room in the reader's buffer.
    pub permit: Arc<Room>,
}

/// The outcome of a window.
#[derive(Debug)]
pub struct Finished {
    pub objects: Vec<StagedObject>,
    /// The outcome of the records.
    pub counts: Counts,
    pub unmatched: Vec<UnmatchedKey>,
    pub null_values: Vec<NullValues>,
    pub unknown_keys: Vec<UnknownKey>,
    pub stages: StageTimes,
    /// What the query's operators did, from the result down.
    pub operators: Vec<OperatorFigures>,
    /// When the last record was decoded, the last row computed, the last object staged.
    pub over: [Instant; 3],
    pub rows: Rows,
}

/// Which window of which task.
#[derive(Clone, Debug)]
pub struct WindowKey {
    pub task: TaskId,
    pub window: Window,
    pub lookups: BTreeMap<String, LookupVersion>,
    /// Which try at the window it is, from 1.
    pub attempt: u32,
}

impl WindowKey {
    /// What the job's function is given besides rows.
    pub(crate) fn given(
        &self,
        tables: BTreeMap<String, RecordBatch>,
        memory: Arc<dyn QueryMemory>,
    ) -> CallContext {
        CallContext {
            attempt: self.attempt,
            ..given(self.window, &self.lookups, tables, memory)
        }
    }
}

/// What a job's function is given besides rows, at the first try.
pub(crate) fn given(
    window: Window,
    versions: &BTreeMap<String, LookupVersion>,
    tables: BTreeMap<String, RecordBatch>,
    memory: Arc<dyn QueryMemory>,
) -> CallContext {
    let versioned = |(name, rows): (String, RecordBatch)| {
        let version = versions.get(&name)?.clone();
        Some((name, (version, rows)))
    };
    CallContext {
        window,
        attempt: 1,
        memory: Some(memory),
        lookups: tables.into_iter().filter_map(versioned).collect(),
    }
}

/// Runs a window until its input is closed.
pub async fn run(
    context: Arc<Context>,
    which: WindowKey,
    memory: WindowMemory,
    results: Arc<Results>,
    workload: &Workload,
    mut feeds: mpsc::UnboundedReceiver<Feed>,
) -> Result<Finished, TaskError> {
    let pace = &workload.pace;
    // The size of rows is known from the first records; until then there is nothing to do.
    let first = feeds.recv().await;
    let batch_rows = batch_rows(&context, first.as_ref());
    let (plan, tables) = context.plan(&which.lookups).await?;
    let query_memory = Arc::clone(&memory.query);
    let short = |error| query_error(error, &query_memory);
    let open = plan
        .open_within(&tables, Arc::clone(&memory.query) as _, batch_rows, pace)
        .await
        .map_err(short)?;
    let Pipeline {
        input,
        output,
        unmatched,
        profile,
    } = Pipeline::new(
        &context,
        &plan,
        Some(which.window),
        open,
        which.given(tables, Arc::clone(&memory.query) as _),
        Arc::clone(pace),
    )?;
    let profile = Arc::new(profile);
    workload.set_profile(&profile);
    let mut dead = DeadLetterSink::new(dead_letters(&context, &which, &memory));
    let half = sink::of(&context.job.spec.sink);
    let writer_context = writer_context(&context, &which, &memory);
    let result = context.result_schema(&plan)?;
    let sink = half.writer(writer_context, result.clone())?;
    let rows = Rows::new(result, results);
    let counting = Counting::new(&context.job.spec, which.window);
    let fed = async {
        let fed = feed(input, first, feeds, counting, &mut dead).await;
        fed.map_err(|error| match error {
            TaskError::Query(error) => query_error(error, &query_memory),
            error => error,
        })
    };
    let worked = work(fed, drain(output, sink, rows, &query_memory, pace)).await;
    let (fed, drained) = match worked {
        Ok(worked) => worked,
        Err(error) => {
            dead.abort().await;
            return Err(error);
        }
    };
    let Fed {
        mut counts,
        null_values,
        unknown_keys,
        mut stages,
        decoded,
    } = fed;
    let Drained {
        sink,
        rows,
        rows_dead,
        stages: spent,
        function,
        computed,
    } = drained;
    let operators = operators(profile.operators(), function);
    // It holds the plan, and with it the rows of lookups.
    drop(profile);
    let began = Instant::now();
    let Staged {
        mut objects,
        rows_rejected,
    } = match sink.finish().await {
        Ok(staged) => staged,
        Err(error) => {
            dead.abort().await;
            return Err(error.into());
        }
    };
    match dead.finish().await {
        Ok(letters) => objects.extend(letters),
        Err(error) => {
            half.discard(&context.storages, &objects).await;
            return Err(error.into());
        }
    }
    counts.rows_rejected = rows_rejected;
    // The rows that the function put aside are not among those that it returned.
    counts.rows_out = rows.count() + rows_dead - counts.rows_rejected;
    counts.rows_unmatched = unmatched.rows();
    stages.transform_us += spent.transform_us;
    stages.stage_us = spent.stage_us + micros(began.elapsed());
    let over = [decoded, computed, Instant::now()];
    Ok(Finished {
        objects,
        counts,
        unmatched: unmatched.top(),
        null_values: most_null(null_values.iter()),
        unknown_keys: most_unknown(unknown_keys.iter()),
        stages,
        operators,
        over,
        rows,
    })
}

/// The job's function reads the result of the query.
fn operators(
    query: Vec<OperatorFigures>,
    function: Option<OperatorFigures>,
) -> Vec<OperatorFigures> {
    let Some(function) = function else {
        return query;
    };
    let below = query.into_iter().map(|operator| OperatorFigures {
        depth: operator.depth.saturating_add(1),
        ..operator
    });
    std::iter::once(function)
        .chain(below)
        .take(OPERATORS_MAX)
        .collect()
}

/// What became of the records.
struct Fed {
    counts: Counts,
    null_values: Vec<NullValues>,
    unknown_keys: Vec<UnknownKey>,
    stages: StageTimes,
    /// When the last one was decoded.
    decoded: Instant,
}

/// What became of the result.
struct Drained {
    sink: Box<dyn Writer>,
    rows: Rows,
    /// Rows that the function put aside.
    rows_dead: u64,
    stages: StageTimes,
    /// What the job's function did.
    function: Option<OperatorFigures>,
    /// When the last row was computed.
    computed: Instant,
}

/// Feeds and drains at the same time. If the result cannot be written, the input is not awaited: it
/// ends with the window, which may be an hour away.
async fn work(
    feed: impl Future<Output = Result<Fed, TaskError>>,
    drain: impl Future<Output = Result<Drained, TaskError>>,
) -> Result<(Fed, Drained), TaskError> {
    tokio::pin!(feed, drain);
    let (fed, drained) = tokio::select! {
        biased;
        fed = &mut feed => (fed, drain.await),
        drained = &mut drain => {
            let drained = drained?;
            (feed.await, Ok(drained))
        }
    };
    match (fed, drained) {
        (Ok(fed), Ok(drained)) => Ok((fed, drained)),
        // The query can fail because its input broke off, so the input's own error comes first.
        (Err(error), Ok(drained)) => {
            drained.sink.abort().await;
            Err(error)
        }
        (Err(error), Err(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

pub(crate) fn dead_letters(
    context: &Context,
    which: &WindowKey,
    memory: &WindowMemory,
) -> DeadLetterContext {
    let spec = &context.job.spec;
    let path = spec.dead_letters();
    let storage = context.storages.for_location(path.as_str());
    let memory = Arc::clone(&memory.dead);
    DeadLetterContext {
        path,
        job: spec.name.clone(),
        task: which.task,
        window: which.window,
        storage,
        memory,
    }
}

/// How many rows may be gathered inside the query.
fn batch_rows(context: &Context, first: Option<&Feed>) -> usize {
    let records = first.map_or(&[][..], |feed| &feed.records);
    let largest = context.largest_record(
        records
            .iter()
            .map(|record| record.data.len())
            .max()
            .unwrap_or(0),
    );
    (HELD_BACK_BYTES_MAX / largest.max(1)).clamp(1, BATCH_ROWS)
}

/// If others hold the memory that a query needs, it waits; if it could never have had it, it fails.
fn query_error(error: QueryError, memory: &Holding) -> TaskError {
    match error {
        // Others do not leave half of all by chance: such a query is too large for this worker.
        QueryError::Memory { detail, .. } if memory.used() < memory.most() / 2 => {
            TaskError::QueryWaits(detail)
        }
        error => error.into(),
    }
}

pub(crate) fn writer_context(
    context: &Context,
    which: &WindowKey,
    memory: &WindowMemory,
) -> WriterContext {
    let spec = &context.job.spec;
    WriterContext {
        job: spec.name.clone(),
        task: which.task,
        window: which.window,
        storages: context.storages.clone(),
        rejected: spec.dead_letters(),
        memory: Arc::clone(&memory.sink),
    }
}

/// The figures of a window's records.
struct Counting {
    counts: Counts,
    null_values: Vec<NullValues>,
    unknown_keys: Vec<UnknownKey>,
    share: BadShare,
    /// The window, if records outside of it are late.
    late_in: Option<Window>,
}

impl Counting {
    fn new(spec: &JobSpec, window: Window) -> Self {
        let kind = &spec.source.kind;
        Self {
            counts: Counts {
                rows_foreign: kind.aggregates().map(|_| 0),
                ..Counts::default()
            },
            null_values: Vec::new(),
            unknown_keys: Vec::new(),
            share: BadShare::new(spec.query_errors),
            late_in: kind.keeps_arrival().then_some(window),
        }
    }

    fn add(&mut self, shard: &ShardId, now: &[Record], taken: &Taken) -> Result<(), TaskError> {
        let counts = &mut self.counts;
        counts.rows_in += now.len() as u64;
        counts.bytes_in += now.iter().map(|one| one.data.len() as u64).sum::<u64>();
        let is_late = |record: &&Record| self.late_in.is_some_and(|window| record.is_late(window));
        counts.rows_late += now.iter().filter(is_late).count() as u64;
        let lacks_arrival = |record: &&Record| record.lacks_arrival();
        counts.rows_without_arrival += now.iter().filter(lacks_arrival).count() as u64;
        counts.rows_dead += taken.dead.len() as u64;
        counts.rows_decoded += (now.len() - taken.dead.len()) as u64 + taken.further_rows;
        counts.rows_further += taken.further_rows;
        counts.values_null += taken.nulls.iter().map(|null| null.values).sum::<u64>();
        if !taken.nulls.is_empty() {
            self.null_values.extend_from_slice(&taken.nulls);
            self.null_values = sum_null(self.null_values.iter());
        }
        if !taken.unknown_keys.is_empty() {
            self.unknown_keys.extend_from_slice(&taken.unknown_keys);
            self.unknown_keys = sum_unknown(self.unknown_keys.iter());
        }
        counts.rows_failed += taken.dead_by(Cause::Query);
        if let Some(foreign) = &mut counts.rows_foreign {
            *foreign += now.iter().map(|one| one.foreign.count()).sum::<u64>();
        }
        self.share.add(shard, now, taken)
    }
}

/// Gives the query what comes, until the window closes.
async fn feed(
    mut input: Input<'_>,
    first: Option<Feed>,
    mut feeds: mpsc::UnboundedReceiver<Feed>,
    mut counting: Counting,
    dead: &mut DeadLetterSink,
) -> Result<Fed, TaskError> {
    let mut stages = StageTimes::default();
    let mut next = first;
    while let Some(feed) = next {
        let mut rest = feed.records.as_slice();
        while !rest.is_empty() {
            let taken = input.take(&feed.shard, rest).await?;
            let (now, later) = rest.split_at(taken.records);
            rest = later;
            stages.decode_us += micros(taken.decoding);
            stages.transform_us += micros(taken.computing);
            counting.add(&feed.shard, now, &taken)?;
            for one in &taken.dead {
                dead.write(&feed.shard, &now[one.index], &one.reason)
                    .await?;
            }
        }
        drop(feed);
        next = feeds.recv().await;
    }
    counting.share.check()?;
    Ok(Fed {
        counts: counting.counts,
        null_values: counting.null_values,
        unknown_keys: counting.unknown_keys,
        stages,
        decoded: Instant::now(),
    })
}

/// Stages the rows that the query returns.
async fn drain(
    mut output: Output<'_>,
    mut sink: Box<dyn Writer>,
    mut rows: Rows,
    memory: &Holding,
    pace: &Pace,
) -> Result<Drained, TaskError> {
    let mut stages = StageTimes::default();
    let mut rows_dead = 0;
    loop {
        let mut computed = Duration::ZERO;
        let next = timed(&mut computed, output.next()).await;
        stages.transform_us += micros(computed);
        let produced = match next {
            Ok(Some(produced)) => produced,
            Ok(None) => {
                return Ok(Drained {
                    sink,
                    rows,
                    rows_dead,
                    stages,
                    function: output.function(),
                    computed: Instant::now(),
                });
            }
            Err(error) => {
                sink.abort().await;
                return Err(match error {
                    TaskError::Query(error) => query_error(error, memory),
                    error => error,
                });
            }
        };
        let began = Instant::now();
        let written = match produced {
            Produced::Rows(batch) => {
                rows.keep(&batch);
                sink.write(batch).await
            }
            Produced::Dead(dead) => {
                rows_dead += dead.reasons.len() as u64;
                sink.write_dead(dead).await
            }
        };
        if let Err(error) = written {
            sink.abort().await;
            return Err(error.into());
        }
        stages.stage_us += micros(began.elapsed());
        pace.yield_point().await;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
