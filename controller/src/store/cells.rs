//! The stored form of each value, and the rules of a write for stores that apply them under a lock
//! of their own.
//!
//! Owns: JSON of each cell; the logic that the memory and the embedded store share. Does not own:
//! locks, disks, waiting.
//! Rule: a function changes nothing unless the term leads; it runs in one transaction or under one
//! lock.

use super::{
    Block, CommitOutcome, CreateOutcome, DesiredState, Entry, JobKey, Keys, LeaderRecord,
    StoreError, StoredJob, WriteOutcome,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use streamctl_proto::resolved::RESOLVED_VERSION;
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, Term};

/// A sorted map from key to JSON.
pub(super) trait Cells {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError>;
    fn remove(&mut self, key: &str) -> Result<(), StoreError>;
    fn below(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

impl Cells for BTreeMap<String, Vec<u8>> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(BTreeMap::get(self, key).cloned())
    }
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.insert(key.to_owned(), value.to_vec());
        Ok(())
    }
    fn remove(&mut self, key: &str) -> Result<(), StoreError> {
        BTreeMap::remove(self, key);
        Ok(())
    }
    fn below(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let from = self.range(prefix.to_owned()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}

/// The leader's cell in stores that count terms themselves.
#[derive(Serialize, Deserialize)]
struct LeaderCell {
    term: Term,
    leader: LeaderRecord,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a cell has only text keys")
}

pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(key, error.to_string()))
}

fn corrupt(key: &str, reason: String) -> StoreError {
    StoreError::Corrupt {
        key: key.to_owned(),
        reason,
    }
}

fn decode_job(key: &str, bytes: &[u8]) -> Result<ResolvedJob, StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = decode(key, bytes)?;
    if version > RESOLVED_VERSION {
        let reason = format!(
            "it has version {version}, this build reads up to {RESOLVED_VERSION}; use a later build"
        );
        return Err(corrupt(key, reason));
    }
    decode(key, bytes)
}

/// The jobs of all cells below [`Keys::jobs`], by name. A job without its spec does not exist.
pub(super) fn jobs(
    keys: &Keys,
    cells: Vec<(String, Vec<u8>)>,
) -> Result<Vec<StoredJob>, StoreError> {
    let mut jobs: BTreeMap<JobName, StoredJob> = BTreeMap::new();
    let mut rest = Vec::new();
    for (key, bytes) in cells {
        match keys.parse(&key) {
            Some((name, JobKey::Spec)) => match decode_job(&key, &bytes) {
                Ok(job) => _ = jobs.insert(name, StoredJob::new(job)),
                // The other jobs must not wait for it. It cannot appear in a status, because its
                // spec is unknown.
                Err(error) => {
                    tracing::error!(job = %name, %error, "the job is passed over until its stored value can be read")
                }
            },
            Some((name, kind)) => rest.push((name, kind, key, bytes)),
            None => {}
        }
    }
    for (name, kind, key, bytes) in rest {
        let Some(stored) = jobs.get_mut(&name) else {
            continue;
        };
        if let Err(error) = fill(stored, kind, &key, &bytes) {
            stored.broken = Some(error.to_string());
        }
    }
    Ok(jobs.into_values().collect())
}

fn fill(stored: &mut StoredJob, kind: JobKey, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
    match kind {
        JobKey::Spec => {}
        JobKey::Wanted => stored.wanted = decode(key, bytes)?,
        JobKey::Head => stored.head = Some(decode(key, bytes)?),
        JobKey::Published => stored.published = decode(key, bytes)?,
        JobKey::Replays => stored.replays = decode(key, bytes)?,
        JobKey::Repairs => stored.repairs = decode(key, bytes)?,
        JobKey::Anchor => stored.anchors = decode(key, bytes)?,
    }
    Ok(())
}

pub(super) fn leader(
    cells: &dyn Cells,
    keys: &Keys,
) -> Result<Option<(Term, LeaderRecord)>, StoreError> {
    let key = keys.leader();
    let Some(bytes) = cells.get(&key)? else {
        return Ok(None);
    };
    let LeaderCell { term, leader } = decode(&key, &bytes)?;
    Ok(Some((term, leader)))
}

/// Makes `me` the leader, whichever candidate led before.
pub(super) fn elect(
    cells: &mut dyn Cells,
    keys: &Keys,
    me: &LeaderRecord,
) -> Result<Term, StoreError> {
    let key = keys.term();
    let last = cells
        .get(&key)?
        .map(|bytes| decode::<Term>(&key, &bytes))
        .transpose()?
        .unwrap_or_default();
    let term = Term(last.0 + 1);
    cells.put(&key, &encode(&term))?;
    cells.put(
        &keys.leader(),
        &encode(&LeaderCell {
            term,
            leader: me.clone(),
        }),
    )?;
    Ok(term)
}

