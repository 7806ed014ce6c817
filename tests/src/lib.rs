//! What the tests of the whole system stand on: real servers, our programs as processes, and
//! readers that are not ours.
//!
//! Owns: starting and ending processes, asking Python's clients, waiting for a fact. Does not own:
//! any expectation (`tests/tests/system.rs`), and what is installed (`tests/support/servers.sh`).
//! Rule: nothing outlives the test that started it, and nothing listens but on 127.0.0.1
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
pub mod sim;
pub mod soak;
pub mod wait;

pub use cluster::Cluster;
pub use process::Process;
pub use servers::Servers;
