//! The gRPC services: convert in, make one call, convert out.
//!
//! Rule: no decision is taken here.

pub mod flight;
pub mod jobs;
mod replays;
pub mod submit;
pub mod workers;
