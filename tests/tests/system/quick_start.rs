//! The quick start does what it says: its commands, one after the other, in one shell.
//!
//! Owns: the shell and what stands for AWS in it. Does not own: the commands, which are those of
//! `docs/quick-start.md`.
//! Rule: a command is changed only where another process may be in the way (ports) or a person
//! would wait (a minute).

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use streamctl_tests::Servers;
use streamctl_tests::places::{binary, free_port, one_system_at_a_time, servers_folder, support};
use streamctl_tests::python::Python;

/// Seconds for the whole page, on a busy machine.
const PATIENCE_S: &str = "300";

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// All blocks of `sh`, with what must be another way here.
fn script(servers: &Servers) -> String {
    let page = std::fs::read_to_string(checkout().join("docs/quick-start.md")).unwrap();
    let blocks: Vec<_> = page
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix("sh\n"))
        .collect();
    let store = format!("etcd://{}", servers.etcd.address());
    let [controller, worker, dashboard] = [0; 3].map(|_| format!("127.0.0.1:{}", free_port()));
    let with_dashboard = format!("--cluster sales --http-listen {dashboard}");
    let changes = [
        ("etcd --data-dir ./etcd &\n", ""),
        ("etcd://127.0.0.1:2379", store.as_str()),
        ("127.0.0.1:7070", controller.as_str()),
        ("127.0.0.1:7080", worker.as_str()),
        ("--cluster sales", with_dashboard.as_str()),
        ("s/my-bucket/$BUCKET/", "s/my-bucket/$BUCKET/; s/60s/2s/"),
    ];
    let mut text = blocks.concat();
    for (from, to) in changes {
        assert!(text.contains(from), "the page has no {from:?} any more");
        text = text.replace(from, to);
    }
    format!(
        "set -euo pipefail\nexport STREAMCTL_CONTROLLER=http://{controller}\ntrap 'kill $(jobs -p) || true' EXIT\n{text}"
    )
}

/// A folder of programs: `aws`, which asks emulators, and its own reading of the template.
fn stand_in(servers: &Servers) -> PathBuf {
    let folder = servers.folder().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let python = servers_folder().join("reader/bin/python");
    let words = format!(
        "#!/bin/sh\nexec {} {} \"$@\"\n",
        python.display(),
        support("py/aws_cli.py").display()
    );
    let program = folder.join("aws");
    std::fs::write(&program, words).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let template = checkout().join("deploy/aws/model-job.yaml");
    let read =
        Python::new(vec![]).try_ask_in("deploy", "template_json.py", &[template.to_str().unwrap()]);
    std::fs::write(
        servers.folder().join("template.json"),
        read.unwrap().to_string(),
    )
    .unwrap();
    folder
}

#[test]
fn the_quick_start_works_as_written() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let aws = stand_in(&servers);
    let work = servers.folder().join("checkout");
    std::fs::create_dir(&work).unwrap();
    symlink(checkout().join("deploy"), work.join("deploy")).unwrap();
    let programs = binary("streamctl");
    let path = [aws.as_path(), programs.parent().unwrap()]
        .map(|folder| folder.display().to_string())
        .join(":");

    let mut shell = Command::new("timeout");
    shell
        .args([
            "--kill-after=10",
            PATIENCE_S,
            "bash",
            "-c",
            &script(&servers),
        ])
        .current_dir(&work)
        .env_clear();
    shell
        .envs(servers.env())
        .env("PATH", format!("{path}:/usr/local/bin:/usr/bin:/bin"));
    shell
        .env("HOME", &work)
        .env("TEMPLATE_JSON", servers.folder().join("template.json"));
    shell.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = shell.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);

    let reported = |words: &str, times: usize| {
        assert_eq!(
            out.matches(words).count(),
            times,
            "{words:?} in {out}\n{err}"
        )
    };
    reported("\"code\":\"DE\"", 1);
    reported("\"code\":\"NA\"", 1);
    reported("verdict:    proven", 2);
    for words in ["| country_code |", "glueworkshop", "Atlantis", "no number"] {
        assert!(
            out.contains(words) || err.contains(words),
            "{words:?} is nowhere in {out}\n{err}"
        );
    }
}

#[test]
fn the_template_s_lookup_is_the_one_of_the_example_jobs() {
    let template = checkout().join("deploy/aws/model-job.yaml");
    let read = Python::new(vec![])
        .try_ask_in("deploy", "template_json.py", &[template.to_str().unwrap()])
        .unwrap();
    let csv = std::fs::read_to_string(
        checkout().join("deploy/jobs/data/country_lookup/country_lookup.csv"),
    )
    .unwrap();
    assert_eq!(
        read["Resources"]["Lookup"]["Properties"]["Body"],
        csv.as_str()
    );
}
