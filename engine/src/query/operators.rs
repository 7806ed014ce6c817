//! What DataFusion requires of every operator with one input, and of every expression around
//! another one.
//!
//! Owns: the common parts of our operators, their figures. Does not own: what they do with rows (`pace`,
//! `unmatched`, `bounded`).
//! Rule: rewriting a plan keeps the state of an operator or an expression.

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::Stream;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The behaviour of an operator with one input.
pub(super) trait Operator: fmt::Debug + Send + Sync + Sized + 'static {
    const NAME: &'static str;
    /// Whether rows leave in the order in which they come.
    const KEEPS_ORDER: bool;
    /// Whether its rows and its time are measured.
    const IS_MEASURED: bool = true;

    /// The text after the name in a plan.
    fn details(&self) -> String {
        String::new()
    }

    /// The properties of the rows that leave.
    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties>;

    fn expressions(&self) -> &[Arc<dyn PhysicalExpr>] {
        &[]
    }

    /// Its rows, of `schema`.
    fn run(
        self: Arc<Self>,
        rows: SendableRecordBatchStream,
        schema: SchemaRef,
    ) -> SendableRecordBatchStream;
}

/// An operator above its input.
#[derive(Debug)]
pub(super) struct OperatorExec<O> {
    operator: Arc<O>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<O: Operator> OperatorExec<O> {
    pub(super) fn above(input: Arc<dyn ExecutionPlan>, operator: O) -> Arc<dyn ExecutionPlan> {
        Self::shared(input, Arc::new(operator))
    }

    fn shared(input: Arc<dyn ExecutionPlan>, operator: Arc<O>) -> Arc<dyn ExecutionPlan> {
        let properties = operator.properties(&input);
        Arc::new(Self {
            operator,
            input,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl<O: Operator> DisplayAs for OperatorExec<O> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}", O::NAME, self.operator.details())
    }
}

impl<O: Operator> ExecutionPlan for OperatorExec<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![O::KEEPS_ORDER]
    }

    fn apply_expressions(
        &self,
        see: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.operator.expressions() {
            if see(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Self::shared(input, Arc::clone(&self.operator))),
            _ => internal_err!("{} has one input", O::NAME),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn metrics(&self) -> Option<MetricsSet> {
        O::IS_MEASURED.then(|| self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let operator = Arc::clone(&self.operator);
        if !O::IS_MEASURED {
            return Ok(operator.run(rows, self.schema()));
        }
        let below_ns = Arc::new(AtomicU64::new(0));
        let input = Input {
            rows,
            below_ns: Arc::clone(&below_ns),
        };
        Ok(Box::pin(Measured {
            rows: operator.run(Box::pin(input), self.schema()),
            below_ns,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        }))
    }
}

/// The input of a measured operator.
struct Input {
    rows: SendableRecordBatchStream,
    /// Time in its polls.
    below_ns: Arc<AtomicU64>,
}

impl Stream for Input {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let began = Instant::now();
        let polled = self.rows.as_mut().poll_next(context);
        let spent = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.below_ns.fetch_add(spent, Ordering::Relaxed);
        polled
    }
}

impl RecordBatchStream for Input {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// The rows of a measured operator. Its time is that of its polls, without those of its input.
struct Measured {
    rows: SendableRecordBatchStream,
    below_ns: Arc<AtomicU64>,
    metrics: BaselineMetrics,
}

impl Stream for Measured {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let began = Instant::now();
        let polled = self.rows.as_mut().poll_next(context);
        let below = Duration::from_nanos(self.below_ns.swap(0, Ordering::Relaxed));
        let own = began.elapsed().saturating_sub(below);
        self.metrics.elapsed_compute().add_duration(own);
        self.metrics.record_poll(polled)
    }
}

impl RecordBatchStream for Measured {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// How to evaluate an expression whose values are those of the inner expression.
pub(super) trait Evaluation: fmt::Debug + Send + Sync + 'static {
    fn evaluate(&self, inner: &Arc<dyn PhysicalExpr>, batch: &RecordBatch)
    -> Result<ColumnarValue>;
}

/// An expression around another one.
#[derive(Debug)]
pub(super) struct Around<E> {
    inner: Arc<dyn PhysicalExpr>,
    evaluation: Arc<E>,
}

impl<E: Evaluation> Around<E> {
    pub(super) fn of(inner: &Arc<dyn PhysicalExpr>, evaluation: E) -> Arc<dyn PhysicalExpr> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            evaluation: Arc::new(evaluation),
        })
    }
}

impl<E> fmt::Display for Around<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl<E> PartialEq for Around<E> {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl<E> Eq for Around<E> {}

impl<E> Hash for Around<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl<E: Evaluation> PhysicalExpr for Around<E> {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.evaluation.evaluate(&self.inner, batch)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Arc::new(Self {
                inner,
                evaluation: Arc::clone(&self.evaluation),
            })),
            _ => internal_err!("an expression around another one has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
