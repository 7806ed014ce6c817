//! Reads one Kinesis shard.
//!
//! Owns: the iterator, the call in flight, the counters; beside a subscription: [`subscribed`]. Does not own: decisions
//! ([`super::cursor`], [`super::pace`], [`super::rhythm`]).
//! Rule: the position moves only together with the returned chunk; a call in flight is kept, so
//! that a dropped read loses neither its response nor its place.

use super::Settings;
use super::answer::{Answer, PartitionKeys};
use super::api::{Api, MadeIterator, Service};
use super::cursor::{Call, Failure, IteratorKind, Next, after_failure, iterator_kind};
use super::expiry::{Evidence, Expiry, Whole};
use super::fanout::{Fan, Subscriber};
use super::kpl;
use super::pace::{Backoff, Pace, Reading};
use super::rhythm::{Found, Rhythm};
use super::service_clock::{ServiceClock, SharedClock};
use super::shared::SharedPace;
use crate::calls::inherited;
use crate::clock::Clock;
use crate::foreign_answer::Answering;
use crate::source::kinesis::HashRange;
use crate::source::{Child, Chunk, Opening, ReadError, ReaderStats, Record, ShardReader, unfit};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::spec::{Aggregates, KinesisSource, OnDataLoss};
use streamctl_proto::{Position, ShardId, WindowSize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// Consecutive failures after which the reader informs the operator, once; it still retries each.
const FAILURES_NAMED: u32 = 8;
/// The read that lets a window close is sent this long after the moment at which it can: clocks are
/// known to some milliseconds, and shards take turns.
const AIM_LATE_MS: u64 = 5;
const AIM_SPREAD_MS: u64 = 16;
/// A shard of which an answer has this many records is busy: its next record is expected soon.
const BUSY_RECORDS: usize = 8;

struct Iterator {
    token: String,
    made: Instant,
}

/// A call that was sent. It continues even if no read waits for it; an iterator is as old as the
/// call that returned it.
enum UnderWay {
    Iterator(JoinHandle<Result<MadeIterator, Failure>>),
    Records {
        task: JoinHandle<Result<Answer, Failure>>,
        sent_ms: i64,
    },
}

enum Outcome {
    Iterator(Result<MadeIterator, Failure>),
    Records {
        result: Result<Answer, Failure>,
        sent_ms: i64,
    },
}

/// What the next iterator is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Position,
    /// The time up to which the shard is read: the position has expired, but nothing after it.
    ReadTo,
    /// The oldest record that is left: records after the position have expired.
    Oldest,
}

/// The limits of a reader besides those of its service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long to wait between two reads at the tip.
    pub poll_interval: Duration,
    /// One read of each window is sent when it can close. None: no window waits.
    pub window: Option<WindowSize>,
    /// Taken off the time to which a shard is known to be complete.
    pub grace: Duration,
    /// How to handle records that expired unread.
    pub on_data_loss: OnDataLoss,
}

/// Reads one shard of a stream.
pub struct KinesisReader {
    api: Api,
    shard: ShardId,
    /// The hash keys of the shard, if its listing had them.
    range: Option<HashRange>,
    aggregates: Aggregates,
    /// User records of other shards that were dropped since the last record that was returned.
    dropped: u64,
    /// The last returned record, or the start of reading. Nothing up to here is returned again,
    /// regardless of the iterator.
    position: Position,
    anchor: Anchor,
    expiry: Expiry,
    service_clock: ServiceClock,
    on_data_loss: OnDataLoss,
    grace_ms: i64,
    settings: Settings,
    clock: Clock,
    opened: Instant,
    pace: Pace,
    rhythm: Rhythm,
    /// The time up to which the last read proved the shard to be complete; `None`: it did not reach
    /// the tip.
    complete_ms: Option<i64>,
    /// Arrival of the newest record.
    newest_ms: Option<i64>,
    /// The largest time between two records of the last answer, if the shard is busy.
    gap_ms: Option<i64>,
    window: Option<WindowSize>,
    /// How long after the moment at which a window can close the read for it is sent.
    aim_late: Duration,
    shared: SharedPace,
    backoff: Backoff,
    iterator: Option<Iterator>,
    under_way: Option<UnderWay>,
    /// When the last call was sent.
    sent: Instant,
    /// Records that the call requested.
    asked: u32,
    /// Iterators made since the last response.
    iterators: u32,
    had_iterator: bool,
    behind_ms: u64,
    end: Option<Vec<Child>>,
    stats: ReaderStats,
    /// The subscription, if the job has a consumer.
    fan: Option<Fan>,
}

