//! `streamctl preview`: a job's query on a few records of its real source.
//!
//! Owns: where a sample is read from, the output. Does not own: reading and the query
//! (`worker::preview`).
//! Rule: nothing is written: no checkpoint, no sink, no position.

use super::dead_letters::cut;
use super::explain::check_available;
use super::{job_file_error, pack, read, spec_of};
use crate::error::CliError;
use crate::functions;
use crate::output::{Output, table};
use arrow::record_batch::RecordBatch;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use streamctl_controller::shards::{SourceShards, explore_all};
use streamctl_engine::clock::system_clock;
use streamctl_engine::resolve::World;
use streamctl_engine::source::sample::SampleFrom;
use streamctl_engine::source::{ListedShard, ShardToRead, connector};
use streamctl_engine::written::{self, TextForm};
use streamctl_proto::report::{NullValues, UnknownKey};
use streamctl_proto::spec::{
    Problems, SinkTypes, StartingPosition, TimestampFormat, parse_duration,
};
use streamctl_proto::{ResolvedJob, count};
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::preview::{
    Outcome, PREVIEW_RECORDS_MAX, PREVIEW_SHARDS_MAX, Sample, compute, sample,
};
use streamctl_worker::source::Sources;
use streamctl_worker::task::Context;

// The variants have no doc comments: clap would print each value on its own line.
/// Reasons of rejected rows that are shown.
const REJECTED_SHOWN_MAX: usize = 20;

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
          value_parser = clap::value_parser!(u64).range(1..=PREVIEW_RECORDS_MAX as u64))]
    pub records: u64,
    /// Which records to read (default: the job's start position)
    #[arg(long, value_enum, value_name = "END")]
    pub from: Option<From>,
    /// How long to wait for records
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = patience)]
    pub timeout: Duration,
}

fn patience(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| format!("{text:?} is not a duration such as 500ms, 10s or 1m"))
}

/// The records read, and the result.
struct Shown {
    job: String,
    shards: usize,
    read: usize,
    whole_window: bool,
    sample: Sample,
    outcome: Outcome,
}

/// Samples, computes, prints.
pub async fn run(args: &PreviewArgs, mut world: World, out: &mut Output) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let spec = spec_of(&args.file, &text)?;
    world.function.code = pack(&args.file, &text, &spec)?;
    let progress = out.progress("asking for columns, lookups and shards");
    let lister = SourceShards::new(world.aws.clone(), world.storages.clone()).local();
    let (found, listed) = explore_all(&world, &lister, &spec, false).await;
    if !found.problems.is_empty() {
        return Err(job_file_error(
            &args.file,
            &Problems(found.problems).located(&text),
        ));
    }
    check_available(&found.unavailable)?;
    let now_ms = system_clock()();
    let lookups = found.lookups.clone();
    let plan = found.plan.clone();
    let job = found
        .job(spec, String::new(), now_ms)
        .map_err(|error| failed(error.to_string(), String::new()))?;
    let (Some(plan), Some(listed)) = (plan, listed.map(|listing| listing.shards)) else {
        return Err(failed(
            "the job cannot be planned".into(),
            "streamctl explain says more".into(),
        ));
    };
    progress.show("reading records");
    let records_max = usize::try_from(args.records).unwrap_or(PREVIEW_RECORDS_MAX);
    let reader = Reader {
        world: &world,
        job,
        shards: &listed,
        records_max,
        within: args.timeout,
    };
    let (sample, read, context) = reader.read(args.from, now_ms).await?;
    let lookups: BTreeMap<String, RecordBatch> = lookups
        .into_iter()
        .map(|(name, lookup)| (name, lookup.rows))
        .collect();
    let outcome = compute(&context, &plan, &lookups, &sample).await;
    let outcome = outcome.map_err(|error| {
        failed(
            error.to_string(),
            "streamctl explain shows columns and plan".into(),
        )
    })?;
    drop(progress);
    let job = context.job.spec.name.to_string();
    let shards = listed.len();
    let whole_window = plan.whole_window();
    let shown = Shown {
        job,
        shards,
        read,
        whole_window,
        sample,
        outcome,
    };
    let rows = json_rows(&shown.outcome)
        .map_err(|error| CliError::UnexpectedResponse(error.to_string()))?;
    out.either(|| as_text(&shown), || as_json(&shown, rows))?;
    out.note(&summary(&shown));
    Ok(())
}

fn failed(message: String, hint: String) -> CliError {
    CliError::Local { message, hint }
}

