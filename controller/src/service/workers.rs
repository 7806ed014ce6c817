//! The sessions of the workers.
//!
//! Owns: the stream, from Hello to its end. Does not own: what happens to a worker (`core`).
//! Rule: a refused message ends the task that it is about, never the session: the worker would
//! reconnect and send the same message. A refused message about no task is skipped and logged.

use crate::admission::Admission;
use crate::handle::{Handle, NotLeading};
use crate::leading::Leader;
use crate::sessions::Sessions;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use streamctl_core::hanging::HangingCall;
use streamctl_core::{
    Computing, EndedShard, Event, KnownShard, RefusedTask, RunningTask, SessionId, ShardStats,
    TaskEnd, TaskEvent, WorkerEvent, WorkerFacts,
};
use streamctl_proto::convert::{self, BadMessage, required};
use streamctl_proto::load::from_hello;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::parts::{Assembler, InParts, cut};
use streamctl_proto::profile::OperatorFigures;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{JobName, JobVersion, Report, ShardId, TaskId, Watermark, WorkerId, v1};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// Characters of a worker's version that are kept.
const VERSION_CHARS_MAX: usize = 40;
/// Heartbeat interval of a worker.
pub const HEARTBEAT_MS: u32 = 500;
/// The longest name of a worker, and the longest address of its Flight service.
pub const WORKER_CHARS_MAX: usize = 200;
/// Time between two log lines about refused messages of one session.
const REFUSALS_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Serves `streamctl.v1.Workers`.
pub struct WorkersService {
    pub leader: Leader,
    /// The connections to the workers.
    pub sessions: Arc<Sessions>,
    pub admission: Admission,
}

