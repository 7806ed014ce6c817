//! Messages of workers to the controller, valid and invalid, into the real core with a running job.
//!
//! Input: a story. Each byte selects the next event, the bytes after it its details. Most workers
//! behave correctly; then a field of a message is replaced, or the message is random bytes.
//! Rule: whatever the messages, the core keeps its invariants and stays small; an epoch that it
//! commits continues where the previous one ended, adds up, and names only objects of its tasks.

mod oracle;
mod said;

use oracle::Oracle;
use prost::Message as _;
use said::Said;
use std::time::Duration;
use streamctl_controller::service::workers::{Greeting, Unreadable, read, read_hello};
use streamctl_controller::store::contract;
use streamctl_core::stored::DesiredState;
use streamctl_core::{
    Core, CoreSettings, Effect, Event, JobEvent, KnownShard, LoadedJob, RefusedTask, TaskEvent,
    WorkerEvent, invariants,
};
use streamctl_proto::spec::{Location, LookupFormat, LookupSpec, PartitionColumn};
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{LookupVersion, ResolvedJob, ShardId, Term, WindowSize, WorkerId, v1};

const WINDOW_MS: i64 = 1_000;
/// Most steps of one story.
const STEPS_MAX: usize = 300;
/// Shards that the source has; the last one is a child of the first.
const SHARDS: [&str; 4] = ["a", "b", "c", "d"];
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];

/// Takes choices from the input; at its end, always the first option.
pub struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.to_vec()
    }

    fn time(&mut self) -> i64 {
        let near = i64::from(self.byte()) * 100;
        match self.below(10) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => i64::MAX - 999,
            3 => -near,
            4 => 1_000_000_000_000_000_000,
            _ => said::BEGIN_MS + near,
        }
    }

    fn number(&mut self) -> u64 {
        let near = u64::from(self.byte());
        match self.below(8) {
            0 => u64::MAX,
            1 => u64::MAX - near,
            2 => 1 << 53,
            _ => near,
        }
    }
}

struct World<'a> {
    choices: Choices<'a>,
    now: i64,
    core: Core,
    oracle: Oracle,
    session: u64,
    todo: Vec<Effect>,
    log: Vec<String>,
}

pub fn workers(data: &[u8]) {
    let mut world = World::new(Choices(data));
    for _ in 0..STEPS_MAX {
        if world.choices.0.is_empty() {
            break;
        }
        world.step();
    }
    world.settle();
}

fn job(kind: u8) -> ResolvedJob {
    let mut job = contract::job("sales");
    job.spec.window = WindowSize::from_ms(WINDOW_MS).expect("a second is a window");
    job.whole_window = kind & 1 == 1;
    if kind & 2 == 0 {
        job = contract::reading_kinesis(job);
    }
    if kind & 4 == 4 {
        let path = Location::folder("/countries");
        let refresh = Duration::from_secs(60);
        let name = "country".into();
        let format = LookupFormat::Csv;
        job.spec.lookups = vec![LookupSpec {
            name,
            path,
            format,
            refresh,
            size_max: 1 << 20,
            ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
        }];
    }
    let mut sink = contract::sink();
    if kind & 8 == 8 {
        sink.partition_by = vec![
            PartitionColumn::IngestYear,
            PartitionColumn::Column("country".into()),
        ];
    }
    if kind & 16 == 16 {
        sink.path = Location::folder("s3://bucket/out");
    }
    job.spec.sink = sink.into();
    job
}

impl<'a> World<'a> {
    fn new(mut choices: Choices<'a>) -> Self {
        let job = job(choices.byte());
        let core = Core::new(Term(1), said::BEGIN_MS, CoreSettings::default());
        let oracle = Oracle::new(job.clone());
        let (session, todo, log) = Default::default();
        let mut world = Self {
            choices,
            now: said::BEGIN_MS,
            core,
            oracle,
            session,
            todo,
            log,
        };
        world.tell(Event::created(job));
        for worker in &WORKERS[..2] {
            let hello = v1::Hello {
                worker: (*worker).into(),
                ..v1::Hello::default()
            };
            world.joins(hello);
        }
        world.work();
        world
    }

    fn step(&mut self) {
        let said = Said {
            choices: &mut self.choices,
            core: &self.core,
        };
        match said.choices.byte() % 16 {
            0 => self.passes(),
            1..=2 => self.work(),
            3 => {
                let worker = WORKERS[self.choices.below(WORKERS.len())];
                let hello = Said {
                    choices: &mut self.choices,
                    core: &self.core,
                }
                .hello(worker);
                self.joins(hello);
            }
            4 => self.breaks(),
            5 => self.asked_by_user(),
            6 => self.next_leader(),
            7 => {
                let bytes = self.choices.bytes();
                if let Ok(v1::WorkerMessage {
                    message: Some(message),
                }) = v1::WorkerMessage::decode(&bytes[..])
                {
                    let worker = WORKERS[self.choices.below(WORKERS.len())];
                    self.says(worker, message);
                }
            }
            _ => {
                if let Some((worker, message)) = said.any() {
                    self.says(&worker, message);
                }
            }
        }
    }

