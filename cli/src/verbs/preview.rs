//! `streamctl preview`: a job's query on a few records of its real source.
//!
//! Owns: the output. Does not own: which shards are read (the controller), reading and the query
//! (a worker); [`crate::local::looks`] does both here.
//! Rule: nothing is written: no checkpoint, no sink, no position.

use super::dead_letters::cut;
use super::explain::unavailable;
use super::{JobFile, files, job_file, job_file_error, pack, read, spec_of};
use crate::client::{CALL_TIMEOUT, Controller, jobs};
use crate::error::CliError;
use crate::local::looks::{order_here, preview_here};
use crate::output::{Output, table};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use streamctl_engine::resolve::{ResolveError, World};
use streamctl_engine::written::{self, TextForm};
use streamctl_proto::count;
use streamctl_proto::preview::{PREVIEW_RECORDS_MAX, PREVIEW_TIMEOUT_MAX};
use streamctl_proto::spec::{SinkTypes, TimestampFormat, parse_duration};
use streamctl_proto::v1::{
    NotAsked, NullValues, PreviewFrom, PreviewRequest, PreviewResponse, PreviewedLetter,
    UnknownKey, UnmatchedKey,
};

/// Reasons of rejected rows that are shown.
const REJECTED_SHOWN_MAX: usize = 20;

const PROGRESS: &str = "reading records";

// The variants have no doc comments: clap would print each value on its own line.
/// Which records are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    // The oldest that the source has.
    Earliest,
    // The newest ones.
    Latest,
}

/// Whatever the sink writes: bytes and numbers that JSON has no form for are shown as text.
const PREVIEW_TEXT: TextForm = TextForm {
    types: SinkTypes::Hive,
    timestamps: TimestampFormat::Iso,
};

/// Of `preview`.
#[derive(Args, Debug)]
pub struct PreviewArgs {
    /// Job file
    pub file: PathBuf,
    /// Number of records to read
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(PREVIEW_RECORDS_MAX)))]
    pub records: u32,
    /// Which records to read (default: the job's start position)
    #[arg(long, value_enum, value_name = "END")]
    pub from: Option<From>,
    /// How long to wait for records, at most 5m
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = patience)]
    pub timeout: Duration,
    /// Use this process and your credentials, not the cluster (default if no controller is configured)
    #[arg(long)]
    pub local: bool,
}

fn patience(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)
        .ok_or_else(|| format!("{text:?} is not a duration such as 500ms, 10s or 1m"))?;
    match duration <= PREVIEW_TIMEOUT_MAX {
        true => Ok(duration),
        false => Err(format!("{text} is longer than {PREVIEW_TIMEOUT_MAX:?}")),
    }
}

fn request(args: &PreviewArgs, spec_toml: String) -> PreviewRequest {
    let from = match args.from {
        None => PreviewFrom::Unspecified,
        Some(From::Earliest) => PreviewFrom::Earliest,
        Some(From::Latest) => PreviewFrom::Latest,
    };
    // 0 is the default of a request.
    let timeout_ms = args.timeout.max(Duration::from_millis(1)).as_millis();
    PreviewRequest {
        spec_toml,
        base_dir: String::new(),
        function_code: vec![],
        records: args.records,
        from: from.into(),
        timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
    }
}

/// Has a worker sample and compute; prints.
pub async fn run(
    args: &PreviewArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let JobFile { text, code, .. } = job_file(&args.file)?;
    let request = PreviewRequest {
        function_code: code,
        ..request(args, text)
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).preview(request).await }
    };
    let called = controller.call_once_within(call, CALL_TIMEOUT + args.timeout);
    let response = out.during_call(PROGRESS, controller.waits(), called).await;
    show(
        &response.map_err(|error| error.of_job_file(&args.file))?,
        out,
    )
}

/// Samples and computes in this process; prints.
pub async fn run_local(
    args: &PreviewArgs,
    mut world: World,
    out: &mut Output,
) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let spec = spec_of(&args.file, &text)?;
    world.function.code = pack(&args.file, &text, &spec)?;
    let request = PreviewRequest {
        function_code: files(world.function.code.as_ref()),
        ..request(args, text.clone())
    };
    let ordered = order_here(&world, spec, request);
    let ordered = out
        .during("asking for columns, lookups and shards", ordered)
        .await;
    let order = ordered.map_err(|error| match error {
        ResolveError::Problems(problems) => job_file_error(&args.file, &problems.located(&text)),
        ResolveError::Unavailable { field, reason } => unavailable(&NotAsked { field, reason }, 0),
    })?;
    let response = out.during(PROGRESS, preview_here(world, order)).await?;
    show(&response, out)
}

