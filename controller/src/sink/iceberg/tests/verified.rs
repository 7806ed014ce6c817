//! What a verification finds of a table whose older snapshots are expired.

use super::compacting::Behaviour;
use super::*;
use crate::verify::finding::Kind;
use crate::verify::totals::Totals;
use streamctl_engine::iceberg::catalog::request::{CommitRequest, Requirement, Update};
use streamctl_engine::iceberg::commit::LIST_BYTES_MAX;
use streamctl_engine::iceberg::data_file::Metrics;
use streamctl_engine::iceberg::files::Files as _;
use streamctl_engine::iceberg::manifest::{self, ManifestKind};
use streamctl_engine::iceberg::manifest_list::{self, Content, ListHeader, ManifestFile};
use streamctl_engine::iceberg::metadata::{MAIN, Snapshot};

const EPOCHS: u64 = 11;
/// The rows of the first eight epochs, in one file.
const REWRITTEN: u64 = 36;

/// A file in a table: its location and its rows.
type File = (String, u64);

impl Scene {
    /// Eight epochs were rewritten into one file, and only the last snapshot is kept.
    async fn rewritten_and_expired() -> Self {
        let scene = Self::compacting(8).await;
        let done = scene.turn(Behaviour::Honest, 1).await.unwrap();
        assert_eq!(done.rewritings, 1);
        for epoch in 9..=EPOCHS {
            scene.publish(&scene.manifest(epoch).await).await.unwrap();
        }
        scene.expire().await;
        scene
    }

    /// What the rows of the table prove.
    async fn found(&self) -> Option<Kind> {
        let listing = self.committer().listing().await.unwrap().unwrap();
        let mut totals = Totals::default();
        for epoch in (1..=EPOCHS).rev() {
            let staged = &self.manifest(epoch).await.objects[0].staged;
            totals.take(&listing, epoch, staged);
        }
        totals.compared(&listing).map(|finding| finding.kind)
    }

    /// The files of the current snapshot.
    async fn current_files(&self) -> Vec<File> {
        let files = self.stored_files();
        let table = self.table().await;
        let list = table.current().unwrap().manifest_list.clone().unwrap();
        let list = files.get(&list, LIST_BYTES_MAX).await.unwrap();
        let mut found = vec![];
        for listed in manifest_list::decode(&list).unwrap() {
            let bytes = files.get(&listed.location, LIST_BYTES_MAX).await.unwrap();
            let live = manifest::decode(&bytes).unwrap().into_iter();
            let live = live.filter(|entry| entry.status != manifest::DELETED);
            found.extend(live.map(|entry| (entry.location, entry.rows.try_into().unwrap())));
        }
        found
    }

    fn stored_files(&self) -> StoredFiles {
        let storage = self.storages.for_location(self.pinned().data.as_str());
        StoredFiles { storage }
    }

