//! The store as a map in memory: for tests, with fault injection.
//!
//! Owns: candidates that wait for each other, faults, deposing. Does not own: the rules of a write
//! (`cells`).
//! Rule: an injected fault looks exactly like an etcd that does not answer; the test chooses
//! whether the write was applied.

use super::leadership::Keeper;
use super::{
    Anchors, Block, CommitOutcome, CreateOutcome, DesiredState, Entry, JobKey, Keys, LeaderRecord,
    Leadership, Repair, Replays, Store, StoreError, StoredJob, WriteOutcome, cells,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, Term};
use tokio::sync::watch;

/// How the next operation fails: [`StoreError::Unavailable`] either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    BeforeApplying,
    /// The operation is applied, and the answer is lost.
    AfterApplying,
}

/// One candidate's view of a store in memory. Clones are the same candidate.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    journal_fails: Arc<AtomicBool>,
}

struct Shared {
    keys: Keys,
    state: Mutex<State>,
    /// Counts elections and ends of terms; candidates wait on it.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    cells: BTreeMap<String, Vec<u8>>,
    keeper: Option<Keeper>,
    /// Keepers of leaders that were deposed silently: they still believe that they lead.
    believers: Vec<Keeper>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}

/// Everything that was stored at some time, as in an operator's backup.
#[derive(Clone)]
pub struct StoreCopy(BTreeMap<String, Vec<u8>>);

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with a first candidate.
    pub fn new() -> Self {
        let (changes, _) = watch::channel(0);
        let shared = Shared {
            keys: Keys::new("memory"),
            state: Mutex::default(),
            changes,
        };
        Self {
            shared: Arc::new(shared),
            faults: Arc::default(),
            journal_fails: Arc::default(),
        }
    }

    /// Another candidate on the same store, with faults of its own.
    pub fn candidate(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            faults: Arc::default(),
            journal_fails: Arc::default(),
        }
    }

    /// Makes the next operation of this candidate that has no fault yet fail like this. Campaigns
    /// do not fail.
    pub fn fail_next(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// Ends the current term, as an expired lease does; the leader is notified.
    pub fn depose(&self) {
        self.shared.end_term(|_| {});
    }

    /// Ends the current term without the leader's notice, like a process that sleeps.
    pub fn depose_in_silence(&self) {
        self.shared
            .end_term(|state| state.believers.extend(state.keeper.take()));
    }

    /// Notifies leaders that were deposed silently.
    pub fn notify_deposed(&self) {
        lock(&self.shared.state).believers.clear();
    }

    /// A copy of everything that is stored.
    pub fn copy(&self) -> StoreCopy {
        StoreCopy(lock(&self.shared.state).cells.clone())
    }

    /// Replaces the content with a copy, as an operator who restores a backup: there is no leader,
    /// and terms count again.
    pub fn put_back(&self, copy: &StoreCopy) {
        self.shared.end_term(|state| {
            state.believers.clear();
            state.cells.clone_from(&copy.0);
        });
    }

    /// Makes every operation on the journal of this candidate fail, or none any more. Faults of
    /// [`Self::fail_next`] are for the other operations, whose order a test knows.
    pub fn fail_journal(&self, fails: bool) {
        self.journal_fails.store(fails, Ordering::Relaxed);
    }

    fn run_journal<T>(
        &self,
        operation: impl FnOnce(&mut BTreeMap<String, Vec<u8>>, &Keys) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.journal_fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable {
                reason: "injected fault of the journal".to_owned(),
            });
        }
        operation(&mut lock(&self.shared.state).cells, &self.shared.keys)
    }

    /// Reads or writes the cells, unless a fault is injected.
    fn run<T>(
        &self,
        operation: impl FnOnce(&mut BTreeMap<String, Vec<u8>>, &Keys) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fault = lock(&self.faults).pop_front();
        let unavailable = |when: &str| {
            Err(StoreError::Unavailable {
                reason: format!("injected fault {when}"),
            })
        };
        if fault == Some(Fault::BeforeApplying) {
            return unavailable("before it was done");
        }
        let done = operation(&mut lock(&self.shared.state).cells, &self.shared.keys);
        if fault == Some(Fault::AfterApplying) {
            unavailable("after it was done")
        } else {
            done
        }
    }
}

impl Shared {
    fn end_term(&self, first: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        first(&mut state);
        state.keeper = None;
        state.cells.remove(&self.keys.leader());
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn resign(&self, term: Term) {
        let leading = cells::leader(&lock(&self.state).cells, &self.keys);
        if matches!(leading, Ok(Some((leading, _))) if leading == term) {
            self.end_term(|_| {});
        }
    }

    fn try_win(self: &Arc<Self>, me: &LeaderRecord) -> Result<Option<Leadership>, StoreError> {
        let mut state = lock(&self.state);
        if cells::leader(&state.cells, &self.keys)?.is_some() {
            return Ok(None);
        }
        let term = cells::elect(&mut state.cells, &self.keys, me)?;
        let shared = self.clone();
        let release = Box::new(move || -> futures::future::BoxFuture<'static, ()> {
            Box::pin(async move { shared.resign(term) })
        });
        let (leadership, keeper) = Leadership::always(term, release);
        state.keeper = Some(keeper);
        Ok(Some(leadership))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn campaign(&self, me: &LeaderRecord) -> Result<Leadership, StoreError> {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(leadership) = self.shared.try_win(me)? {
                return Ok(leadership);
            }
            changes
                .changed()
                .await
                .expect("the store that is borrowed here holds the sender");
        }
    }

