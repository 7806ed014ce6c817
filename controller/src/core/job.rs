//! One job: its shards, tasks and open windows, and the epoch on its way into the store.
//!
//! Owns: what is read, reported, committed, a topic per file. Does not own: which workers live and
//! where tasks go ([`super::assign`]).
//! Rule: `reached` moves by accepted reports only, `committed` by `HeadMoved` only; both only
//! forward (I2, I3).

mod avoid;
mod commit;
mod deaths;
mod lineage;
mod reports;
mod shard;
mod stream;
mod tasks;

pub use avoid::{
    AvoidTimes, Avoided, AvoidedFor, REFUSAL_ROUNDS_AGREED_MAX, REFUSAL_ROUNDS_ALONE_MAX,
    REFUSED_WORKERS_MAX, Refusal,
};
pub use commit::{Committing, EpochFigures};
pub use deaths::{Death, Deaths, SUSPECT_DEATHS};
pub use reports::OpenWindow;
pub use shard::Shard;
pub use tasks::{Task, TaskState};

use super::effect::EffectKind;
use super::event::DesiredState;
use super::refusals::Refusals;
use super::repair::{Repairing, Stuck};
use super::replays::{ReplayState, is_dead_letters};
use super::stall::Stall;
use super::unreadable::Unreadable;
use super::versions::{Change, RefusedChange};
use crate::store::Repair;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use streamctl_proto::manifest::ManifestRef;
use streamctl_proto::resolved::{StreamFacts, StreamIdentity};
use streamctl_proto::{
    Counts, Epoch, JobName, LookupVersion, Manifest, ResolvedJob, ShardId, TaskId, Window, WorkerId,
};

/// Windows of a job that may be open or reported and not committed: how far a fast task runs ahead
/// of a slow one.
pub const WINDOWS_AHEAD_MAX: usize = 16;
/// Epochs that may be committed and not yet published.
pub const PUBLISH_BACKLOG_MAX: usize = 8;
/// Epochs whose figures are kept in memory; older ones are read from their manifests.
pub const RECENT_EPOCHS_MAX: usize = 200;

/// Windows that a task may have asked for and not been told, besides one for each of its shards.
pub const ASKED_MAX: usize = 64;

/// Times after this are not times: all shards have ended (`i64::MAX`, less than the longest window
/// before it at most).
pub const NEVER_MS: i64 = i64::MAX - 86_400_000;

/// Tasks whose workers are remembered for asking results of them.
pub const TASK_WORKERS_MAX: usize = 1_000;

/// What is known of a lookup.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The version that the next window uses.
    pub version: Option<LookupVersion>,
    pub rows: u64,
    /// When it was last seen to be this.
    pub seen_ms: i64,
    /// Why it is not newer.
    pub problem: Option<String>,
    pub check_at_ms: i64,
    pub checking: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub asked: u64,
    /// The last request that was answered.
    pub answered: u64,
    /// Nothing is committed before this request is answered: children may be missing.
    pub needed: u64,
    pub again_at_ms: i64,
}

/// Time that a drain may take beyond the end of its last window, before what is left is given up.
pub const DRAIN_GRACE_MS: i64 = 60_000;

/// How far a drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Windows that end at or before this are finished.
    pub until_ms: i64,
    /// When it is given up.
    pub give_up_ms: i64,
}

/// What a drain did not finish: it is read again when the job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDrained {
    pub from_ms: i64,
    /// Up to this time; none: a new leader took over, and does not know.
    pub until_ms: Option<i64>,
}

/// What is tried again, while the job cannot go on or not as it should.
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
}

#[derive(Clone, Debug)]
pub struct Job {
    /// As it was resolved at submit: the version that makes the next epoch.
    pub resolved: ResolvedJob,
    /// Which stream it reads; none before that is known.
    pub identity: Option<StreamIdentity>,
    /// What the last listing said of the stream; none before one did.
    pub stream: Option<StreamFacts>,
    pub wanted: DesiredState,
    /// What is wanted is being written to the store.
    pub recording: bool,
    /// How far a drain goes; none: the job does not drain, or an earlier leader began it.
    pub drain: Option<Drain>,
    /// What the last drain did not finish.
    pub not_drained: Option<NotDrained>,
    /// The last committed epoch.
    pub head: Option<ManifestRef>,
    /// The end of the last committed window.
    pub head_end_ms: i64,
    /// The last published epoch.
    pub published: Epoch,
    pub totals: Counts,
    pub shards: BTreeMap<ShardId, Shard>,
    pub tasks: BTreeMap<TaskId, Task>,
    /// Workers that had a task of it: they may hold reports, and hear of commits.
    pub commit_subscribers: BTreeSet<WorkerId>,
    /// Windows after the head that a task has opened.
    pub windows: BTreeMap<Window, OpenWindow>,
    /// Tasks that wait for a window to open.
    pub waiting: BTreeSet<(Window, TaskId)>,
    /// The epoch on its way into the store.
    pub committing: Option<Committing>,
    /// Committed, not yet published; the first one is being published.
    pub publishing: VecDeque<Manifest>,
    pub lookups: BTreeMap<String, Lookup>,
    /// When to look again whether an epoch without records is due.
    pub idle_check_at_ms: i64,
    pub listing: Listing,
    /// Tasks that failed since the last commit.
    pub failures: u32,
    /// Tasks that failed since this term began.
    pub retries: u64,
    /// Where it stands cannot be read: it must not run before that is known.
    pub unreadable: Option<Unreadable>,
    /// What was repaired of it by hand, oldest first.
    pub repairs: Vec<Repair>,
    /// Its first unpublished epoch has lost objects.
    pub stuck: Option<Stuck>,
    pub repairing: Option<Repairing>,
    /// When to look for orphans again.
    pub sweep_at_ms: i64,
    /// No task is given out before.
    pub pause_until_ms: i64,
    /// The last failure that is being tried again, per effect.
    pub delays: BTreeMap<Delay, String>,
    /// Workers that are passed over, or were a short time ago.
    pub avoided: BTreeMap<WorkerId, Avoided>,
    /// Workers that died with tasks of it.
    pub deaths: Deaths,
    /// Rounds since the last commit in which every worker was refused.
    pub refusal_rounds: u32,
    /// Workers whose messages about its tasks were refused; at most as many as there are.
    pub refusals: BTreeMap<WorkerId, Refusals>,
    /// What does not go on.
    pub stall: Stall,
    pub recent: VecDeque<EpochFigures>,
    /// Dead letters that are read once more.
    pub replays: ReplayState,
    /// The version that waits to take over.
    pub changing: Option<Change>,
    /// The last version that the store did not take.
    pub refused_change: Option<RefusedChange>,
    /// The last epoch of the version before, as far as this leader saw it.
    pub took_over_after: Epoch,
    /// Something has changed that decides who reads which shards.
    pub plan_due: bool,
    /// The first shard that was not past a window's end when that was last looked at: those before
    /// it are.
    not_past: Option<(i64, ShardId)>,
    /// Who had the last tasks, live or not: results are asked of them. At most
    /// [`TASK_WORKERS_MAX`].
    pub task_workers: BTreeMap<TaskId, WorkerId>,
}

