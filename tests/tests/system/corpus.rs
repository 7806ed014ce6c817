//! Every kept input, and many that are made from them, through the bodies of the fuzz targets.
//!
//! Owns: reading the corpus, a second of changes per target, what the targets are made of. Does not
//! own: what must hold (`streamctl_tests::fuzz`).
//! Rule: what a fuzzer has found once is found by every test run after it; a seed fixes what is
//! made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use streamctl_tests::fuzz::{TARGETS, Target, mutate};

/// Changed inputs per target; fewer where each takes long.
const CHANGED: usize = 4_000;
/// No target may take longer for its changed inputs.
const CHANGING_MAX: Duration = Duration::from_secs(3);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name)
}

fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs a body. An input that it does not bear is given back whole, so that it can be kept.
fn bear((name, body): Target, what: &str, input: &[u8]) -> Option<String> {
    let borne = catch_unwind(AssertUnwindSafe(|| body(input))).is_ok();
    let found = || {
        format!(
            "{name} does not bear {what}, keep it in tests/fuzz/corpus/{name}/:\n{}",
            escaped(input)
        )
    };
    (!borne).then(found)
}

fn escaped(input: &[u8]) -> String {
    format!(
        "printf '{}'",
        input
            .iter()
            .map(|byte| format!("\\x{byte:02x}"))
            .collect::<String>()
    )
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

#[test]
fn every_input_that_is_kept_is_borne() {
    let mut found = vec![];
    for target in TARGETS {
        let inputs = inputs(target.0);
        assert!(!inputs.is_empty(), "{} has no inputs", target.0);
        for (path, input) in inputs {
            found.extend(bear(target, &path.display().to_string(), &input));
        }
    }
    none(&found);
}

#[test]
fn odd_inputs_are_survived() {
    let mut found = vec![];
    for (number, target) in TARGETS.into_iter().enumerate() {
        let corpus: Vec<Vec<u8>> = inputs(target.0)
            .into_iter()
            .map(|(_, input)| input)
            .collect();
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let began = Instant::now();
        for _ in 0..CHANGED {
            let finding = bear(
                target,
                "a changed input",
                &mutate::mutated(&mut rng, &corpus),
            );
            let enough = finding.is_some() || began.elapsed() > CHANGING_MAX;
            found.extend(finding);
            if enough {
                break;
            }
        }
    }
    none(&found);
}

/// The packages of a lock file: name, versions, and the names that each version depends on.
fn locked(text: &str) -> BTreeMap<String, Vec<(String, BTreeSet<String>)>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let names = package
            .split("dependencies = [")
            .nth(1)
            .and_then(|rest| rest.split(']').next())
            .unwrap_or_default();
        // A name that is there twice has its version behind it.
        let names = names
            .split('"')
            .skip(1)
            .step_by(2)
            .filter_map(|name| name.split(' ').next());
        all.entry(value("name"))
            .or_default()
            .push((value("version"), names.map(str::to_owned).collect()));
    }
    all
}

/// What a manifest depends on, without what only its tests need.
fn wanted(manifest: &str) -> Vec<String> {
    let parts = manifest
        .split("\n[")
        .filter(|part| part.starts_with("dependencies]"));
    let names = parts
        .flat_map(|part| part.lines().skip(1))
        .filter(|line| !line.starts_with('#'));
    names
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_fuzz_targets_are_locked_to_what_the_programs_are_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in a folder of the checkout");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let ours = locked(&read("Cargo.lock"));
    let theirs = locked(&read("tests/fuzz/Cargo.lock"));
    let renew =
        "cargo metadata --format-version 1 --manifest-path tests/fuzz/Cargo.toml > /dev/null";
    for folder in ["proto", "engine", "controller", "worker", "tests"] {
        let name = format!("streamctl-{folder}");
        let wanted = wanted(&read(&format!("{folder}/Cargo.toml")));
        let has = &theirs[&name][0].1;
        let lacks: Vec<_> = wanted.iter().filter(|name| !has.contains(*name)).collect();
        assert!(
            wanted.len() > 3 && lacks.is_empty(),
            "tests/fuzz/Cargo.lock lacks {lacks:?} of {name}; renew it: {renew}"
        );
    }
    for (name, packages) in theirs.iter().filter(|(name, _)| ours.contains_key(*name)) {
        let versions = |all: &[(String, BTreeSet<String>)]| {
            all.iter()
                .map(|(version, _)| version.clone())
                .collect::<BTreeSet<_>>()
        };
        let here = versions(&ours[name]);
        let there = versions(packages);
        assert!(
            there.is_subset(&here),
            "tests/fuzz/Cargo.lock has {name} {there:?}, Cargo.lock {here:?}"
        );
    }
}
