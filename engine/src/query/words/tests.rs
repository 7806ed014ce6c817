//! Common mistakes in queries, and their messages.

use super::super::{QueryError, QueryPlan, check};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use std::sync::Arc;
use streamctl_proto::spec::Part;

/// Over columns of several types.
pub(in super::super) fn typed(sql: &str) -> Result<QueryPlan, QueryError> {
    let text = Arc::new(Field::new("item", DataType::Utf8, true));
    let columns = [
        ("x", DataType::Utf8),
        ("n", DataType::Int64),
        ("a", DataType::Boolean),
        ("b", DataType::Int32),
        ("c", DataType::Int32),
        ("list", DataType::List(text)),
        ("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ];
    let lookup = ["CountryName", "Code"].map(|name| Field::new(name, DataType::Utf8, true));
    let lookup = Arc::new(Schema::new(lookup.to_vec()));
    let columns: Vec<Field> = columns
        .into_iter()
        .map(|(name, of)| Field::new(name, of, true))
        .collect();
    QueryPlan::blocking(
        Arc::new(Schema::new(columns)),
        vec![("c".into(), lookup)],
        sql,
    )
}

#[test]
fn refusals_of_the_planner_are_worded_for_users() {
    for (sql, message, hint) in [
        (
            "SELEC x FROM source",
            "Expected: an SQL statement, found: SELEC",
            "did you mean SELECT?",
        ),
        (
            "SELECT x AS y FORM source",
            "Expected: end of statement, found: FORM",
            "did you mean FROM?",
        ),
        (
            "SELECT x FROM source WHERE (x = '1'",
            "Expected: ), but the query ends",
            "",
        ),
        ("SELECT 'abc FROM source", "Unterminated string literal", ""),
        (
            "SELECT sum(x) AS r FROM source",
            "sum() does not take (Utf8)",
            "sum(Int64) or sum(Float64)",
        ),
        (
            "SELECT sum(x) AS r FROM source",
            "sum() does not take (Utf8)",
            "TRY_CAST(column AS DOUBLE)",
        ),
        (
            "SELECT upper(x, 3) AS r FROM source",
            "upper() does not take (Utf8, Int64)",
            "it takes upper(String); ",
        ),
        (
            "SELECT abs(x) AS r FROM source",
            "abs() does not take (Utf8)",
            "it takes abs(",
        ),
        (
            "SELECT uper(x) AS r FROM source",
            "there is no function uper()",
            "did you mean upper()?",
        ),
        (
            "SELECT frobnicate(x) AS r FROM source",
            "there is no function frobnicate()",
            "those of DataFusion: https://",
        ),
        (
            "SELECT x, row_number() AS r FROM source",
            "there is no function row_number()",
            "row_number() OVER (",
        ),
        (
            "SELECT CAST(x AS FOO) AS r FROM source",
            "there is no type FOO",
            "the types are: VARCHAR, BIGINT",
        ),
        (
            "SELECT x + 1 AS r FROM source",
            "Cannot coerce arithmetic expression Utf8 + Int64",
            "TRY_CAST(column AS DOUBLE)",
        ),
        (
            "SELECT x, count(*) AS r FROM source",
            "source.x is neither in GROUP BY nor inside",
            "write max(source.x)",
        ),
        (
            "SELECT x FROM source HAVING x > '1'",
            "HAVING clause references",
            "written after WHERE",
        ),
        (
            "SELECT x FROM source WHERE n",
            "source.n is no condition: it is Int64",
            "compare it",
        ),
        (
            "SELECT x FROM source WHERE n = 'many'",
            "Cannot cast string 'many' to value of Int64 type",
            "",
        ),
        (
            "SELECT x FROM source WHERE x = $1",
            "Placeholder '$1' was not",
            "write the value itself",
        ),
        (
            "SELECT x['a'].b AS r FROM source",
            "",
            "json_get_str(column, 'key', 'inner key')",
        ),
        (
            "SELECT unnest(x) AS r FROM source",
            "unnest() can only",
            "unnest(json_get_array(column))",
        ),
        (
            "SELECT json_get_str(n, 'a') AS r FROM source",
            "Unexpected argument type to 'json_get_str'",
            "CAST(column AS VARCHAR)",
        ),
        (
            "SELECT x FROM source LATERAL VIEW explode(list) t AS e",
            "LATERAL VIEW",
            "write unnest(list)",
        ),
        (
            "SELECT x->>'a' AS r FROM source",
            "Operator ->> is not yet supported",
            "json_get_str(column, 'key'",
        ),
        (
            "SELECT list = 1 AS r FROM source",
            "Cannot infer common argument type",
            "CAST(column AS VARCHAR)",
        ),
        (
            "SELECT date_trunc('dya', ts) AS r FROM source",
            "Unsupported date_trunc granularity: 'dya'",
            "",
        ),
        (
            "SELECT extract(foo FROM ts) AS r FROM source",
            "Date part 'foo' not supported",
            "",
        ),
        (
            "SELECT x FROM source s JOIN c ON s.x = c.\"Code\" WHERE regexp_like(x, '(')",
            "regex parse error: ( ^ error: unclosed",
            "",
        ),
        (
            "SELECT substr(x) AS r FROM source",
            "Substring without for/from is not valid Substring",
            "",
        ),
        (
            "SELECT x FROM source PIVOT (sum(n) FOR x IN ('a'))",
            "PIVOT is not supported",
            "CASE WHEN",
        ),
        (
            "SELECT x FROM source TABLESAMPLE (10)",
            "TABLESAMPLE is not supported",
            "leave it out",
        ),
        (
            "SELECT y.x FROM source s",
            "there is no table y where y.x is written",
            "the tables there are: s",
        ),
        (
            "SELECT source.x FROM source s",
            "there is no table source where",
            "the tables there are: s",
        ),
        (
            "SELECT x FROM source s JOIN source t ON s.n = t.n",
            "several tables have a column \"x\"",
            "source.x",
        ),
        (
            r#"SELECT x, (SELECT max("Code") FROM c WHERE c."CountryName" < s.x) AS m FROM source s"#,
            "Physical plan does not support",
            "write it as a join",
        ),
    ] {
        let problem = typed(sql).expect_err(sql).problem();
        assert!(problem.message.starts_with(message), "{sql}: {problem}");
        assert!(
            problem.hint.as_deref().unwrap_or_default().contains(hint),
            "{sql}: {problem}"
        );
        for inside in ["Internal", "bug", "Span(", "backtrace", "Line:"] {
            assert!(!problem.to_string().contains(inside), "{sql}: {problem}");
        }
    }
}

#[test]
fn what_is_wrong_has_the_line_of_the_query_on_which_it_stands() {
    for (sql, line) in [
        ("SELECT x\nFROM source\nWHER x = 1", Some(3)),
        ("SELECT x\nFROM source\nWHERE (x = '1'\n", Some(3)),
        ("SELECT x,\n  nope\nFROM source", Some(2)),
        ("SELECT x,\n  s.nope\nFROM source s", Some(2)),
        (
            "SELECT x\nFROM source s\nJOIN source t ON s.n = t.n",
            Some(1),
        ),
        ("SELECT x\nFROM\n  sorce", Some(3)),
        ("SELECT x,\n  uper(x) AS u\nFROM source", Some(2)),
        ("SELECT\n  sum(x) AS r\nFROM source", Some(2)),
        ("SELECT CAST(x\n  AS FOO) AS r FROM source", Some(2)),
        ("SELECT x,\n  now() AS r\nFROM source", Some(2)),
        ("SELECT n,\n  x\nFROM source\nGROUP BY n", Some(2)),
        // The word is on two lines: it is unknown which one is meant.
        ("SELECT sum(n) AS s,\n  sum(x) AS t\nFROM source", None),
    ] {
        let found = typed(sql).expect_err(sql).problem();
        assert_eq!(found.part, line.map(Part::Line), "{sql}: {found}");
    }
}

#[test]
fn a_query_is_checked_without_knowing_a_column() {
    let names = |sql| check(sql, &["l"]).expect(sql).map(|names| names.join(" "));
    let all = names(r#"SELECT s.Anything, "Code", max(x) AS M FROM source s JOIN l ON s.a = l.b"#);
    assert_eq!(all.as_deref(), Some("anything Code m"));
    let union = names("SELECT a FROM source UNION ALL SELECT b FROM l");
    assert_eq!(union.as_deref(), Some("a"));
    assert_eq!(names("SELECT * FROM source"), None);
    let wrong = |sql| check(sql, &["l"]).expect_err(sql).to_string();
    assert_eq!(
        wrong("SELECT anything FROM source JOIN m"),
        "there is no table m"
    );
    assert_eq!(
        wrong("SELECT 1; SELECT 2"),
        "the query must be exactly one statement"
    );
    assert_eq!(
        wrong("SELECT a FROM l"),
        "the query does not read the stream"
    );
    let moment = wrong("SELECT current_timestamp AS t FROM source");
    assert!(moment.starts_with("now() answers differently"), "{moment}");
    assert!(names("SELECT upper(a) AS a FROM source").is_some());
    assert_eq!(
        wrong("SELECT a FROM source TABLESAMPLE (1 ROWS)"),
        "TABLESAMPLE is not supported"
    );
}
