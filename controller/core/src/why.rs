//! What each stage of a job waits for, since when, and on whom.
//!
//! Owns: the waits and their texts. Does not own: since when something stalls (`job::stall`), which
//! calls hang (`hanging`).
//! Rule: waiting for time, or for a parent shard, is normal and is marked so. A wait that is not
//! normal makes the state `waiting`.

use super::Core;
use super::hanging::HANGING_MS;
use super::job::{Job, wait};
use crate::stored::DesiredState;
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::json::time;
use streamctl_proto::{JobName, v1};

/// How workers name the server of a job's function.
const FUNCTION_SERVER: &str = "the function's server";
/// Service and operation, and whether the source is read.
type CallsOf<'a> = (&'a str, &'a str, bool);
/// Number of calls, since when the first of them hangs, and their workers.
type Hung<'a> = (u32, i64, BTreeSet<&'a str>);

/// A query that has been computing for this long is shown.
const COMPUTING_MS_SHOWN: u64 = 2_000;
/// Workers that a text names.
const WORKERS_NAMED_MAX: usize = 3;

impl Core {
    /// What each stage of a job that runs or drains waits for.
    pub(crate) fn waits(&self, job: &Job) -> Vec<v1::Wait> {
        if !matches!(job.wanted, DesiredState::Running | DesiredState::Draining) {
            return vec![];
        }
        let mut waits = vec![];
        if job.listing.answered == 0 {
            waits.push(wait(
                "shards",
                "source",
                "the source's list of shards".to_owned(),
            ));
        }
        for (name, lookup) in job
            .lookups
            .iter()
            .filter(|(_, lookup)| lookup.version.is_none())
        {
            let why = lookup.problem.as_deref().unwrap_or("it is being read");
            let text = format!("the first version of lookup {name}: {why}");
            waits.push(wait("lookup", name, text));
        }
        let mut takers = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.takes_tasks())
            .map(|(id, _)| id)
            .peekable();
        let has_worker = takers.peek().is_some();
        let all_are_tried_on = takers.all(|id| self.suspects.trials.contains_key(id));
        let unread = job
            .shards
            .values()
            .filter(|s| s.task.is_none() && !s.done() && job.parents_ended(s))
            .count();
        if unread > 0 && !has_worker {
            let text = "a worker: none is connected".to_owned();
            let since_ms = job.stall.unread_since();
            waits.push(v1::Wait {
                since_ms,
                ..wait("assign", "worker", text)
            });
        }
        let suspicion = self.suspicion(job);
        if unread > 0 && has_worker && all_are_tried_on && suspicion.is_none() {
            let seconds = self.trials_end_within_s();
            let text = format!(
                "a worker: all of them try jobs whose tasks may have ended workers, for {seconds} \
                 s at most"
            );
            waits.push(wait("assign", "worker", text));
        }
        waits.extend(suspicion.map(|text| wait("assign", "worker", text)));
        let unread_since_ms = job.stall.unread_since();
        let is_late = unread_since_ms.is_some_and(|ms| self.now_ms - ms >= HANGING_MS);
        if unread > 0 && is_late && waits.is_empty() && !job.is_paused(self.now_ms) {
            let s = unread_since_ms.map_or(0, |ms| seconds(self.now_ms - ms));
            let text = format!("a worker: none has taken {unread} of its shards for {s} s");
            waits.push(v1::Wait {
                since_ms: unread_since_ms,
                ..wait("assign", "worker", text)
            });
        }
        if let Some(change) = &job.changing {
            let version = change.next.job_version;
            let text =
                format!("the store: version {version} of the job takes over when it is stored");
            waits.push(wait("store", "store", text));
        }
        waits.extend(job.delays.iter().map(|(delay, reason)| {
            let (stage, on) = delay.place();
            wait(stage, on, format!("{}: {reason}", delay.label()))
        }));
        waits.extend(job.stall.waits(self.now_ms, job));
        waits.extend(self.hanging(job));
        if waits.is_empty() {
            waits.extend(self.normal_waits(job));
        }
        waits
    }

    /// The status message of a job whose tasks may have killed workers.
    fn suspicion(&self, job: &Job) -> Option<String> {
        if job.deaths.suspects().is_empty() {
            return None;
        }
        let workers = job.deaths.workers().join(", ");
        let trial = self
            .suspects
            .trials
            .iter()
            .find(|(_, trial)| trial.jobs.contains_key(job.name()));
        Some(match trial {
            Some((worker, trial)) => {
                let others: Vec<&str> = trial
                    .jobs
                    .keys()
                    .filter(|name| *name != job.name())
                    .map(JobName::as_str)
                    .collect();
                let beside = if others.is_empty() {
                    "alone".to_owned()
                } else {
                    format!("beside {} only", others.join(", "))
                };
                format!(
                    "worker {worker}: its shards run there {beside} for a while, as workers died \
                     that had them: {workers}"
                )
            }
            // They continue beside others that needed the worker.
            None if job.to_be_tried().is_empty() => return None,
            None => {
                let seconds = self.trials_end_within_s();
                format!(
                    "its turn to be tried apart from other jobs, as workers died that had its shards: {workers}; other jobs \
                     are tried for {seconds} s at most"
                )
            }
        })
    }

    /// When the first of the running trials ends at the latest.
    fn trials_end_within_s(&self) -> i64 {
        let until_ms = self
            .suspects
            .trials
            .values()
            .map(|trial| trial.until_ms)
            .min();
        until_ms.map_or(0, |until_ms| {
            until_ms.saturating_sub(self.now_ms).max(0) / 1_000
        })
    }

    /// Calls of the job's workers that outside services do not answer.
    fn hanging(&self, job: &Job) -> Vec<v1::Wait> {
        let mut found: BTreeMap<CallsOf<'_>, Hung<'_>> = BTreeMap::new();
        for task in job.tasks.values() {
            for hanging in task.hanging.hanging(self.now_ms) {
                let key = (hanging.service, hanging.operation, hanging.reads);
                let since_ms = hanging.since_ms;
                let (calls, since, workers) =
                    found.entry(key).or_insert((0, since_ms, BTreeSet::new()));
                *calls += hanging.count;
                *since = since_ms.min(*since);
                workers.insert(task.worker.as_str());
            }
        }
        let hangs = |((service, operation, reads), (calls, since_ms, workers))| {
            let text = hanging_text(self.now_ms, (service, operation), calls, since_ms, &workers);
            let stage = match reads {
                true => "read",
                false => stage_of(service, operation),
            };
            v1::Wait {
                since_ms: Some(since_ms),
                ..wait(stage, service, text)
            }
        };
        found.into_iter().map(hangs).collect()
    }

    /// What a job waits for while nothing is wrong.
    fn normal_waits(&self, job: &Job) -> Vec<v1::Wait> {
        let mut waits = vec![];
        let now = self.now_ms;
        let mut normal = |stage, on, text| {
            waits.push(v1::Wait {
                normal: true,
                ..wait(stage, on, text)
            });
        };
        for (id, task) in &job.tasks {
            if task.computing.ms >= COMPUTING_MS_SHOWN {
                let text = format!("task {id} on {}: {}", task.worker, task.computing.text());
                normal("query", "query", text);
            }
        }
        let shards = job.shards.values().filter(|shard| !shard.done());
        let children = shards.filter(|shard| !job.parents_ended(shard)).count();
        if children > 0 {
            let text = format!(
                "parent shards: {children} of its shards begin when these are read to their end"
            );
            normal("read", "parent shards", text);
        }
        if job.is_paused(now) {
            let until_ms = job.pause_until_ms.unwrap_or(now);
            let text = format!(
                "time: its tasks start again in {} s",
                seconds(until_ms - now)
            );
            normal("task", "time", text);
        }
        if !job.resolved.spec.source.kind.is_read_on_arrival() {
            return waits;
        }
        let requested = job.waiting.first().map(|(window, _)| *window);
        let open = job.windows.keys().next().copied();
        match open.into_iter().chain(requested).min() {
            Some(window) if window.end_ms > now => {
                let left = seconds(window.end_ms - now);
                let text = format!(
                    "the end of the window from {} to {}, in {left} s",
                    time(window.start_ms),
                    time(window.end_ms)
                );
                normal("window", "time", text);
            }
            Some(window) => {
                let text = format!(
                    "its shards: they are read to the end of the window that ended at {}, {} s ago",
                    time(window.end_ms),
                    seconds(now - window.end_ms)
                );
                normal("window", "shards", text);
            }
            None if job.committing.is_none() && job.publishing.is_empty() => {
                let text = "records: none has arrived since the last window".to_owned();
                normal("read", "records", text);
            }
            None => {}
        }
        waits
    }
}

