//! The sessions of the workers.
//!
//! Owns: the stream, from Hello to its end. Does not own: what becomes of a worker (`core`).
//! Rule: a message that is not one ends the session with the field named; nothing of it is used.

use crate::admission::Admission;
use crate::core::{EndedShard, Event, KnownShard, RunningTask, SessionId, ShardStats, TaskEnd};
use crate::handle::{Handle, NotLeading};
use crate::leading::Leader;
use crate::sessions::Sessions;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use streamctl_proto::convert::{self, BadMessage, required};
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{JobName, JobVersion, Report, ShardId, WorkerId, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// How often a worker says that it lives.
pub const HEARTBEAT_MS: u32 = 500;
/// The longest name of a worker, and the longest address of its Flight service.
pub const WORKER_CHARS_MAX: usize = 200;

/// Serves `streamctl.v1.Workers`.
pub struct WorkersService {
    /// Who leads.
    pub leader: Leader,
    /// The lines to the workers.
    pub sessions: Arc<Sessions>,
    /// Whom workers let in.
    pub admission: Admission,
}

/// What is said to a worker, from Welcome on.
pub type Answers = Pin<Box<dyn Stream<Item = Result<v1::ControllerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl v1::workers_server::Workers for WorkersService {
    type SessionStream = Answers;

    async fn session(&self, request: Request<Streaming<v1::WorkerMessage>>) -> Result<Response<Answers>, Status> {
        self.talk(request.into_inner()).await.map(Response::new)
    }
}

impl WorkersService {
    /// A session: what a worker says, Hello first; gives what is said to it.
    pub async fn talk<S>(&self, mut incoming: S) -> Result<Answers, Status>
    where
        S: Stream<Item = Result<v1::WorkerMessage, Status>> + Send + Unpin + 'static,
    {
        let handle = self.leader.handle()?;
        let first = incoming.next().await.transpose()?.and_then(|m| m.message);
        let Some(Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a session begins with Hello"));
        };
        let process = hello.process;
        let (worker, flight_address, tasks) = read_hello(hello).map_err(refused)?;
        let joins = Event::WorkerJoined { worker: worker.clone(), session: 0, process, flight_address, tasks };
        let Event::WorkerJoined { flight_address, tasks, .. } = checked(&handle, joins).await?.map_err(refused)? else {
            return Err(Status::internal("an event became another one"));
        };
        let (session, outbox) = self.sessions.open(worker.clone());
        tracing::info!(%worker, session, flight_address, tasks = tasks.len(), "worker joined");
        let welcome = v1::Welcome { term: handle.term.0, heartbeat_ms: HEARTBEAT_MS };
        // After the session was opened: a change from now on comes through it.
        let begin = [v1::controller_message::Message::Welcome(welcome), self.admission.message()];
        let begin = begin.map(|message| Ok(v1::ControllerMessage { message: Some(message) }));
        let joined = Event::WorkerJoined { worker: worker.clone(), session, process, flight_address, tasks };
        handle.tell(joined).await?;
        tokio::spawn(listen(incoming, handle, Arc::clone(&self.sessions), worker, session));
        let answers = futures::stream::iter(begin).chain(ReceiverStream::new(outbox));
        Ok(Box::pin(answers))
    }
}

/// Passes on what the worker says until the line breaks.
async fn listen(
    mut incoming: impl Stream<Item = Result<v1::WorkerMessage, Status>> + Send + Unpin,
    handle: Handle,
    sessions: Arc<Sessions>,
    worker: WorkerId,
    session: SessionId,
) {
    loop {
        let message = match incoming.next().await {
            Some(Ok(v1::WorkerMessage { message: Some(message) })) => message,
            Some(Err(status)) => {
                tracing::info!(%worker, session, reason = status.message(), "worker's line broke");
                break;
            }
            _ => break,
        };
        let said = match read(&worker, session, message) {
            Ok(event) => checked(&handle, event).await,
            Err(problem) => Ok(Err(problem)),
        };
        match said {
            Ok(Ok(event)) => {
                if handle.tell(event).await.is_err() {
                    break;
                }
            }
            Ok(Err(problem)) => {
                tracing::error!(%worker, session, %problem, "worker says what it must not, its session ends");
                sessions.refuse(&worker, session, Status::invalid_argument(problem.to_string()));
                break;
            }
            Err(NotLeading) => break,
        }
    }
    sessions.close(&worker, session);
    let _over = handle.tell(Event::WorkerDisconnected { worker, session }).await;
}

/// The event, if its worker can mean it. Heartbeats, of which there are many, have nothing to check.
async fn checked(handle: &Handle, event: Event) -> Result<Result<Event, BadMessage>, NotLeading> {
    match event {
        Event::WorkerHeard { .. } | Event::WorkerLeaving { .. } | Event::TaskEnded { .. } => Ok(Ok(event)),
        event => handle.ask(move |core| core.check(&event).map(|()| event)).await,
    }
}

/// Who a worker is and what it runs already; not yet compared with what the core knows ([`Core::check`]).
///
/// [`Core::check`]: crate::core::Core::check
pub fn read_hello(hello: v1::Hello) -> Result<(WorkerId, String, Vec<RunningTask>), BadMessage> {
    let visible = |text: &str| text.len() <= WORKER_CHARS_MAX && text.chars().all(|c| c.is_ascii_graphic());
    if hello.worker.is_empty() || !visible(&hello.worker) {
        let problem = format!("a worker's name has 1 to {WORKER_CHARS_MAX} visible ASCII characters");
        return Err(BadMessage { field: "worker", problem });
    }
    if !visible(&hello.flight_address) {
        let problem = format!("an address has at most {WORKER_CHARS_MAX} visible ASCII characters");
        return Err(BadMessage { field: "flight_address", problem });
    }
    let tasks = hello.tasks.into_iter().map(read_task).collect::<Result<_, _>>()?;
    Ok((WorkerId::new(hello.worker), hello.flight_address, tasks))
}

fn read_task(task: v1::RunningTask) -> Result<RunningTask, BadMessage> {
    let lost = |shard: &v1::TaskShard| {
        let gap = shard.lost.map(TimeGap::try_from).transpose()?;
        Ok(gap.map(|gap| (ShardId::new(shard.shard.clone()), gap)))
    };
    let lost = task.shards.iter().filter_map(|shard| lost(shard).transpose()).collect::<Result<_, BadMessage>>()?;
    let base = |shard: v1::TaskShard| {
        let position = convert::position("shard.from", shard.from)?;
        Ok((ShardId::new(shard.shard), position))
    };
    let window =
        |opened: v1::WindowOpened| Ok((convert::window(opened.window)?, convert::lookups_from_wire(opened.lookups)));
    Ok(RunningTask {
        task: convert::task_id(task.task)?,
        job: job_name(task.job)?,
        job_version: JobVersion(task.job_version.max(JobVersion::FIRST.0)),
        base: task.shards.into_iter().map(base).collect::<Result<_, BadMessage>>()?,
        reports: task.reports.into_iter().map(Report::try_from).collect::<Result<_, _>>()?,
        watermark_ms: task.watermark_ms,
        windows: task.windows.into_iter().map(window).collect::<Result<_, BadMessage>>()?,
        ended: task.ended.into_iter().map(read_ended).collect::<Result<_, _>>()?,
        lost,
        retention_ms: task.stream.map(|stream| stream.retention_ms),
        released: task.released,
    })
}

fn refused(problem: BadMessage) -> Status {
    tracing::error!(%problem, "a worker's Hello is refused");
    Status::invalid_argument(problem.to_string())
}

fn job_name(text: String) -> Result<JobName, BadMessage> {
    JobName::try_from(text).map_err(|e| BadMessage { field: "job", problem: e.to_string() })
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
        floor_ms: ended.floor_ms,
        children: ended.children.into_iter().map(child).collect(),
    })
}

