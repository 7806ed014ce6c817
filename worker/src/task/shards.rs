//! The progress of a task in one shard: waiting chunks, the next window, the records taken.
//!
//! Owns: placing records in windows. Does not own: which windows may open (`task`).
//! Rule: pure; a record is taken once, in order.

use super::reader::Room;
use std::collections::VecDeque;
use std::sync::Arc;
use streamctl_engine::source::{Child, Chunk, ReaderStats, Record, ShardToRead};
use streamctl_proto::{Clamp, Position, ShardId, Watermark, Window, WindowSize};

/// A chunk with waiting records.
struct Waiting {
    records: VecDeque<Record>,
    complete_to_ms: Option<i64>,
    end: Option<Vec<Child>>,
    permit: Arc<Room>,
}

/// Records that were taken for one window.
pub struct Taken {
    pub records: Vec<Record>,
    /// The position of the shard before them.
    pub from: Position,
    /// Room in the reader's buffer.
    pub permit: Arc<Room>,
}

/// One shard of a task.
pub struct ShardState {
    pub id: ShardId,
    /// After the last record taken.
    pub at: Position,
    /// Shards of the same task that must end first.
    pub after: Vec<ShardId>,
    pub detail: String,
    /// Every record that arrived before this time was read by earlier tasks; `None` if unknown.
    pub read_to_ms: Option<i64>,
    /// How long its stream keeps records; `None` if unknown.
    pub retention_ms: Option<i64>,
    /// The figures of all its readers.
    pub stats: ReaderStats,
    pub lag_ms: u64,
    pub records: u64,
    pub bytes: u64,
    /// Arrival of the last record taken; 0: none yet.
    pub last_arrival_ms: i64,
    clamp: Clamp,
    size: WindowSize,
    complete_to_ms: Option<i64>,
    waiting: VecDeque<Waiting>,
    ended: Option<Vec<Child>>,
    /// The figures of earlier readers.
    earlier: ReaderStats,
    /// The read records were dropped; the first of them belongs to this window.
    parked: Option<Window>,
}

impl ShardState {
    /// What to open for the shard.
    pub fn to_read(&self) -> ShardToRead {
        ShardToRead {
            read_to_ms: self.known_to_ms(),
            retention_ms: self.retention_ms,
            ..ShardToRead::new(self.id.clone(), self.at.clone(), self.detail.clone())
        }
    }

    /// A shard that begins at `from`.
    pub fn new(
        id: ShardId,
        from: Position,
        after: Vec<ShardId>,
        detail: String,
        size: WindowSize,
        floor: Watermark,
    ) -> Self {
        Self {
            id,
            at: from,
            after,
            detail,
            read_to_ms: None,
            retention_ms: None,
            stats: ReaderStats::default(),
            lag_ms: 0,
            records: 0,
            bytes: 0,
            last_arrival_ms: 0,
            clamp: Clamp::new(size, floor),
            size,
            complete_to_ms: None,
            waiting: VecDeque::new(),
            ended: None,
            earlier: ReaderStats::default(),
            parked: None,
        }
    }

    /// Updates the counters of its reader.
    pub fn count(&mut self, stats: ReaderStats) {
        self.stats = ReaderStats {
            calls: self.earlier.calls + stats.calls,
            subscriptions: self.earlier.subscriptions + stats.subscriptions,
            throttles: self.earlier.throttles + stats.throttles,
            iterator_renewals: self.earlier.iterator_renewals + stats.iterator_renewals,
            data_losses: self.earlier.data_losses + stats.data_losses,
            foreign_records: self.earlier.foreign_records + stats.foreign_records,
            lost: stats.lost.or(self.earlier.lost),
            clock_skew_ms: stats.clock_skew_ms.or(self.earlier.clock_skew_ms),
        };
    }

    /// Adds a chunk of a reader.
    pub fn offer(&mut self, chunk: Chunk, stats: ReaderStats, permit: Room) {
        self.count(stats);
        self.lag_ms = chunk.behind_ms;
        let Chunk {
            records,
            complete_to_ms,
            end,
            ..
        } = chunk;
        self.waiting.push_back(Waiting {
            records: records.into(),
            complete_to_ms,
            end,
            permit: Arc::new(permit),
        });
        self.settle();
    }

    /// Drops chunks without records after noting their completeness.
    fn settle(&mut self) {
        while self
            .waiting
            .front()
            .is_some_and(|front| front.records.is_empty())
        {
            let Some(done) = self.waiting.pop_front() else {
                return;
            };
            self.complete_to_ms = self.complete_to_ms.max(done.complete_to_ms);
            if let Some(children) = done.end {
                self.ended = Some(children);
            }
        }
    }

    /// Drops what waits, because memory is short. It is read again from here once its window takes
    /// records. Returns false if nothing waits. Only the window of the first record is remembered.
    pub fn park(&mut self) -> bool {
        let Some(window) = self.next_window().filter(|_| self.parked.is_none()) else {
            return false;
        };
        self.waiting.clear();
        self.earlier = self.stats;
        // The records come again, and must go into the same windows.
        self.clamp.close_before(Watermark::At(window.start_ms));
        self.parked = Some(window);
        true
    }

    /// Its records may come again. Returns false if it was not parked.
    pub fn unpark(&mut self) -> bool {
        self.parked.take().is_some()
    }

