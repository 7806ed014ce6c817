//! From SQL text to an optimized plan, or to an error with advice.
//!
//! Owns: which SQL is allowed, its settings. Does not own: the messages for what the planner
//! refuses (`words`).
//! Rule: one SELECT over `source` and the lookups, whose result depends on their rows alone, so
//! that a replay next week gives the same rows.

use super::error::QueryError;
use super::map_keys::MapKeys;
use super::names::{self, ResultName};
use super::phrase::closest;
use super::probe::ProbeWithSource;
use super::table::{Rows, Table};
use super::texts::QueryText;
use super::words::Written;
use super::{
    BATCH_ROWS, COLUMNS_MAX, CONSTANT_BYTES_MAX, RecordColumn, SOURCE, allowed, bounded, compared,
    functions, limits, planning, record_columns, repeatable, spark, strftime,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamctl_proto::spec::Dialect;

type OptimizerRuleRef = Arc<dyn OptimizerRule + Send + Sync>;

/// The settings under which every query is planned and executed.
pub(super) fn session(runtime: Arc<RuntimeEnv>, batch_rows: usize) -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(batch_rows);
    let options = config.options_mut();
    // `ProbeWithSource` decides which side of a join is collected, not sizes.
    options.optimizer.join_reordering = false;
    // A filter from the lookup's keys would drop unmatched rows before they are counted.
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
        // They take functions as arguments, whose results may be of any size.
        .with_higher_order_functions(vec![])
        .with_optimizer_rules(interruptible(Optimizer::new().rules))
        .with_physical_optimizer_rules(rules)
        .with_scalar_functions(functions::all())
        .build()
}

/// The settings under which a query of this dialect is planned.
fn session_of(dialect: Dialect) -> SessionState {
    let state = session(Arc::new(RuntimeEnv::default()), BATCH_ROWS);
    let first: Arc<dyn ExprPlanner> = match dialect {
        Dialect::Datafusion => Arc::new(MapKeys),
        Dialect::Spark => Arc::new(spark::Operators),
    };
    let planners = std::iter::once(first).chain(state.expr_planners().iter().cloned());
    let planners = planners.collect();
    let builder = SessionStateBuilder::new_from_existing(state).with_expr_planners(planners);
    match dialect {
        Dialect::Datafusion => builder.build(),
        Dialect::Spark => builder
            .with_scalar_functions(spark::functions())
            .with_higher_order_functions(spark::higher_functions())
            .build(),
    }
}

/// The rules, with a check of the deadline before each.
fn interruptible(rules: Vec<OptimizerRuleRef>) -> Vec<OptimizerRuleRef> {
    let clock: OptimizerRuleRef = Arc::new(StopWhenLate);
    rules
        .into_iter()
        .flat_map(|rule| [Arc::clone(&clock), rule])
        .collect()
}

/// Ends an optimization after its deadline: no caller waits for it any more.
#[derive(Debug)]
struct StopWhenLate;

impl OptimizerRule for StopWhenLate {
    fn name(&self) -> &str {
        "stop_when_late"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        if planning::is_late() {
            return Err(DataFusionError::Execution("planning took too long".into()));
        }
        Ok(Transformed::no(plan))
    }
}

