//! What the pages of this project name exists, decisions are complete and in order, and the map
//! stays short.
//!
//! Owns: paths in backticks, functions and constants of ARCHITECTURE.md, the numbers and the index
//! of decisions, the lengths of ARCHITECTURE.md and README.md, the values in the table of limits;
//! links (`links`); the reference of the job file (`job_file`). Does not own: whether the text is
//! true; commands and job files that pages show (`cli/src/pages.rs`).
//! Rule: it reads the checkout alone and starts nothing.

mod job_file;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

/// Those with Rust in them.
const CRATES: [&str; 6] = [
    "proto/",
    "engine/",
    "controller/",
    "worker/",
    "cli/",
    "tests/",
];
const DECISIONS: &str = "docs/decisions";
/// Fewer rows in the table of limits, and it was not parsed as intended.
const LIMITS_LEAST: usize = 40;
/// A stranger reads README.md, ARCHITECTURE.md and three files in fifteen minutes.
const MAP_LINES_MAX: usize = 300;
const MAP_WORDS_MAX: usize = 3_500;
const README_LINES_MAX: usize = 110;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// All pages about the project, including docs/ and the decisions.
fn pages() -> Vec<String> {
    let mut pages = Vec::from(
        [
            "ARCHITECTURE.md",
            "BENCHMARKS.md",
            "CONTRIBUTING.md",
            "README.md",
        ]
        .map(str::to_owned),
    );
    for folder in ["docs", DECISIONS] {
        pages.extend(
            names_in(folder)
                .iter()
                .map(|name| format!("{folder}/{name}")),
        );
    }
    pages
}

/// The names of the pages directly in a folder, in order.
fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    pages.sort();
    pages
}

/// What stands in backticks, outside of blocks.
fn quoted(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    prose
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .collect()
}

/// What stands outside of backticks and blocks.
fn prose(page: &str) -> String {
    page.split("```")
        .step_by(2)
        .flat_map(|text| text.split('`').step_by(2))
        .collect()
}

fn is_path(words: &str) -> bool {
    let folders = CRATES.iter().chain(&["deploy/", "docs/", ".ci/"]);
    folders.into_iter().any(|folder| words.starts_with(folder))
        && !words.contains([' ', '*', '<', '{'])
}

fn is_constant(words: &str) -> bool {
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    words.starts_with(|c: char| c.is_ascii_uppercase())
        && words.contains('_')
        && words.chars().all(fits)
}

/// `name` of every `name()`.
fn functions(words: &str) -> Vec<&str> {
    let name = |(end, _)| {
        words[..end]
            .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    };
    words
        .match_indices("()")
        .filter_map(name)
        .filter(|name| !name.is_empty())
        .collect()
}

fn source() -> String {
    let mut text = String::new();
    CRATES
        .iter()
        .for_each(|folder| collect(&root().join(folder), &mut text));
    text
}

fn collect(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The value and the constant of a row `| what | value | `NAME` |`.
fn limit(row: &str) -> Option<(&str, &str)> {
    let mut cells = row.strip_prefix("| ")?.strip_suffix(" |")?.rsplit(" | ");
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    let value = cells.next()?;
    is_constant(name).then_some((value, name))
}

/// What the definitions of a constant of this name say.
fn definitions<'s>(source: &'s str, name: &str) -> Vec<&'s str> {
    let begin = format!("const {name}:");
    let value = |line: &'s str| line.split_once(" = ")?.1.strip_suffix(';');
    source
        .lines()
        .filter(|line| line.contains(&begin))
        .filter_map(value)
        .collect()
}

/// A constant's value as pages show it: `16 << 20` is `16 MiB`, `Duration::from_secs(4)` is `4 s`.
fn shown(name: &str, definition: &str) -> String {
    let grouped = |number: &str| number.replace('_', ",");
    for (unit, constructor) in [
        ("s", "Duration::from_secs("),
        ("ms", "Duration::from_millis("),
    ] {
        if let Some(number) = definition
            .strip_prefix(constructor)
            .and_then(|rest| rest.strip_suffix(')'))
        {
            return format!("{} {unit}", grouped(number));
        }
    }
    for (unit, shift) in [("KiB", " << 10"), ("MiB", " << 20"), ("GiB", " << 30")] {
        if let Some(number) = definition.strip_suffix(shift) {
            return format!("{} {unit}", grouped(number));
        }
    }
    let unit = [("_MS", " ms"), ("_S", " s")]
        .into_iter()
        .find(|(ending, _)| name.ends_with(ending));
    format!(
        "{}{}",
        grouped(definition),
        unit.map_or("", |(_, unit)| unit)
    )
}

#[test]
fn every_path_that_a_page_names_is_there() {
    for name in pages() {
        let page = read(&name);
        let missing: Vec<_> = quoted(&page)
            .into_iter()
            .filter(|words| is_path(words) && !root().join(words).exists())
            .collect();
        assert!(
            missing.is_empty(),
            "{name} names what is not there: {missing:?}"
        );
    }
}

#[test]
fn every_function_and_constant_that_the_architecture_names_is_in_the_source() {
    let page = read("ARCHITECTURE.md");
    let source = source();
    let there = |name: &str| {
        source.contains(&format!("fn {name}(")) || source.contains(&format!("fn {name}<"))
    };
    for words in quoted(&page) {
        for name in functions(words) {
            assert!(
                there(name),
                "there is no function {name}, which ARCHITECTURE.md names in {words:?}"
            );
        }
        let known = !is_constant(words) || source.contains(&format!("const {words}:"));
        assert!(
            known,
            "there is no constant {words}, which ARCHITECTURE.md names"
        );
    }
}

