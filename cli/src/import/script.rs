//! A Glue script as a flow: the workshop's and Glue Studio's generated forms.
//!
//! Owns: the values of names, and which calls are known. Does not own: Python's grammar (`python`),
//! what is read and written (`places`), operations on frames (`frames`).
//! Rule: every statement that has an effect and is not understood is noted with its line; nothing
//! is run.

mod frames;
mod places;

use super::carry::{self, Batch};
use super::flow::{Flow, StepId, StepKind};
use super::python::{Call, Expr, Kind, SCRIPT_DEPTH_MAX, Statement, parse};
use super::rows::rows_of;
use std::collections::{BTreeMap, BTreeSet};

/// Placeholder in a text for the time of the run.
const TIME: char = '\u{1}';
/// Longest text that is concatenated.
const TEXT_CHARS_MAX: usize = 64 << 10;
const EXCEPT: &str = "`except` and its body are not carried over: a window that fails is tried again, and after [retry] max the \
                      job stops with the reason";
/// Calls that only print, name or count something.
const HARMLESS: [&str; 21] = [
    "print",
    "printSchema",
    "show",
    "init",
    "commit",
    "count",
    "getOrCreate",
    "set",
    "setLevel",
    "setLogLevel",
    "error",
    "warning",
    "exception",
    "log",
    "info",
    "warn",
    "debug",
    "cache",
    "persist",
    "unpersist",
    "append",
];

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    List(Vec<Value>),
    Dict(Vec<(String, Value)>),
    Frame(StepId),
    /// The result of `groupBy`: the frame, its keys as columns, and as what is grouped by.
    Grouped(StepId, String, String),
    Args,
    /// The time of the run, or a part of it.
    Time,
    /// `frame.write` of Spark, with what was set since.
    Writer(StepId, Vec<(String, Value)>),
    /// The result of `getSink`, until `writeFrame`.
    Sink(Vec<(String, Value)>),
    Unknown,
}

impl Value {
    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    fn frame(&self) -> Option<StepId> {
        if let Self::Frame(id) = self {
            Some(*id)
        } else {
            None
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let Self::Dict(pairs) = self else { return None };
        pairs
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }

    /// A text, or a list of texts.
    fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items
                .iter()
                .filter_map(Value::text)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Reads a script; `args` are the job's arguments, as far as they are known.
///
/// # Errors
/// The text is not a script.
pub fn read(script: &str, args: &BTreeMap<String, String>) -> Result<Flow, String> {
    let statements = parse(script)?;
    let mut reader = Script {
        flow: Flow::default(),
        names: BTreeMap::new(),
        views: Vec::new(),
        columns: BTreeMap::new(),
        ingest: false,
        strange: None,
        args,
        functions: BTreeMap::new(),
        batch: None,
        lost: BTreeSet::new(),
        written_at: None,
        depth: 0,
    };
    let top = reader.take_functions(&statements);
    reader.run(&top);
    reader.carry(script, &statements);
    Ok(reader.flow)
}

struct Script<'a> {
    flow: Flow,
    names: BTreeMap<String, Value>,
    /// Frames with a name in SQL.
    views: Vec<(String, StepId)>,
    /// Variables that hold columns.
    columns: super::column::Columns,
    /// Whether rows have the columns of the batch's time (`add_ingestion_time_columns`).
    ingest: bool,
    /// The last unknown call.
    strange: Option<String>,
    args: &'a BTreeMap<String, String>,
    functions: BTreeMap<String, (Vec<String>, Vec<Statement>)>,
    /// Name and input of the batch function.
    batch: Option<(String, StepId)>,
    /// Lines whose code no step stands for.
    lost: BTreeSet<usize>,
    /// The line of the call that writes to the job's target.
    written_at: Option<usize>,
    depth: usize,
}

impl Script<'_> {
    fn note(&mut self, line: usize, text: impl Into<String>) {
        self.flow.note(Some(format!("line {line}")), text);
    }

    /// Notes code that no step stands for.
    fn lose(&mut self, line: usize, text: impl Into<String>) {
        self.lost.insert(line);
        self.note(line, text);
    }

