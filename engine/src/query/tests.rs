//! The query from the callers' point of view.

mod nested;
mod profile;

use super::*;
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

const LIMIT: usize = 64 << 20;

fn schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|name| Field::new(*name, DataType::Utf8, true))
            .collect::<Vec<_>>(),
    ))
}

fn batch(columns: &[(&str, &[Option<&str>])]) -> RecordBatch {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let arrays = columns
        .iter()
        .map(|(_, values)| Arc::new(StringArray::from(values.to_vec())) as ArrayRef)
        .collect();
    RecordBatch::try_new(schema(&names), arrays).unwrap()
}

pub(super) fn countries() -> RecordBatch {
    batch(&[
        (
            "CountryName",
            &[Some("Namibia"), Some("France"), Some("France"), None],
        ),
        ("Code", &[Some("NA"), Some("FR"), Some("FX"), Some("??")]),
    ])
}

fn plan(sql: &str) -> Result<QueryPlan, QueryError> {
    QueryPlan::blocking(
        schema(&["uuid", "country", "region"]),
        vec![("c".into(), countries().schema())],
        sql,
    )
}

/// One row for a plan over the columns of `words::tests::typed()`.
pub(super) fn batch_of(plan: &QueryPlan, text: &str, number: i64) -> RecordBatch {
    let column = |field: &Arc<Field>| super::bounded::column(field.data_type(), text, number);
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1));
    let columns = plan.input_schema().fields().iter().map(column).collect();
    RecordBatch::try_new_with_options(plan.input_schema().clone(), columns, &options).unwrap()
}

/// The result's first column as text, in row order.
pub(super) async fn rows_of(
    plan: &QueryPlan,
    batch: RecordBatch,
) -> Result<Vec<String>, QueryError> {
    let OpenQuery {
        mut input,
        mut output,
        ..
    } = plan
        .open(&BTreeMap::from([("c".to_owned(), countries())]), 1 << 30)
        .await?;
    let pushed = async move { input.push("s", batch).await.map(drop) };
    let drained = async move {
        let mut rows = vec![];
        while let Some(batch) = output.next().await? {
            let options = arrow::util::display::FormatOptions::default();
            let column =
                arrow::util::display::ArrayFormatter::try_new(batch.column(0), &options).unwrap();
            rows.extend((0..batch.num_rows()).map(|row| column.value(row).to_string()));
        }
        Ok(rows)
    };
    let ((), rows) = futures::future::try_join(pushed, drained).await?;
    Ok(rows)
}

