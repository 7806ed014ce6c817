//! The worker node: reads shards, turns their records into rows, stages results. Keeps only state
//! that it can lose.
//!
//! Owns: the session with the controller ([`session`]), tasks ([`task`]), sources, decoding, sinks,
//! the Flight service.
//! Does not own: which shards it reads, which window is committed, when results become visible.
//! Rule: nothing here is visible to a reader of the sink; all work of a worker can be discarded.

pub mod busy;
pub mod compute;
pub mod connection;
pub mod dead_letter;
pub mod flight;
pub mod function;
pub mod functions;
pub mod lookups;
pub mod memory;
pub mod meter;
pub mod node;
pub mod pipeline;
pub mod preview;
mod process_cpu;
pub mod protection;
pub mod published;
pub mod rebuild;
mod record_values;
pub mod registry;
pub mod replay;
pub mod results;
mod rewrite;
pub mod session;
pub mod sink;
pub mod source;
pub mod task;
pub mod verify;
