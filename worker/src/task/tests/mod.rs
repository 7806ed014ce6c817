//! Whole tasks over shards in memory: real decoding, query and sink; the test is the controller.
//!
//! Owns: the bed. The tests themselves are in [`reading`], [`ending`] and [`memory`].

mod ending;
mod memory;
mod reading;

use super::{Command, Context, Opening, Parts, run, shards::ShardState};
use crate::functions::Functions;
use crate::memory::MemoryBudget;
use crate::registry::{JobIdentity, Registry};
use crate::results::Results;
use crate::source::Sources;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::source::memory::MemorySource;
use streamctl_engine::source::testing;
use streamctl_engine::storage::{MemoryStorage, Storage, Storages};
use streamctl_proto::manifest::ManifestObject;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{
    FilesSink, GeneratorSource, KinesisSource, Location, PayloadCompression, SourceKind,
};
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{
    LookupVersion, Manifest, Position, Report, ResolvedJob, ShardId, StagedObject, TaskId, Term,
    Watermark, Window, WindowSize, v1,
};
use tokio::sync::mpsc;

/// Length of a window in these tests.
pub(crate) const WINDOW_MS: i64 = 1_000;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn window(number: i64) -> Window {
    Window {
        start_ms: number * WINDOW_MS,
        end_ms: (number + 1) * WINDOW_MS,
    }
}

pub(crate) fn shard(name: &str) -> ShardId {
    ShardId::from(name)
}

/// A stream named `s`.
pub(crate) fn kinesis_source(compression: PayloadCompression) -> SourceKind {
    SourceKind::Kinesis(KinesisSource {
        stream: Some("s".into()),
        arn: None,
        endpoint: None,
        region: None,
        role_arn: None,
        session_name: None,
        poll_interval: Duration::from_millis(250),
        consumer: None,
        max_records_per_read: 10_000,
        compression,
        grace: Duration::ZERO,
        aggregates: Default::default(),
        format: Default::default(),
    })
}

/// The sink of [`job`].
pub(crate) fn sink() -> FilesSink {
    testing::sink(Location::folder("memory://out"))
}

/// A job over records `{"id": .., "k": ".."}`, all of it below `memory://`.
pub(crate) fn job(sql: &str) -> ResolvedJob {
    let kind = SourceKind::Generator(GeneratorSource {
        seed: 1,
        shards: 1,
        rate: 1.0,
        records_per_shard: None,
        bad_every: 0,
        unmatched_every: 0,
    });
    let mut job = testing::job(kind, 0);
    job.spec.window = WindowSize::from_ms(WINDOW_MS).unwrap();
    job.spec.sql = sql.to_owned();
    job.spec.sink = sink().into();
    job.spec.checkpoint = Location::folder("memory://checkpoint");
    let column = |name: &str, type_name: &str| ColumnType {
        name: name.into(),
        type_name: type_name.into(),
    };
    job.columns = vec![column("id", "bigint"), column("k", "string")];
    job
}

