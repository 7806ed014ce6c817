//! Names the expression and the values at which a query failed.
//!
//! Owns: the expression around those of projections, filters and join keys, the text. Does not own:
//! what becomes of the row (`steps`), advice (`error`).
//! Rule: an evaluation that succeeds costs nothing; the name is looked for only after a failure,
//! and a failure of no row's data keeps its error.

use super::error::QueryError;
use super::operators::{Around, Evaluation};
use super::phrase::plain;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Columns whose values a message shows.
const VALUES_SHOWN_MAX: usize = 4;
/// Characters of a value that a message shows.
const VALUE_CHARS_MAX: usize = 80;
/// Characters of an expression that a message shows.
const EXPRESSION_CHARS_MAX: usize = 200;
/// Names of columns that this program or the planner made.
const MADE_UP: &str = "__";

/// Rows that are tried one by one to find the one that failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tried {
    /// All: the failure ends the query.
    All,
    /// Up to this many: the same rows are computed again with fewer.
    Few(usize),
}

/// The plan with errors that name the expression.
pub(super) fn named(plan: Arc<dyn ExecutionPlan>, tried: Tried) -> Result<Arc<dyn ExecutionPlan>> {
    let rewrite = |node: Arc<dyn ExecutionPlan>| match with_names(&node, tried)? {
        Some(named) => Ok(Transformed::yes(named)),
        None => Ok(Transformed::no(node)),
    };
    Ok(plan.transform_up(rewrite)?.data)
}

fn with_names(
    node: &Arc<dyn ExecutionPlan>,
    tried: Tried,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        if projection.expr().iter().all(|part| is_plain(&part.expr)) {
            return Ok(None);
        }
        let part = |part: &ProjectionExpr| ProjectionExpr {
            expr: around(&part.expr, Some(&part.alias), tried),
            alias: part.alias.clone(),
        };
        let parts: Vec<ProjectionExpr> = projection.expr().iter().map(part).collect();
        let named = ProjectionExec::try_new(parts, Arc::clone(projection.input()))?;
        return Ok((named.schema() == node.schema()).then(|| Arc::new(named) as _));
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let predicate = around(filter.predicate(), None, tried);
        let named = FilterExecBuilder::from(filter)
            .with_predicate(predicate)
            .build()?;
        return Ok(Some(Arc::new(named)));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && !join.on().iter().all(|(_, key)| is_plain(key))
    {
        let on = join.on().iter().map(|(left, key)| {
            let key = around(key, None, tried);
            (Arc::clone(left), key)
        });
        return join.builder().with_on(on.collect()).build_exec().map(Some);
    }
    Ok(None)
}

/// It cannot fail.
pub(super) fn is_plain(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is::<Column>() || expr.is::<Literal>()
}

fn around(
    expr: &Arc<dyn PhysicalExpr>,
    result: Option<&str>,
    tried: Tried,
) -> Arc<dyn PhysicalExpr> {
    if is_plain(expr) {
        return Arc::clone(expr);
    }
    let result = result
        .filter(|name| !name.starts_with(MADE_UP))
        .map(str::to_owned);
    Around::of(expr, Named { result, tried })
}

#[derive(Debug)]
struct Named {
    /// The column of the result.
    result: Option<String>,
    tried: Tried,
}

impl Evaluation for Named {
    fn evaluate(
        &self,
        inner: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
    ) -> Result<ColumnarValue> {
        inner
            .evaluate(batch)
            .map_err(|error| self.explained(inner, batch, error))
    }
}

impl Named {
    #[cold]
    fn explained(
        &self,
        inner: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
        error: DataFusionError,
    ) -> DataFusionError {
        if !is_of_rows(&error) {
            return error;
        }
        let rows = match self.tried {
            Tried::All => batch.num_rows(),
            Tried::Few(rows) if batch.num_rows() <= rows => batch.num_rows(),
            Tried::Few(_) => 0,
        };
        for row in 0..rows {
            let row = batch.slice(row, 1);
            if let Err(error) = inner.evaluate(&row)
                && is_of_rows(&error)
            {
                return DataFusionError::Execution(self.text(inner, &row, &error));
            }
        }
        error
    }

    fn text(
        &self,
        inner: &Arc<dyn PhysicalExpr>,
        row: &RecordBatch,
        error: &DataFusionError,
    ) -> String {
        let message = message(error);
        let part = innermost(inner, row, &message);
        let shown = cut(&fmt_sql(part.as_ref()).to_string(), EXPRESSION_CHARS_MAX);
        let result = match &self.result {
            Some(name) if *name != shown => format!("column {name}: "),
            _ => String::new(),
        };
        let values = values(&part, row);
        let values = if values.is_empty() {
            String::new()
        } else {
            format!(" ({})", values.join(", "))
        };
        format!("{result}{shown} fails: {message}{values}")
    }
}

/// The failure of a projection, with the name of the expression, if one fails alone.
#[cold]
pub(super) fn of_projection(
    exprs: &[Arc<dyn PhysicalExpr>],
    schema: &Schema,
    batch: &RecordBatch,
    error: DataFusionError,
) -> DataFusionError {
    if !is_of_rows(&error) {
        return error;
    }
    for row in 0..batch.num_rows() {
        let row = batch.slice(row, 1);
        for (expr, field) in exprs.iter().zip(schema.fields()) {
            if let Err(error) = expr.evaluate(&row)
                && is_of_rows(&error)
            {
                let name = field.name();
                let named = Named {
                    result: (!name.starts_with(MADE_UP)).then(|| name.clone()),
                    tried: Tried::All,
                };
                return DataFusionError::Execution(named.text(expr, &row, &error));
            }
        }
    }
    error
}

/// A failure that another value could have avoided.
pub(super) fn is_of_rows(error: &DataFusionError) -> bool {
    matches!(QueryError::at_run_time(error, 0), QueryError::Rows(_))
}

fn message(error: &DataFusionError) -> String {
    plain(&error.find_root().message())
}

/// The smallest part that fails alike on its own. A part that is not evaluated for this row (a
/// branch of CASE) may fail too, with another message.
fn innermost(
    expr: &Arc<dyn PhysicalExpr>,
    row: &RecordBatch,
    failed: &str,
) -> Arc<dyn PhysicalExpr> {
    for child in expr.children() {
        if let Err(error) = child.evaluate(row)
            && message(&error) == failed
        {
            return innermost(child, row, failed);
        }
    }
    Arc::clone(expr)
}

/// `qty = 0`, for the columns inside.
fn values(expr: &Arc<dyn PhysicalExpr>, row: &RecordBatch) -> Vec<String> {
    let mut columns: BTreeMap<usize, String> = BTreeMap::new();
    let visited = expr.apply(|part| {
        if let Some(column) = part.downcast_ref::<Column>() {
            columns.insert(column.index(), column.name().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor above returns no error");
    let value = |(at, name): (usize, String)| {
        let value = ScalarValue::try_from_array(row.columns().get(at)?, 0).ok()?;
        let text = cut(&value.to_string(), VALUE_CHARS_MAX);
        Some(match value.try_as_str() {
            Some(Some(_)) => format!("{name} = '{text}'"),
            _ => format!("{name} = {text}"),
        })
    };
    columns
        .into_iter()
        .take(VALUES_SHOWN_MAX)
        .filter_map(value)
        .collect()
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
