//! What others do to a table: appending, compacting, expiring, dropping.
//!
//! Rule: they follow the protocol too, and know nothing of our marker.

use super::super::super::data_file::{DataFile, Metrics};
use super::super::super::manifest::{self, ManifestKind};
use super::super::super::manifest_list::{self, Content, ListHeader, ManifestFile};
use super::super::super::metadata::{MAIN, Snapshot, TableMetadata};
use super::super::TableName;
use super::super::apply::created;
use super::super::request::{CommitRequest, NewTable, Requirement, Update};
use super::{MemoryCatalog, MemoryFiles};
use std::sync::Arc;

impl MemoryCatalog {
    /// A table as it is, without faults.
    pub fn look(&self, table: &TableName) -> Arc<TableMetadata> {
        Arc::clone(&self.state().tables[table])
    }

    /// The manifests of the current snapshot.
    pub fn listed(&self, table: &TableName, files: &MemoryFiles) -> Vec<ManifestFile> {
        let table = self.look(table);
        let list = table
            .current()
            .and_then(|current| current.manifest_list.clone());
        list.map_or(vec![], |list| {
            let bytes = files
                .read(&list)
                .expect("a list that a snapshot names is there");
            manifest_list::decode(&bytes).expect("a list")
        })
    }

    /// Another writer appends a file with so many rows.
    pub fn append_by_another(&self, table: &TableName, files: &MemoryFiles, rows: u64) {
        let listed = self.listed(table, files);
        self.write_by_another(table, files, "append", rows, listed);
    }

    /// Another writer rewrites all data into one file.
    pub fn compact_by_another(&self, table: &TableName, files: &MemoryFiles) {
        let listed = self.listed(table, files);
        let rows: i64 = listed
            .iter()
            .map(|manifest| manifest.added_rows + manifest.existing_rows)
            .sum();
        let rows = u64::try_from(rows).expect("counts are positive");
        if rows > 0 {
            self.write_by_another(table, files, "replace", rows, vec![]);
        }
    }

    /// Another writer deletes rows by a delete file that may apply to all data files.
    pub fn delete_rows_by_another(&self, table: &TableName, files: &MemoryFiles) {
        let listed = self.listed(table, files);
        let base = self.look(table);
        let deletes = ManifestFile {
            location: format!("{}/foreign-deletes.avro", base.metadata_folder()),
            length: 1,
            spec_id: base.default_spec_id,
            content: Content::Deletes,
            sequence_number: base.last_sequence_number + 1,
            min_sequence_number: base.last_sequence_number + 1,
            added_snapshot_id: 1_000_000 + base.last_sequence_number + 1,
            added_files: 1,
            existing_files: 0,
            deleted_files: 0,
            added_rows: 0,
            existing_rows: 0,
            deleted_rows: 0,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        };
        files.write(&deletes.location, "x".into());
        let manifests: Vec<_> = std::iter::once(deletes).chain(listed).collect();
        self.commit_by_another(table, files, "delete", 0, &manifests);
    }

    fn write_by_another(
        &self,
        table: &TableName,
        files: &MemoryFiles,
        operation: &str,
        rows: u64,
        rest: Vec<ManifestFile>,
    ) {
        let base = self.look(table);
        let sequence_number = base.last_sequence_number + 1;
        let id = 1_000_000 + sequence_number;
        let schema = base.current_schema().expect("a schema").clone();
        let spec = base.spec(base.default_spec_id).expect("a spec").clone();
        let fields = spec.bind(&schema).expect("a spec of the schema");
        let kind = ManifestKind {
            format_version: base.format_version,
            schema: &schema,
            spec: &spec,
            fields: &fields,
        };
        let file = DataFile {
            location: format!("{}/data/foreign-{id}.parquet", base.location),
            size: 1000,
            rows,
            spec_id: spec.spec_id,
            partition: vec![None; fields.len()],
            metrics: Metrics::default(),
            split_offsets: vec![],
        };
        let bytes = manifest::encode_added(&kind, id, &[&file]).expect("a manifest");
        let location = format!("{}/foreign-{id}.avro", base.metadata_folder());
        let first_row_id = (base.format_version >= 3).then(|| base.next_row_id.unwrap_or(0));
        let added = ManifestFile {
            location: location.clone(),
            length: bytes.len().try_into().expect("a small file"),
            spec_id: spec.spec_id,
            content: Content::Data,
            sequence_number,
            min_sequence_number: sequence_number,
            added_snapshot_id: id,
            added_files: 1,
            existing_files: 0,
            deleted_files: 0,
            added_rows: rows.try_into().expect("few rows"),
            existing_rows: 0,
            deleted_rows: 0,
            partitions: None,
            key_metadata: None,
            first_row_id,
        };
        files.write(&location, bytes.into());
        let manifests: Vec<_> = std::iter::once(added).chain(rest).collect();
        self.commit_by_another(table, files, operation, rows, &manifests);
    }

