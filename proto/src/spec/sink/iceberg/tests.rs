//! Job files with a table, what is stored of them, and what a worker may stage.

use super::*;
use crate::change::compare;
use crate::report::{ObjectKind, Staging};
use crate::spec::{JobSpec, SinkKind};
use crate::table_file::{Bytes, TableFile};
use crate::{ResolvedJob, TaskId, Term, Window};

fn job(sink: &str) -> String {
    format!(
        "name = \"sales\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"1s\"\n\
         [transform]\nsql = \"SELECT 1\"\n[checkpoint]\nlocation = \"s3://my-bucket/c/\"\n\
         [sink]\ntype = \"iceberg\"\n{sink}"
    )
}

fn parsed(sink: &str) -> IcebergSink {
    match JobSpec::parse(&job(sink)).unwrap().sink {
        SinkKind::Iceberg(sink) => sink,
        SinkKind::Files(_) => panic!("a table"),
    }
}

fn refused(sink: &str) -> String {
    JobSpec::parse(&job(sink)).unwrap_err().to_string()
}

const REST: &str = "catalog = \"rest\"\nuri = \"https://c.example/v1/\"\ntable = \"db.sales\"\n";

#[test]
fn each_catalog_has_its_keys() {
    let rest = parsed(&format!("{REST}credentials = \"prod\""));
    let expected = TableCatalog::Rest {
        uri: "https://c.example".into(),
        warehouse: None,
        credentials: Some("prod".into()),
    };
    assert_eq!(rest.catalog, expected);
    let glue = parsed(
        "catalog = \"glue\"\ntable = \"db.sales\"\ncreate = true\nlocation = \"s3://my-bucket/t\"\n\
         partition = [\"day(at)\", \"bucket(16, id)\", \"region\"]\nkeep_snapshots = 7\n",
    );
    assert_eq!(glue.catalog.word(), "glue");
    assert_eq!(glue.location, Some(Location::folder("s3://my-bucket/t")));
    assert_eq!(glue.partition_text(), "day(at), bucket(16, id), region");
    assert_eq!(glue.keep_snapshots.get(), 7);
    let tables = parsed("catalog = \"s3tables\"\nwarehouse = \"arn:x\"\ntable = \"a.b.c\"\n");
    assert_eq!(tables.catalog.word(), "s3tables");
    let local = parsed("catalog = \"local\"\nwarehouse = \"/w\"\ntable = \"db.sales\"\n");
    assert_eq!(local.folders(), [("warehouse", &Location::folder("/w"))]);
}

#[test]
fn maintenance_is_read_stored_and_shown() {
    let kept = |more: &str| parsed(&format!("{REST}{more}"));
    assert_eq!(kept("").maintenance, None);
    let sink = kept("maintenance = { compact = \"1h\" }");
    let maintenance = sink.maintenance.clone().unwrap();
    assert_eq!(maintenance.describe(), "compact every 1h into 256MiB");
    let fields = sink.fields();
    assert!(fields.contains(&("maintenance", maintenance.describe())));
    let stored = serde_json::to_string(&SinkKind::from(sink.clone())).unwrap();
    let read: SinkKind = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, SinkKind::from(sink));
}

