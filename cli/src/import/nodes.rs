//! GetJob's answer as a flow: the nodes of Glue Studio's visual editor.
//!
//! Owns: which node means which step. Does not own: requests to Glue (`streamctl_engine::catalog`).
//! Rule: nodes are read in the order of their inputs. A node of an unknown kind passes its input
//! through, with a note.

use super::flow::{Flow, STEPS_MAX, Sink, SinkTable, StepId, StepKind, Stream};
use super::options;
use super::query::quoted;
use super::write::text;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields of each kind of node that are read, or make no difference here; all others are noted.
const FIELDS: [(&str, &[&str]); 14] = [
    (
        "CatalogKinesisSource",
        &[
            "Database",
            "Table",
            "WindowSize",
            "StreamingOptions",
            "DetectSchema",
            "DataPreviewOptions",
        ],
    ),
    (
        "DirectKinesisSource",
        &[
            "WindowSize",
            "StreamingOptions",
            "DetectSchema",
            "DataPreviewOptions",
        ],
    ),
    (
        "S3CsvSource",
        &[
            "Paths",
            "Separator",
            "QuoteChar",
            "WithHeader",
            "Recurse",
            "CompressionType",
            "GroupFiles",
            "GroupSize",
            "MaxBand",
            "MaxFilesInBand",
            "OptimizePerformance",
            "Multiline",
            "WriteHeader",
        ],
    ),
    (
        "S3ParquetSource",
        &[
            "Paths",
            "Recurse",
            "CompressionType",
            "GroupFiles",
            "GroupSize",
            "MaxBand",
            "MaxFilesInBand",
        ],
    ),
    ("ApplyMapping", &["Mapping"]),
    ("DropFields", &["Paths"]),
    ("SelectFields", &["Paths"]),
    ("RenameField", &["SourcePath", "TargetPath"]),
    ("Join", &["JoinType", "Columns"]),
    ("Filter", &["LogicalOperator", "Filters"]),
    ("SparkSQL", &["SqlQuery", "SqlAliases"]),
    (
        "S3DirectTarget",
        &[
            "Path",
            "Format",
            "Compression",
            "PartitionKeys",
            "SchemaChangePolicy",
        ],
    ),
    (
        "S3GlueParquetTarget",
        &["Path", "Compression", "PartitionKeys", "SchemaChangePolicy"],
    ),
    (
        "S3CatalogTarget",
        &["Database", "Table", "PartitionKeys", "SchemaChangePolicy"],
    ),
];
const FIELDS_OF_ALL: [&str; 3] = ["Name", "Inputs", "OutputSchemas"];
/// Settings of a Glue job beside its nodes, and what to do about them.
const SETTINGS: [(&str, &str); 7] = [
    (
        "Connections",
        "its connections are not carried over: run workers where they reach the stream and the \
         bucket",
    ),
    (
        "SecurityConfiguration",
        "its security configuration is not carried over: encrypt bucket and stream themselves",
    ),
    (
        "extra-py-files",
        "its extra Python files are not carried over",
    ),
    ("extra-jars", "its extra JARs are not carried over"),
    (
        "additional-python-modules",
        "its extra Python modules are not carried over",
    ),
    ("conf", "its Spark settings (--conf) are not carried over"),
    (
        "MaintenanceWindow",
        "no maintenance window is needed: nothing is restarted by force",
    ),
];

/// A job of Glue, as in GetJob's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GlueJob {
    pub name: String,
    /// Nodes of the visual editor, by id.
    pub nodes: BTreeMap<String, Value>,
    pub script: Option<String>,
    /// Its arguments, without the dashes.
    pub args: BTreeMap<String, String>,
    /// Notes about its other settings.
    pub settings: Vec<&'static str>,
}

impl GlueJob {
    /// Notes the settings that are not carried over.
    pub fn note_settings(&self, flow: &mut Flow) {
        for text in &self.settings {
            flow.note(None, *text);
        }
    }
}

