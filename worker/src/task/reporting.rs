//! The messages of a task: reports, progress, spans.
//!
//! Owns: the messages to the controller and to the traces. Does not own: when they are sent (the
//! task), their delivery ([`crate::registry`]).
//! Rule: a report contains exactly the records that were read.

use super::shards::ShardState;
use super::window::Finished;
use super::{Task, TaskError};
use crate::compute::Workload;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};
use streamctl_engine::calls::Unanswered;
use streamctl_engine::metrics::stages_named;
use streamctl_engine::traces::{Place, Span, WindowTrace, now};
use streamctl_proto::report::StageTimes;
use streamctl_proto::{Counts, LookupVersion, Report, ShardId, ShardRange, Watermark, Window, v1};

/// A query that has been computing for this long is reported with its busiest operator.
const BUSIEST_AFTER: Duration = Duration::from_secs(2);
/// Calls that take longer are sent to the controller, which decides when they hang.
const HANGING_AFTER: Duration = Duration::from_secs(2);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When the last shard of a task passed a window's end.
#[derive(Clone, Copy)]
pub(super) struct Closed {
    at: Instant,
    /// How long after that end; 0: the window's time is not that of the clock.
    after_us: u64,
}

impl Closed {
    /// The current moment, at which the wall clock shows `now_ms`. `None`: the times of the windows
    /// are unrelated to when their records could be read.
    pub(super) fn now(window: Window, now_ms: Option<i64>) -> Self {
        let after_us = |now_ms: i64| {
            let after_ms = u64::try_from(now_ms.saturating_sub(window.end_ms)).unwrap_or(0);
            // 0 means that it was not measured.
            after_ms.saturating_mul(1_000).max(1)
        };
        Self {
            at: Instant::now(),
            after_us: now_ms.map_or(0, after_us),
        }
    }

    /// What the window waited for since then, stage by stage.
    pub(super) fn stages(self, finished: &Finished) -> StageTimes {
        let mut before = self.at;
        let stage = |end: Instant| {
            let spent = end.saturating_duration_since(before);
            before = before.max(end);
            u64::try_from(spent.as_micros()).unwrap_or(u64::MAX)
        };
        let [last_decode_us, last_transform_us, last_stage_us] = finished.over.map(stage);
        let last_read_us = self.after_us;
        StageTimes {
            last_read_us,
            last_decode_us,
            last_transform_us,
            last_stage_us,
            ..finished.stages
        }
    }
}

/// When a window got its first record, and when it took its last; used for its spans.
pub(super) struct Times {
    pub begin: SystemTime,
    pub closed: Option<SystemTime>,
}

impl Task {
    pub(super) fn report_window(
        &self,
        window: Window,
        ranges: BTreeMap<ShardId, ShardRange>,
        lookups: BTreeMap<String, LookupVersion>,
        finished: Finished,
    ) -> Result<(), TaskError> {
        let Finished {
            objects,
            counts,
            unmatched,
            null_values,
            unknown_keys,
            stages,
            operators,
            rows,
            ..
        } = finished;
        let read = ranges.values().map(|range| range.records).sum::<u64>();
        if counts.rows_in != read {
            // A bug. If it were reported, the difference would be lost for good.
            let what = format!(
                "window {window} holds {} of the {read} records that were read",
                counts.rows_in
            );
            return Err(TaskError::Panicked(what));
        }
        let task = self.parts.id;
        let job = self.parts.context.job.spec.name.clone();
        self.parts
            .meter
            .reported(&job, counts.rows_dead, counts.rows_out, &stages);
        let trace_id = self.window_trace(window).id();
        let rows_in = counts.rows_in;
        let rows_out = counts.rows_out;
        tracing::debug!(%job, %task, %window, trace_id, rows_in, rows_out, "window reported");
        self.parts.results.add(&job, window, task, rows);
        let counts: Counts = counts;
        let report = Report {
            task,
            job,
            window,
            ranges,
            counts,
            lookups,
            objects,
            unmatched,
            null_values,
            unknown_keys,
            stages,
            operators,
        };
        self.parts.registry.report(report)?;
        Ok(())
    }

    fn window_trace(&self, window: Window) -> WindowTrace {
        let job = &self.parts.context.job;
        WindowTrace::of(&job.spec.name, job.submitted_ms, window)
    }

