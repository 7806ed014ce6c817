//! What one worker, one job or one record does to its neighbours: nothing.
//!
//! Owns: a worker without rights, records and queries that end or hold up workers, and healthy jobs
//! beside them.
//! Rule: the healthy job is what is judged; of the other one only that it is named.

use std::path::Path;
use std::time::{Duration, Instant};
use streamctl_proto::v1::{JobState, JobStatus};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;
use streamctl_tests::wait::until;
use streamctl_tests::{Cluster, Servers};

const STEP: Duration = Duration::from_secs(90);
/// What a stopped job computed has ended by then.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// A job that never ends by itself.
fn endless(name: &str, root: &str, sql: &str) -> String {
    format!(
        r#"
name = "{name}"
[source]
type = "generator"
shards = 2
rate = 100
[window]
size = "1s"
[transform]
sql = "{sql}"
[sink]
path = "{root}/{name}/out/"
[dead_letter]
path = "{root}/{name}/dead/"
[checkpoint]
location = "{root}/{name}/checkpoint/"
"#
    )
}

fn submit(cluster: &Cluster, folder: &Path, name: &str, text: &str) {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).expect("the test's folder takes files");
    cluster.cli_ok(&[
        "submit",
        file.to_str().expect("a temporary folder's path is text"),
    ]);
}

/// The job publishes `more` epochs from now on.
#[track_caller]
fn goes_on(cluster: &Cluster, job: &str, more: u64) -> JobStatus {
    let published = cluster.status(job).map_or(0, |status| status.published);
    let what = format!("{more} more epochs of {job}");
    cluster.until_status(job, &what, STEP, |status| {
        status.published >= published + more
    })
}

#[test]
fn a_worker_without_rights_is_named_and_ends_no_job() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let python = Python::new(servers.env());
    python.ask(
        "seed.py",
        &[
            "prepare", "--stream", "unused", "--shards", "1", "--bucket", "workshop",
        ],
    );
    let mut cluster = Cluster::start(&servers);
    cluster.add_worker("worker-1");
    let jobs = ["north", "south", "west"];
    for job in jobs {
        let text = endless(job, "s3://workshop", "SELECT uuid, country FROM source");
        submit(&cluster, servers.folder(), job, &text);
        goes_on(&cluster, job, 1);
    }

    cluster.add_worker_in("worker-2", &[("AWS_SECRET_ACCESS_KEY", "wrong")], &[]);
    for job in jobs {
        let what = format!("{job} avoids worker-2");
        let status = cluster.until_status(job, &what, STEP, |status| !status.avoided.is_empty());
        let avoided = &status.avoided[0];
        assert_eq!(avoided.worker, "worker-2");
        assert!(
            avoided.hint.contains("AWS_SECRET_ACCESS_KEY"),
            "{avoided:?}"
        );
        let text = cluster.cli_ok(&["status", job]);
        assert!(
            text.contains("avoids:") && text.contains("worker-2"),
            "{text}"
        );
    }
    for job in jobs {
        let status = goes_on(&cluster, job, 3);
        assert!(
            status.tasks.iter().all(|task| task.worker == "worker-1"),
            "{:?}",
            status.tasks
        );
    }

    // With nobody else there, the jobs wait and say for what.
    cluster.kill("worker-1");
    for job in jobs {
        let named = |status: &JobStatus| {
            status
                .waiting_on
                .iter()
                .any(|wait| wait.contains("worker-2") && wait.contains("SignatureDoesNotMatch"))
        };
        cluster.until_status(job, "it waits on what refuses worker-2", STEP, named);
    }
    cluster.start_again("worker-1");
    for job in jobs {
        let status = goes_on(&cluster, job, 2);
        assert_ne!(status.state(), JobState::Failed);
    }
}

/// A controller without etcd; its jobs write into folders.
fn small_cluster(folder: &Path) -> Cluster {
    let store = format!("file://{}", folder.join("store").display());
    let mut cluster = Cluster::empty(vec![], folder, &store, None);
    cluster.add_controller("controller-1");
    until("a leader", STEP, || cluster.leader());
    cluster
}

/// The same job, with its folders there.
fn endless_in(folder: &Path, name: &str, sql: &str) -> String {
    for place in ["out", "dead", "checkpoint"] {
        std::fs::create_dir_all(folder.join(name).join(place))
            .expect("the test's folder takes folders");
    }
    endless(
        name,
        folder.to_str().expect("a temporary folder's path is text"),
        sql,
    )
}

