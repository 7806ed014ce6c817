//! Entry point of `streamctl`: reads the command line, runs it, and ends with its exit code.

use clap::Parser;
use std::process::ExitCode;
use streamctl::args::Cli;
use streamctl::context::Environment;
use streamctl::output::{Output, OutputOptions};
use streamctl_engine::process::log_to_stderr;

fn main() -> ExitCode {
    // Before there are threads.
    streamctl::local::child_main_if_asked();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let cli = Cli::parse();
    // If the AWS clients fail, the reason is in the error; their intermediate warnings are not
    // worth a log line.
    log_to_stderr(false, "warn,aws_config=error,aws_runtime=error");
    let environment = Environment::read(|name| std::env::var_os(name));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut out = Output::standard(OutputOptions {
        format: cli.output,
        color: cli.color,
        no_color,
        quiet: cli.quiet,
    });
    match streamctl::run(cli, &environment, &mut out).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
