//! Faults on real processes, the short ones of them: the whole list is `make chaos`.
//!
//! Rule: a record lost or there twice fails at any speed; times have head-room for a slow machine.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use streamctl_tests::chaos::{Fault, System, report, run};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::proxy::{Links, Mode};

/// Of this list's targets, on a machine that compiles or tests beside us.
const SLOWER: u32 = 4;

/// What is run here, and for how long each lasts: past the time-outs that matter for it.
const SHORT: [(&str, u64); 4] = [
    ("worker-paused", 6),
    ("worker-controller-cut", 8),
    ("leader-etcd-cut", 8),
    ("upgrade", 0),
];

#[test]
fn nothing_is_lost_or_doubled_by_a_pause_two_cuts_and_an_upgrade() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let mut system = System::start(folder.path());
    for (name, seconds) in SHORT {
        let fault = Fault::named(name).unwrap();
        let slower = |max: Option<Duration>| max.map(|max| max * SLOWER);
        let noticed_max = slower(fault.noticed_max);
        let again_max = slower(fault.again_max);
        let fault = Fault {
            lasts: Duration::from_secs(seconds),
            noticed_max,
            again_max,
            ..fault
        };
        let row = run::run(&mut system, &fault);
        assert!(row.ok, "{}\n{}", report::head(), report::table_line(&row));
    }
}

fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut reads, mut writes) = {
                let stream = stream.unwrap();
                (stream.try_clone().unwrap(), stream)
            };
            std::thread::spawn(move || std::io::copy(&mut reads, &mut writes));
        }
    });
    port
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    stream
}

fn says(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    heard(stream, text.len())
}

fn heard(stream: &mut TcpStream, count: usize) -> std::io::Result<String> {
    let mut answer = vec![0; count];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

#[test]
fn a_partition_holds_messages_and_delivers_them_when_it_heals() {
    let links = Links::default();
    let port = links.open("echo", echo());
    let mut stream = connect(port);
    assert_eq!(says(&mut stream, "before").unwrap(), "before");
    links.set(None, "echo", Mode::Hole);
    assert_eq!(
        says(&mut stream, "during").unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let mut late = connect(port);
    assert_eq!(
        says(&mut late, "late").unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    links.heal();
    assert_eq!(heard(&mut stream, 6).unwrap(), "during");
    assert_eq!(heard(&mut late, 4).unwrap(), "late");
}

#[test]
fn a_link_is_cut_for_one_process_alone() {
    let links = Links::default();
    let port = links.open("echo", echo());
    links.know(std::process::id(), "me");
    links.set(Some("somebody"), "echo", Mode::Reset);
    assert_eq!(says(&mut connect(port), "here").unwrap(), "here");
    links.set(Some("me"), "elsewhere", Mode::Reset);
    assert_eq!(says(&mut connect(port), "here").unwrap(), "here");
    let mut stream = connect(port);
    assert_eq!(says(&mut stream, "here").unwrap(), "here");
    links.set(Some("me"), "echo", Mode::Reset);
    assert_eq!(
        heard(&mut stream, 1).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert!(says(&mut connect(port), "here").is_err());
    links.heal();
    assert_eq!(says(&mut connect(port), "here").unwrap(), "here");
}

#[test]
fn who_refuses_has_no_listener_until_it_is_healed() {
    let links = Links::default();
    let port = links.open("echo", echo());
    let mut stream = connect(port);
    assert_eq!(says(&mut stream, "before").unwrap(), "before");
    links.set(None, "echo", Mode::Refuse);
    assert_eq!(
        heard(&mut stream, 1).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let refused = || {
        TcpStream::connect(("127.0.0.1", port))
            .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    };
    streamctl_tests::wait::until("a refusal", Duration::from_secs(5), || {
        refused().then_some(())
    });
    links.heal();
    streamctl_tests::wait::until("a listener", Duration::from_secs(5), || {
        (!refused()).then_some(())
    });
    assert_eq!(says(&mut connect(port), "after").unwrap(), "after");
}

#[test]
fn bytes_come_late_over_a_slow_link_and_as_an_error_from_a_failing_one() {
    let links = Links::default();
    let port = links.open("echo", echo());
    links.set(None, "echo", Mode::Delay(Duration::from_millis(60)));
    let begin = Instant::now();
    assert_eq!(says(&mut connect(port), "slow").unwrap(), "slow");
    assert!(
        begin.elapsed() >= Duration::from_millis(120),
        "there and back: {:?}",
        begin.elapsed()
    );
    links.set(None, "echo", Mode::Error(503));
    let mut stream = connect(port);
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nX-Amz-Target: Kinesis.GetRecords\r\nContent-Length: 2\r\n\r\n{}",
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("InternalFailure"),
        "{answer}"
    );
}

#[test]
fn an_unknown_fault_is_refused_with_the_names_of_the_faults() {
    assert!(Fault::named("worker-killed").is_ok());
    assert!(
        Fault::named("worker-kiled")
            .unwrap_err()
            .contains("worker-killed, leader-killed")
    );
}
