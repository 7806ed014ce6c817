//! Our programs as a cluster: controllers, workers, the command line.
//!
//! Owns: their flags, which of them run, requesting a job's status. Does not own: the servers that
//! they use.
//! Rule: uses only what a user could use: the programs' flags and the public gRPC service.

use crate::places::{binary, free_port};
use crate::process::{Launch, Process};
use crate::procfs;
use crate::proxy::Links;
use crate::servers::Servers;
use crate::wait;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::{
    EpochSummary, GetJobRequest, JobState, JobStatus, ListEpochsRequest, ListWorkersRequest,
};
use streamctl_proto::v1::{ListWorkersResponse, WorkerStatus};
use tonic::Request;
use tonic::metadata::MetadataValue;

/// A controller responds within a second once it runs; a new leader within six.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Limit of one request to one controller.
const QUESTION: Duration = Duration::from_secs(2);
/// The header of a call that a controller sent on to the leader.
const FORWARDED: &str = "x-streamctl-forwarded";
/// Interval between two checks of a status.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A worker that gets a stop signal closes and reports its part first.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

/// A request that a standby refuses, instead of sending it on to the leader: it looks as if another
/// controller had sent it on.
pub(crate) fn of_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let sent_on = MetadataValue::from_static("1");
    request.metadata_mut().insert(FORWARDED, sent_on);
    request
}

/// Controllers and workers on one set of servers; ended with `kill -9` when dropped.
#[derive(Debug)]
pub struct Cluster {
    env: Vec<(String, String)>,
    logs: PathBuf,
    store: String,
    /// By their names; a stopped one keeps its address.
    controllers: BTreeMap<String, Member>,
    workers: BTreeMap<String, Member>,
    /// The dashboards of the controllers, `host:port`.
    https: BTreeMap<String, String>,
    /// If present, all connections between our programs pass through the links.
    links: Option<Links>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct Member {
    process: Option<Process>,
    launch: Launch,
    address: String,
    /// The address that is advertised to others.
    advertised: String,
}

impl Cluster {
    pub fn start(servers: &Servers) -> Self {
        Self::start_in(servers, &[])
    }

    /// The same, with additional environment variables.
    pub fn start_in(servers: &Servers, more: &[(&str, &str)]) -> Self {
        let store = format!("etcd://{}", servers.etcd.address());
        let more = more.iter();
        let more = more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env = servers.env().into_iter().chain(more).collect();
        let mut cluster = Self::empty(env, servers.folder(), &store, None);
        cluster.add_controller("controller-1");
        cluster.add_controller("controller-2");
        wait::until("a controller that leads", ANSWER_WITHIN, || {
            cluster.worker_list()
        });
        cluster
    }

    /// An empty cluster. Started programs see `env`, log into `logs`, keep jobs in `store`, and are
    /// registered in `links`.
    pub fn empty(
        env: Vec<(String, String)>,
        logs: &Path,
        store: &str,
        links: Option<Links>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let logs = logs.to_owned();
        let store = store.to_owned();
        Self {
            env,
            logs,
            store,
            controllers: BTreeMap::new(),
            workers: BTreeMap::new(),
            https: BTreeMap::new(),
            links,
            runtime,
        }
    }

    pub fn add_controller(&mut self, id: &str) {
        self.add_controller_with(id, &[]);
    }

    /// Adds a controller, with additional flags.
    pub fn add_controller_with(&mut self, id: &str, flags: &[&str]) {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let front = self
            .links
            .as_ref()
            .map_or(port, |links| links.open(id, port));
        let advertised = format!("127.0.0.1:{front}");
        let http = format!("127.0.0.1:{}", free_port());
        let args = [
            "--listen",
            &address,
            "--advertise",
            &advertised,
            "--store",
            &self.store,
            "--cluster",
            "test",
        ];
        let args = [&args[..], &["--id", id, "--http-listen", &http], flags].concat();
        let launch = self.launch(id, "streamctl-controller", &args);
        self.https.insert(id.to_owned(), http);
        self.controllers.insert(
            id.to_owned(),
            Member {
                process: None,
                launch,
                address,
                advertised,
            },
        );
        self.start_again(id);
    }

    pub fn add_worker(&mut self, id: &str) {
        self.add_worker_with(id, &[]);
    }

    /// Adds a worker, with additional flags.
    pub fn add_worker_with(&mut self, id: &str, flags: &[&str]) {
        self.add_worker_in(id, &[], flags);
    }

