//! Real servers that others wrote: etcd, S3 (SeaweedFS), Kinesis (kinesis-mock), the Glue Data Catalog (moto).
//!
//! Owns: how each starts, when it is ready, what our programs must be told to find it. Does not own: what is in them
//! (`support/py/seed.py`).
//! Rule: each has its own folder and ports; etcd alone is restarted by tests, on the same ones.

use crate::places::{free_port, server_program, servers_folder};
use crate::process::{Launch, Process};
use crate::wait::{http_get, until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The slowest takes a second on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// In every ARN of the emulators.
const ACCOUNT: &str = "123456789012";
/// Where the emulators say they are.
pub const REGION: &str = "us-east-1";

/// One of each; ended when dropped.
#[derive(Debug)]
pub struct Servers {
    /// The control plane's store.
    pub etcd: Etcd,
    s3: Server,
    kinesis: Server,
    glue: Server,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Server {
    process: Process,
    port: u16,
}

impl Servers {
    /// Starts all of them at once and waits until each answers.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("streamctl-test-").tempdir().expect("a folder can be made");
        let mut servers = Self {
            etcd: Etcd::launch(folder.path()),
            s3: s3(folder.path()),
            kinesis: kinesis(folder.path()),
            glue: glue(folder.path()),
            folder,
        };
        servers.etcd.ready();
        servers.s3.ready("/status");
        servers.kinesis.ready("/healthcheck");
        servers.glue.ready("/moto-api/");
        servers
    }

    /// Where the servers keep their data and logs, and the test its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What AWS clients, ours and Python's, need to find them.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = credentials();
        for (service, server) in [("S3", &self.s3), ("KINESIS", &self.kinesis), ("GLUE", &self.glue)] {
            env.push((format!("AWS_ENDPOINT_URL_{service}"), format!("http://127.0.0.1:{}", server.port)));
        }
        env
    }
}

/// Credentials that the emulators take, and nothing of the caller's own AWS settings.
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
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

impl Server {
    fn ready(&mut self, path: &str) {
        let what = format!("an answer of http://127.0.0.1:{}{path}", self.port);
        until(&what, READY_WITHIN, || {
            assert!(self.process.is_running(), "a server died at its start: {}", self.process.log());
            http_get(self.port, path)
        });
    }
}

/// etcd, that a test may stop and start again with its data.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    launch: Launch,
    port: u16,
}

impl Etcd {
    /// Starts one on its own and waits until it takes writes.
    pub fn start(folder: &Path) -> Self {
        let mut etcd = Self::launch(folder);
        etcd.ready();
        etcd
    }

    /// `127.0.0.1:port`, as in `--store etcd://…`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `kill -9`; what was written is kept.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`], on the same port with the same data.
    pub fn start_again(&mut self) {
        self.process = self.launch.start();
        self.ready();
    }

    /// Freezes it.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Undoes [`Self::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    fn launch(folder: &Path) -> Self {
        let (port, peer_port) = (free_port(), free_port());
        let clients = format!("http://127.0.0.1:{port}");
        let peers = format!("http://127.0.0.1:{peer_port}");
        let (data, cluster) = (data_folder(folder, "etcd"), format!("e0={peers}"));
        let flags = [
            ["--name", "e0"],
            ["--data-dir", &data],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &cluster],
            ["--heartbeat-interval", "50"],
            ["--election-timeout", "500"],
            ["--log-level", "warn"],
        ];
        let launch = Launch::new("etcd", server_program("etcd"), flags.as_flattened(), folder);
        Self { process: launch.start(), launch, port }
    }

    fn ready(&mut self) {
        until("a healthy etcd", READY_WITHIN, || {
            assert!(self.process.is_running(), "etcd died at its start: {}", self.process.log());
            http_get(self.port, "/health").filter(|answer| answer.contains("\"health\":\"true\""))
        });
    }
}

/// The Kinesis emulator on its own.
#[derive(Debug)]
pub struct Kinesis(Server);

impl Kinesis {
    /// Starts one and waits until it answers.
    pub fn start(folder: &Path) -> Self {
        let mut server = kinesis(folder);
        server.ready("/healthcheck");
        Self(server)
    }

    /// `http://127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
    }
}

/// SeaweedFS checks signatures, checksums and conditions as S3 does, and keeps objects on disk.
fn s3(folder: &Path) -> Server {
    let port = free_port();
    let mut args = vec!["mini".to_owned()];
    args.extend(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false"].map(String::from));
    args.extend(["-s3.port.iceberg=0", "-s3.port.lance=0"].map(String::from));
    args.push(format!("-dir={}", data_folder(folder, "s3")));
    args.push(format!("-s3.port={port}"));
    // Left out, these take fixed ports, or the port above plus 10,000.
    let others = ["s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"];
    for flag in others.iter().chain(&["filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]) {
        args.push(format!("-{flag}={}", free_port()));
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let launch = Launch::new("s3", server_program("weed"), &args, folder).env(credentials());
    Server { process: launch.start(), port }
}

fn kinesis(folder: &Path) -> Server {
    let port = free_port();
    let package = servers_folder().join("kinesis/node_modules/kinesis-local");
    let main = package.join("main.js");
    let text = |path: &PathBuf| path.to_str().expect("the cache folder's path is text").to_owned();
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
    Server { process: launch.start(), port }
}

fn glue(folder: &Path) -> Server {
    let port = free_port();
    let flags = ["-H", "127.0.0.1", "-p", &port.to_string()];
    let launch = Launch::new("glue", server_program("moto_server"), &flags, folder).env(credentials());
    Server { process: launch.start(), port }
}

fn data_folder(folder: &Path, name: &str) -> String {
    let path = folder.join(format!("{name}-data"));
    std::fs::create_dir_all(&path).expect("the test's folder takes folders");
    path.to_str().expect("the temporary folder's path is text").to_owned()
}
