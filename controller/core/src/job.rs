//! One job: its shards, tasks and open windows, and the epoch being committed.
//!
//! Owns: what is read, reported and committed, one topic per file. Does not own: which workers live
//! and where tasks run (`assign`).
//! Rule: `reached` moves only by accepted reports, `committed` only by `HeadMoved`; both move only
//! forward (I2, I3).

mod avoid;
mod byte_rate;
mod changing;
mod commit;
mod deaths;
pub mod history;
mod lineage;
mod noted;
pub mod profile;
mod refusals;
mod repairing;
mod replaying;
mod reports;
mod retention;
mod shard;
mod stall;
mod stream;
mod tasks;
mod unreadable;

pub use avoid::{
    AvoidTimes, Avoided, AvoidedFor, REFUSAL_ROUNDS_AGREED_MAX, REFUSAL_ROUNDS_ALONE_MAX,
    REFUSED_WORKERS_MAX, Refusal,
};
pub use changing::{Change, RefusedChange};
pub use commit::{Committing, EpochFigures};
pub use deaths::{Death, Deaths, SUSPECT_DEATHS};
pub use refusals::Refusals;
pub use repairing::Repairing;
pub use replaying::{ReplayState, is_dead_letters};
pub use reports::OpenWindow;
pub use retention::RetentionState;
pub use shard::Shard;
pub use stall::Stall;
pub(crate) use stall::wait;
pub(crate) use tasks::count_try;
pub use tasks::{Task, TaskState};
pub use unreadable::Unreadable;

use super::effect::EffectKind;
use super::event::Stuck;
use super::journal::Note;
use crate::stored::{Anchors, DesiredState, Repair};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use streamctl_proto::manifest::ManifestRef;
use streamctl_proto::resolved::{StreamFacts, StreamIdentity};
use streamctl_proto::{
    Counts, Duplicates, Epoch, JobName, LookupVersion, Manifest, ResolvedJob, ShardId, TaskId,
    Watermark, Window, WorkerId,
};

/// Most windows of a job that may be open, or reported and not committed. This limits how far a
/// fast task runs ahead of a slow one.
pub const WINDOWS_AHEAD_MAX: usize = 16;
/// Most epochs that may be committed and not yet published.
pub const PUBLISH_BACKLOG_MAX: usize = 8;
/// Most epochs that are handed to the sink at once: in a backlog, all of it.
pub const PUBLISH_TOGETHER_MAX: usize = PUBLISH_BACKLOG_MAX;
/// Most epochs whose figures are kept in memory; older ones are read from their manifests.
pub const RECENT_EPOCHS_MAX: usize = 200;

/// Most windows that a task may have requested and not been sent, in addition to one for each of
/// its shards.
pub const ASKED_MAX: usize = 64;

/// Most tasks whose workers are remembered, to fetch results from them.
pub const TASK_WORKERS_MAX: usize = 1_000;

/// The state of a lookup.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The version that the next window uses.
    pub version: Option<LookupVersion>,
    pub rows: u64,
    /// Keys that more than one of its rows has.
    pub duplicates: Duplicates,
    /// A newer version that no window may use.
    pub refused: Option<LookupVersion>,
    /// When it was last seen to have this version.
    pub seen_ms: i64,
    /// Why it is not newer.
    pub problem: Option<String>,
    pub check_at_ms: i64,
    pub checking: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub asked: u64,
    /// The last listing request that was answered.
    pub answered: u64,
    /// Nothing is committed before this request is answered, because children may be missing.
    pub needed: u64,
    pub again_at_ms: i64,
}

/// How long a drain may take beyond the end of its last window. After that, the rest is given up.
pub const DRAIN_GRACE_MS: i64 = 60_000;

/// The extent of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Windows that end at or before this time are finished.
    pub until_ms: i64,
    /// When the drain is given up.
    pub give_up_ms: i64,
}

/// What a drain did not finish. It is read again when the job continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDrained {
    /// None: from the start of the job.
    pub from_ms: Option<i64>,
    /// Up to this time. None: a new leader took over, and does not know it.
    pub until_ms: Option<i64>,
}

/// What is being retried while the job cannot continue, or not as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delay {
    Effect(EffectKind),
    Task,
}

