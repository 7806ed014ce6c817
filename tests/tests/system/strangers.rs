//! Other users of the same machine, and connections that say nothing, at the ports of the programs.
//!
//! Owns: what they get, and that everybody else is served meanwhile. Does not own: tokens and
//! certificates (`security`).
//! Rule: the other user is a real one (`nobody`); without the right to become it, only the caller
//! without a token is tried.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use streamctl_engine::security::accept::FIRST_CALL_TIMEOUT;
use streamctl_tests::local_run::Run;
use streamctl_tests::places::{binary, free_port, one_system_at_a_time};
use streamctl_tests::process::{Launch, Process};
use streamctl_tests::wait::until;

const SOON: Duration = Duration::from_secs(30);
/// The user `nobody`.
const NOBODY: &str = "65534";
/// Connections that say nothing, at each program.
const SILENT: usize = 200;
/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(10);

fn may_become_another_user() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn ask(program: &Path, port: u16, words: &[&str]) -> Output {
    let controller = format!("http://127.0.0.1:{port}");
    Command::new(program)
        .args(["--controller", &controller])
        .args(words)
        .output()
        .unwrap()
}

fn as_nobody(program: &Path, words: &[&str]) -> Output {
    let become_nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"];
    Command::new("setpriv")
        .args(become_nobody)
        .arg(program)
        .args(words)
        .env_clear()
        .output()
        .unwrap()
}

/// The status line of a page, as `nobody` gets it.
fn page_as_nobody(port: u16, path: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
         && head -n 1 <&3"
    );
    text(&as_nobody(Path::new("bash"), &["-c", &script]))
}

fn page(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A copy of `streamctl` that every user can run.
fn program_for_all(folder: &Path) -> PathBuf {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("streamctl");
    std::fs::copy(binary("streamctl"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// The ports that a process listens at.
fn listening_ports(pid: u32) -> Vec<u16> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    let sockets: Vec<String> = names
        .filter_map(|name| {
            Some(
                name.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own =
        fields.filter(|fields| fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]));
    own.map(|fields| u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_ports_of_a_local_run_answer_only_the_user_who_runs_it() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let program = program_for_all(root.path());
    let run = Run::new(root.path(), "private", 20);
    let process = run.start();
    let dashboard: u16 = until("the dashboard's address", SOON, || {
        let log = process.log();
        let rest = log.split("dashboard: http://127.0.0.1:").nth(1)?;
        rest.split('/').next()?.parse().ok()
    });
    let ports = listening_ports(process.pid());
    assert_eq!(
        ports.len(),
        3,
        "the controller, the worker's Flight, the dashboard: {ports:?}"
    );
    let job = run.folder.join("job.toml");
    let words: [&[&str]; 3] = [
        &["list"],
        &["submit", job.to_str().unwrap()],
        &["tail", "sales", "--from", "1", "--to", "1"],
    ];
    for port in ports.iter().filter(|port| **port != dashboard) {
        for words in words {
            let refused = ask(&program, *port, words);
            assert!(
                !refused.status.success(),
                "{port} {words:?}: {}",
                text(&refused)
            );
            assert!(
                text(&refused).contains("the caller is not authenticated"),
                "{port} {words:?}: {}",
                text(&refused)
            );
        }
    }
    assert!(page(dashboard, "/api/v1/jobs").contains("\"sales\""));
    let mode = std::fs::metadata(run.folder.join("state"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o077,
        0,
        "the state folder is for its owner alone: {mode:o}"
    );
    if may_become_another_user() {
        for path in ["/", "/api/v1/jobs", "/api/v1/jobs/sales"] {
            let answer = page_as_nobody(dashboard, path);
            assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        }
    }
}

fn controller(folder: &Path, name: &str, flags: &[&str]) -> (Process, u16, u16) {
    let ports = [(); 2].map(|()| free_port());
    let [listen, http] = ports.map(|port| format!("127.0.0.1:{port}"));
    let store = format!("file://{}", folder.join(name).display());
    let words = [
        "--listen",
        &listen,
        "--http-listen",
        &http,
        "--store",
        &store,
    ];
    let process = Launch::new(
        name,
        binary("streamctl-controller"),
        &[&words[..], flags].concat(),
        folder,
    )
    .start();
    until("an answer", SOON, || {
        ask(&binary("streamctl"), ports[0], &["list"])
            .status
            .success()
            .then_some(())
    });
    (process, ports[0], ports[1])
}

#[test]
fn a_controller_on_loopback_without_tokens_serves_its_own_user_and_with_insecure_every_user() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let program = program_for_all(folder.path());
    let (_process, port, http) = controller(folder.path(), "closed", &[]);
    assert!(page(http, "/api/v1/jobs").starts_with("HTTP/1.1 200"));
    if !may_become_another_user() {
        return;
    }
    let list = |port: u16| {
        as_nobody(
            &program,
            &["--controller", &format!("http://127.0.0.1:{port}"), "list"],
        )
    };
    let refused = list(port);
    let words = text(&refused);
    assert!(
        !refused.status.success() && words.contains("serves only the user who runs it"),
        "{words}"
    );
    assert!(
        words.contains(&format!("user {NOBODY}")) && words.contains("--access"),
        "{words}"
    );
    assert!(page_as_nobody(http, "/api/v1/jobs").starts_with("HTTP/1.1 403"));
    for path in ["/metrics", "/healthz"] {
        let answer = page_as_nobody(http, path);
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "Prometheus and probes are other users: {path}: {answer}"
        );
    }
    let (_process, port, http) = controller(folder.path(), "open", &["--insecure"]);
    let allowed = list(port);
    assert!(allowed.status.success(), "{}", text(&allowed));
    assert!(page_as_nobody(http, "/api/v1/jobs").starts_with("HTTP/1.1 200"));
}

#[test]
fn silent_connections_are_closed_and_hold_up_no_others() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (_controller, port, _) = controller(folder.path(), "controller", &[]);
    let flight = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let listen = format!("127.0.0.1:{flight}");
    let words = [
        "--controller",
        &url,
        "--listen",
        &listen,
        "--id",
        "worker-1",
        "--memory-limit",
        "256MiB",
    ];
    let _worker = Launch::new("worker", binary("streamctl-worker"), &words, folder.path()).start();
    let workers = || text(&ask(&binary("streamctl"), port, &["workers"]));
    until("the worker", SOON, || {
        workers().contains("worker-1").then_some(())
    });
    let began = Instant::now();
    let connect =
        |port: u16| (0..SILENT).map(move |_| TcpStream::connect(("127.0.0.1", port)).unwrap());
    let silent: Vec<TcpStream> = connect(port).chain(connect(flight)).collect();
    assert!(
        workers().contains("worker-1"),
        "others are served meanwhile"
    );
    for mut stream in silent {
        let left = (FIRST_CALL_TIMEOUT + SLACK).saturating_sub(began.elapsed());
        stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .unwrap();
        let mut rest = [0; 256];
        // The server may say its settings first.
        while let bytes @ 1.. = stream.read(&mut rest).expect("it is closed in time") {
            assert!(bytes <= rest.len());
        }
    }
    assert!(
        workers().contains("worker-1"),
        "the worker's session has a call under way"
    );
}
