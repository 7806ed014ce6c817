//! The shape of the code: no circles of imports, and arrows in one direction.
//!
//! Owns: what CONTRIBUTING.md and ARCHITECTURE.md promise about modules. Does not own: names and
//! links on pages (`docs`).
//! Rule: an arrow is an import by `crate::` or `super::` outside of tests and comments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = [
    "proto",
    "engine",
    "controller/core",
    "controller",
    "worker",
    "cli",
];
/// Where circles are left: the errors of loading a lookup. Shrink it; nothing is added.
const CIRCLES_LEFT: [&str; 1] = ["worker/src/lookups.rs"];
/// Modules of the engine that know nothing of data, and that data knows nothing of.
const PLUMBING: [&str; 5] = ["security", "http", "metrics", "traces", "process"];
/// All that the core may depend on: the model, and derives. Clocks, threads and hash order are
/// banned by `controller/core/clippy.toml`.
const CORE_DEPENDENCIES: [&str; 3] = ["serde", "streamctl-proto", "thiserror"];
/// What the model brings along and the core must not reach through it.
const NOT_IN_THE_CORE: [&str; 4] = ["tokio::", "tonic::", "tracing::", "std::fs"];

/// What the core does not read of a staged object: it knows kind, counts and key.
const NOT_OF_STAGED: [&str; 4] = ["Staging", ".crc32c", ".location.", ".location)"];

/// Files and the files that they import, by their path from the checkout.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                files(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// A file without comments, and without its tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let is_test = |at: usize| {
        let rest = text[at..].trim_start_matches("#[cfg(test)]").trim_start();
        let rest = rest
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        rest.strip_prefix("mod ")
            .is_some_and(|rest| rest.contains('{') && rest.find('{') < rest.find(';'))
    };
    let tests = text
        .match_indices("#[cfg(test)]")
        .map(|(at, _)| at)
        .find(|at| is_test(*at));
    let lines = text[..tests.unwrap_or(text.len())].lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The module of a file, as segments from the root of its crate.
fn module(file: &Path, source: &Path) -> Vec<String> {
    let path = file.strip_prefix(source).unwrap().with_extension("");
    let mut segments: Vec<String> = path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(
        segments.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        segments.pop();
    }
    segments
}

/// All paths that begin here, with the lists in braces taken apart.
fn paths(text: &str) -> Vec<Vec<String>> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(rest) = rest.strip_prefix("::") else {
        return vec![vec![name.to_owned()]];
    };
    let below = match rest.strip_prefix('{') {
        Some(list) => listed(list).into_iter().flat_map(paths).collect(),
        None => paths(rest),
    };
    let join = |tail: Vec<String>| std::iter::once(name.to_owned()).chain(tail).collect();
    below.into_iter().map(join).collect()
}

