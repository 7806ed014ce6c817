//! Rewritings beside other writers, with the faults of a catalog.

use super::*;
use crate::iceberg::catalog::memory::Fault;
use crate::iceberg::commit::conformance::Bed;
use crate::iceberg::commit::{CommitError, Merged};
use crate::iceberg::manifest::{self, DELETED};
use crate::iceberg::manifest_list;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use streamctl_proto::rewrite::RewriteRecord;

/// The job's folder.
pub(in crate::iceberg) const OWN: &str = "s3://b/t/data/";
/// Files of an epoch have 100 bytes: three of them are worth it.
pub(in crate::iceberg) const TARGET: u64 = 300;
const VOID_AFTER: u64 = 3;

impl Bed {
    pub(in crate::iceberg) async fn small_files(&self) -> Result<SmallFiles, CommitError> {
        self.committer().small_files(OWN, 0, TARGET).await
    }

    /// What a worker writes for the first group, and its record.
    pub(in crate::iceberg) fn rewriting(
        &self,
        small: &SmallFiles,
        number: u64,
    ) -> Option<(Rewriting, RewriteRecord)> {
        let group = small.groups.first()?;
        let output = DataFile {
            location: format!("{OWN}rewritten/{number}.parquet"),
            size: group.bytes(),
            rows: group.rows(),
            spec_id: 0,
            partition: group.partition.clone(),
            metrics: Default::default(),
            split_offsets: vec![],
        };
        let inputs: Vec<_> = group
            .inputs
            .iter()
            .map(|file| file.location.clone())
            .collect();
        let first = group.inputs.iter().map(|file| file.sequence_number).min()?;
        let record = RewriteRecord::new(
            self.writer.table_uuid.clone(),
            small.through + VOID_AFTER,
            (first, small.base_sequence),
            inputs.clone(),
            vec![output.location.clone()],
        );
        let rewriting = Rewriting {
            spec_id: 0,
            partition: group.partition.clone(),
            inputs,
            outputs: vec![output],
            void_from_epoch: small.through + VOID_AFTER,
        };
        Some((rewriting, record))
    }

    pub(in crate::iceberg) async fn rewrite(
        &self,
        rewriting: &Rewriting,
    ) -> Result<RewritingOutcome, CommitError> {
        self.committer()
            .commit_rewriting(rewriting, &|| 1_700_000_000_000)
            .await
    }

    /// The files that a snapshot shows.
    pub(in crate::iceberg) fn shown_by(&self, list: &str) -> BTreeSet<String> {
        let manifests = manifest_list::decode(&self.files.read(list).unwrap()).unwrap();
        let data = manifests
            .iter()
            .filter(|manifest| manifest.content == Content::Data);
        let entries = data.flat_map(|manifest| {
            manifest::decode(&self.files.read(&manifest.location).unwrap()).unwrap()
        });
        let live = entries.filter(|entry| entry.status != DELETED);
        live.map(|entry| entry.location).collect()
    }

    /// The files that a reader sees.
    fn current_files(&self) -> BTreeSet<String> {
        let table = self.catalog.look(&self.table.name);
        let list = table.current().unwrap().manifest_list.clone().unwrap();
        self.shown_by(&list)
    }

    async fn with_epochs(last: u64) -> Self {
        let bed = Self::calm();
        for number in 1..=last {
            bed.commit(&[number]).await.unwrap();
        }
        bed
    }
}

fn gave_up(outcome: &RewritingOutcome) -> &str {
    match outcome {
        RewritingOutcome::GaveUp { reason, .. } => reason,
        RewritingOutcome::Committed => panic!("it was committed"),
    }
}

#[tokio::test(start_paused = true)]
async fn small_files_become_one_and_rows_marker_and_order_stay() {
    let bed = Bed::with_epochs(4).await;
    bed.catalog
        .append_by_another(&bed.table.name, &bed.files, 7);
    let before = bed.catalog.look(&bed.table.name);
    let small = bed.small_files().await.unwrap();
    assert_eq!((small.groups.len(), small.through), (1, 4));
    assert_eq!(small.groups[0].inputs.len(), 4, "only those of the job");
    let (rewriting, _) = bed.rewriting(&small, 1).unwrap();
    let outcome = bed.rewrite(&rewriting).await.unwrap();
    assert_eq!(outcome, RewritingOutcome::Committed);
    let table = bed.catalog.look(&bed.table.name);
    assert_eq!(table.properties, before.properties);
    assert_eq!(table.snapshots.len(), before.snapshots.len() + 1);
    let summary = &table.current().unwrap().summary;
    for (name, value) in [
        ("operation", "replace"),
        ("added-data-files", "1"),
        ("deleted-data-files", "4"),
        ("added-records", "10"),
        ("deleted-records", "10"),
        ("removed-files-size", "400"),
    ] {
        assert_eq!(summary.get(name).map(String::as_str), Some(value), "{name}");
    }
    let files = bed.current_files();
    assert_eq!(files.len(), 2);
    assert!(files.contains("s3://b/t/data/rewritten/1.parquet"));
    bed.commit(&[1, 2, 3, 4, 5]).await.unwrap();
    bed.is_exact(5, 7);
    let listed = bed.catalog.listed(&bed.table.name, &bed.files);
    assert!(
        listed.iter().all(|manifest| !manifest.is_spent()),
        "an append lists no manifest of removed files"
    );
}

