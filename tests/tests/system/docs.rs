//! What the pages of this project name is there: a page that walks through the code by name is wrong as soon as a name
//! changes.
//!
//! Owns: paths, functions, constants and values in backticks; links (`links`); the reference of the job file
//! (`job_file`). Does not own: whether the words around them are true; commands and job files that pages show
//! (`cli/src/pages.rs`).
//! Rule: it reads the checkout alone and starts nothing.

mod job_file;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

/// Those with Rust in them.
const CRATES: [&str; 6] = ["proto/", "engine/", "controller/", "worker/", "cli/", "tests/"];
/// Fewer rows in the table of limits, and it was not read as it was meant.
const LIMITS_LEAST: usize = 60;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// All pages about the project, those in docs/ too.
fn pages() -> Vec<String> {
    let here = ["ARCHITECTURE.md", "BENCHMARKS.md", "CONTRIBUTING.md", "README.md"].map(str::to_owned);
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|page| format!("docs/{}", page.unwrap().file_name().into_string().unwrap()));
    here.into_iter().chain(docs).collect()
}

/// What stands in backticks, outside of blocks.
fn quoted(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// What stands outside of backticks and blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).flat_map(|text| text.split('`').step_by(2)).collect()
}

fn is_path(words: &str) -> bool {
    let folders = CRATES.iter().chain(&["deploy/", ".ci/"]);
    folders.into_iter().any(|folder| words.starts_with(folder)) && !words.contains([' ', '*', '<', '{'])
}

fn is_constant(words: &str) -> bool {
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    words.starts_with(|c: char| c.is_ascii_uppercase()) && words.contains('_') && words.chars().all(fits)
}

/// `name` of every `name()`.
fn functions(words: &str) -> Vec<&str> {
    let name = |(end, _)| words[..end].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next();
    words.match_indices("()").filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// All our Rust.
fn source() -> String {
    let mut text = String::new();
    CRATES.iter().for_each(|folder| collect(&root().join(folder), &mut text));
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

/// A row of the table of limits: name, value, file.
fn limit(line: &str) -> Option<[&str; 3]> {
    let mut cells = line.strip_prefix("| `")?.split('`').step_by(2);
    let limit = [cells.next()?, cells.next()?, cells.next()?];
    (is_constant(limit[0]) || limit[0] == "TICK").then_some(limit).filter(|[_, _, file]| is_path(file))
}

#[test]
fn every_path_that_a_page_names_is_there() {
    for name in pages() {
        let page = read(&name);
        let missing: Vec<_> =
            quoted(&page).into_iter().filter(|words| is_path(words) && !root().join(words).exists()).collect();
        assert!(missing.is_empty(), "{name} names what is not there: {missing:?}");
    }
}

#[test]
fn every_function_and_constant_that_the_architecture_names_is_in_the_source() {
    let (page, source) = (read("ARCHITECTURE.md"), source());
    let there = |name: &str| source.contains(&format!("fn {name}(")) || source.contains(&format!("fn {name}<"));
    for words in quoted(&page) {
        for name in functions(words) {
            assert!(there(name), "there is no function {name}, which ARCHITECTURE.md names in {words:?}");
        }
        let known = !is_constant(words) || source.contains(&format!("const {words}:"));
        assert!(known, "there is no constant {words}, which ARCHITECTURE.md names");
    }
}

#[test]
fn every_line_that_is_broken_on_purpose_stands_in_its_file_once() {
    let list = read("tests/mutations/list.toml");
    let value = |part: &str, key: &str| {
        let line = part.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
        line.unwrap_or_else(|| panic!("{key} in {part}"))
            .replace("\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\")
    };
    let mutations: Vec<_> = list.split("[[mutation]]").skip(1).collect();
    assert!(mutations.len() >= 20, "{}", mutations.len());
    for mutation in mutations {
        let (file, old) = (value(mutation, "file"), value(mutation, "old"));
        assert_eq!(read(&file).matches(&old).count(), 1, "{file}: {old:?}");
    }
}

#[test]
fn every_limit_has_the_value_that_the_architecture_says() {
    let page = read("ARCHITECTURE.md");
    let limits: Vec<_> = page.lines().filter_map(limit).collect();
    assert!(limits.len() >= LIMITS_LEAST, "only {} limits were found", limits.len());
    for [name, value, file] in limits {
        let (begin, end) = (format!("const {name}:"), format!("= {value};"));
        let same = read(file).lines().any(|line| line.contains(&begin) && line.ends_with(&end));
        assert!(same, "{name} is not {value} in {file}, as ARCHITECTURE.md says");
    }
}
