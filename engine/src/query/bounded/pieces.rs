//! Expressions with growing functions, evaluated on as many rows at once as their results fit.
//!
//! Owns: the operator that replaces such a projection, the expression that replaces such a
//! condition or key. Does not own: the limits (`budget`, `Bounded`).
//! Rule: rows, their order and their values are those of the replaced operator; only the sizes of
//! batches differ, and these follow from the rows alone.
//!
//! A batch is evaluated whole. If its calls exceed [`PIECE_BYTES`] together, the first half of its
//! rows is evaluated, and so on down to one row, which may take [`FUNCTION_BYTES_MAX`]. The next
//! piece begins with the number of rows that fit; it doubles while little room is used. A
//! projection returns each piece before it computes the next.

use super::super::naming::of_projection;
use super::super::operators::{Around, Evaluation, Operator, OperatorExec};
use super::{Bounded, FUNCTION_BYTES_MAX, PIECE_BYTES, budget, bytes_of, scalar_bytes};
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{
    HigherOrderFunctionExpr, LexOrdering, PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr,
};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

/// A buffer that exceeds the values of a piece by at most this much is not worth a copy.
const SPARE_BYTES: u64 = 4 << 10;

/// The plan with its growing expressions evaluated in pieces: those of projections, the arguments
/// of aggregates, the keys of sorts, and the conditions of filters and joins.
pub(in super::super) fn in_pieces(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let replace = |node: Arc<dyn ExecutionPlan>| match replaced(&node)? {
        Some(replaced) => Ok(Transformed::yes(replaced)),
        None => Ok(Transformed::no(node)),
    };
    Ok(plan.transform_up(replace)?.data)
}

fn replaced(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        return Pieces::of(projection);
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>()
        && grows(filter.predicate())?
    {
        let predicate = piecewise(filter.predicate());
        return Ok(Some(Arc::new(
            FilterExecBuilder::from(filter)
                .with_predicate(predicate)
                .build()?,
        )));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = growing_condition(join.filter())?
    {
        return join
            .builder()
            .with_filter(Some(filter))
            .build_exec()
            .map(Some);
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = growing_condition(join.filter())?
    {
        let join = NestedLoopJoinExecBuilder::new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            *join.join_type(),
        )
        .with_projection_ref(join.projection().clone())
        .with_filter(Some(filter))
        .build()?;
        return Ok(Some(Arc::new(join)));
    }
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        return with_piecewise_keys(sort);
    }
    match node.downcast_ref::<AggregateExec>() {
        Some(aggregate) => {
            with_arguments_below(aggregate, grows, |projection| Pieces::of(&projection))
        }
        None => Ok(None),
    }
}

fn with_piecewise_keys(sort: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut any_grows = false;
    let mut keys = Vec::with_capacity(sort.expr().len());
    for key in sort.expr() {
        let key_grows = grows(&key.expr)?;
        any_grows |= key_grows;
        let expr = if key_grows {
            piecewise(&key.expr)
        } else {
            Arc::clone(&key.expr)
        };
        keys.push(PhysicalSortExpr::new(expr, key.options));
    }
    let Some(keys) = LexOrdering::new(keys).filter(|_| any_grows) else {
        return Ok(None);
    };
    let replaced = SortExec::new(keys, Arc::clone(sort.input())).with_fetch(sort.fetch());
    Ok(Some(Arc::new(
        replaced.with_preserve_partitioning(sort.preserve_partitioning()),
    )))
}

fn growing_condition(filter: Option<&JoinFilter>) -> Result<Option<JoinFilter>> {
    let Some(filter) = filter else {
        return Ok(None);
    };
    if !grows(filter.expression())? {
        return Ok(None);
    }
    let condition = piecewise(filter.expression());
    Ok(Some(JoinFilter::new(
        condition,
        filter.column_indices().to_vec(),
        Arc::clone(filter.schema()),
    )))
}

/// Whether a call of a growing function is inside.
fn grows(expr: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    let is_growing = |part: &Arc<dyn PhysicalExpr>| {
        let call = part.downcast_ref::<ScalarFunctionExpr>();
        let is_bounded = call.is_some_and(|call| call.fun().inner().is::<Bounded>());
        Ok(is_bounded || part.is::<HigherOrderFunctionExpr>())
    };
    expr.exists(is_growing)
}

