//! A request applied to a table's metadata, as a catalog does it.
//!
//! Owns: the checks and the changes. Does not own: where the result is kept, or that only one of
//! two racing requests is applied (the catalogs).
//! Rule: all or nothing, and nothing is read but the arguments.

use super::super::metadata::{
    MAIN, MetadataLogEntry, Snapshot, SnapshotLogEntry, SnapshotRef, TableMetadata,
};
use super::super::partition::{FIRST_FIELD_ID, PartitionSpec};
use super::request::{CommitRequest, NewTable, Requirement, Update};
use serde_json::{Map, json};
use std::sync::Arc;

/// Metadata files that a table remembers unless it states another number.
const PREVIOUS_VERSIONS_MAX: usize = 100;

/// Why a request is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotApplied {
    /// The table is not as required.
    Conflict(String),
    /// No table takes this.
    Invalid(String),
}

/// The metadata after the request; `None` as base: there is no table.
///
/// # Errors
/// A requirement that does not hold, or an update that is not valid.
pub fn apply(
    base: &TableMetadata,
    request: &CommitRequest,
    now_ms: i64,
) -> Result<TableMetadata, NotApplied> {
    for requirement in &request.requirements {
        check(base, requirement)?;
    }
    let mut table = base.clone();
    for update in &request.updates {
        change(&mut table, update)?;
    }
    table.last_updated_ms = now_ms.max(base.last_updated_ms);
    Ok(table)
}

fn check(base: &TableMetadata, requirement: &Requirement) -> Result<(), NotApplied> {
    match requirement {
        Requirement::AssertTableUuid { uuid } if *uuid != base.table_uuid => {
            let found = &base.table_uuid;
            let reason = format!("the table's UUID is {found}, required is {uuid}");
            Err(NotApplied::Conflict(reason))
        }
        Requirement::AssertRefSnapshotId { r#ref, snapshot_id } => {
            let found = if r#ref == MAIN {
                base.current_id()
            } else {
                base.refs.get(r#ref).map(|found| found.snapshot_id)
            };
            if found == *snapshot_id {
                return Ok(());
            }
            let reason = format!("{ref} is at {found:?}, required is {snapshot_id:?}");
            Err(NotApplied::Conflict(reason))
        }
        Requirement::AssertTableUuid { .. } => Ok(()),
    }
}

fn change(table: &mut TableMetadata, update: &Update) -> Result<(), NotApplied> {
    match update {
        Update::AddSnapshot { snapshot } => add_snapshot(table, snapshot),
        Update::SetSnapshotRef {
            ref_name,
            r#type,
            snapshot_id,
        } => {
            let Some(snapshot) = table.snapshot(*snapshot_id) else {
                let reason = format!("there is no snapshot {snapshot_id}");
                return Err(NotApplied::Invalid(reason));
            };
            let timestamp_ms = snapshot.timestamp_ms;
            let to = SnapshotRef {
                snapshot_id: *snapshot_id,
                r#type: r#type.clone(),
                rest: Map::new(),
            };
            table.refs.insert(ref_name.clone(), to);
            if ref_name == MAIN {
                table.current_snapshot_id = Some(*snapshot_id);
                table.snapshot_log.push(SnapshotLogEntry {
                    snapshot_id: *snapshot_id,
                    timestamp_ms,
                });
            }
            Ok(())
        }
        Update::SetProperties { updates } => {
            table.properties.extend(updates.clone());
            Ok(())
        }
        Update::RemoveProperties { removals } => {
            table.properties.retain(|name, _| !removals.contains(name));
            Ok(())
        }
        Update::RemoveSnapshots { snapshot_ids } => remove_snapshots(table, snapshot_ids),
    }
}

