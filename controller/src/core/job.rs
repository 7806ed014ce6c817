//! One job: its shards, tasks and open windows, and the epoch on its way into the store.
//!
//! Owns: what is read, reported, committed. Does not own: which workers live and where tasks go ([`super::assign`]).
//! Rule: `reached` moves by accepted reports only, `committed` by `HeadMoved` only; both only forward (I2, I3).

use super::event::{EndedShard, KnownShard, ShardStats, Wanted};
use super::replays::{ReplayState, is_dead_letters};
use super::standstill::Standstill;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use streamctl_proto::manifest::{Frontier, MANIFEST_VERSION, ManifestObject, ManifestPart, ManifestRef};
use streamctl_proto::report::{StageTimes, UNMATCHED_KEYS_MAX, UnmatchedKey};
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{
    Counts, Epoch, JobName, LookupVersion, Manifest, Position, Report, ResolvedJob, ShardId, ShardRange, TaskId, Term,
    Window, WorkerId,
};

/// Windows of a job that may be open or reported and not committed: how far a fast task runs ahead of a slow one.
pub const WINDOWS_AHEAD_MAX: usize = 16;
/// Epochs that may be committed and not yet published.
pub const PUBLISH_BACKLOG_MAX: usize = 8;
/// Epochs whose figures are kept in memory; older ones are read from their manifests.
pub const RECENT_EPOCHS_MAX: usize = 200;

/// Windows that a task may have asked for and not been told, besides one for each of its shards.
pub const ASKED_MAX: usize = 64;

/// Times after this are not times: all shards have ended (`i64::MAX`, less than the longest window before it at most).
pub const NEVER_MS: i64 = i64::MAX - 86_400_000;

/// Tasks whose workers are remembered for asking results of them.
pub const TASK_WORKERS_MAX: usize = 1_000;

/// A shard of a job.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Those that must be read to their end first; one that is not known counts as read.
    pub parents: Vec<ShardId>,
    /// What the reader needs beyond the name.
    pub detail: String,
    /// Where the head leaves it.
    pub committed: Position,
    /// Where the accepted reports leave it.
    pub reached: Position,
    /// The earliest window that may still take its records starts here.
    pub floor_ms: i64,
    /// Its last record, once a task has seen the end.
    pub end: Option<Position>,
    /// No child takes a record in a window before the one that starts here; known with `end`.
    pub end_floor_ms: i64,
    /// The last listing that was asked for when its end was committed: only a later one can say that it is gone.
    pub ended_at_listing: u64,
    /// Who reads it.
    pub task: Option<TaskId>,
    /// Who read it last: it goes back there when nothing speaks against it.
    pub last_worker: Option<WorkerId>,
    /// The source still lists it. One that is read and no longer listed is forgotten.
    pub listed: bool,
    /// The last figures.
    pub stats: ShardStats,
}

impl Shard {
    /// A shard that nothing was read of.
    pub fn new(from: Position, parents: Vec<ShardId>, detail: String, floor_ms: i64) -> Self {
        let (committed, reached) = (from.clone(), from);
        let (end, task, last_worker, stats) = (None, None, None, ShardStats::default());
        let (end_floor_ms, ended_at_listing, listed) = (i64::MIN, 0, true);
        Self {
            parents,
            detail,
            committed,
            reached,
            floor_ms,
            end,
            end_floor_ms,
            ended_at_listing,
            task,
            last_worker,
            listed,
            stats,
        }
    }

    /// Read to its end, and all of it reported.
    pub fn done(&self) -> bool {
        self.reached == Position::End || self.end.as_ref() == Some(&self.reached)
    }

    /// A task has seen its end; that stays true if the task is lost and its last records are read again.
    pub fn ended(&self) -> bool {
        self.end.is_some() || self.reached == Position::End
    }

    /// No more than the window of its last record, as long as that is not reported: its children go on there (I5).
    fn at_most(&self, watermark_ms: i64) -> i64 {
        let waits = self.end.is_some() && !self.done();
        if waits { watermark_ms.min(self.end_floor_ms) } else { watermark_ms }
    }

    /// Where the next manifest leaves it, when `to` is the last committed record.
    fn position_at(&self, to: &Position) -> Position {
        if *to == Position::End || self.end.as_ref() == Some(to) { Position::End } else { to.clone() }
    }
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It reads.
    Running,
    /// It was asked to report what it has and end.
    Releasing,
    /// It finishes its windows up to this time.
    Draining(i64),
}