    /// A worker sends a message on its newest connection.
    fn says(&mut self, worker: &str, message: Message) {
        let message = v1::WorkerMessage {
            message: Some(message),
        };
        let bytes = message.encode_to_vec();
        let Ok(v1::WorkerMessage { message }) = v1::WorkerMessage::decode(&bytes[..]) else {
            return;
        };
        let worker = WorkerId::new(worker);
        let Some(session) = self
            .core
            .workers
            .get(&worker)
            .filter(|w| w.connected)
            .map(|w| w.session)
        else {
            return;
        };
        match read(&worker, session, message) {
            Ok(event) => self.tell_admitted(event),
            Err(Unreadable {
                task: Some(task),
                problem,
            }) => {
                self.refused(
                    &worker,
                    RefusedTask {
                        task,
                        job: None,
                        problem,
                    },
                );
            }
            Err(Unreadable { task: None, .. }) => {}
        }
    }

    fn joins(&mut self, hello: v1::Hello) {
        let bytes = hello.encode_to_vec();
        let hello = v1::Hello::decode(&bytes[..]).expect("what was written is read");
        let Ok(Greeting {
            worker,
            flight_address,
            tasks,
            refused,
            ..
        }) = read_hello(hello)
        else {
            return;
        };
        self.session += 1;
        for refused in refused {
            self.refused(&worker, refused);
        }
        let session = self.session;
        self.tell_admitted(Event::Worker {
            worker,
            session,
            event: WorkerEvent::Joined {
                facts: Default::default(),
                process: 0,
                flight_address,
                tasks,
            },
        });
    }

    fn tell_admitted(&mut self, event: Event) {
        for event in self.core.admit(event) {
            match event {
                Event::Task {
                    worker,
                    event: TaskEvent::Refused(refused),
                    ..
                } => self.refused(&worker, *refused),
                event => self.tell(event),
            }
        }
    }

    /// The task ends, and nothing else.
    fn refused(&mut self, worker: &WorkerId, refused: RefusedTask) {
        let reported = refused.problem.to_string();
        assert!(
            reported.len() < 16 << 10,
            "a refusal of {} bytes is not a line of a log",
            reported.len()
        );
        let task = refused.task;
        let connected = self.core.workers.get(worker).map(|worker| worker.connected);
        self.tell(Event::refused(worker.clone(), refused));
        let live = |id| {
            self.core.jobs.values().any(|job| {
                job.tasks
                    .get(&id)
                    .is_some_and(|task| task.worker == *worker)
            })
        };
        assert!(
            !live(task),
            "{task} of {worker} was refused and is still there"
        );
        assert_eq!(
            self.core.workers.get(worker).map(|worker| worker.connected),
            connected,
            "{worker} keeps its session"
        );
    }

    fn tell(&mut self, event: Event) {
        self.log.push(format!("{} {event:?}", self.now));
        let before = self.core.clone();
        let effects = self.core.step(self.now, event);
        let kept = invariants::check(&self.core).and(invariants::check_step(&before, &self.core));
        let kept = kept
            .map_err(|violation| violation.to_string())
            .and_then(|()| oracle::small(&self.core));
        self.judge(kept);
        for effect in effects {
            if let Effect::WriteManifest { manifest } = &effect {
                let judged = self.oracle.may_commit(manifest);
                self.judge(judged);
            }
            let spoken = matches!(
                effect,
                Effect::StartTask { .. }
                    | Effect::ReleaseTask { .. }
                    | Effect::DrainTask { .. }
                    | Effect::CancelTask { .. }
                    | Effect::OpenWindow { .. }
                    | Effect::AnnounceCommit { .. }
                    | Effect::Sweep { .. }
            );
            if !spoken {
                self.todo.push(effect);
            }
        }
        for job in self.core.jobs.values() {
            assert!(self.core.status(job.name(), false).is_some());
        }
    }

    fn judge(&self, kept: Result<(), String>) {
        if let Err(problem) = kept {
            panic!("{problem}\n{}", self.log.join("\n"));
        }
    }

    /// Advances time; connected workers stay alive.
    fn passes(&mut self) {
        self.now += i64::from(self.choices.byte()) * 20;
        let lives: Vec<_> = self
            .core
            .workers
            .iter()
            .map(|(id, worker)| (id.clone(), worker.session))
            .collect();
        for (worker, session) in lives {
            if self.choices.below(4) != 3 {
                self.tell(Event::Worker {
                    worker,
                    session,
                    event: WorkerEvent::Heard {
                        cpu_permille: None,
                        memory_bytes: 0,
                        busy_permille: None,
                        clock_skew_ms: None,
                    },
                });
            }
        }
        self.tell(Event::Ticked);
    }

    fn breaks(&mut self) {
        let worker = WorkerId::new(WORKERS[self.choices.below(WORKERS.len())]);
        if let Some(session) = self.core.workers.get(&worker).map(|worker| worker.session) {
            self.tell(Event::Worker {
                worker,
                session,
                event: WorkerEvent::Disconnected,
            });
        }
    }

