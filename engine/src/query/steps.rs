//! The part of a plan that handles each row of the stream alone, run on one pushed batch after the
//! other.
//!
//! Owns: which part that is, its runs, the search for rows that it cannot take. Does not own: the
//! names in an error (`naming`), what becomes of such a row (the caller).
//! Rule: nothing of a run is passed on before the run is over, so rows of a run that failed are
//! never there twice. A row is blamed only if it fails alone and no rows at all do not: its outcome
//! does not depend on its neighbours.
//!
//! A batch is computed whole. If that fails on a row's data, its halves are computed, and so on down
//! to one row: a row that cannot be taken costs about two evaluations of its batch, and a batch of
//! nothing else at most one evaluation of each row per halving ([`super::BATCH_ROWS`]: 13). The
//! plan stays between runs: joins keep what they collected of lookups.

use super::bounded::with_arguments_below;
use super::error::{QueryError, with_advice};
use super::naming::{is_of_rows, is_plain};
use super::probe::reads_source;
use super::profile::StepsPlan;
use super::table::{Feed, PushedRows, RunRows, TableExec};
use super::unmatched::UnmatchedCounter;
use super::{Pace, QueryPlan};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that may wait between the decoder and the query.
pub const INPUT_BATCHES_MAX: usize = 4;

/// A run holds back its result until it is over: at most this much beyond its first batch, or
/// [`HELD_TIMES_MAX`] times its rows. If it is more, fewer rows are computed at once; the result of
/// one row is computed a second time.
const HELD_BYTES_MAX: usize = 8 << 20;
const HELD_TIMES_MAX: usize = 4;
/// Every operator keeps some figures of each run. After this many runs the plan begins anew.
const RUNS_MAX: usize = 2_048;

/// Operators that return for each row what they return for it alone, whatever rows come with it.
const ROW_WISE: [&str; 5] = [
    "CoalesceBatchesExec",
    "CooperativeExec",
    "FilterExec",
    "ProjectionExec",
    "UnnestExec",
];
/// Operators that hold back rows until they have many.
const GATHERING: [&str; 4] = [
    "CrossJoinExec",
    "FilterExec",
    "HashJoinExec",
    "NestedLoopJoinExec",
];

/// Whether a batch was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// The query reads no more rows: it has all that it needs (a limit), or it failed; the output
    /// returns the reason.
    NotNeeded,
}

/// A row of a pushed batch that the query cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlamedRow {
    /// Its place in the batch, from 0.
    pub row: usize,
    /// The expression, its error and the values that it read, as far as known.
    pub reason: String,
}

/// A plan in two parts.
pub(super) struct Split {
    /// Run on each batch.
    pub steps: Arc<dyn ExecutionPlan>,
    /// What `steps` reads.
    pub rows: Arc<RunRows>,
    /// The rest, which reads the result of the first part, and where that goes.
    pub rest: Option<(Arc<dyn ExecutionPlan>, mpsc::Sender<PushedRows>)>,
}

/// Computes the arguments of aggregates below them, so that a row at which one fails can be found.
pub(super) fn arguments_below(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let rewrite = |node: Arc<dyn ExecutionPlan>| match with_arguments(&node)? {
        Some(replaced) => Ok(Transformed::yes(replaced)),
        None => Ok(Transformed::no(node)),
    };
    Ok(plan.transform_up(rewrite)?.data)
}

fn with_arguments(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
        return Ok(None);
    };
    let is_first = match aggregate.mode() {
        AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned => true,
        AggregateMode::Final | AggregateMode::FinalPartitioned | AggregateMode::PartialReduce => {
            false
        }
    };
    // Rows that a FILTER leaves out must not fail.
    let is_filtered = aggregate.filter_expr().iter().any(Option::is_some);
    if !is_first || is_filtered || !is_row_wise(aggregate.input()) {
        return Ok(None);
    }
    let has_columns = |expr: &Arc<dyn PhysicalExpr>| {
        Ok(!is_plain(expr) && expr.exists(|part| Ok(part.is::<Column>()))?)
    };
    with_arguments_below(aggregate, has_columns, |projection: ProjectionExec| {
        Ok(Some(Arc::new(projection)))
    })
}

