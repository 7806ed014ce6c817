//! Status of the core: pure, for people and programs.

use super::event::Place;
use super::job::{EpochFigures, Job, Shard};
use super::{Core, TaskEnd};
use crate::stored::DesiredState;
use streamctl_proto::{Epoch, JobName, Manifest, WorkerId, v1};

impl Core {
    /// The status of one job; `brief` leaves out shards and tasks.
    pub fn status(&self, name: &JobName, brief: bool) -> Option<v1::JobStatus> {
        let job = self.jobs.get(name)?;
        let waits = self.waits(job);
        let waiting_on: Vec<String> = waits
            .iter()
            .filter(|wait| !wait.normal)
            .map(|wait| wait.text.clone())
            .collect();
        let (error, hint) = match &job.wanted {
            DesiredState::Failed { error, hint } => (error.clone(), hint.clone()),
            _ => Default::default(),
        };
        let open = job.shards.values().filter(|shard| !shard.done());
        Some(v1::JobStatus {
            job: name.to_string(),
            state: state(job, &waiting_on).into(),
            waiting_on,
            error,
            hint,
            epoch: job.epoch().0,
            published: job.published.0,
            totals: Some((&job.totals).into()),
            last_epoch: job
                .recent
                .back()
                .map(|figures| summary(figures, job.published)),
            lag_ms: self.lag_ms(job),
            shards_open: count(open.count()),
            shards_ended: count(job.shards.values().filter(|shard| shard.done()).count()),
            shards: if brief { vec![] } else { self.shards(job) },
            tasks: if brief { vec![] } else { tasks(job) },
            lookups: lookups(job),
            submitted_ms: job.resolved.submitted_ms,
            retries: job.retries,
            spec_digest: job.resolved.spec_digest.clone(),
            sink: job.resolved.spec.sink.place(),
            consumer: job
                .resolved
                .consumer
                .as_ref()
                .map_or_else(String::new, |consumer| consumer.arn.clone()),
            first_kept_epoch: job.retention.now.first_kept().0,
            job_version: job.resolved.job_version.0,
            changed_ms: job.resolved.changed_ms,
            repairs: job.repairs.iter().map(Into::into).collect(),
            avoided: self.avoided(job),
            waits,
            // The controller's own matter.
            compaction: None,
            not_drained: job.not_drained.map(|left| v1::NotDrained {
                from_ms: left.from_ms.unwrap_or(0),
                until_ms: left.until_ms.unwrap_or(0),
            }),
        })
    }

    /// The last epochs that are kept in memory, oldest first.
    pub fn recent_epochs(&self, name: &JobName) -> Vec<v1::EpochSummary> {
        let Some(job) = self.jobs.get(name) else {
            return vec![];
        };
        job.recent
            .iter()
            .map(|figures| summary(figures, job.published))
            .collect()
    }

    /// The workers with a session.
    pub fn worker_status(&self) -> Vec<v1::WorkerStatus> {
        self.workers
            .iter()
            .map(|(id, worker)| self.status_of(id, worker))
            .collect()
    }

    pub(crate) fn status_of(&self, id: &WorkerId, worker: &super::Worker) -> v1::WorkerStatus {
        let tasks = self.jobs.values().flat_map(|job| job.tasks.values());
        v1::WorkerStatus {
            worker: format!("{id}"),
            flight_address: worker.flight_address.clone(),
            tasks: count(tasks.filter(|task| task.worker == *id).count()),
            leaving: worker.leaving,
            memory_bytes: worker.memory_bytes,
            busy_permille: worker.busy_permille,
            clock_skew_ms: worker.clock_skew_ms,
            version: worker.facts.version.clone(),
            compute_threads: worker.facts.compute_threads,
            memory_limit_bytes: worker.facts.memory_limit_bytes,
            cpu_permille: worker.cpu_permille,
            joined_ms: worker.joined_ms,
        }
    }

    /// The number of stalls.
    pub fn standing(&self) -> usize {
        self.jobs
            .values()
            .map(|job| job.stall.waits(self.now_ms, job).len())
            .sum()
    }

    /// How far the job is behind: its slowest open shard, or what stalls.
    pub(crate) fn lag_ms(&self, job: &Job) -> u64 {
        let open = job.shards.values().filter(|shard| !shard.done());
        open.map(|shard| self.lag_of(job, shard))
            .max()
            .unwrap_or(0)
            .max(job.stall.lag_ms(self.now_ms, job))
    }

    /// Time passes only for records that arrive as time does.
    fn lag_of(&self, job: &Job, shard: &Shard) -> u64 {
        match job.resolved.spec.source.kind.is_read_on_arrival() {
            true => shard.lag_ms(self.now_ms),
            false => shard.stats.lag_ms,
        }
    }

    fn avoided(&self, job: &Job) -> Vec<v1::AvoidedWorker> {
        job.avoided_now(self.now_ms)
            .map(|(worker, avoided)| avoided.to_wire(worker))
            .collect()
    }