/// [`super::Store::raise_terms`], for stores that count terms themselves.
pub(super) fn raise_terms(
    cells: &mut dyn Cells,
    keys: &Keys,
    term: Term,
    above: Term,
) -> Result<WriteOutcome, StoreError> {
    if !leads(cells, keys, term)? {
        return Ok(WriteOutcome::Fenced);
    }
    cells.put(&keys.term(), &encode(&term.max(above)))?;
    Ok(WriteOutcome::Written)
}

/// Ends a leader's term; the term of another leader is unchanged.
pub(super) fn resign(cells: &mut dyn Cells, keys: &Keys, term: Term) -> Result<(), StoreError> {
    if leads(cells, keys, term)? {
        cells.remove(&keys.leader())
    } else {
        Ok(())
    }
}

fn leads(cells: &dyn Cells, keys: &Keys, term: Term) -> Result<bool, StoreError> {
    Ok(leader(cells, keys)?.is_some_and(|(leading, _)| leading == term))
}

/// [`super::Store::create_job`].
pub(super) fn create_job(
    cells: &mut dyn Cells,
    keys: &Keys,
    term: Term,
    job: &ResolvedJob,
) -> Result<CreateOutcome, StoreError> {
    if !leads(cells, keys, term)? {
        return Ok(CreateOutcome::Fenced);
    }
    let spec = keys.of(&job.spec.name, JobKey::Spec);
    if let Some(bytes) = cells.get(&spec)? {
        // An unreadable job still exists.
        decode_job(&spec, &bytes)?;
    }
    if let Some(stored) = jobs(keys, cells.below(&keys.job(&job.spec.name))?)?.pop() {
        return Ok(CreateOutcome::Exists(Box::new(stored)));
    }
    for (key, value) in new_job(keys, job) {
        cells.put(&key, &value)?;
    }
    for stale in NOT_OF_A_NEW_JOB {
        cells.remove(&keys.of(&job.spec.name, stale))?;
    }
    Ok(CreateOutcome::Created)
}

/// What a commit after the deletion of a job may have left. A new job must not inherit it.
pub(super) const NOT_OF_A_NEW_JOB: [JobKey; 4] = [
    JobKey::Head,
    JobKey::Replays,
    JobKey::Repairs,
    JobKey::Anchor,
];

/// The cells of a new job; [`NOT_OF_A_NEW_JOB`] must be removed.
pub(super) fn new_job(keys: &Keys, job: &ResolvedJob) -> [(String, Vec<u8>); 3] {
    let name = &job.spec.name;
    [
        (keys.of(name, JobKey::Spec), encode(job)),
        (
            keys.of(name, JobKey::Wanted),
            encode(&DesiredState::Running),
        ),
        (keys.of(name, JobKey::Published), encode(&Epoch(0))),
    ]
}

/// [`super::Store::change_job`] and the methods that set one cell.
pub(super) fn write(
    cells: &mut dyn Cells,
    keys: &Keys,
    term: Term,
    key: &str,
    value: &[u8],
) -> Result<WriteOutcome, StoreError> {
    if !leads(cells, keys, term)? {
        return Ok(WriteOutcome::Fenced);
    }
    cells.put(key, value)?;
    Ok(WriteOutcome::Written)
}

/// The stored form of a block of the journal.
#[derive(Serialize, Deserialize)]
struct JournalCell {
    entries: Vec<Entry>,
}

/// The entries of all blocks below [`Keys::journal`]. The journal must not stop a leader: a block
/// that cannot be read is left out.
pub(super) fn journal(cells: Vec<(String, Vec<u8>)>) -> Vec<Entry> {
    let read = |(key, bytes): (String, Vec<u8>)| match decode::<JournalCell>(&key, &bytes) {
        Ok(cell) => cell.entries,
        Err(error) => {
            tracing::warn!(%error, "a block of the journal is left out");
            vec![]
        }
    };
    cells.into_iter().flat_map(read).collect()
}

/// The key of a block, and its content; none: it is to be removed.
pub(super) fn journal_cell(keys: &Keys, (number, entries): &Block) -> (String, Option<Vec<u8>>) {
    let entries = entries.clone();
    let value = (!entries.is_empty()).then(|| encode(&JournalCell { entries }));
    (keys.journal_block(*number), value)
}

