//! A Kinesis stream whose shards split and merge while they are read.
//!
//! Owns: shards, records, iterators, listings, the service's faults. Does not own: the reader.
//! Rule: it responds as the service is documented to: in order, from an iterator's position, the
//! end only at the end.

use super::weather::{BEGIN_MS, Fate, Weather};
use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_controller::shards::ShardLister;
use streamctl_engine::source::kinesis::{
    Answer, Calls, DateSample, Failure, IteratorKind, MadeIterator,
};
use streamctl_engine::source::{Child, Foreign, Record};
use streamctl_engine::source::{ListError, ListedShard, Listing};
use streamctl_engine::storage::RefusalCause;
use streamctl_proto::resolved::{StreamAddress, StreamFacts, StreamIdentity};
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{Clamp, ShardId, Watermark, Window, WindowSize};
use tokio::time::{Instant, sleep};

/// When all streams were created: long before the world begins.
const CREATED_MS: i64 = BEGIN_MS - 30 * RETENTION_MS;
/// How far an arrival time may go back.
const STEP_BACK_MS: i64 = 200;
/// How long a record may be invisible to readers after it was put, well within the time that a job
/// waits for it.
const HIDDEN_MS: i64 = 80;
/// The same for a service in trouble: such records may become visible after their window was
/// closed.
const HIDDEN_LONG_MS: i64 = 3_000;
/// Replaces an index: an iterator made for the position of an expired record.
const EXPIRED: &str = "expired";
/// How long records are kept.
pub const RETENTION_MS: i64 = 86_400_000;
/// Keys that are difficult folder names; none has a match in the lookup.
const ODD_KEYS: [&str; 9] = [
    "a\u{85}b",
    "\u{1}",
    "\u{7f}\u{9f}",
    "",
    "..",
    "a/b",
    "%2F",
    "a=b",
    "\u{2028}\u{feff}\u{1f600}",
];
/// How long an iterator lives.
const ITERATOR_MS: i64 = 300_000;

/// A record, with what the oracle knows of it.
#[derive(Clone, Debug)]
pub struct Put {
    pub record: Record,
    pub visible_ms: i64,
    /// Its content; `None`: it cannot be decoded.
    pub id: Option<String>,
    /// The value that it is joined and partitioned by.
    pub key: &'static str,
    /// Its job cannot process it.
    pub bad: bool,
}

impl Put {
    /// Its id and its key, if it can be decoded.
    pub fn named_key(&self) -> Option<(&str, &'static str)> {
        Some((self.id.as_deref()?, self.key))
    }
}

#[derive(Clone, Debug, Default)]
pub struct Shard {
    pub parents: Vec<ShardId>,
    /// Its children.
    pub children: Vec<Child>,
    pub closed: bool,
    pub puts: Vec<Put>,
}

impl Shard {
    /// How many of its records have expired.
    fn expired(&self, wall_ms: i64) -> usize {
        self.puts
            .partition_point(|put| put.record.arrival_ms < wall_ms - RETENTION_MS)
    }

    /// The record of the requested position has expired.
    fn has_expired(&self, kind: &IteratorKind, wall_ms: i64) -> bool {
        let (IteratorKind::At(text) | IteratorKind::After(text)) = kind else {
            return false;
        };
        let sequence: u64 = text.parse().unwrap_or(u64::MAX);
        self.puts[..self.expired(wall_ms)]
            .iter()
            .any(|put| put.record.sequence == sequence.into())
    }
}

/// What a job that reads the stream may do after an outage of everything that was longer than
/// records are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterOutage {
    /// There was no such outage, or the job began after it.
    #[default]
    GoesOn,
    /// Nothing was lost, as far as the world knows; the job cannot always know.
    MayFail,
    /// Uncommitted records expired: it must report the loss, and fail.
    MustFail,
}

