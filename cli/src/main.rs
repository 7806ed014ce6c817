//! Entry point of `streamctl`: reads the command line, runs it, and ends with its exit code.

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use streamctl::args::Cli;
use streamctl::output::Output;
use streamctl_engine::process::log_to_stderr;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(false, "warn");
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut out = Output::standard(cli.output, !plain && std::io::stderr().is_terminal());
    match streamctl::run(cli, &mut out).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
