//! Responses of the Jobs service as JSON: the same names on the command line and over HTTP.
//!
//! Rule: the names are those of the messages' fields; a published name keeps its meaning.

use crate::report::StageTimes;
use crate::v1;
use serde_json::{Value, json};

/// `running`, `waiting` ...
pub fn state(status: &v1::JobStatus) -> &'static str {
    match status.state() {
        v1::JobState::Unspecified => "unknown",
        v1::JobState::Starting => "starting",
        v1::JobState::Running => "running",
        v1::JobState::Waiting => "waiting",
        v1::JobState::Draining => "draining",
        v1::JobState::Stopped => "stopped",
        v1::JobState::Completed => "completed",
        v1::JobState::Failed => "failed",
    }
}

pub fn job_spec(job: &v1::GetJobSpecResponse) -> Value {
    json!({
        "job": job.job, "job_version": job.job_version, "last_version": job.last_version,
        "submitted_ms": job.submitted_ms, "spec_digest": job.spec_digest, "spec": job.spec_toml,
    })
}

/// A job's figures over time.
pub fn job_history(history: &v1::JobHistory) -> Value {
    let stage = |stage: &v1::StagePercentiles| {
        let times = json!({ "p50_us": stage.p50_us, "p95_us": stage.p95_us });
        (stage.stage.clone(), times)
    };
    let point = |point: &v1::JobPoint| {
        let stages: serde_json::Map<String, Value> = point.stages.iter().map(stage).collect();
        json!({
            "at_ms": point.at_ms, "epochs": point.epochs, "rows_in": point.rows_in,
            "rows_out": point.rows_out, "lag_ms": point.lag_ms, "delay_ms": point.delay_ms,
            "stages": stages,
        })
    };
    json!({
        "job": history.job, "step_ms": history.step_ms, "now_ms": history.now_ms,
        "points": history.points.iter().map(point).collect::<Vec<_>>(),
        "reading": history.reading, "omitted": history.omitted,
    })
}

/// A worker with its tasks and its load over time.
pub fn worker_details(details: &v1::WorkerDetails) -> Value {
    let running = |one: &v1::WorkerTask| {
        json!({
            "job": one.job, "task": task(one.task.as_ref()), "shards": one.shards,
            "watermark_ms": one.watermark_ms,
        })
    };
    let point = |point: &v1::LoadPoint| {
        json!({
            "at_ms": point.at_ms, "cpu_permille": point.cpu_permille,
            "memory_bytes": point.memory_bytes, "busy_permille": point.busy_permille,
        })
    };
    json!({
        "worker": details.worker.as_ref().map(worker),
        "tasks": details.tasks.iter().map(running).collect::<Vec<_>>(),
        "step_ms": details.step_ms, "now_ms": details.now_ms,
        "load": details.load.iter().map(point).collect::<Vec<_>>(),
    })
}

/// Rows and time per operator, of the last window and of all that are kept.
pub fn job_profile(profile: &v1::JobProfile) -> Value {
    let operator = |one: &v1::OperatorFigures| {
        json!({
            "depth": one.depth, "name": one.name, "detail": one.detail, "rows": one.rows,
            "compute_us": one.compute_us,
        })
    };
    let of = |of: &v1::WindowProfile| {
        let window = of.window.unwrap_or_default();
        json!({
            "epoch": of.epoch, "window": {"start_ms": window.start_ms, "end_ms": window.end_ms},
            "job_version": of.job_version, "tasks": of.tasks, "tasks_omitted": of.tasks_omitted,
            "total_us": of.total_us,
            "operators": of.operators.iter().map(operator).collect::<Vec<_>>(),
        })
    };
    json!({
        "job": profile.job, "windows": profile.windows,
        "last": profile.last.as_ref().map(of), "sum": profile.sum.as_ref().map(of),
    })
}

pub fn job_version(version: &v1::JobVersionSummary) -> Value {
    json!({
        "job_version": version.job_version, "first_epoch": version.first_epoch,
        "submitted_ms": version.submitted_ms, "spec_digest": version.spec_digest,
    })
}

/// `plan_was` and `plan_will_be` as lines.
pub fn compared_versions(compared: &v1::CompareJobVersionsResponse) -> Value {
    let changed = |change: &v1::FieldChange| json!({ "field": change.field, "was": change.was, "will_be": change.will_be });
    json!({
        "job": compared.job, "from": compared.from, "to": compared.to,
        "changes": compared.changes.iter().map(changed).collect::<Vec<_>>(),
        "plan_was": compared.plan_was.lines().collect::<Vec<_>>(),
        "plan_will_be": compared.plan_will_be.lines().collect::<Vec<_>>(),
    })
}

