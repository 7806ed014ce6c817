//! Watches every step of every core: the invariants, and that a calm core requests nothing.
//!
//! Owns: I1-I9 during a story, the trace of events and effects. Does not own: the invariants
//! themselves.
//! Rule: the trace contains nothing that depends on this machine's speed.

use super::weather::Weather;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use streamctl_controller::driver::Witness;
use streamctl_core::{
    Core, Effect, Event, JobEvent, LoadedJob, TaskEvent, WorkerEvent, invariants,
};

/// Watches the core of one process.
pub struct Watcher {
    pub place: String,
    pub weather: Arc<Weather>,
    /// All work is done: the core must request nothing (I8).
    pub calm: Arc<AtomicBool>,
}

impl Witness for Watcher {
    fn stepped(&self, before: &Core, event: &Event, after: &Core, effects: &[Effect]) {
        if let Err(violation) = invariants::check(after).and(invariants::check_step(before, after))
        {
            self.weather.broken(format!(
                "{} after {}: {violation}",
                self.place,
                event_label(event)
            ));
        }
        if !matches!(
            event,
            Event::Ticked
                | Event::Worker {
                    event: WorkerEvent::Heard { .. },
                    ..
                }
                | Event::Task {
                    event: TaskEvent::Progressed { .. },
                    ..
                }
        ) || !effects.is_empty()
        {
            self.weather
                .note(|| format!("{} {}", self.place, event_label(event)));
        }
        for effect in effects {
            self.weather
                .note(|| format!("{}     -> {}", self.place, effect_label(effect)));
            let routine = matches!(
                effect,
                Effect::ListShards { .. }
                    | Effect::CheckLookup { .. }
                    | Effect::Sweep { .. }
                    | Effect::RecordAnchors { .. }
                    | Effect::Trim { .. }
            );
            if self.calm.load(Ordering::Relaxed) && !routine {
                self.weather.broken(format!(
                    "{} is not calm (I8): {}",
                    self.place,
                    effect_label(effect)
                ));
            }
        }
    }
}

fn event_label(event: &Event) -> String {
    match event {
        Event::Job {
            event: JobEvent::Loaded(loaded),
            ..
        } => {
            let LoadedJob {
                job,
                wanted,
                head,
                unpublished,
                published,
                ..
            } = loaded.as_ref();
            let job = &job.spec.name;
            let head = head.as_ref().map(|manifest| manifest.epoch);
            format!(
                "JobLoaded {job} {wanted:?} head {head:?} unpublished {} published {published}",
                unpublished.len()
            )
        }
        Event::Job {
            event: JobEvent::Created(job),
            ..
        } => format!("JobCreated {}", job.spec.name),
        Event::Job {
            event: JobEvent::ChangeRequested(next),
            ..
        } => {
            format!("ChangeRequested {} {}", next.spec.name, next.job_version)
        }
        Event::Worker {
            worker,
            session,
            event: WorkerEvent::Joined { tasks, .. },
        } => {
            let task = |task: &streamctl_core::RunningTask| {
                let reports: Vec<String> = task
                    .reports
                    .iter()
                    .map(|report| report.window.to_string())
                    .collect();
                let base = &task.base;
                let released = task.released;
                let id = task.task;
                let version = task.job_version;
                format!(
                    "{id} of {version} {base:?} reports {reports:?} to {:?} released {released}",
                    task.watermark
                )
            };
            format!(
                "WorkerJoined {worker} {session} {:#?}",
                tasks.iter().map(task).collect::<Vec<_>>()
            )
        }
        Event::Worker {
            worker,
            session,
            event: WorkerEvent::Heard { .. },
        } => format!("WorkerHeard {worker} {session}"),
        Event::Task {
            worker,
            event: TaskEvent::Reported(report),
            ..
        } => {
            format!(
                "Reported {worker} {} {} {:?} {:?}",
                report.task, report.window, report.ranges, report.counts
            )
        }
        Event::Task {
            worker,
            task,
            event: TaskEvent::Progressed {
                watermark, shards, ..
            },
        } => {
            format!("Progressed {worker} {task} {watermark:?} {shards:?}")
        }
        Event::Job {
            job,
            event: JobEvent::ManifestWritten { reference },
        } => {
            format!("ManifestWritten {job} {}", reference.epoch)
        }
        other => format!("{other:?}"),
    }
}

fn effect_label(effect: &Effect) -> String {
    match effect {
        Effect::WriteManifest { manifest } => {
            format!("WriteManifest {} {}", manifest.epoch, manifest.window)
        }
        Effect::RecordVersion { job, version } => {
            format!("RecordVersion {job} {}", version.job_version)
        }
        Effect::Publish { epochs, .. } => {
            let epochs = epochs.iter().map(|it| it.manifest.epoch.to_string());
            format!("Publish {}", epochs.collect::<Vec<_>>().join(" "))
        }
        Effect::MoveHead { head, .. } => format!("MoveHead {}", head.epoch),
        other => format!("{other:?}"),
    }
}
