//! The core in a simulated world where every fault happens, in an order that a seed decides.
//!
//! Owns: the world's store, its scheduler, the oracle. Does not own: what workers do ([`worker`]),
//! the records ([`source`]). Rule: a run is deterministic; the same seed gives the same story.

mod source;
mod worker;

use super::*;
use crate::effect::Unpublished;
use crate::event::Stuck;
use crate::stored::Anchors;
use fastrand::Rng;
use source::Source;
use streamctl_proto::spec::Keep;
use streamctl_proto::{DeadLetterShard, ManifestRef};
use worker::SimWorker;

/// Seeds of every test run.
const SEEDS: u64 = 1_200;
/// Later seeds that once found a bug in the core; each bug also has a story.
const BROKE_IT_ONCE: [u64; 3] = [1_537, 3_636, 4_419];
const BEAT_MS: i64 = 100;
/// Steps with faults.
const WILD_STEPS: usize = 700;
/// Steps without faults, after which all work must be done.
const QUIET_STEPS: usize = 20_000;

#[derive(Default)]
struct Kept {
    manifests: BTreeMap<String, Manifest>,
    head: Option<ManifestRef>,
    published: Epoch,
    wanted: Option<DesiredState>,
    replays: Replays,
    anchors: Anchors,
}

struct World {
    rng: Rng,
    now: i64,
    job: ResolvedJob,
    core: Core,
    source: Source,
    workers: Vec<SimWorker>,
    store: Kept,
    todo: Vec<Effect>,
    sessions: SessionId,
    lookup: u64,
    /// Listings of the stream by request.
    lists: BTreeMap<u64, Vec<KnownShard>>,
    /// For the oracle: the window of every record.
    windows: BTreeMap<ShardId, Vec<Window>>,
    /// For the oracle: how many records of a shard heads hold.
    read: BTreeMap<ShardId, u64>,
    last_window: Option<Window>,
    log: Vec<String>,
    wild: bool,
    /// Decides when the job changes. It is separate, so that it does not change the rest of a
    /// seed's story.
    changing: Option<Rng>,
    /// Decides when dead letters are replayed; separate for the same reason.
    replaying: Option<Rng>,
    /// The next turn in quiet times: no worker is lost there because it was never chosen.
    turn: usize,
}

