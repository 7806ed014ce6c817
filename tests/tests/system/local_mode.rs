//! Exactly once in local mode: `streamctl run`, killed again and again, gives what the generator's seed says.

use std::time::Duration;
use streamctl_tests::local_run::{Run, oracle_lines};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;

const KILLS: u32 = 20;
/// Shortest and longest life between two kills: from "still starting" to "several windows committed".
const LIFE_MS: std::ops::Range<u64> = 50..1_800;
/// All records at `rate` take longer than all lives together, so that the last kill still hits a running job.
const RATE: u64 = 300;
/// For what is left after the last kill, on a busy machine.
const REST: Duration = Duration::from_secs(240);

#[test]
fn twenty_kills_of_a_local_run_lose_nothing_and_double_nothing() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let calm = Run::new(root.path(), "calm", 20_000);
    let mut process = calm.start();
    assert!(process.wait(REST).success(), "{}", process.log());

    let killed = Run::new(root.path(), "killed", RATE);
    for (round, life) in lives(11).enumerate() {
        let mut process = killed.start();
        let ended = process.ended_within(life);
        assert_eq!(ended, None, "it ended before kill {round}: {}", process.log());
        process.kill();
    }
    let mut process = killed.start();
    assert!(process.wait(REST).success(), "{}", process.log());

    let oracle = root.path().join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let (sink, dead) = (killed.place("out"), killed.place("dead"));
    let python = Python::new(vec![]);
    let flags = ["--sink", &sink, "--dead", &dead, "--oracle", oracle.to_str().unwrap()];
    let verdict = python.ask("check_output.py", &flags);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    // The oracle knows uuids and codes; an undisturbed run knows every column.
    let same = python.ask("same_output.py", &[&calm.place("out"), &calm.place("dead"), &sink, &dead]);
    assert_eq!(same["ok"], true, "{same:#}");
    let mut verify = killed.verify();
    assert!(verify.wait(REST).success(), "{}", verify.log());
}

#[test]
fn the_oracle_of_the_generator_has_every_kind() {
    let lines = oracle_lines();
    let of = |kind: &str| lines.matches(&format!("\"kind\":\"{kind}\"")).count();
    // Every 30th that is not a 50th too is unmatched.
    assert_eq!((of("bad"), of("unmatched"), of("match")), (160, 214, 7_626));
}

/// How long each run may live; the same for the same seed.
fn lives(seed: u64) -> impl Iterator<Item = Duration> {
    let mut state = seed;
    (0..KILLS).map(move |_| {
        // Knuth's MMIX generator; its high bits are good enough to spread kills.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(LIFE_MS.start + (state >> 33) % (LIFE_MS.end - LIFE_MS.start))
    })
}
