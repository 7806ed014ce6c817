//! `streamctl dead-letters --replay`: dead letters through the job again.

use crate::args::DeadLettersArgs;
use crate::client::Controller;
use crate::error::CliError;
use crate::output::Output;

/// Asks for it.
pub async fn run(_args: &DeadLettersArgs, _controller: &Controller, _out: &mut Output) -> Result<(), CliError> {
    Err(CliError::Usage { message: "not yet".into(), hint: String::new() })
}
