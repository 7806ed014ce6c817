//! Calls to outside services that have not been answered yet: a service that hangs reports no error.
//!
//! Owns: which calls of a piece of work are in flight, and for how long. Does not own: time-outs,
//! and what a caller does about a slow service.
//! Rule: work is surrounded by [`Calls::watch`] once; every call inside of an AWS
//! client, of a catalog or of etcd ([`noted`]) is noted, and forgotten when it is answered or dropped. Work that is not surrounded costs nothing.

mod aws;

pub(crate) use aws::InFlight;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task_local;
use tokio::time::Instant;

/// Calls of one piece of work that are noted; further ones are not.
const NOTED_MAX: usize = 4_096;

task_local! {
    static CURRENT: Calls;
}

/// The calls of one piece of work; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    next: u64,
    calls: BTreeMap<u64, Begun>,
}

#[derive(Debug)]
struct Begun {
    service: String,
    operation: String,
    at: Instant,
}

/// Calls of one operation that are not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// `S3`, `Kinesis`, `Glue`, `etcd` ...
    pub service: String,
    /// `UploadPart`, `GetRecords` ...
    pub operation: String,
    pub count: usize,
    /// How long the first of them has been in flight.
    pub age: Duration,
}

/// A call in flight; dropped when it is answered or cancelled.
#[derive(Debug)]
pub(crate) struct Flight {
    calls: Calls,
    number: u64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.number);
    }
}

impl Calls {
    /// Notes the calls that `work` makes.
    pub async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// The calls in flight for at least this long, by service and operation.
    pub fn unanswered(&self, least: Duration) -> Vec<Unanswered> {
        let now = Instant::now();
        let mut found: BTreeMap<(String, String), (usize, Duration)> = BTreeMap::new();
        for call in self.lock().calls.values() {
            let age = now.saturating_duration_since(call.at);
            if age < least {
                continue;
            }
            let key = (call.service.clone(), call.operation.clone());
            let (count, oldest) = found.entry(key).or_default();
            *count += 1;
            *oldest = age.max(*oldest);
        }
        let unanswered = |((service, operation), (count, age))| Unanswered {
            service,
            operation,
            count,
            age,
        };
        found.into_iter().map(unanswered).collect()
    }

    fn begin(&self, service: &str, operation: &str) -> Option<Flight> {
        let mut noted = self.lock();
        if noted.calls.len() >= NOTED_MAX {
            return None;
        }
        noted.next += 1;
        let number = noted.next;
        let begun = Begun {
            service: service.to_owned(),
            operation: operation.to_owned(),
            at: Instant::now(),
        };
        noted.calls.insert(number, begun);
        Some(Flight {
            calls: self.clone(),
            number,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes a call of the current work, if it is watched.
pub(crate) fn begin(service: &str, operation: &str) -> Option<Flight> {
    CURRENT
        .try_with(|calls| calls.begin(service, operation))
        .ok()
        .flatten()
}

/// Makes a call of the current work, for clients other than the AWS SDK's.
pub async fn noted<T>(service: &str, operation: &str, call: impl Future<Output = T>) -> T {
    let _flight = begin(service, operation);
    call.await
}

/// Work that is spawned apart and belongs to the current work.
pub(crate) fn inherited<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let current = CURRENT.try_with(Calls::clone).ok();
    // On the heap: the work may be large, and each wrapper would copy it on the stack.
    let work = Box::pin(work);
    async move {
        match current {
            Some(calls) => calls.watch(work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_noted_until_it_is_answered_or_dropped() {
        let calls = Calls::default();
        let second = Duration::from_secs(1);
        assert!(begin("S3", "GetObject").is_none(), "no work is watched");
        calls
            .watch(async {
                let first = begin("Kinesis", "GetRecords");
                tokio::time::advance(second * 40).await;
                let spawned = tokio::spawn(inherited(async {
                    let _call = begin("Kinesis", "GetRecords");
                    std::future::pending::<()>().await;
                }));
                tokio::task::yield_now().await;
                tokio::time::advance(second).await;
                let found = calls.unanswered(second);
                assert_eq!(found.len(), 1);
                assert_eq!((found[0].count, found[0].age), (2, second * 41));
                drop(first);
                assert_eq!(calls.unanswered(second)[0].count, 1);
                assert_eq!(calls.unanswered(second * 2), []);
                spawned.abort();
                let _cancelled = spawned.await;
                assert_eq!(calls.unanswered(Duration::ZERO), []);
            })
            .await;
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let aws = crate::aws::Aws::at(&address).await;
        let client = aws.s3().await;
        let calls = Calls::default();
        let call = client.head_bucket().bucket("b").send();
        let mut call = Box::pin(calls.watch(call));
        tokio::select! {
            _ = &mut call => panic!("nothing answers"),
            _accepted = listener.accept() => {}
        }
        let found = calls.unanswered(Duration::ZERO);
        let found: Vec<_> = found
            .iter()
            .map(|call| (call.service.as_str(), call.operation.as_str()))
            .collect();
        assert_eq!(found, [("S3", "HeadBucket")]);
        drop(call);
        assert_eq!(calls.unanswered(Duration::ZERO), []);
    }
}
