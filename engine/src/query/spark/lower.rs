//! From the syntax of Spark SQL to that of the planner.
//!
//! Owns: parsing, literals, names, the rewriting of expressions. Does not own: functions that make
//! rows (`views`), aggregates (`aggregates`), types (`operators`, `call`), clauses that have no meaning
//! here (`allowed`).
//! Rule: an expression is rewritten to one that is proven to mean the same, or it is refused by
//! name with its line. Nothing passes that this file does not name.

mod calls;
mod lambdas;
mod literals;
mod spans;
mod views;

use super::call::Refusal;
use super::list;
use crate::query::error::QueryError;
use crate::query::limits;
use crate::query::names::{self, ResultName};
use crate::query::phrase::closest;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, Expr,
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr,
    Ident, Interval, LimitClause, NamedWindowDefinition, NamedWindowExpr, ObjectName,
    ObjectNamePart, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, SetOperator,
    Spanned, Statement, Subscript, TrimWhereField, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut, WindowFrame, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::dialect::{Dialect, SparkSqlDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError, ParserOptions};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Spark's syntax as the parser has it, with texts as Spark writes them.
#[derive(Debug)]
struct Spark(SparkSqlDialect);

impl Dialect for Spark {
    fn dialect(&self) -> std::any::TypeId {
        self.0.dialect()
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        letter == '`'
    }

    fn is_identifier_start(&self, letter: char) -> bool {
        self.0.is_identifier_start(letter)
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        self.0.is_identifier_part(letter)
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_bang_not_operator(&self) -> bool {
        true
    }

    fn supports_select_item_multi_column_alias(&self) -> bool {
        true
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        self.0.parse_infix(parser, expr, precedence)
    }
}

/// A query that was read.
pub(in crate::query) struct Lowered {
    pub statement: Statement,
    /// The names of the result's columns as they are written.
    pub names: Vec<ResultName>,
    /// Names behind a dot that are written with capitals or in backticks, in lower case.
    pub capitals: BTreeSet<String>,
}

type Parsed = Result<Vec<Statement>, QueryError>;

/// Reads a text that is one SELECT.
///
/// # Errors
/// [`QueryError::Sql`].
pub(in crate::query) fn read(
    sql: &str,
    explain: impl Fn(&ParserError) -> QueryError,
) -> Result<Lowered, QueryError> {
    let dialect = Spark(SparkSqlDialect {});
    let tokens = Tokenizer::new(&dialect, sql)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| explain(&ParserError::TokenizerError(error.to_string())))?;
    limits::count_tokens(tokens.iter().map(|token| &token.token))?;
    let tokens = literals::joined_texts(literals::typed_numbers(tokens)?)?;
    let tokens = literals::joined_intervals(tokens);
    let parsed = |tokens: Vec<TokenWithSpan>| -> Parsed {
        Parser::new(&dialect)
            .with_options(ParserOptions::new().with_unescape(false))
            .with_recursion_limit(limits::SQL_NESTING_MAX)
            .with_tokens_with_locations(tokens)
            .parse_statements()
            .map_err(|error| explain(&error))
    };
    let mut tokens: Vec<TokenWithSpan> = tokens.into_iter().map(unquoted).collect();
    lambdas::name_exists(&mut tokens);
    // Names are compared without regard to capitals, and written into the result as they are.
    let names = match parsed(tokens.clone())?.first() {
        Some(statement) => names::of(statement, |name| name.value.clone()),
        None => vec![],
    };
    let folded = tokens.into_iter().map(folded).collect();
    let mut statements = parsed(folded)?.into_iter();
    let hint = || Some("write one SELECT over `source` and the lookups".to_owned());
    let (Some(mut statement), None) = (statements.next(), statements.next()) else {
        return Err(QueryError::sql(
            "the query must be exactly one statement",
            hint(),
        ));
    };
    if !matches!(statement, Statement::Query(_)) {
        return Err(QueryError::sql("the query must be a SELECT", hint()));
    }
    limits::flatten(&mut statement)?;
    let mut lower = Lower::default();
    match VisitMut::visit(&mut statement, &mut lower) {
        ControlFlow::Continue(()) => Ok(Lowered {
            statement,
            names,
            capitals: lower.capitals,
        }),
        ControlFlow::Break(refused) => Err(*refused),
    }
}

/// Two quotes inside of a quoted name are one.
fn unquoted(mut token: TokenWithSpan) -> TokenWithSpan {
    if let Token::Word(word) = &mut token.token
        && word.quote_style.is_some()
    {
        word.value = word.value.replace("``", "`");
    }
    token
}

fn folded(mut token: TokenWithSpan) -> TokenWithSpan {
    if let Token::Word(word) = &mut token.token
        && word.quote_style.is_some()
    {
        word.value = word.value.to_lowercase();
    }
    token
}

fn line(number: u64) -> Option<usize> {
    usize::try_from(number).ok().filter(|line| *line > 0)
}

type Step = ControlFlow<Refused>;

pub(super) type Refused = Box<QueryError>;

#[derive(Default)]
pub(super) struct Lower {
    limits: Vec<Option<LimitClause>>,
    frames: Vec<Option<WindowFrame>>,
    /// Those of the windows that each SELECT names.
    named_frames: Vec<Vec<Option<WindowFrame>>>,
    /// The line of the innermost expression whose line is known.
    line: Option<usize>,
    capitals: BTreeSet<String>,
    /// Parameters of the functions around the expression.
    parameters: Vec<Vec<String>>,
    /// Functions that may be arguments, and were not reached yet.
    lambdas_due: usize,
}