fn add_snapshot(table: &mut TableMetadata, snapshot: &Snapshot) -> Result<(), NotApplied> {
    let id = snapshot.snapshot_id;
    if table.snapshot(id).is_some() {
        return Err(NotApplied::Invalid(format!("snapshot {id} exists")));
    }
    if snapshot.sequence_number <= table.last_sequence_number {
        let reason = format!(
            "sequence number {} is not above {}",
            snapshot.sequence_number, table.last_sequence_number
        );
        return Err(NotApplied::Conflict(reason));
    }
    if table.format_version >= 3 {
        let next = table.next_row_id.unwrap_or(0);
        let (Some(first), Some(added)) = (snapshot.first_row_id, snapshot.added_rows) else {
            let reason = "the snapshot has no first-row-id and added-rows".to_owned();
            return Err(NotApplied::Invalid(reason));
        };
        if first < next || added < 0 {
            let reason = format!("first-row-id {first} is below next-row-id {next}");
            return Err(NotApplied::Conflict(reason));
        }
        table.next_row_id = Some(first.saturating_add(added));
    }
    table.last_sequence_number = snapshot.sequence_number;
    table.snapshots.push(Arc::new(snapshot.clone()));
    Ok(())
}

fn remove_snapshots(table: &mut TableMetadata, ids: &[i64]) -> Result<(), NotApplied> {
    if let Some(name) = table
        .refs
        .iter()
        .find_map(|(name, to)| ids.contains(&to.snapshot_id).then_some(name))
    {
        let reason = format!("a snapshot to be removed is that of {name:?}");
        return Err(NotApplied::Invalid(reason));
    }
    table
        .snapshots
        .retain(|snapshot| !ids.contains(&snapshot.snapshot_id));
    // A log with a hole would show a wrong snapshot for a time in it.
    let last_gone = table
        .snapshot_log
        .iter()
        .rposition(|entry| ids.contains(&entry.snapshot_id));
    if let Some(at) = last_gone {
        table.snapshot_log.drain(..=at);
    }
    Ok(())
}

/// Adds the file of the previous metadata to the log; returns the files that fall out of it.
pub fn log_previous(
    table: &mut TableMetadata,
    metadata_file: &str,
    timestamp_ms: i64,
) -> Vec<String> {
    table.metadata_log.push(MetadataLogEntry {
        metadata_file: metadata_file.to_owned(),
        timestamp_ms,
    });
    let most = table
        .properties
        .get("write.metadata.previous-versions-max")
        .and_then(|text| text.parse().ok())
        .unwrap_or(PREVIOUS_VERSIONS_MAX)
        .max(1);
    let surplus = table.metadata_log.len().saturating_sub(most);
    let gone = table.metadata_log.drain(..surplus);
    gone.map(|entry| entry.metadata_file).collect()
}

/// The metadata of a new, empty table of version 2.
pub fn created(new: &NewTable, uuid: &str, location: &str, now_ms: i64) -> TableMetadata {
    let mut at = FIRST_FIELD_ID - 1;
    let mut spec = PartitionSpec {
        spec_id: 0,
        fields: new.spec.fields.clone(),
    };
    for field in &mut spec.fields {
        at += 1;
        field.field_id.get_or_insert(at);
    }
    let order = json!([{"order-id": 0, "fields": []}]);
    TableMetadata {
        format_version: 2,
        table_uuid: uuid.to_owned(),
        location: location.trim_end_matches('/').to_owned(),
        last_sequence_number: 0,
        last_updated_ms: now_ms,
        last_column_id: new.schema.last_column_id(),
        current_schema_id: new.schema.schema_id,
        schemas: vec![new.schema.clone()],
        schema: None,
        default_spec_id: 0,
        partition_specs: vec![spec],
        last_partition_id: at,
        default_sort_order_id: 0,
        properties: new.properties.clone(),
        current_snapshot_id: None,
        snapshots: vec![],
        snapshot_log: vec![],
        metadata_log: vec![],
        refs: [].into(),
        next_row_id: None,
        rest: [("sort-orders".to_owned(), order)].into_iter().collect(),
    }
}
