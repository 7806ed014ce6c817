//! Rows without a match in a lookup: how many, and which keys.
//!
//! Owns: the rewrite of joins so that such rows are seen, the operator that counts them, the
//! bounded tally.
//! Rule: the result of a query is the same with and without the counting.
//!
//! An inner join drops such rows unseen. It becomes the outer join that keeps the stream's rows,
//! with a marker column on the lookup's side: a null marker means no match, whatever else is null.
//! An operator ([`Counting`]) above it counts these rows, drops them, and returns what the inner
//! join would have returned. A join that keeps them anyway (`LEFT JOIN`) is only counted. A
//! condition in WHERE on a lookup's column may be applied to the lookup before the join: rows that
//! only it removes are then counted too, as if the lookup had no such row. Not counted: joins
//! without an equality between the two sides, semi and anti joins, and joins under a limit.

use super::operators::{Operator, OperatorExec};
use super::probe::{reads_source, tables_below};
use super::table::incremental;
use arrow::array::{Array, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, is_not_null, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::execution_plan::ExecutionPlanProperties;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_proto::report::{UNMATCHED_KEYS_MAX, UnmatchedKey};

/// Distinct keys that are counted individually per window; rows with further keys are only counted
/// together.
pub const KEYS_TRACKED_MAX: usize = 10_000;

/// Longer keys are cut after this many characters.
pub const KEY_CHARS_MAX: usize = 200;

const NULL: &str = "NULL";

const MARKER: &str = "__streamctl_matched";

/// Counts the rows of one window without a match. Clones share the count; read it after the output
/// ended.
#[derive(Clone, Debug, Default)]
pub struct UnmatchedCounter {
    tally: Arc<Mutex<Tally>>,
    /// The rows of the current run, if a plan runs on one batch after the other: whether they count
    /// is known at its end.
    run: Option<Arc<Mutex<RunKeys>>>,
}

/// Lookup and key of each row.
type RunKeys = Vec<(String, String)>;

#[derive(Debug, Default)]
struct Tally {
    rows: u64,
    keys_tracked: usize,
    keys: BTreeMap<String, HashMap<String, u64>>,
    rows_untracked: u64,
}

impl UnmatchedCounter {
    /// Rows without a match; a row counts once per lookup in which it has none.
    pub fn rows(&self) -> u64 {
        self.lock().rows
    }

    /// Rows whose key came after [`KEYS_TRACKED_MAX`] others: they are in no [`UnmatchedKey`].
    pub fn rows_untracked(&self) -> u64 {
        self.lock().rows_untracked
    }

    /// The most frequent keys, most frequent first, at most [`UNMATCHED_KEYS_MAX`]; equal counts by
    /// lookup and key.
    pub fn top(&self) -> Vec<UnmatchedKey> {
        let tally = self.lock();
        let each = |(lookup, keys): (&String, &HashMap<String, u64>)| {
            let lookup = lookup.clone();
            let key = move |(key, rows): (&String, &u64)| (*rows, lookup.clone(), key.clone());
            keys.iter().map(key).collect::<Vec<_>>()
        };
        let mut all: Vec<(u64, String, String)> = tally.keys.iter().flat_map(each).collect();
        drop(tally);
        all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (&a.1, &a.2).cmp(&(&b.1, &b.2))));
        all.truncate(UNMATCHED_KEYS_MAX);
        all.into_iter()
            .map(|(rows, lookup, key)| UnmatchedKey { lookup, key, rows })
            .collect()
    }

    /// The same count for a plan that runs on one batch after the other.
    pub(super) fn of_runs(&self) -> Self {
        Self {
            tally: Arc::clone(&self.tally),
            run: Some(Arc::default()),
        }
    }

    /// Forgets the rows of a run that failed.
    pub(super) fn begin_run(&self) {
        if let Some(run) = &self.run {
            run.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Counts the rows of the current run.
    pub(super) fn end_run(&self) {
        let Some(run) = &self.run else {
            return;
        };
        let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.is_empty() {
            return;
        }
        let mut tally = self.lock();
        for (lookup, key) in run.drain(..) {
            tally.add(&lookup, key);
        }
    }

    fn add(&self, lookup: &str, keys: impl Iterator<Item = String>) {
        match &self.run {
            Some(run) => run
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(keys.map(|key| (lookup.to_owned(), key))),
            None => {
                let mut tally = self.lock();
                keys.for_each(|key| tally.add(lookup, key));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn add(&mut self, lookup: &str, key: String) {
        self.rows += 1;
        if !self.keys.contains_key(lookup) {
            self.keys.insert(lookup.to_owned(), HashMap::new());
        }
        let Some(keys) = self.keys.get_mut(lookup) else {
            return;
        };
        if let Some(rows) = keys.get_mut(&key) {
            *rows += 1;
        } else if self.keys_tracked < KEYS_TRACKED_MAX {
            self.keys_tracked += 1;
            keys.insert(key, 1);
        } else {
            self.rows_untracked += 1;
        }
    }
}

/// Rewrites the joins of a finished physical plan so that rows without a match are counted.
pub(super) fn count_unmatched(
    plan: Arc<dyn ExecutionPlan>,
    counter: &UnmatchedCounter,
) -> Result<Arc<dyn ExecutionPlan>> {
    let rewrite = |node: Arc<dyn ExecutionPlan>| match counted(&node, counter)? {
        Some(counting) => Ok(Transformed::yes(counting)),
        None => Ok(Transformed::no(node)),
    };
    Ok(plan.transform_up(rewrite)?.data)
}

fn counted(
    node: &Arc<dyn ExecutionPlan>,
    counter: &UnmatchedCounter,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(join) = node.downcast_ref::<HashJoinExec>() else {
        return Ok(None);
    };
    let drops = match join.join_type() {
        JoinType::Inner => true,
        JoinType::Right => false,
        _ => return Ok(None),
    };
    if !reads_source(join.right()) || reads_source(join.left()) || node.fetch().is_some() {
        return Ok(None);
    }
    let mut lookups = Vec::new();
    tables_below(join.left(), &mut lookups);
    if lookups.is_empty() {
        return Ok(None);
    }
    let outer = HashJoinExecBuilder::new(
        marked(join.left())?,
        Arc::clone(join.right()),
        join.on().to_vec(),
        JoinType::Right,
    )
    .with_filter(join.filter().cloned())
    .with_partition_mode(*join.partition_mode())
    .with_null_equality(join.null_equality())
    .build_exec()?;
    let left_width = join.left().schema().fields().len();
    let all = left_width + join.right().schema().fields().len();
    let columns: Vec<usize> = join
        .projection
        .as_ref()
        .map_or_else(|| (0..all).collect(), |columns| columns.to_vec());
    // The marker is between the two sides.
    let columns = columns
        .into_iter()
        .map(|at| if at < left_width { at } else { at + 1 })
        .collect();
    let counting = Counting {
        lookup: lookups.join(","),
        drops,
        marker: left_width,
        keys: join.on().iter().map(|(_, key)| Arc::clone(key)).collect(),
        right_schema: join.right().schema(),
        columns,
        schema: node.schema(),
        counter: counter.clone(),
    };
    Ok(Some(OperatorExec::above(outer, counting)))
}

/// The same rows with one more column, the last, that is never null.
fn marked(side: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = side.schema();
    let column = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| ProjectionExpr {
        expr: Arc::new(Column::new(field.name(), at)),
        alias: field.name().clone(),
    };
    let mut columns: Vec<ProjectionExpr> = schema.fields().iter().enumerate().map(column).collect();
    let marker = Arc::new(Literal::new(ScalarValue::Boolean(Some(true))));
    columns.push(ProjectionExpr {
        expr: marker,
        alias: MARKER.to_owned(),
    });
    Ok(Arc::new(ProjectionExec::try_new(
        columns,
        Arc::clone(side),
    )?))
}

/// Counts rows without a match above an outer join, and drops them if the query does.
#[derive(Debug)]
struct Counting {
    lookup: String,
    drops: bool,
    /// The index of the marker; the stream's columns follow.
    marker: usize,
    /// The stream's side of the join's equalities, over its own columns.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    right_schema: SchemaRef,
    columns: Vec<usize>,
    schema: SchemaRef,
    counter: UnmatchedCounter,
}

impl Counting {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let marker = batch.column(self.marker);
        if marker.null_count() == 0 {
            return self.narrowed(batch);
        }
        let matched = is_not_null(marker)?;
        self.tally(batch, &matched)?;
        if self.drops {
            self.narrowed(&filter_record_batch(batch, &matched)?)
        } else {
            self.narrowed(batch)
        }
    }

    fn narrowed(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .columns
            .iter()
            .map(|&at| Arc::clone(batch.column(at)))
            .collect();
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &rows,
        )?)
    }

    fn tally(&self, batch: &RecordBatch, matched: &BooleanArray) -> Result<()> {
        let at: UInt32Array = (0u32..)
            .zip(matched.values())
            .filter(|(_, found)| !found)
            .map(|(row, _)| row)
            .collect();
        let columns = batch.columns()[self.marker + 1..]
            .iter()
            .map(|column| take(column, &at, None));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(at.len()));
        let rows =
            RecordBatch::try_new_with_options(Arc::clone(&self.right_schema), columns, &rows)?;
        let keys = self
            .keys
            .iter()
            .map(|key| key.evaluate(&rows)?.into_array(rows.num_rows()));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let options = FormatOptions::default().with_null(NULL);
        let texts = keys
            .iter()
            .map(|key| ArrayFormatter::try_new(key.as_ref(), &options));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let key = |row: usize| {
            let text: Vec<String> = keys
                .iter()
                .zip(&texts)
                .map(|(key, text)| shown(text.value(row).to_string(), key.is_null(row)))
                .collect();
            cut(text.join(","))
        };
        self.counter
            .add(&self.lookup, (0..rows.num_rows()).map(key));
        Ok(())
    }
}

/// `NULL` is no value; the text is in quotes.
fn shown(text: String, is_null: bool) -> String {
    match is_null || text != NULL {
        true => text,
        false => format!("'{NULL}'"),
    }
}

fn cut(mut key: String) -> String {
    if let Some((end, _)) = key.char_indices().nth(KEY_CHARS_MAX) {
        key.truncate(end);
    }
    key
}

impl Operator for Counting {
    const NAME: &'static str = "UnmatchedExec";
    const KEEPS_ORDER: bool = false;

    fn details(&self) -> String {
        format!(": {}, drops={}", self.lookup, self.drops)
    }

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
        incremental(
            Arc::clone(&self.schema),
            input.output_partitioning().partition_count(),
        )
    }

    fn expressions(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.keys
    }

    fn run(
        self: Arc<Self>,
        rows: SendableRecordBatchStream,
        schema: SchemaRef,
    ) -> SendableRecordBatchStream {
        let kept = rows.map(move |batch| self.apply(&batch?));
        Box::pin(RecordBatchStreamAdapter::new(schema, kept))
    }
}