impl Lower {
    pub(super) fn refuse(&self, what: impl std::fmt::Display, hint: &str) -> Refused {
        Box::new(
            QueryError::sql(
                format!("{what} is not supported in dialect \"spark\""),
                Some(hint.to_owned()),
            )
            .on_line(self.line),
        )
    }

    fn step(result: Result<(), Box<QueryError>>) -> Step {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(refused) => ControlFlow::Break(refused),
        }
    }
}

pub(super) fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

pub(super) fn text(value: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(value.into()))
}

/// A call of one of this dialect's functions, whose name no query can write.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote(
            '"', name,
        ))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args
                .into_iter()
                .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)))
                .collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(expr),
    }
}

fn negated(is_negated: bool, expr: Expr) -> Expr {
    let expr = Expr::Nested(Box::new(expr));
    if is_negated { not(expr) } else { expr }
}

/// NULL comes first, and last with DESC.
fn order(by: &mut [OrderByExpr]) {
    for by in by {
        if by.options.nulls_first.is_none() {
            by.options.nulls_first = Some(by.options.asc.unwrap_or(true));
        }
    }
}

/// The number of a column, as `GROUP BY 1` has it.
fn ordinal(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(number, _),
            ..
        }) => number.parse().ok(),
        _ => None,
    }
}

/// The column with this number: its name, or its expression if it has none.
fn column(select: &Select, number: usize, by_name: bool) -> Option<Expr> {
    let wild = select.projection.iter().any(|item| {
        !matches!(
            item,
            SelectItem::ExprWithAlias { .. } | SelectItem::UnnamedExpr(_)
        )
    });
    if wild {
        return None;
    }
    match select.projection.get(number.checked_sub(1)?)? {
        SelectItem::ExprWithAlias { alias, .. } if by_name => Some(Expr::Identifier(alias.clone())),
        SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => {
            Some(expr.clone())
        }
        _ => None,
    }
}

/// The windows that a SELECT names: `WINDOW w AS (ORDER BY x)`.
fn windows_of(select: &mut Select) -> impl Iterator<Item = &mut WindowSpec> {
    let windows = select.named_window.iter_mut();
    windows.filter_map(|NamedWindowDefinition(_, window)| match window {
        NamedWindowExpr::WindowSpec(window) => Some(window),
        NamedWindowExpr::NamedWindow(_) => None,
    })
}

/// Orders them, and takes their frames, whose numbers stay as they are.
fn named_windows(select: &mut Select) -> Vec<Option<WindowFrame>> {
    windows_of(select)
        .map(|window| {
            order(&mut window.order_by);
            window.window_frame.take()
        })
        .collect()
}

/// MINUS is another word for EXCEPT.
fn minus_as_except(body: &mut SetExpr) {
    if let SetExpr::SetOperation {
        op, left, right, ..
    } = body
    {
        if let SetOperator::Minus = op {
            *op = SetOperator::Except;
        }
        minus_as_except(left);
        minus_as_except(right);
    }
}

