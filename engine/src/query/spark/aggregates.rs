//! Aggregates of Spark as those of the planner.
//!
//! Owns: which aggregate of the planner stands for which of Spark, and what is computed around it.
//! Does not own: what is computed from a group's values (`groups`), syntax (`lower`).
//! Rule: an aggregate whose last digits depend on how values are added gets the group's values as a
//! list, in the order of the rows, and computes as Spark does.

use super::lower::{Lower, Refused, call, plain_name, taken, text};
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    NullTreatment, Value, ValueWithSpan,
};

/// Aggregates whose results depend on how many rows Spark reads at once, and what to write.
const UNEQUAL: [(&str, &str); 2] = [
    ("count_min_sketch", "count(*) with GROUP BY is exact"),
    ("bitmap_construct_agg", "count(DISTINCT x) is exact"),
];

/// The plain arguments of a call.
fn arguments(function: &mut Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &mut function.args else {
        return None;
    };
    if !list.clauses.is_empty() {
        return None;
    }
    let mut args = vec![];
    for arg in &mut list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => args.push(taken(arg)),
            _ => return None,
        }
    }
    Some(args)
}

fn set_argument(function: &mut Function, value: Expr) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))];
    }
}

fn is_distinct(function: &Function) -> bool {
    match &function.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
        }
        _ => false,
    }
}

/// The aggregate of this name over one value, with the clauses of a call.
fn like(function: &Function, name: &str, value: Expr) -> Expr {
    let mut other = function.clone();
    other.name = plain_name(name);
    set_argument(&mut other, value);
    Expr::Function(other)
}

impl Lower {
    /// Refuses aggregates that cannot be equal.
    pub(super) fn unequal(&self, name: &str) -> Result<(), Refused> {
        match UNEQUAL.iter().find(|(other, _)| *other == name) {
            Some((_, instead)) => Err(self.refuse(
                format!("the function {name}() gives what depends on how rows are read, and"),
                instead,
            )),
            None => Ok(()),
        }
    }

    pub(super) fn aggregate(&mut self, name: &str, expr: &mut Expr) -> Result<(), Refused> {
        let Expr::Function(function) = expr else {
            return Ok(());
        };
        if matches!(name, "count" | "sum" | "bool_and" | "bool_or") {
            let has_more =
                matches!(&function.args, FunctionArguments::List(list) if list.args.len() > 1);
            if is_distinct(function) && has_more {
                let hint = "count the rows of SELECT DISTINCT a, b ... WHERE a IS NOT NULL AND b IS NOT NULL";
                return Err(self.refuse(format!("{name}(DISTINCT a, b)"), hint));
            }
            return Ok(());
        }
        let plain = format!("{name}() with such arguments");
        let hint = "give it values alone: see the list of aggregates in docs/spark-dialect.md";
        if name == "percentile_cont" {
            *expr = self.percentile_cont(function)?;
            return Ok(());
        }
        if !function.within_group.is_empty() {
            return Err(self.refuse("WITHIN GROUP", "write percentile(x, 0.5)"));
        }
        let Some(args) = arguments(function) else {
            return Err(self.refuse(plain, hint));
        };
        let count = args.len();
        if matches!(name, "grouping" | "grouping_id") && count > 0 {
            let type_name = if name == "grouping" {
                "tinyint"
            } else {
                "bigint"
            };
            function.name = plain_name("grouping");
            if let FunctionArguments::List(list) = &mut function.args {
                let given = args.into_iter().map(FunctionArgExpr::Expr);
                list.args = given.map(FunctionArg::Unnamed).collect();
            }
            let level = taken(expr);
            *expr = call("spark:cast", vec![level, text(type_name)]);
            return Ok(());
        }
        let mut args = args.into_iter();
        let (first, second) = (args.next(), args.next());
        *expr = match (name, first, second, count) {
            ("max" | "min", Some(value), None, 1) => {
                set_argument(function, call("spark:key", vec![value]));
                call("spark:value", vec![taken(expr)])
            }
            ("avg" | "mean" | "try_avg", Some(value), None, 1) => {
                let addend = call("spark:addend", vec![value]);
                let sum = like(function, "sum", addend.clone());
                call("spark:average", vec![sum, like(function, "count", addend)])
            }
            (
                "first" | "first_value" | "last" | "last_value" | "any_value",
                Some(value),
                nulls,
                1 | 2,
            ) => self.edge(name, function, value, nulls)?,
            ("collect_list" | "array_agg", Some(value), None, 1) => call(
                "spark:or_empty",
                vec![self.gathered(name, function, value)?],
            ),
            ("collect_set", Some(value), None, 1) => {
                call("spark:set", vec![self.gathered(name, function, value)?])
            }
            ("mode", Some(value), None, 1) => {
                call("spark:mode", vec![self.gathered(name, function, value)?])
            }
            ("try_sum", Some(value), None, 1) => {
                call("spark:try_sum", vec![self.gathered(name, function, value)?])
            }
            ("bit_and" | "bit_or" | "bit_xor", Some(value), None, 1) => {
                let list = self.gathered(name, function, value)?;
                call("spark:bits", vec![list, text(name)])
            }
            ("percentile", Some(value), Some(share), 2) => {
                let list = self.gathered(name, function, value)?;
                call("spark:percentile", vec![list, share])
            }
            ("approx_percentile" | "percentile_approx", Some(value), Some(share), 2 | 3) => {
                let list = self.gathered(name, function, value)?;
                call("spark:percentile_approx", vec![list, share])
            }
            ("approx_count_distinct", Some(value), None, 1) => {
                let hash = call("spark:distinct_hash", vec![value]);
                let list = self.gathered(name, function, hash)?;
                call("spark:approx_count_distinct", vec![list])
            }
            ("approx_count_distinct", Some(_), Some(_), 2) => {
                let hint = "leave the second argument out: it is 0.05";
                return Err(self.refuse("approx_count_distinct() with an accuracy", hint));
            }
            ("median", Some(value), None, 1) => {
                let list = self.gathered(name, function, value)?;
                let half = call("spark:number", vec![text("0.5")]);
                call("spark:percentile", vec![list, half])
            }
            ("max_by" | "min_by", Some(value), Some(by), 2) => {
                let list = self.gathered(name, function, pair(value, by))?;
                call("spark:extreme_by", vec![list, text(name)])
            }
            ("corr" | "covar_pop" | "covar_samp", Some(one), Some(two), 2) => {
                let list = self.gathered(name, function, pair(one, two))?;
                call("spark:covariance", vec![list, text(name)])
            }
            (_, Some(value), None, 1) => {
                let list = self.gathered(name, function, value)?;
                call("spark:moment", vec![list, text(name)])
            }
            _ => return Err(self.refuse(plain, hint)),
        };
        Ok(())
    }

