//! The session with the leading controller: connect, send Hello, execute commands, reconnect.
//!
//! Owns: finding the leader, heartbeats, the tasks that run here. Does not own: what a task does.
//! Rule: heartbeats wait for nothing; whatever a connection loses is in the next Hello.

#[cfg(test)]
mod tests;

use crate::busy::Sampler;
use crate::compute::Compute;
use crate::connection::{Dial, Grpc, Incoming};
use crate::functions::Functions;
use crate::memory::MemoryBudget;
use crate::meter::Meter;
use crate::process_cpu::ProcessCpu;
use crate::protection::Protection;
use crate::registry::{Ending, JobIdentity, Registry};
use crate::results::Results;
use crate::source::Sources;
use crate::task::{self, COMMANDS_MAX, Command, Context, Opening, Parts, shards::ShardState};
use futures::{FutureExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::security::dial::like;
use streamctl_engine::storage::Storages;
use streamctl_proto::convert::{self, BadMessage};
use streamctl_proto::load::{LoadHistory, LoadSample, to_hello};
use streamctl_proto::refusal::CallRefusal;
use streamctl_proto::resolved::RESOLVED_VERSION;
use streamctl_proto::v1::controller_message::Message;
use streamctl_proto::v1::{self, worker_message};
use streamctl_proto::{JobName, ResolvedJob, ShardId, TaskId, Watermark};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Waits between two rounds of connection attempts.
const DIAL_WAIT_MIN: Duration = Duration::from_millis(50);
const DIAL_WAIT_MAX: Duration = Duration::from_secs(1);
/// Time for tasks to hand back their shards at a stop.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);
/// After a connection that lasts this long, reconnect without a wait. After shorter ones, back off,
/// for example if two workers with one name take the connection from each other.
const GOOD_LINE: Duration = Duration::from_secs(5);
/// Connect timeout for a controller that has just become silent, if there are others: one of them
/// may lead already, and it takes over running tasks only for a short time.
const SILENT_DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait between two rounds during that time.
const SILENT_WAIT_MAX: Duration = Duration::from_millis(300);
/// How long the shorter timeouts apply: by then another controller leads, or none can. A slow
/// connection must not be closed for ever.
const SILENT_FOR_MAX: Duration = Duration::from_secs(10);
/// Interval between two heartbeats until the controller sets its own.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// The settings of a worker.
#[derive(Clone)]
pub struct Settings {
    pub worker: String,
    /// The address of its Flight service, host:port.
    pub flight_address: String,
    /// Addresses of the controllers: `http://host:port`, or `https://`.
    pub controllers: Vec<String>,
    pub protection: Protection,
}

#[derive(Clone)]
pub struct World {
    pub storages: Storages,
    pub sources: Sources,
    pub results: Arc<Results>,
    /// The memory budget of the worker.
    pub budget: MemoryBudget,
    /// Computes windows.
    pub compute: Compute,
    /// Reads shards and serves rows. The session runs elsewhere, so that no job delays its
    /// heartbeats.
    pub network: tokio::runtime::Handle,
    /// Metrics and the destination of spans.
    pub meter: Meter,
    /// Whether jobs' functions run here.
    pub functions: Functions,
}

struct Session {
    settings: Settings,
    world: World,
    dial: Arc<dyn Dial>,
    registry: Arc<Registry>,
    tasks: BTreeMap<TaskId, mpsc::Sender<Command>>,
    running: JoinSet<TaskId>,
    leaving: bool,
    busy: Sampler,
    cpu: ProcessCpu,
    /// The next leader gets it with the Hello.
    load: LoadHistory,
    began: tokio::time::Instant,
}

/// A controller whose connection broke, until one responds.
struct Silent {
    address: String,
    since: tokio::time::Instant,
}

enum LineEnd {
    Broken {
        reason: String,
        /// Something must be fixed first: it has a hint.
        is_lasting: bool,
    },
    Redirected(String),
    Left,
}

/// Works for the leading controller until `stop`; then hands back its shards.
pub async fn run(settings: Settings, world: World, stop: impl Future<Output = ()>) {
    let dialer = settings.protection.dialer.clone();
    run_over(Arc::new(Grpc { dialer }), settings, world, stop).await;
}

/// The same with connections from `dial`.
pub async fn run_over(
    dial: Arc<dyn Dial>,
    settings: Settings,
    world: World,
    stop: impl Future<Output = ()>,
) {
    let registry = Arc::new(Registry::default());
    let busy = Sampler::new(
        world.meter.work.clone(),
        world.compute.clone(),
        world.network.clone(),
    );
    let tasks = BTreeMap::new();
    let running = JoinSet::new();
    let mut session = Session {
        settings,
        world,
        dial,
        registry,
        tasks,
        running,
        leaving: false,
        busy,
        cpu: ProcessCpu::default(),
        load: LoadHistory::default(),
        began: tokio::time::Instant::now(),
    };
    let mut wait = DIAL_WAIT_MIN;
    let mut next = session.settings.controllers.clone();
    let mut reported = None;
    let mut silent: Option<Silent> = None;
    tokio::pin!(stop);
    loop {
        for address in std::mem::take(&mut next) {
            let fell = silent
                .as_ref()
                .is_some_and(|silent| silent.address == address);
            let patience = if fell && session.hurries(silent.as_ref()) {
                SILENT_DIAL_TIMEOUT
            } else {
                Duration::MAX
            };
            let connected = tokio::select! {
                biased;
                // Without a connection there is no controller to hand shards back to.
                () = &mut stop => return,
                connected = session.connect(&address, patience) => connected,
            };
            let began = tokio::time::Instant::now();
            let joined = connected.is_ok();
            let end = match connected {
                Ok(incoming) => {
                    silent = None;
                    session.world.meter.set_connected(true);
                    session.talk(incoming, stop.as_mut()).await
                }
                Err(end) => end,
            };
            session.registry.disconnect();
            session.world.meter.set_connected(false);
            if began.elapsed() >= GOOD_LINE {
                wait = DIAL_WAIT_MIN;
            }
            match end {
                LineEnd::Left => return,
                LineEnd::Redirected(leader) => {
                    let leader = like(&address, &leader);
                    // A standby may not know yet that the leader became silent: try it last in this
                    // round.
                    let is_last = session.settings.controllers.contains(&leader);
                    if !(is_last
                        && silent
                            .as_ref()
                            .is_some_and(|silent| silent.address == leader))
                    {
                        next = vec![leader];
                        break;
                    }
                }
                LineEnd::Broken { reason, is_lasting } => {
                    if joined {
                        silent = Some(Silent {
                            address: address.clone(),
                            since: tokio::time::Instant::now(),
                        });
                    }
                    // Log what does not go away by itself once, and again when it changes.
                    if is_lasting && reported.as_ref() != Some(&reason) {
                        tracing::error!(address, reason, "the controller rejected this worker");
                        reported = Some(reason);
                    } else if joined {
                        tracing::warn!(
                            address,
                            reason,
                            "the connection to the leader broke, dialling again"
                        );
                    } else {
                        tracing::debug!(address, reason, "no line to this controller");
                    }
                    if joined {
                        break;
                    }
                }
            }
        }
        if next.is_empty() {
            next.clone_from(&session.settings.controllers);
            next.sort_by_key(|address| {
                silent
                    .as_ref()
                    .is_some_and(|silent| silent.address == *address)
            });
        }
        tokio::select! {
            biased;
            () = &mut stop => return,
            () = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
        }
        wait = (wait * 2).min(if session.hurries(silent.as_ref()) {
            SILENT_WAIT_MAX
        } else {
            DIAL_WAIT_MAX
        });
    }
}

impl Session {
    /// Whether another controller may already lead.
    fn hurries(&self, silent: Option<&Silent>) -> bool {
        self.settings.controllers.len() > 1
            && silent.is_some_and(|silent| silent.since.elapsed() < SILENT_FOR_MAX)
    }

    /// Connects and sends Hello; returns the controller's messages from then on.
    async fn connect(&self, address: &str, patience: Duration) -> Result<Incoming, LineEnd> {
        let registry = Arc::clone(&self.registry);
        let settings = self.settings.clone();
        let compute_threads = u32::try_from(self.world.compute.threads()).ok();
        let memory_limit_bytes = self.world.budget.limit().bytes();
        let load = to_hello(&self.load, self.running_ms());
        let begin = move || {
            let (hello, outgoing) = registry.connect(&settings.worker, &settings.flight_address);
            let hello = v1::Hello {
                compute_threads,
                memory_limit_bytes: Some(memory_limit_bytes),
                load,
                ..hello
            };
            let hello = v1::WorkerMessage {
                message: Some(worker_message::Message::Hello(hello)),
            };
            futures::stream::once(async { hello })
                .chain(ReceiverStream::new(outgoing))
                .boxed()
        };
        match tokio::time::timeout(patience, self.dial.dial(address, Box::new(begin))).await {
            Ok(dialled) => dialled.map_err(|status| refused(&status)),
            Err(_) => Err(broken(format!("no answer within {patience:?}"))),
        }
    }

    /// Executes the controller's messages until the connection ends.
    async fn talk(
        &mut self,
        mut incoming: Incoming,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> LineEnd {
        let mut heartbeat = every(HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                biased;
                _ = heartbeat.tick() => {
                    if !self.beat() {
                        return broken("the controller does not accept this worker's messages");
                    }
                }
                () = stop.as_mut(), if !self.leaving => {
                    self.leaving = true;
                    tracing::info!(tasks = self.running.len(), "stopping: handing shards back");
                    self.registry.send(worker_message::Message::Leaving(v1::Leaving {}));
                    if self.running.is_empty() {
                        return LineEnd::Left;
                    }
                    let deadline = tokio::time::Instant::now() + RELEASE_TIMEOUT;
                    return self.hand_back(&mut incoming, deadline).await;
                }
                Some(ended) = self.running.join_next() => self.ended(ended),
                message = incoming.next() => match message {
                    Some(Ok(v1::ControllerMessage { message: Some(message) })) => {
                        if let Message::Welcome(welcome) = &message {
                            heartbeat = every(Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(50, 5_000))));
                        }
                        if let Err(problem) = self.obey(message) {
                            return broken(problem.to_string());
                        }
                    }
                    Some(Err(status)) => return refused(&status),
                    _ => return broken("the controller ended the session"),
                },
            }
        }
    }

    /// Runs until all tasks have ended, or the time is over.
    async fn hand_back(
        &mut self,
        incoming: &mut Incoming,
        deadline: tokio::time::Instant,
    ) -> LineEnd {
        let mut heartbeat = every(HEARTBEAT_INTERVAL);
        while !self.running.is_empty() {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(tasks = self.running.len(), "not all shards were handed back in time");
                    break;
                }
                _ = heartbeat.tick() => {
                    self.beat();
                }
                Some(ended) = self.running.join_next() => self.ended(ended),
                message = incoming.next() => match message {
                    Some(Ok(v1::ControllerMessage { message: Some(message) })) => {
                        let _refused = self.obey(message);
                    }
                    _ => break,
                },
            }
        }
        // The last messages must be sent before the process ends: close the connection, then let
        // the transport drain it.
        self.registry.disconnect();
        let drained = async { while let Some(Ok(_)) = incoming.next().await {} };
        let _late = tokio::time::timeout(Duration::from_millis(500), drained).await;
        LineEnd::Left
    }

    fn ended(&mut self, ended: Result<TaskId, tokio::task::JoinError>) {
        match ended {
            Ok(task) => {
                self.tasks.remove(&task);
            }
            Err(error) => tracing::error!(%error, "a task broke off"),
        }
    }

    fn obey(&mut self, message: Message) -> Result<(), BadMessage> {
        match message {
            Message::Welcome(welcome) => {
                tracing::info!(term = welcome.term, "joined the leader");
            }
            Message::Access(access) => self.settings.protection.reported(access)?,
            Message::StartTask(start) => self.start(start)?,
            Message::ReleaseTask(release) => {
                self.command(convert::task_id(release.task)?, Command::Release)
            }
            Message::DrainTask(drain) => {
                self.command(
                    convert::task_id(drain.task)?,
                    Command::Drain(drain.until_ms),
                );
            }
            Message::CancelTask(cancel) => {
                let task = convert::task_id(cancel.task)?;
                self.command(task, Command::Cancel);
                self.registry.forget(task);
            }
            Message::WindowOpened(opened) => {
                let task = convert::task_id(opened.task)?;
                let window = convert::window(opened.window)?;
                let opening = Opening {
                    window,
                    lookups: convert::lookups_from_wire(opened.lookups),
                    attempt: opened.attempt.max(1),
                };
                self.command(task, Command::Open(opening));
            }
            // Parts are already assembled by the connection.
            Message::Part(_) => {}
            Message::EpochCommitted(committed) => {
                let bad = |e: streamctl_proto::id::BadJobName| BadMessage {
                    field: "job",
                    problem: e.to_string(),
                };
                let job = JobName::try_from(committed.job).map_err(bad)?;
                self.registry
                    .committed(&job, convert::window(committed.window)?);
            }
        }
        Ok(())
    }

    /// Never waits: heartbeats would wait with it. A task that takes no commands is cancelled, and
    /// no other with it.
    fn command(&mut self, task: TaskId, command: Command) {
        let Some(commands) = self.tasks.get(&task) else {
            return;
        };
        if let Err(TrySendError::Full(_)) = commands.try_send(command) {
            tracing::error!(%task, "a task does not take its commands and is given up");
            // It ends after the queued commands: no more can come.
            self.tasks.remove(&task);
            let error = format!("the task has {COMMANDS_MAX} commands that it did not take");
            self.registry.end(
                task,
                Ending {
                    error,
                    ..v1::task_ended::Why::Retry.into()
                },
            );
        }
    }

    /// Time since the process began, for its load.
    fn running_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Sends a heartbeat. Returns false if the connection is closed.
    fn beat(&mut self) -> bool {
        let beat = v1::Heartbeat {
            memory_bytes: memory_bytes(),
            busy_permille: self.busy.permille(),
            clock_skew_ms: self.world.meter.clock_skew_ms(),
            cpu_permille: self.cpu.permille(),
        };
        let sample = LoadSample {
            cpu_permille: beat.cpu_permille,
            memory_bytes: beat.memory_bytes,
            busy_permille: beat.busy_permille,
        };
        self.load.add(self.running_ms(), &sample);
        self.world.meter.set_memory(beat.memory_bytes);
        self.world.meter.set_busy(beat.busy_permille.unwrap_or(0));
        self.registry.send(worker_message::Message::Heartbeat(beat))
    }

    /// A task that cannot be parsed, such as one of a job that a later build resolved, is left to
    /// another worker.
    fn start(&mut self, start: v1::StartTask) -> Result<(), BadMessage> {
        let id = convert::task_id(start.task)?;
        let (id, job, shards) = match read_start(start) {
            Ok(task) => task,
            Err(problem) => {
                tracing::error!(task = %id, %problem, "this worker cannot read a task that it was given");
                let error = format!(
                    "worker {} cannot read the task: {problem}",
                    self.settings.worker
                );
                let task = Some(id.into());
                let why = v1::task_ended::Why::Wait.into();
                let ended = v1::TaskEnded {
                    task,
                    why,
                    error,
                    ..v1::TaskEnded::default()
                };
                self.registry
                    .send(worker_message::Message::TaskEnded(ended));
                return Ok(());
            }
        };
        let base = shards
            .iter()
            .map(|shard| (shard.id.clone(), shard.at.clone()))
            .collect();
        let retention_ms = shards.first().and_then(|shard| shard.retention_ms);
        if !self
            .registry
            .begin(id, JobIdentity::from(&job), base, retention_ms)
        {
            return Ok(());
        }
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        self.tasks.insert(id, commands);
        let World {
            storages,
            sources,
            results,
            budget,
            compute,
            network,
            meter,
            functions,
        } = self.world.clone();
        let context = Context::new(job, storages, sources, budget, functions);
        let context = Arc::new(context);
        let parts = Parts {
            id,
            context,
            registry: Arc::clone(&self.registry),
            results,
            compute,
            meter,
        };
        let task = async move {
            let registry = Arc::clone(&parts.registry);
            if AssertUnwindSafe(task::run(parts, shards, receiver))
                .catch_unwind()
                .await
                .is_err()
            {
                // A bug; without this the controller would wait for the task for ever.
                let hint = "the job goes on from its last epoch; please report this".to_owned();
                let error = "a task broke off".to_owned();
                registry.end(
                    id,
                    Ending {
                        error,
                        hint,
                        ..v1::task_ended::Why::Retry.into()
                    },
                );
            }
            id
        };
        self.running.spawn_on(task, &network);
        Ok(())
    }
}