    /// The spans of a window's work here. A stage's span is as long as the stage computed; the
    /// window's rows pass through all stages at the same time.
    pub(super) fn trace(&self, window: Window, times: &Times, finished: &Finished) {
        let traces = &self.parts.meter.traces;
        if !traces.is_on() {
            return;
        }
        let trace = self.window_trace(window);
        let begin = times.begin;
        let end = now();
        let task = Span::new(trace, Place::Below, "task", begin, end)
            .with(
                "streamctl.job",
                self.parts.context.job.spec.name.to_string(),
            )
            .with("streamctl.task", self.parts.id.to_string())
            .with("streamctl.window", window.to_string())
            .with(
                "streamctl.rows_in",
                i64::try_from(finished.counts.rows_in).unwrap_or(i64::MAX),
            )
            .with(
                "streamctl.rows_out",
                i64::try_from(finished.counts.rows_out).unwrap_or(i64::MAX),
            );
        let place = Place::Under(traces.record(task));
        traces.record(Span::new(
            trace,
            place,
            "read",
            begin,
            times.closed.unwrap_or(end),
        ));
        for (stage, micros) in stages_named(&finished.stages) {
            traces.record(Span::new(
                trace,
                place,
                stage,
                begin,
                begin + Duration::from_micros(micros),
            ));
        }
    }

    /// Sends the time up to which every window is reported, and the position of each shard.
    pub(super) fn tell_progress(&mut self, watermark: Watermark) {
        self.told_watermark = watermark;
        let progress = |shard: &ShardState| v1::ShardProgress {
            shard: shard.id.to_string(),
            lag_ms: shard.lag_ms,
            records: shard.records,
            bytes: shard.bytes,
            throttles: shard.stats.throttles,
            iterator_renewals: shard.stats.iterator_renewals,
            data_losses: shard.stats.data_losses,
            foreign_records: shard.stats.foreign_records,
            last_arrival_ms: shard.last_arrival_ms,
            lost: shard.stats.lost.map(Into::into),
        };
        let shards = self.shards.iter().map(progress).collect();
        let (computing, workload) = self.computing().unzip();
        let computing = computing.unwrap_or_default();
        let busiest = workload
            .filter(|_| computing >= BUSIEST_AFTER)
            .and_then(Workload::busiest);
        let progress = v1::Progress {
            task: None,
            watermark_ms: watermark.to_wire(),
            shards,
            work_us: self.counted.us(),
            computing_ms: millis(computing),
            busiest: busiest.as_ref().map(Into::into),
            calls: self.hanging_calls(),
        };
        self.parts.registry.progress(self.parts.id, progress);
    }

    /// A service that hangs reports no error.
    fn hanging_calls(&self) -> Vec<v1::HangingCalls> {
        let hanging = |calls: Unanswered, reads: bool| v1::HangingCalls {
            service: calls.service,
            operation: calls.operation,
            count: u32::try_from(calls.count).unwrap_or(u32::MAX),
            age_ms: millis(calls.age),
            reads,
        };
        let reading = self.reading.unanswered(HANGING_AFTER).into_iter();
        let others = self.calls.unanswered(HANGING_AFTER).into_iter();
        reading
            .map(|calls| hanging(calls, true))
            .chain(others.map(|calls| hanging(calls, false)))
            .collect()
    }

    /// Reports which shards have ended, once each, and starts those that waited for them.
    pub(super) fn tell_ended(&mut self) {
        for index in 0..self.shards.len() {
            let shard = &self.shards[index];
            let Some(children) = shard.ended().filter(|_| !self.told_ended[index]) else {
                continue;
            };
            let id = shard.id.clone();
            let registry = &self.parts.registry;
            let floor = shard.floor();
            registry.shard_ended(self.parts.id, &id, &shard.at, floor, children);
            self.told_ended[index] = true;
            for child in 0..self.shards.len() {
                let after = &mut self.shards[child].after;
                let waited = after.contains(&id);
                after.retain(|parent| *parent != id);
                let starts = waited && after.is_empty();
                if waited {
                    self.shards[child].close_before(floor);
                }
                if starts {
                    self.start_reader(child);
                }
            }
        }
    }
}
