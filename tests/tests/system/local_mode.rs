//! Exactly once in local mode: `streamctl run`, killed again and again, gives what the generator's
//! seed says.

use crate::formats::json_lines;
use serde_json::Value;
use std::io::Write as _;
use std::time::Duration;
use streamctl_tests::local_run::{Run, oracle_lines};
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};
use streamctl_tests::python::Python;
use streamctl_tests::wait::until;

const KILLS: u32 = 20;
/// Shortest and longest life between two kills: from "still starting" to "several windows
/// committed".
const LIFE_MS: std::ops::Range<u64> = 50..1_800;
/// All records at `rate` take longer than all lives together, so that the last kill still hits a
/// running job.
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
        assert_eq!(
            ended,
            None,
            "it ended before kill {round}: {}",
            process.log()
        );
        process.kill();
    }
    let mut process = killed.start();
    assert!(process.wait(REST).success(), "{}", process.log());

    let oracle = root.path().join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let sink = killed.place("out");
    let dead = killed.place("dead");
    let python = Python::new(vec![]);
    let flags = [
        "--sink",
        &sink,
        "--dead",
        &dead,
        "--oracle",
        oracle.to_str().unwrap(),
    ];
    let verdict = python.ask("check_output.py", &flags);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    // The oracle knows uuids and codes; an undisturbed run knows every column.
    let same = python.ask(
        "same_output.py",
        &[&calm.place("out"), &calm.place("dead"), &sink, &dead],
    );
    assert_eq!(same["ok"], true, "{same:#}");
    let mut verify = killed.verify();
    assert!(verify.wait(REST).success(), "{}", verify.log());
}

#[test]
fn a_changed_job_is_refused_until_it_is_asked_to_take_over_and_then_reads_on_where_it_stood() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    // Slow enough that most of the records are read by the version that takes over.
    let run = Run::new(root.path(), "changed", RATE);
    let mut process = run.start();
    until("some epochs of the first version", REST, || {
        (epochs(&run).len() >= 4).then_some(())
    });
    process.kill();

    run.rewrite(|job| {
        job.replace(
            "SELECT s.uuid,",
            "SELECT s.uuid, upper(s.region) AS continent,",
        )
        .replace("/out/", "/changed/")
    });
    let mut refused = run.start();
    assert_eq!(refused.wait(REST).code(), Some(1), "{}", refused.log());
    let words = refused.log();
    for said in [
        "at version 1",
        "result.continent: nothing becomes",
        "sink.path: ",
        "with `--change` it takes over",
    ] {
        assert!(words.contains(said), "{said}: {words}");
    }
    assert!(
        words.contains("streamctl diff FILE --local"),
        "no cluster has this job: {words}"
    );
    assert_eq!(words.matches("hint: ").count(), 1, "{words}");
    let mut differs = run.diff();
    assert_eq!(differs.wait(REST).code(), Some(1), "{}", differs.log());
    let words = differs.log();
    for said in [
        "version 1, ",
        "result.continent (added)",
        "sink.path (changed)",
        "as version 2: streamctl run --change ",
    ] {
        assert!(words.contains(said), "{said}: {words}");
    }
    assert!(
        epochs(&run).iter().all(|epoch| version(epoch) == 1),
        "what was refused makes no epoch"
    );

    let mut process = run.changing().start();
    assert!(process.wait(REST).success(), "{}", process.log());
    let after = epochs(&run);
    let versions: Vec<u64> = after.iter().map(version).collect();
    assert!(
        versions.is_sorted() && versions.contains(&1) && versions.last() == Some(&2),
        "{versions:?}"
    );
    it_reads_on_where_it_stood(&after);
    // The same file again changes nothing, with the flag and without.
    for run in [&run, &run.changing()] {
        let mut again = run.start();
        assert!(again.wait(REST).success(), "{}", again.log());
    }
    assert_eq!(epochs(&run).len(), after.len());
    let mut same = run.diff();
    assert_eq!(same.wait(REST).code(), Some(0), "{}", same.log());

    let oracle = root.path().join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let old = run.place("out");
    let new = run.place("changed");
    let dead = run.place("dead");
    let flags = [
        "--sink",
        &old,
        "--sink",
        &new,
        "--dead",
        &dead,
        "--oracle",
        oracle.to_str().unwrap(),
    ];
    let verdict = Python::new(vec![]).ask("check_output.py", &flags);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    let mut verify = run.verify();
    assert!(verify.wait(REST).success(), "{}", verify.log());
}

