//! The command line: `streamctl`.
//!
//! Owns: the arguments, the output, exit codes. Does not own: logic that a program could not call
//! over gRPC. Rule: data goes to standard output, everything else to standard error, both through
//! [`output`] only.

pub mod args;
pub mod client;
pub mod context;
pub mod demo;
pub mod embed;
pub mod error;
pub mod function_code;
pub mod functions;
pub mod import;
pub mod local;
pub mod output;
#[cfg(test)]
mod pages;
pub mod progress;
pub mod top;
pub mod verbs;
pub mod views;

use args::{CatalogVerb, Cli, Verb};
use client::Controller;
use context::Environment;
use error::CliError;
use local::Listener;
use output::Output;

/// Runs the command.
pub async fn run(cli: Cli, environment: &Environment, out: &mut Output) -> Result<(), CliError> {
    let controller = cli.controller.as_deref();
    let context = cli.context.as_deref();
    let files = &cli.files;
    let flags = verbs::context::Flags {
        controller,
        context,
        files,
    };
    let controller = || {
        let chosen = context::choose(flags.controller, flags.context, environment)?
            .context
            .with(files);
        Ok::<_, CliError>(Controller::new(&chosen.controller)?.through(chosen.dialer()?))
    };
    match cli.verb {
        Verb::Run(args) => {
            let (door, dashboard) = embed::open_dashboard(args.http_listen, args.insecure).await?;
            let runner =
                async |job, listener: &mut Listener<'_>| embed::run_here(door, job, listener).await;
            verbs::run::run(&args, &dashboard, runner, out).await
        }
        Verb::Demo(args) => {
            let (door, dashboard) = embed::open_dashboard(args.http_listen, args.insecure).await?;
            let runner =
                async |job, listener: &mut Listener<'_>| embed::run_here(door, job, listener).await;
            verbs::demo::run(&args, &dashboard, runner, out).await
        }
        Verb::Submit(args) => verbs::submit::run(&args, &controller()?, out).await,
        Verb::Diff(args) if args.local => {
            verbs::diff::run_local(&args, embed::diff_here, out).await
        }
        Verb::Diff(args) => verbs::diff::run(&args, &controller()?, out).await,
        Verb::Validate(args) => verbs::validate::run(&args, out),
        Verb::Import(verb) => verbs::import::run(&verb, &embed::world().aws, out).await,
        Verb::Catalog(CatalogVerb::Show(args)) => {
            verbs::catalog::show(&args, &embed::world().aws, out).await
        }
        Verb::Status(args) => verbs::status::run(&args, &controller()?, out).await,
        Verb::Top(args) => verbs::top::run(&args, &controller()?, out).await,
        Verb::List(args) => verbs::list::run(&args, &controller()?, out).await,
        Verb::Explain(args) => verbs::explain::run(&args, embed::world(), out).await,
        Verb::Preview(args) => verbs::preview::run(&args, embed::world(), out).await,
        Verb::Stop(args) => verbs::stop::run(&args, &controller()?, out).await,
        Verb::Delete(args) => verbs::delete::run(&args, &controller()?, out).await,
        Verb::Repair(args) if args.local.is_some() => {
            verbs::repair::run_local(&args, embed::repair_here, out).await
        }
        Verb::Repair(args) => verbs::repair::run(&args, &controller()?, out).await,
        Verb::Epochs(args) => verbs::epochs::run(&args, &controller()?, out).await,
        Verb::DeadLetters(args) => verbs::dead_letters::run(&args, &controller()?, out).await,
        Verb::Workers => verbs::workers::run(&controller()?, out).await,
        Verb::Scaling(args) => verbs::scaling::run(&args, &controller()?, out).await,
        Verb::Tail(args) => verbs::tail::run(&args, &controller()?, out).await,
        Verb::Verify(args) if args.local.is_some() => {
            verbs::verify::run_local(&args, embed::verify_here, out).await
        }
        Verb::Verify(args) => verbs::verify::run(&args, &controller()?, out).await,
        Verb::Context(verb) => verbs::context::run(&verb, flags, environment, out),
        Verb::Token(verb) => verbs::token::run(&verb, out),
        Verb::Completions(args) => verbs::completions::run(&args, out),
        Verb::Man(args) => verbs::completions::man(&args, out),
    }
}
