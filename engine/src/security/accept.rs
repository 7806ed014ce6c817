//! Accepts connections: limits their number and peers, with TLS if there is a certificate.
//!
//! Owns: the limits on clients before their first call, the identity of the other side. Does not
//! own: what is served.
//! Rule: a handshake delays no other connection. A connection that does not finish it in time, or
//! makes no call in time, is closed. A connection with a call in flight is never closed to make
//! room for another.

use super::same_user::{PeerUser, peer_user};
use super::tls::{self, ServerConfigs};
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Most connections of a gRPC listener. For a further one, the connection that has been without a
/// call for longest is closed.
pub const GRPC_CONNECTIONS_MAX: usize = 4_096;
/// Most connections of one address, loopback excepted; further ones are closed.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Most concurrent calls of one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Largest head of a call over gRPC.
pub const CALL_HEAD_BYTES_MAX: u32 = 16 << 10;
/// Time in which a TLS handshake must be done.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a rejected client to read the reason.
pub const PARTING_TIMEOUT: Duration = Duration::from_millis(500);
/// Time from the handshake to the first call of a gRPC connection. After it the connection is
/// closed, and a client opens another.
pub const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After this time without data, a gRPC client gets a ping.
pub const FLIGHT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// If the client does not respond to the ping, its connection is closed after this time.
pub const FLIGHT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Wait between two attempts to make room for a connection, while all others have calls.
const SEAT_RETRY_WAIT: Duration = Duration::from_millis(100);
/// Wait after a failed accept, for example for lack of file descriptors.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);
/// Connections that are ready but not yet served.
const READY_MAX: usize = 16;

/// Returns the current TLS settings; `None`: connections are plain.
pub type ConfigNow = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

pub fn for_grpc(tls: Option<tls::ServerTls>) -> ConfigNow {
    pick(tls, |configs| Arc::clone(&configs.grpc))
}

pub fn for_http(tls: Option<tls::ServerTls>) -> ConfigNow {
    pick(tls, |configs| Arc::clone(&configs.http))
}

fn pick(tls: Option<tls::ServerTls>, one: fn(&ServerConfigs) -> Arc<ServerConfig>) -> ConfigNow {
    Arc::new(move || tls.as_ref().map(|tls| one(&tls.current())))
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections. For a further one, the connection that has been without a call for longest
    /// is closed; while all have calls, it waits.
    pub connections: usize,
    /// Time from the handshake to the first HTTP/2 call; `None`: the server of the connection
    /// limits it.
    pub first_call: Option<Duration>,
}

impl Limits {
    /// The limits of a gRPC listener.
    pub const GRPC: Self = Self {
        connections: GRPC_CONNECTIONS_MAX,
        first_call: Some(FIRST_CALL_TIMEOUT),
    };
}

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The DNS names of its verified certificate.
    pub names: Arc<[String]>,
    /// Where the connection was accepted.
    local: Option<SocketAddr>,
    user: Arc<OnceLock<PeerUser>>,
    activity: Arc<Activity>,
}

impl Peer {
    /// A peer at this address without a certificate.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            names: Arc::new([]),
            local: None,
            user: Arc::default(),
            activity: Arc::default(),
        }
    }

    /// Stops reading from this connection.
    pub fn hang_up(&self) {
        self.activity.close();
    }

    /// An admitted call; while this is held, the connection is not closed to make room for others.
    pub fn begin_call(&self) -> CallGuard {
        self.activity.calls.fetch_add(1, Ordering::Relaxed);
        CallGuard(Arc::clone(&self.activity))
    }

    /// The user of this machine at the other end; `None`: it is another machine.
    pub fn user(&self) -> Option<PeerUser> {
        if !self.address.ip().to_canonical().is_loopback() {
            return None;
        }
        let find_user = || {
            self.local
                .map_or(PeerUser::Unknown, |local| peer_user(self.address, local))
        };
        Some(*self.user.get_or_init(find_user))
    }
}

