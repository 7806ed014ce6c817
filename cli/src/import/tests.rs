//! Whole imports: the job file is correct, its query can be planned, and what is lost is told.

use super::write::{Written, job_file};
use super::{nodes, script};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::catalog::arrow_schema;
use streamctl_engine::query::QueryPlan;
use streamctl_proto::JobSpec;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{SchemaFrom, StartingPosition};

const WORKSHOP: &str = include_str!("testdata/workshop.py");
const STUDIO: &str = include_str!("testdata/studio.py");
const GET_JOB: &str = include_str!("testdata/get-job.json");
const SALES: [&str; 14] = [
    "uuid",
    "country",
    "itemtype",
    "saleschannel",
    "orderpriority",
    "orderdate",
    "region",
    "shipdate",
    "unitssold",
    "unitprice",
    "unitcost",
    "totalrevenue",
    "totalcost",
    "totalprofit",
];

fn script(text: &str) -> Result<Written, String> {
    let args = BTreeMap::from([("s3_bucket".to_owned(), "my-bucket".to_owned())]);
    job_file(script::read(text, &args)?, "the job", None)
}

/// The names of the result, planned as at a submit.
fn planned(spec: &JobSpec) -> Vec<String> {
    let text = |name: &str| ColumnType { name: name.to_owned(), type_name: "string".to_owned() };
    let columns = match &spec.source.schema {
        SchemaFrom::Inline(columns) => columns.clone(),
        _ => SALES.map(text).to_vec(),
    };
    let lookup = arrow_schema(&[text("x")]).unwrap();
    let fields = ["CountryName", "Code"].map(|name| lookup.field(0).clone().with_name(name));
    let lookup = Arc::new(arrow::datatypes::Schema::new(fields.to_vec()));
    let lookups = spec.lookups.iter().map(|table| (table.name.clone(), Arc::clone(&lookup))).collect();
    let plan = QueryPlan::new(arrow_schema(&columns).unwrap(), lookups, &spec.sql);
    let plan = plan.unwrap_or_else(|error| panic!("{error}\n{}", spec.sql));
    plan.output_schema().fields().iter().map(|field| field.name().clone()).collect()
}

fn notes(written: &Written) -> String {
    let line = |note: &super::flow::Note| format!("{}: {}\n", note.place.as_deref().unwrap_or("job"), note.text);
    written.notes.iter().map(line).collect()
}

#[test]
fn the_workshop_s_script_becomes_the_model_job() {
    let written = script(WORKSHOP).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    let SchemaFrom::Catalog { database, table, .. } = &spec.source.schema else { panic!("{}", written.toml) };
    assert_eq!((database.as_str(), table.as_str()), ("glueworkshop_cloudformation", "json-streaming-table"));
    assert_eq!(spec.source.starting_position, StartingPosition::TrimHorizon);
    assert_eq!((spec.window.ms(), spec.retries_max), (60_000, 5));
    assert_eq!(spec.lookups[0].path.as_str(), "s3://my-bucket/input/lab4/country_lookup/");
    assert_eq!(
        planned(&spec),
        ["uuid", "itemtype", "saleschannel", "orderpriority", "orderdate", "region", "shipdate", "unitssold", "Code"]
    );
    assert!(!spec.sink.path.overlaps(&spec.checkpoint), "{}", written.toml);
    let notes = notes(&written);
    assert!(notes.contains("named after the time of the run"), "{notes}");
    assert!(notes.contains("Glue's checkpoint is not read"), "{notes}");
}

#[test]
fn glue_studio_s_script_keeps_its_filter_its_sql_and_its_folders() {
    let written = script(STUDIO).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!(planned(&spec), ["kind", "amount"]);
    assert!(spec.sql.contains("(amount >= 1.5 AND NOT (kind = 'it''s a test'))"), "{}", spec.sql);
    assert_eq!(spec.sink.path.as_str(), "s3://my-bucket/orders/");
    assert_eq!(spec.sink.partition_by.len(), 3, "{:?}", spec.sink.partition_by);
    assert_eq!(spec.window.ms(), 100_000);
    let notes = notes(&written);
    assert!(notes.contains("line 51: `process_rows` is not carried over"), "{notes}");
    assert!(notes.contains("no table is made or updated in the catalog"), "{notes}");
    assert!(notes.contains("--set TempDir=VALUE"), "{notes}");
}

#[test]
fn the_nodes_of_a_visual_job_become_a_job_file() {
    let job = nodes::parse_get_job(GET_JOB).unwrap();
    assert_eq!(job.args["TempDir"], "s3://my-bucket/temp/");
    let written = job_file(nodes::read(&job), &job.name, None).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!((spec.name.as_str(), spec.window.ms()), ("sales-nightly", 60_000));
    assert_eq!(planned(&spec), ["uuid", "units", "Code"]);
    assert_eq!(spec.sink.extension(streamctl_proto::report::ObjectKind::Data), "json.gz");
    let notes = notes(&written);
    assert!(notes.contains("Hide names: a node of kind PIIDetection is not carried over"), "{notes}");
}

#[test]
fn what_a_hostile_script_holds_is_text_and_stays_text() {
    let sql = WORKSHOP
        .replace("\"unitprice\", \"string\", \"unitprice\"", "\"a\\\"; DROP TABLE x\", \"string\", \"x'''\\n[sink]\"");
    let written = script(&sql).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!(spec.sink.path.as_str().split('/').next_back(), Some(""));
    assert!(spec.sql.contains("\"a\"\"; drop table x\""), "{}", spec.sql);
    let bad = WORKSHOP.replace("/input/lab4/", "/../../\\n\\\"]\\n[source]\\ntype=1/");
    JobSpec::parse(&script(&bad).unwrap().toml).unwrap();
    for (from, to) in
        [("60 seconds", "-1\\\"\\n"), ("TRIM_HORIZON", "x\\\"\\ny"), ("json-streaming-table", "a\\\"}\\n")]
    {
        JobSpec::parse(&script(&WORKSHOP.replace(from, to)).unwrap().toml).unwrap();
    }
}

#[test]
fn no_part_of_a_script_breaks_the_import() {
    for (text, step) in [(WORKSHOP, 41), (STUDIO, 53)] {
        for end in (0..text.len()).step_by(step).filter(|end| text.is_char_boundary(*end)) {
            for part in [&text[..end], &text[end..]] {
                if let Ok(written) = script(part) {
                    JobSpec::parse(&written.toml).unwrap();
                }
            }
        }
    }
    for odd in
        [r#"{"Job": {}}"#, r#"{"Job": {"CodeGenConfigurationNodes": {"a": {"Join": {"Inputs": ["a"]}}, "b": 1}}}"#]
    {
        let job = nodes::parse_get_job(odd).unwrap();
        assert!(job_file(nodes::read(&job), &job.name, None).is_err());
    }
    for bad in ["", "[]", "{}", "{\"Job\": 1}"] {
        assert!(nodes::parse_get_job(bad).is_err(), "{bad}");
    }
}

#[test]
fn without_any_columns_the_table_is_asked_for() {
    let bare = STUDIO.replace("ApplyMapping.apply", "Unknown.apply");
    let error = script(&bare).unwrap_err();
    assert!(error.contains("--catalog DATABASE.TABLE"), "{error}");
    let args = BTreeMap::new();
    let table = Some(("d".to_owned(), "t".to_owned()));
    let written = job_file(script::read(&bare, &args).unwrap(), "x", table).unwrap();
    assert!(written.toml.contains("catalog = { database = \"d\", table = \"t\" }"), "{}", written.toml);
}
