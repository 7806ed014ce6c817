//! `window(ts, '10 minutes', '5 minutes')` in a SELECT, and its column `window`.
//!
//! Owns: where it stands. Does not own: the spans themselves (`time_windows`).
//! Rule: a time that lies in one span gives the span as a value; one that lies in several is a view
//! (`views`), which has a row for each. A row without a time is in none.

use super::{Lower, Refused, call, literals, taken, text};
use crate::query::spark::time_windows::Spans;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, LateralView, ObjectName, ObjectNamePart, OrderBy, Select, SetExpr, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// The name of the function, and of the column that it makes.
const WINDOW: &str = "window";
/// The view of spans that overlap.
const OF_SPANS: &str = "spark:spans";

fn is_window(function: &Function) -> bool {
    let ObjectName(parts) = &function.name;
    let [ObjectNamePart::Identifier(name)] = parts.as_slice() else {
        return false;
    };
    function.over.is_none() && name.value.eq_ignore_ascii_case(WINDOW)
}

/// Writes an expression for each call and for the column.
struct Replaced<'e> {
    calls: Vec<Function>,
    with: Option<&'e Expr>,
    /// Whether names are replaced, too.
    names: bool,
}

impl VisitorMut for Replaced<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let is_column = |name: &Ident| name.value.eq_ignore_ascii_case(WINDOW);
        match expr {
            Expr::Function(function) if is_window(function) => {
                self.calls.push(function.clone());
                if let Some(with) = self.with {
                    *expr = with.clone();
                }
            }
            Expr::Identifier(name) if self.names && is_column(name) => {
                if let Some(with) = self.with {
                    *expr = with.clone();
                }
            }
            Expr::CompoundIdentifier(names) if self.names && is_column(&names[0]) => {
                if let Some(with) = self.with {
                    *expr = names[1..].iter().fold(with.clone(), |of, name| {
                        call("spark:field", vec![of, text(name.value.to_lowercase())])
                    });
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn replace(part: &mut impl VisitMut, with: Option<&Expr>, names: bool) -> Vec<Function> {
    let mut replaced = Replaced {
        calls: vec![],
        with,
        names,
    };
    _ = part.visit(&mut replaced);
    replaced.calls
}

/// The calls in the items and groups of a SELECT.
fn calls(select: &Select) -> Vec<Function> {
    let mut projection = select.projection.clone();
    let mut calls = replace(&mut projection, None, false);
    let mut group_by = select.group_by.clone();
    calls.extend(replace(&mut group_by, None, false));
    calls
}

impl Lower {
    /// The spans of a query's SELECT, as its ORDER BY has them.
    pub(super) fn spans_of_order(
        &self,
        body: &SetExpr,
        order_by: &mut Option<OrderBy>,
    ) -> Result<(), Refused> {
        let SetExpr::Select(select) = body else {
            return Ok(());
        };
        let Some((time, spans)) = self.spans(select)? else {
            return Ok(());
        };
        if spans.slide == spans.length {
            replace(order_by, Some(&one(time, spans)), is_grouped(select));
        } else {
            replace(order_by, Some(&Expr::Identifier(Ident::new(WINDOW))), false);
        }
        Ok(())
    }

    /// Calls of `window` in a SELECT.
    pub(super) fn time_windows(&self, select: &mut Select) -> Result<(), Refused> {
        let Some((time, spans)) = self.spans(select)? else {
            return Ok(());
        };
        if spans.slide < spans.length {
            if !select.lateral_views.is_empty() {
                let hint = "write one of them in an inner query";
                return Err(self.refuse("window() that overlaps beside LATERAL VIEW", hint));
            }
            let column = Expr::Identifier(Ident::new(WINDOW));
            replace(&mut select.projection, Some(&column), false);
            replace(&mut select.group_by, Some(&column), false);
            replace(&mut select.having, Some(&column), false);
            let list = call("spark:windows", arguments(time, spans));
            select.lateral_views.push(LateralView {
                lateral_view: call("explode", vec![list]),
                lateral_view_name: ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote(
                    '"', OF_SPANS,
                ))]),
                lateral_col_alias: vec![Ident::new(WINDOW)],
                outer: false,
            });
            return Ok(());
        }
        let span = one(time.clone(), spans);
        let names = is_grouped(select);
        replace(&mut select.projection, Some(&span), names);
        replace(&mut select.group_by, Some(&span), names);
        replace(&mut select.having, Some(&span), names);
        let has_time = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(span))));
        select.selection = Some(match select.selection.take() {
            Some(other) => Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(other))),
                op: BinaryOperator::And,
                right: Box::new(has_time),
            },
            None => has_time,
        });
        Ok(())
    }

    /// The time and the spans of the one window of a SELECT.
    fn spans(&self, select: &Select) -> Result<Option<(Expr, Spans)>, Refused> {
        let mut calls = calls(select);
        let Some(first) = calls.pop() else {
            return Ok(None);
        };
        if calls
            .iter()
            .any(|other| other.args.to_string() != first.args.to_string())
        {
            let hint = "Spark allows one: write each in a query of its own";
            return Err(self.refuse("two different window() in a SELECT", hint));
        }
        let usage = "write window(ts, '10 minutes'), or window(ts, '10 minutes', '5 minutes') for windows that overlap; the job's own window is window_start and window_end";
        let refused = || self.refuse(format!("window{}", first.args), usage);
        let FunctionArguments::List(list) = &first.args else {
            return Err(refused());
        };
        let mut args = vec![];
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => args.push(arg.clone()),
                _ => return Err(refused()),
            }
        }
        let mut time = args.first_mut().map(taken).ok_or_else(refused)?;
        let mut figures = vec![];
        for arg in args.iter().skip(1) {
            let Expr::Value(ValueWithSpan {
                value: Value::SingleQuotedString(words) | Value::DoubleQuotedString(words),
                ..
            }) = arg
            else {
                return Err(refused());
            };
            let Some([0, days, micros]) = literals::of_words(words) else {
                return Err(refused());
            };
            let all = days
                .checked_mul(86_400_000_000)
                .and_then(|all| all.checked_add(micros));
            figures.push(all.ok_or_else(refused)?);
        }
        let spans = match figures.as_slice() {
            [length] => Spans {
                length: *length,
                slide: *length,
                start: 0,
            },
            [length, slide] => Spans {
                length: *length,
                slide: *slide,
                start: 0,
            },
            [length, slide, start] => Spans {
                length: *length,
                slide: *slide,
                start: *start,
            },
            _ => return Err(refused()),
        };
        match spans.problem() {
            Some((what, hint)) => Err(self.refuse(what, &hint)),
            None => Ok(Some((taken(&mut time), spans))),
        }
    }
}

/// Whether the column `window` is there: by its groups.
fn is_grouped(select: &Select) -> bool {
    let mut group_by = match &select.group_by {
        GroupByExpr::All(_) => return false,
        GroupByExpr::Expressions(by, _) => by.clone(),
    };
    !replace(&mut group_by, None, false).is_empty()
}

fn arguments(time: Expr, spans: Spans) -> Vec<Expr> {
    let figures = [spans.length, spans.slide, spans.start];
    let figures = figures.map(|figure| text(figure.to_string()));
    std::iter::once(time).chain(figures).collect()
}

fn one(time: Expr, spans: Spans) -> Expr {
    call("spark:window", arguments(time, spans))
}
