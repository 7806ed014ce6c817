//! What one worker, one job or one record does to its neighbours: nothing.
//!
//! Owns: a worker without rights, records and queries that end or hold up workers, and healthy jobs beside them.
//! Rule: the healthy job is what is judged; of the other one only that it is named.

use std::time::Duration;
use streamctl_proto::v1::{JobState, JobStatus};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;
use streamctl_tests::{Cluster, Servers};

const STEP: Duration = Duration::from_secs(90);

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

fn submit(cluster: &Cluster, folder: &std::path::Path, name: &str, text: &str) {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).expect("the test's folder takes files");
    cluster.cli_ok(&["submit", file.to_str().expect("a temporary folder's path is text")]);
}

/// The job publishes `more` epochs from now on.
#[track_caller]
fn goes_on(cluster: &Cluster, job: &str, more: u64) -> JobStatus {
    let published = cluster.status(job).map_or(0, |status| status.published);
    let what = format!("{more} more epochs of {job}");
    cluster.until_status(job, &what, STEP, |status| status.published >= published + more)
}

#[test]
fn a_worker_without_rights_is_named_and_ends_no_job() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let python = Python::new(servers.env());
    python.ask("seed.py", &["prepare", "--stream", "unused", "--shards", "1", "--bucket", "workshop"]);
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
        assert!(avoided.hint.contains("AWS_SECRET_ACCESS_KEY"), "{avoided:?}");
        let text = cluster.cli_ok(&["status", job]);
        assert!(text.contains("avoids:") && text.contains("worker-2"), "{text}");
    }
    for job in jobs {
        let status = goes_on(&cluster, job, 3);
        assert!(status.tasks.iter().all(|task| task.worker == "worker-1"), "{:?}", status.tasks);
    }

    // With nobody else there, the jobs wait and say for what.
    cluster.kill("worker-1");
    for job in jobs {
        let named = |status: &JobStatus| {
            status.waiting_on.iter().any(|wait| wait.contains("worker-2") && wait.contains("SignatureDoesNotMatch"))
        };
        cluster.until_status(job, "it waits on what refuses worker-2", STEP, named);
    }
    cluster.start_again("worker-1");
    for job in jobs {
        let status = goes_on(&cluster, job, 2);
        assert_ne!(status.state(), JobState::Failed);
    }
}
