//! Checks that the pages are valid: commands of `streamctl`, and job files.
//!
//! Owns: every command line in a shell block, every block of TOML. Does not own: links and names
//! (`tests/tests/system/docs`).
//! Rule: every page is checked; a block that is not meant to be checked uses another language than
//! `sh` or `toml`.

use crate::args::Cli;
use clap::{CommandFactory, Parser};
use std::fs;
use std::path::{Path, PathBuf};
use streamctl_proto::JobSpec;

/// If fewer of each are found, the pages were not parsed correctly.
const COMMANDS_LEAST: usize = 12;
const JOBS_LEAST: usize = 8;

/// A job whose tables a block replaces.
const JOB: &str = include_str!("../../deploy/jobs/sales-by-country.toml");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown page: at the top, in docs/, and those of the deployment files.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    ["", "docs", "deploy"]
        .iter()
        .for_each(|folder| collect(&root().join(folder), !folder.is_empty(), &mut pages));
    assert!(pages.len() > 8, "{pages:?}");
    pages
}

fn collect(folder: &Path, deeper: bool, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if deeper && path.is_dir() {
            collect(&path, deeper, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The blocks of a language in a page.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let inside = page.split("```").skip(1).step_by(2);
    inside
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}

/// The commands of a shell block: lines that end in a backslash are joined; comments, pipes and
/// what follows are cut.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| words(line.trim().trim_start_matches("$ ")))
        .collect()
}

/// The arguments of `streamctl ...`, also after variables and inside of `<(...)`; `None` for other
/// commands.
fn words(line: &str) -> Option<Vec<String>> {
    let begins = |before: &str| {
        before.ends_with('(') || before.split_whitespace().all(|word| word.contains('='))
    };
    let at = line
        .match_indices("streamctl ")
        .map(|(at, _)| at)
        .find(|at| begins(&line[..*at]))?;
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line[at..].chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('#' | '|' | '>' | '&' | ')' | ';', None) => break,
            (' ', None) => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (c, _) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    Some(words)
}

/// The problem of `verb ... --flag ...` in running text, where values may be omitted.
fn unknown(command: &str) -> Option<String> {
    let mut known = Cli::command();
    known.build();
    let mut verb = &known;
    for word in command
        .split([' ', ','])
        .map(|word| word.trim_matches(['[', ']', '.']))
    {
        match (word.strip_prefix("--"), verb.find_subcommand(word)) {
            (Some(flag), _) => {
                let name = flag.split('=').next().unwrap_or_default();
                let there = verb
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(name));
                if !there && name != "help" {
                    return Some(format!("{} knows no --{name}", verb.get_name()));
                }
            }
            (None, Some(deeper)) => verb = deeper,
            (None, None) if verb.has_subcommands() => {
                return Some(format!("{} knows no {word}", verb.get_name()));
            }
            (None, None) => {}
        }
    }
    None
}

/// `streamctl ...` in backticks, outside of blocks, and the rows of the README's table of verbs.
fn mentioned(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    let quoted = prose.flat_map(|text| text.split('`').skip(1).step_by(2));
    let after = quoted.filter_map(|words| words.strip_prefix("streamctl "));
    after
        .filter(|words| words.starts_with(|c: char| c.is_ascii_lowercase()))
        .chain(verbs(page))
        .collect()
}

/// The text in backticks in the first cells of the table of verbs.
fn verbs(page: &str) -> impl Iterator<Item = &str> {
    let (_, table) = page.split_once("| `streamctl` … | |\n").unwrap_or_default();
    let rows = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split(" | ").next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

/// The block as a complete job, or in place of the tables of the model job.
fn job(block: &str) -> Result<JobSpec, String> {
    let base = root().canonicalize().unwrap();
    let fragment: toml::Table = block.parse().map_err(|error| format!("{error}"))?;
    let text = if fragment.contains_key("name") {
        block.to_owned()
    } else {
        let mut whole: toml::Table = JOB.parse().expect("the model job is TOML");
        whole.extend(fragment);
        whole.to_string()
    };
    JobSpec::parse_in(&text, &base).map_err(|problems| problems.to_string())
}

#[test]
fn every_command_that_a_page_shows_is_understood() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let shown = ["sh", "bash", "console"]
            .into_iter()
            .flat_map(|language| blocks(&text, language));
        for command in shown.flat_map(commands) {
            count += 1;
            let parsed = Cli::try_parse_from(&command);
            assert!(
                parsed.is_ok(),
                "{}: {command:?}: {}",
                page.display(),
                parsed.unwrap_err()
            );
        }
    }
    assert!(count >= COMMANDS_LEAST, "only {count} commands were found");
}

#[test]
fn every_job_that_a_page_shows_is_right() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in blocks(&text, "toml") {
            count += 1;
            let read = job(block);
            assert!(
                read.is_ok(),
                "{}:\n{block}\n{}",
                page.display(),
                read.unwrap_err()
            );
        }
    }
    assert!(count >= JOBS_LEAST, "only {count} jobs were found");
}

#[test]
fn every_verb_and_flag_that_a_page_mentions_is_there() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let all = mentioned(&text).into_iter().filter_map(unknown);
        wrong.extend(all.map(|what| format!("{}: {what}", page.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_has_every_verb() {
    let readme = include_str!("../../README.md");
    let first = |words: &str| {
        words
            .split([' ', ','])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let shown: Vec<_> = verbs(readme).map(first).collect();
    for verb in Cli::command()
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
    {
        assert!(
            shown.iter().any(|name| name == verb.get_name()),
            "README.md has no row for {}",
            verb.get_name()
        );
    }
}

#[test]
fn what_no_verb_knows_is_noticed() {
    assert_eq!(unknown("submit --dry-run FILE"), None);
    assert_eq!(unknown("import glue-job NAME"), None);
    assert_eq!(
        unknown("submit FILE [--dry-rum]").unwrap(),
        "submit knows no --dry-rum"
    );
    assert_eq!(unknown("sumbit FILE").unwrap(), "streamctl knows no sumbit");
    assert_eq!(unknown("catalog list").unwrap(), "catalog knows no list");
}

#[test]
fn a_command_is_taken_out_of_its_line() {
    let words = |line| commands(line).concat().join(" ");
    assert_eq!(
        words("streamctl status a \\\n  --watch   # for ever"),
        "streamctl status a --watch"
    );
    assert_eq!(
        words("streamctl tail a -o json | jq '.x'"),
        "streamctl tail a -o json"
    );
    assert_eq!(
        words("$ source <(streamctl completions bash)"),
        "streamctl completions bash"
    );
    assert_eq!(
        words("streamctl import glue-job \"Sales nightly\""),
        "streamctl import glue-job Sales nightly"
    );
    assert_eq!(words("A=b streamctl list"), "streamctl list");
    assert_eq!(
        words("streamctl-controller --listen a &\nhelm install streamctl x\nstreamctl.md"),
        ""
    );
}