/// The rows of a response.
struct Rows {
    schema: arrow::datatypes::SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Rows {
    fn read(response: &PreviewResponse) -> Result<Self, ArrowError> {
        let reader = StreamReader::try_new(&response.rows[..], None)?;
        Ok(Self {
            schema: reader.schema(),
            batches: reader.collect::<Result<_, _>>()?,
        })
    }

    fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows as JSON objects; nulls are written explicitly.
    fn json(&self) -> Result<Vec<Value>, ArrowError> {
        let mut text = Vec::new();
        for batch in &self.batches {
            written::json::write_lines(batch, PREVIEW_TEXT, true, &mut text)?;
        }
        let rows = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice);
        rows.collect::<Result<_, _>>()
            .map_err(|error| ArrowError::JsonError(error.to_string()))
    }
}

fn show(response: &PreviewResponse, out: &mut Output) -> Result<(), CliError> {
    let unexpected = |error: ArrowError| CliError::UnexpectedResponse(error.to_string());
    let rows = Rows::read(response).map_err(unexpected)?;
    let json = rows.json().map_err(unexpected)?;
    out.either(
        || as_text(response, &rows),
        || as_json(response, &rows, json),
    )?;
    out.note(&summary(response, &rows));
    Ok(())
}

fn as_text(shown: &PreviewResponse, rows: &Rows) -> String {
    let mut parts = vec![];
    parts.push(
        match arrow::util::pretty::pretty_format_batches_with_schema(
            rows.schema.clone(),
            &rows.batches,
        ) {
            Ok(rows) => rows.to_string(),
            Err(error) => format!("the rows cannot be shown: {error}"),
        },
    );
    let letter = |bad: &PreviewedLetter| {
        let payload = cut(&bad.payload);
        [
            bad.shard.clone(),
            bad.sequence_number.clone(),
            bad.reason.clone(),
            payload,
        ]
    };
    let bad: Vec<[String; 4]> = shown.dead_letters.iter().map(letter).collect();
    if !bad.is_empty() {
        parts.push(format!(
            "dead letters:\n{}",
            table(["SHARD", "SEQUENCE NUMBER", "REASON", "PAYLOAD"], &bad)
        ));
    }
    if !shown.rejected.is_empty() {
        let reasons: String = shown
            .rejected
            .iter()
            .take(REJECTED_SHOWN_MAX)
            .map(|reason| format!("\n{reason}"))
            .collect();
        parts.push(format!("rejected rows:{reasons}"));
    }
    if !shown.unmatched.is_empty() {
        let row = |key: &UnmatchedKey| [key.lookup.clone(), key.key.clone(), key.rows.to_string()];
        let rows: Vec<_> = shown.unmatched.iter().map(row).collect();
        parts.push(format!(
            "without a partner:\n{}",
            table(["LOOKUP", "KEY", "ROWS"], &rows)
        ));
    }
    if !shown.null_values.is_empty() {
        let row = |null: &NullValues| [null.column.clone(), null.values.to_string()];
        let rows: Vec<_> = shown.null_values.iter().map(row).collect();
        parts.push(format!(
            "did not fit and became NULL:\n{}",
            table(["COLUMN", "VALUES"], &rows)
        ));
    }
    if !shown.unknown_keys.is_empty() {
        let row = |one: &UnknownKey| [one.key.clone(), one.count.to_string()];
        let rows: Vec<_> = shown.unknown_keys.iter().map(row).collect();
        parts.push(format!(
            "keys that no column has:\n{}",
            table(["KEY", "TIMES"], &rows)
        ));
    }
    parts.join("\n\n")
}

fn summary(shown: &PreviewResponse, rows: &Rows) -> String {
    let short = if shown.cut_short {
        "; the time was over before there were more (--timeout), or their room"
    } else {
        ""
    };
    let rejected = match shown.rejected.len() {
        0 => String::new(),
        rows => format!(", {rows} rejected"),
    };
    let whole = match shown.whole_window {
        true => "\nthe query needs whole windows: these are figures of the sample, not of a window",
        false => "",
    };
    format!(
        "{} of {} of {}: {} out, {} dead, {} unmatched{rejected}{short}; nothing was written{whole}",
        count(shown.records, "record"),
        shown.shards_read,
        count(shown.shards, "shard"),
        count(rows.count(), "row"),
        shown.dead_letters.len(),
        shown.rows_unmatched
    )
}

