//! Functions at their limits.

use super::super::functions;
use super::super::tests::{batch_of, rows_of};
use super::super::words::tests::typed;
use super::*;
use arrow::array::{Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMillisecondArray};
use std::collections::BTreeSet;

#[test]
fn every_function_is_known_to_grow_or_not_to() {
    let growing: BTreeSet<&str> = GROWING.iter().map(|(name, _)| *name).collect();
    assert!(GROWING.is_sorted_by_key(|(name, _)| *name), "they are searched by name");
    let known: BTreeSet<&str> = growing.iter().chain(FIXED).copied().collect();
    let all = functions::all();
    let all: BTreeSet<&str> = all.iter().map(|function| function.name()).collect();
    assert_eq!(known.difference(&all).collect::<Vec<_>>(), Vec::<&&str>::new(), "they are not there");
    assert_eq!(all.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "it is not said whether they grow");
    let both: Vec<_> = FIXED.iter().filter(|name| growing.contains(**name)).collect();
    assert!(both.is_empty(), "{both:?}");
}

/// Each of these has a size that comes from a row: `n` is 3 in one and very many in the other.
const FROM_A_ROW: [(&str, &str, &str); 27] = [
    ("repeat", "repeat(x, n)", "abcabcabc"),
    ("lpad", "lpad(x, n)", "abc"),
    ("lpad", "lpad(x, n, 'é')", "abc"),
    ("rpad", "rpad(x, n, '.')", "abc"),
    ("range", "array_to_string(range(n), ' ')", "0 1 2"),
    ("range", "array_to_string(range(1, n), ' ')", "1 2"),
    ("range", "array_to_string(range(n, 0, -1), ' ')", "3 2 1"),
    ("generate_series", "array_to_string(generate_series(1, n), ' ')", "1 2 3"),
    ("generate_series", "array_to_string(generate_series(1, n, 2), ' ')", "1 3"),
    ("array_repeat", "array_to_string(array_repeat(x, n), ' ')", "abc abc abc"),
    ("array_resize", "array_to_string(array_resize(list, n, 'z'), ' ')", "a b z"),
    ("array_resize", "cardinality(array_resize(list, n))", "3"),
    ("replace", "replace(x, 'b', repeat('q', n))", "aqqqc"),
    ("replace", "replace(repeat('b', 1000), 'b', repeat(x, n / 3))", ""),
    ("regexp_replace", "regexp_replace(repeat('b', 1000), 'b', repeat(x, n / 3), 'g')", ""),
    ("array_to_string", "array_to_string(array_repeat(x, 1000), repeat('-', n))", ""),
    ("array_replace_all", "cardinality(array_replace_all(array_repeat('q', 1000), 'q', repeat(x, n)))", "1000"),
    ("concat", "concat(repeat(x, n), repeat(x, n), repeat(x, n))", "abcabcabcabcabcabcabcabcabc"),
    ("concat_ws", "concat_ws(repeat('-', n), x, x, x)", "abc---abc---abc"),
    ("||", "repeat(x, n) || repeat(x, n)", "abcabcabcabcabcabc"),
    ("array_concat", "cardinality(array_concat(range(n), range(n)))", "6"),
    ("make_array", "cardinality(make_array(repeat(x, n), repeat(x, n), repeat(x, n)))", "3"),
    ("struct", "struct(repeat(x, n), repeat(x, n), repeat(x, n)) IS NULL", "false"),
    ("encode", "encode(repeat(x, n), 'hex')", "616263616263616263"),
    ("string_to_array", "cardinality(string_to_array(repeat('a,', n), ','))", "4"),
    ("regexp_match", "cardinality(regexp_match(repeat(x, n), '((((((((.*))))))))'))", "8"),
    ("to_char", "to_char(ts, repeat('%Y', n))", "197019701970"),
];

