//! A function in a sandboxed child process.
//!
//! Owns: a child's life from its start to its end, and what its end means. Does not own: the layers
//! of its sandbox ([`super::sandbox`]), how many children there are ([`super::pool`]).
//! Rule: a child that broke any rule is killed, and never called again.

use super::credentials::{FunctionKeys, FunctionRole};
use super::error::{Exit, MemorySign, Phase};
use super::exchange::{Broken, CallLimits, Connection};
use super::frame::{RaisedHead, Ready};
use super::home::Home;
use super::launch::{Launch, Purpose};
use super::log::{Kept, Log, LogLine};
use super::process::{Launcher, Output, Process, Watch};
use super::python::Interpreter;
use super::sandbox::{Allowed, Layers, Protection};
use super::{Call, Code, Function, FunctionError, Input, Limits, Outcome, Published, sandbox};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use streamctl_proto::JobName;

/// Time in which Python must have started and imported the code.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time in which a child must end after its connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A process that ended with this share of its limit in use, in percent, ran out of memory.
const NEAR_LIMIT_PERCENT: u64 = 90;
/// Python's name for a failed allocation; packages derive theirs from it.
const MEMORY_ERROR: &str = "MemoryError";
/// Thread pools that do not count the threads that they may have.
const THREAD_VARIABLES: [&str; 6] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
];

/// How a worker runs functions.
#[derive(Clone, Debug)]
pub struct ChildSettings {
    pub launcher: Launcher,
    /// The interpreter: trusted, and started once outside of the sandbox to learn where it lies.
    pub python: PathBuf,
    /// A virtual environment of this interpreter with the user's packages; else its own, if it has
    /// one.
    pub environment: Option<PathBuf>,
    /// The text of the runner.
    pub runner: &'static str,
    /// Folder for the children's folders.
    pub scratch: PathBuf,
    /// The role whose credentials the function is given.
    pub role: Option<FunctionRole>,
    /// Further variables of the function's environment.
    pub extra_env: BTreeMap<String, String>,
    /// Threads of each of a package's thread pools.
    pub threads: u32,
    pub layers: Layers,
    /// Whether a function is refused if a promise of the sandbox is not kept here.
    pub require: bool,
}

/// A function in a child process of this worker.
#[derive(Debug)]
pub struct Child {
    connection: Connection,
    process: Process,
    log: Log,
    limits: Limits,
    protection: Protection,
    ready: Ready,
    /// Those that it was started with.
    keys: Option<FunctionKeys>,
}

impl Child {
    /// Starts a child and has it import the code.
    ///
    /// # Errors
    /// Python, a part of the protection or the function is missing.
    pub async fn start(
        settings: &ChildSettings,
        code: &Code,
        limits: &Limits,
        job: &JobName,
    ) -> Result<Self, FunctionError> {
        let keys = match &settings.role {
            Some(role) => Some(role.keys().await.map_err(FunctionError::Role)?),
            None => None,
        };
        let purpose = match settings.require {
            true => Purpose::RunProtected,
            false => Purpose::Run,
        };
        let (mut starting, launch) =
            Starting::begin(settings, Some(&code.folder), limits, purpose, keys.as_ref()).await?;
        let (protection, ready) = match starting.run(&launch, code, job).await {
            Ok(started) => started,
            Err(NotOpened::Unprotected(error)) => return Err(error),
            Err(NotOpened::Broken(broken)) => {
                return Err(starting
                    .end()
                    .explain(broken, Phase::Start, START_TIMEOUT)
                    .await);
            }
        };
        let Starting {
            connection,
            process,
            log,
            ..
        } = starting;
        Ok(Self {
            connection,
            process,
            log,
            limits: limits.clone(),
            protection,
            ready,
            keys,
        })
    }

    /// What holds around every child on this machine. No code of a user runs for it.
    ///
    /// # Errors
    /// Python is missing, or no child can be started.
    pub async fn check(
        settings: &ChildSettings,
        limits: &Limits,
    ) -> Result<Protection, FunctionError> {
        let (mut starting, launch) =
            Starting::begin(settings, None, limits, Purpose::Check, None).await?;
        let reporting = starting.connection.launch(&launch);
        let reported = tokio::time::timeout(START_TIMEOUT, reporting).await;
        match reported.unwrap_or(Err(Broken::TimeLimit)) {
            Ok(protection) => Ok(protection),
            Err(broken) => {
                let end = starting.end();
                Err(end.explain(broken, Phase::Start, START_TIMEOUT).await)
            }
        }
    }

    /// What holds around it.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// What the runner reported about the function.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    fn end(&mut self) -> End<'_> {
        End {
            connection: &mut self.connection,
            process: &mut self.process,
            log: &self.log,
            limits: &self.limits,
        }
    }
}

