//! The kit for stories about the core: short notation for jobs and events, the invariants after
//! every step.
//!
//! Owns: the kit. Does not own: the stories ([`stories`]), the broken states ([`invariants`]), the
//! simulated world ([`sim`]).
//! Rule: no clock, no randomness without a seed; a story that breaks an invariant ends where it
//! breaks.

mod deaths;
mod invariants;
mod refusals;
mod refused_messages;
mod replays;
mod retention;
mod scaling;
mod sim;
mod spread;
mod stories;
mod stream;
mod versions;
mod why;

use super::*;
use crate::stored::{Replays, WantedReplay};
use crate::testing;
use streamctl_proto::resolved::StreamFacts;
use streamctl_proto::spec::{Location, LookupFormat, LookupSpec};
use streamctl_proto::{
    Counts, Duplicates, Epoch, JobVersion, LookupVersion, Manifest, Position, Report, ShardRange,
    Watermark, WindowSize,
};

/// Length of a window in every test.
const WINDOW_MS: i64 = 1_000;
const BEGIN_MS: i64 = 1_000_000;

fn bounded() -> ResolvedJob {
    let mut job = testing::job("sales");
    job.spec.window = WindowSize::from_ms(WINDOW_MS).unwrap();
    job
}

fn kinesis() -> ResolvedJob {
    testing::reading_kinesis(bounded())
}

fn whole(mut job: ResolvedJob) -> ResolvedJob {
    job.whole_window = true;
    job
}

fn with_lookup(mut job: ResolvedJob) -> ResolvedJob {
    job.spec.lookups = vec![LookupSpec {
        name: "country".into(),
        path: Location::folder("/lookup"),
        format: LookupFormat::Csv,
        refresh: std::time::Duration::from_secs(1),
        size_max: 1 << 20,
        ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
    }];
    job
}

fn w(n: i64) -> Window {
    Window {
        start_ms: n * WINDOW_MS,
        end_ms: (n + 1) * WINDOW_MS,
    }
}

