//! A catalog in memory that fails as real ones do, for tests.
//!
//! Owns: faults by a seed, changes by others, the history of what was accepted. Does not own: how a
//! request is applied (`apply`).
//! Rule: at least as unkind as a real catalog: answers are lost, requests come late or twice, loads
//! are stale. A request is nevertheless applied as a whole or not at all.

mod files;
mod others;

pub use files::MemoryFiles;

use super::super::metadata::{Snapshot, TableMetadata};
use super::apply::{NotApplied, apply, created};
use super::request::{CommitRequest, NewTable, Update};
use super::{Catalog, CatalogError, CommitOutcome, Created, TableName};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It never arrives: a time-out.
    LostRequest,
    /// It is applied, and the answer is lost.
    LostAnswer,
    /// A time-out; it is applied after so many further requests.
    Late(u32),
    /// It arrives twice, and the second answer is returned.
    Doubled,
    /// Refused without a reason in the table.
    FalseConflict,
    /// Surely not applied.
    Unavailable,
    /// Surely not applied, and so is every retry.
    Refused,
}

/// What happens next, and how often by chance.
#[derive(Debug)]
struct Faults {
    /// The next commits, in order; then by chance.
    planned: Vec<Fault>,
    random: fastrand::Rng,
    /// Faults per 100 requests.
    rate: u32,
    met: Met,
}

/// Requests whose caller does not learn what became of them, or that came twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    pub lost: u32,
    pub late: u32,
    pub doubled: u32,
}

#[derive(Debug)]
struct State {
    tables: BTreeMap<TableName, Arc<TableMetadata>>,
    before: BTreeMap<TableName, Arc<TableMetadata>>,
    /// Accepted snapshots, also those that were expired since.
    history: Vec<Snapshot>,
    late: Vec<(u32, TableName, CommitRequest)>,
    faults: Faults,
    now_ms: i64,
    made: u32,
}

#[derive(Debug)]
pub struct MemoryCatalog {
    state: Mutex<State>,
}

