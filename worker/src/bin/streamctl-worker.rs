//! The worker's program: settings, build, run, hand back.

use clap::Parser;
use std::net::SocketAddr;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::process::{asked_to_stop, log_to_stderr};
use streamctl_engine::storage::Storages;
use streamctl_worker::memory::MemoryLimit;
use streamctl_worker::node::{self, Parts};

/// A worker of streamctl: reads the shards that the leading controller gives it, and serves results over Arrow Flight.
///
/// SIGTERM hands its shards back before it ends. S3 and Kinesis are reached with the usual AWS settings (AWS_REGION,
/// AWS_ENDPOINT_URL_S3 ...).
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the controllers answer.
    #[arg(long, env = "STREAMCTL_CONTROLLER", default_value = "http://127.0.0.1:7070", value_delimiter = ',')]
    controller: Vec<String>,
    /// Where its Flight service listens.
    #[arg(long, env = "STREAMCTL_LISTEN", default_value = "127.0.0.1:7071")]
    listen: SocketAddr,
    /// The Flight address that others are told, host:port; the listening one by default.
    #[arg(long, env = "STREAMCTL_ADVERTISE")]
    advertise: Option<String>,
    /// This worker's name; must be unique. Made up of the address and the process id by default.
    #[arg(long, env = "STREAMCTL_ID")]
    id: Option<String>,
    /// Threads that decode, join and encode; as many as there are cores by default.
    #[arg(long, env = "STREAMCTL_THREADS")]
    threads: Option<usize>,
    /// Memory that it may take, at least 128MiB; by default 75 % of what the machine or the control group has, at most
    /// 16GiB.
    #[arg(long, env = "STREAMCTL_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<MemoryLimit>,
    /// Logs as JSON lines.
    #[arg(long, env = "STREAMCTL_LOG_JSON")]
    log_json: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    log_to_stderr(args.log_json, "info");

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let compute = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.threads.unwrap_or(cores).max(1))
        .thread_name("compute")
        .enable_all()
        .build()?;
    let network =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("network").enable_all().build()?;
    let ran = network.block_on(run(args, compute.handle().clone()));
    compute.shutdown_background();
    ran
}

async fn run(args: Args, compute: tokio::runtime::Handle) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    let flight_address = args.advertise.unwrap_or(listener.local_addr()?.to_string());
    let worker = args.id.unwrap_or_else(|| format!("{flight_address}-{}", std::process::id()));
    let aws = Aws::new(AwsSettings::from_env());
    let storages = Storages::new(aws.clone());
    let memory_limit = args.memory_limit.unwrap_or_else(MemoryLimit::of_this_machine);
    tracing::info!(worker, flight_address, controllers = ?args.controller, %memory_limit, "worker starts");
    let parts = Parts { worker, flight_address, controllers: args.controller, aws, storages, memory_limit, compute };
    node::run(listener, parts, asked_to_stop()).await?;
    tracing::info!("worker stopped");
    Ok(())
}
