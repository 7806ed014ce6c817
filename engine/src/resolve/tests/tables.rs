//! Catalog tables against jobs: properties, partition keys, types.

use super::*;
use crate::format::{Decoder, json::with_keys};
use std::fmt::Write as _;
use streamctl_proto::spec::{HiveType, PayloadFormat, reference};

/// The table of P15.
const MAPPED: &str = r#"{"Table": {"Name": "events", "DatabaseName": "lake",
    "StorageDescriptor": {"Columns": [{"Name": "ts", "Type": "timestamp"}, {"Name": "a_b", "Type": "string"}],
        "Parameters": {"streamName": "events"},
        "SerdeInfo": {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {
            "mapping.ts": "timestamp", "dots.in.keys": "true"}}},
    "PartitionKeys": [{"Name": "DT", "Type": "string"}, {"Name": "hour", "Type": "int"}],
    "Parameters": {"classification": "json"}}}"#;

const TABLE: &str = "memory://in/table.json";

/// What is found of a job on this table.
async fn explored(table: &str, sql: &str) -> explore::Explored {
    let spec = job(kinesis(SchemaFrom::File(TABLE.into())), sql, vec![]);
    let world = world(&[COUNTRIES, (TABLE, table.as_bytes())]).await;
    explore(&world, &spec, false).await
}

#[tokio::test]
async fn p15_the_keys_of_records_are_pinned_with_the_columns() {
    let spec = job(
        kinesis(SchemaFrom::File(TABLE.into())),
        "SELECT ts, a_b FROM source",
        vec![],
    );
    let world = world(&[COUNTRIES, (TABLE, MAPPED.as_bytes())]).await;
    let resolved = resolve(&world, spec, "d".into(), 7).await.unwrap();
    assert_eq!(resolved.keys.of_column("ts"), Some("timestamp"));
    assert!(resolved.keys.dots_are_underscores);
    let schema = catalog::arrow_schema(&resolved.columns, resolved.nested).unwrap();
    let schema = with_keys(schema, &resolved.keys);
    let mut decoder = Decoder::new(&PayloadFormat::default(), schema, &[0, 1]).unwrap();
    let record = br#"{"timestamp": "2026-11-24T00:45:00Z", "a.b": "dotted"}"#;
    let batch = decoder.decode_payloads([&record[..]]).batch;
    assert_eq!(
        [batch.column(0).null_count(), batch.column(1).null_count()],
        [0, 0]
    );
}

#[tokio::test]
async fn p15_a_property_that_is_not_honoured_refuses_the_job() {
    let table = MAPPED.replace("\"dots.in.keys\"", "\"strip.outer.array\"");
    let found = explored(&table, "SELECT ts FROM source").await.problems;
    assert_eq!(found[0].field, "source.schema_file");
    assert!(
        found[0].message.contains("strip.outer.array"),
        "{}",
        found[0]
    );
}

#[tokio::test]
async fn p47_a_partition_key_of_the_table_is_no_column_and_the_message_names_it() {
    let found = explored(MAPPED, "SELECT ts,\n dt FROM source").await;
    let problem = &found.problems[0];
    assert_eq!(problem.field, "transform.sql");
    let words = "dt: partition keys of the catalog's table are parts of folder names";
    assert!(problem.message.starts_with(words), "{problem}");
    assert!(
        problem.hint.as_ref().unwrap().contains("[source.schema]"),
        "{problem}"
    );
    let found = explored(MAPPED, "SELECT ts, nothing FROM source").await;
    assert!(
        found.problems[0].message.contains("nothing"),
        "{}",
        found.problems[0]
    );
    let found = explored(MAPPED, "SELECT * FROM source").await;
    assert_eq!(
        (
            found.problems.len(),
            found.plan.unwrap().output_schema().fields().len()
        ),
        (0, 2)
    );
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.starts_with("dt, hour: partition keys"))
    );
}

