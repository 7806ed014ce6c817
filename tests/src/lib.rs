//! The foundation of the system tests: real servers, our programs as processes, and independent
//! readers.
//!
//! Owns: starting and ending processes, calling Python's clients, waiting for a fact. Does not own:
//! any expectation (`tests/tests/system.rs`), and the installed programs
//! (`tests/support/servers.sh`).
//! Rule: nothing outlives the test that started it, and everything listens on 127.0.0.1 only
//! (kinesis-mock excepted: it has no such setting).

pub mod bench;
pub mod browser;
pub mod chaos;
pub mod cluster;
pub mod collector;
pub mod crowd;
pub mod fuzz;
pub mod here;
pub mod jail;
pub mod kinesis;
pub mod local_run;
pub mod pki;
pub mod places;
pub mod process;
pub mod procfs;
pub mod proxy;
pub mod python;
pub mod servers;
pub mod signers;
pub mod sim;
pub mod soak;
pub mod wait;

pub use cluster::Cluster;
pub use process::Process;
pub use servers::Servers;
