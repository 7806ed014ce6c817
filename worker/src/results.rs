//! Results of the last windows, for subscribers.
//!
//! Rule: bounded; evicted results are computed again from their manifest's ranges (`replay`).

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_proto::{JobName, TaskId, Window};

/// Most bytes of results that one worker keeps, including open windows, unless its memory limit
/// requires less.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// The part of it that one window may take; a larger one is not kept.
const WINDOW_PART: usize = 4;

/// Most windows that one worker keeps: those without a row take no bytes, but still cost memory.
pub const WINDOWS_MAX: usize = 2_000;

/// The rows of one window, as far as they are kept.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    results: Arc<Results>,
    count: u64,
    bytes: usize,
    batches: Vec<RecordBatch>,
    too_many: bool,
}

impl Rows {
    pub fn new(schema: SchemaRef, results: Arc<Results>) -> Self {
        Self {
            schema,
            results,
            count: 0,
            bytes: 0,
            batches: vec![],
            too_many: false,
        }
    }

    /// Counts a batch, and keeps it while there is room.
    pub fn keep(&mut self, batch: &RecordBatch) {
        self.count += batch.num_rows() as u64;
        if self.too_many {
            return;
        }
        let more = batch.get_array_memory_size();
        if self.bytes + more <= self.results.bytes_max / WINDOW_PART && self.results.reserve(more) {
            self.bytes += more;
            self.batches.push(batch.clone());
        } else {
            self.too_many = true;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.batches = vec![];
        self.results.give_back(std::mem::take(&mut self.bytes));
    }

    /// All rows, kept or not.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.forget();
    }
}

#[derive(Debug)]
struct Kept {
    job: JobName,
    window: Window,
    task: TaskId,
    bytes: usize,
    rows: KeptRows,
}

/// Rows of one window of one task, and their columns, which are present even without rows.
#[derive(Clone, Debug)]
pub struct KeptRows {
    pub schema: SchemaRef,
    pub batches: Arc<Vec<RecordBatch>>,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Kept>,
    /// Bytes of kept and of open windows.
    bytes: usize,
}

/// The results that this worker keeps.
#[derive(Debug)]
pub struct Results {
    bytes_max: usize,
    state: Mutex<State>,
}

impl Default for Results {
    fn default() -> Self {
        Self::new(RESULT_BYTES_MAX)
    }
}

impl Results {
    /// Keeps at most this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for more rows of an open window by evicting the oldest kept ones.
    fn reserve(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        while state.bytes + bytes > self.bytes_max {
            let Some(oldest) = state.kept.pop_front() else {
                return false;
            };
            state.bytes -= oldest.bytes;
        }
        state.bytes += bytes;
        true
    }

    fn give_back(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Keeps a window's rows; evicts the oldest to make room.
    pub fn add(&self, job: &JobName, window: Window, task: TaskId, mut rows: Rows) {
        if rows.too_many {
            return;
        }
        // They are counted already.
        let bytes = std::mem::take(&mut rows.bytes);
        let batches = Arc::new(std::mem::take(&mut rows.batches));
        let kept = KeptRows {
            schema: Arc::clone(&rows.schema),
            batches,
        };
        let mut state = self.lock();
        state.kept.push_back(Kept {
            job: job.clone(),
            window,
            task,
            bytes,
            rows: kept,
        });
        while state.kept.len() > WINDOWS_MAX {
            let Some(oldest) = state.kept.pop_front() else {
                return;
            };
            state.bytes -= oldest.bytes;
        }
    }

    /// A task's rows of a window, if they are still kept.
    pub fn get(&self, job: &JobName, window: Window, task: TaskId) -> Option<KeptRows> {
        let state = self.lock();
        state
            .kept
            .iter()
            .find(|k| k.task == task && k.window == window && k.job == *job)
            .map(|k| k.rows.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Schema;
    use streamctl_proto::Term;

    fn window(start_ms: i64) -> Window {
        Window {
            start_ms,
            end_ms: start_ms + 1,
        }
    }

    fn task() -> TaskId {
        TaskId {
            term: Term(1),
            counter: 1,
        }
    }

    #[test]
    fn windows_without_rows_are_bounded_too_and_keep_their_columns() {
        let results = Arc::new(Results::default());
        let job = "sales".parse().unwrap();
        let count = i64::try_from(WINDOWS_MAX).unwrap() + 1;
        for start_ms in 0..count {
            results.add(
                &job,
                window(start_ms),
                task(),
                Rows::new(Arc::new(Schema::empty()), Arc::clone(&results)),
            );
        }
        assert!(results.get(&job, window(0), task()).is_none());
        assert!(
            results
                .get(&job, window(count - 1), task())
                .unwrap()
                .batches
                .is_empty()
        );
    }

    #[test]
    fn the_oldest_rows_make_room_and_a_window_that_is_too_large_is_counted_but_not_kept() {
        let results = Arc::new(Results::default());
        let job = "sales".parse().unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1 << 20));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        for start_ms in 0..9 {
            let mut rows = Rows::new(batch.schema(), Arc::clone(&results));
            rows.keep(&batch);
            results.add(&job, window(start_ms), task(), rows);
        }
        assert!(
            results.get(&job, window(0), task()).is_none(),
            "nine times 8 MiB are more than 64"
        );
        assert!(results.get(&job, window(8), task()).is_some());
        let mut large = Rows::new(batch.schema(), Arc::clone(&results));
        (0..3).for_each(|_| large.keep(&batch));
        assert_eq!(large.count(), 3 << 20);
        results.add(&job, window(9), task(), large);
        assert!(results.get(&job, window(9), task()).is_none());
    }
}