#[derive(Default)]
pub struct Stream {
    /// By name; children are named after their parents.
    pub shards: BTreeMap<ShardId, Shard>,
    name: String,
    /// Some records are invisible for longer than its readers wait for them.
    pub hides: bool,
    /// The position of an expired record is refused; otherwise responses stay empty.
    refuses_expired: bool,
    /// Whether its job may continue after an outage that was longer than records are kept.
    pub after_outage: AfterOutage,
    /// A bad record crashes its reader; otherwise it makes the query fail.
    pub deadly: bool,
    /// It was deleted and created again at this time, with the shard names of the old stream.
    created_again_ms: Option<i64>,
    next_sequence: u64,
    /// The last response of a shard names its children.
    names_children: bool,
}

pub type SharedStream = Arc<Mutex<Stream>>;

impl Stream {
    pub fn new(rng: &mut Rng, name: String) -> Self {
        let mut stream = Self {
            name,
            names_children: rng.u8(0..4) > 0,
            next_sequence: 1_000,
            ..Self::default()
        };
        stream.refuses_expired = rng.bool();
        for _ in 0..rng.usize(1..4) {
            stream.add(vec![]);
        }
        stream
    }

    /// With this many open shards.
    pub fn wide(name: String, shards: usize) -> Self {
        let mut stream = Self {
            name,
            names_children: true,
            next_sequence: 1_000,
            ..Self::default()
        };
        for _ in 0..shards {
            stream.add(vec![]);
        }
        stream
    }

    fn add(&mut self, parents: Vec<ShardId>) -> ShardId {
        let id = ShardId::new(format!("shardId-{:012}", self.shards.len()));
        for parent in &parents {
            let child = Child {
                shard: id.clone(),
                parents: parents.clone(),
                detail: String::new(),
            };
            if let Some(parent) = self.shards.get_mut(parent) {
                parent.closed = true;
                parent.children.push(child);
            }
        }
        self.shards.insert(
            id.clone(),
            Shard {
                parents,
                ..Shard::default()
            },
        );
        id
    }

