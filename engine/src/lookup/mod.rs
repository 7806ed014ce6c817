//! Tables to join with: which version is current, the stored copy of it, and its rows.
//!
//! Owns: versions ([`version`]), rows ([`rows`]). Does not own: when a window takes a new one (the
//! controller's core).
//! Rule: a version that a window names stays readable and unchanged, whatever happens to the files
//! that it came from.

pub mod rows;
pub mod version;

pub use version::{Listed, LookupError, current_version, fetch, keep, kept_bytes};
