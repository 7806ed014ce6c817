//! Limits on the length and depth of a query's text.
//!
//! Owns: the limits on tokens, nesting and depth, the rewriting of long chains of AND and OR. Does
//! not own: what a query may contain (`allowed`), what a plan may contain (`sql`).
//! Rule: nothing recursive sees a text before its tokens are counted, or an expression before its
//! depth is.

use super::error::QueryError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{self, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Statement, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::ControlFlow;

/// Most tokens of a query: names, values, operators, brackets, commas.
pub const SQL_TOKENS_MAX: usize = 100_000;
/// Most open brackets at any place of a query. The parser allows as many levels of any kind.
pub const SQL_NESTING_MAX: usize = 50;
/// Most levels of an expression. A chain `a + b + c` has a level for each operator; chains of AND
/// and of OR have few.
pub const EXPRESSION_DEPTH_MAX: usize = 500;
/// Most terms of a chain of AND or OR.
pub const CHAIN_TERMS_MAX: usize = 2_000;
/// Chains of AND or OR that are longer become trees of few levels.
const CHAIN_TERMS_KEPT: usize = 32;

/// Counts tokens and open brackets, without recursion.
///
/// # Errors
/// [`QueryError::Sql`] with the limit that is exceeded.
pub(super) fn check_tokens(sql: &str) -> Result<(), QueryError> {
    // The parser reports an invalid token, with its place.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return Ok(());
    };
    count_tokens(tokens.iter())
}

/// Counts tokens and open brackets.
///
/// # Errors
/// [`QueryError::Sql`] with the limit that is exceeded.
pub(super) fn count_tokens<'t>(tokens: impl Iterator<Item = &'t Token>) -> Result<(), QueryError> {
    let mut count = 0;
    let mut nesting = 0_usize;
    let mut before: Option<&Token> = None;
    for token in tokens.filter(|token| !matches!(token, Token::Whitespace(_))) {
        count += 1;
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => nesting += 1,
            Token::Lt if before.is_some_and(names_a_type) => nesting += 1,
            Token::RParen | Token::RBracket | Token::RBrace => nesting = nesting.saturating_sub(1),
            // Each would be one more level of a recursion that the parser does not count.
            Token::Word(word) if word.keyword == Keyword::INTERVAL && before == Some(token) => {
                nesting += 1
            }
            _ => {}
        }
        if nesting > SQL_NESTING_MAX {
            return Err(too_nested());
        }
        before = Some(token);
    }
    if count > SQL_TOKENS_MAX {
        let message = format!(
            "the query is too long: {count} words, values and signs, the limit is {SQL_TOKENS_MAX}"
        );
        let hint = "put long lists of values into a lookup, and join it".to_owned();
        return Err(QueryError::sql(message, Some(hint)));
    }
    Ok(())
}

/// The query has more levels of brackets or subqueries than the parser accepts.
pub(super) fn too_nested() -> QueryError {
    let message = format!("the query is nested too deeply: the limit is {SQL_NESTING_MAX} levels");
    QueryError::sql(
        message,
        Some("name inner queries by WITH ... AS (...)".into()),
    )
}

fn names_a_type(token: &Token) -> bool {
    let Token::Word(word) = token else {
        return false;
    };
    matches!(
        word.keyword,
        Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP
    )
}