impl TaskState {
    /// It would end before this window, and never finish it.
    pub fn is_drained_before(self, window: Window) -> bool {
        matches!(self, Self::Draining(until_ms) if window.end_ms > until_ms)
    }
}

/// Some shards of the job, given to one worker once.
#[derive(Clone, Debug)]
pub struct Task {
    /// Who has it.
    pub worker: WorkerId,
    /// What it reads.
    pub shards: BTreeSet<ShardId>,
    /// Every window that ends at or before this is reported.
    pub watermark_ms: i64,
    /// What becomes of it.
    pub state: TaskState,
    /// Time for which its windows were worked on.
    pub work_us: u64,
}

/// A window that a task has opened and no head holds.
#[derive(Clone, Debug, Default)]
pub struct OpenWindow {
    /// What all tasks join with.
    pub lookups: BTreeMap<String, LookupVersion>,
    /// Accepted, in the order of acceptance.
    pub reports: Vec<Report>,
    /// Tasks that read it and have not reported it.
    pub readers: BTreeSet<TaskId>,
}

/// An epoch on its way into the store.
#[derive(Clone, Debug)]
pub struct Committing {
    /// What will be committed.
    pub manifest: Manifest,
    /// Once the manifest is durable.
    pub reference: Option<ManifestRef>,
    /// When it began.
    pub since_ms: i64,
}

/// What is known of a lookup.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The version that the next window uses.
    pub version: Option<LookupVersion>,
    /// Its rows.
    pub rows: u64,
    /// When it was last seen to be this.
    pub seen_ms: i64,
    /// Why it is not newer.
    pub problem: Option<String>,
    /// When to look again.
    pub check_at_ms: i64,
    /// An answer is awaited.
    pub checking: bool,
}

/// Listing the source's shards.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The last request.
    pub asked: u64,
    /// The last request that was answered.
    pub answered: u64,
    /// Nothing is committed before this request is answered: children may be missing.
    pub needed: u64,
    /// When to ask again.
    pub again_at_ms: i64,
}

/// Figures of a committed epoch.
#[derive(Clone, Debug)]
pub struct EpochFigures {
    /// The manifest without what is long.
    pub epoch: Epoch,
    /// Its window.
    pub window: Window,
    /// Its counts.
    pub counts: Counts,
    /// Its objects.
    pub objects: usize,
    /// Their size.
    pub bytes_out: u64,
    /// Keys without a partner.
    pub unmatched: Vec<UnmatchedKey>,
    /// When it was committed.
    pub committed_ms: i64,
    /// Its manifest.
    pub manifest: String,
    /// Time per stage.
    pub stages: StageTimes,
    /// When this leader saw the head move; none for what an earlier one committed.
    pub head_moved_ms: Option<i64>,
    /// Who staged its objects, to ask for the rows.
    pub tasks: Vec<TaskId>,
}

impl EpochFigures {
    /// Of a manifest.
    pub fn of(manifest: &Manifest, name: &str) -> Self {
        Self {
            epoch: manifest.epoch,
            window: manifest.window,
            counts: manifest.counts,
            objects: manifest.objects.len(),
            bytes_out: manifest.objects.iter().fold(0, |sum, object| object.staged.size.saturating_add(sum)),
            unmatched: manifest.unmatched.clone(),
            committed_ms: manifest.created_ms,
            manifest: name.to_owned(),
            stages: manifest.stages,
            head_moved_ms: None,
            tasks: manifest.parts.iter().map(|part| part.task).collect(),
        }
    }
}

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// As it was resolved at submit.
    pub resolved: ResolvedJob,
    /// What its user wants.
    pub wanted: Wanted,
    /// What is wanted is being written to the store.
    pub recording: bool,
    /// The last committed epoch.
    pub head: Option<ManifestRef>,
    /// The end of the last committed window.
    pub head_end_ms: i64,
    /// The last published epoch.
    pub published: Epoch,
    /// Since the job began.
    pub totals: Counts,
    /// All known shards.
    pub shards: BTreeMap<ShardId, Shard>,
    /// Live tasks.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Windows after the head that a task has opened.
    pub windows: BTreeMap<Window, OpenWindow>,
    /// Tasks that wait for a window to open.
    pub waiting: BTreeSet<(Window, TaskId)>,
    /// The epoch on its way into the store.
    pub committing: Option<Committing>,
    /// Committed, not yet published; the first one is being published.
    pub publishing: VecDeque<Manifest>,
    /// By name.
    pub lookups: BTreeMap<String, Lookup>,
    /// Of shards.
    pub listing: Listing,
    /// Tasks that failed since the last commit.
    pub failures: u32,
    /// Tasks that failed since this term began.
    pub retries: u64,
    /// Its head can not be read: it must not run before a later leader can.
    pub unreadable: bool,
    /// When to look for orphans again.
    pub sweep_at_ms: i64,
    /// No task is given out before.
    pub pause_until_ms: i64,
    /// The last failure that is being tried again, per effect.
    pub delays: BTreeMap<&'static str, String>,
    /// Workers whose tasks could not reach what they need, and until when others are preferred to them.
    pub avoided: BTreeMap<WorkerId, i64>,
    /// What does not go on.
    pub standstill: Standstill,
    /// The last epochs.
    pub recent: VecDeque<EpochFigures>,
    /// Dead letters that are read once more.
    pub replays: ReplayState,
    /// Something has changed that decides who reads which shards.
    pub plan_due: bool,
    /// The first shard that was not past a window's end when that was last looked at: those before it are.
    not_past: Option<(i64, ShardId)>,
    /// Who had the last tasks, live or not: results are asked of them. At most [`TASK_WORKERS_MAX`].
    pub task_workers: BTreeMap<TaskId, WorkerId>,
}