impl VisitorMut for Lower {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Step {
        self.limits.push(query.limit_clause.take());
        Self::step(self.query(query))
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Step {
        query.limit_clause = self.limits.pop().flatten();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Step {
        self.named_frames.push(named_windows(select));
        let views = self
            .time_windows(select)
            .and_then(|()| self.generators(select))
            .and_then(|()| self.lateral_views(select));
        if let Err(refused) = views {
            return ControlFlow::Break(refused);
        }
        let mut group_by = std::mem::replace(
            &mut select.group_by,
            GroupByExpr::Expressions(vec![], vec![]),
        );
        let result = match &mut group_by {
            GroupByExpr::All(_) => Err(self.refuse("GROUP BY ALL", "name the columns to group by")),
            GroupByExpr::Expressions(exprs, _) => self.ordinals(exprs, select),
        };
        select.group_by = group_by;
        Self::step(result)
    }

    fn post_visit_select(&mut self, select: &mut Select) -> Step {
        let frames = self.named_frames.pop().unwrap_or_default();
        for (window, frame) in windows_of(select).zip(frames) {
            window.window_frame = frame;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Step {
        let (raw, quote) = match &value.value {
            Value::SingleQuotedString(raw) => (raw, '\''),
            Value::DoubleQuotedString(raw) => (raw, '"'),
            _ => return ControlFlow::Continue(()),
        };
        let Some(unescaped) = unescaped(raw, quote) else {
            let hint = format!(
                "write \\{quote} for the sign itself; Spark reads two quotes as the end of a text and the begin of another"
            );
            return ControlFlow::Break(
                self.refuse(format!("{quote}{quote} inside of a text"), &hint),
            );
        };
        value.value = Value::SingleQuotedString(unescaped);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Step {
        if let Some(line) = line(expr.span().start.line) {
            self.line = Some(line);
        }
        Self::step(self.before(expr))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Step {
        Self::step(self.after(expr))
    }
}

impl Lower {
    fn query(&mut self, query: &mut Query) -> Result<(), Box<QueryError>> {
        minus_as_except(&mut query.body);
        let mut order_by = query.order_by.take();
        self.spans_of_order(&query.body, &mut order_by)?;
        if let SetExpr::Select(select) = &*query.body
            && let Some(names) = views::names(select)
        {
            views::rename(&mut order_by, &names);
        }
        if let Some(order_by) = &mut order_by {
            match &mut order_by.kind {
                OrderByKind::All(_) => {
                    return Err(self.refuse("ORDER BY ALL", "name the columns to order by"));
                }
                OrderByKind::Expressions(by) => {
                    order(by);
                    for by in by {
                        let Some(number) = ordinal(&by.expr) else {
                            continue;
                        };
                        let named = match &*query.body {
                            SetExpr::Select(select) => column(select, number, true),
                            // The columns of a UNION are those of its first SELECT.
                            _ => None,
                        };
                        by.expr = named.ok_or_else(|| {
                            self.refuse(format!("ORDER BY {number}"), "order by a column's name")
                        })?;
                    }
                }
            }
        }
        query.order_by = order_by;
        Ok(())
    }

    fn ordinals(&self, exprs: &mut [Expr], select: &Select) -> Result<(), Box<QueryError>> {
        for expr in exprs {
            if let Some(number) = ordinal(expr) {
                *expr = column(select, number, false).ok_or_else(|| {
                    self.refuse(format!("GROUP BY {number}"), "group by a column's name")
                })?;
            }
        }
        Ok(())
    }

    /// What must be seen before its parts are rewritten.
    fn before(&mut self, expr: &mut Expr) -> Result<(), Box<QueryError>> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                if matches!(op, BinaryOperator::MyIntegerDivide)
                    && matches!(**right, Expr::BinaryOp { .. })
                {
                    return Err(
                        self.refuse("DIV without brackets", "write (a DIV b) + c in brackets")
                    );
                }
                let sign = match op {
                    BinaryOperator::Plus => 1,
                    BinaryOperator::Minus => -1,
                    _ => return Ok(()),
                };
                if sign == 1 && matches!(**left, Expr::Interval(_)) {
                    std::mem::swap(left, right);
                }
                if let Expr::Interval(interval) = &**right {
                    let mut args = vec![taken(left)];
                    let interval = self.interval(interval, sign)?;
                    args.extend(interval.map(|figure| text(figure.to_string())));
                    *expr = call("spark:plus_interval", args);
                }
                Ok(())
            }
            Expr::Interval(_) => Err(self.refuse(
                "an interval that is not added to a time",
                "write ts + INTERVAL 1 DAY; timestampadd(MINUTE, n, ts) adds a column, and timestampdiff(SECOND, a, b) counts between times",
            )),
            Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => self.like_any(expr),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: inner,
            } => {
                if let Expr::Value(ValueWithSpan {
                    value: Value::Number(number, long),
                    ..
                }) = &**inner
                {
                    *expr = call("spark:number", vec![text(number_text(number, *long, "-"))]);
                }
                Ok(())
            }
            Expr::Lambda(lambda) => self.enter(lambda),
            Expr::CompoundIdentifier(_) => {
                self.field_of_parameter(expr);
                Ok(())
            }
            Expr::Function(function) => {
                if let Some(other) = self.special(function)? {
                    *expr = other;
                    return Ok(());
                }
                self.expect_lambda(function)?;
                self.json_options(function)?;
                if let Some(WindowType::WindowSpec(over)) = &mut function.over {
                    order(&mut over.order_by);
                    self.frames.push(over.window_frame.take());
                }
                self.constant_digits(function);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Spark takes the value itself, and another build of it may not.
    fn json_of_json(&self, name: &str, function: &Function) -> Result<(), Refused> {
        let FunctionArguments::List(list) = &function.args else {
            return Ok(());
        };
        match list.args.first() {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(inner))))
                if name == "from_json"
                    && inner.name.to_string().eq_ignore_ascii_case("to_json") =>
            {
                Err(self.refuse("from_json() of to_json()", "take the value itself"))
            }
            _ => Ok(()),
        }
    }

    /// `from_json(x, schema, map('mode', 'PERMISSIVE'))`: what is so anyway is left out.
    fn json_options(&self, function: &mut Function) -> Result<(), Refused> {
        let name = function.name.to_string().to_lowercase();
        self.json_of_json(&name, function)?;
        let place = match name.as_str() {
            "from_json" => 2,
            "to_json" => 1,
            _ => return Ok(()),
        };
        let FunctionArguments::List(list) = &mut function.args else {
            return Ok(());
        };
        let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(options))) = list.args.get(place)
        else {
            return Ok(());
        };
        let shown = options.to_string();
        let words: String = shown.to_lowercase().split_whitespace().collect();
        if name == "from_json" && words.replace('"', "'") == "map('mode','permissive')" {
            list.args.truncate(place);
            return Ok(());
        }
        Err(self.refuse(
            format!("{name}() with the options {shown}"),
            "leave them out: the mode is PERMISSIVE, and times are read and written as by default",
        ))
    }

