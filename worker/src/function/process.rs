//! A child as a process: started, watched, ended.
//!
//! Owns: the thread that starts children, the pipes of its output, its memory as the kernel counts
//! it, its end. Does not own: the messages on the connection ([`super::exchange`]).
//! Rule: a child ends with its [`Process`], and with the worker.

use super::FunctionError;
use super::error::Exit;
use super::home::Home;
use super::launch::CHILD_ARGUMENT;
use super::log::{Log, LogSource};
use super::python::{self, Interpreter};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// How often a child's memory is looked at.
pub const MEMORY_INTERVAL: Duration = Duration::from_millis(50);
/// Time in which a child that closed its connection must end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are read from a pipe at once.
const PIPE_BYTES: usize = 64 << 10;
/// Most bytes that are read of a pipe after its child ended.
const REST_BYTES_MAX: u64 = 1 << 20;
/// Distance between the numbers of two workers.
const NUMBERS_PER_WORKER: u32 = 97;
const KIB: u64 = 1 << 10;

/// Starts children; clones share its thread.
///
/// The kernel ends a child when the *thread* that started it ends. The threads of a runtime come and
/// go, so this one does nothing else, and lives as long as any child.
#[derive(Clone, Debug)]
pub struct Launcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The worker's program, and what makes it a child.
    command: Vec<OsString>,
    starts: Sender<Start>,
    /// Children that were started.
    count: AtomicU32,
    /// Those that were found.
    interpreters: Mutex<BTreeMap<PathBuf, Interpreter>>,
}

#[derive(Debug)]
struct Start {
    command: Command,
    runtime: Handle,
    started: oneshot::Sender<std::io::Result<tokio::process::Child>>,
}

