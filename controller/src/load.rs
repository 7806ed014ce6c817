//! What a leader reads of its jobs before it leads, and reading an unreadable job again.
//!
//! Owns: reading heads and what follows them, the error of an unreadable job. Does not own: whether
//! a store is older than the checkpoint location ([`crate::restored`]), when to read again (core).
//! Rule: data of one job stops only that job. The caller retries temporary errors.

use crate::checkpoints::{CheckpointError, Checkpoints};
use crate::restored::{Last, Standing, epoch_of, judge, last_of, published_before};
use crate::sink::{Committer, committer};
use crate::store::{Store, StoredJob};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;
use streamctl_core::{Event, JobEvent, LoadedJob};
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::{
    Epoch, JobVersion, LookupVersion, Manifest, ManifestRef, ResolvedJob, Term, describe,
};

/// Jobs that are read at the same time.
pub const JOBS_READ_AT_ONCE_MAX: usize = 16;

/// The result of reading one job.
#[derive(Debug)]
pub struct Read {
    /// `JobLoaded`, or `JobUnreadable`.
    pub event: Event,
    /// The highest term in its manifests.
    pub highest_term: Term,
}

/// The result of reading all jobs.
#[derive(Debug)]
pub struct Loaded {
    pub events: Vec<Event>,
    /// The highest term found. The leader's own term is higher, unless its store was restored from
    /// a copy and counts terms again.
    pub highest_term: Term,
}

/// Why a job cannot be led.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The manifest of its head, or something that it names, cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A stored value of it cannot be used.
    #[error("{0}")]
    Stored(String),
    /// The store was restored from a copy.
    #[error(
        "the store is older than the checkpoint location: its head is epoch {head}, and epochs up \
         to {up_to} are there"
    )]
    Older {
        head: Epoch,
        /// The highest epoch that has a manifest.
        up_to: Epoch,
    },
    /// The store was restored from a copy that is older than the history that is kept.
    #[error(
        "the store is older than the history that is kept: its head is epoch {head}, whose manifest \
         is gone, and epochs up to {up_to} are there"
    )]
    OlderThanKept {
        head: Epoch,
        /// The highest epoch that has a manifest.
        up_to: Epoch,
    },
    /// The store was restored from a copy, and the job continued from there.
    #[error(
        "the checkpoint location holds epochs up to {up_to} that do not continue the store's \
         head, which is epoch {head}"
    )]
    Foreign {
        head: Epoch,
        /// The highest epoch that has a manifest.
        up_to: Epoch,
    },
}

impl Unreadable {
    pub fn hint(&self, job: &ResolvedJob) -> String {
        let name = &job.spec.name;
        let checkpoint = &job.spec.checkpoint;
        match self {
            Self::Checkpoint(CheckpointError::Storage(StorageError::Refused { hint, .. })) => {
                format!("{hint}; the job is read again every minute, and when it is submitted \
                 again")
            }
            Self::Checkpoint(_) => {
                "restore the checkpoint location; the job is read again every minute, and when it is \
                                    submitted again"
                    .to_owned()
            }
            Self::Stored(_) => "use the build that wrote it, or a later one; or restore the store".to_owned(),
            Self::Older { .. } => format!(
                "`streamctl repair {name}` (after `streamctl run`: `streamctl repair --local FILE`) moves the head along the \
                 epochs that were committed, so that nothing is read twice; or bring the later store back"
            ),
            Self::OlderThanKept { .. } => format!(
                "bring a later copy of the store back: one that is not older than `keep` of the job; without one, nothing \
                 proves which epochs were committed. To begin anew, move {checkpoint}{name}/ away and delete the job"
            ),
            Self::Foreign { .. } => format!(
                "bring the store back that made those epochs; or, to go on from the store's head, move their manifests out \
                 of {checkpoint}{name}/epochs/ and what they published out of the sink, then submit the job again"
            ),
        }
    }
}

/// Reads all jobs of the store.
///
/// # Errors
/// Temporary: the store, or a checkpoint location, does not answer.
pub async fn load(store: &dyn Store, storages: &Storages) -> Result<Loaded, String> {
    let stored = store.load().await.map_err(|error| describe(&error))?;
    let reads = stored
        .into_iter()
        .map(|stored| read(storages, stored).boxed());
    let read: Vec<Read> = stream::iter(reads)
        .buffered(JOBS_READ_AT_ONCE_MAX)
        .try_collect()
        .await
        .map_err(|error: CheckpointError| describe(&error))?;
    let highest_term = read
        .iter()
        .map(|read| read.highest_term)
        .max()
        .unwrap_or_default();
    Ok(Loaded {
        events: read.into_iter().map(|read| read.event).collect(),
        highest_term,
    })
}

