//! The local mode: a controller on the embedded store and a worker, in this process.
//!
//! Owns: connecting the two on loopback, and the tokens of their calls. Does not own: anything
//! else; the rest is the cluster's code. Rule: if the process is killed at any moment and started
//! again with the same state folder, the job continues exactly where it was. Its ports are open
//! only to this process and, for the dashboard, to the user who runs it.

use crate::client::{connect, jobs};
use crate::error::CliError;
use crate::local::{Flow, Listener, LocalJob, functions};
use crate::verbs::repair::summary_of;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use streamctl_controller::http::MoreFigures;
use streamctl_controller::node as controller;
use streamctl_controller::shards::SourceShards;
use streamctl_controller::store::{EmbeddedStore, LeaderRecord, StoreError};
use streamctl_controller::verify::{Events, Replayer, Verifier};
use streamctl_core::CoreSettings;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::iceberg::tables::TableSettings;
use streamctl_engine::process::stop_signal;
use streamctl_engine::resolve::World;
use streamctl_engine::security::access::Entry;
use streamctl_engine::security::token::Proof;
use streamctl_engine::security::{
    AccessTable, ClientConnection, Dialer, Role, Security, SecurityError, Token,
};
use streamctl_engine::storage::Storages;
use streamctl_proto::manifest::{EpochRepair, objects_after};
use streamctl_proto::refusal::CallRefusal;
use streamctl_proto::v1::{DiffRequest, DiffResponse, GetJobRequest, JobState, JobStatus};
use streamctl_proto::v1::{
    RepairJobRequest, RepairSummary, StopJobRequest, SubmitRequest, VerifyRequest,
};
use streamctl_proto::verify::{EpochOutcome, RebuildOrder, RebuildOutcome};
use streamctl_proto::{Manifest, ResolvedJob, count};
use streamctl_worker::compute::Compute;
use streamctl_worker::functions::Functions;
use streamctl_worker::memory::{MemoryBudget, MemoryLimit};
use streamctl_worker::meter::Meter;
use streamctl_worker::node as worker;
use streamctl_worker::rebuild::rebuild_epoch;
use streamctl_worker::source::Sources;
use streamctl_worker::task::Context;
use streamctl_worker::verify::verify_epoch;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How long the controller in this process may take to become leader.
const LEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two checks for that.
const LEAD_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Time in which a process that is stopped publishes what is committed.
const STOP_PUBLISH_MAX: Duration = Duration::from_secs(10);

/// Access to outside systems from this process, with the standard settings of AWS clients; the
/// environment names the credentials of catalogs.
pub fn world() -> World {
    let aws = Aws::new(AwsSettings::from_env());
    let storages = Storages::new(aws.clone()).with_tables(TableSettings::from_env());
    World {
        function: functions::learning(&functions::here(), &storages),
        storages,
        aws,
        foreign: Default::default(),
    }
}

