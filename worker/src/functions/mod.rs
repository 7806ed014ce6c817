//! Whether and how this worker runs functions of jobs.
//!
//! Owns: the permission, the code and environments on this machine, which process serves a call.
//! Does not own: the process itself ([`crate::function`]), when it is called
//! ([`crate::pipeline::output`]).
//! Rule: off unless the worker was started with it; code runs only as it was stored at submit.

mod code;
mod environment;
mod error;
mod flags;
mod learn;
mod published;

pub use error::FunctionsError;
pub use flags::FunctionFlags;
pub use learn::{HereLearner, learn_action};
pub use published::published_action;

use crate::function::{
    self as process, ChildSettings, Code, Launcher, Layers, Limits, Module, RemoteSettings, Runner,
};
use environment::Environments;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::function::store;
use streamctl_engine::security::Dialer;
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
    /// Where code and environments are kept; `None`: a private folder that ends with the process.
    pub folder: Option<PathBuf>,
    /// Where packages are taken from instead of an index.
    pub wheels: Option<PathBuf>,
    /// Whether functions are refused where a promise of the sandbox is not kept.
    pub require_sandbox: bool,
}

/// Calls of one task's function at the same time: a task has two windows in work, and one more only
/// if it is older than both.
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
}

struct Allowed {
    settings: Settings,
    folder: PathBuf,
    environments: Environments,
    launcher: Launcher,
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
        let allowed = Some(Arc::new(Allowed {
            settings,
            folder,
            environments,
            launcher,
            published: published::Pools::default(),
            _private: private,
        }));
        Ok(Self {
            allowed,
            given: None,
        })
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
        job.spec.function.is_none() || self.allowed.is_some()
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
        if self.allowed.is_none() {
            return Err(FunctionsError::NotAllowed);
        }
        let code = match &job.function_code {
            Some(digest) => match &self.given {
                Some(code) if code.digest() == *digest => Some(code.clone()),
                _ => Some(store::read(storages, &job.spec, digest).await?),
            },
            None => None,
        };
        let pool = self.pool(&job.spec, function, code.as_ref()).await?;
        Ok(Some(Arc::new(pool)))
    }

    /// The processes of a function with this code.
    async fn pool(
        &self,
        spec: &JobSpec,
        function: &FunctionSpec,
        code: Option<&FunctionCode>,
    ) -> Result<process::FunctionPool, FunctionsError> {
        let Some(allowed) = &self.allowed else {
            return Err(FunctionsError::NotAllowed);
        };
        let limits = Limits {
            timeout: function.timeout,
            memory_bytes: function.memory_bytes,
            network: function.network,
        };
        let (runner, code) = match &function.place {
            FunctionPlace::Url(url) => {
                let runner = Runner::Remote(RemoteSettings {
                    url: url.clone(),
                    // Not the worker's own: a function server is no part of the cluster.
                    dialer: Dialer::default(),
                    connect_timeout: CONNECT_TIMEOUT,
                });
                let code = Code {
                    folder: PathBuf::new(),
                    module: Module::Module(String::new()),
                    name: function.name.clone(),
                    frame: function.frame,
                };
                (runner, code)
            }
            FunctionPlace::File(path) => {
                allowed
                    .child(function, Module::File(path.clone()), code)
                    .await?
            }
            FunctionPlace::Module(name) => {
                allowed
                    .child(function, Module::Module(name.clone()), code)
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

impl Allowed {
    /// A function in a child of this process.
    async fn child(
        &self,
        function: &FunctionSpec,
        module: Module,
        code: Option<&FunctionCode>,
    ) -> Result<(Runner, Code), FunctionsError> {
        let code = code.ok_or(FunctionsError::NoCode)?;
        let folder = code::lay_out(&self.folder, code).await?;
        let environment = match &function.requirements {
            None => None,
            Some(file) => {
                let requirements = code.get(file).ok_or(FunctionsError::NoCode)?;
                Some(self.environments.folder_for(requirements).await?)
            }
        };
        let runner = Runner::Child(ChildSettings {
            launcher: self.launcher.clone(),
            python: self.settings.python.clone(),
            environment,
            runner: RUNNER,
            scratch: self.folder.clone(),
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
        };
        Ok((runner, code))
    }
}
