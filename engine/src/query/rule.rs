//! Whether a query handles each row of the source alone.
//!
//! Owns: the analysis of the optimized logical plan.
//! Rule: a plan that is not known to be row-wise needs the whole window.
//!
//! Row-wise are, above the one scan of the source: projection, filter, alias, unnest, and a join
//! whose other side has no source and whose type gives each source row its result whatever other
//! source rows there are (inner, outer that keeps the source's side, semi, anti and mark on the
//! source's side). Everything else needs the whole window: aggregate, distinct, sort, limit, window
//! functions, joins that keep the lookup's side, set operations (a branch without the source would
//! be given once per task), a second scan of the source, a subquery over the source.

use super::SOURCE;
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Distinct, Expr, Join, LogicalPlan, TableScan};
use std::collections::{BTreeMap, BTreeSet};

/// How a query uses the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceUse {
    RowWise,
    /// Once (or not at all), all rows together.
    WholeWindow,
    /// More than once: its rows must be kept.
    Repeated,
}

pub(super) fn source_use(plan: &LogicalPlan) -> SourceUse {
    match source_scans(plan) {
        1 if row_wise(plan) => SourceUse::RowWise,
        0 | 1 => SourceUse::WholeWindow,
        _ => SourceUse::Repeated,
    }
}

/// Aggregates whose result does not depend on the order of rows; sums of floats up to their last
/// digits.
const ORDER_FREE: [&str; 30] = [
    "approx_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "grouping",
    "max",
    "median",
    "min",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// Whether the rows of a window must be kept until it is over: they are read more than once, or the
/// result depends on their order, and shards interleave arbitrarily. A plan that is not known to be
/// independent of the order keeps its rows.
pub(super) fn keeps_rows(plan: &LogicalPlan) -> bool {
    match source_use(plan) {
        SourceUse::RowWise => false,
        SourceUse::WholeWindow => depends_on_order(plan),
        SourceUse::Repeated => true,
    }
}

fn depends_on_order(plan: &LogicalPlan) -> bool {
    let mut depends = false;
    let visited = plan.apply_with_subqueries(|node| {
        depends |= match node {
            LogicalPlan::Window(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(Distinct::On(_)) => true,
            LogicalPlan::Sort(sort) => sort.fetch.is_some(),
            LogicalPlan::TableScan(scan) => is_source(scan) && scan.fetch.is_some(),
            LogicalPlan::Aggregate(aggregate) => !aggregate.aggr_expr.iter().all(is_order_free),
            _ => false,
        };
        Ok(if depends {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    debug_assert!(visited.is_ok(), "the visitor above returns no error");
    depends
}

fn is_order_free(aggregate: &Expr) -> bool {
    match aggregate {
        Expr::Alias(alias) => is_order_free(&alias.expr),
        Expr::AggregateFunction(call) => ORDER_FREE.contains(&call.func.name()),
        _ => false,
    }
}

/// Which columns of the source are read, over all of its scans.
pub(super) fn source_columns(plan: &LogicalPlan, width: usize) -> Vec<usize> {
    let mut columns = BTreeSet::new();
    each_source_scan(plan, |scan| match &scan.projection {
        Some(projection) => columns.extend(projection.iter().copied()),
        None => columns.extend(0..width),
    });
    columns.into_iter().collect()
}

/// Which columns of each lookup are read, over all of its scans.
pub(super) fn lookup_columns(plan: &LogicalPlan) -> BTreeMap<String, BTreeSet<String>> {
    let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    each_scan(plan, |scan| {
        let schema = scan.source.schema();
        let of_lookup = columns
            .entry(scan.table_name.table().to_owned())
            .or_default();
        let all = || (0..schema.fields().len()).collect();
        for at in scan.projection.clone().unwrap_or_else(all) {
            of_lookup.insert(schema.field(at).name().clone());
        }
    });
    columns.remove(SOURCE);
    columns
}

fn source_scans(plan: &LogicalPlan) -> usize {
    let mut scans = 0;
    each_source_scan(plan, |_| scans += 1);
    scans
}

fn each_source_scan(plan: &LogicalPlan, mut see: impl FnMut(&TableScan)) {
    each_scan(plan, |scan| {
        if is_source(scan) {
            see(scan);
        }
    });
}

fn each_scan(plan: &LogicalPlan, mut see: impl FnMut(&TableScan)) {
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            see(scan);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor above returns no error");
}

fn is_source(scan: &TableScan) -> bool {
    scan.table_name.table() == SOURCE
}

/// Whether the source is scanned below, subqueries in expressions aside.
fn has_source(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => is_source(scan),
        _ => plan.inputs().into_iter().any(has_source),
    }
}

fn row_wise(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => is_source(scan) && scan.fetch.is_none(),
        LogicalPlan::Projection(node) => row_wise(&node.input),
        LogicalPlan::Filter(node) => row_wise(&node.input),
        LogicalPlan::SubqueryAlias(node) => row_wise(&node.input),
        LogicalPlan::Unnest(node) => row_wise(&node.input),
        LogicalPlan::Join(join) => row_wise_join(join),
        _ => false,
    }
}

fn row_wise_join(join: &Join) -> bool {
    use JoinType::{
        Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi,
    };
    match (has_source(&join.left), has_source(&join.right)) {
        (true, false) => match join.join_type {
            Inner | Left | LeftSemi | LeftAnti | LeftMark => row_wise(&join.left),
            Right | Full | RightSemi | RightAnti | RightMark => false,
        },
        (false, true) => match join.join_type {
            Inner | Right | RightSemi | RightAnti | RightMark => row_wise(&join.right),
            Left | Full | LeftSemi | LeftAnti | LeftMark => false,
        },
        (true, true) | (false, false) => false,
    }
}
