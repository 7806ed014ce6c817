//! Real third-party servers: etcd, S3 (SeaweedFS), Kinesis (kinesis-mock), the Glue Data Catalog
//! (moto).
//!
//! Owns: how each starts, when it is ready, the settings that our programs need to find it. Does
//! not own: their content (`support/py/seed.py`).
//! Rule: each has its own folder and ports; tests restart only etcd, on the same ones.

use crate::pki::Authority;
use crate::places::{binary, free_port, server_program, servers_folder};
use crate::process::{Launch, Process};
use crate::wait::{http_get, until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The slowest takes a second on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The account in every ARN of the emulators.
const ACCOUNT: &str = "123456789012";
/// The region that the emulators report.
pub const REGION: &str = "us-east-1";
/// The bucket of the Iceberg catalog's tables.
pub const WAREHOUSE: &str = "warehouse";

/// One of each; ended when dropped.
#[derive(Debug)]
pub struct Servers {
    pub etcd: Etcd,
    s3: Server,
    kinesis: Server,
    glue: Server,
    folder: tempfile::TempDir,
}

/// A server that a test may stop and restart with its data.
#[derive(Debug)]
pub struct Server {
    process: Process,
    launch: Launch,
    port: u16,
    /// Responds as soon as it is ready.
    ready_path: &'static str,
}

impl Servers {
    /// Starts all of them at once and waits until each responds.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("streamctl-test-")
            .tempdir()
            .expect("a folder can be made");
        let mut servers = Self {
            etcd: Etcd::launch(folder.path()),
            s3: Server::s3(folder.path()),
            kinesis: Server::kinesis(folder.path()),
            glue: glue(folder.path()),
            folder,
        };
        servers.etcd.ready();
        servers.s3.ready();
        servers.kinesis.ready();
        servers.glue.ready();
        servers
    }

    /// The same, with an Iceberg catalog for tables in its S3; the catalog's port.
    pub fn start_with_tables() -> (Self, u16) {
        let folder = tempfile::Builder::new()
            .prefix("streamctl-test-")
            .tempdir()
            .expect("a folder can be made");
        let (s3, port) = Server::tables(folder.path());
        let mut servers = Self {
            etcd: Etcd::launch(folder.path()),
            s3,
            kinesis: Server::kinesis(folder.path()),
            glue: glue(folder.path()),
            folder,
        };
        servers.etcd.ready();
        servers.kinesis.ready();
        servers.glue.ready();
        (servers, port)
    }

    /// The same, whose S3 and catalog know these access keys and their secrets too.
    pub fn start_with_keys(keys: &[(&str, &str)]) -> (Self, u16) {
        let folder = tempfile::Builder::new()
            .prefix("streamctl-test-")
            .tempdir()
            .expect("a folder can be made");
        let (s3, port) = Server::tables_with(folder.path(), &[known_keys(folder.path(), keys)]);
        let mut servers = Self {
            etcd: Etcd::launch(folder.path()),
            s3,
            kinesis: Server::kinesis(folder.path()),
            glue: glue(folder.path()),
            folder,
        };
        servers.etcd.ready();
        servers.kinesis.ready();
        servers.glue.ready();
        (servers, port)
    }

    /// The port of S3.
    pub fn s3_port(&self) -> u16 {
        self.s3.port
    }

    /// The folder of the servers' data and logs, and of the test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes S3 accept connections but not respond, until [`Self::resume_s3`].
    pub fn pause_s3(&self) {
        self.s3.process.pause();
    }

    pub fn resume_s3(&self) {
        self.s3.process.resume();
    }

    /// `http://127.0.0.1:port` of the Data Catalog.
    pub fn glue_address(&self) -> String {
        self.glue.address()
    }

    /// The environment that AWS clients, ours and Python's, need to find them.
    pub fn env(&self) -> Vec<(String, String)> {
        env(&[
            ("S3", self.s3.port),
            ("KINESIS", self.kinesis.port),
            ("GLUE", self.glue.port),
        ])
    }
}

/// The environment that AWS clients need to find these services at these ports.
pub fn env(services: &[(&str, u16)]) -> Vec<(String, String)> {
    let mut env = credentials();
    for (service, port) in services {
        env.push((
            format!("AWS_ENDPOINT_URL_{service}"),
            format!("http://127.0.0.1:{port}"),
        ));
    }
    env
}

/// Credentials that the emulators accept, and none of the caller's own AWS settings.
fn credentials() -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl Server {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it was neither killed nor died.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// `kill -9`; the data on its disk is kept.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Restarts it after [`Self::kill`], on the same port with the same data.
    pub fn start_again(&mut self) {
        self.process = self.launch.start();
        self.ready();
    }

    fn launched(launch: Launch, port: u16, ready_path: &'static str) -> Self {
        Self {
            process: launch.start(),
            launch,
            port,
            ready_path,
        }
    }

    pub fn ready(&mut self) {
        let path = self.ready_path;
        let what = format!("an answer of http://127.0.0.1:{}{path}", self.port);
        until(&what, READY_WITHIN, || {
            assert!(
                self.process.is_running(),
                "a server died at its start: {}",
                self.process.log()
            );
            http_get(self.port, path)
        });
    }
}

