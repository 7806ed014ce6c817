//! Waiting for a fact, with a limit.
//!
//! Owns: polling.
//! Rule: a test never sleeps for a fixed time; it names the fact that it waits for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long something of the product may take in a test. The machines of continuous integration
/// have other work: there it is four times as long.
pub fn in_time(limit: Duration) -> Duration {
    match std::env::var_os("CI") {
        Some(_) => limit * 4,
        None => limit,
    }
}

/// Polls until there is a value; panics with `what` after `limit` ([`in_time`]).
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    let limit = in_time(limit);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begin.elapsed() < limit,
            "waited {limit:?} in vain for: {what}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The whole response to an HTTP GET on 127.0.0.1, head and body; `None` if no server responds.
pub fn http_get(port: u16, path: &str) -> Option<String> {
    let timeout = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(timeout).ok()?;
    stream.set_write_timeout(timeout).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned()).filter(|text| text.starts_with("HTTP/"))
}