    fn commit_by_another(
        &self,
        table: &TableName,
        files: &MemoryFiles,
        operation: &str,
        rows: u64,
        manifests: &[ManifestFile],
    ) {
        let base = self.look(table);
        let sequence_number = base.last_sequence_number + 1;
        let id = 1_000_000 + sequence_number;
        let first_row_id = (base.format_version >= 3).then(|| base.next_row_id.unwrap_or(0));
        let header = ListHeader {
            format_version: base.format_version,
            snapshot_id: id,
            parent_snapshot_id: base.current_id(),
            sequence_number,
            first_row_id,
        };
        let list = format!("{}/snap-foreign-{id}.avro", base.metadata_folder());
        let bytes = manifest_list::encode(&header, manifests).expect("a list");
        files.write(&list, bytes.into());
        let snapshot = Snapshot {
            snapshot_id: id,
            parent_snapshot_id: base.current_id(),
            sequence_number,
            timestamp_ms: base.last_updated_ms + 1,
            manifest_list: Some(list),
            summary: [("operation".to_owned(), operation.to_owned())].into(),
            schema_id: Some(base.current_schema_id),
            first_row_id,
            added_rows: first_row_id.map(|_| i64::try_from(rows).expect("few rows")),
            rest: serde_json::Map::new(),
        };
        let updates = vec![
            Update::AddSnapshot { snapshot },
            Update::SetSnapshotRef {
                ref_name: MAIN.into(),
                r#type: "branch".into(),
                snapshot_id: id,
            },
        ];
        self.change_by_another(table, updates);
    }

    /// Another process expires all but the current snapshot.
    pub fn expire_by_another(&self, table: &TableName) {
        let base = self.look(table);
        let others = base.snapshots.iter().map(|snapshot| snapshot.snapshot_id);
        let snapshot_ids = others.filter(|id| Some(*id) != base.current_id()).collect();
        self.change_by_another(table, vec![Update::RemoveSnapshots { snapshot_ids }]);
    }

    /// An update by another process, against the current state.
    pub fn change_by_another(&self, table: &TableName, updates: Vec<Update>) {
        let mut state = self.state();
        let uuid = state.tables[table].table_uuid.clone();
        let request = CommitRequest {
            requirements: vec![Requirement::AssertTableUuid { uuid }],
            updates,
        };
        state.apply(table, &request).expect("a valid change");
    }

    /// Drops a table.
    pub fn drop_by_another(&self, table: &TableName) {
        let mut state = self.state();
        state.tables.remove(table);
        state.before.remove(table);
    }

    /// Makes a table of this version.
    pub fn make(&self, new: &NewTable, format_version: u8) {
        let mut state = self.state();
        state.made += 1;
        let uuid = format!("00000000-0000-0000-0000-{:012}", state.made);
        let mut table = created(new, &uuid, &format!("memory://{}", new.name), state.now_ms);
        table.format_version = format_version;
        table.next_row_id = (format_version >= 3).then_some(0);
        state.tables.insert(new.name.clone(), Arc::new(table));
    }
}
