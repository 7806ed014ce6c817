//! Operators on values whose types are known.
//!
//! Owns: which function or comparison an operator becomes. Does not own: the operators themselves
//! (`arithmetic`), syntax (`lower`).
//! Rule: comparisons stay the planner's own, on values of one type, so that joins find their keys.

use super::arithmetic::{not_compared, type_of};
use super::call::Refusal;
use super::list::inner;
use super::types::{self, compared, is_float, plain};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{
    Column, DFSchema, Result, ScalarValue, TableReference, exec_datafusion_err,
};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// The function that stands for a field.
pub(super) const OF_FIELD: &str = "spark:field";

#[derive(Debug)]
pub(in crate::query) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        if let Some(name) = arithmetic(&op) {
            return computed(name, left, right, schema).map(PlannerResult::Planned);
        }
        let op = match op {
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::Spaceship => Operator::IsNotDistinctFrom,
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        comparison(op, left, right, schema).map(PlannerResult::Planned)
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let column = Expr::Column(Column::from((qualifier, field)));
        fields(column, nested_names).map(PlannerResult::Planned)
    }
}

/// A field of a field of a column.
fn fields(column: Expr, names: &[String]) -> Result<Expr> {
    names.iter().try_fold(column, |value, name| {
        call(OF_FIELD, vec![value, lit(name.as_str())])
    })
}

fn arithmetic(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::MyIntegerDivide => "div",
        BinaryOperator::BitwiseAnd => "&",
        BinaryOperator::BitwiseOr => "|",
        BinaryOperator::BitwiseXor => "^",
        // Written by `lower` for the function of this name.
        BinaryOperator::Custom(name) if name == "pmod" => "pmod",
        _ => return None,
    })
}

fn call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let func = inner(name).ok_or_else(|| exec_datafusion_err!("{name} is not there"))?;
    Ok(Expr::ScalarFunction(ScalarFunction { func, args }))
}

/// The digits of a whole number that is written in the query.
fn written(expr: &Expr) -> Option<String> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    match (call.func.name(), call.args.as_slice()) {
        ("spark:number", [Expr::Literal(ScalarValue::Utf8(Some(text)), _)])
            if text
                .trim_start_matches('-')
                .bytes()
                .all(|byte| byte.is_ascii_digit()) =>
        {
            Some(text.clone())
        }
        _ => None,
    }
}

fn computed(name: &str, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
    let left_type = plain(&left.get_type(schema)?);
    let right_type = plain(&right.get_type(schema)?);
    let whole = types::is_time(&left_type) && types::is_whole(&right_type);
    if left_type == DataType::Date32 && whole && matches!(name, "+" | "-") {
        let function = if name == "+" { "date_add" } else { "date_sub" };
        let func = super::list::named(function).map(super::call::Call::of);
        let func = func.ok_or_else(|| exec_datafusion_err!("{function} is not there"))?;
        let args = vec![left, right];
        return Ok(Expr::ScalarFunction(ScalarFunction { func, args }));
    }
    if types::is_whole(&left_type) && right_type == DataType::Date32 && name == "+" {
        return computed(name, right, left, schema);
    }
    let left_digits = written(&left);
    let right_digits = written(&right);
    let data_type = type_of(
        name,
        (&left_type, left_digits.as_deref()),
        (&right_type, right_digits.as_deref()),
    );
    let Some(data_type) = data_type else {
        return Err(Refusal::new(
            format!(
                "{} {name} {} is not supported in dialect \"spark\"",
                types::name(&left_type),
                types::name(&right_type)
            ),
            "cast one of them, for example CAST(x AS DOUBLE); datediff(a, b) counts days between dates",
        )
        .into());
    };
    call(
        &format!("spark:{name}"),
        vec![left, right, lit(types::name(&data_type))],
    )
}

/// A value of this type, or converted to it.
fn converted(expr: Expr, from: &DataType, to: &DataType) -> Result<Expr> {
    if from == to {
        return Ok(expr);
    }
    call("spark:cast", vec![expr, lit(types::name(to))])
}

fn comparison(op: Operator, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
    let left_type = left.get_type(schema)?;
    let right_type = right.get_type(schema)?;
    let common = compared(&plain(&left_type), &plain(&right_type))
        .ok_or_else(|| not_compared(&plain(&left_type), &plain(&right_type)))?;
    if common.is_nested() || common == DataType::Binary {
        return Err(not_compared(&common, &common).into());
    }
    let mut left = converted(left, &left_type, &common)?;
    let mut right = converted(right, &right_type, &common)?;
    if is_float(&common) {
        // -0.0 equals 0.0: the sum with 0.0 has no negative zero.
        let zero = match common {
            DataType::Float32 => lit(0.0_f32),
            _ => lit(0.0_f64),
        };
        let plus = |expr| {
            Expr::BinaryExpr(BinaryExpr::new(
                Box::new(expr),
                Operator::Plus,
                Box::new(zero.clone()),
            ))
        };
        left = plus(left);
        right = plus(right);
    }
    Ok(Expr::BinaryExpr(BinaryExpr::new(
        Box::new(left),
        op,
        Box::new(right),
    )))
}
