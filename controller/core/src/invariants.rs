//! I1-I11 as functions over the core: what must hold after every step.
//!
//! Rule: a violation is a bug in the core, whatever came from outside.

use super::Core;
use super::job::{ASKED_MAX, Job, PUBLISH_BACKLOG_MAX};
use crate::stored::Replays;
use std::collections::BTreeMap;
use streamctl_proto::{Epoch, Position, ShardId, TaskId};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {what}")]
pub struct Violation {
    /// The invariant: `I1` ... `I11`.
    pub rule: &'static str,
    pub what: String,
}

fn violation(rule: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { rule, what })
}

/// Checks the invariants of a single state: I1, I2 (chains), I4, I5, I6 (no foreign term in a live
/// id), I7, I9, I10, I11.
pub fn check(core: &Core) -> Result<(), Violation> {
    for job in core.jobs.values() {
        no_later_term(core, job)?;
        one_task_per_shard(job)?;
        reports_chain(job)?;
        commit_is_covered(job)?;
        children_wait(job)?;
        bounded(job)?;
        one_version(job)?;
        tasks_are_found(core, job)?;
        needed_is_kept(job)?;
    }
    trials_are_alone(core)
}

/// Checks the invariants between two states: I3, an epoch's number goes up by one (I2), versions
/// follow one another (I9), an anchor never goes back (I11).
pub fn check_step(before: &Core, after: &Core) -> Result<(), Violation> {
    for (name, new) in &after.jobs {
        // The position of an unreadable job is not known.
        let Some(old) = before.jobs.get(name).filter(|old| old.unreadable.is_none()) else {
            continue;
        };
        let was = old.epoch();
        let is = new.epoch();
        if is != was && is != was.next() {
            return violation("I2", format!("job {name}: epoch went from {was} to {is}"));
        }
        for (id, shard) in &new.shards {
            if let Some(previous) = old
                .shards
                .get(id)
                .filter(|s| !s.committed.reaches(&shard.committed))
            {
                return violation(
                    "I3",
                    format!(
                        "shard {id}: {} after {}",
                        shard.committed, previous.committed
                    ),
                );
            }
        }
        versions_follow(old, new)?;
        let had = old.retention.stored.first_kept();
        let has = new.retention.stored.first_kept();
        if has < had {
            return violation("I11", format!("job {name}: anchor {has} after {had}"));
        }
    }
    Ok(())
}

/// I11: no epoch before the anchor is needed: it is published, and its dead letters do not wait.
fn needed_is_kept(job: &Job) -> Result<(), Violation> {
    let first = job.retention.now.first_kept();
    let stored = job.retention.stored.first_kept();
    let waits = |replays: &Replays| {
        let mut epochs = replays.wanted.iter().map(|wanted| wanted.letters.epoch());
        epochs.find(|epoch| *epoch < first)
    };
    if stored > first || (first > Epoch(1) && first > job.published) {
        let published = job.published;
        let text = format!("anchor {first}, stored {stored}, published {published}");
        return violation("I11", text);
    }
    match waits(&job.replays.now).or_else(|| waits(&job.replays.stored)) {
        Some(epoch) => violation("I11", format!("epoch {epoch} waits, anchor {first}")),
        None => Ok(()),
    }
}

/// I6: no task belongs to a future term.
fn no_later_term(core: &Core, job: &Job) -> Result<(), Violation> {
    match job.tasks.keys().find(|task| task.term > core.term) {
        Some(task) => violation("I6", format!("task {task} is live in term {}", core.term)),
        None => Ok(()),
    }
}

/// I6: the index finds the job of every live task.
fn tasks_are_found(core: &Core, job: &Job) -> Result<(), Violation> {
    match job
        .tasks
        .keys()
        .find(|task| core.task_index.job_of(**task) != Some(job.name()))
    {
        Some(task) => violation("I6", format!("task {task} is live and has no home")),
        None => Ok(()),
    }
}

/// I1: a shard is in at most one live task, and both refer to each other.
fn one_task_per_shard(job: &Job) -> Result<(), Violation> {
    let mut owner: BTreeMap<&ShardId, &TaskId> = BTreeMap::new();
    for (task_id, task) in &job.tasks {
        for shard in &task.shards {
            if let Some(other) = owner.insert(shard, task_id) {
                return violation(
                    "I1",
                    format!("shard {shard} is in {other} and in {task_id}"),
                );
            }
        }
    }
    for (id, shard) in &job.shards {
        if shard.task.as_ref() != owner.get(id).copied() {
            return violation(
                "I1",
                format!(
                    "shard {id} says {:?}, the tasks say {:?}",
                    shard.task,
                    owner.get(id)
                ),
            );
        }
    }
    Ok(())
}

/// I2: the reports of every shard chain from the head to the position that the shard has reached.
fn reports_chain(job: &Job) -> Result<(), Violation> {
    let mut at: BTreeMap<&ShardId, &Position> = job
        .shards
        .iter()
        .map(|(id, shard)| (id, &shard.committed))
        .collect();
    for report in job.windows.values().flat_map(|open| &open.reports) {
        for (id, range) in &report.ranges {
            match at.insert(id, &range.to) {
                Some(stands) if *stands == range.from => {}
                stands => {
                    return violation(
                        "I2",
                        format!("shard {id}: {} follows {stands:?}", range.from),
                    );
                }
            }
        }
    }
    for (id, shard) in &job.shards {
        let stands = at[id];
        let ended = shard.reached == Position::End;
        if *stands != shard.reached && !ended {
            return violation(
                "I2",
                format!("shard {id} reached {}, its reports {stands}", shard.reached),
            );
        }
    }
    Ok(())
}