    async fn leader(&self) -> Result<Option<(Term, LeaderRecord)>, StoreError> {
        self.run(|all, keys| cells::leader(all, keys))
    }

    async fn load(&self) -> Result<Vec<StoredJob>, StoreError> {
        self.run(|all, keys| cells::jobs(keys, cells::Cells::below(all, &keys.jobs())?))
    }

    async fn create_job(&self, term: Term, job: &ResolvedJob) -> Result<CreateOutcome, StoreError> {
        self.run(|all, keys| cells::create_job(all, keys, term, job))
    }

    async fn change_job(&self, term: Term, job: &ResolvedJob) -> Result<WriteOutcome, StoreError> {
        let name = &job.spec.name;
        self.run(|all, keys| {
            cells::write(
                all,
                keys,
                term,
                &keys.of(name, JobKey::Spec),
                &cells::encode(job),
            )
        })
    }

    async fn set_wanted(
        &self,
        term: Term,
        job: &JobName,
        wanted: &DesiredState,
    ) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| {
            cells::write(
                all,
                keys,
                term,
                &keys.of(job, JobKey::Wanted),
                &cells::encode(wanted),
            )
        })
    }

    async fn set_replays(
        &self,
        term: Term,
        job: &JobName,
        replays: &Replays,
    ) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| {
            cells::write(
                all,
                keys,
                term,
                &keys.of(job, JobKey::Replays),
                &cells::encode(replays),
            )
        })
    }

    async fn set_repairs(
        &self,
        term: Term,
        job: &JobName,
        repairs: &[Repair],
    ) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| {
            cells::write(
                all,
                keys,
                term,
                &keys.of(job, JobKey::Repairs),
                &cells::encode(&repairs),
            )
        })
    }

    async fn set_anchors(
        &self,
        term: Term,
        job: &JobName,
        anchors: &Anchors,
    ) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| {
            cells::write(
                all,
                keys,
                term,
                &keys.of(job, JobKey::Anchor),
                &cells::encode(anchors),
            )
        })
    }

    async fn raise_terms(&self, term: Term, above: Term) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| cells::raise_terms(all, keys, term, above))
    }

    async fn commit(
        &self,
        term: Term,
        job: &JobName,
        previous: Option<&ManifestRef>,
        head: &ManifestRef,
    ) -> Result<CommitOutcome, StoreError> {
        self.run(|all, keys| cells::commit(all, keys, term, job, previous, head))
    }

    async fn set_published(
        &self,
        term: Term,
        job: &JobName,
        epoch: Epoch,
    ) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| {
            cells::write(
                all,
                keys,
                term,
                &keys.of(job, JobKey::Published),
                &cells::encode(&epoch),
            )
        })
    }

    async fn load_journal(&self) -> Result<Vec<Entry>, StoreError> {
        self.run_journal(|all, keys| Ok(cells::journal(cells::Cells::below(all, &keys.journal())?)))
    }

    async fn write_journal(
        &self,
        term: Term,
        blocks: &[Block],
    ) -> Result<WriteOutcome, StoreError> {
        self.run_journal(|all, keys| cells::write_journal(all, keys, term, blocks))
    }

    async fn delete_job(&self, term: Term, job: &JobName) -> Result<WriteOutcome, StoreError> {
        self.run(|all, keys| cells::delete_job(all, keys, term, job))
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::{self, Bench};
    use super::*;

    struct InMemory(MemoryStore);

    #[async_trait]
    impl Bench for InMemory {
        async fn candidate(&self) -> Arc<dyn Store> {
            Arc::new(self.0.candidate())
        }
        async fn depose(&self) {
            self.0.depose();
        }
    }

    #[tokio::test]
    async fn the_contract_holds_in_memory() {
        let bench = InMemory(MemoryStore::new());
        contract::for_one(bench.candidate().await).await;
        contract::for_several(&InMemory(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_commit_done_and_a_retry_reports_it() {
        let store = MemoryStore::new();
        let leader = store.campaign(&contract::leader("a")).await.unwrap();
        let job = contract::job("j");
        let head = contract::head(1);
        store.create_job(leader.term, &job).await.unwrap();
        for fault in [Fault::BeforeApplying, Fault::AfterApplying] {
            store.fail_next(fault);
            let lost = store.commit(leader.term, &job.spec.name, None, &head).await;
            assert!(
                matches!(lost, Err(StoreError::Unavailable { .. })),
                "{fault:?}"
            );
            assert_eq!(
                store.load().await.unwrap()[0].head.is_some(),
                fault == Fault::AfterApplying
            );
        }
        let again = store
            .commit(leader.term, &job.spec.name, None, &head)
            .await
            .unwrap();
        assert_eq!(again, CommitOutcome::Committed);
    }

    #[tokio::test]
    async fn a_leader_deposed_in_silence_believes_and_can_do_nothing() {
        let store = MemoryStore::new();
        let sleeper = store.campaign(&contract::leader("a")).await.unwrap();
        store.depose_in_silence();
        let next = store
            .candidate()
            .campaign(&contract::leader("b"))
            .await
            .unwrap();
        assert!(!sleeper.is_lost() && next.term > sleeper.term);
        let outcome = store
            .create_job(sleeper.term, &contract::job("j"))
            .await
            .unwrap();
        assert_eq!(outcome, CreateOutcome::Fenced);
        sleeper.resign().await;
        assert!(!next.is_lost());
    }
}
