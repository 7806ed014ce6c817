//! From Glue: a job and a table as Glue's own API tells them, and the job file that comes of it.
//!
//! Rule: Glue is moto, the script lies in S3; what is imported is explained against the real table,
//! stream and lookup.

use serde_json::Value;
use std::process::{Command, Output};
use streamctl_tests::Servers;
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};
use streamctl_tests::python::Python;

struct Cli(Vec<(String, String)>);

impl Cli {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary("streamctl"));
        command
            .args(args)
            .env_clear()
            .envs(inherited())
            .envs(self.0.iter().cloned());
        command.output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

const BUCKET: &str = "workshop";

fn testdata(name: &str) -> String {
    format!(
        "{}/../cli/src/import/testdata/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn a_glue_job_is_imported_and_its_job_file_fits_the_table_the_stream_and_the_lookup() {
    let _one = one_system_at_a_time();
    let servers = Servers::start();
    let python = Python::new(servers.env());
    python.ask(
        "seed.py",
        &[
            "prepare",
            "--stream",
            "s",
            "--shards",
            "2",
            "--bucket",
            BUCKET,
            "--table",
            "json-streaming-table",
        ],
    );
    python.ask(
        "glue_job.py",
        &["nodes", "--get-job", &testdata("get-job.json")],
    );
    python.ask(
        "glue_job.py",
        &[
            "script",
            "--name",
            "By script",
            "--bucket",
            BUCKET,
            "--script",
            &testdata("workshop.py"),
        ],
    );
    let cli = Cli(servers.env());

    let shown: Value = serde_json::from_str(&cli.ok(&[
        "catalog",
        "show",
        "glueworkshop_cloudformation.json-streaming-table",
        "-o",
        "json",
    ]))
    .unwrap();
    assert_eq!(
        (
            shown["columns"].as_array().unwrap().len(),
            &shown["stream"]["name"]
        ),
        (14, &Value::from("s"))
    );
    let missing = cli.run(&[
        "catalog",
        "show",
        "glueworkshop_cloudformation.no-such-table",
    ]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");

    let file = servers.folder().join("imported.toml");
    let to = file.to_str().unwrap();
    let imported = cli.run(&["import", "glue-job", "By script", "--to", to]);
    assert!(imported.status.success(), "{imported:?}");
    assert!(
        String::from_utf8_lossy(&imported.stderr).contains("things to look at:\n- "),
        "{imported:?}"
    );
    cli.ok(&["validate", to]);
    let explained = cli.ok(&["explain", to]);
    for column in ["saleschannel", "unitssold", "Code"] {
        assert!(explained.contains(column), "{column} is not in {explained}");
    }

    let visual: Value =
        serde_json::from_str(&cli.ok(&["import", "glue-job", "Sales nightly", "-o", "json"]))
            .unwrap();
    assert!(
        visual["job_file"]
            .as_str()
            .unwrap()
            .contains("s3://my-bucket/out/sales/"),
        "{visual}"
    );
    assert!(
        visual["notes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|note| note["place"] == "Hide names"),
        "{visual}"
    );
    let missing = cli.run(&["import", "glue-job", "no-such-job"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
}
