//! What DataFusion requires of every operator with one input, and of every expression around
//! another one.
//!
//! Owns: the common parts of our operators. Does not own: what they do with rows (`pace`,
//! `unmatched`, `bounded`).
//! Rule: rewriting a plan keeps the state of an operator or an expression.

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The behaviour of an operator with one input.
pub(super) trait Operator: fmt::Debug + Send + Sync + Sized + 'static {
    const NAME: &'static str;
    /// Whether rows leave in the order in which they come.
    const KEEPS_ORDER: bool;

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

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        Ok(Arc::clone(&self.operator).run(rows, self.schema()))
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
