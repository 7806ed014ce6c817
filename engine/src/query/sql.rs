//! From SQL text to an optimized plan, or to words that say what to write instead.
//!
//! Owns: what SQL is allowed, its settings. Does not own: the words for what the planner refuses (`words`). Rule: one SELECT over `source` and the lookups, whose result
//! depends on their rows alone, so that a replay next week gives the same rows.

use super::error::QueryError;
use super::phrase::closest;
use super::probe::ProbeWithSource;
use super::table::{Rows, Table};
use super::words::Written;
use super::{BATCH_ROWS, SOURCE, functions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, Ident, SelectItem, TableFactor, Visit, Visitor};
use futures::FutureExt;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The settings under which every query is planned and executed.
pub(super) fn session(runtime: Arc<RuntimeEnv>, batch_rows: usize) -> SessionState {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(batch_rows);
    let options = config.options_mut();
    // Which side of a join is collected is decided by `ProbeWithSource`, not by sizes.
    options.optimizer.join_reordering = false;
    // A filter made from the lookup's keys would drop unmatched rows before they are counted.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(ProbeWithSource));
    SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_table_function_list(vec![])
        .with_physical_optimizer_rules(rules)
        .with_scalar_functions(functions::all())
        .build()
}

/// Checks and plans a query.
pub(super) fn plan(source: &SchemaRef, lookups: &[(String, SchemaRef)], sql: &str) -> Result<LogicalPlan, QueryError> {
    let state = session(Arc::new(RuntimeEnv::default()), BATCH_ROWS);
    let mut tables = vec![(SOURCE, source)];
    tables.extend(lookups.iter().map(|(name, schema)| (name.as_str(), schema)));
    let written = Written { sql, tables: &tables, functions: functions::names(&state) };
    let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    let statement = read(&state, &written, &names)?;
    let plan = logical(&state, statement, &tables).map_err(|error| written.explain(&error))?;
    let forbid = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    forbid.verify_plan(&plan).map_err(|error| written.explain(&error))?;
    check_repeatable(&plan, &written)?;
    let plan = plain_types(plan)?;
    check_output(&plan)?;
    let plan = state.optimize(&plan).map_err(|error| written.explain(&error))?;
    check_executable(&state, &plan).map_err(|error| written.explain(&error))?;
    Ok(plan)
}

/// Checks what can be checked without knowing any column: that it is one SELECT over the stream and these lookups. Gives
/// the names of the result's columns, where the text says them all.
///
/// # Errors
/// [`QueryError::Sql`], with a hint where one can be given.
pub fn check(sql: &str, lookups: &[&str]) -> Result<Option<Vec<String>>, QueryError> {
    let state = session(Arc::new(RuntimeEnv::default()), BATCH_ROWS);
    let written = Written { sql, tables: &[], functions: vec![] };
    let statement = read(&state, &written, &[&[SOURCE], lookups].concat())?;
    Ok(written_names(&statement))
}

fn written_names(statement: &Statement) -> Option<Vec<String>> {
    let Statement::Statement(statement) = statement else { return None };
    let ast::Statement::Query(query) = &**statement else { return None };
    let ast::SetExpr::Select(select) = &*query.body else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(ast::Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        _ => None,
    };
    let folded = |name: Ident| if name.quote_style.is_some() { name.value } else { name.value.to_ascii_lowercase() };
    select.projection.iter().map(|item| name(item).map(folded)).collect()
}

/// The statement, where it is one SELECT over these tables, and says nothing that would be passed over.
fn read(state: &SessionState, written: &Written<'_>, tables: &[&str]) -> Result<Statement, QueryError> {
    let statement = one_select(written)?;
    check_tables(state, &statement, tables, written)?;
    refuse_ignored(&statement)?;
    Ok(statement)
}

/// Some queries (a few kinds of correlated subqueries) are refused only when operators are chosen, and some words inside
/// of texts (the unit of `date_trunc`, a pattern) only when they are used: better at submit than in the first window.
fn check_executable(state: &SessionState, plan: &LogicalPlan) -> Result<(), DataFusionError> {
    let Some(chosen) = state.query_planner().create_physical_plan(plan, state).now_or_never() else { return Ok(()) };
    let visit = |node: &Arc<dyn ExecutionPlan>| {
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            projection.expr().iter().try_for_each(|part| try_on_nothing(&part.expr, projection.input()))?;
        }
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            try_on_nothing(filter.predicate(), filter.input())?;
        }
        Ok(TreeNodeRecursion::Continue)
    };
    chosen?.apply(visit).map(drop)
}

/// Computes it over no rows. What a subquery gives is not known here.
fn try_on_nothing(part: &Arc<dyn PhysicalExpr>, input: &Arc<dyn ExecutionPlan>) -> Result<(), DataFusionError> {
    if part.exists(|part| Ok(part.is::<ScalarSubqueryExpr>()))? {
        return Ok(());
    }
    part.evaluate(&RecordBatch::new_empty(input.schema())).map(drop)
}

fn one_select(written: &Written<'_>) -> Result<Statement, QueryError> {
    let only = || Some("write one SELECT over `source` and the lookups".to_owned());
    let parsed = DFParser::parse_sql(written.sql).map_err(|error| written.explain(&error))?;
    let mut statements = parsed.into_iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(QueryError::sql("the query must be exactly one statement", only()));
    };
    match &statement {
        Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)) => Ok(statement),
        _ => Err(QueryError::sql("the query must be a SELECT", only())),
    }
}

