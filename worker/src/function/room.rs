//! Room in the worker's memory for the result of a call.
//!
//! Owns: counting what has arrived. Does not own: how much there is (`engine::query::QueryMemory`).
//! Rule: a part of a result is counted when it has arrived, and until its room is dropped.

use std::sync::Arc;
use streamctl_engine::query::QueryMemory;

/// The room that one result takes.
#[derive(Debug, Default)]
pub struct ResultRoom {
    /// `None`: nothing counts it.
    memory: Option<Arc<dyn QueryMemory>>,
    bytes: usize,
}

/// There is no room for a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Of the result so far.
    pub bytes: u64,
    /// The most that a window can have.
    pub most: u64,
    /// Others hold more than half of that: there may be room later.
    pub others: bool,
}

impl ResultRoom {
    pub fn new(memory: Option<Arc<dyn QueryMemory>>) -> Self {
        Self { memory, bytes: 0 }
    }

    /// # Errors
    /// There is none for so many bytes more.
    pub fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        if !memory.try_grow(bytes) {
            let total = memory.used().saturating_add(bytes);
            return Err(NoRoom {
                bytes: self.bytes.saturating_add(bytes) as u64,
                most: memory.most() as u64,
                others: total < memory.most() / 2,
            });
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for ResultRoom {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.shrink(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    #[test]
    fn a_result_is_counted_until_it_is_dropped_and_refused_if_it_does_not_fit() {
        let budget = MemoryBudget::new("128MiB".parse().unwrap());
        let window = budget.window(false, false).unwrap();
        let memory: Arc<dyn QueryMemory> = Arc::clone(&window.query) as _;
        let mut room = ResultRoom::new(Some(Arc::clone(&memory)));
        room.take(1 << 20).unwrap();
        assert_eq!(memory.used(), 1 << 20);
        let refused = room.take(memory.most() + 1).unwrap_err();
        assert!(!refused.others, "{refused:?}");
        assert_eq!(memory.used(), 1 << 20, "what is refused is not counted");
        drop(room);
        assert_eq!(memory.used(), 0);
        assert_eq!(ResultRoom::new(None).take(usize::MAX), Ok(()));
    }
}
