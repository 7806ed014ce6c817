//! The steps of a flow as one SELECT: each step becomes a `WITH`.
//!
//! Owns: names of steps in SQL, the columns as far as they are known. Does not own: the job file
//! around it.
//! Rule: names are case-insensitive in Glue and case-sensitive in SQL. A known column is written in
//! its exact case.

use super::flow::{Flow, StepId, StepKind};
use std::collections::BTreeMap;

/// The query, and the lookups that it reads.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub sql: String,
    /// Name and step of each.
    pub lookups: Vec<(String, StepId)>,
}

/// What is known about the columns of a step.
#[derive(Clone, Debug)]
enum Columns {
    Known(Vec<String>),
    /// They are lower-case: the stream's.
    Lower,
    Unknown,
}

impl Columns {
    fn resolve(&self, name: &str) -> String {
        match self {
            Self::Known(names) => names
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name))
                .cloned()
                .unwrap_or_else(|| name.to_owned()),
            Self::Lower => name.to_lowercase(),
            Self::Unknown => name.to_owned(),
        }
    }
}

struct Writer<'a> {
    flow: &'a mut Flow,
    stream: StepId,
    names: BTreeMap<StepId, String>,
    columns: BTreeMap<StepId, Columns>,
    ctes: Vec<(String, String)>,
    lookups: Vec<(String, StepId)>,
}

impl Query {
    /// A query of all steps that lead to `output`.
    pub fn new(flow: &mut Flow, stream: StepId, output: StepId) -> Self {
        let mut needed = vec![false; flow.steps.len()];
        mark(flow, output, &mut needed);
        let mut writer = Writer {
            flow,
            stream,
            names: BTreeMap::new(),
            columns: BTreeMap::new(),
            ctes: Vec::new(),
            lookups: Vec::new(),
        };
        for id in (0..needed.len()).filter(|id| needed[*id]) {
            writer.step(id);
        }
        let name = writer
            .names
            .get(&output)
            .cloned()
            .unwrap_or_else(|| "source".to_owned());
        let sql = match writer.ctes.pop() {
            None => format!("SELECT * FROM {name}"),
            Some((last, body)) if last == name => with(&writer.ctes, &body),
            Some(other) => {
                writer.ctes.push(other);
                with(&writer.ctes, &format!("SELECT * FROM {name}"))
            }
        };
        Self {
            sql,
            lookups: writer.lookups,
        }
    }
}

fn with(ctes: &[(String, String)], last: &str) -> String {
    if ctes.is_empty() {
        return last.to_owned();
    }
    let parts: Vec<_> = ctes
        .iter()
        .map(|(name, body)| format!("{name} AS (\n  {body}\n)"))
        .collect();
    format!("WITH {}\n{last}", parts.join(",\n"))
}

fn inputs(kind: &StepKind) -> Vec<StepId> {
    match kind {
        StepKind::Stream(_) | StepKind::Lookup { .. } => Vec::new(),
        StepKind::Map(input, _)
        | StepKind::Drop(input, _)
        | StepKind::Select(input, _)
        | StepKind::Rename(input, ..)
        | StepKind::Compute(input, ..)
        | StepKind::With(input, ..)
        | StepKind::Filter(input, _) => vec![*input],
        StepKind::Join { left, right, .. } => vec![left.0, right.0],
        StepKind::Sql(_, tables) => tables.iter().map(|(_, id)| *id).collect(),
    }
}

fn mark(flow: &Flow, id: StepId, needed: &mut [bool]) {
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        if let Some(seen) = needed.get_mut(id)
            && !std::mem::replace(seen, true)
        {
            open.extend(inputs(&flow.steps[id].kind));
        }
    }
}

