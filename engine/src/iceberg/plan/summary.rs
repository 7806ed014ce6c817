//! What a table states about our epochs, and what we make it state.
//!
//! Rule: the property is the marker; the summaries of snapshots are a second witness, for catalogs
//! or people that lose properties. Either is enough to not append again.

use super::super::data_file::DataFile;
use super::super::metadata::{Snapshot, TableMetadata};
use super::super::partition;
use super::{EpochFiles, Writer};
use chrono::{DateTime, SecondsFormat};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const CLUSTER: &str = "streamctl.cluster";
pub(super) const JOB: &str = "streamctl.job";
const SUBMITTED: &str = "streamctl.submitted";
const EPOCH: &str = "streamctl.epoch";
const EPOCHS: &str = "streamctl.epochs";
const WINDOW: &str = "streamctl.window";
const MANIFESTS: &str = "streamctl.manifests";
/// How many data files a snapshot removes.
pub(super) const REMOVED_FILES: &str = "deleted-data-files";

/// How far the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    None,
    Through(u64),
    /// A job of the same name that was submitted later has written.
    Newer,
}

/// The last epoch of this job in the table. Epochs of a job of the same name that was submitted
/// before do not count.
pub(super) fn progress(base: &TableMetadata, writer: &Writer) -> Progress {
    let property = stated(
        base.properties.get(&marker_name(writer)),
        base.properties.get(&submitted_name(writer)),
    );
    let stated_by = |snapshot: &Arc<Snapshot>| {
        let found = stated(snapshot.summary.get(EPOCH), snapshot.summary.get(SUBMITTED))?;
        is_ours(snapshot, writer).then_some(found)
    };
    let mut summaries = base.snapshots.iter().rev().filter_map(stated_by);
    // Epochs ascend, so the newest snapshot is enough, if the catalog keeps their order.
    let is_ordered = base
        .snapshots
        .is_sorted_by_key(|snapshot| snapshot.sequence_number);
    let summaries: Vec<_> = match is_ordered {
        true => summaries.next().into_iter().collect(),
        false => summaries.collect(),
    };
    let mut progress = Progress::None;
    for (submitted_ms, epoch) in property.into_iter().chain(summaries) {
        if submitted_ms > writer.submitted_ms {
            return Progress::Newer;
        }
        if submitted_ms == writer.submitted_ms {
            progress = match progress {
                Progress::Through(known) => Progress::Through(known.max(epoch)),
                Progress::None | Progress::Newer => Progress::Through(epoch),
            };
        }
    }
    progress
}

fn stated(epoch: Option<&String>, submitted: Option<&String>) -> Option<(i64, u64)> {
    Some((submitted?.parse().ok()?, epoch?.parse().ok()?))
}

pub(super) fn is_ours(snapshot: &Snapshot, writer: &Writer) -> bool {
    snapshot.summary.get(CLUSTER) == Some(&writer.cluster)
        && snapshot.summary.get(JOB) == Some(&writer.job)
}

/// The epochs that a snapshot of ours states to add; those of an earlier job of this name do not
/// count.
pub(super) fn epochs(snapshot: &Snapshot, writer: &Writer) -> Vec<u64> {
    let submitted = snapshot.summary.get(SUBMITTED);
    if submitted.and_then(|text| text.parse().ok()) != Some(writer.submitted_ms) {
        return vec![];
    }
    let epochs = snapshot.summary.get(EPOCHS);
    let epochs = epochs.map_or("", String::as_str).split(',');
    epochs.filter_map(|epoch| epoch.parse().ok()).collect()
}

fn marker_name(writer: &Writer) -> String {
    format!("streamctl.{}.{}", writer.cluster, writer.job)
}

/// Not below the marker's name: a cluster's name may have dots.
fn submitted_name(writer: &Writer) -> String {
    format!("streamctl-submitted.{}.{}", writer.cluster, writer.job)
}

/// The properties that state that all epochs up to this one are in the table.
pub(super) fn marker(writer: &Writer, epoch: u64) -> BTreeMap<String, String> {
    [
        (marker_name(writer), epoch.to_string()),
        (submitted_name(writer), writer.submitted_ms.to_string()),
    ]
    .into()
}

