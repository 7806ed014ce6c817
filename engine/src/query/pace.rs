//! How long a query computes at a time, and that it stops when nobody wants its result any more.
//!
//! Owns: the wrapper around each operator that looks at the time and at the cancellation. Does not own: whose turn it is.
//! Rule: DataFusion's operators give way after 128 batches of a *leaf*; a join, a filter or an unnest makes any number of
//! batches of one of those. So every batch between any two operators, and every evaluation of the condition of a nested
//! loop join, is a place to stop.

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::Stream;
use std::fmt;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Until when a query may compute now, and whether it may at all. Whoever polls the query sets the time.
#[derive(Debug)]
pub struct Pace {
    begin: Instant,
    /// Microseconds after `begin`.
    until_us: AtomicU64,
    cancelled: AtomicBool,
    gave_way: AtomicBool,
}

impl Default for Pace {
    /// Without a limit.
    fn default() -> Self {
        let (cancelled, gave_way) = Default::default();
        Self { begin: Instant::now(), until_us: AtomicU64::new(u64::MAX), cancelled, gave_way }
    }
}

impl Pace {
    /// It may compute for so long from now on; then it gives way and wants to be polled again.
    pub fn limit(&self, time: Duration) {
        self.until_us.store(micros(self.begin.elapsed() + time), Ordering::Relaxed);
    }

    /// It fails at the next place to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it gave way since this was last asked: it does not wait for anything, it only has no time.
    pub fn gave_way(&self) -> bool {
        self.gave_way.swap(false, Ordering::Relaxed)
    }

    /// For loops outside of the query: gives way when the time is over.
    pub async fn give_way(&self) {
        let mut gave = false;
        poll_fn(|context| {
            if gave || !self.is_over() {
                return Poll::Ready(());
            }
            gave = true;
            self.gave_way.store(true, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Nobody wants the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        micros(self.begin.elapsed()) >= self.until_us.load(Ordering::Relaxed)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Puts a place to stop behind every operator of a finished plan.
pub(super) fn paced(plan: Arc<dyn ExecutionPlan>, pace: &Arc<Pace>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrap = |node: Arc<dyn ExecutionPlan>| {
        let input = stoppable(node, pace)?;
        let node: Arc<dyn ExecutionPlan> = Arc::new(PacedExec { input, pace: Arc::clone(pace) });
        Ok(Transformed::yes(node))
    };
    Ok(plan.transform_up(wrap)?.data)
}

/// A nested loop join whose condition is seldom true goes on over all pairs without giving a batch.
fn stoppable(node: Arc<dyn ExecutionPlan>, pace: &Arc<Pace>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(node) };
    let Some(filter) = join.filter() else { return Ok(node) };
    let condition = Arc::new(PacedExpr { inner: Arc::clone(filter.expression()), pace: Arc::clone(pace) });
    let filter = JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()));
    let join = NestedLoopJoinExecBuilder::new(Arc::clone(join.left()), Arc::clone(join.right()), *join.join_type())
        .with_projection_ref(join.projection().clone())
        .with_filter(Some(filter))
        .build()?;
    Ok(Arc::new(join))
}

/// The rows of another operator, as they are.
#[derive(Debug)]
struct PacedExec {
    input: Arc<dyn ExecutionPlan>,
    pace: Arc<Pace>,
}

impl DisplayAs for PacedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PacedExec")
    }
}

impl ExecutionPlan for PacedExec {
    fn name(&self) -> &'static str {
        "PacedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("PacedExec has one input");
        };
        Ok(Arc::new(Self { input, pace: Arc::clone(&self.pace) }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        Ok(Box::pin(PacedStream { rows, pace: Arc::clone(&self.pace) }))
    }
}

struct PacedStream {
    rows: SendableRecordBatchStream,
    pace: Arc<Pace>,
}

impl Stream for PacedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pace.is_cancelled() {
            return Poll::Ready(Some(exec_err!("the query was cancelled")));
        }
        if self.pace.is_over() {
            self.pace.gave_way.store(true, Ordering::Relaxed);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.rows.as_mut().poll_next(context)
    }
}

impl RecordBatchStream for PacedStream {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// A condition that fails once the query is cancelled.
#[derive(Debug)]
struct PacedExpr {
    inner: Arc<dyn PhysicalExpr>,
    pace: Arc<Pace>,
}

impl fmt::Display for PacedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl PartialEq for PacedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for PacedExpr {}

impl Hash for PacedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for PacedExpr {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.pace.is_cancelled() {
            return exec_err!("the query was cancelled");
        }
        self.inner.evaluate(batch)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Arc::new(Self { inner, pace: Arc::clone(&self.pace) })),
            _ => internal_err!("PacedExpr has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
