//! Reads one Kinesis shard.
//!
//! Owns: the iterator, the call under way, what was counted. Does not own: decisions ([`super::cursor`], [`super::pace`]).
//! Rule: the position moves only together with the chunk that is given; a call under way is kept, so that dropping a
//! read loses neither its answer nor its place.

use super::Settings;
use super::api::{Answer, Api, Calls, Service};
use super::cursor::{Call, Failure, Next, after_failure, iterator_kind};
use super::kpl;
use super::pace::{Backoff, Pace};
use crate::source::{Child, Chunk, Clock, ReadError, ReaderStats, Record, ShardReader, ShardToRead};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::aws::Aws;
use streamctl_engine::hash_range::HashRange;
use streamctl_proto::spec::{OnDataLoss, SourceKind};
use streamctl_proto::{Position, ResolvedJob, ShardId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// Failures in a row after which the operator hears of it, once; each is waited out all the same.
const FAILURES_NAMED: u32 = 8;

struct Iterator {
    token: String,
    made: Instant,
}

/// A call that was sent. It goes on by itself while nobody waits for it; an iterator is as old as the call it came by.
enum UnderWay {
    Iterator(JoinHandle<Result<String, Failure>>),
    Records { task: JoinHandle<Result<Answer, Failure>>, sent_ms: i64 },
}

/// What a call brought.
enum Outcome {
    Iterator(Result<String, Failure>),
    Records { result: Result<Answer, Failure>, sent_ms: i64 },
}

/// Reads one shard of a stream.
pub struct KinesisReader {
    api: Api,
    shard: ShardId,
    /// Keys that belong to the shard, where its listing said so.
    range: Option<HashRange>,
    position: Position,
    on_data_loss: OnDataLoss,
    settings: Settings,
    clock: Clock,
    opened: Instant,
    pace: Pace,
    backoff: Backoff,
    iterator: Option<Iterator>,
    under_way: Option<UnderWay>,
    /// When the last call was sent.
    sent: Instant,
    /// Iterators made since the last answer.
    iterators: u32,
    had_iterator: bool,
    behind_ms: u64,
    end: Option<Vec<Child>>,
    stats: ReaderStats,
}

impl KinesisReader {
    /// Reads `shard` of `job`; asks the service nothing yet. `instead`: who answers in the place of AWS.
    pub async fn open(
        job: &ResolvedJob,
        shard: &ShardToRead,
        aws: &Aws,
        instead: Option<Arc<dyn Calls>>,
        clock: Clock,
        settings: Settings,
        calls: Arc<Semaphore>,
    ) -> Result<Self, ReadError> {
        let SourceKind::Kinesis { poll_interval, max_records_per_read, .. } = &job.spec.source.kind else {
            return Err(unfit(&shard.shard, "the job's source is not a Kinesis stream"));
        };
        let stream = job.stream.clone().ok_or_else(|| unfit(&shard.shard, "the job does not say which stream"))?;
        let api = Api {
            service: match instead {
                Some(calls) => Service::Given(calls),
                None => Service::Sdk(aws.kinesis(&stream).await),
            },
            stream,
            shard: shard.shard.clone(),
            records_max: *max_records_per_read,
            timeout: settings.call_timeout,
            calls,
        };
        let range = HashRange::from_detail(&shard.detail);
        let on_data_loss = job.spec.source.on_data_loss;
        let mut reader = Self::new(api, shard.from.clone(), *poll_interval, on_data_loss, clock, settings);
        reader.range = range;
        Ok(reader)
    }

    pub(super) fn new(
        api: Api,
        from: Position,
        poll_interval: Duration,
        on_data_loss: OnDataLoss,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        Self {
            shard: api.shard.clone(),
            range: None,
            api,
            end: (from == Position::End).then(Vec::new),
            position: from,
            on_data_loss,
            settings,
            clock,
            opened: Instant::now(),
            pace: Pace::new(poll_interval, settings.bytes_per_second),
            backoff: Backoff::new(settings.backoff_base, settings.backoff_max),
            iterator: None,
            under_way: None,
            sent: Instant::now(),
            iterators: 0,
            had_iterator: false,
            behind_ms: 0,
            stats: ReaderStats::default(),
        }
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn empty(&self) -> Chunk {
        Chunk { behind_ms: self.behind_ms, end: self.end.clone(), ..Chunk::default() }
    }

    /// Sends the next call: for an iterator when there is none or it is about to expire, else for records.
    fn send(&mut self) {
        self.sent = Instant::now();
        self.stats.calls += 1;
        let age_max = self.settings.iterator_age_max;
        let fresh = self.iterator.as_ref().filter(|iterator| iterator.made.elapsed() < age_max);
        if let Some(iterator) = fresh {
            let sent_ms = (self.clock)();
            let call = self.api.clone().records(iterator.token.clone(), sent_ms);
            self.pace.started(self.now());
            self.under_way = Some(UnderWay::Records { task: tokio::spawn(call), sent_ms });
        } else if let Some(kind) = iterator_kind(&self.position) {
            self.iterator = None;
            self.under_way = Some(UnderWay::Iterator(tokio::spawn(self.api.clone().iterator(kind))));
        }
    }

    /// Waits for the call under way; `None`: not by the deadline. It stays under way until its outcome is taken.
    async fn outcome(&mut self, deadline: Instant) -> Option<Outcome> {
        let broken = |error: tokio::task::JoinError| Failure { message: error.to_string(), ..Failure::default() };
        let outcome = match self.under_way.as_mut()? {
            UnderWay::Iterator(task) => {
                let joined = timeout_at(deadline, task).await.ok()?;
                Outcome::Iterator(joined.unwrap_or_else(|error| Err(broken(error))))
            }
            UnderWay::Records { task, sent_ms } => {
                let joined = timeout_at(deadline, task).await.ok()?;
                Outcome::Records { result: joined.unwrap_or_else(|error| Err(broken(error))), sent_ms: *sent_ms }
            }
        };
        self.under_way = None;
        Some(outcome)
    }

    fn take(&mut self, outcome: Outcome) -> Result<Option<Chunk>, ReadError> {
        match outcome {
            Outcome::Iterator(Ok(token)) => {
                self.stats.iterator_renewals += u64::from(self.had_iterator);
                self.had_iterator = true;
                self.iterators += 1;
                self.iterator = Some(Iterator { token, made: self.sent });
                Ok(None)
            }
            Outcome::Iterator(Err(failure)) => self.failed(Call::Iterator, failure).map(|()| None),
            Outcome::Records { result: Ok(answer), sent_ms } => Ok(Some(self.give(answer, sent_ms))),
            Outcome::Records { result: Err(failure), .. } => self.failed(Call::Records, failure).map(|()| None),
        }
    }

    /// An answer as a chunk; moves iterator and position. Nothing is awaited between this and handing the chunk out.
    fn give(&mut self, answer: Answer, sent_ms: i64) -> Chunk {
        self.backoff.succeeded();
        self.iterators = 0;
        if let Some(left) = answer.left {
            self.pace.started(left.saturating_duration_since(self.opened));
        }
        self.pace.answered(answer.bytes);
        let full = answer.records.len() >= self.api.records_max as usize;
        let records = self.unread(answer.records);
        self.iterator = answer.next_iterator.map(|token| Iterator { token, made: self.sent });
        if self.iterator.is_none() {
            self.end = Some(answer.children);
        }
        self.behind_ms = answer.behind_ms.unwrap_or(self.behind_ms);
        // All that had arrived when the call was sent is in this answer, if the answer reached the tip.
        let at_tip = answer.behind_ms == Some(0) && !full;
        let complete_to_ms = at_tip.then(|| sent_ms - self.settings.grace_ms);
        Chunk { records, complete_to_ms, behind_ms: self.behind_ms, end: self.end.clone() }
    }

    /// The records behind the position, aggregates taken apart; moves the position. Nothing is given twice, whatever
    /// the service does.
    fn unread(&mut self, given: Vec<Record>) -> Vec<Record> {
        let behind = |record: &Record| match &self.position {
            Position::After { sequence, sub_sequence: 0 } => record.sequence > *sequence,
            Position::After { sequence, .. } => record.sequence >= *sequence,
            Position::Start | Position::Timestamp(_) | Position::End => true,
        };
        let last = given.last().map(|record| Position::after(record.sequence.clone()));
        let mut records = Vec::with_capacity(given.len());
        for record in given.into_iter().filter(behind) {
            self.stats.foreign_records += kpl::take_apart(record, self.range, &mut records);
        }
        if let Position::After { sequence, sub_sequence: read @ 1.. } = &self.position {
            records.retain(|record| record.sequence != *sequence || !(1..=*read).contains(&record.sub_sequence));
        }
        if let Some(last) = last.filter(|last| self.position.reaches(last)) {
            self.position = last;
        }
        records
    }

    fn failed(&mut self, call: Call, failure: Failure) -> Result<(), ReadError> {
        let next = after_failure(call, &self.position, &failure, self.shard.as_str(), self.iterators);
        let code = failure.code.as_deref().unwrap_or("no answer");
        tracing::debug!(shard = %self.shard, ?call, code, message = failure.message, ?next, "call failed");
        if self.backoff.failures() == FAILURES_NAMED {
            tracing::warn!(shard = %self.shard, position = %self.position, ?call, code, message = failure.message, "reading is held up");
        }
        match next {
            Next::BackOff { throttled } => {
                self.stats.throttles += u64::from(throttled);
                self.back_off();
            }
            Next::Renew => {
                self.iterator = None;
                if self.iterators > 1 {
                    self.back_off();
                }
            }
            Next::Lost => self.lost(call, &failure)?,
            Next::ShardGone => {
                self.lost(call, &failure)?;
                self.end = Some(Vec::new());
            }
            Next::Refuse { hint } => {
                let reason = format!("{code}: {}", failure.message);
                return Err(ReadError::Refused { shard: self.shard.clone(), reason, hint });
            }
        }
        Ok(())
    }

    fn back_off(&mut self) {
        let wait = self.backoff.failed(fastrand::f64());
        self.pace.hold(self.now(), wait);
    }

    /// Records are gone: an error, or counted and gone over to the oldest one left.
    fn lost(&mut self, call: Call, failure: &Failure) -> Result<(), ReadError> {
        let detail = format!("{}: {}", failure.code.as_deref().unwrap_or("no answer"), failure.message);
        if self.on_data_loss == OnDataLoss::Fail {
            return Err(ReadError::DataLoss { shard: self.shard.clone(), position: self.position.clone(), detail });
        }
        tracing::warn!(shard = %self.shard, position = %self.position, ?call, detail, "records are lost");
        self.stats.data_losses += 1;
        self.iterator = None;
        self.position = Position::Start;
        self.back_off();
        Ok(())
    }
}

fn unfit(shard: &ShardId, reason: &str) -> ReadError {
    let hint = "submit the job again: its stored form does not fit its source".to_owned();
    ReadError::Refused { shard: shard.clone(), reason: reason.to_owned(), hint }
}

#[async_trait]
impl ShardReader for KinesisReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        let deadline = Instant::now() + self.settings.wait_max;
        while self.end.is_none() {
            if self.under_way.is_none() {
                let wait = self.pace.wait(self.now());
                let left = deadline.saturating_duration_since(Instant::now());
                if wait > left {
                    sleep(left).await;
                    return Ok(self.empty());
                }
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                self.send();
            }
            let Some(outcome) = self.outcome(deadline).await else { return Ok(self.empty()) };
            if let Some(chunk) = self.take(outcome)? {
                return Ok(chunk);
            }
        }
        Ok(self.empty())
    }

    fn stats(&self) -> ReaderStats {
        self.stats
    }
}

impl Drop for KinesisReader {
    fn drop(&mut self) {
        match &self.under_way {
            Some(UnderWay::Iterator(task)) => task.abort(),
            Some(UnderWay::Records { task, .. }) => task.abort(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
