//! Conditions that check whether a frame has rows.
//!
//! Owns: the forms of such conditions in scripts. Does not own: which frame it is (`script`).
//! Rule: a condition is understood only if it is true exactly when there are rows, or exactly when
//! there are none: `count() > 100` is not.

use super::python::{Call, Expr};

/// The frame's name, and whether the condition is true with rows (`true`) or without (`false`).
pub fn rows_of(condition: &Expr) -> Option<(&str, bool)> {
    match condition {
        Expr::Unary(op, inner) if op == "not" => rows_of(inner).map(|(frame, has)| (frame, !has)),
        Expr::Binary(op, left, right) => {
            if let Some(frame) = counted(left) {
                return Some((frame, compared(op, number(right)?)?));
            }
            Some((counted(right)?, compared(turned(op)?, number(left)?)?))
        }
        Expr::Call(call) => match method(call)? {
            (frame, "isEmpty") => Some((frame, false)),
            // A number is true unless it is 0, a list unless it is empty.
            (frame, "count" | "head" | "take") => Some((frame, true)),
            _ => None,
        },
        _ => None,
    }
}

/// The frame whose rows are counted: `x.count()`, `len(x.head(1))`.
fn counted(expr: &Expr) -> Option<&str> {
    let Expr::Call(call) = expr else { return None };
    match (&call.function, call.args.as_slice()) {
        (Expr::Name(name), [Expr::Call(inner)]) if name == "len" => match method(inner)? {
            (frame, "head" | "take") => Some(frame),
            _ => None,
        },
        _ => method(call)
            .filter(|(_, method)| *method == "count")
            .map(|(frame, _)| frame),
    }
}

/// Name and method of `x.method()`, `x.rdd.method()` and `x.toDF().method()`.
fn method(call: &Call) -> Option<(&str, &str)> {
    match &call.function {
        Expr::Name(path) => {
            let (frame, method) = path.rsplit_once('.')?;
            Some((frame.strip_suffix(".rdd").unwrap_or(frame), method))
        }
        Expr::Attribute(base, method) => match &**base {
            Expr::Call(inner) => match &inner.function {
                Expr::Name(path) => Some((path.strip_suffix(".toDF")?, method.as_str())),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<u64> {
    if let Expr::Number(number) = expr {
        number.parse().ok()
    } else {
        None
    }
}

/// What `count op number` means for rows.
fn compared(op: &str, number: u64) -> Option<bool> {
    match (op, number) {
        (">" | "!=", 0) | (">=", 1) => Some(true),
        ("==" | "<=", 0) | ("<", 1) => Some(false),
        _ => None,
    }
}

fn turned(op: &str) -> Option<&str> {
    Some(match op {
        "<" => ">",
        ">" => "<",
        "<=" => ">=",
        ">=" => "<=",
        "==" | "!=" => op,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::python::{Kind, parse};
    use super::*;

    fn asked(condition: &str) -> Option<(String, bool)> {
        let statements = parse(&format!("if {condition}:\n    x = 1\n")).unwrap();
        let Kind::If(condition) = &statements[0].kind else {
            panic!("{statements:?}")
        };
        rows_of(condition).map(|(frame, has)| (frame.to_owned(), has))
    }

    #[test]
    fn only_what_is_true_just_with_rows_or_just_without_is_understood() {
        for with in [
            "a.count() > 0",
            "(a.count() >= 1)",
            "a.count() != 0",
            "0 < a.count()",
            "a.count()",
            "not a.isEmpty()",
        ]
        .into_iter()
        .chain([
            "not a.rdd.isEmpty()",
            "len(a.head(1)) > 0",
            "len(a.take(1)) != 0",
            "a.toDF().count() > 0",
            "a.head(1)",
        ]) {
            assert_eq!(asked(with), Some(("a".to_owned(), true)), "{with}");
        }
        for without in [
            "a.count() == 0",
            "a.count() < 1",
            "not a.count()",
            "a.isEmpty()",
            "a.rdd.isEmpty()",
            "0 == a.count()",
        ] {
            assert_eq!(asked(without), Some(("a".to_owned(), false)), "{without}");
        }
        for other in [
            "a.count() > 100",
            "a.count() == 1",
            "a.count() > b",
            "a.count() > 0 and c",
            "count() > 0",
            "a.first()",
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
