//! A condition of Glue's Filter as SQL: comparisons of a row's columns with literals, `in`,
//! `re.match`, and `and`, `or`, `not` of them.
//!
//! Rule: if one part is not understood, the whole condition is not understood.

use super::python::Expr;
use super::query::quoted;
use super::write::text;

/// `lambda row: row["a"] > 5 and ...` as SQL.
pub fn sql(expr: &Expr) -> Option<String> {
    let Expr::Lambda(names, body) = expr else {
        return None;
    };
    let [row] = names.as_slice() else { return None };
    condition(body, row)
}

fn condition(expr: &Expr, row: &str) -> Option<String> {
    match expr {
        Expr::Binary(op, left, right) if op == "and" || op == "or" => Some(format!(
            "({} {} {})",
            condition(left, row)?,
            op.to_uppercase(),
            condition(right, row)?
        )),
        Expr::Unary(op, inner) if op == "not" => Some(format!("NOT ({})", condition(inner, row)?)),
        Expr::Binary(op, left, right) => {
            let op = match op.as_str() {
                "==" => "=",
                "!=" => "<>",
                "<" | ">" | "<=" | ">=" => op,
                "in" | "not in" => {
                    let Expr::List(items) = &**right else {
                        return None;
                    };
                    let items: Vec<_> = items
                        .iter()
                        .map(|item| operand(item, row))
                        .collect::<Option<_>>()?;
                    let not = if op == "not in" { "NOT " } else { "" };
                    return (!items.is_empty()).then_some(format!(
                        "{} {not}IN ({})",
                        operand(left, row)?,
                        items.join(", ")
                    ));
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
            (Expr::Name(name), [inner]) if name == "bool" => condition(inner, row),
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
