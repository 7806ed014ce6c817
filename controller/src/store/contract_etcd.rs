//! The contract on a real etcd that is paused, killed and started again.
//!
//! Owns: one etcd process and its faults. Does not own: what every store must do (`contract`).
//! Rule: it starts its own server on loopback and ends only that one.

use super::contract::{self, Bench, head, job, leader};
use super::{CommitOutcome, EtcdSettings, EtcdStore, LEASE_TTL_S, Store, StoreError, WriteOutcome};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::Epoch;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// A standby leads this soon after the leader died.
const TAKEOVER_MAX: Duration = Duration::from_secs(6);
/// A server that takes longer to start is broken.
const START_MAX: Duration = Duration::from_secs(20);

/// One member of an etcd under test.
struct Server {
    binary: PathBuf,
    folder: PathBuf,
    /// The client port; the next port is for peers.
    port: u16,
    /// Every member's name and peer address.
    cluster: String,
    child: Child,
}

impl Server {
    async fn start(binary: &Path, folder: &Path, port: u16) -> Self {
        Self::start_together(binary, folder, &[port])
            .await
            .remove(0)
    }

    /// The members of a new cluster do not answer before most of them run.
    async fn start_together(binary: &Path, folder: &Path, ports: &[u16]) -> Vec<Self> {
        let names: Vec<_> = ports
            .iter()
            .map(|port| format!("e{port}={}", peer(*port)))
            .collect();
        let cluster = names.join(",");
        let start = |port: &u16| Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            port: *port,
            cluster: cluster.clone(),
            child: spawn(binary, folder, *port, &cluster),
        };
        let servers: Vec<_> = ports.iter().map(start).collect();
        for server in &servers {
            server.wait_until_healthy().await;
        }
        servers
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn candidate(&self, cluster: &str) -> Arc<EtcdStore> {
        candidate(vec![self.endpoint()], cluster).await
    }

    async fn wait_until_healthy(&self) {
        let store = self.candidate("health").await;
        let requested = timeout(START_MAX, async {
            while store.leader().await.is_err() {
                sleep(Duration::from_millis(20)).await; // a refused connection is known at once
            }
        })
        .await;
        requested.unwrap_or_else(|_| {
            panic!(
                "{} does not answer on port {}",
                self.binary.display(),
                self.port
            )
        });
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("etcd runs").to_string();
        let sent = Command::new("kill")
            .args([signal, &pid])
            .status()
            .await
            .expect("there is a kill command");
        assert!(sent.success(), "kill {signal} {pid}");
    }

    async fn kill_and_start_again(&mut self) {
        self.child.kill().await.expect("etcd can be killed");
        self.child = spawn(&self.binary, &self.folder, self.port, &self.cluster);
        self.wait_until_healthy().await;
    }
}

async fn candidate(endpoints: Vec<String>, cluster: &str) -> Arc<EtcdStore> {
    let settings = EtcdSettings {
        endpoints,
        cluster: cluster.to_owned(),
        lease_ttl_s: LEASE_TTL_S,
        dialer: Default::default(),
        login: None,
    };
    Arc::new(
        EtcdStore::connect(settings)
            .await
            .expect("the endpoints are well formed"),
    )
}

fn peer(port: u16) -> String {
    format!("http://127.0.0.1:{}", port + 1)
}

fn spawn(binary: &Path, folder: &Path, port: u16, cluster: &str) -> Child {
    let name = format!("e{port}");
    let client = format!("http://127.0.0.1:{port}");
    let peer = peer(port);
    let log = std::fs::File::create(folder.join(format!("{name}.log")))
        .expect("the folder can be written");
    Command::new(binary)
        .args(["--name", &name, "--data-dir"])
        .arg(folder.join(&name))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            cluster,
            "--heartbeat-interval",
            "50",
            "--election-timeout",
            "500",
        ])
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()))
}

struct OnServer<'a>(&'a Server, &'static str);

