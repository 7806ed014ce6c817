//! Every kept input, and many that are made from them, through the bodies of the fuzz targets.
//!
//! Owns: reading the corpus, a second of changes per target. Does not own: what must hold (`streamctl_tests::fuzz`).
//! Rule: what a fuzzer has found once is found by every test run after it; a seed fixes what is made.

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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

/// Runs a body. An input that it does not bear is given back whole, so that it can be kept.
fn bear((name, body): Target, what: &str, input: &[u8]) -> Option<String> {
    let borne = catch_unwind(AssertUnwindSafe(|| body(input))).is_ok();
    let found = || format!("{name} does not bear {what}, keep it in tests/fuzz/corpus/{name}/:\n{}", escaped(input));
    (!borne).then(found)
}

fn escaped(input: &[u8]) -> String {
    format!("printf '{}'", input.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>())
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
fn inputs_that_nobody_wrote_are_borne() {
    let mut found = vec![];
    for (number, target) in TARGETS.into_iter().enumerate() {
        let corpus: Vec<Vec<u8>> = inputs(target.0).into_iter().map(|(_, input)| input).collect();
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let began = Instant::now();
        for _ in 0..CHANGED {
            let finding = bear(target, "a changed input", &mutate::mutated(&mut rng, &corpus));
            let enough = finding.is_some() || began.elapsed() > CHANGING_MAX;
            found.extend(finding);
            if enough {
                break;
            }
        }
    }
    none(&found);
}