/// The elements of a list, up to its closing brace.
fn listed(text: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    let mut depth = 0;
    let mut begin = 0;
    for (at, char) in text.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => {
                elements.push(text[begin..at].trim());
                return elements;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                elements.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    elements
}

fn arrows(krate: &str) -> Arrows {
    let source = root().join(krate).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let name = |file: &Path| {
        format!(
            "{krate}/src/{}",
            file.strip_prefix(&source).unwrap().display()
        )
    };
    let modules: BTreeMap<Vec<String>, String> = all
        .iter()
        .map(|file| (module(file, &source), name(file)))
        .collect();
    let target = |path: &[String]| {
        (1..=path.len())
            .rev()
            .find_map(|length| modules.get(&path[..length]).cloned())
    };
    let mut arrows = Arrows::new();
    for file in &all {
        let text = code(file);
        let own = module(file, &source);
        let to = arrows.entry(name(file)).or_default();
        for start in ["crate::", "super::"] {
            for (at, _) in text.match_indices(start) {
                // `super::super::` is read from its first word.
                if text[..at].ends_with("::") {
                    continue;
                }
                for mut path in paths(&text[at..]) {
                    let mut base = own.clone();
                    while path.first().is_some_and(|segment| segment == "super") {
                        base.pop();
                        path.remove(0);
                    }
                    if path.first().is_some_and(|segment| segment == "crate") {
                        base.clear();
                        path.remove(0);
                    }
                    base.extend(path);
                    to.extend(target(&base).filter(|target| *target != name(file)));
                }
            }
        }
    }
    arrows
}

/// All files that can be reached from one.
fn reached<'a>(arrows: &'a Arrows, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for to in arrows.get(file).into_iter().flatten() {
            if seen.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    seen
}

#[test]
fn imports_have_no_circles() {
    let is_left = |file: &String| CIRCLES_LEFT.iter().any(|left| file.starts_with(left));
    for krate in CRATES {
        let mut arrows = arrows(krate);
        assert!(
            arrows.values().map(BTreeSet::len).sum::<usize>() > 50,
            "{krate}: {arrows:?}"
        );
        arrows.retain(|file, _| !is_left(file));
        arrows
            .values_mut()
            .for_each(|to| to.retain(|file| !is_left(file)));
        for file in arrows.keys() {
            let reached = reached(&arrows, file);
            let back: Vec<_> = reached
                .iter()
                .filter(|to| arrows[**to].contains(file))
                .collect();
            assert!(back.is_empty(), "{file} reaches {back:?}, which import it");
        }
    }
}

#[test]
fn data_and_process_plumbing_do_not_know_each_other() {
    let is_plumbing = |file: &str| {
        let path = file.trim_start_matches("engine/src/");
        PLUMBING
            .iter()
            .any(|name| path.starts_with(&format!("{name}/")) || path == format!("{name}.rs"))
    };
    // What both stand on.
    let is_shared = |file: &str| {
        matches!(
            file,
            "engine/src/lib.rs" | "engine/src/clock.rs" | "engine/src/host.rs"
        )
    };
    for (file, targets) in arrows("engine") {
        for target in targets.iter().filter(|target| !is_shared(target)) {
            assert!(
                is_plumbing(&file) == is_plumbing(target),
                "{file} imports {target}"
            );
        }
    }
}

#[test]
fn only_the_local_mode_of_the_command_line_sees_controller_and_worker() {
    let mut all = Vec::new();
    files(&root().join("cli/src"), &mut all);
    let local = root().join("cli/src/local");
    let mut seen = 0;
    for file in all {
        let code = code(&file);
        let sees = ["streamctl_controller", "streamctl_worker"]
            .iter()
            .any(|name| code.contains(name));
        assert!(!sees || file.starts_with(&local), "{}", file.display());
        seen += usize::from(sees);
    }
    assert!(seen > 2, "the local mode was not found");
}

#[test]
fn services_see_jobs_of_the_core_through_views() {
    let mut all = Vec::new();
    files(&root().join("controller/src/service"), &mut all);
    assert!(all.len() > 8);
    for file in all {
        let code = code(&file);
        assert!(!code.contains("core.jobs"), "{}", file.display());
    }
}

#[test]
fn the_core_cannot_do_anything_but_decide() {
    let mut all = Vec::new();
    files(&root().join("controller/core/src"), &mut all);
    assert!(all.len() > 20);
    let manifest = std::fs::read_to_string(root().join("controller/core/Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
    let lines = dependencies.lines().take_while(|line| !line.is_empty());
    let mut names: Vec<&str> = lines
        .filter_map(|line| line.split(['.', ' ']).next())
        .collect();
    names.sort_unstable();
    assert_eq!(names, CORE_DEPENDENCIES);
    for file in all {
        let code = code(&file);
        for word in NOT_IN_THE_CORE.iter().chain(&NOT_OF_STAGED) {
            assert!(!code.contains(word), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn lists_of_imports_are_taken_apart() {
    let text = "crate::a::{b, c::{D, E as F}, g::*};";
    let found: Vec<String> = paths(text)
        .into_iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(
        found,
        [
            "crate::a::b",
            "crate::a::c::D",
            "crate::a::c::E",
            "crate::a::g::"
        ]
    );
}
