//! The controller's program: settings, build, run, drain.

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use streamctl_controller::metrics::Metrics;
use streamctl_controller::node::{self, Listeners, Parts};
use streamctl_controller::scaling_flags::ScalingFlags;
use streamctl_controller::shards::SourceShards;
use streamctl_controller::store::{
    EmbeddedStore, EtcdLogin, EtcdSettings, EtcdStore, LEASE_TTL_S, LeaderRecord, Store, StoreError,
};
use streamctl_core::CoreSettings;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::iceberg::tables::TableSettings;
use streamctl_engine::process::{Seen, ended, listen, stop_signal};
use streamctl_engine::resolve::World;
use streamctl_engine::resolve::foreign::ForeignRule;
use streamctl_engine::security::dial::DialerFiles;
use streamctl_engine::security::tls::Pair;
use streamctl_engine::security::{Dialer, SecurityFlags};
use streamctl_engine::storage::Storages;

/// Run a streamctl controller: assign shards to workers and commit their windows.
///
/// Several controllers may run; one leads, the others stand by. S3, Kinesis and the Data Catalog
/// are accessed with the standard AWS settings (AWS_REGION, AWS_ENDPOINT_URL_S3 ...).
#[derive(Parser)]
#[command(version)]
struct Args {
    /// gRPC address for clients and workers.
    #[arg(
        long,
        env = "STREAMCTL_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7070"
    )]
    listen: SocketAddr,
    /// HTTP address for the dashboard, the JSON API, metrics and health.
    #[arg(
        long,
        env = "STREAMCTL_HTTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7072"
    )]
    http_listen: SocketAddr,
    /// gRPC address to publish to clients and workers (default: the value of --listen).
    #[arg(long, env = "STREAMCTL_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Address for health probes only, over HTTP and gRPC, without TLS or a token (default: none).
    #[arg(long, env = "STREAMCTL_HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// Job store: etcd://host:port[,host:port...], etcds:// with TLS, or file:///path/to/folder for
    /// a single controller.
    #[arg(
        long,
        env = "STREAMCTL_STORE",
        value_name = "URL",
        default_value = "etcd://127.0.0.1:2379"
    )]
    store: String,
    /// Cluster name; clusters with different names can share an etcd.
    #[arg(
        long,
        env = "STREAMCTL_CLUSTER",
        value_name = "NAME",
        default_value = "default"
    )]
    cluster: String,
    /// Controller name in logs and in the store (default: its gRPC address).
    #[arg(long, env = "STREAMCTL_ID", value_name = "NAME")]
    id: Option<String>,
    /// File with the tokens and roles of callers; `streamctl token new` prints its entries.
    #[arg(
        long,
        env = "STREAMCTL_ACCESS",
        value_name = "FILE",
        help_heading = "Connection security"
    )]
    access: Option<PathBuf>,
    /// Endpoint that job files may use as source.endpoint without the role admin, or without https;
    /// comma-separated or repeated
    #[arg(
        long,
        env = "STREAMCTL_ALLOW_ENDPOINT",
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Connection security"
    )]
    allow_endpoint: Vec<String>,
    /// Role that job files may name as role_arn or function.credentials without the role admin;
    /// comma-separated or repeated
    #[arg(
        long,
        env = "STREAMCTL_ALLOW_ROLE",
        value_name = "ARN",
        value_delimiter = ',',
        help_heading = "Connection security"
    )]
    allow_role: Vec<String>,
    /// Folder with a file NAME.toml for each sink.credentials that job files may name: the uri of a
    /// REST catalog, and its token or its client_id and client_secret
    #[arg(
        long,
        env = "STREAMCTL_CATALOG_CREDENTIALS",
        value_name = "DIR",
        help_heading = "Connection security"
    )]
    catalog_credentials: Option<PathBuf>,
    #[command(flatten)]
    protection: SecurityFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
    #[command(flatten)]
    seen: Seen,
    #[command(flatten)]
    scaling: ScalingFlags,
}