pub fn status(job: &v1::JobStatus) -> Value {
    let running = |status: &v1::TaskStatus| {
        json!({
            "task": task(status.task.as_ref()), "worker": status.worker, "shards": status.shards,
            "watermark_ms": status.watermark_ms,
        })
    };
    let lookup = |lookup: &v1::LookupStatus| {
        json!({
            "name": lookup.name, "version": lookup.version, "rows": lookup.rows, "seen_ms": lookup.seen_ms,
            "problem": lookup.problem, "refused_version": lookup.refused_version,
            "duplicate_keys": lookup.duplicate_keys, "duplicate_rows": lookup.duplicate_rows,
            "duplicates": lookup.duplicates,
        })
    };
    let avoided = |avoided: &v1::AvoidedWorker| {
        json!({
            "worker": avoided.worker, "error": avoided.error, "hint": avoided.hint, "until_ms": avoided.until_ms,
        })
    };
    json!({
        "job": job.job, "state": state(job), "waiting_on": job.waiting_on, "error": job.error, "hint": job.hint,
        "epoch": job.epoch, "published": job.published, "first_kept_epoch": job.first_kept_epoch, "totals": counts(job.totals.as_ref()),
        "last_epoch": job.last_epoch.as_ref().map(epoch), "lag_ms": job.lag_ms,
        "shards_open": job.shards_open, "shards_ended": job.shards_ended,
        "shards": job.shards.iter().map(shard).collect::<Vec<_>>(),
        "tasks": job.tasks.iter().map(running).collect::<Vec<_>>(),
        "lookups": job.lookups.iter().map(lookup).collect::<Vec<_>>(),
        "submitted_ms": job.submitted_ms, "retries": job.retries, "spec_digest": job.spec_digest, "sink": job.sink,
        "consumer": (!job.consumer.is_empty()).then_some(&job.consumer),
        "job_version": job.job_version, "changed_ms": job.changed_ms,
        "repairs": job.repairs.iter().map(repair).collect::<Vec<_>>(),
        "waits": job.waits.iter().map(wait).collect::<Vec<_>>(),
        "avoided": job.avoided.iter().map(avoided).collect::<Vec<_>>(),
        "not_drained": job.not_drained.as_ref().map(|left| json!({"from_ms": left.from_ms, "until_ms": left.until_ms})),
    })
}

/// What a stage waits for.
pub fn wait(wait: &v1::Wait) -> Value {
    json!({
        "stage": wait.stage, "on": wait.on, "text": wait.text, "since_ms": wait.since_ms, "normal": wait.normal,
    })
}

fn repair(repair: &v1::JobRepair) -> Value {
    json!({ "at_ms": repair.at_ms, "by": repair.by, "text": repair.text })
}

fn shard(shard: &v1::ShardStatus) -> Value {
    json!({
        "shard": shard.shard, "parents": shard.parents, "committed": position(shard.committed.as_ref()),
        "worker": shard.worker, "task": task(shard.task.as_ref()), "lag_ms": shard.lag_ms,
        "records": shard.records, "bytes": shard.bytes, "throttles": shard.throttles,
        "iterator_renewals": shard.iterator_renewals, "ended": shard.ended, "data_losses": shard.data_losses,
        "foreign_records": shard.foreign_records, "last_arrival_ms": shard.last_arrival_ms,
    })
}

/// An epoch.
pub fn epoch(epoch: &v1::EpochSummary) -> Value {
    let window = epoch.window.unwrap_or_default();
    let stages = epoch.stages.unwrap_or_default();
    let unmatched =
        |key: &v1::UnmatchedKey| json!({"lookup": key.lookup, "key": key.key, "rows": key.rows});
    let nulls = |one: &v1::NullValues| json!({"column": one.column, "values": one.values});
    let unknown = |one: &v1::UnknownKey| json!({"key": one.key, "count": one.count});
    json!({
        "epoch": epoch.epoch, "window": {"start_ms": window.start_ms, "end_ms": window.end_ms},
        "counts": counts(epoch.counts.as_ref()), "objects": epoch.objects, "bytes_out": epoch.bytes_out,
        "unmatched": epoch.unmatched.iter().map(unmatched).collect::<Vec<_>>(),
        "null_values": epoch.null_values.iter().map(nulls).collect::<Vec<_>>(),
        "unknown_keys": epoch.unknown_keys.iter().map(unknown).collect::<Vec<_>>(),
        "committed_ms": epoch.committed_ms, "published": epoch.published, "manifest": epoch.manifest,
        "stages": stage_times(&stages), "job_version": epoch.job_version,
    })
}

/// Only the leader that commits and publishes an epoch knows how long that took.
fn measured(us: u64) -> Option<u64> {
    (us > 0).then_some(us)
}

/// Time per stage: the computed stages, and the window's way out.
fn stage_times(stages: &v1::StageTimes) -> Value {
    json!({
        "decode_us": stages.decode_us, "transform_us": stages.transform_us, "stage_us": stages.stage_us,
        "last_read_us": (stages.last_read_us > 0).then_some(stages.last_read_us), "last_decode_us": stages.last_decode_us,
        "last_transform_us": stages.last_transform_us, "last_stage_us": stages.last_stage_us,
        "report_us": stages.report_us, "commit_us": measured(stages.commit_us), "publish_us": measured(stages.publish_us),
        // Without its last stages it would be too short.
        "closed_to_published_us": measured(stages.publish_us)
            .map(|_| StageTimes::from(*stages).closed_to_published_us()),
    })
}

