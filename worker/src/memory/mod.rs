//! The memory budget of a worker, for all its tasks together.
//!
//! Owns: the limit and its shares. Does not own: the data; each part reserves memory before it uses
//! it.
//! Rule: a holder of memory can continue with what it has, or can be dropped and read again. So a
//! waiter for memory always waits for something that ends. A request that can never fit is an error
//! that names the limit.

pub(crate) use streamctl_engine::memory::mib;
pub use streamctl_engine::memory::{
    Holding, MEMORY_LIMIT_DEFAULT_MAX, MEMORY_LIMIT_MIN, MemoryLimit, PROCESS_BYTES, ReadRoom,
    Reads, Share,
};

use crate::lookups::Lookups;
use std::sync::Arc;
use streamctl_engine::format::unpack::UNPACKED_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Percent of the remainder. Together 75: the rest is for uncounted memory (the allocator's gaps,
/// buffers of connections, batches between two operators).
const READS_PERCENT: u64 = 12;
const FILES_PERCENT: u64 = 8;
const TABLES_PERCENT: u64 = 27;
const SINKS_PERCENT: u64 = 8;
const UPLOADS_PERCENT: u64 = 8;
const BATCHES_PERCENT: u64 = 8;
const RESULTS_PERCENT: u64 = 4;
/// Memory for one more open window.
const WINDOW_BYTES: u64 = 16 << 20;
/// Most windows that are open on one worker, however much memory it has.
pub const WORKER_WINDOWS_MAX: usize = 128;
const WORKER_WINDOWS_MIN: usize = 4;
/// Batches of one window between decoding and staging: in the query's queue, in its operators, at
/// the sink.
const BATCHES_PER_WINDOW: u64 = 8;
/// Most payload bytes that are decoded at once.
pub(crate) const DECODE_BYTES_MAX: usize = 4 << 20;
const DECODE_BYTES_MIN: usize = 64 << 10;
/// Largest share of kept results, and of parts in flight to S3.
const RESULTS_BYTES_MAX: u64 = 64 << 20;
const UPLOADS_BYTES_MAX: u64 = 1 << 30;
/// For payloads that are large when unpacked. Taken from the uncounted quarter: each is held only
/// briefly.
const UNPACK_PERCENT: u64 = 20;
/// The most for all of these together.
const UNPACK_BYTES_MAX: u64 = 1 << 30;
/// The window of the decoder, the payload, and the columns made of it.
const UNPACK_COPIES: usize = 3;
/// Most concurrent replays for Flight.
pub const REPLAYS_MAX: usize = 16;
/// Memory for one more replay.
const REPLAY_BYTES: u64 = 64 << 20;

/// The memory budget of a worker; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: MemoryLimit,
    usable: u64,
    reads: Reads,
    files: Reads,
    tables: Arc<Share>,
    sinks: Arc<Share>,
    windows: Arc<Semaphore>,
    windows_max: usize,
    replays: Arc<Semaphore>,
    unpacking: Arc<Semaphore>,
    lookups: Lookups,
    stir: Arc<watch::Sender<()>>,
}

/// The memory of one open window. Its guaranteed minimum is held for its whole life.
#[derive(Debug)]
pub struct WindowMemory {
    pub query: Arc<Holding>,
    /// Memory of its sink: row groups, and parts being filled.
    pub sink: Arc<Holding>,
    /// Memory of its dead letters: a part being filled. None of it is guaranteed.
    pub dead: Arc<Holding>,
    _place: Place,
}

