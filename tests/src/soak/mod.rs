//! A long run under load: does anything grow, does everything come out once?
//!
//! Owns: the load, what is restarted and resharded on the way, the samples, the verdict. Does not
//! own: how parts start.
//! Rule: what must stay flat is judged on processes that ran from the second quarter to the end
//! without a restart; what was written is known by its count alone, and read by a reader that is
//! not ours.

pub mod flat;
pub mod plan;
pub mod run;
pub mod stall;

pub use plan::Plan;
pub use run::run;
