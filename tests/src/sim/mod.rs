//! The whole system in one thread, on clocks that stand still until they are moved, in a world that
//! a seed decides.
//!
//! Owns: the world's services and network ([`weather`], [`store`], [`storage`], [`stream`],
//! [`network`]), its processes ([`node`]), its jobs ([`job`], [`texts`]), what goes wrong
//! ([`chaos`]), the verdict ([`oracle`]). Does not own: anything of the system itself: core,
//! driver, sessions, tasks, decoding, queries and the Kinesis reader are the real ones.
//! Rule: the same seed is the same story, event for event; whatever happens, every record of every
//! job is there exactly once.

pub mod chaos;
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
