//! Queries, SELECTs and the clauses after them.

use super::super::error::QueryError;
use super::{Checked, GROUPING_SETS_MAX, Walk, empty, folded, none, not, refused, refused_with};
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, GroupByWithModifier, LimitClause, NamedWindowDefinition,
    NamedWindowExpr, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, Select,
    SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier,
    Value, ValueWithSpan, Values, WildcardAdditionalOptions, With,
};
use std::collections::BTreeMap;

impl Walk<'_> {
    pub(super) fn query(&mut self, query: &mut Query) -> Checked {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if fetch.is_some() {
            return Err(refused_with("FETCH", "write LIMIT"));
        }
        empty(locks, "FOR UPDATE or FOR SHARE")?;
        none(for_clause.as_ref(), "FOR XML, FOR JSON or FOR BROWSE")?;
        none(settings.as_ref(), "SETTINGS")?;
        none(format_clause.as_ref(), "FORMAT")?;
        empty(pipe_operators, "|>")?;
        self.with.push(BTreeMap::new());
        if let Some(with) = with {
            self.with_clause(with)?;
        }
        self.set_expr(body)?;
        if let Some(OrderBy { kind, interpolate }) = order_by {
            none(interpolate.as_ref(), "INTERPOLATE")?;
            match kind {
                OrderByKind::All(OrderByOptions {
                    asc: _,
                    nulls_first: _,
                }) => {}
                OrderByKind::Expressions(sorts) => self.sorts(sorts)?,
            }
        }
        match limit_clause {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) => {
                empty(limit_by, "LIMIT BY")?;
                let offset = offset.as_mut().map(|Offset { value, rows: _ }| value);
                self.all(limit.iter_mut().chain(offset))?;
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => self.all([offset, limit])?,
        }
        self.with.pop();
        Ok(())
    }

    fn with_clause(&mut self, with: &mut With) -> Checked {
        let With {
            with_token: _,
            recursive,
            cte_tables,
        } = with;
        if *recursive {
            return Err(refused_with(
                "WITH RECURSIVE",
                "its rounds have no bound; write each step as a query of its own",
            ));
        }
        for Cte {
            alias,
            query,
            from,
            materialized,
            closing_paren_token: _,
        } in cte_tables
        {
            none(from.as_ref(), "FROM after a query of WITH")?;
            none(materialized.as_ref(), "MATERIALIZED")?;
            self.alias(Some(alias))?;
            let read = self.named(query)?;
            if let Some(names) = self.with.last_mut() {
                names.insert(folded(&alias.name), read);
            }
        }
        Ok(())
    }

    fn set_expr(&mut self, body: &mut SetExpr) -> Checked {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                match op {
                    SetOperator::Union | SetOperator::Except | SetOperator::Intersect => {}
                    SetOperator::Minus => return Err(refused_with("MINUS", "write EXCEPT")),
                }
                match set_quantifier {
                    // The planner turns them into joins, which do not count equal rows.
                    SetQuantifier::All | SetQuantifier::AllByName
                        if !matches!(op, SetOperator::Union) =>
                    {
                        let hint = "write it without ALL; to keep equal rows apart, number them with row_number() first";
                        return Err(refused_with("EXCEPT ALL or INTERSECT ALL", hint));
                    }
                    SetQuantifier::All
                    | SetQuantifier::Distinct
                    | SetQuantifier::ByName
                    | SetQuantifier::AllByName
                    | SetQuantifier::DistinctByName
                    | SetQuantifier::None => {}
                }
                self.set_expr(left)?;
                self.set_expr(right)
            }
            SetExpr::Values(Values {
                explicit_row: _,
                value_keyword: _,
                rows,
            }) => {
                let rows = rows.iter_mut().flat_map(|row| &mut row.content);
                self.all(rows)
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(refused("INSERT, UPDATE, DELETE or MERGE"))
            }
            SetExpr::Table(_) => Err(refused_with("TABLE", "write SELECT * FROM")),
        }
    }

    fn select(&mut self, select: &mut Select) -> Checked {
        let Select {
            select_token: _,
            // Comments for another planner: they never change the result.
            optimizer_hints: _,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        none(
            select_modifiers.as_ref(),
            "STRAIGHT_JOIN, HIGH_PRIORITY or SQL_...",
        )?;
        if top.is_some() {
            return Err(refused_with("TOP", "write LIMIT"));
        }
        if exclude.is_some() {
            return Err(refused_with(
                "EXCLUDE after the columns",
                "write * EXCLUDE (column)",
            ));
        }
        none(into.as_ref(), "INTO")?;
        if !lateral_views.is_empty() {
            return Err(refused_with(
                "LATERAL VIEW",
                "write unnest(list) AS element in the SELECT",
            ));
        }
        if prewhere.is_some() {
            return Err(refused_with("PREWHERE", "write WHERE"));
        }
        empty(connect_by, "CONNECT BY or START WITH")?;
        for (clause, is_there) in [
            ("CLUSTER BY", !cluster_by.is_empty()),
            ("DISTRIBUTE BY", !distribute_by.is_empty()),
            ("SORT BY", !sort_by.is_empty()),
        ] {
            if is_there {
                return Err(refused_with(
                    clause,
                    "a window is computed in one place: leave it out, or write ORDER BY",
                ));
            }
        }
        none(value_table_mode.as_ref(), "SELECT AS STRUCT or AS VALUE")?;
        match flavor {
            SelectFlavor::Standard | SelectFlavor::FromFirst => {}
            SelectFlavor::FromFirstNoSelect => {
                return Err(refused_with("FROM without SELECT", "write SELECT * FROM"));
            }
        }
        match distinct {
            None | Some(Distinct::All | Distinct::Distinct) => {}
            Some(Distinct::On(on)) => self.all(on)?,
        }
        for item in projection {
            self.item(item)?;
        }
        if from.is_empty() {
            self.reads(super::Read {
                tables: 1,
                columns: 0,
            })?;
        }
        for tables in from {
            self.tables(tables)?;
        }
        self.all(selection.iter_mut().chain(having).chain(qualify))?;
        self.group_by(group_by)?;
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(window) => self.window(window)?,
            }
        }
        Ok(())
    }

    fn item(&mut self, item: &mut SelectItem) -> Checked {
        match item {
            SelectItem::UnnamedExpr(expr) => self.expr(expr),
            SelectItem::ExprWithAlias { expr, alias: _ } => self.expr(expr),
            SelectItem::ExprWithAliases { .. } => Err(refused_with(
                "AS (a, b)",
                "give each column a name of its own",
            )),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(_),
                options,
            )
            | SelectItem::Wildcard(options) => self.wildcard(options),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                Err(refused_with(".* after an expression", "name its parts"))
            }
        }
    }

    pub(super) fn wildcard(&mut self, options: &mut WildcardAdditionalOptions) -> Checked {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude: _,
            opt_except: _,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        if opt_ilike.is_some() {
            return Err(refused_with("ILIKE after *", "name the columns"));
        }
        if opt_rename.is_some() {
            return Err(refused_with(
                "RENAME after *",
                "name the columns: column AS name",
            ));
        }
        none(opt_alias.as_ref(), "AS after *")?;
        let replaced = opt_replace
            .iter_mut()
            .flat_map(|replace| &mut replace.items);
        self.all(replaced.map(|element| &mut element.expr))
    }

    pub(super) fn sorts(&mut self, sorts: &mut [OrderByExpr]) -> Checked {
        for OrderByExpr {
            expr,
            options:
                OrderByOptions {
                    asc: _,
                    nulls_first: _,
                },
            with_fill,
        } in sorts
        {
            none(with_fill.as_ref(), "WITH FILL")?;
            self.expr(expr)?;
        }
        Ok(())
    }

    /// The planner reads the list and ignores what follows it.
    fn group_by(&mut self, group_by: &mut GroupByExpr) -> Checked {
        let (exprs, modifiers) = match group_by {
            GroupByExpr::All(modifiers) => return empty(modifiers, "a clause after GROUP BY ALL"),
            GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
        };
        let modifiers = std::mem::take(modifiers);
        if modifiers.len() > 1 {
            return Err(refused_with(
                "more than one clause after GROUP BY",
                "write GROUP BY GROUPING SETS (...)",
            ));
        }
        let each = |exprs: &mut Vec<Expr>| {
            std::mem::take(exprs)
                .into_iter()
                .map(|expr| vec![expr])
                .collect()
        };
        match modifiers.into_iter().next() {
            None => {}
            Some(GroupByWithModifier::Rollup) => *exprs = vec![Expr::Rollup(each(exprs))],
            Some(GroupByWithModifier::Cube) => *exprs = vec![Expr::Cube(each(exprs))],
            // The list before only names the columns; the sets define the grouping.
            Some(GroupByWithModifier::GroupingSets(sets)) => *exprs = vec![sets],
            Some(GroupByWithModifier::Totals) => {
                return Err(refused_with(
                    "WITH TOTALS",
                    "write GROUP BY GROUPING SETS ((...), ())",
                ));
            }
        }
        let mut sets = 1_usize;
        for expr in exprs.iter() {
            let grouped = match expr {
                Expr::Rollup(parts) => {
                    sets = sets.saturating_mul(parts.len() + 1);
                    parts
                }
                Expr::Cube(parts) => {
                    let doubled = u32::try_from(parts.len())
                        .ok()
                        .and_then(|parts| 1_usize.checked_shl(parts));
                    sets = sets.saturating_mul(doubled.unwrap_or(usize::MAX));
                    parts
                }
                Expr::GroupingSets(parts) => {
                    sets = sets.saturating_mul(parts.len().max(1));
                    parts
                }
                _ => continue,
            };
            grouped.iter().flatten().try_for_each(no_position)?;
        }
        if sets > GROUPING_SETS_MAX {
            let message =
                format!("GROUP BY has too many groupings: the limit is {GROUPING_SETS_MAX}");
            return Err(QueryError::sql(
                message,
                Some("write the groupings you need: GROUPING SETS (...)".into()),
            ));
        }
        self.all(exprs)
    }
}

/// A number is a column's position only in a plain list; inside a grouping it would be a constant.
fn no_position(expr: &Expr) -> Checked {
    let is_number = matches!(
        expr,
        Expr::Value(ValueWithSpan {
            value: Value::Number(..),
            span: _
        })
    );
    not(
        is_number,
        "a column's position inside of ROLLUP, CUBE or GROUPING SETS",
    )
    .map_err(|_| {
        refused_with(
            "a column's position inside of ROLLUP, CUBE or GROUPING SETS",
            "write the column",
        )
    })
}
