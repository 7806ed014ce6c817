//! A column expression of PySpark as Spark SQL: `F.col("a") * 2`, `F.when(...)`, `.cast("int")`.
//!
//! Owns: the translation of expressions. Does not own: frames (`script`), what a function means (the
//! dialect of Spark).
//! Rule: if one part is not understood, the whole expression is not understood.

use super::python::{Call, Expr};
use super::query::quoted;
use super::write::text;
use std::collections::BTreeMap;

/// Deepest nesting that is translated.
const DEPTH_MAX: usize = 64;

/// Functions all of whose texts are names of columns.
const OF_COLUMNS: [&str; 10] = [
    "array",
    "coalesce",
    "concat",
    "countDistinct",
    "count_distinct",
    "datediff",
    "greatest",
    "least",
    "levenshtein",
    "nanvl",
];
/// Functions whose first text is a value, and the others names of columns.
const VALUE_FIRST: [&str; 3] = ["concat_ws", "date_trunc", "locate"];
/// Functions whose first text is the name of a column, and the others values.
const COLUMN_FIRST: [&str; 19] = [
    "array_contains",
    "array_join",
    "array_position",
    "date_format",
    "from_unixtime",
    "get_json_object",
    "instr",
    "lpad",
    "next_day",
    "regexp_extract",
    "regexp_replace",
    "rpad",
    "split",
    "substring_index",
    "to_date",
    "to_timestamp",
    "translate",
    "trunc",
    "unix_timestamp",
];

/// Variables that hold columns.
pub type Columns = BTreeMap<String, Expr>;

/// An expression in SQL, and the name that it gives its column.
pub struct Column {
    pub sql: String,
    pub name: Option<String>,
}

