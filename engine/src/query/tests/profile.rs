//! Rows of the operators of queries that run in different ways.

use super::*;
use streamctl_proto::profile::{OPERATORS_MAX, OperatorFigures};

/// Pushes each batch, reads the result to its end, and returns its rows and the figures.
async fn profiled(sql: &str, batches: Vec<RecordBatch>) -> (usize, Vec<OperatorFigures>) {
    let plan = plan(sql).unwrap();
    let lookups = BTreeMap::from([("c".to_owned(), countries())]);
    let OpenQuery {
        mut input,
        mut output,
        profile,
        ..
    } = plan.open(&lookups, LIMIT).await.unwrap();
    let columns = plan.source_columns();
    let push = async move {
        let mut blamed = vec![];
        for batch in batches {
            let batch = batch.project(columns).unwrap();
            input.push_good("s", batch, &mut blamed).await.unwrap();
        }
    };
    let drain = async {
        let mut rows = 0;
        while let Some(batch) = output.next().await.unwrap() {
            rows += batch.num_rows();
        }
        rows
    };
    let ((), rows) = futures::future::join(push, drain).await;
    (rows, profile.operators())
}

fn rows_of(operators: &[OperatorFigures], name: &str) -> u64 {
    let found = operators.iter().find(|one| one.name == name);
    found
        .and_then(|one| one.rows)
        .unwrap_or_else(|| panic!("no rows of {name} in {operators:#?}"))
}

const JOIN: &str = r#"SELECT s.uuid, CAST(s.uuid AS INT) AS n, c."Code" FROM source s JOIN c ON s.country = c."CountryName""#;

#[tokio::test]
async fn rows_of_many_runs_are_counted_also_after_the_plan_began_anew() {
    let pushes = 2_500;
    let (rows, operators) = profiled(JOIN, vec![sales(); pushes]).await;
    // Namibia once and France twice, of five records.
    assert_eq!(rows, 3 * pushes);
    assert_eq!(rows_of(&operators, "Source"), 5 * pushes as u64);
    assert_eq!(rows_of(&operators, "UnmatchedExec"), 3 * pushes as u64);
    assert_eq!(operators[0].rows, Some(rows as u64), "{operators:#?}");
    assert_eq!(
        rows_of(&operators, "Lookup"),
        2 * countries().num_rows() as u64,
        "it was collected twice"
    );
    let join = operators.iter().find(|one| one.name == "HashJoinExec");
    let join = join.unwrap();
    assert!(join.compute_us.is_some_and(|us| us > 0), "{join:?}");
    assert!(join.detail.contains("on=["), "{join:?}");
    let is_tree = operators
        .windows(2)
        .all(|pair| pair[1].depth <= pair[0].depth + 1);
    assert!(is_tree && operators[0].depth == 0, "{operators:#?}");
}

#[tokio::test]
async fn rows_that_are_computed_again_are_counted_again() {
    let bad = batch(&[
        ("uuid", &[Some("1"), Some("x"), Some("3"), Some("4")]),
        ("country", &[Some("Namibia"); 4]),
        ("region", &[None; 4]),
    ]);
    let (rows, operators) = profiled(JOIN, vec![bad]).await;
    assert_eq!(rows, 3);
    let read = rows_of(&operators, "Source");
    assert!(read > 4, "halves are computed again: {operators:#?}");
}

#[tokio::test]
async fn the_operators_above_those_that_run_on_each_batch_are_there_too() {
    let sql = "SELECT country, sum(CAST(uuid AS INT)) AS n FROM source GROUP BY country";
    let (rows, operators) = profiled(sql, vec![sales(), sales()]).await;
    assert_eq!(rows, 4);
    assert_eq!(rows_of(&operators, "AggregateExec"), 4);
    assert_eq!(rows_of(&operators, "Source"), 10);
    let source = operators.iter().filter(|one| one.name == "Source").count();
    assert_eq!(source, 1, "{operators:#?}");
    assert!(operators.len() <= OPERATORS_MAX);
}

#[tokio::test]
async fn a_query_that_keeps_its_rows_is_measured_as_well() {
    let sql = "SELECT uuid FROM source ORDER BY uuid LIMIT 2";
    let (rows, operators) = profiled(sql, vec![sales(), sales()]).await;
    assert_eq!((rows, operators[0].rows), (2, Some(2)), "{operators:#?}");
    assert_eq!(rows_of(&operators, "Source"), 10);
}
