//! Validation of worker messages: every field that may end up in a manifest, be published, or be
//! sent to others.
//!
//! Owns: which values a correct worker never sends. Does not own: messages that are merely late
//! (`job` refuses those, and the task is cancelled), the consequences of a refusal
//! (`refusals`).
//! Rule: pure. A refusal names the field and the task, and nothing of the message is used. The core
//! trusts a worker about what it read, but never about where output goes: only objects of this job,
//! window and task are ever published.

use super::job::WINDOWS_AHEAD_MAX;
use super::{
    Core, EndedShard, Event, Job, KnownShard, RefusedTask, RunningTask, TaskEvent, WorkerEvent,
};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::SHARDS_MAX;
use streamctl_proto::convert::BadMessage;
use streamctl_proto::names::{self, SHARD_BYTES_MAX, TEXT_BYTES_MAX};
use streamctl_proto::profile::{OPERATOR_DETAIL_CHARS_MAX, OPERATOR_NAME_CHARS_MAX, OPERATORS_MAX};
use streamctl_proto::report::{
    NULL_COLUMNS_MAX, ObjectKind, UNKNOWN_KEY_CHARS_MAX, UNKNOWN_KEYS_MAX, UNMATCHED_KEYS_MAX,
};
use streamctl_proto::window::is_nameable;
use streamctl_proto::{
    LookupVersion, Position, Report, ResolvedJob, ShardId, StagedObject, TaskId, Watermark, Window,
    WorkerId,
};

/// Largest number in a report: integers up to this value are exact in JSON for every reader.
pub const FIGURE_MAX: u64 = 1 << 53;
/// Largest object, the limit of S3.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// Most children or parents of one shard. A split makes two children, a merge has two parents.
pub const CHILDREN_MAX: usize = 16;

type Checked = Result<(), BadMessage>;

enum Shards<'a> {
    Given(&'a BTreeSet<ShardId>),
    Offered(&'a BTreeMap<ShardId, Position>),
}

impl Shards<'_> {
    fn contains(&self, id: &ShardId) -> bool {
        match self {
            Self::Given(shards) => shards.contains(id),
            Self::Offered(base) => base.contains_key(id),
        }
    }

    fn all(&self, holds: impl Fn(&ShardId) -> bool) -> bool {
        match self {
            Self::Given(shards) => shards.iter().all(holds),
            Self::Offered(base) => base.keys().all(holds),
        }
    }
}

fn bad<T>(field: &'static str, problem: impl ToString) -> Result<T, BadMessage> {
    Err(BadMessage {
        field,
        problem: problem.to_string(),
    })
}

fn ensure(good: bool, field: &'static str, problem: impl ToString) -> Checked {
    if good { Ok(()) } else { bad(field, problem) }
}

impl Core {
    /// Returns the events to apply: the event itself, or a refusal of its task in its place. Of a
    /// Hello, only the refused tasks are left out. Their refusals come first, while their jobs
    /// still know the tasks.
    pub fn admit(&self, event: Event) -> Vec<Event> {
        match event {
            Event::Worker {
                worker,
                session,
                event:
                    WorkerEvent::Joined {
                        process,
                        flight_address,
                        facts,
                        tasks,
                    },
            } => {
                let (tasks, refused) = self.sift(tasks);
                let refusal = |refused| Event::refused(worker.clone(), refused);
                let mut events: Vec<Event> = refused.into_iter().map(refusal).collect();
                events.push(Event::Worker {
                    worker,
                    session,
                    event: WorkerEvent::Joined {
                        process,
                        flight_address,
                        facts,
                        tasks,
                    },
                });
                events
            }
            Event::Task {
                worker,
                task,
                event,
            } => match self.check(&worker, task, &event) {
                Err(problem) => {
                    let job = None;
                    vec![Event::refused(worker, RefusedTask { task, job, problem })]
                }
                Ok(()) => vec![Event::Task {
                    worker,
                    task,
                    event,
                }],
            },
            event => vec![event],
        }
    }