    /// The digits of `round(x, 2)` decide its type, and so do the groups of `regexp_extract`.
    fn constant_digits(&self, function: &mut Function) {
        let name = function.name.to_string().to_lowercase();
        let place = match name.as_str() {
            "round" | "bround" | "format_number" => 1,
            "regexp_extract" | "regexp_extract_all" => 2,
            _ => return,
        };
        let FunctionArguments::List(list) = &mut function.args else {
            return;
        };
        let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))) = list.args.get_mut(place)
        else {
            return;
        };
        let (number, sign) = match &*arg {
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => (ordinal(expr), "-"),
            other => (ordinal(other), ""),
        };
        if let Some(number) = number {
            *arg = text(format!("{sign}{number}"));
        }
    }

    /// Months, days and microseconds.
    fn interval(&self, interval: &Interval, sign: i64) -> Result<literals::Figures, Refused> {
        let hint = "write INTERVAL 1 DAY or INTERVAL '1 day 2 hours', with YEAR, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND or MICROSECOND; months do not stand beside days";
        let refused = || self.refuse(format!("{interval}"), hint);
        if interval.last_field.is_some() || interval.leading_precision.is_some() {
            return Err(refused());
        }
        let number = match &*interval.value {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) => number.clone(),
                Value::SingleQuotedString(number) | Value::DoubleQuotedString(number) => {
                    number.trim().to_owned()
                }
                _ => return Err(refused()),
            },
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => match ordinal(expr) {
                Some(number) => format!("-{number}"),
                None => return Err(refused()),
            },
            _ => return Err(refused()),
        };
        let figures = match &interval.leading_field {
            Some(unit) => literals::of_unit(&number, &unit.to_string()),
            None => literals::of_words(&number),
        };
        let [months, days, micros] = figures
            .ok_or_else(refused)?
            .map(|figure| figure.checked_mul(sign));
        match (months, days, micros) {
            (Some(months), Some(days), Some(micros)) => Ok([months, days, micros]),
            _ => Err(refused()),
        }
    }

    /// The expression, whose parts are rewritten already.
    fn after(&mut self, expr: &mut Expr) -> Result<(), Box<QueryError>> {
        match expr {
            Expr::Identifier(_) => Ok(()),
            Expr::Lambda(_) => {
                self.parameters.pop();
                Ok(())
            }
            Expr::CompoundIdentifier(names) => {
                self.note_capitals(names);
                Ok(())
            }
            Expr::Nested(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::InSubquery { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_) => Ok(()),
            Expr::Overlay {
                expr: of,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let mut args = vec![taken(of), taken(overlay_what), taken(overlay_from)];
                args.extend(overlay_for.as_deref_mut().map(taken));
                *expr = call("overlay", args);
                Ok(())
            }
            Expr::Value(value) => self.value(value).map(|lowered| {
                if let Some(lowered) = lowered {
                    *expr = lowered;
                }
            }),
            Expr::BinaryOp { .. } => self.binary(expr),
            Expr::UnaryOp { op, expr: inner } => {
                *expr = match op {
                    UnaryOperator::Not | UnaryOperator::BangNot => not(taken(inner)),
                    UnaryOperator::Minus => call("spark:negative", vec![taken(inner)]),
                    UnaryOperator::Plus => Expr::Nested(Box::new(taken(inner))),
                    UnaryOperator::BitwiseNot => call("spark:~", vec![taken(inner)]),
                    other => {
                        return Err(self.refuse(format!("the operator {other}"), "leave it out"));
                    }
                };
                Ok(())
            }
            Expr::Between {
                expr: value,
                negated: is_negated,
                low,
                high,
            } => {
                let args = vec![taken(value), taken(low), taken(high)];
                *expr = negated(*is_negated, call("spark:between", args));
                Ok(())
            }
            Expr::InList {
                expr: value,
                list,
                negated: is_negated,
            } => {
                let mut args = vec![taken(value)];
                args.append(list);
                *expr = negated(*is_negated, call("spark:in", args));
                Ok(())
            }
            Expr::IsDistinctFrom(left, right) => {
                *expr = not(Expr::Nested(Box::new(same(taken(left), taken(right)))));
                Ok(())
            }
            Expr::IsNotDistinctFrom(left, right) => {
                *expr = Expr::Nested(Box::new(same(taken(left), taken(right))));
                Ok(())
            }
            Expr::Like { any: false, .. } | Expr::ILike { any: false, .. } => Ok(()),
            Expr::RLike {
                negated: is_negated,
                expr: value,
                pattern,
                regexp: _,
            } => {
                let args = vec![taken(value), taken(pattern)];
                *expr = negated(*is_negated, call("rlike", args));
                Ok(())
            }
            Expr::Case { .. } => self.case(expr),
            Expr::Cast {
                kind: CastKind::Cast,
                expr: inner,
                data_type,
                array: false,
                format: None,
            } => {
                let data_type = self.type_text(data_type)?;
                self.moving_day(inner, &data_type)?;
                *expr = call("spark:cast", vec![taken(inner), text(data_type)]);
                Ok(())
            }
            Expr::Cast {
                kind: CastKind::TryCast,
                ..
            } => Err(self.refuse(
                "TRY_CAST",
                "write CAST: it gives NULL where a value does not fit",
            )),
            Expr::TypedString(typed) => {
                let data_type = match typed.data_type {
                    DataType::Date => "date",
                    DataType::Timestamp(None, _) => "timestamp",
                    _ => return Err(self.refuse(&*expr, "write CAST('...' AS TIMESTAMP)")),
                };
                let Value::SingleQuotedString(value) = &typed.value.value else {
                    return Err(self.refuse(&*expr, "write DATE '2026-11-24'"));
                };
                let is_read = match data_type {
                    "date" => super::clock::date(value).is_some(),
                    _ => super::clock::time(value).is_some(),
                };
                if !is_read {
                    return Err(self.refuse(
                        &*expr,
                        "write DATE '2026-11-24' or TIMESTAMP '2026-11-24 10:20:30'",
                    ));
                }
                *expr = call("spark:cast", vec![text(value.clone()), text(data_type)]);
                Ok(())
            }
            Expr::Extract {
                field, expr: inner, ..
            } => {
                let field = field.to_string();
                *expr = self.field(&field, taken(inner))?;
                Ok(())
            }
            Expr::Substring {
                expr: inner,
                substring_from,
                substring_for,
                ..
            } => {
                let mut args = vec![taken(inner)];
                args.extend(substring_from.as_deref_mut().map(taken));
                args.extend(substring_for.as_deref_mut().map(taken));
                *expr = call("substring", args);
                Ok(())
            }
            Expr::Trim {
                trim_where,
                trim_what,
                expr: inner,
                trim_characters,
            } => {
                let name = match trim_where {
                    None | Some(TrimWhereField::Both) => "trim",
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                };
                if trim_characters.is_some() {
                    return Err(self.refuse("trim(x, letters)", "write trim(BOTH letters FROM x)"));
                }
                let mut args = vec![taken(inner)];
                args.extend(trim_what.as_deref_mut().map(taken));
                *expr = call(name, args);
                Ok(())
            }
            Expr::Position { expr: part, r#in } => {
                *expr = call("locate", vec![taken(part), taken(r#in)]);
                Ok(())
            }
            Expr::Ceil {
                expr: inner,
                field: CeilFloorKind::Scale(places),
            } => {
                let places = Expr::Value(places.clone());
                *expr = self.toward(false, taken(inner), &places)?;
                Ok(())
            }
            Expr::Floor {
                expr: inner,
                field: CeilFloorKind::Scale(places),
            } => {
                let places = Expr::Value(places.clone());
                *expr = self.toward(true, taken(inner), &places)?;
                Ok(())
            }
            Expr::Ceil { expr: inner, field } | Expr::Floor { expr: inner, field }
                if matches!(
                    field,
                    CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)
                ) =>
            {
                let inner = taken(inner);
                let name = if matches!(expr, Expr::Ceil { .. }) {
                    "ceil"
                } else {
                    "floor"
                };
                *expr = call(name, vec![inner]);
                Ok(())
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                let root = taken(root);
                *expr = self.accessed(root, std::mem::take(access_chain))?;
                Ok(())
            }
            Expr::Array(Array { elem, named: true }) => {
                *expr = call("array", std::mem::take(elem));
                Ok(())
            }
            Expr::Function(_) => self.function(expr),
            other => Err(self.refuse(
                format!("{other}"),
                "write it with a function of Spark, or use dialect = \"datafusion\"",
            )),
        }
    }

    /// `CAST('today' AS DATE)` is the day of the run for Spark, which a replay does not have.
    fn moving_day(&self, value: &Expr, data_type: &str) -> Result<(), Refused> {
        const WORDS: [&str; 5] = ["epoch", "now", "today", "tomorrow", "yesterday"];
        if let Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(word),
            ..
        }) = value
            && WORDS.contains(&word.trim().to_lowercase().as_str())
            && matches!(data_type, "date" | "timestamp" | "to_date" | "to_timestamp")
        {
            let hint = "write the date, or use a column of the source; window_start is the begin of the job's window";
            return Err(self.refuse(format!("'{word}' as a time"), hint));
        }
        Ok(())
    }

    /// The planner makes names small, which is another key of a map.
    fn note_capitals(&mut self, names: &[Ident]) {
        let behind = names.iter().skip(1);
        let capitals = behind.filter_map(|name| {
            let small = name.value.to_lowercase();
            (name.quote_style.is_some() || small != name.value).then_some(small)
        });
        self.capitals.extend(capitals);
    }

    /// A value with fields and subscripts behind it. Names in front of the first subscript may be of
    /// a table.
    fn accessed(&mut self, root: Expr, chain: Vec<AccessExpr>) -> Result<Expr, Box<QueryError>> {
        let mut chain = chain.into_iter().peekable();
        let mut value = match root {
            Expr::Identifier(first) => {
                let mut names = vec![first];
                while let Some(AccessExpr::Dot(Expr::Identifier(name))) = chain.peek() {
                    names.push(name.clone());
                    chain.next();
                }
                self.note_capitals(&names);
                match names.len() {
                    1 => Expr::Identifier(names.remove(0)),
                    _ => Expr::CompoundIdentifier(names),
                }
            }
            other => other,
        };
        for access in chain {
            value = match access {
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    call("spark:item", vec![value, index])
                }
                AccessExpr::Dot(Expr::Identifier(name)) => {
                    call("spark:field", vec![value, text(name.value)])
                }
                AccessExpr::Subscript(Subscript::Slice { .. }) => {
                    return Err(self.refuse("a range of a list", "write slice(x, 1, 3)"));
                }
                AccessExpr::Dot(_) => {
                    return Err(self.refuse("such a name of a field", "write x.name"));
                }
            };
        }
        Ok(value)
    }

    fn value(&self, value: &ValueWithSpan) -> Result<Option<Expr>, Box<QueryError>> {
        match &value.value {
            Value::Number(number, long) => Ok(Some(call(
                "spark:number",
                vec![text(number_text(number, *long, ""))],
            ))),
            Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null => Ok(None),
            Value::HexStringLiteral(digits) => Ok(Some(call("unhex", vec![text(digits.clone())]))),
            other => Err(self.refuse(other, "write texts as 'text'")),
        }
    }

    fn binary(&self, expr: &mut Expr) -> Result<(), Box<QueryError>> {
        let Expr::BinaryOp { left, op, right } = expr else {
            return Ok(());
        };
        match op {
            BinaryOperator::And
            | BinaryOperator::Or
            | BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
            | BinaryOperator::Spaceship
            | BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::MyIntegerDivide
            | BinaryOperator::BitwiseAnd
            | BinaryOperator::BitwiseOr
            | BinaryOperator::BitwiseXor => Ok(()),
            BinaryOperator::StringConcat => {
                *expr = call("concat", vec![taken(left), taken(right)]);
                Ok(())
            }
            other => Err(self.refuse(format!("the operator {other}"), "leave it out")),
        }
    }

    fn case(&self, expr: &mut Expr) -> Result<(), Box<QueryError>> {
        let Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } = expr
        else {
            return Ok(());
        };
        let (name, mut args) = match operand {
            Some(operand) => ("spark:case_of", vec![taken(operand)]),
            None => ("spark:case", vec![]),
        };
        for when in conditions {
            args.push(taken(&mut when.condition));
            args.push(taken(&mut when.result));
        }
        args.push(match else_result {
            Some(otherwise) => taken(otherwise),
            None => Expr::value(Value::Null),
        });
        *expr = call(name, args);
        Ok(())
    }

    fn type_text(&self, data_type: &DataType) -> Result<String, Box<QueryError>> {
        // Spark's CAST takes them for texts of any length.
        if let DataType::Varchar(Some(_)) | DataType::Char(Some(_)) = data_type {
            return Ok("string".to_owned());
        }
        let text = data_type.to_string().to_lowercase();
        if super::types::named(&text).is_some() {
            return Ok(text);
        }
        Err(self.refuse(
            format!("the type {data_type}"),
            "the types are: BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BINARY, DATE, TIMESTAMP",
        ))
    }

    /// A field of a time.
    fn field(&self, field: &str, of: Expr) -> Result<Expr, Box<QueryError>> {
        let name = match field.to_uppercase().as_str() {
            "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => "year",
            "QUARTER" | "QTR" => "quarter",
            "MONTH" | "MON" | "MONS" | "MONTHS" => "month",
            "WEEK" | "W" | "WEEKS" => "weekofyear",
            "DAY" | "D" | "DAYS" => "day",
            "DAYOFWEEK" | "DOW" => "dayofweek",
            "DOY" => "dayofyear",
            "DAYOFWEEK_ISO" | "DOW_ISO" => "spark:iso_day_of_week",
            "YEAROFWEEK" => "spark:year_of_week",
            "HOUR" | "H" | "HOURS" | "HR" | "HRS" => "hour",
            "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => "minute",
            "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => "spark:second",
            _ => {
                return Err(self.refuse(
                    format!("the field {field} of a time"),
                    "the fields are YEAR, YEAROFWEEK, QUARTER, MONTH, WEEK, DAY, DOW, DOW_ISO, DOY, HOUR, MINUTE, SECOND",
                ));
            }
        };
        Ok(call(name, vec![of]))
    }
}