impl Job {
    /// A job that nothing was read of.
    pub fn new(resolved: ResolvedJob) -> Self {
        let lookups = resolved
            .spec
            .lookups
            .iter()
            .map(|spec| (spec.name.clone(), Lookup::default()))
            .collect();
        Self {
            identity: resolved.stream_identity.clone(),
            stream: None,
            resolved,
            wanted: DesiredState::Running,
            drain: None,
            not_drained: None,
            recording: false,
            head: None,
            head_end_ms: i64::MIN,
            published: Epoch(0),
            totals: Counts::default(),
            shards: BTreeMap::new(),
            tasks: BTreeMap::new(),
            commit_subscribers: BTreeSet::new(),
            windows: BTreeMap::new(),
            waiting: BTreeSet::new(),
            committing: None,
            publishing: VecDeque::new(),
            lookups,
            idle_check_at_ms: i64::MIN,
            listing: Listing::default(),
            failures: 0,
            retries: 0,
            unreadable: None,
            repairs: vec![],
            stuck: None,
            repairing: None,
            sweep_at_ms: i64::MIN,
            pause_until_ms: i64::MIN,
            delays: BTreeMap::new(),
            avoided: BTreeMap::new(),
            refusal_rounds: 0,
            deaths: Deaths::default(),
            refusals: BTreeMap::new(),
            stall: Stall::default(),
            recent: VecDeque::new(),
            replays: ReplayState::default(),
            changing: None,
            refused_change: None,
            took_over_after: Epoch(0),
            plan_due: true,
            not_past: None,
            task_workers: BTreeMap::new(),
        }
    }

    /// Takes over where the store says the job stands.
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
            self.head = Some(reference);
            self.head_end_ms = manifest.window.end_ms;
            self.totals = manifest.totals;
            self.identity = self.identity.take().or_else(|| manifest.stream.clone());
            for (id, frontier) in &manifest.frontier {
                let position = frontier.position.clone();
                let parents = frontier.parents.clone();
                let mut shard = Shard::new(
                    position,
                    parents,
                    frontier.detail.clone(),
                    manifest.window.end_ms,
                );
                shard.listed = is_dead_letters(id);
                shard.read_to_ms = frontier.read_to_ms.unwrap_or(manifest.window.end_ms);
                shard.lost = frontier.lost;
                shard.committed_lost = frontier.lost;
                self.shards.insert(id.clone(), shard);
            }
        }
        self.published = published;
        self.publishing = unpublished.into();
    }

    /// The versions that the head used are there, whatever their lookups say now: windows open with
    /// them at once.
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

    /// It reads on up to the end of its drain, though not all of its shards may be given out.
    pub fn drains(&self) -> bool {
        self.wanted == DesiredState::Draining && self.drain.is_some()
    }

    /// A drain takes nothing more of this shard.
    pub fn is_drained(&self, shard: &Shard) -> bool {
        self.drain
            .is_some_and(|drain| shard.floor_ms >= drain.until_ms)
    }

    /// What a drain that ends now leaves unfinished.
    pub fn unfinished(&self) -> Option<NotDrained> {
        let Some(drain) = self.drain else {
            return Some(NotDrained {
                from_ms: self.head_end_ms,
                until_ms: None,
            });
        };
        let behind = self
            .shards
            .values()
            .filter(|shard| !shard.done() && shard.floor_ms < drain.until_ms);
        let from_ms = behind
            .map(|shard| shard.floor_ms.max(self.head_end_ms))
            .min()?;
        Some(NotDrained {
            from_ms,
            until_ms: Some(drain.until_ms),
        })
    }

    pub fn lists_again(&self) -> bool {
        self.resolved.spec.source.kind.reads_stream()
    }

    /// The last committed epoch's number.
    pub fn epoch(&self) -> Epoch {
        self.head.as_ref().map_or(Epoch(0), |head| head.epoch)
    }
}
