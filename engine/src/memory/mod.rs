//! Memory that several holders share.
//!
//! Owns: the limit of a process ([`MemoryLimit`]), room for what is read ([`Reads`]), shares of
//! windows ([`Share`]). Does not own: how a worker divides its memory (`streamctl_worker::memory`).
//! Rule: each part reserves memory before it uses it.

mod limit;
mod reads;
mod share;

pub use limit::{
    BadLimit, MEMORY_LIMIT_DEFAULT_MAX, MEMORY_LIMIT_MIN, MemoryLimit, PROCESS_BYTES, mib,
};
pub use reads::{ReadRoom, Reads};
pub use share::{Holding, Share};