/// Reads GetJob's answer: `{"Job": {...}}`.
///
/// # Errors
/// It has another form.
pub fn parse_get_job(json: &str) -> Result<GlueJob, String> {
    let answer: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let job = answer
        .get("Job")
        .and_then(Value::as_object)
        .ok_or("there is no \"Job\" in it")?;
    let object = |key: &str| {
        job.get(key)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let texts = |map: Map<String, Value>| {
        map.into_iter().filter_map(|(key, value)| {
            Some((
                key.trim_start_matches('-').to_owned(),
                value.as_str()?.to_owned(),
            ))
        })
    };
    let args: BTreeMap<String, String> = texts(object("DefaultArguments")).collect();
    let is_set = |key: &str| match job.get(key) {
        None | Some(Value::Null) => args.contains_key(key),
        Some(value) => *value != serde_json::json!({}),
    };
    let settings = SETTINGS
        .iter()
        .filter(|(key, _)| is_set(key))
        .map(|(_, text)| *text)
        .collect();
    Ok(GlueJob {
        name: job
            .get("Name")
            .and_then(Value::as_str)
            .unwrap_or("imported")
            .to_owned(),
        nodes: object("CodeGenConfigurationNodes").into_iter().collect(),
        script: object("Command")
            .get("ScriptLocation")
            .and_then(Value::as_str)
            .map(str::to_owned),
        settings,
        args,
    })
}

/// The job's nodes as a flow.
pub fn read(job: &GlueJob) -> Flow {
    let mut reader = Nodes {
        flow: Flow::default(),
        ids: BTreeMap::new(),
    };
    let mut waiting: Vec<(&String, &Value)> = job.nodes.iter().take(STEPS_MAX).collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(id, node)| !reader.try_node(id, node));
        if waiting.len() == before {
            let rest: Vec<_> = waiting.iter().map(|(id, _)| id.as_str()).collect();
            reader.flow.note(
                None,
                format!(
                    "these nodes wait for each other and are not carried over: {}",
                    rest.join(", ")
                ),
            );
            break;
        }
    }
    reader.flow
}

struct Nodes {
    flow: Flow,
    ids: BTreeMap<String, Option<StepId>>,
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(path).collect()
}

/// A name; the parts of a path are joined by dots.
fn path(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("."),
        ),
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

impl Nodes {
    /// Returns whether it succeeded: its inputs existed.
    fn try_node(&mut self, id: &str, node: &Value) -> bool {
        let Some((kind, body)) = node
            .as_object()
            .and_then(|node| node.iter().find(|(_, body)| body.is_object()))
        else {
            self.flow
                .note(Some(id.to_owned()), "this node is not understood");
            self.ids.insert(id.to_owned(), None);
            return true;
        };
        let inputs = texts(body.get("Inputs"));
        if !inputs.iter().all(|input| self.ids.contains_key(input)) {
            return false;
        }
        let steps: Vec<StepId> = inputs.iter().filter_map(|input| self.ids[input]).collect();
        let name = body
            .get("Name")
            .and_then(Value::as_str)
            .unwrap_or(id)
            .to_owned();
        self.note_unread(kind, body, &name);
        let step = match self.kind(kind, body, &name, &inputs, &steps) {
            Some(kind) => self.flow.add(&name, kind),
            None => steps.first().copied(),
        };
        self.ids.insert(id.to_owned(), step);
        true
    }

    /// Notes each field that is set and not used.
    fn note_unread(&mut self, kind: &str, body: &Value, name: &str) {
        let Some((_, read)) = FIELDS.iter().find(|(known, _)| *known == kind) else {
            return;
        };
        for (field, value) in body.as_object().into_iter().flatten() {
            let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if !empty && !read.contains(&field.as_str()) && !FIELDS_OF_ALL.contains(&field.as_str())
            {
                self.flow.note(
                    Some(name.to_owned()),
                    format!("the setting {field} is not carried over"),
                );
            }
        }
    }