/// Checks and plans a query. `hidden`: columns of `source` that `*` leaves out. Call it on a thread
/// with a large stack (`planning`).
pub(super) fn plan(
    source: &SchemaRef,
    hidden: &[RecordColumn],
    lookups: &[(String, SchemaRef)],
    text: QueryText<'_>,
) -> Result<LogicalPlan, QueryError> {
    check_width("source", source)?;
    for (name, schema) in lookups {
        check_width(name, schema)?;
    }
    let state = session_of(text.dialect);
    let named = named_columns(lookups, text.dialect)?;
    let mut tables = vec![(SOURCE, source)];
    tables.extend(named.iter().map(|(name, schema)| (name.as_str(), schema)));
    let written = Written {
        sql: text.sql,
        dialect: text.dialect,
        tables: &tables,
        functions: functions::names(&state),
    };
    let widths = tables
        .iter()
        .map(|(name, schema)| (*name, schema.fields().len()))
        .collect();
    let Reading {
        mut statement,
        names,
        capitals,
    } = read(&state, &written, &widths)?;
    if text.is_new {
        check_new(&statement, &names, text.dialect)?;
    }
    record_columns::hide(&mut statement, hidden);
    let plan = logical(&state, statement, &tables).map_err(|error| written.explain(&error))?;
    let plan = match text.dialect {
        Dialect::Spark => spark::widened(plan).map_err(|error| written.explain(&error))?,
        Dialect::Datafusion => plan,
    };
    if text.is_new {
        compared::check_constants(&plan).map_err(|error| written.explain(&error))?;
    }
    match text.dialect {
        Dialect::Spark => {
            spark::check(&plan, &capitals).map_err(|error| written.explain(&error))?
        }
        Dialect::Datafusion if text.is_new => {
            compared::check(&plan).map_err(|error| written.explain(&error))?
        }
        Dialect::Datafusion => {}
    }
    let forbid = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    forbid
        .verify_plan(&plan)
        .map_err(|error| written.explain(&error))?;
    check_repeatable(&plan, &written)?;
    let plan = plain_types(plan)?;
    let plan = match text.dialect {
        Dialect::Datafusion => fields_as_written(plan, &names, lookups)?,
        Dialect::Spark => as_written(plan, &names, lookups)?,
    };
    check_output(&plan)?;
    let plan = bounded::bound(plan).map_err(|error| written.explain(&error))?;
    check_patterns(&plan, &written)?;
    let plan = state
        .optimize(&plan)
        .map_err(|error| written.explain(&error))?;
    // Only now are patterns visible that one part of the query passes to another.
    check_patterns(&plan, &written)?;
    // Some rules add calls of functions, too.
    let plan = bounded::bound(plan).map_err(|error| written.explain(&error))?;
    let plan = limits::balance(plan).map_err(|error| written.explain(&error))?;
    check_sizes(&plan)?;
    check_executable(&state, &plan).map_err(|error| written.explain(&error))?;
    Ok(plan)
}

/// Checks everything that does not need the columns: that the text is one SELECT over the stream
/// and these lookups. Returns the names of the result's columns, if the text names them all.
///
/// # Errors
/// [`QueryError::Sql`], with a hint if there is one.
pub fn check(text: QueryText<'_>, lookups: &[&str]) -> Result<Option<Vec<String>>, QueryError> {
    let state = session_of(text.dialect);
    let written = Written {
        sql: text.sql,
        dialect: text.dialect,
        tables: &[],
        functions: vec![],
    };
    // The number of columns of a table is unknown here.
    let tables = lookups
        .iter()
        .chain(&[SOURCE])
        .map(|name| (*name, 1))
        .collect();
    let Reading {
        statement, names, ..
    } = read(&state, &written, &tables)?;
    check_new(&statement, &names, text.dialect)?;
    if let (Dialect::Datafusion, Statement::Statement(inner)) = (text.dialect, &statement) {
        repeatable::check(inner, &state, &written)?;
    }
    Ok(names::known(names))
}

/// What is refused in a query that is submitted now, and was accepted once.
fn check_new(
    statement: &Statement,
    names: &[ResultName],
    dialect: Dialect,
) -> Result<(), QueryError> {
    names::check(names)?;
    match (dialect, statement) {
        (Dialect::Datafusion, Statement::Statement(inner)) => strftime::check(inner),
        _ => Ok(()),
    }
}