impl Delay {
    pub fn label(self) -> &'static str {
        match self {
            Self::Effect(kind) => kind.label(),
            Self::Task => "task",
        }
    }

    /// The stage that is delayed, and the service.
    pub(crate) fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Effect(kind) => (kind.stage(), kind.service()),
            Self::Task => ("task", "worker"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Job {
    /// The resolved job of submit: the version that makes the next epoch.
    pub resolved: ResolvedJob,
    /// The identity of its stream; none until it is known.
    pub identity: Option<StreamIdentity>,
    /// Stream facts of the last listing; none before the first.
    pub stream: Option<StreamFacts>,
    pub wanted: DesiredState,
    /// The desired state is being written to the store.
    pub recording: bool,
    /// The extent of a drain. None: the job does not drain, or an earlier leader started the drain.
    pub drain: Option<Drain>,
    /// What the last drain did not finish.
    pub not_drained: Option<NotDrained>,
    /// The last committed epoch.
    pub head: Option<ManifestRef>,
    /// The end of the last committed window.
    pub head_end: Watermark,
    /// The last published epoch.
    pub published: Epoch,
    pub totals: Counts,
    pub shards: BTreeMap<ShardId, Shard>,
    pub tasks: BTreeMap<TaskId, Task>,
    /// Workers that had a task of the job. They may hold reports, and are informed of commits.
    pub commit_subscribers: BTreeSet<WorkerId>,
    /// Windows after the head that a task has opened.
    pub windows: BTreeMap<Window, OpenWindow>,
    /// How often a task left a window after the head without reporting it; none: never.
    pub tries: BTreeMap<Window, u32>,
    /// Tasks that wait for a window to open.
    pub waiting: BTreeSet<(Window, TaskId)>,
    /// The epoch that is being committed.
    pub committing: Option<Committing>,
    /// Committed epochs that are not yet published; the first ones are being published.
    pub publishing: VecDeque<Manifest>,
    pub lookups: BTreeMap<String, Lookup>,
    /// When to check again whether an epoch without records is due; none: at once.
    pub idle_check_at_ms: Option<i64>,
    pub listing: Listing,
    /// Tasks that failed since the last commit.
    pub failures: u32,
    /// Tasks that failed since this term began.
    pub retries: u64,
    /// The job's position cannot be read. The job must not run until it is known.
    pub unreadable: Option<Unreadable>,
    /// Manual repairs, oldest first.
    pub repairs: Vec<Repair>,
    /// Set if its first unpublished epoch has lost objects.
    pub stuck: Option<Stuck>,
    pub repairing: Option<Repairing>,
    /// When to sweep orphans again; none: at once.
    pub sweep_at_ms: Option<i64>,
    /// No task starts before this time.
    pub pause_until_ms: Option<i64>,
    /// The last error of each effect that is being retried.
    pub delays: BTreeMap<Delay, String>,
    /// Workers that are avoided, or were until a short time ago.
    pub avoided: BTreeMap<WorkerId, Avoided>,
    /// Workers that died with tasks of the job.
    pub deaths: Deaths,
    /// Rounds since the last commit in which every worker was refused.
    pub refusal_rounds: u32,
    /// Workers whose messages about its tasks were refused; at most as many as there are.
    pub refusals: BTreeMap<WorkerId, Refusals>,
    /// What happened to it in this step; at the latest the next tick moves it to the journal.
    pub notes: Vec<Note>,
    /// What is stalled.
    pub stall: Stall,
    pub recent: VecDeque<EpochFigures>,
    /// What the operators of its query did in the last windows.
    pub profiles: profile::Profiles,
    /// Its figures over time.
    pub history: history::JobHistory,
    /// Dead letters to replay.
    pub replays: ReplayState,
    /// What of its history is kept.
    pub retention: RetentionState,
    /// The version that waits to take over.
    pub changing: Option<Change>,
    /// The last version that the store refused.
    pub refused_change: Option<RefusedChange>,
    /// The last epoch of the previous version, as far as this leader saw it.
    pub took_over_after: Epoch,
    /// Something changed that the assignment of shards depends on.
    pub plan_due: bool,
    /// When workers that get much more bytes than others are looked for.
    pub spread_at_ms: Option<i64>,
    /// They are looked for with the next plan.
    pub spread_wanted: bool,
    /// Released shards are given out by their bytes, not to the workers that had them.
    pub is_spreading: bool,
    /// The first shard that was not past a window at the last check. All shards before it are past.
    not_past: Option<(Window, ShardId)>,
    /// The workers of the last tasks, live or not, to fetch results from. At most
    /// [`TASK_WORKERS_MAX`].
    pub task_workers: BTreeMap<TaskId, WorkerId>,
}

impl Job {
    /// A job of which nothing has been read.
    pub fn new(resolved: ResolvedJob) -> Self {
        let lookups = resolved
            .spec
            .lookups
            .iter()
            .map(|spec| (spec.name.clone(), Lookup::default()))
            .collect();
        let submitted_ms = resolved.submitted_ms;
        Self {
            identity: resolved.stream_identity.clone(),
            stream: None,
            resolved,
            wanted: DesiredState::Running,
            drain: None,
            not_drained: None,
            recording: false,
            head: None,
            head_end: Watermark::Unknown,
            published: Epoch(0),
            totals: Counts::default(),
            shards: BTreeMap::new(),
            tasks: BTreeMap::new(),
            commit_subscribers: BTreeSet::new(),
            windows: BTreeMap::new(),
            tries: BTreeMap::new(),
            waiting: BTreeSet::new(),
            committing: None,
            publishing: VecDeque::new(),
            lookups,
            idle_check_at_ms: None,
            listing: Listing::default(),
            failures: 0,
            retries: 0,
            unreadable: None,
            repairs: vec![],
            stuck: None,
            repairing: None,
            sweep_at_ms: None,
            pause_until_ms: None,
            delays: BTreeMap::new(),
            avoided: BTreeMap::new(),
            refusal_rounds: 0,
            deaths: Deaths::default(),
            refusals: BTreeMap::new(),
            notes: vec![],
            stall: Stall::default(),
            recent: VecDeque::new(),
            profiles: profile::Profiles::default(),
            history: history::JobHistory::default(),
            replays: ReplayState::default(),
            retention: RetentionState::new(Anchors::of(submitted_ms)),
            changing: None,
            refused_change: None,
            took_over_after: Epoch(0),
            plan_due: true,
            spread_at_ms: None,
            spread_wanted: false,
            is_spreading: false,
            not_past: None,
            task_workers: BTreeMap::new(),
        }
    }

    /// Bytes per second of a shard; 0: not measured.
    pub(crate) fn rate_of(&self, id: &ShardId) -> u64 {
        let shard = self.shards.get(id);
        shard
            .and_then(|shard| shard.byte_rate.per_second())
            .unwrap_or(0)
    }

    /// Restores the job to its position in the store.
    pub fn restore(
        &mut self,
        head: Option<&Manifest>,
        unpublished: Vec<Manifest>,
        published: Epoch,
    ) {
        if let Some(manifest) = head {
            let (_, reference) = manifest.encode();
            self.recent
                .push_back(EpochFigures::of(manifest, &reference.name));
            self.history.before = Some(reference.clone());
            self.head = Some(reference);
            self.head_end = Watermark::At(manifest.window.end_ms);
            self.totals = manifest.totals;
            self.identity = self.identity.take().or_else(|| manifest.stream.clone());
            for (id, frontier) in &manifest.frontier {
                let position = frontier.position.clone();
                let parents = frontier.parents.clone();
                let mut shard =
                    Shard::new(position, parents, frontier.detail.clone(), self.head_end);
                shard.listed = is_dead_letters(id);
                shard.read_to_ms = frontier.read_to_ms.or(self.head_end.time_ms());
                shard.lost = frontier.lost;
                shard.committed_lost = frontier.lost;
                self.shards.insert(id.clone(), shard);
            }
        }
        self.published = published;
        self.publishing = unpublished.into();
    }

    /// Starts with the versions that the head used, even if their lookups have changed since:
    /// windows can open with them at once.
    pub fn begin_with_lookups(&mut self, versions: BTreeMap<String, LookupVersion>) {
        for (name, version) in versions {
            if let Some(lookup) = self.lookups.get_mut(&name) {
                lookup.version = Some(version);
            }
        }
    }

    pub fn name(&self) -> &JobName {
        &self.resolved.spec.name
    }

    pub fn runs(&self) -> bool {
        self.wanted == DesiredState::Running
    }

    /// It reads, or finishes what it has read.
    pub fn is_live(&self) -> bool {
        matches!(self.wanted, DesiredState::Running | DesiredState::Draining)
    }

    /// The job reads up to the end of its drain, but not all of its shards may be assigned.
    pub fn drains(&self) -> bool {
        self.wanted == DesiredState::Draining && self.drain.is_some()
    }

    /// A drain takes nothing more of this shard.
    pub fn is_drained(&self, shard: &Shard) -> bool {
        self.drain
            .is_some_and(|drain| shard.floor >= Watermark::At(drain.until_ms))
    }

    /// What a drain that ends now leaves unfinished.
    pub fn unfinished(&self) -> Option<NotDrained> {
        let Some(drain) = self.drain else {
            return Some(NotDrained {
                from_ms: self.head_end.time_ms(),
                until_ms: None,
            });
        };
        let behind = self
            .shards
            .values()
            .filter(|shard| !shard.done() && !self.is_drained(shard));
        let from = behind.map(|shard| shard.floor.max(self.head_end)).min()?;
        Some(NotDrained {
            from_ms: from.time_ms(),
            until_ms: Some(drain.until_ms),
        })
    }

    pub fn lists_again(&self) -> bool {
        self.resolved.spec.source.kind.reads_stream()
    }

    /// The number of the last committed epoch.
    pub fn epoch(&self) -> Epoch {
        self.head.as_ref().map_or(Epoch(0), |head| head.epoch)
    }
}