#[test]
fn every_line_that_is_broken_on_purpose_stands_in_its_file_once() {
    let list = read("tests/mutations/list.toml");
    let value = |part: &str, key: &str| {
        let line = part.lines().find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(" = \"")?
                .strip_suffix('"')
        });
        line.unwrap_or_else(|| panic!("{key} in {part}"))
            .replace("\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\")
    };
    let mutations: Vec<_> = list.split("[[mutation]]").skip(1).collect();
    assert!(mutations.len() >= 20, "{}", mutations.len());
    let source = source();
    for mutation in mutations {
        let file = value(mutation, "file");
        let old = value(mutation, "old");
        let count = dense(&read(&file)).matches(&dense(&old)).count();
        assert_eq!(count, 1, "{file}: {old:?}");
        let tests = mutation
            .lines()
            .find_map(|line| line.strip_prefix("caught_by = ["))
            .expect("tests that notice");
        for name in tests.split('"').skip(1).step_by(2) {
            assert!(
                source.contains(&format!("fn {name}(")),
                "no test is called {name}, which is to notice {old:?}"
            );
        }
    }
}

/// Code without its formatting: as `tests/mutations/run.py` compares it.
fn dense(code: &str) -> String {
    let mut text: String = code.split_whitespace().collect();
    for closing in [")", "]", "}"] {
        text = text.replace(&format!(",{closing}"), closing);
    }
    text.trim_end_matches(',').to_owned()
}

#[test]
fn every_limit_has_the_value_that_the_operations_page_shows() {
    let page = read("docs/operations.md");
    let source = source();
    let (_, table) = page
        .split_once("\n## Limits\n")
        .expect("docs/operations.md has a section Limits");
    let limits: Vec<_> = table.lines().filter_map(limit).collect();
    assert!(
        limits.len() >= LIMITS_LEAST,
        "only {} limits were found",
        limits.len()
    );
    for (value, name) in limits {
        let values: Vec<_> = definitions(&source, name)
            .into_iter()
            .map(|found| shown(name, found))
            .collect();
        assert!(
            values.iter().any(|found| found == value),
            "docs/operations.md: {name} is {values:?}, not {value}"
        );
    }
}

#[test]
fn values_are_shown_with_their_units() {
    assert_eq!(shown("A_BYTES", "16 << 20"), "16 MiB");
    assert_eq!(shown("A_TIMEOUT", "Duration::from_secs(1_800)"), "1,800 s");
    assert_eq!(shown("A_TIMEOUT", "Duration::from_millis(500)"), "500 ms");
    assert_eq!(shown("A_MS", "60_000"), "60,000 ms");
    assert_eq!(shown("A_TTL_S", "4"), "4 s");
    assert_eq!(shown("A_MAX", "10_000"), "10,000");
    assert_eq!(
        definitions(
            "    pub const A_MAX: usize = 10_000;\nlet a = A_MAX;\n",
            "A_MAX"
        ),
        ["10_000"]
    );
    assert_eq!(
        limit("| what it is | 16 MiB | `A_BYTES` |"),
        Some(("16 MiB", "A_BYTES"))
    );
    assert_eq!(limit("| limit | value | constant |"), None);
}

#[test]
fn decisions_are_numbered_without_gaps_and_listed_in_the_index() {
    let index = read(&format!("{DECISIONS}/README.md"));
    let names: Vec<_> = names_in(DECISIONS)
        .into_iter()
        .filter(|name| name != "README.md")
        .collect();
    assert!(!names.is_empty());
    for (number, name) in (1..).zip(&names) {
        assert!(
            name.starts_with(&format!("{number:04}-")),
            "{DECISIONS} has no number {number:04}; next is {name}"
        );
        let page = read(&format!("{DECISIONS}/{name}"));
        let heading = page.lines().next().unwrap_or_default();
        let title = heading.strip_prefix(&format!("# {number}. "));
        let title =
            title.unwrap_or_else(|| panic!("{name} begins with {heading:?}, not with its number"));
        let entry = format!("- [{number:04}]({name}) {title}");
        assert!(
            index.lines().any(|line| line == entry),
            "{DECISIONS}/README.md has no line {entry:?}"
        );
        for section in [
            "## Context",
            "## Decision",
            "## Alternatives",
            "## Consequences",
        ] {
            assert!(
                page.lines().any(|line| line == section),
                "{name} has no section {section:?}"
            );
        }
    }
}

#[test]
fn the_map_and_the_first_page_stay_short() {
    let map = read("ARCHITECTURE.md");
    let lines = map.lines().count();
    let words = map.split_whitespace().count();
    assert!(
        lines <= MAP_LINES_MAX,
        "ARCHITECTURE.md has {lines} lines; docs/decisions has room"
    );
    assert!(
        words <= MAP_WORDS_MAX,
        "ARCHITECTURE.md has {words} words; docs/decisions has room"
    );
    let lines = read("README.md").lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "README.md has {lines} lines; docs/ has room"
    );
}

#[test]
fn the_map_names_every_crate_and_the_first_page_the_test_command() {
    let map = read("ARCHITECTURE.md");
    for folder in CRATES {
        assert!(
            quoted(&map).contains(&folder),
            "ARCHITECTURE.md does not name {folder}"
        );
    }
    assert!(
        read("README.md").contains("make test"),
        "continuous integration finds the test command in README.md"
    );
}
