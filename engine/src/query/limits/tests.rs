//! Long and deep queries.

use super::super::tests::{batch_of, rows_of};
use super::super::words::tests::typed;

fn chain(term: impl Fn(usize) -> String, terms: usize, between: &str) -> String {
    (0..terms).map(term).collect::<Vec<_>>().join(between)
}

fn refused(sql: &str, because: &str) {
    let problem = typed(sql).expect_err(because).problem();
    assert!(
        problem.message.contains(because) && problem.hint.is_some(),
        "{problem}"
    );
}

/// Runs on a stack of the size of compute threads.
fn computed(sql: &str, text: &'static str, number: i64) -> Vec<String> {
    let plan = typed(sql).unwrap_or_else(|error| panic!("{error}"));
    let thread = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime
                .block_on(rows_of(&plan, batch_of(&plan, text, number)))
                .unwrap()
        });
    thread.unwrap().join().unwrap()
}

#[test]
fn long_lists_of_conditions_are_planned_and_mean_the_same() {
    for terms in [250, 1_000] {
        let any = chain(|at| format!("x = 'c{at}'"), terms, " OR ");
        let none = chain(|at| format!("x <> 'c{at}'"), terms, " AND ");
        let mixed = chain(|at| format!("x = 'c{at}' AND n = {at}"), terms, " OR ");
        for (condition, text, number, found) in [
            (&any, "c249", 0, true),
            (&any, "other", 0, false),
            (&none, "c0", 0, false),
            (&none, "other", 0, true),
            (&mixed, "c7", 7, true),
            (&mixed, "c7", 8, false),
        ] {
            let rows = computed(
                &format!("SELECT x, n FROM source WHERE {condition}"),
                text,
                number,
            );
            assert_eq!(rows.len() == 1, found, "{terms} {text} {number}");
        }
    }
}

#[test]
fn chains_of_other_operators_are_planned_up_to_a_depth_and_refused_beyond() {
    let sum = |terms| chain(|_| "n".into(), terms, " + ");
    let joined = |terms| chain(|_| "x".into(), terms, " || ");
    assert_eq!(
        computed(&format!("SELECT {} AS r FROM source", sum(250)), "a", 2),
        ["500"]
    );
    assert_eq!(
        computed(&format!("SELECT {} AS r FROM source", joined(250)), "a", 2),
        ["a".repeat(250)]
    );
    for terms in [501, 5_000, 20_000] {
        refused(
            &format!("SELECT {} AS r FROM source", sum(terms)),
            "an expression is too deep: the limit is 500 levels",
        );
        refused(
            &format!("SELECT {} AS r FROM source", joined(terms)),
            "an expression is too deep",
        );
        refused(
            &format!("SELECT x FROM source WHERE n{}", "::BIGINT".repeat(terms)),
            "an expression is too deep",
        );
        refused(
            &format!("SELECT x{} FROM source", "[1]".repeat(terms)),
            "an expression is too deep",
        );
    }
    let cases = chain(|at| format!("WHEN n = {at} THEN 'v{at}'"), 1_000, " ");
    typed(&format!("SELECT CASE {cases} END AS r FROM source"))
        .expect("alternatives are no levels");
    typed(&format!(
        "SELECT x FROM source WHERE n IN ({})",
        chain(|at| at.to_string(), 20_000, ", ")
    ))
    .expect("nor are values");
}

#[test]
fn very_long_chains_of_or_are_refused() {
    let sql = format!(
        "SELECT x FROM source WHERE {}",
        chain(|at| format!("x = 'c{at}'"), 20_000, " OR ")
    );
    refused(
        &sql,
        "20000 conditions are joined by AND or OR, the limit is 2000",
    );
    refused(&sql.repeat(3), "the query is too long: ");
}

#[test]
fn what_is_nested_too_deeply_is_refused_whatever_nests_it() {
    let around = |open: &str, inner: &str, close: &str, levels: usize| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    for levels in [60, 1_000, 30_000] {
        for sql in [
            format!("SELECT {} AS r FROM source", around("(", "n", ")", levels)),
            format!(
                "SELECT {} AS r FROM source",
                around("abs(", "n", ")", levels)
            ),
            format!("SELECT {} AS r FROM source", around("[", "n", "]", levels)),
            format!(
                "SELECT * FROM {}",
                around("(SELECT * FROM ", "source", ")", levels)
            ),
            format!("SELECT x FROM {}", around("(", "source", ")", levels)),
            around("(", "SELECT x FROM source", ")", levels),
            format!(
                "SELECT CAST(x AS {}) AS r FROM source",
                around("ARRAY<", "INT", ">", levels)
            ),
            format!("SELECT {} 1 AS r FROM source", "INTERVAL ".repeat(levels)),
        ] {
            refused(
                &sql,
                "the query is nested too deeply: the limit is 50 levels",
            );
        }
        for sql in [
            format!("SELECT {} a AS r FROM source", "NOT ".repeat(levels)),
            format!("SELECT {} n AS r FROM source", "- ".repeat(levels)),
            format!(
                "SELECT {} AS r FROM source",
                around("CASE WHEN a THEN ", "n", " END", levels)
            ),
            format!("{} SELECT x FROM source", "EXPLAIN ".repeat(levels)),
        ] {
            typed(&sql).expect_err("it is refused, and nothing breaks");
        }
    }
}

#[test]
fn a_query_that_reads_a_table_again_and_again_is_refused_before_it_is_planned() {
    let doubled = |steps: usize| {
        let mut with = vec!["t0 AS (SELECT x, n FROM source)".to_owned()];
        with.extend((1..=steps).map(|step| {
            format!(
                "t{step} AS (SELECT a.x, b.n FROM t{0} a JOIN t{0} b ON a.x = b.x)",
                step - 1
            )
        }));
        format!("WITH {} SELECT x, n FROM t{steps}", with.join(", "))
    };
    typed(&doubled(3)).expect("eight readings may be");
    refused(
        &doubled(60),
        "the query reads too many tables: the limit is 64",
    );
    let joins: String = (0..2_000)
        .map(|at| format!(" CROSS JOIN c AS c{at}"))
        .collect();
    refused(
        &format!("SELECT s.x FROM source s{joins}"),
        "the query reads too many tables",
    );
    let selects = chain(|_| "SELECT x FROM source".into(), 5_000, " UNION ALL ");
    refused(&selects, "the query reads too many tables");
    refused(
        "SELECT count(*) AS n FROM source GROUP BY CUBE (x, n, a, b, c, ts, list, x || 'a', x || 'b')",
        "too many groupings",
    );
}

#[test]
fn a_table_with_very_many_columns_is_refused() {
    use arrow::datatypes::{DataType, Field, Schema};
    let wide = |columns: usize| {
        let fields: Vec<Field> = (0..columns)
            .map(|at| Field::new(format!("c{at}"), DataType::Utf8, true))
            .collect();
        std::sync::Arc::new(Schema::new(fields))
    };
    let planned =
        |columns| super::super::QueryPlan::blocking(wide(columns), vec![], "SELECT c1 FROM source");
    planned(super::super::COLUMNS_MAX).expect("so many columns may be");
    let problem = planned(super::super::COLUMNS_MAX + 1)
        .unwrap_err()
        .problem();
    assert_eq!(
        problem.message,
        "table source has 2001 columns, the limit is 2000"
    );
}