impl Writer<'_> {
    fn name_of(&self, id: StepId) -> String {
        self.names
            .get(&id)
            .cloned()
            .unwrap_or_else(|| "source".to_owned())
    }

    fn columns_of(&self, id: StepId) -> Columns {
        self.columns.get(&id).cloned().unwrap_or(Columns::Unknown)
    }

    /// A name that no other step has.
    fn fresh(&self, text: &str) -> String {
        let plain: String = text
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(60)
            .collect();
        let base = format!(
            "{}{}",
            if plain.starts_with(|c: char| c.is_ascii_lowercase()) {
                ""
            } else {
                "t_"
            },
            plain
        );
        let base = if quoted(&base) == base {
            base
        } else {
            format!("t_{base}")
        };
        let taken = |name: &str| name == "source" || self.names.values().any(|other| other == name);
        let mut name = base.clone();
        let mut number = 2;
        while taken(&name) {
            name = format!("{base}_{number}");
            number += 1;
        }
        name
    }

    fn step(&mut self, id: StepId) {
        let step = self.flow.steps[id].clone();
        let (body, columns) = match &step.kind {
            StepKind::Stream(_) => {
                if id != self.stream {
                    self.flow.note(
                        Some(step.name.clone()),
                        "a second stream is not carried over: a job reads one",
                    );
                }
                self.names.insert(id, "source".to_owned());
                self.columns.insert(id, Columns::Lower);
                return;
            }
            StepKind::Lookup { .. } => {
                let name = self.fresh(&step.name);
                self.lookups.push((name.clone(), id));
                self.names.insert(id, name);
                self.columns.insert(id, Columns::Unknown);
                return;
            }
            StepKind::Map(input, mappings) => self.map(&step.name, *input, mappings),
            StepKind::Join { left, right, how } => self.join(&step.name, left, right, how),
            StepKind::Drop(input, names) => self.drop(*input, names),
            StepKind::Select(input, names) => {
                let columns = self.columns_of(*input);
                let names: Vec<_> = names.iter().map(|name| columns.resolve(name)).collect();
                let list: Vec<_> = names.iter().map(|name| quoted(name)).collect();
                (
                    format!("SELECT {} FROM {}", list.join(", "), self.name_of(*input)),
                    Columns::Known(names),
                )
            }
            StepKind::Rename(input, old, new) => self.rename(*input, old, new),
            StepKind::Filter(input, condition) => (
                format!("SELECT * FROM {} WHERE {condition}", self.name_of(*input)),
                self.columns_of(*input),
            ),
            StepKind::Compute(input, list, tail) => {
                let from = self.name_of(*input);
                let body = format!("SELECT {list} FROM {from} {tail}");
                (body.trim_end().to_owned(), Columns::Unknown)
            }
            StepKind::With(input, name, sql) => self.with(*input, name, sql),
            StepKind::Sql(query, tables) => {
                for (alias, input) in tables {
                    let name = self.name_of(*input);
                    if !alias.eq_ignore_ascii_case(&name) {
                        self.ctes.push((
                            quoted(&alias.to_lowercase()),
                            format!("SELECT * FROM {name}"),
                        ));
                    }
                }
                (
                    query.trim().trim_end_matches(';').to_owned(),
                    Columns::Unknown,
                )
            }
        };
        let name = self.fresh(&step.name);
        self.ctes.push((name.clone(), body));
        self.names.insert(id, name);
        self.columns.insert(id, columns);
    }

    fn map(&mut self, place: &str, input: StepId, mappings: &[[String; 4]]) -> (String, Columns) {
        let columns = self.columns_of(input);
        let mut list = Vec::new();
        let mut names = Vec::new();
        for [from, from_type, to, to_type] in mappings {
            if to.contains('.') {
                let text = format!(
                    "the nested target {to:?} is not carried over: write named_struct('name', x) AS column in the query"
                );
                self.flow.note(Some(place.to_owned()), text);
                continue;
            }
            // A field of a struct is named with dots.
            let mut parts = from.split('.');
            let column = parts.next().map(|first| quoted(&columns.resolve(first)));
            let parts = column.into_iter().chain(parts.map(quoted));
            let source = parts.collect::<Vec<_>>().join(".");
            let target = quoted(to);
            let cast = if from_type.eq_ignore_ascii_case(to_type) {
                None
            } else {
                sql_type(to_type)
            };
            list.push(match cast {
                Some(cast) => format!("CAST({source} AS {cast}) AS {target}"),
                None if source == target => source,
                None => format!("{source} AS {target}"),
            });
            names.push(to.clone());
        }
        if list.is_empty() {
            return (format!("SELECT * FROM {}", self.name_of(input)), columns);
        }
        (
            format!("SELECT {} FROM {}", list.join(", "), self.name_of(input)),
            Columns::Known(names),
        )
    }

    fn join(
        &mut self,
        place: &str,
        left: &(StepId, Vec<String>),
        right: &(StepId, Vec<String>),
        how: &str,
    ) -> (String, Columns) {
        let left_columns = self.columns_of(left.0);
        let right_columns = self.columns_of(right.0);
        let keys: Vec<_> = left.1.iter().zip(&right.1).collect();
        if keys.is_empty() {
            self.flow.note(
                Some(place.to_owned()),
                "the keys of this join are not known: it is not carried over",
            );
            return (
                format!("SELECT * FROM {}", self.name_of(left.0)),
                left_columns,
            );
        }
        let keys: Vec<_> = keys
            .into_iter()
            .map(|(a, b)| (left_columns.resolve(a), right_columns.resolve(b)))
            .collect();
        let on: Vec<_> = keys
            .iter()
            .map(|(a, b)| format!("l.{} = r.{}", quoted(a), quoted(b)))
            .collect();
        let same: Vec<_> = keys
            .iter()
            .filter(|(a, b)| a == b)
            .map(|(a, _)| quoted(a))
            .collect();
        let right_list = match same.len() {
            0 => "r.*".to_owned(),
            _ => format!("r.* EXCLUDE ({})", same.join(", ")),
        };
        let list = if how.starts_with("LEFT ") {
            "l.*".to_owned()
        } else {
            format!("l.*, {right_list}")
        };
        let a = self.name_of(left.0);
        let b = self.name_of(right.0);
        let columns = match (left_columns, right_columns) {
            _ if how.starts_with("LEFT ") => self.columns_of(left.0),
            (Columns::Known(mut names), Columns::Known(more)) => {
                names.extend(more);
                Columns::Known(names)
            }
            _ => Columns::Unknown,
        };
        (
            format!(
                "SELECT {list} FROM {a} l {how} JOIN {b} r ON {}",
                on.join(" AND ")
            ),
            columns,
        )
    }

    fn drop(&mut self, input: StepId, names: &[String]) -> (String, Columns) {
        let columns = self.columns_of(input);
        let from = self.name_of(input);
        if let Columns::Known(known) = &columns {
            let gone = |name: &&String| !names.iter().any(|drop| drop.eq_ignore_ascii_case(name));
            let kept: Vec<String> = known.iter().filter(gone).cloned().collect();
            if !kept.is_empty() {
                let list: Vec<_> = kept.iter().map(|name| quoted(name)).collect();
                return (
                    format!("SELECT {} FROM {from}", list.join(", ")),
                    Columns::Known(kept),
                );
            }
        }
        if names.is_empty() {
            return (format!("SELECT * FROM {from}"), columns);
        }
        let mut list: Vec<_> = names
            .iter()
            .map(|name| quoted(&columns.resolve(name)))
            .collect();
        list.sort();
        list.dedup();
        (
            format!("SELECT * EXCLUDE ({}) FROM {from}", list.join(", ")),
            columns,
        )
    }

    /// A column that the expression reads, or that is known, is replaced; another one is added.
    fn with(&mut self, input: StepId, name: &str, sql: &str) -> (String, Columns) {
        let columns = self.columns_of(input);
        let from = self.name_of(input);
        let column = quoted(name);
        let is_known = match &columns {
            Columns::Known(names) => names.iter().any(|known| known.eq_ignore_ascii_case(name)),
            Columns::Lower | Columns::Unknown => {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                // A text is no column: `date_trunc('minute', at) AS minute`.
                let plain = sql.replace("\\'", "");
                let mut parts = plain.split('\'').step_by(2);
                parts.any(|part| {
                    part.split(|c| !is_part(c))
                        .any(|word| word.eq_ignore_ascii_case(name))
                })
            }
        };
        if is_known {
            let body = format!("SELECT * EXCLUDE ({column}), {sql} AS {column} FROM {from}");
            return (body, columns);
        }
        let columns = match columns {
            Columns::Known(mut names) => {
                names.push(name.to_owned());
                Columns::Known(names)
            }
            Columns::Lower | Columns::Unknown => Columns::Unknown,
        };
        (format!("SELECT *, {sql} AS {column} FROM {from}"), columns)
    }

    fn rename(&mut self, input: StepId, old: &str, new: &str) -> (String, Columns) {
        let columns = self.columns_of(input);
        let from = self.name_of(input);
        let found = columns.resolve(old);
        if let Columns::Known(known) = &columns {
            let renamed: Vec<_> = known
                .iter()
                .map(|name| {
                    if *name == found {
                        new.to_owned()
                    } else {
                        name.clone()
                    }
                })
                .collect();
            let list: Vec<_> = known
                .iter()
                .map(|name| {
                    if *name == found {
                        format!("{} AS {}", quoted(name), quoted(new))
                    } else {
                        quoted(name)
                    }
                })
                .collect();
            return (
                format!("SELECT {} FROM {from}", list.join(", ")),
                Columns::Known(renamed),
            );
        }
        let found = quoted(&found);
        (
            format!(
                "SELECT * EXCLUDE ({found}), {found} AS {} FROM {from}",
                quoted(new)
            ),
            Columns::Unknown,
        )
    }
}