/// Turns long chains of AND and OR into trees of few levels, and checks that no expression has too
/// many levels.
///
/// # Errors
/// [`QueryError::Sql`] with the limit that is exceeded.
pub(super) fn flatten(statement: &mut Statement) -> Result<(), QueryError> {
    match VisitMut::visit(statement, &mut Flatten { levels: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(TooMuch::Terms(terms)) => {
            let message = format!(
                "{terms} conditions are joined by AND or OR, the limit is {CHAIN_TERMS_MAX}"
            );
            let hint = "write x IN (a, b, ...), or put the values into a lookup and join it";
            Err(QueryError::sql(message, Some(hint.into())))
        }
        ControlFlow::Break(TooMuch::Levels) => {
            let message =
                format!("an expression is too deep: the limit is {EXPRESSION_DEPTH_MAX} levels");
            let hint = "concat(a, b, ...) takes many texts at once; x IN (a, b, ...) compares with many values; a long sum \
                        can be split over columns of an inner SELECT";
            Err(QueryError::sql(message, Some(hint.into())))
        }
    }
}

/// Why an expression is refused.
enum TooMuch {
    Levels,
    Terms(usize),
}

/// Balances each chain before its terms are visited, so that the visit itself stays within the
/// allowed levels.
struct Flatten {
    levels: usize,
}

impl Flatten {
    fn levels_of(expr: &Expr) -> usize {
        // Each step of `list[1][2]` becomes a level of the plan's expression.
        if let Expr::CompoundFieldAccess { access_chain, .. } = expr {
            access_chain.len()
        } else {
            1
        }
    }
}

impl VisitorMut for Flatten {
    type Break = TooMuch;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<TooMuch> {
        if let Expr::BinaryOp {
            op: op @ (BinaryOperator::And | BinaryOperator::Or),
            ..
        } = expr
        {
            let op = op.clone();
            let terms = terms_of(std::mem::replace(expr, nothing()), &op);
            if terms.len() > CHAIN_TERMS_MAX {
                return ControlFlow::Break(TooMuch::Terms(terms.len()));
            }
            *expr = if terms.len() > CHAIN_TERMS_KEPT {
                balanced(terms, &op)
            } else {
                chained(terms, &op)
            };
        }
        self.levels += Self::levels_of(expr);
        if self.levels > EXPRESSION_DEPTH_MAX {
            ControlFlow::Break(TooMuch::Levels)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<TooMuch> {
        self.levels -= Self::levels_of(expr);
        ControlFlow::Continue(())
    }
}

fn nothing() -> Expr {
    Expr::value(Value::Null)
}

/// The terms of a chain, in their order.
fn terms_of(mut chain: Expr, of: &BinaryOperator) -> Vec<Expr> {
    let mut terms = vec![];
    loop {
        match chain {
            Expr::BinaryOp { left, op, right } if op == *of => {
                terms.push(*right);
                chain = *left;
            }
            first => {
                terms.push(first);
                terms.reverse();
                return terms;
            }
        }
    }
}

fn joined(left: Expr, op: &BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    }
}

fn chained(terms: Vec<Expr>, op: &BinaryOperator) -> Expr {
    terms
        .into_iter()
        .reduce(|left, right| joined(left, op, right))
        .unwrap_or_else(nothing)
}

/// The plan with conditions of few levels: the optimizer writes chains, and a plan is dropped on
/// threads with small stacks.
pub(super) fn balance(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let balanced = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(_) | LogicalPlan::Join(_) => {
            node.map_expressions(|expr| expr.transform_down(|part| Ok(balanced_condition(part))))
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(balanced.data)
}

fn balanced_condition(part: logical_expr::Expr) -> Transformed<logical_expr::Expr> {
    use logical_expr::{BinaryExpr, Expr, Operator};
    let op = match &part {
        Expr::BinaryExpr(BinaryExpr {
            op: op @ (Operator::And | Operator::Or),
            ..
        }) => *op,
        _ => return Transformed::no(part),
    };
    let mut terms = vec![];
    let mut chain = part;
    loop {
        match chain {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: of,
                right,
            }) if of == op => {
                terms.push(*right);
                chain = *left;
            }
            first => {
                terms.push(first);
                break;
            }
        }
    }
    terms.reverse();
    let join = |left, right| logical_expr::binary_expr(left, op, right);
    if terms.len() <= CHAIN_TERMS_KEPT {
        let joined = terms.into_iter().reduce(join);
        return Transformed::no(joined.unwrap_or_else(|| logical_expr::lit(true)));
    }
    while terms.len() > 1 {
        let mut rest = terms.into_iter();
        let mut next = vec![];
        while let Some(left) = rest.next() {
            next.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        terms = next;
    }
    Transformed::yes(terms.pop().unwrap_or_else(|| logical_expr::lit(true)))
}

/// The same terms in the same order: AND and OR are associative, with NULL too.
fn balanced(terms: Vec<Expr>, op: &BinaryOperator) -> Expr {
    let mut level = terms;
    while level.len() > 1 {
        let mut next = Vec::with_capacity(level.len().div_ceil(2));
        let mut rest = level.into_iter();
        while let Some(left) = rest.next() {
            next.push(match rest.next() {
                Some(right) => joined(left, op, right),
                None => left,
            });
        }
        level = next;
    }
    level.pop().unwrap_or_else(nothing)
}

#[cfg(test)]
mod tests;