/// The messages to a worker, from Welcome on.
pub type Responses = Pin<Box<dyn Stream<Item = Result<v1::ControllerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl v1::workers_server::Workers for WorkersService {
    type SessionStream = Responses;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Responses>, Status> {
        let responses = self.talk(assembled(request.into_inner()).boxed()).await?;
        let responses = responses.flat_map(|response| futures::stream::iter(in_parts(response)));
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Outgoing messages: large ones are split into parts.
fn in_parts(
    response: Result<v1::ControllerMessage, Status>,
) -> impl Iterator<Item = Result<v1::ControllerMessage, Status>> {
    let (parts, error) = match response {
        Ok(message) => (Some(cut(message)), None),
        Err(status) => (None, Some(Err(status))),
    };
    parts.into_iter().flatten().map(Ok).chain(error)
}

/// Incoming messages: parts of large ones are put together. Each part that does not complete a
/// message is passed on without its data: it proves that the worker is alive.
fn assembled(
    incoming: impl Stream<Item = Result<v1::WorkerMessage, Status>>,
) -> impl Stream<Item = Result<v1::WorkerMessage, Status>> {
    let mut assembler = Assembler::default();
    incoming.map(move |message| match assembler.take(message?) {
        Ok(Some(whole)) => Ok(whole),
        Ok(None) => Ok(v1::WorkerMessage::of_part(v1::Part::default())),
        Err(error) => Err(Status::from(CallRefusal::new(
            Reason::InvalidArgument,
            error.to_string(),
        ))),
    })
}

impl WorkersService {
    /// A session: receives a worker's messages, Hello first; returns the messages to it.
    pub async fn talk<S>(&self, mut incoming: S) -> Result<Responses, Status>
    where
        S: Stream<Item = Result<v1::WorkerMessage, Status>> + Send + Unpin + 'static,
    {
        let handle = self.leader.handle()?;
        let first = loop {
            match incoming
                .next()
                .await
                .transpose()?
                .and_then(|message| message.message)
            {
                Some(Message::Part(_)) => {}
                first => break first,
            }
        };
        let Some(Message::Hello(hello)) = first else {
            return Err(Status::from(CallRefusal::new(
                Reason::InvalidArgument,
                "a session begins with Hello",
            )));
        };
        let process = hello.process;
        let Greeting {
            worker,
            flight_address,
            facts,
            tasks,
            refused,
            unknown,
        } = read_hello(hello).map_err(not_welcome)?;
        let (session, outbox) = self.sessions.open(worker.clone());
        let mut log = RefusalLog::new(worker.clone(), session);
        unknown.iter().for_each(|problem| log.note(None, problem));
        tracing::info!(%worker, session, flight_address, tasks = tasks.len(), "worker joined");
        let welcome = v1::Welcome {
            term: handle.term.0,
            heartbeat_ms: HEARTBEAT_MS,
        };
        // Sent after the session is open: later changes arrive through it.
        let begin = [
            v1::controller_message::Message::Welcome(welcome),
            self.admission.message(),
        ];
        let begin = begin.map(|message| {
            Ok(v1::ControllerMessage {
                message: Some(message),
            })
        });
        let joins = Event::Worker {
            worker: worker.clone(),
            session,
            event: WorkerEvent::Joined {
                process,
                flight_address,
                facts,
                tasks,
            },
        };
        let refusals = refused.into_iter().map(|refused| refusal(&worker, refused));
        let reported = send_admitted(&handle, refusals.collect(), joins, &mut log).await;
        if let Err(error) = reported {
            self.sessions.close(&worker, session);
            return Err(error.into());
        }
        tokio::spawn(listen(incoming, handle, Arc::clone(&self.sessions), log));
        let responses = futures::stream::iter(begin).chain(ReceiverStream::new(outbox));
        Ok(Box::pin(responses))
    }
}

/// Passes on the worker's messages until the connection ends.
async fn listen(
    mut incoming: impl Stream<Item = Result<v1::WorkerMessage, Status>> + Send + Unpin,
    handle: Handle,
    sessions: Arc<Sessions>,
    mut log: RefusalLog,
) {
    let worker = log.worker.clone();
    let session = log.session;
    loop {
        let message = match incoming.next().await {
            Some(Ok(message)) => message.message,
            Some(Err(status)) => {
                tracing::info!(%worker, session, reason = status.message(), "worker's connection broke");
                if status.code() == Code::InvalidArgument {
                    // The parts do not make a message, so the task that they are about is unknown.
                    sessions.refuse(&worker, session, status);
                }
                break;
            }
            None => break,
        };
        let reported = match read(&worker, session, message) {
            Ok(event) => send_admitted(&handle, vec![], event, &mut log).await,
            Err(Unreadable {
                task: Some(task),
                problem,
            }) => {
                log.note(Some(task), &problem);
                handle
                    .send(refusal(
                        &worker,
                        RefusedTask {
                            task,
                            job: None,
                            problem,
                        },
                    ))
                    .await
            }
            Err(Unreadable {
                task: None,
                problem,
            }) => {
                log.note(None, &problem);
                Ok(())
            }
        };
        if let Err(NotLeading) = reported {
            break;
        }
    }
    sessions.close(&worker, session);
    let _over = handle
        .send(Event::Worker {
            worker,
            session,
            event: WorkerEvent::Disconnected,
        })
        .await;
}

fn refusal(worker: &WorkerId, refused: RefusedTask) -> Event {
    Event::refused(worker.clone(), refused)
}

/// Sends the admitted events to the core, after `before`. Heartbeats, of which there are many, have
/// nothing to check.
async fn send_admitted(
    handle: &Handle,
    before: Vec<Event>,
    event: Event,
    log: &mut RefusalLog,
) -> Result<(), NotLeading> {
    let admitted = match event {
        Event::Worker {
            event: WorkerEvent::Heard { .. } | WorkerEvent::Spoke | WorkerEvent::Leaving,
            ..
        }
        | Event::Task {
            event: TaskEvent::Ended(..),
            ..
        } => vec![event],
        event => handle.query(move |core| core.admit(event)).await?,
    };
    for event in before.into_iter().chain(admitted) {
        if let Event::Task {
            event: TaskEvent::Refused(refused),
            ..
        } = &event
        {
            log.note(Some(refused.task), &refused.problem);
        }
        handle.send(event).await?;
    }
    Ok(())
}

/// Logs refused messages of one session at a limited rate: a worker may send any number of them.
struct RefusalLog {
    worker: WorkerId,
    session: SessionId,
    refused: u64,
    next: Instant,
}

impl RefusalLog {
    fn new(worker: WorkerId, session: SessionId) -> Self {
        Self {
            worker,
            session,
            refused: 0,
            next: Instant::now(),
        }
    }

    fn note(&mut self, task: Option<TaskId>, problem: &BadMessage) {
        self.refused += 1;
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + REFUSALS_LOG_INTERVAL;
        let Self {
            worker,
            session,
            refused,
            ..
        } = self;
        match task {
            Some(task) => {
                tracing::error!(%worker, session, %task, %problem, refused, "a worker's message is refused, its task ends");
            }
            None => {
                tracing::error!(%worker, session, %problem, refused, "a worker's message is refused")
            }
        }
    }
}

/// The identity of a worker and its running tasks; not yet compared with the core's state
/// ([`Core::admit`]).
///
/// [`Core::admit`]: streamctl_core::Core::admit
#[derive(Debug)]
pub struct Greeting {
    pub worker: WorkerId,
    /// The address of its Flight service.
    pub flight_address: String,
    pub facts: WorkerFacts,
    pub tasks: Vec<RunningTask>,
    /// Tasks that cannot be read.
    pub refused: Vec<RefusedTask>,
    /// Problems of tasks of which not even the id can be read.
    pub unknown: Vec<BadMessage>,
}

/// Reads a Hello.
///
/// # Errors
/// The worker has no name, or no address.
pub fn read_hello(hello: v1::Hello) -> Result<Greeting, BadMessage> {
    let visible =
        |text: &str| text.len() <= WORKER_CHARS_MAX && text.chars().all(|c| c.is_ascii_graphic());
    if hello.worker.is_empty() || !visible(&hello.worker) {
        let problem =
            format!("a worker's name has 1 to {WORKER_CHARS_MAX} visible ASCII characters");
        return Err(BadMessage {
            field: "worker",
            problem,
        });
    }
    if !visible(&hello.flight_address) {
        let problem = format!("an address has at most {WORKER_CHARS_MAX} visible ASCII characters");
        return Err(BadMessage {
            field: "flight_address",
            problem,
        });
    }
    let facts = WorkerFacts {
        version: hello.version.chars().take(VERSION_CHARS_MAX).collect(),
        compute_threads: hello.compute_threads,
        memory_limit_bytes: hello.memory_limit_bytes,
        load: from_hello(&hello.load),
    };
    let mut tasks = vec![];
    let mut refused = vec![];
    let mut unknown = vec![];
    for running in hello.tasks {
        let id = running.task.map(TaskId::from);
        let job = JobName::try_from(running.job.clone()).ok();
        match (read_task(running), id) {
            (Ok(running), _) => tasks.push(running),
            (Err(problem), Some(task)) => refused.push(RefusedTask { task, job, problem }),
            (Err(problem), None) => unknown.push(problem),
        }
    }
    let worker = WorkerId::new(hello.worker);
    let flight_address = hello.flight_address;
    Ok(Greeting {
        worker,
        flight_address,
        facts,
        tasks,
        refused,
        unknown,
    })
}

fn read_task(task: v1::RunningTask) -> Result<RunningTask, BadMessage> {
    let lost = |shard: &v1::TaskShard| {
        let gap = shard.lost.map(TimeGap::try_from).transpose()?;
        Ok(gap.map(|gap| (ShardId::new(shard.shard.clone()), gap)))
    };
    let lost = task
        .shards
        .iter()
        .filter_map(|shard| lost(shard).transpose())
        .collect::<Result<_, BadMessage>>()?;
    let base = |shard: v1::TaskShard| {
        let position = convert::position("shard.from", shard.from)?;
        Ok((ShardId::new(shard.shard), position))
    };
    let window = |opened: v1::WindowOpened| {
        Ok((
            convert::window(opened.window)?,
            convert::lookups_from_wire(opened.lookups),
        ))
    };
    Ok(RunningTask {
        task: convert::task_id(task.task)?,
        job: job_name(task.job)?,
        job_version: JobVersion(task.job_version.max(JobVersion::FIRST.0)),
        submitted_ms: task.submitted_ms,
        base: task
            .shards
            .into_iter()
            .map(base)
            .collect::<Result<_, BadMessage>>()?,
        reports: task
            .reports
            .into_iter()
            .map(Report::try_from)
            .collect::<Result<_, _>>()?,
        watermark: Watermark::from_wire(task.watermark_ms),
        windows: task
            .windows
            .into_iter()
            .map(window)
            .collect::<Result<_, BadMessage>>()?,
        ended: task
            .ended
            .into_iter()
            .map(read_ended)
            .collect::<Result<_, _>>()?,
        lost,
        retention_ms: task.stream.map(|stream| stream.retention_ms),
        released: task.released,
    })
}

fn not_welcome(problem: BadMessage) -> Status {
    tracing::error!(%problem, "a worker's Hello is refused");
    Status::from(CallRefusal::new(
        Reason::InvalidArgument,
        problem.to_string(),
    ))
}

fn job_name(text: String) -> Result<JobName, BadMessage> {
    JobName::try_from(text).map_err(|e| BadMessage {
        field: "job",
        problem: e.to_string(),
    })
}

fn read_ended(ended: v1::ShardEnded) -> Result<EndedShard, BadMessage> {
    let child = |child: v1::ChildShard| KnownShard {
        shard: ShardId::new(child.shard),
        parents: child.parents.into_iter().map(ShardId::new).collect(),
        detail: child.detail,
    };
    Ok(EndedShard {
        shard: ShardId::new(ended.shard),
        last: convert::position("last", ended.last)?,
        floor: Watermark::from_wire(ended.floor_ms),
        children: ended.children.into_iter().map(child).collect(),
    })
}

/// A message cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The task that it is about, if that can be read.
    pub task: Option<TaskId>,
    /// The field, and what is wrong with it.
    pub problem: BadMessage,
}

/// Reads a message of a worker's session; not yet compared with the core's state.
///
/// # Errors
/// [`Unreadable`] names the field, and the task if known. A message of a kind that this build does
/// not know is also unreadable.
pub fn read(
    worker: &WorkerId,
    session: SessionId,
    message: Option<Message>,
) -> Result<Event, Unreadable> {
    let task = message.as_ref().and_then(task_of);
    let event = required("message", message).and_then(|message| event_of(worker, session, message));
    event.map_err(|problem| Unreadable { task, problem })
}

fn task_of(message: &Message) -> Option<TaskId> {
    let task = match message {
        Message::Hello(_) | Message::Heartbeat(_) | Message::Leaving(_) | Message::Part(_) => None,
        Message::WindowOpening(opening) => opening.task,
        Message::Report(report) => report.task,
        Message::Progress(progress) => progress.task,
        Message::ShardEnded(ended) => ended.task,
        Message::TaskEnded(ended) => ended.task,
    };
    task.map(TaskId::from)
}

/// Longest name of a service or an operation.
const NAME_CHARS_MAX: usize = 64;

fn hanging_call(calls: v1::HangingCalls) -> HangingCall {
    let cut = |name: String| name.chars().take(NAME_CHARS_MAX).collect();
    HangingCall {
        service: cut(calls.service),
        operation: cut(calls.operation),
        count: calls.count,
        age_ms: calls.age_ms,
        reads: calls.reads,
    }
}

/// Texts are cut to their limits.
fn busiest(figures: v1::OperatorFigures) -> OperatorFigures {
    OperatorFigures {
        compute_us: figures.compute_us,
        ..OperatorFigures::new(0, &figures.name, &figures.detail)
    }
}

fn event_of(worker: &WorkerId, session: SessionId, message: Message) -> Result<Event, BadMessage> {
    let worker = worker.clone();
    Ok(match message {
        Message::Hello(_) => {
            let problem = "comes once, at the beginning of a session".to_owned();
            return Err(BadMessage {
                field: "hello",
                problem,
            });
        }
        Message::Heartbeat(beat) => {
            let memory_bytes = beat.memory_bytes;
            let busy_permille = beat.busy_permille;
            let clock_skew_ms = beat.clock_skew_ms;
            let cpu_permille = beat.cpu_permille;
            Event::Worker {
                worker,
                session,
                event: WorkerEvent::Heard {
                    memory_bytes,
                    busy_permille,
                    clock_skew_ms,
                    cpu_permille,
                },
            }
        }
        Message::WindowOpening(opening) => Event::Task {
            worker,
            task: convert::task_id(opening.task)?,
            event: TaskEvent::WindowRequested(convert::window(opening.window)?),
        },
        Message::Report(report) => Event::reported(worker, Report::try_from(report)?),
        Message::Progress(progress) => {
            let stats = |s: v1::ShardProgress| {
                let lost = s.lost.map(TimeGap::try_from).transpose()?;
                let stats = ShardStats {
                    lag_ms: s.lag_ms,
                    records: s.records,
                    bytes: s.bytes,
                    throttles: s.throttles,
                    iterator_renewals: s.iterator_renewals,
                    data_losses: s.data_losses,
                    foreign_records: s.foreign_records,
                    last_arrival_ms: s.last_arrival_ms,
                    lost,
                };
                Ok((ShardId::new(s.shard), stats))
            };
            let task = convert::task_id(progress.task)?;
            let watermark = Watermark::from_wire(progress.watermark_ms);
            let shards = progress
                .shards
                .into_iter()
                .map(stats)
                .collect::<Result<_, BadMessage>>()?;
            let work_us = progress.work_us;
            let computing = Computing {
                ms: progress.computing_ms,
                busiest: progress.busiest.map(busiest),
            };
            let hanging = progress.calls.into_iter().map(hanging_call).collect();
            Event::Task {
                worker,
                task,
                event: TaskEvent::Progressed {
                    watermark,
                    work_us,
                    computing,
                    shards,
                    hanging,
                },
            }
        }
        Message::ShardEnded(ended) => {
            let task = convert::task_id(ended.task)?;
            Event::Task {
                worker,
                task,
                event: TaskEvent::ShardEnded(read_ended(ended)?),
            }
        }
        Message::TaskEnded(ended) => Event::Task {
            worker,
            task: convert::task_id(ended.task)?,
            event: TaskEvent::Ended(TaskEnd::from_wire(&ended)),
        },
        Message::Leaving(_) => Event::Worker {
            worker,
            session,
            event: WorkerEvent::Leaving,
        },
        Message::Part(_) => Event::Worker {
            worker,
            session,
            event: WorkerEvent::Spoke,
        },
    })
}
