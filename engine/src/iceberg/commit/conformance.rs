//! What has gone wrong in other sinks, one test each.

use super::super::catalog::memory::{Fault, MemoryCatalog, MemoryFiles};
use super::super::catalog::request::{NewTable, Update};
use super::super::manifest;
use super::super::manifest_list::Content;
use super::super::metadata::Snapshot;
use super::super::plan::tests::{epoch, table, writer};
use super::*;
use std::collections::BTreeMap;

/// One table in a catalog with faults.
pub(in crate::iceberg) struct Bed {
    pub catalog: MemoryCatalog,
    pub files: MemoryFiles,
    pub table: NewTable,
    pub writer: Writer,
    pub settings: CommitSettings,
}

impl Bed {
    pub(in crate::iceberg) fn new(seed: u64, fault_rate: u32, format_version: u8) -> Self {
        let catalog = MemoryCatalog::new(seed, fault_rate);
        let table = table();
        catalog.make(&table, format_version);
        let table_uuid = catalog.look(&table.name).table_uuid.clone();
        Self {
            catalog,
            files: MemoryFiles::default(),
            table,
            writer: Writer {
                table_uuid,
                ..writer()
            },
            settings: CommitSettings::default(),
        }
    }

    pub(in crate::iceberg) fn calm() -> Self {
        Self::new(0, 0, 2)
    }

