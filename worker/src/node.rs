//! One worker process: a Flight service, and a session with the leading controller.
//!
//! Rule: windows are worked on by threads of their own; the network's never wait for them.

use crate::flight::FlightRows;
use crate::memory::{MemoryBudget, MemoryLimit};
use crate::meter::Meter;
use crate::results::Results;
use crate::session::{self, Settings, World};
use crate::source::Sources;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::routing::get;
use std::future::Future;
use std::sync::Arc;
use streamctl_engine::aws::Aws;
use streamctl_engine::http::{health, metrics_answer};
use streamctl_engine::metrics::Sheet;
use streamctl_engine::storage::Storages;
use streamctl_proto::MESSAGE_BYTES_MAX;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// HTTP/2 flow-control windows; the defaults (64 KiB) throttle Flight.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// What a worker runs on.
pub struct Parts {
    /// Its name.
    pub worker: String,
    /// Where its Flight service answers, as others are told: host:port.
    pub flight_address: String,
    /// Where controllers answer: `http://host:port`.
    pub controllers: Vec<String>,
    /// AWS clients.
    pub aws: Aws,
    /// Where objects are.
    pub storages: Storages,
    /// What it may hold in memory.
    pub memory_limit: MemoryLimit,
    /// Threads that work on windows.
    pub compute: tokio::runtime::Handle,
    /// What is counted, and where spans go.
    pub meter: Meter,
}

/// Where a worker is reached.
pub struct Doors {
    /// By subscribers, over Arrow Flight.
    pub flight: TcpListener,
    /// By probes and Prometheus; none when nothing is to be shown.
    pub http: Option<TcpListener>,
}

impl From<TcpListener> for Doors {
    fn from(flight: TcpListener) -> Self {
        Self { flight, http: None }
    }
}

/// Runs a worker behind these doors until `stop`.
pub async fn run(
    doors: impl Into<Doors>,
    parts: Parts,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let Doors { flight: listener, http } = doors.into();
    let Parts { worker, flight_address, controllers, aws, storages, memory_limit, compute, meter } = parts;
    let settings = Settings { worker, flight_address, controllers };
    let storages = storages.with_upload_bytes(memory_limit.upload_bytes());
    let budget = MemoryBudget::new(memory_limit);
    let sources = Sources::new(aws, storages.clone()).with_file_room(budget.files().clone(), memory_limit);
    let results = Arc::new(Results::new(budget.result_bytes()));
    let app = shown(meter.clone());
    let world = World { storages, sources, results, budget, compute, meter };
    let rows = FlightRows { settings: settings.clone(), world: world.clone() };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<FlightServiceServer<FlightRows>>().await;
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .tcp_nodelay(true)
        .add_service(health_service)
        .add_service(FlightServiceServer::new(rows).max_encoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let show = async {
        match http {
            Some(http) => streamctl_engine::http::serve(http, app, std::future::pending()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server => served,
        () = show => Ok(()),
        () = session::run(settings, world, stop) => Ok(()),
    }
}

/// Health and metrics, without the limits of the door. A worker is ready while it has a session with the leader.
pub fn shown(meter: Meter) -> Router {
    let lines = meter.clone();
    let ready = move || match lines.connected() {
        true => Ok(()),
        false => Err("there is no session with a leading controller".to_owned()),
    };
    let metrics = move || {
        let mut sheet = Sheet::default();
        meter.sheet(&mut sheet);
        async move { metrics_answer(sheet.text()) }
    };
    health(Arc::new(ready)).route("/metrics", get(metrics))
}