impl Job {
    /// A job that nothing was read of.
    pub fn new(resolved: ResolvedJob) -> Self {
        let lookups = resolved.spec.lookups.iter().map(|spec| (spec.name.clone(), Lookup::default())).collect();
        Self {
            resolved,
            wanted: Wanted::Running,
            recording: false,
            head: None,
            head_end_ms: i64::MIN,
            published: Epoch(0),
            totals: Counts::default(),
            shards: BTreeMap::new(),
            tasks: BTreeMap::new(),
            windows: BTreeMap::new(),
            waiting: BTreeSet::new(),
            committing: None,
            publishing: VecDeque::new(),
            lookups,
            listing: Listing::default(),
            failures: 0,
            retries: 0,
            unreadable: false,
            sweep_at_ms: i64::MIN,
            pause_until_ms: i64::MIN,
            delays: BTreeMap::new(),
            avoided: BTreeMap::new(),
            standstill: Standstill::default(),
            recent: VecDeque::new(),
            replays: ReplayState::default(),
            plan_due: true,
            not_past: None,
            task_workers: BTreeMap::new(),
        }
    }

    /// Takes over where the store says the job stands.
    pub fn restore(&mut self, head: Option<&Manifest>, unpublished: Vec<Manifest>, published: Epoch) {
        if let Some(manifest) = head {
            let (_, reference) = manifest.encode();
            self.recent.push_back(EpochFigures::of(manifest, &reference.name));
            self.head = Some(reference);
            self.head_end_ms = manifest.window.end_ms;
            self.totals = manifest.totals;
            for (id, frontier) in &manifest.frontier {
                let (position, parents) = (frontier.position.clone(), frontier.parents.clone());
                let mut shard = Shard::new(position, parents, frontier.detail.clone(), manifest.window.end_ms);
                shard.listed = is_dead_letters(id);
                self.shards.insert(id.clone(), shard);
            }
        }
        self.published = published;
        self.publishing = unpublished.into();
    }

    /// Its name.
    pub fn name(&self) -> &JobName {
        &self.resolved.spec.name
    }

    /// It may read.
    pub fn runs(&self) -> bool {
        self.wanted == Wanted::Running
    }

    /// Reshards can happen.
    pub fn lists_again(&self) -> bool {
        matches!(self.resolved.spec.source.kind, SourceKind::Kinesis { .. })
    }

    /// The last committed epoch's number.
    pub fn epoch(&self) -> Epoch {
        self.head.as_ref().map_or(Epoch(0), |head| head.epoch)
    }

