//! Faults on demand, and a record of every call.

use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Calls that are remembered individually; counts are not limited.
pub const CALLS_KEPT_MAX: usize = 200_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error instead of a response.
    Error {
        status: u16,
        /// The service's code; empty if there is none.
        code: String,
        message: String,
    },
    Delay(Duration),
    /// The connection is closed without a response.
    Close,
    /// The response breaks off in the middle of its body.
    Cut,
    /// A subscription stands and sends nothing.
    Silence,
}

impl Fault {
    /// An error by its code, with status 400.
    pub fn code(code: &str) -> Self {
        Self::Error {
            status: 400,
            code: code.to_owned(),
            message: "as told".to_owned(),
        }
    }
    /// `ProvisionedThroughputExceededException`.
    pub fn throttle() -> Self {
        Self::code("ProvisionedThroughputExceededException")
    }
    /// `ExpiredIteratorException`.
    pub fn expired() -> Self {
        Self::code("ExpiredIteratorException")
    }
    /// `InternalFailure` with status 500.
    pub fn internal() -> Self {
        Self::Error {
            status: 500,
            code: "InternalFailure".to_owned(),
            message: "as told".to_owned(),
        }
    }
}

/// A received call.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GetRecords` ...
    pub operation: String,
    /// The stream's name, if the call has it.
    pub stream: String,
    /// The shard's name, if the call has it.
    pub shard: String,
    /// When it arrived, by the fake's clock, in microseconds.
    pub at_us: i64,
    /// The access key id that signed it.
    pub key: String,
    /// It was in CBOR.
    pub is_cbor: bool,
    /// It came over HTTP/2.
    pub is_http2: bool,
    pub body: Value,
    /// The error's code, if there was one; `Close` and `Cut` for those faults.
    pub error: Option<String>,
    pub records: usize,
    /// It was a shard's last response.
    pub last: bool,
}

struct Planned {
    operation: String,
    shard: Option<String>,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct State {
    planned: Vec<Planned>,
    calls: VecDeque<Call>,
    counts: BTreeMap<String, u64>,
    violations: BTreeMap<String, u64>,
}

#[derive(Default)]
pub(super) struct Script(Mutex<State>);

impl Script {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fault(&self, operation: &str, shard: Option<&str>, fault: Fault, times: usize) {
        let planned = Planned {
            operation: operation.to_owned(),
            shard: shard.map(str::to_owned),
            fault,
            times,
        };
        self.lock().planned.push(planned);
    }

    /// The fault of this call, if one is planned: the first that matches.
    pub fn take(&self, operation: &str, shard: &str) -> Option<Fault> {
        let mut state = self.lock();
        let fits = |planned: &Planned| {
            planned.operation == operation
                && planned
                    .shard
                    .as_deref()
                    .is_none_or(|wanted| wanted == shard)
        };
        let at = state.planned.iter().position(fits)?;
        let planned = &mut state.planned[at];
        let fault = planned.fault.clone();
        planned.times = planned.times.saturating_sub(1);
        if planned.times == 0 {
            state.planned.remove(at);
        }
        Some(fault)
    }

    pub fn faults_left(&self) -> usize {
        self.lock()
            .planned
            .iter()
            .map(|planned| planned.times)
            .sum()
    }

    pub fn note(&self, call: Call, by_limit: bool) {
        let mut state = self.lock();
        *state.counts.entry(call.operation.clone()).or_default() += 1;
        if by_limit {
            *state
                .violations
                .entry(format!("{} {}", call.operation, call.shard))
                .or_default() += 1;
        }
        if state.calls.len() >= CALLS_KEPT_MAX {
            state.calls.pop_front();
        }
        state.calls.push_back(call);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.iter().cloned().collect()
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    pub fn violations(&self) -> BTreeMap<String, u64> {
        self.lock().violations.clone()
    }

    pub fn forget(&self) {
        let mut state = self.lock();
        state.calls.clear();
        state.counts.clear();
        state.violations.clear();
    }
}