impl KinesisReader {
    /// Opens the reader without a call to the service.
    pub async fn open(source: &KinesisSource, opening: Opening<'_>) -> Result<Self, ReadError> {
        let Opening {
            job,
            shard,
            reading,
            readers,
        } = opening;
        let settings = readers.kinesis;
        let shared = &readers.kinesis_shared;
        let stream = job
            .stream
            .clone()
            .ok_or_else(|| unfit(&shard.shard, "the job does not say which stream"))?;
        let api = Api {
            service: match &shared.instead {
                Some(calls) => Service::Given(Arc::clone(calls)),
                None => Service::Sdk(readers.aws.kinesis(&stream).await),
            },
            spoken: shared.spoken(&stream),
            routes: shared.routes(&stream),
            stream,
            shard: shard.shard.clone(),
            records_max: source.max_records_per_read,
            partition_keys: match job.reads_partition_keys {
                true => PartitionKeys::Kept,
                false => PartitionKeys::Counted,
            },
            timeout: settings.call_timeout,
            calls: Arc::clone(&shared.calls),
        };
        let range = HashRange::from_detail(&shard.detail);
        let limits = Limits {
            poll_interval: source.poll_interval,
            window: (reading == Reading::Live).then_some(job.spec.window),
            grace: settings.grace.unwrap_or(source.grace),
            on_data_loss: job.spec.source.on_data_loss,
        };
        // A consumer has one subscription of a shard: it is the live reader's.
        let consumer = job
            .consumer
            .as_ref()
            .filter(|_| reading == Reading::Live && matches!(api.service, Service::Sdk(_)));
        let fan = consumer.map(|consumer| {
            Fan::new(Subscriber {
                consumer: consumer.arn.clone(),
                aws: readers.aws.clone(),
                connections: shared.connections.clone(),
                times: settings.subscription,
            })
        });
        let service_clock = ServiceClock::of(shared.clock(&api.stream));
        let shared = shared.join(&api.stream, &api.shard, reading, settings.bytes_per_second);
        let clock = readers.clock.clone();
        let mut reader = Self::new(api, shard.from.clone(), limits, clock, settings);
        reader.fan = fan;
        reader.shared = shared;
        reader.service_clock = service_clock;
        reader.range = range;
        reader.aggregates = if shard.drops_foreign {
            Aggregates::Drop
        } else {
            source.aggregates
        };
        reader.expiry = Expiry {
            retention_ms: shard.retention_ms,
            read_to_ms: shard.read_to_ms,
            backlog_ms: None,
        };
        Ok(reader)
    }

