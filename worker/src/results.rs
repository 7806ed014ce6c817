//! Results of the last windows, for subscribers.
//!
//! Rule: bounded; what is gone is computed again from its manifest's ranges (`replay`).

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_proto::{JobName, TaskId, Window};

/// Bytes of results that one worker keeps.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// Bytes that one window may take of that; a larger one is not kept.
pub const WINDOW_BYTES_MAX: usize = 16 << 20;

/// Windows that one worker keeps: those without a row take no bytes, but they are not nothing.
pub const WINDOWS_MAX: usize = 2_000;

/// The rows of one window, as far as they are kept.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    count: u64,
    bytes: usize,
    batches: Vec<RecordBatch>,
    too_many: bool,
}

impl Rows {
    /// None yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, count: 0, bytes: 0, batches: vec![], too_many: false }
    }

    /// Counts a batch, and keeps it while there is room.
    pub fn keep(&mut self, batch: &RecordBatch) {
        self.count += batch.num_rows() as u64;
        self.bytes += batch.get_array_memory_size();
        if self.bytes > WINDOW_BYTES_MAX {
            self.too_many = true;
            self.batches = vec![];
        }
        if !self.too_many {
            self.batches.push(batch.clone());
        }
    }

    /// All rows, kept or not.
    pub fn count(&self) -> u64 {
        self.count
    }
}

struct Kept {
    job: JobName,
    window: Window,
    task: TaskId,
    bytes: usize,
    rows: KeptRows,
}

/// Rows of one window of one task, and their columns, which are there without rows too.
#[derive(Clone, Debug)]
pub struct KeptRows {
    /// Of the batches.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Arc<Vec<RecordBatch>>,
}

/// The results that this worker keeps.
#[derive(Default)]
pub struct Results(Mutex<VecDeque<Kept>>);

impl Results {
    /// Keeps a window's rows; the oldest make room.
    pub fn add(&self, job: &JobName, window: Window, task: TaskId, rows: Rows) {
        if rows.too_many {
            return;
        }
        let bytes = rows.bytes;
        let rows = KeptRows { schema: rows.schema, batches: Arc::new(rows.batches) };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Kept { job: job.clone(), window, task, bytes, rows });
        let mut total: usize = kept.iter().map(|kept| kept.bytes).sum();
        while total > RESULT_BYTES_MAX || kept.len() > WINDOWS_MAX {
            let Some(oldest) = kept.pop_front() else { return };
            total -= oldest.bytes;
        }
    }

    /// A task's rows of a window, if they are still here.
    pub fn get(&self, job: &JobName, window: Window, task: TaskId) -> Option<KeptRows> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|k| k.task == task && k.window == window && k.job == *job).map(|k| k.rows.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Schema;
    use streamctl_proto::Term;

    fn window(start_ms: i64) -> Window {
        Window { start_ms, end_ms: start_ms + 1 }
    }

    fn task() -> TaskId {
        TaskId { term: Term(1), counter: 1 }
    }

    #[test]
    fn windows_without_rows_are_bounded_too_and_keep_their_columns() {
        let (results, job) = (Results::default(), "sales".parse().unwrap());
        let count = i64::try_from(WINDOWS_MAX).unwrap() + 1;
        for start_ms in 0..count {
            results.add(&job, window(start_ms), task(), Rows::new(Arc::new(Schema::empty())));
        }
        assert!(results.get(&job, window(0), task()).is_none());
        assert!(results.get(&job, window(count - 1), task()).unwrap().batches.is_empty());
    }

    #[test]
    fn the_oldest_rows_make_room_and_a_window_that_is_too_large_is_counted_but_not_kept() {
        let (results, job) = (Results::default(), "sales".parse().unwrap());
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1 << 20));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        for start_ms in 0..9 {
            let mut rows = Rows::new(batch.schema());
            rows.keep(&batch);
            results.add(&job, window(start_ms), task(), rows);
        }
        assert!(results.get(&job, window(0), task()).is_none(), "nine times 8 MiB are more than 64");
        assert!(results.get(&job, window(8), task()).is_some());
        let mut large = Rows::new(batch.schema());
        (0..3).for_each(|_| large.keep(&batch));
        assert_eq!(large.count(), 3 << 20);
        results.add(&job, window(9), task(), large);
        assert!(results.get(&job, window(9), task()).is_none());
    }
}
