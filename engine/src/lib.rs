//! What controller and worker must agree on about data.
//!
//! Owns: object storage ([`storage`]), AWS clients ([`aws`]), the Data Catalog ([`catalog`]),
//! lookup versions and their rows ([`lookup`]), the query ([`query`]), what a job file leaves to
//! the world ([`resolve`]), and what else two programs must do alike: doors ([`http`]), protection
//! ([`security`]), figures ([`metrics`]).
//! Does not own: reading the stream, windows, the commit.
//! Rule: a question about data has one answer, whoever asks: the controller at submit, a worker at
//! run time, a replay next week.

pub mod aws;
pub mod catalog;
pub mod clock;
pub mod dead_letters;
pub mod foreign_answer;
pub mod format;
pub mod http;
pub mod lookup;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod query;
pub mod resolve;
pub mod security;
pub mod source;
pub mod storage;
pub mod traces;
