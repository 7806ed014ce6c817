//! A controllable network between processes: every connection passes through here, and every link
//! can be cut.
//!
//! Owns: one listener per server, the identity of clients, the handling of bytes. Does not own: the
//! purpose of a cut (`chaos`).
//! Rule: bytes pass unchanged and in order; a link is (client, server), and a change of its mode
//! applies to established and to new connections.
//!
//! The client is identified by the connection's socket in `/proc`: all processes can then use the
//! same addresses, and a controller can advertise one address to workers.

mod peer;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes in flight in each direction of a connection, besides the kernel's.
const BUFFER_BYTES: usize = 64 << 10;
/// Wait before a listener retries to bind its port.
const BIND_AGAIN: Duration = Duration::from_millis(20);
/// The longest head of a request that gets an error response.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long the rest of a refused request is read, so that the response is not lost with it.
const DISCARD_FOR: Duration = Duration::from_secs(1);

/// How a link handles its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Nothing passes and nothing ends, in both directions, like a pulled cable. Bytes in flight
    /// pass after healing.
    Hole,
    /// Connections are reset, new ones too.
    Reset,
    /// Connection attempts are refused and established connections are reset, as if the server's
    /// process were gone. For one process among several the same as [`Mode::Reset`].
    Refuse,
    /// Bytes pass with this delay, in each direction.
    Delay(Duration),
    /// Every request gets this HTTP/1.1 status.
    Error(u16),
}

/// Every link of a system; clones share them.
#[derive(Clone, Debug)]
pub struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Debug, Default)]
struct State {
    /// Names of the client processes.
    names: BTreeMap<u32, String>,
    /// The newest matching rule applies.
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// `None`: any client.
    from: Option<String>,
    to: String,
    mode: Mode,
}

impl Default for Links {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime starts");
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            runtime,
        }))
    }
}

impl Links {
    /// Forwards connections to a new port of 127.0.0.1, which is returned, to the server `name` at
    /// `target`.
    pub fn open(&self, name: &str, target: u16) -> u16 {
        let port = crate::places::free_port();
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port was free");
        listener
            .set_nonblocking(true)
            .expect("a listener can be told not to block");
        let _inside = self.0.runtime.enter();
        let listener = TcpListener::from_std(listener).expect("a listener can be watched");
        let front = Front {
            links: self.clone(),
            name: name.to_owned(),
            port,
            target,
        };
        self.0.runtime.spawn(front.serve(listener));
        port
    }

    /// Names the process with this id.
    pub fn know(&self, pid: u32, name: &str) {
        self.lock().names.insert(pid, name.to_owned());
    }

    /// Sets the mode of the link from one process, or from all, to one server.
    pub fn set(&self, from: Option<&str>, to: &str, mode: Mode) {
        let from = from.map(str::to_owned);
        let mut state = self.lock();
        state
            .rules
            .retain(|rule| rule.to != to || (from.is_some() && rule.from != from));
        state.rules.push(Rule {
            from,
            to: to.to_owned(),
            mode,
        });
        drop(state);
        self.0.changed.send_modify(|count| *count += 1);
    }

    pub fn heal(&self) {
        self.lock().rules.clear();
        self.0.changed.send_modify(|count| *count += 1);
    }

    fn mode(&self, from: Option<&str>, to: &str) -> Mode {
        let state = self.lock();
        let fits =
            |rule: &&Rule| rule.to == to && (rule.from.is_none() || rule.from.as_deref() == from);
        state
            .rules
            .iter()
            .rev()
            .find(fits)
            .map_or(Mode::Pass, |rule| rule.mode)
    }

    fn refuses_all(&self, to: &str) -> bool {
        let state = self.lock();
        state
            .rules
            .iter()
            .any(|rule| rule.to == to && rule.from.is_none() && rule.mode == Mode::Refuse)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics under this lock")
    }
}

#[derive(Clone)]
struct Front {
    links: Links,
    name: String,
    port: u16,
    target: u16,
}

