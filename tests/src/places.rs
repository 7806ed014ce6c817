//! Paths and ports: our programs, the servers, the scripts, a free port.
//!
//! Owns: the only access to the environment in the tests.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// The range of ports: below the kernel's range for outgoing connections, so that a port stays free
/// while its process is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Only one test at a time starts servers: two cores carry one system.
static ONE_SYSTEM: Mutex<()> = Mutex::new(());

/// Waits until no other test of this process holds a system.
pub fn one_system_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    ONE_SYSTEM
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One of our programs, beside the running one or beside the folder of the running test: built by
/// `cargo build --workspace --bins`.
pub fn binary(name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    let folder = running.parent().expect("a program lies in a folder");
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("<target>/<profile>/deps")
    } else {
        folder
    };
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins`, or `make test`",
        path.display()
    );
    path
}

/// A program that `tests/support/servers.sh` installed.
pub fn server_program(name: &str) -> PathBuf {
    let path = servers_folder().join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `tests/support/servers.sh tests`, or `make test`",
        path.display()
    );
    path
}

/// The installation folder of `tests/support/servers.sh`.
pub fn servers_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("STREAMCTL_SERVERS") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    cache.unwrap_or_else(home).join("streamctl/servers")
}

/// The interpreter with pyarrow, pandas and polars.
pub fn function_python() -> PathBuf {
    servers_folder().join("function/bin/python")
}

/// The environment that our programs inherit: enough to find shared libraries and a home, and none
/// of the caller's AWS settings.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has no `main` to read its settings in"
)]
pub fn inherited() -> Vec<(String, String)> {
    let keep = [
        "PATH",
        "HOME",
        "LD_LIBRARY_PATH",
        "TMPDIR",
        "RUST_LOG",
        "LLVM_PROFILE_FILE",
    ];
    keep.iter()
        .filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?)))
        .collect()
}

/// Whether generated files are to be rewritten (`make docs`) rather than compared.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has no `main` to read its settings in"
)]
pub fn docs_are_written() -> bool {
    std::env::var("DOCS").is_ok_and(|wish| wish == "write")
}

/// A file below `tests/support/`.
pub fn support(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("support")
        .join(name)
}

/// The workshop's lookup, as the example jobs use it.
pub fn country_lookup() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/jobs/data/country_lookup/country_lookup.csv")
}

/// A port of 127.0.0.1 without a listener, which this process returns only once.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of this many such ports in a row.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes start at different offsets, so that two concurrent test programs seldom try the
    // same port.
    let span = PORTS.end - PORTS.start - count;
    let begin = (std::process::id().wrapping_mul(97) % u32::from(span)) as u16;
    for _ in 0..span / count {
        let first = PORTS.start + (begin + NEXT.fetch_add(count, Ordering::Relaxed) % span) % span;
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} free ports in {PORTS:?}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok()
}