/// Room for one payload that is being unpacked.
#[derive(Debug)]
pub struct UnpackRoom {
    bytes: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl UnpackRoom {
    /// The largest unpacked payload that fits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Room for all payloads that are large when unpacked.
fn unpack_kib(usable: u64) -> usize {
    usize::try_from((usable / 100 * UNPACK_PERCENT).min(UNPACK_BYTES_MAX) >> 10)
        .unwrap_or(usize::MAX)
}

/// The place of one open window.
#[derive(Debug)]
struct Place {
    permit: Option<OwnedSemaphorePermit>,
    stir: Arc<watch::Sender<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // First free the place, then notify.
        drop(self.permit.take());
        self.stir.send_replace(());
    }
}

impl Default for MemoryBudget {
    /// The budget of the largest default limit.
    fn default() -> Self {
        Self::new(MemoryLimit::default())
    }
}

impl MemoryBudget {
    pub fn new(limit: MemoryLimit) -> Self {
        let usable = limit.bytes() - PROCESS_BYTES;
        let part = |percent: u64| usize::try_from(usable / 100 * percent).unwrap_or(usize::MAX);
        let fit = usize::try_from(usable / WINDOW_BYTES).unwrap_or(usize::MAX);
        let windows_max = fit.clamp(WORKER_WINDOWS_MIN, WORKER_WINDOWS_MAX);
        let replays = usize::try_from(usable / REPLAY_BYTES)
            .unwrap_or(usize::MAX)
            .clamp(1, REPLAYS_MAX);
        let stir = Arc::new(watch::Sender::new(()));
        let tables = Arc::new(Share::new(part(TABLES_PERCENT), windows_max + replays));
        Self(Arc::new(Inner {
            limit,
            usable,
            reads: Reads::new(part(READS_PERCENT), Arc::clone(&stir)),
            files: Reads::new(part(FILES_PERCENT), Arc::clone(&stir)),
            sinks: Arc::new(Share::new(part(SINKS_PERCENT), windows_max)),
            windows: Arc::new(Semaphore::new(windows_max)),
            windows_max,
            replays: Arc::new(Semaphore::new(replays)),
            unpacking: Arc::new(Semaphore::new(unpack_kib(usable))),
            lookups: Lookups::new(Arc::clone(&tables), limit),
            tables,
            stir,
        }))
    }

    pub fn limit(&self) -> MemoryLimit {
        self.0.limit
    }

    /// Room for chunks that are read but not yet decoded.
    pub fn reads(&self) -> &Reads {
        &self.0.reads
    }

    /// Room for whole files of `files` sources.
    pub fn files(&self) -> &Reads {
        &self.0.files
    }

    /// Lookups, loaded once per worker and version.
    pub fn lookups(&self) -> &Lookups {
        &self.0.lookups
    }

    /// Notifies when a reader waits for room, or when there is a place for a window: time to check
    /// what can proceed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.stir.subscribe()
    }

    /// Whether a reader waits for room.
    pub fn is_short(&self) -> bool {
        self.0.reads.is_short() || self.0.files.is_short()
    }

    /// Memory for one more window; `None` if there is none now. An `urgent` window is never
    /// refused: it is older than all open windows of its task, and these wait for it. A `further`
    /// window of a task leaves half of the places to tasks that have none.
    pub fn window(&self, urgent: bool, further: bool) -> Option<WindowMemory> {
        let free = self.0.windows.available_permits();
        let enough = !further || free > self.0.windows_max / 2;
        let permit = if enough {
            Arc::clone(&self.0.windows).try_acquire_owned().ok()
        } else {
            None
        };
        if permit.is_none() && !urgent {
            return None;
        }
        let place = Place {
            permit,
            stir: Arc::clone(&self.0.stir),
        };
        let holding = |share: &Arc<Share>| Arc::new(Holding::with_minimum(Arc::clone(share)));
        let dead = Arc::new(Holding::without_minimum(Arc::clone(&self.0.sinks)));
        Some(WindowMemory {
            query: holding(&self.0.tables),
            sink: holding(&self.0.sinks),
            dead,
            _place: place,
        })
    }

