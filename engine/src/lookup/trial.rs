//! A query on a lookup's rows alone, off the runtime's threads.
//!
//! Rule: what only this process has no room or time for is no fault of the rows.

use crate::query::{QueryError, QueryPlan};
use arrow::array::RecordBatch;
use streamctl_proto::Duplicates;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Memory of a trial: the rows, a hash table of their keys and the keys again, for a lookup of the
/// default size.
const TRIAL_BYTES_MAX: usize = 2 << 30;

/// Keys that more than one row has.
///
/// # Errors
/// Why the query cannot run on these rows.
pub async fn run(plan: &QueryPlan, lookup: &str, rows: &RecordBatch) -> Result<Duplicates, String> {
    let tried = if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        plan.trial(lookup, rows, TRIAL_BYTES_MAX).await
    } else {
        let (plan, lookup, rows) = (plan.clone(), lookup.to_owned(), rows.clone());
        let handle = Handle::current();
        let trial = move || handle.block_on(plan.trial(&lookup, &rows, TRIAL_BYTES_MAX));
        match tokio::task::spawn_blocking(trial).await {
            Ok(tried) => tried,
            Err(error) => return Err(format!("trying it ended early: {error}")),
        }
    };
    match tried {
        Ok(duplicates) => Ok(duplicates),
        Err(error @ (QueryError::Rows(_) | QueryError::Lookup { .. } | QueryError::Sql { .. })) => {
            Err(error.to_string())
        }
        Err(
            QueryError::Memory { .. }
            | QueryError::Late { .. }
            | QueryError::Busy
            | QueryError::Plan(_)
            | QueryError::Input(_),
        ) => Ok(Duplicates::default()),
    }
}