/// The position after the n-th record; 0 is the start.
fn at(n: u64) -> Position {
    if n == 0 {
        Position::Start
    } else {
        Position::after(n.into())
    }
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

fn shard(name: &str) -> ShardId {
    ShardId::new(name)
}

/// `c<a+b`: shard c with the parents a and b.
fn known(text: &str) -> KnownShard {
    let (name, parents) = text.split_once('<').unwrap_or((text, ""));
    let parents = parents
        .split('+')
        .filter(|parent| !parent.is_empty())
        .map(shard)
        .collect();
    KnownShard {
        shard: shard(name),
        parents,
        detail: String::new(),
    }
}

/// `a 0..5, b 3..4`: records 1 to 5 of a and record 4 of b.
fn ranges(text: &str) -> BTreeMap<ShardId, ShardRange> {
    let range = |part: &str| {
        let (name, numbers) = part.trim().split_once(' ').unwrap();
        let (from, to) = numbers.split_once("..").unwrap();
        let from: u64 = from.parse().unwrap();
        let to: u64 = to.parse().unwrap();
        (
            shard(name),
            ShardRange {
                from: at(from),
                to: at(to),
                records: to - from,
                bytes: to - from,
            },
        )
    };
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(range)
        .collect()
}

fn report(task: TaskId, window: Window, text: &str) -> Report {
    let ranges = ranges(text);
    let rows = ranges.values().map(|range| range.records).sum();
    let counts = Counts {
        rows_in: rows,
        rows_decoded: rows,
        rows_out: rows,
        ..Counts::default()
    };
    let (lookups, objects, unmatched, null_values, unknown_keys, stages, operators) =
        Default::default();
    Report {
        task,
        job: "sales".parse().unwrap(),
        window,
        ranges,
        counts,
        lookups,
        objects,
        unmatched,
        null_values,
        unknown_keys,
        stages,
        operators,
    }
}

/// `a@5 to 3 > b, c`: shard a ended after record 5 in window 3, with children b and c.
fn ended(name: &str, last: u64, window: i64, children: &[&str]) -> EndedShard {
    EndedShard {
        shard: shard(name),
        last: at(last),
        floor: Watermark::At(window * WINDOW_MS),
        children: children.iter().map(|child| known(child)).collect(),
    }
}

/// A story: one job, a core, and its effects.
struct Story {
    core: Core,
    now: i64,
    sessions: SessionId,
    silent: BTreeSet<WorkerId>,
    /// Effects for the store that are not yet done.
    store: Vec<Effect>,
    /// Messages to workers that are not yet examined.
    effects: Vec<Effect>,
    manifests: Vec<Manifest>,
    published: Vec<Epoch>,
    /// What listings return about the stream.
    stream: Option<StreamFacts>,
}

impl Story {
    fn empty(term: u64) -> Self {
        let core = Core::new(Term(term), BEGIN_MS, CoreSettings::default());
        let (silent, store, effects, manifests, published) = Default::default();
        Self {
            core,
            now: BEGIN_MS,
            sessions: term * 100,
            silent,
            store,
            effects,
            manifests,
            published,
            stream: None,
        }
    }

    /// A job that was just submitted.
    fn of(job: ResolvedJob) -> Self {
        let mut story = Self::empty(1);
        story.tell(Event::created(job));
        story
    }

    /// A job with these shards distributed over these workers.
    fn running(job: ResolvedJob, shards: &str, workers: &str) -> Self {
        let mut story = Self::of(job);
        for name in workers.split(' ') {
            story.joins(name, vec![]);
        }
        story.lists(shards);
        story
    }

    /// A new leader of a later term, with what the store holds.
    fn next_leader(&self, term: u64) -> Self {
        let mut next = Self::empty(term);
        next.now = self.now;
        next.core = Core::new(Term(term), self.now, CoreSettings::default());
        let published = self.published.last().copied().unwrap_or_default();
        let unpublished = self
            .manifests
            .iter()
            .filter(|manifest| manifest.epoch > published)
            .cloned()
            .collect();
        next.manifests.clone_from(&self.manifests);
        next.published.clone_from(&self.published);
        next.stream.clone_from(&self.stream);
        next.tell(Event::loaded(LoadedJob {
            job: self.job().resolved.clone(),
            wanted: self.job().wanted.clone(),
            head: self.manifests.last().cloned().map(Box::new),
            unpublished,
            published,
            replays: self.job().replays.stored.clone(),
            lookups: self
                .manifests
                .last()
                .map(|head| head.lookups.clone())
                .unwrap_or_default(),
            repairs: self.job().repairs.clone(),
            anchors: self.job().retention.stored.clone(),
        }));
        next
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let before = self.core.clone();
        let reported = format!("{event:?}");
        let mut effects = self.core.step(self.now, event);
        effects.retain(|effect| !matches!(effect, Effect::Sweep { .. }));
        let kept = super::invariants::check(&self.core)
            .and(super::invariants::check_step(&before, &self.core));
        if let Err(violation) = kept {
            panic!("{violation}, after {reported}");
        }
        for effect in &effects {
            match effect {
                Effect::WriteManifest { .. }
                | Effect::MoveHead { .. }
                | Effect::Publish { .. }
                | Effect::RecordPublished { .. }
                | Effect::RecordRepairs { .. }
                | Effect::RecordReplays { .. }
                | Effect::RecordAnchors { .. }
                | Effect::Trim { .. }
                | Effect::RecordVersion { .. }
                | Effect::RecordWanted { .. } => self.store.push(effect.clone()),
                _ => self.effects.push(effect.clone()),
            }
        }
        effects
    }

    fn job(&self) -> &Job {
        self.core.jobs.values().next().unwrap()
    }

    fn name(&self) -> JobName {
        self.job().name().clone()
    }

    fn shard(&self, name: &str) -> &job::Shard {
        &self.job().shards[&shard(name)]
    }

    /// The task that reads a shard, and its worker.
    fn owner(&self, name: &str) -> (WorkerId, TaskId) {
        let task = self
            .shard(name)
            .task
            .unwrap_or_else(|| panic!("nobody reads {name}"));
        (self.job().tasks[&task].worker.clone(), task)
    }

    fn task(&self, name: &str) -> TaskId {
        self.owner(name).1
    }

    fn lists(&mut self, shards: &str) -> Vec<Effect> {
        let job = self.name();
        let generation = self.job().listing.asked;
        self.tell(Event::Job {
            job,
            event: JobEvent::ShardsListed {
                generation,
                shards: shards.split(' ').map(known).collect(),
                stream: self.stream.clone(),
            },
        })
    }

    fn joins(&mut self, name: &str, tasks: Vec<RunningTask>) -> Vec<Effect> {
        self.sessions += 1;
        self.silent.remove(&worker(name));
        let session = self.sessions;
        let flight_address = String::new();
        self.tell(Event::Worker {
            worker: worker(name),
            session,
            event: WorkerEvent::Joined {
                facts: Default::default(),
                process: 0,
                flight_address,
                tasks,
            },
        })
    }

    /// The process of a worker was restarted before the worker was lost.
    fn restarts(&mut self, name: &str) -> Vec<Effect> {
        self.sessions += 1;
        self.silent.remove(&worker(name));
        let session = self.sessions;
        let flight_address = String::new();
        self.tell(Event::Worker {
            worker: worker(name),
            session,
            event: WorkerEvent::Joined {
                facts: Default::default(),
                process: session,
                flight_address,
                tasks: vec![],
            },
        })
    }

    /// A process of a worker joins, for the first time or again.
    fn is_process(&mut self, name: &str, process: u64) {
        self.sessions += 1;
        self.silent.remove(&worker(name));
        let session = self.sessions;
        let flight_address = String::new();
        self.tell(Event::Worker {
            worker: worker(name),
            session,
            event: WorkerEvent::Joined {
                facts: Default::default(),
                process,
                flight_address,
                tasks: vec![],
            },
        });
    }

    fn session(&self, name: &str) -> SessionId {
        self.core.workers[&worker(name)].session
    }

    fn breaks(&mut self, name: &str) {
        let session = self.session(name);
        self.silent.insert(worker(name));
        self.tell(Event::Worker {
            worker: worker(name),
            session,
            event: WorkerEvent::Disconnected,
        });
    }

    fn falls_silent(&mut self, name: &str) {
        self.silent.insert(worker(name));
    }

    fn leaves(&mut self, name: &str) -> Vec<Effect> {
        let session = self.session(name);
        self.tell(Event::Worker {
            worker: worker(name),
            session,
            event: WorkerEvent::Leaving,
        })
    }

    /// Time passes; workers that are not silent send heartbeats.
    fn after(&mut self, ms: i64) -> Vec<Effect> {
        let mut effects = vec![];
        let until = self.now + ms;
        while self.now < until {
            self.now = until.min(self.now + 100);
            let talks = self
                .core
                .workers
                .iter()
                .filter(|(id, _)| !self.silent.contains(*id));
            let talking: Vec<(WorkerId, SessionId)> = talks
                .map(|(id, worker)| (id.clone(), worker.session))
                .collect();
            for (worker, session) in talking {
                let memory_bytes = 0;
                let busy_permille = None;
                let clock_skew_ms = None;
                let heard = Event::Worker {
                    worker,
                    session,
                    event: WorkerEvent::Heard {
                        cpu_permille: None,
                        memory_bytes,
                        busy_permille,
                        clock_skew_ms,
                    },
                };
                effects.extend(self.tell(heard));
            }
            effects.extend(self.tell(Event::Ticked));
        }
        effects
    }

    /// The task that reads `name` requests a window.
    fn asks(&mut self, name: &str, n: i64) -> Vec<Effect> {
        let (worker, task) = self.owner(name);
        self.tell(Event::Task {
            worker,
            task,
            event: TaskEvent::WindowRequested(w(n)),
        })
    }

    /// The task of the first shard reports, without lookups.
    fn reports(&mut self, n: i64, text: &str) -> Vec<Effect> {
        let (worker, task) = self.owner(text.split(' ').next().unwrap());
        self.tell(Event::reported(worker, report(task, w(n), text)))
    }

    /// The task that reads `name` is past everything before the n-th window.
    fn is_past(&mut self, name: &str, n: i64) -> Vec<Effect> {
        let (worker, task) = self.owner(name);
        self.tell(Event::Task {
            worker,
            task,
            event: TaskEvent::Progressed {
                watermark: Watermark::At(n * WINDOW_MS),
                work_us: 0,
                computing: Computing::default(),
                hanging: vec![],
                shards: vec![],
            },
        })
    }

    fn shard_ends(&mut self, name: &str, last: u64, window: i64, children: &[&str]) -> Vec<Effect> {
        let (worker, task) = self.owner(name);
        self.tell(Event::Task {
            worker,
            task,
            event: TaskEvent::ShardEnded(ended(name, last, window, children)),
        })
    }

    fn task_ends(&mut self, (worker, task): (WorkerId, TaskId), end: TaskEnd) -> Vec<Effect> {
        self.tell(Event::Task {
            worker,
            task,
            event: TaskEvent::Ended(end),
        })
    }

    /// The store does what was requested, and what follows from it. `stop_before_publishing` leaves
    /// epochs invisible.
    fn store_works(&mut self) -> Vec<Effect> {
        let mut effects = vec![];
        while !self.store.is_empty() {
            let effect = self.store.remove(0);
            effects.extend(self.store_does(effect));
        }
        effects
    }

    /// Only commits are done, nothing is published.
    fn store_commits(&mut self) {
        while let Some(next) = self
            .store
            .iter()
            .position(|effect| !matches!(effect, Effect::Publish { .. }))
        {
            let effect = self.store.remove(next);
            self.store_does(effect);
        }
    }

    fn store_does(&mut self, effect: Effect) -> Vec<Effect> {
        let job = self.name();
        match effect {
            Effect::WriteManifest { manifest } => {
                let (_, reference) = manifest.encode();
                self.manifests.retain(|kept| kept.epoch < manifest.epoch);
                self.manifests.push(*manifest);
                self.tell(Event::Job {
                    job,
                    event: JobEvent::ManifestWritten { reference },
                })
            }
            Effect::MoveHead { head, .. } => self.tell(Event::Job {
                job,
                event: JobEvent::HeadMoved { epoch: head.epoch },
            }),
            Effect::Publish { epochs, .. } => self.tell(Event::Job {
                job,
                event: JobEvent::EpochsPublished {
                    through: epochs.last().unwrap().manifest.epoch,
                },
            }),
            Effect::RecordPublished { manifests, .. } => {
                self.published.extend(manifests.iter().map(|it| it.epoch));
                let through = *self.published.last().unwrap();
                self.tell(Event::Job {
                    job,
                    event: JobEvent::PublishedRecorded { through },
                })
            }
            Effect::RecordReplays { replays, .. } => self.tell(Event::Job {
                job,
                event: JobEvent::ReplaysRecorded { replays },
            }),
            Effect::RecordAnchors { anchors, .. } => self.tell(Event::Job {
                job,
                event: JobEvent::AnchorsRecorded { anchors },
            }),
            Effect::Trim { anchor, .. } => {
                self.manifests.retain(|kept| kept.epoch >= anchor.epoch);
                self.tell(Event::Job {
                    job,
                    event: JobEvent::Trimmed {
                        is_more_left: false,
                    },
                })
            }
            Effect::RecordVersion { version, .. } => self.tell(Event::Job {
                job,
                event: JobEvent::VersionRecorded {
                    job_version: version.job_version,
                },
            }),
            Effect::RecordWanted { wanted, .. } => self.tell(Event::Job {
                job,
                event: JobEvent::WantedRecorded { wanted },
            }),
            _ => vec![],
        }
    }

    /// The committed windows, by number.
    fn committed(&self) -> Vec<i64> {
        let epochs = usize::try_from(self.job().epoch().0).unwrap();
        self.manifests[..epochs]
            .iter()
            .map(|manifest| manifest.window.start_ms / WINDOW_MS)
            .collect()
    }

    fn sees_lookup(&mut self, version: &str) -> Vec<Effect> {
        let job = self.name();
        let version = LookupVersion::new(version);
        let job_version = self.job().resolved.job_version;
        self.tell(Event::Job {
            job,
            event: JobEvent::LookupSeen {
                job_version,
                lookup: "country".into(),
                version,
                read: Some((1, Duplicates::default())),
            },
        })
    }
}

/// What a worker reports as running after reading nothing.
fn runs(task: TaskId, base: &str) -> RunningTask {
    let base = ranges(base)
        .into_iter()
        .map(|(id, range)| (id, range.from))
        .collect();
    RunningTask {
        task,
        job: "sales".parse().unwrap(),
        job_version: JobVersion::FIRST,
        submitted_ms: None,
        base,
        reports: vec![],
        watermark: Watermark::Unknown,
        windows: vec![],
        ended: vec![],
        lost: BTreeMap::new(),
        retention_ms: None,
        released: false,
    }
}

fn cancelled(effects: &[Effect], task: TaskId) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::CancelTask { task: other, .. } if *other == task))
}

fn released(effects: &[Effect], task: TaskId) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::ReleaseTask { task: other, .. } if *other == task))
}

/// The shards of every started task: worker, shard, position, floor.
fn started(effects: &[Effect]) -> Vec<(String, String, Position, Watermark)> {
    let mut all = vec![];
    for effect in effects {
        let Effect::StartTask { worker, shards, .. } = effect else {
            continue;
        };
        let one = |s: &TaskShard| {
            (
                worker.to_string(),
                s.shard.to_string(),
                s.from.clone(),
                s.floor,
            )
        };
        all.extend(shards.iter().map(one));
    }
    all
}
