//! The controller's program: settings, build, run, drain.

use anyhow::Context;
use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use streamctl_controller::core::CoreSettings;
use streamctl_controller::metrics::Metrics;
use streamctl_controller::node::{self, Doors, Parts};
use streamctl_controller::scaling::ScalingFlags;
use streamctl_controller::shards::SourceShards;
use streamctl_controller::store::{EmbeddedStore, EtcdSettings, EtcdStore, LEASE_TTL_S, LeaderRecord, Store};
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::process::{Seen, asked_to_stop};
use streamctl_engine::resolve::World;
use streamctl_engine::storage::Storages;
use tokio::net::TcpListener;

/// The control plane of streamctl: assigns shards to workers and commits their windows.
///
/// Several controllers may run; one leads, the others stand by. S3, Kinesis and the Data Catalog are reached with the
/// usual AWS settings (AWS_REGION, AWS_ENDPOINT_URL_S3 ...).
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where clients and workers connect.
    #[arg(long, env = "STREAMCTL_LISTEN", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Where the dashboard, the JSON API, metrics and health are served over HTTP.
    #[arg(long, env = "STREAMCTL_HTTP_LISTEN", default_value = "127.0.0.1:7072")]
    http_listen: SocketAddr,
    /// The address that others are told, host:port; the listening one by default.
    #[arg(long, env = "STREAMCTL_ADVERTISE")]
    advertise: Option<String>,
    /// Where jobs are kept: etcd://host:port[,host:port...] or file:///path/to/folder (one controller only).
    #[arg(long, env = "STREAMCTL_STORE", default_value = "etcd://127.0.0.1:2379")]
    store: String,
    /// Clusters with different names share an etcd without seeing each other.
    #[arg(long, env = "STREAMCTL_CLUSTER", default_value = "default")]
    cluster: String,
    /// This controller's name in logs and in the store.
    #[arg(long, env = "STREAMCTL_ID")]
    id: Option<String>,
    #[command(flatten)]
    seen: Seen,
    #[command(flatten)]
    scaling: ScalingFlags,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.seen.log_to_stderr("info");
    let scaling = args.scaling.settings().map_err(anyhow::Error::msg)?;

    let control = listen(args.listen, "--listen").await?;
    let http = listen(args.http_listen, "--http-listen").await?;
    let address = args.advertise.unwrap_or(control.local_addr()?.to_string());
    let id = args.id.unwrap_or_else(|| address.clone());
    let aws = Aws::new(AwsSettings::from_env());
    let world = World { aws: aws.clone(), storages: Storages::new(aws) };
    let lister = Arc::new(SourceShards::new(world.aws.clone(), world.storages.clone()));
    let traces = args.seen.traces("streamctl-controller", &id)?;
    let metrics = Metrics::tracing(traces.clone());
    let store = open(&args.store, &args.cluster).await?;
    let parts =
        Parts { metrics, ..Parts::new(store, world, lister, CoreSettings { scaling, ..CoreSettings::default() }) };
    tracing::info!(id, address, dashboard = format!("http://{}/", http.local_addr()?), "controller serves");
    let doors = Doors { control, http: Some(http), beside: None };
    node::run(LeaderRecord { id, address }, doors, parts, asked_to_stop()).await?;
    traces.close();
    tracing::info!("controller stopped");
    Ok(())
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address} can not be listened on"))
}

async fn open(store: &str, cluster: &str) -> anyhow::Result<Arc<dyn Store>> {
    if let Some(endpoints) = store.strip_prefix("etcd://") {
        let endpoints = endpoints.split(',').map(|host| format!("http://{host}")).collect();
        let settings = EtcdSettings { endpoints, cluster: cluster.to_owned(), lease_ttl_s: LEASE_TTL_S };
        return Ok(Arc::new(EtcdStore::connect(settings).await?));
    }
    if let Some(path) = store.strip_prefix("file://") {
        return Ok(Arc::new(EmbeddedStore::open(&PathBuf::from(path))?));
    }
    anyhow::bail!("--store is etcd://host:port[,host:port...] or file:///path, not {store:?}")
}
