use super::super::catalog::TableName;
use super::super::catalog::apply::{apply, created};
use super::super::catalog::request::NewTable;
use super::super::data_file::Metrics;
use super::super::manifest::decode;
use super::super::partition::PartitionSpec;
use super::super::types::{Field, Primitive, Schema, Type};
use super::*;
use std::sync::Arc;

pub(crate) fn table() -> NewTable {
    NewTable {
        name: TableName::parse("db.t").unwrap(),
        location: None,
        schema: Schema::new(vec![Field::new(
            1,
            "a",
            false,
            Type::Primitive(Primitive::Long),
        )]),
        spec: PartitionSpec::default(),
        properties: BTreeMap::new(),
    }
}

fn empty(version: u8) -> TableMetadata {
    let mut table = created(&table(), "u", "s3://b/t", 1000);
    table.format_version = version;
    table
}

pub(crate) fn writer() -> Writer {
    Writer {
        cluster: "prod".into(),
        job: "sales".into(),
        submitted_ms: 500,
        table_uuid: "u".into(),
    }
}

pub(crate) fn epoch(number: u64) -> EpochFiles {
    let start = i64::try_from(number).unwrap() * 60_000;
    EpochFiles {
        epoch: number,
        window_start_ms: start,
        window_end_ms: start + 60_000,
        manifest_digest: format!("{number:064x}"),
        files: vec![DataFile {
            location: format!("s3://b/t/data/{number}.parquet"),
            size: 100,
            rows: number,
            spec_id: 0,
            partition: vec![],
            metrics: Metrics::default(),
            split_offsets: vec![],
        }],
    }
}

fn append(
    base: &TableMetadata,
    epochs: &[EpochFiles],
    keep: Option<u32>,
) -> (TableMetadata, Prepared) {
    let Decision::Append(pending) = decide(base, &writer(), epochs).unwrap() else {
        panic!("there is something to append");
    };
    let keep = keep.and_then(NonZeroU32::new);
    let prepared = prepare(base, &[], &writer(), &pending, keep, 2000).unwrap();
    (apply(base, &prepared.request, 3000).unwrap(), prepared)
}

#[test]
fn the_request_adds_the_marker_with_the_snapshot_and_names_its_base() {
    let (table, prepared) = append(&empty(2), &[epoch(1), epoch(2)], None);
    assert_eq!(table.properties["streamctl.prod.sales"], "2");
    let current = table.current().unwrap();
    assert_eq!(current.snapshot_id, prepared.snapshot_id);
    let expected = [
        ("operation", "append"),
        ("added-data-files", "2"),
        ("added-records", "3"),
        ("total-records", "3"),
        ("streamctl.epoch", "2"),
        ("streamctl.epochs", "1,2"),
        (
            "streamctl.window",
            "1970-01-01T00:01:00Z/1970-01-01T00:03:00Z",
        ),
    ];
    for (name, value) in expected {
        assert_eq!(current.summary[name], value, "{name}");
    }
    assert!(current.summary["streamctl.manifests"].starts_with("1=000"));
    assert_eq!(
        prepared.request.requirements[1],
        Requirement::AssertRefSnapshotId {
            r#ref: "main".into(),
            snapshot_id: None
        }
    );
    let both = [epoch(1), epoch(2)];
    assert_eq!(decide(&table, &writer(), &both).unwrap(), Decision::Done);
    let more = [epoch(2), epoch(3)];
    let Decision::Append(more) = decide(&table, &writer(), &more).unwrap() else {
        panic!("epoch 3 is not in the table");
    };
    assert_eq!(
        more.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(),
        [3]
    );
}

#[test]
fn each_try_makes_the_same_files() {
    let base = empty(2);
    let (_, one) = append(&base, &[epoch(1)], None);
    let (_, two) = append(&base, &[epoch(1)], None);
    assert_eq!(one.manifests, two.manifests);
    assert_eq!(one.list, two.list);
    assert_eq!(one.snapshot_id, snapshot_id(&writer(), 1));
    let entries = decode(&one.manifests[0].bytes).unwrap();
    assert_eq!(entries[0].sequence_number, None);
}

