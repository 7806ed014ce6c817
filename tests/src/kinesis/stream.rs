//! One stream: its shards, their records, splits and merges.
//!
//! Owns: hash ranges, sequence numbers, retention and trimming. Does not own: HTTP, JSON requests,
//! faults.
//! Rule: a record is encoded once, when it is put; returning it again is a copy.

use super::clock::FakeClock;
use super::limits::{ANSWER_BYTES_MAX, Bucket, LISTINGS_PER_SECOND, RECORDS_MAX, ShardLimits};
use super::{ACCOUNT, REGION};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Prefix of every sequence number; 52 digits follow, as the service's have 56.
const SEQUENCE_PREFIX: &str = "4959";
/// Distance of adjacent sequence numbers: no reader may rely on consecutive numbers.
const SEQUENCE_STEP: u64 = 7;

/// The response to a position before the oldest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// An error with this code.
    Refused(&'static str),
    /// The oldest record that is left, without an error.
    Silent,
    /// Also no error: responses without records for ever, as far behind the tip as records are
    /// kept.
    Stuck,
}

pub struct Stream {
    pub name: String,
    /// When it was created; another stream with this name has another time.
    pub created_ms: i64,
    clock: FakeClock,
    sequence: AtomicU64,
    put: AtomicU64,
    retention_ms: AtomicI64,
    gaps: AtomicU32,
    children_named: AtomicBool,
    trimmed: Mutex<Trimmed>,
    shards: RwLock<Shards>,
    listings: Mutex<Bucket>,
}

#[derive(Default)]
struct Shards {
    all: Vec<Arc<Shard>>,
    /// The start of the range and the index in `all` of each open shard; sorted.
    open: Vec<(u128, usize)>,
}

pub struct Shard {
    /// Its index among the stream's shards; part of its name.
    pub index: usize,
    /// `shardId-000000000000` ...
    pub name: String,
    pub parents: Vec<usize>,
    /// First and last hash key.
    pub hash: (u128, u128),
    /// No record of it has a lower number.
    pub first: u64,
    state: Mutex<ShardState>,
}

/// The mutable state of a shard.
#[derive(Default)]
pub(super) struct ShardState {
    pub records: VecDeque<Stored>,
    /// The number of the last expired record; 0: none.
    pub trimmed_to: u64,
    pub closed: Option<Closed>,
    pub limits: ShardLimits,
}

/// The end of a shard.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub last: u64,
    pub at_ms: i64,
    pub children: Vec<usize>,
}

/// A record in the form that is returned.
pub(super) struct Stored {
    pub number: u64,
    pub arrival_ms: i64,
    /// When it was put, by the clock: a test may set arrivals itself.
    pub put_ms: i64,
    /// Size as the service counts it: payload and partition key.
    pub size: usize,
    pub json: Box<[u8]>,
}

/// A record that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub shard: String,
    pub sequence: String,
}

/// The sequence number in the form for clients.
pub fn sequence_text(number: u64) -> String {
    format!("{SEQUENCE_PREFIX}{number:052}")
}

/// The number in it; `None`: it is not one of ours.
pub fn sequence_number(text: &str) -> Option<u64> {
    text.strip_prefix(SEQUENCE_PREFIX)
        .filter(|rest| rest.len() == 52)?
        .parse()
        .ok()
}

/// The name of a shard by its index.
pub fn shard_name(index: usize) -> String {
    format!("shardId-{index:012}")
}

/// The hash key of a partition key.
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    pub(super) fn state(&self) -> MutexGuard<'_, ShardState> {
        locked(&self.state)
    }
}

impl Stream {
    pub(super) fn new(name: &str, shards: usize, clock: FakeClock) -> Self {
        let stream = Self {
            name: name.to_owned(),
            created_ms: clock.now_ms(),
            clock,
            sequence: AtomicU64::new(0),
            put: AtomicU64::new(0),
            retention_ms: AtomicI64::new(24 * 3_600_000),
            gaps: AtomicU32::new(0),
            children_named: AtomicBool::new(true),
            trimmed: Mutex::new(Trimmed::Refused("InvalidArgumentException")),
            shards: RwLock::default(),
            listings: Mutex::new(Bucket::new(LISTINGS_PER_SECOND)),
        };
        let step = u128::MAX / shards.max(1) as u128;
        for index in 0..shards {
            let start = step * index as u128;
            let end = if index + 1 == shards {
                u128::MAX
            } else {
                start + step - 1
            };
            stream.add((start, end), vec![]);
        }
        stream
    }

    pub fn arn(&self) -> String {
        format!("arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{}", self.name)
    }

