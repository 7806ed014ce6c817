//! A long run under load: checks that nothing grows and that every record comes out once.
//!
//! Owns: the load, the restarts and resharding on the way, the samples, the verdict. Does not own:
//! how parts start.
//! Rule: flatness is judged on processes that ran from the second quarter to the end without a
//! restart; the written records are known by their count alone, and an independent reader reads
//! them.

pub mod flat;
pub mod plan;
pub mod run;
pub mod stall;

pub use plan::Plan;
pub use run::run;
