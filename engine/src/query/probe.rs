//! Decides which side of a join is collected: never the stream if the other side does not read it.
//!
//! Rule: the shape of the plan decides, not sizes: a window's size is unknown before it is over.

use super::table::TableExec;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use std::sync::Arc;

/// Swaps joins whose collected (left) side is the stream. A `NOT IN` over a lookup cannot be
/// swapped: it collects the window, within the memory limit.
#[derive(Debug)]
pub(super) struct ProbeWithSource;

impl PhysicalOptimizerRule for ProbeWithSource {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan
            .transform_up(|node| {
                Ok(swapped(&node)?.map_or(Transformed::no(node), Transformed::yes))
            })?
            .data)
    }

    fn name(&self) -> &str {
        "probe_with_source"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn swapped(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let children = node.children();
    let [left, right] = children.as_slice() else {
        return Ok(None);
    };
    if !reads_source(left) || reads_source(right) {
        return Ok(None);
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        if join.null_aware || !join.join_type().supports_swap() {
            return Ok(None);
        }
        return join.swap_inputs(PartitionMode::CollectLeft).map(Some);
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        return if join.join_type().supports_swap() {
            join.swap_inputs().map(Some)
        } else {
            Ok(None)
        };
    }
    node.downcast_ref::<CrossJoinExec>()
        .map(CrossJoinExec::swap_inputs)
        .transpose()
}

/// Whether the stream is read below.
pub(super) fn reads_source(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<TableExec>() {
        Some(table) => table.is_source(),
        None => plan.children().into_iter().any(reads_source),
    }
}

/// The names of the tables that are read below, in order, each once.
pub(super) fn tables_below(plan: &Arc<dyn ExecutionPlan>, names: &mut Vec<String>) {
    if let Some(table) = plan.downcast_ref::<TableExec>() {
        let name = table.table_name();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    for child in plan.children() {
        tables_below(child, names);
    }
}
