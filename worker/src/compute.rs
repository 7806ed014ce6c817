//! The threads that decode records and run queries.
//!
//! Owns: how many there are, and their stack. Does not own: what runs on them.
//! Rule: an expression of as many levels as a query may have is evaluated on them without an overflow.

use tokio::runtime::{Builder, Runtime};

/// Stack of a compute thread. Only what is used takes memory.
pub const COMPUTE_STACK_BYTES: usize = 64 << 20;

/// A runtime of so many compute threads.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("compute")
        .thread_stack_size(COMPUTE_STACK_BYTES)
        .enable_all()
        .build()
}
