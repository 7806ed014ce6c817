//! The batch function of a script as a file of Python: its code, and what it uses of the script.
//!
//! Owns: when code is carried over, what is left out of it, and what a person must change. Does not
//! own: places in a text (`source`), the body's code (`body`, `forms`), which calls steps stand for
//! (`script`).
//! Rule: the code of the script stays as it is, with its comments. Whatever cannot work here has a
//! TODO above it, with the line of the script, and a note.

mod body;
mod forms;
mod source;
#[cfg(test)]
mod tests;

use super::flow::{Flow, Function, StepId};
use super::python::{Kind, Statement};
use body::Body;
use source::{code, find, names};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

const HEAD: &str = "# The batch function of a Glue script, carried over by `streamctl import`.\n\
                    # A TODO names the line of the script, and what to change.\n";
/// Transforms of Glue: frames here have none of them.
const TRANSFORMS: [&str; 20] = [
    "ApplyMapping",
    "Join.apply",
    "Filter.apply",
    "Map.apply",
    "FlatMap.apply",
    "DropFields",
    "DropNullFields",
    "SelectFields",
    "RenameField",
    "ResolveChoice",
    "Relationalize",
    "SplitFields",
    "SplitRows",
    "apply_mapping",
    "drop_fields",
    "select_fields",
    "rename_field",
    "resolveChoice",
    "sparkSqlQuery",
    "add_ingestion_time_columns",
];
/// What a session or a job of Glue is made with.
const SESSION: [&str; 7] = [
    "GlueContext",
    "SparkContext",
    "SparkSession",
    "sparkContext",
    "spark_session",
    "Job",
    "getResolvedOptions",
];

/// A batch function, as it was read.
pub struct Batch<'a> {
    pub function: &'a str,
    pub input: StepId,
    /// Lines whose code no step stands for.
    pub lost: &'a BTreeSet<usize>,
    /// The line of the call that writes to the job's target.
    pub written_at: Option<usize>,
    /// Names that are known texts.
    pub texts: BTreeMap<String, String>,
    /// Names that are lookups.
    pub lookups: BTreeMap<String, StepId>,
}

/// A part of the file that is carried over.
struct Part {
    lines: Vec<String>,
    is_definition: bool,
}

/// A statement of the script with everything below it.
struct Item<'a> {
    lines: RangeInclusive<usize>,
    statements: &'a [Statement],
    defines: Vec<String>,
}

impl Item<'_> {
    fn is_definition(&self) -> bool {
        let outermost = self.statements[0].indent;
        let mut statements = self.statements.iter();
        statements.any(|one| one.indent == outermost && matches!(one.kind, Kind::Def(..)))
    }
}

/// The lines of a script.
struct Source<'a> {
    lines: Vec<&'a str>,
    code: Vec<String>,
}

impl<'a> Source<'a> {
    fn new(script: &'a str) -> Self {
        Self {
            lines: script.lines().collect(),
            code: code(script).lines().map(str::to_owned).collect(),
        }
    }

    fn text(&self, lines: RangeInclusive<usize>) -> String {
        let begin = lines.start() - 1;
        let length = lines.end().saturating_sub(begin);
        let lines = self.lines.iter().skip(begin).take(length);
        lines.copied().collect::<Vec<_>>().join("\n")
    }

    fn code(&self, lines: RangeInclusive<usize>) -> String {
        let begin = lines.start() - 1;
        let length = lines.end().saturating_sub(begin);
        let lines = self.code.iter().skip(begin).take(length);
        lines.cloned().collect::<Vec<_>>().join("\n")
    }

    /// A definition begins at its decorators, anything at the comment above it.
    fn begin(&self, line: usize) -> usize {
        let above = self.lines[..line - 1].iter().rev();
        line - above
            .take_while(|line| line.starts_with('@') || line.starts_with('#'))
            .count()
    }
}

