//! Lookups: tables that the stream's rows are joined with.
//!
//! Owns: their rows ([`rows`]).

pub mod rows;