/// Reads one job; if something is wrong with it, the result is an event too.
///
/// # Errors
/// Temporary: its checkpoint location does not answer.
pub async fn read(storages: &Storages, stored: StoredJob) -> Result<Read, CheckpointError> {
    let job = stored.job.clone();
    let repairs = stored.repairs.clone();
    let mut highest_term = Term(0);
    match read_job(storages, stored, &mut highest_term).await {
        Ok(event) => Ok(Read {
            event,
            highest_term,
        }),
        Err(Unreadable::Checkpoint(error)) if error.is_transient() => Err(error),
        Err(unreadable) => {
            let error = describe(&unreadable);
            let hint = unreadable.hint(&job);
            tracing::error!(job = %job.spec.name, error, hint, "the job cannot be led");
            Ok(Read {
                event: Event::Job {
                    job: job.spec.name.clone(),
                    event: JobEvent::Unreadable {
                        job: Box::new(job),
                        error,
                        hint,
                        repairs,
                    },
                },
                highest_term,
            })
        }
    }
}

async fn read_job(
    storages: &Storages,
    stored: StoredJob,
    highest_term: &mut Term,
) -> Result<Event, Unreadable> {
    let StoredJob {
        job,
        wanted,
        head,
        published,
        replays,
        repairs,
        anchors,
        broken,
    } = stored;
    if let Some(broken) = broken {
        return Err(Unreadable::Stored(broken));
    }
    let checkpoints = Checkpoints::of(storages, &job);
    let mut newest = None;
    let mut unpublished = vec![];
    let mut lookups = BTreeMap::new();
    if let Some(head) = &head {
        let manifest = read_head(&checkpoints, head).await?;
        *highest_term = manifest.term;
        lookups = lookups_in_use(&checkpoints, &job, &manifest).await?;
        newest = Some(Box::new(manifest));
    }
    let committer = committer(storages, &job);
    check_standing(&*committer, &checkpoints, head.as_ref(), highest_term).await?;
    if let Some(head) = head.filter(|head| published < head.epoch) {
        unpublished = checkpoints.read_back(&head, published).await?;
    }
    Ok(Event::loaded(LoadedJob {
        job,
        wanted,
        head: newest,
        unpublished,
        published,
        replays,
        lookups,
        repairs,
        anchors,
    }))
}

/// The manifest of the head. If it is not there and later ones are, history was cut after the store
/// was copied.
async fn read_head(checkpoints: &Checkpoints, head: &ManifestRef) -> Result<Manifest, Unreadable> {
    let error = match checkpoints.read_manifest(head).await {
        Ok(manifest) => return Ok(manifest),
        Err(error) => error,
    };
    if let CheckpointError::Storage(StorageError::NotFound { .. }) = error
        && let Some((up_to, _)) = checkpoints.list_after(head.epoch).await?.last_key_value()
    {
        return Err(Unreadable::OlderThanKept {
            head: head.epoch,
            up_to: *up_to,
        });
    }
    Err(error.into())
}

/// The lookup versions that the head used, of unchanged lookups. The next windows begin with them,
/// so that a lookup that cannot be read now does not block the job.
async fn lookups_in_use(
    checkpoints: &Checkpoints,
    job: &ResolvedJob,
    head: &Manifest,
) -> Result<BTreeMap<String, LookupVersion>, CheckpointError> {
    if job.spec.lookups.is_empty() {
        return Ok(BTreeMap::new());
    }
    let made_by = match checkpoints.version(job, head.job_version()).await {
        Ok(made_by) => made_by,
        Err(error) if error.is_transient() => return Err(error),
        Err(_) => return Ok(BTreeMap::new()),
    };
    let is_same = |name: &String| {
        let of = |job: &ResolvedJob| {
            let spec = job.spec.lookups.iter().find(|spec| spec.name == *name)?;
            Some((spec.clone(), job.lookup_columns.get(name).cloned()))
        };
        of(&made_by)
            .zip(of(job))
            .is_some_and(|(used, now)| used.0.reads_as(&now.0) && used.1 == now.1)
    };
    let versions = head.lookups.iter().filter(|(name, _)| is_same(name));
    Ok(versions
        .map(|(name, version)| (name.clone(), version.clone()))
        .collect())
}

/// Refuses a head that is older than what was committed.
async fn check_standing(
    committer: &dyn Committer,
    checkpoints: &Checkpoints,
    head: Option<&ManifestRef>,
    highest_term: &mut Term,
) -> Result<(), Unreadable> {
    let stands = epoch_of(head);
    let Some(after) = after_head(committer, checkpoints, head).await? else {
        return Ok(());
    };
    *highest_term = after.highest_term.max(*highest_term);
    match after.standing {
        Standing::Current => Ok(()),
        Standing::Behind => Err(Unreadable::Older {
            head: stands,
            up_to: after.up_to,
        }),
        Standing::Foreign => Err(Unreadable::Foreign {
            head: stands,
            up_to: after.up_to,
        }),
    }
}