impl Front {
    async fn serve(self, first: TcpListener) {
        let mut changes = self.links.changes();
        let mut listener = Some(first);
        loop {
            let refuses = self.links.refuses_all(&self.name);
            listener = match listener {
                Some(_) if refuses => None,
                None if !refuses => TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))
                    .await
                    .ok(),
                same => same,
            };
            tokio::select! {
                accepted = accept(listener.as_ref()) => {
                    if let Ok((client, address)) = accepted {
                        tokio::spawn(self.clone().carry(client, address));
                    }
                }
                _ = changes.changed() => {}
                () = tokio::time::sleep(BIND_AGAIN), if listener.is_none() && !refuses => {}
            }
        }
    }

    async fn carry(self, mut client: TcpStream, address: SocketAddr) {
        let names = self.links.lock().names.clone();
        let link = Link {
            from: peer::name_of(address.port(), self.port, &names),
            to: self.name,
            links: self.links,
        };
        match link.admitted().await {
            Mode::Error(status) => return answer(client, status).await,
            Mode::Reset | Mode::Refuse => return reset(&client),
            Mode::Pass | Mode::Hole | Mode::Delay(_) => {}
        }
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)).await else {
            return reset(&client);
        };
        // Disable Nagle, so that both hops do not wait for acknowledgements; an error means that
        // the connection is gone.
        let _gone = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let broken = tokio::select! {
            _ended = async { tokio::join!(link.pump(from_client, to_server), link.pump(from_server, to_client)) } => false,
            () = link.broken() => true,
        };
        if broken {
            reset(&client);
            reset(&server);
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

struct Link {
    links: Links,
    from: Option<String>,
    to: String,
}

impl Link {
    fn mode(&self) -> Mode {
        self.links.mode(self.from.as_deref(), &self.to)
    }

    async fn admitted(&self) -> Mode {
        let mut changes = self.links.changes();
        loop {
            match self.mode() {
                Mode::Hole => drop(changes.changed().await),
                mode => return mode,
            }
        }
    }

    /// Waits until connections of this link must break.
    async fn broken(&self) {
        let mut changes = self.links.changes();
        while !matches!(self.mode(), Mode::Reset | Mode::Refuse | Mode::Error(_)) {
            let _changed = changes.changed().await;
        }
    }

    /// Copies one direction until its end. A mode that breaks connections ends it from outside.
    async fn pump(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let mut changes = self.links.changes();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            self.admitted().await;
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                _ = changes.changed() => continue,
            };
            let Ok(count) = read else { break };
            // The link may be cut during the wait: then the data is held, and so is the end of the
            // connection.
            if let Mode::Delay(by) = self.admitted().await {
                tokio::time::sleep(by).await;
            }
            if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _gone = to.shutdown().await;
    }
}

/// Ends a connection so that the other side sees an error, not an end of stream.
fn reset(stream: &TcpStream) {
    let _gone = stream.set_zero_linger();
}

/// Responds to one HTTP/1.1 request with an error in the AWS format, and ends the connection.
async fn answer(mut client: TcpStream, status: u16) {
    let mut head = vec![];
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        match client.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let json = head
        .windows(12)
        .any(|bytes| bytes.eq_ignore_ascii_case(b"x-amz-target"));
    let (of_kinesis, of_s3) = match status {
        403 => ("AccessDeniedException", "AccessDenied"),
        _ => ("InternalFailure", "InternalError"),
    };
    let (kind, body) = if json {
        (
            "application/x-amz-json-1.1",
            format!(r#"{{"__type":"{of_kinesis}","message":"chaos"}}"#),
        )
    } else {
        (
            "application/xml",
            format!("<Error><Code>{of_s3}</Code><Message>chaos</Message></Error>"),
        )
    };
    let body = if head.starts_with(b"HEAD ") {
        String::new()
    } else {
        body
    };
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Chaos\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let _gone = client.write_all(text.as_bytes()).await;
    let _gone = client.shutdown().await;
    let discard = async {
        while client
            .read(&mut [0; 4096])
            .await
            .is_ok_and(|count| count > 0)
        {}
    };
    let _late = tokio::time::timeout(DISCARD_FOR, discard).await;
}
