//! Determines the owner of a staged object by its name, and which names can never become visible.
//!
//! Owns: parsing window, job and task from `<window start>-<job>-<task>-<n>.<ext>`. Does not own:
//! which windows are closed and which tasks are alive (the controller).
//! Rule: no clock is used. When in doubt an object is foreign or alive: a sweep must never delete
//! an object that can still be published.

use crate::{JobName, TaskId, Term};
use chrono::NaiveDateTime;
use std::collections::BTreeSet;

/// Staged objects of one job that can never become visible, determined by their names alone.
///
/// An object of a window that a head has closed is in a manifest of that head's chain, or in none:
/// no report of such a window is accepted again, whether or not its task still runs. An object of a
/// later window may still be reported: a worker that was cut off reports its tasks to the next
/// leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    pub job: JobName,
    /// The end of the last committed window: windows that start before it are closed. `None`: no
    /// window is committed.
    pub windows_before_ms: Option<i64>,
    /// Tasks from this one on were assigned after this decision: none of their objects is an
    /// orphan.
    pub tasks_before: TaskId,
    /// Tasks of terms before this one are dead, whatever their windows: the process that ran them
    /// is gone. `None`: they may be alive.
    pub terms_before: Option<Term>,
    /// Locations that are committed but not yet published, or about to be.
    pub keep: BTreeSet<String>,
    /// Tasks that stage objects of closed windows: repairs.
    pub live: BTreeSet<TaskId>,
}

impl Orphans {
    /// Whether the staged object of this location is an orphan.
    pub fn include(&self, location: &str) -> bool {
        let name = location.rsplit('/').next().unwrap_or_default();
        let Some((window_start_ms, task)) = read(name, self.job.as_str()) else {
            return false;
        };
        let is_closed = self
            .windows_before_ms
            .is_some_and(|before_ms| window_start_ms < before_ms);
        let is_dead = self.terms_before.is_some_and(|term| task.term < term);
        let is_later = task >= self.tasks_before;
        (is_closed || is_dead)
            && !is_later
            && !self.live.contains(&task)
            && !self.keep.contains(location)
    }
}

/// The task that made an object for `job`, by its location.
pub fn made_by(location: &str, job: &JobName) -> Option<TaskId> {
    read(
        location.rsplit('/').next().unwrap_or_default(),
        job.as_str(),
    )
    .map(|(_, task)| task)
}

/// The start of the window and the task of an object that was made for `job` with a name in the
/// current form.
fn read(name: &str, job: &str) -> Option<(i64, TaskId)> {
    if !made_for_job(name, job) {
        return None;
    }
    let (start, rest) = name.split_once(&format!("-{job}-t"))?;
    let start = start.strip_suffix('Z')?;
    let time = ["%Y%m%dT%H%M%S", "%Y%m%dT%H%M%S%.3f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(start, format).ok())?;
    let (term, counter) = rest.split_once('-')?.0.split_once('.')?;
    let task = TaskId {
        term: Term(term.parse().ok()?),
        counter: counter.parse().ok()?,
    };
    Some((time.and_utc().timestamp_millis(), task))
}

/// The start of the window of an object with this last name segment; `None`: it was not made for
/// `job`, or by a build with another form of names.
pub fn window_start_ms(name: &str, job: &JobName) -> Option<i64> {
    read(name, job.as_str()).map(|(start_ms, _)| start_ms)
}

/// Whether an object's last name segment was made for `job`. Two jobs may share a folder, and one's
/// name may end in the other's (`sales`, `eu-sales`): the text before the job must be exactly a
/// window's start.
pub fn made_for_job(name: &str, job: &str) -> bool {
    let marker = format!("-{job}-t");
    let Some((start, rest)) = name.split_once(&marker) else {
        return false;
    };
    is_window_start(start) && is_task_and_number(rest)
}

/// A window's label: digits with `T` and `Z`. A dash alone would begin another job's name.
fn is_window_start(text: &str) -> bool {
    let known = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | ':' | '.' | '-'));
    let whole = text.ends_with('Z') || !text.contains('-');
    !text.is_empty() && known && whole && text.matches('Z').count() <= 1
}

