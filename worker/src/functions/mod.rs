//! Whether and how this worker runs functions of jobs.
//!
//! Owns: the permission, the code and environments on this machine, which process serves a call.
//! Does not own: the process itself ([`crate::function`]), when it is called
//! ([`crate::pipeline::output`]).
//! Rule: off unless the worker was started with it; code runs only as it was stored at submit.

mod code;
mod environment;
mod environment_error;
mod error;
mod flags;
mod learn;
mod lines;
mod pinned;
mod published;
mod steps;
mod wheels;

pub use error::FunctionsError;
pub use flags::FunctionFlags;
pub use learn::{HereLearner, learn_action};
pub use lines::log_lines;
pub use published::published_action;

use crate::function::credentials::FunctionRole;
use crate::function::{
    self as process, ChildSettings, Code, Launcher, Layers, Limits, Module, RemoteSettings, Runner,
};
use environment::{Environments, Wanted};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::function::store;
use streamctl_engine::security::Dialer;
use streamctl_engine::security::dial::DialerFiles;
use streamctl_engine::storage::Storages;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::spec::{FunctionPlace, FunctionSpec};
use streamctl_proto::{JobSpec, ResolvedJob};

/// The runner: Python that reads calls and calls the function.
const RUNNER: &str = include_str!("../../../python/streamctl/_runner.py");

/// How functions run on a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interpreter of functions without requirements, and of their environments.
    pub python: PathBuf,
    /// Reads the locks of functions.
    pub uv: PathBuf,
    /// Where code and environments are kept; `None`: a private folder that ends with the process.
    pub folder: Option<PathBuf>,
    /// Where packages are taken from instead of an index, unless a job names its own folder.
    pub wheels: Option<PathBuf>,
    /// Trust and token for function servers: they are no part of the cluster.
    pub servers: DialerFiles,
    /// Whether functions are refused where a promise of the sandbox is not kept.
    pub require_sandbox: bool,
}

/// Functions of one task that are kept: a task has two windows in work, and further ones only while
/// they are older than these.
const SLOTS_PER_TASK: usize = 3;
/// Time to connect to a function server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads of each of a package's thread pools: the compute threads of a worker are busy already.
const PACKAGE_THREADS: u32 = 1;

/// Whether this worker runs functions; clones share what was made for them.
#[derive(Clone, Default)]
pub struct Functions {
    allowed: Option<Arc<Allowed>>,
    /// Code that need not be stored: that of a preview.
    given: Option<FunctionCode>,
    /// Takes the place of every function.
    #[cfg(any(test, feature = "test-util"))]
    fake: Option<Arc<dyn process::fake::Script>>,
}

struct Allowed {
    settings: Settings,
    folder: PathBuf,
    environments: Environments,
    launcher: Launcher,
    /// Connects to function servers; not the worker's own, which has its token.
    servers: Dialer,
    published: published::Pools,
    /// Removes the folder with the process.
    _private: Option<tempfile::TempDir>,
}