/// A type of Glue in SQL; `None`: leave the column unchanged.
fn sql_type(glue: &str) -> Option<String> {
    let lower = glue.trim().to_lowercase();
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '(' | ')' | ',' | ' ');
    Some(match lower.as_str() {
        "string" | "varchar" | "char" => "STRING".to_owned(),
        "int" | "integer" => "INT".to_owned(),
        "long" | "bigint" => "BIGINT".to_owned(),
        "short" | "smallint" => "SMALLINT".to_owned(),
        "byte" | "tinyint" => "TINYINT".to_owned(),
        "float" => "FLOAT".to_owned(),
        "double" => "DOUBLE".to_owned(),
        "boolean" => "BOOLEAN".to_owned(),
        "date" => "DATE".to_owned(),
        "timestamp" => "TIMESTAMP".to_owned(),
        "decimal" => "DECIMAL(10,2)".to_owned(),
        name => match name.strip_prefix("decimal") {
            Some(rest) if rest.chars().all(digits) => format!("DECIMAL{rest}"),
            _ => return None,
        },
    })
}

/// A name as SQL takes it, whatever it holds.
pub fn quoted(name: &str) -> String {
    let words = [
        "select",
        "from",
        "where",
        "join",
        "on",
        "as",
        "order",
        "group",
        "by",
        "user",
        "date",
        "time",
        "timestamp",
        "end",
        "table",
        "all",
        "and",
        "or",
        "not",
        "in",
        "is",
        "null",
        "case",
        "when",
        "left",
        "right",
        "full",
        "inner",
        "values",
        "with",
        "limit",
        "union",
        "desc",
        "asc",
        "having",
        "interval",
        "true",
        "false",
        "default",
    ];
    let mut chars = name.chars();
    let simple = chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if simple && !words.contains(&name) {
        name.to_owned()
    } else {
        format!("`{}`", name.replace('`', "``"))
    }
}