    /// Whether the read records were dropped and nothing is being read.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// The window of the next record, if one waits or was dropped.
    pub fn next_window(&self) -> Option<Window> {
        if self.parked.is_some() {
            return self.parked;
        }
        let record = self.waiting.front()?.records.front()?;
        let mut clamp = self.clamp;
        Some(clamp.place(record.arrival_ms))
    }

    /// Takes the waiting records of the next window, of one chunk.
    pub fn take(&mut self) -> Option<Taken> {
        let window = self.next_window()?;
        let front = self.waiting.front_mut()?;
        let from = self.at.clone();
        let mut records = vec![];
        while let Some(record) = front.records.front() {
            let mut clamp = self.clamp;
            if clamp.place(record.arrival_ms) != window {
                break;
            }
            self.clamp = clamp;
            let Some(record) = front.records.pop_front() else {
                break;
            };
            self.at = record.position();
            self.records += 1;
            self.bytes += record.data.len() as u64;
            self.last_arrival_ms = record.arrival_ms;
            records.push(record);
        }
        let permit = Arc::clone(&front.permit);
        self.settle();
        Some(Taken {
            records,
            from,
            permit,
        })
    }

    /// No record of a window that ends at or before this is taken any more.
    pub fn watermark(&self) -> Watermark {
        if let Some(next) = self.next_window() {
            return Watermark::At(next.start_ms);
        }
        if self.ended.is_some() {
            return Watermark::Ended;
        }
        let complete = self.complete_to_ms.map_or(Watermark::Unknown, |time_ms| {
            Watermark::At(self.size.window_of(time_ms).start_ms)
        });
        self.clamp.floor().max(complete)
    }

    /// Windows that end at or before this are closed for this shard.
    pub fn close_before(&mut self, watermark: Watermark) {
        self.clamp.close_before(watermark);
    }

    /// The start of the last taken record's window, or of the earliest that is still open.
    pub fn floor(&self) -> Watermark {
        self.clamp.floor()
    }

    /// Every record that arrived before this time is taken; `None` if unknown.
    pub fn known_to_ms(&self) -> Option<i64> {
        self.read_to_ms.max(self.clamp.floor().time_ms())
    }

    /// The children of a shard that was read to its end and taken completely.
    pub fn ended(&self) -> Option<&[Child]> {
        self.ended.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use streamctl_engine::source::Foreign;

    fn chunk(arrivals: &[i64], first: u64, complete_to_ms: Option<i64>) -> Chunk {
        let record = |(index, arrival_ms): (usize, &i64)| Record {
            sequence: (first + index as u64).into(),
            sub_sequence: 0,
            arrival_ms: *arrival_ms,
            data: Bytes::from_static(b"{}"),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        };
        let records = arrivals.iter().enumerate().map(record).collect();
        Chunk {
            records,
            complete_to_ms,
            behind_ms: 0,
            end: None,
        }
    }

    fn shard() -> ShardState {
        let size = WindowSize::from_ms(10).unwrap();
        ShardState::new(
            "s".into(),
            Position::Start,
            vec![],
            String::new(),
            size,
            Watermark::At(0),
        )
    }

    #[test]
    fn records_are_taken_window_by_window() {
        let mut shard = shard();
        shard.offer(
            chunk(&[1, 2, 12, 5, 25], 1, None),
            ReaderStats::default(),
            Room::for_test(),
        );
        let taken = shard.take().unwrap();
        assert_eq!(
            (taken.from, taken.records.len(), &shard.at),
            (Position::Start, 2, &Position::after(2.into()))
        );
        assert_eq!(shard.watermark(), Watermark::At(10));
        assert_eq!(
            shard.take().unwrap().records.len(),
            2,
            "a record that steps back stays in its neighbour's window"
        );
        assert_eq!(shard.next_window().unwrap().start_ms, 20);
    }

    #[test]
    fn an_idle_shard_moves_on_when_its_reader_has_caught_up() {
        let mut shard = shard();
        shard.offer(
            chunk(&[1], 1, Some(35)),
            ReaderStats::default(),
            Room::for_test(),
        );
        assert_eq!(shard.watermark(), Watermark::At(0), "a record waits");
        shard.take();
        assert_eq!(
            shard.watermark(),
            Watermark::At(30),
            "the window that holds 35 is not over"
        );
    }

    #[test]
    fn a_shard_at_its_end_holds_nothing_open() {
        let mut shard = shard();
        shard.offer(
            Chunk {
                end: Some(vec![]),
                ..chunk(&[1], 1, None)
            },
            ReaderStats::default(),
            Room::for_test(),
        );
        assert!(shard.ended().is_none());
        shard.take();
        assert!(shard.ended().is_some());
        assert_eq!(shard.watermark(), Watermark::Ended);
    }

    #[test]
    fn what_was_dropped_comes_again_into_the_same_windows() {
        let mut shard = shard();
        shard.offer(
            chunk(&[1, 25, 14], 1, None),
            ReaderStats::default(),
            Room::for_test(),
        );
        shard.take();
        let at = shard.at.clone();
        let window = shard.next_window();
        assert!(shard.park() && !shard.park());
        assert_eq!(
            (&shard.at, shard.next_window(), shard.watermark()),
            (&at, window, Watermark::At(20))
        );
        assert!(shard.unpark() && !shard.unpark());
        assert_eq!(
            (shard.next_window(), shard.watermark()),
            (None, Watermark::At(20)),
            "nothing before it comes"
        );
        shard.offer(
            chunk(&[25, 14], 2, None),
            ReaderStats::default(),
            Room::for_test(),
        );
        assert_eq!(shard.take().unwrap().records.len(), 2);
    }
}