    /// Checks what a message claims about its task. A message about an unknown task is late, not
    /// invalid.
    fn check(&self, worker: &WorkerId, task: TaskId, event: &TaskEvent) -> Checked {
        let Some((job, shards)) = self.task_of(worker, task) else {
            return Ok(());
        };
        match event {
            TaskEvent::Reported(report) => {
                check_report(&job.resolved, report)?;
                own(&shards, report)
            }
            TaskEvent::WindowRequested(window) => check_window(&job.resolved, *window),
            TaskEvent::Progressed { watermark, .. } => {
                check_watermark(*watermark, shards.all(|id| has_ended(job, id)))
            }
            TaskEvent::ShardEnded(ended) => check_ended(job, &shards, ended),
            TaskEvent::Ended(_) | TaskEvent::Refused(_) => Ok(()),
        }
    }

    /// The job and the shards of a live task of this worker. A task that waits for its adoption was
    /// checked when it was offered; its later messages are checked as if all its shards had ended.
    fn task_of(&self, worker: &WorkerId, id: TaskId) -> Option<(&Job, Shards<'_>)> {
        let live = || {
            let job = self.jobs.get(self.task_index.job_of(id)?)?;
            let task = job.tasks.get(&id).filter(|task| task.worker == *worker)?;
            Some((job, Shards::Given(&task.shards)))
        };
        let waiting = || {
            let running = self.pending_adoptions.get(worker, id)?;
            Some((self.jobs.get(&running.job)?, Shards::Offered(&running.base)))
        };
        live().or_else(waiting)
    }

    /// Splits the tasks of a Hello into valid and refused ones. A duplicate is refused.
    fn sift(&self, tasks: Vec<RunningTask>) -> (Vec<RunningTask>, Vec<RefusedTask>) {
        let mut good: BTreeMap<TaskId, RunningTask> = BTreeMap::new();
        let mut refused: BTreeMap<TaskId, RefusedTask> = BTreeMap::new();
        for running in tasks {
            let id = running.task;
            let twice = good.remove(&id).is_some() || refused.contains_key(&id);
            let checked = ensure(!twice, "tasks", format_args!("{id} is there twice"));
            match checked.and_then(|()| self.check_running(&running)) {
                Ok(()) => _ = good.insert(id, running),
                Err(problem) => {
                    let job = Some(running.job);
                    refused.entry(id).or_insert(RefusedTask {
                        task: id,
                        job,
                        problem,
                    });
                }
            }
        }
        (
            good.into_values().collect(),
            refused.into_values().collect(),
        )
    }

    fn check_running(&self, running: &RunningTask) -> Checked {
        // A task of another version of the job, or of an earlier job with its name, is cancelled;
        // its content does not matter.
        let same = |job: &&Job| running.is_of(&job.resolved);
        match self.jobs.get(&running.job).filter(same) {
            Some(job) => check_task(job, running),
            None => Ok(()),
        }
    }
}

/// Whether the job knows that the shard has no more records. A job that was just loaded knows less
/// than the tasks that wait for their adoption.
fn has_ended(job: &Job, id: &ShardId) -> bool {
    job.shards
        .get(id)
        .is_none_or(|shard| shard.task.is_none() || shard.ended())
}

/// Checks that the report has only shards of its task.
fn own(shards: &Shards<'_>, report: &Report) -> Checked {
    match report.ranges.keys().find(|id| !shards.contains(id)) {
        Some(foreign) => bad(
            "ranges",
            format_args!("shard {foreign:?} is not one of {}", report.task),
        ),
        None => Ok(()),
    }
}

