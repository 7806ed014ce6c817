//! A query on one lookup's new rows, before any window uses them.
//!
//! Owns: starting the query without a record of the source, the count of equal keys. Does not own:
//! what follows (`lookup::accept`).
//! Rule: what fails on the lookup's rows alone fails here: the rows fit the plan, and each
//! expression over them is computed.

use super::error::QueryError;
use super::open::{self, QueryResources};
use super::probe::{reads_source, tables_below};
use super::sql;
use super::table::Feed;
use super::{BATCH_ROWS, QueryPlan};
use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::NullEquality;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::JoinType;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_proto::Duplicates;
use tokio::sync::mpsc;

/// Results that are looked at: without records of the source there are hardly any.
const BATCHES_MAX: usize = 16;
/// Equal keys that are named.
pub const DUPLICATES_SHOWN_MAX: usize = 3;

/// Runs the query on no records, with these rows as one lookup and none in the others.
pub(super) async fn run(
    query: &QueryPlan,
    lookup: &str,
    rows: &RecordBatch,
    memory_bytes_max: usize,
) -> Result<Duplicates, QueryError> {
    let mut lookups: BTreeMap<String, RecordBatch> = query
        .lookups
        .iter()
        .map(|(name, schema)| (name.clone(), RecordBatch::new_empty(Arc::clone(schema))))
        .collect();
    lookups.insert(lookup.to_owned(), rows.clone());
    let resources = QueryResources::of_bytes(memory_bytes_max);
    let opened = open::open(query, &lookups, resources).await?;
    opened.input.close();
    let mut output = opened.output;
    for _ in 0..BATCHES_MAX {
        if output.next().await?.is_none() {
            break;
        }
    }
    duplicates(query, lookup, &lookups, memory_bytes_max)
        .await
        .map_err(|error| QueryError::at_run_time(&error, memory_bytes_max))
}

/// Of the join with this lookup that has most of them.
async fn duplicates(
    query: &QueryPlan,
    lookup: &str,
    lookups: &BTreeMap<String, RecordBatch>,
    memory_bytes_max: usize,
) -> Result<Duplicates, DataFusionError> {
    let (_, receiver) = mpsc::channel(1);
    let feed = Feed::new(receiver, query.source_columns.clone(), query.keeps_rows);
    let resources = QueryResources::of_bytes(memory_bytes_max);
    let state = sql::session(open::runtime(resources.pool)?, BATCH_ROWS);
    let fitted = open::fitted(query, lookups)
        .map_err(|error| DataFusionError::Execution(error.to_string()))?;
    let plan = open::physical(query, &fitted, Arc::new(feed), &state).await?;
    let mut joins = vec![];
    joins_with(&plan, lookup, &mut joins);
    let mut most = Duplicates::default();
    for join in joins {
        let Some(join) = join.downcast_ref::<HashJoinExec>() else {
            continue;
        };
        let found = in_join(join, Arc::new(TaskContext::from(&state))).await?;
        if found.rows > most.rows {
            most = found;
        }
    }
    Ok(most)
}

/// The joins that look keys of the stream up in this lookup alone, and give a row for each match.
fn joins_with(
    plan: &Arc<dyn ExecutionPlan>,
    lookup: &str,
    joins: &mut Vec<Arc<dyn ExecutionPlan>>,
) {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let multiplies = matches!(
            join.join_type(),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
        );
        let mut tables = vec![];
        tables_below(join.left(), &mut tables);
        if multiplies && tables == [lookup] && reads_source(join.right()) {
            joins.push(Arc::clone(plan));
        }
    }
    for child in plan.children() {
        joins_with(child, lookup, joins);
    }
}