/// Lookups with the names of their columns as the dialect has them.
fn named_columns(
    lookups: &[(String, SchemaRef)],
    dialect: Dialect,
) -> Result<Vec<(String, SchemaRef)>, QueryError> {
    if dialect == Dialect::Datafusion {
        return Ok(lookups.to_vec());
    }
    let named = |(name, schema): &(String, SchemaRef)| match spark::columns(schema) {
        Ok(schema) => Ok((name.clone(), schema)),
        Err(column) => {
            let message = format!(
                "lookup {name} has two columns {column:?} that differ in capitals alone, which dialect \"spark\" does not tell apart"
            );
            Err(QueryError::sql(message, Some("rename one of them".into())))
        }
    };
    lookups.iter().map(named).collect()
}

/// The result in which `SELECT s.user.id` is named `id`: the planner gives names like
/// `source.s[user][id]`. If a lookup has fields, they keep such names: queries of earlier builds
/// could read them.
fn fields_as_written(
    plan: LogicalPlan,
    names: &[ResultName],
    lookups: &[(String, SchemaRef)],
) -> Result<LogicalPlan, QueryError> {
    let has_fields = |(_, schema): &(String, SchemaRef)| {
        let mut fields = schema.fields().iter();
        fields.any(|field| field.data_type().is_nested())
    };
    let schema = plan.schema();
    let is_field = |(name, field): (&ResultName, &Arc<Field>)| {
        name.written().is_some_and(|name| {
            field.name() != name && field.name().ends_with(&format!("[{name}]"))
        })
    };
    if names.len() != schema.fields().len()
        || !names.iter().zip(schema.fields()).any(is_field)
        || lookups.iter().any(has_fields)
    {
        return Ok(plan);
    }
    as_written(plan, names, lookups)
}

/// The result with the names that the query has written, as Spark gives them.
fn as_written(
    plan: LogicalPlan,
    names: &[ResultName],
    lookups: &[(String, SchemaRef)],
) -> Result<LogicalPlan, QueryError> {
    let schema = Arc::clone(plan.schema());
    let fields = schema.fields().len();
    let written: Vec<Option<String>> = if names.len() == fields {
        names
            .iter()
            .map(|name| name.written().map(str::to_owned))
            .collect()
    } else {
        // `*`: columns have the names that their tables give them.
        let of_query = names.iter().filter_map(ResultName::written);
        let of_lookups = lookups
            .iter()
            .flat_map(|(_, schema)| schema.fields().iter().map(|field| field.name().as_str()));
        let all: Vec<&str> = of_query.chain(of_lookups).collect();
        let of = |name: &String| all.iter().find(|other| other.to_lowercase() == *name);
        schema
            .fields()
            .iter()
            .map(|field| of(field.name()).map(|name| (*name).to_owned()))
            .collect()
    };
    let is_same = |(place, name): (usize, &Option<String>)| {
        name.as_ref()
            .is_none_or(|name| name == schema.field(place).name())
    };
    if written.iter().enumerate().all(is_same) {
        return Ok(plan);
    }
    let columns = schema
        .iter()
        .zip(written)
        .map(|((qualifier, field), name)| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            match name {
                Some(name) if name != *field.name() => column.alias(name),
                _ => column,
            }
        });
    let columns: Vec<Expr> = columns.collect();
    let named = LogicalPlanBuilder::from(plan)
        .project(columns)
        .and_then(LogicalPlanBuilder::build);
    named.map_err(|error| QueryError::Plan(error.strip_backtrace()))
}

/// A query that was read.
struct Reading {
    statement: Statement,
    names: Vec<ResultName>,
    /// In the dialect of Spark: names behind a dot whose case the planner does not know.
    capitals: BTreeSet<String>,
}