/// Cuts a finished plan. `None`: no part of it can be run on each batch and fail there.
pub(super) fn split(plan: &Arc<dyn ExecutionPlan>, query: &QueryPlan) -> Result<Option<Split>> {
    let Some(top) = top_of_steps(plan) else {
        return Ok(None);
    };
    let is_whole = Arc::ptr_eq(&top, plan);
    if !may_fail(&top)? || (!is_whole && has_subquery(&top)?) {
        return Ok(None);
    }
    let rows = Arc::new(RunRows::new(
        Arc::clone(&query.input_schema),
        query.input_columns.clone(),
    ));
    let steps = replace(&top, &|node| {
        let table = node.downcast_ref::<TableExec>()?;
        table
            .is_source()
            .then(|| Arc::new(table.of_run(Arc::clone(&rows))) as _)
    })?;
    let rest = if is_whole {
        None
    } else {
        let (sender, receiver) = mpsc::channel(INPUT_BATCHES_MAX);
        let columns = (0..top.schema().fields().len()).collect();
        let feed = Feed::new(receiver, columns, false);
        let leaf: Arc<dyn ExecutionPlan> = Arc::new(TableExec::after(&top, feed));
        let rest = replace(plan, &|node| {
            Arc::ptr_eq(node, &top).then(|| Arc::clone(&leaf))
        })?;
        Some((rest, sender))
    };
    Ok(Some(Split { steps, rows, rest }))
}

