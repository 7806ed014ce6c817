//! Workers that send a worker's messages but read nothing: as many as a machine has connections
//! for.
//!
//! Owns: sessions over gRPC, and the tasks' part in them. Does not own: the memory of what was sent
//! (the product's `worker::registry`), the expectations of the controller.
//! Rule: they send as often as real ones: a heartbeat twice a second, the progress of each task
//! once a second, and for each window of each task a request and a report. Their reports have
//! records but no objects.

use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::clock::now_ms;
use streamctl_proto::convert;
use streamctl_proto::report::{Counts, ShardRange, StageTimes};
use streamctl_proto::v1::controller_message::Message;
use streamctl_proto::v1::task_ended::Why;
use streamctl_proto::v1::{self, worker_message};
use streamctl_proto::{
    JobName, LookupVersion, Position, Report, ShardId, TaskId, Window, WindowSize,
};
use streamctl_worker::connection::{Dial, Grpc, Incoming};
use streamctl_worker::registry::{JobIdentity, Registry};
use streamctl_worker::session::read_start;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
const DIAL_WAIT: Duration = Duration::from_millis(500);
const FLIGHT_ADDRESS: &str = "127.0.0.1:9";
const RECORD_BYTES: u64 = 324;
/// Records of each shard in each window.
const RECORDS_PER_WINDOW: u64 = 1_000;

struct Light {
    registry: Arc<Registry>,
    tasks: BTreeMap<TaskId, Task>,
}

struct Task {
    job: JobName,
    size: WindowSize,
    /// The position of each shard, in records.
    shards: BTreeMap<ShardId, u64>,
    window: Option<Open>,
    /// Windows up to here are reported.
    done_ms: i64,
    until_ms: i64,
}

struct Open {
    window: Window,
    lookups: Option<BTreeMap<String, LookupVersion>>,
}

/// Runs a worker with this name until it is dropped.
pub async fn run(name: String, controller: String) {
    let dial = Grpc::default();
    let mut light = Light {
        registry: Arc::default(),
        tasks: BTreeMap::new(),
    };
    loop {
        let registry = Arc::clone(&light.registry);
        let name = name.clone();
        let begin = Box::new(move || {
            let (hello, said) = registry.connect(&name, FLIGHT_ADDRESS);
            let hello = v1::WorkerMessage {
                message: Some(worker_message::Message::Hello(hello)),
            };
            futures::stream::once(async { hello })
                .chain(ReceiverStream::new(said))
                .boxed()
        });
        if let Ok(incoming) = dial.dial(&controller, begin).await {
            light.talk(incoming).await;
        }
        light.registry.disconnect();
        tokio::time::sleep(DIAL_WAIT.mul_f64(0.5 + fastrand::f64())).await;
    }
}

impl Light {
    async fn talk(&mut self, mut incoming: Incoming) {
        let [mut look, mut heartbeat, mut progress] =
            [LOOK_INTERVAL, HEARTBEAT_INTERVAL, PROGRESS_INTERVAL].map(every);
        loop {
            tokio::select! {
                biased;
                _ = heartbeat.tick() => {
                    let beat = v1::Heartbeat { memory_bytes: 1 << 20, busy_permille: Some(100), ..v1::Heartbeat::default() };
                    if !self.registry.send(worker_message::Message::Heartbeat(beat)) {
                        return;
                    }
                }
                message = incoming.next() => match message {
                    Some(Ok(v1::ControllerMessage { message: Some(message) })) => self.obey(message),
                    _ => return,
                },
                _ = look.tick() => self.go_on(now_ms()),
                _ = progress.tick() => self.tell_progress(),
            }
        }
    }