#[tokio::test]
async fn a_row_that_asks_for_too_much_is_an_error_that_names_the_function_and_the_limit() {
    for (name, expression, expected) in FROM_A_ROW {
        let plan = typed(&format!("SELECT {expression} AS r FROM source"))
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        let rows =
            rows_of(&plan, batch_of(&plan, "abc", 3)).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(expected.is_empty() || rows == [expected], "{expression}: {rows:?}");
        // Where a function is inside of another, the first one to exceed the limit is named.
        for many in [70_000_000, 2_000_000_000_000] {
            let error = rows_of(&plan, batch_of(&plan, "abc", many)).await.expect_err(expression).to_string();
            assert!(error.contains("() would make ") && error.contains("the limit is 64 MiB"), "{expression}: {error}");
            let inner =
                expression.contains("repeat(") || expression.contains("range(") || expression.contains("series(");
            assert!(inner || error.contains(&format!("{name}() would make ")), "{expression}: {error}");
        }
        let of_outer =
            ["concat", "||", "make_array", "struct", "encode", "regexp_match", "to_char", "array_replace_all"];
        if expected.is_empty() || of_outer.contains(&name) {
            let error = rows_of(&plan, batch_of(&plan, "abc", 13_000_000)).await.expect_err(expression).to_string();
            assert!(error.contains(&format!("{name}() would make ")), "{expression}: {error}");
        }
    }
}

#[tokio::test]
async fn the_limit_is_on_a_batch_of_rows_together() {
    let plan = typed("SELECT repeat(x, n) AS r FROM source").unwrap();
    let rows = |count: usize| {
        let texts = StringArray::from(vec!["abcd"; count]);
        let times = Int64Array::from(vec![4_096; count]);
        arrow::record_batch::RecordBatch::try_new(plan.input_schema().clone(), vec![Arc::new(texts), Arc::new(times)])
            .unwrap()
    };
    assert_eq!(rows_of(&plan, rows(4_000)).await.unwrap().len(), 4_000);
    let error = rows_of(&plan, rows(4_100)).await.unwrap_err().to_string();
    assert!(error.contains("repeat() would make 65 MiB of values for 4100 rows"), "{error}");
}

#[test]
fn constants_are_bounded_when_the_query_is_planned() {
    for (name, sql) in [
        ("repeat", "SELECT x, repeat('x', 500000000) AS r FROM source"),
        ("repeat", "SELECT x FROM source WHERE x = repeat('x', 500000000)"),
        ("lpad", "SELECT x, lpad('x', 2000000000, 'y') AS r FROM source"),
        ("rpad", "SELECT x, rpad('x', 2000000000, 'y') AS r FROM source"),
        ("generate_series", "SELECT x, unnest(generate_series(1, 10000000)) AS n FROM source"),
        ("range", "SELECT x, unnest(range(0, 60000000)) AS n FROM source"),
        ("generate_series", "SELECT x, g.n FROM source CROSS JOIN unnest(generate_series(1, 1000000000)) AS g(n)"),
        ("array_repeat", "SELECT x, array_repeat(1, 1000000000) AS r FROM source"),
        ("array_resize", "SELECT x, array_resize([1], 1000000000) AS r FROM source"),
        (
            "generate_series",
            "SELECT x, generate_series(DATE '0001-01-01', DATE '9999-12-31', INTERVAL '1 second') AS r FROM source",
        ),
    ] {
        let problem = typed(sql).expect_err(sql).problem();
        assert!(problem.message.contains(&format!("{name}() would make ")), "{sql}: {problem}");
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
        assert!(problem.hint.is_some() || problem.message.contains("fixed size"), "{sql}: {problem}");
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
    // The depth of the text is bounded, too.
    typed(&format!("SELECT x FROM {inner}")).expect_err("so many levels are too many");
    let steps: Vec<String> = (1..=40)
        .map(|step| {
            format!(
                "t{step} AS (SELECT x || x AS x FROM {})",
                if step == 1 { "source".into() } else { format!("t{}", step - 1) }
            )
        })
        .collect();
    let plan = typed(&format!("WITH {} SELECT x FROM t40", steps.join(", "))).expect("it is planned");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(rows_of(&plan, batch_of(&plan, "abc", 1))).unwrap_err().to_string();
    assert!(error.contains("||() would make "), "{error}");
}

#[tokio::test]
async fn a_replacement_of_many_rows_is_computed_in_parts_and_gives_the_same() {
    let plan = typed("SELECT regexp_replace(x, '[aeiou]', '<vowel \\0>', 'g') AS r FROM source").unwrap();
    let text = "consonants and vowels ".repeat(100);
    let texts = Arc::new(StringArray::from(vec![text.as_str(); 8_192]));
    let batch = arrow::record_batch::RecordBatch::try_new(plan.input_schema().clone(), vec![texts]).unwrap();
    let rows = rows_of(&plan, batch).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rows.len(), 8_192);
    assert!(rows.iter().all(|row| *row == rows[0]) && rows[0].matches("<vowel ").count() == 600, "{}", rows[0]);
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
