//! The first life of a child: the worker's own program, before it becomes Python.
//!
//! Owns: the first message, the layers around this process, `exec`. Does not own: the layers
//! themselves ([`super::sandbox`]).
//! Rule: one thread, no runtime, no log. What fails is reported over the connection, before any
//! line of the user has run.

use super::frame::{FrameError, head_bytes, read_blocking};
use super::sandbox::{self, Allowed, Protection};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// First argument of the worker's program that makes it a child.
pub const CHILD_ARGUMENT: &str = "function-child";
/// Exit code of a child that did not become Python.
const NOT_STARTED: i32 = 70;

/// What becomes of the child.
#[derive(Serialize, Deserialize)]
pub struct Launch {
    /// Python.
    pub program: PathBuf,
    pub runner: PathBuf,
    /// All that it has.
    pub environment: BTreeMap<String, String>,
    pub allowed: Allowed,
    pub purpose: Purpose,
}

/// What the child goes on with. Python runs code of the user's packages when it starts, so this is
/// decided before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It becomes Python.
    Run,
    /// The same, if all promises are kept.
    RunProtected,
    /// It ends: what holds is all that was of interest.
    Check,
}

/// What the launcher reports, in the protocol's frames.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Report {
    Launched { protection: Protection },
    NotLaunched { step: &'static str, problem: String },
}

/// Becomes a function's child if the command line has that argument, and does not return then. Call it first in
/// `main`: it needs a process with one thread.
pub fn child_main_if_asked() {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == CHILD_ARGUMENT)
    {
        std::process::exit(become_python());
    }
}

/// Returns the exit code if it does not.
pub(super) fn become_python() -> i32 {
    let Some(mut connection) = connection() else {
        return NOT_STARTED;
    };
    let launch: Launch = match read_blocking(&mut connection) {
        Ok(launch) => launch,
        Err(FrameError::Cut) => return NOT_STARTED,
        Err(error) => return report_failure(&mut connection, "message", error.to_string()),
    };
    // Behind this, only descriptors 0 to 2 are open.
    drop(connection);
    let entered = sandbox::enter(&launch.allowed);
    let Some(mut connection) = self::connection() else {
        return NOT_STARTED;
    };
    let protection = match entered {
        Ok(protection) => protection,
        Err((step, problem)) => return report_failure(&mut connection, step, problem),
    };
    let goes_on = match launch.purpose {
        Purpose::Run => true,
        Purpose::RunProtected => protection.missing(launch.allowed.network).is_empty(),
        Purpose::Check => false,
    };
    if !report(&mut connection, &Report::Launched { protection }) || !goes_on {
        return NOT_STARTED;
    }
    let error = Command::new(&launch.program)
        .args(["-s", "-u", "-B"])
        .arg(&launch.runner)
        .env_clear()
        .envs(&launch.environment)
        .exec();
    let problem = format!("{}: {error}", launch.program.display());
    report_failure(&mut connection, "exec", problem)
}

/// Descriptor 0, for writing and without a buffer.
fn connection() -> Option<UnixStream> {
    let stdin = std::io::stdin();
    stdin
        .as_fd()
        .try_clone_to_owned()
        .ok()
        .map(UnixStream::from)
}

fn report(connection: &mut UnixStream, report: &Report) -> bool {
    head_bytes(report, 0).is_ok_and(|bytes| connection.write_all(&bytes).is_ok())
}

fn report_failure(connection: &mut UnixStream, step: &'static str, problem: String) -> i32 {
    report(connection, &Report::NotLaunched { step, problem });
    NOT_STARTED
}
