//! One controller process: serves, stands by, leads, stands by again.
//!
//! Owns: the life of a term, from the campaign to its end. Does not own: the work during the term
//! (`driver`).
//! Rule: jobs are loaded under the new term, after it was won; nothing of an earlier term is kept
//! in memory.

use crate::admission::Admission;
use crate::compactor::{CompactionBoard, Compactor};
use crate::driver::{Driver, Ended, Performer, Witness};
use crate::forward::Forward;
use crate::history::History;
use crate::http::{self, LeaderJobs, MoreFigures, Shown};
use crate::leader_connection::LeaderConnection;
use crate::leading::{Leader, Leading};
use crate::learner::WorkerLearner;
use crate::load::load;
use crate::metrics::Metrics;
use crate::published_hook::PublishedHook;
use crate::rewriter::WorkerRewriter;
use crate::sample::{SAMPLE_TIMEOUT, Sampler};
use crate::service::flight::FlightLocations;
use crate::service::in_flight::CallsInFlight;
use crate::service::jobs::JobsService;
use crate::service::jobs::look::Looks;
use crate::service::scaling::ExternalScaler;
use crate::service::submit::Submitter;
use crate::service::workers::WorkersService;
use crate::sessions::Sessions;
use crate::shards::ShardLister;
use crate::store::{LeaderRecord, Leadership, Store, StoreError};
use crate::verify::{FlightReplayer, Replayer, Verifier};
use crate::worker_calls::WorkerCalls;
use arrow_flight::flight_service_server::FlightServiceServer;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use streamctl_core::CoreSettings;
use streamctl_engine::clock::{Clock, system_clock};
use streamctl_engine::http::{Door, health};
use streamctl_engine::resolve::World;
use streamctl_engine::security::Security;
use streamctl_engine::security::accept::{
    CALL_HEAD_BYTES_MAX, Limits, STREAMS_PER_CONNECTION_MAX, incoming,
};
use streamctl_proto::externalscaler::external_scaler_server::ExternalScalerServer;
use streamctl_proto::v1::jobs_server::JobsServer;
use streamctl_proto::v1::workers_server::WorkersServer;
use streamctl_proto::{MESSAGE_BYTES_MAX, v1};
use streamctl_proto::{Term, describe};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

/// How often a standby checks which controller leads.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Wait before a failed campaign or load is retried.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// HTTP/2 flow-control windows; the defaults (64 KiB) throttle a session and Flight.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// A connection without an answer for this long is broken.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// The dependencies of a controller.
#[derive(Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub world: World,
    pub lister: Arc<dyn ShardLister>,
    /// Times that decisions depend on.
    pub core: CoreSettings,
    pub clock: Clock,
    /// Observes the core's steps; for tests.
    pub witness: Option<Arc<dyn Witness>>,
    /// Counters, and where spans go.
    pub metrics: Metrics,
    /// TLS and access control.
    pub security: Security,
    /// Reads epochs again; none: the workers do.
    pub replayer: Option<Arc<dyn Replayer>>,
}

impl Parts {
    /// With the clock of this machine and without a witness.
    pub fn new(
        store: Arc<dyn Store>,
        world: World,
        lister: Arc<dyn ShardLister>,
        core: CoreSettings,
    ) -> Self {
        let metrics = Metrics::default();
        let security = Security::default();
        let clock = system_clock();
        let witness = None;
        let replayer = None;
        Self {
            store,
            world,
            lister,
            core,
            clock,
            witness,
            metrics,
            security,
            replayer,
        }
    }
}

/// A controller without its network.
pub struct Node {
    me: LeaderRecord,
    parts: Parts,
    sessions: Arc<Sessions>,
    leading: watch::Sender<Leading>,
    history: History,
    admission: Admission,
    in_flight: CallsInFlight,
    compactions: CompactionBoard,
}

/// What a leader has workers do besides tasks.
#[derive(Clone)]
struct Errands {
    workers: WorkerCalls,
    compactions: CompactionBoard,
}

