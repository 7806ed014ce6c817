//! A controller and workers in this process, with a store in memory: runs a job in seconds, without
//! servers.
//!
//! Owns: assembling the parts like their programs, killing them. Does not own: their behaviour.
//! Rule: a [`Life`] ends without notice, like a process that is killed; the [`Place`] keeps what
//! survives that: the store and the folder.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_controller::node as controller;
use streamctl_controller::shards::SourceShards;
use streamctl_controller::store::{LeaderRecord, MemoryStore};
use streamctl_core::CoreSettings;
use streamctl_engine::aws::Aws;
use streamctl_engine::resolve::World;
use streamctl_engine::source::kinesis;
use streamctl_engine::storage::Storages;
use streamctl_proto::MESSAGE_BYTES_MAX;
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::{GetJobRequest, JobStatus, StopJobRequest, SubmitRequest};
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::results::Results;
use streamctl_worker::session;
use streamctl_worker::source::Sources;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};

/// Threads of a life: the machine has few, and a test waits most of the time.
const THREADS: usize = 4;
/// Limit of one request to the controller.
const QUESTION: Duration = Duration::from_secs(30);
/// Interval between two checks of a status.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub struct Place {
    pub folder: tempfile::TempDir,
    /// Times that the controller's decisions depend on.
    pub core: CoreSettings,
    store: MemoryStore,
    aws_address: String,
    kinesis: kinesis::Settings,
}

/// A controller and its workers, until killed or dropped.
pub struct Life {
    runtime: Option<Runtime>,
    store: MemoryStore,
    channel: Channel,
    address: SocketAddr,
}

impl Place {
    /// An empty one, with all AWS services at this address.
    pub fn new(aws_address: &str) -> Self {
        let core = CoreSettings {
            adoption_ms: 0,
            listing_interval_ms: 2_000,
            ..CoreSettings::default()
        };
        let kinesis = kinesis::Settings {
            grace: Some(Duration::from_millis(100)),
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_millis(500),
            ..kinesis::Settings::default()
        };
        let folder = tempfile::Builder::new()
            .prefix("streamctl-here-")
            .tempdir()
            .expect("a folder can be made");
        Self {
            folder,
            store: MemoryStore::new(),
            aws_address: aws_address.to_owned(),
            core,
            kinesis,
        }
    }

    /// A folder of the place, as text.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts a controller and this many workers; the earlier life must be over.
    pub fn start(&self, workers: usize) -> Life {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let store = self.store.candidate();
        // Connections belong to the runtime that opened them: they die with a life.
        let aws = runtime.block_on(Aws::with_fake(&self.aws_address, "WORKER"));
        let world = World {
            aws: aws.clone(),
            storages: Storages::new(aws.clone()),
            foreign: Default::default(),
            function: Default::default(),
        };
        let (listener, address) = runtime.block_on(listener());
        let lister = Arc::new(SourceShards::new(world.aws.clone(), world.storages.clone()));
        let parts =
            controller::Parts::new(Arc::new(store.clone()), world, lister, self.core.clone());
        let me = LeaderRecord {
            id: "here".into(),
            address: address.to_string(),
        };
        runtime.spawn(controller::run(me, listener, parts, std::future::pending()));
        for number in 1..=workers {
            runtime.spawn(self.worker(number, &aws, address, runtime.handle().clone()));
        }
        let dialled = async {
            let endpoint =
                Endpoint::from_shared(format!("http://{address}")).expect("it is an address");
            endpoint.connect_lazy()
        };
        let channel = runtime.block_on(dialled);
        Life {
            runtime: Some(runtime),
            store,
            channel,
            address,
        }
    }

