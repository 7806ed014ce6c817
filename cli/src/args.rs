//! The arguments of the command line.

use crate::context::Files;
use crate::moment::Moment;
use crate::output::Format;
use crate::verbs::context::ContextVerb;
use crate::verbs::cost::CostArgs;
use crate::verbs::dead_letters::args::DeadLettersArgs;
use crate::verbs::delete::DeleteArgs;
use crate::verbs::demo::DemoArgs;
use crate::verbs::diff::DiffArgs;
use crate::verbs::events::EventsArgs;
use crate::verbs::explain::ExplainArgs;
use crate::verbs::get::GetArgs;
use crate::verbs::preview::PreviewArgs;
use crate::verbs::repair::RepairArgs;
use crate::verbs::run::RunArgs;
use crate::verbs::tail::TailArgs;
use crate::verbs::token::TokenVerb;
use crate::verbs::top::TopArgs;
use crate::verbs::why::WhyArgs;
use clap::{ArgAction, Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Every exit code, and what it means.
pub const EXIT_CODES: [(u8, &str); 6] = [
    (0, "success; for verify: proven"),
    (
        1,
        "failure; for verify: a promise is broken; for diff: something would change",
    ),
    (2, "usage error or invalid job file"),
    (3, "no such job, epoch or context"),
    (4, "no controller answers"),
    (5, "could not be checked: neither proven nor broken"),
];

const AFTER_HELP: &str = "Exit codes:
  0 success
  1 failure
  2 usage error or invalid job file
  3 no such job, epoch or context
  4 no controller answers
  5 could not be checked

The controllers are given by the first of: --controller, --context, STREAMCTL_CONTROLLER, STREAMCTL_CONTEXT, the \
                          current context, http://127.0.0.1:7070";

/// Run SQL over windows of a stream and write the results to S3 exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "streamctl",
    version,
    after_help = AFTER_HELP,
    next_help_heading = "Global options",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Cli {
    /// Controller URLs, comma-separated
    #[arg(long, global = true, value_name = "URL")]
    pub controller: Option<String>,
    /// Context to use instead of the current one (see `streamctl context`)
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Output format; json prints one document per response, or one line per row
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// When to color the output; auto colors terminals, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Print only data and errors, without progress and notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    // The flags that clap makes itself have no heading and would come first.
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    pub version: Option<bool>,
    #[command(flatten)]
    pub files: Files,
    #[command(subcommand)]
    pub verb: Verb,
}

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a job locally: controller and worker in one process, without etcd
    Run(RunArgs),
    /// Run the model job on generated data for a few windows and show the results
    Demo(DemoArgs),
    /// Start, resume or change a job from its job file
    Submit(SubmitArgs),
    /// Compare a job file with the submitted job, and check whether the change is allowed
    Diff(DiffArgs),
    /// Check a job file offline
    Validate(ValidateArgs),
    /// Create a job file from an AWS Glue job
    #[command(subcommand)]
    Import(ImportVerb),
    /// Inspect the AWS Glue Data Catalog
    #[command(subcommand)]
    Catalog(CatalogVerb),
    /// Show the state, lag and counts of jobs
    Status(StatusArgs),
    /// Show what a job waits for, stage by stage: since when, and on which service
    Why(WhyArgs),
    /// Monitor jobs, shards and workers in a live terminal view
    Top(TopArgs),
    /// List jobs
    List(ListArgs),
    /// Show a submitted job, or print its job file
    Get(GetArgs),
    /// Show what a job would do: query plan, columns, locations, parallelism
    Explain(ExplainArgs),
    /// Run a job's query on a few records of its source, without writing anything
    Preview(PreviewArgs),
    /// Estimate what a job costs at a load, beside other services
    Cost(CostArgs),
    /// Stop a job; it can be resumed from its position
    Stop(StopArgs),
    /// Delete a stopped job; its output files are kept
    Delete(DeleteArgs),
    /// Repair a job after an old store was restored, or unpublished rows were lost
    Repair(RepairArgs),
    /// List the committed epochs of a job
    Epochs(EpochsArgs),
    /// List what happened to jobs and the cluster
    Events(EventsArgs),
    /// List records that could not be decoded, or replay them
    DeadLetters(DeadLettersArgs),
    /// List workers
    Workers,
    /// Show the desired number of workers and the latest scaling decisions
    Scaling(ScalingArgs),
    /// Print result rows as epochs are published
    Tail(TailArgs),
    /// Verify that every record was written exactly once
    Verify(VerifyArgs),
    /// Manage named clusters (contexts)
    #[command(subcommand)]
    Context(ContextVerb),
    /// Create access tokens for users, programs and workers
    #[command(subcommand)]
    Token(TokenVerb),
    /// Generate shell completions
    Completions(CompletionsArgs),
    /// Generate manual pages
    Man(ManArgs),
}

