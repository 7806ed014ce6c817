//! Functions that are not there, and what is written instead.
//!
//! Owns: the names that people bring from Spark and Glue. Does not own: which functions there are (DataFusion).

use super::error::closest;
use super::words::REFERENCE;
use datafusion::execution::SessionState;

/// What Spark has and DataFusion has not, and what does the same.
const FROM_SPARK: [(&str, &str); 16] = [
    ("add_months", "ts + INTERVAL '1' MONTH"),
    ("collect_list", "array_agg(x)"),
    ("collect_set", "array_agg(DISTINCT x)"),
    ("date_add", "ts + INTERVAL '1' DAY"),
    ("date_sub", "ts - INTERVAL '1' DAY"),
    ("dayofmonth", "date_part('day', ts)"),
    ("explode", "unnest(list)"),
    ("hour", "date_part('hour', ts)"),
    ("if", "CASE WHEN a THEN b ELSE c END"),
    ("isnull", "x IS NULL"),
    ("isnotnull", "x IS NOT NULL"),
    ("month", "date_part('month', ts)"),
    ("rlike", "regexp_like(x, 'pattern')"),
    ("size", "cardinality(list)"),
    ("unix_timestamp", "date_part('epoch', ts)"),
    ("year", "date_part('year', ts)"),
];

/// What to write instead of a function that is not there.
pub(super) fn instead(name: &str, known: &[String]) -> String {
    if let Some((_, instead)) = FROM_SPARK.iter().find(|(spark, _)| *spark == name) {
        return format!("write {instead}");
    }
    if known.iter().any(|known| known == name) {
        return format!("it works over other rows: write {name}() OVER (PARTITION BY ... ORDER BY ...)");
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
    use super::super::words::tests::typed;
    use super::*;

    #[test]
    fn what_stands_for_a_function_of_spark_works_and_the_function_is_not_there() {
        for (name, instead) in FROM_SPARK {
            let refused = typed(&format!("SELECT {name}(x) AS r FROM source")).expect_err(name).problem();
            assert_eq!(refused.message, format!("there is no function {name}()"));
            assert_eq!(refused.hint, Some(format!("write {instead}")));
            typed(&format!("SELECT {instead} AS r FROM source")).unwrap_or_else(|error| panic!("{instead}: {error}"));
        }
    }
}