    fn obey(&mut self, message: Message) {
        const SOUND: &str = "the controller says what is sound";
        match message {
            Message::StartTask(start) => {
                let (id, job, shards) = read_start(start).expect(SOUND);
                let base = shards
                    .iter()
                    .map(|shard| (shard.id.clone(), shard.at.clone()))
                    .collect();
                if self.registry.begin(id, JobIdentity::from(&job), base, None) {
                    let shards = shards
                        .into_iter()
                        .map(|shard| (shard.id, records_at(&shard.at)))
                        .collect();
                    let (job, size) = (job.spec.name, job.spec.window);
                    let task = Task {
                        job,
                        size,
                        shards,
                        window: None,
                        done_ms: i64::MIN,
                        until_ms: i64::MAX,
                    };
                    self.tasks.insert(id, task);
                }
            }
            Message::WindowOpened(opened) => {
                let id = convert::task_id(opened.task);
                let window = convert::window(opened.window);
                let id = id.expect(SOUND);
                let window = window.expect(SOUND);
                let lookups = convert::lookups_from_wire(opened.lookups);
                let asked = self.registry.window_opened(id, window, &lookups);
                let open = self
                    .tasks
                    .get_mut(&id)
                    .and_then(|task| task.window.as_mut());
                if let Some(open) = open.filter(|open| asked && open.window == window) {
                    open.lookups = Some(lookups);
                }
            }
            Message::ReleaseTask(release) => {
                let id = convert::task_id(release.task).expect(SOUND);
                self.report(id);
                self.end(id, Why::Released);
            }
            Message::DrainTask(drain) => {
                let id = convert::task_id(drain.task).expect(SOUND);
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.until_ms = drain.until_ms;
                }
            }
            Message::CancelTask(cancel) => {
                let id = convert::task_id(cancel.task).expect(SOUND);
                self.end(id, Why::Cancelled);
                self.registry.forget(id);
            }
            Message::EpochCommitted(committed) => {
                let job = JobName::try_from(committed.job).expect(SOUND);
                self.registry
                    .committed(&job, convert::window(committed.window).expect(SOUND));
            }
            Message::Welcome(_) | Message::Access(_) | Message::Part(_) => {}
        }
    }

    /// Requests windows that have begun, reports those that are over, ends what is drained.
    fn go_on(&mut self, now: i64) {
        for id in self.tasks.keys().copied().collect::<Vec<_>>() {
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            match &task.window {
                Some(open) if open.lookups.is_some() && now >= open.window.end_ms => {
                    self.report(id)
                }
                Some(_) => continue,
                None => {}
            }
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            let window = task.size.window_of(now.max(task.done_ms));
            if window.end_ms > task.until_ms {
                self.end(id, Why::Released);
                continue;
            }
            task.window = Some(Open {
                window,
                lookups: None,
            });
            self.registry.ask_window(id, window);
        }
    }

    /// Reports the open window in its current state, if there is one.
    fn report(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some(Open {
            window,
            lookups: Some(lookups),
        }) = task.window.take()
        else {
            return;
        };
        let rows_in = RECORDS_PER_WINDOW * task.shards.len() as u64;
        let ranges = task.shards.iter_mut().map(|(shard, at)| {
            let from = position(*at);
            *at += RECORDS_PER_WINDOW;
            let records = RECORDS_PER_WINDOW;
            let bytes = RECORDS_PER_WINDOW * RECORD_BYTES;
            (
                shard.clone(),
                ShardRange {
                    from,
                    to: position(*at),
                    records,
                    bytes,
                },
            )
        });
        let report = Report {
            task: id,
            job: task.job.clone(),
            window,
            ranges: ranges.collect(),
            counts: Counts {
                rows_in,
                bytes_in: rows_in * RECORD_BYTES,
                rows_decoded: rows_in,
                ..Counts::default()
            },
            lookups,
            objects: vec![],
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            operators: vec![],
            stages: StageTimes::default(),
        };
        task.done_ms = window.end_ms;
        self.registry
            .report(report)
            .expect("a report without objects is small");
        self.registry.progress(
            id,
            v1::Progress {
                watermark_ms: window.end_ms,
                ..v1::Progress::default()
            },
        );
    }

    fn end(&mut self, id: TaskId, why: Why) {
        if self.tasks.remove(&id).is_some() {
            self.registry.end(id, why.into());
        }
    }

    fn tell_progress(&self) {
        for (id, task) in &self.tasks {
            let shard = |(id, records): (&ShardId, &u64)| v1::ShardProgress {
                shard: id.to_string(),
                records: *records,
                bytes: records * RECORD_BYTES,
                last_arrival_ms: now_ms(),
                ..Default::default()
            };
            let shards = task.shards.iter().map(shard).collect();
            let progress = v1::Progress {
                watermark_ms: task.done_ms,
                shards,
                ..v1::Progress::default()
            };
            self.registry.progress(*id, progress);
        }
    }
}

/// Ticks that start at a random offset in the interval, so that not all workers send at the same
/// time.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.reset_after(period.mul_f64(fastrand::f64()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn position(records: u64) -> Position {
    if records == 0 {
        Position::Start
    } else {
        Position::after(records.into())
    }
}

fn records_at(position: &Position) -> u64 {
    match position {
        Position::After { sequence, .. } => {
            sequence.to_string().parse().expect("it is one of ours")
        }
        Position::Start | Position::Timestamp(_) | Position::End => 0,
    }
}