async fn in_join(
    join: &HashJoinExec,
    context: Arc<TaskContext>,
) -> Result<Duplicates, DataFusionError> {
    let side = Arc::clone(join.left());
    let schema = side.schema();
    let batches: Vec<RecordBatch> = execute_stream(side, context)?.try_collect().await?;
    let rows = concat_batches(&schema, &batches)?;
    let keys = join
        .on()
        .iter()
        .map(|(key, _)| key.evaluate(&rows)?.into_array(rows.num_rows()))
        .collect::<Result<Vec<_>, DataFusionError>>()?;
    let nulls_match = join.null_equality() == NullEquality::NullEqualsNull;
    let fields = keys
        .iter()
        .map(|key| SortField::new(key.data_type().clone()))
        .collect();
    let converted = RowConverter::new(fields)?.convert_columns(&keys)?;
    let mut order: Vec<usize> = (0..rows.num_rows())
        .filter(|row| nulls_match || keys.iter().all(|key| key.is_valid(*row)))
        .collect();
    order.sort_unstable_by(|a, b| converted.row(*a).cmp(&converted.row(*b)));
    let mut groups: Vec<(usize, usize)> = order
        .chunk_by(|a, b| converted.row(*a) == converted.row(*b))
        .filter(|group| group.len() > 1)
        .map(|group| (group.len(), group[0]))
        .collect();
    let mut found = Duplicates {
        keys: groups.len() as u64,
        rows: groups.iter().map(|(rows, _)| *rows as u64).sum(),
        examples: vec![],
    };
    groups.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
    let options = FormatOptions::default().with_null("NULL");
    let texts = keys
        .iter()
        .map(|key| ArrayFormatter::try_new(key.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    for (_, row) in groups.into_iter().take(DUPLICATES_SHOWN_MAX) {
        let text: Vec<String> = texts.iter().map(|all| all.value(row).to_string()).collect();
        found
            .examples
            .push(text.join(",").chars().take(super::KEY_CHARS_MAX).collect());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

    const MEMORY: usize = 64 << 20;

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }

    fn plan(sql: &str) -> QueryPlan {
        let source = schema(&[("id", DataType::Int64), ("country", DataType::Utf8)]);
        let lookup = schema(&[("name", DataType::Utf8), ("code", DataType::Utf8)]);
        QueryPlan::blocking(source, vec![("c".to_owned(), lookup)], sql).unwrap()
    }

    fn rows(names: &[Option<&str>], codes: &[&str]) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        let codes: ArrayRef = Arc::new(StringArray::from(codes.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("name", names, true), ("code", codes, true)])
            .unwrap()
    }

    fn countries() -> RecordBatch {
        let names = [Some("Peru"), Some("Chad"), Some("Peru"), None, None];
        rows(&names, &["PE", "TD", "P2", "", "x"])
    }

    #[tokio::test]
    async fn p21_equal_keys_of_a_join_are_counted_with_examples() {
        for (sql, keys) in [
            (
                "SELECT s.id, c.code FROM source s JOIN c ON s.country = c.name",
                1,
            ),
            (
                "SELECT s.id, c.code FROM source s LEFT JOIN c ON s.country = upper(c.name)",
                1,
            ),
            (
                "SELECT s.id FROM source s, c WHERE s.country = c.name AND c.code <> 'P2'",
                0,
            ),
            (
                "SELECT s.id FROM source s JOIN c ON s.country = c.name AND c.code = 'PE'",
                0,
            ),
            (
                "SELECT id FROM source WHERE country IN (SELECT name FROM c)",
                0,
            ),
            (
                "SELECT s.id FROM source s JOIN (SELECT DISTINCT name FROM c) d ON s.country = d.name",
                0,
            ),
        ] {
            let found = plan(sql).trial("c", &countries(), MEMORY).await.unwrap();
            assert_eq!((found.keys, found.rows), (keys, 2 * keys), "{sql}");
            if keys > 0 {
                assert_eq!(found.examples[0].to_lowercase(), "peru");
            }
        }
    }

    #[tokio::test]
    async fn p43_what_the_query_cannot_compute_on_a_lookup_s_rows_is_found_without_a_record() {
        let sql = "SELECT s.id, CAST(c.code AS BIGINT) AS n FROM source s JOIN c ON s.country = c.name \
                   AND s.id = CAST(c.code AS BIGINT)";
        let plan = plan(sql);
        let good = rows(&[Some("a"), Some("b")], &["1", "2"]);
        assert_eq!(
            plan.trial("c", &good, MEMORY).await.unwrap(),
            Duplicates::default()
        );
        let bad = rows(&[Some("a"), Some("b")], &["1", "n/a"]);
        let error = plan.trial("c", &bad, MEMORY).await.unwrap_err();
        assert!(
            matches!(&error, QueryError::Rows(reason) if reason.contains("n/a")),
            "{error}"
        );
        let other = good.project(&[0]).unwrap();
        let error = plan.trial("c", &other, MEMORY).await.unwrap_err();
        assert!(
            error.to_string().contains("it has no column \"code\""),
            "{error}"
        );
    }
}
