//! One worker process: a Flight service, and a session with the leading controller.
//!
//! Rule: windows are computed on their own threads; shards are read and rows are served on others.
//! The session, health and metrics run on the thread that calls [`run`], which no job can hold.

use crate::compute::Compute;
use crate::flight::FlightRows;
use crate::functions::Functions;
use crate::memory::{MemoryBudget, MemoryLimit, upload_bytes};
use crate::meter::Meter;
use crate::protection::Protection;
use crate::results::Results;
use crate::session::{self, Settings, World};
use crate::source::Sources;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use std::future::Future;
use std::sync::Arc;
use streamctl_engine::aws::Aws;
use streamctl_engine::http::{Door, Ready, health, index, metrics_answer};
use streamctl_engine::metrics::Sheet;
use streamctl_engine::security::Security;
use streamctl_engine::security::accept::{
    CALL_HEAD_BYTES_MAX, FLIGHT_KEEPALIVE_INTERVAL, FLIGHT_KEEPALIVE_TIMEOUT, Limits,
    STREAMS_PER_CONNECTION_MAX, incoming,
};
use streamctl_engine::storage::Storages;
use streamctl_proto::MESSAGE_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::service::Routes;

/// HTTP/2 flow-control windows; the defaults (64 KiB) throttle Flight.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// The index page of its HTTP port.
const INDEX: &str = "a worker of streamctl; the dashboard is at the controllers' HTTP port
/metrics  figures for Prometheus
/healthz  the process answers
/readyz   it has a session with the leading controller
";

/// The parts of a worker.
pub struct Parts {
    pub worker: String,
    /// The address of its Flight service as reported to others: host:port, or grpc+tls://host:port.
    pub flight_address: String,
    /// Addresses of the controllers: `http://host:port`, or `https://`.
    pub controllers: Vec<String>,
    pub aws: Aws,
    pub storages: Storages,
    /// The memory limit.
    pub memory_limit: MemoryLimit,
    /// Threads that compute windows.
    pub compute: Compute,
    /// Threads that read shards and serve rows.
    pub network: Handle,
    /// Metrics and the destination of spans.
    pub meter: Meter,
    pub security: Security,
    /// Whether jobs' functions run here.
    pub functions: Functions,
}

/// The listeners of a worker.
pub struct Listeners {
    /// For subscribers, over Arrow Flight.
    pub flight: TcpListener,
    /// For Prometheus; `None` if metrics are not exposed.
    pub http: Option<TcpListener>,
    /// For probes, which are not authenticated; `None` without probes.
    pub health: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(flight: TcpListener) -> Self {
        Self {
            flight,
            http: None,
            health: None,
        }
    }
}

/// Why a worker ended without a stop request.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The error of the service for subscribers.
    #[error(transparent)]
    Serve(#[from] tonic::transport::Error),
    /// Cancelled work still computes and holds a thread for good. The worker has handed back its
    /// shards; its supervisor restarts it.
    #[error(
        "{0}; the worker has handed back its shards and ends, so that its supervisor starts it \
         again"
    )]
    Stuck(String),
}

/// Runs a worker with these listeners until `stop`, or until one of its threads is lost for good.
pub async fn run(
    listeners: impl Into<Listeners>,
    parts: Parts,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let Listeners {
        flight: listener,
        http,
        health: probes,
    } = listeners.into();
    let Parts {
        worker,
        flight_address,
        controllers,
        aws,
        storages,
        memory_limit,
        compute,
        network,
        meter,
        security,
        functions,
    } = parts;
    let exposed = listener
        .local_addr()
        .is_ok_and(|address| !address.ip().is_loopback());
    let protection = Protection::new(&security, exposed);
    let gate = protection.gate();
    let settings = Settings {
        worker,
        flight_address,
        controllers,
        protection,
    };
    let storages = storages.with_upload_bytes(upload_bytes(memory_limit));
    let budget = MemoryBudget::new(memory_limit);
    let sources =
        Sources::new(aws, storages.clone()).with_file_room(budget.files().clone(), memory_limit);
    let results = Arc::new(Results::new(budget.result_bytes()));
    let app = shown(meter.clone());
    let ready = ready(meter.clone());
    let world = World {
        storages,
        sources,
        results,
        budget,
        compute,
        network,
        meter,
        functions,
    };
    let rows = FlightRows::new(settings.clone(), world.clone());
    let (reporter, alive) = tonic_health::server::health_reporter();
    reporter
        .set_serving::<FlightServiceServer<FlightRows>>()
        .await;
    let flight = FlightServiceServer::new(rows).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let routes = Routes::new(alive.clone()).add_service(flight);
    let mut server = JoinSet::new();
    let serve = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(FLIGHT_KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(FLIGHT_KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(CALL_HEAD_BYTES_MAX)
        .add_routes(gate.before_services(routes))
        .serve_with_incoming(incoming(listener, security.grpc_tls(), Limits::GRPC));
    server.spawn_on(serve, &world.network);
    let show = serve_pages(
        http.map(|http| Door::secured(http, &security, gate.clone())),
        app,
    );
    let probed = health(ready).merge(Routes::new(alive).into_axum_router());
    let probe = serve_pages(probes.map(Door::for_probes), probed);
    let compute = world.compute.clone();
    let (report_stuck, stuck) = oneshot::channel();
    let mut stuck_work = None;
    let ends = async {
        tokio::select! {
            () = stop => {}
            Ok(work) = stuck => {
                tracing::error!(work, "a compute thread is lost: the worker hands back its shards and ends");
                stuck_work = Some(work);
            }
        }
    };
    let ran = tokio::select! {
        served = server.join_next() => match served {
            Some(Ok(served)) => served.map_err(NodeError::from),
            Some(Err(_)) | None => Ok(()),
        },
        () = show => Ok(()),
        () = probe => Ok(()),
        () = compute.watch(report_stuck) => Ok(()),
        () = session::run(settings, world, ends) => Ok(()),
    };
    match stuck_work {
        Some(work) => Err(NodeError::Stuck(work)),
        None => ran,
    }
}

async fn serve_pages(door: Option<Door>, app: Router) {
    match door {
        Some(door) => streamctl_engine::http::serve(door, app, std::future::pending()).await,
        None => std::future::pending().await,
    }
}

/// A worker is ready while it has a session with the leader.
fn ready(meter: Meter) -> Ready {
    Arc::new(move || match meter.connected() {
        true => Ok(()),
        false => Err("there is no session with a leading controller".to_owned()),
    })
}

/// Health and metrics, without the limits on connections.
pub fn shown(meter: Meter) -> Router {
    let ready = ready(meter.clone());
    let metrics = move |headers: HeaderMap| {
        let mut sheet = Sheet::default();
        meter.sheet(&mut sheet);
        async move { metrics_answer(&headers, &sheet) }
    };
    health(ready)
        .merge(index(INDEX))
        .route("/metrics", get(metrics))
}
