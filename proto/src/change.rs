//! Compares a changed job file with the running version, field by field, and decides whether a
//! running job can take over each change.
//!
//! Owns: the keys that are compared, the rules of a take-over. Does not own: columns of the result
//! and plans (`engine`), when a version takes over (the controller's core), the text of a key
//! ([`fields`]).
//! Rule: pure; a field without a rule is refused. A field may change only if no position, no
//! committed window and no stored object depends on it.

mod fields;
#[cfg(test)]
mod tests;

use crate::json::time;
use crate::resolved::StreamAddress;
use crate::spec::ValueRules;
use crate::{JobSpec, ResolvedJob, WindowSize};
use fields::fields;
pub(crate) use fields::value_text;
use std::collections::BTreeMap;
use std::fmt;

/// One field that differs in the next version of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The key in dots, as in a job file: `sink.format`, `lookup.country_lookup.path`.
    pub field: String,
    /// Its value in the running version; `None` if it has none.
    pub was: Option<String>,
    /// Its value in the next version; `None` if it has none.
    pub will_be: Option<String>,
    /// Why a running job cannot take it over; `None` if it can.
    pub refused: Option<Refusal>,
}

/// Why a running job cannot take over a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The dependency on the old value.
    pub reason: String,
    pub hint: String,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| {
            value
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), |text| short(text))
        };
        write!(
            f,
            "{}: {} becomes {}",
            self.field,
            value(&self.was),
            value(&self.will_be)
        )
    }
}

/// Longest value in a message; `streamctl diff` shows longer ones.
const SHORT_CHARS: usize = 60;

/// A value on one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(SHORT_CHARS).collect();
    if cut.len() < line.len() {
        format!("{cut}...")
    } else {
        cut
    }
}

/// The differences of `next` from `old`, in the order of the job file. `boundary_ms`: the end of
/// the last window that is committed or in flight; `None` before the first.
pub fn compare(
    old: &ResolvedJob,
    next: &ResolvedJob,
    boundary_ms: Option<i64>,
) -> Vec<FieldChange> {
    let was = fields(old);
    let will_be = fields(next);
    let before: BTreeMap<_, _> = was.iter().cloned().collect();
    let after: BTreeMap<_, _> = will_be.iter().cloned().collect();
    let gone = was.iter().filter(|(field, _)| !after.contains_key(field));
    let all = will_be.iter().chain(gone).map(|(field, _)| field);
    let change = |field: &String| {
        let was = before.get(field).cloned();
        let will_be = after.get(field).cloned();
        let refused = (was != will_be).then(|| refused(field, old, next, boundary_ms));
        refused.map(|refused| FieldChange {
            field: field.clone(),
            was,
            will_be,
            refused,
        })
    };
    all.filter_map(change).collect()
}

pub(crate) const ANOTHER_NAME: &str = "give the new job another name, or take this change back";

pub(crate) fn refuse(reason: impl Into<String>, hint: impl Into<String>) -> Option<Refusal> {
    Some(Refusal {
        reason: reason.into(),
        hint: hint.into(),
    })
}

/// The sources of the old and the next version of a job.
pub struct SourceChange<'a> {
    pub old_stream: Option<&'a StreamAddress>,
    pub next_stream: Option<&'a StreamAddress>,
}

impl SourceChange<'_> {
    /// Refuses a source that has other records at the job's positions.
    pub fn another_source(&self) -> Option<Refusal> {
        refuse(
            "positions are those of the source that is read: another one has other records",
            ANOTHER_NAME,
        )
    }
}

/// Why this field cannot be taken over, if it cannot.
fn refused(
    field: &str,
    old: &ResolvedJob,
    next: &ResolvedJob,
    boundary_ms: Option<i64>,
) -> Option<Refusal> {
    let (table, key) = field.split_once('.').unwrap_or((field, ""));
    match (table, key) {
        ("source", key) => source(key, old, next),
        ("window", "size") => window(old.spec.window, next.spec.window, boundary_ms),
        ("sink", key) => sink(key, &old.spec, &next.spec),
        ("dead_letter", "path") => places(&old.spec, &next.spec),
        ("checkpoint", "keep") => None,
        ("checkpoint", _) => refuse(
            "manifests and positions of the running job lie there",
            ANOTHER_NAME,
        ),
        ("columns" | "lookup" | "transform" | "function" | "retry", _) => None,
        _ => refuse("nothing is known of how to take this over", ANOTHER_NAME),
    }
}

