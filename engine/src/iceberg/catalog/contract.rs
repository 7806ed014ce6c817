//! The contract of every catalog, as a test that accepts any implementation.
//!
//! Owns: the promises of [`Catalog`].
//! Rule: it runs against the fake, the folder and a real server alike, and panics with the broken
//! promise; it is not part of the running system.

use super::super::metadata::{MAIN, Snapshot, TableMetadata};
use super::super::partition::{PartitionField, PartitionSpec};
use super::super::transform::Transform;
use super::super::types::{Field, Primitive, Schema, Type};
use super::request::{CommitRequest, NewTable, Requirement, Update};
use super::{Catalog, CatalogError, CommitOutcome, Created, TableName};
use futures::future::join_all;
use std::collections::BTreeMap;

/// How many callers race for one commit.
const RACERS: i64 = 6;

/// A table of two columns, partitioned by day.
pub fn new_table(namespace: &str, name: &str, location: Option<String>) -> NewTable {
    let field = |id, name, primitive| Field::new(id, name, false, Type::Primitive(primitive));
    NewTable {
        name: TableName {
            namespace: vec![namespace.to_owned()],
            name: name.to_owned(),
        },
        location,
        schema: Schema::new(vec![
            field(1, "at", Primitive::Timestamptz),
            field(2, "country", Primitive::String),
        ]),
        spec: PartitionSpec {
            spec_id: 0,
            fields: vec![PartitionField {
                source_id: 1,
                field_id: Some(1000),
                name: "at_day".into(),
                transform: Transform::Day,
            }],
        },
        properties: [("owner".to_owned(), "streamctl".to_owned())].into(),
    }
}

/// A request that sets properties only.
pub fn properties(properties: &[(&str, &str)]) -> CommitRequest {
    let updates = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    CommitRequest {
        requirements: vec![],
        updates: vec![Update::SetProperties {
            updates: updates.collect(),
        }],
    }
}

/// A request that adds this snapshot to what `base` shows, and a marker with it.
fn append(base: &TableMetadata, id: i64, marker: i64) -> CommitRequest {
    let summary = [("operation".to_owned(), "append".to_owned())];
    let snapshot = Snapshot {
        snapshot_id: id,
        parent_snapshot_id: base.current_id(),
        sequence_number: base.last_sequence_number + 1,
        timestamp_ms: base.last_updated_ms + 1,
        manifest_list: Some(format!("{}/snap-{id}.avro", base.metadata_folder())),
        summary: summary.into(),
        schema_id: Some(base.current_schema_id),
        first_row_id: None,
        added_rows: None,
        rest: serde_json::Map::new(),
    };
    let marker = [("marker".to_owned(), marker.to_string())];
    CommitRequest {
        requirements: vec![
            Requirement::AssertTableUuid {
                uuid: base.table_uuid.clone(),
            },
            Requirement::AssertRefSnapshotId {
                r#ref: MAIN.into(),
                snapshot_id: base.current_id(),
            },
        ],
        updates: vec![
            Update::AddSnapshot { snapshot },
            Update::SetSnapshotRef {
                ref_name: MAIN.into(),
                r#type: "branch".into(),
                snapshot_id: id,
            },
            Update::SetProperties {
                updates: BTreeMap::from(marker),
            },
        ],
    }
}

/// Panics where `catalog` breaks a promise. The namespace must exist, without tables.
pub async fn contract(catalog: &dyn Catalog, namespace: &str, location: Option<String>) {
    let new = new_table(namespace, "contract", location);
    let name = &new.name;
    a_missing_table_is_reported_as_missing(catalog, name).await;
    a_table_is_created_once(catalog, &new).await;
    snapshot_and_marker_are_committed_together(catalog, name).await;
    what_was_computed_from_another_base_changes_nothing(catalog, name).await;
    one_of_many_racing_commits_wins(catalog, name).await;
    a_surplus_snapshot_is_removed_with_the_append(catalog, name).await;
}

async fn a_missing_table_is_reported_as_missing(catalog: &dyn Catalog, name: &TableName) {
    let error = catalog.load(name).await.expect_err("there is no table yet");
    assert!(
        matches!(error, CatalogError::TableMissing { .. }),
        "{error}"
    );
    let error = catalog.commit(name, &properties(&[("a", "b")])).await;
    let error = error.expect_err("there is no table yet");
    assert!(
        matches!(error, CatalogError::TableMissing { .. }),
        "{error}"
    );
}

