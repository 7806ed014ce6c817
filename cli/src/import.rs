//! From a Glue job to a job file.
//!
//! Owns: what scripts and nodes of Glue mean here. Does not own: reading from Glue and S3, printing
//! (`verbs::import`).
//! Rule: pure: text in, text out. Scripts are read and never run.

mod carry;
mod column;
pub mod flow;
pub mod nodes;
mod options;
mod predicate;
mod python;
mod query;
mod rows;
pub mod script;
#[cfg(test)]
mod tests;
pub mod write;

pub use python::SCRIPT_BYTES_MAX;