fn launch(
    settings: &ChildSettings,
    code: Option<&PathBuf>,
    limits: &Limits,
    home: &Home,
    python: Interpreter,
    purpose: Purpose,
    keys: Option<&FunctionKeys>,
) -> Launch {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let environment = settings.environment.as_ref().map(absolute);
    let own = python.environment;
    let environment = environment.or_else(|| own.clone());
    let program = match &environment {
        // The link in it, by which Python finds the environment.
        Some(folder) => folder.join("bin/python"),
        None => python.program,
    };
    let mut folders = python.folders;
    folders.extend(environment);
    // An environment with the user's packages may see those of the worker's.
    folders.extend(own);
    folders.extend(code.map(absolute));
    let home_path = home.path();
    let text = home_path.to_string_lossy().into_owned();
    let fixed = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", &text),
        ("TMPDIR", &text),
        ("LANG", "C.UTF-8"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        // Fewer arenas, less memory that is reserved and not used.
        ("MALLOC_ARENA_MAX", "2"),
    ];
    let threads = settings.threads.max(1).to_string();
    let threads = THREAD_VARIABLES.map(|name| (name, threads.as_str()));
    let variables = fixed.iter().chain(&threads);
    let mut variables: BTreeMap<String, String> = variables
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    variables.extend(settings.extra_env.clone());
    variables.extend(keys.map(FunctionKeys::variables).unwrap_or_default());
    Launch {
        program,
        runner: home.runner(),
        environment: variables,
        allowed: Allowed {
            folders,
            home: home_path,
            root: home.root(),
            memory_bytes: limits.memory_bytes,
            network: limits.network,
            layers: settings.layers,
            has_own_user: false,
            worker: i32::try_from(std::process::id()).unwrap_or_default(),
        },
        purpose,
    }
}

/// Works while the child's output is read and its memory is looked at.
async fn attended<T>(
    output: &mut Output,
    watch: &Watch,
    memory_bytes: u64,
    work: impl Future<Output = Result<T, Broken>>,
) -> Result<T, Broken> {
    tokio::select! {
        done = work => done,
        never = output.pump() => match never {},
        () = watch.exceeds(memory_bytes) => Err(Broken::Memory),
    }
}

/// A child that has not imported its code yet.
struct Starting<'a> {
    connection: Connection,
    process: Process,
    log: Log,
    limits: &'a Limits,
}

enum NotOpened {
    Broken(Broken),
    Unprotected(FunctionError),
}

impl<'a> Starting<'a> {
    /// Starts the process.
    async fn begin(
        settings: &ChildSettings,
        code: Option<&PathBuf>,
        limits: &'a Limits,
        purpose: Purpose,
        keys: Option<&FunctionKeys>,
    ) -> Result<(Self, Launch), FunctionError> {
        let not_started = |step: &str, error: std::io::Error| FunctionError::NotStarted {
            step: step.to_owned(),
            problem: error.to_string(),
            log: vec![],
        };
        let python = settings.launcher.interpreter(&settings.python).await?;
        let scratch = settings.scratch.clone();
        let runner = settings.runner;
        let home = tokio::task::spawn_blocking(move || Home::create(&scratch, runner))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| not_started("folder", error))?;
        let mut launch = launch(settings, code, limits, &home, python, purpose, keys);
        let number = settings.launcher.next_number();
        // A container may forbid that: then it is the worker's user.
        let user =
            sandbox::own_user(&launch.allowed, number).filter(|user| home.give_to(*user).is_ok());
        launch.allowed.has_own_user = user.is_some();
        let log = Log::default();
        let (process, stream) = Process::start(&settings.launcher, home, user, &log)
            .await
            .map_err(|error| not_started("process", error))?;
        let starting = Self {
            connection: Connection::new(stream, log.clone()),
            process,
            log,
            limits,
        };
        Ok((starting, launch))
    }

    async fn run(
        &mut self,
        launch: &Launch,
        code: &Code,
        job: &JobName,
    ) -> Result<(Protection, Ready), NotOpened> {
        let connection = &mut self.connection;
        let network = self.limits.network;
        let work = async {
            let protection = connection.launch(launch).await?;
            let is_protected = protection.missing(network).is_empty();
            if launch.purpose == Purpose::RunProtected && !is_protected {
                return Ok((protection, None));
            }
            let ready = connection.open(code, job).await?;
            Ok((protection, Some(ready)))
        };
        let work = async {
            let opened = tokio::time::timeout(START_TIMEOUT, work).await;
            opened.map_err(|_| Broken::TimeLimit)?
        };
        let watch = self.process.watch();
        let output = &mut self.process.output;
        let opened = attended(output, &watch, self.limits.memory_bytes, work).await;
        match opened.map_err(NotOpened::Broken)? {
            (protection, Some(ready)) => Ok((protection, ready)),
            (protection, None) => Err(NotOpened::Unprotected(FunctionError::NotProtected {
                missing: protection.missing(network),
            })),
        }
    }

    fn end(&mut self) -> End<'_> {
        End {
            connection: &mut self.connection,
            process: &mut self.process,
            log: &self.log,
            limits: self.limits,
        }
    }
}

