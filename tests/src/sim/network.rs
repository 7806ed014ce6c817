//! Connections between workers and controllers: ordered, delayed, stalled, broken in the middle of
//! a message.
//!
//! Owns: connecting, delivery, when either end learns of a break. Does not own: the content of
//! messages.
//! Rule: within one connection messages arrive in order, and only messages that were sent; a
//! connection that breaks loses its tail, or delivers it late.

use super::weather::Weather;
use async_trait::async_trait;
use futures::{Stream, StreamExt};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use streamctl_controller::service::workers::WorkersService;
use streamctl_proto::v1;
use streamctl_worker::connection::{Begin, Dial, Incoming};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

/// The same as for the real connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same as for the real connection.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// After this time without a response a worker considers its connection dead.
const WORKER_PATIENCE_MS: i64 = 5_000;
const CONTROLLER_PATIENCE_MS: i64 = 6_000;
/// Of a thousand reports, how many are of a task whose worker is faulty from then on.
const FALSE_REPORTS: u32 = 6;
/// Messages that may arrive a second time after their connection broke.
const RECENT_MAX: usize = 4;

type Up = Result<v1::WorkerMessage, Status>;
type UpSender = mpsc::UnboundedSender<Up>;

/// What a connection carries down.
#[derive(Clone, Debug)]
enum Down {
    Accepted,
    Refused(Status),
    Said(v1::ControllerMessage),
}

type DownSender = mpsc::UnboundedSender<Result<Down, Status>>;
type DownReceiver = mpsc::UnboundedReceiver<Result<Down, Status>>;

/// One direction: messages in flight, their arrival times, and whether it ends after them.
struct Pipe<T> {
    on_the_way: VecDeque<(i64, T)>,
    ends: bool,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self {
            on_the_way: VecDeque::new(),
            ends: false,
        }
    }
}

impl<T> Pipe<T> {
    fn send(&mut self, due_ms: i64, item: T) {
        let last_ms = self
            .on_the_way
            .back()
            .map_or(due_ms, |(last_ms, _)| *last_ms);
        self.on_the_way.push_back((due_ms.max(last_ms), item));
    }

    fn due(&mut self, now_ms: i64) -> Option<T> {
        let due = self
            .on_the_way
            .front()
            .is_some_and(|(due_ms, _)| *due_ms <= now_ms);
        if due {
            self.on_the_way.pop_front().map(|(_, item)| item)
        } else {
            None
        }
    }

    fn is_over(&self) -> bool {
        self.ends && self.on_the_way.is_empty()
    }
}

struct Line {
    worker: String,
    controller: String,
    up: Pipe<v1::WorkerMessage>,
    down: Pipe<Down>,
    to_controller: Option<UpSender>,
    to_worker: Option<DownSender>,
    /// The controller's handler.
    serving: AbortHandle,
    /// The last messages to the controller, in case they arrive again.
    recent: VecDeque<v1::WorkerMessage>,
    stalled_since_ms: Option<i64>,
    /// When the controller's end learns that the connection is broken.
    controller_breaks_ms: Option<i64>,
    /// When the worker's end learns it.
    worker_breaks_ms: Option<i64>,
    /// Messages to the controller were lost: a stream has no holes, so nothing follows them.
    up_is_lost: bool,
}

impl Line {
    fn break_worker_end(&mut self, why: &str) {
        if let Some(sender) = self.to_worker.take() {
            let _gone = sender.send(Err(Status::unavailable(why)));
        }
    }

    fn break_controller_end(&mut self, why: &str) {
        if let Some(sender) = self.to_controller.take() {
            let _gone = sender.send(Err(Status::unavailable(why)));
        }
        self.serving.abort();
        // Earlier messages still arrive, then the end of stream.
        self.down.ends = true;
    }

    fn is_gone(&self) -> bool {
        self.to_controller.is_none() && self.to_worker.is_none()
    }
}

struct Request {
    worker: String,
    controller: String,
    due_ms: i64,
    /// The connection and its lower end; `None`: refused.
    answer: oneshot::Sender<Option<(u64, DownReceiver)>>,
}

#[derive(Default)]
struct State {
    /// Tasks for which a faulty worker repeatedly reports invalid results.
    broken_tasks: BTreeSet<(u64, u64)>,
    lines: BTreeMap<u64, Line>,
    next: u64,
    requests: Vec<Request>,
}

/// All connections of one world.
pub struct Network {
    state: Mutex<State>,
    weather: Arc<Weather>,
}

/// What the network must know about a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Here,
    /// It is frozen: its machine accepts data but does not respond.
    Frozen,
    Gone,
}

