//! Functions at their limits.

use super::super::functions;
use super::super::tests::{batch_of, countries, rows_of};
use super::super::words::tests::typed;
use super::super::{OpenQuery, QueryError, QueryPlan};
use super::*;
use arrow::array::{
    Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn every_function_is_known_to_grow_or_not_to() {
    let growing: BTreeSet<&str> = GROWING.iter().map(|(name, _)| *name).collect();
    assert!(
        GROWING.is_sorted_by_key(|(name, _)| *name),
        "they are searched by name"
    );
    // It brings its limit along.
    let limited = ["to_json"];
    let known: BTreeSet<&str> = growing
        .iter()
        .chain(FIXED)
        .chain(&limited)
        .copied()
        .collect();
    let all = functions::all();
    let all: BTreeSet<&str> = all.iter().map(|function| function.name()).collect();
    assert_eq!(
        known.difference(&all).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "they are not there"
    );
    assert_eq!(
        all.difference(&known).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "it is not said whether they grow"
    );
    let both: Vec<_> = FIXED
        .iter()
        .filter(|name| growing.contains(**name))
        .collect();
    assert!(both.is_empty(), "{both:?}");
}

/// Each has a size that comes from a row: `n` is 3 in one and very many in the other.
const FROM_A_ROW: [(&str, &str, &str); 27] = [
    ("repeat", "repeat(x, n)", "abcabcabc"),
    ("lpad", "lpad(x, n)", "abc"),
    ("lpad", "lpad(x, n, 'é')", "abc"),
    ("rpad", "rpad(x, n, '.')", "abc"),
    ("range", "array_to_string(range(n), ' ')", "0 1 2"),
    ("range", "array_to_string(range(1, n), ' ')", "1 2"),
    ("range", "array_to_string(range(n, 0, -1), ' ')", "3 2 1"),
    (
        "generate_series",
        "array_to_string(generate_series(1, n), ' ')",
        "1 2 3",
    ),
    (
        "generate_series",
        "array_to_string(generate_series(1, n, 2), ' ')",
        "1 3",
    ),
    (
        "array_repeat",
        "array_to_string(array_repeat(x, n), ' ')",
        "abc abc abc",
    ),
    (
        "array_resize",
        "array_to_string(array_resize(list, n, 'z'), ' ')",
        "a b z",
    ),
    ("array_resize", "cardinality(array_resize(list, n))", "3"),
    ("replace", "replace(x, 'b', repeat('q', n))", "aqqqc"),
    (
        "replace",
        "replace(repeat('b', 1000), 'b', repeat(x, n / 3))",
        "",
    ),
    (
        "regexp_replace",
        "regexp_replace(repeat('b', 1000), 'b', repeat(x, n / 3), 'g')",
        "",
    ),
    (
        "array_to_string",
        "array_to_string(array_repeat(x, 1000), repeat('-', n))",
        "",
    ),
    (
        "array_replace_all",
        "cardinality(array_replace_all(array_repeat('q', 1000), 'q', repeat(x, n)))",
        "1000",
    ),
    (
        "concat",
        "concat(repeat(x, n), repeat(x, n), repeat(x, n))",
        "abcabcabcabcabcabcabcabcabc",
    ),
    (
        "concat_ws",
        "concat_ws(repeat('-', n), x, x, x)",
        "abc---abc---abc",
    ),
    ("||", "repeat(x, n) || repeat(x, n)", "abcabcabcabcabcabc"),
    (
        "array_concat",
        "cardinality(array_concat(range(n), range(n)))",
        "6",
    ),
    (
        "make_array",
        "cardinality(make_array(repeat(x, n), repeat(x, n), repeat(x, n)))",
        "3",
    ),
    (
        "struct",
        "struct(repeat(x, n), repeat(x, n), repeat(x, n)) IS NULL",
        "false",
    ),
    (
        "encode",
        "encode(repeat(x, n), 'hex')",
        "616263616263616263",
    ),
    (
        "string_to_array",
        "cardinality(string_to_array(repeat('a,', n), ','))",
        "4",
    ),
    (
        "regexp_match",
        "cardinality(regexp_match(repeat(x, n), '((((((((.*))))))))'))",
        "8",
    ),
    ("to_char", "to_char(ts, repeat('%Y', n))", "197019701970"),
];

#[tokio::test]
async fn a_row_that_needs_too_much_is_an_error_that_names_the_function_and_the_limit() {
    for (name, expression, expected) in FROM_A_ROW {
        let plan = typed(&format!("SELECT {expression} AS r FROM source"))
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        let rows = rows_of(&plan, batch_of(&plan, "abc", 3))
            .await
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(
            expected.is_empty() || rows == [expected],
            "{expression}: {rows:?}"
        );
        // If a function is inside another, the first one that exceeds the limit is named.
        for many in [70_000_000, 2_000_000_000_000] {
            let error = rows_of(&plan, batch_of(&plan, "abc", many))
                .await
                .expect_err(expression)
                .to_string();
            assert!(
                error.contains("() would make ") && error.contains("the limit is 64 MiB"),
                "{expression}: {error}"
            );
            let inner = expression.contains("repeat(")
                || expression.contains("range(")
                || expression.contains("series(");
            assert!(
                inner || error.contains(&format!("{name}() would make ")),
                "{expression}: {error}"
            );
        }
        let of_outer = [
            "concat",
            "||",
            "make_array",
            "struct",
            "encode",
            "regexp_match",
            "to_char",
            "array_replace_all",
        ];
        if expected.is_empty() || of_outer.contains(&name) {
            let error = rows_of(&plan, batch_of(&plan, "abc", 13_000_000))
                .await
                .expect_err(expression)
                .to_string();
            assert!(
                error.contains(&format!("{name}() would make ")),
                "{expression}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn rows_that_are_small_each_may_be_large_together() {
    let plan = typed("SELECT repeat(x, n) AS r FROM source").unwrap();
    assert_eq!(
        rows_of(&plan, many_rows(&plan, 8_192, |_| 4_096))
            .await
            .unwrap()
            .len(),
        8_192
    );
}

#[test]
fn constants_are_bounded_when_the_query_is_planned() {
    for (name, sql) in [
        (
            "repeat",
            "SELECT x, repeat('x', 500000000) AS r FROM source",
        ),
        (
            "repeat",
            "SELECT x FROM source WHERE x = repeat('x', 500000000)",
        ),
        (
            "lpad",
            "SELECT x, lpad('x', 2000000000, 'y') AS r FROM source",
        ),
        (
            "rpad",
            "SELECT x, rpad('x', 2000000000, 'y') AS r FROM source",
        ),
        (
            "generate_series",
            "SELECT x, unnest(generate_series(1, 10000000)) AS n FROM source",
        ),
        (
            "range",
            "SELECT x, unnest(range(0, 60000000)) AS n FROM source",
        ),
        (
            "generate_series",
            "SELECT x, g.n FROM source CROSS JOIN unnest(generate_series(1, 1000000000)) AS g(n)",
        ),
        (
            "array_repeat",
            "SELECT x, array_repeat(1, 1000000000) AS r FROM source",
        ),
        (
            "array_resize",
            "SELECT x, array_resize([1], 1000000000) AS r FROM source",
        ),
        (
            "generate_series",
            "SELECT x, generate_series(DATE '0001-01-01', DATE '9999-12-31', INTERVAL '1 second') AS r FROM source",
        ),
    ] {
        let problem = typed(sql).expect_err(sql).problem();
        assert!(
            problem.message.contains(&format!("{name}() would make ")),
            "{sql}: {problem}"
        );
    }
    for sql in [
        "SELECT x, repeat('x', 20000) AS r FROM source",
        "SELECT x, unnest(range(0, 3000)) AS n FROM source",
        "SELECT x, CAST(NULL AS BIGINT[1000000000]) AS r FROM source",
        "SELECT x, arrow_cast(NULL, 'FixedSizeBinary(1000000000)') AS r FROM source",
        "SELECT x, array_agg(x) OVER (ORDER BY n) AS r FROM source",
        "SELECT x, string_agg(x, ',') OVER () AS r FROM source",
    ] {
        let problem = typed(sql).expect_err(sql).problem();
        assert!(
            problem.hint.is_some() || problem.message.contains("fixed size"),
            "{sql}: {problem}"
        );
    }
    typed("SELECT x, unnest(range(0, 1000)) AS n, repeat('x', 1000) AS r FROM source")
        .expect("small constants are taken");
}

#[test]
fn texts_that_double_at_every_step_end_at_the_limit() {
    let mut inner = "source".to_owned();
    for _ in 0..40 {
        inner = format!("(SELECT concat(x, x) AS x FROM {inner})");
    }
    // The depth of the text is bounded too.
    typed(&format!("SELECT x FROM {inner}")).expect_err("so many levels are too many");
    let steps: Vec<String> = (1..=40)
        .map(|step| {
            format!(
                "t{step} AS (SELECT x || x AS x FROM {})",
                if step == 1 {
                    "source".into()
                } else {
                    format!("t{}", step - 1)
                }
            )
        })
        .collect();
    let plan =
        typed(&format!("WITH {} SELECT x FROM t40", steps.join(", "))).expect("it is planned");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = runtime
        .block_on(rows_of(&plan, batch_of(&plan, "abc", 1)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("||() would make "), "{error}");
}

#[tokio::test]
async fn a_replacement_of_many_rows_is_computed_in_parts_and_gives_the_same() {
    let plan =
        typed("SELECT regexp_replace(x, '[aeiou]', '<vowel \\0>', 'g') AS r FROM source").unwrap();
    let text = "consonants and vowels ".repeat(100);
    let texts = Arc::new(StringArray::from(vec![text.as_str(); 8_192]));
    let batch = arrow::record_batch::RecordBatch::try_new(plan.input_schema().clone(), vec![texts])
        .unwrap();
    let rows = rows_of(&plan, batch)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rows.len(), 8_192);
    assert!(
        rows.iter().all(|row| *row == rows[0]) && rows[0].matches("<vowel ").count() == 600,
        "{}",
        rows[0]
    );
}

#[tokio::test]
async fn several_calls_for_a_batch_are_evaluated_in_pieces_within_the_budget() {
    let sql = "SELECT x, repeat(x, n) AS a, repeat(x, n) || repeat(x, n) AS b, n FROM source";
    let plan = typed(sql).unwrap();
    let batches = batches_of(&plan, many_rows(&plan, 300, |_| 15_000))
        .await
        .unwrap();
    assert!(batches.len() > 5, "{}", batches.len());
    for batch in &batches {
        let bytes: u64 = batch.columns().iter().map(bytes_of).sum();
        // The results of calls, and the columns that are passed through.
        assert!(
            bytes <= 2 * PIECE_BYTES,
            "{bytes} bytes for {} rows",
            batch.num_rows()
        );
    }
    let pieces: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(pieces.iter().sum::<usize>(), 300);
    assert!(
        pieces.len() < 45,
        "the number of rows that had room is remembered: {pieces:?}"
    );
    for (row, values) in text_rows(&batches).iter().enumerate() {
        let text = format!("r{row:04}");
        assert_eq!(values[0], text);
        assert_eq!(values[1], text.repeat(15_000));
        assert_eq!(values[2], text.repeat(30_000));
        assert_eq!(values[3], "15000");
    }
}

#[tokio::test]
async fn what_is_evaluated_in_pieces_is_what_it_would_be_without() {
    // With these numbers a batch of all rows does not fit, and one of 2 rows does.
    for expression in [
        "repeat(x, n)",
        "upper(repeat(lower(repeat(x, 2)), n))",
        "CASE WHEN n > 5000 THEN repeat(x, n) WHEN n > 1 THEN lpad(x, n, '-') END",
        "coalesce(repeat(nullif(x, 'r0003'), n), 'none')",
        "replace(repeat('ab', n), 'b', x)",
        "regexp_replace(repeat('ab', n), 'b', x, 'g')",
        "array_to_string(array_repeat(x, n), ',')",
        "cardinality(generate_series(1, n * 10))",
        "concat(repeat(x, n), n, repeat(x, n))",
        "length(repeat(x, n)) + n",
    ] {
        let plan = typed(&format!("SELECT {expression} AS r, x FROM source")).unwrap();
        let times = |row: usize| (row as i64 * 7_919) % 11_000;
        let all = many_rows(&plan, 300, times);
        let at_once = batches_of(&plan, all.clone())
            .await
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(at_once.len() > 1, "{expression}");
        let mut few = vec![];
        for from in (0..300).step_by(2) {
            few.extend(batches_of(&plan, all.slice(from, 2)).await.unwrap());
        }
        assert!(few.len() == 150, "{expression}: {} pieces", few.len());
        assert!(text_rows(&at_once) == text_rows(&few), "{expression}");
    }
}

#[tokio::test]
async fn rows_of_very_different_sizes_are_evaluated_as_many_at_once_as_have_room() {
    let plan = typed("SELECT repeat(x, n) AS r FROM source").unwrap();
    // One row in a thousand takes 20 MiB.
    let times = |row: usize| if row % 1_000 == 500 { 4 << 20 } else { 10 };
    let batches = batches_of(&plan, many_rows(&plan, 4_000, times))
        .await
        .unwrap();
    let lengths: Vec<usize> = text_rows(&batches).iter().map(|row| row[0].len()).collect();
    assert_eq!(
        lengths,
        (0..4_000)
            .map(|row| 5 * times(row) as usize)
            .collect::<Vec<_>>()
    );
    let pieces: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
    assert!(
        pieces.len() < 120,
        "after a large row the number of rows grows again: {pieces:?}"
    );
    assert!(pieces.iter().any(|rows| *rows >= 250), "{pieces:?}");
}

#[tokio::test]
async fn the_calls_for_one_row_have_a_limit_together() {
    let plan = typed("SELECT repeat(x, n) AS a, repeat(x, n + 0) AS b FROM source").unwrap();
    let mut given = plan.open(&BTreeMap::new(), 1 << 30).await;
    assert!(given.is_err(), "the lookup is missing");
    given = plan.open(&lookups(), 1 << 30).await;
    let mut open = given.unwrap();
    // Each call fits alone, but not both.
    let times = |row: usize| if row == 3 { 7 << 20 } else { 2 };
    let mut blamed = vec![];
    open.input
        .push_good("s", many_rows(&plan, 8, times), &mut blamed)
        .await
        .unwrap();
    open.input.close();
    let mut rows = 0;
    while let Some(batch) = open.output.next().await.unwrap() {
        rows += batch.num_rows();
    }
    assert_eq!(rows, 7, "the rows beside it are given");
    assert_eq!((blamed.len(), blamed[0].row), (1, 3));
    let error = &blamed[0].reason;
    assert!(
        error.contains(
            "repeat() would make 35 MiB of values beside 36 MiB of other calls, the limit is 64 MiB"
        ),
        "{error}"
    );
    let error = rows_of(&plan, batch_of(&plan, "abcde", 14 << 20))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("repeat() would make 70 MiB of values, the limit is 64 MiB"),
        "{error}"
    );
    rows_of(&plan, batch_of(&plan, "abcde", 6 << 20))
        .await
        .expect("both have room");
}

#[tokio::test]
async fn a_constant_time_is_written_by_the_pattern_of_each_row() {
    let plan = typed("SELECT date_format(TIMESTAMP '2020-01-02', x) AS r FROM source").unwrap();
    let texts = Arc::new(StringArray::from(vec![Some("%Y"), Some("%d"), None]));
    let batch = RecordBatch::try_new(plan.input_schema().clone(), vec![texts]).unwrap();
    assert_eq!(
        rows_of(&plan, batch.clone()).await.unwrap(),
        ["2020", "02", ""]
    );
    assert!(rows_of(&plan, batch.slice(0, 0)).await.unwrap().is_empty());
    let plan = typed("SELECT array_positions(list, 'b') AS r FROM source").unwrap();
    assert_eq!(
        rows_of(&plan, batch_of(&plan, "", 0)).await.unwrap(),
        ["[2]"]
    );
}

#[tokio::test]
async fn conditions_and_arguments_of_aggregates_are_evaluated_in_pieces_too() {
    for (sql, rows) in [
        (
            "SELECT x FROM source WHERE length(repeat(x, n)) > 10",
            1_000,
        ),
        (
            "SELECT x FROM source WHERE repeat(x, n) || repeat(x, n) LIKE '%0001r0001%' OR n < 0",
            1,
        ),
        (
            "SELECT x FROM source s JOIN c ON length(repeat(s.x, s.n)) > length(c.\"Code\")",
            4_000,
        ),
        (
            "SELECT x FROM source s JOIN c ON s.x > c.\"Code\" AND repeat(s.x, s.n) > c.\"CountryName\"",
            3_000,
        ),
        ("SELECT max(length(repeat(x, n) || x)) AS r FROM source", 1),
        (
            "SELECT max(repeat(x, n)) FILTER (WHERE repeat(x, n) < 's') AS r, count(*) AS c FROM source",
            1,
        ),
        (
            "SELECT substr(repeat(x, n), 1, 4) AS r, count(*) AS c FROM source GROUP BY 1",
            100,
        ),
        (
            "SELECT x FROM source ORDER BY length(repeat(x, n)), x",
            1_000,
        ),
    ] {
        let plan = typed(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        // 75 KiB for each row, 75 MiB for all of them.
        let given = batches_of(&plan, many_rows(&plan, 1_000, |_| 15_000)).await;
        let given: usize = given
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .iter()
            .map(RecordBatch::num_rows)
            .sum();
        assert_eq!(given, rows, "{sql}");
    }
}

#[tokio::test]
async fn pieces_do_not_keep_the_batch_that_they_are_cut_from() {
    let plan = typed("SELECT x, list, repeat(x, n) AS r FROM source").unwrap();
    let batches = batches_of(&plan, many_rows(&plan, 8_000, |_| 15_000))
        .await
        .unwrap();
    for batch in &batches {
        let held = batch.column(0).get_buffer_memory_size();
        let rows = batch.num_rows();
        assert!(
            held <= 20 * rows + (8 << 10),
            "{held} bytes for {rows} rows"
        );
    }
}

#[tokio::test]
async fn large_constants_count_for_each_row_of_a_piece() {
    let large = "c".repeat(15_000);
    let plan = typed(&format!(
        "SELECT x, '{large}' AS a, CASE WHEN n > 0 THEN '{large}' END AS b FROM source"
    ))
    .unwrap();
    let batches = batches_of(&plan, many_rows(&plan, 2_000, |row| row as i64))
        .await
        .unwrap();
    assert_eq!(
        batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
        2_000
    );
    let largest = batches
        .iter()
        .map(RecordBatch::get_array_memory_size)
        .max()
        .unwrap();
    assert!(largest as u64 <= 2 * PIECE_BYTES, "{largest}");
}

#[test]
fn plans_whose_rows_may_be_large_have_small_batches_inside() {
    for (sql, large) in [
        ("SELECT repeat(x, n) AS r FROM source", true),
        ("SELECT x FROM source WHERE lpad(x, n) = 'a'", true),
        ("SELECT lpad(x, 100000) AS r FROM source", true),
        ("SELECT lpad(x, 8, '0') AS r FROM source", false),
        ("SELECT replace(x, 'a', x) AS r FROM source", true),
        ("SELECT replace(x, 'a', 'aaaaa') AS r FROM source", true),
        ("SELECT replace(x, 'a', 'b') AS r FROM source", false),
        (
            "SELECT regexp_replace(x, '[^a-z]', '-', 'g') AS r FROM source",
            false,
        ),
        (
            "SELECT regexp_replace(x, '(.*)', '\\1\\1\\1', 'g') AS r FROM source",
            true,
        ),
        ("SELECT date_format(ts, '%Y-%m-%d') AS r FROM source", false),
        ("SELECT date_format(ts, x) AS r FROM source", true),
        (
            "SELECT x || x AS r, concat(x, '-', n) AS s FROM source",
            false,
        ),
        ("SELECT upper(x) AS r, n + 1 AS m FROM source", false),
        ("SELECT x FROM source WHERE n > 1", false),
    ] {
        assert_eq!(typed(sql).unwrap().makes_large_rows, large, "{sql}");
    }
    let chain = vec!["x"; 17].join(", ");
    assert!(
        typed(&format!("SELECT concat({chain}) AS r FROM source"))
            .unwrap()
            .makes_large_rows
    );
    let large = "c".repeat(2_000);
    assert!(
        typed(&format!("SELECT x, '{large}' AS c FROM source"))
            .unwrap()
            .makes_large_rows
    );
}

/// Rows that differ: `x` is the row's number as five characters, `n` what `times` gives.
fn many_rows(plan: &QueryPlan, rows: usize, times: impl Fn(usize) -> i64) -> RecordBatch {
    let column = |field: &FieldRef| -> ArrayRef {
        match field.data_type() {
            DataType::Utf8 => Arc::new(
                (0..rows)
                    .map(|row| Some(format!("r{row:04}")))
                    .collect::<StringArray>(),
            ),
            DataType::Int64 => Arc::new((0..rows).map(&times).collect::<Int64Array>()),
            other => arrow::array::new_null_array(other, rows),
        }
    };
    let columns = plan.input_schema().fields().iter().map(column).collect();
    RecordBatch::try_new(plan.input_schema().clone(), columns).unwrap()
}

async fn batches_of(
    plan: &QueryPlan,
    rows: RecordBatch,
) -> std::result::Result<Vec<RecordBatch>, QueryError> {
    let OpenQuery {
        mut input,
        mut output,
        ..
    } = plan.open(&lookups(), 1 << 30).await?;
    let pushed = async move { input.push("s", rows).await.map(drop) };
    let drained = async move {
        let mut batches = vec![];
        while let Some(batch) = output.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    };
    let ((), batches) = futures::future::try_join(pushed, drained).await?;
    Ok(batches)
}

fn lookups() -> BTreeMap<String, RecordBatch> {
    BTreeMap::from([("c".to_owned(), countries())])
}

fn text_rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows = vec![];
    for batch in batches {
        let options = arrow::util::display::FormatOptions::default();
        let column = |column: &ArrayRef| {
            let column =
                arrow::util::display::ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
            (0..batch.num_rows())
                .map(|row| column.value(row).to_string())
                .collect::<Vec<_>>()
        };
        let columns: Vec<Vec<String>> = batch.columns().iter().map(column).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column[row].clone()).collect()),
        );
    }
    rows
}

/// Columns of these types, as `typed()` has them.
pub(in super::super) fn column(data_type: &DataType, text: &str, number: i64) -> ArrayRef {
    match data_type {
        DataType::Utf8 => Arc::new(StringArray::from(vec![text])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![number])),
        DataType::Timestamp(..) => Arc::new(TimestampMillisecondArray::from(vec![0])),
        DataType::List(_) => {
            let mut list = ListBuilder::new(StringBuilder::new());
            list.append_value([Some("a"), Some("b")]);
            Arc::new(list.finish())
        }
        other => arrow::array::new_null_array(other, 1),
    }
}