/// A task from the controller's message: its id, its job, its shards and their start positions.
///
/// # Errors
/// An invalid job or one of a later build, a duplicate shard, a missing field.
pub fn read_start(
    start: v1::StartTask,
) -> Result<(TaskId, ResolvedJob, Vec<ShardState>), BadMessage> {
    let id = convert::task_id(start.task)?;
    let bad = |problem: String| BadMessage {
        field: "job_json",
        problem,
    };
    let job: ResolvedJob = serde_json::from_str(&start.job_json).map_err(|e| bad(e.to_string()))?;
    if job.version > RESOLVED_VERSION {
        return Err(bad(format!(
            "has version {}, this build reads up to {RESOLVED_VERSION}",
            job.version
        )));
    }
    let retention_ms = start.stream.map(|stream| stream.retention_ms);
    let mut shards = vec![];
    let mut names = BTreeSet::new();
    for shard in start.shards {
        let from = convert::position("shard.from", shard.from)?;
        let name = ShardId::new(shard.shard);
        if !names.insert(name.clone()) {
            return Err(BadMessage {
                field: "shards",
                problem: format!("{name} is there twice"),
            });
        }
        let after = shard.after.into_iter().map(ShardId::new).collect();
        let mut state = ShardState::new(
            name,
            from,
            after,
            shard.detail,
            job.spec.window,
            Watermark::from_wire(shard.floor_ms),
        );
        state.read_to_ms = shard.read_to_ms;
        state.retention_ms = retention_ms;
        shards.push(state);
    }
    Ok((id, job, shards))
}

/// Ticks that do not pile up while the process is suspended.
fn every(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn broken(reason: impl Into<String>) -> LineEnd {
    LineEnd::Broken {
        reason: reason.into(),
        is_lasting: false,
    }
}

fn refused(status: &Status) -> LineEnd {
    match CallRefusal::leader_named(status) {
        Some(leader) => LineEnd::Redirected(leader),
        None => {
            if status.code() == Code::InvalidArgument {
                // A bug in this worker, or a controller of another version: nothing else reports
                // it.
                tracing::error!(
                    reason = status.message(),
                    "the controller refuses what this worker says"
                );
            }
            LineEnd::Broken {
                reason: status.message().to_owned(),
                is_lasting: CallRefusal::text_of(status).1.is_some(),
            }
        }
    }
}

/// Resident memory of this process; 0 if the system does not report it.
fn memory_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4_096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * PAGE_BYTES
}
