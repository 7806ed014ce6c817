//! A flow as a job file.
//!
//! Owns: the text, its SQL, and the stand-ins for what Glue did not say. Does not own: what a job
//! file may say (`streamctl_proto::spec`).
//! Rule: what is written is a correct job file, or an error; whatever text the Glue job holds is
//! quoted.

use super::flow::{Flow, Note, Sink, StepId, StepKind, Stream, duration};
use super::query::Query;
use std::fmt::Write as _;
use streamctl_engine::catalog::region_of_endpoint;
use streamctl_engine::query::{self, QueryText};
use streamctl_proto::spec::Location;
use streamctl_proto::{JobName, JobSpec, count};

/// `windowSize` of Glue's console.
const WINDOW_DEFAULT: &str = "100s";
/// Longest name that is made of another.
const NAME_CHARS_MAX: usize = 50;

/// The file of a batch function that is carried over; it lies beside the job file.
pub const FUNCTION_FILE: &str = "transform.py";

/// A job file, and what a person must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text of the job file.
    pub toml: String,
    /// The text of `transform.py`, if the batch function is carried over.
    pub function: Option<String>,
    /// What is not carried over, or is another way here.
    pub notes: Vec<Note>,
}

/// Writes the job file; `table` are database and table of the catalog, for a job that does not name
/// them.
///
/// # Errors
/// What is missing to write a correct one.
pub fn job_file(
    mut flow: Flow,
    name: &str,
    table: Option<(String, String)>,
) -> Result<Written, String> {
    let name = job_name(name);
    let stream = flow
        .steps
        .iter()
        .enumerate()
        .find_map(|(id, step)| match &step.kind {
            StepKind::Stream(stream) => Some((id, stream.clone())),
            _ => None,
        });
    let Some((stream_id, mut stream)) = stream else {
        return Err("it reads no Kinesis stream that is understood".to_owned());
    };
    stream.table = table.or(stream.table);
    let sink = sink(&mut flow, &name);
    let function = flow.function.clone();
    let output = function
        .as_ref()
        .map_or(sink.input, |function| function.input);
    let mut query = Query::new(&mut flow, stream_id, output);
    for lookup in function.iter().flat_map(|function| &function.lookups) {
        if !query.lookups.contains(lookup) {
            query.lookups.push(lookup.clone());
        }
    }
    let columns = columns(&mut flow, stream_id, &stream)?;
    let mut toml = head(&flow, &name);
    push_source(&mut toml, &mut flow, &stream, &columns);
    push_window(&mut toml, &mut flow);
    let mut places = vec![sink.path.clone()];
    for (lookup, id) in &query.lookups {
        push_lookup(&mut toml, &mut flow, lookup, *id, &mut places);
    }
    if function.is_none() || output != stream_id {
        let _ = write!(
            toml,
            "\n[transform]\ndialect = \"spark\"\nsql = {}\n",
            multiline(&query.sql)
        );
    }
    if let Some(function) = &function {
        let _ = write!(
            toml,
            "\n[function]\nfile = {}\nname = {}\nframe = {}\n",
            text_toml(FUNCTION_FILE),
            text_toml(&function.name),
            text_toml(function.frame.key())
        );
    }
    push_sink(&mut toml, &mut flow, &sink);
    push_checkpoint(&mut toml, &mut flow, &sink, &name, &places);
    let position = "the job begins at starting_position: Glue's checkpoint is not read. To go on where Glue stopped, \
                    stop its job, then set starting_position to the time of its last batch";
    flow.note(None, position);
    let spec = JobSpec::parse(&toml).map_err(|problems| {
        format!("no correct job file can be made of it:\n{problems}\n\n{toml}")
    })?;
    note_refusals(&mut flow, &spec);
    Ok(Written {
        toml,
        function: function.map(|function| function.text),
        notes: flow.notes,
    })
}

/// Notes the first part of the query that its dialect refuses.
fn note_refusals(flow: &mut Flow, spec: &JobSpec) {
    let lookups: Vec<&str> = spec
        .lookups
        .iter()
        .map(|lookup| lookup.name.as_str())
        .collect();
    let Err(error) = query::check(QueryText::submitted(spec), &lookups) else {
        return;
    };
    let problem = error.problem();
    let hint = problem.hint.map(|hint| format!("; {hint}"));
    let text = format!(
        "the query is not accepted: {}{}",
        problem.message,
        hint.unwrap_or_default()
    );
    flow.note(Some("transform.sql".to_owned()), text);
}

