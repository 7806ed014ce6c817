//! Workers against a controller that the test plays, over a real connection.

use super::*;
use crate::connection::CONNECT_TIMEOUT;
use crate::task::tests::{job, record, shard};
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::source::memory::MemorySource;
use streamctl_engine::storage::MemoryStorage;
use streamctl_proto::Position;
use streamctl_proto::v1::workers_server::{Workers, WorkersServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Streaming};
use worker_message::Message as FromWorker;

const PATIENCE: Duration = Duration::from_secs(15);

/// One connection, from the controller's side.
struct Line {
    incoming: Streaming<v1::WorkerMessage>,
    outgoing: mpsc::Sender<Result<v1::ControllerMessage, Status>>,
}

impl Line {
    async fn send(&self, message: Message) {
        self.outgoing
            .send(Ok(v1::ControllerMessage {
                message: Some(message),
            }))
            .await
            .unwrap();
    }

    /// The first matching message.
    async fn receive<T>(&mut self, choose: impl Fn(FromWorker) -> Option<T>) -> T {
        let received = async {
            loop {
                let message = self
                    .incoming
                    .message()
                    .await
                    .unwrap()
                    .expect("the line stands")
                    .message
                    .unwrap();
                if let Some(found) = choose(message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, received)
            .await
            .expect("the worker sends it soon")
    }

    async fn hello(&mut self) -> v1::Hello {
        self.receive(|message| {
            if let FromWorker::Hello(hello) = message {
                Some(hello)
            } else {
                None
            }
        })
        .await
    }
}

struct Controller {
    leader: Option<String>,
    lines: mpsc::Sender<Line>,
}

#[tonic::async_trait]
impl Workers for Controller {
    type SessionStream = ReceiverStream<Result<v1::ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(leader) = &self.leader {
            let mut status = Status::failed_precondition("not the leader");
            status.metadata_mut().insert(
                "streamctl-leader",
                MetadataValue::try_from(leader.as_str()).unwrap(),
            );
            return Err(status);
        }
        let (outgoing, responses) = mpsc::channel(16);
        let welcome = v1::Welcome {
            term: 1,
            heartbeat_ms: 50,
        };
        outgoing
            .send(Ok(v1::ControllerMessage {
                message: Some(Message::Welcome(welcome)),
            }))
            .await
            .unwrap();
        self.lines
            .send(Line {
                incoming: request.into_inner(),
                outgoing,
            })
            .await
            .map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Serves a controller; returns its address, host:port, and its connections.
async fn controller(leader: Option<String>) -> (String, mpsc::Receiver<Line>) {
    let (lines, accepted) = mpsc::channel(16);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = WorkersServer::new(Controller { leader, lines });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, accepted)
}

struct Worker {
    stop: oneshot::Sender<()>,
    ran: tokio::task::JoinHandle<()>,
    source: MemorySource,
}

/// The settings of a worker whose records are in memory.
fn setup(controllers: &[&str]) -> (Settings, World) {
    let storages = Storages::memory(MemoryStorage::default());
    let sources = Sources::new(Aws::new(AwsSettings::default()), storages.clone());
    let world = World {
        storages,
        sources,
        results: Arc::default(),
        budget: MemoryBudget::default(),
        compute: tokio::runtime::Handle::current().into(),
        network: tokio::runtime::Handle::current(),
        meter: Default::default(),
        functions: Default::default(),
    };
    let settings = Settings {
        worker: "w".into(),
        flight_address: "here:1".into(),
        controllers: controllers
            .iter()
            .map(|address| format!("http://{address}"))
            .collect(),
        protection: Default::default(),
    };
    (settings, world)
}

impl Worker {
    fn start(controllers: &[&str]) -> Self {
        let source = MemorySource::default();
        let (settings, mut world) = setup(controllers);
        world.sources = world.sources.with_memory(source.clone());
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(()) };
        Self {
            stop,
            ran: tokio::spawn(run(settings, world, stopped)),
            source,
        }
    }

    async fn stops(self) {
        let _over = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.ran)
            .await
            .expect("it ends soon")
            .unwrap();
    }
}

async fn next(lines: &mut mpsc::Receiver<Line>) -> Line {
    tokio::time::timeout(PATIENCE, lines.recv())
        .await
        .expect("it dials soon")
        .unwrap()
}

const TASK: v1::TaskId = v1::TaskId {
    term: 1,
    counter: 7,
};

