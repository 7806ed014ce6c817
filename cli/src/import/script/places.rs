//! Where a script reads and writes: the stream, lookups, targets.
//!
//! Owns: calls of readers and writers, and their options that matter here. Does not own: rows
//! between them (`frames`).
//! Rule: whatever is named and not carried over is noted with its line.

use super::super::flow::{Sink, SinkTable, StepId, StepKind, Stream};
use super::super::options;
use super::super::python::{Call, Expr};
use super::{Script, TIME, Value, without_time};
use std::collections::BTreeMap;

/// Whether a target's settings have its table kept up to date.
fn updates_catalog(settings: &Value) -> bool {
    settings.get("enableUpdateCatalog").and_then(Value::text) == Some("true")
}

fn behavior(settings: &Value) -> Option<&str> {
    settings.get("updateBehavior").and_then(Value::text)
}

impl Script<'_> {
    fn options(&mut self, call: &Call, names: &[&str]) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        for name in names {
            let Some(expr) = call
                .named
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
            else {
                continue;
            };
            if let Value::Dict(pairs) = self.value(expr) {
                let texts = pairs.into_iter().filter_map(|(key, value)| {
                    Some((key.to_lowercase(), value.text()?.to_owned()))
                });
                options.extend(texts);
            }
        }
        options
    }

    pub(super) fn read_from_catalog(&mut self, call: &Call, method: &str) -> Value {
        let mut text = |name, place| {
            self.named(call, name, place)
                .and_then(|value| value.text().map(str::to_owned))
        };
        let database = text("database", 0).unwrap_or_default();
        let table = text("table_name", 1).unwrap_or_default();
        let options = self.options(call, &["additional_options"]);
        let kind = if method.contains("create_data_frame") {
            StepKind::Stream(Stream {
                table: Some((database, table)),
                options,
            })
        } else {
            self.note(
                call.line,
                format!(
                    "the lookup table {database}.{table} is in the catalog only: write the \
                 folder of its files"
                ),
            );
            StepKind::Lookup {
                path: None,
                format: "csv".to_owned(),
            }
        };
        self.add(call, &["transformation_ctx"], kind)
    }

    pub(super) fn read_from_options(&mut self, call: &Call) -> Value {
        let kind = self.named(call, "connection_type", 0);
        let kind = kind
            .as_ref()
            .and_then(Value::text)
            .unwrap_or_default()
            .to_lowercase();
        let options = self.options(call, &["connection_options"]);
        if kind == "kinesis" {
            return self.add(
                call,
                &["transformation_ctx"],
                StepKind::Stream(Stream {
                    table: None,
                    options,
                }),
            );
        }
        if kind != "s3" {
            self.note(
                call.line,
                format!("a source of type {kind:?} is not carried over"),
            );
            return Value::Unknown;
        }
        let paths = self
            .named(call, "connection_options", 1)
            .and_then(|options| options.get("paths").cloned());
        let paths = paths.map(|paths| paths.texts()).unwrap_or_default();
        if paths.len() > 1 {
            self.note(
                call.line,
                "a lookup of several folders: only the first is carried over",
            );
        }
        let format = self
            .named(call, "format", 2)
            .and_then(|format| format.text().map(str::to_owned));
        let format = format.unwrap_or_else(|| "csv".to_owned());
        let mut settings = self.options(call, &["format_options", "connection_options"]);
        settings.remove("paths");
        for text in options::lookup(&format, &settings) {
            self.note(call.line, text);
        }
        let path = paths.first().map(|path| without_time(path));
        self.add(
            call,
            &["transformation_ctx"],
            StepKind::Lookup { path, format },
        )
    }

    pub(super) fn write(&mut self, call: &Call) -> Value {
        let Some(input) = self.frame(call, "frame", 0) else {
            self.note(
                call.line,
                "what is written here is not understood and not carried over",
            );
            return Value::Unknown;
        };
        let kind = self.named(call, "connection_type", 1);
        let kind = kind
            .as_ref()
            .and_then(Value::text)
            .unwrap_or("s3")
            .to_owned();
        if kind != "s3" {
            self.note(
                call.line,
                format!("a target of type {kind:?} is not carried over"),
            );
            return Value::Unknown;
        }
        let options = self
            .named(call, "connection_options", 2)
            .unwrap_or(Value::Unknown);
        let format = self
            .named(call, "format", 3)
            .and_then(|value| value.text().map(str::to_owned));
        let more = self.options(call, &["format_options", "connection_options"]);
        for text in options::target(&more) {
            self.note(call.line, text);
        }
        let sink = Sink {
            input,
            path: options
                .get("path")
                .and_then(Value::text)
                .unwrap_or_default()
                .to_owned(),
            format: format.unwrap_or_default(),
            compression: more.get("compression").cloned(),
            partition_by: options
                .get("partitionKeys")
                .map(Value::texts)
                .unwrap_or_default(),
            catalog: None,
        };
        self.sink(sink, call.line);
        Value::Unknown
    }

    pub(super) fn write_to_catalog(&mut self, call: &Call) -> Option<Value> {
        let input = self.frame(call, "frame", 0)?;
        let mut text = |name, place| {
            self.named(call, name, place)
                .and_then(|value| value.text().map(str::to_owned))
        };
        let database = text("database", 1).unwrap_or_default();
        let table = text("table_name", 2).unwrap_or_default();
        let options = self
            .named(call, "additional_options", 5)
            .unwrap_or(Value::Unknown);
        self.note(
            call.line,
            format!(
                "the target {database}.{table} is a table of the catalog: write the folder of \
             its files"
            ),
        );
        let partition_by = options
            .get("partitionKeys")
            .map(Value::texts)
            .unwrap_or_default();
        let catalog = updates_catalog(&options)
            .then(|| SinkTable::named(Some(database), Some(table), behavior(&options)))
            .flatten();
        let sink = Sink {
            input,
            partition_by,
            catalog,
            ..Sink::default()
        };
        self.sink(sink, call.line);
        Some(Value::Unknown)
    }

    pub(super) fn sink_method(
        &mut self,
        call: &Call,
        mut sink: Vec<(String, Value)>,
        method: &str,
    ) -> Value {
        let receiver = match &call.function {
            Expr::Name(path) => path.rsplit_once('.').map(|(base, _)| base.to_owned()),
            _ => None,
        };
        match method {
            "setFormat" => {
                if let Some(format) = call.args.first().map(|arg| self.value(arg)) {
                    sink.push(("format".to_owned(), format));
                }
                sink.extend(
                    call.named
                        .iter()
                        .map(|(key, value)| (key.clone(), self.value(value))),
                );
            }
            "setCatalogInfo" => {
                for (place, name) in ["catalogDatabase", "catalogTableName"]
                    .into_iter()
                    .enumerate()
                {
                    if let Some(value) = self.named(call, name, place) {
                        sink.push((name.to_owned(), value));
                    }
                }
            }
            "writeFrame" => {
                let input = call
                    .args
                    .first()
                    .map(|arg| self.value(arg))
                    .and_then(|value| value.frame());
                let all = Value::Dict(sink.clone());
                let texts = sink.iter().filter_map(|(key, value)| {
                    Some((key.to_lowercase(), value.text()?.to_owned()))
                });
                let mut settings: BTreeMap<String, String> = texts.collect();
                for key in [
                    "connection_type",
                    "transformation_ctx",
                    "format",
                    "enableupdatecatalog",
                    "updatebehavior",
                    "catalogdatabase",
                    "catalogtablename",
                ] {
                    settings.remove(key);
                }
                for text in options::target(&settings) {
                    self.note(call.line, text);
                }
                let text = |key: &str| all.get(key).and_then(Value::text).map(str::to_owned);
                let named = SinkTable::named(
                    text("catalogDatabase"),
                    text("catalogTableName"),
                    behavior(&all),
                );
                let catalog = named.filter(|_| updates_catalog(&all));
                if updates_catalog(&all) && catalog.is_none() {
                    let note = "the table that is updated in the catalog is not understood: name it in [sink] catalog";
                    self.note(call.line, note);
                }
                if let Some(input) = input {
                    let sink = Sink {
                        catalog,
                        input,
                        path: text("path").unwrap_or_default(),
                        format: text("format").unwrap_or_default(),
                        compression: text("compression"),
                        partition_by: all
                            .get("partitionKeys")
                            .map(Value::texts)
                            .unwrap_or_default(),
                    };
                    self.sink(sink, call.line);
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

    /// `frame.write.mode("append").partitionBy("day").json(path)` of Spark.
    pub(super) fn writer_method(
        &mut self,
        call: &Call,
        (input, mut set): (StepId, Vec<(String, Value)>),
        method: &str,
    ) -> Value {
        let first = call.args.first().map(|arg| self.value(arg));
        let text = first.as_ref().and_then(Value::text).map(str::to_owned);
        match (method, text) {
            ("mode", Some(mode)) => {
                if mode.starts_with("overwrite") {
                    let note = "the mode \"overwrite\" is not carried over: a window adds files";
                    self.note(call.line, note);
                }
            }
            ("format", Some(format)) => set.push(("format".to_owned(), Value::Text(format))),
            ("partitionBy", _) => {
                let columns = call.args.iter().flat_map(|arg| self.value(arg).texts());
                let columns = columns.map(Value::Text).collect();
                set.push(("partitionKeys".to_owned(), Value::List(columns)));
            }
            ("option", Some(key)) => {
                let value = call.args.get(1).map(|arg| self.value(arg));
                set.push((key, value.unwrap_or(Value::Unknown)));
            }
            ("options", _) => set.extend(self.named_values(call)),
            ("json" | "csv" | "parquet" | "orc" | "save", path) => {
                if method != "save" {
                    set.insert(0, ("format".to_owned(), Value::Text(method.to_owned())));
                }
                set.extend(self.named_values(call));
                for (key, _) in &set {
                    let known = [
                        "format",
                        "path",
                        "partitionkeys",
                        "partitionby",
                        "compression",
                        "mode",
                        "header",
                    ];
                    if !known.contains(&key.to_lowercase().as_str()) {
                        let note = format!("the option {key:?} of the target is not carried over");
                        self.flow.note(Some(format!("line {}", call.line)), note);
                    }
                }
                let set = Value::Dict(set);
                let text = |key: &str| set.get(key).and_then(Value::text).map(str::to_owned);
                let keys = set.get("partitionKeys").or(set.get("partitionBy"));
                let sink = Sink {
                    input,
                    path: path.or_else(|| text("path")).unwrap_or_default(),
                    format: text("format").unwrap_or_default(),
                    compression: text("compression"),
                    partition_by: keys.map(Value::texts).unwrap_or_default(),
                    catalog: None,
                };
                self.sink(sink, call.line);
                return Value::Unknown;
            }
            _ => {
                let note = format!("`{method}` of a target is not carried over");
                self.note(call.line, note);
            }
        }
        Value::Writer(input, set)
    }

    fn named_values(&mut self, call: &Call) -> Vec<(String, Value)> {
        let named = call.named.iter();
        named
            .map(|(key, value)| (key.clone(), self.value(value)))
            .collect()
    }

    /// Folders that Glue names after the time of the batch become our partitions.
    fn sink(&mut self, mut sink: Sink, line: usize) {
        let place = Some(format!("line {line}"));
        self.written_at = self.written_at.or(Some(line));
        let mut plain = Vec::new();
        for folder in sink.path.split('/') {
            match folder.split_once('=') {
                Some((name, value)) if value.contains(TIME) => {
                    sink.partition_by.push(name.to_owned())
                }
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
