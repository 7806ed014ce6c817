//! Python environments of functions with requirements.
//!
//! Owns: making one per file of requirements, once. Does not own: the interpreter it is made of.
//! Rule: only wheels whose hashes are pinned are installed: no code of a package runs outside the
//! sandbox.

use super::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::manifest::sha256_hex;
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

/// How long making an environment may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// Last characters of an installer's output that an error shows.
const OUTPUT_CHARS_MAX: usize = 2_000;
/// Written last, so that an environment with it is complete.
const COMPLETE: &str = ".streamctl-complete";

/// An environment cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    #[error(
        "function.requirements: {0:?} has no hash: what is installed would not be what was submitted"
    )]
    NoHash(String),
    #[error("function.requirements: {0:?} is not a package pinned with `==`")]
    NotPinned(String),
    #[error("{program} cannot be started: {reason}")]
    Start { program: String, reason: String },
    #[error("{step} failed: {output}")]
    Step { step: &'static str, output: String },
    #[error("{step} took longer than {INSTALL_TIMEOUT:?}")]
    Timeout { step: &'static str },
    #[error("the environment of the function cannot be written: {0}")]
    Folder(String),
}

impl EnvironmentError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHash(_) | Self::NotPinned(_) => {
                "write the file with: uv pip compile --generate-hashes requirements.in -o requirements.txt"
                    .to_owned()
            }
            Self::Start { .. } => {
                "install Python 3.10 or later with venv on the workers, or name it with --function-python"
                    .to_owned()
            }
            Self::Step { .. } | Self::Timeout { .. } => {
                "give the workers a package index that they reach (PIP_INDEX_URL), or a folder of wheels: --function-wheels"
                    .to_owned()
            }
            Self::Folder(_) => {
                "give the worker a folder that it may write to: --function-folder".to_owned()
            }
        }
    }
}

/// The environments of a worker, by their requirements.
pub(super) struct Environments {
    python: PathBuf,
    wheels: Option<PathBuf>,
    folder: PathBuf,
    made: Mutex<BTreeMap<String, Arc<OnceCell<PathBuf>>>>,
}

impl Environments {
    pub(super) fn new(settings: &Settings, folder: &Path) -> Self {
        Self {
            python: settings.python.clone(),
            wheels: settings.wheels.clone(),
            folder: folder.to_owned(),
            made: Mutex::default(),
        }
    }

    /// The folder of the environment with these requirements. The first caller makes it, the others
    /// wait.
    pub(super) async fn folder_for(
        &self,
        requirements: &[u8],
    ) -> Result<PathBuf, EnvironmentError> {
        check(&String::from_utf8_lossy(requirements))?;
        let name = sha256_hex(&[requirements, self.python.as_os_str().as_encoded_bytes()].concat());
        let cell = Arc::clone(self.made.lock().await.entry(name.clone()).or_default());
        let made = cell
            .get_or_try_init(|| self.make(&name, requirements))
            .await?;
        Ok(made.clone())
    }

    async fn make(&self, name: &str, requirements: &[u8]) -> Result<PathBuf, EnvironmentError> {
        let folder = self.folder.join(format!("environment-{name}"));
        let python = folder.join("bin/python");
        if folder.join(COMPLETE).exists() {
            return Ok(folder);
        }
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
        let file = folder.join("requirements.txt");
        tokio::fs::write(&file, requirements)
            .await
            .map_err(failed)?;
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
        if let Some(wheels) = &self.wheels {
            pip.arg("--no-index").arg("--find-links").arg(wheels);
        }
        pip.arg("-r").arg(&file);
        run("installing the packages of a function", pip).await?;
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

/// Every package is pinned, with hashes: the file alone decides what is installed.
fn check(requirements: &str) -> Result<(), EnvironmentError> {
    let joined = requirements.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_whitespace().next().unwrap_or(line).to_owned();
        if line.starts_with('-') || !name.contains("==") {
            return Err(EnvironmentError::NotPinned(name));
        }
        if !line.contains("--hash=sha256:") {
            return Err(EnvironmentError::NoHash(name));
        }
    }
    Ok(())
}

/// Returns what it prints.
async fn run(step: &'static str, mut command: Command) -> Result<String, EnvironmentError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let start = |error: std::io::Error| EnvironmentError::Start {
        program,
        reason: error.to_string(),
    };
    let output = tokio::time::timeout(INSTALL_TIMEOUT, command.output())
        .await
        .map_err(|_| EnvironmentError::Timeout { step })?
        .map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(EnvironmentError::Step {
        step,
        output: last_of(&output),
    })
}

fn last_of(output: &Output) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(OUTPUT_CHARS_MAX);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pinned_packages_with_hashes_are_installed() {
        let good = "# made by uv\nnumpy==2.0.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n\nsix==1.0 --hash=sha256:cc  # via x\n";
        assert_eq!(check(good), Ok(()));
        for (text, expected) in [
            (
                "numpy==2.0.0",
                EnvironmentError::NoHash("numpy==2.0.0".into()),
            ),
            (
                "numpy --hash=sha256:aa",
                EnvironmentError::NotPinned("numpy".into()),
            ),
            ("-r other.txt", EnvironmentError::NotPinned("-r".into())),
            (
                "--index-url=http://x/",
                EnvironmentError::NotPinned("--index-url=http://x/".into()),
            ),
            (
                "./local --hash=sha256:aa",
                EnvironmentError::NotPinned("./local".into()),
            ),
        ] {
            assert_eq!(check(text), Err(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn an_interpreter_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            python: "/no/such/python3".into(),
            folder: None,
            wheels: None,
            require_sandbox: true,
        };
        let environments = Environments::new(&settings, folder.path());
        let error = environments.folder_for(b"").await.unwrap_err();
        assert!(
            matches!(&error, EnvironmentError::Start { program, .. } if program == "/no/such/python3"),
            "{error}"
        );
    }
}
