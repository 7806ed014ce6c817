//! What a submit finds, makes and refuses, on a folder as catalog.

use super::*;
use crate::iceberg::catalog::local::LocalCatalog;
use crate::iceberg::catalog::request::NewTable;
use crate::iceberg::partition::PartitionSpec;
use crate::iceberg::types::{Field, Primitive, Schema, Type};
use crate::resolve::foreign::ForeignRule;
use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use std::collections::BTreeMap;
use std::path::Path;
use streamctl_proto::JobSpec;

fn job(folder: &Path, more: &str) -> JobSpec {
    let folder = folder.display();
    let text = format!(
        "name = \"sales\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"1s\"\n\
         [transform]\nsql = \"SELECT 1\"\n\
         [sink]\ntype = \"iceberg\"\ncatalog = \"local\"\nwarehouse = \"{folder}/w\"\ntable = \"db.sales\"\n{more}\n\
         [checkpoint]\nlocation = \"{folder}/c\"\n"
    );
    JobSpec::parse(&text).unwrap()
}

fn sink_of(spec: &JobSpec) -> &IcebergSink {
    match &spec.sink {
        SinkKind::Iceberg(sink) => sink,
        SinkKind::Files(_) => panic!("a table"),
    }
}

fn result() -> SchemaRef {
    let at = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let columns = vec![
        ArrowField::new("id", DataType::Int32, true),
        ArrowField::new("region", DataType::Utf8View, true),
        ArrowField::new("at", at, true),
        ArrowField::new("opens", DataType::Time64(TimeUnit::Nanosecond), true),
    ];
    Arc::new(ArrowSchema::new(columns))
}

struct Scene {
    folder: tempfile::TempDir,
    storages: Storages,
    foreign: ForeignRule,
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            storages: Storages::local(),
            foreign: ForeignRule::default(),
        }
    }

    fn spec(&self, more: &str) -> JobSpec {
        job(self.folder.path(), more)
    }

    fn place<'a>(&'a self, spec: &'a JobSpec) -> Place<'a> {
        Place {
            storages: &self.storages,
            foreign: &self.foreign,
            spec,
        }
    }

    async fn find(&self, more: &str) -> Found {
        let spec = self.spec(more);
        sink_of(&spec).find(self.place(&spec), &result()).await
    }

    async fn make(&self, more: &str) -> IcebergSink {
        let spec = self.spec(more);
        let made = sink_of(&spec).make(self.place(&spec), &result()).await;
        match made.unwrap().unwrap() {
            SinkKind::Iceberg(sink) => sink,
            SinkKind::Files(_) => panic!("a table"),
        }
    }

    /// A table made by others.
    async fn made_by_others(&self, fields: Vec<Field>) {
        let catalog =
            LocalCatalog::new(&self.folder.path().join("w"), crate::clock::system_clock());
        let new = NewTable {
            name: TableName::parse("db.sales").unwrap(),
            location: None,
            schema: Schema::new(fields),
            spec: PartitionSpec::default(),
            properties: BTreeMap::new(),
        };
        catalog.create(&new).await.unwrap();
    }
}

fn texts(found: &Found) -> Vec<String> {
    found.problems.iter().map(ToString::to_string).collect()
}

const CREATE: &str = "create = true\npartition = [\"day(at)\", \"region\", \"bucket(4, id)\"]";