    /// Memory for the query of one replay; waits until there is room for it.
    pub async fn replay(&self) -> (Arc<Holding>, Option<OwnedSemaphorePermit>) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0.replays).acquire_owned().await.ok();
        (
            Arc::new(Holding::with_minimum(Arc::clone(&self.0.tables))),
            permit,
        )
    }

    /// Payload that a window decodes at once.
    pub fn decode_bytes(&self) -> usize {
        let batches = BATCHES_PER_WINDOW * self.0.windows_max as u64;
        let bytes = self.0.usable / 100 * BATCHES_PERCENT / batches;
        usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .clamp(DECODE_BYTES_MIN, DECODE_BYTES_MAX)
    }

    /// Room for one payload that is large when unpacked; waits until there is some.
    pub async fn unpacking(&self) -> UnpackRoom {
        let each = unpack_kib(self.0.usable).min((UNPACK_COPIES * UNPACKED_BYTES_MAX) >> 10);
        let permits = u32::try_from(each).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0.unpacking)
            .acquire_many_owned(permits)
            .await
            .ok();
        UnpackRoom {
            bytes: (each << 10) / UNPACK_COPIES,
            _permit: permit,
        }
    }

    /// Results that are kept for subscribers.
    pub fn result_bytes(&self) -> usize {
        usize::try_from((self.0.usable / 100 * RESULTS_PERCENT).min(RESULTS_BYTES_MAX))
            .unwrap_or(usize::MAX)
    }
}

/// Memory for parts in flight to S3, for all objects together.
pub fn upload_bytes(limit: MemoryLimit) -> usize {
    let bytes = (limit.bytes() - PROCESS_BYTES) / 100 * UPLOADS_PERCENT;
    usize::try_from(bytes.min(UPLOADS_BYTES_MAX)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::OBJECT_BYTES_ALWAYS;
    use std::str::FromStr as _;

    #[test]
    fn the_shares_leave_a_quarter_for_uncounted_memory() {
        let all = [
            READS_PERCENT,
            FILES_PERCENT,
            TABLES_PERCENT,
            SINKS_PERCENT,
            UPLOADS_PERCENT,
            BATCHES_PERCENT,
        ];
        assert_eq!(all.iter().sum::<u64>() + RESULTS_PERCENT, 75);
    }

    #[test]
    fn the_least_limit_leaves_room_for_an_object_that_is_never_refused() {
        let budget = MemoryBudget::new(MemoryLimit::from_str("128MiB").unwrap());
        assert_eq!(budget.limit().bytes(), MEMORY_LIMIT_MIN);
        assert!(budget.window(false, false).unwrap().sink.most() >= OBJECT_BYTES_ALWAYS);
    }

    #[tokio::test]
    async fn payloads_that_are_large_unpacked_wait_for_room_of_the_limit() {
        let small = MemoryBudget::new("256MiB".parse().unwrap());
        let room = small.unpacking().await;
        assert!(
            (11 << 20..16 << 20).contains(&room.bytes()),
            "{}",
            room.bytes()
        );
        let mut further = std::pin::pin!(small.unpacking());
        assert!(
            futures::poll!(further.as_mut()).is_pending(),
            "one at a time"
        );
        drop(room);
        assert!(futures::poll!(further).is_ready());
        let large = MemoryBudget::new("4GiB".parse().unwrap());
        let rooms = [large.unpacking().await, large.unpacking().await];
        assert!(rooms.iter().all(|room| room.bytes() == UNPACKED_BYTES_MAX));
    }

    #[test]
    fn windows_are_refused_when_all_places_are_taken_unless_others_wait_for_them() {
        let budget = MemoryBudget::new("128MiB".parse().unwrap());
        let open: Vec<_> = (0..WORKER_WINDOWS_MIN)
            .map(|_| budget.window(false, false).unwrap())
            .collect();
        assert!(budget.window(false, false).is_none());
        let urgent = budget
            .window(true, false)
            .expect("an urgent one is never refused");
        assert!(urgent.query.try_grow(1 << 10) && urgent.sink.try_grow(1 << 10));
        let changes = budget.changes();
        drop(open);
        assert!(
            changes.has_changed().unwrap(),
            "those that wait hear of a free place"
        );
        assert!(budget.window(false, true).is_some());
        let _half: Vec<_> = (0..2)
            .map(|_| budget.window(false, false).unwrap())
            .collect();
        assert!(
            budget.window(false, true).is_none(),
            "half of the places is for tasks without a window"
        );
    }
}