/// The statement, if it is one SELECT over these tables and has no clause that would be ignored.
fn read(
    state: &SessionState,
    written: &Written<'_>,
    tables: &BTreeMap<&str, usize>,
) -> Result<Reading, QueryError> {
    let mut capitals = BTreeSet::new();
    let (mut statement, columns) = match written.dialect {
        Dialect::Datafusion => {
            limits::check_tokens(written.sql)?;
            let mut statement = one_select(written)?;
            let mut names = vec![];
            if let Statement::Statement(inner) = &mut statement {
                names::plain_fields(inner);
                names = names::of(inner, names::folded);
                limits::flatten(inner)?;
            }
            (statement, names)
        }
        Dialect::Spark => {
            let explain = |error: &ParserError| {
                written.explain(&DataFusionError::SQL(Box::new(error.clone()), None))
            };
            let lowered = spark::read(written.sql, explain)?;
            capitals = lowered.capitals;
            let spark::Lowered {
                statement, names, ..
            } = lowered;
            (Statement::Statement(Box::new(statement)), names)
        }
    };
    let lookups = tables.keys().copied().filter(|name| *name != SOURCE);
    let names: Vec<&str> = std::iter::once(SOURCE).chain(lookups).collect();
    check_tables(state, &statement, &names, written)?;
    if let Statement::Statement(inner) = &mut statement {
        allowed::check(state, tables, inner).map_err(|error| written.located(error))?;
    }
    Ok(Reading {
        statement,
        names: columns,
        capitals,
    })
}

fn check_width(table: &str, schema: &SchemaRef) -> Result<(), QueryError> {
    let columns = schema.fields().len();
    if columns <= COLUMNS_MAX {
        return Ok(());
    }
    let message = format!("table {table} has {columns} columns, the limit is {COLUMNS_MAX}");
    Err(QueryError::sql(
        message,
        Some("leave out the columns that the query does not read".into()),
    ))
}

/// Refuses values that would be large for every row: constants, and lists that grow with the rows
/// before.
fn check_sizes(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut found = None;
    let visited = plan.apply_with_subqueries(|node| {
        let columns = node.schema().fields().len();
        if columns > COLUMNS_MAX {
            let message =
                format!("a part of the query has {columns} columns, the limit is {COLUMNS_MAX}");
            found = Some(QueryError::sql(
                message,
                Some("name the columns that are needed in place of *".into()),
            ));
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found = found.take().or(too_large(part)?);
                Ok(if found.is_some() {
                    TreeNodeRecursion::Stop
                } else {
                    TreeNodeRecursion::Continue
                })
            })
        })
    });
    visited.map_err(|error| QueryError::Plan(error.strip_backtrace()))?;
    found.map_or(Ok(()), Err)
}

fn too_large(part: &Expr) -> Result<Option<QueryError>, DataFusionError> {
    Ok(match part {
        Expr::Literal(value, _) => {
            if let Err(reason) = bounded::check_type(&value.data_type()) {
                let message = format!("a constant is too large: {reason}");
                return Ok(Some(QueryError::sql(message, Some("leave it out".into()))));
            }
            let bytes = bounded::scalar_bytes(value)?;
            (bytes > CONSTANT_BYTES_MAX).then(|| {
                let message =
                    format!("a constant has {bytes} bytes, the limit is {CONSTANT_BYTES_MAX}");
                let hint =
                    "every row of the result would hold it: put it into a lookup, and join it";
                QueryError::sql(message, Some(hint.into()))
            })
        }
        Expr::Cast(cast) => bounded::check_type(cast.field.data_type())
            .err()
            .map(too_large_type),
        Expr::TryCast(cast) => bounded::check_type(cast.field.data_type())
            .err()
            .map(too_large_type),
        Expr::WindowFunction(call) if matches!(call.fun.name(), "array_agg" | "string_agg") => {
            let message = format!(
                "{}() OVER (...) is not supported: each row would hold many others",
                call.fun.name()
            );
            let hint = "write it with GROUP BY in a query of its own, and join that";
            Some(QueryError::sql(message, Some(hint.into())))
        }
        _ => None,
    })
}

fn too_large_type(reason: String) -> QueryError {
    QueryError::sql(
        format!("a cast cannot be used here: {reason}"),
        Some("choose another type".into()),
    )
}

