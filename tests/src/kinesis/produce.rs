//! A producer inside the fake: the workshop's sales records at a steady rate.
//!
//! Rule: record `n` is the generator's record for the seed, shard 0 and index `n`, so that an
//! oracle needs only the count.

use super::stream::Stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use streamctl_engine::source::generator::{Options, record};

/// Interval between two checks for due records.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Random characters of a partition key, as in the workshop's producer.
const KEY_CHARS: usize = 20;

#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub seed: u64,
    /// Records per second.
    pub rate: f64,
    /// Records after which it ends; 0: never.
    pub records_max: u64,
    pub options: Options,
}

/// Produces into a stream until all records are put; `put` counts them.
pub async fn produce(stream: Arc<Stream>, order: Order, put: Arc<AtomicU64>) {
    let began = Instant::now();
    let mut random = fastrand::Rng::with_seed(order.seed);
    let mut next = 0;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let mut due = (began.elapsed().as_secs_f64() * order.rate) as u64;
        if order.records_max > 0 {
            due = due.min(order.records_max);
        }
        while next < due {
            let key: String = (0..KEY_CHARS).map(|_| random.alphanumeric()).collect();
            stream.put(&key, &record(order.seed, 0, next, order.options));
            next += 1;
            put.store(next, Ordering::Release);
        }
        if order.records_max > 0 && next >= order.records_max {
            return;
        }
    }
}
