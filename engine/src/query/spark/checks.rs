//! What only the planned query shows: types that the planner would convert in its own way.
//!
//! Rule: aggregates, LIKE, UNION, IN over a query and USING have the types that they are proven for.

use super::arithmetic::not_compared;
use super::call::Refusal;
use super::operators::OF_FIELD;
use super::types::{self, plain};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, WindowFunctionDefinition};
use std::collections::BTreeSet;

/// # Errors
/// [`Refusal`], as an external error.
pub(in crate::query) fn check(plan: &LogicalPlan, capitals: &BTreeSet<String>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        check_node(node)?;
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                check_part(part, &schema)?;
                check_key(part, &schema, capitals)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map(drop)
}

/// A key of a map behind a dot, whose case is not known any more.
fn check_key(part: &Expr, schema: &DFSchema, capitals: &BTreeSet<String>) -> Result<()> {
    let Expr::ScalarFunction(call) = part else {
        return Ok(());
    };
    let (OF_FIELD, [value, Expr::Literal(name, _), ..]) = (call.func.name(), call.args.as_slice())
    else {
        return Ok(());
    };
    let is_map = matches!(value.get_type(schema), Ok(DataType::Map(..)));
    match name.try_as_str().flatten() {
        Some(name) if is_map && capitals.contains(name) => Err(Refusal::new(
            format!("map.{name} with capitals or backticks is not supported in dialect \"spark\""),
            "write map['Name']: keys are compared with their case",
        )
        .into()),
        _ => Ok(()),
    }
}

/// Spark orders the fields of structs in its own way.
fn check_order(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr.get_type(schema) {
        Ok(kind) if kind.is_nested() => Err(Refusal::new(
            format!(
                "ORDER BY of {} is not supported in dialect \"spark\"",
                types::name(&kind)
            ),
            "order by a field of it, or by to_json(x)",
        )
        .into()),
        _ => Ok(()),
    }
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Sort(sort) => {
            let mut by = sort.expr.iter();
            by.try_for_each(|by| check_order(&by.expr, sort.input.schema()))
        }
        LogicalPlan::Union(union) => {
            let mut inputs = union.inputs.iter().map(|input| input.schema());
            let Some(first) = inputs.next() else {
                return Ok(());
            };
            for other in inputs {
                for (one, two) in first.fields().iter().zip(other.fields()) {
                    let one = plain(one.data_type());
                    let two = plain(two.data_type());
                    if one != two {
                        return Err(Refusal::new(
                            format!(
                                "a column of UNION is {} and {} in dialect \"spark\"",
                                types::name(&one),
                                types::name(&two)
                            ),
                            "cast both to one type",
                        )
                        .into());
                    }
                }
            }
            Ok(())
        }
        LogicalPlan::Join(join) => {
            for (one, two) in &join.on {
                let one = one.get_type(join.left.schema())?;
                let two = two.get_type(join.right.schema())?;
                check_same(&one, &two)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_same(one: &DataType, two: &DataType) -> Result<()> {
    let one = plain(one);
    let two = plain(two);
    let is_other = one != two && one != DataType::Null && two != DataType::Null;
    if is_other || one.is_nested() || two.is_nested() {
        return Err(not_compared(&one, &two).into());
    }
    Ok(())
}

fn check_part(part: &Expr, schema: &DFSchema) -> Result<()> {
    let kind = |expr: &Expr| expr.get_type(schema).ok().map(|kind| plain(&kind));
    match part {
        Expr::AggregateFunction(call) => {
            let kinds: Vec<_> = call.params.args.iter().filter_map(kind).collect();
            check_aggregate(call.func.name(), &kinds)
        }
        Expr::WindowFunction(call)
            if call
                .params
                .order_by
                .iter()
                .any(|by| check_order(&by.expr, schema).is_err()) =>
        {
            let mut by = call.params.order_by.iter();
            by.try_for_each(|by| check_order(&by.expr, schema))
        }
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => {
                let kinds: Vec<_> = call.params.args.iter().filter_map(kind).collect();
                check_aggregate(function.name(), &kinds)
            }
            WindowFunctionDefinition::WindowUDF(_) => {
                let kinds: Vec<_> = call.params.args.iter().filter_map(kind).collect();
                match kinds.as_slice() {
                    [value, _, default] => check_same(value, default),
                    _ => Ok(()),
                }
            }
        },
        Expr::Like(like) => {
            for side in [&like.expr, &like.pattern] {
                if let Some(kind) = kind(side)
                    && !matches!(kind, DataType::Utf8 | DataType::Null)
                {
                    return Err(Refusal::new(
                        format!(
                            "LIKE does not take {} in dialect \"spark\"",
                            types::name(&kind)
                        ),
                        "cast it: CAST(x AS STRING) LIKE 'a%'",
                    )
                    .into());
                }
            }
            Ok(())
        }
        Expr::InSubquery(inside) => {
            let one = kind(&inside.expr);
            let two = inside.subquery.subquery.schema().fields().first();
            match (one, two) {
                (Some(one), Some(two)) => check_same(&one, two.data_type()),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn check_aggregate(name: &str, kinds: &[DataType]) -> Result<()> {
    let fits = |kind: &DataType| match name {
        "sum" => types::is_number(kind),
        // The planner cuts the digits that Spark rounds.
        "avg" => types::is_number(kind) && !types::is_decimal(kind),
        _ => true,
    };
    match kinds.iter().find(|kind| !fits(kind)) {
        Some(kind) => Err(Refusal::new(
            format!(
                "{name}() does not take {} in dialect \"spark\"",
                types::name(kind)
            ),
            format!("cast it: {name}(CAST(x AS DOUBLE))"),
        )
        .into()),
        None => Ok(()),
    }
}