/// What a message of a worker's session says; not yet compared with what the core knows.
pub fn read(worker: &WorkerId, session: SessionId, message: Message) -> Result<Event, BadMessage> {
    let worker = worker.clone();
    Ok(match message {
        Message::Hello(_) => return required("hello", None::<Event>),
        Message::Heartbeat(beat) => {
            let (memory_bytes, busy_permille) = (beat.memory_bytes, beat.busy_permille);
            let clock_skew_ms = beat.clock_skew_ms;
            Event::WorkerHeard { worker, session, memory_bytes, busy_permille, clock_skew_ms }
        }
        Message::WindowOpening(opening) => Event::WindowRequested {
            worker,
            task: convert::task_id(opening.task)?,
            window: convert::window(opening.window)?,
        },
        Message::Report(report) => Event::Reported { worker, report: Box::new(Report::try_from(report)?) },
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
            let (task, watermark_ms) = (convert::task_id(progress.task)?, progress.watermark_ms);
            let shards = progress.shards.into_iter().map(stats).collect::<Result<_, BadMessage>>()?;
            let (work_us, computing_ms) = (progress.work_us, progress.computing_ms);
            Event::Progressed { worker, task, watermark_ms, work_us, computing_ms, shards }
        }
        Message::ShardEnded(ended) => {
            let task = convert::task_id(ended.task)?;
            Event::ShardEnded { worker, task, ended: read_ended(ended)? }
        }
        Message::TaskEnded(ended) => {
            Event::TaskEnded { worker, task: convert::task_id(ended.task)?, end: TaskEnd::from_wire(&ended) }
        }
        Message::Leaving(_) => Event::WorkerLeaving { worker, session },
    })
}
