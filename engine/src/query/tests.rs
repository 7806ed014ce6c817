//! The query as its callers see it.

use super::*;
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

const LIMIT: usize = 64 << 20;

fn schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

fn batch(columns: &[(&str, &[Option<&str>])]) -> RecordBatch {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.to_vec())) as ArrayRef).collect();
    RecordBatch::try_new(schema(&names), arrays).unwrap()
}

fn countries() -> RecordBatch {
    batch(&[
        ("CountryName", &[Some("Namibia"), Some("France"), Some("France"), None]),
        ("Code", &[Some("NA"), Some("FR"), Some("FX"), Some("??")]),
    ])
}

fn plan(sql: &str) -> Result<QueryPlan, QueryError> {
    QueryPlan::new(schema(&["uuid", "country", "region"]), vec![("c".into(), countries().schema())], sql)
}

async fn run(plan: &QueryPlan, batches: Vec<RecordBatch>) -> (Vec<String>, UnmatchedCounter) {
    let lookups = BTreeMap::from([("c".to_owned(), countries())]);
    let OpenQuery { input, mut output, unmatched } = plan.open(&lookups, LIMIT).await.unwrap();
    for batch in batches {
        let batch = batch.project(plan.source_columns()).unwrap();
        input.push(batch).await.unwrap();
    }
    input.close();
    let mut rows = Vec::new();
    while let Some(batch) = output.next().await.unwrap() {
        let text = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
        let lines = text.lines().skip(3).filter(|line| line.starts_with('|'));
        rows.extend(lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|")));
    }
    rows.sort();
    (rows, unmatched)
}

fn sales() -> RecordBatch {
    batch(&[
        ("uuid", &[Some("1"), Some("2"), Some("3"), Some("4"), Some("5")]),
        ("country", &[Some("Namibia"), Some("Russia"), Some("France"), None, Some("Russia")]),
        ("region", &[Some("a"), Some("b"), Some("a"), Some("b"), Some("a")]),
    ])
}

#[tokio::test]
async fn an_inner_join_gives_its_rows_and_counts_those_it_drops() {
    let plan =
        plan(r#"SELECT s.uuid, c."Code" AS country_code FROM source s JOIN c ON s.country = c."CountryName""#).unwrap();
    assert!(!plan.whole_window());
    assert_eq!(plan.source_columns(), [0, 1]);
    let (rows, unmatched) = run(&plan, vec![sales()]).await;
    assert_eq!(rows, ["|1|NA|", "|3|FR|", "|3|FX|"]);
    assert_eq!(unmatched.rows(), 3);
    let top: Vec<(String, u64)> = unmatched.top().into_iter().map(|key| (key.key, key.rows)).collect();
    assert_eq!(top, [("Russia".into(), 2), ("NULL".into(), 1)]);
    assert_eq!(unmatched.top()[0].lookup, "c");
}
