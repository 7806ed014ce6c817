//! Operations on frames in a script: Glue's transforms, their methods, Spark's if they mean the
//! same, SQL.
//!
//! Rule: an operation that is not fully understood makes no step; the caller notes it with its
//! line.

use super::super::column;
use super::super::flow::{StepId, StepKind};
use super::super::predicate;
use super::super::python::{Call, Expr};
use super::super::query::quoted;
use super::{Script, Value};

/// What `add_ingestion_time_columns` adds.
const INGEST: [&str; 5] = [
    "ingest_year",
    "ingest_month",
    "ingest_day",
    "ingest_hour",
    "ingest_minute",
];

impl Script<'_> {
    pub(super) fn apply(&mut self, call: &Call, method: &str) -> Option<Value> {
        let class = method.strip_suffix(".apply")?.to_owned();
        let kind = match class.as_str() {
            "ApplyMapping" => {
                let frame = self.frame(call, "frame", 0)?;
                StepKind::Map(frame, self.mappings(call, "mappings", 1))
            }
            "Join" => self.join(call)?,
            "DropFields" | "SelectFields" => {
                let frame = self.frame(call, "frame", 0)?;
                let paths = self.named(call, "paths", 1)?.texts();
                let paths = self.without_ingest(paths);
                if class == "DropFields" {
                    StepKind::Drop(frame, paths)
                } else {
                    StepKind::Select(frame, paths)
                }
            }
            "RenameField" => {
                let frame = self.frame(call, "frame", 0)?;
                let old = self.named(call, "old_name", 1)?;
                let new = self.named(call, "new_name", 2)?;
                StepKind::Rename(frame, old.text()?.to_owned(), new.text()?.to_owned())
            }
            "Filter" => {
                let frame = self.frame(call, "frame", 0)?;
                let Some(condition) = call.arg("f", 1).and_then(predicate::sql) else {
                    self.note(
                        call.line,
                        "the condition of this Filter is not understood: write it as WHERE in \
                         [transform] sql",
                    );
                    return Some(Value::Frame(frame));
                };
                StepKind::Filter(frame, condition)
            }
            "ResolveChoice" | "DropNullFields" => {
                let frame = self.frame(call, "frame", 0)?;
                self.note(
                    call.line,
                    format!("{class} is not needed: columns have one type here"),
                );
                return Some(Value::Frame(frame));
            }
            _ => return None,
        };
        Some(self.add(call, &["transformation_ctx"], kind))
    }

    fn mappings(&mut self, call: &Call, name: &str, place: usize) -> Vec<[String; 4]> {
        let Some(Value::List(items)) = self.named(call, name, place) else {
            return Vec::new();
        };
        let read = |item: &Value| <[String; 4]>::try_from(item.texts()).ok();
        let mappings: Vec<_> = items.iter().filter_map(read).collect();
        if mappings.len() < items.len() {
            self.note(
                call.line,
                format!(
                    "{} mappings are not of the form (name, type, name, type)",
                    items.len() - mappings.len()
                ),
            );
        }
        mappings
            .into_iter()
            .filter(|[from, ..]| !self.is_ingest(from))
            .collect()
    }

    fn join(&mut self, call: &Call) -> Option<StepKind> {
        let left = self.frame(call, "frame1", 0)?;
        let right = self.frame(call, "frame2", 1)?;
        let keys = (
            self.named(call, "keys1", 2)?.texts(),
            self.named(call, "keys2", 3)?.texts(),
        );
        Some(StepKind::Join {
            left: (left, keys.0),
            right: (right, keys.1),
            how: "INNER",
        })
    }

    pub(super) fn spark_sql(&mut self, call: &Call) -> Option<Value> {
        let query = self.named(call, "query", 1)?.text()?.to_owned();
        let Some(Value::Dict(pairs)) = self.named(call, "mapping", 2) else {
            return None;
        };
        let tables = pairs
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.frame()?)))
            .collect();
        Some(self.add(call, &["transformation_ctx"], StepKind::Sql(query, tables)))
    }

    /// `spark.sql(query)` over the views created before it.
    pub(super) fn sql(&mut self, call: &Call) -> Option<Value> {
        let query = self.named(call, "sqlQuery", 0)?.text()?.to_owned();
        let views = self.views.clone();
        if views.is_empty() {
            return None;
        }
        Some(self.add(call, &[], StepKind::Sql(query, views)))
    }

    /// Methods of frames: of Glue's and, as far as they mean the same, of Spark's.
    pub(super) fn frame_method(
        &mut self,
        call: &Call,
        frame: StepId,
        method: &str,
    ) -> Option<Value> {
        let kind = match method {
            "drop_fields" => {
                let paths = self.named(call, "paths", 0)?.texts();
                StepKind::Drop(frame, self.without_ingest(paths))
            }
            "drop" => {
                let all: Vec<String> = call
                    .args
                    .iter()
                    .flat_map(|arg| self.value(arg).texts())
                    .collect();
                StepKind::Drop(frame, self.without_ingest(all))
            }
            "select_fields" => {
                let paths = self.named(call, "paths", 0)?.texts();
                StepKind::Select(frame, self.without_ingest(paths))
            }
            "rename_field" | "withColumnRenamed" => {
                let old = self.value(call.args.first()?);
                let new = self.value(call.args.get(1)?);
                StepKind::Rename(frame, old.text()?.to_owned(), new.text()?.to_owned())
            }
            "filter" | "where" => {
                StepKind::Filter(frame, column::condition(call.args.first()?, &self.columns)?)
            }
            "selectExpr" => {
                let list: Vec<String> = call
                    .args
                    .iter()
                    .flat_map(|arg| self.value(arg).texts())
                    .collect();
                if list.is_empty() || list.len() < call.args.len() {
                    return None;
                }
                StepKind::Compute(frame, list.join(", "), String::new())
            }
            "select" => StepKind::Compute(frame, self.selected(&call.args)?, String::new()),
            "withColumn" => {
                let name = self.value(call.args.first()?).text()?.to_owned();
                if self.is_ingest(&name) {
                    return None;
                }
                let column = match call.args.get(1)? {
                    Expr::Text(_) => return None,
                    expr => column::column(expr, &self.columns)?,
                };
                StepKind::With(frame, name, column.sql)
            }
            "distinct" | "dropDuplicates" if call.args.is_empty() && call.named.is_empty() => {
                StepKind::Compute(frame, "DISTINCT *".to_owned(), String::new())
            }
            "groupBy" | "groupby" => {
                let keys = self.selected(&call.args)?;
                let by = self.keys(&call.args)?;
                return Some(Value::Grouped(frame, keys, by));
            }
            "apply_mapping" => StepKind::Map(frame, self.mappings(call, "mappings", 0)),
            "join" if self.is_frame(call.args.first()) => self.join_of_spark(call, frame)?,
            "join" => {
                let keys = (
                    self.named(call, "paths1", 0)?.texts(),
                    self.named(call, "paths2", 1)?.texts(),
                );
                let right = self.frame(call, "frame2", 2)?;
                StepKind::Join {
                    left: (frame, keys.0),
                    right: (right, keys.1),
                    how: "INNER",
                }
            }
            _ => return None,
        };
        Some(self.add(call, &["transformation_ctx"], kind))
    }

    /// Expressions with their names; `None` if one has none.
    fn selected(&self, exprs: &[Expr]) -> Option<String> {
        let mut list = vec![];
        for expr in one_list(exprs) {
            let column = column::column(expr, &self.columns)?;
            list.push(match column.name {
                None if column.sql == "*" => column.sql,
                None => return None,
                Some(name) if column.sql == quoted(&name) => column.sql,
                Some(name) => format!("{} AS {}", column.sql, quoted(&name)),
            });
        }
        (!list.is_empty()).then(|| list.join(", "))
    }

    fn keys(&self, exprs: &[Expr]) -> Option<String> {
        let keys: Option<Vec<String>> = one_list(exprs)
            .iter()
            .map(|expr| column::column(expr, &self.columns).map(|column| column.sql))
            .collect();
        keys.map(|keys| keys.join(", "))
    }

    /// `groupBy(...).agg(...)` and `groupBy(...).count()`.
    pub(super) fn grouped(
        &mut self,
        call: &Call,
        method: &str,
        (frame, keys, by): (StepId, String, String),
    ) -> Option<Value> {
        let values = match method {
            "count" if call.args.is_empty() => "count(*) AS `count`".to_owned(),
            "agg" => self.selected(&call.args)?,
            _ => return None,
        };
        let list = format!("{keys}, {values}");
        let kind = StepKind::Compute(frame, list, format!("GROUP BY {by}"));
        Some(self.add(call, &[], kind))
    }

    /// Columns of the batch's time: here they are folders, named after the window's start.
    pub(super) fn add_ingestion_time(&mut self, call: &Call) -> Option<Value> {
        let frame = self.frame(call, "dataFrame", 0)?;
        self.ingest = true;
        self.note(
            call.line,
            "ingest_year and the like are of the window's start, and only in partition_by: they \
             are no columns",
        );
        Some(Value::Frame(frame))
    }

    fn is_ingest(&self, name: &str) -> bool {
        self.ingest && INGEST.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn without_ingest(&self, mut names: Vec<String>) -> Vec<String> {
        names.retain(|name| !self.is_ingest(name));
        names
    }

    fn is_frame(&mut self, expr: Option<&Expr>) -> bool {
        expr.is_some_and(|expr| self.value(expr).frame().is_some())
    }

    /// `left.join(right, condition, how)` of Spark, the form in which Glue Studio writes joins that
    /// are not inner joins.
    fn join_of_spark(&mut self, call: &Call, left: StepId) -> Option<StepKind> {
        let right = self.value(call.args.first()?).frame()?;
        let how = match self.named(call, "how", 2) {
            Some(how) => join_type(&how.text()?.to_lowercase())?,
            None => "INNER",
        };
        let on = call.arg("on", 1)?;
        let mut keys = (Vec::new(), Vec::new());
        let names = self.value(on).texts();
        if names.is_empty() {
            for [a, b] in equalities(on)? {
                let frame_of = |name: &str| self.names.get(name).and_then(Value::frame);
                let (a, b) = match (frame_of(&a.0)?, frame_of(&b.0)?) {
                    (first, second) if first == left && second == right => (a, b),
                    (first, second) if first == right && second == left => (b, a),
                    _ => return None,
                };
                keys.0.push(a.1);
                keys.1.push(b.1);
            }
        } else {
            keys = (names.clone(), names);
        }
        Some(StepKind::Join {
            left: (left, keys.0),
            right: (right, keys.1),
            how,
        })
    }
}