fn seconds(ms: i64) -> i64 {
    ms.max(0) / 1_000
}

/// The stage that makes such a call on a worker, if it is not the reading of the source. Workers of
/// earlier builds do not tell these apart.
fn stage_of(service: &str, operation: &str) -> &'static str {
    let reads = ["Get", "Head", "List", "Describe"];
    match service {
        "S3" if reads.iter().any(|verb| operation.starts_with(verb)) => "lookup",
        "S3" => "stage",
        FUNCTION_SERVER => "query",
        _ => "read",
    }
}

fn hanging_text(
    now: i64,
    (service, operation): (&str, &str),
    calls: u32,
    since_ms: i64,
    workers: &BTreeSet<&str>,
) -> String {
    let what = match (operation, calls) {
        ("GetRecords" | "GetShardIterator", 1) => format!("{operation} of 1 shard"),
        ("GetRecords" | "GetShardIterator", calls) => format!("{operation} of {calls} shards"),
        (operation, 1) => operation.to_owned(),
        (operation, calls) => format!("{calls} calls of {operation}"),
    };
    let mut named: Vec<&str> = workers.iter().take(WORKERS_NAMED_MAX).copied().collect();
    if workers.len() > WORKERS_NAMED_MAX {
        named.push("...");
    }
    format!(
        "{service} has not answered {what} for {} s ({})",
        seconds(now - since_ms),
        named.join(", ")
    )
}