    /// Adds a worker, with additional environment variables and flags.
    pub fn add_worker_in(&mut self, id: &str, env: &[(&str, &str)], flags: &[&str]) {
        let address = format!("127.0.0.1:{}", free_port());
        let urls: Vec<_> = self
            .controllers
            .values()
            .map(|member| format!("http://{}", member.advertised))
            .collect();
        let args = [
            "--controller",
            &urls.join(","),
            "--listen",
            &address,
            "--id",
            id,
        ];
        let launch = self.launch(id, "streamctl-worker", &[&args[..], flags].concat());
        let launch = launch.env(env.iter().copied());
        let advertised = address.clone();
        self.workers.insert(
            id.to_owned(),
            Member {
                process: None,
                launch,
                address,
                advertised,
            },
        );
        self.start_again(id);
    }

    /// The names of all controllers, running or not.
    pub fn controller_ids(&self) -> Vec<String> {
        self.controllers.keys().cloned().collect()
    }

    /// The names of all workers, running or not.
    pub fn worker_ids(&self) -> Vec<String> {
        self.workers.keys().cloned().collect()
    }

    /// Name and own address, `host:port`, of every controller.
    pub fn controller_addresses(&self) -> Vec<(String, String)> {
        self.controllers
            .iter()
            .map(|(id, member)| (id.clone(), member.address.clone()))
            .collect()
    }

    /// The dashboard of a controller, `host:port`.
    pub fn dashboard(&self, id: &str) -> &str {
        &self.https[id]
    }

    /// The running process of this name.
    pub fn process(&mut self, id: &str) -> Option<&mut Process> {
        self.member(id).process.as_mut()
    }

    /// `kill -9` of the process of this name; [`Self::start_again`] brings it back.
    pub fn kill(&mut self, id: &str) {
        self.member(id).process = None;
    }

    /// Sends SIGTERM to the process with this name; returns whether it ended cleanly.
    #[track_caller]
    pub fn terminate(&mut self, id: &str) -> bool {
        let process = self.member(id).process.take();
        process
            .expect("the test names a process that runs")
            .terminate(LEAVES_WITHIN)
            .success()
    }

    /// Starts the program with this name unless it runs.
    pub fn start_again(&mut self, id: &str) {
        let member = self.member(id);
        let pid = member
            .process
            .get_or_insert_with(|| member.launch.start())
            .pid();
        if let Some(links) = &self.links {
            links.know(pid, id);
        }
    }

    /// From its next start on, the process with this name runs this program.
    pub fn replace_program(&mut self, id: &str, program: &Path) {
        self.member(id).launch.program = program.to_owned();
    }

    fn member(&mut self, id: &str) -> &mut Member {
        let found = self
            .controllers
            .get_mut(id)
            .or_else(|| self.workers.get_mut(id));
        found.expect("the test names a process that it started")
    }

    /// Memory of a worker's process now, in bytes.
    pub fn worker_rss(&self, id: &str) -> u64 {
        procfs::taken(self.pid(id)).map_or(0, |taken| taken.rss_bytes)
    }

    /// CPU time that a process has taken so far, in seconds.
    pub fn cpu_seconds(&self, id: &str) -> f64 {
        procfs::cpu_seconds(self.pid(id)).unwrap_or(0.0)
    }

    fn pid(&self, id: &str) -> u32 {
        let member = self
            .controllers
            .get(id)
            .or_else(|| self.workers.get(id))
            .expect("the test names what it started");
        member
            .process
            .as_ref()
            .expect("the test names a process that runs")
            .pid()
    }

    /// Sends a worker a stop signal, waits until it ends, and returns whether its exit was clean.
    #[track_caller]
    pub fn dismiss_worker(&mut self, id: &str) -> bool {
        let mut worker = self
            .workers
            .remove(id)
            .expect("the test names a worker that it started");
        worker
            .process
            .as_mut()
            .expect("it runs")
            .terminate(LEAVES_WITHIN)
            .success()
    }

    /// `kill -9` of a worker, permanently.
    pub fn kill_worker(&mut self, id: &str) {
        self.workers
            .remove(id)
            .expect("the test names a worker that it started");
    }

    /// `kill -9` of the leading controller; returns its name. [`Self::start_all_again`] brings it
    /// back.
    #[track_caller]
    pub fn kill_leader(&mut self) -> String {
        let id = wait::until("a controller that leads", ANSWER_WITHIN, || self.leader());
        self.controllers
            .get_mut(&id)
            .expect("the leader is one of ours")
            .process = None;
        id
    }