fn start() -> Message {
    let from = Some((&Position::Start).into());
    let given = v1::TaskShard {
        shard: "a".into(),
        from,
        ..Default::default()
    };
    let job_json = serde_json::to_string(&job("SELECT id FROM source")).unwrap();
    Message::StartTask(v1::StartTask {
        task: Some(TASK),
        job_json,
        shards: vec![given],
        stream: None,
    })
}

fn opening(message: FromWorker) -> Option<v1::WindowOpening> {
    if let FromWorker::WindowOpening(opening) = message {
        Some(opening)
    } else {
        None
    }
}

fn opened(opening: &v1::WindowOpening) -> Message {
    Message::WindowOpened(v1::WindowOpened {
        task: opening.task,
        window: opening.window,
        lookups: vec![],
        attempt: 1,
    })
}

#[tokio::test]
async fn a_follower_s_answer_leads_to_the_leader() {
    let (leader, mut lines) = controller(None).await;
    let (follower, _none) = controller(Some(leader)).await;
    let worker = Worker::start(&[&follower]);
    let hello = next(&mut lines).await.hello().await;
    assert_eq!(
        (
            hello.worker.as_str(),
            hello.flight_address.as_str(),
            hello.tasks.len()
        ),
        ("w", "here:1", 0)
    );
    worker.stops().await;
}

