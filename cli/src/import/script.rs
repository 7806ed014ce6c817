//! A Glue script as a flow: the workshop's and Glue Studio's generated forms.
//!
//! Owns: what names hold, and what each known call of Glue's library means. Does not own: Python's grammar (`python`).
//! Rule: every statement that has an effect and is not understood is noted with its line; nothing is run.

use super::flow::{Flow, Sink, StepId, StepKind, Stream};
use super::options;
use super::predicate;
use super::python::{Call, Expr, Kind, SCRIPT_DEPTH_MAX, Statement, parse};
use super::rows::rows_of;
use std::collections::BTreeMap;

/// Stands in a text where the time of the run was.
const TIME: char = '\u{1}';
/// Longest text that is put together.
const TEXT_CHARS_MAX: usize = 64 << 10;
const EXCEPT: &str = "`except` and its body are not carried over: a window that fails is tried again, and after [retry] max the \
                      job stops with the reason";
/// Calls that only show, name or count something.
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
    /// The job's arguments.
    Args,
    /// The time of the run, or a part of it.
    Time,
    /// What `getSink` gives, until `writeFrame`.
    Sink(Vec<(String, Value)>),
    Unknown,
}

impl Value {
    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn frame(&self) -> Option<StepId> {
        if let Self::Frame(id) = self { Some(*id) } else { None }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let Self::Dict(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// A text, or a list of texts.
    fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items.iter().filter_map(Value::text).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

/// Reads a script; `args` are the job's arguments, as far as they are known.
///
/// # Errors
/// It is no text of a script.
pub fn read(script: &str, args: &BTreeMap<String, String>) -> Result<Flow, String> {
    let statements = parse(script)?;
    let mut reader = Script {
        flow: Flow::default(),
        names: BTreeMap::new(),
        views: Vec::new(),
        strange: None,
        args,
        functions: BTreeMap::new(),
        depth: 0,
    };
    let top = reader.take_functions(&statements);
    reader.run(&top);
    Ok(reader.flow)
}

struct Script<'a> {
    flow: Flow,
    names: BTreeMap<String, Value>,
    /// Frames that SQL knows by a name.
    views: Vec<(String, StepId)>,
    /// The last call that nothing is known of.
    strange: Option<String>,
    args: &'a BTreeMap<String, String>,
    functions: BTreeMap<String, (Vec<String>, Vec<Statement>)>,
    depth: usize,
}

impl Script<'_> {
    fn note(&mut self, line: usize, text: impl Into<String>) {
        self.flow.note(Some(format!("line {line}")), text);
    }

    /// Sets functions apart; gives the rest.
    fn take_functions(&mut self, statements: &[Statement]) -> Vec<Statement> {
        let (mut rest, mut at) = (Vec::new(), 0);
        while let Some(statement) = statements.get(at) {
            at += 1;
            let Kind::Def(name, parameters) = &statement.kind else {
                rest.push(statement.clone());
                continue;
            };
            let begin = at;
            while statements.get(at).is_some_and(|inner| inner.indent > statement.indent) {
                at += 1;
            }
            self.functions.insert(name.clone(), (parameters.clone(), statements[begin..at].to_vec()));
        }
        rest
    }

    fn run(&mut self, statements: &[Statement]) {
        let mut skip: Option<usize> = None;
        // Of the last `if` of each depth, until something else stands there: what its condition says of a batch.
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
                Kind::Assign(name, value) => {
                    let value = self.value(value);
                    self.names.insert(name.clone(), value);
                }
                Kind::Expr(expr) => {
                    self.strange = None;
                    self.value(expr);
                    // A call that stands alone is made for what it does.
                    if let Some(name) = self.strange.take().filter(|name| is_call_of(expr, name)) {
                        self.note(line, format!("`{name}` is not carried over"));
                    }
                }
                Kind::If(condition) => {
                    let has_rows = self.has_rows(condition);
                    branches.insert(statement.indent, has_rows);
                    match has_rows {
                        Some(true) => {}
                        // A window without rows never comes as far, neither there nor here.
                        Some(false) => skip = Some(statement.indent),
                        None => self.note(
                            line,
                            "the condition of this `if` is not carried over: its body is taken as always done",
                        ),
                    }
                }
                Kind::Return if statement.indent > outermost => {
                    self.note(line, "this `return` is not carried over: what follows it is taken as always done")
                }
                Kind::Return => return,
                Kind::Try | Kind::Nothing => {}
                Kind::Block(word) => match (word.as_str(), before) {
                    ("finally", _) | ("else", Some(false)) => {}
                    ("else", Some(true)) => skip = Some(statement.indent),
                    ("except", _) => {
                        self.note(line, EXCEPT);
                        skip = Some(statement.indent);
                    }
                    _ => {
                        self.note(line, format!("`{word}` and its body are not carried over"));
                        skip = Some(statement.indent);
                    }
                },
                Kind::Def(..) => skip = Some(statement.indent),
                Kind::Other => self.note(line, "this statement is not understood and not carried over"),
            }
        }
    }

    /// Whether a condition is true just for batches with rows (`true`) or without (`false`); `None`: it is another one.
    fn has_rows(&mut self, condition: &Expr) -> Option<bool> {
        let (name, has_rows) = rows_of(condition)?;
        let frame = self.names.get(name)?.frame()?;
        self.flow.is_every_row_of_the_stream(frame).then_some(has_rows)
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
            Expr::Binary(op, left, right) if op == "+" => match (self.value(left), self.value(right)) {
                (Value::Text(left), Value::Text(right)) => limited(left + &right),
                (Value::Text(left), Value::Time) => limited(left + &TIME.to_string()),
                (Value::Time, Value::Text(right)) => limited(TIME.to_string() + &right),
                (Value::Time, Value::Time) => Value::Time,
                _ => Value::Unknown,
            },
            Expr::Index(base, key) => match (self.value(base), self.value(key)) {
                (Value::Args, Value::Text(key)) => self.argument(&key),
                (dict @ Value::Dict(_), Value::Text(key)) => dict.get(&key).cloned().unwrap_or(Value::Unknown),
                _ => Value::Unknown,
            },
            Expr::Attribute(base, _) => match self.value(base) {
                Value::Time => Value::Time,
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
        let base = name.split('.').next().unwrap_or(name);
        match self.names.get(base) {
            Some(Value::Time) => Value::Time,
            _ => Value::Unknown,
        }
    }

    fn argument(&mut self, key: &str) -> Value {
        if let Some(value) = self.args.get(key).or_else(|| self.args.get(&format!("--{key}"))) {
            return Value::Text(value.clone());
        }
        let stand_in: String =
            key.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(50).collect();
        let stand_in = format!("set-{}", stand_in.trim_matches('-'));
        let text = format!(
            "the job's argument {key:?} is not known here, {stand_in:?} stands for it: give it with --set {key}=VALUE"
        );
        self.flow.note(None, text);
        Value::Text(stand_in)
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
        if let Some(value) = self.known(call, &receiver, &method) {
            return value;
        }
        let last = method.rsplit('.').next().unwrap_or(&method);
        if HARMLESS.contains(&last) {
            let touched = receiver.frame().or_else(|| self.frames_in(call).first().copied());
            return touched.map_or(Value::Unknown, Value::Frame);
        }
        // What is made of a frame and not understood is noted; the frame goes on as it was.
        let args = call.args.iter().chain(call.named.iter().map(|(_, value)| value));
        let values: Vec<Value> = args.map(|arg| self.value(arg)).collect();
        if let Some(frame) = receiver.frame().or_else(|| values.iter().find_map(Value::frame)) {
            self.note(call.line, format!("`{last}` is not carried over: write it in [transform] sql"));
            return Value::Frame(frame);
        }
        let place = values.iter().filter_map(Value::text).find(|text| text.contains("://"));
        match place {
            Some(place) => self.note(call.line, format!("`{last}` of {place:?} is not carried over")),
            None if last.starts_with("write") || last.starts_with("save") || last == "sql" => {
                self.note(call.line, format!("`{last}` is not carried over"));
            }
            None => self.strange = Some(last.to_owned()),
        }
        Value::Unknown
    }

    fn receiver(&mut self, base: &str) -> Value {
        if base.is_empty() { Value::Unknown } else { self.name(base) }
    }

    fn frames_in(&mut self, call: &Call) -> Vec<StepId> {
        let all = call.args.iter().chain(call.named.iter().map(|(_, value)| value));
        let names = all.filter_map(|expr| if let Expr::Name(name) = expr { self.names.get(name) } else { None });
        names.filter_map(Value::frame).collect()
    }

    fn known(&mut self, call: &Call, receiver: &Value, method: &str) -> Option<Value> {
        let last = method.rsplit('.').next().unwrap_or(method);
        let value = match (receiver, last) {
            (_, "getResolvedOptions") => Value::Args,
            (Value::Time, _) => Value::Time,
            (_, "now" | "utcnow" | "today" | "time") => Value::Time,
            (Value::Text(pattern), "format") => self.format(call, pattern),
            (Value::Text(text), "rstrip" | "strip") => Value::Text(text.trim_end_matches('/').to_owned()),
            (_, "str") if call.args.len() == 1 => self.value(&call.args[0]),
            (_, "forEachBatch") => self.for_each_batch(call),
            (_, "create_data_frame.from_catalog") | (_, "from_catalog") => self.read_from_catalog(call, method),
            (_, "from_options") if method.contains("write_") => self.write(call),
            (_, "from_options") => self.read_from_options(call),
            (_, "fromDF") => Value::Frame(self.frame(call, "dataframe", 0)?),
            (Value::Frame(frame), "toDF") => Value::Frame(*frame),
            (_, "apply") => self.apply(call, method)?,
            (_, "sparkSqlQuery") => self.spark_sql(call)?,
            (_, "sql") => self.sql(call)?,
            (Value::Frame(frame), "createOrReplaceTempView" | "createTempView" | "registerTempTable") => {
                let name = self.value(call.args.first()?).text()?.to_owned();
                self.views.retain(|(view, _)| *view != name);
                self.views.push((name, *frame));
                Value::Unknown
            }
            (Value::Frame(frame), _) => return self.frame_method(call, *frame, last),
            (_, "getSink") => {
                Value::Sink(call.named.iter().map(|(key, value)| (key.clone(), self.value(value))).collect())
            }
            (Value::Sink(sink), _) => self.sink_method(call, sink.clone(), last),
            _ => return None,
        };
        Some(value)
    }

    fn format(&mut self, call: &Call, pattern: &str) -> Value {
        let mut values = call.args.iter().map(|arg| self.value(arg)).collect::<Vec<_>>().into_iter();
        let (mut text, mut rest) = (String::new(), pattern);
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
        for (key, value) in if let Value::Dict(pairs) = &options { pairs.as_slice() } else { &[] } {
            let text = value.text().map(str::to_owned);
            match (key.as_str(), text) {
                ("windowSize", Some(text)) => self.flow.window = Some(text),
                ("checkpointLocation", Some(text)) => self.flow.checkpoint = Some(without_time(&text)),
                ("batchMaxRetries", Some(text)) => self.flow.retries = Some(text),
                _ => self.note(call.line, format!("the option {key:?} is not carried over")),
            }
        }
        let frame = self.named(call, "frame", 0).unwrap_or(Value::Unknown);
        let function = match call.arg("batch_function", 1) {
            Some(Expr::Name(name)) => self.functions.remove(name),
            _ => None,
        };
        let Some((parameters, body)) = function else {
            self.note(call.line, "the batch function is not a function of this script: nothing of it is carried over");
            return Value::Unknown;
        };
        if let Some(first) = parameters.first() {
            self.names.insert(first.clone(), frame);
        }
        self.run(&body);
        Value::Unknown
    }

    fn options(&mut self, call: &Call, names: &[&str]) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        for name in names {
            let Some(expr) = call.named.iter().find(|(key, _)| key == name).map(|(_, value)| value) else { continue };
            if let Value::Dict(pairs) = self.value(expr) {
                let texts =
                    pairs.into_iter().filter_map(|(key, value)| Some((key.to_lowercase(), value.text()?.to_owned())));
                options.extend(texts);
            }
        }
        options
    }

    fn read_from_catalog(&mut self, call: &Call, method: &str) -> Value {
        let mut text = |name, place| self.named(call, name, place).and_then(|value| value.text().map(str::to_owned));
        let (database, table) = (text("database", 0).unwrap_or_default(), text("table_name", 1).unwrap_or_default());
        let options = self.options(call, &["additional_options"]);
        let kind = if method.contains("create_data_frame") {
            StepKind::Stream(Stream { table: Some((database, table)), options })
        } else {
            self.note(
                call.line,
                format!("the lookup table {database}.{table} is in the catalog only: write the folder of its files"),
            );
            StepKind::Lookup { path: None, format: "csv".to_owned() }
        };
        self.add(call, &["transformation_ctx"], kind)
    }

    fn read_from_options(&mut self, call: &Call) -> Value {
        let kind = self.named(call, "connection_type", 0);
        let kind = kind.as_ref().and_then(Value::text).unwrap_or_default().to_lowercase();
        let options = self.options(call, &["connection_options"]);
        if kind == "kinesis" {
            return self.add(call, &["transformation_ctx"], StepKind::Stream(Stream { table: None, options }));
        }
        if kind != "s3" {
            self.note(call.line, format!("a source of type {kind:?} is not carried over"));
            return Value::Unknown;
        }
        let paths = self.named(call, "connection_options", 1).and_then(|options| options.get("paths").cloned());
        let paths = paths.map(|paths| paths.texts()).unwrap_or_default();
        if paths.len() > 1 {
            self.note(call.line, "a lookup of several folders: only the first is carried over");
        }
        let format = self.named(call, "format", 2).and_then(|format| format.text().map(str::to_owned));
        let format = format.unwrap_or_else(|| "csv".to_owned());
        let mut settings = self.options(call, &["format_options", "connection_options"]);
        settings.remove("paths");
        for text in options::lookup(&format, &settings) {
            self.note(call.line, text);
        }
        let path = paths.first().map(|path| without_time(path));
        self.add(call, &["transformation_ctx"], StepKind::Lookup { path, format })
    }

    fn add(&mut self, call: &Call, names: &[&str], kind: StepKind) -> Value {
        let mut name = None;
        for key in names {
            let value = call.named.iter().find(|(named, _)| named == key).map(|(_, value)| value);
            if let Some(Expr::Text(text)) = value {
                name = Some(text.clone());
            }
        }
        let name = name.unwrap_or_else(|| format!("step_{}", self.flow.steps.len() + 1));
        self.flow.add(&name, kind).map_or(Value::Unknown, Value::Frame)
    }

    fn apply(&mut self, call: &Call, method: &str) -> Option<Value> {
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
                if class == "DropFields" { StepKind::Drop(frame, paths) } else { StepKind::Select(frame, paths) }
            }
            "RenameField" => {
                let frame = self.frame(call, "frame", 0)?;
                let (old, new) = (self.named(call, "old_name", 1)?, self.named(call, "new_name", 2)?);
                StepKind::Rename(frame, old.text()?.to_owned(), new.text()?.to_owned())
            }
            "Filter" => {
                let frame = self.frame(call, "frame", 0)?;
                let Some(condition) = call.arg("f", 1).and_then(predicate::sql) else {
                    self.note(
                        call.line,
                        "the condition of this Filter is not understood: write it as WHERE in [transform] sql",
                    );
                    return Some(Value::Frame(frame));
                };
                StepKind::Filter(frame, condition)
            }
            "ResolveChoice" | "DropNullFields" => {
                let frame = self.frame(call, "frame", 0)?;
                self.note(call.line, format!("{class} is not needed: columns have one type here"));
                return Some(Value::Frame(frame));
            }
            _ => return None,
        };
        Some(self.add(call, &["transformation_ctx"], kind))
    }

    fn mappings(&mut self, call: &Call, name: &str, place: usize) -> Vec<[String; 4]> {
        let Some(Value::List(items)) = self.named(call, name, place) else { return Vec::new() };
        let read = |item: &Value| <[String; 4]>::try_from(item.texts()).ok();
        let mappings: Vec<_> = items.iter().filter_map(read).collect();
        if mappings.len() < items.len() {
            self.note(
                call.line,
                format!("{} mappings are not of the form (name, type, name, type)", items.len() - mappings.len()),
            );
        }
        mappings
    }

    fn join(&mut self, call: &Call) -> Option<StepKind> {
        let (left, right) = (self.frame(call, "frame1", 0)?, self.frame(call, "frame2", 1)?);
        let keys = (self.named(call, "keys1", 2)?.texts(), self.named(call, "keys2", 3)?.texts());
        Some(StepKind::Join { left: (left, keys.0), right: (right, keys.1), how: "INNER" })
    }

    fn spark_sql(&mut self, call: &Call) -> Option<Value> {
        let query = self.named(call, "query", 1)?.text()?.to_owned();
        let Some(Value::Dict(pairs)) = self.named(call, "mapping", 2) else { return None };
        let tables = pairs.iter().filter_map(|(name, value)| Some((name.clone(), value.frame()?))).collect();
        self.note(call.line, "the Spark SQL is taken as it is: write names with capitals in double quotes");
        Some(self.add(call, &["transformation_ctx"], StepKind::Sql(query, tables)))
    }

    /// `spark.sql(query)` over the views that were made before it.
    fn sql(&mut self, call: &Call) -> Option<Value> {
        let query = self.named(call, "sqlQuery", 0)?.text()?.to_owned();
        let views = self.views.clone();
        if views.is_empty() {
            return None;
        }
        self.note(call.line, "the Spark SQL is taken as it is: write names with capitals in double quotes");
        Some(self.add(call, &[], StepKind::Sql(query, views)))
    }

    /// Methods of frames: of Glue's and, as far as they mean the same, of Spark's.
    fn frame_method(&mut self, call: &Call, frame: StepId, method: &str) -> Option<Value> {
        let kind = match method {
            "drop_fields" => StepKind::Drop(frame, self.named(call, "paths", 0)?.texts()),
            "drop" => {
                let all: Vec<String> = call.args.iter().flat_map(|arg| self.value(arg).texts()).collect();
                StepKind::Drop(frame, all)
            }
            "select_fields" => StepKind::Select(frame, self.named(call, "paths", 0)?.texts()),
            "rename_field" | "withColumnRenamed" => {
                let (old, new) = (self.value(call.args.first()?), self.value(call.args.get(1)?));
                StepKind::Rename(frame, old.text()?.to_owned(), new.text()?.to_owned())
            }
            "apply_mapping" => StepKind::Map(frame, self.mappings(call, "mappings", 0)),
            "join" => {
                let keys = (self.named(call, "paths1", 0)?.texts(), self.named(call, "paths2", 1)?.texts());
                let right = self.frame(call, "frame2", 2)?;
                StepKind::Join { left: (frame, keys.0), right: (right, keys.1), how: "INNER" }
            }
            _ => return None,
        };
        Some(self.add(call, &["transformation_ctx"], kind))
    }

    fn write(&mut self, call: &Call) -> Value {
        let place = Some(format!("line {}", call.line));
        let Some(input) = self.frame(call, "frame", 0) else {
            self.note(call.line, "what is written here is not understood and not carried over");
            return Value::Unknown;
        };
        let kind = self.named(call, "connection_type", 1);
        let kind = kind.as_ref().and_then(Value::text).unwrap_or("s3").to_owned();
        if kind != "s3" {
            self.note(call.line, format!("a target of type {kind:?} is not carried over"));
            return Value::Unknown;
        }
        let options = self.named(call, "connection_options", 2).unwrap_or(Value::Unknown);
        let format = self.named(call, "format", 3).and_then(|value| value.text().map(str::to_owned));
        let more = self.options(call, &["format_options", "connection_options"]);
        for text in options::target(&more) {
            self.note(call.line, text);
        }
        let sink = Sink {
            input,
            path: options.get("path").and_then(Value::text).unwrap_or_default().to_owned(),
            format: format.unwrap_or_default(),
            compression: more.get("compression").cloned(),
            partition_by: options.get("partitionKeys").map(Value::texts).unwrap_or_default(),
        };
        self.sink(sink, place);
        Value::Unknown
    }

    fn sink_method(&mut self, call: &Call, mut sink: Vec<(String, Value)>, method: &str) -> Value {
        let receiver = match &call.function {
            Expr::Name(path) => path.rsplit_once('.').map(|(base, _)| base.to_owned()),
            _ => None,
        };
        match method {
            "setFormat" => {
                if let Some(format) = call.args.first().map(|arg| self.value(arg)) {
                    sink.push(("format".to_owned(), format));
                }
            }
            "setCatalogInfo" => self.note(
                call.line,
                "no table is made or updated in the catalog: create it over the sink's folder, with partition projection or a crawler",
            ),
            "writeFrame" => {
                let input = call.args.first().map(|arg| self.value(arg)).and_then(|value| value.frame());
                let all = Value::Dict(sink.clone());
                let texts = sink.iter().filter_map(|(key, value)| Some((key.to_lowercase(), value.text()?.to_owned())));
                let mut settings: BTreeMap<String, String> = texts.collect();
                for key in ["connection_type", "transformation_ctx", "format", "enableupdatecatalog", "updatebehavior"] {
                    settings.remove(key);
                }
                for text in options::target(&settings) {
                    self.note(call.line, text);
                }
                let text = |key: &str| all.get(key).and_then(Value::text).map(str::to_owned);
                if let Some(input) = input {
                    let sink = Sink {
                        input,
                        path: text("path").unwrap_or_default(),
                        format: text("format").unwrap_or_default(),
                        compression: text("compression"),
                        partition_by: all.get("partitionKeys").map(Value::texts).unwrap_or_default(),
                    };
                    self.sink(sink, Some(format!("line {}", call.line)));
                }
            }
            _ => {}
        }
        let value = Value::Sink(sink);
        if let Some(name) = receiver {
            self.names.insert(name, value.clone());
        }
        value
    }

    /// Folders that Glue names after the time of the batch are partitions of ours.
    fn sink(&mut self, mut sink: Sink, place: Option<String>) {
        let mut plain = Vec::new();
        for folder in sink.path.split('/') {
            match folder.split_once('=') {
                Some((name, value)) if value.contains(TIME) => sink.partition_by.push(name.to_owned()),
                _ if folder.contains(TIME) => {
                    let text = "a folder of the target that is named after the time of the run is left out: windows of all runs lie together";
                    self.flow.note(place.clone(), text);
                }
                _ => plain.push(folder),
            }
        }
        sink.path = plain.join("/");
        self.flow.set_sink(sink, place);
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
    // `glueContext.create_data_frame.from_catalog` without its first part; `ApplyMapping.apply` as a whole.
    match base.rsplit('.').next() {
        Some(before) if !before.is_empty() => format!("{before}.{last}"),
        _ => last.to_owned(),
    }
}

fn limited(text: String) -> Value {
    if text.len() > TEXT_CHARS_MAX { Value::Unknown } else { Value::Text(text) }
}

fn without_time(path: &str) -> String {
    path.split('/').filter(|folder| !folder.contains(TIME)).collect::<Vec<_>>().join("/")
}
