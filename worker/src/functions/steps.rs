//! Programs that make an environment.
//!
//! Owns: running one, its time limit, what an error shows of it. Does not own: which ones.
//! Rule: each ends within its time, and what it printed is cut.

use super::environment_error::{EnvironmentError, STEP_TIMEOUT};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// Last characters of an installer's output that an error shows.
const OUTPUT_CHARS_MAX: usize = 2_000;

/// Returns what it prints.
pub(super) async fn run(
    step: &'static str,
    mut command: Command,
) -> Result<String, EnvironmentError> {
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
    let output = tokio::time::timeout(STEP_TIMEOUT, command.output())
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
