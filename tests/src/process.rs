//! A program that runs beside the test.
//!
//! Owns: starting it, its log file, signals, its end. Does not own: the kind of program (`servers`,
//! `cluster`).
//! Rule: it dies with its [`Process`], and with the thread that started it: start it in the test's
//! own thread.

use crate::{places, wait};
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::Duration;

/// Lines of the log that a failing test shows.
const TAIL_LINES: usize = 25;
/// Characters of the failure that are shown once more below each log: what keeps only the end of an
/// output then keeps the reason.
const FAILURE_CHARS_MAX: usize = 600;

thread_local! {
    /// Why the test of this thread failed.
    static FAILURE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on the reason of a failure is remembered in its thread.
fn remember_failures() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |failure| {
            let text: String = failure
                .to_string()
                .chars()
                .take(FAILURE_CHARS_MAX)
                .collect();
            FAILURE.with_borrow_mut(|kept| *kept = text);
            shown(failure);
        }));
    });
}

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The settings of a program, besides those of [`places::inherited`].
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Its name in logs and messages.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Its log goes to `<name>.log` in this folder, in append mode.
    pub logs: PathBuf,
}

impl Launch {
    /// A program with these arguments, which logs into this folder.
    pub fn new(name: &str, program: PathBuf, args: &[&str], logs: &Path) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self {
            name: name.to_owned(),
            program,
            args,
            env: vec![],
            logs: logs.to_owned(),
        }
    }
    pub fn env<K: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env.extend(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        self
    }
    pub fn start(&self) -> Process {
        remember_failures();
        let log = self.logs.join(format!("{}.log", self.name));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log's folder is there");
        // The kernel kills it when this thread ends for any reason; `setpriv` becomes the program.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.args);
        command
            .env_clear()
            .envs(places::inherited())
            .envs(self.env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be cloned"))
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        Process {
            name: self.name.clone(),
            child,
            log,
        }
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
    /// Sends SIGTERM and returns its exit status; panics if it is still running after `limit`.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(limit)
    }
    /// Its exit status; panics if it is still running after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || {
            self.child
                .try_wait()
                .expect("our own child can be waited for")
        })
    }
    /// Its exit status if it ends within `limit`.
    pub fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begin = std::time::Instant::now();
        loop {
            match self
                .child
                .try_wait()
                .expect("our own child can be waited for")
            {
                Some(status) => return Some(status),
                None if begin.elapsed() >= limit => return None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    /// Freezes it: it keeps its connections but does nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }
    /// Undoes [`Self::pause`].
    pub fn resume(&self) {
        self.signal("CONT");
    }
    /// Its whole log, including earlier starts with the same name.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let order = format!("kill -{signal} {}", self.pid());
        let status = Command::new("sh")
            .args(["-c", &order])
            .status()
            .expect("there is a shell");
        assert!(status.success(), "{order} ({}) failed", self.name);
    }

    #[expect(
        clippy::print_stderr,
        reason = "a failing test shows what its processes said"
    )]
    fn show(&self) {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        eprintln!(
            "---- {} (pid {}), the end of its log:\n{}\n---- {}",
            self.name,
            self.pid(),
            tail.join("\n"),
            FAILURE.with_borrow(String::clone)
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.show();
        }
    }
}

/// The child processes of a process.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut children = vec![];
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let ids = list.split_whitespace();
        children.extend(ids.filter_map(|id| id.parse::<u32>().ok()));
    }
    children
}

/// Sends a signal to a process that no [`Process`] stands for, if it is still there.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    sent.expect("there is a program `kill`");
}
