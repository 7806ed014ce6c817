//! Loads the journal of the core from the store, stores what is new, and logs it.
//!
//! Owns: when that happens. Does not own: what is noted, and its limits (`streamctl_core::journal`).
//! Rule: one operation at a time, and no step of the core waits for it. What cannot be stored stays
//! in memory, and the journal names the problem.

use crate::store::{Store, WriteOutcome};
use std::sync::Arc;
use std::time::Duration;
use streamctl_core::journal::{Block, Entry, Journal, Severity};
use streamctl_proto::{Term, describe};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Time between two operations: what a leader noted last before it is killed is lost.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a leader that stops waits for its last write.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    store: Arc<dyn Store>,
    term: Term,
    /// At most one.
    operations: JoinSet<Kept>,
    not_before: Option<Instant>,
    /// The last revision that is in the log.
    logged: u64,
}

/// The outcome of an operation.
pub(super) enum Kept {
    Loaded(Result<Vec<Entry>, String>),
    Written(Result<(), String>),
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn Store>, term: Term) -> Self {
        Self {
            store,
            term,
            operations: JoinSet::new(),
            not_before: None,
            logged: 0,
        }
    }

    /// Logs what is new, and begins an operation if one is due.
    pub(super) fn tick(&mut self, journal: &mut Journal) {
        self.log(journal);
        let waits = self.not_before.is_some_and(|at| Instant::now() < at);
        if waits || !self.operations.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        if journal.is_loaded() {
            let blocks = journal.take_changed();
            if blocks.is_empty() {
                return;
            }
            let term = self.term;
            self.operations
                .spawn(async move { write(&*store, term, blocks).await });
        } else {
            self.operations.spawn(async move {
                let loaded = store.load_journal().await;
                Kept::Loaded(loaded.map_err(|error| describe(&error)))
            });
        }
        self.not_before = Some(Instant::now() + INTERVAL);
    }

    /// The next outcome; pending while no operation runs.
    pub(super) async fn next(&mut self) -> Kept {
        loop {
            match self.operations.join_next().await {
                Some(Ok(kept)) => return kept,
                Some(Err(error)) => tracing::error!(%error, "an operation on the journal ended"),
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn take(&mut self, now_ms: i64, journal: &mut Journal, kept: Kept) {
        let problem = match kept {
            Kept::Loaded(Ok(entries)) => {
                journal.restore(now_ms, entries);
                self.logged = journal.last_revision();
                self.not_before = None;
                None
            }
            Kept::Loaded(Err(reason)) => Some(reason),
            Kept::Written(Ok(())) => {
                journal.written();
                None
            }
            Kept::Written(Err(reason)) => {
                journal.not_written();
                Some(reason)
            }
        };
        if let Some(reason) = &problem
            && journal.problem.is_none()
        {
            tracing::warn!(reason, "the last events are not in the store");
        }
        journal.problem = problem;
    }

    /// Writes what is left, for a leader that stops.
    pub(super) async fn flush(&mut self, now_ms: i64, journal: &mut Journal) {
        let rest = async {
            while !self.operations.is_empty() {
                let kept = self.next().await;
                self.take(now_ms, journal, kept);
            }
            let blocks = journal.take_changed();
            if !blocks.is_empty() {
                write(&*self.store, self.term, blocks).await;
            }
        };
        if timeout(FLUSH_TIMEOUT, rest).await.is_err() {
            tracing::warn!("the last events could not be stored in time");
        }
    }

    /// What happens again is not logged again.
    fn log(&mut self, journal: &Journal) {
        for entry in journal.after(self.logged) {
            self.logged = entry.revision;
            if entry.count == 1 {
                log(entry);
            }
        }
    }
}

async fn write(store: &dyn Store, term: Term, blocks: Vec<Block>) -> Kept {
    Kept::Written(match store.write_journal(term, &blocks).await {
        Ok(WriteOutcome::Written) => Ok(()),
        Ok(WriteOutcome::Fenced) => Err("another term leads".to_owned()),
        Err(error) => Err(describe(&error)),
    })
}

fn log(entry: &Entry) {
    let event = entry.kind.label();
    let job = entry.job.as_ref().map(tracing::field::display);
    let subject = (!entry.subject.is_empty()).then_some(entry.subject.as_str());
    let text = entry.text.as_str();
    match entry.kind.severity() {
        Severity::Info => tracing::info!(event, job, subject, "{text}"),
        Severity::Warning => tracing::warn!(event, job, subject, "{text}"),
        Severity::Error => tracing::error!(event, job, subject, "{text}"),
    }
}