#[async_trait]
impl Bench for OnServer<'_> {
    async fn candidate(&self) -> Arc<dyn Store> {
        self.0.candidate(self.1).await
    }
    async fn depose(&self) {
        self.0
            .candidate(self.1)
            .await
            .delete_leader_key()
            .await
            .expect("etcd answers");
    }
}

/// Tests everything that the store promises on etcd, in about 40 s. Starts `binary` with its data
/// in `folder`; uses eight ports from `port` on.
pub async fn on_etcd(binary: &Path, folder: &Path, port: u16) {
    let mut server = Server::start(binary, folder, port).await;
    contract::for_one(server.candidate("one").await).await;
    contract::for_several(&OnServer(&server, "several")).await;
    many_jobs_are_loaded_in_pages(&server).await;
    a_standby_leads_soon_after_the_leader_dies(&server).await;
    a_short_pause_of_etcd_changes_no_leader(&server).await;
    a_long_pause_of_etcd_ends_leadership_before_the_lease(&server).await;
    what_was_written_survives_a_killed_etcd(&mut server).await;
    a_hanging_member_changes_no_leader(binary, folder, port + 2).await;
    an_address_without_etcd_is_unavailable_and_a_wrong_one_refused().await;
}

async fn many_jobs_are_loaded_in_pages(server: &Server) {
    let store = server.candidate("pages").await;
    let leading = store.campaign(&leader("a")).await.unwrap();
    let names: Vec<_> = (0..200).map(|n| format!("job-{n:03}")).collect();
    for name in &names {
        store.create_job(leading.term, &job(name)).await.unwrap();
    }
    let loaded = store.load().await.unwrap();
    let loaded: Vec<_> = loaded
        .iter()
        .map(|stored| stored.job.spec.name.as_str())
        .collect();
    assert_eq!(
        loaded, names,
        "600 keys come in pages, none is lost or read twice"
    );
    leading.resign().await;
}

async fn a_standby_leads_soon_after_the_leader_dies(server: &Server) {
    let first = server.candidate("dies").await;
    let second = server.candidate("dies").await;
    let leading = first.campaign(&leader("a")).await.unwrap();
    let term = leading.term;
    let died = Instant::now();
    drop((leading, first)); // nothing is revoked: as after kill -9
    let next = timeout(TAKEOVER_MAX, second.campaign(&leader("b"))).await;
    let next = next
        .unwrap_or_else(|_| panic!("no standby leads {TAKEOVER_MAX:?} after the leader died"))
        .unwrap();
    assert!(next.term > term);
    tracing::info!(took = ?died.elapsed(), "a standby took over");
    next.resign().await;
}

async fn a_short_pause_of_etcd_changes_no_leader(server: &Server) {
    let store = server.candidate("short").await;
    let leading = store.campaign(&leader("a")).await.unwrap();
    store.create_job(leading.term, &job("a")).await.unwrap();
    server.signal("-STOP").await;
    sleep(Duration::from_millis(1500)).await;
    server.signal("-CONT").await;
    // Longer than a lease, so the lease was renewed.
    let lost = timeout(Duration::from_secs(LEASE_TTL_S + 1), leading.lost()).await;
    assert!(
        lost.is_err(),
        "leadership was lost to a pause that is shorter than the lease"
    );
    let written = store
        .set_published(leading.term, &job("a").spec.name, Epoch(1))
        .await
        .unwrap();
    assert_eq!(written, WriteOutcome::Written);
    leading.resign().await;
}

