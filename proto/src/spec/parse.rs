//! From the text of a job file to a checked [`JobSpec`].

use super::{JobSpec, Problems};

impl JobSpec {
    /// Reads and checks a job file; says everything that is wrong with it, not just the first thing.
    pub fn parse(_text: &str) -> Result<JobSpec, Problems> {
        Err(Problems(vec![]))
    }
}