#[derive(Debug)]
pub struct CallGuard(Arc<Activity>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.idle_since.store(next_turn(), Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Orders the moments at which connections became idle.
fn next_turn() -> u64 {
    static TURN: AtomicU64 = AtomicU64::new(0);
    TURN.fetch_add(1, Ordering::Relaxed)
}

/// The use of a connection.
#[derive(Debug)]
struct Activity {
    /// No more data is read from it.
    closing: AtomicBool,
    /// Wakes its reader.
    reader: AtomicWaker,
    /// Admitted calls in flight.
    calls: AtomicUsize,
    /// When it became idle: the larger, the later.
    idle_since: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            closing: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            calls: AtomicUsize::new(0),
            idle_since: AtomicU64::new(next_turn()),
        }
    }
}

impl Activity {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether it is closing; if not, the task is woken when it is.
    fn poll_closing(&self, context: &mut Context<'_>) -> Poll<()> {
        self.reader.register(context.waker());
        if self.is_closing() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// The connections of a listener that hold one of its seats, during or after their handshake.
#[derive(Clone, Default)]
struct Seated(Arc<Mutex<BTreeMap<u64, Arc<Activity>>>>);

/// The seat of a connection; free again when dropped.
struct Seat {
    id: u64,
    all: Seated,
    _room: OwnedSemaphorePermit,
}

impl Seated {
    fn sit(&self, activity: &Arc<Activity>, room: OwnedSemaphorePermit) -> Seat {
        let id = next_turn();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(activity));
        Seat {
            id,
            all: self.clone(),
            _room: room,
        }
    }

    /// Closes the connection that has been without a call for longest.
    fn close_longest_idle(&self) {
        let seated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = seated
            .values()
            .filter(|one| !one.is_closing() && one.calls.load(Ordering::Relaxed) == 0);
        if let Some(longest) = idle.min_by_key(|one| one.idle_since.load(Ordering::Relaxed)) {
            longest.close();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

/// An accepted connection.
pub struct Connection {
    stream: Stream,
    pub peer: Peer,
    /// Present until its first call begins.
    opening: Option<Opening>,
    _seat: Seat,
    _counted: Counted,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The phase before a connection's first call.
struct Opening {
    ends: Pin<Box<Sleep>>,
    frames: Frames,
}

/// Length of the HTTP/2 connection preface.
const PREFACE_BYTES: usize = 24;
/// Length of an HTTP/2 frame header.
const FRAME_HEAD_BYTES: usize = 9;
/// The kind of frame that begins a call.
const HEADERS: u8 = 1;

/// Parses the frames of an HTTP/2 connection up to the first one that begins a call.
struct Frames {
    /// Bytes to skip: the preface, or the rest of a frame.
    skip: usize,
    head: [u8; FRAME_HEAD_BYTES],
    /// How many of those are known.
    known: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; FRAME_HEAD_BYTES],
            known: 0,
        }
    }
}

impl Frames {
    /// Whether a call begins in these bytes. The server of the connection refuses anything but
    /// HTTP/2.
    fn begin_a_call(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[self.known] = bytes[0];
            self.known += 1;
            bytes = &bytes[1..];
            if self.known == FRAME_HEAD_BYTES {
                let [high, middle, low, kind, ..] = self.head;
                if kind == HEADERS {
                    return true;
                }
                self.known = 0;
                self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
            }
        }
        false
    }
}

type Counts = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// One counted connection; leaves the count when dropped.
struct Counted(Option<(IpAddr, Counts)>);

impl Counted {
    /// `None`: this address has too many.
    fn one_more(counts: &Counts, address: IpAddr) -> Option<Self> {
        if address.is_loopback() {
            return Some(Self(None));
        }
        let mut table = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(address).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Self(Some((address, Arc::clone(counts)))))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((address, counts)) = &self.0 else {
            return;
        };
        let mut table = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                table.remove(address);
            }
        }
    }
}