fn settings() -> CoreSettings {
    CoreSettings {
        worker_timeout_ms: 500,
        adoption_ms: 200,
        listing_interval_ms: 700,
        retry_waits_ms: [20, 50, 100],
        probation_ms: 200,
        probation_max_ms: 1_000,
        byte_rate_span_ms: 250,
        spread_interval_ms: 600,
        ..CoreSettings::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let reshards = rng.bool();
        let mut job = if reshards { kinesis() } else { bounded() };
        job.whole_window = rng.u8(0..4) == 0;
        job.spec.retries_max = 1_000;
        if reshards && rng.bool() {
            job.start = Position::Timestamp(BEGIN_MS - source::STEP_BACK_MS);
        }
        if rng.bool() {
            job = with_lookup(job);
            job.spec.lookups[0].refresh = std::time::Duration::from_millis(150);
        }
        if seed.is_multiple_of(5) {
            job.submitted_ms = BEGIN_MS;
            job.spec.keep = Keep::For(std::time::Duration::from_millis(600));
        }
        let length_ms = rng.i64(1_000..8_000);
        let source = Source::new(&mut rng, reshards, length_ms);
        let workers = (0..rng.usize(1..5))
            .map(|n| SimWorker::new(&format!("w{n}"), job.whole_window))
            .collect();
        let core = Core::new(Term(1), BEGIN_MS, settings());
        let (store, todo, sessions, lookup, lists, read, last_window, log) = Default::default();
        let now = BEGIN_MS;
        let windows = source.windows();
        #[rustfmt::skip]
        let created = Event::created(job.clone());
        let mut world = Self {
            rng,
            now,
            job,
            core,
            source,
            workers,
            store,
            todo,
            sessions,
            lookup,
            lists,
            windows,
            read,
            last_window,
            log,
            wild: true,
            changing: seed
                .is_multiple_of(3)
                .then(|| Rng::with_seed(seed ^ 0x5eed)),
            replaying: seed.is_multiple_of(2).then(|| Rng::with_seed(!seed)),
            turn: 0,
        };
        world.tell(created);
        world
    }

    fn tell(&mut self, event: Event) {
        let before = self.core.clone();
        self.log.push(format!("{} {event:?}", self.now - BEGIN_MS));
        let effects = self.core.step(self.now, event);
        let kept = crate::invariants::check(&self.core)
            .and(crate::invariants::check_step(&before, &self.core));
        kept.unwrap_or_else(|violation| panic!("{violation}"));
        for effect in effects {
            self.log.push(format!("    -> {effect:?}"));
            match &effect {
                Effect::StartTask { worker, .. }
                | Effect::ReleaseTask { worker, .. }
                | Effect::DrainTask { worker, .. }
                | Effect::CancelTask { worker, .. }
                | Effect::OpenWindow { worker, .. }
                | Effect::AnnounceCommit { worker, .. } => {
                    let to = self.workers.iter_mut().find(|to| to.id == worker.as_str());
                    if let Some(to) = to.filter(|to| to.line.is_some()) {
                        to.down.push_back(effect);
                    }
                }
                // Nothing is staged in this world.
                Effect::Sweep { .. } => {}
                _ => {
                    if let Effect::ListShards { generation, .. } = effect {
                        self.lists.insert(generation, self.source.list(self.now));
                    }
                    self.todo.push(effect);
                }
            }
        }
    }

    /// The driver performs one effect; some are performed twice, because their outcome was unknown.
    fn perform(&mut self) {
        if self.todo.is_empty() {
            return;
        }
        let effect = self.todo.remove(self.rng.usize(0..self.todo.len()));
        if self.rng.u8(0..10) == 0 {
            self.apply(&effect);
        }
        if let Some(event) = self.apply(&effect) {
            self.tell(event);
        }
    }

    /// Nothing that the store needs is removed: what is read later must be there.
    fn trim(&mut self, anchor: &ManifestRef) {
        // The store may hold a later one by now.
        let stored = self.store.anchors.first_kept();
        assert!(anchor.epoch <= stored, "{anchor:?} is not stored");
        assert!(anchor.epoch <= self.store.published, "it is published");
        for wanted in &self.store.replays.wanted {
            let epoch = wanted.letters.epoch();
            assert!(anchor.epoch <= epoch, "its dead letters are waited for");
        }
        let first = anchor.epoch;
        self.store.manifests.retain(|_, kept| kept.epoch >= first);
        let kept = self.store.anchors.anchor().cloned();
        assert!(kept.is_some_and(|kept| self.store.manifests.contains_key(&kept.digest)));
    }

    fn apply(&mut self, effect: &Effect) -> Option<Event> {
        let name = self.job.spec.name.clone();
        Some(match effect.clone() {
            Effect::ListShards { job, generation } => {
                // The listing was correct at some time between request and answer.
                let now = self.source.list(self.now);
                let shards = if self.rng.bool() {
                    self.lists[&generation].clone()
                } else {
                    now
                };
                Event::Job {
                    job,
                    event: JobEvent::ShardsListed {
                        generation,
                        shards,
                        stream: None,
                    },
                }
            }
            Effect::CheckLookup {
                job,
                job_version,
                lookup,
                ..
            } => {
                // Each version of the job has another lookup of this name.
                let version = LookupVersion::new(format!("v{}-{job_version}", self.lookup));
                Event::Job {
                    job,
                    event: JobEvent::LookupSeen {
                        job_version,
                        lookup,
                        version,
                        read: None,
                    },
                }
            }
            Effect::WriteManifest { manifest } => {
                let (_, reference) = manifest.encode();
                self.store
                    .manifests
                    .insert(reference.digest.clone(), *manifest);
                Event::Job {
                    job: name,
                    event: JobEvent::ManifestWritten { reference },
                }
            }
            Effect::MoveHead { previous, head, .. } => {
                if self.store.head.as_ref() != Some(&head) {
                    assert_eq!(
                        self.store.head, previous,
                        "the head was moved by nobody else"
                    );
                    self.judge(&self.store.manifests[&head.digest].clone());
                    self.store.head = Some(head.clone());
                }
                Event::Job {
                    job: name,
                    event: JobEvent::HeadMoved { epoch: head.epoch },
                }
            }
            Effect::Publish { epochs, .. } => {
                let first = &epochs[0].manifest;
                let in_order =
                    |pair: &[Unpublished]| pair[0].manifest.epoch.next() == pair[1].manifest.epoch;
                assert!(
                    first.epoch <= self.store.published.next() && epochs.windows(2).all(in_order),
                    "epochs are published in order"
                );
                // The sink may take only some of them at once.
                let taken = self.rng.usize(1..=epochs.len());
                let through = epochs[taken - 1].manifest.epoch;
                if self.wild && self.rng.u8(0..50) == 0 {
                    let error = "no such upload".into();
                    let hint = "read it again".into();
                    let stuck = Stuck {
                        epoch: first.epoch,
                        lost: vec!["/out/a".into()],
                    };
                    return Some(Event::Job {
                        job: name,
                        event: JobEvent::ObjectsLost { stuck, error, hint },
                    });
                }
                Event::Job {
                    job: name,
                    event: JobEvent::EpochsPublished { through },
                }
            }
            Effect::RecordPublished { manifests, .. } => {
                let first = manifests[0].epoch;
                let through = manifests[manifests.len() - 1].epoch;
                assert_eq!(first.0 + manifests.len() as u64, through.0 + 1);
                assert!(
                    first <= self.store.published.next()
                        && Some(through) <= self.store.head.as_ref().map(|h| h.epoch)
                );
                self.store.published = self.store.published.max(through);
                Event::Job {
                    job: name,
                    event: JobEvent::PublishedRecorded { through },
                }
            }
            Effect::RecordAnchors { anchors, .. } => {
                self.store.anchors = anchors.clone();
                Event::Job {
                    job: name,
                    event: JobEvent::AnchorsRecorded { anchors },
                }
            }
            Effect::Trim { anchor, .. } => {
                self.trim(&anchor);
                let is_more_left = self.rng.bool();
                Event::Job {
                    job: name,
                    event: JobEvent::Trimmed { is_more_left },
                }
            }
            Effect::RecordReplays { replays, .. } => {
                for wanted in &self.store.replays.wanted {
                    assert!(
                        replays.has(wanted.letters.epoch()),
                        "what is wanted is not forgotten"
                    );
                }
                self.store.replays = replays.clone();
                Event::Job {
                    job: name,
                    event: JobEvent::ReplaysRecorded { replays },
                }
            }
            Effect::RecordVersion { version, .. } => {
                let job_version = version.job_version;
                assert!(
                    job_version == self.job.job_version
                        || job_version == self.job.job_version.next()
                );
                self.job = *version;
                Event::Job {
                    job: name,
                    event: JobEvent::VersionRecorded { job_version },
                }
            }
            Effect::RecordWanted { wanted, .. } => {
                let replays = !self.store.replays.wanted.is_empty();
                let completed = self.store.wanted == Some(DesiredState::Completed) && !replays;
                assert!(
                    !completed || wanted == DesiredState::Completed,
                    "a job that is completed stays so"
                );
                self.store.wanted = Some(wanted.clone());
                Event::Job {
                    job: name,
                    event: JobEvent::WantedRecorded { wanted },
                }
            }
            _ => return None,
        })
    }

    /// The oracle: an epoch continues exactly where the one before ended, and has no child before
    /// its parents' end.
    fn judge(&mut self, manifest: &Manifest) {
        assert!(
            self.last_window.is_none_or(|last| last < manifest.window),
            "windows go up"
        );
        self.last_window = Some(manifest.window);
        // The store's version makes the epoch, completely, with lookups of its own (I9).
        assert_eq!(
            manifest.job_version(),
            self.job.job_version,
            "epoch {}",
            manifest.epoch
        );
        assert_eq!(
            manifest.query_digest, self.job.query_digest,
            "epoch {}",
            manifest.epoch
        );
        let own = format!("-{}", self.job.job_version);
        for version in manifest.lookups.values() {
            assert!(
                version.as_str().ends_with(&own),
                "epoch {} joins with {version}",
                manifest.epoch
            );
        }
        for (id, range) in manifest.parts.iter().flat_map(|part| &part.ranges) {
            let read = self.read.entry(id.clone()).or_default();
            assert!(
                stands(&range.from, *read),
                "{id} in epoch {} from {}",
                manifest.epoch,
                range.from
            );
            if is_dead_letters(id) {
                // The window is decided when the dead letter is read; the oracle only checks that
                // it is read once.
                *read += range.records;
                assert_eq!(range.to, at(*read), "{id} in epoch {}", manifest.epoch);
                continue;
            }
            let placed = &self.windows[id][*read as usize..][..range.records as usize];
            assert!(
                placed.iter().all(|window| *window == manifest.window),
                "{id} in {}: {placed:?}",
                manifest.window
            );
            *read += range.records;
            assert_eq!(range.to, at(*read), "{id} in epoch {}", manifest.epoch);
        }
        if self.job.whole_window {
            assert_eq!(
                manifest.parts.len(),
                1,
                "epoch {} is one result",
                manifest.epoch
            );
        }
        for id in manifest.parts.iter().flat_map(|part| part.ranges.keys()) {
            for parent in &self.source.shards[id].parents {
                let read = self.read.get(parent).copied().unwrap_or(0) as usize;
                assert_eq!(
                    read,
                    self.source.shards[parent].records.len(),
                    "{id} before the end of {parent}"
                );
            }
        }
        for (id, frontier) in &manifest.frontier {
            let read = self.read.get(id).copied().unwrap_or(0);
            let right = stands(&frontier.position, read)
                || frontier.position == Position::End
                    && read as usize == self.source.shards[id].records.len();
            assert!(
                right,
                "{id} stands at {}, {read} records are read",
                frontier.position
            );
        }
    }

    fn new_leader(&mut self) {
        // Effects in flight to the store may have been applied.
        for effect in std::mem::take(&mut self.todo) {
            let store = matches!(
                effect,
                Effect::MoveHead { .. }
                    | Effect::RecordPublished { .. }
                    | Effect::RecordReplays { .. }
                    | Effect::RecordAnchors { .. }
                    | Effect::Trim { .. }
                    | Effect::RecordVersion { .. }
                    | Effect::RecordWanted { .. }
            );
            if store && self.rng.bool() {
                self.apply(&effect);
            }
        }
        for worker in &mut self.workers {
            worker.break_line(&mut self.rng);
            worker.up.clear();
            worker.late.clear();
        }
        let term = Term(self.core.term.0 + 1);
        self.core = Core::new(term, self.now, settings());
        let mut unpublished = vec![];
        let mut next = self.store.head.clone();
        while let Some(reference) = next.filter(|reference| reference.epoch > self.store.published)
        {
            let manifest = self.store.manifests[&reference.digest].clone();
            next = manifest.previous.clone();
            unpublished.insert(0, manifest);
        }
        let head = self
            .store
            .head
            .as_ref()
            .map(|head| Box::new(self.store.manifests[&head.digest].clone()));
        self.tell(Event::loaded(LoadedJob {
            job: self.job.clone(),
            wanted: self.store.wanted.clone().unwrap_or(DesiredState::Running),
            head,
            unpublished,
            published: self.store.published,
            replays: self.store.replays.clone(),
            lookups: BTreeMap::new(),
            repairs: vec![],
            anchors: self.store.anchors.clone(),
        }));
    }

    fn trouble(&mut self) {
        let Self { rng, workers, .. } = self;
        let index = rng.usize(0..workers.len());
        let worker = &mut workers[index];
        let name = self.job.spec.name.clone();
        match rng.u8(0..16) {
            0..4 => worker.break_line(rng),
            4 => worker.kill(rng),
            5 | 6 => worker.paused_until_ms = self.now + rng.i64(50..900),
            7 => worker.leave(),
            8 => worker.fail(rng),
            9 | 10 => self.lookup += 1,
            11 | 12 => self.new_leader(),
            13 => self.tell(Event::Job {
                job: name,
                event: JobEvent::StopRequested { drain: true },
            }),
            14 if rng.u8(0..3) == 0 => self.tell(Event::Job {
                job: name,
                event: JobEvent::StopRequested { drain: false },
            }),
            _ => self.tell(Event::Job {
                job: name,
                event: JobEvent::ResumeRequested,
            }),
        }
    }

    /// A user requests a replay of the dead letters of an epoch, perhaps not for the first time.
    fn replay(&mut self) {
        let Some(rng) = &mut self.replaying else {
            return;
        };
        let head = self.store.head.as_ref().map_or(0, |head| head.epoch.0);
        if head == 0 || rng.u8(0..30) > 0 {
            return;
        }
        let epoch = Epoch(rng.u64(1..=head.min(4)));
        let digest = "0123456789abcdef".repeat(4);
        let letters = DeadLetterShard::of(&ManifestRef {
            epoch,
            name: String::new(),
            digest,
        });
        self.source
            .add_letters(letters.id(), rng.usize(1..9), self.now);
        let epochs = vec![WantedReplay {
            since: epoch,
            letters,
        }];
        self.tell(Event::Job {
            job: self.job.spec.name.clone(),
            event: JobEvent::ReplayRequested { epochs },
        });
    }

    /// A user changes the job: its query, and which lookup it joins with.
    fn change(&mut self) {
        let Some(rng) = &mut self.changing else {
            return;
        };
        if rng.u8(0..80) > 0 {
            return;
        }
        let Some(job) = self.core.jobs.values().next() else {
            return;
        };
        let mut next = job.resolved.clone();
        // Sometimes another user has made this version meanwhile.
        next.job_version =
            JobVersion((next.job_version.0 + 1).saturating_sub(u64::from(rng.u8(0..8) == 0)));
        next.query_digest = format!("q{}", rng.u32(..));
        for lookup in &mut next.spec.lookups {
            lookup.path = Location::folder(&format!("/lookup-{}", rng.u32(..)));
        }
        self.tell(Event::change_requested(next));
    }

    /// A closed shard that the head holds to its end disappears from the stream's list.
    fn expire(&mut self) {
        let Some(head) = &self.store.head else { return };
        let frontier = &self.store.manifests[&head.digest].frontier;
        for (id, shard) in &mut self.source.shards {
            shard.expired |= frontier
                .get(id)
                .is_some_and(|at| at.position == Position::End);
        }
    }

    fn step(&mut self, wild: bool) {
        self.now += self.rng.i64(0..12);
        if wild && self.rng.u8(0..25) == 0 {
            self.trouble();
        }
        if wild {
            self.replay();
            self.change();
        }
        if self.rng.u8(0..60) == 0 {
            self.expire();
        }
        if !self.wild {
            (0..self.workers.len()).for_each(|index| self.hear(index));
        }
        match self.rng.u8(0..6) {
            0 => self.tell(Event::Ticked),
            1 => self.perform(),
            _ => {
                self.turn += 1;
                let count = self.workers.len();
                let index = if self.wild {
                    self.rng.usize(0..count)
                } else {
                    self.turn % count
                };
                self.worker_step(index);
            }
        }
    }

    /// In quiet times, connections are fast: no worker is lost because its messages wait, or
    /// because it had no turn.
    fn hear(&mut self, index: usize) {
        if self.now >= self.workers[index].paused_until_ms {
            self.workers[index].beat(self.now);
        }
        while let Some(event) = self.workers[index].late.pop_front() {
            self.tell(event);
        }
        while let Some(event) = self.workers[index].up.pop_front() {
            self.tell(event);
        }
    }

    fn worker_step(&mut self, index: usize) {
        let Self {
            rng,
            workers,
            source,
            now,
            ..
        } = self;
        let worker = &mut workers[index];
        let late = rng.bool();
        let queue = if late {
            &mut worker.late
        } else {
            &mut worker.up
        };
        if let Some(event) = if rng.u8(0..3) > 0 {
            queue.pop_front()
        } else {
            None
        } {
            return self.tell(event);
        }
        if *now < worker.paused_until_ms {
            return;
        }
        worker.beat(*now);
        if worker.line.is_none() {
            if rng.u8(0..3) == 0 {
                self.sessions += 1;
                worker.connect(self.sessions);
            }
        } else if rng.bool() {
            worker.obey();
        }
        worker.work(*now, source, rng);
        if worker.leaving && worker.is_idle() {
            worker.kill(rng);
        }
    }

    fn is_done(&self) -> bool {
        let all = self.source.shards.iter().all(|(id, shard)| {
            self.read.get(id).copied().unwrap_or(0) as usize == self.due(id, shard.records.len())
        });
        let visible =
            self.store.published == self.store.head.as_ref().map_or(Epoch(0), |head| head.epoch);
        let ended = self.core.jobs.values().all(Job::lists_again)
            || self.store.wanted == Some(DesiredState::Completed);
        all && visible && ended && self.store.replays.wanted.is_empty()
    }

    /// Only dead letters with a request in the store are read.
    fn due(&self, id: &ShardId, records: usize) -> usize {
        let letters = DeadLetterShard::parse(id);
        let known = letters.is_none_or(|letters| self.store.replays.has(letters.epoch()));
        if known { records } else { 0 }
    }

    /// I8: once all work is done, time alone changes nothing.
    fn must_be_calm(&mut self) {
        for _ in 0..1_000 {
            self.step(false);
        }
        let effects = self.log.len();
        for _ in 0..500 {
            self.step(false);
        }
        let asks = |line: &&String| line.starts_with("    ->");
        let calm = |line: &&String| line.contains("ListShards") || line.contains("CheckLookup");
        let restless: Vec<_> = self.log[effects..]
            .iter()
            .filter(asks)
            .filter(|line| !calm(line))
            .collect();
        assert!(restless.is_empty(), "I8: {restless:?}");
    }

    fn live(&mut self) {
        for _ in 0..WILD_STEPS {
            self.step(true);
        }
        self.wild = false;
        for n in 0..QUIET_STEPS {
            if n % 500 == 0 {
                self.tell(Event::Job {
                    job: self.job.spec.name.clone(),
                    event: JobEvent::ResumeRequested,
                });
            }
            self.step(false);
            if n % 50 == 0 && self.is_done() {
                return self.must_be_calm();
            }
        }
        let job = self.core.jobs.values().next().unwrap();
        let of = |(id, s): (&ShardId, &job::Shard)| {
            format!(
                "{id} {} {} {:?} {:?} {:?}\n",
                s.committed, s.reached, s.end, s.floor, s.task
            )
        };
        let shards = job.shards.iter().map(of).collect::<String>();
        let tasks = &job.tasks;
        let windows = job.windows.keys();
        panic!(
            "it is never done: {:?}, {:?}, {:?}\n{shards}\n{tasks:?}\n{windows:?}",
            job.wanted, self.read, job.listing
        );
    }
}