/// Some queries (a few kinds of correlated subqueries) are refused only when operators are chosen,
/// and some words inside texts (the unit of `date_trunc`, a pattern) only when they are used:
/// report them at submit rather than in the first window.
fn check_executable(state: &SessionState, plan: &LogicalPlan) -> Result<(), DataFusionError> {
    let Some(chosen) = state
        .query_planner()
        .create_physical_plan(plan, state)
        .now_or_never()
    else {
        return Ok(());
    };
    let visit = |node: &Arc<dyn ExecutionPlan>| {
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            projection
                .expr()
                .iter()
                .try_for_each(|part| try_on_nothing(&part.expr, projection.input()))?;
        }
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            try_on_nothing(filter.predicate(), filter.input())?;
        }
        Ok(TreeNodeRecursion::Continue)
    };
    chosen?.apply(visit).map(drop)
}

/// Computes it over no rows. The result of a subquery is unknown here.
fn try_on_nothing(
    part: &Arc<dyn PhysicalExpr>,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<(), DataFusionError> {
    if part.exists(|part| Ok(part.is::<ScalarSubqueryExpr>()))? {
        return Ok(());
    }
    part.evaluate(&RecordBatch::new_empty(input.schema()))
        .map(drop)
}

fn one_select(written: &Written<'_>) -> Result<Statement, QueryError> {
    let only = || Some("write one SELECT over `source` and the lookups".to_owned());
    let parsed = DFParser::parse_sql(written.sql).map_err(|error| written.explain(&error))?;
    let mut statements = parsed.into_iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(QueryError::sql(
            "the query must be exactly one statement",
            only(),
        ));
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
    let used = state
        .resolve_table_references(statement)
        .map_err(|error| written.explain(&error))?;
    for table in &used {
        if table.schema().is_none() && names.contains(&table.table()) {
            continue;
        }
        let hint = match closest(table.table(), names.iter().copied()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("the tables are: {}", names.join(", ")),
        };
        let line = written.line_with(table.table());
        return Err(
            QueryError::sql(format!("there is no table {table}"), Some(hint)).on_line(line),
        );
    }
    if used.iter().any(|table| table.table() == SOURCE) {
        return Ok(());
    }
    if let Some(line) = bare_interval(written.sql) {
        let quote = match written.dialect {
            Dialect::Datafusion => '"',
            Dialect::Spark => '`',
        };
        let message = "interval is a word of SQL, and no column without quotes";
        let hint = format!("write {quote}interval{quote}");
        return Err(QueryError::sql(message, Some(hint)).on_line(Some(line)));
    }
    let hint = "select FROM source: its rows are the stream's records".to_owned();
    Err(QueryError::sql(
        "the query does not read the stream",
        Some(hint),
    ))
}

/// The line of an `interval` that the parser took for the begin of one, and that swallowed the FROM.
fn bare_interval(sql: &str) -> Option<usize> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .ok()?;
    let mut visible = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .peekable();
    while let Some(token) = visible.next() {
        let is_interval = |token: &Token, keyword: Keyword| matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none());
        if is_interval(&token.token, Keyword::INTERVAL)
            && visible.peek().is_some_and(|next| {
                next.token == Token::Comma || is_interval(&next.token, Keyword::FROM)
            })
        {
            return usize::try_from(token.span.start.line).ok();
        }
    }
    None
}

/// Planning is asynchronous only for asynchronous catalogs; these tables are local, so it completes
/// at the first poll.
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
    let late = || {
        Err(DataFusionError::Internal(
            "planning waited for something".into(),
        ))
    };
    context
        .state()
        .statement_to_plan(statement)
        .now_or_never()
        .unwrap_or_else(late)
}

/// The error of the first invalid call of a function.
fn wrong_call(
    plan: &LogicalPlan,
    judge: impl Fn(&ScalarFunction) -> Option<String>,
) -> Result<Option<String>, QueryError> {
    let mut found = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part {
                    found = judge(call);
                }
                Ok(if found.is_some() {
                    TreeNodeRecursion::Stop
                } else {
                    TreeNodeRecursion::Continue
                })
            })
        })
    });
    visited.map_err(|error| QueryError::Plan(error.strip_backtrace()))?;
    Ok(found)
}