/// [`super::Store::write_journal`].
pub(super) fn write_journal(
    cells: &mut dyn Cells,
    keys: &Keys,
    term: Term,
    blocks: &[Block],
) -> Result<WriteOutcome, StoreError> {
    if !leads(cells, keys, term)? {
        return Ok(WriteOutcome::Fenced);
    }
    for block in blocks {
        match journal_cell(keys, block) {
            (key, Some(value)) => cells.put(&key, &value)?,
            (key, None) => cells.remove(&key)?,
        }
    }
    Ok(WriteOutcome::Written)
}

/// [`super::Store::commit`].
pub(super) fn commit(
    cells: &mut dyn Cells,
    keys: &Keys,
    term: Term,
    job: &JobName,
    previous: Option<&ManifestRef>,
    head: &ManifestRef,
) -> Result<CommitOutcome, StoreError> {
    if !leads(cells, keys, term)? {
        return Ok(CommitOutcome::Fenced);
    }
    let key = keys.of(job, JobKey::Head);
    let actual: Option<ManifestRef> = cells
        .get(&key)?
        .map(|bytes| decode(&key, &bytes))
        .transpose()?;
    if actual.as_ref() == Some(head) {
        return Ok(CommitOutcome::Committed);
    }
    if actual.as_ref() != previous {
        return Ok(CommitOutcome::Conflict { actual });
    }
    cells.put(&key, &encode(head))?;
    Ok(CommitOutcome::Committed)
}

/// [`super::Store::delete_job`].
pub(super) fn delete_job(
    cells: &mut dyn Cells,
    keys: &Keys,
    term: Term,
    job: &JobName,
) -> Result<WriteOutcome, StoreError> {
    if !leads(cells, keys, term)? {
        return Ok(WriteOutcome::Fenced);
    }
    for (key, _) in cells.below(&keys.job(job))? {
        cells.remove(&key)?;
    }
    Ok(WriteOutcome::Written)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These forms are in users' stores: a changed build must still read them.
    #[test]
    fn stored_forms_stay_as_they_are() {
        let json = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(json(encode(&DesiredState::Draining)), r#""draining""#);
        let failed = DesiredState::Failed {
            error: "e".into(),
            hint: "h".into(),
        };
        assert_eq!(
            json(encode(&failed)),
            r#"{"failed":{"error":"e","hint":"h"}}"#
        );
        let head = ManifestRef {
            epoch: Epoch(3),
            name: "j/epochs/3.json".into(),
            digest: "d".into(),
        };
        assert_eq!(
            json(encode(&head)),
            r#"{"epoch":3,"name":"j/epochs/3.json","digest":"d"}"#
        );
        let leader = LeaderRecord {
            id: "i".into(),
            address: "h:1".into(),
        };
        assert_eq!(json(encode(&leader)), r#"{"id":"i","address":"h:1"}"#);
        assert_eq!(json(encode(&Epoch(7))), "7");
    }

    #[test]
    fn a_job_that_cannot_be_read_stops_no_other_and_is_not_replaced() {
        use super::super::contract::{head, job};
        let keys = Keys::new("c");
        let later = job("later");
        let good = job("good");
        let headless = job("headless");
        let name = |job: &ResolvedJob| job.spec.name.clone();
        let mut cells = BTreeMap::new();
        for job in [&good, &headless] {
            cells.extend(new_job(&keys, job));
        }
        cells.insert(
            keys.of(&name(&later), JobKey::Spec),
            br#"{"version":99}"#.to_vec(),
        );
        cells.insert(keys.of(&name(&headless), JobKey::Head), b"{".to_vec());
        let loaded = jobs(&keys, cells.clone().into_iter().collect()).unwrap();
        let [good_again, broken] = &loaded[..] else {
            panic!("{loaded:?}")
        };
        assert_eq!(
            (good_again, broken.broken.is_some()),
            (&StoredJob::new(good.clone()), true)
        );
        let me = LeaderRecord {
            id: "a".into(),
            address: "a:1".into(),
        };
        let term = elect(&mut cells, &keys, &me).unwrap();
        let refused = create_job(&mut cells, &keys, term, &later);
        assert!(
            matches!(refused, Err(StoreError::Corrupt { .. })),
            "{refused:?}"
        );
        let moved = commit(&mut cells, &keys, term, &name(&good), None, &head(1)).unwrap();
        assert_eq!(moved, CommitOutcome::Committed);
    }
}
