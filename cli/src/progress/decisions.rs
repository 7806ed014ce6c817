//! Every verb's decision about progress, and tests that it is followed.
//!
//! Rule: the verbs come from the command line, so that a new one without a decision fails here.

use crate::args::{Cli, Verb};
use crate::context::Environment;
use crate::error::CliError;
use crate::local::{Listener, LocalJob};
use crate::output::tests::captured;
use crate::output::{Format, Output};
use clap::{Command, CommandFactory, Parser};
use std::collections::BTreeSet;
use std::time::Duration;

/// How a user at a terminal sees that a verb is at work.
enum Decision {
    /// It calls other services: a progress line for each of these arguments; its first message.
    Line(&'static [(&'static str, &'static str)]),
    /// It draws the whole screen, including what it waits for.
    Screen,
    /// It never takes a second, with the reason.
    Short(&'static str),
}
use Decision::{Line, Screen, Short};

const OWN_FILES: &str = "it reads and writes small files of this machine";

const DECISIONS: &[(&str, Decision)] = &[
    ("run", Line(&[("run JOB --state STATE", "starting")])),
    ("demo", Line(&[("demo --dir STATE", "starting")])),
    (
        "submit",
        Line(&[("submit JOB", "checking source, lookups, query and places")]),
    ),
    (
        "diff",
        Line(&[
            ("diff JOB", "comparing source, columns, lookups and query"),
            (
                "diff JOB --local --state STATE",
                "comparing columns, lookups and query",
            ),
        ]),
    ),
    ("validate", Short("it parses one file of at most 1 MiB")),
    ("cost", Short("it parses one file of at most 1 MiB")),
    (
        "import glue-job",
        Line(&[(
            "import glue-job nightly --region us-east-1",
            "asking Glue for the job",
        )]),
    ),
    (
        "import glue-script",
        Short("it parses one file of bounded size"),
    ),
    (
        "catalog show",
        Line(&[(
            "catalog show d.t --region us-east-1",
            "asking the Data Catalog",
        )]),
    ),
    (
        "status",
        Line(&[
            ("status", "asking for the jobs"),
            ("status sales", "asking for the job"),
            ("status sales --watch", "asking for the job"),
        ]),
    ),
    ("why", Line(&[("why sales", "asking for the job")])),
    ("top", Screen),
    ("list", Line(&[("list", "asking for the jobs")])),
    (
        "get",
        Line(&[
            ("get sales", "asking for the job"),
            ("get sales --versions", "asking for the versions"),
            ("get sales --diff 1", "comparing the versions"),
        ]),
    ),
    (
        "explain",
        Line(&[
            (
                "explain JOB",
                "asking for columns, lookups, shards and places",
            ),
            ("explain --analyze sales", "asking for the operators"),
        ]),
    ),
    (
        "preview",
        Line(&[
            ("preview JOB", "reading records"),
            (
                "preview JOB --local",
                "asking for columns, lookups and shards",
            ),
        ]),
    ),
    (
        "stop",
        Line(&[
            ("stop sales", "stopping"),
            ("stop sales --drain", "stopping"),
        ]),
    ),
    ("delete", Line(&[("delete sales", "deleting")])),
    (
        "repair",
        Line(&[
            ("repair sales", "asking what it needs"),
            ("repair --local JOB --state STATE", "repairing"),
        ]),
    ),
    ("epochs", Line(&[("epochs sales", "asking for the epochs")])),
    (
        "events",
        Line(&[
            ("events", "reading the events"),
            ("events sales --watch", "reading the events"),
        ]),
    ),
    (
        "dead-letters",
        Line(&[
            ("dead-letters sales", "looking for dead letters"),
            ("dead-letters sales --replay", "looking for dead letters"),
        ]),
    ),
    ("workers", Line(&[("workers", "asking for the workers")])),
    (
        "scaling",
        Line(&[("scaling", "asking what was measured and decided")]),
    ),
    (
        "tail",
        Line(&[
            ("tail sales", "asking for the job"),
            ("tail sales --from 3", "asking for the job"),
        ]),
    ),
    (
        "verify",
        Line(&[
            ("verify sales", "asking for the proof"),
            (
                "verify --local JOB --state STATE",
                "opening the state folder",
            ),
        ]),
    ),
    ("context add", Short(OWN_FILES)),
    ("context use", Short(OWN_FILES)),
    ("context list", Short(OWN_FILES)),
    ("context show", Short(OWN_FILES)),
    ("context remove", Short(OWN_FILES)),
    ("token new", Short(OWN_FILES)),
    (
        "completions",
        Short("it prints what is made of the words of the command line"),
    ),
    (
        "man",
        Short("it writes some dozen pages that are made of the words of the command line"),
    ),
];

/// The verbs below a command that have no subcommands: `context add`.
fn leaves(command: &Command, before: &str, found: &mut BTreeSet<String>) {
    for child in command
        .get_subcommands()
        .filter(|child| child.get_name() != "help")
    {
        let name = format!("{before}{}", child.get_name());
        if child.has_subcommands() {
            leaves(child, &format!("{name} "), found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn every_verb_has_decided_how_it_shows_that_it_is_at_work() {
    let mut verbs = BTreeSet::new();
    leaves(&Cli::command(), "", &mut verbs);
    let decided: BTreeSet<String> = DECISIONS
        .iter()
        .map(|(verb, _)| (*verb).to_owned())
        .collect();
    assert_eq!(decided.len(), DECISIONS.len(), "a verb has decided twice");
    assert_eq!(verbs, decided);
    for (verb, decision) in DECISIONS {
        match decision {
            Line(words) => {
                assert!(
                    words.iter().all(|(line, _)| line.starts_with(verb)),
                    "{verb}: {words:?}"
                );
            }
            Screen => assert_eq!(*verb, "top", "only one verb draws"),
            Short(why) => assert!(!why.is_empty(), "{verb}"),
        }
    }
}

/// A controller that accepts connections and never answers.
async fn silent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = vec![];
        while let Ok((line, _)) = listener.accept().await {
            held.push(line);
        }
    });
    address
}

/// Runs the command. Jobs in this process get a runner that never ends, because a real one could
/// not be stopped in the middle.
async fn run_verb(cli: Cli, environment: &Environment, out: &mut Output) -> Result<(), CliError> {
    let never = async |_: LocalJob, _: &mut Listener<'_>| std::future::pending().await;
    match cli.verb {
        Verb::Run(args) => crate::verbs::run::run(&args, "http://x/", never, out).await,
        Verb::Diff(args) if args.local => {
            crate::verbs::diff::run_local(&args, async |_, _| std::future::pending().await, out)
                .await
        }
        Verb::Demo(args) => crate::verbs::demo::run(&args, "http://x/", never, out).await,
        _ => crate::run(cli, environment, out).await,
    }
}

#[tokio::test]
async fn a_verb_that_calls_others_prints_so_before_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job.toml");
    std::fs::write(
        &job,
        include_str!("../../../deploy/jobs/sales-by-country.toml"),
    )
    .unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let environment = Environment {
        controller: Some(silent().await),
        context: None,
        config: None,
    };
    let lines = DECISIONS.iter().flat_map(|(_, decision)| match decision {
        Line(words) => *words,
        Screen | Short(_) => &[],
    });
    for (line, expected) in lines {
        let words = line.split(' ').map(|word| match word {
            "JOB" => job.to_str().unwrap(),
            "STATE" => state.to_str().unwrap(),
            word => word,
        });
        let cli = Cli::try_parse_from(std::iter::once("streamctl").chain(words)).unwrap();
        let (mut out, data, _) = captured(Format::Table);
        let slow = std::sync::Arc::clone(&out.slow);
        let shown = async {
            while slow.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // Another test covers what it waits for: stop it as soon as it has shown its message.
        tokio::select! {
            biased;
            () = shown => {}
            ended = run_verb(cli, &environment, &mut out) => { let _ended = ended; }
        }
        assert_eq!(
            slow.lock().unwrap().first().map(String::as_str),
            Some(*expected),
            "{line}"
        );
        assert_eq!(data.text(), "", "{line}");
    }
}
