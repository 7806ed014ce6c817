//! The data logic that controller and worker share.
//!
//! Owns: sources ([`source`]), formats ([`format`]) and sinks ([`sink`]) by kind, times and numbers
//! from text ([`values`]), a job's own function ([`function`]), object storage ([`storage`]), AWS
//! clients ([`aws`]), the Data Catalog as source ([`catalog`]) and of the sink's files
//! ([`data_catalog`]), Iceberg tables ([`iceberg`]), lookup versions
//! and their rows ([`lookup`]), the query ([`query`]), resolving a job file against the outside
//! world ([`resolve`]), and the plumbing of the programs: HTTP servers ([`http`]), protection
//! ([`security`]), metrics ([`metrics`]). Does not own: windows, the commit.
//! Rule: a question about data has the same answer everywhere: for the controller at submit, a
//! worker at run time, a replay next week.

pub mod aws;
pub mod calls;
pub mod catalog;
pub mod clock;
pub mod data_catalog;
pub mod dead_letters;
pub mod foreign_answer;
pub mod format;
pub mod function;
mod host;
pub mod http;
pub mod iceberg;
pub mod lookup;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod query;
pub mod resolve;
pub mod security;
pub mod sink;
pub mod source;
pub mod storage;
pub mod traces;
pub mod values;
pub mod written;