/// A child whose exchange broke.
struct End<'a> {
    connection: &'a mut Connection,
    process: &'a mut Process,
    log: &'a Log,
    limits: &'a Limits,
}

impl End<'_> {
    /// Kills what cannot be called again, and reports what happened.
    async fn explain(self, broken: Broken, phase: Phase, time_limit: Duration) -> FunctionError {
        // As long as it lives.
        let peak = self.process.watch().peak();
        let exit = match broken {
            Broken::Closed => self.process.end().await,
            Broken::Raised(_) if self.connection.is_usable() => {
                self.process.output.drain().await;
                self.process.pause();
                None
            }
            _ => {
                self.process.kill().await;
                None
            }
        };
        let peak = peak.or(self.process.watch().peak());
        let Kept { lines: log, .. } = self.log.ring().take();
        let limit = self.limits.memory_bytes;
        match broken {
            Broken::Closed => match exit {
                Some(exit) if is_near(peak, limit) && matches!(exit, Exit::Signal(_)) => {
                    let sign = MemorySign::Ended(exit);
                    FunctionError::Memory {
                        limit,
                        peak,
                        sign,
                        log,
                    }
                }
                Some(exit) => FunctionError::Ended { exit, phase, log },
                None => FunctionError::Closed { phase, log },
            },
            Broken::Raised(head) => raised(head, phase, limit, peak, log),
            Broken::NotLaunched { step, problem } => {
                FunctionError::NotStarted { step, problem, log }
            }
            Broken::Protocol(problem) => FunctionError::Protocol { problem, log },
            Broken::TimeLimit => FunctionError::TimeLimit {
                limit: time_limit,
                phase,
                log,
            },
            Broken::Memory => {
                let sign = MemorySign::Exceeded;
                FunctionError::Memory {
                    limit,
                    peak,
                    sign,
                    log,
                }
            }
            Broken::Input(error) => FunctionError::Input(error),
            Broken::InputTooLarge { bytes } => FunctionError::InputTooLarge { bytes, limit },
            Broken::ResultTooLarge { bytes } => FunctionError::ResultTooLarge { bytes, limit },
            Broken::Encode(error) => FunctionError::Encode(error),
            Broken::NoRoom(error) => FunctionError::NoRoom(error),
        }
    }
}

fn is_near(peak: Option<u64>, limit: u64) -> bool {
    peak.is_some_and(|peak| peak >= limit / 100 * NEAR_LIMIT_PERCENT)
}

fn raised(
    head: RaisedHead,
    phase: Phase,
    limit: u64,
    peak: Option<u64>,
    log: Vec<LogLine>,
) -> FunctionError {
    let is_memory = head.kind.ends_with(MEMORY_ERROR);
    let raised = head.into();
    match is_memory {
        true => FunctionError::Memory {
            limit,
            peak,
            sign: MemorySign::Raised(raised),
            log,
        },
        false => FunctionError::Raised { raised, phase, log },
    }
}

#[async_trait]
impl Function for Child {
    async fn call(
        &mut self,
        call: Call,
        schema: SchemaRef,
        input: Input<'_>,
    ) -> Result<Outcome, FunctionError> {
        let limits = CallLimits {
            timeout: self.limits.timeout,
            bytes: self.limits.memory_bytes,
        };
        self.process.resume();
        let watch = self.process.watch();
        let work = self.connection.call(&call, &schema, input, limits);
        let output = &mut self.process.output;
        let (sent, returned, elapsed) = match attended(output, &watch, limits.bytes, work).await {
            Ok(answered) => answered,
            Err(broken) => {
                return Err(self
                    .end()
                    .explain(broken, Phase::Call, limits.timeout)
                    .await);
            }
        };
        self.process.output.drain().await;
        self.process.pause();
        let kept = self.log.ring().take();
        Ok(Outcome {
            result: returned.result,
            result_bytes: returned.result_bytes,
            room: returned.room,
            dead: returned.dead,
            log: kept.lines,
            log_lines_dropped: kept.dropped,
            rows_in: sent.rows,
            bytes_in: sent.bytes,
            elapsed,
            peak_memory: watch.peak(),
        })
    }

    async fn published(&mut self, published: Published) -> Result<Vec<LogLine>, FunctionError> {
        let limit = self.limits.timeout;
        self.process.resume();
        let watch = self.process.watch();
        let work = self.connection.published(&published, limit);
        let output = &mut self.process.output;
        if let Err(broken) = attended(output, &watch, self.limits.memory_bytes, work).await {
            return Err(self.end().explain(broken, Phase::Published, limit).await);
        }
        self.process.output.drain().await;
        self.process.pause();
        Ok(self.log.ring().take().lines)
    }

    fn is_usable(&self) -> bool {
        self.connection.is_usable() && self.keys.as_ref().is_none_or(FunctionKeys::hold)
    }

    async fn close(mut self: Box<Self>) {
        self.process.resume();
        self.connection.close().await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.process.end()).await;
    }
}
