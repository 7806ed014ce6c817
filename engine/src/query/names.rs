//! The names of the result's columns, as a query writes them.
//!
//! Rule: a submitted query names every column: a name that the planner makes is not one that
//! readers of files accept.

use super::error::QueryError;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArguments, Ident, ObjectName, ObjectNamePart, SelectItem,
    SetExpr, Spanned, Statement, visit_expressions_mut,
};
use std::ops::ControlFlow;

/// The name of a column of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResultName {
    Written(String),
    /// `*`: those of a table.
    All,
    /// An expression without a name, its text, and its line if that is known.
    Missing(String, Option<usize>),
}

impl ResultName {
    pub(super) fn written(&self) -> Option<&str> {
        match self {
            Self::Written(name) => Some(name),
            Self::All | Self::Missing(..) => None,
        }
    }
}

/// A name as the planner reads it.
pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() {
        name.value.clone()
    } else {
        name.value.to_ascii_lowercase()
    }
}

/// Fields whose names are words of SQL, as names: the parser reads `s.user.id` as a call of `user`
/// behind `s`.
pub(super) fn plain_fields(statement: &mut Statement) {
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Expr::Function(Function {
            name: ObjectName(parts),
            args: FunctionArguments::None,
            ..
        }) = expr
            && parts.len() > 1
            && let Some(names) = parts.iter().map(ObjectNamePart::as_ident).collect()
        {
            let names: Vec<&Ident> = names;
            *expr = Expr::CompoundIdentifier(names.into_iter().cloned().collect());
        }
        if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            if let [AccessExpr::Dot(_), ..] = access_chain.as_slice() {
                plain_name(root);
            }
            for access in access_chain.iter_mut() {
                if let AccessExpr::Dot(inner) = access {
                    plain_name(inner);
                }
            }
            if let Some(names) = all_names(root, access_chain) {
                *expr = Expr::CompoundIdentifier(names);
            }
        }
        ControlFlow::Continue(())
    });
}

fn plain_name(expr: &mut Expr) {
    if let Expr::Function(Function {
        name: ObjectName(parts),
        args: FunctionArguments::None,
        ..
    }) = expr
        && let [ObjectNamePart::Identifier(name)] = parts.as_slice()
    {
        *expr = Expr::Identifier(name.clone());
    }
}

/// The parts, if all are names.
fn all_names(root: &Expr, chain: &[AccessExpr]) -> Option<Vec<Ident>> {
    let Expr::Identifier(first) = root else {
        return None;
    };
    let rest = chain.iter().map(|access| match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name.clone()),
        _ => None,
    });
    std::iter::once(Some(first.clone())).chain(rest).collect()
}

/// The names of the columns of the first SELECT of a statement.
pub(super) fn of(statement: &Statement, name: fn(&Ident) -> String) -> Vec<ResultName> {
    let Statement::Query(query) = statement else {
        return vec![];
    };
    let mut body = &*query.body;
    loop {
        match body {
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = &inner.body,
            SetExpr::Select(select) => {
                let items = select.projection.iter();
                return items.flat_map(|item| of_item(item, name)).collect();
            }
            _ => return vec![],
        }
    }
}

fn of_item(item: &SelectItem, name: fn(&Ident) -> String) -> Vec<ResultName> {
    vec![match item {
        SelectItem::ExprWithAliases { aliases, .. } => {
            let names = aliases.iter().map(|alias| ResultName::Written(name(alias)));
            return names.collect();
        }
        SelectItem::ExprWithAlias { alias, .. } => ResultName::Written(name(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(column)) => ResultName::Written(name(column)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.last() {
            Some(column) => ResultName::Written(name(column)),
            None => ResultName::All,
        },
        SelectItem::UnnamedExpr(expr) => {
            let line = usize::try_from(expr.span().start.line).ok();
            ResultName::Missing(expr.to_string(), line.filter(|line| *line > 0))
        }
        _ => ResultName::All,
    }]
}

/// Most characters of an expression that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// # Errors
/// [`QueryError::Sql`] for the first column without a name, or with an empty one.
pub(super) fn check(names: &[ResultName]) -> Result<(), QueryError> {
    for (place, name) in names.iter().enumerate() {
        match name {
            ResultName::Missing(text, line) => {
                let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                if shown.len() < text.len() {
                    shown.push_str("...");
                }
                let message = format!("column {} of the result has no name: {shown}", place + 1);
                let hint = format!("give it one: {shown} AS name");
                return Err(QueryError::sql(message, Some(hint)).on_line(*line));
            }
            ResultName::Written(name) if name.trim().is_empty() => {
                let message = format!("the name of column {} of the result is empty", place + 1);
                return Err(QueryError::sql(message, Some("write AS name".into())));
            }
            ResultName::Written(_) | ResultName::All => {}
        }
    }
    Ok(())
}

/// The names, if the text has them all.
pub(super) fn known(names: Vec<ResultName>) -> Option<Vec<String>> {
    names
        .into_iter()
        .map(|name| match name {
            ResultName::Written(name) => Some(name),
            ResultName::All | ResultName::Missing(..) => None,
        })
        .collect()
}