    /// Adds shards that the source lists. Those of the first listing of a new job begin at the job's start, later ones
    /// at their beginning (KINESIS.md, line 2).
    pub fn learn(&mut self, listed: &[KnownShard], generation: u64) {
        self.rearranged();
        let first = self.listing.answered == 0 && self.head.is_none() && self.shards.is_empty();
        let from = if first { self.resolved.start.clone() } else { Position::Start };
        for (_, shard) in self.shards.iter_mut().filter(|(id, _)| !is_dead_letters(id)) {
            shard.listed &= generation <= shard.ended_at_listing;
        }
        for known in listed {
            match self.shards.get_mut(&known.shard) {
                Some(shard) => {
                    shard.listed = true;
                    shard.detail.clone_from(&known.detail);
                    shard.parents.clone_from(&known.parents);
                    self.raise_floor(&known.shard);
                }
                None => self.add_shard(&known.shard, from.clone(), known.parents.clone(), known.detail.clone()),
            }
        }
    }

    /// A task has read a shard to its end. Its children take no window before that of its last record, nor one that
    /// its task said to be past. Children that the source did not name, and parents that are not known, must be listed
    /// before anything is committed or given out: an unknown parent may be one that is not listed yet.
    pub fn end_shard(&mut self, ended: &EndedShard) {
        self.rearranged();
        let unknown = |parents: &[ShardId]| parents.iter().any(|parent| !self.shards.contains_key(parent));
        let unclear = ended.children.is_empty() || ended.children.iter().any(|child| unknown(&child.parents));
        let unclear = unclear && self.lists_again() && !is_dead_letters(&ended.shard);
        let Some(shard) = self.shards.get_mut(&ended.shard) else { return };
        // Who reads it again knows no less than who read it first.
        if shard.end.as_ref() != Some(&ended.last) && !shard.done() {
            shard.end = Some(ended.last.clone());
            shard.end_floor_ms = ended.floor_ms.max(shard.floor_ms);
            if unclear {
                self.listing.needed = self.listing.asked + 1;
            }
        }
        for KnownShard { shard, parents, detail } in &ended.children {
            if !self.shards.contains_key(shard) {
                self.add_shard(shard, Position::Start, parents.clone(), detail.clone());
            }
        }
        let children: Vec<ShardId> = self.children_of(&ended.shard);
        for child in children {
            self.raise_floor(&child);
        }
    }

    /// Shards or tasks are others than before, or stand elsewhere: what was made of them must be made again.
    fn rearranged(&mut self) {
        self.plan_due = true;
        self.not_past = None;
    }

    fn children_of(&self, parent: &ShardId) -> Vec<ShardId> {
        self.shards.iter().filter(|(_, shard)| shard.parents.contains(parent)).map(|(id, _)| id.clone()).collect()
    }

    /// A child goes on no earlier than its parents ended.
    fn raise_floor(&mut self, id: &ShardId) {
        let floor_ms = self.parents_floor_ms(id);
        if let Some(shard) = self.shards.get_mut(id) {
            shard.floor_ms = shard.floor_ms.max(floor_ms);
        }
    }

    fn parents_floor_ms(&self, id: &ShardId) -> i64 {
        let parents = self.shards.get(id).into_iter().flat_map(|shard| &shard.parents);
        parents.filter_map(|parent| self.shards.get(parent)).map(|parent| parent.end_floor_ms).max().unwrap_or(i64::MIN)
    }

    /// The end of the last window that is committed or on its way: nothing before takes a record any more.
    fn base_end_ms(&self) -> i64 {
        self.committing.as_ref().map_or(self.head_end_ms, |committing| committing.manifest.window.end_ms)
    }

    /// Adds a shard that nothing was read of.
    pub(super) fn add_shard(&mut self, id: &ShardId, from: Position, parents: Vec<ShardId>, detail: String) {
        self.rearranged();
        let shard = Shard::new(from, parents, detail, self.base_end_ms());
        self.shards.insert(id.clone(), shard);
        self.raise_floor(id);
    }

    /// All parents are read to their end (I5); one that is not known counts as read.
    pub fn parents_ended(&self, shard: &Shard) -> bool {
        shard.parents.iter().all(|parent| self.shards.get(parent).is_none_or(Shard::ended))
    }

    /// No record of a window that ends at or before this will come any more.
    pub fn watermark_ms(&self) -> i64 {
        self.shards.values().map(|shard| self.shard_watermark_ms(shard)).min().unwrap_or(i64::MAX)
    }

    fn shard_watermark_ms(&self, shard: &Shard) -> i64 {
        // One that waits for its parents holds nothing open: they do, until they have ended. If it did, a parent that is
        // more than [`WINDOWS_AHEAD_MAX`] windows behind would wait for its own child.
        if shard.done() || !self.parents_ended(shard) {
            return i64::MAX;
        }
        let task = shard.task.and_then(|id| self.tasks.get(&id)).map_or(i64::MIN, |task| task.watermark_ms);
        shard.at_most(task.max(shard.floor_ms))
    }