impl MemoryCatalog {
    /// Faults in `rate` of 100 requests, by `seed`.
    pub fn new(seed: u64, rate: u32) -> Self {
        Self {
            state: Mutex::new(State {
                tables: BTreeMap::new(),
                before: BTreeMap::new(),
                history: vec![],
                late: vec![],
                faults: Faults {
                    planned: vec![],
                    random: fastrand::Rng::with_seed(seed),
                    rate,
                    met: Met::default(),
                },
                now_ms: 1_700_000_000_000,
                made: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// What happens to the next commits.
    pub fn plan(&self, faults: &[Fault]) {
        self.state().faults.planned.extend(faults);
    }

    /// No more faults by chance. Returns those that there were.
    pub fn heal(&self) -> Met {
        let faults = &mut self.state().faults;
        faults.rate = 0;
        faults.met
    }

    /// Every snapshot that was ever accepted.
    pub fn history(&self) -> Vec<Snapshot> {
        self.state().history.clone()
    }

    /// Delivers all requests that are late.
    pub fn deliver_late(&self) {
        let mut state = self.state();
        let late = std::mem::take(&mut state.late);
        for (_, table, request) in late {
            let _ = state.apply(&table, &request);
        }
    }
}

/// The request as a catalog takes it that gives numbers itself and knows no duplicates: nothing but
/// its requirements guards the table.
fn unguarded(base: &TableMetadata, request: &CommitRequest) -> CommitRequest {
    let mut request = request.clone();
    let mut renamed = None;
    for update in &mut request.updates {
        match update {
            Update::AddSnapshot { snapshot } => {
                snapshot.sequence_number = base.last_sequence_number + 1;
                while base.snapshot(snapshot.snapshot_id).is_some() {
                    snapshot.snapshot_id += 1;
                    renamed = Some(snapshot.snapshot_id);
                }
            }
            Update::SetSnapshotRef { snapshot_id, .. } => {
                *snapshot_id = renamed.unwrap_or(*snapshot_id);
            }
            Update::SetProperties { .. }
            | Update::RemoveProperties { .. }
            | Update::RemoveSnapshots { .. } => {}
        }
    }
    request
}

impl State {
    fn apply(
        &mut self,
        table: &TableName,
        request: &CommitRequest,
    ) -> Result<Arc<TableMetadata>, NotApplied> {
        let Some(base) = self.tables.get(table) else {
            return Err(NotApplied::Conflict("there is no such table".into()));
        };
        self.now_ms += 10;
        let next = Arc::new(apply(base, &unguarded(base, request), self.now_ms)?);
        let base = self.tables.insert(table.clone(), Arc::clone(&next));
        self.before.extend(base.map(|base| (table.clone(), base)));
        for update in &request.updates {
            if let Update::AddSnapshot { snapshot } = update {
                self.history.push(snapshot.clone());
            }
        }
        Ok(next)
    }

    /// Late requests whose time has come.
    fn deliver_due(&mut self) {
        let mut due = vec![];
        for (rest, table, request) in std::mem::take(&mut self.late) {
            match rest.checked_sub(1) {
                Some(rest) => self.late.push((rest, table, request)),
                None => due.push((table, request)),
            }
        }
        for (table, request) in due {
            let _ = self.apply(&table, &request);
        }
    }

    fn fault(&mut self) -> Fault {
        if !self.faults.planned.is_empty() {
            return self.faults.planned.remove(0);
        }
        let random = &mut self.faults.random;
        if random.u32(..100) >= self.faults.rate {
            return Fault::None;
        }
        let fault = match random.u32(..6) {
            0 => Fault::LostRequest,
            1 => Fault::LostAnswer,
            2 => Fault::Late(random.u32(..12)),
            3 => Fault::Doubled,
            4 => Fault::FalseConflict,
            _ => Fault::Unavailable,
        };
        let met = &mut self.faults.met;
        match fault {
            Fault::LostRequest | Fault::LostAnswer => met.lost += 1,
            Fault::Late(_) => met.late += 1,
            Fault::Doubled => met.doubled += 1,
            Fault::None | Fault::FalseConflict | Fault::Unavailable | Fault::Refused => {}
        }
        fault
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn load(&self, table: &TableName) -> Result<Arc<TableMetadata>, CatalogError> {
        let mut state = self.state();
        state.deliver_due();
        let rate = state.faults.rate;
        let chance = state.faults.random.u32(..400);
        let stale = state.before.get(table).filter(|_| chance < rate);
        let found = stale.or_else(|| state.tables.get(table)).cloned();
        if (rate..2 * rate).contains(&chance) {
            let reason = "503".to_owned();
            return Err(CatalogError::Unavailable { reason });
        }
        found.ok_or_else(|| CatalogError::TableMissing {
            table: table.clone(),
        })
    }

    async fn create(&self, new: &NewTable) -> Result<Created, CatalogError> {
        let mut state = self.state();
        if state.tables.contains_key(&new.name) {
            return Ok(Created::Exists);
        }
        state.made += 1;
        let uuid = format!("00000000-0000-0000-0000-{:012}", state.made);
        let location = format!("memory://{}", new.name);
        let location = new.location.clone().unwrap_or(location);
        let table = created(new, &uuid, &location, state.now_ms);
        state.tables.insert(new.name.clone(), Arc::new(table));
        Ok(Created::Created)
    }

    async fn commit(
        &self,
        table: &TableName,
        request: &CommitRequest,
    ) -> Result<CommitOutcome, CatalogError> {
        let mut state = self.state();
        state.deliver_due();
        let unknown = |reason: &str| {
            Ok(CommitOutcome::Unknown {
                reason: reason.to_owned(),
            })
        };
        match state.fault() {
            Fault::None => {}
            Fault::LostRequest => return unknown("time-out"),
            Fault::LostAnswer => {
                let _ = state.apply(table, request);
                return unknown("the connection broke");
            }
            Fault::Late(after) => {
                state.late.push((after, table.clone(), request.clone()));
                return unknown("504");
            }
            Fault::Doubled => {
                let _ = state.apply(table, request);
            }
            Fault::FalseConflict => {
                return Ok(CommitOutcome::Conflict {
                    reason: "another commit is in progress".into(),
                });
            }
            Fault::Unavailable => {
                return Err(CatalogError::Unavailable {
                    reason: "429".into(),
                });
            }
            Fault::Refused => {
                return Err(CatalogError::Refused {
                    reason: "400".into(),
                    hint: "look at the catalog".into(),
                });
            }
        }
        if !state.tables.contains_key(table) {
            return Err(CatalogError::TableMissing {
                table: table.clone(),
            });
        }
        match state.apply(table, request) {
            Ok(table) => Ok(CommitOutcome::Committed(table)),
            Err(NotApplied::Conflict(reason)) => Ok(CommitOutcome::Conflict { reason }),
            Err(NotApplied::Invalid(reason)) => Err(CatalogError::Refused {
                reason,
                hint: "look at the request".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[tokio::test]
    async fn the_contract_holds() {
        contract::contract(&MemoryCatalog::new(0, 0), "db", None).await;
    }
}
