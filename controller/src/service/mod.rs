//! The gRPC services: convert in, make one call, convert out.
//!
//! Rule: no decision is taken here.

pub mod flight;
pub mod jobs;
pub mod submit;
pub mod workers;