/// An etcd that a test may stop and restart with its data.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    launch: Launch,
    port: u16,
    /// The port of its health endpoint.
    health: u16,
}

impl Etcd {
    /// Starts a single one and waits until it accepts writes.
    pub fn start(folder: &Path) -> Self {
        let mut etcd = Self::launch(folder);
        etcd.ready();
        etcd
    }

    /// One that uses TLS, and accepts only clients with a certificate of this authority; ready.
    pub fn start_with_tls(folder: &Path, authority: &Authority) -> Self {
        let own = authority.issue("etcd", &[]);
        let port = free_port();
        let health = free_port();
        let clients = format!("https://127.0.0.1:{port}");
        let alive = format!("http://127.0.0.1:{health}");
        let peers = format!("http://127.0.0.1:{}", free_port());
        let data = data_folder(folder, "etcd");
        let ca = authority.file();
        let flags = [
            ["--name", "e0"],
            ["--data-dir", &data],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-metrics-urls", &alive],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &format!("e0={peers}")],
            ["--cert-file", &own.cert],
            ["--key-file", &own.key],
            ["--trusted-ca-file", &ca],
            ["--client-cert-auth=true", "--log-level=warn"],
        ];
        let launch = Launch::new("etcd", server_program("etcd"), flags.as_flattened(), folder);
        let mut etcd = Self {
            process: launch.start(),
            launch,
            port,
            health,
        };
        etcd.ready();
        etcd
    }

    /// `127.0.0.1:port`, as in `--store etcd://…`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `kill -9`; written data is kept.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Restarts it after [`Self::kill`], on the same port with the same data.
    pub fn start_again(&mut self) {
        self.process = self.launch.start();
        self.ready();
    }

    pub fn pause(&self) {
        self.process.pause();
    }

    /// Undoes [`Self::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// The members of one cluster, all started; ready once a majority is up.
    pub fn cluster(folder: &Path, members: usize) -> Vec<Self> {
        let peer_ports: Vec<u16> = (0..members).map(|_| free_port()).collect();
        let peers: Vec<_> = peer_ports
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let named: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(place, peers)| format!("e{place}={peers}"))
            .collect();
        let cluster = named.join(",");
        let member =
            |(place, peers): (usize, &String)| Self::launch_member(folder, place, peers, &cluster);
        let mut started: Vec<_> = peers.iter().enumerate().map(member).collect();
        started.iter_mut().for_each(Self::ready);
        started
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it was neither killed nor died.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Restarts it without waiting for its health, which is the cluster's.
    pub fn launch_again(&mut self) {
        self.process = self.launch.start();
    }

    fn launch(folder: &Path) -> Self {
        let peers = format!("http://127.0.0.1:{}", free_port());
        Self::launch_member(folder, 0, &peers, &format!("e0={peers}"))
    }

    fn launch_member(folder: &Path, place: usize, peers: &str, cluster: &str) -> Self {
        let port = free_port();
        let clients = format!("http://127.0.0.1:{port}");
        let name = format!("e{place}");
        let log = if place == 0 {
            "etcd".to_owned()
        } else {
            format!("etcd-{place}")
        };
        let data = data_folder(folder, &log);
        let flags = [
            ["--name", &name],
            ["--data-dir", &data],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", peers],
            ["--initial-advertise-peer-urls", peers],
            ["--initial-cluster", cluster],
            ["--heartbeat-interval", "50"],
            ["--election-timeout", "500"],
            ["--log-level", "warn"],
        ];
        let launch = Launch::new(&log, server_program("etcd"), flags.as_flattened(), folder);
        Self {
            process: launch.start(),
            launch,
            port,
            health: port,
        }
    }

    /// Waits until it accepts writes.
    pub fn ready(&mut self) {
        until("a healthy etcd", READY_WITHIN, || {
            assert!(
                self.process.is_running(),
                "etcd died at its start: {}",
                self.process.log()
            );
            http_get(self.health, "/health").filter(|answer| answer.contains("\"health\":\"true\""))
        });
    }
}

impl Server {
    /// `http://127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SeaweedFS checks signatures, checksums and conditions like S3, and keeps objects on disk.
    /// Not ready yet.
    pub fn s3(folder: &Path) -> Self {
        s3(folder)
    }

    /// SeaweedFS with its Iceberg catalog, and the catalog's port. Its warehouse is [`WAREHOUSE`].
    pub fn tables(folder: &Path) -> (Self, u16) {
        Self::tables_with(folder, &[])
    }