fn number_text(number: &str, long: bool, sign: &str) -> String {
    let suffix = if long { "L" } else { "" };
    format!("{sign}{number}{suffix}")
}

fn same(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::Spaceship,
        right: Box::new(right),
    }
}

/// A text without the backslashes of its writing; `None` if it has two quotes inside.
fn unescaped(raw: &str, quote: char) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut letters = raw.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == quote {
            return None;
        }
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        let Some(escaped) = letters.next() else {
            text.push('\\');
            break;
        };
        match escaped {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'Z' => text.push('\u{1a}'),
            '%' => text.push_str("\\%"),
            '_' => text.push_str("\\_"),
            'u' | 'U' => {
                let count = if escaped == 'u' { 4 } else { 8 };
                let digits: String = letters.clone().take(count).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                match code
                    .filter(|_| digits.len() == count)
                    .and_then(char::from_u32)
                {
                    Some(letter) => {
                        text.push(letter);
                        letters.by_ref().take(count).for_each(drop);
                    }
                    None => text.push(escaped),
                }
            }
            '0'..='3' => {
                let digits: String = letters.clone().take(2).collect();
                let is_octal =
                    digits.len() == 2 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
                match u32::from_str_radix(&format!("{escaped}{digits}"), 8) {
                    Ok(code) if is_octal => {
                        text.extend(char::from_u32(code));
                        letters.by_ref().take(2).for_each(drop);
                    }
                    _ if escaped == '0' => text.push('\0'),
                    _ => text.push(escaped),
                }
            }
            other => text.push(other),
        }
    }
    Some(text)
}