#[test]
fn a_job_whose_tasks_end_their_workers_is_stopped_and_the_other_one_continues() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let mut cluster = small_cluster(folder);
    for worker in ["worker-1", "worker-2"] {
        cluster.add_worker(worker);
    }
    submit(
        &cluster,
        folder,
        "good",
        &endless_in(folder, "good", "SELECT uuid, country FROM source"),
    );
    goes_on(&cluster, "good", 2);
    // Its windows do not end before its workers do: a commit would say that it gets on.
    let text = endless_in(folder, "poison", "SELECT uuid FROM source");
    let text = text
        .replace("shards = 2", "shards = 1")
        .replace("size = \"1s\"", "size = \"1h\"");
    submit(
        &cluster,
        folder,
        "poison",
        &format!("{text}\n[retry]\nmax = 1\n"),
    );

    // Each worker that reads its records dies.
    let mut deaths = 0;
    let begin = Instant::now();
    let failed = loop {
        let status = until("a status of poison", STEP, || cluster.status("poison"));
        if status.state() == JobState::Failed {
            break status;
        }
        assert!(
            begin.elapsed() < STEP * 4,
            "{deaths} workers died in vain: {status:#?}"
        );
        let Some(task) = status.tasks.first() else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        cluster.kill(&task.worker);
        deaths += 1;
        cluster.start_again(&task.worker);
        until("the end of its task", STEP, || {
            let status = cluster.status("poison")?;
            status
                .tasks
                .iter()
                .all(|other| other.task != task.task)
                .then_some(())
        });
    };
    // Two make it a suspect, once or twice it is tried beside the other one, then alone: `[retry]
    // max` is 1, but two such deaths may be an accident.
    assert!(deaths <= 7, "{deaths} workers died");
    assert!(
        failed.error.contains("its task ended 3 workers"),
        "{}",
        failed.error
    );
    assert!(failed.hint.contains("logs"), "{}", failed.hint);
    goes_on(&cluster, "good", 3);
}

#[test]
fn queries_that_compute_without_end_starve_no_job_are_named_and_stop_with_their_jobs() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let lookup = folder.join("numbers");
    std::fs::create_dir_all(&lookup).expect("the test's folder takes folders");
    let lines: String = (0..250).map(|n| format!("n{n}\n")).collect();
    std::fs::write(lookup.join("numbers.csv"), format!("name\n{lines}"))
        .expect("the folder takes files");
    let table = format!(
        "[[lookup]]\nname = \"numbers\"\npath = \"{}/\"\nformat = \"csv\"\n",
        lookup.display()
    );
    let with_lookup = |text: String| text.replace("[transform]", &format!("{table}[transform]"));

    let mut cluster = small_cluster(folder);
    cluster.add_worker_with("worker-1", &["--threads", "2"]);
    submit(
        &cluster,
        folder,
        "healthy",
        &endless_in(folder, "healthy", "SELECT uuid, country FROM source"),
    );
    goes_on(&cluster, "healthy", 1);
    let triples = "FROM source s CROSS JOIN numbers a CROSS JOIN numbers b CROSS JOIN numbers d";
    let hogs = [
        ("rows", format!("SELECT s.uuid {triples}")),
        // Never true, so that no row comes out.
        (
            "none",
            format!(
                "SELECT s.uuid {triples} WHERE regexp_like(a.name || b.name || d.name || s.uuid, '^x.*y$')"
            ),
        ),
    ];
    for (name, sql) in &hogs {
        submit(
            &cluster,
            folder,
            name,
            &with_lookup(endless_in(folder, name, sql)),
        );
    }
    for (name, _) in &hogs {
        let computes = |status: &JobStatus| {
            status.waiting_on.iter().any(|wait| {
                wait.contains("has been computing for") && wait.contains("were spent in")
            })
        };
        cluster.until_status(name, "its query is said to compute", STEP, computes);
        goes_on(&cluster, "healthy", 3);
    }
    until("a busy worker", STEP, || {
        let workers = cluster.worker_list()?;
        workers
            .first()?
            .busy_permille
            .filter(|permille| *permille >= 900)
    });

    for (name, _) in &hogs {
        cluster.cli_ok(&["stop", name]);
    }
    // What computes takes a second of CPU time for each; the healthy job and the process itself
    // take some.
    until("an idle worker", STOPPED_WITHIN, || {
        let before = cluster.cpu_seconds("worker-1");
        let second = Duration::from_secs(1);
        std::thread::sleep(second);
        (cluster.cpu_seconds("worker-1") - before < 0.5).then_some(())
    });
    goes_on(&cluster, "healthy", 3);
    assert!(
        cluster
            .process("worker-1")
            .is_some_and(|process| process.is_running()),
        "it was not started anew"
    );
}