/// The connections of a listener, within `limits`. The listener ends when this is dropped.
pub fn incoming(
    listener: TcpListener,
    config: ConfigNow,
    limits: Limits,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, receiver) = mpsc::channel(READY_MAX);
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(limits.connections));
        let seated = Seated::default();
        let counts = Counts::default();
        let local = listener.local_addr().ok();
        loop {
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY_WAIT).await;
                continue;
            };
            let Some(counted) = Counted::one_more(&counts, address.ip()) else {
                tracing::debug!(%address, "too many connections of one address, this one is closed");
                continue;
            };
            let permit = tokio::select! {
                () = ready.closed() => return,
                permit = take_seat(&room, &seated) => permit,
            };
            let Some(permit) = permit else { return };
            let _slower = stream.set_nodelay(true);
            // A listener on all addresses does not know at which one it was reached.
            let local = stream.local_addr().ok().or(local);
            let peer = Peer {
                local,
                ..Peer::at(address)
            };
            let seat = seated.sit(&peer.activity, permit);
            let ready = ready.clone();
            let config = config();
            tokio::spawn(async move {
                let handshake = tokio::select! {
                    () = poll_fn(|context| peer.activity.poll_closing(context)) => return,
                    handshake = shake_hands(stream, config) => handshake,
                };
                match handshake {
                    Ok((stream, names)) => {
                        let peer = Peer {
                            names: names.into(),
                            ..peer
                        };
                        let opening = limits.first_call.map(|time| Opening {
                            ends: Box::pin(tokio::time::sleep(time)),
                            frames: Frames::default(),
                        });
                        let connection = Connection {
                            stream,
                            peer,
                            opening,
                            _seat: seat,
                            _counted: counted,
                        };
                        let _ended = ready.send(Ok(connection)).await;
                    }
                    Err(error) => {
                        tracing::debug!(%address, %error, "a connection without a good handshake was closed")
                    }
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// Waits for a free seat, and meanwhile closes idle connections for theirs. `None`: the listener
/// has ended.
async fn take_seat(room: &Arc<Semaphore>, seated: &Seated) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
            return Some(permit);
        }
        seated.close_longest_idle();
        let permit = Arc::clone(room).acquire_owned();
        if let Ok(permit) = tokio::time::timeout(SEAT_RETRY_WAIT, permit).await {
            return permit.ok();
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    config: Option<Arc<ServerConfig>>,
) -> io::Result<(Stream, Vec<String>)> {
    let Some(config) = config else {
        return Ok((Stream::Plain(stream), vec![]));
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(late)?
    {
        Ok(stream) => stream,
        Err((error, stream)) => {
            part(stream).await;
            return Err(error);
        }
    };
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let names = shown.map(tls::dns_names).unwrap_or_default();
    Ok((Stream::Tls(Box::new(stream)), names))
}

/// Closes a connection whose handshake failed, and reads its remaining data. If data is unread, the
/// kernel resets the connection and discards the alert, so the other side would not get the reason.
async fn part(mut stream: TcpStream) {
    let _closed = stream.shutdown().await;
    let mut buffer = [0; 1 << 10];
    let drain = async { while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {} };
    let _late = tokio::time::timeout(PARTING_TIMEOUT, drain).await;
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.peer.activity.poll_closing(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let Some(opening) = &mut self.opening else {
            return read;
        };
        if opening.frames.begin_a_call(&buf.filled()[before..]) {
            self.opening = None;
        } else if opening.ends.as_mut().poll(cx).is_ready() {
            tracing::debug!(address = %self.peer.address, "a connection without a call was closed");
            self.peer.hang_up();
            // Data that was read is passed on; the next read ends the connection.
            return if read.is_pending() {
                Poll::Ready(Ok(()))
            } else {
                read
            };
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_connections_and_others_are_not_touched() {
        let counts = Counts::default();
        let [stranger, other]: [IpAddr; 2] =
            ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mut held: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX)
            .map(|_| Counted::one_more(&counts, stranger).unwrap())
            .collect();
        assert!(Counted::one_more(&counts, stranger).is_none());
        assert!(Counted::one_more(&counts, other).is_some());
        held.pop();
        assert!(Counted::one_more(&counts, stranger).is_some());
        held.clear();
        assert!(
            counts.lock().unwrap().is_empty(),
            "nothing is kept of who has gone"
        );
    }

    use crate::security::Dialer;
    use crate::security::gate::Gate;
    use axum::Router;
    use axum::routing::post;
    use streamctl_proto::v1::jobs_client::JobsClient;
    use streamctl_proto::v1::{GetJobRequest, ListJobsRequest};
    use tonic::Code;
    use tonic::service::Routes;

    const SOON: Duration = Duration::from_secs(20);
    /// The preface of HTTP/2 and empty settings.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// A service whose `ListJobs` never responds, and whose other methods do not exist; the
    /// receiver is notified of each call that never ends.
    async fn serving(limits: Limits) -> (SocketAddr, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begins, begun) = mpsc::channel(1);
        let never = post(async move || {
            begins.send(()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let routes = Routes::from(Router::new().route("/streamctl.v1.Jobs/ListJobs", never));
        let server =
            tonic::transport::Server::builder().add_routes(Gate::default().before_services(routes));
        tokio::spawn(server.serve_with_incoming(incoming(listener, for_grpc(None), limits)));
        (address, begun)
    }

    /// A call with an immediate response: the method does not exist.
    async fn a_call_is_answered(address: SocketAddr) {
        let line = Dialer::default()
            .connection(&format!("http://{address}"), |endpoint| endpoint)
            .unwrap();
        let mut client = JobsClient::new(line);
        let call = client.get_job(GetJobRequest::default());
        let response = tokio::time::timeout(SOON, call).await.expect("in time");
        assert_eq!(response.unwrap_err().code(), Code::Unimplemented);
    }

    async fn is_closed(mut stream: TcpStream) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _reset = tokio::time::timeout(SOON, stream.read_to_end(&mut rest))
            .await
            .expect("it is closed in time");
    }

    #[tokio::test]
    async fn connections_that_make_no_call_are_closed_and_others_are_served_meanwhile() {
        let limits = Limits {
            connections: 100,
            first_call: Some(Duration::from_millis(500)),
        };
        let (address, _) = serving(limits).await;
        let mut silent = vec![];
        let openings = [&b""[..], b"PRI * HT", GREETING];
        for buffer in openings.iter().cycle().take(60) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(buffer).await.unwrap();
            silent.push(stream);
        }
        a_call_is_answered(address).await;
        for stream in silent {
            is_closed(stream).await;
        }
        a_call_is_answered(address).await;
    }

    #[tokio::test]
    async fn a_full_listener_closes_who_was_idle_for_longest_and_never_who_has_a_call() {
        let (address, mut begun) = serving(Limits {
            connections: 4,
            first_call: None,
        })
        .await;
        let line = Dialer::default()
            .connect(&format!("http://{address}"), |endpoint| endpoint)
            .await
            .unwrap();
        let mut watch = tokio::spawn(async move {
            JobsClient::new(line)
                .list_jobs(ListJobsRequest::default())
                .await
        });
        begun.recv().await.expect("its call is under way");
        let mut idle = vec![];
        for _ in 0..12 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(GREETING).await.unwrap();
            // The server's settings: it has accepted the connection.
            tokio::time::timeout(SOON, stream.readable())
                .await
                .expect("it is served in time")
                .unwrap();
            idle.push(stream);
        }
        a_call_is_answered(address).await;
        idle.truncate(8);
        for stream in idle {
            is_closed(stream).await;
        }
        let ended = tokio::time::timeout(Duration::from_millis(200), &mut watch).await;
        assert!(ended.is_err(), "the call goes on: {ended:?}");
    }

    #[test]
    fn the_first_call_is_found_wherever_the_bytes_are_cut() {
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[HEADERS; 8]].concat();
        let silent = [GREETING, &ping].concat();
        let call = [&silent[..], &[0, 0, 1, HEADERS, 4, 0, 0, 0, 1, 0x82]].concat();
        for step in [1, 2, 7, 24, 100] {
            let mut frames = Frames::default();
            assert!(
                !silent.chunks(step).any(|bytes| frames.begin_a_call(bytes)),
                "{step}"
            );
            let mut frames = Frames::default();
            assert!(
                call.chunks(step).any(|bytes| frames.begin_a_call(bytes)),
                "{step}"
            );
        }
    }
}
