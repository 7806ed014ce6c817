//! A condition of Glue's Filter as SQL: comparisons of a row's columns with literals, `in`,
//! `re.match`, and `and`, `or`, `not` of them.
//!
//! Rule: if one part is not understood, the whole condition is not understood. A column without a
//! value is Python's `None`: it is equal to nothing else, and its order is an error, for which Glue
//! drops the row.

use super::python::Expr;
use super::query::quoted;
use super::write::text;

/// `lambda row: row["a"] > 5 and ...` as SQL.
pub fn sql(expr: &Expr) -> Option<String> {
    let Expr::Lambda(names, body) = expr else {
        return None;
    };
    let [row] = names.as_slice() else { return None };
    condition(body, row, false)
}

/// `inverted`: it stands below a `not`, where NULL is not as good as false.
fn condition(expr: &Expr, row: &str, inverted: bool) -> Option<String> {
    match expr {
        Expr::Binary(op, left, right) if op == "and" || op == "or" => Some(format!(
            "({} {} {})",
            condition(left, row, inverted)?,
            op.to_uppercase(),
            condition(right, row, inverted)?
        )),
        Expr::Unary(op, inner) if op == "not" => {
            Some(format!("NOT ({})", condition(inner, row, true)?))
        }
        Expr::Binary(op, left, right) => {
            let op = match op.as_str() {
                "==" if inverted => "<=>",
                "==" => "=",
                "!=" => {
                    let left = operand(left, row)?;
                    return Some(format!("NOT ({left} <=> {})", operand(right, row)?));
                }
                "<" | ">" | "<=" | ">=" => op,
                "in" | "not in" => {
                    let Expr::List(items) = &**right else {
                        return None;
                    };
                    let items: Vec<_> = items
                        .iter()
                        .map(|item| operand(item, row))
                        .collect::<Option<_>>()?;
                    if items.is_empty() {
                        return None;
                    }
                    let left = operand(left, row)?;
                    let list = items.join(", ");
                    return Some(match op.as_str() {
                        "not in" => format!("({left} IS NULL OR {left} NOT IN ({list}))"),
                        _ if inverted => format!("({left} IS NOT NULL AND {left} IN ({list}))"),
                        _ => format!("{left} IN ({list})"),
                    });
                }
                "is" if **right == Expr::Constant("None") => {
                    return Some(format!("{} IS NULL", operand(left, row)?));
                }
                "is not" if **right == Expr::Constant("None") => {
                    return Some(format!("{} IS NOT NULL", operand(left, row)?));
                }
                _ => return None,
            };
            Some(format!(
                "{} {op} {}",
                operand(left, row)?,
                operand(right, row)?
            ))
        }
        // A regular expression in the form of Glue Studio.
        Expr::Call(call) => match (&call.function, call.args.as_slice()) {
            (Expr::Name(name), [inner]) if name == "bool" => condition(inner, row, inverted),
            (Expr::Name(name), [Expr::Text(pattern), column]) if name == "re.match" => {
                // It matches from the beginning of the text.
                Some(format!(
                    "rlike({}, {})",
                    operand(column, row)?,
                    text(&format!("^(?:{pattern})"))
                ))
            }
            _ => None,
        },
        _ => None,
    }
}

fn operand(expr: &Expr, row: &str) -> Option<String> {
    match expr {
        Expr::Index(base, key) => match (&**base, &**key) {
            (Expr::Name(name), Expr::Text(column)) if name == row => Some(quoted(column)),
            _ => None,
        },
        Expr::Text(value) => Some(text(value)),
        Expr::Number(number) if number.parse::<f64>().is_ok() => Some(number.replace('_', "")),
        Expr::Unary(op, inner) if op == "-" => Some(format!("-{}", operand(inner, row)?)),
        Expr::Constant(word @ ("True" | "False")) => Some(word.to_uppercase()),
        _ => None,
    }
}