#[tokio::test(start_paused = true)]
async fn files_that_stay_keep_their_sequence_numbers() {
    let bed = Bed::with_epochs(6).await;
    // One manifest holds all, and some of its files stay.
    let mut settings = bed.settings.clone();
    settings.merge_at = 6;
    let bed = Bed { settings, ..bed };
    let merged = bed.committer().merge_manifests(1).await.unwrap();
    assert_eq!(merged, Merged::Merged(6));
    let small = bed.small_files().await.unwrap();
    let (mut rewriting, _) = bed.rewriting(&small, 1).unwrap();
    rewriting
        .inputs
        .retain(|input| !input.ends_with("/2.parquet"));
    rewriting.outputs[0].rows -= 2;
    bed.rewrite(&rewriting).await.unwrap();
    let listed = bed.catalog.listed(&bed.table.name, &bed.files);
    let existing = listed
        .iter()
        .find(|manifest| manifest.existing_files == 1)
        .unwrap();
    let entries = manifest::decode(&bed.files.read(&existing.location).unwrap()).unwrap();
    assert_eq!(entries[0].location, "s3://b/t/data/2.parquet");
    assert_eq!(entries[0].sequence_number, Some(2));
    bed.is_exact(6, 0);
}

#[tokio::test(start_paused = true)]
async fn an_append_between_look_and_commit_stays() {
    let bed = Bed::with_epochs(4).await;
    let small = bed.small_files().await.unwrap();
    let (rewriting, _) = bed.rewriting(&small, 1).unwrap();
    bed.commit(&[5]).await.unwrap();
    bed.catalog.plan(&[Fault::FalseConflict]);
    let committer = bed.committer();
    let rewrite = committer.commit_rewriting(&rewriting, &|| 1);
    let meanwhile = async {
        tokio::task::yield_now().await;
        bed.catalog
            .append_by_another(&bed.table.name, &bed.files, 9);
        bed.commit(&[6]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(rewrite, meanwhile);
    assert_eq!(outcome.unwrap(), RewritingOutcome::Committed);
    bed.is_exact(6, 9);
    assert_eq!(bed.current_files().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_lost_a_late_or_a_doubled_answer_rewrites_once() {
    for fault in [
        Fault::LostAnswer,
        Fault::LostRequest,
        Fault::Late(0),
        Fault::Late(5),
        Fault::Doubled,
        Fault::Unavailable,
    ] {
        let bed = Bed::with_epochs(4).await;
        let small = bed.small_files().await.unwrap();
        let (rewriting, _) = bed.rewriting(&small, 1).unwrap();
        bed.catalog.plan(&[fault]);
        let outcome = bed.rewrite(&rewriting).await.unwrap();
        assert_eq!(outcome, RewritingOutcome::Committed, "{fault:?}");
        bed.catalog.deliver_late();
        bed.is_exact(4, 0);
        // Another leader, or the same one after a crash.
        let again = bed.rewrite(&rewriting).await.unwrap();
        assert_eq!(again, RewritingOutcome::Committed, "{fault:?}");
        bed.is_exact(4, 0);
        assert_eq!(bed.current_files().len(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rewriting_ends_if_another_writer_rewrote_its_files() {
    let bed = Bed::with_epochs(4).await;
    let small = bed.small_files().await.unwrap();
    let (rewriting, _) = bed.rewriting(&small, 1).unwrap();
    bed.catalog.compact_by_another(&bed.table.name, &bed.files);
    let outcome = bed.rewrite(&rewriting).await.unwrap();
    assert!(gave_up(&outcome).contains("another writer"), "{outcome:?}");
    bed.is_exact(4, 0);
}

#[tokio::test(start_paused = true)]
async fn files_to_which_deletes_may_apply_are_left_out() {
    let bed = Bed::with_epochs(4).await;
    let small = bed.small_files().await.unwrap();
    let (rewriting, _) = bed.rewriting(&small, 1).unwrap();
    bed.catalog
        .delete_rows_by_another(&bed.table.name, &bed.files);
    let outcome = bed.rewrite(&rewriting).await.unwrap();
    assert!(gave_up(&outcome).contains("deleted rows"), "{outcome:?}");
    let none = bed.small_files().await.unwrap();
    assert_eq!((none.groups.len(), none.with_deletes), (0, 4));
    // Later files are older than no delete.
    for number in 5..=7 {
        bed.commit(&[number]).await.unwrap();
    }
    let later = bed.small_files().await.unwrap();
    assert_eq!(later.groups[0].inputs.len(), 3);
    let (rewriting, _) = bed.rewriting(&later, 2).unwrap();
    let outcome = bed.rewrite(&rewriting).await.unwrap();
    assert_eq!(outcome, RewritingOutcome::Committed);
    bed.is_exact(7, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rewriting_that_took_too_long_is_void() {
    let bed = Bed::with_epochs(4).await;
    let small = bed.small_files().await.unwrap();
    let (rewriting, _) = bed.rewriting(&small, 1).unwrap();
    for number in 5..=7 {
        bed.commit(&[number]).await.unwrap();
    }
    let outcome = bed.rewrite(&rewriting).await.unwrap();
    assert!(gave_up(&outcome).contains("too long"), "{outcome:?}");
    bed.is_exact(7, 0);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_version_3_is_left_alone_with_a_reason() {
    let bed = Bed::new(0, 0, 3);
    for number in 1..=4 {
        bed.commit(&[number]).await.unwrap();
    }
    let small = bed.small_files().await.unwrap();
    assert!(small.groups.is_empty());
    assert!(small.refused.unwrap().contains("version 3"));
}

#[tokio::test(start_paused = true)]
async fn inputs_may_be_deleted_once_no_kept_snapshot_shows_them() {
    let mut bed = Bed::with_epochs(4).await;
    bed.settings.keep_snapshots = NonZeroU32::new(3);
    let small = bed.small_files().await.unwrap();
    let (rewriting, record) = bed.rewriting(&small, 1).unwrap();
    bed.rewrite(&rewriting).await.unwrap();
    let records = [record];
    for number in 5..=7 {
        let leftovers = bed.committer().leftovers(&records).await.unwrap();
        assert_eq!(leftovers, [], "before epoch {number}");
        bed.commit(&[number]).await.unwrap();
    }
    let leftovers = bed.committer().leftovers(&records).await.unwrap();
    let [Leftovers { files, is_last, .. }] = &leftovers[..] else {
        panic!("{leftovers:?}")
    };
    assert_eq!((files, *is_last), (&rewriting.inputs, true));
    for snapshot in &bed.catalog.look(&bed.table.name).snapshots {
        let shown = bed.shown_by(snapshot.manifest_list.as_ref().unwrap());
        assert!(files.iter().all(|file| !shown.contains(file)));
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_that_no_snapshot_came_to_show_may_be_deleted_when_they_are_void() {
    let mut bed = Bed::with_epochs(4).await;
    bed.settings.keep_snapshots = NonZeroU32::new(2);
    let small = bed.small_files().await.unwrap();
    // The leader dies after the outputs are complete.
    let (rewriting, record) = bed.rewriting(&small, 1).unwrap();
    let records = [record];
    for number in 5..=8 {
        bed.commit(&[number]).await.unwrap();
    }
    let leftovers = bed.committer().leftovers(&records).await.unwrap();
    let [Leftovers { files, is_last, .. }] = &leftovers[..] else {
        panic!("{leftovers:?}")
    };
    assert_eq!(*files, [rewriting.outputs[0].location.clone()]);
    assert!(
        is_last,
        "the inputs are still shown, and not this record's matter"
    );
    // The dead leader wakes up.
    let outcome = bed.rewrite(&rewriting).await.unwrap();
    gave_up(&outcome);
    bed.is_exact(8, 0);
}

#[tokio::test(start_paused = true)]
async fn a_tag_keeps_the_files_that_it_shows() {
    let mut bed = Bed::with_epochs(4).await;
    bed.settings.keep_snapshots = NonZeroU32::new(1);
    let small = bed.small_files().await.unwrap();
    let (rewriting, record) = bed.rewriting(&small, 1).unwrap();
    let tagged = bed.catalog.look(&bed.table.name).current_id().unwrap();
    let tag = crate::iceberg::catalog::request::Update::SetSnapshotRef {
        ref_name: "audit".into(),
        r#type: "tag".into(),
        snapshot_id: tagged,
    };
    bed.catalog.change_by_another(&bed.table.name, vec![tag]);
    bed.rewrite(&rewriting).await.unwrap();
    for number in 5..=9 {
        bed.commit(&[number]).await.unwrap();
    }
    let leftovers = bed.committer().leftovers(&[record]).await.unwrap();
    assert_eq!(leftovers, []);
}
