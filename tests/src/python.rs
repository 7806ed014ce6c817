//! Scripts in `tests/support/py/`: clients of the servers and independent readers of the output.
//!
//! Owns: running one, its result (one JSON value on stdout). Does not own: the requests.
//! Rule: a script that ends with an error fails the test with the script's own output.

use crate::places::{servers_folder, support};
use crate::process::{Launch, Process};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a script to its end.
#[derive(Clone, Debug)]
pub struct Python {
    env: Vec<(String, String)>,
}

impl Python {
    /// Scripts see this environment ([`crate::Servers::env`]) besides PATH and HOME.
    pub fn new(mut env: Vec<(String, String)>) -> Self {
        // Nothing is written into the checkout.
        env.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
        Self { env }
    }

    /// The JSON that the script prints; panics if it ends with an error.
    #[track_caller]
    pub fn ask(&self, script: &str, args: &[&str]) -> Value {
        self.try_ask(script, args)
            .unwrap_or_else(|words| panic!("{script} {args:?}: {words}"))
    }

    /// The JSON that the script prints, or its output if it ended with an error.
    pub fn try_ask(&self, script: &str, args: &[&str]) -> Result<Value, String> {
        self.answer(interpreter(), script, args)
    }

    fn answer(&self, interpreter: PathBuf, script: &str, args: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(interpreter);
        command
            .arg(script_path(script))
            .args(args)
            .stdin(Stdio::null());
        command
            .env_clear()
            .envs(crate::places::inherited())
            .envs(self.env.iter().cloned());
        let output = command.output().map_err(|error| error.to_string())?;
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{}\n{err}", output.status));
        }
        serde_json::from_str(&out).map_err(|error| format!("{error} in its answer {out:?}\n{err}"))
    }

    /// Like [`Self::try_ask`], with the interpreter of another environment below the servers'
    /// folder.
    pub fn try_ask_in(
        &self,
        environment: &str,
        script: &str,
        args: &[&str],
    ) -> Result<Value, String> {
        self.answer(interpreter_of(environment), script, args)
    }

    /// Starts a script that runs beside the test; its output goes to `<name>.log`.
    pub fn start(&self, name: &str, script: &str, args: &[&str], logs: &Path) -> Process {
        let path = script_path(script);
        let mut all = vec![path.to_str().expect("the checkout's path is text")];
        all.extend(args);
        Launch::new(name, interpreter(), &all, logs)
            .env(self.env.iter().cloned())
            .start()
    }
}

fn interpreter() -> PathBuf {
    interpreter_of("reader")
}

fn interpreter_of(environment: &str) -> PathBuf {
    let path = servers_folder().join(environment).join("bin/python");
    assert!(
        path.exists(),
        "{} is missing: `make test` installs it, or `make bench`",
        path.display()
    );
    path
}

fn script_path(script: &str) -> PathBuf {
    support("py").join(script)
}