impl Network {
    pub fn new(weather: Arc<Weather>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            weather,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a message sent now arrives.
    fn due_ms(&self) -> i64 {
        let delay_ms = match self.weather.strikes(15, "line: message delayed") {
            true => self.weather.roll(|rng| rng.i64(100..2_500)),
            false => self.weather.roll(|rng| rng.i64(0..25)),
        };
        self.weather.now_ms() + delay_ms
    }

    /// Accepts connections. `at`: whether a place exists, and its server.
    pub fn accept(
        self: &Arc<Self>,
        at: impl Fn(&str) -> (Presence, Option<(Handle, WorkersService)>),
    ) {
        let now_ms = self.weather.now_ms();
        let requests = std::mem::take(&mut self.state().requests);
        for request in requests {
            let (presence, service) = at(&request.controller);
            let reaches = !self.weather.is_cut(&request.worker, &request.controller);
            if now_ms < request.due_ms || !reaches || presence == Presence::Frozen {
                if !request.answer.is_closed() {
                    self.state().requests.push(request);
                }
                continue;
            }
            let Some((handle, service)) = service else {
                let _gone = request.answer.send(None);
                continue;
            };
            self.open(request, &handle, service);
        }
    }

    fn open(self: &Arc<Self>, request: Request, handle: &Handle, service: WorkersService) {
        let (to_controller, said) = mpsc::unbounded_channel::<Up>();
        let (to_worker, answers) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let network = Arc::clone(self);
        let serving = handle.spawn(async move {
            match service.talk(UnboundedReceiverStream::new(said)).await {
                Err(status) => network.send_down(id, Down::Refused(status)),
                Ok(mut answers) => {
                    network.send_down(id, Down::Accepted);
                    while let Some(answer) = answers.next().await {
                        network.send_down(id, answer.map_or_else(Down::Refused, Down::Said));
                    }
                }
            }
            network.end_down(id);
        });
        let Request {
            worker,
            controller,
            answer,
            ..
        } = request;
        self.weather
            .note(|| format!("line {id}: {worker} to {controller}"));
        let line = Line {
            worker,
            controller,
            up: Pipe::default(),
            down: Pipe::default(),
            to_controller: Some(to_controller),
            to_worker: Some(to_worker),
            serving: serving.abort_handle(),
            recent: VecDeque::new(),
            stalled_since_ms: None,
            controller_breaks_ms: None,
            worker_breaks_ms: None,
            up_is_lost: false,
        };
        state.lines.insert(id, line);
        drop(state);
        if answer.send(Some((id, answers))).is_err() {
            self.hang_up(id);
        }
    }

    fn send_up(&self, id: u64, mut message: v1::WorkerMessage) {
        self.falsify(&mut message);
        let due_ms = self.due_ms();
        if let Some(line) = self.state().lines.get_mut(&id)
            && !line.up_is_lost
        {
            line.up.send(due_ms, message);
        }
    }

    /// A faulty worker: its reports for some tasks are invalid, every time.
    fn falsify(&self, message: &mut v1::WorkerMessage) {
        use v1::worker_message::Message;
        let reports: Vec<&mut v1::Report> = match &mut message.message {
            Some(Message::Report(report)) => {
                if let Some(task) = task_key(report)
                    && self
                        .weather
                        .strikes(FALSE_REPORTS, "worker: report that cannot be")
                {
                    self.state().broken_tasks.insert(task);
                }
                vec![report]
            }
            Some(Message::Hello(hello)) => hello
                .tasks
                .iter_mut()
                .flat_map(|task| &mut task.reports)
                .collect(),
            _ => return,
        };
        let broken = self.state().broken_tasks.clone();
        for report in reports {
            if task_key(report).is_some_and(|task| broken.contains(&task)) {
                spoil(report);
            }
        }
    }

    fn end_up(&self, id: u64) {
        if let Some(line) = self.state().lines.get_mut(&id) {
            line.up.ends = true;
        }
    }

    fn send_down(&self, id: u64, item: Down) {
        if let Down::Refused(status) = &item
            && status.code() == Code::InvalidArgument
        {
            // Whatever a worker reports costs a task at most: all jobs share its session.
            self.weather
                .broken(format!("a worker is banned: {}", status.message()));
        }
        let due_ms = self.due_ms();
        if let Some(line) = self.state().lines.get_mut(&id) {
            line.down.send(due_ms, item);
        }
    }

    fn end_down(&self, id: u64) {
        if let Some(line) = self.state().lines.get_mut(&id) {
            line.down.ends = true;
        }
    }

    /// The worker's end is closed; its messages may still arrive.
    fn hang_up(&self, id: u64) {
        let breaks_ms = self.due_ms();
        if let Some(line) = self.state().lines.get_mut(&id) {
            line.to_worker = None;
            line.controller_breaks_ms.get_or_insert(breaks_ms);
        }
    }

    /// Delivers what is due, in a random order of connections, and ends what is over.
    pub fn deliver(&self, at: impl Fn(&str) -> Presence) {
        let now_ms = self.weather.now_ms();
        let mut ids: Vec<u64> = self.state().lines.keys().copied().collect();
        self.weather.roll(|rng| rng.shuffle(&mut ids));
        let mut state = self.state();
        for id in ids {
            let Some(line) = state.lines.get_mut(&id) else {
                continue;
            };
            self.deliver_line(line, now_ms, &at);
            if line.is_gone() {
                state.lines.remove(&id);
            }
        }
    }

    fn deliver_line(&self, line: &mut Line, now_ms: i64, at: &impl Fn(&str) -> Presence) {
        let worker = at(&line.worker);
        let controller = at(&line.controller);
        let cut = self.weather.is_cut(&line.worker, &line.controller);
        let answers = |presence| presence == Presence::Here && !cut;
        if answers(worker) && answers(controller) {
            line.stalled_since_ms = None;
        } else {
            let since_ms = *line.stalled_since_ms.get_or_insert(now_ms);
            if now_ms - since_ms >= WORKER_PATIENCE_MS && !answers(controller) {
                line.break_worker_end("nothing answers");
            }
            if now_ms - since_ms >= CONTROLLER_PATIENCE_MS && !answers(worker) {
                line.break_controller_end("nothing answers");
            }
        }
        if !cut {
            self.bring_up(line, now_ms);
            bring_down(line, now_ms);
        }
        if line
            .controller_breaks_ms
            .is_some_and(|at_ms| at_ms <= now_ms)
        {
            line.break_controller_end("the line broke");
        }
        if line.worker_breaks_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            line.break_worker_end("nothing answers");
        }
    }

