//! Every key of the store, made in one place.
//!
//! Rule: `/streamctl/<cluster>/` before everything: clusters share a store and never see each
//! other's keys.

use streamctl_proto::JobName;

/// The keys of one cluster.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

/// What a key below `jobs/` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKey {
    Spec,
    Wanted,
    Head,
    /// Its last published epoch.
    Published,
    /// Dead letters to replay; absent before the first request.
    Replays,
    /// Manual repairs; absent before the first.
    Repairs,
    /// From which epoch on history is kept; absent before the first waypoint.
    Anchor,
}

impl JobKey {
    const ALL: [Self; 7] = [
        Self::Spec,
        Self::Wanted,
        Self::Head,
        Self::Published,
        Self::Replays,
        Self::Repairs,
        Self::Anchor,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Wanted => "wanted",
            Self::Head => "head",
            Self::Published => "published",
            Self::Replays => "replays",
            Self::Repairs => "repairs",
            Self::Anchor => "anchor",
        }
    }
}

impl Keys {
    /// Keys of this cluster; its name has no slash (the settings check this).
    pub fn new(cluster: &str) -> Self {
        Self {
            prefix: format!("/streamctl/{cluster}/"),
        }
    }
    pub fn leader(&self) -> String {
        format!("{}leader", self.prefix)
    }
    /// The last term, for stores that count it themselves.
    pub fn term(&self) -> String {
        format!("{}term", self.prefix)
    }
    /// The number to add to revisions to get terms, for stores that count revisions; absent: 0.
    pub fn term_base(&self) -> String {
        format!("{}term-base", self.prefix)
    }
    /// The prefix of the blocks of the journal.
    pub fn journal(&self) -> String {
        format!("{}journal/", self.prefix)
    }
    /// One block of the journal.
    pub fn journal_block(&self, number: u64) -> String {
        format!("{}journal/{number:016x}", self.prefix)
    }
    /// The prefix of the keys of all jobs.
    pub fn jobs(&self) -> String {
        format!("{}jobs/", self.prefix)
    }
    /// The prefix of the keys of one job.
    pub fn job(&self, job: &JobName) -> String {
        format!("{}jobs/{job}/", self.prefix)
    }
    /// One key of a job.
    pub fn of(&self, job: &JobName, key: JobKey) -> String {
        format!("{}jobs/{job}/{}", self.prefix, key.as_str())
    }
    /// The job and the kind of a key; none for a key that is not a job's (a later build's).
    pub fn parse(&self, key: &str) -> Option<(JobName, JobKey)> {
        let (job, last) = key.strip_prefix(&self.jobs())?.split_once('/')?;
        let kind = JobKey::ALL.into_iter().find(|kind| kind.as_str() == last)?;
        Some((job.parse().ok()?, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_job_is_read_as_what_it_was_made_for() {
        let keys = Keys::new("c");
        let job: JobName = "a".parse().unwrap();
        for kind in JobKey::ALL {
            assert_eq!(keys.parse(&keys.of(&job, kind)), Some((job.clone(), kind)));
        }
        assert_eq!(keys.of(&job, JobKey::Head), "/streamctl/c/jobs/a/head");
    }

    #[test]
    fn foreign_keys_have_no_owner() {
        let keys = Keys::new("c");
        for foreign in [
            "/streamctl/c/leader",
            "/streamctl/d/jobs/a/spec",
            "/streamctl/c/jobs/a/later",
            "x",
        ] {
            assert_eq!(keys.parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn keys_of_a_job_are_not_below_those_of_one_whose_name_it_begins_with() {
        let keys = Keys::new("c");
        let short = "a".parse().unwrap();
        let long = "a-b".parse().unwrap();
        assert!(!keys.of(&long, JobKey::Spec).starts_with(&keys.job(&short)));
    }
}