    fn asked_by_user(&mut self) {
        let job = self.oracle.job.spec.name.clone();
        match self.choices.below(4) {
            0 => self.tell(Event::Job {
                job,
                event: JobEvent::StopRequested { drain: true },
            }),
            1 => self.tell(Event::Job {
                job,
                event: JobEvent::StopRequested { drain: false },
            }),
            _ => self.tell(Event::Job {
                job,
                event: JobEvent::ResumeRequested,
            }),
        }
    }

    /// Store and outside world execute their requests, in order.
    fn work(&mut self) {
        let mut left = 64;
        while left > 0 && !self.todo.is_empty() {
            let effect = self.todo.remove(0);
            self.perform(effect);
            left -= 1;
        }
    }

    fn perform(&mut self, effect: Effect) {
        let event = match effect {
            Effect::ListShards { job, generation } => Event::Job {
                job,
                event: JobEvent::ShardsListed {
                    generation,
                    shards: listed(),
                    stream: None,
                },
            },
            Effect::CheckLookup {
                job,
                job_version,
                lookup,
                ..
            } => Event::Job {
                job,
                event: JobEvent::LookupSeen {
                    job_version,
                    lookup,
                    version: LookupVersion::new("v1"),
                    read: Some((1, streamctl_proto::Duplicates::default())),
                },
            },
            Effect::WriteManifest { manifest } => {
                let (_, reference) = manifest.encode();
                self.oracle
                    .written
                    .insert(reference.digest.clone(), (*manifest).clone());
                Event::Job {
                    job: manifest.job.clone(),
                    event: JobEvent::ManifestWritten { reference },
                }
            }
            Effect::MoveHead {
                job,
                previous,
                head,
            } => {
                let judged = self.oracle.move_head(previous.as_ref(), &head);
                self.judge(judged);
                Event::Job {
                    job,
                    event: JobEvent::HeadMoved { epoch: head.epoch },
                }
            }
            Effect::Publish { job, epochs } => {
                let Some(last) = epochs.last() else { return };
                let through = last.manifest.epoch;
                Event::Job {
                    job,
                    event: JobEvent::EpochsPublished { through },
                }
            }
            Effect::RecordPublished { job, manifests } => {
                let Some(last) = manifests.last() else { return };
                let through = last.epoch;
                self.oracle.published = through;
                Event::Job {
                    job,
                    event: JobEvent::PublishedRecorded { through },
                }
            }
            Effect::RecordAnchors { job, anchors } => Event::Job {
                job,
                event: JobEvent::AnchorsRecorded { anchors },
            },
            Effect::RecordWanted { job, wanted } => {
                self.oracle.wanted = wanted.clone();
                Event::Job {
                    job,
                    event: JobEvent::WantedRecorded { wanted },
                }
            }
            _ => return,
        };
        self.tell(event);
    }

    /// Elects another controller, with the store's content.
    fn next_leader(&mut self) {
        self.log.push("another leader".into());
        self.todo.clear();
        self.core = Core::new(
            Term(self.core.term.0 + 1),
            self.now,
            CoreSettings::default(),
        );
        let (head, unpublished) = self.oracle.load();
        let job = self.oracle.job.clone();
        let wanted = self.oracle.wanted.clone();
        let published = self.oracle.published;
        self.tell(Event::loaded(LoadedJob {
            job,
            wanted,
            head: head.map(Box::new),
            unpublished,
            published,
            replays: Default::default(),
            lookups: Default::default(),
            repairs: vec![],
            anchors: Default::default(),
        }));
    }

    /// All faulty workers are gone: the job must be able to continue.
    fn settle(&mut self) {
        for worker in WORKERS {
            let worker = WorkerId::new(worker);
            if let Some(session) = self.core.workers.get(&worker).map(|worker| worker.session) {
                self.tell(Event::Worker {
                    worker,
                    session,
                    event: WorkerEvent::Disconnected,
                });
            }
        }
        for _ in 0..20 {
            self.now += 1_000;
            self.tell(Event::Ticked);
            self.work();
        }
        let tasks: usize = self.core.jobs.values().map(|job| job.tasks.len()).sum();
        assert_eq!(
            tasks,
            0,
            "workers that are gone have no tasks\n{}",
            self.log.join("\n")
        );
        let restarted = self
            .core
            .jobs
            .values()
            .all(|job| job.wanted != DesiredState::Running || job.waiting.is_empty());
        assert!(restarted, "nobody waits for a window");
    }
}

fn listed() -> Vec<KnownShard> {
    let parents = |name: &str| {
        if name == "d" {
            vec![ShardId::new("a")]
        } else {
            vec![]
        }
    };
    let known = |name: &&str| KnownShard {
        shard: ShardId::new(*name),
        parents: parents(name),
        detail: String::new(),
    };
    SHARDS.iter().map(known).collect()
}