    fn kind(
        &mut self,
        kind: &str,
        body: &Value,
        name: &str,
        inputs: &[String],
        steps: &[StepId],
    ) -> Option<StepKind> {
        let field = |key: &str| body.get(key).and_then(scalar);
        let first = steps.first().copied();
        match kind {
            "CatalogKinesisSource" => {
                self.window(body);
                let table = (field("Database")?, field("Table")?);
                Some(StepKind::Stream(Stream {
                    table: Some(table),
                    options: options(body),
                }))
            }
            "DirectKinesisSource" => {
                self.window(body);
                Some(StepKind::Stream(Stream {
                    table: None,
                    options: options(body),
                }))
            }
            "S3CsvSource" | "S3ParquetSource" => {
                let paths = texts(body.get("Paths"));
                if paths.len() > 1 {
                    self.flow.note(
                        Some(name.to_owned()),
                        "a lookup of several folders: only the first is carried over",
                    );
                }
                let format = if kind == "S3CsvSource" {
                    "csv"
                } else {
                    "parquet"
                };
                let characters = [("comma", ","), ("quote", "\""), ("doublequote", "\"")];
                let character = |key: &str| {
                    let word = field(key)?.to_lowercase();
                    Some(
                        characters
                            .iter()
                            .find(|(name, _)| *name == word)
                            .map_or(word, |(_, c)| (*c).to_owned()),
                    )
                };
                let settings = [
                    ("separator", character("Separator")),
                    ("quotechar", character("QuoteChar")),
                ];
                let more = [
                    ("recurse", field("Recurse")),
                    ("withheader", field("WithHeader")),
                ];
                let settings = settings.into_iter().chain(more);
                let settings = settings
                    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                    .collect();
                for text in options::lookup(format, &settings) {
                    self.flow.note(Some(name.to_owned()), text);
                }
                Some(StepKind::Lookup {
                    path: paths.first().cloned(),
                    format: format.to_owned(),
                })
            }
            "S3CatalogSource" | "CatalogSource" => {
                self.flow.note(
                    Some(name.to_owned()),
                    "this lookup is a table of the catalog: write the folder of its files",
                );
                Some(StepKind::Lookup {
                    path: None,
                    format: "csv".to_owned(),
                })
            }
            "ApplyMapping" => Some(StepKind::Map(first?, self.mappings(body, name))),
            "DropFields" => Some(StepKind::Drop(first?, texts(body.get("Paths")))),
            "SelectFields" => Some(StepKind::Select(first?, texts(body.get("Paths")))),
            "RenameField" => Some(StepKind::Rename(
                first?,
                path(body.get("SourcePath")?)?,
                path(body.get("TargetPath")?)?,
            )),
            "Join" => self.join(body, name, inputs, steps),
            "Filter" => match filter(body) {
                Some(condition) => Some(StepKind::Filter(first?, condition)),
                None => {
                    self.flow.note(
                        Some(name.to_owned()),
                        "this Filter is not understood: write it as WHERE in [transform] sql",
                    );
                    None
                }
            },
            "SparkSQL" => {
                let aliases = body
                    .get("SqlAliases")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                let tables = aliases.filter_map(|alias| {
                    let from = alias.get("From").and_then(Value::as_str)?;
                    Some((
                        alias.get("Alias").and_then(Value::as_str)?.to_owned(),
                        (*self.ids.get(from)?)?,
                    ))
                });
                let tables: Vec<_> = tables.collect();
                let query = field("SqlQuery")?;
                Some(StepKind::Sql(query, tables))
            }
            "S3DirectTarget" | "S3GlueParquetTarget" | "S3CatalogTarget" => {
                self.target(kind, body, name, first?);
                None
            }
            _ => {
                self.flow.note(
                    Some(name.to_owned()),
                    format!("a node of kind {kind} is not carried over"),
                );
                None
            }
        }
    }

    fn window(&mut self, body: &Value) {
        // Glue Studio writes seconds.
        self.flow.window = self
            .flow
            .window
            .take()
            .or_else(|| body.get("WindowSize").and_then(scalar));
    }

