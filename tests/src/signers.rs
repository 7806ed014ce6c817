//! Who signed which request: a proxy that passes all bytes on and keeps the access key of each
//! request.
//!
//! Owns: reading heads of HTTP/1.1. Does not own: what is right (the tests).
//! Rule: bytes pass unchanged. A request that cannot be read is in the list too, so that no test
//! overlooks it.

use crate::places::free_port;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Longest head, and longest body that is kept.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// What stands for a request that cannot be read.
pub const UNREADABLE: &str = "a request that cannot be read";

/// A request and its signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// `PUT /bucket/key?partNumber=1`; of a service with operations, its name and the body:
    /// `AWSGlue.GetTable {...}`.
    pub request: String,
    /// The access key; empty: it is not signed.
    pub key: String,
}

/// A proxy before one server.
#[derive(Debug)]
pub struct Signers {
    port: u16,
    seen: Arc<Mutex<Vec<Signed>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Signers {
    /// Before the server on this port.
    pub fn before(target: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let port = free_port();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        let listener = listener.expect("the port is free");
        let seen: Arc<Mutex<Vec<Signed>>> = Arc::default();
        let all = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, Arc::clone(&all)));
            }
        });
        Self {
            port,
            seen,
            _runtime: runtime,
        }
    }

    /// `http://127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests since the last call.
    pub fn take(&self) -> Vec<Signed> {
        std::mem::take(&mut lock(&self.seen))
    }
}

fn lock(seen: &Mutex<Vec<Signed>>) -> MutexGuard<'_, Vec<Signed>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn carry(client: TcpStream, target: u16, seen: Arc<Mutex<Vec<Signed>>>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let back = async {
        let _gone = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _gone = to_client.shutdown().await;
    };
    tokio::join!(forth(from_client, to_server, &seen), back);
}

async fn forth(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, seen: &Mutex<Vec<Signed>>) {
    let mut reader = Reader::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                // Kept before the server has it: it is in the list when an answer comes.
                let found = reader.take(&buffer[..count]);
                lock(seen).extend(found);
                if server.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _gone = server.shutdown().await;
}

/// Reads the requests of one connection.
#[derive(Default)]
pub struct Reader {
    held: Vec<u8>,
    /// Bytes of a body that are passed over.
    skipped: usize,
    /// The rest of the connection is not read.
    lost: bool,
}

impl Reader {
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Signed> {
        if self.lost {
            return vec![];
        }
        self.held.extend_from_slice(bytes);
        let mut found = vec![];
        loop {
            let passed = self.skipped.min(self.held.len());
            self.held.drain(..passed);
            self.skipped -= passed;
            let end = self.held.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else {
                if self.held.len() > KEPT_BYTES_MAX {
                    found.push(self.lose());
                }
                return found;
            };
            let head = String::from_utf8_lossy(&self.held[..end]).into_owned();
            let header = |name: &str| {
                head.lines().skip(1).find_map(|line| {
                    let (found, value) = line.split_once(':')?;
                    found
                        .eq_ignore_ascii_case(name)
                        .then(|| value.trim().to_owned())
                })
            };
            if header("transfer-encoding").is_some() {
                found.push(self.lose());
                return found;
            }
            let length = header("content-length").and_then(|text| text.parse().ok());
            let length: usize = length.unwrap_or(0);
            let operation = header("x-amz-target");
            let body_end = end + 4 + length;
            if operation.is_some() && self.held.len() < body_end && length <= KEPT_BYTES_MAX {
                return found;
            }
            let line = head.lines().next().unwrap_or_default();
            let request = match operation {
                Some(operation) => {
                    let body = &self.held[end + 4..body_end.min(self.held.len())];
                    format!("{operation} {}", String::from_utf8_lossy(body))
                }
                None => line.trim_end_matches(" HTTP/1.1").to_owned(),
            };
            let signature = header("authorization").unwrap_or_default();
            let key = signature.split("Credential=").nth(1).unwrap_or_default();
            let key = key.split('/').next().unwrap_or_default().to_owned();
            found.push(Signed { request, key });
            self.held.drain(..end + 4);
            self.skipped = length;
        }
    }

    fn lose(&mut self) -> Signed {
        self.lost = true;
        Signed {
            request: UNREADABLE.to_owned(),
            key: String::new(),
        }
    }
}
