//! Results of the last windows, for subscribers.
//!
//! Rule: bounded; what is gone is computed again from its manifest's ranges (`replay`).

use arrow::record_batch::RecordBatch;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_proto::{JobName, TaskId, Window};

/// Bytes of results that one worker keeps.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// Bytes that one window may take of that; a larger one is not kept.
pub const WINDOW_BYTES_MAX: usize = 16 << 20;

/// The rows of one window, as far as they are kept.
#[derive(Debug, Default)]
pub struct Rows {
    count: u64,
    bytes: usize,
    batches: Option<Vec<RecordBatch>>,
    too_many: bool,
}

impl Rows {
    /// Counts a batch, and keeps it while there is room.
    pub fn keep(&mut self, batch: &RecordBatch) {
        self.count += batch.num_rows() as u64;
        self.bytes += batch.get_array_memory_size();
        if self.bytes > WINDOW_BYTES_MAX {
            self.too_many = true;
            self.batches = None;
        }
        if !self.too_many {
            self.batches.get_or_insert_default().push(batch.clone());
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
    batches: Arc<Vec<RecordBatch>>,
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
        let batches = Arc::new(rows.batches.unwrap_or_default());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Kept { job: job.clone(), window, task, bytes: rows.bytes, batches });
        let mut total: usize = kept.iter().map(|kept| kept.bytes).sum();
        while total > RESULT_BYTES_MAX {
            let Some(oldest) = kept.pop_front() else { return };
            total -= oldest.bytes;
        }
    }

    /// A task's rows of a window, if they are still here.
    pub fn get(&self, job: &JobName, window: Window, task: TaskId) -> Option<Arc<Vec<RecordBatch>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|k| k.task == task && k.window == window && k.job == *job).map(|k| Arc::clone(&k.batches))
    }
}