fn check_tables(
    state: &SessionState,
    statement: &Statement,
    names: &[&str],
    written: &Written<'_>,
) -> Result<(), QueryError> {
    let used = state.resolve_table_references(statement).map_err(|error| written.explain(&error))?;
    for table in &used {
        if table.schema().is_none() && names.contains(&table.table()) {
            continue;
        }
        let hint = match closest(table.table(), names.iter().copied()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("the tables are: {}", names.join(", ")),
        };
        let line = written.line_with(table.table());
        return Err(QueryError::sql(format!("there is no table {table}"), Some(hint)).on_line(line));
    }
    if used.iter().any(|table| table.table() == SOURCE) {
        return Ok(());
    }
    let hint = "select FROM source: its rows are the stream's records".to_owned();
    Err(QueryError::sql("the query does not read the stream", Some(hint)))
}

/// Refuses what the planner would pass over without a word: a sample that is none would be a wrong result.
fn refuse_ignored(statement: &Statement) -> Result<(), QueryError> {
    let Statement::Statement(statement) = statement else { return Ok(()) };
    match statement.visit(&mut Ignored) {
        ControlFlow::Break(what) => {
            Err(QueryError::sql(format!("{what} is not supported"), Some("leave it out".into())))
        }
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Finds what follows a table's name and means nothing to the planner.
struct Ignored;

impl Visitor for Ignored {
    type Break = &'static str;

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<&'static str> {
        let found = match table {
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => "TABLESAMPLE",
            TableFactor::Table { version: Some(_), .. } => "a table's version (AS OF)",
            TableFactor::Table { partitions, .. } if !partitions.is_empty() => "PARTITION after a table's name",
            _ => return ControlFlow::Continue(()),
        };
        ControlFlow::Break(found)
    }
}

/// Planning is asynchronous only for catalogs that are; these tables are here, so it is over at the first poll.
fn logical(
    state: &SessionState,
    statement: Statement,
    tables: &[(&str, &SchemaRef)],
) -> Result<LogicalPlan, DataFusionError> {
    let context = datafusion::prelude::SessionContext::new_with_state(state.clone());
    for (name, schema) in tables {
        let table = Table::new(name, Arc::clone(schema), Rows::Schema);
        context.register_table(TableReference::bare(*name), Arc::new(table))?;
    }
    let late = || Err(DataFusionError::Internal("planning waited for something".into()));
    context.state().statement_to_plan(statement).now_or_never().unwrap_or_else(late)
}

/// Refuses functions that answer differently each time: an epoch that is read again must give the same rows.
fn check_repeatable(plan: &LogicalPlan, written: &Written<'_>) -> Result<(), QueryError> {
    let mut found = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(call.func.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(|error| QueryError::Plan(error.strip_backtrace()))?;
    let Some(name) = found else { return Ok(()) };
    let message =
        format!("{name}() answers differently each time, and a window that is read again must give the same rows");
    let hint = "use a column of the source; for the window's time, partition_by ingest_year, ingest_month, ingest_day, ingest_hour";
    Err(QueryError::sql(message, Some(hint.into())).on_line(written.line_with(&name)))
}

/// Results have plain strings and bytes, whatever a function returned inside.
fn plain_types(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let plain = |data_type: &DataType| match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => Some(DataType::Utf8),
        DataType::BinaryView | DataType::LargeBinary => Some(DataType::Binary),
        _ => None,
    };
    let schema = Arc::clone(plan.schema());
    if schema.fields().iter().all(|field| plain(field.data_type()).is_none()) {
        return Ok(plan);
    }
    let columns = schema.iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        match plain(field.data_type()) {
            Some(data_type) => Ok(column.cast_to(&data_type, &schema)?.alias(field.name())),
            None => Ok(column),
        }
    });
    let columns = columns.collect::<Result<Vec<Expr>, DataFusionError>>();
    let cast = columns.and_then(|columns| LogicalPlanBuilder::from(plan).project(columns)?.build());
    cast.map_err(|error| QueryError::Plan(error.strip_backtrace()))
}

fn check_output(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut seen = BTreeSet::new();
    for field in plan.schema().fields() {
        if !seen.insert(field.name().to_lowercase()) {
            let hint = format!("rename one of them: ... AS {}_2", field.name());
            let message = format!("the result has two columns named {:?}", field.name());
            return Err(QueryError::sql(message, Some(hint)));
        }
        if field.data_type() == &DataType::Null {
            let hint = format!("cast it: CAST(NULL AS VARCHAR) AS {}", field.name());
            return Err(QueryError::sql(format!("column {:?} of the result has no type", field.name()), Some(hint)));
        }
    }
    Ok(())
}

/// The plan with the rows of one window in the place of its tables.
pub(super) fn with_rows(
    plan: &LogicalPlan,
    rows: impl Fn(&str) -> Option<Rows>,
) -> Result<LogicalPlan, DataFusionError> {
    use datafusion::common::tree_node::Transformed;
    let bound = plan.clone().transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            let name = scan.table_name.table().to_owned();
            let Some(rows) = rows(&name) else { return Ok(Transformed::no(LogicalPlan::TableScan(scan))) };
            let table = Table::new(&name, scan.source.schema(), rows);
            scan.source = provider_as_source(Arc::new(table));
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bound.data)
}