/// Translates a column; a text is the name of one.
pub fn column(expr: &Expr, known: &Columns) -> Option<Column> {
    if let Expr::Text(name) = expr {
        return Some(Column {
            sql: named(name)?,
            name: (name != "*").then(|| name.clone()),
        });
    }
    if let Some((method, receiver, call)) = method_of(expr)
        && matches!(method, "alias" | "name")
        && let [Expr::Text(name)] = call.args.as_slice()
    {
        let sql = column(receiver, known)?.sql;
        return Some(Column {
            sql,
            name: Some(name.clone()),
        });
    }
    let name = match expr {
        Expr::Call(call) if function_of(call) == Some("col") => match call.args.as_slice() {
            [Expr::Text(name)] => Some(name.clone()),
            _ => None,
        },
        Expr::Index(_, key) => match &**key {
            Expr::Text(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    Some(Column {
        sql: value(expr, known, 0)?,
        name,
    })
}

/// Translates an expression in which a text is a value.
pub fn condition(expr: &Expr, known: &Columns) -> Option<String> {
    match expr {
        Expr::Text(sql) => Some(format!("({sql})")),
        other => value(other, known, 0),
    }
}

/// A name in SQL; `None` for a path into a structure.
fn named(name: &str) -> Option<String> {
    match name {
        "*" => Some("*".to_owned()),
        name if name.contains(['.', '`']) => None,
        name => Some(quoted(name)),
    }
}

/// The function of `F.name(...)` or `name(...)`.
fn function_of(call: &Call) -> Option<&str> {
    match &call.function {
        Expr::Name(path) => match path.rsplit_once('.') {
            Some(("F" | "f" | "fn" | "functions" | "sf", name)) => Some(name),
            Some(_) => None,
            None => Some(path),
        },
        _ => None,
    }
}

/// The method, what it is called on, and the call.
fn method_of(expr: &Expr) -> Option<(&str, &Expr, &Call)> {
    let Expr::Call(call) = expr else { return None };
    match &call.function {
        Expr::Attribute(receiver, method) => Some((method, receiver, call)),
        _ => None,
    }
}

fn value(expr: &Expr, known: &Columns, depth: usize) -> Option<String> {
    if depth > DEPTH_MAX {
        return None;
    }
    let inner = |expr: &Expr| value(expr, known, depth + 1);
    match expr {
        Expr::Text(value) => Some(text(value)),
        Expr::Number(number) if number.parse::<f64>().is_ok() => {
            // A number with a point is a double in Python.
            let is_whole = number.parse::<i64>().is_ok();
            Some(if is_whole {
                number.clone()
            } else {
                format!("CAST('{number}' AS DOUBLE)")
            })
        }
        Expr::Constant(word) => Some(match *word {
            "True" => "TRUE".to_owned(),
            "False" => "FALSE".to_owned(),
            _ => "NULL".to_owned(),
        }),
        Expr::Name(name) => inner(known.get(name)?),
        Expr::Index(base, key) => match (&**base, &**key) {
            (Expr::Name(_), Expr::Text(column)) => named(column),
            (base, Expr::Number(place)) => Some(format!("{}[{place}]", inner(base)?)),
            _ => None,
        },
        Expr::Unary(op, operand) if op == "-" => Some(format!("(-{})", inner(operand)?)),
        Expr::Unary(op, operand) if op == "~" => Some(format!("(NOT {})", inner(operand)?)),
        Expr::Binary(op, left, right) => {
            let op = match op.as_str() {
                "==" => "=",
                "!=" => "<>",
                "&" => "AND",
                "|" => "OR",
                "+" | "-" | "*" | "/" | "%" | "<" | ">" | "<=" | ">=" => op,
                _ => return None,
            };
            Some(format!("({} {op} {})", inner(left)?, inner(right)?))
        }
        Expr::Call(call) => match method_of(expr) {
            Some((method, receiver, _)) => on_column(call, method, receiver, known, depth + 1),
            None => function(call, function_of(call)?, known, depth + 1),
        },
        _ => None,
    }
}

fn list(exprs: &[Expr], known: &Columns, depth: usize) -> Option<Vec<String>> {
    exprs.iter().map(|expr| value(expr, known, depth)).collect()
}

/// Methods of columns.
fn on_column(
    call: &Call,
    method: &str,
    receiver: &Expr,
    known: &Columns,
    depth: usize,
) -> Option<String> {
    if !call.named.is_empty() {
        return None;
    }
    if matches!(method, "when" | "otherwise") {
        return case(&Expr::Call(Box::new(call.clone())), known, depth);
    }
    let of = value(receiver, known, depth)?;
    let args = call.args.as_slice();
    let one = |place: usize| args.get(place).and_then(|arg| value(arg, known, depth));
    let call_of = |name: &str| Some(format!("{name}({of}, {})", one(0)?));
    Some(match (method, args) {
        ("cast" | "astype", [Expr::Text(kind)]) if is_type(kind) => {
            format!("CAST({of} AS {kind})")
        }
        ("isNull", []) => format!("({of} IS NULL)"),
        ("isNotNull", []) => format!("({of} IS NOT NULL)"),
        ("isin", [Expr::List(values)]) if !values.is_empty() => {
            format!("({of} IN ({}))", list(values, known, depth)?.join(", "))
        }
        ("isin", values) if !values.is_empty() => {
            format!("({of} IN ({}))", list(values, known, depth)?.join(", "))
        }
        ("like", [_]) => format!("({of} LIKE {})", one(0)?),
        ("rlike", [_]) => call_of("rlike")?,
        ("startswith", [_]) => call_of("startswith")?,
        ("endswith", [_]) => call_of("endswith")?,
        ("contains", [_]) => call_of("contains")?,
        ("between", [_, _]) => format!("({of} BETWEEN {} AND {})", one(0)?, one(1)?),
        ("substr", [_, _]) => format!("substring({of}, {}, {})", one(0)?, one(1)?),
        ("eqNullSafe", [_]) => format!("({of} <=> {})", one(0)?),
        ("getItem", [Expr::Number(place)]) => format!("{of}[{place}]"),
        ("alias" | "name", [Expr::Text(_)]) => of,
        _ => return None,
    })
}

fn is_type(kind: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "(), ".contains(letter);
    !kind.is_empty() && kind.chars().all(fits)
}

/// `F.when(a, b).when(c, d).otherwise(e)`.
fn case(expr: &Expr, known: &Columns, depth: usize) -> Option<String> {
    let mut branches = vec![];
    let mut otherwise = None;
    let mut rest = expr;
    loop {
        let Expr::Call(call) = rest else { return None };
        let args = list(&call.args, known, depth)?;
        match (method_of(rest), args.as_slice()) {
            (Some(("otherwise", receiver, _)), [value]) if otherwise.is_none() => {
                otherwise = Some(value.clone());
                rest = receiver;
            }
            (Some(("when", receiver, _)), [condition, value]) => {
                branches.push(format!("WHEN {condition} THEN {value}"));
                rest = receiver;
            }
            (None, [condition, value]) if function_of(call) == Some("when") => {
                branches.push(format!("WHEN {condition} THEN {value}"));
                break;
            }
            _ => return None,
        }
    }
    branches.reverse();
    let otherwise = otherwise.map(|value| format!(" ELSE {value}"));
    Some(format!(
        "CASE {}{} END",
        branches.join(" "),
        otherwise.unwrap_or_default()
    ))
}

/// Whether a text at this place is the name of a column; `None` if that is not known.
fn is_name(function: &str, place: usize) -> Option<bool> {
    if OF_COLUMNS.contains(&function) {
        return Some(true);
    }
    if VALUE_FIRST.contains(&function) {
        return Some(place > 0);
    }
    (place == 0 || COLUMN_FIRST.contains(&function)).then_some(place == 0)
}

fn function(call: &Call, name: &str, known: &Columns, depth: usize) -> Option<String> {
    if !call.named.is_empty() {
        return None;
    }
    let args = call.args.as_slice();
    match (name, args) {
        ("col" | "column", [Expr::Text(name)]) => return named(name),
        ("lit", [literal]) => return value(literal, known, depth),
        ("expr", [Expr::Text(sql)]) => return Some(format!("({sql})")),
        ("when", [condition, result]) => {
            let condition = value(condition, known, depth)?;
            let result = value(result, known, depth)?;
            return Some(format!("CASE WHEN {condition} THEN {result} END"));
        }
        _ => {}
    }
    let mut values = vec![];
    for (place, arg) in args.iter().enumerate() {
        values.push(match arg {
            Expr::Text(column) if is_name(name, place)? => named(column)?,
            other => value(other, known, depth)?,
        });
    }
    let values = values.join(", ");
    Some(match name {
        "countDistinct" | "count_distinct" => format!("count(DISTINCT {values})"),
        "sumDistinct" | "sum_distinct" => format!("sum(DISTINCT {values})"),
        "mean" => format!("avg({values})"),
        name if name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') =>
        {
            format!("{name}({values})")
        }
        _ => return None,
    })
}
