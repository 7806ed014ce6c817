//! Faults on real processes under load: what is broken, how soon it is noticed, how soon it runs
//! again, and the cost.
//!
//! Owns: the list of faults ([`fault::LIST`]), the system that they strike, the measurement, the
//! table. Does not own: how servers and programs start (`servers`, `cluster`), how a link is cut
//! (`proxy`), the verdict on the output (`support/py/check_output.py`, an independent reader).
//! Rule: a fault is data; the runner sends only requests that a user could send over gRPC, and
//! reads only what a user could read.

pub mod disk;
pub mod fault;
pub mod report;
pub mod run;
pub mod scene;
pub mod strike;
pub mod system;
pub mod watch;

pub use fault::Fault;
pub use report::Row;
pub use system::System;