/// Sets [`Flow::function`], if steps do not stand for the whole batch function.
pub fn carry(flow: &mut Flow, script: &str, statements: &[Statement], batch: &Batch) {
    let source = Source::new(script);
    let items = items(&source, statements);
    let is_function = |item: &&Item| {
        let kind = item.statements.iter().map(|statement| &statement.kind);
        let mut definitions =
            kind.filter(|kind| matches!(kind, Kind::Def(name, _) if name == batch.function));
        definitions.next().is_some()
    };
    let Some(function) = items.iter().rfind(is_function) else {
        return;
    };
    let code = source.code(function.lines.clone());
    let needed = needed(&source, &items, function, &code);
    let is_own = |item: &&Item| item.is_definition() || has_udf(&source.code(item.lines.clone()));
    let own = needed.iter().map(|at| &items[*at]).find(is_own);
    let is_lost = batch.lost.iter().any(|line| function.lines.contains(line));
    if !is_lost && own.is_none() {
        return;
    }
    if let Some(name) = TRANSFORMS.iter().find(|name| find(&code, name).is_some()) {
        let text = format!(
            "the batch function has code of its own and uses {name}, which is not there in a \
             function: it stands in [transform] sql as far as it is understood. Write the rest as \
             a [function]"
        );
        let place = format!("line {}", function.statements[0].line);
        return flow.note(Some(place), text);
    }
    let Some(body) = Body::read(function, batch) else {
        return;
    };
    let mut file = File {
        session: session(&source, &items),
        ..File::default()
    };
    let used: BTreeSet<&str> = names(&code).into_iter().collect();
    for (name, id) in &batch.lookups {
        let is_outer = items.iter().any(|item| item.defines.contains(name));
        if is_outer && used.contains(name.as_str()) {
            file.lookups.insert(name.clone(), (lookup_name(name), *id));
        }
    }
    let lookups = file
        .lookups
        .iter()
        .map(|(name, (lookup, _))| (name.clone(), lookup.clone()))
        .collect();
    let mut notes = Vec::new();
    let written = body.write(&source, &file.session, &lookups, &mut notes);
    let text = written.lines.join("\n");
    for at in self::needed(&source, &items, function, &self::code(&text)) {
        file.item(&source, &items[at], batch);
    }
    file.notes.append(&mut notes);
    file.parts.push(Part {
        lines: written.lines,
        is_definition: true,
    });
    let others: BTreeSet<usize> = file.notes.iter().map(|(line, _)| *line).collect();
    let is_replaced = |place: &str| {
        let line = place
            .strip_prefix("line ")
            .and_then(|line| line.parse().ok());
        line.is_some_and(|line: usize| {
            function.lines.contains(&line) && (batch.lost.contains(&line) || others.contains(&line))
        })
    };
    flow.notes
        .retain(|note| !note.place.as_deref().is_some_and(is_replaced));
    for (line, text) in std::mem::take(&mut file.notes) {
        flow.note(Some(format!("line {line}")), text);
    }
    flow.note(
        None,
        format!(
            "`{}` has code that is not carried over to SQL: it is in transform.py, and called for \
             each window. Try it: streamctl explain, and docs/functions.md",
            batch.function
        ),
    );
    flow.function = Some(Function {
        input: batch.input,
        name: batch.function.to_owned(),
        frame: written.frame,
        text: file.text(),
        lookups: file.lookups.into_values().collect(),
    });
}

/// The statements of the outermost level, each with what is below it.
fn items<'a>(source: &Source, statements: &'a [Statement]) -> Vec<Item<'a>> {
    let mut items: Vec<Item> = Vec::new();
    let mut at = 0;
    while at < statements.len() {
        let begin = at;
        at += 1;
        let is_decorator = |statement: &Statement| {
            let line = source.lines.get(statement.line - 1);
            statement.indent == 0 && line.is_some_and(|line| line.starts_with('@'))
        };
        while let Some(next) = statements.get(at) {
            let is_branch = matches!(&next.kind, Kind::Block(word)
                if matches!(word.as_str(), "else" | "elif" | "except" | "finally"));
            let is_below = next.indent > statements[begin].indent;
            if !is_branch && !is_below && !is_decorator(&statements[at - 1]) {
                break;
            }
            at += 1;
        }
        let statements = &statements[begin..at];
        let last = statements.iter().map(|statement| statement.end).max();
        let lines = source.begin(statements[0].line)..=last.unwrap_or(statements[0].end);
        let defines = statements
            .iter()
            .flat_map(|statement| defined(source, statement))
            .collect();
        items.push(Item {
            lines,
            statements,
            defines,
        });
    }
    items
}

