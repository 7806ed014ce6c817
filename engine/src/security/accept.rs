//! Taking connections: how many, from whom, with TLS where there is a certificate.
//!
//! Owns: the limits on strangers before their first call, who the other side is. Does not own: what is served.
//! Rule: a handshake holds up nobody else, and whoever does not end it in time is gone.

use super::tls::{self, ServerConfigs};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Connections of a gRPC listener at once; a further one waits until one of them ends.
pub const GRPC_CONNECTIONS_MAX: usize = 4_096;
/// Connections of one address at once, loopback excepted; further ones are closed.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Calls of one connection at once.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Largest head of a call over gRPC.
pub const CALL_HEAD_BYTES_MAX: u32 = 16 << 10;
/// Time in which a TLS handshake must be done.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which whoever was not let in can take in why.
pub const PARTING_TIMEOUT: Duration = Duration::from_millis(500);
/// Wait after a connection could not be taken, for want of file descriptors perhaps.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);
/// Connections that are ready and not yet served.
const READY_MAX: usize = 16;

/// Gives the TLS settings of this moment; none: connections are plain.
pub type ConfigNow = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

/// Settings for gRPC.
pub fn for_grpc(tls: Option<tls::ServerTls>) -> ConfigNow {
    pick(tls, |configs| Arc::clone(&configs.grpc))
}

/// Settings for HTTP.
pub fn for_http(tls: Option<tls::ServerTls>) -> ConfigNow {
    pick(tls, |configs| Arc::clone(&configs.http))
}

fn pick(tls: Option<tls::ServerTls>, one: fn(&ServerConfigs) -> Arc<ServerConfig>) -> ConfigNow {
    Arc::new(move || tls.as_ref().map(|tls| one(&tls.current())))
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The DNS names of the certificate that it proved to have.
    pub names: Arc<[String]>,
    closing: Arc<AtomicBool>,
}

impl Peer {
    /// Somebody at this address without a certificate.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, names: Arc::new([]), closing: Arc::default() }
    }

    /// Nothing more is read from this connection.
    pub fn hang_up(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

/// A connection that was let in.
pub struct Connection {
    stream: Stream,
    /// Who is there.
    pub peer: Peer,
    _room: OwnedSemaphorePermit,
    _counted: Counted,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections per address.
type Counts = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// One of them; ends the count when dropped.
struct Counted(Option<(IpAddr, Counts)>);

impl Counted {
    /// None: this address has too many.
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
        let Some((address, counts)) = &self.0 else { return };
        let mut table = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                table.remove(address);
            }
        }
    }
}

/// The connections of a listener, `most` at once. Ends when it is dropped.
pub fn incoming(listener: TcpListener, config: ConfigNow, most: usize) -> ReceiverStream<io::Result<Connection>> {
    let (ready, receiver) = mpsc::channel(READY_MAX);
    tokio::spawn(async move {
        let (room, counts) = (Arc::new(Semaphore::new(most)), Counts::default());
        loop {
            let permit = tokio::select! {
                () = ready.closed() => return,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
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
            let _slower = stream.set_nodelay(true);
            let (ready, config) = (ready.clone(), config());
            tokio::spawn(async move {
                match shake_hands(stream, config).await {
                    Ok((stream, names)) => {
                        let peer = Peer { names: names.into(), ..Peer::at(address) };
                        let _ended =
                            ready.send(Ok(Connection { stream, peer, _room: permit, _counted: counted })).await;
                    }
                    Err(error) => tracing::debug!(%address, %error, "a connection without a good handshake was closed"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn shake_hands(stream: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<(Stream, Vec<String>)> {
    let Some(config) = config else { return Ok((Stream::Plain(stream), vec![])) };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(late)? {
        Ok(stream) => stream,
        Err((error, stream)) => {
            part(stream).await;
            return Err(error);
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = shown.map(tls::dns_names).unwrap_or_default();
    Ok((Stream::Tls(Box::new(stream)), names))
}

/// Closes a connection whose handshake failed so that the other side learns why: with words of theirs unread the kernel resets
/// it, and takes back the alert that is on its way.
async fn part(mut stream: TcpStream) {
    let _said = stream.shutdown().await;
    let mut words = [0; 1 << 10];
    let hear_out = async { while stream.read(&mut words).await.is_ok_and(|bytes| bytes > 0) {} };
    let _late = tokio::time::timeout(PARTING_TIMEOUT, hear_out).await;
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.peer.closing.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
        let [stranger, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mut held: Vec<_> =
            (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| Counted::one_more(&counts, stranger).unwrap()).collect();
        assert!(Counted::one_more(&counts, stranger).is_none());
        assert!(Counted::one_more(&counts, other).is_some());
        held.pop();
        assert!(Counted::one_more(&counts, stranger).is_some());
        held.clear();
        assert!(counts.lock().unwrap().is_empty(), "nothing is kept of who has gone");
    }
}
