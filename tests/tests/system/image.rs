//! The image runs: our programs in its root folder, read-only, as its user, with what its base has
//! and nothing more.
//!
//! Owns: the layout of deploy/Dockerfile, tried out. Does not own: building an image; there is no
//! engine.
//! Rule: that nothing can be written is seen by trying.

use serde_json::Value;
use std::fs;
use std::time::Duration;
use streamctl_tests::jail::{DATA, Jail, USER};
use streamctl_tests::places::{country_lookup, free_port, one_system_at_a_time};
use streamctl_tests::process::Process;
use streamctl_tests::wait::{http_get, until};

const SOON: Duration = Duration::from_secs(60);
/// In Debian's libc6 and libgcc-s1, which debian:bookworm-slim has.
const LIBRARIES: [&str; 4] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
];

fn deploy(name: &str) -> String {
    fs::read_to_string(format!("{}/../deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn job() -> String {
    format!(
        r#"
name = "sales"
[source]
type = "generator"
rate = 200
bad_every = 20
[window]
size = "1s"
[[lookup]]
name = "country_lookup"
path = "{DATA}/lookup/"
[transform]
sql = "SELECT s.uuid, c.\"Code\" AS code FROM source s JOIN country_lookup c ON s.country = c.\"CountryName\""
[sink]
path = "{DATA}/out/"
[dead_letter]
path = "{DATA}/dead/"
[checkpoint]
location = "{DATA}/checkpoint/"
"#
    )
}

/// What `/proc` says of a process: the words after `key`.
fn reported(process: &Process, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn the_layout_that_is_tried_here_is_that_of_the_dockerfile() {
    let file = deploy("Dockerfile");
    let last = file.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("debian:bookworm-slim"), "{last}");
    assert!(
        last.contains(&format!("USER {USER}\n")) && last.contains(&format!("useradd --uid {USER}")),
        "{last}"
    );
    let programs = ["streamctl", "streamctl-controller", "streamctl-worker"]
        .map(|name| format!("/target/release/{name}"));
    assert!(
        last.contains(&format!(
            "COPY --from=build {} /usr/local/bin/\n",
            programs.join(" ")
        )),
        "{last}"
    );
    assert!(!last.contains("VOLUME"), "nothing is written");
    let chart = deploy("helm/streamctl/templates/_helpers.tpl");
    assert!(chart.contains(&format!("runAsUser: {USER}")) && !chart.contains("emptyDir"));
    let compose = deploy("compose.yaml");
    for part in [
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
    ] {
        assert!(compose.contains(part), "{part}");
    }
}

#[test]
fn the_programs_run_without_rights_on_a_read_only_root() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let jail = Jail::new(folder.path());
    let foreign: Vec<_> = jail
        .libraries
        .iter()
        .filter(|name| !LIBRARIES.contains(&name.as_str()))
        .collect();
    assert!(
        foreign.is_empty(),
        "the base of the image does not have {foreign:?}"
    );
    for place in ["lookup", "out", "dead", "checkpoint", "state"] {
        fs::create_dir(jail.data.join(place)).unwrap();
        fs::set_permissions(
            jail.data.join(place),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
    }
    fs::copy(
        country_lookup(),
        jail.data.join("lookup/country_lookup.csv"),
    )
    .unwrap();
    fs::write(jail.data.join("job.toml"), job()).unwrap();

    let control = free_port();
    let http = free_port();
    let flight = free_port();
    let address = |port| format!("127.0.0.1:{port}");
    let listen = address(control);
    let seen = address(http);
    let rows = address(flight);
    let url = format!("http://{listen}");
    let store = format!("--store=file://{DATA}/state");
    let args = [
        "--listen",
        &listen,
        "--http-listen",
        &seen,
        &store,
        "--id",
        "controller",
    ];
    let mut controller = jail
        .launch("controller", "streamctl-controller", &args, folder.path())
        .start();
    until("a leader", SOON, || {
        http_get(http, "/readyz").filter(|answer| answer.contains(" 200 "))
    });
    let args = ["--controller", &url, "--listen", &rows, "--id", "worker"];
    let mut worker = jail
        .launch("worker", "streamctl-worker", &args, folder.path())
        .start();
    let cli = |name: &str, args: &[&str]| {
        let mut process = jail
            .launch(
                name,
                "streamctl",
                &[&["--controller", &url], args].concat(),
                folder.path(),
            )
            .start();
        (process.wait(SOON).code(), process.log())
    };
    let submitted = cli("submit", &["submit", &format!("{DATA}/job.toml")]);
    assert_eq!(submitted.0, Some(0), "{}", submitted.1);
    until("three published windows", SOON, || {
        let answer = http_get(http, "/api/v1/jobs/sales")?;
        let status: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        (status["published"].as_u64()? >= 3).then_some(())
    });
    for process in [&controller, &worker] {
        let user = reported(process, "Uid:");
        assert!(
            user.split_whitespace()
                .all(|id| id == jail.user().to_string()),
            "{user}"
        );
        if jail.user() == USER {
            assert_eq!(reported(process, "CapEff:"), "0000000000000000");
        }
    }
    let tried = cli("write", &["context", "add", "here", "--use"]);
    assert!(
        tried.0 != Some(0) && tried.1.contains("Read-only file system"),
        "{tried:?}"
    );
    let verified = cli("verify", &["verify", "sales"]);
    assert!(
        verified.0 == Some(0) && verified.1.contains("proven"),
        "{}",
        verified.1
    );
    assert!(worker.terminate(SOON).success(), "{}", worker.log());
    assert!(
        worker.log().contains("handing shards back"),
        "{}",
        worker.log()
    );
    assert!(controller.terminate(SOON).success(), "{}", controller.log());
}

#[test]
fn the_image_is_built_without_the_doors_of_tests() {
    let dockerfile = deploy("Dockerfile");
    let build = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("RUN cargo build "))
        .expect("it builds the programs");
    let packages = build.split(" -p ").skip(1).map(|rest| {
        let name = rest.split(' ').next();
        name.expect("a package follows -p")
    });
    let mut tree = std::process::Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--offline",
        "--locked",
        "--edges",
        "no-dev,features",
    ]);
    tree.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for package in packages {
        tree.args(["-p", package]);
    }
    let tree = tree.output().expect("cargo runs");
    let text = String::from_utf8_lossy(&tree.stdout);
    assert!(text.contains("streamctl-engine"), "{tree:?}");
    let doors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("streamctl") && line.contains("test-util"))
        .collect();
    assert_eq!(doors, Vec::<&str>::new());
}
