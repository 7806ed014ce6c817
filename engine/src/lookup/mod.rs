//! Tables to join with: which version is current, the stored copy of it, and its rows.
//!
//! Owns: versions ([`version`]), rows ([`rows`]), whether a version may be used ([`accept`]). Does
//! not own: when a window takes a new one (the controller's core).
//! Rule: a version that a window names stays readable and unchanged, whatever happens to the files
//! that it came from.

pub mod accept;
mod csv_file;
mod folders;
mod parquet_file;
mod room;
pub mod rows;
#[cfg(test)]
mod tests;
mod text;
pub mod trial;
mod unite;
pub mod version;

pub use version::{Listed, LookupError, current_version, fetch, keep, kept_bytes};
