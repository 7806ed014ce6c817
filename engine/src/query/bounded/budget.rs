//! The total size that the growing functions of one evaluation return.
//!
//! Owns: the sum, on the thread that evaluates. Does not own: the evaluation (`pieces`),
//! the limit of one call.
//! Rule: an evaluation that is refused for its sum has more than one row, so that it can be
//! repeated with fewer.

use super::{FUNCTION_BYTES_MAX, PIECE_BYTES};
use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<Budget>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Budget {
    rows: usize,
    given: u64,
    exceeded: bool,
}

impl Budget {
    fn limit(&self) -> u64 {
        if self.rows > 1 {
            PIECE_BYTES
        } else {
            FUNCTION_BYTES_MAX
        }
    }
}

/// The outcome of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// Bytes that all calls returned.
    pub bytes: u64,
    /// A call was refused because of the sum. Fewer rows may fit.
    pub exceeded: bool,
}

/// A call would return more than is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    /// Bytes that other calls of the same evaluation returned before.
    pub given: u64,
}

/// Evaluates something on this many rows with a budget for all calls of growing functions together.
pub(super) fn within<T>(rows: usize, evaluate: impl FnOnce() -> T) -> (T, Spent) {
    let budget = Restore::set(Budget {
        rows,
        given: 0,
        exceeded: false,
    });
    let value = evaluate();
    let Budget {
        given, exceeded, ..
    } = CURRENT.get().unwrap_or(Budget {
        rows,
        given: 0,
        exceeded: false,
    });
    drop(budget);
    (
        value,
        Spent {
            bytes: given,
            exceeded,
        },
    )
}

/// Restores the previous budget, also after a panic.
struct Restore(Option<Budget>);

impl Restore {
    fn set(budget: Budget) -> Self {
        Self(CURRENT.replace(Some(budget)))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// What one more call may return. Outside an evaluation with a budget: the limit of any call.
pub(super) fn left() -> u64 {
    CURRENT.get().map_or(FUNCTION_BYTES_MAX, |budget| {
        budget.limit().saturating_sub(budget.given)
    })
}

/// Whether one more call may return this much. Adds nothing to the sum.
pub(super) fn check(bytes: u64) -> Result<(), TooMuch> {
    if bytes <= left() {
        return Ok(());
    }
    let Some(budget) = CURRENT.get() else {
        return Err(TooMuch { given: 0 });
    };
    CURRENT.set(Some(Budget {
        exceeded: budget.rows > 1,
        ..budget
    }));
    Err(TooMuch {
        given: budget.given,
    })
}

/// Adds the size of a call's result.
pub(super) fn add(bytes: u64) {
    if let Some(budget) = CURRENT.get() {
        CURRENT.set(Some(Budget {
            given: budget.given.saturating_add(bytes),
            ..budget
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_share_a_budget_and_many_rows_have_less_than_one() {
        assert_eq!(
            check(FUNCTION_BYTES_MAX + 1),
            Err(TooMuch { given: 0 }),
            "without a budget"
        );
        add(FUNCTION_BYTES_MAX);
        assert_eq!(
            left(),
            FUNCTION_BYTES_MAX,
            "without a budget nothing is summed up"
        );
        let two_calls = || {
            check(PIECE_BYTES).unwrap();
            add(PIECE_BYTES);
            check(1)
        };
        let (last, spent) = within(2, two_calls);
        assert_eq!(last, Err(TooMuch { given: PIECE_BYTES }));
        assert_eq!(
            spent,
            Spent {
                bytes: PIECE_BYTES,
                exceeded: true
            }
        );
        let (last, spent) = within(1, two_calls);
        assert_eq!((last, spent.exceeded), (Ok(()), false));
        let (last, spent) = within(1, || check(FUNCTION_BYTES_MAX + 1));
        assert_eq!(
            (last, spent.exceeded),
            (Err(TooMuch { given: 0 }), false),
            "one row cannot be split"
        );
    }

    #[test]
    fn a_budget_ends_with_its_evaluation_also_after_a_panic() {
        let outer = within(1, || {
            add(5);
            let caught = std::panic::catch_unwind(|| within(2, || panic!("inside")));
            assert!(caught.is_err());
        });
        assert_eq!(outer.1.bytes, 5);
        assert_eq!(left(), FUNCTION_BYTES_MAX);
    }
}