#[tokio::test]
async fn p35_a_declared_length_is_noted_as_changing_nothing() {
    let table = MAPPED.replace(
        "\"a_b\", \"Type\": \"string\"",
        "\"a_b\", \"Type\": \"varchar(3)\"",
    );
    let found = explored(&table, "SELECT a_b FROM source").await;
    let note = "a_b varchar(3): texts stay as they are, a longer one is not cut";
    assert!(
        found.notes.iter().any(|one| one.starts_with(note)),
        "{:?}",
        found.notes
    );
}

/// `validate` reads the text, `explain` asks for the table.
fn validated(type_name: &str) -> Result<JobSpec, Problems> {
    JobSpec::parse(&format!(
        "name = \"p45\"\n[source]\ntype = \"kinesis\"\nstream = \"s\"\n[source.schema]\nx = {type_name:?}\n[window]\n\
         size = \"1m\"\n[transform]\nsql = \"SELECT x FROM source\"\n[sink]\npath = \"s3://bkt/out/\"\n[checkpoint]\n\
         location = \"s3://bkt/c/\"\n"
    ))
}

async fn explained(type_name: &str) -> Vec<Problem> {
    let column = ColumnType {
        name: "x".into(),
        type_name: type_name.into(),
    };
    let mut table = String::new();
    let form =
        r#"{"Table": {"StorageDescriptor": {"Parameters": {"streamName": "s"}, "Columns": ["#;
    write!(
        table,
        "{form}{}]}}}}}}",
        serde_json::to_string(&column).unwrap()
    )
    .unwrap();
    let table = table
        .replace("\"name\"", "\"Name\"")
        .replace("\"type\"", "\"Type\"");
    explored(&table, "SELECT x FROM source").await.problems
}

#[tokio::test]
async fn p45_docs_hints_validate_and_explain_agree_on_every_type() {
    let reference = reference();
    let words = |title: &str| {
        let part = reference.iter().find(|part| part.title == title);
        part.unwrap().keys[0].value.clone()
    };
    let of_job_file = words("[source.schema]");
    let query = include_str!("../../../../docs/query.md");
    let hint = validated("zzzzzzzzzzzz").unwrap_err().0[0]
        .hint
        .clone()
        .unwrap();
    for (name, example) in HiveType::names().zip(HiveType::examples()) {
        let quoted = format!("`{name}`");
        assert!(
            of_job_file.contains(&quoted),
            "{name}: the page of the job file"
        );
        let is_told = query.contains(&quoted) || query.contains(&format!("`{name}("));
        assert!(is_told, "{name}: the page of the query");
        assert!(hint.contains(name), "{name}: {hint}");
        validated(example).unwrap_or_else(|problems| panic!("{example}: {problems}"));
        assert_eq!(explained(example).await, [], "{example}");
    }
}

#[tokio::test]
async fn p45_a_text_that_is_no_type_is_refused_by_validate_and_explain_alike() {
    let all = "string STRING varchar varchar(10) char(3) boolean tinyint smallint int integer bigint float double real decimal \
               decimal(10,2) decimal(39,0) numeric(10,2) date timestamp timestamp(3) binary array<string> \
               array<struct<a:int>> map<string,string> struct<a:int,b:string> uniontype<int,string> void null long short byte \
               interval_day_time array struct<> STRUCT<A:INT> decimal(10,-2) set<string> timestamptz";
    let spaced = [
        "decimal( 38 , 18 )",
        "timestamp with local time zone",
        "double precision",
    ];
    for text in all.split_whitespace().chain(spaced) {
        let validated = validated(text).map_err(|problems| problems.0[0].hint.clone());
        let explained = explained(text).await;
        assert_eq!(
            validated.is_ok(),
            explained.is_empty(),
            "{text}: {explained:?}"
        );
        if let Some(problem) = explained.first() {
            assert!(
                problem.hint.is_some() && validated.unwrap_err().is_some(),
                "{text}"
            );
        }
    }
}
