//! Expressions, functions and windows.

use super::{Checked, Walk, empty, folded, none, refused, refused_with};
use crate::query::QueryError;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, ArrayElemTypeDef, CaseWhen, CeilFloorKind, DataType, DateTimeField, Expr,
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, Interval, LambdaFunction, MapEntry, ObjectName, ObjectNamePart, Subscript,
    TypedString, Value, WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};

/// Functions that support IGNORE NULLS and RESPECT NULLS.
const NULL_TREATMENT: [&str; 6] = [
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "array_agg",
];

impl Walk<'_> {
    pub(super) fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e mut Expr>) -> Checked {
        exprs.into_iter().try_for_each(|expr| self.expr(expr))
    }

    pub(super) fn expr(&mut self, expr: &mut Expr) -> Checked {
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => Ok(()),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => Ok(()),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                fields_by_name(root, access_chain);
                access_chain
                    .iter_mut()
                    .try_for_each(|access| self.access(access))
            }
            Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::Nested(inner) => self.expr(inner),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.all([&mut **left, right])
            }
            Expr::InList {
                expr,
                list,
                negated: _,
            } => {
                self.expr(expr)?;
                self.all(list)
            }
            Expr::InSubquery {
                expr,
                subquery,
                negated: _,
            } => {
                self.expr(expr)?;
                self.query(subquery)
            }
            Expr::Between {
                expr,
                negated: _,
                low,
                high,
            } => self.all([&mut **expr, low, high]),
            Expr::BinaryOp { left, op: _, right } => self.all([&mut **left, right]),
            Expr::Like {
                negated: _,
                any,
                expr,
                pattern,
                escape_char: _,
            }
            | Expr::ILike {
                negated: _,
                any,
                expr,
                pattern,
                escape_char: _,
            } => {
                if *any {
                    return Err(refused_with(
                        "LIKE ANY",
                        "write a LIKE for each pattern, with OR between",
                    ));
                }
                self.all([&mut **expr, pattern])
            }
            Expr::SimilarTo {
                negated: _,
                expr,
                pattern,
                escape_char,
            } => {
                none(escape_char.as_ref(), "ESCAPE after SIMILAR TO")?;
                self.all([&mut **expr, pattern])
            }
            Expr::AnyOp {
                left,
                compare_op: _,
                right,
                is_some: _,
            } => {
                compared_with_list(
                    right,
                    "ANY",
                    "x IN (SELECT ...), or EXISTS (SELECT ... WHERE x > column)",
                )?;
                self.all([&mut **left, right])
            }
            Expr::AllOp {
                left,
                compare_op: _,
                right,
            } => {
                compared_with_list(
                    right,
                    "ALL",
                    "x NOT IN (SELECT ...), or NOT EXISTS (SELECT ... WHERE x <= column)",
                )?;
                self.all([&mut **left, right])
            }
            Expr::UnaryOp { op: _, expr } => self.expr(expr),
            Expr::Cast {
                kind: _,
                expr,
                data_type: to,
                array,
                format,
            } => {
                none(format.as_ref(), "FORMAT in CAST")?;
                super::not(*array, "ARRAY in CAST")?;
                data_type(to)?;
                self.expr(expr)
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => self.all([&mut **timestamp, time_zone]),
            Expr::Extract {
                field: _,
                syntax: _,
                expr,
            } => self.expr(expr),
            Expr::Ceil { expr, field } | Expr::Floor { expr, field } => {
                if !matches!(
                    field,
                    CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)
                ) {
                    return Err(refused_with(
                        "a second argument of ceil or floor",
                        "write round(x, digits)",
                    ));
                }
                self.expr(expr)
            }
            Expr::Position { expr, r#in } => self.all([&mut **expr, r#in]),
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                special: _,
                shorthand: _,
            } => {
                self.expr(expr)?;
                self.all(
                    substring_from
                        .as_deref_mut()
                        .into_iter()
                        .chain(substring_for.as_deref_mut()),
                )
            }
            Expr::Trim {
                trim_where: _,
                trim_what,
                expr,
                trim_characters,
            } => {
                self.expr(expr)?;
                self.all(trim_what.as_deref_mut())?;
                self.all(trim_characters.iter_mut().flatten())
            }
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                self.all([&mut **expr, overlay_what, overlay_from])?;
                self.all(overlay_for.as_deref_mut())
            }
            Expr::TypedString(TypedString {
                data_type: of,
                value: _,
                uses_odbc_syntax: _,
            }) => data_type(of),
            Expr::Function(function) => self.function(function),
            Expr::Case {
                case_token: _,
                end_token: _,
                operand,
                conditions,
                else_result,
            } => {
                self.all(operand.as_deref_mut())?;
                for CaseWhen { condition, result } in conditions {
                    self.all([condition, result])?;
                }
                self.all(else_result.as_deref_mut())
            }
            Expr::Exists {
                subquery,
                negated: _,
            }
            | Expr::Subquery(subquery) => self.query(subquery),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.all(sets.iter_mut().flatten())
            }
            Expr::Tuple(parts) => self.all(parts),
            Expr::Struct { values, fields } => {
                empty(fields, "a type of STRUCT")?;
                self.all(values)
            }
            Expr::Named { expr, name: _ } => self.expr(expr),
            Expr::Dictionary(fields) => self.all(fields.iter_mut().map(|field| &mut *field.value)),
            Expr::Map(map) => {
                for MapEntry { key, value } in &mut map.entries {
                    self.all([&mut **key, value])?;
                }
                Ok(())
            }
            Expr::Array(Array { elem, named: _ }) => self.all(elem),
            Expr::Interval(interval) => self.interval(interval),
            Expr::JsonAccess { .. } => Err(refused_with(
                "a path after :",
                "write json_get_str(column, 'key')",
            )),
            Expr::IsNormalized { .. } => Err(refused("IS NORMALIZED")),
            Expr::InUnnest { .. } => Err(refused_with("IN UNNEST", "write array_has(list, x)")),
            Expr::RLike { .. } => Err(refused_with("RLIKE", "write regexp_like(x, 'pattern')")),
            Expr::Convert { .. } => Err(refused_with("CONVERT", "write CAST(x AS type)")),
            Expr::Collate { .. } => Err(refused("COLLATE")),
            Expr::Prefixed { .. } => Err(refused("a prefix of a text")),
            Expr::MatchAgainst { .. } => Err(refused_with(
                "MATCH AGAINST",
                "write regexp_like(x, 'pattern')",
            )),
            Expr::OuterJoin(_) => Err(refused_with("(+)", "write LEFT JOIN")),
            Expr::Prior(_) => Err(refused("PRIOR")),
            Expr::Lambda(LambdaFunction {
                params: _,
                body,
                syntax: _,
            }) if self.takes_functions => self.expr(body),
            Expr::Lambda(_) => Err(refused_with(
                "a function as an argument (x -> ...)",
                "write unnest(list) and a SELECT over it",
            )),
            Expr::MemberOf(_) => Err(refused_with("MEMBER OF", "write array_has(list, x)")),
        }
    }

    fn access(&mut self, access: &mut AccessExpr) -> Checked {
        match access {
            AccessExpr::Dot(inner) => self.expr(inner),
            AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
            AccessExpr::Subscript(Subscript::Slice {
                lower_bound,
                upper_bound,
                stride,
            }) => self.all(lower_bound.iter_mut().chain(upper_bound).chain(stride)),
        }
    }

    fn interval(&mut self, interval: &mut Interval) -> Checked {
        let Interval {
            value,
            leading_field: _,
            leading_precision,
            last_field,
            fractional_seconds_precision,
        } = interval;
        none(leading_precision.as_ref(), "a precision of INTERVAL")?;
        none(
            fractional_seconds_precision.as_ref(),
            "a precision of INTERVAL",
        )?;
        if last_field.is_some() {
            return Err(refused_with(
                "TO in INTERVAL",
                "write INTERVAL '1 day 2 hours'",
            ));
        }
        self.expr(value)
    }

    fn function(&mut self, function: &mut Function) -> Checked {
        let Function {
            name,
            uses_odbc_syntax: _,
            parameters,
            args,
            filter,
            null_treatment,
            over,
            within_group,
        } = function;
        let name = function_name(name);
        // A scalar function has precedence if a name means both.
        let of_rows = self.functions_of_rows.contains(name.as_str())
            || name.starts_with("unnest")
            || name == "make_map";
        let of_groups = !of_rows && self.functions_of_groups.contains(name.as_str());
        let only_of_windows = self.functions_of_windows.contains(name.as_str())
            && !NULL_TREATMENT.contains(&name.as_str());
        let needs_group = |clause: &str| Err(refused(&format!("{clause} with {name}()")));
        if !matches!(parameters, FunctionArguments::None) {
            return needs_group("a second list of arguments");
        }
        let (distinct, clauses) = match args {
            FunctionArguments::None => (false, &mut vec![]),
            FunctionArguments::Subquery(_) => return needs_group("a query as the argument"),
            FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment,
                args,
                clauses,
            }) => {
                args.iter_mut().try_for_each(|arg| self.argument(arg))?;
                (duplicate_treatment.is_some(), clauses)
            }
        };
        if distinct && (!of_groups || only_of_windows) {
            return needs_group("DISTINCT or ALL");
        }
        if filter.is_some()
            && (!of_groups || (over.is_some() && self.functions_of_windows.contains(name.as_str())))
        {
            return needs_group("FILTER");
        }
        if over.is_some() && of_rows {
            return needs_group("OVER");
        }
        if !within_group.is_empty() && !of_groups {
            return needs_group("WITHIN GROUP");
        }
        let nulls = NULL_TREATMENT.contains(&name.as_str());
        if null_treatment.is_some() && !nulls {
            return needs_group("IGNORE or RESPECT NULLS");
        }
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(_) if nulls => {}
                FunctionArgumentClause::IgnoreOrRespectNulls(_) => {
                    return needs_group("IGNORE or RESPECT NULLS");
                }
                FunctionArgumentClause::OrderBy(sorts) if of_groups => self.sorts(sorts)?,
                FunctionArgumentClause::OrderBy(_) => return needs_group("ORDER BY"),
                FunctionArgumentClause::Limit(_) => return needs_group("LIMIT"),
                FunctionArgumentClause::OnOverflow(_) => return needs_group("ON OVERFLOW"),
                FunctionArgumentClause::Having(_) => return needs_group("HAVING"),
                FunctionArgumentClause::Separator(_) => return needs_group("SEPARATOR"),
                FunctionArgumentClause::JsonNullClause(_) => {
                    return needs_group("NULL ON NULL or ABSENT ON NULL");
                }
                FunctionArgumentClause::JsonReturningClause(_) => return needs_group("RETURNING"),
            }
        }
        self.all(filter.as_deref_mut())?;
        self.sorts(within_group)?;
        match over {
            None | Some(WindowType::NamedWindow(_)) => Ok(()),
            Some(WindowType::WindowSpec(window)) => self.window(window),
        }
    }

    fn argument(&mut self, argument: &mut FunctionArg) -> Checked {
        let value = match argument {
            FunctionArg::Named {
                name: _,
                arg,
                operator: _,
            } => arg,
            FunctionArg::ExprNamed {
                name,
                arg,
                operator: _,
            } => {
                self.expr(name)?;
                arg
            }
            FunctionArg::Unnamed(arg) => arg,
        };
        match value {
            FunctionArgExpr::Expr(expr) => self.expr(expr),
            FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::WildcardWithOptions(_) => {
                Err(refused("EXCLUDE or REPLACE in an argument"))
            }
        }
    }

    pub(super) fn window(&mut self, window: &mut WindowSpec) -> Checked {
        let WindowSpec {
            window_name,
            partition_by,
            order_by,
            window_frame,
        } = window;
        if window_name.is_some() {
            return Err(refused_with(
                "a window that adds to a named one",
                "write the window whole",
            ));
        }
        self.all(partition_by)?;
        self.sorts(order_by)?;
        let Some(WindowFrame {
            units: _,
            start_bound,
            end_bound,
        }) = window_frame
        else {
            return Ok(());
        };
        for bound in std::iter::once(start_bound).chain(end_bound) {
            match bound {
                WindowFrameBound::CurrentRow => {}
                WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => {
                    self.all(rows.as_deref_mut())?
                }
            }
        }
        Ok(())
    }
}