/// Of `submit`.
#[derive(Args, Debug)]
pub struct SubmitArgs {
    /// Job file
    pub file: PathBuf,
    /// Check everything without starting the job
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the file of an existing job; the new version starts after the last epoch
    #[arg(long)]
    pub change: bool,
    /// Change the job only if it is at this version (see `streamctl diff` or `status`)
    #[arg(long, value_name = "VERSION", requires = "change", value_parser = clap::value_parser!(u64).range(1..))]
    pub if_version: Option<u64>,
}

/// Of `validate`.
#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// Job file
    pub file: PathBuf,
}

/// A kind of source to import from.
#[derive(Debug, Subcommand)]
pub enum ImportVerb {
    /// Import a Glue job: its visual graph, or its script if it has none
    GlueJob(ImportJobArgs),
    /// Import a Glue script; it is parsed, not executed
    GlueScript(ImportScriptArgs),
}

/// Of `import glue-job`.
#[derive(Args, Debug)]
pub struct ImportJobArgs {
    /// Name of the Glue job
    #[arg(required_unless_present = "file")]
    pub name: Option<String>,
    /// Read the output of `aws glue get-job` from FILE instead of calling AWS
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub file: Option<PathBuf>,
    /// AWS region (default: from the environment)
    #[arg(long)]
    pub region: Option<String>,
    #[command(flatten)]
    pub made: ImportArgs,
}

/// Of `import glue-script`.
#[derive(Args, Debug)]
pub struct ImportScriptArgs {
    /// Glue script (Python)
    pub file: PathBuf,
    #[command(flatten)]
    pub made: ImportArgs,
}

/// Of both.
#[derive(Args, Debug, Default)]
pub struct ImportArgs {
    /// Job file to create (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Name of the new job (default: derived from the Glue job or script)
    #[arg(long = "job-name", value_name = "NAME")]
    pub job_name: Option<String>,
    /// Data Catalog table of the stream, if Glue infers its columns
    #[arg(long, value_name = "DATABASE.TABLE")]
    pub catalog: Option<String>,
    /// Argument of the Glue job; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

/// What to show of the catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogVerb {
    /// Show the columns of a table and the stream it describes
    Show(CatalogShowArgs),
}

/// Of `catalog show`.
#[derive(Args, Debug)]
pub struct CatalogShowArgs {
    /// Catalog table
    #[arg(value_name = "DATABASE.TABLE")]
    pub table: String,
    /// AWS region (default: from the environment)
    #[arg(long)]
    pub region: Option<String>,
    /// AWS account that owns the catalog (default: the caller's)
    #[arg(long, value_name = "ACCOUNT")]
    pub catalog_id: Option<String>,
}

/// Of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Job name (default: all jobs)
    pub job: Option<String>,
    /// Print the status at every change, until the job ends
    #[arg(short, long, requires = "job")]
    pub watch: bool,
}

/// Of `list`.
#[derive(Args, Debug, Default)]
pub struct ListArgs {
    /// Print only names, one per line
    #[arg(long, conflicts_with = "output")]
    pub names: bool,
}

/// Of `stop`.
#[derive(Args, Debug)]
pub struct StopArgs {
    /// Job name
    pub job: String,
    /// Finish and publish the open windows first
    #[arg(long)]
    pub drain: bool,
    /// Return without waiting for these windows
    #[arg(long, requires = "drain")]
    pub no_wait: bool,
}