    fn worker(
        &self,
        number: usize,
        aws: &Aws,
        controller: SocketAddr,
        network: tokio::runtime::Handle,
    ) -> impl Future<Output = ()> + use<> {
        let storages = Storages::new(aws.clone());
        let sources = Sources::new(aws.clone(), storages.clone()).with_kinesis(self.kinesis);
        let settings = session::Settings {
            worker: format!("worker-{number}"),
            flight_address: "127.0.0.1:1".to_owned(),
            controllers: vec![format!("http://{controller}")],
            protection: Default::default(),
        };
        let results = Arc::new(Results::default());
        let budget = MemoryBudget::default();
        let compute = network.clone().into();
        let meter = Default::default();
        let world = session::World {
            storages,
            sources,
            results,
            budget,
            compute,
            network,
            meter,
            functions: Default::default(),
        };
        session::run(settings, world, std::future::pending())
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port can be bound");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

impl Life {
    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken by `drop` only")
    }

    /// The controller's address, as workers dial it.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs something beside the controller and its workers.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime().block_on(work)
    }

    fn client(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Submits a job file; returns its name, or the controller's refusal.
    pub fn try_submit(&self, job_file: &str) -> Result<String, tonic::Status> {
        let request = SubmitRequest {
            spec_toml: job_file.to_owned(),
            ..SubmitRequest::default()
        };
        let deadline = Instant::now() + QUESTION;
        loop {
            let answer = self
                .runtime()
                .block_on(self.client().submit(request.clone()));
            match answer {
                Err(status) if status.message().contains("leads") && Instant::now() < deadline => {
                    std::thread::sleep(LOOK_EVERY);
                }
                answer => return answer.map(|answer| answer.into_inner().job),
            }
        }
    }

    /// Submits a valid job file.
    #[track_caller]
    pub fn submit(&self, job_file: &str) -> String {
        self.try_submit(job_file)
            .unwrap_or_else(|status| panic!("the job is refused: {status}"))
    }

    /// A job's status, if the controller leads already.
    pub fn status(&self, job: &str) -> Option<JobStatus> {
        let request = GetJobRequest {
            job: job.to_owned(),
            brief: false,
        };
        let answer = async { tokio::time::timeout(QUESTION, self.client().get_job(request)).await };
        Some(self.runtime().block_on(answer).ok()?.ok()?.into_inner())
    }

    /// Waits until a job's status matches.
    #[track_caller]
    pub fn until(
        &self,
        job: &str,
        what: &str,
        limit: Duration,
        is: impl Fn(&JobStatus) -> bool,
    ) -> JobStatus {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < limit {
            let asked = Instant::now();
            last = self.status(job).or(last);
            if let Some(status) = last.take_if(|status| is(status)) {
                return status;
            }
            // The status of ten thousand shards is megabytes: polling must not dominate the
            // machine's work.
            std::thread::sleep(LOOK_EVERY.max(asked.elapsed() * 3));
        }
        panic!("waited {limit:?} in vain for: {what}; last status: {last:#?}")
    }

    /// Waits until this many records are read and published.
    #[track_caller]
    pub fn until_published(&self, job: &str, rows_in: u64, limit: Duration) -> JobStatus {
        let rows = |status: &JobStatus| status.totals.unwrap_or_default().rows_in;
        let there =
            |status: &JobStatus| rows(status) >= rows_in && status.published == status.epoch;
        self.until(job, &format!("{rows_in} published records"), limit, there)
    }

    /// Stops a job with drain: its open windows are finished.
    pub fn drain(&self, job: &str) {
        let request = StopJobRequest {
            job: job.to_owned(),
            drain: true,
        };
        let stopped = self.runtime().block_on(self.client().stop_job(request));
        stopped.expect("the controller takes a stop");
    }

    /// `kill -9`.
    pub fn kill(self) {}
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        self.store.depose();
    }
}

/// The lines of all JSON files below a folder, as (file name, value), in the order of the names.
pub fn json_lines(folder: &Path) -> Vec<(String, serde_json::Value)> {
    let mut files = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".json") && !name.starts_with('.') {
                files.push((name, path));
            }
        }
    }
    files.sort();
    let mut lines = vec![];
    for (name, path) in files {
        let text = std::fs::read_to_string(&path).expect("a published file can be read");
        let parse = |line: &str| serde_json::from_str(line).expect("each line is JSON");
        lines.extend(text.lines().map(|line| (name.clone(), parse(line))));
    }
    lines
}
