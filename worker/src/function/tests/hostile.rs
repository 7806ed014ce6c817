//! A function that tries to get out.

use super::*;
use crate::function::sandbox::Layers;
use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

const WAYS_OUT: &str = include_str!("ways_out.py");

/// Tries all ways with these layers. Returns those that lead out, and how many were tried.
async fn ways_out(layers: Layers) -> (BTreeSet<String>, usize) {
    let mut given = given(WAYS_OUT);
    given.settings.layers = layers;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let _udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let abstract_name = format!("streamctl-way-{port}");
    let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = outside.path().join("socket");
    let _path = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    // The folder of another job's function, as open as it could be by mistake.
    let other = given.scratch.path().join("streamctl-function-other");
    std::fs::create_dir(&other).unwrap();
    std::fs::set_permissions(&other, Permissions::from_mode(0o777)).unwrap();
    let secret = other.join("secret");
    std::fs::write(&secret, "of another job").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o666)).unwrap();
    let facts = serde_json::json!({
        "port": port, "abstract": abstract_name, "socket": socket, "secret": secret,
        "folder": given.code.path(),
        // Nothing is sent from this machine even if the layers do not hold.
        "metadata": layers.seccomp || layers.namespaces,
    });
    std::fs::write(given.code.path().join("facts.json"), facts.to_string()).unwrap();
    let mut child = given.start().await.unwrap();
    let outcome = call(&mut child, vec![]).await.unwrap();
    let mut out = BTreeSet::new();
    let mut tried = 0;
    for line in outcome
        .log
        .iter()
        .filter(|line| matches!(line.source, LogSource::Context(_)))
    {
        tried += 1;
        let mut parts = line.text.split('\t');
        if parts.next() != Some("in") {
            out.extend(parts.next().map(str::to_owned));
        }
    }
    (out, tried)
}

#[tokio::test]
async fn a_hostile_function_tries_many_ways_out_and_gets_none() {
    let (out, tried) = ways_out(Layers::default()).await;
    assert!(tried >= 60 || !cfg!(target_arch = "x86_64"), "{tried}");
    assert_eq!(out, BTreeSet::new());
}

#[tokio::test]
async fn without_namespaces_it_gets_none_either() {
    let layers = Layers {
        namespaces: false,
        ..Layers::default()
    };
    let (out, _) = ways_out(layers).await;
    assert_eq!(out, BTreeSet::new());
}

/// The tries are real: they succeed where nothing stops them.
#[tokio::test]
async fn without_any_layer_the_same_ways_lead_out() {
    let layers = Layers {
        namespaces: false,
        landlock: false,
        seccomp: false,
    };
    let (out, _) = ways_out(layers).await;
    let _ = std::fs::remove_file("/tmp/streamctl-way-out");
    let _ = std::fs::remove_file("/dev/shm/streamctl-way-out");
    let expected = [
        "TCP to loopback",
        "UDP",
        "abstract Unix socket",
        "Unix socket of a file",
        "folder of another job",
        "link to the folder of another job",
        "times of a file of another job",
        "write to /tmp",
        "write beside the code",
        "signals by a socket",
        "fork",
        "outlive the worker",
    ];
    for way in expected {
        assert!(out.contains(way), "{way}: {out:?}");
    }
}

/// Landlock and a root of its own keep files apart, seccomp and namespaces the network: one of them
/// is enough.
#[tokio::test]
async fn each_layer_alone_keeps_its_part() {
    let none = Layers {
        namespaces: false,
        landlock: false,
        seccomp: false,
    };
    let files = ["folder of another job", "password file", "write to /tmp"];
    let network = ["TCP to loopback", "UDP", "metadata address"];
    let (out, _) = ways_out(Layers {
        landlock: true,
        ..none
    })
    .await;
    assert!(files.iter().all(|way| !out.contains(*way)), "{out:?}");
    let (out, _) = ways_out(Layers {
        seccomp: true,
        ..none
    })
    .await;
    let _ = std::fs::remove_file("/tmp/streamctl-way-out");
    let _ = std::fs::remove_file("/dev/shm/streamctl-way-out");
    assert!(network.iter().all(|way| !out.contains(*way)), "{out:?}");
    assert!(!out.contains("fork"), "{out:?}");
    let mut given = given("def process_batch(head, bodies): pass");
    given.settings.layers = Layers {
        namespaces: true,
        ..none
    };
    let child = given.start().await.unwrap();
    if child.protection().root.holds() {
        let (out, _) = ways_out(given.settings.layers).await;
        let parts = files.iter().chain(&network);
        assert!(parts.clone().all(|way| !out.contains(*way)), "{out:?}");
    }
}