    /// Another writer makes the table show these files, and expires every other snapshot.
    async fn show(&self, files: &[File]) {
        let base = self.table().await;
        let sequence_number = base.last_sequence_number + 1;
        let id = 1_000_000 + sequence_number;
        let schema = base.current_schema().unwrap();
        let kind = ManifestKind {
            format_version: base.format_version,
            schema,
            spec: base.spec(0).unwrap(),
            fields: &[],
        };
        let data = |(location, rows): &File| DataFile {
            location: location.clone(),
            size: 1,
            rows: *rows,
            spec_id: 0,
            partition: vec![],
            metrics: Metrics::default(),
            split_offsets: vec![],
        };
        let data: Vec<_> = files.iter().map(data).collect();
        let bytes = manifest::encode_added(&kind, id, &data.iter().collect::<Vec<_>>()).unwrap();
        let location = format!("{}/foreign-{id}.avro", base.metadata_folder());
        let listed = ManifestFile {
            location: location.clone(),
            length: bytes.len().try_into().unwrap(),
            spec_id: 0,
            content: Content::Data,
            sequence_number,
            min_sequence_number: sequence_number,
            added_snapshot_id: id,
            added_files: data.len().try_into().unwrap(),
            existing_files: 0,
            deleted_files: 0,
            added_rows: files.iter().map(|(_, rows)| *rows as i64).sum(),
            existing_rows: 0,
            deleted_rows: 0,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        };
        let header = ListHeader {
            format_version: base.format_version,
            snapshot_id: id,
            parent_snapshot_id: base.current_id(),
            sequence_number,
            first_row_id: None,
        };
        let list = format!("{}/snap-foreign-{id}.avro", base.metadata_folder());
        let list_bytes = manifest_list::encode(&header, &[listed]).unwrap();
        let stored = self.stored_files();
        stored.put_new(&location, bytes.into()).await.unwrap();
        stored.put_new(&list, list_bytes.into()).await.unwrap();
        let snapshot = Snapshot {
            snapshot_id: id,
            parent_snapshot_id: base.current_id(),
            sequence_number,
            timestamp_ms: base.last_updated_ms + 1,
            manifest_list: Some(list),
            summary: [("operation".to_owned(), "overwrite".to_owned())].into(),
            schema_id: Some(base.current_schema_id),
            first_row_id: None,
            added_rows: None,
            rest: Default::default(),
        };
        self.change(vec![
            Update::AddSnapshot { snapshot },
            Update::SetSnapshotRef {
                ref_name: MAIN.to_owned(),
                r#type: "branch".to_owned(),
                snapshot_id: id,
            },
        ])
        .await;
        self.expire().await;
    }

    async fn expire(&self) {
        let base = self.table().await;
        let ids = base.snapshots.iter().map(|snapshot| snapshot.snapshot_id);
        let snapshot_ids = ids.filter(|id| Some(*id) != base.current_id()).collect();
        self.change(vec![Update::RemoveSnapshots { snapshot_ids }])
            .await;
    }

    async fn change(&self, updates: Vec<Update>) {
        let uuid = self.table().await.table_uuid.clone();
        let request = CommitRequest {
            requirements: vec![Requirement::AssertTableUuid { uuid }],
            updates,
        };
        self.catalog.commit(&self.name, &request).await.unwrap();
    }
}

fn is_rewritten((_, rows): &File) -> bool {
    *rows == REWRITTEN
}

#[tokio::test]
async fn rewritten_files_are_proven_after_their_snapshot_is_expired() {
    let scene = Scene::rewritten_and_expired().await;
    assert_eq!(scene.table().await.snapshots.len(), 1);
    assert_eq!(scene.current_files().await.len(), 4);
    assert_eq!(scene.found().await, None);
}

#[tokio::test]
async fn a_file_that_was_removed_by_hand_is_found() {
    for is_gone in [is_rewritten, |file: &File| !is_rewritten(file)] {
        let scene = Scene::rewritten_and_expired().await;
        let mut files = scene.current_files().await;
        let at = files.iter().position(is_gone).unwrap();
        files.remove(at);
        scene.show(&files).await;
        assert_eq!(scene.found().await, Some(Kind::ObjectMissing));
    }
}

#[tokio::test]
async fn an_epoch_that_was_added_again_by_hand_is_found() {
    let scene = Scene::rewritten_and_expired().await;
    let mut files = scene.current_files().await;
    let third = scene.manifest(3).await.objects.remove(0).staged;
    files.push((third.location, third.rows));
    scene.show(&files).await;
    assert_eq!(scene.found().await, Some(Kind::ObjectTwice));
}

#[tokio::test]
async fn what_another_writer_rewrote_is_not_a_fault() {
    let scene = Scene::rewritten_and_expired().await;
    let files = scene.current_files().await;
    let rows = files.iter().map(|(_, rows)| rows).sum();
    let compacted = format!("{}/foreign/1.parquet", scene.table().await.location);
    scene.show(&[(compacted.clone(), rows)]).await;
    assert_eq!(scene.found().await, Some(Kind::NotChecked));
    scene.show(&[(compacted, rows - 1)]).await;
    assert_eq!(scene.found().await, Some(Kind::ObjectMissing));
}
