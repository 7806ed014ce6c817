//! Jobs against a world in memory and on the local disk.

use super::*;
use crate::aws::AwsSettings;
use crate::storage::MemoryStorage;
use std::time::Duration;
use streamctl_proto::WindowSize;
use streamctl_proto::manifest::sha256_hex;
use streamctl_proto::spec::{
    Compression, Dialect, FilesSink, FilesSource, GRACE_DEFAULT, GeneratorSource, KinesisSource,
    Location, LookupFormat, OnDataLoss, PartitionColumn, SinkFormat, SourceKind, SourceSpec,
};

const SQL: &str = r#"SELECT s.uuid, s.itemtype, s.saleschannel, s.orderpriority, s.orderdate, s.region, s.shipdate,
    s.unitssold, c."Code" AS country_code FROM source s JOIN country_lookup c ON s.country = c."CountryName""#;

fn generator() -> SourceSpec {
    SourceSpec {
        kind: SourceKind::Generator(GeneratorSource {
            seed: 1,
            shards: 2,
            rate: 10.0,
            records_per_shard: None,
            bad_every: 0,
            unmatched_every: 0,
        }),
        schema: SchemaFrom::BuiltIn,
        starting_position: StartingPosition::Latest,
        on_data_loss: OnDataLoss::Fail,
        values: Default::default(),
    }
}

fn kinesis(schema: SchemaFrom) -> SourceSpec {
    let kind = SourceKind::Kinesis(KinesisSource {
        stream: None,
        arn: None,
        endpoint: None,
        region: None,
        role_arn: None,
        session_name: None,
        poll_interval: Duration::from_secs(1),
        consumer: None,
        grace: GRACE_DEFAULT,
        aggregates: Default::default(),
        max_records_per_read: 10_000,
        compression: Default::default(),
        format: Default::default(),
    });
    SourceSpec {
        kind,
        schema,
        ..generator()
    }
}

fn job(source: SourceSpec, sql: &str, partition_by: Vec<PartitionColumn>) -> JobSpec {
    JobSpec {
        name: "sales".parse().unwrap(),
        source,
        window: WindowSize::from_ms(60_000).unwrap(),
        lookups: vec![LookupSpec {
            name: "country_lookup".into(),
            path: Location::folder("memory://in/countries/"),
            format: LookupFormat::Csv,
            refresh: Duration::from_secs(60),
            size_max: 1 << 20,
            ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
        }],
        sql: sql.into(),
        sink: FilesSink {
            compression: Compression::Zstd,
            partition_by,
            target_size: 1 << 20,
            ..FilesSink::new(Location::folder("memory://out/"))
        }
        .into(),
        dead_letter: None,
        checkpoint: Location::folder("memory://checkpoint/"),
        dialect: Dialect::default(),
        function: None,
        retries_max: 3,
        query_errors: Default::default(),
        keep: Default::default(),
    }
}

async fn world(objects: &[(&str, &[u8])]) -> World {
    let storages = Storages::memory(MemoryStorage::default());
    for (location, bytes) in objects {
        let storage = storages.for_location(location);
        storage
            .put_new(location, bytes::Bytes::copy_from_slice(bytes))
            .await
            .unwrap();
    }
    World {
        aws: Aws::new(AwsSettings::default()),
        storages,
        foreign: Default::default(),
        function: Default::default(),
    }
}

const COUNTRIES: (&str, &[u8]) = (
    "memory://in/countries/c.csv",
    include_bytes!("../../testdata/country_lookup.csv"),
);

async fn problems(spec: JobSpec, objects: &[(&str, &[u8])]) -> Vec<Problem> {
    match resolve(&world(objects).await, spec, "d".into(), 7).await {
        Err(ResolveError::Problems(problems)) => problems.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_model_job_is_resolved_with_latest_pinned_to_now() {
    let spec = job(
        generator(),
        SQL,
        vec![
            PartitionColumn::IngestYear,
            PartitionColumn::Column("region".into()),
        ],
    );
    let resolved = resolve(&world(&[COUNTRIES]).await, spec, "digest".into(), 1_234)
        .await
        .unwrap();
    assert_eq!(resolved.start, Position::Timestamp(1_234));
    assert_eq!(
        (
            resolved.columns.len(),
            resolved.whole_window,
            resolved.stream.is_none()
        ),
        (14, false, true)
    );
    assert_eq!(resolved.query_digest, sha256_hex(SQL.as_bytes()));
    assert_eq!(resolved.spec_digest, "digest");
}

#[tokio::test]
async fn a_table_in_a_file_gives_columns_and_stream() {
    let table: &[u8] = br#"{"Table": {"StorageDescriptor": {
        "Columns": [{"Name": "uuid", "Type": "string"}, {"Name": "Country", "Type": "string"}],
        "Parameters": {"typeOfData": "kinesis", "streamARN": "arn:aws:kinesis:us-east-2:1:stream/orders"}}}}"#;
    let sql = r#"SELECT uuid, count(*) AS n FROM source GROUP BY uuid"#;
    let spec = job(
        kinesis(SchemaFrom::File("memory://in/table.json".into())),
        sql,
        vec![],
    );
    let resolved = resolve(
        &world(&[COUNTRIES, ("memory://in/table.json", table)]).await,
        spec,
        "d".into(),
        1,
    )
    .await;
    let resolved = resolved.unwrap();
    assert!(resolved.whole_window);
    let stream = resolved.stream.unwrap();
    assert_eq!(
        (stream.name.as_str(), stream.region.as_deref()),
        ("orders", Some("us-east-2"))
    );
}