/// I4: every shard is past the window that is being committed.
fn commit_is_covered(job: &Job) -> Result<(), Violation> {
    let Some(committing) = &job.committing else {
        return Ok(());
    };
    let window = committing.manifest.window;
    let next = committing.manifest.epoch;
    if next != job.epoch().next() {
        return violation(
            "I2",
            format!("epoch {next} is being committed on {}", job.epoch()),
        );
    }
    // A repair has no records.
    let reads = committing.manifest.repair.is_none();
    if reads && job.runs() && !job.watermark().is_past(window) {
        return violation(
            "I4",
            format!("window {window} is being committed, a shard is not past it"),
        );
    }
    Ok(())
}

/// I5: if a shard is being read, its parents are read to their end or are in the same task. If an
/// epoch has a child's records, it has its parents' end.
fn children_wait(job: &Job) -> Result<(), Violation> {
    for (id, shard) in job.shards.iter().filter(|(_, shard)| shard.task.is_some()) {
        let early = |parent: &&ShardId| {
            job.shards
                .get(*parent)
                .is_some_and(|p| !p.ended() && p.task != shard.task)
        };
        if let Some(parent) = shard.parents.iter().find(early) {
            return violation(
                "I5",
                format!("shard {id} is read before the end of its parent {parent}"),
            );
        }
    }
    let Some(committing) = &job.committing else {
        return Ok(());
    };
    let frontier = &committing.manifest.frontier;
    for (id, at) in frontier
        .iter()
        .filter(|(_, at)| matches!(at.position, Position::After { .. } | Position::End))
    {
        let unread = at
            .parents
            .iter()
            .find(|p| frontier.get(p).is_some_and(|f| f.position != Position::End));
        if let Some(parent) = unread {
            return violation(
                "I5",
                format!(
                    "epoch {} has {id} before the end of {parent}",
                    committing.manifest.epoch
                ),
            );
        }
    }
    Ok(())
}

/// I10: a task on trial as the cause of worker deaths is alone on its worker, so that no other task
/// is blamed or harmed.
fn trials_are_alone(core: &Core) -> Result<(), Violation> {
    for (worker, trial) in core.trials() {
        let Some(tried) = trial.jobs.values().flatten().next() else {
            continue;
        };
        for job in core.jobs.values() {
            let is_tried = |id: &TaskId| trial.jobs.values().any(|tried| *tried == Some(*id));
            if let Some((other, _)) = job
                .tasks
                .iter()
                .find(|(id, task)| task.worker == *worker && !is_tried(id))
            {
                let name = job.name();
                return violation(
                    "I10",
                    format!("task {other} of {name} is beside task {tried}, which is tried"),
                );
            }
        }
    }
    Ok(())
}

/// I9: running tasks and the epoch being committed belong to the job's one version.
fn one_version(job: &Job) -> Result<(), Violation> {
    let version = job.resolved.job_version;
    if let Some((id, task)) = job
        .tasks
        .iter()
        .find(|(_, task)| task.job_version != version)
    {
        return violation(
            "I9",
            format!(
                "task {id} is of version {}, the job of version {version}",
                task.job_version
            ),
        );
    }
    if let Some(committing) = &job.committing
        && committing.manifest.job_version() != version
    {
        let epoch = committing.manifest.epoch;
        let made_by = committing.manifest.job_version();
        return violation(
            "I9",
            format!("epoch {epoch} is of version {made_by}, the job of version {version}"),
        );
    }
    if job
        .changing
        .as_ref()
        .is_some_and(|change| change.recording && job.committing.is_some())
    {
        return violation(
            "I9",
            format!("job {} changes while an epoch is on its way", job.name()),
        );
    }
    Ok(())
}

/// I9: a version takes over from the previous one at a head, and from nothing else.
fn versions_follow(old: &Job, new: &Job) -> Result<(), Violation> {
    let was = old.resolved.job_version;
    let is = new.resolved.job_version;
    if is == was {
        return Ok(());
    }
    if is != was.next() {
        return violation(
            "I9",
            format!("job {}: version {is} follows {was}", new.name()),
        );
    }
    let clean = new.tasks.keys().all(|id| !old.tasks.contains_key(id))
        && new.windows.values().all(|open| open.reports.is_empty())
        && new
            .shards
            .values()
            .all(|shard| shard.reached == shard.committed || shard.reached == Position::End)
        && (&old.head, &old.committing.is_none()) == (&new.head, &true);
    if clean {
        Ok(())
    } else {
        violation(
            "I9",
            format!("version {is} of {} has something of {was}", new.name()),
        )
    }
}

/// I7: everything that can grow has a limit.
fn bounded(job: &Job) -> Result<(), Violation> {
    if job.windows.len() > job.windows_max() {
        return violation(
            "I7",
            format!("job {} has {} windows open", job.name(), job.windows.len()),
        );
    }
    let asked_max = job
        .tasks
        .values()
        .map(|task| ASKED_MAX + task.shards.len())
        .sum();
    if job.waiting.len() > asked_max {
        return violation(
            "I7",
            format!(
                "job {} has {} windows asked for",
                job.name(),
                job.waiting.len()
            ),
        );
    }
    let unpublished = job
        .publishing
        .iter()
        .filter(|manifest| manifest.repair.is_none())
        .count();
    if unpublished > PUBLISH_BACKLOG_MAX {
        return violation(
            "I7",
            format!("job {} has {unpublished} epochs to publish", job.name()),
        );
    }
    if job.published > job.epoch() && job.head.is_some() {
        return violation(
            "I3",
            format!("job {} published {:?}", job.name(), Epoch(job.published.0)),
        );
    }
    Ok(())
}