#[tokio::test]
async fn heartbeats_go_on_while_a_task_waits() {
    let (address, mut lines) = controller(None).await;
    let worker = Worker::start(&[&address]);
    let mut line = next(&mut lines).await;
    worker.source.push(&shard("a"), 10, record(1));
    line.send(start()).await;
    line.receive(opening).await;
    for _ in 0..3 {
        line.receive(|message| matches!(message, FromWorker::Heartbeat(_)).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn heartbeats_go_on_while_the_network_s_threads_are_held() {
    let (address, mut lines) = controller(None).await;
    let network = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    network.spawn(async move { released.recv().is_ok() });
    let (settings, world) = setup(&[&address]);
    let source = MemorySource::default();
    source.push(&shard("a"), 10, record(1));
    let sources = world.sources.with_memory(source);
    let world = World {
        network: network.handle().clone(),
        sources,
        ..world
    };
    let ran = tokio::spawn(run(settings, world, std::future::pending()));
    let mut line = next(&mut lines).await;
    line.send(start()).await;
    for _ in 0..10 {
        line.receive(|message| match message {
            FromWorker::Heartbeat(_) => Some(()),
            FromWorker::WindowOpening(_) => panic!("the task runs on other threads"),
            _ => None,
        })
        .await;
    }
    release.send(()).unwrap();
    line.receive(opening).await;
    ran.abort();
    network.shutdown_background();
}

#[tokio::test]
async fn a_stop_hands_the_shards_back_and_what_was_read_is_reported() {
    let (address, mut lines) = controller(None).await;
    let worker = Worker::start(&[&address]);
    let mut line = next(&mut lines).await;
    worker.source.push(&shard("a"), 10, record(1));
    line.send(start()).await;
    let requested = line.receive(opening).await;
    line.send(opened(&requested)).await;
    line.receive(|message| {
        matches!(message, FromWorker::Progress(p) if p.shards[0].records == 1).then_some(())
    })
    .await;
    worker.stop.send(()).unwrap();
    line.receive(|message| matches!(message, FromWorker::Leaving(_)).then_some(()))
        .await;
    line.send(Message::ReleaseTask(v1::ReleaseTask { task: Some(TASK) }))
        .await;
    let report = line
        .receive(|message| {
            if let FromWorker::Report(report) = message {
                Some(report)
            } else {
                None
            }
        })
        .await;
    assert_eq!(report.ranges[0].records, 1);
    let ended = line
        .receive(|message| {
            if let FromWorker::TaskEnded(ended) = message {
                Some(ended)
            } else {
                None
            }
        })
        .await;
    assert_eq!(ended.why(), v1::task_ended::Why::Released);
    tokio::time::timeout(PATIENCE, worker.ran)
        .await
        .expect("it ends soon")
        .unwrap();
}

#[tokio::test]
async fn a_new_connection_begins_with_what_runs_and_requests_windows_again() {
    let (address, mut lines) = controller(None).await;
    let worker = Worker::start(&[&address]);
    let mut line = next(&mut lines).await;
    worker.source.push(&shard("a"), 10, record(1));
    line.send(start()).await;
    let requested = line.receive(opening).await;
    drop(line);
    let mut line = next(&mut lines).await;
    let hello = line.hello().await;
    assert_eq!(
        hello.tasks.iter().map(|task| task.task).collect::<Vec<_>>(),
        [Some(TASK)]
    );
    assert_eq!(line.receive(opening).await, requested);
    line.send(opened(&requested)).await;
    line.receive(|message| {
        matches!(message, FromWorker::Progress(p) if p.shards[0].records == 1).then_some(())
    })
    .await;
    line.send(Message::CancelTask(v1::CancelTask { task: Some(TASK) }))
        .await;
    drop(line);
    // The cancel may or may not have arrived before the connection broke; repeat it until the task
    // is gone.
    loop {
        let mut line = next(&mut lines).await;
        if line.hello().await.tasks.is_empty() {
            break;
        }
        line.send(Message::CancelTask(v1::CancelTask { task: Some(TASK) }))
            .await;
    }
    worker.stops().await;
}

#[tokio::test]
async fn an_invalid_message_ends_the_connection_and_the_task_continues() {
    let (address, mut lines) = controller(None).await;
    let worker = Worker::start(&[&address]);
    let line = next(&mut lines).await;
    line.send(start()).await;
    line.send(Message::ReleaseTask(v1::ReleaseTask { task: None }))
        .await;
    let hello = next(&mut lines).await.hello().await;
    assert_eq!(hello.tasks.len(), 1);
    worker.stop.send(()).unwrap();
}

#[tokio::test]
async fn a_stop_without_a_line_does_not_wait_for_controllers_that_accept_and_never_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let worker = Worker::start(&[&address, &address, &address]);
    let _held = listener.accept().await.unwrap();
    let began = tokio::time::Instant::now();
    worker.stops().await;
    assert!(
        began.elapsed() < CONNECT_TIMEOUT,
        "it took {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_controller_that_never_answers_is_passed_over_for_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let (address, mut lines) = controller(None).await;
    let worker = Worker::start(&[&silent, &address]);
    next(&mut lines).await.hello().await;
    worker.stops().await;
}

/// `a` leads until it stalls; `b` is on standby, and leads from some time on.
struct Stopped {
    began: tokio::time::Instant,
    leads_after: Duration,
    dialled: std::sync::atomic::AtomicUsize,
    joined: mpsc::Sender<Duration>,
}

#[async_trait::async_trait]
impl Dial for Stopped {
    async fn dial(
        &self,
        address: &str,
        begin: crate::connection::Begin,
    ) -> Result<Incoming, Status> {
        let welcome = Message::Welcome(v1::Welcome {
            term: 1,
            heartbeat_ms: 500,
        });
        let welcome = futures::stream::iter([Ok(v1::ControllerMessage {
            message: Some(welcome),
        })]);
        if address == "http://a:1" {
            if self
                .dialled
                .fetch_add(1, std::sync::atomic::Ordering::SeqCst)
                > 0
            {
                std::future::pending::<()>().await;
            }
            let message = begin();
            let broken = futures::stream::once(async move {
                tokio::time::sleep(Duration::from_millis(2_700)).await;
                drop(message);
                Err(Status::unavailable("no response"))
            });
            return Ok(welcome.chain(broken).boxed());
        }
        if self.began.elapsed() < self.leads_after {
            let mut status = Status::failed_precondition("this controller stands by; a:1 leads");
            status
                .metadata_mut()
                .insert("streamctl-leader", MetadataValue::from_static("a:1"));
            return Err(status);
        }
        self.joined
            .send(self.began.elapsed())
            .await
            .map_err(|_| Status::unavailable("over"))?;
        Ok(welcome.chain(futures::stream::pending()).boxed())
    }
}

#[tokio::test(start_paused = true)]
async fn who_leads_after_a_controller_stood_still_is_found_while_it_takes_over_what_runs() {
    // A new leader waits this long for the workers of the previous leader (`adoption_ms`).
    let waits = Duration::from_millis(1_500);
    for ms in (2_800..9_000).step_by(100) {
        let (joined, mut joins) = mpsc::channel(1);
        let began = tokio::time::Instant::now();
        let leads_after = Duration::from_millis(ms);
        let dial = Stopped {
            began,
            leads_after,
            dialled: Default::default(),
            joined,
        };
        let (settings, world) = setup(&["a:1", "b:1"]);
        let worker = tokio::spawn(run_over(
            Arc::new(dial),
            settings,
            world,
            std::future::pending(),
        ));
        let after = joins.recv().await.unwrap();
        assert!(
            after < leads_after + waits,
            "{after:?}, and it leads after {leads_after:?}"
        );
        worker.abort();
    }
}