    pub(in crate::iceberg) fn committer(&self) -> Committer<'_> {
        Committer {
            catalog: &self.catalog,
            files: &self.files,
            table: &self.table.name,
            writer: &self.writer,
            settings: &self.settings,
        }
    }

    pub(in crate::iceberg) async fn commit(
        &self,
        epochs: &[u64],
    ) -> Result<Committed, CommitError> {
        let epochs: Vec<_> = epochs.iter().copied().map(epoch).collect();
        self.committer()
            .commit(&epochs, &|| 1_700_000_000_000)
            .await
    }

    /// How often each of our files was added in the table's history.
    pub(in crate::iceberg) fn added(&self) -> BTreeMap<String, u32> {
        let mut added = BTreeMap::new();
        for snapshot in self.catalog.history() {
            for location in self.added_by(&snapshot) {
                *added.entry(location).or_default() += 1;
            }
        }
        let is_epoch_s =
            |location: &str| !location.contains("foreign") && !location.contains("rewritten");
        added.retain(|location, _| is_epoch_s(location));
        added
    }

    fn added_by(&self, snapshot: &Snapshot) -> Vec<String> {
        let list = snapshot.manifest_list.as_ref().unwrap();
        // The list of a snapshot that was expired may be gone; its manifests may not.
        let Some(bytes) = self.files.read(list) else {
            assert!(
                self.catalog
                    .look(&self.table.name)
                    .snapshot(snapshot.snapshot_id)
                    .is_none()
            );
            // A replacement adds no epochs.
            let epochs = snapshot.summary.get("streamctl.epochs");
            return epochs
                .iter()
                .flat_map(|numbers| numbers.split(','))
                .map(|number| epoch(number.parse().unwrap()).files.remove(0).location)
                .collect();
        };
        manifest_list::decode(&bytes)
            .unwrap()
            .iter()
            .filter(|manifest| {
                manifest.content == Content::Data
                    && manifest.added_snapshot_id == snapshot.snapshot_id
            })
            .flat_map(|manifest| {
                let bytes = self.files.read(&manifest.location).unwrap();
                manifest::decode(&bytes).unwrap()
            })
            .filter(|entry| entry.status == manifest::ADDED)
            .map(|entry| entry.location)
            .collect()
    }

    /// Rows that a reader sees.
    pub(in crate::iceberg) fn rows(&self) -> i64 {
        let listed = self.catalog.listed(&self.table.name, &self.files);
        listed
            .iter()
            .map(|manifest| manifest.added_rows + manifest.existing_rows)
            .sum()
    }

    /// Each epoch up to `last` was added once, and a reader sees all rows of them and of others.
    pub(in crate::iceberg) fn is_exact(&self, last: u64, rows_of_others: i64) {
        let expected: BTreeMap<_, _> = (1..=last)
            .map(|number| (epoch(number).files.remove(0).location, 1))
            .collect();
        assert_eq!(self.added(), expected);
        let rows: i64 = (1..=i64::try_from(last).unwrap()).sum();
        assert_eq!(self.rows(), rows + rows_of_others);
        for manifest in self.catalog.listed(&self.table.name, &self.files) {
            assert!(
                self.files.read(&manifest.location).is_some(),
                "{}",
                manifest.location
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i1_a_late_request_of_a_dead_leader_is_refused() {
    let bed = Bed::calm();
    bed.commit(&[1]).await.unwrap();
    // The request of the first leader stays in the network; the leader dies with its answer.
    bed.catalog.plan(&[Fault::Late(1000)]);
    let dead = tokio::time::timeout(Duration::from_millis(1), bed.commit(&[2])).await;
    assert!(dead.is_err());
    bed.commit(&[2]).await.unwrap();
    bed.catalog.deliver_late();
    bed.is_exact(2, 0);
}

#[tokio::test(start_paused = true)]
async fn i2_an_answer_is_lost_and_a_new_leader_commits_again() {
    let bed = Bed::calm();
    bed.catalog.plan(&[Fault::LostAnswer]);
    let dead = tokio::time::timeout(Duration::from_millis(1), bed.commit(&[1])).await;
    assert!(dead.is_err());
    let again = bed.commit(&[1]).await.unwrap();
    assert_eq!(again.added, Vec::<i64>::new());
    assert_eq!(again.sent, 0);
    bed.is_exact(1, 0);
}

#[tokio::test(start_paused = true)]
async fn i3_an_unknown_state_is_looked_up_and_not_assumed() {
    for fault in [
        Fault::LostAnswer,
        Fault::LostRequest,
        Fault::Late(0),
        Fault::Late(3),
    ] {
        let bed = Bed::calm();
        bed.catalog.plan(&[fault]);
        bed.commit(&[1, 2]).await.unwrap();
        bed.catalog.deliver_late();
        bed.is_exact(2, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn i4_a_crash_after_the_commit_and_before_it_is_recorded_adds_nothing() {
    let bed = Bed::calm();
    let first = bed.commit(&[1]).await.unwrap();
    assert_eq!(first.added.len(), 1);
    for _ in 0..3 {
        assert_eq!(bed.commit(&[1]).await.unwrap().added, Vec::<i64>::new());
    }
    bed.is_exact(1, 0);
}

#[tokio::test(start_paused = true)]
async fn i5_two_epochs_in_one_snapshot_are_both_marked() {
    let bed = Bed::calm();
    let both = bed.commit(&[1, 2]).await.unwrap();
    assert_eq!(both.added.len(), 1);
    assert_eq!(bed.commit(&[1]).await.unwrap().sent, 0);
    assert_eq!(bed.commit(&[2]).await.unwrap().sent, 0);
    assert_eq!(bed.commit(&[2, 3]).await.unwrap().added.len(), 1);
    bed.is_exact(3, 0);
}

#[tokio::test(start_paused = true)]
async fn i6_a_table_whose_own_snapshots_all_expired_is_not_appended_to_twice() {
    let bed = Bed::calm();
    bed.commit(&[1]).await.unwrap();
    bed.commit(&[2]).await.unwrap();
    bed.catalog
        .append_by_another(&bed.table.name, &bed.files, 5);
    bed.catalog.expire_by_another(&bed.table.name);
    let table = bed.catalog.look(&bed.table.name);
    assert_eq!(table.snapshots.len(), 1);
    assert_eq!(bed.commit(&[1, 2]).await.unwrap().sent, 0);
    bed.is_exact(2, 5);
}

#[tokio::test(start_paused = true)]
async fn i7_a_conflict_after_an_unknown_answer_removes_no_file_of_the_winner() {
    // The first request wins without an answer; a doubled one wins and returns the refusal.
    for faults in [
        vec![Fault::LostAnswer, Fault::FalseConflict],
        vec![Fault::Doubled],
        vec![Fault::Late(1), Fault::FalseConflict],
    ] {
        let bed = Bed::calm();
        bed.catalog.plan(&faults);
        bed.commit(&[1]).await.unwrap();
        bed.catalog.deliver_late();
        let table = bed.catalog.look(&bed.table.name);
        let list = table.current().unwrap().manifest_list.clone().unwrap();
        assert!(bed.files.read(&list).is_some());
        bed.is_exact(1, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn i7_the_list_of_a_request_that_was_surely_refused_is_removed() {
    let bed = Bed::calm();
    bed.catalog.plan(&[Fault::FalseConflict]);
    let committer = bed.committer();
    let epochs = [epoch(1)];
    let commit = committer.commit(&epochs, &|| 1);
    let meanwhile = async {
        tokio::task::yield_now().await;
        bed.catalog
            .append_by_another(&bed.table.name, &bed.files, 5);
    };
    let (committed, ()) = tokio::join!(commit, meanwhile);
    assert_eq!(committed.unwrap().removed, 1);
    let lists = bed
        .files
        .names()
        .into_iter()
        .filter(|name| name.contains("/snap-"));
    assert_eq!(lists.count(), 2);
    bed.is_exact(1, 5);
}

#[tokio::test(start_paused = true)]
async fn i7_the_list_of_a_request_that_may_still_arrive_stays() {
    let bed = Bed::calm();
    bed.commit(&[1]).await.unwrap();
    let base = bed.catalog.look(&bed.table.name).current_id().unwrap();
    bed.catalog.plan(&[Fault::Late(1000), Fault::FalseConflict]);
    let committer = bed.committer();
    let epochs = [epoch(2)];
    let commit = committer.commit(&epochs, &|| 1);
    let meanwhile = async {
        tokio::time::sleep(BACKOFF_MIN * 3).await;
        bed.catalog
            .append_by_another(&bed.table.name, &bed.files, 5);
    };
    let (committed, ()) = tokio::join!(commit, meanwhile);
    assert_eq!(committed.unwrap().sent, 3);
    // An operator rolls the table back, and only then the request arrives.
    let back = Update::SetSnapshotRef {
        ref_name: "main".into(),
        r#type: "branch".into(),
        snapshot_id: base,
    };
    bed.catalog.change_by_another(&bed.table.name, vec![back]);
    bed.catalog.deliver_late();
    assert_ne!(bed.catalog.look(&bed.table.name).current_id(), Some(base));
    assert_eq!(bed.rows(), 1 + 2);
}

#[tokio::test(start_paused = true)]
async fn i8_a_server_error_is_retried_and_ends_after_a_bounded_number_of_attempts() {
    let bed = Bed::calm();
    bed.catalog
        .plan(&[Fault::Unavailable, Fault::LostRequest, Fault::Unavailable]);
    bed.commit(&[1]).await.unwrap();
    bed.is_exact(1, 0);
    bed.catalog
        .plan(&[Fault::Unavailable; ATTEMPTS_MAX as usize]);
    let error = bed.commit(&[2]).await.unwrap_err();
    assert!(
        matches!(
            error,
            CommitError::Unavailable {
                attempts: ATTEMPTS_MAX,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("429"));
    bed.commit(&[2]).await.unwrap();
    bed.is_exact(2, 0);
}

#[tokio::test(start_paused = true)]
async fn i9_a_compaction_between_look_and_commit_costs_one_retry() {
    let bed = Bed::calm();
    bed.commit(&[1]).await.unwrap();
    bed.catalog.plan(&[Fault::FalseConflict]);
    let committer = bed.committer();
    let epochs = [epoch(2)];
    let commit = committer.commit(&epochs, &|| 1);
    let meanwhile = async {
        tokio::task::yield_now().await;
        bed.catalog.compact_by_another(&bed.table.name, &bed.files);
    };
    let (committed, ()) = tokio::join!(commit, meanwhile);
    assert_eq!(committed.unwrap().sent, 2);
    bed.is_exact(2, 0);
    // The first epoch's file is not in the table any more; it is nevertheless not added again.
    assert_eq!(bed.commit(&[1, 2]).await.unwrap().sent, 0);
}

#[tokio::test(start_paused = true)]
async fn i10_an_hour_beside_another_writer_loses_nothing_of_either() {
    let bed = Bed::calm();
    let mut others = 0;
    for number in 1..=60 {
        if number % 2 == 0 {
            bed.catalog
                .append_by_another(&bed.table.name, &bed.files, 7);
            others += 7;
        }
        if number % 20 == 0 {
            bed.catalog.compact_by_another(&bed.table.name, &bed.files);
        }
        bed.commit(&[number]).await.unwrap();
    }
    bed.is_exact(60, others);
}

#[tokio::test(start_paused = true)]
async fn i11_a_table_that_was_made_again_stops_the_job_with_a_reason() {
    let bed = Bed::calm();
    bed.commit(&[1]).await.unwrap();
    bed.catalog.drop_by_another(&bed.table.name);
    let error = bed.commit(&[2]).await.unwrap_err();
    assert!(matches!(error, CommitError::TableMissing { .. }), "{error}");
    bed.catalog.make(&bed.table, 2);
    let error = bed.commit(&[2]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("not the one that the job was submitted for"),
        "{error}"
    );
    assert!(error.hint().contains("dropped and made again"));
    assert!(bed.catalog.look(&bed.table.name).current().is_none());
}

#[tokio::test(start_paused = true)]
async fn our_surplus_snapshots_and_their_lists_are_removed_and_the_rows_stay() {
    let mut bed = Bed::calm();
    bed.settings.keep_snapshots = NonZeroU32::new(3);
    for number in 1..=10 {
        bed.commit(&[number]).await.unwrap();
    }
    assert_eq!(bed.catalog.look(&bed.table.name).snapshots.len(), 3);
    let lists = bed
        .files
        .names()
        .into_iter()
        .filter(|name| name.contains("/snap-"));
    assert_eq!(lists.count(), 3);
    bed.is_exact(10, 0);
}

#[tokio::test(start_paused = true)]
async fn merged_manifests_hold_the_same_files_with_their_sequence_numbers() {
    for version in [2, 3] {
        let bed = Bed::new(0, 0, version);
        bed.catalog
            .append_by_another(&bed.table.name, &bed.files, 5);
        for number in 1..=100 {
            assert_eq!(
                bed.committer().merge_manifests(1).await.unwrap(),
                Merged::NotDue
            );
            bed.commit(&[number]).await.unwrap();
        }
        let next_row = bed.catalog.look(&bed.table.name).next_row_id;
        let merged = bed.committer().merge_manifests(1).await.unwrap();
        assert_eq!(merged, Merged::Merged(100));
        let listed = bed.catalog.listed(&bed.table.name, &bed.files);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].existing_files, 100);
        assert_eq!(listed[0].min_sequence_number, 2);
        let bytes = bed.files.read(&listed[0].location).unwrap();
        let entries = manifest::decode(&bytes).unwrap();
        let numbers: Vec<_> = entries.iter().map(|entry| entry.sequence_number).collect();
        assert_eq!(numbers, (2..=101).map(Some).collect::<Vec<_>>());
        assert_eq!(
            entries[6].snapshot_id,
            Some(plan::snapshot_id(&bed.writer, 7))
        );
        assert_eq!(entries[0].first_row_id, next_row.map(|_| 5));
        assert_eq!(entries[4].first_row_id, next_row.map(|_| 5 + 1 + 2 + 3 + 4));
        bed.commit(&[99, 100, 101]).await.unwrap();
        bed.is_exact(101, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_refuses_to_remove_snapshots_still_gets_the_rows() {
    let mut bed = Bed::calm();
    bed.settings.keep_snapshots = NonZeroU32::new(1);
    bed.commit(&[1]).await.unwrap();
    bed.catalog.plan(&[Fault::Refused]);
    bed.commit(&[2]).await.unwrap();
    assert_eq!(bed.catalog.look(&bed.table.name).snapshots.len(), 2);
    bed.is_exact(2, 0);
    bed.catalog.plan(&[Fault::Refused, Fault::Refused]);
    let error = bed.commit(&[3]).await.unwrap_err();
    assert!(matches!(error, CommitError::Refused { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_property_that_another_removed_does_not_bring_an_epoch_twice() {
    let bed = Bed::calm();
    bed.commit(&[1]).await.unwrap();
    let removals = vec!["streamctl.prod.sales".to_owned()];
    bed.catalog
        .change_by_another(&bed.table.name, vec![Update::RemoveProperties { removals }]);
    assert_eq!(bed.commit(&[1]).await.unwrap().sent, 0);
    bed.is_exact(1, 0);
}
