//! What the dialect of Spark refuses, and how it names results.

use crate::query::{QueryError, QueryPlan, QueryText, check};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;
use streamctl_proto::spec::Dialect;

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn text(sql: &str) -> QueryText<'_> {
    QueryText {
        sql,
        dialect: Dialect::Spark,
        is_new: true,
    }
}

fn plan(sql: &str) -> Result<QueryPlan, QueryError> {
    let source = schema(&[
        ("id", DataType::Int32),
        ("country", DataType::Utf8),
        ("first", DataType::Utf8),
        ("last", DataType::Utf8),
        ("qty", DataType::Int32),
        ("code", DataType::Utf8),
        ("status", DataType::Utf8),
        ("channel", DataType::Utf8),
        (
            "ordered_at",
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ),
        ("paid", DataType::Boolean),
    ]);
    let lookup = schema(&[("CountryName", DataType::Utf8), ("Code", DataType::Utf8)]);
    QueryPlan::blocking(source, vec![("c".into(), lookup)], text(sql))
}

fn names(sql: &str) -> Vec<String> {
    let plan = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let schema = plan.output_schema();
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

/// Message, hint and line.
fn refused(sql: &str) -> (String, String, Option<usize>) {
    match plan(sql) {
        Err(QueryError::Sql {
            message,
            hint,
            line,
        }) => (message, hint.unwrap_or_default(), line),
        Err(other) => panic!("{sql}: {other}"),
        Ok(_) => panic!("{sql}: is accepted"),
    }
}

#[test]
fn columns_are_found_without_regard_to_capitals_and_named_as_written() {
    assert_eq!(
        names(
            "SELECT ID, s.`Country`, c.code AS Code FROM source S JOIN c ON S.country = c.countryname"
        ),
        ["ID", "Country", "Code"]
    );
    assert_eq!(
        names("SELECT c.*, id AS Id2 FROM source s JOIN c ON s.country = c.COUNTRYNAME"),
        ["CountryName", "Code", "Id2"]
    );
    assert_eq!(
        names(
            "WITH t AS (SELECT qty AS `The Quantity` FROM source) SELECT `the quantity` + 1 AS more FROM t"
        ),
        ["more"]
    );
}

/// P32: the query of the case, as the script has it.
#[test]
fn a_query_of_a_glue_script_is_accepted_as_it_is() {
    let sql = "SELECT `id`, concat(first, ' ', last) AS name, qty / 2 AS half,\n\
               date_format(ordered_at, 'yyyy-MM-dd') AS day, substring(code, 0, 3) AS head\n\
               FROM source WHERE status = \"paid\" AND channel != 'a`b'";
    assert_eq!(names(sql), ["id", "name", "half", "day", "head"]);
    let plan = plan(sql).unwrap();
    assert_eq!(
        plan.output_schema().field(2).data_type(),
        &DataType::Float64
    );
    assert!(!plan.whole_window());
}

#[test]
fn what_is_not_proven_is_refused_by_name_with_its_line() {
    for (sql, message, hint, line) in [
        (
            "SELECT id,\n  histogram_numeric(country) AS s FROM source",
            "the function histogram_numeric() is not supported in dialect \"spark\"",
            "spark-dialect",
            Some(2),
        ),
        (
            "SELECT current_date() AS d FROM source",
            "answers differently each time",
            "partition_by",
            Some(1),
        ),
        (
            "SELECT id FROM source\nWHERE regexp_like(country, '(?=a)')",
            "a group that begins with (?",
            "write it without",
            None,
        ),
        (
            "SELECT date_format(ordered_at, 'yyyy-ww') AS d FROM source",
            "has the field ww",
            "supported are",
            None,
        ),
        (
            "SELECT 'it''s' AS t FROM source",
            "'' inside of a text",
            "\\'",
            None,
        ),
        (
            "SELECT 300Y AS x FROM source",
            "300Y is not supported",
            "does not fit",
            Some(1),
        ),
        (
            "SELECT id FROM source WHERE paid = 1",
            "boolean and int are not compared",
            "cast one",
            None,
        ),
        (
            "SELECT sum(country) AS s FROM source",
            "sum() does not take",
            "by CAST(column AS DOUBLE)",
            None,
        ),
        (
            "SELECT explode(country) AS s FROM source",
            "explode() does not take string",
            "it takes a list",
            None,
        ),
        (
            "SELECT id FROM source GROUP BY ALL",
            "GROUP BY ALL",
            "name the columns",
            None,
        ),
        (
            "SELECT id DIV 2 + 1 AS x FROM source",
            "DIV without brackets",
            "brackets",
            None,
        ),
        (
            "SELECT id FROM source WHERE 'Peru' NOT IN (SELECT countryname FROM c)",
            "a constant NOT IN",
            "NOT EXISTS",
            None,
        ),
        (
            "SELECT qty + 1 FROM source",
            "column 1 of the result has no name",
            "AS name",
            None,
        ),
    ] {
        let given = refused(sql);
        assert!(given.0.contains(message), "{sql}: {given:?}");
        assert!(given.1.contains(hint), "{sql}: {given:?}");
        if line.is_some() {
            assert_eq!(given.2, line, "{sql}: {given:?}");
        }
    }
}

#[test]
fn a_text_is_checked_without_its_columns() {
    let names = check(text("SELECT `Id`, qty / 2 AS Half FROM source"), &[]).unwrap();
    assert_eq!(names, Some(vec!["Id".into(), "Half".into()]));
    let error = check(text("SELECT histogram_numeric(a) AS s FROM source"), &[]).unwrap_err();
    assert!(error.to_string().contains("histogram_numeric()"), "{error}");
}

#[test]
fn two_columns_of_a_lookup_that_differ_in_capitals_are_refused() {
    let lookup = schema(&[("Code", DataType::Utf8), ("code", DataType::Utf8)]);
    let source = schema(&[("id", DataType::Int32)]);
    let error = QueryPlan::blocking(
        source,
        vec![("c".into(), lookup)],
        text("SELECT id FROM source"),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("differ in capitals"), "{error}");
}

const PAGE: &str = include_str!("../../../../docs/spark-dialect.md");

#[test]
fn the_page_of_the_dialect_lists_its_functions() {
    let between = |begin: &str| {
        let rest = PAGE.split(begin).nth(1).unwrap();
        rest.split("<!-- end -->").next().unwrap()
    };
    let listed: Vec<&str> = between("<!-- functions -->")
        .lines()
        .filter(|line| line.starts_with("- "))
        .collect();
    let usages: Vec<String> = super::list::usages()
        .into_iter()
        .map(|usage| format!("- `{usage}`"))
        .collect();
    assert_eq!(listed, usages);
    let names: Vec<String> = super::list::OTHER_NAMES
        .iter()
        .map(|(other, _)| format!("`{other}`"))
        .collect();
    assert_eq!(between("<!-- names -->").trim(), names.join(", "));
}

#[test]
fn functions_as_arguments_stand_only_where_they_mean_something() {
    let list = "split(code, ',')";
    for (call, message) in [
        (
            format!("size({list}, v -> v)"),
            "the function v -> v as an argument is not supported",
        ),
        (
            format!("aggregate({list}, (a, v) -> a)"),
            "aggregate() with such arguments is not supported",
        ),
        (
            format!("aggregate({list}, 0, (a, v) -> a + 0.5)"),
            "aggregate() begins with int and goes on with decimal(12,1)",
        ),
        (
            format!("zip_with({list}, code, (a, b) -> a)"),
            "zip_with() does not take array<string>, string",
        ),
        (
            format!("transform({list}, 1)"),
            "transform() with such arguments is not supported",
        ),
        (
            format!("filter({list}, v -> 1)"),
            "filter() takes a test, and this is int",
        ),
        (
            "transform(code, v -> v)".to_owned(),
            "transform() does not take string",
        ),
        (
            format!("exists({list}, (v, v) -> true)"),
            "two parameters v is not supported",
        ),
    ] {
        let (found, hint, _) = refused(&format!("SELECT {call} AS r FROM source"));
        assert!(found.starts_with(message), "{call}: {found}");
        assert!(!hint.is_empty(), "{call}: {found}");
    }
    for exists in ["EXISTS", "NOT EXISTS"] {
        for query in ["(SELECT 1 FROM c)", "((SELECT 1 FROM c))"] {
            names(&format!("SELECT id FROM source WHERE {exists} {query}"));
        }
    }
}
