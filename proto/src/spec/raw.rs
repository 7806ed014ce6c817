//! Keys as written.
