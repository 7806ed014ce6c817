//! Columns of UNION that have two types: both become the type that Spark gives them.
//!
//! Owns: unions at the top of a query. Does not own: common types (`types`), unions inside of a query,
//! whose columns were planned with the type of the first part: `checks` refuses them.
//! Rule: a column that is computed from again keeps its type.

use super::list::inner;
use super::types::{self, either, plain};
use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchemaRef, Result, exec_datafusion_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Union, lit};
use std::sync::Arc;

/// The plan in which the parts of a union at its top have columns of one type.
///
/// # Errors
/// None that a correct plan has.
pub(in crate::query) fn widened(plan: LogicalPlan) -> Result<LogicalPlan> {
    let passes = match &plan {
        LogicalPlan::Sort(sort) => sort
            .expr
            .iter()
            .all(|by| matches!(by.expr, Expr::Column(_))),
        LogicalPlan::Limit(_) | LogicalPlan::Distinct(Distinct::All(_)) => true,
        LogicalPlan::Projection(projection) => projection
            .expr
            .iter()
            .all(|expr| matches!(expr, Expr::Column(_))),
        LogicalPlan::Union(union) => return of_union(union),
        _ => false,
    };
    if !passes {
        return Ok(plan);
    }
    let inputs = plan.inputs().into_iter().cloned().map(widened);
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    plan.with_new_exprs(plan.expressions(), inputs)
}

fn of_union(union: &Union) -> Result<LogicalPlan> {
    let inputs = union
        .inputs
        .iter()
        .map(|input| widened(LogicalPlan::clone(input)));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let count = inputs
        .first()
        .map_or(0, |input| input.schema().fields().len());
    let mut types = vec![];
    for place in 0..count {
        let kind = |input: &LogicalPlan| {
            let field = input.schema().fields().get(place)?;
            Some(plain(field.data_type()))
        };
        let mut kinds = inputs.iter().map(kind);
        let first = kinds.next().flatten();
        types.push(kinds.fold(first, |common, next| either(&common?, &next?)));
    }
    let inputs = inputs
        .into_iter()
        .map(|input| converted(input, &types).map(Arc::new));
    Union::try_new_with_loose_types(inputs.collect::<Result<Vec<_>>>()?).map(LogicalPlan::Union)
}

/// A part of a union with columns of these types; `None`: it stays as it is, and is refused.
fn converted(input: LogicalPlan, types: &[Option<DataType>]) -> Result<LogicalPlan> {
    let schema: DFSchemaRef = Arc::clone(input.schema());
    let wanted = |place: usize| -> Option<&DataType> {
        let to = types.get(place)?.as_ref()?;
        let from = plain(schema.field(place).data_type());
        (*to != from && !to.is_nested()).then_some(to)
    };
    if (0..schema.fields().len()).all(|place| wanted(place).is_none()) {
        return Ok(input);
    }
    let mut columns = vec![];
    for (place, (qualifier, field)) in schema.iter().enumerate() {
        let column = Expr::Column(Column::from((qualifier, field)));
        columns.push(match wanted(place) {
            None => column,
            Some(to) => {
                let func = inner("spark:cast")
                    .ok_or_else(|| exec_datafusion_err!("spark:cast is not there"))?;
                let args = vec![column, lit(types::name(to))];
                Expr::ScalarFunction(ScalarFunction { func, args }).alias(field.name())
            }
        });
    }
    LogicalPlanBuilder::from(input).project(columns)?.build()
}