    fn bring_up(&self, line: &mut Line, now_ms: i64) {
        while let Some(message) = line.up.due(now_ms) {
            line.recent.push_back(message.clone());
            if line.recent.len() > RECENT_MAX {
                line.recent.pop_front();
            }
            self.weather.note(|| {
                format!(
                    "{} -> {}: {}",
                    line.worker,
                    line.controller,
                    label(&message)
                )
            });
            if let Some(sender) = &line.to_controller {
                let _gone = sender.send(Ok(message));
            }
        }
        if line.up.is_over() {
            // A half-closed connection: the controller closes its half in turn.
            line.to_controller = None;
        }
    }

    pub fn standing(&self) -> Vec<u64> {
        let state = self.state();
        let stands = |line: &Line| line.to_worker.is_some() && line.to_controller.is_some();
        state
            .lines
            .iter()
            .filter(|(_, line)| stands(line))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Breaks a connection: its tail is lost, or arrives late at an end that has not yet noticed.
    pub fn break_line(&self, id: u64) {
        let now_ms = self.weather.now_ms();
        let (keeps, loses_at, half_open, late_ms, doubles) = self.weather.roll(|rng| {
            (
                rng.bool(),
                rng.usize(0..4),
                rng.bool(),
                rng.i64(0..9_000),
                rng.u8(0..3) == 0,
            )
        });
        let mut state = self.state();
        let Some(line) = state.lines.get_mut(&id) else {
            return;
        };
        self.weather
            .note(|| format!("line {id} breaks, half open: {half_open}"));
        line.down.on_the_way.clear();
        line.break_worker_end("the line broke");
        if !keeps && line.up.on_the_way.len() > loses_at {
            line.up.on_the_way.truncate(loses_at);
            line.up_is_lost = true;
            self.weather.count("line: tail lost");
        }
        if !half_open {
            self.weather.count("line: broken");
            line.break_controller_end("the line broke");
            return;
        }
        self.weather.count("line: half open");
        line.controller_breaks_ms = Some(now_ms + late_ms);
        for (due_ms, _) in &mut line.up.on_the_way {
            *due_ms = (*due_ms).max(now_ms + late_ms / 2);
        }
        let hello = |said: &v1::WorkerMessage| {
            matches!(said.message, Some(v1::worker_message::Message::Hello(_)))
        };
        if doubles && !line.recent.iter().any(hello) {
            self.weather.count("line: messages doubled late");
            let again: Vec<_> = line.recent.iter().cloned().collect();
            again
                .into_iter()
                .for_each(|message| line.up.send(now_ms + late_ms / 2, message));
        }
    }

    /// A place disappears without notice: others find out by themselves.
    pub fn vanish(&self, place: &str) {
        let now_ms = self.weather.now_ms();
        for line in self.state().lines.values_mut() {
            if line.worker == place {
                line.to_worker = None;
                line.controller_breaks_ms
                    .get_or_insert(now_ms + CONTROLLER_PATIENCE_MS);
            }
            if line.controller == place {
                line.to_controller = None;
                line.serving.abort();
                line.worker_breaks_ms
                    .get_or_insert(now_ms + WORKER_PATIENCE_MS);
            }
        }
    }

    /// A place disappears, and its machine resets the connections.
    pub fn reset(&self, place: &str) {
        for line in self
            .state()
            .lines
            .values_mut()
            .filter(|line| line.controller == place)
        {
            line.break_controller_end("the process ended");
            line.break_worker_end("connection reset");
        }
    }
}

fn bring_down(line: &mut Line, now_ms: i64) {
    while let Some(item) = line.down.due(now_ms) {
        if let Some(sender) = &line.to_worker {
            let _gone = sender.send(Ok(item));
        }
    }
    if line.down.is_over() {
        line.to_worker = None;
        line.to_controller = None;
    }
}

fn task_key(report: &v1::Report) -> Option<(u64, u64)> {
    report.task.as_ref().map(|task| (task.term, task.counter))
}

/// Makes a report that a controller must refuse: an object outside its job's folders, or figures
/// that do not add up.
fn spoil(report: &mut v1::Report) {
    match (report.objects.first_mut(), &mut report.counts) {
        (Some(object), _) => object.location = "s3://sim/elsewhere/object.json".to_owned(),
        (None, Some(counts)) => counts.rows_in += 1,
        (None, None) => report.window = None,
    }
}

/// The kind of a message, for the trace: independent of this machine's speed.
fn label(message: &v1::WorkerMessage) -> String {
    use v1::worker_message::Message;
    match &message.message {
        Some(Message::Heartbeat(_)) => "heartbeat".into(),
        Some(Message::Hello(hello)) => format!("hello, {} tasks", hello.tasks.len()),
        Some(Message::Report(report)) => {
            format!(
                "report {:?} {:?} {:?}",
                report.task,
                report.window,
                report.ranges.len()
            )
        }
        Some(Message::Progress(progress)) => {
            format!("progress {:?} {}", progress.task, progress.watermark_ms)
        }
        other => format!("{other:?}"),
    }
}

pub struct Dialler {
    pub network: Arc<Network>,
    pub worker: String,
}

#[async_trait]
impl Dial for Dialler {
    async fn dial(&self, address: &str, begin: Begin) -> Result<Incoming, Status> {
        let controller = address.trim_start_matches("http://").to_owned();
        let (answer, answered) = oneshot::channel();
        let due_ms = self.network.due_ms();
        let request = Request {
            worker: self.worker.clone(),
            controller,
            due_ms,
            answer,
        };
        self.network.state().requests.push(request);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, answered).await;
        let Ok(Ok(Some((line, answers)))) = connected else {
            return Err(Status::unavailable("no connection"));
        };
        let network = Arc::clone(&self.network);
        let mut said = begin();
        let saying = tokio::spawn({
            let network = Arc::clone(&network);
            async move {
                while let Some(message) = said.next().await {
                    network.send_up(line, message);
                }
                network.end_up(line);
            }
        });
        let mut end = WorkerEnd {
            network,
            line,
            answers,
            saying: saying.abort_handle(),
        };
        match tokio::time::timeout(HELLO_TIMEOUT, end.answers.recv()).await {
            Ok(Some(Ok(Down::Accepted))) => Ok(end.boxed()),
            Ok(Some(Ok(Down::Refused(status)) | Err(status))) => Err(status),
            Ok(Some(Ok(Down::Said(_))) | None) => Err(Status::unavailable("the line ended")),
            Err(_) => Err(Status::unavailable("no answer to Hello")),
        }
    }
}

/// The worker's end of a connection; closes it when dropped.
struct WorkerEnd {
    network: Arc<Network>,
    line: u64,
    answers: DownReceiver,
    saying: AbortHandle,
}

impl Stream for WorkerEnd {
    type Item = Result<v1::ControllerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.answers.poll_recv(context).map(|item| match item? {
            Ok(Down::Said(message)) => Some(Ok(message)),
            Ok(Down::Refused(status)) | Err(status) => Some(Err(status)),
            Ok(Down::Accepted) => Some(Err(Status::internal("accepted twice"))),
        })
    }
}

impl Drop for WorkerEnd {
    fn drop(&mut self) {
        self.saying.abort();
        self.network.hang_up(self.line);
    }
}
