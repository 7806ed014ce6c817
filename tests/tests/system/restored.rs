//! A store that was restored from a copy: a job is refused that went on since, repaired, and goes
//! on without a duplicate.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use streamctl_proto::v1::JobStatus;
use streamctl_tests::Cluster;
use streamctl_tests::here::json_lines;
use streamctl_tests::local_run::{Run, oracle_lines};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;
use streamctl_tests::servers::Etcd;
use streamctl_tests::wait::until;

/// Slow enough that the copy and what comes after it are far apart.
const RATE: u64 = 300;
/// For what a run has to do, on a busy machine.
const REST: Duration = Duration::from_secs(240);

#[test]
fn a_state_folder_that_is_put_back_is_refused_and_repaired_without_a_duplicate() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let run = Run::new(root.path(), "restored", RATE);
    let state = run.folder.join("state");
    let copy = root.path().join("copy");

    let mut process = run.start();
    until("some epochs", REST, || (manifests(&run) >= 3).then_some(()));
    process.kill();
    copy_folder(&state, &copy);
    let copied = manifests(&run);
    let mut process = run.start();
    until("some epochs after the copy", REST, || {
        (manifests(&run) >= copied + 6).then_some(())
    });
    process.kill();
    // Under a later term than those that the copy will count.
    let later = manifests(&run);
    let mut process = run.start();
    until("some epochs of one more run", REST, || {
        (manifests(&run) >= later + 2).then_some(())
    });
    process.kill();
    std::fs::remove_dir_all(&state).unwrap();
    copy_folder(&copy, &state);

    let mut verified = run.verify();
    assert!(!verified.wait(REST).success(), "{}", verified.log());
    let words = verified.log();
    assert!(
        words.contains("restored from an older copy") && words.contains("streamctl repair"),
        "{words}"
    );
    assert!(
        !words.contains("no manifest names it"),
        "what was committed is nobody's stray: {words}"
    );
    let mut refused = run.start();
    assert!(!refused.wait(REST).success(), "{}", refused.log());
    let words = refused.log();
    for said in [
        "the store is older than the checkpoint location",
        "streamctl repair --local FILE",
    ] {
        assert!(words.contains(said), "{said}: {words}");
    }
    let mut repaired = run.repair(&[]);
    assert!(repaired.wait(REST).success(), "{}", repaired.log());
    assert!(
        repaired.log().contains("the head was moved from epoch"),
        "{}",
        repaired.log()
    );
    let mut again = run.repair(&[]);
    assert!(!again.wait(REST).success(), "{}", again.log());
    assert!(again.log().contains("needs no repair"), "{}", again.log());

    let mut process = run.start();
    assert!(process.wait(REST).success(), "{}", process.log());
    let oracle = root.path().join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let sink = run.place("out");
    let dead = run.place("dead");
    let flags = [
        "--sink",
        &sink,
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

#[test]
fn an_epoch_whose_staged_objects_are_lost_is_computed_again_and_nothing_is_missing_or_double() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let run = Run::new(root.path(), "wedged", RATE);
    let mut process = run.start();
    until("some epochs", REST, || (manifests(&run) >= 3).then_some(()));
    // Somebody removes what is staged, until the job stops for it.
    until("the job stops", REST, || {
        remove_staged(&run.folder.join("out"));
        process.ended_within(Duration::from_millis(5))
    });
    assert!(
        process.log().contains("streamctl repair --local FILE"),
        "{}",
        process.log()
    );
    let mut stands = run.start();
    assert!(!stands.wait(REST).success(), "{}", stands.log());

    // More than one epoch may be lost.
    let mut repairs = 0;
    until("nothing is lost any more", REST, || {
        let mut repaired = run.repair(&[]);
        let done = repaired.wait(REST).success();
        repairs += usize::from(done);
        assert!(
            done || repaired.log().contains("needs no repair"),
            "{}",
            repaired.log()
        );
        (!done).then_some(())
    });
    assert!(repairs > 0);
    let mut process = run.start();
    assert!(process.wait(REST).success(), "{}", process.log());
    let oracle = root.path().join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let sink = run.place("out");
    let dead = run.place("dead");
    let flags = [
        "--sink",
        &sink,
        "--dead",
        &dead,
        "--oracle",
        oracle.to_str().unwrap(),
    ];
    let verdict = Python::new(vec![]).ask("check_output.py", &flags);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    let mut verify = run.verify();
    assert!(verify.wait(REST).success(), "{}", verify.log());
    assert!(verify.log().contains("epoch_repaired"), "{}", verify.log());
}