async fn run(plan: &QueryPlan, batches: Vec<RecordBatch>) -> (Vec<String>, UnmatchedCounter) {
    let lookups = BTreeMap::from([("c".to_owned(), countries())]);
    let OpenQuery {
        mut input,
        mut output,
        unmatched,
        ..
    } = plan.open(&lookups, LIMIT).await.unwrap();
    for batch in batches {
        let batch = batch.project(plan.source_columns()).unwrap();
        input.push("s", batch).await.unwrap();
    }
    input.close();
    let mut rows = Vec::new();
    while let Some(batch) = output.next().await.unwrap() {
        let text = arrow::util::pretty::pretty_format_batches(&[batch])
            .unwrap()
            .to_string();
        let lines = text.lines().skip(3).filter(|line| line.starts_with('|'));
        rows.extend(lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|")));
    }
    rows.sort();
    (rows, unmatched)
}

fn sales() -> RecordBatch {
    batch(&[
        (
            "uuid",
            &[Some("1"), Some("2"), Some("3"), Some("4"), Some("5")],
        ),
        (
            "country",
            &[
                Some("Namibia"),
                Some("Russia"),
                Some("France"),
                None,
                Some("Russia"),
            ],
        ),
        (
            "region",
            &[Some("a"), Some("b"), Some("a"), Some("b"), Some("a")],
        ),
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
    let top: Vec<(String, u64)> = unmatched
        .top()
        .into_iter()
        .map(|key| (key.key, key.rows))
        .collect();
    assert_eq!(top, [("Russia".into(), 2), ("NULL".into(), 1)]);
    assert_eq!(unmatched.top()[0].lookup, "c");
}

const TWO: &str = r#"JOIN c ON s.country = c."CountryName""#;

#[test]
fn row_wise_queries_may_be_written_while_the_window_is_open() {
    for sql in [
        "SELECT uuid FROM source",
        "SELECT upper(uuid) AS u FROM (SELECT * FROM source WHERE region <> 'x') t",
        "WITH t AS (SELECT uuid, country FROM source) SELECT * FROM t WHERE uuid LIKE '1%'",
        &format!("SELECT s.uuid FROM source s {TWO}"),
        &format!("SELECT s.uuid FROM source s LEFT {TWO}"),
        r#"SELECT s.uuid FROM c RIGHT JOIN source s ON s.country = c."CountryName""#,
        r#"SELECT s.uuid FROM c JOIN source s ON s.country = c."CountryName""#,
        r#"SELECT s.uuid FROM source s, c WHERE s.country = c."CountryName""#,
        r#"SELECT s.uuid FROM source s CROSS JOIN c"#,
        r#"SELECT s.uuid FROM source s JOIN c ON s.country < c."CountryName""#,
        r#"SELECT uuid FROM source WHERE country IN (SELECT "CountryName" FROM c)"#,
        r#"SELECT uuid FROM source WHERE country NOT IN (SELECT "CountryName" FROM c)"#,
        r#"SELECT uuid FROM source s WHERE NOT EXISTS (SELECT 1 FROM c WHERE c."CountryName" = s.country)"#,
        r#"SELECT uuid, (SELECT count(*) FROM c) AS n FROM source"#,
        r#"SELECT s.uuid, m.code FROM source s JOIN (SELECT "CountryName" AS n, max("Code") AS code FROM c GROUP BY 1) m ON m.n = s.country"#,
    ] {
        let plan = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(
            !plan.whole_window(),
            "{sql}\n{}",
            plan.plan.display_indent()
        );
    }
}

#[test]
fn queries_over_rows_together_need_the_whole_window() {
    for sql in [
        "SELECT count(*) AS n FROM source",
        "SELECT DISTINCT region FROM source",
        "SELECT uuid FROM source ORDER BY uuid",
        "SELECT uuid FROM source LIMIT 3",
        "SELECT uuid, row_number() OVER (PARTITION BY region ORDER BY uuid) AS n FROM source",
        r#"SELECT s.uuid, c."Code" FROM source s FULL JOIN c ON s.country = c."CountryName""#,
        r#"SELECT s.uuid, c."Code" FROM source s RIGHT JOIN c ON s.country = c."CountryName""#,
        r#"SELECT s.uuid, c."Code" FROM c LEFT JOIN source s ON s.country = c."CountryName""#,
        r#"SELECT c."Code" FROM c WHERE c."CountryName" IN (SELECT country FROM source)"#,
        "SELECT uuid FROM source UNION ALL SELECT region FROM source",
        r#"SELECT uuid FROM source UNION ALL SELECT "Code" FROM c"#,
        r#"SELECT country FROM source EXCEPT SELECT "CountryName" FROM c"#,
        "SELECT a.uuid FROM source a JOIN source b ON a.country = b.country",
        "SELECT uuid FROM source WHERE uuid > (SELECT min(uuid) FROM source)",
        r#"SELECT "Code" FROM c WHERE "Code" > (SELECT max(uuid) FROM source)"#,
        r#"SELECT s.uuid FROM (SELECT * FROM source LIMIT 5) s JOIN c ON s.country = c."CountryName""#,
    ] {
        let plan = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(plan.whole_window(), "{sql}\n{}", plan.plan.display_indent());
    }
}

#[test]
fn what_is_not_one_select_over_the_tables_is_refused_with_a_hint() {
    for (sql, message, hint) in [
        (
            "SELECT contry FROM source",
            "there is no column \"contry\"",
            "did you mean country?",
        ),
        (
            "SELECT s.Cuntry FROM source s",
            "there is no column \"cuntry\" in s",
            "did you mean country?",
        ),
        (
            "SELECT s.nothing FROM source s",
            "there is no column \"nothing\" in s",
            "the columns are: uuid, country, region",
        ),
        (
            &format!("SELECT c.Code FROM source s {TWO}"),
            "there is no column \"code\" in c",
            "did you mean \"Code\"? Names with capitals are written in double quotes",
        ),
        (
            "SELECT * FROM sorce",
            "there is no table sorce",
            "did you mean source?",
        ),
        (
            "SELECT * FROM 'x.csv'",
            "there is no table",
            "the tables are: source, c",
        ),
        (
            "SELECT * FROM other.source",
            "there is no table other.source",
            "did you mean source?",
        ),
        (
            "SELECT \"Code\" FROM c",
            "the query does not read the stream",
            "select FROM source",
        ),
        (
            "SELECT 1",
            "the query does not read the stream",
            "select FROM source",
        ),
        (
            "SELECT uuid FROM source; SELECT 1 FROM source",
            "exactly one statement",
            "write one SELECT",
        ),
        ("", "exactly one statement", "write one SELECT"),
        (
            "CREATE TABLE t AS SELECT * FROM source",
            "must be a SELECT",
            "write one SELECT",
        ),
        (
            "INSERT INTO c SELECT uuid, uuid FROM source",
            "must be a SELECT",
            "write one SELECT",
        ),
        (
            "COPY source TO 'x.csv'",
            "must be a SELECT",
            "write one SELECT",
        ),
        (
            "EXPLAIN SELECT * FROM source",
            "must be a SELECT",
            "write one SELECT",
        ),
        (
            "SELECT s.uuid, t.uuid FROM source s JOIN source t ON s.uuid = t.uuid",
            "two columns named \"uuid\"",
            "rename one",
        ),
        (
            "SELECT uuid, uuid AS \"UUID\" FROM source",
            "two columns named \"UUID\"",
            "rename one",
        ),
        (
            "SELECT uuid, NULL AS x FROM source",
            "\"x\" of the result has no type",
            "CAST(NULL AS VARCHAR) AS x",
        ),
        (
            "SELECT uuid, now() AS t FROM source",
            "now() answers differently",
            "ingest_year",
        ),
        (
            "SELECT uuid FROM source WHERE random() < 0.1",
            "random() answers differently",
            "ingest_year",
        ),
        (
            "SELECT date_format(CAST(uuid AS TIMESTAMP), 'yyyy-MM-dd HH:mm') AS day FROM source",
            "date_format(x, 'yyyy-MM-dd HH:mm') writes letters of the pattern into every row",
            "write '%Y-%m-%d %H:%M'",
        ),
        (
            "SELECT uuid FROM source WHERE uuid > ALL (SELECT uuid FROM source)",
            "ALL (SELECT ...)",
            "NOT EXISTS",
        ),
        (
            "SELECT uuid FROM source WHERE uuid = SOME (SELECT uuid FROM source)",
            "ANY (SELECT ...)",
            "write x IN",
        ),
        (
            "SELECT uuid FROM source EXCEPT ALL SELECT region FROM source",
            "EXCEPT ALL",
            "row_number()",
        ),
        (
            "SELECT uuid FROM source INTERSECT ALL SELECT region FROM source",
            "INTERSECT ALL",
            "row_number()",
        ),
        (
            "SELECT to_char(CAST(uuid AS DATE), 'ww') AS week FROM source",
            "writes letters of the pattern",
            "as strftime does",
        ),
        (
            "SELECT date_format(CAST(uuid AS DATE), concat('%Y-', 'MM')) AS month FROM source",
            "date_format(x, '%Y-MM') writes letters",
            "strftime",
        ),
        (
            "SELECT date_format(CAST(uuid AS DATE), 'yyyy' || '-' || lower('MM')) AS month FROM source",
            "date_format(x, 'yyyy-mm') writes letters",
            "write '%Y-%M'",
        ),
        (
            "SELECT uuid, date_format(DATE '2020-01-02', 'yy' || 'yy') AS year FROM source",
            "'yyyy'",
            "write '%Y'",
        ),
        (
            "SELECT to_char(CAST(uuid AS DATE), p) AS r FROM (SELECT uuid, concat('MM', '-dd') AS p FROM source)",
            "date_format(x, 'MM-dd') writes letters",
            "write '%m-%d'",
        ),
    ] {
        let problem = plan(sql).expect_err(sql).problem();
        assert_eq!(problem.field, "transform.sql");
        assert!(problem.message.contains(message), "{sql}: {problem}");
        assert!(
            problem.hint.as_deref().unwrap_or_default().contains(hint),
            "{sql}: {problem}"
        );
    }
    assert!(matches!(
        plan("SELECT uuid + INTERVAL '1 day' FROM source"),
        Err(QueryError::Sql { .. })
    ));
    assert!(plan("SELECT * FROM generate_series(1, 3), source").is_err());
}

#[test]
fn only_the_columns_that_are_needed_are_read() {
    let columns = |sql: &str| plan(sql).unwrap().source_columns().to_vec();
    assert_eq!(
        columns("SELECT region FROM source WHERE uuid = '1'"),
        [0, 2]
    );
    assert_eq!(
        columns("SELECT Region FROM source UNION ALL SELECT country FROM source"),
        [1, 2]
    );
    assert_eq!(columns("SELECT count(*) AS n FROM source"), [0usize; 0]);
    assert_eq!(
        plan("SELECT count(*) AS n FROM source")
            .unwrap()
            .input_schema()
            .fields()
            .len(),
        0
    );
    let output = plan("SELECT uuid, substr(region, 1, 1) AS r FROM source").unwrap();
    assert!(
        output
            .output_schema()
            .fields()
            .iter()
            .all(|field| field.data_type() == &DataType::Utf8)
    );
}

/// Checks the notes that `spark.rs` gives to users. The row has `ts` 1970-01-01, a Thursday.
#[tokio::test]
async fn what_the_notes_on_spark_state_of_this_engine_is_so() {
    for (expression, expected) in [
        ("log(100.0)", "2.0"),
        ("round(ln(100.0), 3)", "4.605"),
        ("extract(dow FROM ts)", "4"),
        ("date_part('dow', ts) + 1", "5"),
        (
            "extract(second FROM ts + INTERVAL '1500 milliseconds')",
            "1",
        ),
        (
            "date_part('microsecond', ts + INTERVAL '1500 milliseconds') / 1000000.0",
            "1.5",
        ),
        ("initcap('o''neil-smith and SONS')", "O'Neil-Smith And Sons"),
        ("CAST(ts + INTERVAL '5 seconds' AS BIGINT)", "5000"),
        ("to_unixtime(ts + INTERVAL '5 seconds')", "5"),
        (
            "date_part('epoch', ts + INTERVAL '1500 milliseconds')",
            "1.5",
        ),
        // As in Spark, so there is no note.
        (
            "CAST(CAST(5 + n AS TIMESTAMP) AS VARCHAR)",
            "1970-01-01T00:00:05",
        ),
    ] {
        let plan = super::words::tests::typed(&format!("SELECT {expression} AS r FROM source"));
        let plan = plan.unwrap_or_else(|error| panic!("{expression}: {error}"));
        let rows = rows_of(&plan, batch_of(&plan, "x", 0)).await.unwrap();
        assert_eq!(rows, [expected], "{expression}");
    }
}

fn many(rows: usize, seed: usize) -> RecordBatch {
    let text = |value: usize| Some(value.to_string());
    let arrays = vec![
        Arc::new(
            (0..rows)
                .map(|row| text(seed * rows + row))
                .collect::<StringArray>(),
        ) as ArrayRef,
        Arc::new((0..rows).map(|_| Some("France")).collect::<StringArray>()) as ArrayRef,
        Arc::new((0..rows).map(|row| text(row % 7)).collect::<StringArray>()) as ArrayRef,
    ];
    RecordBatch::try_new(schema(&["uuid", "country", "region"]), arrays).unwrap()
}

#[tokio::test]
async fn rows_come_out_while_the_window_is_open() {
    for sql in [
        "SELECT uuid, country, region FROM source".to_owned(),
        format!("SELECT s.uuid, s.country, s.region FROM source s {TWO} WHERE s.region <> '9'"),
        format!("SELECT s.uuid, s.country, s.region FROM source s LEFT {TWO}"),
    ] {
        let lookups = BTreeMap::from([("c".to_owned(), countries())]);
        let mut open = plan(&sql).unwrap().open(&lookups, LIMIT).await.unwrap();
        for seed in 0..2 {
            assert_eq!(
                open.input.push("s", many(BATCH_ROWS, seed)).await.unwrap(),
                Pushed::Taken
            );
        }
        let first = open
            .output
            .next()
            .await
            .unwrap()
            .expect("the input is still open");
        assert!(first.num_rows() > 0, "{sql}");
        open.input.close();
        while open.output.next().await.unwrap().is_some() {}
    }
}

#[tokio::test]
async fn the_stream_is_never_collected_by_a_join() {
    let sql = format!("SELECT s.uuid, s.region, c.\"Code\" FROM source s {TWO}");
    let plan = plan(&sql).unwrap();
    let lookups = BTreeMap::from([("c".to_owned(), countries())]);
    let OpenQuery {
        mut input,
        mut output,
        ..
    } = plan.open(&lookups, 1 << 20).await.unwrap();
    let pusher = tokio::spawn(async move {
        for seed in 0..50 {
            assert_eq!(
                input.push("s", many(BATCH_ROWS, seed)).await.unwrap(),
                Pushed::Taken
            );
        }
    });
    let mut rows = 0;
    while let Some(batch) = output.next().await.unwrap() {
        rows += batch.num_rows();
    }
    pusher.await.unwrap();
    assert_eq!(rows, 50 * BATCH_ROWS * 2);
}

#[tokio::test]
async fn memory_is_bounded_and_the_error_names_the_limit() {
    for sql in [
        "SELECT uuid, country, region FROM source ORDER BY uuid",
        "SELECT uuid FROM source UNION ALL SELECT region FROM source",
    ] {
        let plan = plan(sql).unwrap();
        let OpenQuery {
            mut input,
            mut output,
            ..
        } = plan
            .open(&BTreeMap::from([("c".to_owned(), countries())]), 300_000)
            .await
            .unwrap();
        let columns = plan.source_columns().to_vec();
        let pusher = tokio::spawn(async move {
            for seed in 0..50 {
                input
                    .push("s", many(BATCH_ROWS, seed).project(&columns).unwrap())
                    .await
                    .unwrap();
            }
        });
        let error = loop {
            match output.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{sql}: no error"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(
                error,
                QueryError::Memory {
                    limit_bytes: 300_000,
                    ..
                }
            ),
            "{sql}: {error}"
        );
        assert!(error.to_string().contains("300000"), "{error}");
        pusher.await.unwrap();
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_cast_fails_the_epoch() {
    let plan = plan("SELECT CAST(uuid AS BIGINT) / (CAST(region AS BIGINT) - 3) AS n FROM source")
        .unwrap();
    for (region, word) in [("three", "three"), ("3", "zero")] {
        let mut open = plan
            .open(&BTreeMap::from([("c".to_owned(), countries())]), LIMIT)
            .await
            .unwrap();
        let rows = batch(&[("uuid", &[Some("1")]), ("region", &[Some(region)])]);
        let error = open.input.push("s", rows).await.unwrap_err();
        assert!(
            matches!(error, QueryError::Rows(_)) && error.to_string().contains(word),
            "{error}"
        );
        assert!(!error.to_string().contains("rror: "), "{error}");
    }
}

#[tokio::test]
async fn a_query_whose_output_is_gone_needs_no_more_rows() {
    let plan = plan("SELECT CAST(uuid AS BIGINT) AS n FROM source").unwrap();
    let OpenQuery {
        mut input, output, ..
    } = plan
        .open(&BTreeMap::from([("c".to_owned(), countries())]), LIMIT)
        .await
        .unwrap();
    let rows = batch(&[("uuid", &[Some("1")])]);
    assert_eq!(input.push("s", rows.clone()).await.unwrap(), Pushed::Taken);
    drop(output);
    assert_eq!(input.push("s", rows).await.unwrap(), Pushed::NotNeeded);
}

/// The rows of three shards; the seed determines their interleaving and the sizes of chunks.
async fn in_turns(plan: &QueryPlan, seed: u64) -> Vec<String> {
    let lookups = BTreeMap::from([("c".to_owned(), countries())]);
    let OpenQuery {
        mut input,
        mut output,
        ..
    } = plan.open(&lookups, LIMIT).await.unwrap();
    let columns = plan.source_columns().to_vec();
    let pusher = tokio::spawn(async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut left: Vec<(String, RecordBatch)> = (0..3)
            .map(|shard| {
                (
                    format!("shard-{shard}"),
                    many(1_500, shard).project(&columns).unwrap(),
                )
            })
            .collect();
        while !left.is_empty() {
            let turn = rng.usize(0..left.len());
            let (shard, rows) = &mut left[turn];
            let taken = rng.usize(1..=700).min(rows.num_rows());
            input.push(shard, rows.slice(0, taken)).await.unwrap();
            *rows = rows.slice(taken, rows.num_rows() - taken);
            left.retain(|(_, rows)| rows.num_rows() > 0);
        }
    });
    let mut rows = vec![];
    while let Some(batch) = output.next().await.unwrap() {
        let options = arrow::util::display::FormatOptions::default();
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        let row = |row| {
            columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        };
        rows.extend((0..batch.num_rows()).map(row));
    }
    pusher.await.unwrap();
    rows.sort();
    rows
}

#[tokio::test]
async fn the_turns_that_shards_take_make_no_difference() {
    for sql in [
        "SELECT country, first_value(uuid) AS a, last_value(uuid) AS b, nth_value(uuid, 3) AS c FROM source GROUP BY country",
        "SELECT country, first_value(uuid ORDER BY region) AS a FROM source GROUP BY country",
        "SELECT country, array_agg(uuid) AS a FROM source GROUP BY country",
        "SELECT string_agg(uuid, ',') AS a FROM source",
        "SELECT uuid, row_number() OVER () AS n FROM source",
        "SELECT uuid, row_number() OVER (PARTITION BY country ORDER BY region) AS n FROM source WHERE region <> '1'",
        "SELECT uuid, lag(uuid) OVER (ORDER BY region DESC) AS before FROM source",
        "SELECT uuid FROM source LIMIT 7",
        "SELECT uuid FROM source ORDER BY region LIMIT 100 OFFSET 3",
        "SELECT DISTINCT ON (country) country, uuid FROM source ORDER BY country, region",
        "SELECT uuid FROM source WHERE uuid IN (SELECT uuid FROM source LIMIT 5)",
        "SELECT approx_percentile_cont(CAST(region AS DOUBLE), 0.9) AS p FROM source",
    ] {
        let plan = plan(sql).unwrap();
        assert!(plan.whole_window() && plan.keeps_rows(), "{sql}");
        let once = in_turns(&plan, 0).await;
        assert!(!once.is_empty(), "{sql}");
        for seed in 1..8 {
            assert_eq!(in_turns(&plan, seed).await, once, "{sql}, seed {seed}");
        }
    }
}

#[test]
fn rows_are_kept_only_where_their_order_matters() {
    for sql in [
        "SELECT uuid, country FROM source",
        "SELECT country, count(*) AS n, sum(CAST(region AS BIGINT)) AS s, avg(CAST(region AS DOUBLE)) AS a FROM source GROUP BY country",
        "SELECT min(uuid) AS a, max(uuid) AS b, count(DISTINCT region) AS c, median(CAST(region AS DOUBLE)) AS d FROM source",
        "SELECT DISTINCT country FROM source",
        "SELECT uuid FROM source ORDER BY uuid",
    ] {
        assert!(!plan(sql).unwrap().keeps_rows(), "{sql}");
    }
}

#[tokio::test]
async fn a_second_scan_of_the_source_reads_the_same_rows() {
    let sql = "SELECT a.uuid, b.uuid AS other FROM source a JOIN source b ON a.country = b.country AND a.uuid < b.uuid";
    let (rows, unmatched) = run(&plan(sql).unwrap(), vec![sales()]).await;
    assert_eq!((rows, unmatched.rows()), (vec!["|2|5|".to_owned()], 0));
    let union =
        plan("SELECT uuid FROM source WHERE region = 'a' UNION ALL SELECT country FROM source WHERE uuid = '3'")
            .unwrap();
    assert_eq!(
        run(&union, vec![sales()]).await.0,
        ["|1|", "|3|", "|5|", "|France|"]
    );
    let count = plan("SELECT count(*) AS n FROM source").unwrap();
    assert_eq!(run(&count, vec![sales(), sales()]).await.0, ["|10|"]);
    assert_eq!(run(&count, vec![]).await.0, ["|0|"]);
}

#[tokio::test]
async fn a_kept_row_without_a_partner_is_counted_too() {
    let sql = format!("SELECT s.uuid, c.\"Code\" FROM source s LEFT {TWO} AND c.\"Code\" <> 'FX'");
    let (rows, unmatched) = run(&plan(&sql).unwrap(), vec![sales()]).await;
    assert_eq!(rows, ["|1|NA|", "|2||", "|3|FR|", "|4||", "|5||"]);
    assert_eq!(unmatched.rows(), 3);
}

#[tokio::test]
async fn a_condition_on_both_sides_decides_who_is_a_partner() {
    let sql = format!("SELECT s.uuid, c.\"Code\" FROM source s {TWO} AND c.\"Code\" < s.region");
    let rows = batch(&[
        ("uuid", &[Some("1"), Some("2")]),
        ("country", &[Some("France"), Some("France")]),
        ("region", &[Some("FS"), Some("AA")]),
    ]);
    let (rows, unmatched) = run(&plan(&sql).unwrap(), vec![rows]).await;
    assert_eq!(rows, ["|1|FR|"]);
    assert_eq!(
        unmatched.top(),
        [streamctl_proto::report::UnmatchedKey {
            lookup: "c".into(),
            key: "France".into(),
            rows: 1
        }]
    );
}

#[tokio::test]
async fn only_a_limited_number_of_keys_are_counted_apart() {
    let rows = KEYS_TRACKED_MAX + 5;
    let keys: StringArray = (0..rows)
        .map(|row| Some(format!("{row}{}", "é".repeat(300))))
        .collect();
    let batch = RecordBatch::try_new(schema(&["country"]), vec![Arc::new(keys)]).unwrap();
    let plan = plan(&format!("SELECT s.country FROM source s {TWO}")).unwrap();
    let mut open = plan
        .open(&BTreeMap::from([("c".to_owned(), countries())]), LIMIT)
        .await
        .unwrap();
    open.input.push("s", batch).await.unwrap();
    open.input.close();
    assert!(open.output.next().await.unwrap().is_none());
    assert_eq!(
        (open.unmatched.rows(), open.unmatched.rows_untracked()),
        (rows as u64, 5)
    );
    let top = open.unmatched.top();
    assert_eq!(top.len(), streamctl_proto::report::UNMATCHED_KEYS_MAX);
    assert_eq!(top[0].key.chars().count(), KEY_CHARS_MAX);
}

#[tokio::test]
async fn a_lookup_that_lost_a_column_is_refused_and_one_that_gained_one_is_not() {
    let sql = format!("SELECT s.uuid, c.\"Code\" FROM source s {TWO}");
    let plan = plan(&sql).unwrap();
    let opened = async |rows: RecordBatch| {
        plan.open(&BTreeMap::from([("c".to_owned(), rows)]), LIMIT)
            .await
    };
    let lost = opened(batch(&[("CountryName", &[None]), ("Kode", &[None])]))
        .await
        .unwrap_err();
    assert_eq!(
        lost.to_string(),
        "lookup c: it has no column \"Code\", which the query reads; its columns are: CountryName, \
         Kode"
    );
    assert!(matches!(
        plan.open(&BTreeMap::new(), LIMIT).await,
        Err(QueryError::Lookup { .. })
    ));
    let gained = batch(&[
        ("Code", &[Some("RU")]),
        ("New", &[None]),
        ("CountryName", &[Some("Russia")]),
    ]);
    let mut open = opened(gained).await.unwrap();
    open.input
        .push("s", sales().project(&[0, 1]).unwrap())
        .await
        .unwrap();
    open.input.close();
    assert_eq!(open.output.next().await.unwrap().unwrap().num_rows(), 2);
}

#[tokio::test]
async fn a_batch_of_other_columns_is_refused() {
    let plan = plan("SELECT uuid FROM source").unwrap();
    let mut open = plan
        .open(&BTreeMap::from([("c".to_owned(), countries())]), LIMIT)
        .await
        .unwrap();
    assert!(matches!(
        open.input.push("s", many(1, 0)).await,
        Err(QueryError::Input(_))
    ));
}

/// Any text of a small alphabet, or null.
fn random_batch(names: &[&str], rows: usize, random: &mut fastrand::Rng) -> RecordBatch {
    let arrays = names.iter().map(|_| {
        let value =
            |_| (random.u8(0..6) > 0).then(|| char::from(b'a' + random.u8(0..6)).to_string());
        Arc::new((0..rows).map(value).collect::<StringArray>()) as ArrayRef
    });
    RecordBatch::try_new(schema(names), arrays.collect()).unwrap()
}

/// The result of plain DataFusion, and how many source rows it drops (`None`: not checked).
async fn oracle(
    sql: &str,
    source: &[RecordBatch],
    lookups: &BTreeMap<String, RecordBatch>,
) -> Vec<String> {
    let context = datafusion::prelude::SessionContext::new();
    let table =
        datafusion::datasource::MemTable::try_new(source[0].schema(), vec![source.to_vec()])
            .unwrap();
    context.register_table("source", Arc::new(table)).unwrap();
    for (name, rows) in lookups {
        context.register_batch(name, rows.clone()).unwrap();
    }
    lines(&context.sql(sql).await.unwrap().collect().await.unwrap())
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = arrow::util::pretty::pretty_format_batches(batches)
        .unwrap()
        .to_string();
    let rows = text.lines().skip(3).filter(|line| line.starts_with('|'));
    let mut rows: Vec<String> = rows
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn counting_changes_no_result_on_random_rows() {
    let queries = [
        "SELECT s.a, l.v FROM source s JOIN l ON s.a = l.k",
        "SELECT l.v, s.b FROM l JOIN source s ON s.a = l.k AND s.b = l.v",
        "SELECT s.a, l.v FROM source s JOIN l ON s.a = l.k AND s.b < l.v",
        "SELECT s.a, s.b, l.v, m.v AS w FROM source s JOIN l ON s.a = l.k JOIN m ON l.v = m.k",
        "SELECT s.b, l.v, m.v AS w FROM source s LEFT JOIN l ON s.a = l.k JOIN m ON s.b = m.k WHERE s.a <> 'b'",
        "SELECT s.a, m.k FROM (l JOIN m ON l.k = m.k) JOIN source s ON s.a = l.v",
        "SELECT s.a, l.k FROM source s JOIN l ON coalesce(s.a, 'z') = coalesce(l.k, 'z')",
        "SELECT s.a, l.k, l.v FROM source s JOIN l ON s.a IS NOT DISTINCT FROM l.k",
        "SELECT s.a, l.v FROM source s JOIN l ON s.a = l.k WHERE l.v > 'b' OR s.b > 'c'",
        "SELECT s.a, l.v FROM l RIGHT JOIN source s ON s.a = l.k AND l.v <> 'a'",
        "SELECT l.k, count(*) AS n, min(s.b) AS b FROM source s JOIN l ON s.a = l.k GROUP BY l.k",
        "SELECT s.a FROM source s JOIN l ON s.a = l.k WHERE EXISTS (SELECT 1 FROM m WHERE m.k = s.b)",
        "SELECT s.a, s.b FROM source s WHERE s.a NOT IN (SELECT k FROM l WHERE k IS NOT NULL)",
        "SELECT s.a, l.v FROM source s CROSS JOIN l WHERE s.b <> l.k",
        "SELECT s.a, l.v FROM l LEFT JOIN source s ON s.a = l.k",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        let source: Vec<RecordBatch> = (0..3)
            .map(|_| random_batch(&["a", "b"], random.usize(1..60), &mut random))
            .collect();
        let lookups: BTreeMap<String, RecordBatch> = ["l", "m"]
            .map(|name| {
                (
                    name.to_owned(),
                    random_batch(&["k", "v"], random.usize(0..12), &mut random),
                )
            })
            .into();
        for sql in queries {
            let schemas = lookups
                .iter()
                .map(|(name, rows)| (name.clone(), rows.schema()))
                .collect();
            let plan = QueryPlan::blocking(schema(&["a", "b"]), schemas, sql).unwrap();
            let OpenQuery {
                mut input,
                mut output,
                ..
            } = plan.open(&lookups, LIMIT).await.unwrap();
            for batch in &source {
                input
                    .push("s", batch.project(plan.source_columns()).unwrap())
                    .await
                    .unwrap();
            }
            input.close();
            let mut batches = Vec::new();
            while let Some(batch) = output.next().await.unwrap() {
                assert_eq!(&batch.schema(), plan.output_schema());
                batches.push(batch);
            }
            assert_eq!(
                lines(&batches),
                oracle(sql, &source, &lookups).await,
                "round {round}: {sql}"
            );
        }
    }
}

#[tokio::test]
async fn dropped_rows_are_those_that_a_semi_join_would_not_find() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..10 {
        let source = [random_batch(&["a", "b"], 50, &mut random)];
        let lookups = BTreeMap::from([("l".to_owned(), random_batch(&["k", "v"], 4, &mut random))]);
        let schemas = vec![("l".to_owned(), schema(&["k", "v"]))];
        let plan = QueryPlan::blocking(
            schema(&["a", "b"]),
            schemas,
            "SELECT s.a, s.b FROM source s JOIN l ON s.a = l.k",
        )
        .unwrap();
        let mut open = plan.open(&lookups, LIMIT).await.unwrap();
        open.input.push("s", source[0].clone()).await.unwrap();
        open.input.close();
        while open.output.next().await.unwrap().is_some() {}
        let missing = "SELECT a FROM source s WHERE NOT EXISTS (SELECT 1 FROM l WHERE l.k = s.a)";
        assert_eq!(
            open.unmatched.rows(),
            oracle(missing, &source, &lookups).await.len() as u64
        );
    }
}

#[tokio::test]
async fn every_lookup_of_a_chain_has_its_own_keys() {
    let lookups = BTreeMap::from([
        ("c".to_owned(), countries()),
        (
            "r".to_owned(),
            batch(&[("name", &[Some("a")]), ("head", &[Some("Ann")])]),
        ),
    ]);
    let schemas = lookups
        .iter()
        .map(|(name, rows)| (name.clone(), rows.schema()))
        .collect();
    let sql = format!("SELECT s.uuid, r.head FROM source s {TWO} JOIN r ON r.name = s.region");
    let plan = QueryPlan::blocking(schema(&["uuid", "country", "region"]), schemas, &sql).unwrap();
    let mut open = plan.open(&lookups, LIMIT).await.unwrap();
    let rows = batch(&[
        ("uuid", &[Some("1"), Some("2"), Some("3")]),
        (
            "country",
            &[Some("Namibia"), Some("Russia"), Some("Namibia")],
        ),
        ("region", &[Some("a"), Some("b"), Some("b")]),
    ]);
    open.input.push("s", rows).await.unwrap();
    open.input.close();
    assert_eq!(open.output.next().await.unwrap().unwrap().num_rows(), 1);
    assert!(open.output.next().await.unwrap().is_none());
    let top: Vec<String> = open
        .unmatched
        .top()
        .into_iter()
        .map(|key| format!("{} {} {}", key.lookup, key.key, key.rows))
        .collect();
    assert_eq!(top, ["c Russia 1", "r b 1"]);
}

#[tokio::test]
async fn what_is_inside_of_text_that_is_json_can_be_read() {
    let json =
        r#"{"a":"d\u00e9\"","b":{"c":"x","e":null},"n":7,"f":1.5,"t":true,"l":[1,"two",{"z":1}]}"#;
    for (expression, text) in [
        ("json_get_str(uuid, 'a')", "dé\""),
        ("json_get_str(uuid, 'b', 'c')", "x"),
        ("json_get_str(uuid, 'b', 'e')", ""),
        ("json_get_str(uuid, 'nothing', 'c')", ""),
        ("json_get_str(uuid, 'n')", ""),
        ("json_get_int(uuid, 'n') + 1", "8"),
        ("json_get_float(uuid, 'f')", "1.5"),
        ("json_get_bool(uuid, 't')", "true"),
        ("json_get_json(uuid, 'b')", r#"{"c":"x","e":null}"#),
        ("json_as_text(uuid, 'l', 1)", "two"),
        ("json_as_text(uuid, 'n') || '!'", "7!"),
        ("json_length(uuid, 'l')", "3"),
        ("json_contains(uuid, 'b', 'c')", "true"),
        ("array_to_string(json_object_keys(uuid, 'b'), ' ')", "c e"),
        (
            "array_to_string(json_get_array(uuid, 'l'), ' ')",
            r#"1 "two" {"z":1}"#,
        ),
    ] {
        let plan = plan(&format!("SELECT {expression} AS r, region FROM source")).unwrap();
        assert!(!plan.whole_window(), "{expression}");
        let rows = batch(&[
            ("uuid", &[Some(json), Some("{\"a\":"), None]),
            ("country", &[None, None, None]),
            (
                "region",
                &[Some("1 json"), Some("2 broken"), Some("3 null")],
            ),
        ]);
        let (mut rows, _) = run(&plan, vec![rows]).await;
        rows.sort_by_key(|row| row.find("1 json").is_none());
        assert_eq!(rows[0], format!("|{text}|1 json|"), "{expression}");
        assert_eq!(rows.len(), 3, "{expression}: what is no JSON is no error");
    }
    let nested = plan(
        "SELECT country FROM source WHERE json_get_str(uuid, 'b', 'c') = 'x' AND region = '1'",
    )
    .unwrap();
    let rows = batch(&[
        ("uuid", &[Some(json)]),
        ("country", &[Some("Peru")]),
        ("region", &[Some("1")]),
    ]);
    assert_eq!(run(&nested, vec![rows]).await.0, ["|Peru|"]);
    let unnested = plan("SELECT unnest(json_get_array(uuid, 'l')) AS r FROM source").unwrap();
    let rows = batch(&[
        ("uuid", &[Some(json)]),
        ("country", &[None]),
        ("region", &[None]),
    ]);
    assert_eq!(run(&unnested, vec![rows]).await.0.len(), 3);
}

#[derive(Debug)]
struct Plenty;

impl QueryMemory for Plenty {
    fn try_grow(&self, _: usize) -> bool {
        true
    }
    fn grow(&self, _: usize) {}
    fn shrink(&self, _: usize) {}
    fn used(&self) -> usize {
        0
    }
    fn most(&self) -> usize {
        usize::MAX
    }
}

/// A lookup of this many rows.
fn numbers(rows: usize) -> RecordBatch {
    let names: Vec<String> = (0..rows).map(|n| format!("n{n}")).collect();
    let names: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
    batch(&[("CountryName", &names), ("Code", &names)])
}

#[tokio::test]
async fn a_query_of_any_number_of_rows_yields_and_stops_when_it_is_cancelled() {
    let time = std::time::Duration::from_millis(2);
    for (sql, rows) in [
        (
            "SELECT s.uuid FROM source s CROSS JOIN c a CROSS JOIN c b CROSS JOIN c d",
            400,
        ),
        // The join collects its other side without returning a batch.
        (
            r#"SELECT s.uuid FROM source s JOIN (SELECT a."Code" || b."Code" AS k FROM c a CROSS JOIN c b) t ON t.k = s.uuid"#,
            2_000,
        ),
    ] {
        let pace: Arc<Pace> = Arc::default();
        let lookups = BTreeMap::from([("c".to_owned(), numbers(rows))]);
        let plan = plan(sql).unwrap();
        let open = plan
            .open_within(&lookups, Arc::new(Plenty), BATCH_ROWS, &pace)
            .await
            .unwrap();
        let OpenQuery {
            mut input,
            mut output,
            ..
        } = open;
        let rows = sales().project(plan.source_columns()).unwrap();
        let pushed = async move { input.push("s", rows).await.map(drop) };
        let drained = async move {
            while output.next().await?.is_some() {}
            Ok(())
        };
        let mut work = std::pin::pin!(futures::future::try_join(pushed, drained));
        let mut yields = 0;
        let began = std::time::Instant::now();
        pace.limit(time);
        while yields < 3 {
            assert!(
                began.elapsed() < std::time::Duration::from_secs(30),
                "{sql} computed on and on"
            );
            match futures::poll!(&mut work) {
                std::task::Poll::Ready(ended) => panic!("{sql} ended: {ended:?}"),
                std::task::Poll::Pending if pace.take_yielded() => {
                    yields += 1;
                    pace.limit(time);
                }
                std::task::Poll::Pending => panic!("{sql} waits for rows that nobody sends"),
            }
        }
        pace.cancel();
        pace.limit(time);
        let stopped = work.await;
        assert!(
            matches!(&stopped, Err(error) if error.to_string().contains("cancelled")),
            "{sql}: {stopped:?}"
        );
    }
}

#[tokio::test]
async fn a_join_whose_condition_is_never_true_stops_when_it_is_cancelled() {
    const ROWS: usize = 50_000;
    let codes: Vec<String> = (0..ROWS).map(|n| format!("n{n}")).collect();
    let codes: Vec<Option<&str>> = codes.iter().map(|code| Some(code.as_str())).collect();
    let same = vec![Some("x"); ROWS];
    let lookups = BTreeMap::from([(
        "c".to_owned(),
        batch(&[("CountryName", &same), ("Code", &codes)]),
    )]);
    let source = vec![Some("x"); BATCH_ROWS];
    let source = batch(&[("uuid", &source), ("country", &source), ("region", &source)]);
    for on in [
        r#"c."Code" || 'z' = s.uuid || c."Code""#,
        r#"c."CountryName" = s.country AND c."Code" > s.uuid || c."Code""#,
    ] {
        let sql = format!("SELECT s.uuid FROM source s JOIN c ON {on}");
        let pace: Arc<Pace> = Arc::default();
        let plan = plan(&sql).unwrap();
        let open = plan
            .open_within(&lookups, Arc::new(Plenty), BATCH_ROWS, &pace)
            .await
            .unwrap();
        let OpenQuery {
            mut input,
            mut output,
            ..
        } = open;
        let rows = source.project(plan.source_columns()).unwrap();
        let began = std::time::Instant::now();
        let cancel = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            pace.cancel();
        });
        // One poll: it has no time limit.
        let pushed = async move { input.push("s", rows).await.map(drop) };
        let drained = async move {
            while output.next().await?.is_some() {}
            Ok(())
        };
        let stopped = futures::future::try_join(pushed, drained).await;
        cancel.join().unwrap();
        assert!(
            matches!(&stopped, Err(error) if error.to_string().contains("cancelled")),
            "{sql}: {stopped:?}"
        );
        // All pairs take far longer.
        assert!(
            began.elapsed() < std::time::Duration::from_secs(5),
            "{sql} took {:?}",
            began.elapsed()
        );
    }
}

/// The rows of a query over batches of one text column each, and the places of the rows that it
/// could not take: batch, row.
async fn good_rows(
    sql: &str,
    plan: &QueryPlan,
    batches: &[RecordBatch],
) -> (Vec<String>, Vec<(usize, usize)>, UnmatchedCounter) {
    let lookups = BTreeMap::from([("c".to_owned(), countries())]);
    let OpenQuery {
        mut input,
        mut output,
        unmatched,
        ..
    } = plan.open(&lookups, LIMIT).await.unwrap();
    let columns = plan.source_columns().to_vec();
    let pushed = async move {
        let mut blamed = vec![];
        for (at, batch) in batches.iter().enumerate() {
            let mut rows = vec![];
            let batch = batch.project(&columns).unwrap();
            input.push_good("s", batch, &mut rows).await.unwrap();
            for BlamedRow { row, reason } in rows {
                assert!(reason.contains("Cannot cast string 'bad'"), "{reason}");
                assert!(
                    reason.contains("CAST(region AS Int64) fails"),
                    "{sql}: {reason}"
                );
                assert!(reason.contains("region = 'bad'"), "{sql}: {reason}");
                blamed.push((at, row));
            }
        }
        blamed
    };
    let drained = async move {
        let mut batches = vec![];
        while let Some(batch) = output.next().await.unwrap() {
            batches.push(batch);
        }
        batches
    };
    let (blamed, batches) = futures::future::join(pushed, drained).await;
    (lines(&batches), blamed, unmatched)
}

/// Rows with these regions; every third country has no match.
fn regions(regions: &[bool]) -> RecordBatch {
    let numbers: Vec<String> = (0..regions.len()).map(|row| row.to_string()).collect();
    let country = |row: usize| {
        Some(if row.is_multiple_of(3) {
            "Mars"
        } else {
            "France"
        })
    };
    let countries: Vec<_> = (0..regions.len()).map(country).collect();
    let region =
        |(row, bad): (usize, &bool)| Some(if *bad { "bad" } else { numbers[row].as_str() });
    let texts: Vec<_> = regions.iter().enumerate().map(region).collect();
    let uuids: Vec<_> = numbers.iter().map(|number| Some(number.as_str())).collect();
    batch(&[
        ("uuid", &uuids),
        ("country", &countries),
        ("region", &texts),
    ])
}

/// P52: what a query cannot take costs just the rows that it cannot take.
#[tokio::test]
async fn every_place_of_a_bad_row_gives_exactly_the_other_rows() {
    let queries = [
        "SELECT uuid, CAST(region AS BIGINT) AS n FROM source".to_owned(),
        "SELECT uuid FROM source WHERE CAST(region AS BIGINT) % 2 = 0".to_owned(),
        format!("SELECT s.uuid, c.\"Code\", CAST(s.region AS BIGINT) AS n FROM source s {TWO}"),
        "SELECT uuid, unnest(make_array(CAST(region AS BIGINT), 7)) AS n FROM source".to_owned(),
        "SELECT uuid, repeat('x', CAST(region AS BIGINT) % 5) AS n FROM source".to_owned(),
        "SELECT country, sum(CAST(region AS BIGINT)) AS n, count(*) AS rows FROM source GROUP BY country"
            .to_owned(),
        "SELECT CAST(region AS BIGINT) % 7 AS n, count(*) AS rows FROM source GROUP BY CAST(region AS BIGINT) % 7"
            .to_owned(),
        "SELECT DISTINCT CAST(region AS BIGINT) % 3 AS n FROM source".to_owned(),
        "SELECT uuid, CAST(region AS BIGINT) AS n FROM source ORDER BY n DESC".to_owned(),
        "SELECT g.country, g.n, c.\"Code\" FROM (SELECT country, max(CAST(region AS BIGINT)) AS n FROM source GROUP BY country) g \
         JOIN c ON g.country = c.\"CountryName\""
            .to_owned(),
    ];
    let rows = 37;
    let none = vec![false; rows];
    let with = |bad: &dyn Fn(usize) -> bool| (0..rows).map(bad).collect::<Vec<bool>>();
    let places = [
        vec![none.clone(), none.clone()],
        vec![with(&|row| row == 0), none.clone()],
        vec![with(&|row| row == rows - 1), none.clone()],
        vec![vec![true; rows], none.clone()],
        vec![none.clone(), vec![true; rows]],
        vec![with(&|row| row % 2 == 0), with(&|row| row % 2 == 1)],
        vec![with(&|row| row == 17), with(&|row| row == 5 || row == 6)],
        vec![vec![true], none, vec![true]],
    ];
    for sql in &queries {
        let plan = plan(sql).unwrap();
        // A row that an inner join drops is not computed further.
        let drops = sql.contains("source s JOIN");
        let is_blamed = |row: usize, bad: bool| bad && !(drops && row.is_multiple_of(3));
        for bad in &places {
            let batches: Vec<RecordBatch> = bad.iter().map(|bad| regions(bad)).collect();
            let good: Vec<RecordBatch> = bad
                .iter()
                .zip(&batches)
                .map(|(bad, batch)| {
                    let good = bad.iter().enumerate();
                    let good: arrow::array::BooleanArray =
                        good.map(|(row, bad)| Some(!is_blamed(row, *bad))).collect();
                    arrow::compute::filter_record_batch(batch, &good).unwrap()
                })
                .collect();
            let (rows, blamed, unmatched) = good_rows(sql, &plan, &batches).await;
            let (expected, none, expected_unmatched) = good_rows(sql, &plan, &good).await;
            let place = |(at, bad): (usize, &Vec<bool>)| {
                let rows = bad.iter().enumerate();
                let rows = rows.filter(|(row, bad)| is_blamed(*row, **bad));
                rows.map(move |(row, _)| (at, row)).collect::<Vec<_>>()
            };
            let places: Vec<_> = bad.iter().enumerate().flat_map(place).collect();
            assert_eq!(blamed, places, "{sql}");
            assert_eq!(rows, expected, "{sql}");
            assert!(none.is_empty());
            assert_eq!(unmatched.rows(), expected_unmatched.rows(), "{sql}");
        }
    }
}

#[tokio::test]
async fn a_row_alone_decides_whether_the_query_takes_it() {
    let sql = "SELECT uuid FROM source WHERE region <> 'bad' AND CAST(region AS BIGINT) >= 0";
    let plan = plan(sql).unwrap();
    let bad: Vec<bool> = (0..20).map(|row| row % 2 == 0).collect();
    let (rows, blamed, _) = good_rows(sql, &plan, &[regions(&bad)]).await;
    assert_eq!((rows.len(), blamed), (10, vec![]));
}

#[tokio::test]
async fn a_result_that_is_too_large_to_hold_comes_whole_and_the_bad_rows_are_found() {
    let names = vec![Some("x"); 2_000];
    let texts: Vec<String> = (0..2_000)
        .map(|row| format!("{row}{}", "y".repeat(2_000)))
        .collect();
    let texts: Vec<_> = texts.iter().map(|text| Some(text.as_str())).collect();
    let lookups = BTreeMap::from([(
        "c".to_owned(),
        batch(&[("CountryName", &names), ("Code", &texts)]),
    )]);
    let sql = "SELECT s.uuid, c.\"Code\" || 'z' AS code, CAST(s.region AS BIGINT) AS n FROM source s CROSS JOIN c";
    let OpenQuery {
        mut input,
        mut output,
        ..
    } = plan(sql).unwrap().open(&lookups, LIMIT).await.unwrap();
    let bad: Vec<bool> = (0..40).map(|row| row == 7 || row == 39).collect();
    let rows = regions(&bad).project(&[0, 2]).unwrap();
    let pushed = async move {
        let mut blamed = vec![];
        input.push_good("s", rows, &mut blamed).await.unwrap();
        blamed.iter().map(|blamed| blamed.row).collect::<Vec<_>>()
    };
    let drained = async move {
        let mut rows = 0;
        while let Some(batch) = output.next().await.unwrap() {
            rows += batch.num_rows();
        }
        rows
    };
    let (blamed, rows) = futures::future::join(pushed, drained).await;
    assert_eq!((blamed, rows), (vec![7, 39], 38 * 2_000));
}

#[tokio::test]
async fn a_failure_of_a_lookup_or_of_the_whole_window_is_of_no_row() {
    let lookup = batch(&[("CountryName", &[Some("France")]), ("Code", &[Some("FR")])]);
    let lookups = BTreeMap::from([("c".to_owned(), lookup)]);
    let sql = "SELECT s.uuid FROM source s JOIN (SELECT \"CountryName\", CAST(\"Code\" AS BIGINT) AS code FROM c) c \
               ON c.\"CountryName\" = s.country AND CAST(s.region AS BIGINT) < c.code";
    let mut open = plan(sql).unwrap().open(&lookups, LIMIT).await.unwrap();
    let mut blamed = vec![];
    let error = open
        .input
        .push_good("s", regions(&[false, false]), &mut blamed)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("'FR'"), "{error}");
    assert!(blamed.is_empty());
    let kept =
        "SELECT uuid, CAST(region AS BIGINT) AS n FROM source ORDER BY country, uuid LIMIT 5";
    let mut open = plan(kept).unwrap().open(&lookups, LIMIT).await.unwrap();
    let rows = regions(&[false, true, false]);
    open.input.push("s", rows).await.unwrap();
    open.input.close();
    let error = open.output.next().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("column n: CAST(region AS Int64) fails: Cannot cast string 'bad' to value of Int64 type (region = 'bad')"),
        "{error}"
    );
}