    /// Carries the code of the batch function over, if steps do not stand for all of it.
    fn carry(&mut self, script: &str, statements: &[Statement]) {
        let Some((function, input)) = self.batch.take() else {
            return;
        };
        let texts = self
            .names
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned())));
        let lookups = self.names.iter().filter_map(|(name, value)| {
            let id = value.frame()?;
            let step = self.flow.steps.get(id)?;
            matches!(step.kind, StepKind::Lookup { .. }).then(|| (name.clone(), id))
        });
        let batch = Batch {
            function: &function,
            input,
            lost: &self.lost,
            written_at: self.written_at,
            texts: texts.collect(),
            lookups: lookups.collect(),
        };
        carry::carry(&mut self.flow, script, statements, &batch);
    }

    /// Separates function definitions; returns the rest.
    fn take_functions(&mut self, statements: &[Statement]) -> Vec<Statement> {
        let mut rest = Vec::new();
        let mut at = 0;
        while let Some(statement) = statements.get(at) {
            at += 1;
            let Kind::Def(name, parameters) = &statement.kind else {
                rest.push(statement.clone());
                continue;
            };
            let begin = at;
            while statements
                .get(at)
                .is_some_and(|inner| inner.indent > statement.indent)
            {
                at += 1;
            }
            self.functions.insert(
                name.clone(),
                (parameters.clone(), statements[begin..at].to_vec()),
            );
        }
        rest
    }

    fn run(&mut self, statements: &[Statement]) {
        let mut skip: Option<usize> = None;
        // The last `if` of each depth, until another statement at that depth: what its condition
        // means for a batch.
        let mut branches: BTreeMap<usize, Option<bool>> = BTreeMap::new();
        let outermost = statements.first().map_or(0, |statement| statement.indent);
        for statement in statements {
            if let Some(indent) = skip {
                if statement.indent > indent {
                    continue;
                }
                skip = None;
            }
            branches.retain(|indent, _| *indent <= statement.indent);
            let line = statement.line;
            let before = branches.remove(&statement.indent).flatten();
            match &statement.kind {
                Kind::Assign(name, value) if self.is_column(value) => {
                    self.columns.insert(name.clone(), value.clone());
                }
                Kind::Assign(name, value) => {
                    self.columns.remove(name);
                    let value = self.value(value);
                    self.names.insert(name.clone(), value);
                }
                Kind::Expr(expr) => {
                    self.strange = None;
                    self.value(expr);
                    // A call as a statement is made for its effect.
                    if let Some(name) = self.strange.take().filter(|name| is_call_of(expr, name)) {
                        self.lose(line, format!("`{name}` is not carried over"));
                    }
                }
                Kind::If(condition) => {
                    let has_rows = self.has_rows(condition);
                    branches.insert(statement.indent, has_rows);
                    match has_rows {
                        Some(true) => {}
                        // A window without rows never gets this far, neither in Glue nor here.
                        Some(false) => skip = Some(statement.indent),
                        None => self.lose(
                            line,
                            "the condition of this `if` is not carried over: its body is taken as \
                             always done",
                        ),
                    }
                }
                Kind::Return if statement.indent > outermost => self.lose(
                    line,
                    "this `return` is not carried over: what follows it is taken as always done",
                ),
                Kind::Return => return,
                Kind::Try | Kind::Nothing => {}
                Kind::Block(word) => match (word.as_str(), before) {
                    ("finally", _) | ("else", Some(false)) => {}
                    ("else", Some(true)) => skip = Some(statement.indent),
                    ("except", _) => {
                        self.lose(line, EXCEPT);
                        skip = Some(statement.indent);
                    }
                    _ => {
                        self.lose(line, format!("`{word}` and its body are not carried over"));
                        skip = Some(statement.indent);
                    }
                },
                Kind::Def(..) => skip = Some(statement.indent),
                Kind::Other => self.lose(
                    line,
                    "this statement is not understood and not carried over",
                ),
            }
        }
    }

    /// Whether a condition is true exactly for batches with rows (`true`) or without (`false`);
    /// `None`: neither.
    fn has_rows(&mut self, condition: &Expr) -> Option<bool> {
        let (name, has_rows) = rows_of(condition)?;
        let frame = self.names.get(name)?.frame()?;
        self.flow
            .is_every_row_of_the_stream(frame)
            .then_some(has_rows)
    }

    fn value(&mut self, expr: &Expr) -> Value {
        if self.depth > 4 * SCRIPT_DEPTH_MAX {
            return Value::Unknown;
        }
        self.depth += 1;
        let value = self.value_of(expr);
        self.depth -= 1;
        value
    }

    fn value_of(&mut self, expr: &Expr) -> Value {
        match expr {
            Expr::Text(text) | Expr::Number(text) => Value::Text(text.clone()),
            Expr::Constant(word) => Value::Text(word.to_lowercase()),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => Value::List(items.iter().map(|item| self.value(item)).collect()),
            Expr::Dict(pairs) => {
                let pairs = pairs.iter().filter_map(|(key, value)| {
                    let key = self.value(key).text()?.to_owned();
                    Some((key, self.value(value)))
                });
                Value::Dict(pairs.collect())
            }
            Expr::Join(parts) => {
                let mut text = String::new();
                for part in parts {
                    match self.value(part) {
                        Value::Text(part) => text.push_str(&part),
                        Value::Time => text.push(TIME),
                        _ => return Value::Unknown,
                    }
                }
                limited(text)
            }
            Expr::Binary(op, left, right) if op == "+" => {
                match (self.value(left), self.value(right)) {
                    (Value::Text(left), Value::Text(right)) => limited(left + &right),
                    (Value::Text(left), Value::Time) => limited(left + &TIME.to_string()),
                    (Value::Time, Value::Text(right)) => limited(TIME.to_string() + &right),
                    (Value::Time, Value::Time) => Value::Time,
                    _ => Value::Unknown,
                }
            }
            Expr::Index(base, key) => match (self.value(base), self.value(key)) {
                (Value::Args, Value::Text(key)) => self.argument(&key),
                (dict @ Value::Dict(_), Value::Text(key)) => {
                    dict.get(&key).cloned().unwrap_or(Value::Unknown)
                }
                _ => Value::Unknown,
            },
            Expr::Attribute(base, name) => match self.value(base) {
                Value::Time => Value::Time,
                Value::Frame(frame) if name == "write" => Value::Writer(frame, Vec::new()),
                _ => Value::Unknown,
            },
            Expr::Call(call) => self.call(call),
            Expr::Unary(..) | Expr::Binary(..) | Expr::Lambda(..) | Expr::Other => Value::Unknown,
        }
    }

    fn name(&mut self, name: &str) -> Value {
        if let Some(value) = self.names.get(name) {
            return value.clone();
        }
        let written = name
            .strip_suffix(".write")
            .and_then(|frame| self.names.get(frame)?.frame());
        if let Some(frame) = written {
            return Value::Writer(frame, Vec::new());
        }
        let base = name.split('.').next().unwrap_or(name);
        match self.names.get(base) {
            Some(Value::Time) => Value::Time,
            _ => Value::Unknown,
        }
    }

    fn argument(&mut self, key: &str) -> Value {
        self.flow
            .asked
            .insert(key.trim_start_matches('-').to_owned());
        if let Some(value) = self
            .args
            .get(key)
            .or_else(|| self.args.get(&format!("--{key}")))
        {
            return Value::Text(value.clone());
        }
        let stand_in: String = key
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(50)
            .collect();
        let stand_in = format!("set-{}", stand_in.trim_matches('-'));
        let text = format!(
            "the job's argument {key:?} is not known here, {stand_in:?} stands for it: give it \
             with --set {key}=VALUE"
        );
        self.flow.note(None, text);
        Value::Text(stand_in)
    }

    /// Whether this is a column of PySpark that is understood: a call of one of its functions.
    fn is_column(&self, expr: &Expr) -> bool {
        let mut root = expr;
        while let Expr::Call(call) = root
            && let Expr::Attribute(receiver, _) = &call.function
        {
            root = receiver;
        }
        let Expr::Call(call) = root else { return false };
        let Expr::Name(path) = &call.function else {
            return false;
        };
        let of_functions = path
            .split_once('.')
            .is_some_and(|(module, _)| matches!(module, "F" | "f" | "fn" | "functions" | "sf"));
        let is_named = matches!(path.as_str(), "col" | "lit" | "expr" | "when");
        (of_functions || is_named) && super::column::column(expr, &self.columns).is_some()
    }

    fn named(&mut self, call: &Call, name: &str, place: usize) -> Option<Value> {
        let expr = call.arg(name, place)?;
        Some(self.value(expr))
    }

    fn frame(&mut self, call: &Call, name: &str, place: usize) -> Option<StepId> {
        self.named(call, name, place)?.frame()
    }

    fn call(&mut self, call: &Call) -> Value {
        let (receiver, method) = match &call.function {
            Expr::Name(path) => {
                let (base, last) = path.rsplit_once('.').unwrap_or(("", path));
                (self.receiver(base), path_of(base, last))
            }
            Expr::Attribute(base, last) => (self.value(base), last.clone()),
            _ => (Value::Unknown, String::new()),
        };
        // `create_dynamic_frame_from_options` is another name of
        // `create_dynamic_frame.from_options`.
        let method = method.replace("_frame_from_", "_frame.from_");
        if let Some(value) = self.known(call, &receiver, &method) {
            return value;
        }
        let last = method.rsplit('.').next().unwrap_or(&method);
        if HARMLESS.contains(&last) {
            let touched = receiver
                .frame()
                .or_else(|| self.frames_in(call).first().copied());
            return touched.map_or(Value::Unknown, Value::Frame);
        }
        // An operation on a frame that is not understood is noted; the frame continues unchanged.
        let args = call
            .args
            .iter()
            .chain(call.named.iter().map(|(_, value)| value));
        let values: Vec<Value> = args.map(|arg| self.value(arg)).collect();
        if let Some(frame) = receiver
            .frame()
            .or_else(|| values.iter().find_map(Value::frame))
        {
            let name = if last == "apply" {
                method.as_str()
            } else {
                last
            };
            self.lose(
                call.line,
                format!("`{name}` is not carried over: write it in [transform] sql"),
            );
            return Value::Frame(frame);
        }
        let place = values
            .iter()
            .filter_map(Value::text)
            .find(|text| text.contains("://"));
        match place {
            Some(place) => self.lose(
                call.line,
                format!("`{last}` of {place:?} is not carried over"),
            ),
            None if last.starts_with("write") || last.starts_with("save") || last == "sql" => {
                self.lose(call.line, format!("`{last}` is not carried over"));
            }
            None => self.strange = Some(last.to_owned()),
        }
        Value::Unknown
    }

    fn receiver(&mut self, base: &str) -> Value {
        if base.is_empty() {
            Value::Unknown
        } else {
            self.name(base)
        }
    }

    fn frames_in(&mut self, call: &Call) -> Vec<StepId> {
        let all = call
            .args
            .iter()
            .chain(call.named.iter().map(|(_, value)| value));
        let names = all.filter_map(|expr| {
            if let Expr::Name(name) = expr {
                self.names.get(name)
            } else {
                None
            }
        });
        names.filter_map(Value::frame).collect()
    }

    fn known(&mut self, call: &Call, receiver: &Value, method: &str) -> Option<Value> {
        let last = method.rsplit('.').next().unwrap_or(method);
        let value = match (receiver, last) {
            (_, "getResolvedOptions") => Value::Args,
            (Value::Time, _) => Value::Time,
            (_, "now" | "utcnow" | "today" | "time") => Value::Time,
            (Value::Text(pattern), "format") => self.format(call, pattern),
            (Value::Text(text), "rstrip" | "strip") => {
                Value::Text(text.trim_end_matches('/').to_owned())
            }
            (_, "str") if call.args.len() == 1 => self.value(&call.args[0]),
            (_, "forEachBatch") => self.for_each_batch(call),
            (_, "from_catalog") if method.contains("write_") => self.write_to_catalog(call)?,
            (_, "from_catalog") => self.read_from_catalog(call, method),
            (_, "from_options") if method.contains("write_") => self.write(call),
            (_, "from_options") => self.read_from_options(call),
            (_, "add_ingestion_time_columns") => self.add_ingestion_time(call)?,
            (_, "fromDF") => Value::Frame(self.frame(call, "dataframe", 0)?),
            // How many files Spark writes.
            (Value::Frame(frame), "toDF" | "coalesce" | "repartition") => Value::Frame(*frame),
            (_, "apply") => self.apply(call, method)?,
            (_, "sparkSqlQuery") => self.spark_sql(call)?,
            (_, "sql") => self.sql(call)?,
            (
                Value::Frame(frame),
                "createOrReplaceTempView" | "createTempView" | "registerTempTable",
            ) => {
                let name = self.value(call.args.first()?).text()?.to_owned();
                self.views.retain(|(view, _)| *view != name);
                self.views.push((name, *frame));
                Value::Unknown
            }
            (Value::Grouped(frame, keys, by), _) => {
                self.grouped(call, last, (*frame, keys.clone(), by.clone()))?
            }
            (Value::Frame(frame), _) => return self.frame_method(call, *frame, last),
            (_, "getSink") => Value::Sink(
                call.named
                    .iter()
                    .map(|(key, value)| (key.clone(), self.value(value)))
                    .collect(),
            ),
            (Value::Writer(frame, set), _) => self.writer_method(call, (*frame, set.clone()), last),
            (Value::Sink(sink), _) => self.sink_method(call, sink.clone(), last),
            _ => return None,
        };
        Some(value)
    }

    fn format(&mut self, call: &Call, pattern: &str) -> Value {
        let mut values = call
            .args
            .iter()
            .map(|arg| self.value(arg))
            .collect::<Vec<_>>()
            .into_iter();
        let mut text = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            match values.next() {
                Some(Value::Text(value)) => text.push_str(&value),
                Some(Value::Time) => text.push(TIME),
                _ => return Value::Unknown,
            }
            rest = after.split_once('}').map_or("", |(_, after)| after);
        }
        text.push_str(rest);
        limited(text)
    }

    fn for_each_batch(&mut self, call: &Call) -> Value {
        let options = self.named(call, "options", 2).unwrap_or(Value::Unknown);
        for (key, value) in if let Value::Dict(pairs) = &options {
            pairs.as_slice()
        } else {
            &[]
        } {
            let text = value.text().map(str::to_owned);
            match (key.as_str(), text) {
                ("windowSize", Some(text)) => self.flow.window = Some(text),
                ("checkpointLocation", Some(text)) => {
                    self.flow.checkpoint = Some(without_time(&text))
                }
                ("batchMaxRetries", Some(text)) => self.flow.retries = Some(text),
                _ => self.note(call.line, format!("the option {key:?} is not carried over")),
            }
        }
        let frame = self.named(call, "frame", 0).unwrap_or(Value::Unknown);
        let function = match call.arg("batch_function", 1) {
            Some(Expr::Name(name)) => {
                let function = self.functions.remove(name);
                function.map(|(parameters, body)| (name.clone(), parameters, body))
            }
            _ => None,
        };
        let Some((name, parameters, body)) = function else {
            self.note(call.line, "the batch function is not a function of this script: nothing of it is carried over");
            return Value::Unknown;
        };
        self.batch = frame.frame().map(|input| (name, input));
        if let Some(first) = parameters.first() {
            self.names.insert(first.clone(), frame);
        }
        self.run(&body);
        Value::Unknown
    }

    fn add(&mut self, call: &Call, names: &[&str], kind: StepKind) -> Value {
        let mut name = None;
        for key in names {
            let value = call
                .named
                .iter()
                .find(|(named, _)| named == key)
                .map(|(_, value)| value);
            if let Some(Expr::Text(text)) = value {
                name = Some(text.clone());
            }
        }
        let name = name.unwrap_or_else(|| format!("step_{}", self.flow.steps.len() + 1));
        self.flow
            .add(&name, kind)
            .map_or(Value::Unknown, Value::Frame)
    }
}

fn is_call_of(expr: &Expr, name: &str) -> bool {
    let Expr::Call(call) = expr else { return false };
    match &call.function {
        Expr::Name(path) => path.rsplit('.').next() == Some(name),
        Expr::Attribute(_, method) => method == name,
        _ => false,
    }
}

fn path_of(base: &str, last: &str) -> String {
    // `glueContext.create_data_frame.from_catalog` without its first part; `ApplyMapping.apply` in
    // full.
    match base.rsplit('.').next() {
        Some(before) if !before.is_empty() => format!("{before}.{last}"),
        _ => last.to_owned(),
    }
}

fn limited(text: String) -> Value {
    if text.len() > TEXT_CHARS_MAX {
        Value::Unknown
    } else {
        Value::Text(text)
    }
}

fn without_time(path: &str) -> String {
    path.split('/')
        .filter(|folder| !folder.contains(TIME))
        .collect::<Vec<_>>()
        .join("/")
}