    /// `kill -9` of all our programs.
    pub fn kill_all(&mut self) {
        for member in self
            .controllers
            .values_mut()
            .chain(self.workers.values_mut())
        {
            member.process = None;
        }
    }

    /// Starts all stopped programs, with the same names and addresses.
    pub fn start_all_again(&mut self) {
        for id in self.controller_ids().into_iter().chain(self.worker_ids()) {
            self.start_again(&id);
        }
    }

    /// Every controller's address, in the form of `--controller`.
    pub fn controller_urls(&self) -> String {
        let urls: Vec<_> = self
            .controllers
            .values()
            .map(|member| format!("http://{}", member.address))
            .collect();
        urls.join(",")
    }

    /// `host:port` of the controller that leads.
    pub fn leader_address(&self) -> Option<String> {
        Some(self.controllers[&self.leader()?].address.clone())
    }

    /// `streamctl --controller … ARGS`, run to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary("streamctl"));
        command
            .args(["--controller", &self.controller_urls()])
            .args(args)
            .stdin(Stdio::null());
        command
            .env_clear()
            .envs(crate::places::inherited())
            .envs(self.env.iter().cloned());
        command.output().expect("streamctl starts")
    }

    /// Like [`Self::cli`]; panics unless it succeeds. Returns its stdout.
    #[track_caller]
    pub fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "streamctl {args:?} ended with {}\n{out}\n{err}",
            output.status
        );
        out.into_owned()
    }

    /// A job's status, from any controller that returns one.
    pub fn status(&self, job: &str) -> Option<JobStatus> {
        self.ask(|mut client| async move {
            client
                .get_job(GetJobRequest {
                    job: job.to_owned(),
                    brief: false,
                })
                .await
                .ok()
                .map(|answer| answer.into_inner())
        })
        .map(|(_, status)| status)
    }

    /// Waits for a status that `is_it` accepts. Fails with the reason if the job failed.
    #[track_caller]
    pub fn until_status(
        &self,
        job: &str,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&JobStatus) -> bool,
    ) -> JobStatus {
        let begin = Instant::now();
        let limit = wait::in_time(limit);
        loop {
            let status = self.status(job);
            if let Some(status) = &status {
                assert_ne!(
                    status.state(),
                    JobState::Failed,
                    "{job} failed: {} ({})",
                    status.error,
                    status.hint
                );
            }
            match status {
                Some(status) if is_it(&status) => return status,
                last => {
                    assert!(
                        begin.elapsed() < limit,
                        "waited {limit:?} in vain for: {what}; last status: {last:#?}"
                    )
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Every committed epoch of a job, up to 1,000.
    pub fn epochs(&self, job: &str) -> Option<Vec<EpochSummary>> {
        self.ask(|mut client| async move {
            let request = ListEpochsRequest {
                job: job.to_owned(),
                from: 1,
                limit: 1_000,
                ..Default::default()
            };
            client
                .list_epochs(request)
                .await
                .ok()
                .map(|answer| answer.into_inner().epochs)
        })
        .map(|(_, epochs)| epochs)
    }

    /// The workers that the leader knows.
    pub fn worker_list(&self) -> Option<Vec<WorkerStatus>> {
        self.workers_and_leader().map(|(_, answer)| answer.workers)
    }

    /// The controller that leads.
    pub fn leader(&self) -> Option<String> {
        self.workers_and_leader().map(|(id, _)| id)
    }

    fn workers_and_leader(&self) -> Option<(String, ListWorkersResponse)> {
        self.ask(|mut client| async move {
            client
                .list_workers(of_leader(ListWorkersRequest::default()))
                .await
                .ok()
                .map(|answer| answer.into_inner())
        })
    }

    /// Sends the request to one controller after the other; returns the first response, and its
    /// sender.
    fn ask<T, F>(
        &self,
        question: impl Fn(JobsClient<tonic::transport::Channel>) -> F,
    ) -> Option<(String, T)>
    where
        F: Future<Output = Option<T>>,
    {
        self.controllers
            .iter()
            .filter(|(_, member)| member.process.is_some())
            .find_map(|(id, member)| {
                let answer = async {
                    let client = JobsClient::connect(format!("http://{}", member.address))
                        .await
                        .ok()?;
                    question(client).await
                };
                let limited = async { tokio::time::timeout(QUESTION, answer).await.ok().flatten() };
                Some((id.clone(), self.runtime.block_on(limited)?))
            })
    }

    fn launch(&self, id: &str, program: &str, args: &[&str]) -> Launch {
        Launch::new(id, binary(program), args, &self.logs).env(self.env.iter().cloned())
    }
}
