//! The arguments of the command line.

use crate::context::Files;
use crate::output::Format;
use crate::verbs::context::ContextVerb;
use crate::verbs::dead_letters::args::DeadLettersArgs;
use crate::verbs::delete::DeleteArgs;
use crate::verbs::demo::DemoArgs;
use crate::verbs::diff::DiffArgs;
use crate::verbs::explain::ExplainArgs;
use crate::verbs::preview::PreviewArgs;
use crate::verbs::repair::RepairArgs;
use crate::verbs::run::RunArgs;
use crate::verbs::tail::TailArgs;
use crate::verbs::token::TokenVerb;
use crate::verbs::top::TopArgs;
use clap::{Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Every exit code, and what it means.
pub const EXIT_CODES: [(u8, &str); 6] = [
    (0, "done; for verify: proven"),
    (
        1,
        "failed; for verify: something is not as promised; for diff: something would change",
    ),
    (2, "wrong usage, or something is wrong with the job file"),
    (3, "there is no such job, epoch or context"),
    (4, "no controller answers"),
    (5, "could not be checked: neither proven nor broken"),
];

const AFTER_HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage or job file, 3 not found, 4 no controller \
                          answers, 5 could not be checked

Which controller is asked: --controller, else --context, else STREAMCTL_CONTROLLER, else STREAMCTL_CONTEXT, else the \
                          context in use, else http://127.0.0.1:7070";

/// Windows of a stream, joined by SQL and written to S3 exactly once.
#[derive(Debug, Parser)]
#[command(name = "streamctl", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Where the controllers answer; several are separated by commas
    #[arg(long, global = true, value_name = "URL")]
    pub controller: Option<String>,
    /// The context to use, instead of the one in use (`streamctl context`)
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Colours: on terminals only, always or never; NO_COLOR is heeded
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
    /// No progress and no notes: only data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    // Last, because its heading applies to all arguments after it.
    /// How the controllers are reached and who asks
    #[command(flatten)]
    pub files: Files,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a job here and now: controller and worker in this process, no etcd
    Run(RunArgs),
    /// Run the model job on generated sales for a few windows and show what comes out
    Demo(DemoArgs),
    /// Start a job from its job file, or change it; the same file again changes nothing
    Submit(SubmitArgs),
    /// Compare a job file with the running job of its name, and say what can be taken over
    Diff(DiffArgs),
    /// Check a job file without any connection
    Validate(ValidateArgs),
    /// Make a job file of a job of AWS Glue, and say what could not be carried over
    #[command(subcommand)]
    Import(ImportVerb),
    /// Look at the Glue Data Catalog
    #[command(subcommand)]
    Catalog(CatalogVerb),
    /// Show how jobs are doing
    Status(StatusArgs),
    /// Watch jobs, shards and workers live on the terminal
    Top(TopArgs),
    /// List the jobs
    List(ListArgs),
    /// Show what a job would do: its plan, columns, places, and how it is spread
    Explain(ExplainArgs),
    /// Run a job's query on a few records of its real source, and write nothing
    Preview(PreviewArgs),
    /// Stop a job; its position is kept
    Stop(StopArgs),
    /// Forget a job that does not run; what it wrote stays
    Delete(DeleteArgs),
    /// Let a job go on whose store is older than what was committed, or whose committed rows are
    /// lost before they are seen
    Repair(RepairArgs),
    /// List the committed epochs of a job
    Epochs(EpochsArgs),
    /// List what could not be decoded, or put it through the job again
    DeadLetters(DeadLettersArgs),
    /// List the workers
    Workers,
    /// Show how many workers there should be, and what was decided about that
    Scaling(ScalingArgs),
    /// Print the rows of a job as its epochs are published
    Tail(TailArgs),
    /// Prove that every record is there exactly once: walk the manifests, look at every object
    Verify(VerifyArgs),
    /// Name clusters, and choose the one that is asked
    #[command(subcommand)]
    Context(ContextVerb),
    /// Make tokens for people, programs and workers
    #[command(subcommand)]
    Token(TokenVerb),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// Of `submit`.
#[derive(Args, Debug)]
pub struct SubmitArgs {
    /// The job file
    pub file: PathBuf,
    /// Check everything, start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where a job of this name is there with another file: let this one take over after its last
    /// epoch, as its next version
    #[arg(long)]
    pub change: bool,
    /// Only if the job is at this version (`streamctl diff` and `status` name it)
    #[arg(long, value_name = "VERSION", requires = "change", value_parser = clap::value_parser!(u64).range(1..))]
    pub if_version: Option<u64>,
}

/// Of `validate`.
#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// The job file
    pub file: PathBuf,
}