/// What takes the place of a node, if it is replaced.
type Replacement<'r> = &'r dyn Fn(&Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>>;

/// Replaces nodes, from the top; what is below a replaced one stays.
fn replace(plan: &Arc<dyn ExecutionPlan>, by: Replacement<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    let replaced = Arc::clone(plan).transform_down(|node| {
        Ok(match by(&node) {
            Some(other) => Transformed::new(other, true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    })?;
    Ok(replaced.data)
}

/// The highest operator whose part of the plan can be run on each batch.
fn top_of_steps(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if is_row_wise(plan) {
        return Some(Arc::clone(plan));
    }
    top_of_steps(source_side(plan)?.1)
}

/// The only input that reads the stream, and its number.
fn source_side(plan: &Arc<dyn ExecutionPlan>) -> Option<(usize, &Arc<dyn ExecutionPlan>)> {
    let children = plan.children().into_iter().enumerate();
    let mut of_source = children.filter(|(_, child)| reads_source(child));
    match (of_source.next(), of_source.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

fn is_row_wise(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(table) = plan.downcast_ref::<TableExec>() {
        return table.is_source();
    }
    let Some((number, input)) = source_side(plan) else {
        return false;
    };
    let by_row = if ROW_WISE.contains(&plan.name()) {
        plan.fetch().is_none()
    } else if plan.name() == "ScalarSubqueryExec" {
        number == 0
    } else {
        number == 1 && is_probed(plan)
    };
    by_row && is_row_wise(input)
}

/// Whether the join keeps its left side between runs, and returns for each row of its right side
/// what it returns for it alone.
fn is_probed(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let by_right = |join_type: JoinType| match join_type {
        JoinType::Inner
        | JoinType::Right
        | JoinType::RightSemi
        | JoinType::RightAnti
        | JoinType::RightMark => true,
        JoinType::Left
        | JoinType::Full
        | JoinType::LeftSemi
        | JoinType::LeftAnti
        | JoinType::LeftMark => false,
    };
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return by_right(*join.join_type())
            && *join.partition_mode() == PartitionMode::CollectLeft
            && !join.null_aware
            && plan.fetch().is_none();
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        return by_right(*join.join_type());
    }
    plan.is::<CrossJoinExec>()
}

/// Whether an operator can fail on a row: not if it only passes on columns.
fn may_fail(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let passes_on = node.children().is_empty()
            || node.name() == "CooperativeExec"
            || node
                .downcast_ref::<ProjectionExec>()
                .is_some_and(|projection| {
                    projection.expr().iter().all(|part| is_plain(&part.expr))
                });
        Ok(!passes_on)
    })
}

/// Whether a value comes from an operator above.
fn has_subquery(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(&mut |expr| {
            found |= expr.exists(|part| Ok(part.is::<ScalarSubqueryExpr>()))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    })
}

/// Runs the first part of a plan, and passes its result on.
pub(super) struct Steps {
    plan: Arc<StepsPlan>,
    rows: Arc<RunRows>,
    sender: mpsc::Sender<PushedRows>,
    task: Arc<TaskContext>,
    pace: Arc<Pace>,
    unmatched: UnmatchedCounter,
    memory_bytes_max: usize,
    runs: usize,
    /// Rows that are computed at once, at most.
    rows_max: usize,
    /// The plan was run on no rows, and did not fail.
    is_sound: bool,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

/// The outcome of a run.
enum Run {
    /// Its whole result.
    Done(PushedRows),
    /// Its result is too large to be held.
    TooLarge,
    Failed(DataFusionError),
}

/// A part of a batch.
#[derive(Clone, Copy)]
struct Part {
    from: usize,
    count: usize,
    /// Its rows are of one record: all of them are taken, or none.
    is_whole: bool,
}

impl Part {
    /// The first `count` rows, and the others.
    fn split_at(self, count: usize) -> [Part; 2] {
        let Part {
            from, count: all, ..
        } = self;
        let part = |from, count| Part {
            from,
            count,
            is_whole: false,
        };
        [part(from, count), part(from + count, all - count)]
    }

    /// The parts of a batch, the last one first. `together`: rows of one record each, ascending.
    fn of_batch(rows: usize, together: &[Range<usize>]) -> Vec<Self> {
        let mut parts = Vec::with_capacity(2 * together.len() + 1);
        let mut at = 0;
        let all = together.iter().cloned().chain(std::iter::once(rows..rows));
        for Range { start, end } in all {
            let part = |from, to, is_whole| Part {
                from,
                count: to - from,
                is_whole,
            };
            parts.extend([part(at, start, false), part(start, end, true)]);
            at = end;
        }
        parts.reverse();
        parts
    }

    fn can_be_split(self) -> bool {
        self.count > 1 && !self.is_whole
    }
}

/// The first part of a query, the receiver of its result or the rest of the plan.
pub(super) enum Following {
    Rows {
        receiver: mpsc::Receiver<PushedRows>,
        /// Rows are gathered into batches of half of this many at least.
        gathers: bool,
    },
    Plan(SendableRecordBatchStream),
}

impl Split {
    /// Starts the plan on one window; `plan` is that of the steps.
    pub(super) fn start(
        self,
        plan: Arc<StepsPlan>,
        task: Arc<TaskContext>,
        pace: &Arc<Pace>,
        unmatched: UnmatchedCounter,
        memory_bytes_max: usize,
    ) -> Result<(Steps, Following)> {
        let (sender, following) = match self.rest {
            Some((rest, sender)) => {
                let stream = execute_stream(rest, Arc::clone(&task))?;
                (sender, Following::Plan(stream))
            }
            None => {
                let (sender, receiver) = mpsc::channel(INPUT_BATCHES_MAX);
                let gathers = self
                    .steps
                    .exists(|node| Ok(GATHERING.contains(&node.name())))?;
                (sender, Following::Rows { receiver, gathers })
            }
        };
        let steps = Steps {
            plan,
            rows: self.rows,
            sender,
            task,
            pace: Arc::clone(pace),
            unmatched,
            memory_bytes_max,
            runs: 0,
            rows_max: usize::MAX,
            is_sound: false,
        };
        Ok((steps, following))
    }
}

impl Steps {
    /// Computes a batch and passes the result on. Adds the rows that the query cannot take to
    /// `blamed`, in their order, the first one for rows that go `together`; the result is that of
    /// the others.
    pub(super) async fn push(
        &mut self,
        batch: &RecordBatch,
        together: &[Range<usize>],
        blamed: &mut Vec<BlamedRow>,
    ) -> Result<Pushed, QueryError> {
        let pushed = self.compute(batch, together, blamed).await;
        // The caller gives back the batch's memory now.
        self.rows.clear();
        pushed
    }

    async fn compute(
        &mut self,
        batch: &RecordBatch,
        together: &[Range<usize>],
        blamed: &mut Vec<BlamedRow>,
    ) -> Result<Pushed, QueryError> {
        let held_max = HELD_BYTES_MAX.max(HELD_TIMES_MAX * batch.get_array_memory_size());
        let mut left = Part::of_batch(batch.num_rows(), together);
        while let Some(part) = left.pop() {
            if part.count == 0 {
                continue;
            }
            if part.count > self.rows_max && part.can_be_split() {
                let [first, others] = part.split_at(self.rows_max);
                left.extend([others, first]);
                continue;
            }
            let rows = batch.slice(part.from, part.count);
            match self.run(&rows, held_max).await {
                Run::Done(result) => {
                    if part.count == self.rows_max && bytes_of(&result) < held_max / 4 {
                        self.rows_max = self.rows_max.saturating_mul(2);
                    }
                    if self.pass_on(result).await == Pushed::NotNeeded {
                        return Ok(Pushed::NotNeeded);
                    }
                }
                Run::TooLarge if part.can_be_split() => {
                    self.rows_max = part.count / 2;
                    left.push(part);
                }
                Run::TooLarge => match self.run_twice(&rows).await? {
                    Ok(Pushed::Taken) => {}
                    Ok(Pushed::NotNeeded) => return Ok(Pushed::NotNeeded),
                    Err(error) => blamed.push(self.blame(part.from, &error).await?),
                },
                Run::Failed(error) if part.can_be_split() => {
                    self.check(&error).await?;
                    let [first, others] = part.split_at(part.count.div_ceil(2));
                    left.extend([others, first]);
                }
                Run::Failed(error) => blamed.push(self.blame(part.from, &error).await?),
            }
        }
        Ok(Pushed::Taken)
    }

    /// Runs the plan on these rows and holds its result.
    async fn run(&mut self, rows: &RecordBatch, held_max: usize) -> Run {
        let memory = MemoryConsumer::new("a result that is held until it is whole")
            .register(self.task.memory_pool());
        let mut result = PushedRows {
            shard: None,
            batches: Vec::new(),
            memory: None,
        };
        let mut held = 0;
        let mut stream = match self.begin(rows) {
            Ok(stream) => stream,
            Err(error) => return Run::Failed(error),
        };
        while let Some(next) = stream.next().await {
            let batch = match next {
                Ok(batch) if batch.num_rows() == 0 => continue,
                Ok(batch) => batch,
                Err(error) => return Run::Failed(error),
            };
            if !result.batches.is_empty() {
                held += batch.get_array_memory_size();
                if held > held_max || memory.try_resize(held).is_err() {
                    return Run::TooLarge;
                }
            }
            result.batches.push(batch);
        }
        result.memory = (held > 0).then_some(memory);
        self.unmatched.end_run();
        Run::Done(result)
    }

    fn begin(&mut self, rows: &RecordBatch) -> Result<SendableRecordBatchStream> {
        self.runs += 1;
        if self.runs > RUNS_MAX {
            self.plan.begin_anew()?;
            self.runs = 1;
        }
        self.rows.set(rows.clone());
        self.unmatched.begin_run();
        execute_stream(self.plan.plan(), Arc::clone(&self.task))
    }

    /// Runs the plan on one row whose result cannot be held: first to see whether it fails. Inner
    /// error: it does.
    async fn run_twice(
        &mut self,
        row: &RecordBatch,
    ) -> Result<Result<Pushed, DataFusionError>, QueryError> {
        let mut stream = match self.begin(row) {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(next) = stream.next().await {
            if let Err(error) = next {
                return Ok(Err(error));
            }
        }
        let mut stream = match self.begin(row) {
            Ok(stream) => stream,
            Err(error) => return Err(self.query_error(&error)),
        };
        while let Some(next) = stream.next().await {
            let batch = next.map_err(|error| self.query_error(&error))?;
            let result = PushedRows {
                shard: None,
                batches: vec![batch],
                memory: None,
            };
            if self.pass_on(result).await == Pushed::NotNeeded {
                return Ok(Ok(Pushed::NotNeeded));
            }
        }
        self.unmatched.end_run();
        Ok(Ok(Pushed::Taken))
    }

    async fn pass_on(&self, result: PushedRows) -> Pushed {
        if result.batches.is_empty() {
            return Pushed::Taken;
        }
        match self.sender.send(result).await {
            Ok(()) => Pushed::Taken,
            Err(_) => Pushed::NotNeeded,
        }
    }

    /// An error that is of no row's data ends the query.
    async fn check(&mut self, error: &DataFusionError) -> Result<(), QueryError> {
        if self.pace.is_cancelled() || !is_of_rows(error) {
            return Err(self.query_error(error));
        }
        if self.is_sound {
            return Ok(());
        }
        let none = RecordBatch::new_empty(self.rows.schema());
        if let Run::Failed(error) = self.run(&none, HELD_BYTES_MAX).await {
            return Err(self.query_error(&error));
        }
        self.is_sound = true;
        Ok(())
    }

    /// The only row of a run that failed.
    async fn blame(
        &mut self,
        row: usize,
        error: &DataFusionError,
    ) -> Result<BlamedRow, QueryError> {
        self.check(error).await?;
        let reason = with_advice(super::phrase::plain(&error.find_root().message()));
        Ok(BlamedRow { row, reason })
    }

    fn query_error(&self, error: &DataFusionError) -> QueryError {
        QueryError::at_run_time(error, self.memory_bytes_max)
    }
}

fn bytes_of(result: &PushedRows) -> usize {
    result.memory.as_ref().map_or(0, MemoryReservation::size)
}
