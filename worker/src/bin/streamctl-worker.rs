//! The worker's program: settings, build, run, hand back.

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::process::{Seen, ended, listen, stop_signal};
use streamctl_engine::security::SecurityFlags;
use streamctl_engine::storage::Storages;
use streamctl_worker::compute::Compute;
use streamctl_worker::functions::FunctionFlags;
use streamctl_worker::memory::MemoryLimit;
use streamctl_worker::meter::Meter;
use streamctl_worker::node::{self, Listeners, Parts};
use tokio::runtime::{Builder, Handle};

/// Run a streamctl worker: process assigned shards, and serve results over Arrow Flight.
///
/// On SIGTERM, it hands back its shards before it exits. S3 and Kinesis are accessed with the
/// standard AWS settings (AWS_REGION, AWS_ENDPOINT_URL_S3 ...).
#[derive(Parser)]
#[command(version)]
struct Args {
    /// URLs of all controllers, comma-separated; the worker finds the leader.
    #[arg(
        long,
        env = "STREAMCTL_CONTROLLER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7070",
        value_delimiter = ','
    )]
    controller: Vec<String>,
    /// Address of the Flight service.
    #[arg(
        long,
        env = "STREAMCTL_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7071"
    )]
    listen: SocketAddr,
    /// Flight address to publish to clients (default: the value of --listen).
    #[arg(long, env = "STREAMCTL_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Worker name, unique in the cluster (default: made of its address and process id).
    #[arg(long, env = "STREAMCTL_ID", value_name = "NAME")]
    id: Option<String>,
    /// Number of compute threads (default: the number of cores).
    #[arg(long, env = "STREAMCTL_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// Memory limit, at least 128MiB (default: 75 % of the machine or control group, at most
    /// 16GiB). A fifth of it is the most that one lookup or query has.
    #[arg(long, env = "STREAMCTL_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<MemoryLimit>,
    /// HTTP address for metrics and health (default: none).
    #[arg(long, env = "STREAMCTL_HTTP_LISTEN", value_name = "ADDRESS")]
    http_listen: Option<SocketAddr>,
    /// Address for health probes only, over HTTP and gRPC, without TLS or a token (default: none).
    #[arg(long, env = "STREAMCTL_HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// File with a token of the role worker, to join the cluster.
    #[arg(
        long,
        env = "STREAMCTL_JOIN_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Connection security"
    )]
    join_token_file: Option<PathBuf>,
    #[command(flatten)]
    functions: FunctionFlags,
    #[command(flatten)]
    protection: SecurityFlags,
    #[command(flatten)]
    seen: Seen,
}

fn main() -> ExitCode {
    streamctl_worker::function::child_main_if_asked();
    let args = Args::parse();
    args.seen.log_to_stderr("info,h2=error");
    ended(on_its_threads(args))
}

fn on_its_threads(args: Args) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (compute, threads) = Compute::start(args.threads.unwrap_or(cores))?;
    let network = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("network")
        .enable_all()
        .build()?;
    let ran = Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(args, compute, network.handle().clone()));
    network.shutdown_background();
    threads.shutdown_background();
    ran
}

async fn run(args: Args, compute: Compute, network: Handle) -> anyhow::Result<()> {
    let shown = args.http_listen.map(|address| ("--http-listen", address));
    let listeners: Vec<_> = [("--listen", args.listen)]
        .into_iter()
        .chain(shown)
        .collect();
    // The controllers send the access policy; until then no caller is admitted.
    args.protection.check_listeners(&listeners, true)?;
    args.protection
        .check_dialled("--controller", &args.controller)?;
    let security = args.protection.open(None, args.join_token_file.as_ref())?;
    let flight = listen(args.listen, "--listen").await?;
    let health = match args.health_listen {
        Some(address) => Some(listen(address, "--health-listen").await?),
        None => None,
    };
    let http = match args.http_listen {
        Some(address) => Some(listen(address, "--http-listen").await?),
        None => None,
    };
    let flight_address = args.advertise.unwrap_or(flight.local_addr()?.to_string());
    let worker = args
        .id
        .unwrap_or_else(|| format!("{flight_address}-{}", std::process::id()));
    let flight_address = match security.has_tls() {
        true => format!("grpc+tls://{flight_address}"),
        false => flight_address,
    };
    let aws = Aws::new(AwsSettings::from_env().of("worker", &worker));
    let storages = Storages::new(aws.clone());
    let memory_limit = args
        .memory_limit
        .unwrap_or_else(MemoryLimit::of_this_machine);
    let traces = args.seen.traces("streamctl-worker", &worker)?;
    let meter = Meter::tracing(traces.clone());
    tracing::info!(worker, flight_address, controllers = ?args.controller, %memory_limit, "worker starts");
    let controllers = args.controller;
    let functions = args.functions.open()?;
    let parts = Parts {
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
    };
    node::run(
        Listeners {
            flight,
            http,
            health,
        },
        parts,
        stop_signal(),
    )
    .await?;
    traces.close();
    tracing::info!("worker stopped");
    Ok(())
}