#[test]
fn an_etcd_that_is_put_back_under_a_running_cluster_is_refused_and_repaired_without_a_duplicate() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap().to_owned();
    let mut etcd = Etcd::start(folder.path());
    let data = folder.path().join("etcd-data");
    let copy = folder.path().join("copy");
    let mut cluster = Cluster::empty(
        vec![],
        folder.path(),
        &format!("etcd://{}", etcd.address()),
        None,
    );
    ["controller-1", "controller-2"]
        .iter()
        .for_each(|id| cluster.add_controller(id));
    ["worker-1", "worker-2"]
        .iter()
        .for_each(|id| cluster.add_worker(id));
    let file = folder.path().join("steady.toml");
    std::fs::write(&file, endless_json(&root)).unwrap();
    until("a leader", REST, || cluster.worker_list());
    cluster.cli_ok(&["submit", file.to_str().unwrap()]);
    let published = |status: &JobStatus, epoch: u64| status.published >= epoch;
    let copied = cluster
        .until_status("steady", "some epochs", REST, |status| published(status, 3))
        .published;
    etcd.kill();
    copy_folder(&data, &copy);
    etcd.start_again();
    let later = copied + 6;
    cluster.until_status("steady", "some epochs after the copy", REST, |status| {
        published(status, later)
    });

    etcd.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy_folder(&copy, &data);
    etcd.start_again();
    let older = |status: &JobStatus| {
        status
            .error
            .contains("the store is older than the checkpoint location")
    };
    let refused = until("the job is refused", REST, || {
        cluster.status("steady").filter(older)
    });
    assert!(
        refused.hint.contains("streamctl repair steady"),
        "{}",
        refused.hint
    );
    let repaired = cluster.cli_ok(&["repair", "steady"]);
    assert!(
        repaired.contains("the head was moved from epoch"),
        "{repaired}"
    );
    cluster.until_status("steady", "it goes on", REST, |status| {
        published(status, later + 3)
    });
    cluster.cli_ok(&["stop", "--drain", "steady"]);
    let verified = cluster.cli_ok(&["verify", "steady"]);
    assert!(verified.contains("proven"), "{verified}");
    let rows: Vec<String> = json_lines(&folder.path().join("steady/out"))
        .iter()
        .map(|(_, row)| row.to_string())
        .collect();
    let distinct: BTreeSet<&String> = rows.iter().collect();
    assert_eq!(
        (rows.is_empty(), distinct.len()),
        (false, rows.len()),
        "a row is there twice"
    );
}

/// Rows of its own, each once, for as long as it runs.
fn endless_json(root: &str) -> String {
    format!(
        r#"
name = "steady"
[source]
type = "generator"
shards = 2
rate = 100
[window]
size = "1s"
[transform]
sql = "SELECT uuid FROM source"
[sink]
path = "{root}/steady/out/"
format = "json"
[checkpoint]
location = "{root}/steady/checkpoint/"
"#
    )
}

fn remove_staged(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            remove_staged(&path);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "staged")
        {
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// A leader that was killed may have written one that is in no chain.
fn manifests(run: &Run) -> usize {
    let Ok(files) = std::fs::read_dir(run.folder.join("checkpoint/sales/epochs")) else {
        return 0;
    };
    let names = files.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name.ends_with(".json") && !name.starts_with('.'))
        .count()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
