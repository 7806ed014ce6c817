//! Which Python a child runs, and which folders it needs to see.
//!
//! Rule: the interpreter is the operator's choice and is trusted; it is started once, without any
//! package of the user, to learn where it lies. An environment with the user's packages is started
//! in the sandbox only.

use super::FunctionError;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Time in which Python must report where it lies.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// The oldest Python that the runner works with.
const VERSION_MIN: (u32, u32) = (3, 10);
/// Prints what [`Interpreter`] needs to know.
const PROBE: &str = "import json, os, sys; print(json.dumps({\
    'program': os.path.realpath(sys.executable), \
    'environment': next(filter(lambda folder: os.path.isfile(os.path.join(folder, 'pyvenv.cfg')), \
        [os.path.dirname(os.path.dirname(sys.executable))]), None), \
    'folders': sorted({sys.base_prefix, sys.base_exec_prefix, *filter(os.path.isdir, sys.path)}), \
    'version': list(sys.version_info[:2])}))";

/// A Python that works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interpreter {
    /// The program itself, not a script that selects one.
    pub program: PathBuf,
    /// The virtual environment that it belongs to, with the operator's packages.
    pub environment: Option<PathBuf>,
    /// Its prefixes and its library.
    pub folders: Vec<PathBuf>,
    pub version: (u32, u32),
}

/// Starts this Python once.
///
/// # Errors
/// There is none, or it is too old.
pub async fn find(python: &Path) -> Result<Interpreter, FunctionError> {
    let failed = |problem: String| FunctionError::NoPython {
        python: python.to_owned(),
        problem,
    };
    let mut command = Command::new(python);
    command
        .args(["-I", "-S", "-c", PROBE])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PROBE_TIMEOUT, command.output())
        .await
        .map_err(|_| failed(format!("it does not answer within {PROBE_TIMEOUT:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        return Err(failed(format!("{}: {last}", output.status)));
    }
    let interpreter: Interpreter = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(format!("it does not report where it lies: {error}")))?;
    if interpreter.version < VERSION_MIN {
        let (major, minor) = interpreter.version;
        return Err(failed(format!("it is Python {major}.{minor}")));
    }
    Ok(interpreter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_interpreter_reports_its_program_and_its_folders() {
        let found = find(Path::new("python3")).await.unwrap();
        assert!(found.program.is_absolute() && found.program.is_file());
        let library = |folder: &PathBuf| folder.join("os.py").is_file();
        assert!(found.folders.iter().any(library), "{found:?}");
    }

    #[tokio::test]
    async fn a_python_that_is_missing_or_none_is_named() {
        for python in ["/nonexistent/python3", "/bin/false", "/bin/true"] {
            let error = find(Path::new(python)).await.unwrap_err();
            assert!(error.to_string().contains(python), "{error}");
            assert!(error.hint().contains("3.10"), "{error}");
        }
    }
}
