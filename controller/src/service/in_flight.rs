//! Calls of the Jobs service that check a job file, while they wait for outside services.
//!
//! Owns: which of them a client may ask about, and what each waits for. Does not own: noting the
//! calls to services (`streamctl_engine::calls`).
//! Rule: a client that named its call learns within seconds on whom it waits, and every call ends
//! with that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamctl_engine::calls::{Calls, Unanswered};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{CALL_METADATA, v1};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// Time in which a job file is checked: less than clients wait ([`CALL_METADATA`]).
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(55);
/// A service without an answer for this long is named.
const HANGING_AFTER: Duration = Duration::from_secs(2);
/// Calls that clients may ask about at once; further ones are not named.
const CALLS_MAX: usize = 256;
/// Longest name of a call.
const NAME_BYTES_MAX: usize = 64;

/// The calls in flight; clones share them.
#[derive(Clone, Default)]
pub struct CallsInFlight(Arc<Mutex<BTreeMap<String, Calls>>>);

/// The name of a call, until it ends.
struct Named {
    all: CallsInFlight,
    name: String,
}

impl Drop for Named {
    fn drop(&mut self) {
        self.all.lock().remove(&self.name);
    }
}

impl CallsInFlight {
    /// Does the work of a call.
    ///
    /// # Errors
    /// Those of the work; if it does not end within `limit`, with the services that it waits for.
    pub(super) async fn watch<T>(
        &self,
        name: Option<String>,
        limit: Duration,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let calls = Calls::default();
        let _named = name.and_then(|name| self.begin(name, calls.clone()));
        let mut work = Box::pin(calls.watch(work));
        tokio::select! {
            biased;
            done = &mut work => done,
            // The work is not dropped yet, and so its calls are still noted.
            () = tokio::time::sleep(limit) => {
                Err(late(limit, &calls.unanswered(HANGING_AFTER)))
            }
        }
    }

    /// What a named call waits for; nothing if there is no such call.
    pub(super) fn waits(&self, name: &str, now_ms: i64) -> Vec<v1::Wait> {
        let found = self
            .lock()
            .get(name)
            .map(|calls| calls.unanswered(HANGING_AFTER));
        let wait = |call: &Unanswered| {
            let age_ms = i64::try_from(call.age.as_millis()).unwrap_or(i64::MAX);
            v1::Wait {
                stage: "check".to_owned(),
                on: call.service.clone(),
                text: text_of(call),
                since_ms: Some(now_ms.saturating_sub(age_ms)),
                normal: false,
            }
        };
        found.unwrap_or_default().iter().map(wait).collect()
    }

    /// A second call of a name that is in use is not named.
    fn begin(&self, name: String, calls: Calls) -> Option<Named> {
        let mut all = self.lock();
        let is_full = all.len() >= CALLS_MAX;
        match all.entry(name.clone()) {
            Entry::Vacant(free) if !is_full => {
                free.insert(calls);
                let all = self.clone();
                Some(Named { all, name })
            }
            Entry::Vacant(_) | Entry::Occupied(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Calls>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name that a client gave its call.
pub(super) fn name_of<T>(request: &Request<T>) -> Option<String> {
    named(request.metadata())
}

fn named(metadata: &MetadataMap) -> Option<String> {
    let name = metadata.get(CALL_METADATA)?.to_str().ok()?;
    (name.len() <= NAME_BYTES_MAX).then(|| name.to_owned())
}

fn text_of(call: &Unanswered) -> String {
    let Unanswered {
        service,
        operation,
        count,
        age,
    } = call;
    let seconds = age.as_secs();
    match count {
        1 => format!("{service} has not answered {operation} for {seconds} s"),
        count => format!("{service} has not answered {count} calls of {operation} for {seconds} s"),
    }
}

fn late(limit: Duration, unanswered: &[Unanswered]) -> Status {
    let seconds = limit.as_secs();
    let what = match unanswered {
        [] => String::new(),
        calls => {
            let texts: Vec<String> = calls.iter().map(text_of).collect();
            format!(": {}", texts.join("; "))
        }
    };
    let text = format!("the job file could not be checked within {seconds} s{what}");
    let hint = match unanswered {
        [] => "see the controller's log, then try again",
        _ => "look at that service, and at the controllers' network to it; then try again",
    };
    Status::from(CallRefusal::new(Reason::ServiceUnavailable, text).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_engine::calls::noted;

    async fn hangs() -> Result<(), Status> {
        noted("S3", "HeadBucket", std::future::pending::<()>()).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_call_states_what_it_waits_for_and_ends_with_that() {
        let calls = CallsInFlight::default();
        let name = || Some("a".to_owned());
        let mut call = Box::pin(calls.watch(name(), CHECK_TIMEOUT, hangs()));
        let soon = tokio::time::timeout(Duration::from_secs(4), &mut call).await;
        assert!(soon.is_err(), "it waits");
        let waits = calls.waits("a", 10_000);
        assert_eq!(waits.len(), 1);
        assert_eq!(waits[0].text, "S3 has not answered HeadBucket for 4 s");
        assert_eq!(
            (waits[0].on.as_str(), waits[0].since_ms),
            ("S3", Some(6_000))
        );
        assert_eq!(calls.waits("b", 10_000), []);
        let refused = call.await.unwrap_err();
        assert!(
            refused
                .message()
                .contains("S3 has not answered HeadBucket for 55 s"),
            "{refused}"
        );
        assert_eq!(calls.waits("a", 10_000), [], "it is over");
    }

    #[tokio::test]
    async fn names_are_bounded() {
        let calls = CallsInFlight::default();
        let held: Vec<_> = (0..CALLS_MAX + 9)
            .filter_map(|number| calls.begin(number.to_string(), Calls::default()))
            .collect();
        assert_eq!(held.len(), CALLS_MAX);
        assert!(calls.begin("0".to_owned(), Calls::default()).is_none());
        drop(held);
        assert!(calls.lock().is_empty());
        let mut request = Request::new(());
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        request
            .metadata_mut()
            .insert(CALL_METADATA, long.parse().unwrap());
        assert_eq!(name_of(&request), None);
    }
}