    fn open(&self) -> Vec<ShardId> {
        self.shards
            .iter()
            .filter(|(_, shard)| !shard.closed)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Puts a record into some open shard.
    pub fn put(&mut self, rng: &mut Rng, wall_ms: i64) {
        let open = self.open();
        let id = open[rng.usize(0..open.len())].clone();
        self.put_in(id, rng, wall_ms, false);
    }

    /// Puts a record that its job cannot process.
    pub fn put_bad(&mut self, rng: &mut Rng, wall_ms: i64) {
        let open = self.open();
        let id = open[rng.usize(0..open.len())].clone();
        self.put_in(id, rng, wall_ms, true);
    }

    /// A user deletes it and creates another with the same name.
    pub fn create_again(&mut self, wall_ms: i64) {
        self.created_again_ms = Some(wall_ms);
    }

    /// Whether there is a record that its job cannot process, an unread record expired, or the
    /// stream was replaced.
    pub fn must_fail(&self) -> bool {
        let bad = || {
            self.shards
                .values()
                .flat_map(|shard| &shard.puts)
                .any(|put| put.bad)
        };
        self.after_outage == AfterOutage::MustFail || self.created_again_ms.is_some() || bad()
    }

    /// Whether its job may end as failed.
    pub fn may_fail(&self) -> bool {
        self.after_outage != AfterOutage::GoesOn || self.must_fail()
    }

    /// Puts a record into each open shard.
    pub fn put_in_each(&mut self, rng: &mut Rng, wall_ms: i64) {
        for id in self.open() {
            self.put_in(id, rng, wall_ms, false);
        }
    }

    fn put_in(&mut self, id: ShardId, rng: &mut Rng, wall_ms: i64, bad: bool) {
        self.next_sequence += rng.u64(1..50);
        let sequence = self.next_sequence;
        let name = format!("{}/{id}/{sequence}", self.name);
        let key = match rng.u8(0..12) {
            0 => ODD_KEYS[rng.usize(0..ODD_KEYS.len())],
            _ => ["a", "b", "c", "nobody"][rng.usize(0..4)],
        };
        let key_json = serde_json::Value::from(key);
        let good = bad || rng.u8(0..12) > 0;
        let n = if bad && !self.deadly {
            "no number"
        } else {
            "1"
        };
        let data = match rng.u8(0..3) {
            _ if good => {
                format!("{{\"id\":\"{name}\",\"k\":{key_json},\"n\":\"{n}\",\"more\":[1,{{}}]}}")
            }
            0 => format!("{{\"id\":\"{name}\""),
            1 => "\u{0}not json".to_owned(),
            _ => String::new(),
        };
        let back_ms = if rng.u8(0..4) == 0 {
            rng.i64(0..STEP_BACK_MS)
        } else {
            0
        };
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let hidden_until = shard.puts.last().map_or(0, |put| put.visible_ms);
        let hidden_ms = if self.hides && rng.u8(0..8) == 0 {
            HIDDEN_LONG_MS
        } else {
            HIDDEN_MS
        };
        let visible_ms = hidden_until.max(wall_ms + rng.i64(0..hidden_ms));
        let arrival_ms = wall_ms - back_ms;
        let data = Bytes::from(data);
        let record = Record {
            sequence: sequence.into(),
            sub_sequence: 0,
            arrival_ms,
            data,
            origin: None,
            extra: None,
            foreign: Foreign::No,
        };
        shard.puts.push(Put {
            record,
            visible_ms,
            id: good.then_some(name),
            key,
            bad,
        });
    }

    /// Splits a shard in two, or merges two.
    pub fn reshard(&mut self, rng: &mut Rng) -> &'static str {
        let mut open = self.open();
        let parent = open.swap_remove(rng.usize(0..open.len()));
        if rng.bool() && !open.is_empty() {
            let other = open.swap_remove(rng.usize(0..open.len()));
            self.add(vec![parent, other]);
            return "kinesis: merge";
        }
        let again = !self.shards[&parent].parents.is_empty();
        self.add(vec![parent.clone()]);
        self.add(vec![parent]);
        if again {
            "kinesis: split of a child"
        } else {
            "kinesis: split"
        }
    }

    pub fn count(&self) -> u64 {
        self.shards
            .values()
            .map(|shard| shard.puts.len() as u64)
            .sum()
    }

    /// The window of every record: that of its arrival, never before that of the previous record,
    /// nor before the last of its parents. No fault may change it.
    pub fn windows(&self, size: WindowSize) -> BTreeMap<ShardId, Vec<Window>> {
        let mut windows: BTreeMap<ShardId, Vec<Window>> = BTreeMap::new();
        let mut ends: BTreeMap<&ShardId, Watermark> = BTreeMap::new();
        // Shards are named in the order of their creation.
        for (id, shard) in &self.shards {
            let floor = shard
                .parents
                .iter()
                .map(|parent| ends[parent])
                .max()
                .unwrap_or_default();
            let mut clamp = Clamp::new(size, floor);
            let placed = shard
                .puts
                .iter()
                .map(|put| clamp.place(put.record.arrival_ms))
                .collect();
            windows.insert(id.clone(), placed);
            ends.insert(id, clamp.floor());
        }
        windows
    }

    fn first(&self, shard: &Shard, kind: &IteratorKind, wall_ms: i64) -> usize {
        // Like the service: expired records are skipped silently.
        shard.expired(wall_ms).max(match kind {
            IteratorKind::TrimHorizon => 0,
            IteratorKind::AtTimestamp(ms) => shard
                .puts
                .partition_point(|put| put.record.arrival_ms < *ms),
            IteratorKind::At(text) => {
                let at: u64 = text.parse().unwrap_or(u64::MAX);
                shard
                    .puts
                    .partition_point(|put| put.record.sequence < at.into())
            }
            IteratorKind::After(text) => {
                let after: u64 = text.parse().unwrap_or(u64::MAX);
                shard
                    .puts
                    .partition_point(|put| put.record.sequence <= after.into())
            }
        })
    }

