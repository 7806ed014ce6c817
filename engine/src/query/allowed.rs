//! The clauses that a query may have.
//!
//! Owns: the walk over the whole syntax tree, the refusal of clauses without effect, the rewriting
//! of grouping clauses. Does not own: what the planner refuses itself (`words`), sizes of the text
//! (`limits`).
//! Rule: every part of the syntax tree is used or refused by name. Structures are destructured
//! without `..`, so a part that a later parser adds breaks the build here.

mod expressions;
mod selects;
mod tables;
#[cfg(test)]
mod tests;

use super::error::QueryError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, Statement};
use std::collections::{BTreeMap, BTreeSet};

/// Most tables that a query reads. A table that is named twice is read twice, and one inside a WITH
/// as often as the WITH is named.
pub const TABLES_MAX: usize = 64;
/// Most columns of all tables that a query reads, together.
pub const TABLE_COLUMNS_MAX: usize = 20_000;
/// Most groupings of one GROUP BY: CUBE doubles them with every column.
pub const GROUPING_SETS_MAX: usize = 256;

type Checked = Result<(), QueryError>;

/// Walks over a statement, and rewrites what the planner would ignore: grouping clauses of Hive and
/// Spark.
///
/// # Errors
/// [`QueryError::Sql`] with the name of the first clause that is not supported.
pub(super) fn check(
    state: &SessionState,
    tables: &BTreeMap<&str, usize>,
    statement: &mut Statement,
) -> Checked {
    let Statement::Query(query) = statement else {
        return Err(refused("a statement that is no SELECT"));
    };
    let of_groups = state
        .aggregate_functions()
        .keys()
        .chain(state.window_functions().keys());
    let mut walk = Walk {
        columns: tables,
        functions_of_rows: state
            .scalar_functions()
            .keys()
            .map(String::as_str)
            .collect(),
        functions_of_groups: of_groups.map(String::as_str).collect(),
        functions_of_windows: state
            .window_functions()
            .keys()
            .map(String::as_str)
            .collect(),
        takes_functions: !state.higher_order_functions().is_empty(),
        with: vec![],
        read: Read::default(),
    };
    walk.query(query)
}

#[derive(Clone, Copy, Default)]
struct Read {
    tables: usize,
    columns: usize,
}

struct Walk<'a> {
    /// How many columns each table has.
    columns: &'a BTreeMap<&'a str, usize>,
    functions_of_rows: BTreeSet<&'a str>,
    functions_of_groups: BTreeSet<&'a str>,
    functions_of_windows: BTreeSet<&'a str>,
    /// Whether functions may be arguments.
    takes_functions: bool,
    /// The tables behind each name of a WITH, the innermost WITH last.
    with: Vec<BTreeMap<String, Read>>,
    read: Read,
}

impl Walk<'_> {
    fn reads(&mut self, more: Read) -> Checked {
        self.read.tables = self.read.tables.saturating_add(more.tables);
        self.read.columns = self.read.columns.saturating_add(more.columns);
        if self.read.tables > TABLES_MAX {
            let message = format!("the query reads too many tables: the limit is {TABLES_MAX}");
            let hint = "a table that is named twice is read twice, and one inside of WITH as often as that is named";
            return Err(QueryError::sql(message, Some(hint.into())));
        }
        if self.read.columns > TABLE_COLUMNS_MAX {
            let message = format!(
                "the query's tables have too many columns together: the limit is \
                 {TABLE_COLUMNS_MAX}"
            );
            let hint = "read tables with fewer columns, or name each table once";
            return Err(QueryError::sql(message, Some(hint.into())));
        }
        Ok(())
    }

    /// A query that may be read more often than it is written.
    fn named(&mut self, query: &mut Query) -> Result<Read, QueryError> {
        let outside = std::mem::take(&mut self.read);
        self.query(query)?;
        Ok(std::mem::replace(&mut self.read, outside))
    }

    fn read_of(&self, name: &ObjectName) -> Read {
        let Some(name) = plain_name(name) else {
            return Read {
                tables: 1,
                columns: 1,
            };
        };
        let of_with = self
            .with
            .iter()
            .rev()
            .find_map(|names| names.get(&name))
            .copied();
        let of_table = || Read {
            tables: 1,
            columns: self.columns.get(name.as_str()).copied().unwrap_or(1),
        };
        of_with.unwrap_or_else(of_table)
    }
}

/// The name as the planner reads it, if it has one part.
fn plain_name(name: &ObjectName) -> Option<String> {
    let ObjectName(parts) = name;
    match parts.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(folded(name)),
        _ => None,
    }
}

fn folded(
    Ident {
        value,
        quote_style,
        span: _,
    }: &Ident,
) -> String {
    if quote_style.is_some() {
        value.clone()
    } else {
        value.to_ascii_lowercase()
    }
}

/// An error for a clause that has no meaning here.
fn refused(what: &str) -> QueryError {
    refused_with(what, "leave it out")
}

fn refused_with(what: &str, hint: &str) -> QueryError {
    QueryError::sql(format!("{what} is not supported"), Some(hint.to_owned()))
}

/// Refuses a clause if it is present.
fn none<T>(clause: Option<&T>, what: &str) -> Checked {
    if clause.is_some() {
        Err(refused(what))
    } else {
        Ok(())
    }
}

fn empty<T>(clauses: &[T], what: &str) -> Checked {
    if clauses.is_empty() {
        Ok(())
    } else {
        Err(refused(what))
    }
}

fn not(set: bool, what: &str) -> Checked {
    if set { Err(refused(what)) } else { Ok(()) }
}
