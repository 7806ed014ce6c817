//! One job of a story: its job files, its stream, its lookup, its folders.
//!
//! Owns: what belongs to one job, and where it is stored. Does not own: when a job is submitted or
//! changed (`chaos`, `world`).
//! Rule: no two jobs of a story share a folder or a stream; their shards nevertheless have the same
//! names.

use super::stream::{SharedStream, Stream};
use super::texts::{Common, Texts};
use fastrand::Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_proto::JobName;
use streamctl_proto::spec::Location;

/// Retries of a healthy job: no series of faults may use them up.
const RETRIES: u32 = 100;
/// Retries of a job that may fail.
const ILL_RETRIES: u32 = 3;

/// The location of a job's output.
pub fn sink(job: &JobName) -> String {
    format!("s3://sim/{job}/out/")
}

/// The location of a job's manifests.
pub fn checkpoint(job: &JobName) -> Location {
    Location::folder(&format!("s3://sim/{job}/checkpoint/"))
}

/// The location of a job's lookup.
pub fn lookup(job: &JobName) -> String {
    format!("s3://sim/{job}/lookup/")
}

/// A defect of a job, so that it may end as failed. It must not harm another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Illness {
    /// Its query fails on one of its records.
    FailingRecord,
    /// One of its records crashes each worker that reads it.
    DeadlyRecord,
}

impl Illness {
    /// The fault that is counted when the record is put.
    pub fn fault(self) -> &'static str {
        match self {
            Self::FailingRecord => "job: a record that its query fails on",
            Self::DeadlyRecord => "job: a record that ends its worker",
        }
    }
}

pub struct SimJob {
    pub name: JobName,
    pub texts: Arc<Texts>,
    /// Rows of an object are in the order of their shard; a join does not keep it.
    pub ordered: bool,
    /// Its defect; `None`: it must commit everything.
    pub illness: Option<Illness>,
    /// Its rows go through a function, and have the number of their batch.
    pub has_function: bool,
    /// Its old epochs are removed.
    pub forgets: bool,
    pub rate: u32,
    pub stream: SharedStream,
    /// Versions of the lookup so far.
    pub lookup_version: u32,
    /// The job's submission was confirmed to the user.
    pub submitted: Arc<AtomicBool>,
}

impl SimJob {
    /// A random job with this polling interval; `number` makes its name.
    pub fn new(
        rng: &mut Rng,
        number: usize,
        interval: &'static str,
        rate: u32,
        stream: Stream,
    ) -> Self {
        Self::with_illness(rng, number, interval, rate, stream, None)
    }

    /// The same, with a defect.
    pub fn with_illness(
        rng: &mut Rng,
        number: usize,
        interval: &'static str,
        rate: u32,
        stream: Stream,
        illness: Option<Illness>,
    ) -> Self {
        let name: JobName = format!("job-{number}").parse().expect("it is a name");
        let window_ms = [1_000, 2_000, 3_000][rng.usize(0..3)];
        let kind = rng.u8(0..6);
        let partitioned = rng.u8(0..3) == 0;
        let retries = if illness.is_some() {
            ILL_RETRIES
        } else {
            RETRIES
        };
        let records = rng.u32(3..200);
        let function = match rng.u8(0..6) {
            0 => Some("per = \"window\"\n"),
            1 => Some("per = \"batch\"\n"),
            2 => Some("per = \"key\"\nby = [\"k\"]\n"),
            _ => None,
        };
        // Without a draw: the stories of the seeds stay as they are.
        let forgets = rng.clone().u8(0..5) == 0;
        let common = Common {
            job: name.clone(),
            joins: kind != 1,
            partitioned,
            interval,
            records,
            retries,
            forgets,
            fails_on_bad_rows: illness == Some(Illness::FailingRecord),
            function,
        };
        Self {
            name,
            texts: Arc::new(Texts::new(common, window_ms, kind == 0)),
            ordered: kind == 1,
            illness,
            has_function: function.is_some(),
            forgets,
            rate,
            stream: Arc::new(Mutex::new(stream)),
            lookup_version: 0,
            submitted: Arc::default(),
        }
    }

    pub fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its submission was confirmed to the user.
    pub fn is_submitted(&self) -> bool {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Whether it reads a record that must make it fail.
    pub fn is_doomed(&self) -> bool {
        self.stream().must_fail()
    }
}
