//! The table of the Data Catalog in a job file.

use super::*;
use crate::JobSpec;
use crate::spec::SinkKind;

fn job(sink: &str) -> String {
    format!(
        "name = \"a\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"1s\"\n[transform]\nsql = \"SELECT 1\"\n\
         [sink]\n{sink}\n[checkpoint]\nlocation = \"s3://bkt/c/\"\n"
    )
}

fn sink_of(sink: &str) -> FilesSink {
    match JobSpec::parse(&job(sink)).unwrap().sink {
        SinkKind::Files(sink) => sink,
        SinkKind::Iceberg(_) => panic!("files"),
    }
}

#[test]
fn a_table_is_read_and_stored_only_if_there_is_one() {
    let without = sink_of("path = \"s3://bkt/out/\"");
    assert_eq!(without.catalog, None);
    let stored = serde_json::to_string(&without).unwrap();
    assert!(!stored.contains("catalog"), "{stored}");

    let with = sink_of(
        "path = \"s3://bkt/out/\"\npartition_by = [\"ingest_day\"]\n\
         catalog = { database = \"d\", table = \"t\", region = \"eu-west-1\", projection = true }",
    );
    let catalog = with.catalog.as_ref().unwrap();
    assert_eq!(catalog.describe(), "d.t in eu-west-1, projection");
    assert!(catalog.add_columns);
    let stored = serde_json::to_string(&with).unwrap();
    assert_eq!(serde_json::from_str::<FilesSink>(&stored).unwrap(), with);
    assert!(with.describe().contains("table d.t"), "{}", with.describe());
    let fields = with.fields();
    assert!(
        fields.iter().any(|(key, _)| *key == "catalog"),
        "{fields:?}"
    );
}

#[test]
fn what_readers_of_a_table_could_not_read_is_refused() {
    let catalog = "catalog = { database = \"d\", table = \"t\"";
    for (sink, problem) in [
        (
            format!("path = \"s3://bkt/out/\"\ntypes = \"arrow\"\n{catalog} }}"),
            "is for types = \"hive\" only",
        ),
        (
            format!("path = \"/out/\"\n{catalog} }}"),
            "is for a path in S3 only",
        ),
        (
            format!("path = \"s3://bkt/out/\"\n{catalog}, projection = true }}"),
            "projection is for a sink with partition_by only",
        ),
        (
            "path = \"s3://bkt/out/\"\ncatalog = { database = \"d\" }".to_owned(),
            "sink.catalog.table: is missing",
        ),
        (
            format!("path = \"s3://bkt/out/\"\n{catalog}, project = true }}"),
            "did you mean `projection`?",
        ),
    ] {
        let error = JobSpec::parse(&job(&sink)).unwrap_err().to_string();
        assert!(error.contains(problem), "{problem}: {error}");
    }
}