/// `<term>.<counter>-<n>.<ext>`: the text after the `t` of a task.
fn is_task_and_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let Some((task, rest)) = text.split_once('-') else {
        return false;
    };
    let Some((term, counter)) = task.split_once('.') else {
        return false;
    };
    let number = rest.split_once('.').map_or(rest, |(number, _)| number);
    digits(term) && digits(counter) && digits(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Window;
    use crate::report::object_name;

    fn task(term: u64, counter: u64) -> TaskId {
        TaskId {
            term: Term(term),
            counter,
        }
    }

    fn orphans() -> Orphans {
        Orphans {
            job: "sales".parse().unwrap(),
            windows_before_ms: Some(120_000),
            tasks_before: task(3, 10),
            terms_before: None,
            keep: BTreeSet::new(),
            live: BTreeSet::new(),
        }
    }

    fn location(start_ms: i64, task: TaskId) -> String {
        let window = Window {
            start_ms,
            end_ms: start_ms + 60_000,
        };
        format!(
            "/out/k=v/{}",
            object_name(window, &"sales".parse().unwrap(), task, 0, "parquet")
        )
    }

    #[test]
    fn a_job_s_objects_are_its_own() {
        let task = task(3, 41);
        for start in ["20261124T012600Z", "2026-11-24T01:26:00Z", "1795483560000"] {
            assert!(
                made_for_job(&format!("{start}-sales-{task}-0.parquet"), "sales"),
                "{start}"
            );
            assert!(
                made_for_job(
                    &format!("{start}-sales-by-day-{task}-12.json.gz"),
                    "sales-by-day"
                ),
                "{start}"
            );
        }
    }

    #[test]
    fn a_job_whose_name_ends_in_another_s_is_not_it() {
        assert!(!made_for_job(
            "20261124T012600Z-eu-sales-t3.41-0.parquet",
            "sales"
        ));
        assert!(!made_for_job(
            "20261124T012600Z-7-sales-t3.41-0.parquet",
            "sales"
        ));
        assert!(!made_for_job(
            "20261124T012600Z-sales-eu-t3.41-0.parquet",
            "sales"
        ));
        assert!(!made_for_job(
            "20261124T012600Z-sales-t3-t3.41-0.parquet",
            "sales"
        ));
        assert!(!made_for_job("holiday-photo.jpg", "sales"));
    }

    #[test]
    fn an_object_of_a_closed_window_is_an_orphan_and_one_of_an_open_window_never_is() {
        let orphans = orphans();
        for id in [task(1, 4), task(3, 9)] {
            assert!(
                orphans.include(&location(60_000, id)),
                "{id} of a closed window"
            );
            assert!(
                !orphans.include(&location(120_000, id)),
                "{id} may be offered to a later leader"
            );
        }
        assert!(
            !Orphans {
                windows_before_ms: None,
                ..orphans
            }
            .include(&location(0, task(1, 4)))
        );
    }

    #[test]
    fn windows_of_milliseconds_are_distinguished_too() {
        let of = |start_ms| {
            let window = Window {
                start_ms,
                end_ms: start_ms + 500,
            };
            object_name(window, &"sales".parse().unwrap(), task(1, 1), 0, "json.gz")
        };
        let orphans = Orphans {
            windows_before_ms: Some(1_500),
            ..orphans()
        };
        assert!(orphans.include(&of(1_000)) && !orphans.include(&of(1_500)));
    }

    #[test]
    fn what_a_manifest_needs_a_repair_stages_or_a_later_task_wrote_is_no_orphan() {
        let kept = location(0, task(1, 1));
        let repaired = location(0, task(2, 2));
        let late = location(0, task(3, 10));
        let orphans = Orphans {
            keep: [kept.clone()].into(),
            live: [task(2, 2)].into(),
            ..orphans()
        };
        for alive in [kept, repaired, late, location(0, task(4, 1))] {
            assert!(!orphans.include(&alive), "{alive}");
        }
        assert!(orphans.include(&location(0, task(2, 3))));
    }

    #[test]
    fn where_earlier_terms_are_dead_their_open_windows_are_orphans_too() {
        let orphans = Orphans {
            terms_before: Some(Term(3)),
            ..orphans()
        };
        assert!(orphans.include(&location(600_000, task(2, 999))));
        assert!(!orphans.include(&location(600_000, task(3, 1))));
    }

    #[test]
    fn other_jobs_and_other_names_are_left_alone() {
        for other in [
            "/out/20261124T012600Z-eu-sales-t1.1-0.json",
            "/out/1795483560000-sales-t1.1-0.json",
            "/out/a.json",
        ] {
            assert!(!orphans().include(other), "{other}");
        }
    }
}
