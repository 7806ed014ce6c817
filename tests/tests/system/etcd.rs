//! etcd as its operators treat it: compacted, and full.
//!
//! Rule: `etcdctl` does to it what operators do; a job's windows are the judge.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use streamctl_tests::cluster::Cluster;
use streamctl_tests::places::{country_lookup, free_port, one_system_at_a_time, server_program};
use streamctl_tests::process::{Launch, Process};
use streamctl_tests::wait::until;

const SOON: Duration = Duration::from_secs(60);
/// A quota that values of a megabyte fill at once.
const QUOTA_BYTES: u64 = 16 << 20;
const FULL: &str = "database space exceeded";

struct Etcd {
    _process: Process,
    address: String,
}

impl Etcd {
    fn start(folder: &Path) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let clients = format!("http://{address}");
        let peers = format!("http://127.0.0.1:{}", free_port());
        let data = folder.join("etcd-data");
        let quota = QUOTA_BYTES.to_string();
        let initial = format!("default={peers}");
        let flags = [
            ["--data-dir", data.to_str().expect("the path is text")],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &initial],
            ["--quota-backend-bytes", &quota],
            ["--log-level", "error"],
        ];
        let launch = Launch::new("etcd", server_program("etcd"), flags.as_flattened(), folder);
        let etcd = Self {
            _process: launch.start(),
            address,
        };
        until("etcd", SOON, || {
            etcd.ctl(&["endpoint", "health"])
                .status
                .success()
                .then_some(())
        });
        etcd
    }

    fn ctl(&self, args: &[&str]) -> Output {
        let program = server_program("etcd")
            .canonicalize()
            .expect("etcd is there");
        Command::new(program.with_file_name("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address])
            .args(args)
            .output()
            .expect("etcdctl starts")
    }

    /// Standard output of a command that succeeds.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let output = self.ctl(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Forgets everything but the last value of each key.
    fn compact(&self) {
        let status = self.done(&["endpoint", "status", "-w", "json"]);
        let (_, revision) = status.split_once("\"revision\":").expect("a revision");
        let digits = revision.find(|c: char| !c.is_ascii_digit()).expect("JSON");
        self.done(&["compact", &revision[..digits]]);
    }

    /// Writes until the quota is used up.
    fn fill(&self, folder: &Path) {
        let value = folder.join("value");
        std::fs::write(&value, vec![b'x'; 1 << 20]).expect("the folder takes files");
        let full = (0..64).any(|number| {
            let file = std::fs::File::open(&value).expect("it was written");
            let program = server_program("etcd")
                .canonicalize()
                .expect("etcd is there");
            let output = Command::new(program.with_file_name("etcdctl"))
                .env("ETCDCTL_API", "3")
                .args([
                    "--endpoints",
                    &self.address,
                    "put",
                    &format!("/other/{number}"),
                ])
                .stdin(file)
                .output()
                .expect("etcdctl starts");
            String::from_utf8_lossy(&output.stderr).contains(FULL)
        });
        assert!(full, "the quota is never used up");
    }
}

fn job(folder: &Path) -> String {
    let lookup = folder.join("lookup");
    std::fs::create_dir_all(&lookup).expect("the folder takes folders");
    let copied = std::fs::copy(country_lookup(), lookup.join("country_lookup.csv"));
    copied.expect("the folder takes files");
    let root = folder.display();
    let text = format!(
        r#"
name = "sales"
[source]
type = "generator"
rate = 100
[window]
size = "1s"
[[lookup]]
name = "country_lookup"
path = "{root}/lookup/"
[transform]
sql = "SELECT s.uuid, c.\"Code\" AS code FROM source s JOIN country_lookup c ON s.country = c.\"CountryName\""
[sink]
path = "{root}/out/"
[checkpoint]
location = "{root}/checkpoint/"
"#
    );
    let file = folder.join("job.toml");
    std::fs::write(&file, text).expect("the folder takes files");
    file.to_str().expect("the path is text").to_owned()
}

#[test]
fn a_compaction_and_a_full_quota_lose_nothing() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(folder.path());
    let store = format!("etcd://{}", etcd.address);
    let mut cluster = Cluster::empty(vec![], folder.path(), &store, None);
    cluster.add_controller("controller-1");
    cluster.add_controller("controller-2");
    until("a leader", SOON, || cluster.leader());
    cluster.add_worker("worker-1");
    cluster.cli_ok(&["submit", &job(folder.path())]);
    let goes_on = |cluster: &Cluster, after: &str| {
        let now = cluster
            .until_status("sales", "a status", SOON, |_| true)
            .published;
        cluster.until_status("sales", &format!("windows after {after}"), SOON, |status| {
            status.published >= now + 3
        });
    };
    goes_on(&cluster, "the submit");

    etcd.compact();
    goes_on(&cluster, "a compaction");
    cluster.kill_leader();
    until("the other leader", SOON, || cluster.leader());
    goes_on(&cluster, "a change of leaders after a compaction");

    etcd.fill(folder.path());
    let status = cluster.until_status("sales", "that the store is full", SOON, |status| {
        status.waiting_on.iter().any(|text| text.contains(FULL))
    });
    assert!(
        status.waits.iter().any(|wait| wait.on == "store"),
        "{status:?}"
    );
    etcd.done(&["del", "/other/", "--prefix"]);
    etcd.compact();
    etcd.done(&["defrag"]);
    etcd.done(&["alarm", "disarm"]);
    goes_on(&cluster, "a full quota");

    cluster.cli_ok(&["stop", "sales", "--drain"]);
    cluster.cli_ok(&["verify", "sales", "--deep"]);
}