    pub(super) fn new(
        api: Api,
        from: Position,
        limits: Limits,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        Self {
            aim_late: aim_late(&api.shard),
            shard: api.shard.clone(),
            range: None,
            aggregates: Aggregates::default(),
            dropped: 0,
            api,
            end: (from == Position::End).then(Vec::new),
            position: from,
            anchor: Anchor::Position,
            expiry: Expiry::default(),
            service_clock: ServiceClock::of(SharedClock::default()),
            on_data_loss: limits.on_data_loss,
            grace_ms: i64::try_from(limits.grace.as_millis()).unwrap_or(i64::MAX / 4),
            settings,
            clock,
            opened: Instant::now(),
            pace: Pace::new(settings.bytes_per_second),
            rhythm: Rhythm::new(limits.poll_interval),
            complete_ms: None,
            newest_ms: None,
            gap_ms: None,
            window: limits.window,
            shared: SharedPace::alone(settings.bytes_per_second),
            backoff: Backoff::new(settings.backoff_base, settings.backoff_max),
            iterator: None,
            under_way: None,
            sent: Instant::now(),
            asked: 0,
            iterators: 0,
            had_iterator: false,
            behind_ms: 0,
            stats: ReaderStats::default(),
            fan: None,
        }
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    /// How long to wait before the next call.
    fn wait(&self) -> Duration {
        let now = self.now();
        let closes = self.closes(now);
        self.pace.wait(now, |last| self.rhythm.due(last, closes))
    }

    /// When a read proves that the first window that is not complete is, as a time since the reader
    /// was opened. `None`: there are records to read before.
    fn closes(&self, now: Duration) -> Option<Duration> {
        let wait_ms = self.closes_in_ms()?.max(0).unsigned_abs();
        Some(now + Duration::from_millis(wait_ms) + self.aim_late)
    }

    /// The same from now on, by the service's clock; negative: a read would have proved it before.
    ///
    /// A record behind the end proves it too, and sooner than `grace`: that of a busy shard is there
    /// once the longest time without one has passed. Records of a subscription come by themselves.
    fn closes_in_ms(&self) -> Option<i64> {
        let past_ms = Some(self.complete_ms?).max(self.newest_ms)?;
        let end_ms = self.window?.window_of(past_ms).end_ms;
        let local_ms = (self.clock)();
        let service_ms = self.service_clock.earliest_ms(Instant::now());
        let service_ms = service_ms.map_or(local_ms, |ms| ms.min(local_ms));
        let gap_ms = self.gap_ms.filter(|_| self.fan.is_none());
        let proof_ms = gap_ms.map_or(self.grace_ms, |gap| gap.min(self.grace_ms));
        Some(end_ms.saturating_add(proof_ms).saturating_sub(service_ms))
    }

    fn empty(&self) -> Chunk {
        Chunk {
            behind_ms: self.behind_ms,
            end: self.end.clone(),
            ..Chunk::default()
        }
    }

    /// Sends the next call: for an iterator if there is none or it is about to expire, else for
    /// records.
    fn send(&mut self) {
        self.sent = Instant::now();
        self.stats.calls += 1;
        let age_max = self.settings.iterator_age_max;
        let fresh = self
            .iterator
            .as_ref()
            .filter(|iterator| iterator.made.elapsed() < age_max);
        if let Some(iterator) = fresh {
            let sent_ms = (self.clock)();
            let mut api = self.api.clone();
            api.records_max = self.shared.records_max(api.records_max);
            self.asked = api.records_max;
            let call = api.records(iterator.token.clone(), sent_ms);
            self.pace.started(self.now());
            self.shared.started();
            self.under_way = Some(UnderWay::Records {
                task: tokio::spawn(inherited(call)),
                sent_ms,
            });
        } else if let Some(kind) = self.iterator_kind() {
            self.iterator = None;
            let call = inherited(self.api.clone().iterator(kind));
            self.under_way = Some(UnderWay::Iterator(tokio::spawn(call)));
        }
    }

    /// The kind of iterator to request; `None` at the shard's end.
    fn iterator_kind(&self) -> Option<IteratorKind> {
        match (self.anchor, self.expiry.read_to_ms) {
            (Anchor::Oldest, _) => Some(IteratorKind::TrimHorizon),
            (Anchor::ReadTo, Some(read_to_ms)) => Some(IteratorKind::AtTimestamp(read_to_ms)),
            (Anchor::ReadTo, None) | (Anchor::Position, _) => iterator_kind(&self.position),
        }
    }

    fn take(&mut self, outcome: Outcome) -> Result<Option<Chunk>, ReadError> {
        match outcome {
            Outcome::Iterator(Ok(MadeIterator { token, date })) => {
                if let Some(date) = date {
                    self.service_clock.learn(date);
                }
                self.stats.iterator_renewals += u64::from(self.had_iterator);
                self.had_iterator = true;
                self.iterators += 1;
                self.iterator = Some(Iterator {
                    token,
                    made: self.sent,
                });
                Ok(None)
            }
            Outcome::Iterator(Err(failure)) => self.failed(Call::Iterator, failure).map(|()| None),
            Outcome::Records {
                result: Ok(answer),
                sent_ms,
            } => self.give(answer, sent_ms).map(Some),
            Outcome::Records {
                result: Err(failure),
                ..
            } => self.failed(Call::Records, failure).map(|()| None),
        }
    }

    /// Converts a response into a chunk; moves iterator and position. There is no await between
    /// this and returning the chunk.
    fn give(&mut self, answer: Answer, sent_ms: i64) -> Result<Chunk, ReadError> {
        self.backoff.succeeded();
        self.iterators = 0;
        if let Some(left) = answer.left {
            self.pace
                .started(left.saturating_duration_since(self.opened));
        }
        self.pace.answered(answer.bytes);
        self.shared.answered(answer.records.len(), answer.bytes);
        if let Some(date) = answer.date {
            self.service_clock.learn(date);
            self.stats.clock_skew_ms = self.service_clock.skew_ms(self.sent, sent_ms);
        }
        let evidence = Evidence {
            first_arrival_ms: answer.records.first().map(|record| record.arrival_ms),
            behind_ms: answer.behind_ms,
        };
        let answered = answer.date.map_or(self.sent, |date| date.received);
        let answered_ms = self.service_clock.latest_ms(answered).unwrap_or(sent_ms);
        if let Whole::No(gap) = self.expiry.judge(&self.position, evidence, answered_ms) {
            let detail = match evidence.first_arrival_ms {
                Some(_) => "the oldest record that is left arrived later",
                None => "the answer holds no record and does not prove that there was none",
            };
            self.lost(Some(gap), detail.to_owned())?;
            if answer.records.is_empty() && self.anchor == Anchor::Position {
                // Responses for an expired sequence number may stay empty for ever.
                self.anchor = Anchor::Oldest;
                return Ok(self.empty());
            }
        } else if self.anchor == Anchor::Position
            && matches!(self.position, Position::After { .. })
            && self.expiry.is_stuck(evidence)
        {
            tracing::info!(shard = %self.shard, position = %self.position, "the position has expired, and nothing after it");
            self.anchor = Anchor::ReadTo;
            self.iterator = None;
            return Ok(self.empty());
        }
        let full = answer.records.len() >= self.asked as usize;
        let last_arrival_ms = answer.records.last().map(|record| record.arrival_ms);
        if let Some(arrival_ms) = last_arrival_ms {
            self.service_clock.learn_arrival(answered, arrival_ms);
            self.newest_ms = Some(arrival_ms);
        }
        self.gap_ms = largest_gap_ms(&answer.records);
        let records = self.unread(answer.records);
        self.iterator = answer.next_iterator.map(|token| Iterator {
            token,
            made: self.sent,
        });
        if self.iterator.is_none() {
            self.end = Some(answer.children);
        }
        self.behind_ms = answer.behind_ms.unwrap_or(self.behind_ms);
        // If the response reached the tip, it contains everything that had arrived when the call
        // was sent. The service sets arrival times, so its clock determines that moment; a local
        // clock that is behind it only delays windows.
        let at_tip = answer.behind_ms == Some(0) && !full;
        let service_sent_ms = self.service_clock.earliest_ms(self.sent);
        let complete_ms =
            service_sent_ms.map_or(sent_ms, |service_ms| service_ms.min(sent_ms)) - self.grace_ms;
        match (answer.behind_ms, last_arrival_ms) {
            (Some(0), Some(last_arrival_ms)) if full => self.expiry.advance(last_arrival_ms),
            (Some(behind_ms), _) => {
                let behind_ms = i64::try_from(behind_ms).unwrap_or(i64::MAX);
                self.expiry.advance(
                    service_sent_ms.unwrap_or(sent_ms).saturating_sub(behind_ms) - self.grace_ms,
                );
            }
            (None, Some(last_arrival_ms)) => self.expiry.advance(last_arrival_ms),
            (None, None) => {}
        }
        let complete_to_ms = at_tip.then_some(complete_ms);
        self.complete_ms = complete_to_ms;
        self.rhythm.answered(match last_arrival_ms {
            _ if !at_tip => Found::Backlog,
            Some(_) => Found::Records,
            None => Found::Nothing,
        });
        Ok(Chunk {
            records,
            complete_to_ms,
            behind_ms: self.behind_ms,
            end: self.end.clone(),
        })
    }

    /// An upper bound of the service's clock; without its time, this machine's clock.
    fn latest_service_ms(&self) -> i64 {
        self.service_clock
            .latest_ms(Instant::now())
            .unwrap_or_else(|| (self.clock)())
    }

    /// The records after the position, with aggregates split; moves the position. Nothing is
    /// returned twice, whatever the service returns.
    fn unread(&mut self, given: Vec<Record>) -> Vec<Record> {
        let behind = |record: &Record| match &self.position {
            Position::After {
                sequence,
                sub_sequence: 0,
            } => record.sequence > *sequence,
            Position::After { sequence, .. } => record.sequence >= *sequence,
            Position::Start | Position::Timestamp(_) | Position::End => true,
        };
        let last = given
            .last()
            .map(|record| Position::after(record.sequence.clone()));
        let mut records = Vec::with_capacity(given.len());
        for record in given.into_iter().filter(behind) {
            let before = records.len();
            let foreign = kpl::take_apart(record, self.range, self.aggregates, &mut records);
            self.stats.foreign_records += foreign;
            match records.get_mut(before) {
                Some(first) => first.foreign.add_dropped(std::mem::take(&mut self.dropped)),
                None => self.dropped += foreign,
            }
        }
        if let Position::After {
            sequence,
            sub_sequence: read @ 1..,
        } = &self.position
        {
            records.retain(|record| {
                record.sequence != *sequence || !(1..=*read).contains(&record.sub_sequence)
            });
        }
        if let Some(last) = last.filter(|last| self.position.reaches(last)) {
            self.position = last;
            self.anchor = Anchor::Position;
        }
        records
    }

    fn failed(&mut self, call: Call, failure: Failure) -> Result<(), ReadError> {
        if let Some(date) = failure.date {
            self.service_clock.learn(date);
        }
        let next = after_failure(
            call,
            &self.position,
            &failure,
            self.shard.as_str(),
            self.iterators,
        );
        let reason = self.reason(&failure);
        tracing::debug!(shard = %self.shard, ?call, reason, ?next, "call failed");
        if self.backoff.failures() == FAILURES_NAMED {
            tracing::warn!(shard = %self.shard, position = %self.position, ?call, reason, "reading is held up");
        }
        match next {
            Next::BackOff { throttled } => {
                self.stats.throttles += u64::from(throttled);
                if throttled {
                    self.shared.throttled();
                    self.rhythm.throttled();
                }
                self.back_off();
            }
            Next::Renew => {
                self.iterator = None;
                if self.iterators > 1 {
                    self.back_off();
                }
            }
            Next::Lost => self.position_expired(reason)?,
            Next::ShardGone => {
                // It was closed before the oldest record that the stream still keeps.
                if self.expiry.keeps_unread(self.latest_service_ms()) != Some(true) {
                    let gap = self.expiry.gap(self.latest_service_ms());
                    self.lost(gap, reason)?;
                }
                self.end = Some(Vec::new());
            }
            Next::Refuse { cause, hint } => {
                return Err(ReadError::Refused {
                    cause,
                    shard: self.shard.clone(),
                    reason,
                    hint,
                });
            }
        }
        Ok(())
    }

    /// Why a call failed, as text.
    fn reason(&self, failure: &Failure) -> String {
        let Failure {
            code,
            status,
            message,
            ..
        } = failure;
        match (code, status) {
            (None, None) => format!("no answer: {message}"),
            _ => Answering::at(&self.api.stream).answer(code.as_deref(), *status, message),
        }
    }

    fn back_off(&mut self) {
        let wait = self.backoff.failed(fastrand::f64());
        self.pace.hold(self.now(), wait);
    }

    /// The service no longer knows the position. If all unread records are younger than the
    /// retention, nothing after the position has expired: reading continues by time.
    fn position_expired(&mut self, reason: String) -> Result<(), ReadError> {
        let now_ms = self.latest_service_ms();
        let reads_by_position = self.anchor == Anchor::Position;
        if reads_by_position && self.expiry.keeps_unread(now_ms) == Some(true) {
            tracing::info!(shard = %self.shard, position = %self.position, "the position has expired, and nothing after it");
            self.anchor = Anchor::ReadTo;
        } else {
            self.lost(self.expiry.gap(now_ms), reason)?;
            self.anchor = Anchor::Oldest;
        }
        self.back_off();
        Ok(())
    }

    /// Records expired unread: fails, or counts the loss. If it is counted, the caller continues at
    /// the oldest record that is left. The position is kept, so that nothing before it is returned
    /// again if it was not lost after all.
    fn lost(&mut self, gap: Option<TimeGap>, detail: String) -> Result<(), ReadError> {
        if self.on_data_loss == OnDataLoss::Fail {
            let shard = self.shard.clone();
            let position = self.position.clone();
            return Err(ReadError::DataLoss {
                shard,
                position,
                gap,
                detail,
            });
        }
        tracing::warn!(
            shard = %self.shard, position = %self.position, gap = gap.map(|gap| gap.to_string()), detail,
            "records expired before they were read"
        );
        // Until a record is returned it is one loss, which grows as time passes.
        let grows = self.anchor == Anchor::Oldest;
        self.stats.data_losses += u64::from(!grows);
        if let Some(gap) = gap {
            let before = self.stats.lost.filter(|_| grows);
            self.stats.lost = Some(before.map_or(gap, |before| before.merged(gap)));
            self.expiry.advance(gap.to_ms);
        }
        self.iterator = None;
        Ok(())
    }
}

/// Waits for the call in flight; `None` if the deadline passes first. The call stays in flight until
/// its outcome is taken.
async fn outcome(under_way: &mut Option<UnderWay>, deadline: Instant) -> Option<Outcome> {
    let broken = |error: tokio::task::JoinError| Failure {
        message: error.to_string(),
        ..Failure::default()
    };
    let outcome = match under_way.as_mut()? {
        UnderWay::Iterator(task) => {
            let joined = timeout_at(deadline, task).await.ok()?;
            Outcome::Iterator(joined.unwrap_or_else(|error| Err(broken(error))))
        }
        UnderWay::Records { task, sent_ms } => {
            let joined = timeout_at(deadline, task).await.ok()?;
            Outcome::Records {
                result: joined.unwrap_or_else(|error| Err(broken(error))),
                sent_ms: *sent_ms,
            }
        }
    };
    *under_way = None;
    Some(outcome)
}

/// The largest time between two records of an answer; `None`: there are few.
fn largest_gap_ms(records: &[Record]) -> Option<i64> {
    let busy = Some(records).filter(|records| records.len() >= BUSY_RECORDS)?;
    let gaps = busy
        .windows(2)
        .map(|pair| pair[1].arrival_ms - pair[0].arrival_ms);
    gaps.max().map(|gap| gap.max(0))
}

/// How much later than others this shard is read at the end of a window.
fn aim_late(shard: &ShardId) -> Duration {
    let sum = shard.as_str().bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    Duration::from_millis(AIM_LATE_MS + sum % AIM_SPREAD_MS)
}

#[async_trait]
impl ShardReader for KinesisReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        if self.fan.is_some() {
            return self.next_subscribed().await;
        }
        let mut deadline = Instant::now() + self.settings.wait_max;
        while self.end.is_none() {
            if self.under_way.is_none() {
                let wait = self.wait();
                let left = deadline.saturating_duration_since(Instant::now());
                if wait > left {
                    sleep(left).await;
                    return Ok(self.empty());
                }
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                // Waiting for other readers of the shard does not count as a read that found
                // nothing.
                if let Some(turn) = self.shared.wait() {
                    sleep(turn).await;
                    deadline = Instant::now() + self.settings.wait_max;
                    continue;
                }
                self.send();
            }
            let Some(outcome) = outcome(&mut self.under_way, deadline).await else {
                return Ok(self.empty());
            };
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

mod subscribed;
#[cfg(test)]
mod tests;