pub(crate) fn record(id: u64) -> String {
    format!(r#"{{"id": {id}, "k": "k{}"}}"#, id % 3)
}

/// The controller's answer for a window at its first try.
fn opened(window: Window, lookups: BTreeMap<String, LookupVersion>) -> Command {
    Command::Open(Opening {
        window,
        lookups,
        attempt: 1,
    })
}

/// The environment of a task; the test sends the controller's messages.
pub(crate) struct Bed {
    pub job: ResolvedJob,
    pub source: MemorySource,
    pub storage: MemoryStorage,
    pub results: Arc<Results>,
    pub registry: Arc<Registry>,
    /// Replaces the sources in memory.
    pub sources: Option<Sources>,
    pub functions: Functions,
    pub lookups: BTreeMap<String, LookupVersion>,
    pub budget: MemoryBudget,
    said: mpsc::Receiver<v1::WorkerMessage>,
    commands: Option<mpsc::Sender<Command>>,
    tasks: u64,
    deadline: tokio::time::Instant,
}

impl Bed {
    pub fn new(job: ResolvedJob) -> Self {
        let registry = Arc::new(Registry::default());
        let (_, said) = registry.connect("w", "here:1");
        Self {
            job,
            source: MemorySource::default(),
            storage: MemoryStorage::default(),
            results: Arc::default(),
            registry,
            sources: None,
            functions: Functions::default(),
            lookups: BTreeMap::new(),
            budget: MemoryBudget::default(),
            said,
            commands: None,
            tasks: 0,
            deadline: tokio::time::Instant::now() + PATIENCE,
        }
    }

    pub fn storages(&self) -> Storages {
        Storages::memory(self.storage.clone())
    }

    pub fn context(&self) -> Arc<Context> {
        let sources = Sources::new(Aws::new(AwsSettings::default()), self.storages())
            .with_memory(self.source.clone());
        let sources = self.sources.clone().unwrap_or(sources);
        Arc::new(Context::new(
            self.job.clone(),
            self.storages(),
            sources,
            self.budget.clone(),
            self.functions.clone(),
        ))
    }

    pub fn state(&self, name: &str, from: Position, floor_ms: i64) -> ShardState {
        ShardState::new(
            shard(name),
            from,
            vec![],
            String::new(),
            self.job.spec.window,
            Watermark::At(floor_ms),
        )
    }

    /// Starts a task of these shards, from their beginning.
    pub fn start(&mut self, shards: &[&str]) -> TaskId {
        let states = shards
            .iter()
            .map(|name| self.state(name, Position::Start, 0))
            .collect();
        self.start_states(states)
    }

    pub fn start_states(&mut self, states: Vec<ShardState>) -> TaskId {
        self.tasks += 1;
        let id = TaskId {
            term: Term(1),
            counter: self.tasks,
        };
        let base = states
            .iter()
            .map(|state| (state.id.clone(), state.at.clone()))
            .collect();
        assert!(
            self.registry
                .begin(id, JobIdentity::from(&self.job), base, None)
        );
        let (commands, receiver) = mpsc::channel(super::COMMANDS_MAX);
        let parts = Parts {
            id,
            context: self.context(),
            registry: Arc::clone(&self.registry),
            results: Arc::clone(&self.results),
            compute: tokio::runtime::Handle::current().into(),
            meter: Default::default(),
        };
        tokio::spawn(run(parts, states, receiver));
        self.commands = Some(commands);
        id
    }

    /// Sends a command; ignored if the task has ended.
    pub async fn command(&self, command: Command) {
        let _over = self.commands.as_ref().unwrap().send(command).await;
    }

    /// The next message of the task.
    pub async fn next(&mut self) -> Message {
        // Figures come every second even from a stuck task, so the deadline counts from the start.
        let next = tokio::time::timeout_at(self.deadline, self.said.recv())
            .await
            .expect("the task is stuck");
        next.expect("the line stands").message.unwrap()
    }

    /// Opens requested windows until the awaited message; returns all messages, including that one.
    pub async fn until(&mut self, awaited: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut all = vec![];
        loop {
            let message = self.next().await;
            if let Message::WindowOpening(opening) = &message {
                let window = opening.window.unwrap();
                let window = Window {
                    start_ms: window.start_ms,
                    end_ms: window.end_ms,
                };
                self.command(opened(window, self.lookups.clone())).await;
            }
            let found = awaited(&message);
            all.push(message);
            if found {
                return all;
            }
        }
    }

    /// Until the task has ended.
    pub async fn finish(&mut self) -> Vec<Message> {
        self.until(|message| matches!(message, Message::TaskEnded(_)))
            .await
    }

    /// Handles a report as a controller does: an epoch of its own, published, with its manifest in
    /// the checkpoint location.
    pub async fn publish(&self, report: &Report) -> Manifest {
        for object in &report.objects {
            self.storage.publish(object).await.unwrap();
        }
        let of = |staged: &StagedObject| ManifestObject {
            task: report.task,
            staged: staged.clone(),
        };
        let objects = report.objects.iter().map(of).collect();
        let manifest = Manifest {
            objects,
            counts: report.counts,
            ..crate::replay::tests::manifest(report)
        };
        let (bytes, reference) = manifest.encode();
        self.storage
            .put(&self.job.spec.checkpoint.join(&reference.name), bytes);
        manifest
    }

    /// Pushes a record per arrival time; ids count from `first`.
    pub fn push(&self, name: &str, first: u64, arrivals: &[i64]) {
        for (id, arrival_ms) in (first..).zip(arrivals) {
            self.source.push(&shard(name), *arrival_ms, record(id));
        }
    }
}

pub(crate) fn reports(messages: &[Message]) -> Vec<Report> {
    let report = |message: &Message| match message {
        Message::Report(report) => {
            Some(Report::try_from(report.clone()).expect("a report that survives the wire"))
        }
        _ => None,
    };
    messages.iter().filter_map(report).collect()
}

pub(crate) fn ended(messages: &[Message]) -> v1::TaskEnded {
    let ended = |message: &Message| {
        if let Message::TaskEnded(ended) = message {
            Some(ended.clone())
        } else {
            None
        }
    };
    messages.iter().find_map(ended).expect("the task ended")
}

/// Records per shard over all reports, after checking that the ranges of each shard join without a
/// gap.
pub(crate) fn chained(reports: &[Report], from: &Position) -> BTreeMap<ShardId, u64> {
    let mut at: BTreeMap<ShardId, (Position, u64)> = BTreeMap::new();
    for (id, range) in reports.iter().flat_map(|report| &report.ranges) {
        let (reached, records) = at.entry(id.clone()).or_insert_with(|| (from.clone(), 0));
        assert_eq!(*reached, range.from, "a gap in {id}");
        assert!(range.records > 0 && range.from.reaches(&range.to));
        *reached = range.to.clone();
        *records += range.records;
    }
    at.into_iter()
        .map(|(id, (_, records))| (id, records))
        .collect()
}
