//! Functions that make rows: `explode`, `posexplode`, `inline`, `json_tuple`, `stack`, in a SELECT and
//! behind LATERAL VIEW.
//!
//! Owns: their syntax as inner queries. Does not own: what they give (`nested`, `lists`, `json`).
//! Rule: a view is an inner query around the table in FROM, under that table's name, so that every
//! other name stays what it was. Number and kinds of columns are checked when types are known.

use super::{Lower, Refused, call, ordinal, text};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident,
    LateralView, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableAlias,
    TableFactor, TableWithJoins, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// The functions, and whether they keep rows without elements.
const GENERATORS: [(&str, bool); 8] = [
    ("explode", false),
    ("explode_outer", true),
    ("posexplode", false),
    ("posexplode_outer", true),
    ("inline", false),
    ("inline_outer", true),
    ("json_tuple", false),
    ("stack", false),
];

/// The column of an inner query that holds a row's structure.
const ROW: &str = "spark:row";
/// The table of a function in a SELECT, and its columns.
const OF_SELECT: &str = "spark:view";

fn generator(expr: &Expr) -> Option<(&'static str, bool, &Function)> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let ObjectName(parts) = &function.name;
    let [ObjectNamePart::Identifier(name)] = parts.as_slice() else {
        return None;
    };
    let name = name.value.to_lowercase();
    let known = GENERATORS.iter().find(|(known, _)| *known == name);
    known.map(|(name, outer)| (*name, *outer, function))
}

fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let each = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    each.collect()
}

/// A name as it is after capitals are folded.
fn folded(name: &Ident) -> String {
    name.value.to_lowercase()
}

/// The name under which a table is known.
fn name_of(table: &TableFactor) -> Option<Ident> {
    match table {
        TableFactor::Table {
            alias: Some(alias), ..
        }
        | TableFactor::Derived {
            alias: Some(alias), ..
        } => Some(alias.name.clone()),
        TableFactor::Table {
            name: ObjectName(parts),
            ..
        } => match parts.as_slice() {
            [ObjectNamePart::Identifier(name)] => Some(name.clone()),
            _ => None,
        },
        TableFactor::Derived { .. } => Some(Ident::with_quote('"', "spark:table")),
        _ => None,
    }
}

/// `SELECT {items} FROM {table}` with the items in text, `t` for the table's name.
fn inner(items: &str, name: &Ident, table: TableFactor) -> Option<Query> {
    let sql = format!("SELECT {items} FROM t").replace("{t}", &name.to_string());
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(&sql).ok()?;
    let mut query = parser.parse_query().ok()?;
    let SetExpr::Select(select) = &mut *query.body else {
        return None;
    };
    select.from[0].relation = table;
    Some(*query)
}

fn derived(query: Query, name: &Ident) -> TableFactor {
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(TableAlias {
            explicit: true,
            name: name.clone(),
            columns: vec![],
            at: None,
        }),
        sample: None,
    }
}

/// Names of a view's columns in front of which the view's name is.
struct Renamed<'n> {
    views: &'n [String],
    table: &'n Ident,
}

impl VisitorMut for Renamed<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let first = match expr {
            Expr::CompoundIdentifier(names) => names.first_mut(),
            Expr::CompoundFieldAccess { root, .. } => match &mut **root {
                Expr::Identifier(name) => Some(name),
                _ => None,
            },
            _ => None,
        };
        if let Some(first) = first
            && self.views.contains(&folded(first))
        {
            *first = self.table.clone();
        }
        ControlFlow::Continue(())
    }
}

/// The names of a SELECT's views, and the table that has their columns in the end.
pub(super) fn names(select: &Select) -> Option<(Vec<String>, Ident)> {
    if select.lateral_views.is_empty() {
        return None;
    }
    let name = name_of(&select.from.first()?.relation)?;
    let of = |view: &LateralView| match view.lateral_view_name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(folded(name)),
        _ => None,
    };
    Some((select.lateral_views.iter().filter_map(of).collect(), name))
}

/// Writes the table for the names of views.
pub(super) fn rename(part: &mut impl VisitMut, (views, table): &(Vec<String>, Ident)) {
    _ = part.visit(&mut Renamed { views, table });
}

