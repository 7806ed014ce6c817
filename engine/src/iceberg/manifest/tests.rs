use super::super::partition::PartitionField;
use super::super::transform::Transform;
use super::super::types::{Field, Type};
use super::*;

pub(crate) fn schema() -> Schema {
    let field = |id, name, primitive| Field::new(id, name, false, Type::Primitive(primitive));
    let decimal = Primitive::Decimal {
        precision: 9,
        scale: 2,
    };
    Schema::new(vec![
        field(1, "at", Primitive::Timestamptz),
        field(2, "country", Primitive::String),
        field(3, "price", decimal.clone()),
        field(4, "cost", decimal),
    ])
}

fn spec() -> PartitionSpec {
    let field = |source_id, name: &str, transform| PartitionField {
        source_id,
        field_id: Some(999 + source_id),
        name: name.to_owned(),
        transform,
    };
    PartitionSpec {
        spec_id: 1,
        fields: vec![
            field(1, "at_day", Transform::Day),
            field(2, "land-code", Transform::Identity),
            field(3, "price", Transform::Identity),
            field(4, "cost", Transform::Identity),
        ],
    }
}

fn file(name: &str, day: i32, country: Option<&str>) -> DataFile {
    DataFile {
        location: format!("s3://b/t/data/{name}.parquet"),
        size: 1000,
        rows: 10,
        spec_id: 1,
        partition: vec![
            Some(Datum::Int(day)),
            country.map(|country| Datum::Text(country.to_owned())),
            Some(Datum::Decimal(-5)),
            None,
        ],
        metrics: Metrics {
            column_sizes: [(1, 10), (2, 20)].into(),
            lower_bounds: [(2, b"a".to_vec())].into(),
            ..Metrics::default()
        },
        split_offsets: vec![4],
    }
}

fn with_kind<T>(version: u8, run: impl FnOnce(&ManifestKind<'_>) -> T) -> T {
    let schema = schema();
    let spec = spec();
    let fields = spec.bind(&schema).unwrap();
    run(&ManifestKind {
        format_version: version,
        schema: &schema,
        spec: &spec,
        fields: &fields,
    })
}

#[test]
fn entries_come_back_without_a_sequence_number_and_bytes_do_not_change() {
    let one = file("one", 5, Some("PE"));
    let two = file("two", 6, None);
    for version in [2, 3] {
        with_kind(version, |kind| {
            let bytes = encode_added(kind, 77, &[&one, &two]).unwrap();
            assert_eq!(bytes, encode_added(kind, 77, &[&one, &two]).unwrap());
            let entries = decode(&bytes).unwrap();
            assert_eq!(entries.len(), 2);
            assert_eq!(
                entries[0],
                Listed {
                    status: ADDED,
                    snapshot_id: Some(77),
                    sequence_number: None,
                    location: one.location.clone(),
                    rows: 10,
                    first_row_id: None,
                }
            );
            assert!(entries_of_same_form(kind, &bytes).unwrap().is_some());
        });
    }
}

#[test]
fn the_header_names_schema_and_spec() {
    with_kind(2, |kind| {
        let bytes = encode_added(kind, 1, &[&file("one", 5, None)]).unwrap();
        let read = read_container(&bytes, plain()).unwrap();
        assert_eq!(read.header("partition-spec-id"), Some("1"));
        assert_eq!(read.header("content"), Some("data"));
        let spec: Json = serde_json::from_str(read.header("partition-spec").unwrap()).unwrap();
        assert_eq!(spec[1]["field-id"], 1001);
        let names: Vec<_> = read.schema.fields()[4].node.fields()[3]
            .node
            .fields()
            .iter()
            .map(|field| field.name.clone())
            .collect();
        assert_eq!(names, ["at_day", "land_x2Dcode", "price", "cost"]);
    });
}

#[test]
fn a_value_of_another_type_is_refused_with_the_file_s_name() {
    with_kind(2, |kind| {
        let mut file = file("one", 5, None);
        file.partition[0] = Some(Datum::Text("x".into()));
        let error = encode_added(kind, 1, &[&file]).unwrap_err();
        assert!(error.to_string().contains("one.parquet"), "{error}");
        file.partition.pop();
        assert!(encode_added(kind, 1, &[&file]).is_err());
    });
}

#[test]
fn the_list_s_summary_has_the_range_of_each_field() {
    with_kind(2, |kind| {
        let files = [
            &file("a", 5, Some("PE")),
            &file("b", -1, Some("CH")),
            &file("c", 7, None),
        ];
        let summaries = summaries(kind.fields, &files);
        assert_eq!(summaries[0].lower, Some((-1_i32).to_le_bytes().to_vec()));
        assert_eq!(summaries[0].upper, Some(7_i32.to_le_bytes().to_vec()));
        assert!(!summaries[0].contains_null && summaries[1].contains_null);
        assert_eq!(summaries[1].lower, Some(b"CH".to_vec()));
        assert_eq!(
            summaries[3],
            PartitionSummary {
                contains_null: true,
                ..Default::default()
            }
        );
    });
}