/// Takes a sample of a source.
struct Reader<'a> {
    world: &'a World,
    job: ResolvedJob,
    shards: &'a [ListedShard],
    records_max: usize,
    within: Duration,
}

impl Reader<'_> {
    /// The sample, the number of its shards, and the job as it was read.
    async fn read(
        mut self,
        from: Option<From>,
        now_ms: i64,
    ) -> Result<(Sample, usize, std::sync::Arc<Context>), CliError> {
        let source = self.job.spec.source.clone();
        let from = match (from, source.starting_position) {
            (Some(From::Latest), _) | (None, StartingPosition::Latest) => SampleFrom::Latest,
            (Some(From::Earliest), _) | (None, _) => SampleFrom::Earliest,
        };
        let connector = connector(&source.kind);
        let sampling = connector.sampling(from, self.records_max, now_ms);
        if let Some(start) = sampling.start {
            self.job.start = start;
        }
        let fits = |shard: &&ListedShard| connector.is_sampled(shard, self.shards, from);
        let fitting = self.shards.iter().filter(fits).take(PREVIEW_SHARDS_MAX);
        let shards: Vec<ListedShard> = fitting.cloned().collect();
        let sources = Sources::new(self.world.aws.clone(), self.world.storages.clone());
        let context = Context::new(
            self.job,
            self.world.storages.clone(),
            sources,
            MemoryBudget::default(),
            functions::here().with_code(self.world.function.code.clone()),
        );
        let deadline = tokio::time::Instant::now() + self.within;
        let mut best = Sample::default();
        for (position, end) in sampling.reads {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                best.cut_short = true;
                break;
            }
            let to_read = |shard: &ListedShard| {
                ShardToRead::new(shard.id.clone(), position.clone(), shard.detail.clone())
            };
            let shards: Vec<_> = shards.iter().map(to_read).collect();
            let taken = sample(&context, &shards, end, self.records_max, left).await;
            let taken = taken
                .map_err(|error| failed(error.to_string(), "check the job's [source]".into()))?;
            if taken.records.len() >= best.records.len() {
                best = taken;
            }
            if best.records.len() >= self.records_max || best.cut_short {
                break;
            }
        }
        Ok((best, shards.len(), std::sync::Arc::new(context)))
    }
}

fn as_text(shown: &Shown) -> String {
    let mut parts = vec![];
    parts.push(
        match arrow::util::pretty::pretty_format_batches_with_schema(
            shown.outcome.schema.clone(),
            &shown.outcome.batches,
        ) {
            Ok(rows) => rows.to_string(),
            Err(error) => format!("the rows cannot be shown: {error}"),
        },
    );
    let bad: Vec<[String; 4]> = bad(shown)
        .map(|(shard, sequence, reason, payload)| [shard, sequence, reason, cut(payload)])
        .collect();
    if !bad.is_empty() {
        parts.push(format!(
            "dead letters:\n{}",
            table(["SHARD", "SEQUENCE NUMBER", "REASON", "PAYLOAD"], &bad)
        ));
    }
    if !shown.outcome.rejected.is_empty() {
        let reasons: String = shown
            .outcome
            .rejected
            .iter()
            .take(REJECTED_SHOWN_MAX)
            .map(|reason| format!("\n{reason}"))
            .collect();
        parts.push(format!("rejected rows:{reasons}"));
    }
    if !shown.outcome.unmatched_keys.is_empty() {
        let row = |key: &streamctl_proto::report::UnmatchedKey| {
            [key.lookup.clone(), key.key.clone(), key.rows.to_string()]
        };
        let rows: Vec<_> = shown.outcome.unmatched_keys.iter().map(row).collect();
        parts.push(format!(
            "without a partner:\n{}",
            table(["LOOKUP", "KEY", "ROWS"], &rows)
        ));
    }
    if !shown.outcome.null_values.is_empty() {
        let row = |null: &NullValues| [null.column.clone(), null.values.to_string()];
        let rows: Vec<_> = shown.outcome.null_values.iter().map(row).collect();
        parts.push(format!(
            "did not fit and became NULL:\n{}",
            table(["COLUMN", "VALUES"], &rows)
        ));
    }
    if !shown.outcome.unknown_keys.is_empty() {
        let row = |one: &UnknownKey| [one.key.clone(), one.count.to_string()];
        let rows: Vec<_> = shown.outcome.unknown_keys.iter().map(row).collect();
        parts.push(format!(
            "keys that no column has:\n{}",
            table(["KEY", "TIMES"], &rows)
        ));
    }
    parts.join("\n\n")
}