/// Whether a position is the one after the n-th record; before the first there are two.
fn stands(position: &Position, read: u64) -> bool {
    *position == at(read) || read == 0 && matches!(position, Position::Timestamp(_))
}

/// `STREAMCTL_SIM_SEEDS=100..200` runs other seeds, `STREAMCTL_SIM_LOG=path` keeps the events of a
/// seed that fails.
#[allow(
    clippy::disallowed_methods,
    reason = "a test has no main that could pass it down"
)]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn tell(seed: u64) {
    let mut world = World::new(seed);
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.live()));
    if let Err(panic) = lived {
        if let Some(path) = asked("STREAMCTL_SIM_LOG") {
            std::fs::write(path, world.log.join("\n")).unwrap();
        }
        let text = panic.downcast_ref::<String>().cloned();
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default();
        panic!("seed {seed} breaks the core: {text}");
    }
}

#[test]
fn whatever_happens_every_record_is_committed_exactly_once() {
    let seeds = match asked("STREAMCTL_SIM_SEEDS") {
        Some(text) => {
            let (from, to) = text.split_once("..").unwrap();
            from.parse().unwrap()..to.parse().unwrap()
        }
        None => 0..SEEDS,
    };
    for seed in seeds.chain(BROKE_IT_ONCE) {
        tell(seed);
    }
}
