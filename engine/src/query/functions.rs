//! The functions that a query may use, and replacements for missing ones.
//!
//! Owns: the choice, the names of Spark and Athena. Does not own: what a function does
//! (DataFusion).
//! Rule: a function is repeatable and returns columns that files can hold. The operators `->` and
//! `->>` are left out: they bind weaker than `=` and `||` here, and would silently return NULL.

use super::phrase::{REFERENCE, closest};
use super::{bounded, json_text};
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::logical_expr::ScalarUDF;
use datafusion_functions_json::udfs;
use std::sync::Arc;

/// All scalar functions: DataFusion's, and those that read JSON, the content of a column of objects
/// or lists.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all = SessionStateDefaults::default_scalar_functions();
    all.extend([
        udfs::json_as_text_udf(),
        udfs::json_contains_udf(),
        udfs::json_get_array_udf(),
        udfs::json_get_bool_udf(),
        udfs::json_get_float_udf(),
        udfs::json_get_int_udf(),
        udfs::json_get_json_udf(),
        udfs::json_get_str_udf(),
        udfs::json_length_udf(),
        udfs::json_object_keys_udf(),
    ]);
    let mut all = bounded::all(all);
    // It bounds its result itself.
    all.push(Arc::new(json_text::function()));
    all
}

/// Functions of Spark or Athena that DataFusion lacks, and their replacements.
const FROM_ELSEWHERE: [(&str, &str); 20] = [
    ("add_months", "ts + INTERVAL '1' MONTH"),
    ("collect_list", "array_agg(x)"),
    ("collect_set", "array_agg(DISTINCT x)"),
    ("date_add", "ts + INTERVAL '1' DAY"),
    ("date_sub", "ts - INTERVAL '1' DAY"),
    ("dayofmonth", "date_part('day', ts)"),
    ("explode", "unnest(list)"),
    ("from_json", "json_get_str(x, 'key', 'inner key')"),
    ("get_json_object", "json_get_str(x, 'key', 'inner key')"),
    ("hour", "date_part('hour', ts)"),
    ("if", "CASE WHEN a THEN b ELSE c END"),
    ("isnull", "x IS NULL"),
    ("isnotnull", "x IS NOT NULL"),
    ("json_extract", "json_get_json(x, 'key')"),
    ("json_extract_scalar", "json_as_text(x, 'key')"),
    ("month", "date_part('month', ts)"),
    ("rlike", "regexp_like(x, 'pattern')"),
    ("size", "cardinality(list)"),
    ("unix_timestamp", "date_part('epoch', ts)"),
    ("year", "date_part('year', ts)"),
];

/// What to write instead of a missing function.
pub(super) fn instead(name: &str, known: &[String]) -> String {
    if let Some((_, instead)) = FROM_ELSEWHERE.iter().find(|(other, _)| *other == name) {
        return format!("write {instead}");
    }
    if known.iter().any(|known| known == name) {
        return format!(
            "it works over other rows: write {name}() OVER (PARTITION BY ... ORDER BY ...)"
        );
    }
    match closest(name, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean {name}()?"),
        None => format!("the functions are those of DataFusion: {REFERENCE}"),
    }
}

/// The names of all functions.
pub(super) fn names(state: &SessionState) -> Vec<String> {
    let mut names: Vec<String> = state.scalar_functions().keys().cloned().collect();
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::super::QueryPlan;
    use super::super::words::tests::typed;
    use super::*;
    use crate::catalog::arrow_schema;
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use streamctl_proto::resolved::{ColumnType, NestedColumns};
    use streamctl_proto::spec::GENERATOR_COLUMNS;

    #[test]
    fn what_stands_for_a_function_from_elsewhere_works_and_the_function_is_not_there() {
        for (name, instead) in FROM_ELSEWHERE {
            let refused = typed(&format!("SELECT {name}(x) AS r FROM source"))
                .expect_err(name)
                .problem();
            assert_eq!(refused.message, format!("there is no function {name}()"));
            assert_eq!(refused.hint, Some(format!("write {instead}")));
            typed(&format!("SELECT {instead} AS r FROM source"))
                .unwrap_or_else(|error| panic!("{instead}: {error}"));
        }
    }

    const PAGE: &str = include_str!("../../../docs/query.md");

    #[test]
    fn the_page_of_the_query_names_what_stands_for_functions_from_elsewhere() {
        let table = PAGE
            .split("<!-- functions -->")
            .nth(1)
            .and_then(|rest| rest.split("<!-- end -->").next())
            .unwrap();
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(
            rows,
            FROM_ELSEWHERE.map(|(there, here)| format!("| `{there}` | `{here}` |"))
        );
    }

    #[test]
    fn every_query_of_the_page_works() {
        let text = |name: &&str| Field::new(*name, DataType::Utf8, true);
        let mut columns: Vec<Field> = GENERATOR_COLUMNS
            .iter()
            .chain(&["payload"])
            .map(text)
            .collect();
        columns.push(Field::new(
            "sold_at",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            true,
        ));
        let nested = [
            (
                "customer",
                "struct<id:string,tier:int,address:struct<city:string>>",
            ),
            ("items", "array<struct<sku:string,price:decimal(10,2)>>"),
            ("attrs", "map<string,string>"),
        ];
        let nested = nested.map(|(name, type_name)| ColumnType {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
        });
        let nested = arrow_schema(&nested, NestedColumns::Typed).unwrap();
        columns.extend(nested.fields().iter().map(|field| Field::clone(field)));
        let lookup = Schema::new(["CountryName", "Code"].iter().map(text).collect::<Vec<_>>());
        let queries: Vec<&str> = PAGE
            .split("```sql\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(queries.len() >= 4);
        for sql in queries {
            let lookups = vec![("country_lookup".to_owned(), Arc::new(lookup.clone()))];
            let planned = QueryPlan::blocking(Arc::new(Schema::new(columns.clone())), lookups, sql);
            assert_eq!(
                planned
                    .unwrap_or_else(|error| panic!("{sql}: {error}"))
                    .whole_window(),
                sql.contains("GROUP BY")
            );
        }
    }
}