fn as_json(shown: &PreviewResponse, rows: &Rows, json_rows: Vec<Value>) -> Value {
    let column = |field: &arrow::datatypes::FieldRef| json!({"name": field.name(), "type": field.data_type().to_string()});
    let letter = |bad: &PreviewedLetter| {
        let mut json = json!({
            "shard": bad.shard, "sequence_number": bad.sequence_number, "reason": bad.reason,
        });
        match std::str::from_utf8(&bad.payload) {
            Ok(text) => json["payload"] = text.into(),
            Err(_) => json["payload_base64"] = STANDARD.encode(&bad.payload).into(),
        }
        json
    };
    let key = |key: &UnmatchedKey| json!({"lookup": key.lookup, "key": key.key, "rows": key.rows});
    let nulls = |one: &NullValues| json!({"column": one.column, "values": one.values});
    let unknown = |one: &UnknownKey| json!({"key": one.key, "count": one.count});
    json!({
        "job": shown.job, "shards": shown.shards, "shards_read": shown.shards_read, "cut_short": shown.cut_short,
        "records": shown.records, "whole_window": shown.whole_window,
        "columns": rows.schema.fields().iter().map(column).collect::<Vec<_>>(), "rows": json_rows,
        "dead_letters": shown.dead_letters.iter().map(letter).collect::<Vec<_>>(),
        "rows_rejected": shown.rejected.len(),
        "rejected": shown.rejected,
        "rows_unmatched": shown.rows_unmatched,
        "unmatched": shown.unmatched.iter().map(key).collect::<Vec<_>>(),
        "null_values": shown.null_values.iter().map(nulls).collect::<Vec<_>>(),
        "unknown_keys": shown.unknown_keys.iter().map(unknown).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::explain::tests::{generated, nowhere};
    use super::*;
    use crate::output::Format;
    use crate::output::tests::captured;
    use std::path::Path;

    async fn previewed(file: PathBuf, records: u32, format: Format) -> (String, String) {
        let (mut out, data, notes) = captured(format);
        let args = PreviewArgs {
            file,
            records,
            from: None,
            timeout: Duration::from_secs(20),
            local: true,
        };
        run_local(&args, nowhere(), &mut out).await.unwrap();
        (data.text(), notes.text())
    }

    fn files_below(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
            .sum()
    }

    #[tokio::test]
    async fn made_up_records_come_out_joined_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = generated(folder.path());
        let before = files_below(folder.path());
        let (text, _) = previewed(file.clone(), 150, Format::Json).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        crate::output::tests::documented("preview", &json);
        assert_eq!(
            (&json["records"], &json["shards_read"]),
            (&json!(150), &json!(2))
        );
        let rows = json["rows"].as_array().unwrap();
        assert!(
            rows.len() >= 145 && rows[0]["country_code"].as_str().unwrap().len() == 2,
            "{json:#}"
        );
        assert_eq!(
            rows.len() as u64 + json["rows_unmatched"].as_u64().unwrap(),
            150
        );
        let (text, notes) = previewed(file, 5, Format::Table).await;
        assert!(
            text.contains("| country_code |") && notes.contains("nothing was written"),
            "{text}{notes}"
        );
        assert_eq!(files_below(folder.path()), before);
    }

    #[tokio::test]
    async fn bad_lines_of_a_file_are_shown_with_their_reason() {
        let folder = tempfile::tempdir().unwrap();
        let orders = folder.path().join("data/orders");
        std::fs::create_dir_all(&orders).unwrap();
        let good = r#"{"ordered_at": "2026-01-01 00:00:00", "order_id": 1, "country": "DE", "amount": 2.5}"#;
        std::fs::write(orders.join("a.json"), format!("{good}\nnot json\n")).unwrap();
        let file = folder.path().join("files.toml");
        std::fs::write(&file, include_str!("../../../deploy/jobs/files.toml")).unwrap();
        let (text, _) = previewed(file, 20, Format::Json).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (
                json["records"].as_u64(),
                json["rows"].as_array().unwrap().len()
            ),
            (Some(2), 1),
            "{json:#}"
        );
        assert_eq!(json["dead_letters"][0]["payload"], "not json");
    }
}