impl Node {
    /// `me` is the record that others see.
    pub fn new(me: LeaderRecord, parts: Parts) -> Self {
        let (leading, _) = watch::channel(Leading::Elsewhere(None));
        let history = History::new(parts.world.storages.clone());
        let admission = Admission::new(&parts.security);
        Self {
            me,
            parts,
            sessions: Arc::default(),
            leading,
            history,
            admission,
            in_flight: CallsInFlight::default(),
            compactions: CompactionBoard::default(),
        }
    }

    fn leader(&self) -> Leader {
        Leader::new(self.leading.subscribe())
    }

    /// Requests to the workers of the leader in this process.
    fn worker_calls(&self) -> WorkerCalls {
        WorkerCalls {
            leader: self.leader(),
            dialer: self.parts.security.dialer.clone(),
            admission: self.admission.clone(),
        }
    }

    /// The API for users and programs.
    pub fn jobs(&self) -> JobsService {
        let Parts {
            store,
            mut world,
            lister,
            clock,
            ..
        } = self.parts.clone();
        let workers = self.worker_calls();
        if world.function.learner.is_none() {
            let workers = workers.clone();
            world.function.learner = Some(Arc::new(WorkerLearner { workers }));
        }
        let replayer = self.parts.replayer.clone();
        let looks = Looks::new(workers.clone());
        let replayer = replayer.unwrap_or_else(|| Arc::new(FlightReplayer { workers }));
        let verifier = Verifier::new(Arc::clone(&store), world.storages.clone(), replayer);
        let submitter = Submitter {
            store,
            world,
            lister,
            clock,
        };
        JobsService {
            leader: self.leader(),
            submitter,
            history: self.history.clone(),
            verifier,
            looks,
            in_flight: self.in_flight.clone(),
            compactions: self.compactions.clone(),
        }
    }

    /// The sessions of the workers.
    pub fn workers(&self) -> WorkersService {
        let sessions = Arc::clone(&self.sessions);
        let admission = self.admission.clone();
        WorkersService {
            leader: self.leader(),
            sessions,
            admission,
        }
    }

    /// Where the rows of epochs are.
    fn locations(&self) -> FlightLocations {
        FlightLocations {
            leader: self.leader(),
            history: self.history.clone(),
            admission: self.admission.clone(),
        }
    }

    /// Reads rows for the pages.
    fn sampler(&self) -> Sampler {
        let security = &self.parts.security;
        let dialer = security.dialer.clone();
        let leader =
            LeaderConnection::new(dialer.clone(), security.has_tls(), Some(SAMPLE_TIMEOUT));
        Sampler::new(self.locations(), leader, dialer)
    }

    /// The HTTP pages, without the connection limits.
    pub fn shown(&self, beside: Option<MoreFigures>) -> axum::Router {
        let Parts {
            clock,
            metrics,
            security,
            ..
        } = self.parts.clone();
        let dialer = security.dialer.clone();
        let tls = security.has_tls();
        let me = self.me.clone();
        let leader = self.leader();
        let jobs = self.jobs();
        let sampler = self.sampler();
        http::router(Shown {
            me,
            leader,
            jobs,
            sampler,
            clock,
            metrics,
            beside,
            dialer,
            tls,
        })
    }

    /// Leads, and stands by, until `stopped` is true.
    pub async fn lead(&self, stopped: watch::Receiver<bool>) {
        lead_again_and_again(
            &self.me,
            &self.parts,
            &self.sessions,
            &self.leading,
            Errands {
                workers: self.worker_calls(),
                compactions: self.compactions.clone(),
            },
            stopped,
        )
        .await;
    }
}

/// The listeners of a controller.
pub struct Listeners {
    /// gRPC for clients and workers.
    pub control: TcpListener,
    /// HTTP for browsers and Prometheus; none to disable it.
    pub http: Option<TcpListener>,
    /// Probes, without authentication; none to disable it.
    pub health: Option<TcpListener>,
    /// Metrics of a worker in the same process, shown with the controller's.
    pub beside: Option<MoreFigures>,
}

