//! Functions whose result differs each time.
//!
//! Owns: finding them in a query whose columns are not known, the refusal. Does not own: finding them
//! in a plan (`sql`).
//! Rule: the function's own volatility decides, here and in the plan.

use super::error::QueryError;
use super::words::Written;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{Expr, Statement, visit_expressions};
use std::ops::ControlFlow;

/// Refuses the first call of such a function.
///
/// # Errors
/// [`QueryError::Sql`], as for a plan.
pub(super) fn check(
    statement: &Statement,
    state: &SessionState,
    written: &Written<'_>,
) -> Result<(), QueryError> {
    let found = visit_expressions(statement, |expr| {
        let Expr::Function(call) = expr else {
            return ControlFlow::Continue(());
        };
        let name = call.name.to_string().to_lowercase();
        match state.scalar_functions().get(&name) {
            Some(known) if known.signature().volatility != Volatility::Immutable => {
                ControlFlow::Break(known.name().to_owned())
            }
            _ => ControlFlow::Continue(()),
        }
    });
    match found {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(name) => Err(refusal(&name, written)),
    }
}

/// An epoch that is read again must give the same rows.
pub(super) fn refusal(name: &str, written: &Written<'_>) -> QueryError {
    let message = format!(
        "{name}() answers differently each time, and a window that is read again must give the \
         same rows"
    );
    let hint = "use a column of the source; for the window's time, partition_by ingest_year, ingest_month, ingest_day, ingest_hour";
    QueryError::sql(message, Some(hint.into())).on_line(written.line_with(name))
}
