//! Python environments of functions with requirements.
//!
//! Owns: making one per file of requirements, once. Does not own: the interpreter it is made of,
//! what the file comes to (`pinned`).
//! Rule: only wheels whose hashes are pinned are installed: no code of a package runs outside the
//! sandbox.

use super::Settings;
use super::environment_error::EnvironmentError;
use super::pinned::{packages, pinned};
use super::steps::run;
use super::wheels;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streamctl_engine::storage::Storages;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::manifest::sha256_hex;
use streamctl_proto::spec::{Location, Requirements};
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

/// Written last, so that an environment with it is complete.
const COMPLETE: &str = ".streamctl-complete";

/// What an environment is made of.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub requirements: &'a Requirements,
    pub code: &'a FunctionCode,
    /// The code on this machine.
    pub code_folder: &'a Path,
    /// The folder with the wheels; `None`: that of the worker, else its package index.
    pub wheels: Option<&'a Location>,
    pub storages: &'a Storages,
}

impl Wanted<'_> {
    /// Names the environment: whatever it is made by, the pinned hashes decide what is in it.
    fn digest(&self, python: &Path) -> String {
        let mut all = python.as_os_str().as_encoded_bytes().to_vec();
        for name in self.requirements.files() {
            let bytes = self.code.get(&name).unwrap_or_default();
            all.extend_from_slice(sha256_hex(name.as_bytes()).as_bytes());
            all.extend_from_slice(sha256_hex(bytes).as_bytes());
        }
        sha256_hex(&all)
    }
}

/// The environments of a worker, by their requirements.
pub(super) struct Environments {
    python: PathBuf,
    uv: PathBuf,
    wheels: Option<PathBuf>,
    folder: PathBuf,
    made: Mutex<BTreeMap<String, Arc<OnceCell<PathBuf>>>>,
}

impl Environments {
    pub(super) fn new(settings: &Settings, folder: &Path) -> Self {
        Self {
            python: settings.python.clone(),
            uv: settings.uv.clone(),
            wheels: settings.wheels.clone(),
            folder: folder.to_owned(),
            made: Mutex::default(),
        }
    }

    /// The folder of the environment with these requirements. The first caller makes it, the others
    /// wait.
    pub(super) async fn folder_for(&self, wanted: Wanted<'_>) -> Result<PathBuf, EnvironmentError> {
        let name = wanted.digest(&self.python);
        let cell = Arc::clone(self.made.lock().await.entry(name.clone()).or_default());
        let made = cell.get_or_try_init(|| self.make(&name, wanted)).await?;
        Ok(made.clone())
    }

    async fn make(&self, name: &str, wanted: Wanted<'_>) -> Result<PathBuf, EnvironmentError> {
        let folder = self.folder.join(format!("environment-{name}"));
        let python = folder.join("bin/python");
        if folder.join(COMPLETE).exists() {
            return Ok(folder);
        }
        let requirements = wanted.requirements;
        let code_folder = wanted.code_folder;
        let pinned = pinned(
            requirements,
            wanted.code,
            code_folder,
            &self.uv,
            &self.python,
        )
        .await?;
        let packages = packages(&pinned)?;
        let failed = |error: std::io::Error| EnvironmentError::Folder(error.to_string());
        if folder.exists() {
            // An earlier process was ended while it made it.
            tokio::fs::remove_dir_all(&folder).await.map_err(failed)?;
        }
        tracing::info!(folder = %folder.display(), "making the environment of a function");
        let mut venv = Command::new(&self.python);
        venv.args(["-m", "venv", "--system-site-packages"])
            .arg(&folder);
        run("making a Python environment", venv).await?;
        self.share_packages(&python).await?;
        let fetched = folder.join("wheels");
        let wheels = match wanted.wheels {
            Some(from) if from.bucket_and_prefix().is_none() => Some(PathBuf::from(from.as_str())),
            Some(from) => {
                wheels::fetch(wanted.storages, from, &packages, &fetched).await?;
                Some(fetched.clone())
            }
            None => self.wheels.clone(),
        };
        let file = folder.join("requirements.txt");
        tokio::fs::write(&file, pinned).await.map_err(failed)?;
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]);
        pip.args(["--require-hashes", "--only-binary", ":all:", "--no-deps"]);
        // What the worker's Python has in this version was made of other bytes, perhaps.
        pip.arg("--ignore-installed");
        if let Some(wheels) = &wheels {
            pip.arg("--no-index").arg("--find-links").arg(wheels);
        }
        pip.arg("-r").arg(&file);
        run("installing the packages of a function", pip).await?;
        if fetched.is_dir() {
            tokio::fs::remove_dir_all(&fetched).await.map_err(failed)?;
        }
        tokio::fs::write(folder.join(COMPLETE), b"")
            .await
            .map_err(failed)?;
        Ok(folder)
    }

    /// Has an environment see the packages of the worker's Python, which may be an environment itself.
    async fn share_packages(&self, python: &Path) -> Result<(), EnvironmentError> {
        const STEP: &str = "finding the packages of Python";
        let packages = |python: &Path| {
            let mut command = Command::new(python);
            command.args([
                "-c",
                "import sysconfig; print(sysconfig.get_path('purelib'))",
            ]);
            run(STEP, command)
        };
        let shared = packages(&self.python).await?;
        let own = packages(python).await?;
        let file = Path::new(own.trim()).join("streamctl-worker.pth");
        let written = tokio::fs::write(file, shared.trim()).await;
        written.map_err(|error| EnvironmentError::Folder(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_engine::security::dial::DialerFiles;
    use streamctl_engine::storage::MemoryStorage;

    fn settings(python: &str, uv: &str) -> Settings {
        Settings {
            python: python.into(),
            uv: uv.into(),
            folder: None,
            wheels: None,
            servers: DialerFiles::default(),
            require_sandbox: true,
        }
    }

    /// The error of an environment of these files.
    async fn error_of(settings: Settings, requirements: &str, files: &[&str]) -> EnvironmentError {
        let folder = tempfile::tempdir().unwrap();
        let files = files.iter().map(|name| ((*name).to_owned(), Vec::new()));
        let code = FunctionCode::new(files.collect()).unwrap();
        let environments = Environments::new(&settings, folder.path());
        let wanted = Wanted {
            requirements: &Requirements::new(requirements).unwrap(),
            code: &code,
            code_folder: folder.path(),
            wheels: None,
            storages: &Storages::memory(MemoryStorage::default()),
        };
        environments.folder_for(wanted).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_interpreter_that_is_not_there_is_named() {
        let error = error_of(settings("/no/such/python3", "uv"), "r.txt", &["r.txt"]).await;
        assert!(
            matches!(&error, EnvironmentError::Start { program, .. } if program == "/no/such/python3"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_lock_needs_uv_and_its_absence_has_a_way_out() {
        for (requirements, files) in [
            ("uv.lock", ["pyproject.toml", "uv.lock"]),
            ("t.py", ["t.py", "t.py.lock"]),
        ] {
            let error = error_of(settings("python3", "/no/such/uv"), requirements, &files).await;
            assert!(
                matches!(&error, EnvironmentError::NoUv { program, .. } if program == "/no/such/uv"),
                "{error}"
            );
            assert!(error.hint().contains("--function-uv"), "{}", error.hint());
        }
    }
}
