//! Spark SQL that has another meaning here.
//!
//! Owns: finding such places in a text; converting Java's time patterns to strftime. Does not own:
//! refusals (`sql`).
//! Rule: only what would silently give other values is named; the planner refuses the rest.

use super::limits;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, OrderByExpr, OrderByKind, Query, Statement, UnaryOperator, Value, Visit,
    Visitor, WindowType,
};
use datafusion::sql::sqlparser::dialect::SparkSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const DIVISION: &str = "a / b of whole numbers is a whole number here, in Spark a fraction, and NULL where b is 0: write CAST(a AS DOUBLE) / NULLIF(b, 0)";
const CONCAT: &str =
    "concat(a, b) passes over what is NULL here, in Spark the whole is NULL then: write a || b";
const REGEXP_REPLACE: &str = "regexp_replace(x, 'a', 'b') replaces the first match here, in Spark all: write regexp_replace(x, 'a', 'b', 'g')";
const PATTERN: &str = "patterns of time are those of strftime here, not those of Java: write '%Y-%m-%d %H:%M:%S' for 'yyyy-MM-dd HH:mm:ss'";
const SUBSTRING: &str = "substring(x, 0, n) begins before the first character here and has one less, in Spark it begins at the first: write substring(x, 1, n); to count from the end, write right(x, n)";
const NULL_ORDER: &str = "ORDER BY puts NULL last here and first with DESC, in Spark first and last: write NULLS FIRST or NULLS LAST";
const CAST: &str =
    "CAST of a text that does not fit fails the window here, in Spark it is NULL: write TRY_CAST";
const CAST_TIME: &str = "CAST of a timestamp to a number counts in units of the timestamp's type here, in Spark in seconds: write to_unixtime(ts), or date_part('epoch', ts) for fractions";
const LOG: &str = "log(x) is the logarithm to base 10 here, in Spark the natural one: write ln(x)";
const DAY_OF_WEEK: &str = "the day of the week 'dow' is 0 to 6 from Sunday here, in Spark 1 to 7: write date_part('dow', x) + 1";
const SECOND: &str = "extract(second FROM x) is a whole number here, in Spark it has a fraction: write date_part('microsecond', x) / 1000000.0";
const INITCAP: &str = "initcap(x) begins a word after each character that is neither a letter nor a digit here, in Spark only after a blank: 'o''neil' becomes O'Neil here and O'neil there";
const SUBSCRIPT: &str =
    "list[1] is the first element here, in Spark it is list[0]: add 1 to the places of lists";
const QUOTES: &str =
    "\"text\" in double quotes is the name of a column here, in Spark it is a text: write 'text'";

/// The parts of a Spark SQL query that have another meaning here, each kind once, with what to
/// write. Empty if the text cannot be parsed: the planner reports why.
pub fn spark_differences(sql: &str) -> Vec<&'static str> {
    let sql = sql.to_owned();
    super::planning::blocking(move || Ok(differences(&sql))).unwrap_or_default()
}

fn differences(sql: &str) -> Vec<&'static str> {
    if limits::check_tokens(sql).is_err() {
        return vec![];
    }
    let parser = Parser::new(&SparkSqlDialect {}).with_recursion_limit(limits::SQL_NESTING_MAX);
    let Ok(mut statements) = parser
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_statements())
    else {
        return vec![];
    };
    let mut met = Met::default();
    for statement in &mut statements {
        if matches!(statement, Statement::Query(_)) && limits::flatten(statement).is_ok() {
            let _all: ControlFlow<()> = statement.visit(&mut met);
        }
    }
    met.0.into_iter().collect()
}

#[derive(Default)]
struct Met(BTreeSet<&'static str>);

impl Met {
    fn order(&mut self, by: &[OrderByExpr]) {
        if by.iter().any(|by| by.options.nulls_first.is_none()) {
            self.0.insert(NULL_ORDER);
        }
    }

    fn call(&mut self, call: &Function) {
        if let Some(WindowType::WindowSpec(over)) = &call.over {
            self.order(&over.order_by);
        }
        let FunctionArguments::List(list) = &call.args else {
            return;
        };
        let args: Vec<&Expr> = list.args.iter().filter_map(plain).collect();
        let found = match (
            call.name.to_string().to_lowercase().as_str(),
            args.as_slice(),
        ) {
            ("concat", _) => CONCAT,
            ("regexp_replace", [_, _, _]) => REGEXP_REPLACE,
            (
                "date_format" | "to_date" | "to_timestamp" | "from_unixtime" | "unix_timestamp",
                [_, pattern],
            ) if text(pattern).is_some_and(is_java_pattern) => PATTERN,
            ("substr" | "substring", [_, from, ..]) if !is_positive(from) => SUBSTRING,
            ("log", [_]) => LOG,
            ("initcap", [_]) => INITCAP,
            ("date_part" | "datepart", [field, _]) => match text(field).and_then(of_field) {
                Some(found) => found,
                None => return,
            },
            _ => return,
        };
        self.0.insert(found);
    }
}

impl Visitor for Met {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(OrderByKind::Expressions(by)) = query.order_by.as_ref().map(|order| &order.kind)
        {
            self.order(by);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp {
                op: BinaryOperator::Divide,
                ..
            } => _ = self.0.insert(DIVISION),
            Expr::Function(call) => self.call(call),
            Expr::Substring {
                substring_from: Some(from),
                ..
            } if !is_positive(from) => _ = self.0.insert(SUBSTRING),
            Expr::Cast {
                kind,
                expr: of,
                data_type: to,
                ..
            } => {
                if matches!(kind, CastKind::Cast | CastKind::DoubleColon) {
                    self.0.insert(CAST);
                }
                if is_number(to) && may_be_time(of) {
                    self.0.insert(CAST_TIME);
                }
            }
            Expr::Extract { field, .. } => self.0.extend(of_field(&field.to_string())),
            Expr::CompoundFieldAccess { .. } => _ = self.0.insert(SUBSCRIPT),
            Expr::Value(value) if matches!(value.value, Value::DoubleQuotedString(_)) => {
                _ = self.0.insert(QUOTES)
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn plain(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text),
        _ => None,
    }
}

/// The difference in meaning of a field of a time, if any.
fn of_field(field: &str) -> Option<&'static str> {
    match field.trim_matches(['\'', '"']).to_lowercase().as_str() {
        "dow" => Some(DAY_OF_WEEK),
        "second" | "seconds" | "sec" | "secs" | "s" => Some(SECOND),
        _ => None,
    }
}

/// Whether it may be a timestamp. The types of columns are unknown here.
fn may_be_time(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => false,
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Timestamp(..)),
        _ => true,
    }
}

