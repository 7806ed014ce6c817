//! Places of other accounts: each is used by the role that the job names for it, and by no other key.
//!
//! Owns: who signs which request to S3, the Data Catalog and a catalog of tables. Does not own: when
//! keys are renewed and who may name a role (the engine).
//! Rule: the requests are read on their way; S3 knows the keys of the roles, and checks signatures.

use crate::functions;
use crate::iceberg::with_sink;
use crate::model_job::{JOB, STEP, Scene, job_file};
use std::collections::BTreeSet;
use streamctl_engine::aws::fake_sts::FakeSts;
use streamctl_tests::Servers;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;
use streamctl_tests::servers::WAREHOUSE;
use streamctl_tests::signers::{Signed, Signers};
use tokio::runtime::Runtime;

/// The keys of the roles, as the fake of STS issues them.
const KEYS: [(&str, &str); 4] = [
    ("ROLE-sink", "secret-sink"),
    ("ROLE-other", "secret-other"),
    ("ROLE-lookup", "secret-lookup"),
    ("ROLE-table", "secret-table"),
];
/// The key of the programs themselves.
const OWN: &str = "test";
const DATABASE: &str = "sales";

fn role(name: &str) -> String {
    format!("arn:aws:iam::210987654321:role/streamctl/{name}")
}

/// What the programs reach by way of proxies that keep who signed.
struct World {
    scene: Scene,
    s3: Signers,
    glue: Signers,
    /// The port of the catalog of tables.
    tables: u16,
    sts: FakeSts,
    _runtime: Runtime,
}