    fn mappings(&mut self, body: &Value, name: &str) -> Vec<[String; 4]> {
        let mut mappings = Vec::new();
        for item in body
            .get("Mapping")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if item.get("Dropped").and_then(Value::as_bool) == Some(true) {
                continue;
            }
            let text = |key: &str| {
                item.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or("string")
                    .to_owned()
            };
            let from = item.get("FromPath").and_then(path);
            match (from, item.get("ToKey").and_then(Value::as_str)) {
                (Some(from), Some(to)) => {
                    mappings.push([from, text("FromType"), to.to_owned(), text("ToType")])
                }
                _ => self.flow.note(
                    Some(name.to_owned()),
                    "a mapping without FromPath or ToKey is not carried over",
                ),
            }
        }
        mappings
    }

    fn join(
        &mut self,
        body: &Value,
        name: &str,
        inputs: &[String],
        steps: &[StepId],
    ) -> Option<StepKind> {
        let how = match body
            .get("JoinType")
            .and_then(Value::as_str)
            .unwrap_or("equijoin")
        {
            "equijoin" => "INNER",
            "left" => "LEFT",
            "right" => "RIGHT",
            "outer" => "FULL",
            "leftsemi" => "LEFT SEMI",
            "leftanti" => "LEFT ANTI",
            other => {
                self.flow.note(
                    Some(name.to_owned()),
                    format!("the join type {other:?} is not known: an inner join stands for it"),
                );
                "INNER"
            }
        };
        let keys = |input: &String| {
            let columns = body
                .get("Columns")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let of =
                columns.filter(|column| column.get("From").and_then(Value::as_str) == Some(input));
            of.flat_map(|column| texts(column.get("Keys")))
                .collect::<Vec<_>>()
        };
        let ([left, right], [a, b]) = (inputs, steps) else {
            return None;
        };
        Some(StepKind::Join {
            left: (*a, keys(left)),
            right: (*b, keys(right)),
            how,
        })
    }

    fn target(&mut self, kind: &str, body: &Value, name: &str, input: StepId) {
        let field = |key: &str| body.get(key).and_then(scalar);
        if kind == "S3CatalogTarget" {
            self.flow.note(
                Some(name.to_owned()),
                "the target is a table of the catalog: write the folder of its files",
            );
        }
        let policy = body.get("SchemaChangePolicy");
        let is_updated =
            policy.and_then(|policy| policy.get("EnableUpdateCatalog")) == Some(&Value::Bool(true));
        // A target of the catalog names its table itself.
        let of_policy = |key: &str| {
            let named = policy.and_then(|policy| policy.get(key));
            named.or(body.get(key)).and_then(scalar)
        };
        let catalog = SinkTable::named(
            of_policy("Database"),
            of_policy("Table"),
            of_policy("UpdateBehavior").as_deref(),
        );
        let catalog = catalog.filter(|_| is_updated);
        if is_updated && catalog.is_none() {
            let text =
                "the table that is updated in the catalog is not named: name it in [sink] catalog";
            self.flow.note(Some(name.to_owned()), text);
        }
        let format = if kind == "S3GlueParquetTarget" {
            Some("parquet".to_owned())
        } else {
            field("Format")
        };
        let sink = Sink {
            input,
            path: field("Path").unwrap_or_default(),
            format: format.unwrap_or_default(),
            compression: field("Compression"),
            partition_by: texts(body.get("PartitionKeys")),
            catalog,
        };
        self.flow.set_sink(sink, Some(name.to_owned()));
    }
}

fn options(body: &Value) -> BTreeMap<String, String> {
    let options = body
        .get("StreamingOptions")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    options
        .filter_map(|(key, value)| Some((key.to_lowercase(), scalar(value)?)))
        .collect()
}

fn filter(body: &Value) -> Option<String> {
    let link = match body.get("LogicalOperator").and_then(Value::as_str)? {
        "AND" => " AND ",
        "OR" => " OR ",
        _ => return None,
    };
    let filters = body.get("Filters").and_then(Value::as_array)?;
    let conditions: Vec<String> = filters.iter().map(condition).collect::<Option<_>>()?;
    (!conditions.is_empty()).then(|| conditions.join(link))
}

fn condition(filter: &Value) -> Option<String> {
    let values = filter.get("Values").and_then(Value::as_array)?;
    let operand = |value: &Value| {
        let words = value.get("Value").and_then(Value::as_array)?;
        match value.get("Type").and_then(Value::as_str)? {
            "COLUMNEXTRACTED" => Some(quoted(&path(&Value::Array(words.clone()))?)),
            "CONSTANT" => {
                let word = words.first()?.as_str()?;
                Some(if word.parse::<f64>().is_ok_and(f64::is_finite) {
                    word.to_owned()
                } else {
                    text(word)
                })
            }
            _ => None,
        }
    };
    let operands: Vec<String> = values.iter().map(operand).collect::<Option<_>>()?;
    let operation = filter.get("Operation").and_then(Value::as_str)?;
    let negated = filter.get("Negated").and_then(Value::as_bool) == Some(true);
    let sql = match (operation, operands.as_slice()) {
        // Glue's own code compares with None, which is equal to no value.
        ("EQ", [a, b]) if negated => format!("{a} <=> {b}"),
        ("EQ", [a, b]) => format!("{a} = {b}"),
        ("LT", [a, b]) => format!("{a} < {b}"),
        ("GT", [a, b]) => format!("{a} > {b}"),
        ("LTE", [a, b]) => format!("{a} <= {b}"),
        ("GTE", [a, b]) => format!("{a} >= {b}"),
        ("REGEX", [a, b]) => format!("regexp_like({a}, {b})"),
        ("ISNULL", [a]) => format!("{a} IS NULL"),
        _ => return None,
    };
    Some(if negated {
        format!("NOT ({sql})")
    } else {
        format!("({sql})")
    })
}