#[test]
fn what_a_catalog_lacks_or_does_not_take_is_refused_with_a_hint() {
    for (sink, problem) in [
        ("catalog = \"rest\"\ntable = \"db.t\"", "uri is missing"),
        (
            "catalog = \"s3tables\"\ntable = \"db.t\"",
            "warehouse is missing",
        ),
        (
            "catalog = \"local\"\ntable = \"db.t\"",
            "warehouse is missing",
        ),
        (
            "catalog = \"local\"\nwarehouse = \"s3://my-bucket/w\"\ntable = \"db.t\"",
            "a local catalog is a folder",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\ncreate = true",
            "Glue chooses no place",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\nlocation = \"s3://my-bucket/t/\"",
            "is for a new table",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\ncredentials = \"x\"",
            "is for catalog = \"rest\"",
        ),
        ("catalog = \"hive\"\ntable = \"db.t\"", "is not one of"),
        (
            "catalog = \"glue\"\ntable = \"t\"",
            "is not the name of a table",
        ),
        (
            "catalog = \"glue\"\ntable = \"db..t\"",
            "is not the name of a table",
        ),
        ("catalog = \"glue\"", "table"),
        (
            "catalog = \"rest\"\nuri = \"https://user:pw@c\"\ntable = \"db.t\"",
            "holds a name or a password",
        ),
        (
            "catalog = \"rest\"\nuri = \"ftp://c\"\ntable = \"db.t\"",
            "is not the address of a catalog",
        ),
        (
            "catalog = \"rest\"\nuri = \"https://c\"\ntable = \"db.t\"\ncredentials = \"../x\"",
            "is not the name of credentials",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\npartition = [\"day(at)\", \"day(at)\"]",
            "is there twice",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\npartition = [\"zorder(at)\"]",
            "no known transform",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\nkeep_snapshots = 0",
            "out of range",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\nmaintenance = { target_size = \"1GiB\" }",
            "compact",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\nmaintenance = { compact = \"1s\" }",
            "out of range: 10s to 30d",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\nmaintenance = { compact = \"1h\", target_size = \"8GiB\" }",
            "target_size is more than 4GiB",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\nformat = \"json\"",
            "type = \"files\"",
        ),
        (
            "catalog = \"glue\"\ntable = \"db.t\"\npartitions = []",
            "did you mean `partition`",
        ),
    ] {
        let text = refused(sink);
        assert!(text.contains(problem), "{sink}: {text}");
        assert!(
            text.contains("line 10") || text.contains("line 1"),
            "{text}"
        );
    }
}

#[test]
fn jobs_of_one_name_have_folders_of_their_own() {
    let folder = |cluster: &str, job: &str, submitted_ms| {
        let pinned = PinnedTable {
            cluster: cluster.into(),
            ..pinned()
        };
        let sink = IcebergSink {
            pinned: Some(Box::new(pinned)),
            ..sink()
        };
        let apart = sink.set_apart(&job.parse().unwrap(), submitted_ms).unwrap();
        let folders = apart.folders();
        assert_eq!(folders.len(), 1);
        folders[0].1.to_string()
    };
    let first = folder("prod", "sales", 1);
    assert!(first.starts_with("s3://my-bucket/t/data/sales-"), "{first}");
    assert_eq!(first, folder("prod", "sales", 1), "a version keeps it");
    let others = [
        folder("test", "sales", 1),
        folder("prod", "sales", 2),
        folder("prod", "orders", 1),
    ];
    assert!(!others.contains(&first), "{others:?}");
    let not_pinned = IcebergSink {
        pinned: None,
        ..sink()
    };
    assert_eq!(not_pinned.set_apart(&"sales".parse().unwrap(), 1), None);
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let text = refused("catalog = \"rest\"\nuri = \"https://user:hush@c\"\ntable = \"db.t\"");
    assert!(!text.contains("hush"), "{text}");
}

fn pinned() -> PinnedTable {
    PinnedTable {
        cluster: "prod".into(),
        uuid: "9c12d441-03fe-4693-9a96-a0705ddf69c1".into(),
        data: Location::folder("s3://my-bucket/t/data"),
        schema_id: 1,
        spec_id: 0,
        partition_fields: vec!["at_day".into()],
        schema: serde_json::json!({"type": "struct", "schema-id": 1, "fields": [
            {"id": 1, "name": "at", "required": false, "type": "timestamptz"}]}),
        spec: serde_json::json!({"spec-id": 0, "fields": [
            {"source-id": 1, "field-id": 1000, "name": "at_day", "transform": "day"}]}),
    }
}

fn sink() -> IcebergSink {
    IcebergSink {
        maintenance: None,
        pinned: Some(Box::new(pinned())),
        ..parsed(&format!("{REST}create = true\npartition = [\"day(at)\"]"))
    }
}

/// A change here is a new form, and the file must stay readable.
#[test]
fn the_stored_form_is_the_golden_file() {
    let golden = include_str!("../../../../golden/sink-iceberg.json");
    let kind = SinkKind::from(sink());
    assert_eq!(
        serde_json::to_string_pretty(&kind).unwrap().trim(),
        golden.trim()
    );
    assert_eq!(serde_json::from_str::<SinkKind>(golden).unwrap(), kind);
}

#[test]
fn a_change_keeps_the_table_and_may_change_its_address() {
    let of = |sink: IcebergSink| {
        let mut job: ResolvedJob =
            serde_json::from_str(include_str!("../../../../golden/job-v3.json")).unwrap();
        job.spec.sink = sink.into();
        job
    };
    let refusal = |next: IcebergSink| {
        let changes = compare(&of(sink()), &of(next), None);
        let refused = changes
            .into_iter()
            .filter(|change| change.refused.is_some());
        refused.map(|change| change.field).collect::<Vec<_>>()
    };
    let mut other = sink();
    other.catalog = TableCatalog::Rest {
        uri: "https://moved.example".into(),
        warehouse: None,
        credentials: Some("prod".into()),
    };
    other.keep_snapshots = NonZeroU32::MIN;
    assert_eq!(refusal(other), Vec::<String>::new());
    let mut other = sink();
    other.table = "db.other".into();
    assert_eq!(refusal(other), ["sink.table"]);
    let mut other = sink();
    other.pinned.as_mut().unwrap().uuid = "u".into();
    assert_eq!(refusal(other), ["sink.table_uuid"]);
    let mut other = sink();
    other.pinned.as_mut().unwrap().schema_id = 2;
    assert_eq!(refusal(other), Vec::<String>::new());
}

fn staged(folder: &str, file: Option<TableFile>) -> StagedObject {
    let name = "20231114T221320Z-sales-t1.1-0000.parquet";
    StagedObject {
        kind: ObjectKind::Data,
        location: format!("{folder}{name}"),
        size: 1,
        crc32c: 0,
        rows: 1,
        table_file: file.map(Box::new),
        staging: Staging::Multipart {
            upload_id: "u".into(),
            etags: vec!["e".into()],
        },
    }
}

#[test]
fn a_worker_stages_only_below_the_table_and_by_its_spec() {
    let file = || TableFile {
        partition: vec![Some(Bytes(vec![0; 4]))],
        ..TableFile::default()
    };
    let by = StagedBy {
        job: &"sales".parse().unwrap(),
        window: Window {
            start_ms: 1_700_000_000_000,
            end_ms: 1_700_000_001_000,
        },
        task: TaskId {
            term: Term(1),
            counter: 1,
        },
    };
    let check = |folder: &str, file: Option<TableFile>| sink().check(&by, &staged(folder, file));
    let data = "s3://my-bucket/t/data/";
    let of_day = format!("{data}at_day=1970-01-01/");
    assert_eq!(check(&of_day, Some(file())), Ok(()));
    assert_eq!(
        check(data, Some(file())),
        Ok(()),
        "a value that names no folder"
    );
    for folder in [
        "s3://my-bucket/t/metadata/",
        "s3://other/t/data/",
        "s3://my-bucket/t/data/region=PE/",
        "s3://my-bucket/t/data/at_day=1/at_day=2/",
    ] {
        let error = check(folder, Some(file())).unwrap_err();
        assert_eq!(error.field, "object.location", "{folder}");
    }
    let other = TableFile {
        spec_id: 1,
        ..file()
    };
    for file in [None, Some(other), Some(TableFile::default())] {
        let error = check(&of_day, file).unwrap_err();
        assert_eq!(error.field, "object.table_file");
    }
    let unpinned = IcebergSink {
        pinned: None,
        ..sink()
    };
    assert!(unpinned.check(&by, &staged(&of_day, Some(file()))).is_err());
}
