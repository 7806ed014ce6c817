//! TLS, certificates, tokens and roles, on the programs as users run them.
//!
//! Owns: what a stranger gets, that everything goes on behind it, that files change while it does.
//! Does not own: each rule for itself (tests beside `engine/src/security`). Rule: clients that are
//! not ours judge: Python's TLS, pyarrow, etcdctl.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use streamctl_tests::pki::{Authority, Files, replace};
use streamctl_tests::places::{
    binary, country_lookup, free_port, inherited, one_system_at_a_time, server_program,
};
use streamctl_tests::process::{Launch, Process};
use streamctl_tests::python::Python;
use streamctl_tests::servers::Etcd;
use streamctl_tests::wait::{http_get, until};

const SOON: Duration = Duration::from_secs(30);
const LONGER: Duration = Duration::from_secs(90);
/// Of the user `streamctl` in etcd.
const PASSWORD: &str = "an-etcd-password-9c41";

/// A cluster whose every line is TLS with certificates on both sides, and whose callers need
/// tokens.
struct Secured {
    folder: tempfile::TempDir,
    authority: Authority,
    me: Files,
    controllers: Vec<Controller>,
    worker: Option<Process>,
    etcd: Etcd,
}

struct Controller {
    process: Process,
    address: String,
    http: String,
    health: u16,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("streamctl-secure-")
            .tempdir()
            .unwrap();
        let authority = Authority::new(folder.path(), "ca");
        let me = authority.issue("person", &[]);
        let etcd = Etcd::start_with_tls(folder.path(), &authority);
        let mut cluster = Self {
            folder,
            authority,
            me,
            controllers: vec![],
            worker: None,
            etcd,
        };
        cluster.ask_etcd_for_users();
        for (name, role) in [
            ("viewer", "view"),
            ("operator", "operate"),
            ("boss", "admin"),
            ("workers", "worker"),
        ] {
            let line = cluster.new_token(name, role);
            cluster.allow(&line);
        }
        // A standby asks the leader in its own name when a certificate asked it.
        cluster.allow(
            "[[certificate]]\nname = \"controllers\"\nrole = \"view\"\ndns = \"controller\"\n",
        );
        cluster.authority.issue("controller", &["controller"]);
        cluster.authority.issue("worker", &["worker"]);
        cluster.authority.issue("etcd-client", &[]);
        for id in ["controller-1", "controller-2"] {
            let controller = cluster.controller(id);
            cluster.controllers.push(controller);
        }
        cluster.worker = Some(cluster.start_worker("worker-1", Some("workers")));
        cluster
    }

    /// etcd knows a user `streamctl`, and nobody may do anything without being one.
    fn ask_etcd_for_users(&self) {
        let admin = self.authority.issue("root", &[]);
        for words in [
            "user add root:root-password",
            "user grant-role root root",
            &format!("user add streamctl:{PASSWORD}"),
            "role add streamctl",
            "role grant-permission streamctl --prefix=true readwrite /streamctl/",
            "user grant-role streamctl streamctl",
            "auth enable",
        ] {
            let mut command = Command::new(
                server_program("etcd")
                    .canonicalize()
                    .unwrap()
                    .with_file_name("etcdctl"),
            );
            command
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &format!("https://{}", self.etcd.address())]);
            command.args([
                "--cacert",
                &self.authority.file(),
                "--cert",
                &admin.cert,
                "--key",
                &admin.key,
            ]);
            let output = command.args(words.split(' ')).output().unwrap();
            let reported = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() || reported.contains("already exists"),
                "etcdctl {words}: {reported}"
            );
        }
        std::fs::write(self.path("etcd-login"), format!("streamctl:{PASSWORD}\n")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn new_token(&self, name: &str, role: &str) -> String {
        let out = self.path(&format!("{name}.token"));
        let output = self.streamctl(&[
            "token", "new", "--name", name, "--role", role, "--out", &out,
        ]);
        assert!(output.status.success(), "{}", err(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn allow(&self, line: &str) {
        let path = self.path("access.toml");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        replace(Path::new(&path), &format!("{before}{line}"));
    }

    /// Takes the first entry out.
    fn forbid_first(&self) {
        let path = self.path("access.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let rest = before
            .split("[[")
            .skip(2)
            .map(|entry| format!("[[{entry}"))
            .collect::<String>();
        replace(Path::new(&path), &rest);
    }

    fn pem(&self, name: &str) -> [String; 2] {
        ["cert", "key"].map(|kind| self.path(&format!("{name}.{kind}.pem")))
    }

    fn controller(&self, id: &str) -> Controller {
        let [address, http] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let health = free_port();
        let ca = self.authority.file();
        let ([cert, key], [etcd_cert, etcd_key]) =
            (self.pem("controller"), self.pem("etcd-client"));
        let store = format!("etcds://{}", self.etcd.address());
        let access = self.path("access.toml");
        let login = self.path("etcd-login");
        let probes = format!("127.0.0.1:{health}");
        let flags = [
            ["--listen", &address],
            ["--http-listen", &http],
            ["--health-listen", &probes],
            ["--store", &store],
            ["--cluster", "secured"],
            ["--id", id],
            ["--tls-cert", &cert],
            ["--tls-key", &key],
            ["--tls-ca", &ca],
            ["--tls-client-ca", &ca],
            ["--access", &access],
            ["--etcd-ca", &ca],
            ["--etcd-cert", &etcd_cert],
            ["--etcd-key", &etcd_key],
            ["--etcd-login-file", &login],
        ];
        let process = self.launch(id, "streamctl-controller", flags.as_flattened());
        Controller {
            process,
            address,
            http,
            health,
        }
    }

    fn start_worker(&self, id: &str, token: Option<&str>) -> Process {
        let listen = format!("127.0.0.1:{}", free_port());
        let controllers = self.urls();
        let ca = self.authority.file();
        let [cert, key] = self.pem("worker");
        let mut flags = vec![
            "--controller",
            &controllers,
            "--listen",
            &listen,
            "--id",
            id,
            "--memory-limit",
            "256MiB",
        ];
        flags.extend([
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--tls-ca",
            &ca,
            "--tls-client-ca",
            &ca,
        ]);
        let file = token.map(|name| self.path(&format!("{name}.token")));
        if let Some(file) = &file {
            flags.extend(["--join-token-file", file]);
        }
        self.launch(id, "streamctl-worker", &flags)
    }

    fn launch(&self, id: &str, program: &str, flags: &[&str]) -> Process {
        let verbose = [
            ("RUST_LOG", "debug,h2=info,hyper=info,tower=info"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        Launch::new(id, binary(program), flags, self.folder.path())
            .env(verbose)
            .start()
    }

    fn urls(&self) -> String {
        self.controllers
            .iter()
            .map(|one| format!("https://{}", one.address))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn streamctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary("streamctl"));
        command
            .args(words)
            .stdin(Stdio::null())
            .env_clear()
            .envs(inherited());
        command
            .env("STREAMCTL_CONFIG", self.path("config.toml"))
            .output()
            .unwrap()
    }

    /// The command line with the certificate of a person, and this token.
    fn as_somebody(&self, token: Option<&str>, words: &[&str]) -> Output {
        let urls = self.urls();
        let ca = self.authority.file();
        let mut all = vec![
            "--controller",
            &urls,
            "--ca",
            &ca,
            "--cert",
            &self.me.cert,
            "--key",
            &self.me.key,
        ];
        let file = token.map(|name| self.path(&format!("{name}.token")));
        if let Some(file) = &file {
            all.extend(["--token-file", file]);
        }
        self.streamctl(&[&all[..], words].concat())
    }

    /// The job's status at every change, as long as that is told.
    fn watch(&self, token: &str) -> Process {
        let urls = self.urls();
        let ca = self.authority.file();
        let file = self.path(&format!("{token}.token"));
        let who = [
            "--controller",
            &urls,
            "--ca",
            &ca,
            "--cert",
            &self.me.cert,
            "--key",
            &self.me.key,
        ];
        let words = [
            "--token-file",
            &file,
            "status",
            "sales",
            "--watch",
            "-o",
            "json",
        ];
        Launch::new(
            &format!("watch-{token}"),
            binary("streamctl"),
            &[&who[..], &words].concat(),
            self.folder.path(),
        )
        .start()
    }

    #[track_caller]
    fn ok(&self, token: &str, words: &[&str]) -> String {
        let output = self.as_somebody(Some(token), words);
        assert!(
            output.status.success(),
            "{words:?} as {token}: {}",
            err(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Option<Value> {
        let output = self.as_somebody(Some("viewer"), &["status", "sales", "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    fn published(&self) -> u64 {
        self.status()
            .and_then(|status| status["published"].as_u64())
            .unwrap_or(0)
    }

    /// What Python's own client gets over HTTPS.
    fn https(&self, controller: &Controller, path: &str, more: &[&str]) -> Value {
        let url = format!("https://{}{path}", controller.http);
        let ca = self.authority.file();
        Python::new(vec![]).ask("https_ask.py", &[&[&url[..], &ca][..], more].concat())
    }

    /// Everything that was logged by anybody.
    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let logs =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
            .collect()
    }
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What somebody is told who may not.
#[track_caller]
fn refused(output: &Output, words: &str) {
    let reported = err(output);
    assert!(
        !output.status.success() && reported.contains(words) && reported.contains("hint: "),
        "{words}: {reported}"
    );
}

fn job(folder: &Path) -> PathBuf {
    let lookup = folder.join("lookup");
    std::fs::create_dir_all(&lookup).unwrap();
    std::fs::copy(country_lookup(), lookup.join("country_lookup.csv")).unwrap();
    let file = folder.join("job.toml");
    let root = folder.display();
    let text = format!(
        r#"
name = "sales"
[source]
type = "generator"
rate = 200
[window]
size = "1s"
[[lookup]]
name = "country_lookup"
path = "{root}/lookup/"
[transform]
sql = 'SELECT s.uuid, c."Code" AS code FROM source s JOIN country_lookup c ON s.country = c."CountryName"'
[sink]
path = "{root}/out/"
[checkpoint]
location = "{root}/checkpoint/"
"#
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn everything_works_behind_certificates_and_tokens_and_strangers_get_nothing() {
    let _alone = one_system_at_a_time();
    let mut cluster = Secured::start();
    let file = job(cluster.folder.path());
    let file = file.to_str().unwrap();
    until("a leader", SOON, || {
        cluster
            .as_somebody(Some("viewer"), &["list"])
            .status
            .success()
            .then_some(())
    });

    strangers_are_refused(&cluster, file);
    cluster.ok("boss", &["submit", file]);
    until("three published windows", LONGER, || {
        (cluster.published() >= 3).then_some(())
    });
    results_are_read_by_all_who_may(&cluster);
    a_worker_without_a_token_gets_nothing(&cluster);
    certificates_are_replaced_while_it_runs(&cluster);
    a_token_that_is_taken_back_opens_nothing(&cluster);

    // Nothing secret was ever logged, at the level where much is.
    let logs = cluster.logs();
    assert!(
        logs.contains("a call is refused"),
        "the logs were looked at"
    );
    for name in ["viewer", "operator", "boss", "workers"] {
        let token = std::fs::read_to_string(cluster.path(&format!("{name}.token"))).unwrap();
        assert!(
            !logs.contains(token.trim()),
            "the token of {name} is in a log"
        );
    }
    assert!(!logs.contains(PASSWORD), "etcd's password is in a log");
    assert!(cluster.worker.take().unwrap().terminate(SOON).success());
}

fn strangers_are_refused(cluster: &Secured, file: &str) {
    // Without a certificate there is no connection; without a token no call; with the wrong role no
    // deed.
    let urls = cluster.urls();
    let ca = cluster.authority.file();
    let viewer = cluster.path("viewer.token");
    let bare = cluster.streamctl(&[
        "--controller",
        &urls,
        "--ca",
        &ca,
        "--token-file",
        &viewer,
        "list",
    ]);
    refused(&bare, "CertificateRequired");
    let untrusting = cluster.streamctl(&["--controller", &urls, "--token-file", &viewer, "list"]);
    refused(&untrusting, "UnknownIssuer");
    let plain = cluster.streamctl(&["--controller", &urls.replace("https", "http"), "list"]);
    assert!(!plain.status.success(), "plain text is no way in");
    refused(
        &cluster.as_somebody(None, &["list"]),
        "the caller is not authenticated",
    );
    let other = cluster.new_token("nobody", "admin");
    assert!(other.contains("role = \"admin\""));
    refused(
        &cluster.as_somebody(Some("nobody"), &["list"]),
        "this token is not known here",
    );
    refused(
        &cluster.as_somebody(Some("viewer"), &["submit", file]),
        "viewer has the role view; this needs operate",
    );
    refused(
        &cluster.as_somebody(Some("workers"), &["list"]),
        "workers has the role worker; this needs view",
    );
    refused(
        &cluster.as_somebody(Some("operator"), &["submit", file]),
        "needs the role admin, and operator has not",
    );

    // An authority that nobody here knows signs what it likes.
    let folder = tempfile::tempdir().unwrap();
    let forged = Authority::new(folder.path(), "ca").issue("person", &["controller"]);
    let forged = ["--cert", &forged.cert, "--key", &forged.key, "list"];
    let forged = cluster.streamctl(
        &[
            &[
                "--controller",
                &urls[..],
                "--ca",
                &ca,
                "--token-file",
                &viewer,
            ][..],
            &forged,
        ]
        .concat(),
    );
    assert!(!forged.status.success(), "{}", err(&forged));

    let controller = &cluster.controllers[0];
    for path in ["/", "/api/v1/jobs", "/metrics", "/page/main.js"] {
        let answer = cluster.https(controller, path, &[]);
        assert_eq!(answer["status"], 401, "{path}: {answer}");
        assert!(
            answer["asks"].as_str().unwrap().starts_with("Basic "),
            "{answer}"
        );
    }
    // Probes need nothing, and get nothing else.
    let probe = |path| http_get(controller.health, path).unwrap();
    assert!(
        probe("/healthz").starts_with("HTTP/1.1 200")
            || probe("/healthz").starts_with("HTTP/1.0 200")
    );
    assert!(probe("/readyz").contains("ready"));
    for path in ["/", "/api/v1/jobs", "/metrics"] {
        assert!(probe(path).contains(" 404 "), "{path}");
    }
}

/// The first two epochs have `rows` rows together.
fn samples_are_for_those_who_may_read_rows(cluster: &Secured, rows: u64) {
    let path = |epoch: u64| format!("/api/v1/jobs/sales/epochs/{epoch}/rows");
    let token = |name: &str| cluster.path(&format!("{name}.token"));
    for controller in &cluster.controllers {
        let sample = |epoch| {
            let answer = cluster.https(controller, &path(epoch), &["--token", &token("viewer")]);
            assert_eq!(answer["status"], 200, "{answer}");
            serde_json::from_str::<Value>(answer["body"].as_str().unwrap()).unwrap()
        };
        let samples = [1, 2].map(sample);
        let total = samples.iter().map(|one| one["rows_in_epoch"].as_u64());
        assert_eq!(total.sum::<Option<u64>>(), Some(rows), "{samples:?}");
        let shown = samples
            .iter()
            .map(|one| one["rows"].as_array().unwrap().len());
        assert!(shown.sum::<usize>() > 0, "{samples:?}");
        for (name, status) in [("workers", 403), ("nobody", 401)] {
            let answer = cluster.https(controller, &path(1), &["--token", &token(name)]);
            assert_eq!(answer["status"], status, "{answer}");
            assert!(
                !answer["body"].as_str().unwrap().contains("uuid"),
                "{answer}"
            );
        }
    }
}

fn results_are_read_by_all_who_may(cluster: &Secured) {
    let rows = cluster.ok(
        "viewer",
        &["tail", "sales", "--from", "1", "--to", "2", "-o", "json"],
    );
    let uuids: std::collections::BTreeSet<_> = rows.lines().map(str::to_owned).collect();
    assert!(uuids.len() > 50 && uuids.len() == rows.lines().count());

    let files = [
        ("FLIGHT_CA", cluster.authority.file()),
        ("FLIGHT_CERT", cluster.me.cert.clone()),
    ];
    let files = files
        .into_iter()
        .chain([("FLIGHT_KEY", cluster.me.key.clone())]);
    let env = |token: &str| {
        let token = ("FLIGHT_TOKEN", cluster.path(&format!("{token}.token")));
        files
            .clone()
            .chain([token])
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Vec<_>>()
    };
    let leader = until("the leader's address", SOON, || {
        let standing = cluster.controllers.iter().map(|one| {
            cluster.https(
                one,
                "/api/v1/cluster",
                &["--token", &cluster.path("viewer.token")],
            )
        });
        let leads = |answer: &Value| {
            serde_json::from_str::<Value>(answer["body"].as_str()?).ok()?["leader"]
                .as_str()
                .map(str::to_owned)
        };
        standing.into_iter().find_map(|answer| leads(&answer))
    });
    let read = |token| {
        Python::new(env(token)).try_ask("flight_read.py", &[&leader[..], "sales", "1", "2"])
    };
    assert_eq!(read("viewer").unwrap()["rows"], rows.lines().count());
    let reported = read("workers").unwrap_err();
    assert!(
        reported.contains("workers has the role worker; this needs view"),
        "{reported}"
    );

    // Both controllers show it: one of them asks the other in the name of who asked.
    let (token, [cert, key]) = (
        cluster.path("viewer.token"),
        [&cluster.me.cert[..], &cluster.me.key],
    );
    for controller in &cluster.controllers {
        for words in [
            &["--token", &token][..],
            &["--token", &token, "--basic"],
            &[cert, key, "--token", &token],
        ] {
            let answer = cluster.https(controller, "/api/v1/jobs", words);
            assert_eq!(answer["status"], 200, "{answer}");
            assert!(
                answer["body"].as_str().unwrap().contains("\"sales\""),
                "{answer}"
            );
        }
    }
    samples_are_for_those_who_may_read_rows(cluster, rows.lines().count() as u64);
    // The controller asks the worker to read an epoch again, with a token of its own.
    refused(
        &cluster.as_somebody(Some("viewer"), &["verify", "sales"]),
        "this needs operate",
    );
    let proven = cluster.ok(
        "operator",
        &["verify", "sales", "--replay", "1", "--to", "2"],
    );
    assert!(
        proven.contains("proven") && proven.contains("1 epoch, "),
        "{proven}"
    );

    // A context holds the paths; then nothing is to be said.
    let urls = cluster.urls();
    let ca = cluster.authority.file();
    let words = [
        "--controller",
        &urls,
        "--ca",
        &ca,
        "--cert",
        cert,
        "--key",
        key,
        "--token-file",
        &token,
    ];
    let added = cluster.streamctl(&[&["context", "add", "prod"][..], &words].concat());
    assert!(added.status.success(), "{}", err(&added));
    let listed = cluster.streamctl(&["list", "--names"]);
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "sales\n",
        "{}",
        err(&listed)
    );
    let config = std::fs::read_to_string(cluster.path("config.toml")).unwrap();
    assert!(
        !config.contains(std::fs::read_to_string(&token).unwrap().trim()),
        "{config}"
    );
}

fn a_worker_without_a_token_gets_nothing(cluster: &Secured) {
    for (id, token, words) in [
        ("stranger", None, "the caller is not authenticated"),
        ("person", Some("viewer"), "this needs worker"),
    ] {
        let stranger = cluster.start_worker(id, token);
        until("the refusal in its log", SOON, || {
            stranger.log().contains(words).then_some(())
        });
        assert!(stranger.log().contains("hint: "), "{}", stranger.log());
        let workers = cluster.ok("viewer", &["workers", "-o", "json"]);
        assert!(
            workers.contains("worker-1") && !workers.contains(id),
            "{workers}"
        );
    }
}

fn certificates_are_replaced_while_it_runs(cluster: &Secured) {
    let token = cluster.path("viewer.token");
    let serial = || {
        cluster.https(
            &cluster.controllers[0],
            "/api/v1/cluster",
            &["--token", &token],
        )["serial"]
            .clone()
    };
    let before = serial();
    assert!(before.is_string());
    cluster.authority.issue("controller", &["controller"]);
    cluster.authority.issue("worker", &["worker"]);
    cluster.authority.issue("etcd-client", &[]);
    until("the new certificate", SOON, || {
        (serial() != before).then_some(())
    });
    let published = cluster.published();
    until("two more windows", LONGER, || {
        (cluster.published() >= published + 2).then_some(())
    });

    // A broken one changes nothing, is told, and can be mended.
    let good = serial();
    let [cert, _] = cluster.pem("controller");
    let kept = std::fs::read_to_string(&cert).unwrap();
    let log = || cluster.controllers[0].process.log();
    replace(
        Path::new(&cert),
        "-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n",
    );
    until("the error in the log", SOON, || {
        log()
            .contains("changed files are not used, the old ones stay")
            .then_some(())
    });
    assert_eq!(serial(), good);
    assert!(cluster.status().is_some());
    replace(Path::new(&cert), &kept);

    // A line that breaks comes back with what is there now.
    let mut second = cluster.start_worker("worker-2", Some("workers"));
    let joined = || {
        cluster
            .ok("viewer", &["workers", "-o", "json"])
            .contains("worker-2")
            .then_some(())
    };
    until("a second worker with the new certificate", SOON, joined);
    assert!(second.terminate(SOON).success());
}

fn a_token_that_is_taken_back_opens_nothing(cluster: &Secured) {
    cluster.ok(
        "viewer",
        &["tail", "sales", "--from", "1", "--to", "1", "-o", "json"],
    );
    let mut watches = ["viewer", "operator"].map(|name| cluster.watch(name));
    let both = || {
        watches
            .iter()
            .all(|watch| watch.log().contains("\"job\":\"sales\""))
            .then_some(())
    };
    until("both watches to see the job", SOON, both);
    // The viewer's is the first entry.
    cluster.forbid_first();
    assert!(!watches[0].wait(SOON).success(), "{}", watches[0].log());
    assert!(
        watches[0]
            .log()
            .contains("error: this token is not known here"),
        "{}",
        watches[0].log()
    );
    assert!(
        watches[1].is_running(),
        "others go on: {}",
        watches[1].log()
    );
    until("the end of the token", SOON, || {
        let output = cluster.as_somebody(Some("viewer"), &["list"]);
        err(&output)
            .contains("this token is not known here")
            .then_some(())
    });
    let rows = cluster.ok(
        "operator",
        &["tail", "sales", "--from", "1", "--to", "1", "-o", "json"],
    );
    assert!(!rows.is_empty(), "others go on");
    a_worker_whose_token_is_none_of_a_worker_any_more_loses_its_session(cluster);
    cluster.ok("operator", &["stop", "sales"]);
    assert!(watches[1].wait(SOON).success(), "{}", watches[1].log());
}

/// And has one again, by itself, when the token is good again.
fn a_worker_whose_token_is_none_of_a_worker_any_more_loses_its_session(cluster: &Secured) {
    let workers = || cluster.ok("operator", &["workers", "-o", "json"]);
    assert!(workers().contains("worker-1"));
    let path = cluster.path("access.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    assert!(good.contains("role = \"worker\""), "{good}");
    replace(
        Path::new(&path),
        &good.replace("role = \"worker\"", "role = \"view\""),
    );
    until("the end of the session", SOON, || {
        (!workers().contains("worker-1")).then_some(())
    });
    let logs = cluster.logs();
    assert!(
        logs.contains("workers has the role view; this needs worker"),
        "it was told why"
    );
    replace(Path::new(&path), &good);
    until("the worker's next session", SOON, || {
        workers().contains("worker-1").then_some(())
    });
}

/// Runs a program until it ends by itself, which must be soon and not well; what it said: what is
/// wrong and what to do, and nothing of its source, also where somebody asks every program for
/// that.
#[track_caller]
fn ends(program: &str, flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let asks = [("RUST_BACKTRACE", "1")];
    let mut process = Launch::new(program, binary(program), flags, folder.path())
        .env(asks)
        .start();
    assert!(
        !process.wait(SOON).success(),
        "{program} {flags:?} ends well"
    );
    let reported = process.log();
    assert!(
        reported.contains("error: ") && reported.contains("\nhint: "),
        "{reported}"
    );
    assert!(
        !reported.to_lowercase().contains("backtrace") && !reported.contains("Caused by"),
        "{reported}"
    );
    reported
}

#[test]
fn a_reachable_address_does_not_start_without_protection_unless_insecure_is_set() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().join("state").display());
    let open = format!("0.0.0.0:{}", free_port());
    let http = format!("127.0.0.1:{}", free_port());
    let controller = ["--store", &store, "--listen", &open, "--http-listen", &http];
    let at = format!("127.0.0.1:{}", free_port());
    let here = ["--listen", &at, "--http-listen", &http];
    let reported = ends("streamctl-controller", &controller);
    assert!(
        reported.contains("is not encrypted")
            && reported.contains("hint: ")
            && reported.contains("--insecure"),
        "{reported}"
    );
    let own = Authority::new(folder.path(), "ca").issue("one", &[]);
    let tls = ["--tls-cert", &own.cert, "--tls-key", &own.key];
    let reported = ends("streamctl-controller", &[&controller[..], &tls].concat());
    assert!(
        reported.contains("callers are not authenticated"),
        "{reported}"
    );
    let reported = ends("streamctl-worker", &["--listen", &open]);
    assert!(reported.contains("is not encrypted"), "{reported}");
    let reported = ends(
        "streamctl-worker",
        &["--controller", "http://10.0.0.1:7070"],
    );
    assert!(
        reported.contains("traffic to http://10.0.0.1:7070 is not encrypted"),
        "{reported}"
    );
    let reported = ends(
        "streamctl-controller",
        &[&here[..], &["--store", "etcd://10.0.0.1:2379"]].concat(),
    );
    assert!(
        reported.contains("is not encrypted") && reported.contains("etcds://"),
        "{reported}"
    );
    let reported = ends(
        "streamctl-controller",
        &[
            &here[..],
            &["--store", "etcd://me:hunter2-password@127.0.0.1:2379"],
        ]
        .concat(),
    );
    assert!(
        reported.contains("--etcd-login-file") && !reported.contains("hunter2"),
        "{reported}"
    );
    let reported = ends(
        "streamctl-controller",
        &[
            &here[..],
            &[
                "--store",
                &store,
                "--tls-cert",
                &own.cert,
                "--tls-key",
                &own.cert,
            ],
        ]
        .concat(),
    );
    assert!(
        reported.contains("holds no private key") && reported.contains("hint: "),
        "{reported}"
    );

    let health = free_port();
    let probes = format!("127.0.0.1:{health}");
    let said = [&controller[..], &["--insecure", "--health-listen", &probes]].concat();
    let mut allowed = Launch::new(
        "allowed",
        binary("streamctl-controller"),
        &said,
        folder.path(),
    )
    .start();
    until("an answer", SOON, || {
        http_get(health, "/readyz").filter(|answer| answer.contains("ready\n"))
    });
    assert!(allowed.terminate(SOON).success());
}