/// Checks whether a task that a worker reports as running can belong to this job.
fn check_task(job: &Job, running: &RunningTask) -> Checked {
    let resolved = &job.resolved;
    let shards = Shards::Offered(&running.base);
    ensure(
        !running.base.is_empty(),
        "tasks.shards",
        format_args!("{} has none", running.task),
    )?;
    running.base.keys().try_for_each(check_shard)?;
    for report in &running.reports {
        ensure(
            report.task == running.task,
            "tasks.reports",
            format_args!("{} is another task's", report.task),
        )?;
        check_report(resolved, report)?;
        own(&shards, report)?;
    }
    let windows_max = WINDOWS_AHEAD_MAX + 2 * running.base.len();
    ensure(
        running.windows.len() <= windows_max,
        "tasks.windows",
        format_args!("more than {windows_max}"),
    )?;
    for (window, lookups) in &running.windows {
        check_window(resolved, *window)?;
        check_lookups(resolved, lookups.iter())?;
    }
    for ended in &running.ended {
        check_ended(job, &shards, ended)?;
    }
    let all_ended = shards.all(|id| running.ended.iter().any(|ended| ended.shard == *id));
    check_watermark(running.watermark, all_ended)
}

/// Checks a report against its job: the window is one of the job's, the ranges go forward, the
/// figures add up, and the objects are where this task writes its objects of this window.
///
/// # Errors
/// [`BadMessage`] names the field.
pub fn check_report(job: &ResolvedJob, report: &Report) -> Checked {
    let name = &job.spec.name;
    ensure(
        report.job == *name,
        "report.job",
        format_args!("{} is not {name}, whose task it is", report.job),
    )?;
    check_window(job, report.window)?;
    report.ranges.keys().try_for_each(check_shard)?;
    for (id, range) in &report.ranges {
        let forward = matches!(range.to, Position::After { .. }) && !range.to.reaches(&range.from);
        ensure(
            forward,
            "ranges",
            format_args!("shard {id:?}: {} is not after {}", range.to, range.from),
        )?;
    }
    check_figures(report)?;
    check_lookups(job, report.lookups.iter())?;
    check_unmatched(job, report)?;
    check_null_values(job, report)?;
    check_unknown_keys(report)?;
    check_operators(report)?;
    let mut keys = BTreeSet::new();
    for object in &report.objects {
        check_rebuilt(job, report.window, report.task, object)?;
        ensure(
            keys.insert(object.key()),
            "object.location",
            format_args!("{:?} twice", object.key()),
        )?;
    }
    Ok(())
}

fn check_window(job: &ResolvedJob, window: Window) -> Checked {
    let Window { start_ms, end_ms } = window;
    let size_ms = job.spec.window.ms();
    let problem = format_args!("[{start_ms}, {end_ms}) is not one of the windows of {size_ms} ms");
    ensure(job.spec.window.has(window), "window", problem)
}

/// Checks a watermark. The end is valid only for a task whose shards have all ended.
fn check_watermark(watermark: Watermark, all_ended: bool) -> Checked {
    let is_valid = match watermark {
        Watermark::Unknown => true,
        Watermark::At(time_ms) => is_nameable(time_ms),
        Watermark::Ended => all_ended,
    };
    let ms = watermark.to_wire();
    ensure(
        is_valid,
        "watermark_ms",
        format_args!("{ms} is no time, and a shard has not ended"),
    )
}

fn check_shard(id: &ShardId) -> Checked {
    let problem = |why| BadMessage {
        field: "shard",
        problem: format!("{:.80?} is no name of one: {why}", id.as_str()),
    };
    names::check_shard(id.as_str()).map_err(problem)
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    names::check_name(text, bytes_max).is_ok()
}

