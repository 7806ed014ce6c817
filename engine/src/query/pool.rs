//! Memory of a query that is shared with others.
//!
//! Owns: the interface between this crate and the owner of the memory. Does not own: the sharing.
//! Rule: DataFusion's types do not leave the crate.

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation};
use std::fmt;
use std::sync::Arc;

/// The source of a query's memory.
pub trait QueryMemory: Send + Sync + fmt::Debug + 'static {
    /// Takes more bytes. Returns false and takes nothing if they are not available.
    fn try_grow(&self, bytes: usize) -> bool;
    fn grow(&self, bytes: usize);
    fn shrink(&self, bytes: usize);
    fn used(&self) -> usize;
    /// The most that could ever be taken.
    fn most(&self) -> usize;
}

/// Adapts [`QueryMemory`] to DataFusion's pool.
#[derive(Debug)]
pub(super) struct SharedPool(pub Arc<dyn QueryMemory>);

impl fmt::Display for SharedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MemoryPool for SharedPool {
    fn name(&self) -> &str {
        "worker"
    }

    fn grow(&self, _reservation: &MemoryReservation, additional: usize) {
        self.0.grow(additional);
    }

    fn shrink(&self, _reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if self.0.try_grow(additional) {
            return Ok(());
        }
        let consumer = reservation.consumer().name();
        let held = self.0.used();
        Err(resources_datafusion_err!(
            "{consumer} asked for {additional} bytes more, the query holds {held}"
        ))
    }

    fn reserved(&self) -> usize {
        self.0.used()
    }
}