#[tokio::test]
async fn looking_makes_nothing_and_a_submit_makes_the_table_once() {
    let scene = Scene::new();
    let found = scene.find(CREATE).await;
    assert_eq!(texts(&found), Vec::<String>::new());
    assert!(found.sink.is_none());
    assert!(found.facts[0].1.contains("a submit makes it"), "{found:?}");
    let columns = &found.facts[1].1;
    assert_eq!(columns, "id int, region string, at timestamptz, opens time");
    assert_eq!(found.facts[2].1, "day(at), region, bucket(4, id)");
    assert!(!scene.folder.path().join("w").exists());

    let made = scene.make(CREATE).await;
    let again = scene.make(CREATE).await;
    assert_eq!(made.pinned, again.pinned, "the same table");
    let pinned = made.pinned.as_deref().unwrap();
    assert_eq!(pinned.cluster, "local");
    assert_eq!(pinned.partition_fields, ["at_day", "region", "id_bucket"]);
    assert_eq!(pinned_fields(pinned).unwrap().len(), 3);
    let found = scene.find("").await;
    let Some(SinkKind::Iceberg(sink)) = &found.sink else {
        panic!("{found:?}");
    };
    assert_eq!(sink.pinned.as_deref(), Some(pinned));
    let written = sink.form(&result());
    let types = written.schema().fields().iter();
    let types: Vec<_> = types.map(|field| field.data_type().clone()).collect();
    let micros = TimeUnit::Microsecond;
    assert_eq!(
        types,
        [
            DataType::Int32,
            DataType::Utf8,
            DataType::Timestamp(micros, Some("UTC".into())),
            DataType::Time64(micros),
        ]
    );
}

#[tokio::test]
async fn a_missing_table_is_a_problem_unless_it_is_to_be_made() {
    let found = Scene::new().find("").await;
    let texts = texts(&found);
    assert!(texts[0].contains("has no table db.sales"), "{texts:?}");
    assert!(texts[0].contains("add create = true"), "{texts:?}");
}

#[tokio::test]
async fn a_table_that_differs_is_refused_with_the_columns_names() {
    let scene = Scene::new();
    let field =
        |id, name, required, primitive| Field::new(id, name, required, Type::Primitive(primitive));
    let mut with_default = field(6, "source", false, Primitive::String);
    with_default
        .rest
        .insert("write-default".into(), "web".into());
    scene
        .made_by_others(vec![
            field(1, "id", false, Primitive::Int),
            field(2, "REGION", false, Primitive::String),
            field(3, "at", false, Primitive::Date),
            field(4, "opens", false, Primitive::Time),
            field(5, "must", true, Primitive::Long),
            with_default,
        ])
        .await;
    let found = scene.find("").await;
    let texts = texts(&found).join("\n");
    for part in [
        "column \"region\" is not in the table",
        "name it AS \"REGION\"",
        "column \"at\" is timestamptz in the query and date in the table",
        "column \"must\" is required",
        "column \"source\" has a default in the table",
    ] {
        assert!(texts.contains(part), "{part}: {texts}");
    }
    assert!(found.sink.is_none(), "nothing is pinned");
}

#[tokio::test]
async fn a_table_of_another_partition_or_place_is_refused() {
    let scene = Scene::new();
    scene.make(CREATE).await;
    let found = scene.find("partition = [\"hour(at)\"]").await;
    let other = texts(&found).join("\n");
    assert!(
        other.contains("partitioned otherwise: day(at), region, bucket(4, id)"),
        "{other}"
    );
    let found = scene.find("partition = [\"nowhere\"]").await;
    let none = texts(&found).join("\n");
    assert!(none.contains("no column \"nowhere\""), "{none}");
}

#[tokio::test]
async fn a_new_table_s_partition_takes_the_types_of_its_columns() {
    let found = Scene::new()
        .find("create = true\npartition = [\"day(region)\"]")
        .await;
    let texts = texts(&found).join("\n");
    assert!(texts.contains("day does not take string"), "{texts}");
}

#[tokio::test]
async fn an_address_of_others_needs_the_operator() {
    let scene = Scene::new();
    let mut spec = scene.spec("");
    let mut sink = sink_of(&spec).clone();
    sink.catalog = TableCatalog::Rest {
        uri: "https://evil.example".into(),
        warehouse: None,
        credentials: None,
    };
    spec.sink = sink.clone().into();
    let foreign = ForeignRule::default().without_admin();
    let place = Place {
        storages: &scene.storages,
        foreign: &foreign,
        spec: &spec,
    };
    let found = sink.find(place, &result()).await;
    let refused = texts(&found).join("\n");
    assert!(
        refused.contains("sink.uri: https://evil.example"),
        "{refused}"
    );
    assert!(refused.contains("--allow-endpoint"), "{refused}");
}