/// How etcd is reached. Files are read again when they change.
#[derive(clap::Args)]
#[command(next_help_heading = "Connection to etcd")]
struct EtcdFlags {
    /// CA certificates of etcd (PEM; default: the system's)
    #[arg(long, env = "STREAMCTL_ETCD_CA", value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(
        long,
        env = "STREAMCTL_ETCD_CERT",
        value_name = "FILE",
        requires = "etcd_key"
    )]
    etcd_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(
        long,
        env = "STREAMCTL_ETCD_KEY",
        value_name = "FILE",
        requires = "etcd_cert"
    )]
    etcd_key: Option<PathBuf>,
    /// File with an etcd user and password: one line, name:password
    #[arg(long, env = "STREAMCTL_ETCD_LOGIN_FILE", value_name = "FILE")]
    etcd_login_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    args.seen.log_to_stderr("info,h2=error");
    ended(run(args).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let scaling = args.scaling.settings().map_err(anyhow::Error::msg)?;

    let listeners = [
        ("--listen", args.listen),
        ("--http-listen", args.http_listen),
    ];
    args.protection
        .check_listeners(&listeners, args.access.is_some())?;
    let security = args.protection.open(args.access.as_ref(), None)?;
    let control = listen(args.listen, "--listen").await?;
    let health = match args.health_listen {
        Some(address) => Some(listen(address, "--health-listen").await?),
        None => None,
    };
    let http = listen(args.http_listen, "--http-listen").await?;
    let address = args.advertise.unwrap_or(control.local_addr()?.to_string());
    let id = args.id.unwrap_or_else(|| address.clone());
    let aws = Aws::new(AwsSettings::from_env().of("controller", &id));
    let foreign = ForeignRule::allowing(args.allow_endpoint.into_iter().chain(args.allow_role));
    let tables = TableSettings {
        cluster: args.cluster.clone(),
        credentials: args.catalog_credentials,
        ..TableSettings::default()
    };
    let world = World {
        aws: aws.clone(),
        storages: Storages::new(aws).with_tables(tables),
        foreign,
        function: Default::default(),
    };
    let lister = Arc::new(SourceShards::new(world.aws.clone(), world.storages.clone()));
    let traces = args.seen.traces("streamctl-controller", &id)?;
    let metrics = Metrics::tracing(traces.clone());
    let store = open(&args.store, &args.cluster, args.etcd, &args.protection).await?;
    let scheme = if security.has_tls() { "https" } else { "http" };
    let settings = CoreSettings {
        scaling,
        ..CoreSettings::default()
    };
    let parts = Parts {
        metrics,
        security,
        ..Parts::new(store, world, lister, settings)
    };
    tracing::info!(
        id,
        address,
        dashboard = format!("{scheme}://{}/", http.local_addr()?),
        "controller serves"
    );
    let listeners = Listeners {
        control,
        http: Some(http),
        health,
        beside: None,
    };
    node::run(
        LeaderRecord { id, address },
        listeners,
        parts,
        stop_signal(),
    )
    .await?;
    traces.close();
    tracing::info!("controller stopped");
    Ok(())
}

/// Adds the hint, which is not part of a refusal's text.
fn with_hint(error: StoreError) -> anyhow::Error {
    match &error {
        StoreError::Refused { reason, hint } => anyhow::anyhow!("{reason}\n  hint: {hint}"),
        StoreError::Unavailable { .. } | StoreError::Corrupt { .. } => error.into(),
    }
}

async fn open(
    store: &str,
    cluster: &str,
    flags: EtcdFlags,
    protection: &SecurityFlags,
) -> anyhow::Result<Arc<dyn Store>> {
    let etcd = [("etcd://", "http"), ("etcds://", "https")];
    let etcd = etcd
        .iter()
        .find_map(|(prefix, scheme)| Some((store.strip_prefix(prefix)?, scheme)));
    if let Some((members, scheme)) = etcd {
        // The value is not printed, because the error goes into the log.
        anyhow::ensure!(
            !members.contains('@'),
            "--store holds a name or a password\n  hint: use --etcd-login-file"
        );
        let endpoints: Vec<_> = members
            .split(',')
            .map(|host| format!("{scheme}://{host}"))
            .collect();
        protection.check_dialled("--store", &endpoints)?;
        let pair = flags
            .etcd_cert
            .zip(flags.etcd_key)
            .map(|(cert, key)| Pair { cert, key });
        let dialer = Dialer::new(DialerFiles {
            ca: flags.etcd_ca,
            pair,
            ..DialerFiles::default()
        })?;
        let login = flags.etcd_login_file.map(EtcdLogin::open).transpose()?;
        let settings = EtcdSettings {
            endpoints,
            cluster: cluster.to_owned(),
            lease_ttl_s: LEASE_TTL_S,
            dialer,
            login,
        };
        return Ok(Arc::new(
            EtcdStore::connect(settings).await.map_err(with_hint)?,
        ));
    }
    if let Some(path) = store.strip_prefix("file://") {
        return Ok(Arc::new(
            EmbeddedStore::open(&PathBuf::from(path)).map_err(with_hint)?,
        ));
    }
    anyhow::bail!(
        "--store is etcd://host:port[,host:port...], etcds://... or file:///path, not {store:?}"
    )
}
