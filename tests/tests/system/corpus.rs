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

/// Runs a body; an input that it does not bear is shown whole, so that it can be kept.
fn bear((name, body): Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        panic!("{name} does not bear {what}, keep it in tests/fuzz/corpus/{name}/:\n{}", input.escape_ascii());
    }
}

#[test]
fn every_input_that_is_kept_is_borne() {
    for target in TARGETS {
        let inputs = inputs(target.0);
        assert!(!inputs.is_empty(), "{} has no inputs", target.0);
        for (path, input) in inputs {
            bear(target, &path.display().to_string(), &input);
        }
    }
}

#[test]
fn inputs_that_nobody_wrote_are_borne() {
    for (number, target) in TARGETS.into_iter().enumerate() {
        let corpus: Vec<Vec<u8>> = inputs(target.0).into_iter().map(|(_, input)| input).collect();
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let began = Instant::now();
        for _ in 0..CHANGED {
            bear(target, "a changed input", &mutate::mutated(&mut rng, &corpus));
            if began.elapsed() > CHANGING_MAX {
                break;
            }
        }
    }
}
