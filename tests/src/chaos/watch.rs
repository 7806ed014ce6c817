//! Polls the status of the controllers continuously.
//!
//! Owns: one loop per controller, and the newest responses. Does not own: their evaluation.
//! Rule: each controller is polled separately, so that one that hangs delays nothing; a controller
//! that does not respond is not seen.

use crate::cluster::of_leader;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::{GetJobRequest, JobStatus, ListWorkersRequest};
use tonic::transport::{Channel, Endpoint};

/// Interval between two requests to one controller: the precision of times.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A controller that takes longer counts as not responding.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Polls until it is dropped.
#[derive(Debug)]
pub struct Watch {
    board: Arc<Mutex<Board>>,
    _asks: tokio::runtime::Runtime,
}

#[derive(Debug, Default)]
struct Board {
    job: String,
    seen: BTreeMap<String, Seen>,
    answers: u64,
    /// End of the window of each committed epoch seen.
    ends_ms: BTreeMap<u64, i64>,
    published: u64,
    /// When the last newly published window was seen, and the longest time between two since the
    /// measurement began.
    moved: Option<Instant>,
    still: Duration,
}

#[derive(Clone, Debug)]
struct Seen {
    workers: BTreeSet<String>,
    job: Option<JobStatus>,
    /// The start of its leadership; if two report that they lead, the later one counts.
    since: u64,
}

#[derive(Clone, Debug, Default)]
pub struct View {
    /// The controller that responds as the leader; of two, the one that began later.
    pub leader: Option<String>,
    pub workers: BTreeSet<String>,
    /// The watched job.
    pub job: Option<JobStatus>,
    /// End of the newest published window, in milliseconds since 1970; 0 before the first.
    pub published_end_ms: i64,
}

impl View {
    /// The workers that have tasks of the job.
    pub fn busy(&self) -> BTreeSet<String> {
        self.job
            .iter()
            .flat_map(|job| &job.tasks)
            .map(|task| task.worker.clone())
            .collect()
    }

    /// Term and counter of every task of the job.
    pub fn tasks(&self) -> BTreeSet<(u64, u64)> {
        let tasks = self.job.iter().flat_map(|job| &job.tasks);
        tasks
            .filter_map(|task| task.task)
            .map(|task| (task.term, task.counter))
            .collect()
    }

    /// Whether every readable shard has a task.
    pub fn all_read(&self) -> bool {
        self.job.as_ref().is_some_and(|job| {
            !job.tasks.is_empty()
                && job
                    .shards
                    .iter()
                    .all(|shard| shard.ended || !shard.worker.is_empty())
        })
    }
}

impl Watch {
    /// Watches the controllers with these names and addresses (`host:port`).
    pub fn start(controllers: &[(String, String)]) -> Self {
        let board = Arc::<Mutex<Board>>::default();
        let asks = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let asks = asks.expect("a runtime starts");
        for (id, address) in controllers {
            asks.spawn(ask_again_and_again(
                id.clone(),
                address.clone(),
                Arc::clone(&board),
            ));
        }
        Self { board, _asks: asks }
    }

    /// Watches this job from now on.
    pub fn follow(&self, job: &str) {
        let mut board = lock(&self.board);
        *board = Board {
            job: job.to_owned(),
            answers: board.answers,
            ..Board::default()
        };
    }

    /// Starts measuring the longest time without a newly published window.
    pub fn begin_stillness(&self) {
        let mut board = lock(&self.board);
        board.still = Duration::ZERO;
        board.moved = Some(Instant::now());
    }

    /// The longest time without a newly published window.
    pub fn longest_stillness(&self) -> Duration {
        let board = lock(&self.board);
        board
            .still
            .max(board.moved.map_or(Duration::ZERO, |moved| moved.elapsed()))
    }

    pub fn view(&self) -> View {
        let board = lock(&self.board);
        let published = board.ends_ms.range(..=board.published).next_back();
        let published_end_ms = published.map_or(0, |(_, end_ms)| *end_ms);
        match board.seen.iter().max_by_key(|(_, seen)| seen.since) {
            None => View {
                published_end_ms,
                ..View::default()
            },
            Some((id, seen)) => View {
                leader: Some(id.clone()),
                workers: seen.workers.clone(),
                job: seen.job.clone(),
                published_end_ms,
            },
        }
    }
}

async fn ask_again_and_again(id: String, address: String, board: Arc<Mutex<Board>>) {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URL");
    let client = JobsClient::new(endpoint.connect_timeout(ANSWER_WITHIN).connect_lazy());
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let job = lock(&board).job.clone();
        let answer = tokio::time::timeout(ANSWER_WITHIN, ask(client.clone(), &job)).await;
        lock(&board).note(&id, &job, answer.ok().flatten());
    }
}

/// The workers and the job, from a controller that leads.
async fn ask(
    mut client: JobsClient<Channel>,
    job: &str,
) -> Option<(BTreeSet<String>, Option<JobStatus>)> {
    let workers = client
        .list_workers(of_leader(ListWorkersRequest::default()))
        .await
        .ok()?
        .into_inner()
        .workers;
    let status = client
        .get_job(of_leader(GetJobRequest {
            job: job.to_owned(),
            brief: false,
        }))
        .await;
    let workers = workers.into_iter().map(|worker| worker.worker).collect();
    Some((workers, status.ok().map(|status| status.into_inner())))
}

impl Board {
    fn note(&mut self, id: &str, job: &str, answer: Option<(BTreeSet<String>, Option<JobStatus>)>) {
        let Some((workers, status)) = answer else {
            self.seen.remove(id);
            return;
        };
        self.answers += 1;
        let since = self.seen.get(id).map_or(self.answers, |seen| seen.since);
        if let Some(status) = status.as_ref().filter(|_| job == self.job) {
            if status.published > self.published {
                let now = Instant::now();
                self.still = self
                    .still
                    .max(self.moved.map_or(Duration::ZERO, |moved| now - moved));
                (self.moved, self.published) = (Some(now), status.published);
            }
            if let Some((epoch, window)) = status
                .last_epoch
                .as_ref()
                .and_then(|last| Some((last.epoch, last.window?)))
            {
                self.ends_ms.insert(epoch, window.end_ms);
            }
        }
        let job = status.filter(|_| job == self.job);
        self.seen.insert(
            id.to_owned(),
            Seen {
                workers,
                job,
                since,
            },
        );
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().expect("nothing panics under this lock")
}