    fn shards(&self, job: &Job) -> Vec<v1::ShardStatus> {
        let worker = |shard: &Shard| {
            shard
                .task
                .and_then(|id| job.tasks.get(&id))
                .map(|task| task.worker.to_string())
        };
        let status = |(id, shard): (&_, &Shard)| v1::ShardStatus {
            shard: format!("{id}"),
            parents: shard.parents.iter().map(ToString::to_string).collect(),
            committed: Some((&shard.committed).into()),
            worker: worker(shard).unwrap_or_default(),
            task: shard.task.map(Into::into),
            lag_ms: self.lag_of(job, shard),
            records: shard.reported_ms.map(|_| shard.stats.records),
            bytes: shard.reported_ms.map(|_| shard.stats.bytes),
            throttles: shard.stats.throttles,
            iterator_renewals: shard.stats.iterator_renewals,
            ended: shard.done(),
            data_losses: shard.stats.data_losses,
            foreign_records: shard.stats.foreign_records,
            last_arrival_ms: shard.stats.last_arrival_ms,
        };
        job.shards.iter().map(status).collect()
    }
}

impl TaskEnd {
    pub fn from_wire(message: &v1::TaskEnded) -> Self {
        use v1::task_ended::Why;
        let error = cut(&message.error);
        let hint = cut(&message.hint);
        match message.why() {
            Why::Completed => Self::Completed,
            Why::Released => Self::Released,
            Why::Cancelled => Self::Cancelled,
            Why::Fatal => Self::Fatal { error, hint },
            Why::Wait => Self::Wait { error },
            Why::Refused => Self::Refused {
                place: place(message.refused_by()),
                error,
                hint,
            },
            Why::Retry | Why::Unspecified => Self::Retry { error },
        }
    }
}

fn place(wire: v1::task_ended::Place) -> Place {
    match wire {
        v1::task_ended::Place::Source => Place::Source,
        v1::task_ended::Place::Sink => Place::Sink,
        v1::task_ended::Place::Checkpoint => Place::Checkpoint,
        v1::task_ended::Place::Memory => Place::Memory,
        v1::task_ended::Place::Functions => Place::Functions,
        v1::task_ended::Place::Unspecified => Place::Unknown,
    }
}

/// Longest error, and longest hint, of a task. Both are kept in the store, which takes about a
/// megabyte at most.
pub const ERROR_CHARS_MAX: usize = 4_096;

fn cut(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

fn state(job: &Job, waiting_on: &[String]) -> v1::JobState {
    match &job.wanted {
        DesiredState::Running
            if !waiting_on.is_empty() && job.head.is_none() && job.tasks.is_empty() =>
        {
            if job.delays.is_empty() && job.listing.answered == 0 {
                v1::JobState::Starting
            } else {
                v1::JobState::Waiting
            }
        }
        DesiredState::Running if !waiting_on.is_empty() => v1::JobState::Waiting,
        DesiredState::Running => v1::JobState::Running,
        DesiredState::Draining => v1::JobState::Draining,
        // It was stopped, until it is gone.
        DesiredState::Stopped | DesiredState::Deleted => v1::JobState::Stopped,
        DesiredState::Completed => v1::JobState::Completed,
        DesiredState::Failed { .. } => v1::JobState::Failed,
    }
}

/// Figures of an epoch, from its manifest.
pub fn summary_of(manifest: &Manifest, name: &str, published: Epoch) -> v1::EpochSummary {
    summary(&EpochFigures::of(manifest, name), published)
}

fn summary(figures: &EpochFigures, published: Epoch) -> v1::EpochSummary {
    v1::EpochSummary {
        epoch: figures.epoch.0,
        job_version: figures.job_version.0,
        window: Some(figures.window.into()),
        counts: Some((&figures.counts).into()),
        objects: count(figures.objects),
        bytes_out: figures.bytes_out,
        unmatched: figures.unmatched.iter().map(Into::into).collect(),
        null_values: figures.null_values.iter().map(Into::into).collect(),
        unknown_keys: figures.unknown_keys.iter().map(Into::into).collect(),
        committed_ms: figures.committed_ms,
        published: figures.epoch <= published,
        manifest: figures.manifest.clone(),
        stages: Some((&figures.stages).into()),
    }
}

fn tasks(job: &Job) -> Vec<v1::TaskStatus> {
    let status = |(id, task): (&streamctl_proto::TaskId, &super::job::Task)| v1::TaskStatus {
        task: Some((*id).into()),
        worker: task.worker.to_string(),
        shards: count(task.shards.len()),
        watermark_ms: task.watermark.to_wire(),
    };
    job.tasks.iter().map(status).collect()
}

fn lookups(job: &Job) -> Vec<v1::LookupStatus> {
    let status = |(name, lookup): (&String, &super::job::Lookup)| v1::LookupStatus {
        name: name.clone(),
        version: lookup
            .version
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        rows: lookup.rows,
        seen_ms: lookup.seen_ms,
        problem: lookup.problem.clone().unwrap_or_default(),
        refused_version: lookup
            .refused
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        duplicate_keys: lookup.duplicates.keys,
        duplicate_rows: lookup.duplicates.rows,
        duplicates: lookup.duplicates.examples.clone(),
    };
    job.lookups.iter().map(status).collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
