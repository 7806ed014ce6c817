//! Rows and computing time of each operator of a running query.
//!
//! Owns: the walk over a plan, the figures of runs whose plan began anew. Does not own: measuring
//! (DataFusion's operators do, and `operators`), the form of the figures (`streamctl_proto`).
//! Rule: what really ran is counted, also runs that failed and were computed again with fewer rows.
//! The figures are read once per window; while it runs, they cost what DataFusion spends anyway.

use super::table::TableExec;
use datafusion::common::Result;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_proto::profile::{
    LOOKUP_OPERATOR, OPERATORS_MAX, OperatorFigures, SOURCE_OPERATOR, add,
};

/// Our operators that pass rows on unchanged.
const HIDDEN: [&str; 2] = ["PacedExec", "CooperativeExec"];

/// The figures of an open query. Read after its output has ended: operators add some of their
/// figures when their stream ends.
#[derive(Clone, Debug)]
pub struct QueryProfile {
    /// None: all of the plan is run on each batch.
    rest: Option<Arc<dyn ExecutionPlan>>,
    steps: Option<Arc<StepsPlan>>,
}

impl QueryProfile {
    /// Of a plan that runs once.
    pub(super) fn of_plan(plan: &Arc<dyn ExecutionPlan>) -> Self {
        Self {
            rest: Some(Arc::clone(plan)),
            steps: None,
        }
    }

    /// Of a plan whose first part is run on each batch; `rest` reads the result of that.
    pub(super) fn of_steps(rest: Option<&Arc<dyn ExecutionPlan>>, steps: &Arc<StepsPlan>) -> Self {
        Self {
            rest: rest.map(Arc::clone),
            steps: Some(Arc::clone(steps)),
        }
    }

    /// The operators with their figures so far, from the result down; at most [`OPERATORS_MAX`].
    pub fn operators(&self) -> Vec<OperatorFigures> {
        let steps = self.steps.as_deref().map(StepsPlan::operators);
        let Some(rest) = &self.rest else {
            return steps.unwrap_or_default();
        };
        let mut found = Vec::new();
        walk(rest, 0, steps.as_deref(), &mut found);
        found
    }
}

/// The part of a plan that is run on one batch after the other.
#[derive(Debug)]
pub(super) struct StepsPlan(Mutex<Runs>);

#[derive(Debug)]
struct Runs {
    plan: Arc<dyn ExecutionPlan>,
    /// Figures of runs before the plan began anew.
    earlier: Vec<OperatorFigures>,
}

impl StepsPlan {
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self(Mutex::new(Runs {
            plan,
            earlier: Vec::new(),
        }))
    }

    /// The plan to run now.
    pub(super) fn plan(&self) -> Arc<dyn ExecutionPlan> {
        Arc::clone(&self.lock().plan)
    }

    /// Begins with a plan that has no figures; those so far are kept here.
    pub(super) fn begin_anew(&self) -> Result<()> {
        let mut runs = self.lock();
        let next = reset_plan_states(Arc::clone(&runs.plan))?;
        runs.earlier = runs.operators();
        runs.plan = next;
        Ok(())
    }

    fn operators(&self) -> Vec<OperatorFigures> {
        self.lock().operators()
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs {
    fn operators(&self) -> Vec<OperatorFigures> {
        let mut found = Vec::new();
        walk(&self.plan, 0, None, &mut found);
        add(&mut found, &self.earlier);
        found
    }
}

/// Adds an operator and those below it. In place of the stream come the operators of `steps`.
fn walk(
    node: &Arc<dyn ExecutionPlan>,
    depth: usize,
    steps: Option<&[OperatorFigures]>,
    found: &mut Vec<OperatorFigures>,
) {
    if found.len() >= OPERATORS_MAX {
        return;
    }
    let table = node.downcast_ref::<TableExec>();
    if let Some(steps) = steps.filter(|_| table.is_some_and(TableExec::is_source)) {
        let below = |one: &OperatorFigures| OperatorFigures {
            depth: one
                .depth
                .saturating_add(u32::try_from(depth).unwrap_or(u32::MAX)),
            ..one.clone()
        };
        let room = OPERATORS_MAX - found.len();
        found.extend(steps.iter().take(room).map(below));
        return;
    }
    let mut below = depth;
    if !HIDDEN.contains(&node.name()) {
        found.push(figures(node, table, depth));
        below += 1;
    }
    for child in node.children() {
        walk(child, below, steps, found);
    }
}

fn figures(
    node: &Arc<dyn ExecutionPlan>,
    table: Option<&TableExec>,
    depth: usize,
) -> OperatorFigures {
    let named = match table {
        Some(table) if table.is_source() => OperatorFigures::new(depth, SOURCE_OPERATOR, ""),
        Some(table) => OperatorFigures::new(depth, LOOKUP_OPERATOR, table.table_name()),
        None => {
            let text = displayable(node.as_ref()).one_line().to_string();
            let detail = text.trim().strip_prefix(node.name()).unwrap_or_default();
            let detail = detail.trim_start_matches(':').trim();
            OperatorFigures::new(depth, node.name(), detail)
        }
    };
    let metrics = node.metrics();
    let measured = metrics.as_ref();
    OperatorFigures {
        rows: measured
            .and_then(|metrics| metrics.output_rows())
            .map(|rows| rows as u64),
        compute_us: measured
            .and_then(|metrics| metrics.elapsed_compute())
            .map(|nanoseconds| nanoseconds as u64 / 1_000),
        ..named
    }
}