    fn tables_with(folder: &Path, more: &[String]) -> (Self, u16) {
        let port = free_port();
        let own = [
            format!("-s3.port.iceberg={port}"),
            format!("-tableBucket={WAREHOUSE}"),
        ];
        let mut server = s3_with(folder, &[&own, more].concat());
        server.ready();
        let path = format!("/v1/config?warehouse={WAREHOUSE}");
        until("an answer of the Iceberg catalog", READY_WITHIN, || {
            http_get(port, &path).filter(|answer| answer.contains("200 OK"))
        });
        (server, port)
    }

    /// This project's fake, with these flags: high rates, and the service's limits. Not ready yet.
    pub fn kinesis_fake(folder: &Path, flags: &[&str]) -> Self {
        let port = free_port();
        let number = port.to_string();
        let args = [&["--port", &number], flags].concat();
        Self::launched(
            Launch::new("kinesis-fake", binary("kinesis-fake"), &args, folder),
            port,
            "/",
        )
    }

    /// kinesis-mock: resharding like AWS, for some thousand records. Not ready yet.
    pub fn kinesis(folder: &Path) -> Self {
        kinesis(folder)
    }
}

fn s3(folder: &Path) -> Server {
    s3_with(folder, &["-s3.port.iceberg=0".to_owned()])
}

/// The flag that makes S3 know these keys, besides those of [`credentials`].
fn known_keys(folder: &Path, keys: &[(&str, &str)]) -> String {
    let identity = |(key, secret): &(&str, &str)| {
        serde_json::json!({
            "name": key,
            "credentials": [{ "accessKey": key, "secretKey": secret }],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        })
    };
    let all = [&[("test", "test")], keys].concat();
    let identities: Vec<_> = all.iter().map(identity).collect();
    let text = serde_json::json!({ "identities": identities }).to_string();
    let file = folder.join("s3-keys.json");
    std::fs::write(&file, text).expect("the servers' folder takes files");
    format!("-s3.config={}", file.display())
}

fn s3_with(folder: &Path, flags: &[String]) -> Server {
    let port = free_port();
    let mut args = vec!["mini".to_owned()];
    args.extend(
        [
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-admin.ui=false",
            "-webdav=false",
        ]
        .map(String::from),
    );
    args.push("-s3.port.lance=0".to_owned());
    args.extend_from_slice(flags);
    args.push(format!("-dir={}", data_folder(folder, "s3")));
    args.push(format!("-s3.port={port}"));
    // If omitted, these use fixed ports, or the port above plus 10,000.
    let others = [
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
    ];
    for flag in others.iter().chain(&[
        "filer.port",
        "filer.port.grpc",
        "admin.port",
        "admin.port.grpc",
    ]) {
        args.push(format!("-{flag}={}", free_port()));
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let launch = Launch::new("s3", server_program("weed"), &args, folder).env(credentials());
    Server::launched(launch, port, "/status")
}

fn kinesis(folder: &Path) -> Server {
    let port = free_port();
    let package = servers_folder().join("kinesis/node_modules/kinesis-local");
    let main = package.join("main.js");
    let text = |path: &PathBuf| {
        path.to_str()
            .expect("the cache folder's path is text")
            .to_owned()
    };
    let env = [
        ("KINESIS_MOCK_CERT_PATH", text(&package.join("server.json"))),
        ("KINESIS_MOCK_PLAIN_PORT", port.to_string()),
        ("KINESIS_MOCK_TLS_PORT", free_port().to_string()),
        ("AWS_ACCOUNT_ID", ACCOUNT.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("LOG_LEVEL", "ERROR".to_owned()),
        ("SHARD_LIMIT", "500".to_owned()),
        ("CREATE_STREAM_DURATION", "100ms".to_owned()),
        ("DELETE_STREAM_DURATION", "100ms".to_owned()),
        ("SPLIT_SHARD_DURATION", "200ms".to_owned()),
        ("MERGE_SHARDS_DURATION", "200ms".to_owned()),
        ("UPDATE_SHARD_COUNT_DURATION", "200ms".to_owned()),
    ];
    let launch = Launch::new("kinesis", server_program("node"), &[&text(&main)], folder).env(env);
    Server::launched(launch, port, "/healthcheck")
}

fn glue(folder: &Path) -> Server {
    let port = free_port();
    let flags = ["-H", "127.0.0.1", "-p", &port.to_string()];
    let launch =
        Launch::new("glue", server_program("moto_server"), &flags, folder).env(credentials());
    Server::launched(launch, port, "/moto-api/")
}

fn data_folder(folder: &Path, name: &str) -> String {
    let path = folder.join(format!("{name}-data"));
    std::fs::create_dir_all(&path).expect("the test's folder takes folders");
    path.to_str()
        .expect("the temporary folder's path is text")
        .to_owned()
}
