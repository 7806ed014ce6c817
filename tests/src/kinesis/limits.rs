//! The limits of one shard per second.
//!
//! Rule: the strictest reading of the service's documentation: a reader that is never refused here
//! stays within the limits.

/// GetRecords calls a second, and GetShardIterator calls a second, per shard.
pub const CALLS_PER_SECOND: f64 = 5.0;
/// Bytes per second that GetRecords returns, per shard.
pub const BYTES_PER_SECOND: i64 = 2 << 20;
/// The longest refusal after a large response, in microseconds.
const DEBT_US_MAX: i64 = 5_000_000;
/// Most records of one response.
pub const RECORDS_MAX: usize = 10_000;
/// Most bytes of one response: payloads and partition keys.
pub const ANSWER_BYTES_MAX: usize = 10 << 20;
/// Most bytes of one record: payload and partition key.
pub const RECORD_BYTES_MAX: usize = 10 << 20;
/// Lifetime of an iterator, in milliseconds.
pub const ITERATOR_AGE_MAX_MS: i64 = 300_000;
/// Lifetime of a ListShards token, in milliseconds.
pub const TOKEN_AGE_MAX_MS: i64 = 300_000;
/// Shards of one page of ListShards.
pub const PAGE_SHARDS_MAX: usize = 1_000;
/// ListShards calls a second, per stream.
pub const LISTINGS_PER_SECOND: f64 = 1_000.0;

/// This many calls per second, and as many in a burst.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: f64,
    left: f64,
    at_us: i64,
}

impl Bucket {
    pub fn new(per_second: f64) -> Self {
        Self {
            per_second,
            left: per_second,
            at_us: 0,
        }
    }
    /// Takes one call at this time; false if none is left.
    pub fn take(&mut self, now_us: i64) -> bool {
        let passed = (now_us - self.at_us).max(0) as f64 / 1e6;
        self.left = (self.left + passed * self.per_second).min(self.per_second);
        self.at_us = now_us;
        let there = self.left >= 1.0;
        if there {
            self.left -= 1.0;
        }
        there
    }
}

/// Calls and bytes of one shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    calls: Bucket,
    iterators: Bucket,
    paid_us: i64,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            calls: Bucket::new(CALLS_PER_SECOND),
            iterators: Bucket::new(CALLS_PER_SECOND),
            paid_us: 0,
        }
    }
}

impl ShardLimits {
    pub fn iterator(&mut self, now_us: i64) -> bool {
        self.iterators.take(now_us)
    }
    pub fn records(&mut self, now_us: i64) -> bool {
        let paid = now_us >= self.paid_us;
        self.calls.take(now_us) && paid
    }
    /// Counts a response with this many bytes.
    pub fn gave(&mut self, now_us: i64, bytes: usize) {
        let cost_us = bytes as i64 * 1_000_000 / BYTES_PER_SECOND;
        self.paid_us = (self.paid_us.max(now_us) + cost_us).min(now_us + DEBT_US_MAX);
    }
}