/// What the manifests after a head show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterHead {
    /// The relation of the head to them.
    pub standing: Standing,
    /// The last epoch that has one.
    pub up_to: Epoch,
    /// The highest term of those that were read: of the first two epochs, and of the last.
    pub highest_term: Term,
}

/// Examines the manifests after a head; returns none if there are none.
///
/// # Errors
/// They cannot be listed or read.
pub async fn after_head(
    committer: &dyn Committer,
    checkpoints: &Checkpoints,
    head: Option<&ManifestRef>,
) -> Result<Option<AfterHead>, CheckpointError> {
    let stands = epoch_of(head);
    let listed = checkpoints.list_after(stands).await?;
    let Some((up_to, last)) = listed.last_key_value() else {
        return Ok(None);
    };
    let nothing = vec![];
    let locations = |epoch: Epoch| listed.get(&epoch).unwrap_or(&nothing);
    let first = stands.next();
    let second = stands.next().next();
    let next = checkpoints
        .read_written(committer, first, locations(first))
        .await?;
    let after_next = checkpoints
        .read_written(committer, second, locations(second))
        .await?;
    // A repair moves the head there, so this leader's term must be above that one's, too.
    let last = if *up_to > second {
        checkpoints.read_written(committer, *up_to, last).await?
    } else {
        vec![]
    };
    let terms = next
        .iter()
        .chain(&after_next)
        .chain(&last)
        .map(|written| written.manifest.term);
    let highest_term = terms.max().unwrap_or_default();
    Ok(Some(AfterHead {
        standing: judge(head, &next, &after_next, *up_to),
        up_to: *up_to,
        highest_term,
    }))
}

/// The epochs after a head that were committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedSince {
    pub last: ManifestRef,
    /// The version of the job that made it.
    pub job_version: JobVersion,
    /// Epochs up to this one were published.
    pub published: Epoch,
}

/// Why a head cannot be moved along what was committed after it.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// A manifest cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is nothing to move it to.
    #[error("no epoch after {0} was committed, as far as anything shows")]
    Nothing(Epoch),
    /// There are two manifests, and nothing shows which of them was committed.
    #[error(
        "there are several manifests of epoch {0}, and nothing says which of them was committed"
    )]
    Undecided(Epoch),
    /// The chain does not lead to the head.
    #[error(
        "the manifests of the later epochs do not continue the store's head, which is epoch {0}"
    )]
    Foreign(Epoch),
}

/// Walks from the last committed epoch back to the head, and verifies every step by its digest.
///
/// # Errors
/// [`NoWay`] is the reason why the head cannot be moved.
pub async fn committed_since(
    storages: &Storages,
    job: &ResolvedJob,
    head: Option<&ManifestRef>,
) -> Result<CommittedSince, NoWay> {
    let checkpoints = Checkpoints::of(storages, job);
    let stands = epoch_of(head);
    let listed = checkpoints.list_after(stands).await?;
    let Some((highest, locations)) = listed.last_key_value() else {
        return Err(NoWay::Nothing(stands));
    };
    let committer = committer(storages, job);
    let written = checkpoints
        .read_written(&*committer, *highest, locations)
        .await?;
    let last = match last_of(&written) {
        Last::This(last) => last,
        Last::Before(last) if last.epoch > stands => last,
        Last::Before(_) => return Err(NoWay::Nothing(stands)),
        Last::Undecided => return Err(NoWay::Undecided(*highest)),
    };
    let mut published = Epoch(0);
    let mut noted = vec![];
    let mut job_version = None;
    let mut next = Some(last.clone());
    while let Some(reference) = next.filter(|reference| reference.epoch > stands) {
        let manifest = checkpoints.read_manifest(&reference).await?;
        job_version = job_version.or(Some(manifest.job_version()));
        if manifest.repair.is_none() {
            published = published.max(published_before(manifest.epoch));
        }
        if reference.epoch > published {
            noted.push((reference.epoch, checkpoints.is_noted(&reference).await?));
        }
        if reference.epoch == stands.next() && manifest.previous.as_ref() != head {
            return Err(NoWay::Foreign(stands));
        }
        next = checkpoints.before(&manifest)?;
    }
    // Epochs are published one after the other: the first that is not noted may have been published
    // in part.
    for (epoch, _) in noted
        .into_iter()
        .rev()
        .take_while(|(_, is_noted)| *is_noted)
    {
        published = epoch;
    }
    let job_version = job_version.unwrap_or(job.job_version);
    Ok(CommittedSince {
        last,
        job_version,
        published,
    })
}