fn source(key: &str, old: &ResolvedJob, next: &ResolvedJob) -> Option<Refusal> {
    let change = SourceChange {
        old_stream: old.stream.as_ref(),
        next_stream: next.stream.as_ref(),
    };
    match key {
        // How its columns are typed and how it is guarded; not which source it is.
        "catalog" | "schema" | "schema_file" | "on_data_loss" => None,
        key if ValueRules::has(key) => None,
        "type" => change.another_source(),
        key => {
            let has = |job: &ResolvedJob| {
                let source = &job.spec.source;
                let fields = source.kind.fields(source, job.stream.as_ref());
                fields.iter().any(|(field, _)| *field == key)
            };
            let kind = if has(next) { next } else { old };
            kind.spec.source.kind.refuses(key, &change)
        }
    }
}

/// Windows of the new size begin where those of the old one end, if that is a boundary of both.
fn window(old: WindowSize, next: WindowSize, boundary_ms: Option<i64>) -> Option<Refusal> {
    let boundary_ms = boundary_ms?;
    if boundary_ms.rem_euclid(next.ms()) == 0 {
        return None;
    }
    let text = fields::window_text;
    let both_ms = least_common_multiple(old.ms(), next.ms());
    let at_ms = both_ms.map(|both_ms| {
        boundary_ms
            .div_euclid(both_ms)
            .saturating_add(1)
            .saturating_mul(both_ms)
    });
    let when = at_ms.map_or_else(String::new, |at_ms| {
        format!("; the next one is {}", time(at_ms))
    });
    refuse(
        format!(
            "the last committed window ends at {}, where no window of {} begins{when}",
            time(boundary_ms),
            text(next)
        ),
        format!(
            "submit it again when a window that ends at such a time is the last one, or choose a \
             size that {} is a multiple of",
            text(old)
        ),
    )
}

fn least_common_multiple(a: i64, b: i64) -> Option<i64> {
    let mut x = a;
    let mut y = b;
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).checked_mul(b)
}

/// The old and the next version of a job, for its sink.
pub struct SinkChange<'a> {
    old: &'a JobSpec,
    next: &'a JobSpec,
}

impl SinkChange<'_> {
    /// Refuses folders in which the rows of one version would lie among the dead letters of the
    /// other.
    pub fn another_place(&self) -> Option<Refusal> {
        places(self.old, self.next)
    }

    /// Refuses another role for another place: what is there already is published, checked and
    /// repaired by the next version's role, which may know the new place alone.
    pub fn another_role(&self) -> Option<Refusal> {
        if self.old.sink.place() == self.next.sink.place() {
            return None;
        }
        refuse(
            "the sink's place changes too, and what lies in the old place is used with the new role",
            "change the place first, and the role with a second change",
        )
    }
}

fn sink(key: &str, old: &JobSpec, next: &JobSpec) -> Option<Refusal> {
    if key == "type" {
        return refuse(
            "what is committed is published, checked and repaired where it was staged",
            ANOTHER_NAME,
        );
    }
    let has = |spec: &JobSpec| spec.sink.fields().iter().any(|(field, _)| *field == key);
    let kind = if has(next) { next } else { old };
    kind.sink.refuses(key, &SinkChange { old, next })
}

/// Rows must not be written among existing dead letters, nor the other way round.
fn places(old: &JobSpec, next: &JobSpec) -> Option<Refusal> {
    let meets = |rows: &JobSpec, dead: &JobSpec| {
        let dead = dead.dead_letters();
        let mut folders = rows.sink.folders().into_iter();
        folders.any(|(_, folder)| folder.overlaps(&dead))
    };
    if meets(next, old) || meets(old, next) {
        return refuse(
            "rows and dead letters of two versions would lie in one folder",
            "choose a folder that neither has used",
        );
    }
    None
}
