//! Comparisons that the planner executes in another way than it seems: text with numbers, and a
//! constant NOT IN a query.
//!
//! Owns: finding them in a plan whose types were not converted yet. Does not own: the dialect of
//! Spark, whose comparisons have a meaning of their own (`spark`).
//! Rule: the planner would convert every text to the number's type, and one text that is no number
//! would fail its window; so the query says how.

use super::spark::Refusal;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

/// # Errors
/// [`Refusal`], as an external error.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        if let LogicalPlan::Join(join) = node {
            for (left, right) in &join.on {
                check_pair(left, right, &schema)?;
            }
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                check_part(part, &schema)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map(drop)
}

/// Refuses `'Peru' NOT IN (SELECT ...)`: the planner passes over NULL in the list, for which the
/// right answer is no row.
///
/// # Errors
/// [`Refusal`], as an external error.
pub(super) fn check_constants(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let inside = match part {
                    Expr::InSubquery(inside) if inside.negated => Some(inside),
                    Expr::Not(inner) => match &**inner {
                        Expr::InSubquery(inside) if !inside.negated => Some(inside),
                        _ => None,
                    },
                    _ => None,
                };
                if inside.is_some_and(|inside| inside.expr.column_refs().is_empty()) {
                    return Err(Refusal {
                        message: "a constant NOT IN (SELECT ...) is not supported".into(),
                        hint:
                            "write NOT EXISTS (SELECT 1 FROM t WHERE t.x = 'Peru' OR t.x IS NULL)"
                                .into(),
                    }
                    .into());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map(drop)
}

fn check_part(part: &Expr, schema: &DFSchema) -> Result<()> {
    match part {
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
            check_pair(&binary.left, &binary.right, schema)
        }
        Expr::InList(inside) => inside
            .list
            .iter()
            .try_for_each(|value| check_pair(&inside.expr, value, schema)),
        Expr::Between(between) => {
            check_pair(&between.expr, &between.low, schema)?;
            check_pair(&between.expr, &between.high, schema)
        }
        Expr::Case(case) => match &case.expr {
            Some(value) => case
                .when_then_expr
                .iter()
                .try_for_each(|(when, _)| check_pair(value, when, schema)),
            None => Ok(()),
        },
        Expr::ScalarFunction(call) if matches!(call.func.name(), "nullif") => {
            match call.args.as_slice() {
                [left, right] => check_pair(left, right, schema),
                _ => Ok(()),
            }
        }
        Expr::ScalarFunction(call)
            if matches!(call.func.name(), "coalesce" | "nvl" | "greatest" | "least") =>
        {
            let mut pairs = call.args.windows(2);
            pairs.try_for_each(|pair| check_pair(&pair[0], &pair[1], schema))
        }
        Expr::InSubquery(inside) => {
            let field = inside.subquery.subquery.schema().fields().first();
            let one = inside.expr.get_type(schema).ok();
            match (one, field) {
                (Some(one), Some(field)) if is_mixed(&one, field.data_type()) => {
                    Err(refusal(&inside.expr, &one).into())
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_mixed(one: &DataType, two: &DataType) -> bool {
    is_text(one) && two.is_numeric() || one.is_numeric() && is_text(two)
}

/// A constant text is converted once, when the query is planned.
fn check_pair(one: &Expr, two: &Expr, schema: &DFSchema) -> Result<()> {
    let (Ok(one_type), Ok(two_type)) = (one.get_type(schema), two.get_type(schema)) else {
        return Ok(());
    };
    if !is_mixed(&one_type, &two_type) {
        return Ok(());
    }
    let text = if is_text(&one_type) { one } else { two };
    if matches!(text, Expr::Literal(..)) {
        return Ok(());
    }
    Err(refusal(text, &DataType::Utf8).into())
}

fn refusal(text: &Expr, kind: &DataType) -> Refusal {
    let name = match text {
        Expr::Column(column) => column.name.clone(),
        _ if is_text(kind) => "a text".to_owned(),
        _ => "a number".to_owned(),
    };
    let column = match text {
        Expr::Column(column) => column.name.clone(),
        _ => "x".to_owned(),
    };
    Refusal {
        message: format!(
            "{name} is text and is compared with a number: a text that is no number would fail its window"
        ),
        hint: format!(
            "write TRY_CAST({column} AS DOUBLE), which is NULL for a text that is no number; or compare texts: CAST(the number AS VARCHAR)"
        ),
    }
}

#[cfg(test)]
mod tests;