async fn a_long_pause_of_etcd_ends_leadership_before_the_lease(server: &Server) {
    let first = server.candidate("long").await;
    let second = server.candidate("long").await;
    let leading = first.campaign(&leader("a")).await.unwrap();
    let term = leading.term;
    let name = job("a").spec.name;
    first.create_job(term, &job("a")).await.unwrap();
    let waiting = tokio::spawn(async move { second.campaign(&leader("b")).await.unwrap() });
    server.signal("-STOP").await;
    let paused = Instant::now();
    let lost = timeout(Duration::from_secs(LEASE_TTL_S), leading.lost()).await;
    let lost = lost.is_ok();
    let after = paused.elapsed();
    let unknown = first.commit(term, &name, None, &head(1)).await;
    sleep(Duration::from_secs(2)).await;
    server.signal("-CONT").await;
    assert!(lost, "the local deadline did not end leadership");
    tracing::info!(?after, "leadership ended");
    assert!(
        matches!(unknown, Err(StoreError::Unavailable { .. })),
        "{unknown:?}"
    );
    let next = timeout(TAKEOVER_MAX, waiting)
        .await
        .expect("a standby leads once etcd answers")
        .unwrap();
    assert!(next.term > term && leading.is_lost());
    assert_eq!(
        first.commit(term, &name, None, &head(1)).await.unwrap(),
        CommitOutcome::Fenced
    );
    next.resign().await;
}

async fn what_was_written_survives_a_killed_etcd(server: &mut Server) {
    let store = server.candidate("killed").await;
    let leading = store.campaign(&leader("a")).await.unwrap();
    let term = leading.term;
    let name = job("a").spec.name;
    store.create_job(term, &job("a")).await.unwrap();
    assert_eq!(
        store.commit(term, &name, None, &head(1)).await.unwrap(),
        CommitOutcome::Committed
    );
    leading.resign().await;
    server.kill_and_start_again().await;
    let again = timeout(TAKEOVER_MAX, store.campaign(&leader("a")))
        .await
        .expect("the connection comes back")
        .unwrap();
    assert!(again.term > term);
    assert_eq!(store.load().await.unwrap()[0].head, Some(head(1)));
    assert_eq!(
        store
            .commit(term, &name, Some(&head(1)), &head(2))
            .await
            .unwrap(),
        CommitOutcome::Fenced
    );
    again.resign().await;
}

async fn a_hanging_member_changes_no_leader(binary: &Path, folder: &Path, port: u16) {
    let servers = Server::start_together(binary, folder, &[port, port + 2, port + 4]).await;
    let endpoints: Vec<_> = servers.iter().map(Server::endpoint).collect();
    let store = candidate(endpoints, "three").await;
    let name = job("a").spec.name;
    for (epoch, server) in (1..).zip(&servers) {
        // A term for each pause: an old etcd may revoke good leases when its own leader wakes up
        // (etcd issue 15247). Then the term ends correctly, which is not what this test checks.
        let leading = store.campaign(&leader("a")).await.unwrap();
        server.signal("-STOP").await;
        // Longer than a lease, so the lease was renewed at another member, whichever hangs,
        // including etcd's own leader.
        let lost = timeout(Duration::from_secs(LEASE_TTL_S + 1), leading.lost()).await;
        let written = store.set_published(leading.term, &name, Epoch(epoch)).await;
        server.signal("-CONT").await;
        assert!(
            lost.is_err(),
            "leadership was lost to one hanging member of three"
        );
        assert_eq!(written.unwrap(), WriteOutcome::Written);
        leading.resign().await;
        server.wait_until_healthy().await;
    }
}

async fn an_address_without_etcd_is_unavailable_and_a_wrong_one_refused() {
    let settings = |endpoint: &str| EtcdSettings {
        endpoints: vec![endpoint.to_owned()],
        cluster: "x".into(),
        lease_ttl_s: LEASE_TTL_S,
        dialer: Default::default(),
        login: None,
    };
    let nobody = EtcdStore::connect(settings("http://127.0.0.1:1"))
        .await
        .expect("connecting is lazy");
    let silent = nobody.load().await;
    assert!(
        matches!(silent, Err(StoreError::Unavailable { .. })),
        "{silent:?}"
    );
    let wrong = EtcdStore::connect(settings("http://no address"))
        .await
        .err();
    assert!(
        matches!(wrong, Some(StoreError::Refused { .. })),
        "{wrong:?}"
    );
}