/// Shard, sequence number, reason and payload of would-be dead letters.
fn bad(shown: &Shown) -> impl Iterator<Item = (String, String, String, &[u8])> {
    shown.outcome.bad.iter().filter_map(|bad| {
        let (shard, record) = shown.sample.records.get(bad.index)?;
        Some((
            shard.to_string(),
            record.sequence.to_string(),
            bad.reason.clone(),
            &record.data[..],
        ))
    })
}

fn rows_out(outcome: &Outcome) -> usize {
    outcome.batches.iter().map(RecordBatch::num_rows).sum()
}

fn summary(shown: &Shown) -> String {
    let Shown {
        sample,
        outcome,
        shards,
        read,
        ..
    } = shown;
    let short = if sample.cut_short {
        "; the time was over before there were more (--timeout)"
    } else {
        ""
    };
    let rejected = match outcome.rejected.len() {
        0 => String::new(),
        rows => format!(", {rows} rejected"),
    };
    let whole = match shown.whole_window {
        true => "\nthe query needs whole windows: these are figures of the sample, not of a window",
        false => "",
    };
    format!(
        "{} of {read} of {}: {} out, {} dead, {} unmatched{rejected}{short}; nothing was written{whole}",
        count(sample.records.len(), "record"),
        count(shards, "shard"),
        count(rows_out(outcome), "row"),
        outcome.bad.len(),
        outcome.unmatched
    )
}

/// The rows as JSON objects; nulls are written explicitly.
fn json_rows(outcome: &Outcome) -> Result<Vec<Value>, arrow::error::ArrowError> {
    let mut text = Vec::new();
    for batch in &outcome.batches {
        written::json::write_lines(batch, PREVIEW_TEXT, true, &mut text)?;
    }
    let rows = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice);
    rows.collect::<Result<_, _>>()
        .map_err(|error| arrow::error::ArrowError::JsonError(error.to_string()))
}

fn as_json(shown: &Shown, rows: Vec<Value>) -> Value {
    let column = |field: &arrow::datatypes::FieldRef| json!({"name": field.name(), "type": field.data_type().to_string()});
    let letter = |(shard, sequence, reason, payload): (String, String, String, &[u8])| {
        let mut json = json!({"shard": shard, "sequence_number": sequence, "reason": reason});
        match std::str::from_utf8(payload) {
            Ok(text) => json["payload"] = text.into(),
            Err(_) => json["payload_base64"] = STANDARD.encode(payload).into(),
        }
        json
    };
    let outcome = &shown.outcome;
    let key = |key: &streamctl_proto::report::UnmatchedKey| json!({"lookup": key.lookup, "key": key.key, "rows": key.rows});
    let nulls = |one: &NullValues| json!({"column": one.column, "values": one.values});
    let unknown = |one: &UnknownKey| json!({"key": one.key, "count": one.count});
    json!({
        "job": shown.job, "shards": shown.shards, "shards_read": shown.read, "cut_short": shown.sample.cut_short,
        "records": shown.sample.records.len(), "whole_window": shown.whole_window,
        "columns": outcome.schema.fields().iter().map(column).collect::<Vec<_>>(), "rows": rows,
        "dead_letters": bad(shown).map(letter).collect::<Vec<_>>(),
        "rows_rejected": outcome.rejected.len(),
        "rejected": outcome.rejected,
        "rows_unmatched": outcome.unmatched,
        "unmatched": outcome.unmatched_keys.iter().map(key).collect::<Vec<_>>(),
        "null_values": outcome.null_values.iter().map(nulls).collect::<Vec<_>>(),
        "unknown_keys": outcome.unknown_keys.iter().map(unknown).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::explain::tests::{generated, nowhere};
    use super::*;
    use crate::output::Format;
    use crate::output::tests::captured;
    use std::path::Path;

    async fn preview(file: PathBuf, records: u64, format: Format) -> (String, String) {
        let (mut out, data, notes) = captured(format);
        let args = PreviewArgs {
            file,
            records,
            from: None,
            timeout: Duration::from_secs(20),
        };
        run(&args, nowhere(), &mut out).await.unwrap();
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
        let (text, _) = preview(file.clone(), 150, Format::Json).await;
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
        let (text, notes) = preview(file, 5, Format::Table).await;
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
        let (text, _) = preview(file, 20, Format::Json).await;
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
