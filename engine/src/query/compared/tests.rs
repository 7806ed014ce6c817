//! Queries that are refused when they are submitted, and planned when they are stored.

use crate::query::{QueryError, QueryPlan, QueryText};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;
use streamctl_proto::spec::Dialect;

fn plan(sql: &str, is_new: bool) -> Result<QueryPlan, QueryError> {
    let schema = |columns: &[(&str, DataType)]| {
        let fields = columns
            .iter()
            .map(|(name, kind)| Field::new(*name, kind.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    };
    let source = schema(&[
        ("id", DataType::Int32),
        ("country", DataType::Utf8),
        ("units", DataType::Utf8),
        ("store", DataType::Int64),
    ]);
    let lookup = schema(&[("Name", DataType::Utf8), ("Store", DataType::Utf8)]);
    let text = QueryText {
        sql,
        dialect: Dialect::Datafusion,
        is_new,
    };
    QueryPlan::blocking(source, vec![("c".into(), lookup)], text)
}

#[test]
fn what_means_something_else_is_refused_in_a_new_query_and_kept_in_a_stored_one() {
    let cases = [
        // P19: text against numbers.
        (
            "SELECT id FROM source WHERE units > 100",
            "units is text",
            "TRY_CAST(units AS DOUBLE)",
        ),
        (
            "SELECT id FROM source WHERE units = 5",
            "units is text",
            "TRY_CAST",
        ),
        (
            "SELECT id FROM source WHERE units IN (1, 2)",
            "units is text",
            "TRY_CAST",
        ),
        (
            "SELECT id FROM source WHERE units BETWEEN 1 AND 2",
            "units is text",
            "TRY_CAST",
        ),
        (
            "SELECT CASE units WHEN 1 THEN 'a' END AS x FROM source",
            "units is text",
            "TRY_CAST",
        ),
        (
            "SELECT coalesce(units, 0) AS x FROM source",
            "units is text",
            "TRY_CAST",
        ),
        (
            "SELECT s.id FROM source s JOIN c ON s.store = c.\"Store\"",
            "Store is text",
            "TRY_CAST",
        ),
        (
            "SELECT id FROM source WHERE store IN (SELECT \"Store\" FROM c)",
            "is text",
            "TRY_CAST",
        ),
        // P20: NULL in the list.
        (
            "SELECT id FROM source WHERE 'Chad' NOT IN (SELECT \"Name\" FROM c)",
            "a constant NOT IN",
            "NOT EXISTS",
        ),
        // P31, P37: names.
        (
            "SELECT upper(country) FROM source",
            "column 1 of the result has no name: upper(country)",
            "upper(country) AS name",
        ),
        (
            "SELECT id, count(*) OVER () FROM source",
            "column 2 of the result has no name",
            "AS name",
        ),
        ("SELECT id AS \"\" FROM source", "is empty", "AS name"),
    ];
    for (sql, message, hint) in cases {
        let error = plan(sql, true).map(drop).expect_err(sql).problem();
        assert!(error.message.contains(message), "{sql}: {error:?}");
        let given = error.hint.unwrap_or_default();
        assert!(given.contains(hint), "{sql}: {given}");
        if !sql.contains("\"\"") {
            assert!(plan(sql, false).is_ok(), "{sql} is stored");
        }
    }
    for sql in [
        "SELECT id FROM source WHERE units = '5' AND store = '7' AND id > 1",
        "SELECT id FROM source WHERE TRY_CAST(units AS DOUBLE) > 100",
        "SELECT s.id FROM source s JOIN c ON CAST(s.store AS VARCHAR) = c.\"Store\"",
        "SELECT id FROM source WHERE country NOT IN (SELECT \"Name\" FROM c)",
        "SELECT coalesce(units, '0') AS x, s.* FROM source s",
    ] {
        plan(sql, true).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn patterns_of_java_are_refused_where_they_would_fail_every_row() {
    for (sql, hint) in [
        (
            "SELECT to_date(units, 'MM/dd/yyyy') AS d FROM source",
            "write '%m/%d/%Y'",
        ),
        (
            "SELECT to_timestamp(units, 'yyyy-MM-dd') AS d FROM source",
            "write '%Y-%m-%d'",
        ),
    ] {
        let error = plan(sql, true).map(drop).expect_err(sql).problem();
        assert!(error.message.contains("reads no text"), "{error:?}");
        assert!(error.hint.unwrap_or_default().contains(hint), "{sql}");
        let checked = crate::query::check(sql, &["c"]).map(drop).expect_err(sql);
        assert!(checked.to_string().contains("reads no text"), "{checked}");
    }
    plan("SELECT to_date(units, '%m/%d/%Y') AS d FROM source", true).unwrap();
}

#[test]
fn messages_name_what_to_write_and_show_no_dumps() {
    for (sql, message, hint) in [
        // P20: the dump of a subquery.
        (
            "SELECT id, country IN (SELECT \"Name\" FROM c) AS hit FROM source",
            "only possible as a condition",
            "LEFT JOIN",
        ),
        (
            "SELECT id FROM source s WHERE s.country NOT IN (SELECT \"Name\" FROM c b WHERE b.\"Store\" = s.units)",
            "whose SELECT has a condition on the outer row",
            "NOT EXISTS",
        ),
        // P16: a word of SQL.
        (
            "SELECT interval FROM source",
            "interval is a word of SQL",
            "\"interval\"",
        ),
        // P31: double quotes.
        (
            "SELECT id FROM source WHERE country = \"fine\"",
            "there is no column \"fine\"",
            "single quotes: 'fine'",
        ),
    ] {
        let error = plan(sql, true).map(drop).expect_err(sql).problem();
        assert!(error.message.contains(message), "{sql}: {error:?}");
        let given = error.hint.clone().unwrap_or_default();
        assert!(given.contains(hint), "{sql}: {given}");
        assert!(!error.message.contains(" { "), "{error:?}");
    }
}