impl Launcher {
    /// Starts children with this process's own program. Its `main` calls
    /// [`child_main_if_asked()`](super::child_main_if_asked) first.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn own_program() -> std::io::Result<Self> {
        // Also if the program's file was replaced since.
        Self::with(
            ["/proc/self/exe", CHILD_ARGUMENT]
                .map(OsString::from)
                .into(),
        )
    }

    /// Starts children with another command.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn with(command: Vec<OsString>) -> std::io::Result<Self> {
        let (starts, orders) = channel::<Start>();
        let work = move || {
            for mut start in orders {
                let _inside = start.runtime.enter();
                let _ = start.started.send(start.command.spawn());
            }
        };
        std::thread::Builder::new()
            .name("function-launcher".into())
            .spawn(work)?;
        Ok(Self(Arc::new(Inner {
            command,
            starts,
            count: AtomicU32::new(0),
            interpreters: Mutex::default(),
        })))
    }

    /// Where this Python lies. It is started once.
    ///
    /// # Errors
    /// There is none, or it is too old.
    pub async fn interpreter(&self, python: &Path) -> Result<Interpreter, FunctionError> {
        let known = || {
            self.0
                .interpreters
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let found = known().get(python).cloned();
        if let Some(found) = found {
            return Ok(found);
        }
        let found = python::find(python).await?;
        known().insert(python.to_owned(), found.clone());
        Ok(found)
    }

    /// A number that differs from child to child.
    pub fn next_number(&self) -> u32 {
        let count = self.0.count.fetch_add(1, Ordering::Relaxed);
        // Workers of one machine begin at different places.
        std::process::id()
            .wrapping_mul(NUMBERS_PER_WORKER)
            .wrapping_add(count)
    }

    async fn start(
        &self,
        stdin: OwnedFd,
        user: Option<u32>,
    ) -> std::io::Result<tokio::process::Child> {
        let gone = || std::io::Error::other("the thread that starts functions has ended");
        let (program, arguments) = self.0.command.split_first().ok_or_else(gone)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(user) = user {
            // It has no other group.
            command.uid(user).gid(user);
        }
        let (started, answer) = oneshot::channel();
        let start = Start {
            command,
            runtime: Handle::current(),
            started,
        };
        self.0.starts.send(start).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// What a child writes to its standard output and error.
#[derive(Debug)]
pub struct Output {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    stdout_buffer: Vec<u8>,
    stderr_buffer: Vec<u8>,
    log: Log,
}

impl Output {
    /// Reads without end. May be dropped at any time.
    pub async fn pump(&mut self) -> std::convert::Infallible {
        loop {
            self.step().await;
        }
    }

    /// Reads once. Waits for ever if both pipes are closed.
    async fn step(&mut self) {
        tokio::select! {
            Some(bytes) = read_pipe(&mut self.stdout, &mut self.stdout_buffer) => {
                self.log.ring().add_bytes(LogSource::Stdout, &self.stdout_buffer[..bytes]);
            }
            Some(bytes) = read_pipe(&mut self.stderr, &mut self.stderr_buffer) => {
                self.log.ring().add_bytes(LogSource::Stderr, &self.stderr_buffer[..bytes]);
            }
            else => std::future::pending().await,
        }
    }

    /// Reads what was written already.
    pub async fn drain(&mut self) {
        let until = self.log.ring().written() + REST_BYTES_MAX;
        while self.log.ring().written() < until {
            // One turn of the runtime, so that what lies in a pipe is known to it.
            let read = tokio::select! {
                biased;
                () = self.step() => true,
                () = tokio::task::yield_now() => false,
            };
            if !read {
                break;
            }
        }
    }

    /// Reads to the end, after the child ended.
    async fn finish(&mut self) {
        let until = self.log.ring().written() + REST_BYTES_MAX;
        while (self.stdout.is_some() || self.stderr.is_some()) && self.log.ring().written() < until
        {
            self.step().await;
        }
        self.log.ring().end_lines();
    }
}

/// `None` if the pipe is closed; closes it at its end.
async fn read_pipe<P: AsyncRead + Unpin>(pipe: &mut Option<P>, buffer: &mut [u8]) -> Option<usize> {
    let read = pipe.as_mut()?.read(buffer).await;
    match read {
        Ok(0) | Err(_) => {
            *pipe = None;
            Some(0)
        }
        Ok(bytes) => Some(bytes),
    }
}

/// The memory of a process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What is its own: pages of files are not.
    pub used: u64,
    /// The most that it had in memory at once.
    pub peak: u64,
}

impl Memory {
    /// `None` if the process ended.
    fn of(id: u32) -> Option<Self> {
        // Made by the kernel from counters: it does not wait for anything.
        Self::parse(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
            Some(kib * KIB)
        };
        Some(Self {
            used: bytes("RssAnon:")? + bytes("RssShmem:")?,
            peak: bytes("VmHWM:")?,
        })
    }
}

/// The memory of a child, while it lives and after.
#[derive(Clone, Debug)]
pub struct Watch {
    id: u32,
    peak: Arc<AtomicU64>,
}

impl Watch {
    /// The most that was seen; `None` if it was not seen.
    pub fn peak(&self) -> Option<u64> {
        self.look();
        Some(self.peak.load(Ordering::Relaxed)).filter(|peak| *peak > 0)
    }

    fn look(&self) -> Option<Memory> {
        let memory = Memory::of(self.id)?;
        self.peak.fetch_max(memory.peak, Ordering::Relaxed);
        Some(memory)
    }

    /// Returns when the child has more than this in memory.
    pub async fn exceeds(&self, limit: u64) {
        let mut ticks = tokio::time::interval(MEMORY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.look().is_some_and(|memory| memory.used > limit) {
                return;
            }
        }
    }
}

/// A child that was started.
#[derive(Debug)]
pub struct Process {
    child: tokio::process::Child,
    id: u32,
    pub output: Output,
    home: Option<Home>,
    watch: Watch,
    /// Keeps the thread that the child must not outlive.
    _launcher: Launcher,
}

impl Process {
    /// Starts it. Returns the worker's end of the connection.
    ///
    /// # Errors
    /// No process, descriptor or thread is to be had.
    pub async fn start(
        launcher: &Launcher,
        home: Home,
        user: Option<u32>,
        log: &Log,
    ) -> std::io::Result<(Self, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let mut child = launcher.start(theirs.into(), user).await?;
        let id = child.id().unwrap_or_default();
        let output = Output {
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            stdout_buffer: vec![0; PIPE_BYTES],
            stderr_buffer: vec![0; PIPE_BYTES],
            log: log.clone(),
        };
        let process = Self {
            child,
            id,
            output,
            home: Some(home),
            watch: Watch {
                id,
                peak: Arc::default(),
            },
            _launcher: launcher.clone(),
        };
        Ok((process, ours))
    }

    /// Looks at its memory.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Waits for an end that is near, and reads the last output. `None`: it did not end, and was
    /// killed.
    pub async fn end(&mut self) -> Option<Exit> {
        let ended = tokio::time::timeout(END_TIMEOUT, self.child.wait()).await;
        let exit = match ended {
            Ok(Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => Some(Exit::Code(code)),
                (None, signal) => signal.map(Exit::Signal),
            },
            Ok(Err(_)) | Err(_) => None,
        };
        if exit.is_none() {
            self.kill().await;
        }
        let _ = tokio::time::timeout(END_TIMEOUT, self.output.finish()).await;
        exit
    }

    /// Kills it, and all that it may have started.
    pub async fn kill(&mut self) {
        self.signal(Signal::Kill);
        let _ = self.child.kill().await;
        let _ = tokio::time::timeout(END_TIMEOUT, self.output.finish()).await;
    }

    /// Its threads do nothing until [`resume()`](Self::resume): not even what the user's code left
    /// running after a call.
    pub fn pause(&self) {
        self.signal(Signal::Stop);
    }

    pub fn resume(&self) {
        self.signal(Signal::Cont);
    }

    /// To it and all that it may have started, and only while its number is its own.
    fn signal(&self, signal: Signal) {
        if self.child.id().is_some()
            && let Some(id) = i32::try_from(self.id).ok().and_then(Pid::from_raw)
        {
            // The group is there from the moment when the child has a session.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::Kill);
        let _ = self.child.start_kill();
        let Some(home) = self.home.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || home.remove())),
            Err(_) => home.remove(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_a_process_has_for_itself() {
        let status = "Name:\tpython\nVmHWM:\t  2048 kB\nRssAnon:\t 1000 kB\nRssFile:\t 5 kB\n\
                      RssShmem:\t 24 kB\n";
        let expected = Memory {
            used: 1_024 * KIB,
            peak: 2_048 * KIB,
        };
        assert_eq!(Memory::parse(status), Some(expected));
        assert_eq!(Memory::parse("Name:\tzombie\n"), None);
        assert!(Memory::of(std::process::id()).unwrap().used > 0);
    }
}