impl From<TcpListener> for Listeners {
    fn from(control: TcpListener) -> Self {
        Self {
            control,
            http: None,
            health: None,
            beside: None,
        }
    }
}

/// Runs a controller behind these listeners until `stop`. `me` is the record that others see.
pub async fn run(
    me: LeaderRecord,
    listeners: impl Into<Listeners>,
    parts: Parts,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let Listeners {
        control: listener,
        http,
        health: probes,
        beside,
    } = listeners.into();
    let node = Node::new(me, parts);
    let (stop_sender, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stop_sender.send_replace(true);
    });
    let shown = async {
        if let Some(http) = http {
            let security = &node.parts.security;
            let door = Door::secured(http, security, security.pages_gate());
            streamctl_engine::http::serve(door, node.shown(beside), wait(stopped.clone())).await;
        }
    };
    let alive = health_service().await;
    let probed = async {
        if let Some(probes) = probes {
            let app = health(http::ready(node.leader()))
                .merge(Routes::new(alive.clone()).into_axum_router());
            streamctl_engine::http::serve(Door::for_probes(probes), app, wait(stopped.clone()))
                .await;
        }
    };
    let reported = async {
        tokio::select! {
            () = node.admission.clone().follow(Arc::clone(&node.sessions)) => {}
            () = wait(stopped.clone()) => {}
        }
    };
    let serving = serve(listener, &node, alive.clone(), wait(stopped.clone()));
    let (served, (), (), (), ()) =
        tokio::join!(serving, shown, probed, reported, node.lead(stopped.clone()));
    served
}

/// gRPC's own health service: every service here is serving.
async fn health_service() -> HealthServer<impl Health> {
    let (health, service) = tonic_health::server::health_reporter();
    health.set_serving::<JobsServer<JobsService>>().await;
    health.set_serving::<WorkersServer<WorkersService>>().await;
    health
        .set_serving::<ExternalScalerServer<ExternalScaler>>()
        .await;
    service
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}

