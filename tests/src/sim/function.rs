//! Functions that fail at random.
//!
//! Owns: how often a call fails, and how. Does not own: the function (`worker::function::fake`),
//! the verdict ([`super::oracle`]).
//! Rule: a calm world has functions that work.

use super::weather::Weather;
use std::sync::Arc;
use streamctl_worker::function::Call;
use streamctl_worker::function::fake::{Ending, Script};

/// Per thousand calls: more than a job has at once, so that windows are tried again and again.
const FAILURES: u32 = 60;

/// The columns of a job's result, its function's own among them.
pub const SCHEMA: &str = "[function.schema]\nid = \"string\"\nk = \"string\"\nn = \"int\"\nmade_by = \"bigint\"\n\
     batch_id = \"bigint\"\n";
/// The column of the lookup, of jobs that join.
pub const SCHEMA_OF_LOOKUP: &str = "v = \"string\"\n";

/// What the functions of one place do.
pub struct Unreliable {
    pub weather: Arc<Weather>,
    pub place: String,
}

impl std::fmt::Debug for Unreliable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "functions of {}", self.place)
    }
}

impl Script for Unreliable {
    fn next(&self, call: &Call) -> Ending {
        let dice = self.weather.roll(|rng| rng.u32(0..1_000));
        if dice >= FAILURES || !self.weather.is_wild() {
            return Ending::Returns;
        }
        let (ending, fault) = match dice % 3 {
            0 => (Ending::Raises, "function: raised"),
            1 => (Ending::IsKilled, "function: killed"),
            _ => (Ending::TimesOut, "function: timed out"),
        };
        self.weather.count(fault);
        self.weather.note(|| {
            format!(
                "{}: {fault}, batch {} of {}, try {}",
                self.place, call.batch_id, call.job, call.attempt
            )
        });
        ending
    }
}