    fn read(&self, token: &str, records_max: u32, wall_ms: i64) -> Result<Answer, Failure> {
        let parts: Vec<&str> = token.split('|').collect();
        if parts[2] == EXPIRED {
            // It stays so for ever.
            let next_iterator = Some(token.to_owned());
            let behind_ms = Some(RETENTION_MS.unsigned_abs());
            return Ok(Answer {
                next_iterator,
                behind_ms,
                ..Answer::default()
            });
        }
        let id = parts[1];
        let index = parts[2].parse::<usize>();
        let made_ms = parts[3].parse::<i64>();
        let (Ok(index), Ok(made_ms)) = (index, made_ms) else {
            return Err(failure("InvalidArgumentException"));
        };
        if wall_ms - made_ms > ITERATOR_MS {
            return Err(failure("ExpiredIteratorException"));
        }
        let Some(shard) = self.shards.get(&ShardId::from(id)) else {
            return Err(failure("ResourceNotFoundException"));
        };
        let index = index.max(shard.expired(wall_ms));
        let there = shard.puts.partition_point(|put| put.visible_ms <= wall_ms);
        let end = there.min(index + records_max as usize).max(index);
        let records: Vec<Record> = shard.puts[index..end]
            .iter()
            .map(|put| put.record.clone())
            .collect();
        let over = shard.closed && end == shard.puts.len();
        Ok(Answer {
            bytes: records.iter().map(|record| record.data.len() + 4).sum(),
            records,
            next_iterator: (!over).then(|| self.token(id, &end.to_string(), wall_ms)),
            behind_ms: Some(if end == there { 0 } else { 700 }),
            children: if over && self.names_children {
                shard.children.clone()
            } else {
                vec![]
            },
            continuation: None,
            left: None,
            date: None,
        })
    }

    /// Whether this response crashes the process that handles it.
    fn kills(&self, answer: &Answer) -> bool {
        let bad = |record: &Record| {
            self.shards
                .values()
                .flat_map(|shard| &shard.puts)
                .any(|put| put.bad && put.record.sequence == record.sequence)
        };
        self.deadly && answer.records.iter().any(bad)
    }

    fn token(&self, shard: &str, index: &str, made_ms: i64) -> String {
        format!("{}|{shard}|{index}|{made_ms}", self.name)
    }

    fn listing(&self) -> Vec<ListedShard> {
        let listed = |(id, shard): (&ShardId, &Shard)| ListedShard {
            id: id.clone(),
            parents: shard.parents.clone(),
            detail: String::new(),
            closed: shard.closed,
        };
        self.shards.iter().map(listed).collect()
    }
}

fn failure(code: &str) -> Failure {
    Failure {
        code: Some(code.to_owned()),
        status: Some(400),
        message: "simulated".into(),
        date: None,
    }
}

/// The same mapping as in the real lister.
fn listing_error(failure: Failure) -> ListError {
    match failure.code.as_deref() {
        Some("AccessDeniedException" | "ExpiredTokenException") => ListError::Refused {
            cause: RefusalCause::Environment,
            reason: failure.message,
            hint: "allow it".to_owned(),
        },
        _ => ListError::Unavailable {
            reason: failure.message,
        },
    }
}

/// The access of one place to the streams.
pub struct StreamsAt {
    pub streams: BTreeMap<String, SharedStream>,
    pub place: String,
    pub weather: Arc<Weather>,
}