/// What to import.
#[derive(Debug, Subcommand)]
pub enum ImportVerb {
    /// A job of Glue: the nodes of its visual editor, or else its script
    GlueJob(ImportJobArgs),
    /// A script of Glue; it is read, never run
    GlueScript(ImportScriptArgs),
}

/// Of `import glue-job`.
#[derive(Args, Debug)]
pub struct ImportJobArgs {
    /// The job's name in Glue
    #[arg(required_unless_present = "file")]
    pub name: Option<String>,
    /// Read what `aws glue get-job` printed, and ask nobody
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub file: Option<PathBuf>,
    /// Its region; the environment's when left out
    #[arg(long)]
    pub region: Option<String>,
    /// How the job file is made
    #[command(flatten)]
    pub made: ImportArgs,
}

/// Of `import glue-script`.
#[derive(Args, Debug)]
pub struct ImportScriptArgs {
    /// The script
    pub file: PathBuf,
    /// How the job file is made
    #[command(flatten)]
    pub made: ImportArgs,
}

/// Of both.
#[derive(Args, Debug, Default)]
pub struct ImportArgs {
    /// Write the job file here, where no file is yet; standard output when left out
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// The new job's name; made of the old one when left out
    #[arg(long = "job-name", value_name = "NAME")]
    pub job_name: Option<String>,
    /// The stream's table in the Data Catalog, where Glue infers the columns
    #[arg(long, value_name = "DATABASE.TABLE")]
    pub catalog: Option<String>,
    /// An argument of the Glue job; can be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum CatalogVerb {
    /// Show a table's columns and the stream that it describes
    Show(CatalogShowArgs),
}

/// Of `catalog show`.
#[derive(Args, Debug)]
pub struct CatalogShowArgs {
    /// The table
    #[arg(value_name = "DATABASE.TABLE")]
    pub table: String,
    /// Its region; the environment's when left out
    #[arg(long)]
    pub region: Option<String>,
    /// The account that owns the catalog, when not the caller's
    #[arg(long, value_name = "ACCOUNT")]
    pub catalog_id: Option<String>,
}

/// Of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The job; all of them when left out
    pub job: Option<String>,
    /// Print again at every change, until the job ends
    #[arg(short, long, requires = "job")]
    pub watch: bool,
}

/// Of `list`.
#[derive(Args, Debug, Default)]
pub struct ListArgs {
    /// The names only, one a line
    #[arg(long, conflicts_with = "output")]
    pub names: bool,
}

/// Of `stop`.
#[derive(Args, Debug)]
pub struct StopArgs {
    /// The job
    pub job: String,
    /// Finish the windows that are open now before stopping
    #[arg(long)]
    pub drain: bool,
    /// Do not wait until these windows are published
    #[arg(long, requires = "drain")]
    pub no_wait: bool,
}

/// Of `epochs`.
#[derive(Args, Debug)]
pub struct EpochsArgs {
    /// The job
    pub job: String,
    /// The first epoch wanted; the newest ones, up to --to, when left out
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// The last epoch wanted; the last committed one when left out
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Of `scaling`.
#[derive(Args, Debug)]
pub struct ScalingArgs {
    /// Show this job's part in it; all jobs when left out
    pub job: Option<String>,
    /// The newest decisions, so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,
}

/// Of `completions`.
#[derive(Args, Debug)]
#[command(
    after_help = "For example: streamctl completions bash > ~/.local/share/bash-completion/completions/streamctl"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Of `man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The folder for the pages; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Of `verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 proven, 1 something is not as promised, 5 something could not be checked; \
                        else 2 wrong usage, 3 no such job or epoch, 4 no controller answers"
)]
pub struct VerifyArgs {
    /// The job
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    pub job: Option<String>,
    /// Verify the job of this job file, as `streamctl run` left it: without a controller, and
    /// without running it
    #[arg(long, value_name = "FILE")]
    pub local: Option<PathBuf>,
    /// The state folder of that run; beside the job file when left out
    #[arg(long, value_name = "DIR", requires = "local", conflicts_with = "job")]
    pub state: Option<PathBuf>,
    /// The first epoch to check
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// The last epoch to check; the last committed one when left out
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// Read these epochs from the stream again and compare every row; several are separated by
    /// commas
    #[arg(long, value_name = "EPOCH", value_delimiter = ',')]
    pub replay: Vec<u64>,
    /// Read every object, also where the storage keeps a checksum of it
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
    fn the_words_are_consistent() {
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
            "stop sales --drain",
            "delete sales",
            "epochs sales --from 3 --to 9 --limit 5",
            "--controller http://a:1,http://b:2 workers",
            "tail sales --from 3 --to 9",
            "scaling",
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
            "preview job.toml --records 20 --from earliest",
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