async fn a_table_is_created_once(catalog: &dyn Catalog, new: &NewTable) {
    assert_eq!(catalog.create(new).await, Ok(Created::Created));
    let first = catalog.load(&new.name).await.expect("a table");
    assert_eq!(catalog.create(new).await, Ok(Created::Exists));
    let table = catalog.load(&new.name).await.expect("a table");
    assert_eq!(table.table_uuid, first.table_uuid);
    assert!(!table.table_uuid.is_empty());
    assert_eq!(table.format_version, 2);
    assert_eq!(table.current_id(), None);
    assert_eq!(table.properties["owner"], "streamctl");
    let schema = table.current_schema().expect("a schema");
    let column = schema.column("country").expect("the column");
    assert_eq!(column.r#type, Type::Primitive(Primitive::String));
    let spec = table.spec(table.default_spec_id).expect("a spec");
    assert_eq!(spec.fields[0].transform, Transform::Day);
    assert!(spec.bind(schema).is_ok());
}

async fn snapshot_and_marker_are_committed_together(catalog: &dyn Catalog, name: &TableName) {
    let base = catalog.load(name).await.expect("a table");
    let outcome = catalog.commit(name, &append(&base, 11, 1)).await;
    let Ok(CommitOutcome::Committed(committed)) = outcome else {
        panic!("{outcome:?}");
    };
    for table in [committed, catalog.load(name).await.expect("a table")] {
        assert_eq!(table.current_id(), Some(11));
        assert_eq!(table.properties["marker"], "1");
        assert_eq!(table.properties["owner"], "streamctl");
        let current = table.current().expect("the snapshot");
        assert_eq!(current.summary["operation"], "append");
        assert_eq!(current.sequence_number, table.last_sequence_number);
    }
}

async fn what_was_computed_from_another_base_changes_nothing(
    catalog: &dyn Catalog,
    name: &TableName,
) {
    let old = catalog.load(name).await.expect("a table");
    let outcome = catalog.commit(name, &append(&old, 12, 2)).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Committed(_))),
        "{outcome:?}"
    );
    let outcome = catalog.commit(name, &append(&old, 13, 3)).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict { .. })),
        "{outcome:?}"
    );
    let outcome = catalog.commit(name, &append(&old, 12, 2)).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict { .. })),
        "{outcome:?}"
    );
    let table = catalog.load(name).await.expect("a table");
    let mut other = append(&table, 14, 4);
    other.requirements[0] = Requirement::AssertTableUuid {
        uuid: "9f8f5d3c-0f3c-4c64-8f0b-aaaaaaaaaaaa".into(),
    };
    let outcome = catalog.commit(name, &other).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict { .. })),
        "{outcome:?}"
    );
    let table = catalog.load(name).await.expect("a table");
    assert_eq!(table.current_id(), Some(12));
    assert_eq!(table.properties["marker"], "2");
}

async fn one_of_many_racing_commits_wins(catalog: &dyn Catalog, name: &TableName) {
    let base = catalog.load(name).await.expect("a table");
    let requests: Vec<_> = (0..RACERS).map(|at| append(&base, 20 + at, at)).collect();
    let outcomes = requests.iter().map(|request| catalog.commit(name, request));
    let outcomes = join_all(outcomes).await;
    let won = |outcome: &&Result<CommitOutcome, CatalogError>| {
        matches!(outcome, Ok(CommitOutcome::Committed(_)))
    };
    assert_eq!(outcomes.iter().filter(won).count(), 1, "{outcomes:?}");
    let table = catalog.load(name).await.expect("a table");
    assert_eq!(table.snapshots.len(), base.snapshots.len() + 1);
}

async fn a_surplus_snapshot_is_removed_with_the_append(catalog: &dyn Catalog, name: &TableName) {
    let base = catalog.load(name).await.expect("a table");
    let mut request = append(&base, 31, 9);
    request.updates.push(Update::RemoveSnapshots {
        snapshot_ids: vec![11],
    });
    let outcome = catalog.commit(name, &request).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Committed(_))),
        "{outcome:?}"
    );
    let table = catalog.load(name).await.expect("a table");
    assert!(table.snapshot(11).is_none());
    assert_eq!(table.current_id(), Some(31));
}
