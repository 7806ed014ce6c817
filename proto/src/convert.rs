//! Messages to and from domain types.
