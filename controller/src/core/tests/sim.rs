//! A model world, to come.