/// The first window of version 2 begins, shard by shard, after the record at which the last one of
/// version 1 ended.
fn it_reads_on_where_it_stood(epochs: &[Value]) {
    let first = epochs
        .iter()
        .position(|epoch| version(epoch) == 2)
        .expect("version 2 made one");
    let stood = &epochs[first - 1]["frontier"];
    let parts = epochs[first]["parts"]
        .as_array()
        .expect("a manifest has parts");
    let ranges: Vec<_> = parts
        .iter()
        .flat_map(|part| part["ranges"].as_object().expect("by shard"))
        .collect();
    assert!(!ranges.is_empty(), "{:#}", epochs[first]);
    for (shard, range) in ranges {
        assert_eq!(range["from"], stood[shard]["position"], "{shard}");
        assert_ne!(
            range["from"], "start",
            "{shard}: nothing is read again from its beginning"
        );
    }
}

fn version(epoch: &Value) -> u64 {
    epoch["made_by"]["job_version"]
        .as_u64()
        .expect("a manifest names its version")
}

/// Its manifests, from the first to the newest. One that a killed run left uncommitted is in no
/// chain.
fn epochs(run: &Run) -> Vec<Value> {
    let folder = run.folder.join("checkpoint/sales/epochs");
    let Ok(files) = std::fs::read_dir(&folder) else {
        return vec![];
    };
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut next = names
        .filter(|name| name.ends_with(".json") && !name.starts_with('.'))
        .max();
    let mut chain = vec![];
    while let Some(name) = next {
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        next = manifest["previous"]["name"]
            .as_str()
            .and_then(|name| name.rsplit('/').next())
            .map(str::to_owned);
        chain.insert(0, manifest);
    }
    chain
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
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(LIFE_MS.start + (state >> 33) % (LIFE_MS.end - LIFE_MS.start))
    })
}

/// `streamctl run` with these lines in its standard input.
fn run_on(root: &std::path::Path, name: &str, lines: &str) -> std::process::Output {
    let folder = root.display();
    let job = root.join(format!("{name}.toml"));
    let text = format!(
        r#"
name = "{name}"
[source]
type = "stdin"
[source.schema]
id = "bigint"
[window]
size = "1s"
[transform]
sql = "SELECT id, id * 2 AS twice FROM source"
[sink]
path = "{folder}/{name}-out/"
format = "json"
[checkpoint]
location = "{folder}/checkpoint/"
"#
    );
    std::fs::write(&job, text).unwrap();
    let mut command = std::process::Command::new(binary("streamctl"));
    command.args(["run", job.to_str().unwrap()]);
    command.env_clear().envs(inherited());
    command.stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

#[test]
fn lines_of_a_pipe_are_rows_and_the_run_ends_with_the_pipe() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let lines: String = (0..20_000)
        .map(|id| format!("{{\"id\": {id}}}\n"))
        .collect();
    let output = run_on(root.path(), "piped", &format!("{lines}no JSON\n\n"));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let rows = json_lines(&root.path().join("piped-out"));
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort();
    assert_eq!(ids, (0..20_000).collect::<Vec<_>>());
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(status.contains("20001 in, 20000 out, 1 dead"), "{status}");
    // What it has read, it has read.
    let again = run_on(root.path(), "piped", "{\"id\": 7}\n");
    let log = String::from_utf8_lossy(&again.stderr);
    let is_refused = again.status.code() == Some(1) && log.contains("the job is completed");
    assert!(is_refused, "{log}");
}