/// A name behind a subscript or a value in brackets is that of a field. The planner takes names in
/// front of them, which may be of tables, and texts behind them.
fn fields_by_name(root: &Expr, chain: &mut [AccessExpr]) {
    let mut is_name = matches!(root, Expr::Identifier(_));
    for access in chain {
        match access {
            AccessExpr::Dot(Expr::Identifier(_)) if is_name => {}
            AccessExpr::Dot(inner) => {
                if let Expr::Identifier(name) = inner {
                    *inner = Expr::value(Value::SingleQuotedString(folded(name)));
                }
                is_name = false;
            }
            AccessExpr::Subscript(_) => is_name = false,
        }
    }
}

fn function_name(ObjectName(parts): &ObjectName) -> String {
    match parts.as_slice() {
        [ObjectNamePart::Identifier(name)] => folded(name),
        parts => parts
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("."),
    }
}

/// The planner ignores lengths, and allocates lists of a fixed length at the declared size.
fn data_type(data_type: &DataType) -> Checked {
    use DataType::{Char, CharVarying, Character, CharacterVarying, Nvarchar, String, Varchar};
    match data_type {
        Varchar(Some(_))
        | Nvarchar(Some(_))
        | Char(Some(_))
        | Character(Some(_))
        | CharVarying(Some(_))
        | CharacterVarying(Some(_))
        | String(Some(_)) => Err(refused_with(
            "a length of a text's type",
            "write VARCHAR; substr(x, 1, length) cuts it",
        )),
        DataType::Array(ArrayElemTypeDef::SquareBracket(_, Some(_))) => {
            Err(refused("a length of a list's type"))
        }
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(inner, None)
            | ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => self::data_type(inner),
        _ => Ok(()),
    }
}

/// If a column of the subquery and one of the outer query have the same name, the planner confuses
/// them.
fn compared_with_list(right: &Expr, what: &str, instead: &str) -> Result<(), QueryError> {
    match right {
        Expr::Subquery(_) => Err(refused_with(
            &format!("{what} (SELECT ...)"),
            &format!("write {instead}"),
        )),
        _ => Ok(()),
    }
}