fn head(flow: &Flow, name: &str) -> String {
    let steps = count(flow.steps.len(), "step");
    format!(
        "# Imported from AWS Glue ({steps}). `streamctl submit --dry-run` checks tables, columns \
         and buckets.\nname = {}\n",
        text_toml(name)
    )
}

/// A name for a job: lower-case letters, digits and dashes.
pub fn job_name(text: &str) -> String {
    let dashed: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_CHARS_MAX)
        .collect();
    let name = dashed.trim_matches('-');
    if name.parse::<JobName>().is_ok() {
        name.to_owned()
    } else {
        "imported".to_owned()
    }
}

fn sink(flow: &mut Flow, name: &str) -> Sink {
    let missing = flow.sink.is_none();
    let last = flow.steps.len().saturating_sub(1);
    let mut sink = flow.sink.clone().unwrap_or(Sink {
        input: last,
        ..Sink::default()
    });
    if missing {
        flow.note(None, "no target in S3 is understood");
    }
    sink.path = place(
        flow,
        &sink.path,
        "the target",
        &format!("s3://set-output/{name}/"),
    );
    let in_bucket = sink
        .path
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'));
    if in_bucket.is_none_or(|(_, prefix)| prefix.is_empty()) {
        sink.path = format!("{}/{name}/", sink.path.trim_end_matches('/'));
        flow.note(
            None,
            format!("the target is a whole bucket; it is {} here, so that the checkpoint lies beside it", sink.path),
        );
    }
    sink
}