/// Opens the listener of the dashboard; returns its address too, as a browser expects it.
///
/// # Errors
/// It cannot be opened, or it would be reachable by others and the user has not allowed that.
pub async fn open_dashboard(
    address: SocketAddr,
    insecure: bool,
) -> Result<(Dashboard, String), CliError> {
    if !insecure && !address.ip().is_loopback() {
        return Err(CliError::Usage {
            message: format!(
                "--http-listen {address} can be reached from other machines, and callers are \
                 not authenticated"
            ),
            hint: "listen on 127.0.0.1 and reach it by `ssh -L`, or set --insecure in a network that you trust".into(),
        });
    }
    let refused = |error: std::io::Error| CliError::Local {
        message: format!("{address} cannot be listened on: {error}"),
        hint: "name another address with --http-listen; port 0 takes one that is free".into(),
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let url = format!("http://{}/", listener.local_addr()?);
    Ok((
        Dashboard {
            listener: Some(listener),
            shown_to_all: insecure,
        },
        url,
    ))
}

/// Credentials between the parts of this process: other users of the machine can reach the same
/// ports.
struct Keys {
    /// Connections of this process to its controller.
    dialer: Dialer,
    control: Security,
    work: Security,
}

impl Keys {
    /// New tokens, which exist in this process only.
    fn new(dashboard: &Dashboard) -> Result<Self, SecurityError> {
        let own = Token::generate()?;
        let joins = Token::generate()?;
        let entry = |name: &str, role, token: &Token| Entry {
            name: name.to_owned(),
            role,
            proof: Proof::Token(token.digest()),
        };
        let table = AccessTable::of(vec![
            entry("local", Role::Admin, &own),
            entry("local-worker", Role::Worker, &joins),
        ])?;
        let dialer = Dialer::default().with_token(own);
        let control = Security::of_one_process(table, dialer.clone(), dashboard.shown_to_all);
        let join = Dialer::default().with_token(joins);
        Ok(Self {
            dialer,
            control,
            work: Security::of_one_process(AccessTable::default(), join, false),
        })
    }
}

/// The address of the dashboard, and its audience.
#[derive(Default)]
pub struct Dashboard {
    listener: Option<TcpListener>,
    /// It is open to other users than the one who runs this process.
    shown_to_all: bool,
}

/// A controller in this process.
struct Control {
    address: String,
    keys: Keys,
    aws: Aws,
    storages: Storages,
    functions: Functions,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Control {
    /// Starts it on the state folder of a job.
    async fn start(
        job: &LocalJob,
        dashboard: Dashboard,
        beside: Option<MoreFigures>,
    ) -> Result<Self, CliError> {
        let keys = Keys::new(&dashboard).map_err(no_keys)?;
        let store =
            Arc::new(EmbeddedStore::open(&job.state_dir).map_err(|error| store_error(job, error))?);
        let control = TcpListener::bind("127.0.0.1:0").await?;
        let address = control.local_addr()?.to_string();
        let World { aws, storages, .. } = world();
        // No other process can run tasks of this store, so there is no need to wait for them before
        // the first start.
        let core = CoreSettings {
            adoption_ms: 0,
            earlier_terms_are_dead: true,
            ..CoreSettings::default()
        };
        let lister = Arc::new(SourceShards::new(aws.clone(), storages.clone()).local());
        let functions = functions::here();
        let world = World {
            aws: aws.clone(),
            storages: storages.clone(),
            foreign: Default::default(),
            function: functions::learning(&functions, &storages),
        };
        let mut parts = controller::Parts::new(store, world, lister, core);
        parts.security = keys.control.clone();
        parts.replayer = Some(HereReplayer::new(aws.clone(), storages.clone()));
        let me = LeaderRecord {
            id: "local".into(),
            address: address.clone(),
        };
        let listeners = controller::Listeners {
            control,
            http: dashboard.listener,
            health: None,
            beside,
        };
        let (stop, stopped) = watch::channel(false);
        let ended = tokio::spawn(controller::run(me, listeners, parts, wait(stopped)));
        Ok(Self {
            address: format!("http://{address}"),
            keys,
            aws,
            storages,
            functions,
            stop,
            ended,
        })
    }

    /// Sends a request to it, as soon as it leads.
    async fn call<T>(
        &self,
        call: impl AsyncFn(ClientConnection) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let channel = connect(&self.keys.dialer, &self.address).await?;
        let deadline = Instant::now() + LEAD_TIMEOUT;
        loop {
            match call(channel.clone()).await {
                Err(status)
                    if CallRefusal::is_not_leading(&status) && Instant::now() < deadline =>
                {
                    tokio::time::sleep(LEAD_POLL_INTERVAL).await;
                }
                response => return response.map(tonic::Response::into_inner),
            }
        }
    }
}

/// Runs a job here, and shows it on `dashboard`, until it ends, the listener stops it, or the
/// process is stopped.
pub async fn run_here(
    dashboard: Dashboard,
    job: LocalJob,
    listener: &mut Listener<'_>,
) -> Result<JobStatus, CliError> {
    let meter = Meter::default();
    let control = Control::start(&job, dashboard, Some(figures(meter.clone()))).await?;
    let flight = TcpListener::bind("127.0.0.1:0").await?;
    let (compute, threads) = Compute::start(cores())?;
    let parts = worker::Parts {
        worker: "local".into(),
        flight_address: flight.local_addr()?.to_string(),
        controllers: vec![control.address.clone()],
        aws: control.aws.clone(),
        storages: control.storages.clone(),
        memory_limit: job
            .memory_limit
            .unwrap_or_else(MemoryLimit::of_this_machine),
        compute,
        network: tokio::runtime::Handle::current(),
        meter,
        security: control.keys.work.clone(),
        functions: control.functions.clone(),
    };
    let stopped = control.stop.subscribe();
    let works = tokio::spawn(async move { worker::run(flight, parts, wait(stopped)).await });

    let watched = follow(&control, &job, listener).await;
    control.stop.send_replace(true);
    let ended = tokio::join!(works, control.ended);
    threads.shutdown_background();
    tracing::debug!(?ended, "local mode ended");
    watched
}

/// What a job file would change of a job that ran here. Refused while another process runs it.
pub async fn diff_here(job: LocalJob, request: DiffRequest) -> Result<DiffResponse, CliError> {
    check_state(&job)?;
    let control = Control::start(&job, Dashboard::default(), None).await?;
    let response = control
        .call(async |channel| jobs(channel).diff(request.clone()).await)
        .await;
    control.stop.send_replace(true);
    let ended = control.ended.await;
    tracing::debug!(?ended, "compared");
    Ok(response?)
}

/// Verifies a job that ran here: nothing is started or written, and its epochs are read again in
/// this process. Refused while another process runs it.
pub async fn verify_here(job: LocalJob, request: VerifyRequest) -> Result<Events, CliError> {
    check_state(&job)?;
    let store =
        Arc::new(EmbeddedStore::open(&job.state_dir).map_err(|error| store_error(&job, error))?);
    let World { aws, storages, .. } = world();
    let replayer = HereReplayer::new(aws, storages.clone());
    Ok(Verifier::new(store, storages, replayer)
        .verify(&request)
        .await?)
}

/// Repairs a job that ran here: the controller leads, but no records are read. Refused while
/// another process runs it.
pub async fn repair_here(
    job: LocalJob,
    request: RepairJobRequest,
) -> Result<RepairSummary, CliError> {
    check_state(&job)?;
    let control = Control::start(&job, Dashboard::default(), None).await?;
    let repaired = async {
        let mut events = control
            .call(async |channel| jobs(channel).repair_job(request.clone()).await)
            .await?;
        summary_of(&mut events, |doing| tracing::debug!(doing, "repairing")).await
    };
    let summary = repaired.await;
    control.stop.send_replace(true);
    let ended = control.ended.await;
    tracing::debug!(?ended, "repaired");
    summary
}

fn check_state(job: &LocalJob) -> Result<(), CliError> {
    if job.state_dir.is_dir() {
        return Ok(());
    }
    let message = format!("{} is no state folder", job.state_dir.display());
    Err(CliError::Local {
        message,
        hint: "name the one that `streamctl run` used with --state".into(),
    })
}

/// Reads epochs again in this process.
struct HereReplayer {
    storages: Storages,
    sources: Sources,
}

#[tonic::async_trait]
impl Replayer for HereReplayer {
    async fn replay(
        &self,
        job: &ResolvedJob,
        manifest: &Manifest,
        repairs: &[EpochRepair],
    ) -> EpochOutcome {
        let manifest = Manifest {
            objects: objects_after(manifest, repairs),
            ..manifest.clone()
        };
        verify_epoch(
            self.context(job),
            &tokio::runtime::Handle::current().into(),
            manifest,
        )
        .await
    }

    async fn rebuild(
        &self,
        job: &ResolvedJob,
        manifest: &Manifest,
        order: RebuildOrder,
    ) -> RebuildOutcome {
        let objects = objects_after(manifest, &order.repairs);
        let here = tokio::runtime::Handle::current().into();
        rebuild_epoch(self.context(job), &here, manifest.clone(), objects, order).await
    }
}

impl HereReplayer {
    fn new(aws: Aws, storages: Storages) -> Arc<Self> {
        Arc::new(Self {
            sources: Sources::new(aws, storages.clone()),
            storages,
        })
    }

    fn context(&self, job: &ResolvedJob) -> Arc<Context> {
        let storages = self.storages.clone();
        let sources = self.sources.clone();
        Arc::new(Context::new(
            job.clone(),
            storages,
            sources,
            MemoryBudget::default(),
            functions::here(),
        ))
    }
}

/// The worker's metrics, in addition to the controller's.
fn figures(meter: Meter) -> MoreFigures {
    Arc::new(move |sheet| meter.sheet(sheet))
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Submits the job and follows it to its end.
async fn follow(
    control: &Control,
    job: &LocalJob,
    listener: &mut Listener<'_>,
) -> Result<JobStatus, CliError> {
    let name = submit(control, job).await?;
    let line = connect(&control.keys.dialer, &control.address).await;
    let channel = line.map_err(|status| CliError::Unreachable(status.message().into()))?;
    let request = GetJobRequest {
        job: name.clone(),
        brief: false,
    };
    let mut changes = jobs(channel.clone()).watch_job(request).await?.into_inner();
    let signal = stop_signal();
    tokio::pin!(signal);
    let mut stopping: Option<Instant> = None;
    let mut last = JobStatus::default();
    loop {
        let ends = stopping.map_or_else(far_future, |began| began + STOP_PUBLISH_MAX);
        let status = tokio::select! {
            changed = changes.message() => match changed? {
                Some(status) => status,
                None => return Err(CliError::Unreachable("the status ended".into())),
            },
            () = &mut signal, if stopping.is_none() => {
                stopping = Some(Instant::now());
                request_stop(channel.clone(), &name).await?
            }
            () = tokio::time::sleep_until(ends), if stopping.is_some() => {
                return Err(not_published(&last));
            }
        };
        if listener(&status) == Flow::Stop && stopping.is_none() {
            stopping = Some(Instant::now());
            request_stop(channel.clone(), &name).await?;
        }
        let over = matches!(
            status.state(),
            JobState::Completed | JobState::Failed | JobState::Stopped
        );
        let published = status.published >= status.epoch || status.state() == JobState::Failed;
        if over && published {
            return Ok(status);
        }
        last = status;
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// The process was stopped, and what is committed cannot be published now.
fn not_published(status: &JobStatus) -> CliError {
    let why = match status.waiting_on.as_slice() {
        [] => String::new(),
        waiting => format!(": {}", waiting.join("; ")),
    };
    CliError::Local {
        message: format!(
            "stopped; {} of job {} committed and not published within {STOP_PUBLISH_MAX:?}{why}",
            count(status.epoch.saturating_sub(status.published), "epoch"),
            status.job
        ),
        hint: "nothing is lost: they are published at the next start with the same state folder"
            .into(),
    }
}

/// Stops without a drain: what is not committed is read again at the next start.
async fn request_stop(channel: ClientConnection, name: &str) -> Result<JobStatus, Status> {
    let request = StopJobRequest {
        job: name.to_owned(),
        drain: false,
    };
    jobs(channel)
        .stop_job(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn submit(control: &Control, job: &LocalJob) -> Result<String, CliError> {
    let request = SubmitRequest {
        spec_toml: job.spec_text.clone(),
        dry_run: false,
        base_dir: job.base_dir.display().to_string(),
        change: job.change,
        if_version: 0,
        function_code: job
            .function_code
            .as_ref()
            .map(Vec::from)
            .unwrap_or_default(),
    };
    match control
        .call(async |channel| jobs(channel).submit(request.clone()).await)
        .await
    {
        Ok(response) => Ok(response.job),
        Err(status) if status.code() == Code::AlreadyExists => Err(another_file(&status)),
        Err(status) => Err(status.into()),
    }
}

/// The state is that of another job file. The controller's hint names verbs for a cluster, which
/// cannot reach this controller.
fn another_file(status: &Status) -> CliError {
    let (message, _) = CallRefusal::text_of(status);
    let hint = "`streamctl diff FILE --local` shows it whole; with `--change` it takes over after the last epoch; a job that begins \
         anew needs another name and --state";
    CliError::Local {
        message,
        hint: hint.into(),
    }
}

fn no_keys(error: SecurityError) -> CliError {
    CliError::Local {
        message: error.problem,
        hint: error.hint,
    }
}

fn store_error(job: &LocalJob, error: StoreError) -> CliError {
    let hint = match &error {
        StoreError::Refused { hint, .. } => hint.clone(),
        StoreError::Unavailable { .. } | StoreError::Corrupt { .. } => {
            format!(
                "the state folder is {}; --state names another",
                job.state_dir.display()
            )
        }
    };
    CliError::Local {
        message: error.to_string(),
        hint,
    }
}