impl Functions {
    /// A worker that runs functions.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn allowed(settings: Settings) -> std::io::Result<Self> {
        let private = match &settings.folder {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("streamctl-").tempdir()?),
        };
        let folder = match (&settings.folder, &private) {
            (Some(folder), _) => folder.clone(),
            (None, Some(private)) => private.path().to_owned(),
            (None, None) => unreachable!("one of them is there"),
        };
        let folder = code::own_folder(&folder)?;
        // Folders of processes whose worker was killed.
        process::sweep(&folder);
        let launcher = Launcher::own_program()?;
        let environments = Environments::new(&settings, &folder);
        let servers = Dialer::new(settings.servers.clone()).map_err(std::io::Error::other)?;
        let allowed = Some(Arc::new(Allowed {
            settings,
            folder,
            environments,
            launcher,
            servers,
            published: published::Pools::default(),
            _private: private,
        }));
        Ok(Self {
            allowed,
            ..Self::default()
        })
    }

    /// A worker whose functions are all played by this script.
    #[cfg(any(test, feature = "test-util"))]
    pub fn faked(script: Arc<dyn process::fake::Script>) -> Self {
        Self {
            fake: Some(script),
            ..Self::default()
        }
    }

    /// Whether functions run here.
    fn is_allowed(&self) -> bool {
        #[cfg(any(test, feature = "test-util"))]
        if self.fake.is_some() {
            return true;
        }
        self.allowed.is_some()
    }

    /// The same, with code that need not be stored.
    pub fn with_code(self, code: Option<FunctionCode>) -> Self {
        Self {
            given: code,
            ..self
        }
    }

    /// Whether this worker can run the job: it has no function, or functions run here.
    pub fn can_run(&self, job: &ResolvedJob) -> bool {
        job.spec.function.is_none() || self.is_allowed()
    }

    /// The processes of the function of a stored job; `None` if the job has none.
    ///
    /// # Errors
    /// [`FunctionsError`]
    pub async fn pool_of(
        &self,
        storages: &Storages,
        job: &ResolvedJob,
    ) -> Result<Option<Arc<process::FunctionPool>>, FunctionsError> {
        let Some(function) = &job.spec.function else {
            return Ok(None);
        };
        if !self.is_allowed() {
            return Err(FunctionsError::NotAllowed);
        }
        let code = match &job.function_code {
            Some(digest) => match &self.given {
                Some(code) if code.digest() == *digest => Some(code.clone()),
                _ => Some(store::read(storages, &job.spec, digest).await?),
            },
            None => None,
        };
        let pool = self.pool(storages, &job.spec, function, code.as_ref());
        Ok(Some(Arc::new(pool.await?)))
    }

    /// The processes of a function with this code.
    async fn pool(
        &self,
        storages: &Storages,
        spec: &JobSpec,
        function: &FunctionSpec,
        code: Option<&FunctionCode>,
    ) -> Result<process::FunctionPool, FunctionsError> {
        let limits = Limits {
            timeout: function.timeout,
            memory_bytes: function.memory_bytes,
            network: function.network,
        };
        #[cfg(any(test, feature = "test-util"))]
        if let Some(script) = &self.fake {
            let runner = Runner::Fake(Arc::clone(script));
            let job = spec.name.clone();
            let slots = SLOTS_PER_TASK;
            return Ok(process::FunctionPool::new(
                runner,
                no_code(function),
                limits,
                job,
                slots,
            ));
        }
        let Some(allowed) = &self.allowed else {
            return Err(FunctionsError::NotAllowed);
        };
        let (runner, code) = match &function.place {
            FunctionPlace::Url(url) => {
                let runner = Runner::Remote(RemoteSettings {
                    url: url.clone(),
                    dialer: allowed.servers.clone(),
                    connect_timeout: CONNECT_TIMEOUT,
                });
                (runner, no_code(function))
            }
            FunctionPlace::File(path) => {
                allowed
                    .child(storages, function, Module::File(path.clone()), code)
                    .await?
            }
            FunctionPlace::Module(name) => {
                allowed
                    .child(storages, function, Module::Module(name.clone()), code)
                    .await?
            }
        };
        let job = spec.name.clone();
        Ok(process::FunctionPool::new(
            runner,
            code,
            limits,
            job,
            SLOTS_PER_TASK,
        ))
    }
}

/// A function whose code is elsewhere.
fn no_code(function: &FunctionSpec) -> Code {
    Code {
        folder: PathBuf::new(),
        module: Module::Module(String::new()),
        name: function.name.clone(),
        frame: function.frame,
        on_published: None,
    }
}

impl Allowed {
    /// A function in a child of this process.
    async fn child(
        &self,
        storages: &Storages,
        function: &FunctionSpec,
        module: Module,
        code: Option<&FunctionCode>,
    ) -> Result<(Runner, Code), FunctionsError> {
        let code = code.ok_or(FunctionsError::NoCode)?;
        let folder = code::lay_out(&self.folder, code).await?;
        let environment = match &function.requirements {
            None => None,
            Some(requirements) => {
                let is_there = |name: &String| code.get(name).is_some();
                if !requirements.files().iter().all(is_there) {
                    return Err(FunctionsError::NoCode);
                }
                let wanted = Wanted {
                    requirements,
                    code,
                    code_folder: &folder,
                    wheels: function.wheels.as_ref(),
                    storages,
                };
                Some(self.environments.folder_for(wanted).await?)
            }
        };
        let runner = Runner::Child(ChildSettings {
            launcher: self.launcher.clone(),
            python: self.settings.python.clone(),
            environment,
            runner: RUNNER,
            scratch: self.folder.clone(),
            role: function.credentials.as_ref().map(|role| {
                FunctionRole::new(storages.aws().clone(), role.clone(), function.timeout)
            }),
            extra_env: BTreeMap::new(),
            threads: PACKAGE_THREADS,
            layers: Layers::default(),
            require: self.settings.require_sandbox,
        });
        let code = Code {
            folder,
            module,
            name: function.name.clone(),
            frame: function.frame,
            on_published: function.on_published.clone(),
        };
        Ok((runner, code))
    }
}