    fn lock(&self) -> RwLockReadGuard<'_, Shards> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_number(&self) -> u64 {
        self.sequence.fetch_add(SEQUENCE_STEP, Ordering::Relaxed) + SEQUENCE_STEP
    }

    /// The last number that was given to anything.
    pub(super) fn last_number(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    fn add(&self, hash: (u128, u128), parents: Vec<usize>) -> usize {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        self.add_to(&mut shards, hash, parents)
    }

    fn add_to(&self, shards: &mut Shards, hash: (u128, u128), parents: Vec<usize>) -> usize {
        let index = shards.all.len();
        let state = Mutex::default();
        shards.all.push(Arc::new(Shard {
            index,
            name: shard_name(index),
            parents,
            hash,
            first: self.next_number(),
            state,
        }));
        let at = shards.open.partition_point(|(start, _)| *start < hash.0);
        shards.open.insert(at, (hash.0, index));
        index
    }

    /// All shards that still exist, including closed ones, in order.
    pub fn shards(&self) -> Vec<Arc<Shard>> {
        let before_ms = self.clock.now_ms() - self.retention_ms.load(Ordering::Relaxed);
        let there = |shard: &&Arc<Shard>| {
            shard
                .state()
                .closed
                .as_ref()
                .is_none_or(|closed| closed.at_ms >= before_ms)
        };
        self.lock().all.iter().filter(there).cloned().collect()
    }

    /// The names of the shards that take records.
    pub fn open_shards(&self) -> Vec<String> {
        let mut open: Vec<usize> = self.lock().open.iter().map(|(_, index)| *index).collect();
        open.sort_unstable();
        open.into_iter().map(shard_name).collect()
    }

    /// A shard by its name.
    pub fn shard(&self, name: &str) -> Option<Arc<Shard>> {
        let index: usize = name.strip_prefix("shardId-")?.parse().ok()?;
        self.lock().all.get(index).cloned()
    }

    pub(super) fn shard_at(&self, index: usize) -> Option<Arc<Shard>> {
        self.lock().all.get(index).cloned()
    }

    /// Puts a record into the shard of its partition key.
    pub fn put(&self, partition_key: &str, data: &[u8]) -> Put {
        self.put_as(
            partition_key,
            hash_key(partition_key),
            data,
            self.clock.now_ms(),
        )
    }

    /// Puts a record into the open shard with this hash key, with this arrival time.
    pub fn put_as(&self, partition_key: &str, hash: u128, data: &[u8], arrival_ms: i64) -> Put {
        let encoded = STANDARD.encode(data);
        let shards = self.lock();
        let at = shards.open.partition_point(|(start, _)| *start <= hash) - 1;
        let shard = &shards.all[shards.open[at].1];
        let mut state = shard.state();
        let number = self.next_number();
        let sequence = sequence_text(number);
        let key = serde_json::Value::from(partition_key);
        let seconds = arrival_ms as f64 / 1_000.0;
        let json = format!(
            r#"{{"SequenceNumber":"{sequence}","ApproximateArrivalTimestamp":{seconds:.3},"Data":"{encoded}","PartitionKey":{key}}}"#
        );
        state.records.push_back(Stored {
            number,
            arrival_ms,
            put_ms: self.clock.now_ms(),
            size: data.len() + partition_key.len(),
            json: json.into_bytes().into(),
        });
        self.put.fetch_add(1, Ordering::Relaxed);
        Put {
            shard: shard.name.clone(),
            sequence,
        }
    }

    /// Records put since the stream was made.
    pub fn put_count(&self) -> u64 {
        self.put.load(Ordering::Relaxed)
    }

    /// Puts a record into this open shard, with this arrival time.
    pub fn put_in(&self, shard: &str, data: &[u8], arrival_ms: i64) -> Put {
        let hash = self
            .shard(shard)
            .expect("the test names a shard that is there")
            .hash
            .0;
        let put = self.put_as("key", hash, data, arrival_ms);
        assert_eq!(put.shard, shard, "the test puts into an open shard");
        put
    }

    /// Splits an open shard in two at this hash key; returns its children.
    pub fn split_at(&self, shard: &str, at: u128) -> Result<[String; 2], String> {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        let parent = open_shard(&shards, shard)?;
        let (start, end) = parent.hash;
        if at <= start || at > end {
            return Err(format!(
                "NewStartingHashKey {at} is not within {start} and {end}"
            ));
        }
        shards.open.retain(|(_, index)| *index != parent.index);
        let low = self.add_to(&mut shards, (start, at - 1), vec![parent.index]);
        let high = self.add_to(&mut shards, (at, end), vec![parent.index]);
        self.close(&parent, vec![low, high]);
        Ok([low, high].map(shard_name))
    }

    /// Splits an open shard in the middle; returns its children.
    pub fn split(&self, shard: &str) -> [String; 2] {
        let (start, end) = self
            .shard(shard)
            .expect("the test names a shard that is there")
            .hash;
        self.split_at(shard, start + (end - start) / 2 + 1)
            .expect("the test splits an open shard")
    }

    /// Merges two open neighbours; returns their child.
    pub fn merge(&self, shard: &str, other: &str) -> Result<String, String> {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        let a = open_shard(&shards, shard)?;
        let b = open_shard(&shards, other)?;
        let (low, high) = if a.hash.0 < b.hash.0 {
            (&a, &b)
        } else {
            (&b, &a)
        };
        if low.hash.1.wrapping_add(1) != high.hash.0 {
            return Err(format!("{shard} and {other} are not adjacent"));
        }
        shards
            .open
            .retain(|(_, index)| ![a.index, b.index].contains(index));
        let child = self.add_to(
            &mut shards,
            (low.hash.0, high.hash.1),
            vec![a.index, b.index],
        );
        self.close(&a, vec![child]);
        self.close(&b, vec![child]);
        Ok(shard_name(child))
    }

    fn close(&self, shard: &Shard, children: Vec<usize>) {
        let mut state = shard.state();
        state.closed = Some(Closed {
            last: self.next_number(),
            at_ms: self.clock.now_ms(),
            children,
        });
    }

    /// Removes records of a shard up to this one, as if they had expired.
    pub fn trim(&self, shard: &str, up_to: &str) {
        let shard = self.shard(shard);
        let up_to = sequence_number(up_to);
        let (shard, up_to) = shard
            .zip(up_to)
            .expect("the test names a record that is there");
        let mut state = shard.state();
        while state
            .records
            .front()
            .is_some_and(|record| record.number <= up_to)
        {
            state.trimmed_to = state
                .records
                .pop_front()
                .map_or(state.trimmed_to, |record| record.number);
        }
    }

    /// How long records are kept.
    pub fn retain_for(&self, time: std::time::Duration) {
        self.retention_ms.store(
            i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            Ordering::Relaxed,
        );
    }

    /// How long records are kept, in milliseconds.
    pub fn retention_ms(&self) -> i64 {
        self.retention_ms.load(Ordering::Relaxed)
    }

    /// Puts this many empty responses before every response with records.
    pub fn set_gaps(&self, answers: u32) {
        self.gaps.store(answers, Ordering::Relaxed);
    }

    pub(super) fn gaps(&self) -> u32 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Sets whether the last response of a shard names its children.
    pub fn name_children(&self, named: bool) {
        self.children_named.store(named, Ordering::Relaxed);
    }

    pub(super) fn children_named(&self) -> bool {
        self.children_named.load(Ordering::Relaxed)
    }

    /// Sets the response to a position that is older than the oldest record.
    pub fn on_trimmed(&self, trimmed: Trimmed) {
        *locked(&self.trimmed) = trimmed;
    }

    pub(super) fn trimmed(&self) -> Trimmed {
        *locked(&self.trimmed)
    }

    pub(super) fn may_list(&self) -> bool {
        locked(&self.listings).take(self.clock.now_us())
    }

    /// Removes records that are older than the retention.
    pub(super) fn expire(&self, state: &mut ShardState) {
        let before_ms = self.clock.now_ms() - self.retention_ms();
        while state
            .records
            .front()
            .is_some_and(|record| record.put_ms < before_ms)
        {
            state.trimmed_to = state
                .records
                .pop_front()
                .map_or(state.trimmed_to, |record| record.number);
        }
    }
}

impl ShardState {
    /// The records after this number that fit into one response: their JSON, how many, their bytes,
    /// the last number.
    pub(super) fn after(&self, after: u64, limit: usize) -> (Vec<u8>, usize, usize, u64) {
        let from = self
            .records
            .partition_point(|record| record.number <= after);
        let mut json = Vec::new();
        let mut count = 0;
        let mut bytes = 0;
        let mut last = after;
        for record in self.records.range(from..).take(limit.min(RECORDS_MAX)) {
            if count > 0 && bytes + record.size > ANSWER_BYTES_MAX {
                break;
            }
            if count > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&record.json);
            (count, bytes, last) = (count + 1, bytes + record.size, record.number);
        }
        (json, count, bytes, last)
    }

    /// The first record after this number.
    pub(super) fn next(&self, after: u64) -> Option<&Stored> {
        self.records.get(
            self.records
                .partition_point(|record| record.number <= after),
        )
    }
}

fn open_shard(shards: &Shards, name: &str) -> Result<Arc<Shard>, String> {
    let open = shards
        .open
        .iter()
        .map(|(_, index)| &shards.all[*index])
        .find(|shard| shard.name == name);
    open.cloned()
        .ok_or_else(|| format!("Shard {name} is not open"))
}