async fn serve(
    listener: TcpListener,
    node: &Node,
    health: HealthServer<impl Health>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let jobs = node.jobs();
    let workers = node.workers();
    let locations = node.locations();
    let security = &node.parts.security;
    let leader_jobs = LeaderJobs::new(node.jobs(), security.dialer.clone(), security.has_tls());
    let scaler = ExternalScaler::new(leader_jobs);
    // Both versions of reflection: many clients, Python's among them, support only the older one.
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::new(health)
        .add_service(JobsServer::new(jobs).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            WorkersServer::new(workers)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(ExternalScalerServer::new(scaler))
        .add_service(FlightServiceServer::new(locations));
    if let (Ok(new), Ok(old)) = (descriptors().build_v1(), descriptors().build_v1alpha()) {
        routes = routes.add_service(new).add_service(old);
    }
    let leader = LeaderConnection::new(security.dialer.clone(), security.has_tls(), None);
    let forward = Forward::new(node.leader(), leader);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(CALL_HEAD_BYTES_MAX)
        .add_routes(
            security
                .gate()
                .before_services(forward.before_services(routes)),
        );
    // Sessions and watches have no end of their own: the server does not wait for them.
    let connections = incoming(listener, node.parts.security.grpc_tls(), Limits::GRPC);
    let serving = server.serve_with_incoming(connections);
    tokio::select! {
        served = serving => served,
        () = stop => Ok(()),
    }
}

async fn lead_again_and_again(
    me: &LeaderRecord,
    parts: &Parts,
    sessions: &Arc<Sessions>,
    leading: &watch::Sender<Leading>,
    errands: Errands,
    stopped: watch::Receiver<bool>,
) {
    loop {
        let elected = tokio::select! {
            biased;
            () = wait(stopped.clone()) => return,
            elected = campaign(me, parts, leading) => elected,
        };
        let ended = tokio::select! {
            biased;
            () = wait(stopped.clone()) => Ended::Stopped,
            ended = lead(me, &elected, parts, sessions, leading, errands.clone(), wait(stopped.clone())) => ended,
        };
        leading.send_replace(Leading::Elsewhere(None));
        sessions.close_all();
        tracing::info!(term = %elected.term, ?ended, "stopped leading");
        elected.resign().await;
        if ended == Ended::Stopped {
            return;
        }
    }
}

/// Waits for election; meanwhile publishes which controller leads.
async fn campaign(
    me: &LeaderRecord,
    parts: &Parts,
    leading: &watch::Sender<Leading>,
) -> Leadership {
    let poll = async {
        loop {
            if let Ok(found) = parts.store.leader().await {
                let address = found.map(|(_, leader)| leader.address);
                leading.send_replace(Leading::Elsewhere(address));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let win = async {
        loop {
            match parts.store.campaign(me).await {
                Ok(leadership) => return leadership,
                Err(StoreError::Refused { reason, hint }) => {
                    tracing::warn!(error = reason, hint, "campaign failed, trying again");
                }
                Err(error) => {
                    tracing::warn!(error = describe(&error), "campaign failed, trying again")
                }
            }
            tokio::time::sleep(RETRY_WAIT).await;
        }
    };
    tokio::select! {
        biased;
        leadership = win => leadership,
        () = poll => unreachable!("looking has no end"),
    }
}

async fn lead(
    me: &LeaderRecord,
    leadership: &Leadership,
    parts: &Parts,
    sessions: &Arc<Sessions>,
    leading: &watch::Sender<Leading>,
    errands: Errands,
    stop: impl Future<Output = ()>,
) -> Ended {
    let name = format!("{} at {}", me.id, me.address);
    let loaded = loop {
        match load(&*parts.store, &parts.world.storages).await {
            Ok(loaded) => break loaded,
            Err(error) if leadership.is_lost() => return Ended::Deposed(error),
            Err(error) => tracing::error!(error, "jobs cannot be loaded, trying again"),
        }
        tokio::time::sleep(RETRY_WAIT).await;
    };
    if loaded.highest_term >= leadership.term {
        return raise_terms(leadership, parts, loaded.highest_term).await;
    }
    let loaded = loaded.events;
    tracing::info!(term = %leadership.term, jobs = loaded.len(), "leading");
    let performer = Performer {
        term: leadership.term,
        store: Arc::clone(&parts.store),
        storages: parts.world.storages.clone(),
        lister: Arc::clone(&parts.lister),
        sessions: Arc::clone(sessions),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
        hook: Some(PublishedHook {
            workers: errands.workers.clone(),
        }),
    };
    let (driver, handle) = Driver::new(performer, parts.core.clone());
    let driver = driver.watched(parts.witness.clone()).named(name);
    let compactor = Compactor {
        handle: handle.clone(),
        rewriter: Arc::new(WorkerRewriter {
            workers: errands.workers,
        }),
        storages: parts.world.storages.clone(),
        clock: Arc::clone(&parts.clock),
        metrics: parts.metrics.clone(),
        board: errands.compactions,
    };
    leading.send_replace(Leading::Here(handle));
    let compacting = async {
        compactor.run().await;
        std::future::pending::<Ended>().await
    };
    tokio::select! {
        ended = driver.run(leadership, loaded, stop) => ended,
        ended = compacting => ended,
    }
}

/// Terms restarted because the store was restored from a copy, so names of tasks would be used
/// twice. Ends this term, and makes all later ones higher than any under which an epoch was
/// committed.
async fn raise_terms(leadership: &Leadership, parts: &Parts, above: Term) -> Ended {
    let term = leadership.term;
    tracing::warn!(%term, %above, "the store was restored from a copy and counts terms again: they are raised");
    loop {
        match parts.store.raise_terms(term, above).await {
            Ok(_) => {
                return Ended::Deposed(format!(
                    "term {term} is not above {above}, under which something was committed"
                ));
            }
            Err(error) if leadership.is_lost() => return Ended::Deposed(describe(&error)),
            Err(error) => tracing::error!(
                error = describe(&error),
                "terms cannot be raised, trying again"
            ),
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
}
