//! Limits how long a query computes at a time, and ends it when its result is no longer needed.
//!
//! Owns: the yield points in a plan. Does not own: the order of computation (the worker's
//! `compute`).
//! Rule: DataFusion's operators yield after 128 batches of a *leaf*, of which a cross join or an
//! unnest makes any number of batches. So there is a yield point at each batch between two
//! operators. A join with a condition may run for long without a batch: there, each evaluation of
//! the condition ends the query if it was cancelled. The cost is one look at the clock per operator
//! and batch, none per row.

use super::operators::{Around, Evaluation, Operator, OperatorExec};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, exec_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// The time until which a query may compute now, and whether it may continue at all. The caller
/// sets the time before each poll.
#[derive(Debug)]
pub struct Pace {
    begin: Instant,
    /// Microseconds after `begin`.
    until_us: AtomicU64,
    cancelled: AtomicBool,
    yielded: AtomicBool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            until_us: AtomicU64::new(u64::MAX),
            cancelled: AtomicBool::new(false),
            yielded: AtomicBool::new(false),
        }
    }
}

impl Pace {
    /// Lets the query compute for this long from now on; then it yields and wakes its task.
    pub fn limit(&self, time: Duration) {
        self.until_us
            .store(micros(self.begin.elapsed() + time), Ordering::Relaxed);
    }

    /// The query fails at its next yield point.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the query was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the query yielded since the last call: then it only waits to be polled again.
    pub fn take_yielded(&self) -> bool {
        self.yielded.swap(false, Ordering::Relaxed)
    }

    /// A yield point for loops outside the plan.
    pub async fn yield_point(&self) {
        poll_fn(|context| self.poll_yield(context)).await;
    }

    /// Pending if the time is over. The next poll is in a new turn with new time.
    fn poll_yield(&self, context: &mut Context<'_>) -> Poll<()> {
        if micros(self.begin.elapsed()) < self.until_us.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.yielded.store(true, Ordering::Relaxed);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return exec_err!("the query was cancelled");
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Adds a yield point after every operator of a finished plan.
pub(super) fn paced(
    plan: Arc<dyn ExecutionPlan>,
    pace: &Arc<Pace>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let wrap = |node: Arc<dyn ExecutionPlan>| {
        let input = with_paced_condition(node, pace)?;
        Ok(Transformed::yes(OperatorExec::above(
            input,
            Paced(Arc::clone(pace)),
        )))
    };
    Ok(plan.transform_up(wrap)?.data)
}

/// A join whose condition is seldom true processes all pairs of rows before it returns a batch.
fn with_paced_condition(
    node: Arc<dyn ExecutionPlan>,
    pace: &Arc<Pace>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let paced = |filter: &JoinFilter| {
        let condition = Around::of(filter.expression(), Paced(Arc::clone(pace)));
        JoinFilter::new(
            condition,
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        )
    };
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let join = NestedLoopJoinExecBuilder::new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            *join.join_type(),
        )
        .with_projection_ref(join.projection().clone())
        .with_filter(Some(paced(filter)))
        .build()?;
        return Ok(Arc::new(join));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(paced(filter))).build_exec();
    }
    Ok(node)
}

/// Passes through the rows of its input, or the values of a condition; both fail once the query is
/// cancelled.
#[derive(Debug)]
struct Paced(Arc<Pace>);

impl Operator for Paced {
    const NAME: &'static str = "PacedExec";
    const KEEPS_ORDER: bool = true;
    const IS_MEASURED: bool = false;

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
        Arc::clone(input.properties())
    }

    fn run(
        self: Arc<Self>,
        rows: SendableRecordBatchStream,
        _: SchemaRef,
    ) -> SendableRecordBatchStream {
        Box::pin(PacedStream {
            rows,
            pace: Arc::clone(&self.0),
        })
    }
}

impl Evaluation for Paced {
    fn evaluate(
        &self,
        inner: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
    ) -> Result<ColumnarValue> {
        self.0.check()?;
        inner.evaluate(batch)
    }
}

struct PacedStream {
    rows: SendableRecordBatchStream,
    pace: Arc<Pace>,
}

impl Stream for PacedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(error) = self.pace.check() {
            return Poll::Ready(Some(Err(error)));
        }
        ready!(self.pace.poll_yield(context));
        self.rows.as_mut().poll_next(context)
    }
}

impl RecordBatchStream for PacedStream {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