impl Lower {
    /// Views behind FROM, as inner queries.
    pub(super) fn lateral_views(&mut self, select: &mut Select) -> Result<(), Refused> {
        let alone = "LATERAL VIEW behind more than one table";
        let hint = "write the join in an inner query: SELECT ... FROM (SELECT ... JOIN ...) t LATERAL VIEW ...";
        let Some(names) = names(select) else {
            return match select.lateral_views.is_empty() {
                true => Ok(()),
                false => Err(self.refuse(alone, hint)),
            };
        };
        let views = std::mem::take(&mut select.lateral_views);
        let [TableWithJoins { relation, joins }] = select.from.as_mut_slice() else {
            return Err(self.refuse(alone, hint));
        };
        if !joins.is_empty() {
            return Err(self.refuse(alone, hint));
        }
        let name = Ident::with_quote('"', folded(&names.1));
        let mut table = relation.clone();
        if let TableFactor::Derived { alias, .. } = &mut table
            && alias.is_none()
        {
            *alias = Some(TableAlias {
                explicit: true,
                name: name.clone(),
                columns: vec![],
                at: None,
            });
        }
        for mut view in views {
            rename(&mut view.lateral_view, &names);
            table = self.view(view, table, &name)?;
        }
        *relation = table;
        rename(&mut select.projection, &names);
        rename(&mut select.selection, &names);
        rename(&mut select.group_by, &names);
        rename(&mut select.having, &names);
        Ok(())
    }

    fn view(
        &self,
        view: LateralView,
        table: TableFactor,
        name: &Ident,
    ) -> Result<TableFactor, Refused> {
        let known = "the functions of LATERAL VIEW are explode, posexplode, inline (each with _outer), json_tuple and stack";
        let Some((function, is_outer, call_of)) = generator(&view.lateral_view) else {
            return Err(self.refuse(format!("LATERAL VIEW {}", view.lateral_view), known));
        };
        let named = view.lateral_col_alias.iter();
        let columns: Vec<Ident> = named
            .map(|column| Ident::with_quote('"', folded(column)))
            .collect();
        let args = arguments(call_of).filter(|args| !args.is_empty());
        let Some(args) = args else {
            return Err(self.refuse(format!("{function}() with such arguments"), known));
        };
        if columns.is_empty() {
            let hint = "name its columns: LATERAL VIEW explode(list) t AS element";
            return Err(self.refuse("LATERAL VIEW without names of columns", hint));
        }
        let failed = || self.refuse("such a LATERAL VIEW", known);
        let is_outer = is_outer || view.outer;
        let made = made(function, args, columns.len(), is_outer)
            .ok_or_else(|| self.refuse(format!("{function}() with so many columns"), known))?;
        if let Made::Values(list) = made {
            let items = format!("{{t}}.*, 1 AS {}", columns[0]);
            let query = with_item(inner(&items, name, table), list).ok_or_else(failed)?;
            return Ok(derived(query, name));
        }
        let (Made::Values(row) | Made::Rows(row) | Made::Row(row)) = made;
        let items = format!("{{t}}.*, 1 AS \"{ROW}\"");
        let query = with_item(inner(&items, name, table), row).ok_or_else(failed)?;
        let mut items = format!("{{t}}.* EXCEPT (\"{ROW}\")");
        for (place, column) in columns.iter().enumerate() {
            let count = columns.len();
            items.push_str(&format!(
                ", \"spark:nth\"(\"{ROW}\", '{place}', '{count}') AS {column}"
            ));
        }
        let query = inner(&items, name, derived(query, name)).ok_or_else(failed)?;
        Ok(derived(query, name))
    }