fn check_ended(job: &Job, shards: &Shards<'_>, ended: &EndedShard) -> Checked {
    ensure(
        shards.contains(&ended.shard),
        "ended.shard",
        format_args!("{:?} is not its task's", ended.shard),
    )?;
    let size_ms = job.resolved.spec.window.ms();
    let begins = match ended.floor {
        Watermark::Unknown => true,
        Watermark::At(start_ms) => is_nameable(start_ms) && start_ms.rem_euclid(size_ms) == 0,
        Watermark::Ended => false,
    };
    let ms = ended.floor.to_wire();
    ensure(begins, "floor_ms", format_args!("no window begins at {ms}"))?;
    let reached = job
        .shards
        .get(&ended.shard)
        .map(|shard| &shard.reached)
        .filter(|at| **at != Position::End);
    let forward =
        reached.is_none_or(|reached| reached.reaches(&ended.last)) && ended.last != Position::End;
    ensure(
        forward,
        "last",
        format_args!("{} is before what is reported", ended.last),
    )?;
    let few = ended.children.len() <= CHILDREN_MAX
        && job.shards.len() + ended.children.len() <= SHARDS_MAX;
    ensure(
        few,
        "children",
        format_args!("there are {}", ended.children.len()),
    )?;
    ensure(
        ended.children.is_empty() || job.lists_again(),
        "children",
        "shards of this source have none",
    )?;
    for KnownShard {
        shard: child,
        parents,
        detail,
    } in &ended.children
    {
        check_shard(child)?;
        ensure(
            detail.is_empty() || is_text(detail, SHARD_BYTES_MAX),
            "children",
            "a detail is none of a shard",
        )?;
        parents.iter().try_for_each(check_shard)?;
        let parented = parents.len() <= CHILDREN_MAX
            && parents.contains(&ended.shard)
            && !parents.contains(child);
        ensure(
            parented,
            "children",
            format_args!("{child:?} is not a child of {:?}", ended.shard),
        )?;
    }
    Ok(())
}

fn check_figures(report: &Report) -> Checked {
    let counts = &report.counts;
    let figures = [
        counts.rows_in,
        counts.bytes_in,
        counts.rows_out,
        counts.rows_unmatched,
        counts.rows_rejected,
        counts.rows_foreign.unwrap_or_default(),
        counts.rows_further,
        counts.values_null,
    ];
    ensure(
        figures.iter().all(|figure| *figure <= FIGURE_MAX),
        "counts",
        format_args!("more than {FIGURE_MAX}"),
    )?;
    ensure(
        counts.balanced(),
        "counts",
        "rows_in + rows_further is not rows_decoded + rows_dead",
    )?;
    ensure(
        counts.rows_late <= counts.rows_in,
        "counts.rows_late",
        "is more than rows_in",
    )?;
    ensure(
        counts.rows_without_arrival <= counts.rows_in,
        "counts.rows_without_arrival",
        "is more than rows_in",
    )?;
    ensure(
        counts.rows_failed <= counts.rows_dead,
        "counts.rows_failed",
        "is more than rows_dead",
    )?;
    let records = sum(report.ranges.values().map(|range| range.records));
    ensure(
        records == Some(counts.rows_in),
        "counts.rows_in",
        "is not the sum over the ranges",
    )?;
    let bytes = sum(report.ranges.values().map(|range| range.bytes));
    ensure(
        bytes == Some(counts.bytes_in),
        "counts.bytes_in",
        "is not the sum over the ranges",
    )?;
    let rows = |kind| {
        sum(report
            .objects
            .iter()
            .filter(move |object| object.kind == kind)
            .map(|object| object.rows))
    };
    ensure(
        rows(ObjectKind::Data) == Some(counts.rows_out),
        "counts.rows_out",
        "is not what the objects hold",
    )?;
    ensure(
        rows(ObjectKind::DeadLetter) == Some(counts.rows_dead),
        "counts.rows_dead",
        "is not what the objects hold",
    )?;
    let rejected = rows(ObjectKind::RejectedRow);
    ensure(
        rejected == Some(counts.rows_rejected),
        "counts.rows_rejected",
        "is not what the objects hold",
    )
}

fn sum(mut figures: impl Iterator<Item = u64>) -> Option<u64> {
    figures.try_fold(0_u64, u64::checked_add)
}

