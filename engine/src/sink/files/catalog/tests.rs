//! What a submit finds, makes and refuses of a table of files, on a catalog in memory.

use super::*;
use crate::data_catalog::memory::{Fault, MemoryCatalog};
use crate::data_catalog::{DataCatalog as _, DataCatalogs};
use crate::resolve::foreign::ForeignRule;
use crate::storage::Storages;
use arrow::datatypes::{Field, TimeUnit};
use std::sync::Arc;
use streamctl_proto::JobSpec;
use streamctl_proto::spec::SinkKind;

const PARTITIONED: &str = "partition_by = [\"ingest_month\", \"country\"]\n";

struct Scene {
    catalog: Arc<MemoryCatalog>,
    storages: Storages,
    foreign: ForeignRule,
    result: SchemaRef,
}

impl Scene {
    fn new() -> Self {
        let catalog = Arc::new(MemoryCatalog::with_database("db"));
        let catalogs = DataCatalogs::only(catalog.clone());
        let at = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let columns = vec![
            Field::new("Id", DataType::Int64, true),
            Field::new("country", DataType::Utf8View, true),
            Field::new("at", at, true),
        ];
        Self {
            catalog,
            storages: Storages::local().with_data_catalogs(catalogs),
            foreign: ForeignRule::default(),
            result: Arc::new(Schema::new(columns)),
        }
    }

    /// With one more column.
    fn with(&self, name: &str) -> SchemaRef {
        let mut columns = self.result.fields().to_vec();
        columns.push(Arc::new(Field::new(name, DataType::Boolean, true)));
        Arc::new(Schema::new(columns))
    }

    fn spec(keys: &str, catalog: &str) -> JobSpec {
        let text = format!(
            "name = \"sales\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"1s\"\n\
             [transform]\nsql = \"SELECT 1\"\n\
             [sink]\npath = \"s3://bkt/t/\"\n{keys}\
             catalog = {{ database = \"db\", table = \"sales\"{catalog} }}\n\
             [checkpoint]\nlocation = \"s3://bkt/c/\"\n"
        );
        JobSpec::parse(&text).unwrap()
    }

    fn place<'a>(&'a self, spec: &'a JobSpec) -> Place<'a> {
        Place {
            storages: &self.storages,
            foreign: &self.foreign,
            spec,
        }
    }

    async fn find(&self, keys: &str, catalog: &str, result: &SchemaRef) -> Found {
        let spec = Self::spec(keys, catalog);
        let (sink, of) = sink_of(&spec);
        find(sink, of, self.place(&spec), result).await
    }

    async fn make(&self, keys: &str, catalog: &str, result: &SchemaRef) -> Result<(), NotMade> {
        let spec = Self::spec(keys, catalog);
        let (sink, of) = sink_of(&spec);
        make(sink, of, self.place(&spec), result).await
    }

    async fn table(&self) -> Option<FilesTable> {
        self.catalog.table(&name()).await.unwrap()
    }

    /// What is refused of a table that others altered, as one text.
    async fn refused(&self, keys: &str, change: impl FnOnce(&mut FilesTable)) -> String {
        let scene = Self::new();
        scene.make(keys, "", &scene.result).await.unwrap();
        scene.catalog.alter(&name(), change);
        let found = scene.find(keys, "", &scene.result).await;
        let made = scene.make(keys, "", &scene.result).await;
        let texts: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
        let same = match made {
            Err(NotMade::Problems(problems)) => problems.len() == texts.len(),
            _ => texts.is_empty(),
        };
        assert!(same, "looking and making agree: {texts:?}");
        texts.join("\n")
    }
}

fn sink_of(spec: &JobSpec) -> (&FilesSink, &SinkCatalog) {
    match &spec.sink {
        SinkKind::Files(sink) => (sink, sink.catalog.as_ref().unwrap()),
        SinkKind::Iceberg(_) => panic!("files"),
    }
}

fn name() -> TableName {
    crate::data_catalog::contract::name("db", "sales")
}

fn shown(columns: &[ColumnType]) -> String {
    columns_text(columns)
}

#[tokio::test]
async fn a_missing_table_is_shown_by_a_look_and_made_by_a_submit() {
    let scene = Scene::new();
    let found = scene.find(PARTITIONED, "", &scene.result).await;
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    assert!(found.facts[0].1.contains("a submit makes it"), "{found:?}");
    assert_eq!(scene.table().await, None, "a look makes nothing");
    for _ in 0..2 {
        scene.make(PARTITIONED, "", &scene.result).await.unwrap();
    }
    let table = scene.table().await.unwrap();
    assert_eq!(shown(&table.columns), "id bigint, at timestamp");
    assert_eq!(
        shown(&table.partition_keys),
        "ingest_month string, country string"
    );
    assert_eq!(table.location, "s3://bkt/t/");
    assert_eq!(table.parameters["classification"], "parquet");
    let found = scene.find(PARTITIONED, "", &scene.result).await;
    assert_eq!(found.facts[0].1, "db.sales is there");
}