    /// `SELECT posexplode(list) AS (place, element)`, as a view.
    pub(super) fn generators(&mut self, select: &mut Select) -> Result<(), Refused> {
        let is_made = |item: &SelectItem| match item {
            SelectItem::ExprWithAliases { .. } => true,
            SelectItem::UnnamedExpr(expr) => {
                matches!(generator(expr), Some((name, ..)) if name != "explode" && name != "explode_outer")
            }
            _ => false,
        };
        let Some(place) = select.projection.iter().position(is_made) else {
            return Ok(());
        };
        let SelectItem::ExprWithAliases { expr, aliases } = &select.projection[place] else {
            let hint = "name its columns: SELECT posexplode(list) AS (place, element)";
            return Err(self.refuse("a function of rows without names of columns", hint));
        };
        let is_grouped = match &select.group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(by, _) => !by.is_empty(),
        };
        if generator(expr).is_none() {
            return Err(self.refuse("AS (a, b)", "give each column a name of its own"));
        }
        if is_grouped || select.having.is_some() || has_window(select) {
            let hint = "write it in an inner query";
            return Err(self.refuse("a function of rows beside groups or windows", hint));
        }
        let columns: Vec<Ident> = (0..aliases.len())
            .map(|at| Ident::with_quote('"', format!("{OF_SELECT}{at}")))
            .collect();
        let named = columns.iter().zip(aliases);
        let items: Vec<SelectItem> = named
            .map(|(column, alias)| SelectItem::ExprWithAlias {
                expr: Expr::Identifier(column.clone()),
                alias: alias.clone(),
            })
            .collect();
        select.lateral_views.push(LateralView {
            lateral_view: expr.clone(),
            lateral_view_name: ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote(
                '"', OF_SELECT,
            ))]),
            lateral_col_alias: columns,
            outer: false,
        });
        select.projection.splice(place..=place, items);
        let is_rest = |item: &SelectItem| is_made(item) || matches!(item, SelectItem::Wildcard(_));
        if select.projection.iter().any(is_rest) {
            let hint = "name the columns, or write LATERAL VIEW";
            return Err(self.refuse("two functions of rows, or one beside *", hint));
        }
        Ok(())
    }
}

fn has_window(select: &Select) -> bool {
    struct Windows;
    impl VisitorMut for Windows {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if function.over.is_some() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    select.projection.clone().visit(&mut Windows).is_break()
}

/// What a function makes of each row.
enum Made {
    /// A list whose elements become rows.
    Values(Expr),
    /// A list of structures, which become rows.
    Rows(Expr),
    /// One structure.
    Row(Expr),
}

fn made(name: &str, args: Vec<Expr>, columns: usize, is_outer: bool) -> Option<Made> {
    if name == "json_tuple" {
        return (args.len() == columns + 1).then(|| Made::Row(call("json_tuple", args)));
    }
    let unnested = |list: Expr| {
        let list = match is_outer {
            true => call("spark:exploded_outer", vec![list]),
            false => list,
        };
        call("unnest", vec![list])
    };
    if name == "stack" {
        return stacked(args, columns).map(|list| Made::Rows(unnested(list)));
    }
    let [list] = <[Expr; 1]>::try_from(args).ok()?;
    let name = name.strip_suffix("_outer").unwrap_or(name);
    Some(match (name, columns) {
        ("explode", 1) => Made::Values(unnested(call("spark:exploded", vec![list]))),
        ("explode", _) => Made::Rows(unnested(call("spark:pairs", vec![list]))),
        ("posexplode", _) => Made::Rows(unnested(call("spark:positions", vec![list]))),
        ("inline", _) => Made::Rows(unnested(call("spark:exploded", vec![list]))),
        _ => return None,
    })
}

/// The rows of `stack(2, a, b, c, d)` as a list; `None` if they have another number of columns.
fn stacked(mut args: Vec<Expr>, columns: usize) -> Option<Expr> {
    let rows = ordinal(args.first()?).filter(|rows| *rows > 0)?;
    if (args.len() - 1).div_ceil(rows) != columns {
        return None;
    }
    args[0] = text(rows.to_string());
    Some(call("spark:stacked", args))
}

/// The query with this expression as its last item.
fn with_item(query: Option<Query>, item: Expr) -> Option<Query> {
    let mut query = query?;
    let SetExpr::Select(select) = &mut *query.body else {
        return None;
    };
    match select.projection.last_mut()? {
        SelectItem::ExprWithAlias { expr, .. } => *expr = item,
        _ => return None,
    }
    Some(query)
}

/// `explode_outer(list)` in a SELECT.
pub(super) fn exploded(list: Expr, is_outer: bool) -> Expr {
    let list = call("spark:exploded", vec![list]);
    match is_outer {
        true => call("unnest", vec![call("spark:exploded_outer", vec![list])]),
        false => call("unnest", vec![list]),
    }
}