impl StreamsAt {
    fn lock(&self, stream: &str) -> Result<MutexGuard<'_, Stream>, Failure> {
        let found = self
            .streams
            .get(stream)
            .ok_or_else(|| failure("ResourceNotFoundException"))?;
        Ok(found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn call<T>(
        &self,
        stream: &str,
        work: impl FnOnce(&Stream, i64) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let call = self.weather.call(&self.place, "kinesis");
        let silent = || Failure {
            message: "timed out".into(),
            ..Failure::default()
        };
        sleep(call.before).await;
        if call.fate == Fate::NotDone {
            return Err(silent());
        }
        if let Some(code) = self.weather.denies(&self.place, "kinesis") {
            self.weather
                .note(|| format!("{} kinesis: {code}", self.place));
            return Err(failure(code));
        }
        if self.weather.strikes(30, "kinesis: throttle") {
            return Err(failure("ProvisionedThroughputExceededException"));
        }
        if self.weather.strikes(8, "kinesis: internal failure") {
            return Err(Failure {
                status: Some(500),
                ..failure("InternalFailureException")
            });
        }
        let wall_ms = self.weather.kinesis_ms();
        let done = work(&*self.lock(stream)?, wall_ms);
        sleep(call.after).await;
        if call.fate == Fate::AnswerLost || !self.weather.reaches(&self.place, "kinesis") {
            return Err(silent());
        }
        done
    }
}

#[async_trait]
impl Calls for StreamsAt {
    async fn iterator(
        &self,
        stream: &StreamAddress,
        shard: &ShardId,
        kind: IteratorKind,
    ) -> Result<MadeIterator, Failure> {
        self.call(&stream.name, |stream, wall_ms| {
            let found = stream
                .shards
                .get(shard)
                .ok_or_else(|| failure("ResourceNotFoundException"))?;
            if found.has_expired(&kind, wall_ms) {
                // Services differ in how they handle the position of an expired record.
                return match stream.refuses_expired {
                    true => Err(failure("InvalidArgumentException")),
                    false => Ok(stream.token(shard.as_str(), EXPIRED, wall_ms).into()),
                };
            }
            let first = stream.first(found, &kind, wall_ms).to_string();
            Ok(stream.token(shard.as_str(), &first, wall_ms).into())
        })
        .await
    }

    async fn records(&self, iterator: String, records_max: u32) -> Result<Answer, Failure> {
        if self.weather.strikes(15, "kinesis: expired iterator") {
            return Err(failure("ExpiredIteratorException"));
        }
        if self.weather.strikes(40, "kinesis: empty answer") {
            let next_iterator = Some(iterator);
            return Ok(Answer {
                next_iterator,
                behind_ms: Some(900),
                ..Answer::default()
            });
        }
        let stream = iterator.split('|').next().unwrap_or_default();
        let sent = Instant::now();
        let (answer, wall_ms) = self
            .call(stream, |stream, wall_ms| {
                Ok((stream.read(&iterator, records_max, wall_ms)?, wall_ms))
            })
            .await?;
        let deadly = self.lock(stream)?.kills(&answer);
        if deadly {
            self.weather.abort(&self.place);
        }
        // A service reports its time in whole seconds.
        let date_ms = wall_ms.div_euclid(1_000) * 1_000;
        Ok(Answer {
            date: Some(DateSample {
                sent,
                received: Instant::now(),
                date_ms,
            }),
            ..answer
        })
    }
}

#[async_trait]
impl ShardLister for StreamsAt {
    async fn list(
        &self,
        _: &SourceKind,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError> {
        let name = stream.map_or("", |stream| stream.name.as_str());
        let look =
            |stream: &Stream, wall_ms| Ok((stream.listing(), wall_ms, stream.created_again_ms));
        let (shards, wall_ms, created_again_ms) =
            self.call(name, look).await.map_err(listing_error)?;
        let identity = StreamIdentity {
            arn: None,
            created_ms: created_again_ms.unwrap_or(CREATED_MS),
        };
        let facts = StreamFacts {
            identity,
            retention_ms: RETENTION_MS,
        };
        Ok(Listing {
            shards,
            stream: Ok(Some(facts)),
            service_ms: Some(wall_ms.div_euclid(1_000) * 1_000),
        })
    }
}