#[tokio::test]
async fn new_columns_reach_the_table_unless_the_job_forbids_it() {
    let scene = Scene::new();
    scene.make(PARTITIONED, "", &scene.result).await.unwrap();
    let more = scene.with("new");
    let strict = ", add_columns = false";
    let found = scene.find(PARTITIONED, strict, &more).await;
    let text = found.problems[0].to_string();
    assert!(text.contains("no column for new boolean"), "{text}");
    assert!(text.contains("ALTER TABLE db.sales ADD COLUMNS"), "{text}");
    // Others alter it at the same moment, and an answer is lost.
    scene.catalog.fail([Fault::AnswerLost]);
    let lost = scene.make(PARTITIONED, "", &more).await;
    assert!(matches!(lost, Err(NotMade::Unavailable { .. })), "{lost:?}");
    scene.make(PARTITIONED, "", &more).await.unwrap();
    let table = scene.table().await.unwrap();
    assert_eq!(
        shown(&table.columns),
        "id bigint, at timestamp, new boolean"
    );
    scene.make(PARTITIONED, strict, &more).await.unwrap();
    // A job that writes fewer columns leaves the others null.
    scene
        .make(PARTITIONED, strict, &scene.result)
        .await
        .unwrap();
}

#[tokio::test]
async fn another_table_is_refused_with_what_to_write() {
    let scene = Scene::new();
    for (change, parts) in [
        (
            (|table| table.columns[0].type_name = "int".into()) as fn(&mut FilesTable),
            [
                "column \"id\" is int in table db.sales, and bigint",
                "CAST(id AS",
            ],
        ),
        (
            |table| table.location = "s3a://bkt/other".into(),
            ["is at s3a://bkt/other", "path = \"s3://bkt/other/\""],
        ),
        (
            |table| table.library = "org.openx.data.jsonserde.JsonSerDe".into(),
            ["does not read the sink's format", "ParquetHiveSerDe"],
        ),
        (
            |table| drop(table.partition_keys.pop()),
            [
                "is partitioned by ingest_month, and the files by ingest_month, country",
                "partition_by = [\"ingest_month\"]",
            ],
        ),
        (
            |table| table.partition_keys[1].type_name = "int".into(),
            ["partition key \"country\" of table db.sales is int", "cast"],
        ),
        (
            |table| {
                drop(
                    table
                        .parameters
                        .insert("projection.enabled".into(), "true".into()),
                )
            },
            ["has partition projection on", "set projection = true"],
        ),
    ] {
        let text = scene.refused(PARTITIONED, change).await;
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let fits: [fn(&mut FilesTable); 3] = [
        |table| table.location = "s3a://bkt/t".into(),
        |table| table.partition_keys[0].type_name = "int".into(),
        |table| table.columns[0].name = "ID".into(),
    ];
    for change in fits {
        assert_eq!(scene.refused(PARTITIONED, change).await, "");
    }
}

#[tokio::test]
async fn each_text_format_is_what_its_serde_reads() {
    let scene = Scene::new();
    let found = scene.find("format = \"json\"\n", "", &scene.result).await;
    let text = found.problems[0].to_string();
    assert!(text.contains("timestamp_format = \"hive\""), "{text}");
    let json = "format = \"json\"\ntimestamp_format = \"hive\"\n";
    scene.make(json, "", &scene.result).await.unwrap();
    let table = scene.table().await.unwrap();
    assert!(table.library.ends_with("jsonserde.JsonSerDe"));
    let text = scene
        .refused(json, |table| table.columns[2].type_name = "string".into())
        .await;
    assert_eq!(text, "", "a text column takes a timestamp's text");

    let csv = "format = \"csv\"\n";
    let scene = Scene::new();
    scene.make(csv, "", &scene.result).await.unwrap();
    let table = scene.table().await.unwrap();
    assert_eq!(
        shown(&table.columns),
        "id string, country string, at string"
    );
    assert_eq!(table.parameters["skip.header.line.count"], "1");
    let text = scene.refused(csv, |table| table.columns.swap(0, 1)).await;
    assert!(text.contains("is number 2 of table db.sales"), "{text}");
    let text = scene
        .refused(csv, |table| table.columns[2].name = "other".into())
        .await;
    assert!(text.contains("would come behind columns"), "{text}");
}

#[tokio::test]
async fn projected_partitions_are_properties_of_the_table() {
    let scene = Scene::new();
    let keys = "partition_by = [\"ingest_year\", \"ingest_hour\", \"country\"]\n";
    let projection = ", projection = true";
    scene.make(keys, projection, &scene.result).await.unwrap();
    let parameters = scene.table().await.unwrap().parameters;
    for (property, value) in [
        ("projection.enabled", "true"),
        ("projection.ingest_year.range", "2020,2100"),
        ("projection.ingest_hour.digits", "2"),
        ("projection.country.type", "injected"),
        (
            "storage.location.template",
            "s3://bkt/t/ingest_year=${ingest_year}/ingest_hour=${ingest_hour}/country=${country}/",
        ),
    ] {
        assert_eq!(parameters[property], value, "{property}");
    }
}

#[tokio::test]
async fn what_the_catalog_lacks_or_refuses_has_a_hint() {
    let mut scene = Scene::new();
    scene.storages = Storages::local().with_data_catalogs(DataCatalogs::only(Arc::new(
        MemoryCatalog::with_database("another"),
    )));
    let found = scene.find(PARTITIONED, "", &scene.result).await;
    let text = found.problems[0].to_string();
    assert!(text.contains("no database \"db\""), "{text}");
    assert!(text.contains("aws glue create-database"), "{text}");
    let scene = Scene::new();
    scene.catalog.fail([Fault::Denied]);
    let made = scene.make(PARTITIONED, "", &scene.result).await;
    let Err(NotMade::Problems(problems)) = made else {
        panic!("{made:?}")
    };
    assert_eq!(problems[0].hint.as_deref(), Some("allow it"));
}