fn is_number(data_type: &DataType) -> bool {
    let name = data_type.to_string().to_lowercase();
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    let numbers = [
        "tinyint", "byte", "smallint", "short", "int", "integer", "bigint", "long", "float",
        "real", "double", "decimal", "dec", "numeric",
    ];
    numbers.contains(&name)
}

/// False for 0 and negative constants; a value that is not a constant counts as positive.
fn is_positive(expr: &Expr) -> bool {
    match expr {
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            ..
        } => false,
        Expr::Value(value) => {
            !matches!(&value.value, Value::Number(number, _) if number.trim_matches('0').is_empty())
        }
        _ => true,
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
    fn each_place_that_means_something_else_is_named_once() {
        let met = |sql: &str| spark_differences(sql);
        let of = |expr: &str| met(&format!("SELECT {expr} FROM t"));
        assert_eq!(of("a / b + c / d"), [DIVISION]);
        assert_eq!(of("concat(a, '-', b)"), [CONCAT]);
        assert_eq!(of("regexp_replace(a, '[0-9]', '')"), [REGEXP_REPLACE]);
        assert_eq!(of("date_format(at, 'yyyy-MM-dd')"), [PATTERN]);
        assert_eq!(of("to_timestamp(at, \"yyyy\")"), [QUOTES, PATTERN]);
        for place in ["0", "-2"] {
            assert_eq!(of(&format!("substring(a, {place}, 3)")), [SUBSTRING]);
            assert_eq!(of(&format!("substr(a, {place})")), [SUBSTRING]);
        }
        assert_eq!(of("CAST(a AS DATE)"), [CAST]);
        for number in ["INT", "bigint", "DOUBLE", "DECIMAL(20, 3)"] {
            assert_eq!(
                of(&format!("CAST(a AS {number})")),
                [CAST, CAST_TIME],
                "{number}"
            );
            assert_eq!(
                of(&format!("TRY_CAST(a AS {number})")),
                [CAST_TIME],
                "{number}"
            );
            assert_eq!(
                of(&format!("TRY_CAST(TRY_CAST(a AS TIMESTAMP) AS {number})")),
                [CAST_TIME],
                "{number}"
            );
        }
        assert_eq!(of("log(a) + log(2, a)"), [LOG]);
        assert_eq!(of("initcap(a)"), [INITCAP]);
        for day in [
            "extract(DOW FROM at)",
            "date_part('dow', at)",
            "datepart('DOW', at)",
        ] {
            assert_eq!(of(day), [DAY_OF_WEEK], "{day}");
        }
        for second in ["extract(SECOND FROM at)", "date_part('seconds', at)"] {
            assert_eq!(of(second), [SECOND], "{second}");
        }
        assert_eq!(of("split(a, ',')[0]"), [SUBSCRIPT]);
        assert_eq!(
            of("row_number() OVER (PARTITION BY a ORDER BY b)"),
            [NULL_ORDER]
        );
        assert_eq!(
            met("SELECT a FROM (SELECT a FROM t ORDER BY a DESC LIMIT 3)"),
            [NULL_ORDER]
        );
        assert_eq!(met("SELECT a FROM t WHERE b = \"x\""), [QUOTES]);
        let all =
            "WITH x AS (SELECT a / 2 AS h FROM `t`) SELECT concat(h, h), concat(h, '') FROM x";
        assert_eq!(met(all), [DIVISION, CONCAT]);
    }

    #[test]
    fn what_means_the_same_is_not_named() {
        let same = "SELECT a, b || c, a * 2, substring(a, 2, 3), regexp_replace(a, 'x', 'y', 'g'), TRY_CAST(a AS DATE), \
                    TRY_CAST('1' AS INT), TRY_CAST(TRY_CAST(a AS STRING) AS INT), TRY_CAST(a AS TIMESTAMP), log(2, a), date_part('year', at), extract(DAY FROM at), \
                    date_format(at, '%Y') FROM t WHERE a = 'x' ORDER BY a ASC NULLS FIRST";
        assert_eq!(spark_differences(same), Vec::<&str>::new());
        assert_eq!(spark_differences("no SQL at all ("), Vec::<&str>::new());
        assert_eq!(
            spark_differences(&format!("SELECT {} FROM t", vec!["a"; 100_000].join("/"))),
            Vec::<&str>::new()
        );
    }

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