/// Refuses functions whose result differs each time: an epoch that is read again must give the same
/// rows.
fn check_repeatable(plan: &LogicalPlan, written: &Written<'_>) -> Result<(), QueryError> {
    let is_repeatable =
        |call: &ScalarFunction| call.func.signature().volatility == Volatility::Immutable;
    let name = |call: &ScalarFunction| (!is_repeatable(call)).then(|| call.func.name().to_owned());
    let Some(name) = wrong_call(plan, name)? else {
        return Ok(());
    };
    Err(repeatable::refusal(&name, written))
}

/// Rejects time patterns written for Java, as a whole or in part: their letters would appear in
/// every row.
fn check_patterns(plan: &LogicalPlan, written: &Written<'_>) -> Result<(), QueryError> {
    let pattern = |call: &ScalarFunction| {
        let [_, pattern] = call.args.as_slice() else {
            return None;
        };
        let pattern = if call.func.name() == "to_char" {
            constant_text(pattern)
        } else {
            None
        };
        pattern.filter(|pattern| strftime::is_java_pattern(pattern))
    };
    let Some(pattern) = wrong_call(plan, pattern)? else {
        return Ok(());
    };
    let message = format!(
        "date_format(x, '{pattern}') writes letters of the pattern into every row: each field \
         needs a %"
    );
    let hint = match strftime::strftime(&pattern) {
        Some(written) if written.contains('%') => format!("write '{written}'"),
        _ => "write it as strftime does: '%Y-%m-%d %H:%M:%S'".to_owned(),
    };
    Err(QueryError::sql(message, Some(hint)).on_line(written.line_with("date_format")))
}

/// The text of an expression without columns, the same for every row: `concat('%Y-', 'MM')` counts
/// as much as `'%Y-MM'`.
fn constant_text(expr: &Expr) -> Option<String> {
    let text = |value: &ScalarValue| value.try_as_str().flatten().map(str::to_owned);
    if let Expr::Literal(value, _) = expr {
        return text(value);
    }
    let varies = |part: &Expr| {
        let is_other = matches!(
            part,
            Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::Placeholder(_)
        );
        Ok(is_other
            || matches!(
                part,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)
            ))
    };
    if expr.exists(varies).unwrap_or(true) {
        return None;
    }
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let coerced = simplifier.coerce(expr.clone(), &DFSchema::empty()).ok()?;
    // The planner refuses what cannot be computed, with the reason.
    match simplifier.simplify(coerced).ok()? {
        Expr::Literal(value, _) => text(&value),
        _ => None,
    }
}

/// Results have plain strings and bytes, whatever a function returns inside.
fn plain_types(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let plain = |data_type: &DataType| match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => Some(DataType::Utf8),
        DataType::BinaryView | DataType::LargeBinary => Some(DataType::Binary),
        _ => None,
    };
    let schema = Arc::clone(plan.schema());
    if schema
        .fields()
        .iter()
        .all(|field| plain(field.data_type()).is_none())
    {
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
            return Err(QueryError::sql(
                format!("column {:?} of the result has no type", field.name()),
                Some(hint),
            ));
        }
    }
    Ok(())
}

/// The plan with the rows of one window in place of its tables.
pub(super) fn with_rows(
    plan: &LogicalPlan,
    rows: impl Fn(&str) -> Option<Rows>,
) -> Result<LogicalPlan, DataFusionError> {
    let bound = plan
        .clone()
        .transform_up_with_subqueries(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let name = scan.table_name.table().to_owned();
                let Some(rows) = rows(&name) else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let table = Table::new(&name, scan.source.schema(), rows);
                scan.source = provider_as_source(Arc::new(table));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        })?;
    Ok(bound.data)
}