/// The folder, as a job file takes it; else what stands for it.
fn place(flow: &mut Flow, path: &str, what: &str, stand_in: &str) -> String {
    let rest = ["s3://", "s3a://", "s3n://"]
        .iter()
        .find_map(|scheme| path.strip_prefix(scheme));
    let parts = rest
        .into_iter()
        .flat_map(|rest| rest.split('/'))
        .filter(|part| !part.is_empty());
    let folder = format!("s3://{}/", parts.collect::<Vec<_>>().join("/"));
    let probe = format!(
        "name=\"a\"\n[source]\ntype=\"generator\"\n[window]\nsize=\"1s\"\n[transform]\nsql=\"SELECT 1\"\n\
         [sink]\npath={}\n[checkpoint]\nlocation=\"/c/\"\n",
        text_toml(&folder)
    );
    if rest.is_some() && JobSpec::parse(&probe).is_ok() {
        return folder;
    }
    flow.note(
        None,
        format!(
            "{what} is not known ({:?}): {stand_in} stands for it",
            shortened(path)
        ),
    );
    stand_in.to_owned()
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Columns for `[source.schema]`, where no table of the catalog names them.
fn columns(flow: &mut Flow, id: StepId, stream: &Stream) -> Result<Vec<(String, String)>, String> {
    if stream.table.is_some() {
        return Ok(Vec::new());
    }
    if let Some(schema) = stream.options.get("schema").map(|ddl| ddl_columns(ddl))
        && !schema.is_empty()
    {
        return Ok(schema);
    }
    let mappings = flow.steps.iter().find_map(|step| match &step.kind {
        StepKind::Map(input, mappings) if *input == id => Some(mappings.clone()),
        _ => None,
    });
    let mut columns: Vec<(String, String)> = Vec::new();
    for [name, type_name, ..] in mappings.into_iter().flatten() {
        let name = name.to_lowercase();
        if !columns.iter().any(|(seen, _)| *seen == name) && !name.trim().is_empty() {
            columns.push((name, hive_type(&type_name)));
        }
    }
    if columns.is_empty() {
        return Err(
            "Glue finds the stream's columns out as it runs, and nothing here names them: \
                    name the table of the Data Catalog with --catalog DATABASE.TABLE"
                .to_owned(),
        );
    }
    flow.note(
        None,
        "the columns of [source.schema] are those of the mapping: Glue inferred them",
    );
    Ok(columns)
}

/// `` `uuid` STRING, n INT`` as columns.
fn ddl_columns(ddl: &str) -> Vec<(String, String)> {
    let mut columns = Vec::new();
    let mut open = 0_i32;
    let mut current = String::new();
    for c in ddl.chars().chain([',']) {
        open += i32::from(matches!(c, '(' | '<')) - i32::from(matches!(c, ')' | '>'));
        if c != ',' || open > 0 {
            current.push(c);
            continue;
        }
        let column = std::mem::take(&mut current);
        let column = column.trim();
        let parts = match column.strip_prefix('`') {
            Some(rest) => rest.split_once('`'),
            None => column.split_once([' ', ':']),
        };
        if let Some((name, type_name)) = parts {
            columns.push((name.trim().to_lowercase(), hive_type(type_name.trim())));
        }
    }
    columns
}

fn hive_type(glue: &str) -> String {
    let lower = glue.trim().to_lowercase();
    let known = [
        "string",
        "boolean",
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "float",
        "double",
        "date",
        "timestamp",
        "binary",
    ];
    match lower.as_str() {
        "long" => "bigint".to_owned(),
        "short" => "smallint".to_owned(),
        "byte" => "tinyint".to_owned(),
        "integer" => "int".to_owned(),
        name if known.contains(&name) || name.starts_with("decimal(") => lower,
        _ => "string".to_owned(),
    }
}

fn push_source(toml: &mut String, flow: &mut Flow, stream: &Stream, columns: &[(String, String)]) {
    toml.push_str("\n[source]\ntype = \"kinesis\"\n");
    if let Some((database, table)) = &stream.table {
        let _ = writeln!(
            toml,
            "catalog = {{ database = {}, table = {} }}",
            text_toml(database),
            text_toml(table)
        );
    }
    let mut keys = Vec::new();
    let mut notes = Vec::new();
    for (key, value) in &stream.options {
        match source_key(key, value) {
            Key::Set(name, value) => keys.push((name, value)),
            Key::Note(text) => notes.push(text),
            Key::Silent => {}
        }
    }
    if stream.table.is_none()
        && !keys
            .iter()
            .any(|(name, _)| matches!(*name, "stream" | "arn"))
    {
        keys.push(("stream", text_toml("set-stream")));
        notes.push("the stream's name is not known: \"set-stream\" stands for it".to_owned());
    }
    if keys.iter().any(|(name, _)| *name == "arn") {
        keys.retain(|(name, _)| *name != "stream");
    }
    if !keys.iter().any(|(name, _)| *name == "role_arn") {
        keys.retain(|(name, _)| *name != "session_name");
    }
    for (name, value) in keys {
        let _ = writeln!(toml, "{name} = {value}");
    }
    notes.into_iter().for_each(|text| flow.note(None, text));
    if !stream.options.contains_key("failondataloss") {
        flow.note(None, "records that are gone before they are read stop the job; Glue goes on: on_data_loss = \"continue\" does too");
    }
    if !columns.is_empty() {
        toml.push_str("\n[source.schema]\n");
        for (name, type_name) in columns {
            let _ = writeln!(toml, "{} = {}", text_toml(name), text_toml(type_name));
        }
    }
}

enum Key {
    Set(&'static str, String),
    Note(String),
    Silent,
}

fn source_key(key: &str, value: &str) -> Key {
    let set = |name| Key::Set(name, text_toml(value));
    match key {
        "streamname" => set("stream"),
        "streamarn" if value.starts_with("arn:") && value.contains(":stream/") => set("arn"),
        "awsstsrolearn" if value.starts_with("arn:") => set("role_arn"),
        "awsstssessionname" if !value.is_empty() => set("session_name"),
        "endpointurl" => match region_of_endpoint(value) {
            Some(region) => Key::Set("region", text_toml(region)),
            None if value.starts_with("http") => set("endpoint"),
            None => Key::Note(format!("the endpoint {value:?} is not carried over")),
        },
        "startingposition" => position(value),
        "maxrecordperread" => match value.parse::<u32>() {
            Ok(count @ 1..=10_000) => Key::Set("max_records_per_read", count.to_string()),
            _ => Key::Silent,
        },
        "failondataloss" => Key::Set(
            "on_data_loss",
            text_toml(if value.eq_ignore_ascii_case("true") {
                "fail"
            } else {
                "continue"
            }),
        ),
        "classification" | "format" if !value.eq_ignore_ascii_case("json") => Key::Note(format!(
            "records in {value:?} are not carried over: Kinesis records are JSON here"
        )),
        "addrecordtimestamp" if value.eq_ignore_ascii_case("true") => Key::Note(
            "addRecordTimestamp is not carried over: partition_by takes the window's time"
                .to_owned(),
        ),
        "fanoutconsumerarn" => Key::Note(format!(
            "the consumer stays the script's: {value}; for enhanced fan-out add a consumer of the \
             job's own to [source], such as consumer = \"streamctl\""
        )),
        "typeofdata" | "classification" | "format" | "inferschema" | "schema"
        | "addrecordtimestamp" => Key::Silent,
        "emitconsumerlagmetrics"
        | "avoidemptybatches"
        | "addidletimebetweenreads"
        | "idletimebetweenreadsinms"
        | "maxfetchtimeinms"
        | "maxfetchrecordspershard"
        | "describeshardinterval"
        | "numretries"
        | "retryintervalms"
        | "maxretryintervalms" => Key::Note(format!(
            "the option {key:?} is not needed: reading is continuous and paced"
        )),
        _ => Key::Note(format!("the stream's option {key:?} is not carried over")),
    }
}

fn position(value: &str) -> Key {
    let set = |word: &str| Key::Set("starting_position", text_toml(word));
    match value.to_lowercase().as_str() {
        "latest" => set("latest"),
        "trim_horizon" | "earliest" => set("trim_horizon"),
        _ => {
            let time = chrono::DateTime::parse_from_rfc3339(value);
            match time {
                Ok(time) => set(&time
                    .to_utc()
                    .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
                Err(_) => Key::Note(format!(
                    "the starting position {value:?} is no position and no time: latest stands \
                     for it"
                )),
            }
        }
    }
}

fn push_window(toml: &mut String, flow: &mut Flow) {
    let size = flow.window.clone().and_then(|text| {
        let size = duration(&text);
        if size.is_none() {
            flow.note(
                None,
                format!("windowSize {:?} is no duration", shortened(&text)),
            );
        }
        size
    });
    let missing = size.is_none();
    let size = size.unwrap_or_else(|| WINDOW_DEFAULT.to_owned());
    if missing {
        flow.note(
            None,
            format!(
                "the window's size is not known: {WINDOW_DEFAULT}, the console's, stands for it"
            ),
        );
    }
    flow.note(None, "windows are of arrival time, aligned to the Unix epoch: a backlog is cut as it would have been live; Glue takes what it finds");
    let _ = write!(toml, "\n[window]\nsize = {}\n", text_toml(&size));
}

fn push_lookup(
    toml: &mut String,
    flow: &mut Flow,
    name: &str,
    id: StepId,
    places: &mut Vec<String>,
) {
    let (path, format) = match &flow.steps[id].kind {
        StepKind::Lookup { path, format } => (path.clone().unwrap_or_default(), format.clone()),
        _ => (String::new(), String::new()),
    };
    let (path, file) = match path.rsplit_once('/') {
        Some((folder, file)) if file.contains('.') => (format!("{folder}/"), Some(file.to_owned())),
        _ => (path, None),
    };
    if let Some(file) = file {
        flow.note(
            None,
            format!(
                "the lookup {name} is the file {file:?}; every file of its folder is read here"
            ),
        );
    }
    let path = place(
        flow,
        &path,
        &format!("the folder of the lookup {name}"),
        &format!("s3://set-lookup/{name}/"),
    );
    let format = match format.as_str() {
        "csv" => "csv",
        "parquet" | "glueparquet" => "parquet",
        other => {
            flow.note(
                None,
                format!("the lookup {name} is in {other:?}; csv or parquet can be read"),
            );
            "csv"
        }
    };
    let _ = write!(
        toml,
        "\n[[lookup]]\nname = {}\npath = {}\nformat = {}\n",
        text_toml(name),
        text_toml(&path),
        text_toml(format)
    );
    places.push(path);
}

fn push_sink(toml: &mut String, flow: &mut Flow, sink: &Sink) {
    let format = match sink.format.to_lowercase().as_str() {
        "csv" => "csv",
        "json" => "json",
        "parquet" | "glueparquet" | "" => "parquet",
        other => {
            flow.note(
                None,
                format!(
                    "the target's format {:?} is not there: parquet stands for it",
                    shortened(other)
                ),
            );
            "parquet"
        }
    };
    let compression = match sink
        .compression
        .as_deref()
        .map(str::to_lowercase)
        .as_deref()
    {
        None | Some("") => None,
        Some("none" | "uncompressed") => Some("none"),
        Some("gzip") => Some("gzip"),
        Some("zstd") => Some("zstd"),
        Some("snappy") if format == "parquet" => Some("snappy"),
        Some(other) => {
            flow.note(
                None,
                format!(
                    "the target's compression {:?} is not carried over",
                    shortened(other)
                ),
            );
            None
        }
    };
    let _ = write!(
        toml,
        "\n[sink]\npath = {}\nformat = {}\n",
        text_toml(&sink.path),
        text_toml(format)
    );
    if let Some(compression) = compression {
        let _ = writeln!(toml, "compression = {}", text_toml(compression));
    }
    let mut columns: Vec<String> = Vec::new();
    for name in &sink.partition_by {
        let known =
            ["ingest_year", "ingest_month", "ingest_day", "ingest_hour"].contains(&name.as_str());
        if name.starts_with("ingest_") && !known {
            flow.note(
                None,
                format!(
                    "the partition {name} is not there: the window's year, month, day and hour are"
                ),
            );
        } else if !columns.contains(name)
            && !name.contains(['/', '='])
            && !name.chars().any(char::is_control)
        {
            columns.push(name.clone());
        }
    }
    if !columns.is_empty() {
        let columns: Vec<_> = columns.iter().map(|name| text_toml(name)).collect();
        let _ = writeln!(toml, "partition_by = [{}]", columns.join(", "));
    }
    if let Some(of) = &sink.catalog {
        let fixed = if of.add_columns {
            ""
        } else {
            ", add_columns = false"
        };
        let _ = writeln!(
            toml,
            "catalog = {{ database = {}, table = {}{fixed} }}",
            text_toml(&of.database),
            text_toml(&of.table)
        );
    }
}

fn push_checkpoint(toml: &mut String, flow: &mut Flow, sink: &Sink, name: &str, places: &[String]) {
    let beside = format!("{}-checkpoint/", sink.path.trim_end_matches('/'));
    let wanted = flow
        .checkpoint
        .clone()
        .map(|path| format!("{}/streamctl-{name}/", path.trim_end_matches('/')));
    let wanted = match wanted {
        Some(path) => place(flow, &path, "the checkpoint's folder", &beside),
        None => beside.clone(),
    };
    let apart = |path: &str| {
        places
            .iter()
            .all(|other| !Location::folder(path).overlaps(&Location::folder(other)))
    };
    let location = if apart(&wanted) { wanted } else { beside };
    flow.note(
        None,
        format!("Glue's checkpoint cannot be read; ours is another form and lies in {location}"),
    );
    let _ = write!(
        toml,
        "\n[checkpoint]\nlocation = {}\n",
        text_toml(&location)
    );
    if let Some(text) = flow.retries.clone() {
        match text.parse::<u32>() {
            Ok(max @ 0..=100) => {
                let _ = write!(toml, "\n[retry]\nmax = {max}\n");
            }
            _ => flow.note(
                None,
                format!(
                    "batchMaxRetries {:?} is not a number from 0 to 100",
                    shortened(&text)
                ),
            ),
        }
    }
}

/// A text of TOML, on one line.
pub fn text_toml(value: &str) -> String {
    toml::Value::String(value.replace(['\n', '\r'], " ")).to_string()
}

fn multiline(sql: &str) -> String {
    let plain = !sql.contains("'''")
        && sql
            .chars()
            .all(|c| c == '\n' || c == '\t' || !c.is_control());
    if plain {
        format!("'''\n{sql}\n'''")
    } else {
        text_toml(sql)
    }
}

/// A text as SQL takes it.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}