fn check_lookups<'a>(
    job: &ResolvedJob,
    lookups: impl ExactSizeIterator<Item = (&'a String, &'a LookupVersion)>,
) -> Checked {
    let wanted = &job.spec.lookups;
    ensure(
        lookups.len() == wanted.len(),
        "lookups",
        format_args!("{}, the job has {}", lookups.len(), wanted.len()),
    )?;
    for (lookup, version) in lookups {
        ensure(
            wanted.iter().any(|spec| spec.name == *lookup),
            "lookups",
            format_args!("{lookup:.80?} is none"),
        )?;
        // The version names a folder of the checkpoint location.
        let plain = version
            .as_str()
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-');
        ensure(
            plain && is_text(version.as_str(), TEXT_BYTES_MAX),
            "lookups",
            "a version is letters and digits",
        )?;
    }
    Ok(())
}

fn check_unmatched(job: &ResolvedJob, report: &Report) -> Checked {
    ensure(
        report.unmatched.len() <= UNMATCHED_KEYS_MAX,
        "unmatched",
        format_args!("more than {UNMATCHED_KEYS_MAX}"),
    )?;
    for key in &report.unmatched {
        let good = key.rows <= FIGURE_MAX
            && key.key.len() <= TEXT_BYTES_MAX
            && job
                .spec
                .lookups
                .iter()
                .any(|lookup| lookup.name == key.lookup);
        ensure(
            good,
            "unmatched",
            "a key is too long or too frequent, or of no lookup",
        )?;
    }
    Ok(())
}

fn check_null_values(job: &ResolvedJob, report: &Report) -> Checked {
    let nulls = &report.null_values;
    ensure(
        nulls.len() <= NULL_COLUMNS_MAX,
        "null_values",
        format_args!("more than {NULL_COLUMNS_MAX}"),
    )?;
    let named = sum(nulls.iter().map(|null| null.values));
    ensure(
        named.is_some_and(|named| named <= report.counts.values_null),
        "null_values",
        "more than counts.values_null",
    )?;
    for null in nulls {
        let same = |name: &str| name.trim().to_lowercase() == null.column.to_lowercase();
        let is_column = job.columns.iter().any(|column| same(&column.name));
        ensure(
            is_column,
            "null_values",
            format_args!("{:.80?} is no column", null.column),
        )?;
    }
    Ok(())
}

fn check_unknown_keys(report: &Report) -> Checked {
    ensure(
        report.unknown_keys.len() <= UNKNOWN_KEYS_MAX,
        "unknown_keys",
        format_args!("more than {UNKNOWN_KEYS_MAX}"),
    )?;
    for one in &report.unknown_keys {
        ensure(
            one.key.chars().count() <= UNKNOWN_KEY_CHARS_MAX && one.count > 0,
            "unknown_keys",
            format_args!("{:.80?} is too long, or was not met", one.key),
        )?;
    }
    Ok(())
}

/// A plan begins with its result, and each operator is read by one before it.
fn check_operators(report: &Report) -> Checked {
    ensure(
        report.operators.len() <= OPERATORS_MAX,
        "operators",
        format_args!("more than {OPERATORS_MAX}"),
    )?;
    let mut deepest = 0;
    for operator in &report.operators {
        ensure(
            operator.name.chars().count() <= OPERATOR_NAME_CHARS_MAX
                && operator.detail.chars().count() <= OPERATOR_DETAIL_CHARS_MAX,
            "operators",
            format_args!("{:.80?} is too long", operator.name),
        )?;
        ensure(
            operator.depth <= deepest,
            "operators",
            format_args!("{:.80?} is below no other one", operator.name),
        )?;
        deepest = operator.depth.saturating_add(1);
    }
    Ok(())
}

/// Checks an object of a report, or one that replaces a lost object. The core knows its counts; where
/// it may become visible is known to the job's sink.
///
/// # Errors
/// [`BadMessage`] names the field.
pub fn check_rebuilt(
    job: &ResolvedJob,
    window: Window,
    task: TaskId,
    staged: &StagedObject,
) -> Checked {
    let StagedObject { size, rows, .. } = staged;
    ensure(
        *size <= OBJECT_BYTES_MAX && *rows <= FIGURE_MAX,
        "object.size",
        format_args!("{size} bytes, {rows} rows"),
    )?;
    job.spec.check_staged(window, task, staged)
}

#[cfg(test)]
mod tests;