/// `select("a", "b")` and `select(["a", "b"])`.
fn one_list(exprs: &[Expr]) -> &[Expr] {
    match exprs {
        [Expr::List(all)] => all,
        all => all,
    }
}

/// A column of a frame, by their names.
type Column = (String, String);

/// `a["x"] == b["y"]`, and several of these linked by `&`.
fn equalities(condition: &Expr) -> Option<Vec<[Column; 2]>> {
    match condition {
        Expr::Binary(op, left, right) if op == "&" => {
            let mut all = equalities(left)?;
            all.extend(equalities(right)?);
            Some(all)
        }
        Expr::Binary(op, left, right) if op == "==" => Some(vec![[column(left)?, column(right)?]]),
        Expr::List(all) => {
            let all: Vec<_> = all.iter().map(equalities).collect::<Option<_>>()?;
            Some(all.concat())
        }
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<Column> {
    match expr {
        Expr::Index(base, key) => match (&**base, &**key) {
            (Expr::Name(frame), Expr::Text(name)) => Some((frame.clone(), name.clone())),
            _ => None,
        },
        Expr::Name(path) => path
            .rsplit_once('.')
            .map(|(frame, name)| (frame.to_owned(), name.to_owned())),
        _ => None,
    }
}

fn join_type(how: &str) -> Option<&'static str> {
    Some(match how {
        "inner" => "INNER",
        "left" | "leftouter" | "left_outer" => "LEFT",
        "right" | "rightouter" | "right_outer" => "RIGHT",
        "outer" | "full" | "fullouter" | "full_outer" => "FULL",
        "semi" | "leftsemi" | "left_semi" => "LEFT SEMI",
        "anti" | "leftanti" | "left_anti" => "LEFT ANTI",
        _ => return None,
    })
}
