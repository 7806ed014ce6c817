//! Rows and computing time of each operator of a query, for one window.
//!
//! Owns: their form, their limits, the sum of two. Does not own: measuring (the engine), what is kept
//! (the core).
//! Rule: no manifest has these figures: they are of a computation, not of its result.

use serde::{Deserialize, Serialize};

/// Operators of one plan that are reported. Further ones are left out: those that the walk over the
/// plan, from its result on, meets last.
pub const OPERATORS_MAX: usize = 64;
/// Characters of an operator's name that are kept.
pub const OPERATOR_NAME_CHARS_MAX: usize = 40;
/// Characters of the text after its name that are kept.
pub const OPERATOR_DETAIL_CHARS_MAX: usize = 200;

/// The operator that returns the decoded rows of the stream.
pub const SOURCE_OPERATOR: &str = "Source";
/// The operator that returns the rows of a lookup.
pub const LOOKUP_OPERATOR: &str = "Lookup";
/// The job's function, which takes the rows of the query.
pub const FUNCTION_OPERATOR: &str = "Function";

/// One operator. A plan is a list of them: each reads the ones that follow it and are one deeper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorFigures {
    /// 0 for the operator whose rows are the result.
    pub depth: u32,
    pub name: String,
    pub detail: String,
    /// Rows that it returned. `None`: not measured.
    pub rows: Option<u64>,
    /// Time that it computed, without that of the operators below it. `None`: not measured.
    pub compute_us: Option<u64>,
}

impl OperatorFigures {
    /// An operator without figures; texts are cut.
    pub fn new(depth: usize, name: &str, detail: &str) -> Self {
        let cut = |text: &str, most| text.chars().take(most).collect();
        Self {
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            name: cut(name, OPERATOR_NAME_CHARS_MAX),
            detail: cut(detail, OPERATOR_DETAIL_CHARS_MAX),
            rows: None,
            compute_us: None,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.depth, &self.name, &self.detail) == (other.depth, &other.name, &other.detail)
    }
}

/// Adds the figures of the same plan. Returns false, and adds nothing, if it is another plan.
pub fn add(sum: &mut [OperatorFigures], other: &[OperatorFigures]) -> bool {
    let mut pairs = sum.iter().zip(other);
    if sum.len() != other.len() || !pairs.all(|(mine, other)| mine.is_same(other)) {
        return false;
    }
    let added = |mine: Option<u64>, other: Option<u64>| match (mine, other) {
        (Some(mine), Some(other)) => Some(mine.saturating_add(other)),
        (known, None) | (None, known) => known,
    };
    for (mine, other) in sum.iter_mut().zip(other) {
        mine.rows = added(mine.rows, other.rows);
        mine.compute_us = added(mine.compute_us, other.compute_us);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: Option<u64>) -> Vec<OperatorFigures> {
        let mut join = OperatorFigures::new(0, "HashJoinExec", "on=[(a, b)]");
        join.rows = rows;
        join.compute_us = Some(5);
        vec![join, OperatorFigures::new(1, SOURCE_OPERATOR, "")]
    }

    #[test]
    fn the_same_plan_is_summed_and_an_unmeasured_figure_stays_unmeasured() {
        let mut sum = plan(Some(2));
        assert!(add(&mut sum, &plan(Some(3))));
        assert!(add(&mut sum, &plan(None)));
        assert_eq!((sum[0].rows, sum[0].compute_us), (Some(5), Some(15)));
        assert_eq!((sum[1].rows, sum[1].compute_us), (None, None));
        assert!(add(&mut sum, &plan(Some(u64::MAX))));
        assert_eq!(sum[0].rows, Some(u64::MAX), "it saturates");
    }

    #[test]
    fn another_plan_is_not_added() {
        let mut sum = plan(Some(2));
        let mut other = plan(Some(3));
        other[1].detail = "another".into();
        assert!(!add(&mut sum, &other) && !add(&mut sum, &other[..1]));
        assert_eq!(sum, plan(Some(2)));
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        let long = "ä".repeat(500);
        let cut = OperatorFigures::new(0, &long, &long);
        assert_eq!(cut.name.chars().count(), OPERATOR_NAME_CHARS_MAX);
        assert_eq!(cut.detail.chars().count(), OPERATOR_DETAIL_CHARS_MAX);
    }
}