/// Functions that are known and not there, and what to write.
const INSTEAD: &[(&str, &str)] = &[
    (
        "session_window",
        "a session may last beyond the job's window: number the pauses with lag(ts) OVER (...) and sum them up",
    ),
    ("window_time", "write window.end - INTERVAL 1 MICROSECOND"),
    (
        "percentile_disc",
        "builds of Spark 3.5 differ in it: write percentile(x, 0.5), or percentile_approx(x, 0.5), which is one of the values",
    ),
    ("to_timestamp_ntz", "write to_timestamp(x): times are UTC"),
    ("make_interval", "timestampadd(HOUR, n, ts) adds a column"),
    (
        "make_dt_interval",
        "timestampadd(HOUR, n, ts) adds a column",
    ),
    (
        "make_ym_interval",
        "timestampadd(MONTH, n, ts) adds a column",
    ),
    (
        "assert_true",
        "write WHERE; rows that do not hold are left out",
    ),
    (
        "raise_error",
        "write WHERE; rows that do not hold are left out",
    ),
];

/// Functions that answer differently each time.
const NOT_REPEATABLE: &[&str] = &[
    "curdate",
    "current_catalog",
    "current_database",
    "current_date",
    "current_schema",
    "current_timestamp",
    "current_timezone",
    "current_user",
    "input_file_block_length",
    "input_file_block_start",
    "input_file_name",
    "localtimestamp",
    "monotonically_increasing_id",
    "now",
    "rand",
    "randn",
    "random",
    "shuffle",
    "spark_partition_id",
    "user",
    "uuid",
    "version",
];