#[test]
fn either_witness_is_enough() {
    let (mut table, _) = append(&empty(2), &[epoch(1)], None);
    table.properties.clear();
    assert_eq!(
        decide(&table, &writer(), &[epoch(1)]).unwrap(),
        Decision::Done
    );
    let (mut table, _) = append(&empty(2), &[epoch(1)], None);
    table.snapshots.clear();
    table.refs.clear();
    assert_eq!(
        decide(&table, &writer(), &[epoch(1)]).unwrap(),
        Decision::Done
    );
}

#[test]
fn a_job_that_was_submitted_again_begins_anew_and_stops_the_old_one() {
    let (table, _) = append(&empty(2), &[epoch(1)], None);
    let again = Writer {
        submitted_ms: 600,
        ..writer()
    };
    assert!(matches!(
        decide(&table, &again, &[epoch(1)]),
        Ok(Decision::Append(_))
    ));
    let before = Writer {
        submitted_ms: 400,
        ..writer()
    };
    assert_eq!(decide(&table, &before, &[epoch(9)]), Err(Stop::NewerJob));
    assert_ne!(snapshot_id(&again, 1), snapshot_id(&writer(), 1));
}

#[test]
fn only_our_surplus_snapshots_are_removed_and_none_with_a_tag() {
    let mut table = empty(2);
    for number in 1..=3 {
        table = append(&table, &[epoch(number)], None).0;
    }
    let first = table.snapshots[0].snapshot_id;
    let tag = super::super::metadata::SnapshotRef {
        snapshot_id: first,
        r#type: "tag".into(),
        rest: serde_json::Map::new(),
    };
    table.refs.insert("audit".into(), tag);
    Arc::make_mut(&mut table.snapshots[1])
        .summary
        .remove("streamctl.job");
    let (table, prepared) = append(&table, &[epoch(4)], Some(1));
    let rest: Vec<_> = table
        .snapshots
        .iter()
        .map(|snapshot| snapshot.sequence_number)
        .collect();
    assert_eq!(rest, [1, 2, 4]);
    assert_eq!(prepared.expired_lists.len(), 1);
}

#[test]
fn epochs_without_files_add_nothing_and_a_backlog_is_cut() {
    let mut none = epoch(1);
    none.files.clear();
    assert_eq!(
        decide(&empty(2), &writer(), &[none]).unwrap(),
        Decision::Done
    );
    let backlog: Vec<_> = (1..=100).map(epoch).collect();
    let Decision::Append(pending) = decide(&empty(2), &writer(), &backlog).unwrap() else {
        panic!("there is something to append");
    };
    assert_eq!(pending.len(), EPOCHS_PER_SNAPSHOT_MAX);
}

#[test]
fn rows_of_version_3_get_ids_and_those_of_an_upgraded_table_too() {
    let (upgraded, prepared) = append(&empty(2), &[epoch(5)], None);
    let listed = manifest_list::decode(&prepared.list.bytes).unwrap();
    let base = TableMetadata {
        format_version: 3,
        next_row_id: Some(0),
        ..upgraded
    };
    let epochs = [epoch(7)];
    let Decision::Append(pending) = decide(&base, &writer(), &epochs).unwrap() else {
        panic!("there is something to append");
    };
    let prepared = prepare(&base, &listed, &writer(), &pending, None, 1).unwrap();
    let ids: Vec<_> = manifest_list::decode(&prepared.list.bytes)
        .unwrap()
        .iter()
        .map(|manifest| manifest.first_row_id)
        .collect();
    assert_eq!(ids, [Some(0), Some(7)]);
    let table = apply(&base, &prepared.request, 1).unwrap();
    assert_eq!(table.next_row_id, Some(12));
}

#[test]
fn a_table_of_another_version_is_refused_with_the_remedy() {
    let stop = decide(&empty(1), &writer(), &[epoch(1)]).unwrap_err();
    assert!(stop.hint().contains("'format-version' = '2'"));
    assert_eq!(
        decide(&empty(4), &writer(), &[epoch(1)]),
        Err(Stop::Version(4))
    );
}