#[tokio::test]
async fn all_problems_are_found_at_once() {
    let columns = vec![ColumnType {
        name: "uuid".into(),
        type_name: "strng".into(),
    }];
    let found = problems(job(kinesis(SchemaFrom::Inline(columns)), SQL, vec![]), &[]).await;
    let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["source.schema", "source.stream", "lookup.path"]);
    assert!(found[0].message.contains("uuid"), "{}", found[0]);
}

#[tokio::test]
async fn a_wrong_column_is_refused_with_the_one_that_is_meant() {
    let found = problems(
        job(generator(), &SQL.replace("s.country", "s.contry"), vec![]),
        &[COUNTRIES],
    )
    .await;
    assert_eq!(found[0].field, "transform.sql");
    assert_eq!(found[0].hint.as_deref(), Some("did you mean country?"));
}

#[tokio::test]
async fn partitions_must_be_columns_of_the_result_and_leave_one() {
    let column = |name: &str| PartitionColumn::Column(name.into());
    let sql = "SELECT uuid, region AS \"Region\", country AS ingest_day FROM source";
    let found = problems(
        job(
            generator(),
            sql,
            vec![column("region"), PartitionColumn::IngestDay],
        ),
        &[COUNTRIES],
    )
    .await;
    assert_eq!(found[0].hint.as_deref(), Some("did you mean \"Region\"?"));
    assert!(
        found[1].message.starts_with("ingest_day is a column"),
        "{}",
        found[1]
    );
    let found = problems(
        job(generator(), "SELECT uuid FROM source", vec![column("uuid")]),
        &[COUNTRIES],
    )
    .await;
    assert!(found[0].message.contains("none is left"), "{}", found[0]);
}

#[tokio::test]
async fn a_broken_lookup_is_named_by_file_and_line() {
    let found = problems(
        job(generator(), SQL, vec![]),
        &[("memory://in/countries/c.csv", b"CountryName,Code\nx\n")],
    )
    .await;
    assert_eq!(found[0].field, "lookup.path");
    assert!(found[0].message.contains("c.csv, line 2"), "{}", found[0]);
}

#[tokio::test]
async fn of_several_lookups_the_broken_one_is_named() {
    let mut spec = job(generator(), SQL, vec![]);
    let path = Location::folder("memory://in/nothing/");
    spec.lookups.push(LookupSpec {
        name: "second".into(),
        path,
        ..spec.lookups[0].clone()
    });
    let found = problems(spec, &[COUNTRIES]).await;
    assert_eq!(
        (found[0].field.as_str(), found[0].part),
        ("lookup.path", Some(Part::Element(1)))
    );
}

#[test]
fn problems_of_the_file_alone_are_found_without_a_world() {
    let wrong = |sql: &str, partition_by: &[PartitionColumn]| {
        let found = check_text(&job(generator(), sql, partition_by.to_vec()));
        found
            .iter()
            .map(Problem::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let column = |name: &str| PartitionColumn::Column(name.into());
    assert_eq!(
        wrong(SQL, &[column("region"), PartitionColumn::IngestDay]),
        ""
    );
    assert!(wrong(SQL, &[column("ingest_minute")]).contains("no column \"ingest_minute\""));
    assert!(
        wrong(
            "SELECT uuid AS ingest_day, region FROM source",
            &[PartitionColumn::IngestDay]
        )
        .contains("at once")
    );
    assert!(wrong("SELECT 1", &[]).contains("does not read the stream"));
    // The columns are not part of that file.
    assert_eq!(
        wrong("SELECT * FROM source", &[column("ingest_minute")]),
        ""
    );
}

#[tokio::test]
async fn a_result_that_the_files_cannot_hold_is_refused_before_it_is_computed() {
    for (sql, format, wrong) in [
        (
            "SELECT uuid, [1, 2] AS l FROM source",
            SinkFormat::Csv,
            Some("which csv files cannot hold"),
        ),
        (
            "SELECT uuid, [1, 2] AS l FROM source",
            SinkFormat::Json,
            None,
        ),
        (
            "SELECT uuid, INTERVAL '1' DAY AS l FROM source",
            SinkFormat::Parquet,
            Some("which parquet files cannot hold"),
        ),
    ] {
        let mut spec = job(generator(), sql, vec![]);
        spec.sink = FilesSink {
            format,
            ..FilesSink::new(Location::folder("memory://out/"))
        }
        .into();
        let resolved = resolve(&world(&[COUNTRIES]).await, spec, "d".into(), 7).await;
        match (resolved, wrong) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
            (resolved, _) => panic!("{sql} {format:?}: {resolved:?}"),
        }
    }
}

#[tokio::test]
async fn the_column_of_arrival_times_must_be_one() {
    let kind = SourceKind::Files(FilesSource {
        role: None,
        path: Location::folder("memory://in/"),
        format: streamctl_proto::spec::RecordFormat::Json,
        arrival_time: Some("when".into()),
        on_bad_arrival_time: Default::default(),
        max_arrival_ahead: None,
    });
    let columns = vec![ColumnType {
        name: "uuid".into(),
        type_name: "string".into(),
    }];
    let source = SourceSpec {
        kind,
        schema: SchemaFrom::Inline(columns),
        ..generator()
    };
    let found = problems(job(source, "SELECT uuid FROM source", vec![]), &[COUNTRIES]).await;
    assert_eq!(
        found[0].to_string(),
        "source.arrival_time: the source has no column \"when\"\n  hint: the columns are: uuid"
    );
}

mod tables;
