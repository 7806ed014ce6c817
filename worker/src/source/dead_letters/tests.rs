//! The reader over objects in memory.
