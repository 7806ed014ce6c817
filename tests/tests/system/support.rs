//! The tests' own footing: servers that start and end, a check that finds what is wrong.

use serde_json::{Value, json};
use std::time::Duration;
use streamctl_tests::places::{country_lookup, free_port, one_system_at_a_time};
use streamctl_tests::process::Launch;
use streamctl_tests::python::Python;
use streamctl_tests::servers::{Etcd, Servers};
use streamctl_tests::signers::{Reader, Signed, UNREADABLE};

#[test]
fn a_port_is_given_out_once() {
    assert_ne!(free_port(), free_port());
}

#[test]
fn etcd_comes_back_on_its_port_after_a_kill() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let mut etcd = Etcd::start(folder.path());
    let address = etcd.address();
    etcd.kill();
    assert!(std::net::TcpStream::connect(&address).is_err());
    etcd.start_again();
    assert!(std::net::TcpStream::connect(&address).is_ok());
    etcd.pause();
    etcd.resume();
}

#[test]
fn a_process_dies_with_its_handle_and_reports_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let shell = |script: &str| {
        Launch::new("shell", "/bin/sh".into(), &["-c", script], folder.path()).start()
    };
    let mut clean = shell("trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    streamctl_tests::wait::until("its first word", Duration::from_secs(5), || {
        clean.log().contains("up").then_some(())
    });
    assert!(clean.is_running());
    assert!(clean.terminate(Duration::from_secs(5)).success());
    assert!(clean.log().contains("asked"));
    let endless = shell("exec sleep 1000");
    let pid = endless.pid();
    drop(endless);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// One run of all servers for everything that the scripts do: starting them is most of the time.
#[test]
fn the_servers_hold_what_is_seeded_and_the_check_finds_every_fault() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let python = Python::new(servers.env());
    let oracle = servers.folder().join("oracle.jsonl");
    let oracle = oracle.to_str().unwrap();

    let prepare = [
        "prepare",
        "--stream",
        "glueworkshop",
        "--shards",
        "2",
        "--bucket",
        "workshop",
    ];
    assert_eq!(
        python.ask("seed.py", &prepare)["table"],
        "json-streaming-table"
    );
    python.ask("seed.py", &prepare);
    let shares = [
        "--bad-every",
        "20",
        "--unmatched-every",
        "15",
        "--stream",
        "glueworkshop",
        "--oracle",
        oracle,
    ];
    let sent = python.ask(
        "seed.py",
        &[&["write", "--records", "120"], &shares[..]].concat(),
    );
    assert_eq!(sent, json!({ "sent": 120 }));

    let split = python.ask("reshard.py", &["split", "glueworkshop"]);
    assert_eq!(split["children"].as_array().unwrap().len(), 2);
    let merge = python.ask("reshard.py", &["merge", "glueworkshop"]);
    assert_eq!(
        (
            merge["parents"].as_array().unwrap().len(),
            merge["children"].as_array().unwrap().len()
        ),
        (2, 1)
    );
    assert_eq!(
        python.ask(
            "seed.py",
            &["edges", "--stream", "glueworkshop", "--oracle", "/dev/null"]
        )["sent"],
        20
    );

    let judged = |fault: &str| judge_forged(&python, oracle, fault);
    let good = judged("none");
    assert_eq!(good["ok"], true, "{good}");
    // Every 15th that is not a 20th too.
    assert_eq!(
        good["sent"],
        json!({ "match": 108, "bad": 6, "unmatched": 6 })
    );
    for fault in ["double", "lose", "wrong_code", "foreign", "lose_dead"] {
        assert_eq!(judged(fault)["ok"], false, "{fault} went unseen");
        assert_eq!(
            like_the_good_one(&python, fault),
            false,
            "{fault} looks like the good one"
        );
    }
    assert_eq!(like_the_good_one(&python, "none"), true);
}

fn like_the_good_one(python: &Python, fault: &str) -> Value {
    let [sink, dead] = ["out", "dead"].map(|place| format!("s3://workshop/{fault}/{place}/"));
    let good = ["s3://workshop/none/out/", "s3://workshop/none/dead/"];
    python.ask("same_output.py", &[good[0], good[1], &sink, &dead])["ok"].clone()
}

fn judge_forged(python: &Python, oracle: &str, fault: &str) -> Value {
    let sink = format!("s3://workshop/{fault}/out/");
    let dead = format!("s3://workshop/{fault}/dead/");
    python.ask("forge_output.py", &[&sink, &dead, oracle, fault]);
    python.ask(
        "check_output.py",
        &["--sink", &sink, "--dead", &dead, "--oracle", oracle],
    )
}

#[test]
fn a_writer_ends_well_when_asked_and_its_oracle_holds_what_was_acknowledged() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let python = Python::new(servers.env());
    python.ask(
        "seed.py",
        &[
            "prepare", "--stream", "s", "--shards", "1", "--bucket", "workshop",
        ],
    );
    let oracle = servers.folder().join("oracle.jsonl");
    let flags = [
        "write",
        "--stream",
        "s",
        "--records",
        "0",
        "--rate",
        "40",
        "--oracle",
        oracle.to_str().unwrap(),
    ];
    let mut writer = python.start("writer", "seed.py", &flags, servers.folder());
    let lines = || {
        std::fs::read_to_string(&oracle)
            .unwrap_or_default()
            .lines()
            .count()
    };
    streamctl_tests::wait::until("30 records", Duration::from_secs(30), || {
        (lines() >= 30).then_some(())
    });
    assert!(
        writer.terminate(Duration::from_secs(10)).success(),
        "{}",
        writer.log()
    );
    let said: Value = serde_json::from_str(writer.log().trim()).unwrap();
    assert_eq!(said["sent"], lines());
}

#[test]
fn the_lookup_of_the_tests_is_the_workshops() {
    let text = std::fs::read_to_string(country_lookup()).unwrap();
    assert_eq!(
        (text.lines().count(), text.lines().next()),
        (250, Some("CountryName,Code"))
    );
    assert!(text.contains("\nNamibia,NA\n"));
}

#[test]
fn each_request_of_a_connection_is_found_however_its_bytes_come() {
    let bytes = b"PUT /b/k?x=1 HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 \
        Credential=ONE/2026/us-east-1/s3/aws4_request, Signature=1\r\nContent-Length: 30\r\n\r\n\
        GET /no HTTP/1.1\r\n\r\n1234567890\
        POST / HTTP/1.1\r\nx-amz-target: AWSGlue.GetTable\r\ncontent-length: 2\r\n\
        authorization: AWS4-HMAC-SHA256 Credential=TWO/2026\r\n\r\n{}\
        GET /status HTTP/1.1\r\n\r\n";
    let expected = [
        ("PUT /b/k?x=1", "ONE"),
        ("AWSGlue.GetTable {}", "TWO"),
        ("GET /status", ""),
    ];
    for size in [1, 7, bytes.len()] {
        let mut reader = Reader::default();
        let found: Vec<Signed> = bytes
            .chunks(size)
            .flat_map(|part| reader.take(part))
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.request.as_str(), one.key.as_str()))
            .collect();
        assert_eq!(found, expected, "{size}");
    }
    let mut reader = Reader::default();
    let found = reader.take(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(found[0].request, UNREADABLE);
}