    /// Whether the watermark has reached this. Goes on at the shard that was in the way the last time: however many
    /// tasks report, each shard is looked at once per window.
    fn all_past(&mut self, end_ms: i64) -> bool {
        let from = match &self.not_past {
            Some((asked_ms, shard)) if *asked_ms == end_ms => Bound::Included(shard),
            _ => Bound::Unbounded,
        };
        let mut rest = self.shards.range((from, Bound::Unbounded));
        let in_the_way = rest.find(|(_, shard)| self.shard_watermark_ms(shard) < end_ms).map(|(id, _)| id.clone());
        self.not_past = in_the_way.map(|id| (end_ms, id));
        self.not_past.is_none()
    }

    /// Takes a report, or says why not. Taking one twice is no error.
    pub fn accept(&mut self, report: &Report) -> Result<(), &'static str> {
        if report.window.end_ms <= self.head_end_ms {
            let held = |(id, range): (&ShardId, &ShardRange)| {
                self.shards.get(id).is_none_or(|shard| range.to.reaches(&shard.reached))
            };
            return if report.ranges.iter().all(held) { Ok(()) } else { Err("its window is committed without it") };
        }
        if self.reported(report.task, report.window) {
            return Ok(());
        }
        let task = self.tasks.get(&report.task).ok_or("its task is no more")?;
        if !report.ranges.keys().all(|shard| task.shards.contains(shard)) {
            return Err("it has a shard that its task has not");
        }
        self.chain(report)
    }

    /// Whether this task's report of this window was taken.
    pub fn reported(&self, task: TaskId, window: Window) -> bool {
        self.windows.get(&window).is_some_and(|open| open.reports.iter().any(|report| report.task == task))
    }

    /// All of these were taken, or their windows are committed.
    pub fn has_all_of(&self, reports: &[Report]) -> bool {
        reports.iter().all(|r| r.window.end_ms <= self.head_end_ms || self.reported(r.task, r.window))
    }

    /// Adds a report whose ranges go on where the shards stand (I2).
    pub fn chain(&mut self, report: &Report) -> Result<(), &'static str> {
        for (id, range) in &report.ranges {
            let shard = self.shards.get(id).ok_or("it has a shard that the job has not")?;
            if shard.reached != range.from {
                return Err("it does not begin where its shard was left");
            }
            if range.to.reaches(&range.from) {
                return Err("it does not go forward");
            }
            if !self.parents_ended(shard) {
                return Err("it has records of a shard whose parents have not ended");
            }
            let over = |end: &Position| !range.to.reaches(end) || report.window.start_ms > shard.end_floor_ms;
            if shard.end.as_ref().is_some_and(over) {
                return Err("it has records after the end of their shard");
            }
            if report.window.start_ms < shard.floor_ms && report.window.end_ms <= shard.floor_ms {
                return Err("its window was closed before");
            }
        }
        if self.committing.as_ref().is_some_and(|c| c.manifest.window >= report.window) {
            return Err("its window is being committed");
        }
        if !self.has_room_for(report.window) {
            return Err("too many windows are open");
        }
        let open = self.windows.entry(report.window).or_default();
        if open.reports.is_empty() && open.lookups.is_empty() {
            open.lookups.clone_from(&report.lookups);
        }
        if open.lookups != report.lookups {
            return Err("it was joined with other lookup versions");
        }
        for (id, range) in &report.ranges {
            if let Some(shard) = self.shards.get_mut(id) {
                shard.reached = range.to.clone();
                shard.floor_ms = shard.floor_ms.max(report.window.start_ms);
                self.plan_due |= shard.done();
            }
        }
        open.readers.remove(&report.task);
        open.reports.push(report.clone());
        Ok(())
    }

    /// Gives a task to a worker.
    pub fn add_task(&mut self, id: TaskId, worker: WorkerId, shards: BTreeSet<ShardId>) {
        self.rearranged();
        for shard in &shards {
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.task = Some(id);
            }
        }
        self.task_workers.insert(id, worker.clone());
        if self.task_workers.len() > TASK_WORKERS_MAX {
            self.task_workers.pop_first();
        }
        self.tasks.insert(id, Task { worker, shards, watermark_ms: i64::MIN, state: TaskState::Running, work_us: 0 });
    }

    /// Workers that were avoided for long enough may take tasks again.
    pub fn forgive_workers(&mut self, now: i64) {
        let avoided = self.avoided.len();
        self.avoided.retain(|_, until_ms| *until_ms > now);
        self.plan_due |= self.avoided.len() < avoided;
    }

    /// The load without workers that are to be avoided, if there are any. When that leaves nobody, it is not the workers:
    /// none is avoided then.
    pub fn without_avoided(&mut self, load: &BTreeMap<WorkerId, usize>) -> Option<BTreeMap<WorkerId, usize>> {
        if load.keys().all(|worker| self.avoided.contains_key(worker)) {
            self.avoided.clear();
        }
        let others = load.iter().filter(|(worker, _)| !self.avoided.contains_key(*worker));
        (!self.avoided.is_empty()).then(|| others.map(|(worker, shards)| (worker.clone(), *shards)).collect())
    }

    /// A task has reported everything before `watermark_ms`. All is over only for shards that have ended: no later window
    /// would be left to a shard that goes on.
    pub fn progress(&mut self, id: TaskId, watermark_ms: i64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let open = |id| self.shards.get(id).is_some_and(|shard| !shard.ended());
        if watermark_ms > NEVER_MS && task.shards.iter().any(open) {
            return;
        }
        task.watermark_ms = task.watermark_ms.max(watermark_ms);
        for shard in &task.shards {
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.floor_ms = shard.floor_ms.max(shard.at_most(watermark_ms));
            }
        }
    }

    /// Takes a task away: what it reported stays, what it did not is read again.
    pub fn remove_task(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.rearranged();
        for shard in &task.shards {
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.task = None;
                shard.last_worker = Some(task.worker.clone());
            }
        }
        self.waiting.retain(|(_, waiting)| *waiting != id);
        for open in self.windows.values_mut() {
            open.readers.remove(&id);
        }
        self.windows.retain(|_, open| !open.reports.is_empty() || !open.readers.is_empty());
        Some(task)
    }

    /// Drops everything that no head holds and that is not on its way into one.
    pub fn drop_uncommitted(&mut self) {
        self.rearranged();
        let base = self.committing.as_ref().map(|committing| &committing.manifest);
        let base_end_ms = self.base_end_ms();
        self.windows.retain(|window, _| window.end_ms <= base_end_ms);
        self.waiting.clear();
        for (id, shard) in &mut self.shards {
            let position = base.and_then(|manifest| manifest.frontier.get(id)).map(|frontier| &frontier.position);
            shard.reached = position.unwrap_or(&shard.committed).clone();
            shard.floor_ms = base_end_ms;
        }
        for id in self.shards.keys().cloned().collect::<Vec<_>>() {
            self.raise_floor(&id);
        }
    }

    /// For a query that needs whole windows, before its task is given out anew: windows that some shard may still have
    /// records of are read again by that one task, as two partial results are no result.
    pub fn forget_partial_windows(&mut self) {
        if !self.resolved.whole_window || !self.tasks.is_empty() {
            return;
        }
        let past_ms = self.watermark_ms();
        let partial = |(window, open): (&Window, &OpenWindow)| window.end_ms > past_ms && !open.reports.is_empty();
        let Some(first) = self.windows.iter().find(|each| partial((each.0, each.1))).map(|(window, _)| *window) else {
            return;
        };
        self.rearranged();
        let mut back: BTreeMap<ShardId, Position> = BTreeMap::new();
        for (id, range) in self.windows.range(first..).flat_map(|(_, o)| &o.reports).flat_map(|report| &report.ranges) {
            back.entry(id.clone()).or_insert_with(|| range.from.clone());
        }
        for (id, position) in back {
            if let Some(shard) = self.shards.get_mut(&id) {
                shard.reached = position;
                shard.floor_ms = shard.floor_ms.min(first.start_ms);
            }
        }
        self.windows.retain(|window, _| *window < first);
    }

    /// A window may open when there are not too many, or when none is before it: it is what the others wait for.
    pub fn may_open(&self, window: Window) -> bool {
        let first = self.windows.first_key_value().is_none_or(|(first, _)| window < *first);
        self.has_room_for(window)
            && (first || self.windows.len() < WINDOWS_AHEAD_MAX || self.windows.contains_key(&window))
    }

    /// A shard that is behind may open the one window before all others, and a new leader finds two of each task: more
    /// than that no worker needs (I7).
    pub fn has_room_for(&self, window: Window) -> bool {
        self.windows.contains_key(&window) || self.windows.len() < self.windows_max()
    }

    /// Windows that may be open or reported, whatever workers say.
    pub fn windows_max(&self) -> usize {
        WINDOWS_AHEAD_MAX + 2 * self.shards.len()
    }

    /// A task has few windows open at a time, and one more for each shard that is behind; it asks for no more than that.
    pub fn may_ask(&self, id: TaskId) -> bool {
        let asked = self.waiting.iter().filter(|(_, task)| *task == id).count();
        self.tasks.get(&id).is_some_and(|task| asked < ASKED_MAX + task.shards.len())
    }

    /// The window that can be committed next, if any: the oldest reported one, once every shard is past it (I4).
    pub fn committable(&mut self) -> Option<Window> {
        let blocked = self.committing.is_some()
            || self.publishing.len() >= PUBLISH_BACKLOG_MAX
            || self.listing.answered < self.listing.needed;
        if blocked {
            return None;
        }
        let (window, _) = self.windows.iter().find(|(_, open)| !open.reports.is_empty())?;
        let window = *window;
        self.all_past(window.end_ms).then_some(window)
    }

    /// The manifest of the next epoch.
    pub fn manifest(&self, window: Window, term: Term, now_ms: i64) -> Manifest {
        let empty = OpenWindow::default();
        let open = self.windows.get(&window).unwrap_or(&empty);
        let mut counts = Counts::default();
        let mut stages = StageTimes::default();
        let mut last: BTreeMap<&ShardId, &Position> = BTreeMap::new();
        for report in &open.reports {
            counts.add(&report.counts);
            stages.add(&report.stages);
            last.extend(report.ranges.iter().map(|(id, range)| (id, &range.to)));
        }
        stages.report_us = micros(now_ms.saturating_sub(window.end_ms)).saturating_sub(stages.staged_us());
        let mut totals = self.totals;
        totals.add(&counts);
        let part =
            |report: &Report| ManifestPart { task: report.task, ranges: report.ranges.clone(), counts: report.counts };
        let objects = |report: &Report| {
            let of = |staged| ManifestObject { task: report.task, staged };
            report.objects.iter().cloned().map(of).collect::<Vec<_>>()
        };
        Manifest {
            version: MANIFEST_VERSION,
            job: self.name().clone(),
            epoch: self.epoch().next(),
            window,
            term,
            created_ms: now_ms,
            previous: self.head.clone(),
            query_digest: self.resolved.query_digest.clone(),
            lookups: open.lookups.clone(),
            parts: open.reports.iter().map(part).collect(),
            frontier: self.frontier(&last),
            objects: open.reports.iter().flat_map(objects).collect(),
            counts,
            totals,
            unmatched: most_frequent(open.reports.iter().flat_map(|report| &report.unmatched)),
            stages,
        }
    }

    /// Where every shard stands when `last` is read. One whose parents are not at their end is not at its end either,
    /// even if nothing is in it: its own children would be read too early by the next leader.
    fn frontier(&self, last: &BTreeMap<&ShardId, &Position>) -> BTreeMap<ShardId, Frontier> {
        let at = |id: &ShardId, shard: &Shard| (*last.get(id).unwrap_or(&&shard.committed)).clone();
        let kept = self.shards.iter().filter(|(_, shard)| !self.forgettable(shard));
        let stand = |(id, shard): (&ShardId, &Shard)| {
            let position = shard.position_at(&at(id, shard));
            // A file's detail is asked for again when it is read again.
            let detail = if self.lists_again() { shard.detail.clone() } else { String::new() };
            (id.clone(), Frontier { position, parents: shard.parents.clone(), detail })
        };
        let mut frontier: BTreeMap<ShardId, Frontier> = kept.map(stand).collect();
        let open = |frontier: &BTreeMap<ShardId, Frontier>, id: &ShardId| {
            frontier.get(id).is_some_and(|parent| parent.position != Position::End)
        };
        loop {
            let early = |each: &&ShardId| {
                let stands = &frontier[*each];
                stands.position == Position::End
                    && self.shards[*each].committed != Position::End
                    && stands.parents.iter().any(|parent| open(&frontier, parent))
            };
            let early: Vec<ShardId> = frontier.keys().filter(early).cloned().collect();
            if early.is_empty() {
                return frontier;
            }
            for id in early {
                let position = at(&id, &self.shards[&id]);
                frontier.entry(id).and_modify(|stands| stands.position = position);
            }
        }
    }

    /// Read to its end in a head, and no longer listed: it can never be taken for a new one.
    fn forgettable(&self, shard: &Shard) -> bool {
        self.lists_again() && self.listing.answered > 0 && !shard.listed && shard.committed == Position::End
    }

    /// The store holds the epoch that was on its way.
    pub fn committed(&mut self, now_ms: i64) -> Option<Manifest> {
        let Committing { manifest, reference, since_ms } = self.committing.take()?;
        let reference = reference?;
        self.not_past = None;
        for (id, frontier) in &manifest.frontier {
            if let Some(shard) = self.shards.get_mut(id) {
                if frontier.position == Position::End && shard.committed != Position::End {
                    self.plan_due = true;
                    shard.reached = Position::End;
                    shard.ended_at_listing = self.listing.asked;
                    shard.listed = true;
                }
                shard.committed = frontier.position.clone();
            }
        }
        for shard in self.shards.values_mut() {
            shard.floor_ms = shard.floor_ms.max(manifest.window.end_ms);
        }
        let forgotten: Vec<ShardId> =
            self.shards.iter().filter(|(_, shard)| self.forgettable(shard)).map(|(id, _)| id.clone()).collect();
        for id in forgotten {
            self.shards.remove(&id);
        }
        self.windows.retain(|window, _| *window > manifest.window);
        self.head_end_ms = manifest.window.end_ms;
        self.totals = manifest.totals;
        self.failures = 0;
        let mut figures = EpochFigures::of(&manifest, &reference.name);
        figures.stages.commit_us = micros(now_ms.saturating_sub(since_ms));
        figures.head_moved_ms = Some(now_ms);
        self.recent.push_back(figures);
        if self.recent.len() > RECENT_EPOCHS_MAX {
            self.recent.pop_front();
        }
        self.head = Some(reference);
        self.publishing.push_back(manifest.clone());
        Some(manifest)
    }

    /// The store knows that the oldest unpublished epoch is published, and so do its figures.
    pub fn published(&mut self, epoch: Epoch, now_ms: i64) {
        self.publishing.pop_front();
        self.published = epoch;
        self.delays.remove("record published");
        let figures = self.recent.iter_mut().rev().find(|figures| figures.epoch == epoch);
        let Some((figures, since_ms)) = figures.and_then(|it| it.head_moved_ms.map(|ms| (it, ms))) else { return };
        figures.stages.publish_us = micros(now_ms.saturating_sub(since_ms));
    }

    /// Locations of staged objects that may still become visible.
    pub fn staged(&self) -> BTreeSet<String> {
        let committing = self.committing.iter().map(|committing| &committing.manifest);
        let manifests = self.publishing.iter().chain(committing).flat_map(|manifest| &manifest.objects);
        let reports = self.windows.values().flat_map(|open| &open.reports).flat_map(|report| &report.objects);
        let staged = manifests.map(|object| &object.staged).chain(reports);
        staged.map(|object| object.location.clone()).collect()
    }

    /// A bounded source was read to its end, and all of it is published.
    pub fn complete(&self) -> bool {
        self.runs()
            && !self.lists_again()
            && self.listing.answered > 0
            && self.tasks.is_empty()
            && self.shards.values().all(Shard::done)
            && self.windows.values().all(|open| open.reports.is_empty())
            && self.settled()
    }

    /// Nothing is on its way into the store or to its readers.
    pub fn settled(&self) -> bool {
        self.committing.is_none() && self.publishing.is_empty()
    }
}

/// Milliseconds as microseconds; none of a clock that went back.
fn micros(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000)
}

/// The most frequent keys, most frequent first; ties in the order of their names, so that it is the same every time.
fn most_frequent<'a>(keys: impl Iterator<Item = &'a UnmatchedKey>) -> Vec<UnmatchedKey> {
    let mut rows: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for key in keys {
        let known = rows.entry((&key.lookup, &key.key)).or_default();
        *known = known.saturating_add(key.rows);
    }
    let mut sorted: Vec<_> = rows.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let key =
        |((lookup, key), rows): ((&str, &str), u64)| UnmatchedKey { lookup: lookup.into(), key: key.into(), rows };
    sorted.into_iter().take(UNMATCHED_KEYS_MAX).map(key).collect()
}