impl Lower {
    fn function(&mut self, expr: &mut Expr) -> Result<(), Box<QueryError>> {
        let Expr::Function(function) = expr else {
            return Ok(());
        };
        if let Some(WindowType::WindowSpec(over)) = &mut function.over {
            over.window_frame = self.frames.pop().flatten();
        }
        let ObjectName(parts) = &function.name;
        let name = match parts.as_slice() {
            // Written by `call`: a query quotes names with backticks.
            [ObjectNamePart::Identifier(name)] if name.quote_style == Some('"') => return Ok(()),
            [ObjectNamePart::Identifier(name)] => name.value.to_lowercase(),
            _ => return Err(self.refuse(&function.name, "name the function alone")),
        };
        if let Some((_, hint)) = INSTEAD.iter().find(|(other, _)| *other == name) {
            return Err(self.refuse(format!("the function {name}()"), hint));
        }
        if name == "json_tuple" {
            let hint = "write FROM source LATERAL VIEW json_tuple(x, 'a') t AS a, or get_json_object(x, '$.a')";
            return Err(self.refuse("json_tuple() without names of columns", hint));
        }
        if NOT_REPEATABLE.contains(&name.as_str()) {
            let message = format!(
                "{name}() answers differently each time, and a window that is read again must give the same rows"
            );
            let hint = "use a column of the source; for the window's time, partition_by ingest_year, ingest_month, ingest_day, ingest_hour";
            return Err(Box::new(
                QueryError::sql(message, Some(hint.into())).on_line(self.line),
            ));
        }
        self.unequal(&name)?;
        if let FunctionArguments::List(list) = &function.args
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = list.args.as_slice()
        {
            self.moving_day(value, &name)?;
        }
        if list::OF_GROUPS.contains(&name.as_str()) {
            function.name = plain_name(&name);
            return self.aggregate(&name, expr);
        }
        if list::OF_WINDOWS.contains(&name.as_str()) {
            function.name = plain_name(&name);
            if matches!(
                name.as_str(),
                "row_number" | "rank" | "dense_rank" | "ntile"
            ) {
                let counted = taken(expr);
                *expr = call("spark:cast", vec![counted, text("int")]);
            }
            return Ok(());
        }
        if super::higher::SHAPES.iter().any(|shape| shape.name == name) {
            function.name = plain_name(&name);
            return Ok(());
        }
        if let Some(known) = list::named(&name) {
            if matches!(name.as_str(), "ltrim" | "rtrim" | "trim") && arguments(function) > 1 {
                return Err(self.refuse(
                    format!("{name}() with two arguments"),
                    "write trim(LEADING 'a' FROM x), TRAILING or BOTH",
                ));
            }
            function.name = plain_name(known.name);
            return Ok(());
        }
        self.form(&name, expr)
    }

