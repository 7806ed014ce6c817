//! The command line: `streamctl`.
//!
//! Owns: the arguments, the output, exit codes. Does not own: logic that a program could not call
//! over gRPC. Rule: data goes to standard output, everything else to standard error, both through
//! [`output`] only.

pub mod args;
pub mod client;
pub mod context;
pub mod demo;
pub mod error;
pub mod function_code;
pub mod import;
pub mod local;
pub mod moment;
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
use local::{Listener, embed};
use output::Output;
use verbs::explain::ExplainArgs;

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
        let chosen = context::choose(flags.controller, flags.context, environment)?;
        reached(chosen.context, files)
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
        Verb::Why(args) => verbs::why::run(&args, &controller()?, out).await,
        Verb::Top(args) => verbs::top::run(&args, &controller()?, out).await,
        Verb::List(args) => verbs::list::run(&args, &controller()?, out).await,
        Verb::Explain(ExplainArgs {
            analyze: Some(job), ..
        }) => verbs::explain::analyze::run(&job, &controller()?, out).await,
        Verb::Explain(args) => {
            let file = args.file.unwrap_or_default();
            match looks(args.local, flags, environment, out)? {
                Some(controller) => verbs::explain::run(&file, &controller, out).await,
                None => verbs::explain::run_local(&file, embed::world(), out).await,
            }
        }
        Verb::Preview(args) => match looks(args.local, flags, environment, out)? {
            Some(controller) => verbs::preview::run(&args, &controller, out).await,
            None => verbs::preview::run_local(&args, embed::world(), out).await,
        },
        Verb::Get(args) => verbs::get::run(&args, &controller()?, out).await,
        Verb::Stop(args) => verbs::stop::run(&args, &controller()?, out).await,
        Verb::Delete(args) => verbs::delete::run(&args, &controller()?, out).await,
        Verb::Repair(args) if args.local.is_some() => {
            verbs::repair::run_local(&args, embed::repair_here, out).await
        }
        Verb::Repair(args) => verbs::repair::run(&args, &controller()?, out).await,
        Verb::Epochs(args) => verbs::epochs::run(&args, &controller()?, out).await,
        Verb::Events(args) => verbs::events::run(&args, &controller()?, out).await,
        Verb::DeadLetters(args) => verbs::dead_letters::run(&args, &controller()?, out).await,
        Verb::Workers => verbs::workers::run(&controller()?, out).await,
        Verb::Scaling(args) => verbs::scaling::run(&args, &controller()?, out).await,
        Verb::Tail(args) => verbs::tail::run(&args, &controller()?, out).await,
        Verb::Verify(args) if args.local.is_some() => {
            verbs::verify::run_local(&args, embed::verify_here, out).await
        }
        Verb::Verify(args) => verbs::verify::run(&args, &controller()?, out).await,
        Verb::Cost(args) => verbs::cost::run(&args, out),
        Verb::Context(verb) => verbs::context::run(&verb, flags, environment, out),
        Verb::Token(verb) => verbs::token::run(&verb, out),
        Verb::Completions(args) => verbs::completions::run(&args, out),
        Verb::Man(args) => verbs::completions::man(&args, out),
    }
}

/// The controllers of a context.
fn reached(context: context::Context, files: &context::Files) -> Result<Controller, CliError> {
    let context = context.with(files);
    Ok(Controller::new(&context.controller)?.through(context.dialer()?))
}

/// The controller that looks at a job file before there is a job; `None`: this process does. Notes
/// which one does, unless the command line names it.
fn looks(
    local: bool,
    flags: verbs::context::Flags<'_>,
    environment: &Environment,
    out: &mut Output,
) -> Result<Option<Controller>, CliError> {
    if local {
        return Ok(None);
    }
    let chosen = context::choose(flags.controller, flags.context, environment)?;
    if !chosen.is_given() {
        out.note("note: with this process's own credentials, since no controller is configured (--controller, a context)");
        return Ok(None);
    }
    if !chosen.is_of_this_call() {
        let cluster = chosen.describe();
        out.note(&format!(
            "note: by the cluster at {cluster}; --local does it in this process"
        ));
    }
    reached(chosen.context, flags.files).map(Some)
}