    /// `percentile_cont(0.5) WITHIN GROUP (ORDER BY x)`.
    fn percentile_cont(&self, function: &mut Function) -> Result<Expr, Refused> {
        let name = "percentile_cont";
        let refused = || {
            self.refuse(
                "percentile_cont() with such arguments",
                "write percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
            )
        };
        let Some([share]) = arguments(function).and_then(|args| <[Expr; 1]>::try_from(args).ok())
        else {
            return Err(refused());
        };
        let mut by = std::mem::take(&mut function.within_group).into_iter();
        let (Some(by), None) = (by.next(), by.next()) else {
            return Err(refused());
        };
        let list = self.gathered(name, function, by.expr)?;
        let mut args = vec![list, share];
        if by.options.asc == Some(false) {
            args.push(text("down"));
        }
        Ok(call("spark:percentile", args))
    }

    /// The values of a group that are not NULL, as a list.
    fn gathered(&self, name: &str, function: &Function, value: Expr) -> Result<Expr, Refused> {
        if function.over.is_some() {
            let hint = "write it with GROUP BY in an inner query, and join that";
            return Err(self.refuse(format!("{name}() OVER (...)"), hint));
        }
        if is_distinct(function) {
            let hint = "write it over SELECT DISTINCT ... in an inner query";
            return Err(self.refuse(format!("{name}(DISTINCT ...)"), hint));
        }
        let mut list = function.clone();
        list.name = plain_name("array_agg");
        list.null_treatment = Some(NullTreatment::IgnoreNulls);
        set_argument(&mut list, value);
        Ok(Expr::Function(list))
    }

    /// `first(x)`, `last(x, true)`.
    fn edge(
        &self,
        name: &str,
        function: &Function,
        value: Expr,
        nulls: Option<Expr>,
    ) -> Result<Expr, Refused> {
        let is_last = name.starts_with("last");
        let main = if is_last { "last_value" } else { "first_value" };
        let ignores = match nulls {
            None => false,
            Some(Expr::Value(ValueWithSpan {
                value: Value::Boolean(ignores),
                ..
            })) => ignores,
            Some(_) => {
                return Err(self.refuse(
                    format!("{name}() with such a second argument"),
                    "write true to pass over NULL",
                ));
            }
        };
        let ignores = ignores || function.null_treatment == Some(NullTreatment::IgnoreNulls);
        let mut edge = function.clone();
        edge.null_treatment = ignores.then_some(NullTreatment::IgnoreNulls);
        if function.over.is_none() {
            if is_distinct(function) {
                return Err(self.refuse(format!("{name}(DISTINCT ...)"), "leave out DISTINCT"));
            }
            edge.name = plain_name("array_agg");
            set_argument(&mut edge, value);
            let place = call("spark:number", vec![text(if is_last { "-1" } else { "1" })]);
            return Ok(call("element_at", vec![Expr::Function(edge), place]));
        }
        edge.name = plain_name(main);
        set_argument(&mut edge, value);
        Ok(Expr::Function(edge))
    }
}

fn pair(one: Expr, two: Expr) -> Expr {
    call("named_struct", vec![text("x"), one, text("y"), two])
}