#[tokio::test]
async fn an_unprotected_function_is_refused_before_its_code_runs() {
    let mut given = given("raise SystemExit('my code has run')");
    // A package that is imported when Python starts would have run, too.
    given.settings.runner = "open('/tmp/streamctl-runner-ran', 'w')";
    given.settings.require = true;
    given.settings.layers = Layers {
        namespaces: false,
        landlock: false,
        seccomp: false,
    };
    let error = given.start().await.unwrap_err();
    assert!(
        matches!(error, FunctionError::NotProtected { .. }),
        "{error}"
    );
    for expected in ["open files of others", "open connections", "switched off"] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(!std::path::Path::new("/tmp/streamctl-runner-ran").exists());
    given.settings.runner = RUNNER;
    given.settings.layers = Layers::default();
    let error = given.start().await.unwrap_err();
    assert!(matches!(error, FunctionError::Raised { .. }), "{error}");
}

#[tokio::test]
async fn what_holds_here_is_known_without_any_code_of_a_user() {
    let mut given = given("raise SystemExit('my code has run')");
    let protection = Child::check(&given.settings, &given.limits).await.unwrap();
    assert_eq!(protection.missing(false), []);
    given.settings.layers.seccomp = false;
    let protection = Child::check(&given.settings, &given.limits).await.unwrap();
    let missing = protection.missing(true);
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        protection
            .to_string()
            .contains("no seccomp (it is switched off)"),
        "{protection}"
    );
    given.leaves_nothing().await;
}

/// Where the worker is root and its Python is for all users, the function has a user of its own.
#[tokio::test]
async fn a_function_of_root_has_a_user_of_its_own() {
    let python = std::path::Path::new("/usr/bin/python3");
    if !rustix::process::geteuid().is_root() || !python.exists() {
        return;
    }
    let mut given = given(
        "
import os
def process_batch(head, bodies):
    raise ValueError(f'{os.getuid()} {os.geteuid()} {os.getgroups()} {os.stat(os.environ[\"HOME\"]).st_uid}')
",
    );
    given.settings.python = python.into();
    for namespaces in [true, false] {
        given.settings.layers.namespaces = namespaces;
        let mut child = given.start().await.unwrap();
        let error = call(&mut child, vec![]).await.unwrap_err();
        let ids = &error.raised().unwrap().message;
        let user: u32 = ids.split(' ').next().unwrap().parse().unwrap();
        assert!((61_184..65_520).contains(&user), "{ids}");
        assert_eq!(*ids, format!("{user} {user} [] {user}"));
    }
    given.leaves_nothing().await;
}

#[tokio::test]
async fn with_network_it_reaches_addresses_and_nothing_else() {
    let mut given = given(
        "
import socket
def process_batch(head, bodies):
    reached = []
    for family, address in ((socket.AF_INET, ('127.0.0.1', head['batch_id'])),
                            (socket.AF_UNIX, '\\0streamctl'), (socket.AF_NETLINK, None)):
        try:
            with socket.socket(family) as made:
                made.connect(address)
                reached.append(family.name)
        except PermissionError:
            pass
    raise ValueError(' '.join(reached))
",
    );
    given.limits.network = true;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = given.start().await.unwrap();
    let call = Call {
        batch_id: listener.local_addr().unwrap().port().into(),
        ..window()
    };
    let error = call_as(&mut child, call, vec![]).await.unwrap_err();
    assert_eq!(error.raised().unwrap().message, "AF_INET");
}

#[tokio::test]
async fn the_environment_has_what_was_given_and_nothing_of_the_worker() {
    let mut given = given(
        "
import os
def process_batch(head, bodies):
    raise ValueError(' '.join(sorted(os.environ)))
",
    );
    given
        .settings
        .extra_env
        .insert("AWS_REGION".into(), "eu-west-1".into());
    let mut child = given.start().await.unwrap();
    let error = call(&mut child, vec![]).await.unwrap_err();
    let names = &error.raised().unwrap().message;
    assert!(names.starts_with("AWS_REGION HOME LANG "), "{names}");
    assert!(!names.contains("CARGO"), "{names}");
}