    /// The arguments of a plain call.
    fn arguments(&self, function: &mut Function) -> Result<Vec<Expr>, Box<QueryError>> {
        let name = function.name.to_string();
        let plain = || {
            self.refuse(
                format!("{name}() with such arguments"),
                "give it values alone",
            )
        };
        let has_clauses = function.filter.is_some()
            || function.over.is_some()
            || function.null_treatment.is_some()
            || !function.within_group.is_empty();
        let FunctionArguments::List(list) = &mut function.args else {
            return Err(plain());
        };
        if has_clauses || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return Err(plain());
        }
        let mut args = vec![];
        for arg in std::mem::take(&mut list.args) {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => args.push(arg),
                _ => return Err(plain()),
            }
        }
        Ok(args)
    }

    /// Functions that are other expressions.
    fn form(&mut self, name: &str, expr: &mut Expr) -> Result<(), Box<QueryError>> {
        let Expr::Function(function) = expr else {
            return Ok(());
        };
        if matches!(name, "every" | "any" | "some") {
            let main = if name == "every" {
                "bool_and"
            } else {
                "bool_or"
            };
            function.name = plain_name(main);
            return Ok(());
        }
        if !list::FORMS.contains(&name) {
            return Err(self.unknown(name));
        }
        if name == "count_if" {
            return self.count_if(function);
        }
        if name == "struct" {
            *expr = self.structure(function)?;
            return Ok(());
        }
        if name == "arrays_zip" {
            *expr = self.zipped(function)?;
            return Ok(());
        }
        let mut args = self.arguments(function)?.into_iter();
        let given = (args.next(), args.next(), args.next());
        let binary = |op, left, right| Expr::BinaryOp {
            left: Box::new(left),
            op,
            right: Box::new(right),
        };
        *expr = match (name, given) {
            ("mod", (Some(left), Some(right), None)) => binary(BinaryOperator::Modulo, left, right),
            ("pmod", (Some(left), Some(right), None)) => {
                binary(BinaryOperator::Custom("pmod".into()), left, right)
            }
            ("equal_null", (Some(left), Some(right), None)) => {
                Expr::Nested(Box::new(same(left, right)))
            }
            ("try_divide", (Some(left), Some(right), None)) => {
                binary(BinaryOperator::Divide, left, right)
            }
            ("negative", (Some(value), None, None)) => call("spark:negative", vec![value]),
            ("positive", (Some(value), None, None)) => value,
            ("space", (Some(times), None, None)) => call("repeat", vec![text(" "), times]),
            ("explode", (Some(list), None, None)) => views::exploded(list, false),
            ("explode_outer", (Some(list), None, None)) => views::exploded(list, true),
            ("date_part" | "datepart", (Some(field), Some(of), None)) => match &field {
                Expr::Value(ValueWithSpan {
                    value: Value::SingleQuotedString(field),
                    ..
                }) => self.field(field, of)?,
                _ => {
                    return Err(
                        self.refuse("a field that is no text", "write date_part('year', ts)")
                    );
                }
            },
            (_, (Some(value), None, None)) if super::types::named(name).is_some() => {
                call("spark:cast", vec![value, text(name)])
            }
            _ => {
                return Err(self.refuse(
                    format!("{name}() with so many arguments"),
                    "see the page of the query",
                ));
            }
        };
        Ok(())
    }

    /// `struct(a, t.b, a + 1)` has the fields `a`, `b` and `col3`.
    fn structure(&self, function: &mut Function) -> Result<Expr, Box<QueryError>> {
        let mut args = vec![];
        for (place, value) in self.arguments(function)?.into_iter().enumerate() {
            let name = match &value {
                Expr::Identifier(name) => Some(name.clone()),
                Expr::CompoundIdentifier(names) => names.last().cloned(),
                Expr::Function(inner) => last_name(inner).map(Ident::new),
                _ => None,
            };
            let name = match name {
                Some(name) if name.quote_style.is_some() => {
                    return Err(self.refuse(
                        "struct() of a quoted name",
                        "write named_struct('Name', `Name`)",
                    ));
                }
                Some(name) => name.value,
                None => format!("col{}", place + 1),
            };
            args.extend([text(name), value]);
        }
        if args.is_empty() {
            return Err(self.refuse("struct() without values", "write struct(a, b)"));
        }
        Ok(call("named_struct", args))
    }

    /// `arrays_zip(a, t.b, array(1))` has structs with the fields `a`, `b` and `2`.
    fn zipped(&self, function: &mut Function) -> Result<Expr, Box<QueryError>> {
        let mut args = vec![];
        for (place, value) in self.arguments(function)?.into_iter().enumerate() {
            let name = match &value {
                Expr::Identifier(name) => name.value.clone(),
                Expr::CompoundIdentifier(names) if !names.is_empty() => {
                    names[names.len() - 1].value.clone()
                }
                _ => place.to_string(),
            };
            args.extend([text(name), value]);
        }
        if args.is_empty() {
            return Err(self.refuse("arrays_zip() without lists", "write arrays_zip(a, b)"));
        }
        Ok(call("spark:zipped", args))
    }

    /// `count_if(x)` counts the rows for which it is true.
    fn count_if(&self, function: &mut Function) -> Result<(), Box<QueryError>> {
        function.name = plain_name("count");
        let FunctionArguments::List(list) = &mut function.args else {
            return Err(self.refuse("count_if() without a condition", "write count_if(x > 1)"));
        };
        match list.args.as_mut_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(condition))] => {
                let args = vec![
                    taken(condition),
                    Expr::value(Value::Boolean(true)),
                    Expr::value(Value::Null),
                ];
                *condition = call("spark:case", args);
                Ok(())
            }
            _ => Err(self.refuse("count_if() with so many arguments", "write count_if(x > 1)")),
        }
    }

    fn unknown(&self, name: &str) -> Box<QueryError> {
        let hint = match closest(name, list::names()) {
            Some(near) => format!("did you mean {near}()?"),
            None => "docs/spark-dialect.md lists the functions of this dialect; dialect = \"datafusion\" has others, under their own meaning".to_owned(),
        };
        self.refuse(format!("the function {name}()"), &hint)
    }
}

/// The name behind a value: `x[0].name`, `x['name']`.
fn last_name(function: &Function) -> Option<String> {
    let ObjectName(parts) = &function.name;
    let [ObjectNamePart::Identifier(name)] = parts.as_slice() else {
        return None;
    };
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match (name.value.as_str(), list.args.as_slice()) {
        (
            "spark:field" | "spark:item",
            [
                _,
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan {
                    value: Value::SingleQuotedString(key),
                    ..
                }))),
            ],
        ) => Some(key.clone()),
        _ => None,
    }
}

fn arguments(function: &Function) -> usize {
    match &function.args {
        FunctionArguments::List(list) => list.args.len(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => 0,
    }
}

pub(super) fn plain_name(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote(
        '"', name,
    ))])
}

impl From<Refusal> for QueryError {
    fn from(refusal: Refusal) -> Self {
        Self::sql(refusal.message, Some(refusal.hint))
    }
}