impl World {
    fn start() -> Self {
        let (servers, tables) = Servers::start_with_keys(&KEYS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let sts = runtime.block_on(FakeSts::start());
        sts.issue_without_tokens();
        let port = servers.glue_address();
        let port = port.rsplit(':').next().unwrap().parse().unwrap();
        let s3 = Signers::before(servers.s3_port());
        let glue = Signers::before(port);
        let scene = Scene::on(
            servers,
            &[
                ("AWS_ENDPOINT_URL_S3", &s3.address()),
                ("AWS_ENDPOINT_URL_GLUE", &glue.address()),
                ("AWS_ENDPOINT_URL_STS", sts.address()),
            ],
        );
        // Of the preparation.
        s3.take();
        glue.take();
        Self {
            scene,
            s3,
            glue,
            tables,
            sts,
            _runtime: runtime,
        }
    }
}

/// The model job, all of whose places have roles but the checkpoint and the dead letters.
fn job(sink_role: &str) -> String {
    let job = job_file()
        .replace(
            "table = \"json-streaming-table\" }",
            &format!(
                "table = \"json-streaming-table\", role_arn = \"{}\" }}",
                role("schema")
            ),
        )
        .replace(
            "refresh = \"1m\"",
            &format!("refresh = \"1s\"\nrole_arn = \"{}\"", role("lookup")),
        );
    assert!(job.contains("role/streamctl/schema") && job.contains("role/streamctl/lookup"));
    let sink = format!(
        "[sink]\npath = \"s3://workshop/output/lab4/sales/\"\nformat = \"parquet\"\n\
         partition_by = [\"itemtype\"]\nrole_arn = \"{}\"\n\
         catalog = {{ database = \"{DATABASE}\", table = \"by_country\", role_arn = \"{}\" }}\n",
        role(sink_role),
        role("catalog"),
    );
    with_sink(&job, &sink)
}

/// The key that a request of the job to S3 must have; the sink's may be one of several.
#[track_caller]
fn expected<'k>(request: &str, sink: &'k [&'k str]) -> &'k [&'k str] {
    let request = request.replace("%2F", "/");
    let is = |place: &str| request.contains(place);
    if is("output/lab4/checkpoint/") || is("output/lab4/dead/") {
        return &[OWN];
    }
    if is("output/lab4/sales/") {
        return sink;
    }
    if is("input/lab4/country_lookup") {
        return &["ROLE-lookup"];
    }
    panic!("a request to no place of the job: {request}");
}

#[track_caller]
fn check_s3(requests: &[Signed], sink: &[&str]) {
    for Signed { request, key } in requests {
        let expected = expected(request, sink);
        assert!(
            expected.contains(&key.as_str()),
            "{request} is signed by {key:?}, not by {expected:?}"
        );
    }
}

/// Whether a request of this form was signed by this key.
fn has(requests: &[Signed], key: &str, parts: &[&str]) -> bool {
    requests.iter().any(|one| {
        let request = one.request.replace("%2F", "/");
        one.key == key && parts.iter().all(|part| request.contains(part))
    })
}

#[test]
fn each_place_of_a_job_is_used_by_its_role_and_by_no_other_key() {
    let _alone = one_system_at_a_time();
    let mut world = World::start();
    let scene = &mut world.scene;
    scene.python.ask("glue_table.py", &["database", DATABASE]);

    // A role that cannot be assumed is a problem of its key, before anything is done.
    world.sts.deny(&role("denied"));
    let file = scene.file("denied.toml", &job("denied"));
    let refused = scene.cluster.cli(&["submit", &file]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{text}");
    for part in [
        "sink.path",
        "controller-",
        &role("denied"),
        "sts:AssumeRole: AccessDenied",
        "trust policy",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    check_s3(&world.s3.take(), &[]);

    let file = scene.file("job.toml", &job("sink"));
    scene.cluster.cli_ok(&["submit", &file]);
    let mut writer = scene.writer("live", 1_000, 0);
    scene.goes_on("the submit");
    let first = world.s3.take();
    check_s3(&first, &["ROLE-sink"]);
    let sales = "output/lab4/sales/";
    for parts in [
        ["POST ", "uploads", sales],
        ["PUT ", "partNumber", sales],
        ["POST ", "uploadId", sales],
        ["GET ", "list-type", sales],
    ] {
        assert!(has(&first, "ROLE-sink", &parts), "{parts:?}: {first:#?}");
    }
    assert!(has(&first, "ROLE-lookup", &["GET ", "country_lookup"]));
    assert!(has(&first, OWN, &["PUT ", "output/lab4/checkpoint/"]));

    // Another role takes over at a window's edge; what was staged by the first one is published.
    let file = scene.file("changed.toml", &job("other"));
    scene.cluster.cli_ok(&["submit", "--change", &file]);
    scene.goes_on("the change of the role");
    check_s3(&world.s3.take(), &["ROLE-sink", "ROLE-other"]);
    scene.goes_on("the change, again");
    let later = world.s3.take();
    check_s3(&later, &["ROLE-other"]);
    assert!(has(&later, "ROLE-other", &["POST ", "uploadId", sales]));
    // A new leader and a new worker assume the roles anew.
    scene.cluster.kill_leader();
    scene.cluster.kill("worker-1");
    scene.cluster.start_all_again();
    scene.goes_on("another leader");

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    scene.everything_is_there_once();
    scene.cluster.cli_ok(&["verify", JOB]);
    check_s3(&world.s3.take(), &["ROLE-other"]);

    let glue = world.glue.take();
    for Signed { request, key } in &glue {
        let of_sink = request.contains(&format!("\"{DATABASE}\""));
        let expected = if of_sink {
            "ROLE-catalog"
        } else {
            "ROLE-schema"
        };
        assert_eq!(key, expected, "{request}");
    }
    for operation in ["CreateTable", "BatchCreatePartition"] {
        assert!(has(&glue, "ROLE-catalog", &[operation]), "{operation}");
    }
    assert!(has(&glue, "ROLE-schema", &["GetTable"]));
    let assumed = world.sts.calls();
    assert!(assumed.iter().all(|call| call.key == OWN), "{assumed:#?}");
    let roles: BTreeSet<_> = assumed.iter().map(|call| call.role_arn.clone()).collect();
    let named = ["catalog", "denied", "lookup", "other", "schema", "sink"];
    assert_eq!(roles, named.map(role).into());
}

#[test]
fn a_table_and_its_catalog_are_used_by_the_role_of_the_sink() {
    let _alone = one_system_at_a_time();
    let mut world = World::start();
    let catalog = Signers::before(world.tables);
    let table = "sales.by_country";
    let port = world.tables.to_string();
    let uri = format!("http://127.0.0.1:{port}");
    let own = Python::new(world.scene.servers.env());
    let place = ["--uri", &uri, "--warehouse", WAREHOUSE, "--table", table];
    let ask = |words: &[&str]| {
        let all = [&place[..], words].concat();
        own.try_ask_in("tables", "tables.py", &all)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    };
    ask(&["namespace"]);
    let sink = format!(
        "[sink]\ntype = \"iceberg\"\ncatalog = \"s3tables\"\nuri = \"{}\"\nregion = \"us-east-1\"\n\
         warehouse = \"{WAREHOUSE}\"\ntable = \"{table}\"\ncreate = true\nrole_arn = \"{}\"\n",
        catalog.address(),
        role("table"),
    );
    let scene = &mut world.scene;
    let file = scene.file("job.toml", &with_sink(&job_file(), &sink));
    scene.cluster.cli_ok(&["submit", &file]);
    let mut writer = scene.writer("live", 1_000, 0);
    scene.goes_on("the submit");
    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_published();
    scene.cluster.cli_ok(&["verify", JOB]);

    let found = ask(&["describe"]);
    let rows = status.totals.unwrap_or_default().rows_out;
    assert_eq!(found["rows"].as_u64(), Some(rows), "{found:#}");
    let calls = catalog.take();
    assert!(
        calls.iter().all(|call| call.key == "ROLE-table"),
        "{calls:#?}"
    );
    assert!(has(&calls, "ROLE-table", &["POST ", "/tables"]));
    let objects = world.s3.take();
    for Signed { request, key } in &objects {
        let is_of_table = request.contains(&format!(" /{WAREHOUSE}"));
        let expected = if is_of_table { "ROLE-table" } else { OWN };
        assert_eq!(key, expected, "{request}");
    }
    for parts in [["POST ", "uploadId"], ["PUT ", ".avro"]] {
        assert!(has(&objects, "ROLE-table", &parts), "{parts:?}");
    }
}

#[test]
fn a_function_is_given_the_keys_of_its_role_at_submit_and_in_each_window() {
    let runtime = Runtime::new().expect("a runtime starts");
    let sts = runtime.block_on(FakeSts::start());
    let arn = role("function");
    // The columns are learned from a call without rows, which has the keys too.
    let transform = "\
import os

def process_batch(frame, batch_id):
    kept = sorted(name for name in os.environ if name.startswith('AWS_'))
    return frame[['uuid']].assign(key=os.environ['AWS_ACCESS_KEY_ID'], kept=' '.join(kept))
";
    let function = format!("file = \"transform.py\"\nnetwork = true\ncredentials = \"{arn}\"");
    let scene = functions::Scene::new(transform, &function, "");
    let env = [
        ("AWS_ACCESS_KEY_ID", "OWN"),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-the-worker"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ENDPOINT_URL_STS", sts.address()),
    ];
    let ran = scene.run_with(&env);
    assert!(ran.status.success(), "{}", functions::text(&ran));
    let rows = scene.rows();
    assert_eq!(rows.len() as u64, functions::RECORDS);
    let expected = "AWS_ACCESS_KEY_ID AWS_DEFAULT_REGION AWS_EC2_METADATA_DISABLED AWS_REGION \
                    AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN";
    for row in &rows {
        assert_eq!(
            (&row["key"], &row["kept"]),
            (&"ROLE-function".into(), &expected.into())
        );
    }
    let calls = sts.calls();
    assert!(
        calls
            .iter()
            .all(|call| call.role_arn == arn && call.key == "OWN"),
        "{calls:#?}"
    );

    sts.deny(&arn);
    let refused = scene
        .command("run", &["--state", "other-state"])
        .envs(env)
        .output();
    let refused = refused.expect("the program starts");
    let text = functions::text(&refused);
    assert!(!refused.status.success(), "{text}");
    for part in ["function", "cannot assume the role", &arn, "trust policy"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
