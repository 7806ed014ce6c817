//! Memory of a query that others share.
//!
//! Owns: the words between this crate and whoever shares memory out. Does not own: the sharing.
//! Rule: DataFusion's types do not leave the crate.

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation};
use std::fmt;
use std::sync::Arc;

/// Where a query's memory comes from.
pub trait QueryMemory: Send + Sync + fmt::Debug + 'static {
    /// Takes more; false, and nothing is taken, when there is none.
    fn try_grow(&self, bytes: usize) -> bool;
    fn grow(&self, bytes: usize);
    fn shrink(&self, bytes: usize);
    fn used(&self) -> usize;
    /// The most that could ever be taken.
    fn most(&self) -> usize;
}

/// The same in DataFusion's words.
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