/// The summary of the snapshot that adds these epochs.
pub(super) fn summary(
    base: &TableMetadata,
    writer: &Writer,
    pending: &[&EpochFiles],
) -> BTreeMap<String, String> {
    let files: Vec<&DataFile> = pending.iter().flat_map(|epoch| &epoch.files).collect();
    let partitions: BTreeSet<_> = files
        .iter()
        .map(|file| (file.spec_id, partition::key(&file.partition)))
        .collect();
    let added = [
        ("data-files", files.len() as u64),
        ("records", files.iter().map(|file| file.rows).sum()),
        ("files-size", files.iter().map(|file| file.size).sum()),
    ];
    let mut summary = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        summary.insert(name.to_owned(), value);
    };
    set("operation", "append".into());
    set("changed-partition-count", partitions.len().to_string());
    for (name, added) in added {
        set(&format!("added-{name}"), added.to_string());
    }
    let zero = [
        ("delete-files", 0),
        ("position-deletes", 0),
        ("equality-deletes", 0),
    ];
    for (name, added) in added.into_iter().chain(zero) {
        // A total that the base does not know stays unknown.
        if let Some(before) = total(base, name) {
            set(&format!("total-{name}"), (before + added).to_string());
        }
    }
    set(CLUSTER, writer.cluster.clone());
    set(JOB, writer.job.clone());
    set(SUBMITTED, writer.submitted_ms.to_string());
    let epochs: Vec<_> = pending
        .iter()
        .map(|epoch| epoch.epoch.to_string())
        .collect();
    let digests: Vec<_> = pending
        .iter()
        .map(|epoch| format!("{}={}", epoch.epoch, epoch.manifest_digest))
        .collect();
    if let (Some(first), Some(last)) = (pending.first(), pending.last()) {
        set(EPOCH, last.epoch.to_string());
        set(
            WINDOW,
            format!(
                "{}/{}",
                time(first.window_start_ms),
                time(last.window_end_ms)
            ),
        );
    }
    set(EPOCHS, epochs.join(","));
    set(MANIFESTS, digests.join(","));
    summary
}

/// The summary of the snapshot that replaces manifests by one, and leaves the data as it is.
pub(in super::super) fn of_replacement(
    base: &TableMetadata,
    writer: &Writer,
    replaced: usize,
    kept: usize,
) -> BTreeMap<String, String> {
    let mut summary = BTreeMap::from([
        ("operation".to_owned(), "replace".to_owned()),
        ("manifests-created".to_owned(), "1".to_owned()),
        ("manifests-replaced".to_owned(), replaced.to_string()),
        ("manifests-kept".to_owned(), kept.to_string()),
        (CLUSTER.to_owned(), writer.cluster.clone()),
        (JOB.to_owned(), writer.job.clone()),
    ]);
    let totals = base
        .current()
        .into_iter()
        .flat_map(|current| &current.summary);
    let totals = totals.filter(|(name, _)| name.starts_with("total-"));
    summary.extend(totals.map(|(name, value)| (name.clone(), value.clone())));
    summary
}

/// How a rewriting changes the table's files; its rows stay as they are.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct FilesChange {
    pub added: u64,
    pub added_bytes: u64,
    pub removed: u64,
    pub removed_bytes: u64,
    pub rows: u64,
}

/// The summary of the snapshot that replaces data files by others with the same rows.
pub(in super::super) fn of_rewriting(
    base: &TableMetadata,
    writer: &Writer,
    change: FilesChange,
) -> BTreeMap<String, String> {
    let FilesChange {
        added,
        added_bytes,
        removed,
        removed_bytes,
        rows,
    } = change;
    let mut summary: BTreeMap<String, String> = base
        .current()
        .into_iter()
        .flat_map(|current| &current.summary)
        .filter(|(name, _)| name.starts_with("total-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: String| {
        summary.insert(name.to_owned(), value);
    };
    let totals = [
        ("data-files", added, removed),
        ("files-size", added_bytes, removed_bytes),
    ];
    for (name, more, less) in totals {
        if let Some(before) = total(base, name) {
            let total = (before + more).saturating_sub(less);
            set(&format!("total-{name}"), total.to_string());
        }
    }
    set("operation", "replace".to_owned());
    set("added-data-files", added.to_string());
    set(REMOVED_FILES, removed.to_string());
    set("added-records", rows.to_string());
    set("deleted-records", rows.to_string());
    set("added-files-size", added_bytes.to_string());
    set("removed-files-size", removed_bytes.to_string());
    set("changed-partition-count", "1".to_owned());
    set(CLUSTER, writer.cluster.clone());
    set(JOB, writer.job.clone());
    summary
}

fn total(base: &TableMetadata, name: &str) -> Option<u64> {
    match base.current() {
        Some(current) => current.summary.get(&format!("total-{name}"))?.parse().ok(),
        None => Some(0),
    }
}

fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms);
    time.map_or_else(
        || ms.to_string(),
        |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}
