//! A Kinesis service in memory that speaks the real one's HTTP API and enforces its limits.
//!
//! Owns: streams and shards ([`stream`]), the responses ([`operations`]), the limits ([`limits`]),
//! consumers of enhanced fan-out ([`consumers`]) and what they get ([`subscriptions`]),
//! a script of faults and a record of all calls ([`script`]), HTTP ([`server`]), a producer
//! ([`produce`]). Does not own: the required behaviour of a reader; no test's expectation is here.
//! Rule: it responds as the service is documented to, by its own clock; it counts what its limits
//! refuse.

pub mod cbor;
pub mod clock;
mod consumers;
mod error;
pub mod limits;
mod operations;
pub mod produce;
pub mod script;
mod server;
pub mod stream;
mod subscriptions;
mod token;

pub use consumers::FanoutLimits;
pub use script::{Call, Fault};
pub use stream::{Stream, Trimmed};

use crate::pki::Files;
use clock::FakeClock;
use consumers::Consumers;
use error::Refusal;
use script::Script;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The account of everything here.
pub const ACCOUNT: &str = "123456789012";
/// The region of everything here.
pub const REGION: &str = "us-east-1";

struct Service {
    clock: FakeClock,
    streams: RwLock<BTreeMap<String, Arc<Stream>>>,
    script: Script,
    speaks: RwLock<Speaks>,
    consumers: Consumers,
}

/// The forms of requests that the fake understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// As the real service.
    #[default]
    CborAndJson,
    /// As some emulators: CBOR gets an error with this status, whose body is JSON.
    Json { status: u16 },
    /// As kinesis-mock: in CBOR payloads are base64, and errors have status 500 and no body.
    LooseCbor,
}

/// A running fake. Clones share it; it ends with the runtime that started it.
#[derive(Clone)]
pub struct FakeKinesis {
    service: Arc<Service>,
    address: String,
}

impl FakeKinesis {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_on(0).await.expect("a free port can be bound")
    }

    /// Starts on this port of 127.0.0.1; 0: any free one.
    pub async fn start_on(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = format!("http://{}", listener.local_addr()?);
        Ok(Self::serve(listener, address, None))
    }

    /// Starts on a free port with TLS, and with HTTP/2 for clients that speak it.
    pub async fn start_with_tls(certificate: &Files) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port can be bound");
        let port = listener.local_addr().expect("it is bound").port();
        let address = format!("https://127.0.0.1:{port}");
        Self::serve(listener, address, Some(server::acceptor(certificate)))
    }

    fn serve(listener: TcpListener, address: String, tls: Option<TlsAcceptor>) -> Self {
        let service = Service {
            clock: FakeClock::default(),
            streams: RwLock::default(),
            script: Script::default(),
            speaks: RwLock::default(),
            consumers: Consumers::default(),
        };
        let service = Arc::new(service);
        tokio::spawn(server::serve(listener, Arc::clone(&service), tls));
        Self { service, address }
    }

    /// Its address: `http://127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its time, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.service.clock.now_ms()
    }

    /// Makes its clock jump: iterators and tokens age, limits refill, records grow old.
    pub fn advance(&self, by: Duration) {
        self.service.clock.advance(by);
    }

    /// Sets its clock back, before anything is created: records put then are old for clients with
    /// correct clocks.
    pub fn set_back(&self, by: Duration) {
        self.service.clock.set_back(by);
    }

    /// Which forms of requests it understands from now on.
    pub fn speaks(&self, speaks: Speaks) {
        *self
            .service
            .speaks
            .write()
            .unwrap_or_else(PoisonError::into_inner) = speaks;
    }

    /// The limits of enhanced fan-out from now on.
    pub fn limit_fanout(&self, limits: FanoutLimits) {
        self.service.consumers.set_limits(limits);
    }

    /// Creates a stream; replaces one with the same name.
    pub fn create(&self, name: &str, shards: usize) -> Arc<Stream> {
        self.service.create(name, shards)
    }

    /// A stream that a client created.
    pub fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.service.streams().get(name).cloned()
    }

    pub fn delete(&self, name: &str) {
        self.service.delete(name);
    }

    /// The next `times` calls of this operation get this fault; only those of `shard`, if it is
    /// given.
    pub fn fault(&self, operation: &str, shard: Option<&str>, fault: Fault, times: usize) {
        self.service.script.fault(operation, shard, fault, times);
    }

    /// Faults that no call has hit yet.
    pub fn faults_left(&self) -> usize {
        self.service.script.faults_left()
    }

    /// The last calls, oldest first; at most [`script::CALLS_KEPT_MAX`].
    pub fn calls(&self) -> Vec<Call> {
        self.service.script.calls()
    }

    /// The calls of one operation.
    pub fn calls_of(&self, operation: &str) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.operation == operation)
            .collect()
    }

    /// Calls since the start, by operation.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.service.script.counts()
    }

    /// The refusals by limits since the start (not by the script), by operation and shard.
    pub fn violations(&self) -> BTreeMap<String, u64> {
        self.service.script.violations()
    }

    /// Clears the calls and violations so far.
    pub fn forget_calls(&self) {
        self.service.script.forget();
    }
}

impl Service {
    fn streams(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Stream>>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, name: &str, shards: usize) -> Arc<Stream> {
        let stream = Arc::new(Stream::new(name, shards, self.clock.clone()));
        self.streams
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), Arc::clone(&stream));
        stream
    }

    fn delete(&self, name: &str) {
        self.streams
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    fn find(&self, name: &str) -> Result<Arc<Stream>, Refusal> {
        self.streams()
            .get(name)
            .cloned()
            .ok_or_else(|| Refusal::no_stream(name))
    }
}
