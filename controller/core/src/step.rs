//! What a decision about one job depends on besides the job, and the effects that it requests.
//!
//! Rule: a decision about a job sees the workers and the settings, and no other job.

use super::task_index::TaskIndex;
use super::{CoreSettings, Effect, Worker};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{Term, WorkerId};

pub(crate) struct Step<'a> {
    pub now: i64,
    pub term: Term,
    /// A new leader waits for the tasks of earlier leaders.
    pub adopting: bool,
    pub settings: &'a CoreSettings,
    pub workers: &'a BTreeMap<WorkerId, Worker>,
    /// Names new tasks.
    pub tasks: &'a mut TaskIndex,
    pub out: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// The workers that may take tasks.
    pub fn takers(&self) -> BTreeSet<WorkerId> {
        let takers = self.workers.iter().filter(|(_, it)| it.takes_tasks());
        takers.map(|(id, _)| id.clone()).collect()
    }
}
