//! Whose staged object a name is.
//!
//! Owns: reading the job out of `<window start>-<job>-<task>-<n>.<ext>`.
//! Rule: when in doubt it is somebody else's: a sweep must never take what another job can still publish.

/// Whether an object's last name segment was made for `job`. Two jobs may share a folder, and one's name may end in
/// the other's (`sales`, `eu-sales`): what stands before the job must be a window's start and nothing else.
pub fn made_for_job(name: &str, job: &str) -> bool {
    let marker = format!("-{job}-t");
    let Some((start, rest)) = name.split_once(&marker) else { return false };
    is_window_start(start) && is_task_and_number(rest)
}

/// A window's label: digits with `T` and `Z`. A bare dash would begin another job's name.
fn is_window_start(text: &str) -> bool {
    let known = text.chars().all(|c| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | ':' | '.' | '-'));
    let whole = text.ends_with('Z') || !text.contains('-');
    !text.is_empty() && known && whole && text.matches('Z').count() <= 1
}

/// `<term>.<counter>-<n>.<ext>`: what follows the `t` of a task.
fn is_task_and_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let Some((task, rest)) = text.split_once('-') else { return false };
    let Some((term, counter)) = task.split_once('.') else { return false };
    let number = rest.split_once('.').map_or(rest, |(number, _)| number);
    digits(term) && digits(counter) && digits(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::{TaskId, Term};

    #[test]
    fn a_job_s_objects_are_its_own() {
        let task = TaskId { term: Term(3), counter: 41 };
        for start in ["20261124T012600Z", "2026-11-24T01:26:00Z", "1795483560000"] {
            assert!(made_for_job(&format!("{start}-sales-{task}-0.parquet"), "sales"), "{start}");
            assert!(made_for_job(&format!("{start}-sales-by-day-{task}-12.json.gz"), "sales-by-day"), "{start}");
        }
    }

    #[test]
    fn a_job_whose_name_ends_in_another_s_is_not_it() {
        assert!(!made_for_job("20261124T012600Z-eu-sales-t3.41-0.parquet", "sales"));
        assert!(!made_for_job("20261124T012600Z-7-sales-t3.41-0.parquet", "sales"));
        assert!(!made_for_job("20261124T012600Z-sales-eu-t3.41-0.parquet", "sales"));
        assert!(!made_for_job("20261124T012600Z-sales-t3-t3.41-0.parquet", "sales"));
        assert!(!made_for_job("holiday-photo.jpg", "sales"));
    }
}
