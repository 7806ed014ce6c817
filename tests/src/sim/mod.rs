//! The whole system in one thread, on clocks that advance only when they are moved, in a world that
//! a seed determines.
//!
//! Owns: the world's services and network ([`weather`], [`store`], [`storage`], [`stream`],
//! [`network`]), its processes ([`node`]), its jobs ([`job`], [`texts`], [`function`]), its faults ([`chaos`]),
//! the verdict ([`oracle`]). Does not own: the system itself: core, driver, sessions, tasks,
//! decoding, queries and the Kinesis reader are the real ones.
//! Rule: the same seed is the same story, event for event; whatever happens, the output contains
//! every record of every job exactly once.

pub mod chaos;
pub mod function;
pub mod job;
pub mod network;
pub mod node;
pub mod oracle;
pub mod storage;
pub mod store;
pub mod story;
pub mod stream;
pub mod texts;
pub mod weather;
pub mod witness;
pub mod world;

#[cfg(test)]
mod tests;

pub use story::{Story, tell, tell_of, tell_wide};
