//! Calls with an argument that is no value: `timestampadd(HOUR, 1, ts)`, `decode(x, 1, 'one', ...)`,
//! `sequence(a, b, INTERVAL 1 DAY)`, `s LIKE ANY ('a%', 'b%')`.
//!
//! Owns: their forms. Does not own: what they give (`units`, `arithmetic`).
//! Rule: a unit is a word of the query, so that it is known at submit.

use super::{Lower, Refused, call, same, taken, text};
use crate::query::spark::units::Span;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    UnaryOperator, Value,
};

const UNITS: &str = "the units are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND and MICROSECOND";

/// The name of a function, and its arguments if all of them are values.
fn values(function: &mut Function) -> Option<Vec<&mut Expr>> {
    let FunctionArguments::List(list) = &mut function.args else {
        return None;
    };
    let each = list.args.iter_mut().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => Some(arg),
        _ => None,
    });
    each.collect()
}

impl Lower {
    /// A call that is known by its arguments before they are rewritten; `None`: it is none of these.
    pub(super) fn special(&self, function: &mut Function) -> Result<Option<Expr>, Refused> {
        let name = function.name.to_string().to_lowercase();
        let Some(mut args) = values(function) else {
            return Ok(None);
        };
        match (name.as_str(), args.as_mut_slice()) {
            ("sequence", [from, to, Expr::Interval(interval)]) => {
                let figures = self.interval(interval, 1)?;
                let mut all = vec![taken(from), taken(to)];
                all.extend(figures.map(|figure| text(figure.to_string())));
                Ok(Some(call("spark:series", all)))
            }
            ("timestampadd" | "dateadd" | "date_add", [unit, count, time]) => {
                let unit = self.unit(&name, unit)?;
                let all = vec![unit, taken(count), taken(time)];
                Ok(Some(call("spark:timestamp_add", all)))
            }
            ("timestampdiff" | "datediff" | "date_diff", [unit, from, to]) => {
                let unit = self.unit(&name, unit)?;
                let all = vec![unit, taken(from), taken(to)];
                Ok(Some(call("spark:timestamp_diff", all)))
            }
            ("timestampadd", _) => Err(self.refuse(
                "timestampadd() with such arguments",
                "write timestampadd(HOUR, 1, ts)",
            )),
            ("timestampdiff", _) => Err(self.refuse(
                "timestampdiff() with such arguments",
                "write timestampdiff(HOUR, from, to)",
            )),
            ("like" | "ilike", [of, pattern]) => {
                let (of, pattern) = (Box::new(taken(of)), Box::new(taken(pattern)));
                Ok(Some(Expr::Nested(Box::new(match name.as_str() {
                    "like" => Expr::Like {
                        negated: false,
                        any: false,
                        expr: of,
                        pattern,
                        escape_char: None,
                    },
                    _ => Expr::ILike {
                        negated: false,
                        any: false,
                        expr: of,
                        pattern,
                        escape_char: None,
                    },
                }))))
            }
            ("like" | "ilike", _) => {
                Err(self.refuse(format!("{name}() with an escape"), "write x LIKE 'a\\\\%'"))
            }
            ("decode", [_, _, _, ..]) => {
                let mut rest = args.into_iter().map(taken);
                let Some(of) = rest.next() else {
                    return Ok(None);
                };
                let mut rest = rest.peekable();
                let mut all = vec![];
                let mut otherwise = Expr::value(Value::Null);
                while let Some(sought) = rest.next() {
                    match rest.next() {
                        Some(result) => {
                            all.push(Expr::Nested(Box::new(same(of.clone(), sought))));
                            all.push(result);
                        }
                        None => otherwise = sought,
                    }
                }
                all.push(otherwise);
                Ok(Some(call("spark:case", all)))
            }
            ("ceil" | "ceiling" | "floor", [of, places]) => {
                let (of, places) = (taken(of), taken(places));
                Ok(Some(self.toward(name == "floor", of, &places)?))
            }
            _ => Ok(None),
        }
    }

    /// `ceil(x, 2)`, `floor(x, -1)`.
    pub(super) fn toward(&self, down: bool, of: Expr, places: &Expr) -> Result<Expr, Refused> {
        let name = if down {
            "spark:floor_to"
        } else {
            "spark:ceil_to"
        };
        let (digits, sign) = match places {
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => (super::ordinal(expr), "-"),
            other => (super::ordinal(other), ""),
        };
        match digits {
            Some(digits) => Ok(call(name, vec![of, text(format!("{sign}{digits}"))])),
            None => Err(self.refuse(
                "ceil() or floor() with digits that are no number of the query",
                "write ceil(x, 2)",
            )),
        }
    }

    fn unit(&self, name: &str, unit: &Expr) -> Result<Expr, Refused> {
        match unit {
            Expr::Identifier(Ident {
                value,
                quote_style: None,
                ..
            }) if Span::of_unit(value).is_some() => Ok(text(value.to_uppercase())),
            other => Err(self.refuse(format!("{name}() with the unit {other}"), UNITS)),
        }
    }

    /// `x LIKE ANY ('a%', 'b%')` as `x LIKE 'a%' OR x LIKE 'b%'`.
    pub(super) fn like_any(&self, expr: &mut Expr) -> Result<(), Refused> {
        let (is_negated, of, pattern, is_exact) = match expr {
            Expr::Like {
                any: true,
                negated,
                expr,
                pattern,
                escape_char: None,
            } => (*negated, expr, pattern, true),
            Expr::ILike {
                any: true,
                negated,
                expr,
                pattern,
                escape_char: None,
            } => (*negated, expr, pattern, false),
            _ => return Ok(()),
        };
        let patterns = match taken(pattern) {
            Expr::Tuple(patterns) => patterns,
            Expr::Nested(pattern) => vec![*pattern],
            other => {
                let hint = "write x LIKE ANY ('a%', 'b%')";
                return Err(self.refuse(format!("LIKE ANY {other}"), hint));
            }
        };
        let of = taken(of);
        let one = |pattern: Expr| match is_exact {
            true => Expr::Like {
                negated: is_negated,
                any: false,
                expr: Box::new(of.clone()),
                pattern: Box::new(pattern),
                escape_char: None,
            },
            false => Expr::ILike {
                negated: is_negated,
                any: false,
                expr: Box::new(of.clone()),
                pattern: Box::new(pattern),
                escape_char: None,
            },
        };
        let any = patterns
            .into_iter()
            .map(one)
            .reduce(|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::Or,
                right: Box::new(right),
            });
        if let Some(any) = any {
            *expr = Expr::Nested(Box::new(any));
        }
        Ok(())
    }
}
