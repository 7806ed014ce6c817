//! Patterns of time: those of Java, and those of strftime.
//!
//! Owns: telling them apart, and writing one as the other, for advice. Does not own: Java's
//! patterns in the dialect of Spark (`spark`).
//! Rule: a pattern that has no equivalent has no advice.

use super::error::QueryError;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, Value, Visit, Visitor,
};
use std::ops::ControlFlow;

/// Refuses patterns of Java where a text is read by them: every row would fail.
///
/// # Errors
/// [`QueryError::Sql`] for the first.
pub(super) fn check(statement: &Statement) -> Result<(), QueryError> {
    match Visit::visit(statement, &mut Read) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(*refused),
    }
}

struct Read;

impl Visitor for Read {
    type Break = Box<QueryError>;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(call) = expr else {
            return ControlFlow::Continue(());
        };
        let name = call.name.to_string().to_lowercase();
        let FunctionArguments::List(list) = &call.args else {
            return ControlFlow::Continue(());
        };
        if name != "to_date" && !name.starts_with("to_timestamp") {
            return ControlFlow::Continue(());
        }
        for arg in list.args.iter().skip(1) {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = arg else {
                continue;
            };
            let Value::SingleQuotedString(pattern) = &value.value else {
                continue;
            };
            if !is_java_pattern(pattern) {
                continue;
            }
            let hint = match strftime(pattern) {
                Some(written) if written.contains('%') => format!("write '{written}'"),
                _ => "write it as strftime does: '%Y-%m-%d %H:%M:%S'".to_owned(),
            };
            let message = format!("{name}(x, '{pattern}') reads no text: each field needs a %");
            let hint = format!("{hint}; dialect = \"spark\" has patterns of Java");
            let line = usize::try_from(value.span.start.line).ok();
            let refused =
                QueryError::sql(message, Some(hint)).on_line(line.filter(|line| *line > 0));
            return ControlFlow::Break(Box::new(refused));
        }
        ControlFlow::Continue(())
    }
}

/// Whether a pattern has no strftime field, or has fields as Java writes them besides.
pub(super) fn is_java_pattern(pattern: &str) -> bool {
    let mut literal = String::new();
    let mut has_field = false;
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            literal.push(letter);
            continue;
        }
        has_field = true;
        literal.push(' ');
        // A field may have a flag or a width before its letter: `%-d`, `%3f`.
        letters
            .by_ref()
            .find(|letter| letter.is_alphabetic() || *letter == '%');
    }
    !has_field
        || ["yyyy", "MM", "dd", "HH", "mm", "ss"]
            .iter()
            .any(|field| literal.contains(field))
}

/// A Java pattern as a strftime pattern; `None` if it has a letter without equivalent.
pub(super) fn strftime(java: &str) -> Option<String> {
    let mut written = String::new();
    let mut rest = java;
    while let Some(letter) = rest.chars().next() {
        let run = rest.len() - rest.trim_start_matches(letter).len();
        let (part, after) = rest.split_at(run);
        rest = after;
        if letter == '\'' {
            let quoted = rest.find('\'')?;
            written.push_str(&rest[..quoted].replace('%', "%%"));
            rest = &rest[quoted + 1..];
            continue;
        }
        let field = match part {
            "yyyy" | "y" => "%Y",
            "yy" => "%y",
            "MMMM" => "%B",
            "MMM" => "%b",
            "MM" => "%m",
            "M" => "%-m",
            "dd" => "%d",
            "d" => "%-d",
            "DDD" => "%j",
            "HH" => "%H",
            "H" => "%-H",
            "hh" => "%I",
            "h" => "%-I",
            "mm" => "%M",
            "ss" => "%S",
            "SSS" => "%3f",
            "SSSSSS" => "%6f",
            "a" => "%p",
            "E" | "EE" | "EEE" => "%a",
            "EEEE" => "%A",
            _ if letter.is_alphabetic() => return None,
            other => other,
        };
        written.push_str(field);
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_java_s_if_it_has_no_field_or_fields_of_both() {
        for java in ["yyyy-MM-dd", "%Y-MM-dd", "HH:%M", "", "week"] {
            assert!(is_java_pattern(java), "{java}");
        }
        for strftime in [
            "%Y-%m-%d",
            "%-d %B",
            "%H:%M:%S%.3f",
            "at %H",
            "100%%",
            "%Hh%Mm%Ss",
        ] {
            assert!(!is_java_pattern(strftime), "{strftime}");
        }
    }

    #[test]
    fn patterns_of_java_become_those_of_strftime_or_nothing() {
        let of = |java| strftime(java);
        assert_eq!(
            of("yyyy-MM-dd'T'HH:mm:ss.SSS").as_deref(),
            Some("%Y-%m-%dT%H:%M:%S.%3f")
        );
        assert_eq!(
            of("EEEE, d MMMM yy hh:mm a").as_deref(),
            Some("%A, %-d %B %y %I:%M %p")
        );
        assert_eq!(of("yyyy-'W'ww"), None);
        assert_eq!(of("'open"), None);
    }
}