/// The names that a statement sets.
fn defined(source: &Source, statement: &Statement) -> Vec<String> {
    let code = source.code(statement.line..=statement.end);
    match &statement.kind {
        Kind::Def(name, _) | Kind::Assign(name, _) => vec![name.clone()],
        Kind::Nothing => {
            let Some((_, imported)) = code.split_once("import ") else {
                return Vec::new();
            };
            let imported = imported.replace(['(', ')'], " ");
            let parts = imported.split(',').filter_map(|part| {
                let name = part.rsplit(" as ").next()?.trim();
                Some(name.split('.').next()?.to_owned())
            });
            parts.collect()
        }
        Kind::Block(word) if word == "class" => names(&code)
            .get(1)
            .map(|name| (*name).to_owned())
            .into_iter()
            .collect(),
        Kind::Other => {
            let target = code.split('=').next().unwrap_or("");
            let target = target.split(':').next().unwrap_or("");
            names(target).into_iter().map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The items that a function needs, in their order.
fn needed(source: &Source, items: &[Item], function: &Item, code: &str) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<String> = names(code).into_iter().map(str::to_owned).collect();
    for (at, item) in items.iter().enumerate() {
        let is_import = matches!(item.statements[0].kind, Kind::Nothing);
        if is_import && item.defines.iter().any(|name| name == "*") {
            needed.insert(at);
        }
    }
    while let Some(name) = open.pop() {
        for (at, item) in items.iter().enumerate() {
            let is_other = item.lines != function.lines && item.defines.contains(&name);
            if is_other && needed.insert(at) && !is_session(&source.code(item.lines.clone())) {
                let code = source.code(item.lines.clone());
                open.extend(names(&code).into_iter().map(str::to_owned));
            }
        }
    }
    needed
}

/// Names of the script that are of the session, or of Glue's packages.
fn session(source: &Source, items: &[Item]) -> BTreeSet<String> {
    let mut session = BTreeSet::new();
    for item in items {
        let code = source.code(item.lines.clone());
        let is_part = match item.statements[0].kind {
            Kind::Nothing => {
                find(&code, "awsglue").is_some() || find(&code, "pyspark.context").is_some()
            }
            Kind::Assign(..) => is_session(&code),
            _ => false,
        };
        if is_part {
            session.extend(item.defines.iter().filter(|name| *name != "*").cloned());
        }
    }
    session
}

fn is_session(code: &str) -> bool {
    SESSION.iter().any(|word| find(code, word).is_some())
}

fn has_udf(code: &str) -> bool {
    ["udf", "pandas_udf"]
        .iter()
        .any(|word| find(code, word).is_some())
}

/// What of a statement cannot work here, with the reason.
fn problems(code: &str, session: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    if has_udf(code) {
        problems.push(
            "frames of `frame = \"pyspark\"` have no udf: use F functions, or compute this column \
             with `frame = \"pandas\"`"
                .to_owned(),
        );
    }
    let missing = [
        ".rdd",
        "foreachPartition",
        "mapPartitions",
        "mapInPandas",
        "applyInPandas",
        ".foreach",
    ];
    for name in missing.iter().filter(|name| find(code, name).is_some()) {
        problems.push(format!(
            "frames have no `{}` here",
            name.trim_start_matches('.')
        ));
    }
    if find(code, ".sql(").is_some() {
        problems.push("SQL over views is not there in a function: write it as DataFrame calls, or in [transform] sql".to_owned());
    } else if find(code, "createOrReplaceTempView").is_some() {
        problems.push("views are not there in a function".to_owned());
    } else if let Some(name) = names(code).into_iter().find(|name| session.contains(*name)) {
        problems.push(format!("`{name}` is of Glue's session: it is not there"));
    }
    if find(code, "boto3").is_some() {
        problems.push(
            "calls of AWS need `network = true` in [function] and credentials that the code \
             brings, and are made at least once"
                .to_owned(),
        );
    }
    problems
}

#[derive(Default)]
struct File {
    parts: Vec<Part>,
    /// Names that are not there in the file.
    session: BTreeSet<String>,
    lookups: BTreeMap<String, (String, StepId)>,
    notes: Vec<(usize, String)>,
}

impl File {
    fn item(&mut self, source: &Source, item: &Item, batch: &Batch) {
        let code = source.code(item.lines.clone());
        let first = &item.statements[0];
        let is_import = matches!(first.kind, Kind::Nothing);
        let is_known = item
            .defines
            .iter()
            .all(|name| self.session.contains(name) || self.lookups.contains_key(name));
        if is_import && find(&code, "awsglue").is_some() || is_known && !item.defines.is_empty() {
            return;
        }
        if let Kind::Assign(name, _) = &first.kind {
            let needs_session = names(&code)
                .into_iter()
                .any(|name| self.session.contains(name));
            if needs_session && let Some(text) = batch.texts.get(name) {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                let text = text.replace(|c: char| c.is_control(), " ");
                self.notes.push((
                    first.line,
                    format!("`{name}` is the text {text:?} in transform.py: there are no arguments of a job"),
                ));
                let line = format!("{name} = \"{text}\"");
                self.parts.push(Part {
                    lines: vec![line],
                    is_definition: false,
                });
                return;
            }
        }
        let mut lines = Vec::new();
        let mut at = *item.lines.start();
        for statement in item.statements {
            let end = statement.line.max(at);
            lines.extend((at..end).map(|line| source.text(line..=line)));
            let code = source.code(statement.line..=statement.end);
            for text in problems(&code, &self.session) {
                let indent = " ".repeat(statement.indent);
                lines.push(format!("{indent}# TODO line {}: {text}", statement.line));
                self.notes.push((statement.line, text));
            }
            at = end;
        }
        lines.extend((at..=*item.lines.end()).map(|line| source.text(line..=line)));
        self.parts.push(Part {
            lines,
            is_definition: item.is_definition(),
        });
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let mut after_definition = false;
        let mut is_first = true;
        for part in &self.parts {
            if part.is_definition || after_definition {
                text.push_str("\n\n");
            } else if is_first {
                text.push('\n');
            }
            text.push_str(&part.lines.join("\n"));
            text.push('\n');
            after_definition = part.is_definition;
            is_first = false;
        }
        text
    }
}

/// A name for a lookup in a job file.
fn lookup_name(name: &str) -> String {
    let plain = name.to_lowercase();
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    plain
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}