pub fn worker(worker: &v1::WorkerStatus) -> Value {
    json!({
        "worker": worker.worker, "flight_address": worker.flight_address, "tasks": worker.tasks,
        "leaving": worker.leaving, "memory_bytes": worker.memory_bytes, "busy_permille": worker.busy_permille,
        "clock_skew_ms": worker.clock_skew_ms, "version": worker.version,
        "compute_threads": worker.compute_threads, "memory_limit_bytes": worker.memory_limit_bytes,
        "cpu_permille": worker.cpu_permille, "joined_ms": worker.joined_ms,
    })
}

/// One line of the journal.
pub fn event(event: &v1::Event) -> Value {
    let severity = match event.severity() {
        v1::event::Severity::Unspecified | v1::event::Severity::Info => "info",
        v1::event::Severity::Warning => "warning",
        v1::event::Severity::Error => "error",
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "id": event.id, "kind": event.kind, "severity": severity, "job": text(&event.job),
        "subject": text(&event.subject), "text": event.text, "term": event.term,
        "first_ms": event.first_ms, "last_ms": event.last_ms, "count": event.count,
    })
}

/// The desired number of workers, and why.
pub fn scaling(status: &v1::ScalingStatus) -> Value {
    let decision = |decision: &v1::ScalingDecision| {
        json!({
            "at_ms": decision.at_ms, "term": decision.term, "from": decision.from, "to": decision.to,
            "workers": decision.workers, "reason": decision.reason,
            "figures": decision.figures.as_ref().map(scaling_figures),
        })
    };
    json!({
        "desired": status.desired, "workers": status.workers, "min": status.min, "max": status.max,
        "active": status.active, "doing": status.doing, "figures": status.figures.as_ref().map(scaling_figures),
        "decisions": status.decisions.iter().map(decision).collect::<Vec<_>>(),
    })
}

fn scaling_figures(figures: &v1::ScalingFigures) -> Value {
    let job = |job: &v1::ScalingJob| {
        json!({
            "job": job.job, "work": job.work, "work_needed": job.work_needed,
            "bytes_per_second": job.bytes_per_second, "arriving_bytes_per_second": job.arriving_bytes_per_second,
            "worker_bytes_per_second": job.worker_bytes_per_second, "lag_ms": job.lag_ms, "places": job.places,
            "held_up": job.held_up,
        })
    };
    json!({
        "measured_ms": figures.measured_ms, "busy_permille": figures.busy_permille,
        "busiest_permille": figures.busiest_permille, "needed": figures.needed,
        "jobs": figures.jobs.iter().map(job).collect::<Vec<_>>(), "jobs_omitted": figures.jobs_omitted,
    })
}

/// A change of a job.
pub fn change(change: &v1::FieldChange) -> Value {
    json!({
        "field": change.field, "was": change.was, "will_be": change.will_be, "taken_over": change.taken_over,
        "reason": change.reason, "hint": change.hint,
    })
}

/// A job and a job file, compared.
pub fn diff(diff: &v1::DiffResponse) -> Value {
    let lines = |plan: &str| plan.lines().map(str::to_owned).collect::<Vec<_>>();
    json!({
        "job": diff.job, "job_version": diff.job_version, "epoch": diff.epoch, "refused": diff.refused,
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "plan_was": lines(&diff.plan_was), "plan_will_be": lines(&diff.plan_will_be),
    })
}

fn counts(counts: Option<&v1::Counts>) -> Value {
    let counts = counts.copied().unwrap_or_default();
    json!({
        "rows_in": counts.rows_in, "bytes_in": counts.bytes_in, "rows_decoded": counts.rows_decoded,
        "rows_dead": counts.rows_dead, "rows_unmatched": counts.rows_unmatched, "rows_out": counts.rows_out,
        "rows_late": counts.rows_late,
        "rows_rejected": counts.rows_rejected, "rows_without_arrival": counts.rows_without_arrival,
        "rows_failed": counts.rows_failed, "rows_foreign": counts.rows_foreign.unwrap_or_default(),
        "rows_further": counts.rows_further, "values_null": counts.values_null,
    })
}

/// `after 4963...`, `start`, `end`, `at 2026-11-24T00:46:00Z`.
pub fn position(position: Option<&v1::Position>) -> String {
    use v1::position::At;
    match position.and_then(|position| position.at.as_ref()) {
        None => "-".into(),
        Some(At::Start(_)) => "start".into(),
        Some(At::TimestampMs(ms)) => format!("at {}", time(*ms)),
        Some(At::After(after)) if after.sub_sequence == 0 => format!("after {}", after.sequence),
        Some(At::After(after)) => format!("after {}/{}", after.sequence, after.sub_sequence),
        Some(At::End(_)) => "end".into(),
    }
}

/// `t3.7`.
pub fn task(task: Option<&v1::TaskId>) -> String {
    task.map_or_else(
        || "-".into(),
        |task| format!("t{}.{}", task.term, task.counter),
    )
}

/// In UTC, with milliseconds if they are not zero.
pub fn time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    let format = if ms % 1000 == 0 {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S%.3fZ"
    };
    time.format(format).to_string()
}