/// The bytes of all constants inside: each may become a value of every row.
fn constant_bytes(expr: &Arc<dyn PhysicalExpr>) -> Result<u64> {
    let mut bytes = 0_u64;
    expr.apply(|part| {
        if let Some(literal) = part.downcast_ref::<Literal>() {
            bytes = bytes.saturating_add(scalar_bytes(literal.value())?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

/// How many rows are evaluated at once.
#[derive(Clone, Copy, Debug)]
struct PieceRows {
    now: usize,
    most: usize,
}

impl PieceRows {
    /// With this many bytes for every row.
    fn new(row_bytes: u64) -> Self {
        let most = usize::try_from(PIECE_BYTES / row_bytes.max(1))
            .unwrap_or(usize::MAX)
            .max(1);
        Self {
            now: usize::MAX,
            most,
        }
    }

    /// Evaluates as many of the first rows as fit, and returns their number.
    fn evaluate<T>(
        &mut self,
        batch: &RecordBatch,
        evaluate: impl Fn(&RecordBatch) -> Result<T>,
    ) -> Result<(usize, T)> {
        loop {
            let count = batch.num_rows().min(self.now).min(self.most);
            let piece = if count == batch.num_rows() {
                batch.clone()
            } else {
                batch.slice(0, count)
            };
            let (value, spent) = budget::within(count, || evaluate(&piece));
            if spent.exceeded {
                self.now = count.div_ceil(2);
                continue;
            }
            if count == self.now && spent.bytes < PIECE_BYTES / 4 {
                self.now = self.now.saturating_mul(2);
            }
            return value.map(|value| (count, value));
        }
    }
}

/// A projection that returns a batch in as many pieces as its growing functions need.
#[derive(Debug)]
struct Pieces {
    exprs: Arc<[Arc<dyn PhysicalExpr>]>,
    properties: Arc<PlanProperties>,
    rows: PieceRows,
}

impl Pieces {
    /// Replaces a projection; `None` if its results cannot be large.
    fn of(projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let exprs: Arc<[_]> = projection
            .expr()
            .iter()
            .map(|part| Arc::clone(&part.expr))
            .collect();
        let mut any_grows = false;
        let mut row_bytes = 0_u64;
        for expr in exprs.iter() {
            any_grows |= grows(expr)?;
            row_bytes = row_bytes.saturating_add(constant_bytes(expr)?);
        }
        let rows = PieceRows::new(row_bytes);
        if !any_grows && rows.most >= super::super::BATCH_ROWS {
            return Ok(None);
        }
        let properties = Arc::clone(projection.properties());
        Ok(Some(OperatorExec::above(
            Arc::clone(projection.input()),
            Self {
                exprs,
                properties,
                rows,
            },
        )))
    }
}

/// The aggregate with some of its arguments computed below it, by the operator that `below` makes
/// of a projection. `None`: there are none such, or they cannot be computed there.
pub(in super::super) fn with_arguments_below(
    aggregate: &AggregateExec,
    is_moved: impl Fn(&Arc<dyn PhysicalExpr>) -> Result<bool>,
    make: impl FnOnce(ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let input = aggregate.input();
    let schema = input.schema();
    let column = |(at, field): (usize, &FieldRef)| ProjectionExpr {
        expr: Arc::new(Column::new(field.name(), at)),
        alias: field.name().clone(),
    };
    let mut columns: Vec<ProjectionExpr> = schema.fields().iter().enumerate().map(column).collect();
    let own = columns.len();
    let mut below = |expr: &Arc<dyn PhysicalExpr>| -> Result<Arc<dyn PhysicalExpr>> {
        if !is_moved(expr)? {
            return Ok(Arc::clone(expr));
        }
        let at = columns.len();
        let name = format!("__streamctl_argument_{at}");
        columns.push(ProjectionExpr {
            expr: Arc::clone(expr),
            alias: name.clone(),
        });
        Ok(Arc::new(Column::new(&name, at)))
    };
    let group = aggregate.group_expr();
    let named = |(expr, name): &(Arc<dyn PhysicalExpr>, String)| Ok((below(expr)?, name.clone()));
    let group_exprs = group.expr().iter().map(named).collect::<Result<Vec<_>>>()?;
    let group = PhysicalGroupBy::new(
        group_exprs,
        group.null_expr().to_vec(),
        group.groups().to_vec(),
        group.has_grouping_set(),
    );
    let mut calls = Vec::with_capacity(aggregate.aggr_expr().len());
    for call in aggregate.aggr_expr() {
        let args = call
            .expressions()
            .iter()
            .map(&mut below)
            .collect::<Result<Vec<_>>>()?;
        let order = call
            .order_bys()
            .iter()
            .map(|by| below(&by.expr))
            .collect::<Result<Vec<_>>>()?;
        // If arguments cannot be replaced, the aggregate is kept: each of its calls has a limit of
        // its own.
        let Some(call) = call.with_new_expressions(args, order) else {
            return Ok(None);
        };
        calls.push(Arc::new(call));
    }
    let filters = aggregate.filter_expr().iter();
    let filters = filters
        .map(|filter| filter.as_ref().map(&mut below).transpose())
        .collect::<Result<Vec<_>>>()?;
    if columns.len() == own {
        return Ok(None);
    }
    let projection = ProjectionExec::try_new(columns, Arc::clone(input))?;
    let Some(input) = make(projection)? else {
        return Ok(None);
    };
    let replaced = AggregateExec::try_new(
        *aggregate.mode(),
        group,
        calls,
        filters,
        input,
        aggregate.input_schema(),
    )?;
    if replaced.schema() != aggregate.schema() {
        return Ok(None);
    }
    Ok(Some(Arc::new(
        replaced.with_limit_options(aggregate.limit_options()),
    )))
}

impl Operator for Pieces {
    const NAME: &'static str = "PiecesExec";
    const KEEPS_ORDER: bool = true;

    fn details(&self) -> String {
        let exprs: Vec<String> = self.exprs.iter().map(ToString::to_string).collect();
        format!(": expr=[{}]", exprs.join(", "))
    }

    fn properties(&self, _: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
        Arc::clone(&self.properties)
    }

    fn expressions(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.exprs
    }

    fn run(
        self: Arc<Self>,
        input: SendableRecordBatchStream,
        schema: SchemaRef,
    ) -> SendableRecordBatchStream {
        let exprs = Arc::clone(&self.exprs);
        Box::pin(PiecesStream {
            exprs,
            schema,
            input,
            rows: self.rows,
            rest: None,
        })
    }
}

struct PiecesStream {
    exprs: Arc<[Arc<dyn PhysicalExpr>]>,
    schema: SchemaRef,
    input: SendableRecordBatchStream,
    rows: PieceRows,
    /// The rest of a batch.
    rest: Option<RecordBatch>,
}

impl PiecesStream {
    fn piece(&mut self, batch: &RecordBatch, is_rest: bool) -> Result<RecordBatch> {
        let (count, piece) = self
            .rows
            .evaluate(batch, |piece| projected(&self.exprs, &self.schema, piece))
            .map_err(|error| of_projection(&self.exprs, &self.schema, batch, error))?;
        if count < batch.num_rows() {
            self.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        if is_rest || self.rest.is_some() {
            owned(&piece)
        } else {
            Ok(piece)
        }
    }
}

impl Stream for PiecesStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(self.piece(&rest, true)));
        }
        match ready!(self.input.as_mut().poll_next(context)) {
            Some(Ok(batch)) => Poll::Ready(Some(self.piece(&batch, false))),
            other => Poll::Ready(other),
        }
    }
}

impl RecordBatchStream for PiecesStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

fn projected(
    exprs: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let columns = exprs
        .iter()
        .map(|expr| expr.evaluate(rows)?.into_array_of_size(count));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// Columns that are passed through share the buffers of the whole batch: the memory of each piece
/// would count as that of the batch, and keeping a piece would keep the batch.
fn owned(piece: &RecordBatch) -> Result<RecordBatch> {
    let rows = piece.num_rows();
    let all: UInt32Array = (0..).take(rows).collect();
    let column = |column: &ArrayRef| -> Result<ArrayRef> {
        let values = bytes_of(column)
            .saturating_mul(2)
            .saturating_add(SPARE_BYTES);
        let is_own = column.get_buffer_memory_size() as u64 <= values;
        Ok(if is_own {
            Arc::clone(column)
        } else {
            take(column, &all, None)?
        })
    };
    let columns = piece
        .columns()
        .iter()
        .map(column)
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        piece.schema(),
        columns,
        &options,
    )?)
}

/// A condition or a key that is evaluated in as many pieces as its growing functions need,
/// beginning with the number of rows that fit before. Its results for a batch take at most
/// [`FUNCTION_BYTES_MAX`].
#[derive(Debug)]
struct Piecewise(AtomicUsize);

fn piecewise(inner: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Around::of(inner, Piecewise(AtomicUsize::new(usize::MAX)))
}

impl Evaluation for Piecewise {
    fn evaluate(
        &self,
        inner: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
    ) -> Result<ColumnarValue> {
        let mut rows = PieceRows {
            now: self.0.load(Ordering::Relaxed),
            most: usize::MAX,
        };
        let (mut count, first) = rows.evaluate(batch, |piece| inner.evaluate(piece))?;
        if count == batch.num_rows() {
            self.0.store(rows.now, Ordering::Relaxed);
            return Ok(first);
        }
        let first = first.into_array(count)?;
        let mut bytes = bytes_of(&first);
        let mut pieces = vec![first];
        while count < batch.num_rows() {
            let rest = batch.slice(count, batch.num_rows() - count);
            let evaluate =
                |piece: &RecordBatch| inner.evaluate(piece)?.into_array(piece.num_rows());
            let (more, piece) = rows.evaluate(&rest, evaluate)?;
            bytes += bytes_of(&piece);
            if bytes > FUNCTION_BYTES_MAX {
                let rows = batch.num_rows();
                let limit = FUNCTION_BYTES_MAX >> 20;
                return exec_err!(
                    "the values of {} for {rows} rows take more than {limit} MiB",
                    inner
                );
            }
            pieces.push(piece);
            count += more;
        }
        self.0.store(rows.now, Ordering::Relaxed);
        let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&pieces)?))
    }
}