/// Of `epochs`.
#[derive(Args, Debug)]
pub struct EpochsArgs {
    /// Job name
    pub job: String,
    /// First epoch (default: the newest ones up to --to)
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// Last epoch (default: the last committed one)
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// Only windows that end after this time: 2026-11-24T03:00:00Z, or 2h ago
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Only windows that begin before this time
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub until: Option<Moment>,
    /// Maximum number of epochs, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Of `scaling`.
#[derive(Args, Debug)]
pub struct ScalingArgs {
    /// Show the share of this job (default: all jobs)
    pub job: Option<String>,
    /// Number of latest decisions, 1 to 200
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,
}

/// Of `completions`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: streamctl completions bash > ~/.local/share/bash-completion/completions/streamctl"
)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Of `man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Output directory; created if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Of `verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 proven, 1 a promise is broken, 2 usage error, 3 no such job or epoch, \
                        4 no controller answers, 5 could not be checked"
)]
pub struct VerifyArgs {
    /// Job name
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    pub job: Option<String>,
    /// Verify the local state that `streamctl run` left for this job file
    #[arg(long, value_name = "FILE")]
    pub local: Option<PathBuf>,
    /// State directory of that run (default: next to the job file)
    #[arg(long, value_name = "DIR", requires = "local", conflicts_with = "job")]
    pub state: Option<PathBuf>,
    /// First epoch (default: the first of the job)
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// Last epoch (default: the last committed one)
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// Recompute these epochs from the stream and compare every row; comma-separated
    #[arg(long, value_name = "EPOCH", value_delimiter = ',')]
    pub replay: Vec<u64>,
    /// Read every object, even if the storage keeps its checksum
    #[arg(long)]
    pub deep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("streamctl").chain(line.split_whitespace()))
    }

    #[test]
    fn the_terms_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_is_understood() {
        for line in [
            "submit job.toml --dry-run",
            "submit job.toml --change --if-version 3",
            "diff job.toml -o json",
            "top --interval 500ms",
            "validate job.toml",
            "status",
            "status sales --watch",
            "list -o json",
            "get sales --spec --version 2 -o json",
            "cost job.toml --mb-per-second 5 --shards 16 --price glue-dpu=0.4 -o json",
            "stop sales --drain",
            "delete sales",
            "epochs sales --from 3 --to 9 --limit 5",
            "epochs sales --since 2h --until 2026-11-24T03:00:00Z",
            "--controller http://a:1,http://b:2 workers",
            "tail sales --from 3 --to 9",
            "scaling",
            "events",
            "why sales -o json",
            "events sales --since 1h --watch -o json",
            "scaling sales --limit 5 -o json",
            "tail sales -n 5",
            "dead-letters sales --from 3 --to 9 --limit 10 -o json",
            "dead-letters sales --raw -0",
            "dead-letters sales --replay --epoch 7",
            "verify sales --replay 3,4 --deep",
            "verify sales --from 2 --to 9 -o json",
            "verify --local job.toml --state s --replay 1",
            "diff job.toml --local --state s -o json",
            "import glue-job nightly --region eu-west-1 --to job.toml",
            "import glue-job --file get-job.json",
            "import glue-script job.py --set s3_bucket=b --set x=y --catalog d.t --job-name sales",
            "catalog show d.t -o json",
            "list --names",
            "stop sales --drain --no-wait --quiet",
            "explain job.toml -o json",
            "explain job.toml --local",
            "explain --analyze sales",
            "preview job.toml --records 20 --from earliest",
            "preview job.toml --local --timeout 5m",
            "--context prod list",
            "context add prod --controller https://a:7070 --ca ca.pem --use",
            "context use prod",
            "context list -o json",
            "context list --names",
            "token new --name ci --role operate",
            "--ca ca.pem --cert me.pem --key me.key --token-file t --server-name streamctl list",
            "completions bash",
            "man --out man",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "submit",
            "status --watch",
            "epochs sales --limit 1001",
            "cost job.toml",
            "cost job.toml --mb-per-second 0",
            "events --since yesterday",
            "epochs sales --until 2026-11-24",
            "epochs sales --to 0",
            "tail sales --from 1 -n 2",
            "list -o xml",
        ]
        .into_iter()
        .chain([
            "verify",
            "verify sales --local job.toml",
            "verify sales --state s",
            "verify sales --replay x",
            "diff job.toml --state s",
        ])
        .chain([
            "stop sales --no-wait",
            "delete",
            "list --names -o json",
            "context",
            "completions cmd.exe",
            "man",
        ]) {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "import glue-job",
            "import glue-job a --file b",
            "import glue-script",
            "catalog show",
            "import",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "submit job.toml --if-version 3",
            "submit job.toml --change --if-version 0",
            "diff",
            "top -i 10ms",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "list --cert me.pem",
            "token new --name a",
            "token new --name a --role root",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "dead-letters sales --epoch 1 --to 2",
            "dead-letters sales -0",
            "dead-letters sales --limit 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_shows_the_options_of_a_verb_before_the_global_ones() {
        let mut command = Cli::command();
        command.build();
        for verb in ["submit", "run", "verify"] {
            let verb = command.find_subcommand_mut(verb).unwrap();
            let help = verb.render_long_help().to_string();
            let (own, global) = help.split_once("\nGlobal options:\n").unwrap();
            let (global, security) = global.split_once("\nConnection security:\n").unwrap();
            assert!(own.contains("\nOptions:\n      --"), "{help}");
            assert!(!own.contains("--controller") && !own.contains("--help"));
            assert!(global.contains("--controller") && global.contains("--help"));
            assert!(security.contains("--token-file"), "{help}");
        }
        let help = command.render_help().to_string();
        assert!(!help.contains("\nOptions:\n"), "{help}");
    }

    #[test]
    fn help_names_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(
            help.replace('\n', " ").contains("4 no controller answers"),
            "{help}"
        );
    }

    #[test]
    fn the_page_has_every_exit_code() {
        let page = include_str!("../../docs/command-line.md");
        for (code, meaning) in EXIT_CODES {
            assert!(
                page.contains(&format!("| {code} | {meaning} |")),
                "| {code} | {meaning} |"
            );
        }
    }
}
