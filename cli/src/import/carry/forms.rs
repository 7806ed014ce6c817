//! Forms of Glue's batch functions: checks for rows, and writing.
//!
//! Owns: how they are recognized. Does not own: what becomes of them (`body`).
//! Rule: a form is recognized as a whole, or not at all.

use super::super::python::Expr;
use super::super::rows::rows_of;
use super::source::{CallText, closing, code, find};
use std::collections::BTreeSet;

/// Whether a condition is true exactly with rows of the batch (`true`) or without.
pub fn has_rows(condition: &Expr, batches: &BTreeSet<String>) -> Option<bool> {
    let of = |frame: &str, value| batches.contains(frame).then_some(value);
    if let Some((frame, value)) = rows_of(condition) {
        return of(frame, value);
    }
    match condition {
        Expr::Unary(op, inner) if op == "not" => has_rows(inner, batches).map(|value| !value),
        Expr::Name(path) => of(path.strip_suffix(".empty")?, false),
        Expr::Binary(op, left, right) => {
            let (Expr::Call(call), Expr::Number(number)) = (&**left, &**right) else {
                return None;
            };
            let (Expr::Name(name), [Expr::Name(frame)]) = (&call.function, call.args.as_slice())
            else {
                return None;
            };
            match (name.as_str(), op.as_str(), number.as_str()) {
                ("len", "==", "0") => of(frame, false),
                ("len", ">" | "!=", "0") => of(frame, true),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The frame that a statement writes.
pub fn written(text: &str, plain: &str) -> Option<String> {
    if let Some(at) = plain.find("write_dynamic_frame") {
        let open = at + plain[at..].find('(')?;
        let name = plain[at..open].trim_end().to_owned();
        let call = CallText::find(text, &name)?;
        return call.arg("frame", 0).map(str::to_owned);
    }
    if let Some(call) = CallText::find(text, "writeFrame") {
        return call.arg("frame", 0).map(str::to_owned);
    }
    let at = find(plain, ".write").or_else(|| find(plain, ".writeTo"))?;
    let assigned = plain[..at].find('=').filter(|equals| {
        let target = plain[..*equals].trim();
        target
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    let mut begin = assigned.map_or(0, |equals| equals + 1);
    begin += plain[begin..].len() - plain[begin..].trim_start().len();
    if plain[begin..].starts_with('(') && closing(plain, begin).is_none_or(|close| close > at) {
        begin += 1;
    }
    let mut frame = text[begin..at].trim();
    // How many files Spark writes.
    for call in [".coalesce(", ".repartition("] {
        let plain = code(frame);
        if let Some(at) = plain.rfind(call)
            && closing(&plain, at + call.len() - 1) == Some(frame.len() - 1)
        {
            frame = frame[..at].trim_end();
        }
    }
    let is_whole = frame.starts_with('(') && closing(&code(frame), 0) == Some(frame.len() - 1);
    Some(match frame.contains('\n') && !is_whole {
        true => format!("({frame})"),
        false => frame.to_owned(),
    })
}

pub fn is_setting(plain: &str) -> bool {
    ["getSink", "setFormat", "setCatalogInfo"]
        .iter()
        .any(|name| CallText::find(plain, name).is_some())
}
