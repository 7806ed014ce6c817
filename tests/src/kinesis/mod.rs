//! A Kinesis service in memory that speaks the real one's HTTP API and enforces its limits.
//!
//! Owns: streams and shards ([`stream`]), the answers ([`operations`]), the limits ([`limits`]), a
//! script of faults and a record of all calls ([`script`]), HTTP ([`server`]), a producer
//! ([`produce`]). Does not own: what a reader should do; no test's expectation is here.
//! Rule: it answers as the service is documented to, by its own clock; what its limits refuse, it
//! counts.

pub mod clock;
mod error;
pub mod limits;
mod operations;
pub mod produce;
pub mod script;
mod server;
pub mod stream;
mod token;

pub use script::{Call, Fault};
pub use stream::{Stream, Trimmed};

use clock::FakeClock;
use error::Refusal;
use script::Script;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;

/// The account of everything here.
pub const ACCOUNT: &str = "123456789012";
/// The region of everything here.
pub const REGION: &str = "us-east-1";

struct Service {
    clock: FakeClock,
    streams: RwLock<BTreeMap<String, Arc<Stream>>>,
    script: Script,
}

/// A running fake. A clone is the same one; it ends with the runtime that it was started on.
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
        let service = Service {
            clock: FakeClock::default(),
            streams: RwLock::default(),
            script: Script::default(),
        };
        let service = Arc::new(service);
        tokio::spawn(server::serve(listener, Arc::clone(&service)));
        Ok(Self { service, address })
    }

    /// Where it answers: `http://127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its time, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.service.clock.now_ms()
    }

    /// Lets its clock jump: iterators and tokens age, limits refill, records grow old.
    pub fn advance(&self, by: Duration) {
        self.service.clock.advance(by);
    }

    /// Sets its clock back, before anything is created: what is put then is old for clients whose
    /// clocks are right.
    pub fn set_back(&self, by: Duration) {
        self.service.clock.set_back(by);
    }

    /// A new stream; what was under this name is gone.
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

    /// The next `times` calls of this operation get this instead; those of one shard only, where
    /// one is named.
    pub fn fault(&self, operation: &str, shard: Option<&str>, fault: Fault, times: usize) {
        self.service.script.fault(operation, shard, fault, times);
    }

    /// Faults that no call has met yet.
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

    /// What the limits refused since the start (not what the script did), by operation and shard.
    pub fn violations(&self) -> BTreeMap<String, u64> {
        self.service.script.violations()
    }

    /// Forgets the calls and violations so far.
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
