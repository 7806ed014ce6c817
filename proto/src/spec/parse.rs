//! From the text of a job file to a checked [`JobSpec`].
//!
//! Owns: the tables of a job file except `[source]`, their defaults and limits. Does not own: how a value is read
//! (`raw`), the source (`source`).
//! Rule: every problem is found in one go; a [`JobSpec`] is made only when there is none.

use super::location::{self, Named};
use super::raw::{Entry, Log, Table};
use super::source;
use super::text::{duration_text, parse_bytes, parse_duration};
use super::{
    Compression, JobSpec, Location, LookupFormat, LookupSpec, PartitionColumn, Problem, Problems, SinkFormat, SinkSpec,
};
use crate::{JobName, WindowSize};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use toml::de::DeValue;

/// Longest job file: it travels in one message and is kept in one key of the store.
pub const JOB_FILE_BYTES_MAX: usize = 1 << 20;
/// Most lookups of one job.
pub const LOOKUPS_MAX: usize = 64;
/// Most partition columns.
pub const PARTITION_COLUMNS_MAX: usize = 16;

const WINDOW_SIZES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
const REFRESHES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const REFRESH_DEFAULT: Duration = Duration::from_secs(60);
const LOOKUP_SIZE_DEFAULT: u64 = 256 << 20;
const TARGET_SIZE_DEFAULT: u64 = 128 << 20;
const TARGET_SIZE_MIN: u64 = 1 << 20;
const RETRIES_DEFAULT: u32 = 3;
const RETRIES_MAX: u32 = 100;

impl JobSpec {
    /// Reads and checks a job file; says everything that is wrong with it, not just the first thing.
    /// Relative paths are refused: a cluster has no folder to take them from.
    pub fn parse(text: &str) -> Result<JobSpec, Problems> {
        parse(text, None)
    }

    /// The same; relative paths are taken from `base_dir`, which must be absolute.
    pub fn parse_in(text: &str, base_dir: &Path) -> Result<JobSpec, Problems> {
        parse(text, Some(base_dir))
    }
}

/// The line of a key in a job file, from 1: what is found out later, by asking the world, is told with its line too.
/// `field` is in dots; of several tables of one name (`lookup`) the first that has it counts.
pub fn line_of(text: &str, field: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (mut table, mut found) = (document.get_ref(), None);
    for part in field.split('.') {
        let (key, value) = table.get_key_value(part)?;
        found = Some(Log::new(text).line(&key.span()));
        let value = match value.get_ref() {
            DeValue::Array(values) => values.iter().next()?.get_ref(),
            other => other,
        };
        let DeValue::Table(inner) = value else { break };
        table = inner;
    }
    found
}

fn parse(text: &str, base_dir: Option<&Path>) -> Result<JobSpec, Problems> {
    let log = Log::new(text);
    if text.len() > JOB_FILE_BYTES_MAX {
        log.add(
            None,
            "",
            format_args!("the job file has {} bytes, at most {JOB_FILE_BYTES_MAX} are read", text.len()),
            None,
        );
        return Err(Problems(log.into_problems()));
    }
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    for error in &errors {
        log.add(error.span().map(|span| log.line(&span)), "", format_args!("not TOML: {}", error.message()), None);
    }
    let spec = if errors.is_empty() { job(Table::root(&log, document.get_ref()), base_dir) } else { None };
    let problems = log.into_problems();
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ if problems.is_empty() => {
            let message = "can not be read, and nothing says why: this is a defect of streamctl".to_owned();
            Err(Problems(vec![Problem { line: None, field: String::new(), message, hint: None }]))
        }
        _ => Err(Problems(problems)),
    }
}

fn job(mut root: Table<'_>, base_dir: Option<&Path>) -> Option<JobSpec> {
    let mut places = Vec::new();
    let name = root.require("name", "for example name = \"sales-by-country\"").and_then(|entry| name(&entry));
    let source = required_table(&mut root, "source", "add a table [source] with type = \"kinesis\"");
    let source = source.and_then(|table| source::source(table, base_dir, &mut places));
    let window = required_table(&mut root, "window", "add a table [window] with size = \"60s\"").and_then(window);
    let lookups = match root.get("lookup") {
        Some(entry) => lookups(&entry, base_dir, &mut places),
        None => Some(Vec::new()),
    };
    let sql = required_table(&mut root, "transform", "add a table [transform] with sql = \"SELECT * FROM source\"");
    let sql = sql.and_then(transform);
    let sink = required_table(&mut root, "sink", "add a table [sink] with path = \"s3://my-bucket/output/\"");
    let sink = sink.and_then(|table| sink_table(table, base_dir, &mut places));
    let dead_letter = match root.get("dead_letter").map(|entry| entry.table()) {
        Some(table) => written_folder(table?, "path", base_dir, &mut places).map(Some),
        None => Some(None),
    };
    let checkpoint = required_table(
        &mut root,
        "checkpoint",
        "add a table [checkpoint] with location = \"s3://my-bucket/checkpoint/\"",
    );
    let checkpoint = checkpoint.and_then(|table| written_folder(table, "location", base_dir, &mut places));
    let retries_max = match root.get("retry").map(|entry| entry.table()) {
        Some(table) => retry(table?),
        None => Some(RETRIES_DEFAULT),
    };
    root.finish(|_| None);
    location::refuse_overlaps(&places);
    Some(JobSpec {
        name: name?,
        source: source?,
        window: window?,
        lookups: lookups?,
        sql: sql?,
        sink: sink?,
        dead_letter: dead_letter?,
        checkpoint: checkpoint?,
        retries_max: retries_max?,
    })
}

fn required_table<'a>(root: &mut Table<'a>, key: &'static str, example: &str) -> Option<Table<'a>> {
    root.require(key, example)?.table()
}

fn name(entry: &Entry<'_>) -> Option<JobName> {
    let text = entry.text("for example \"sales-by-country\"")?;
    text.parse().map_err(|error| entry.refuse(error, "for example \"sales-by-country\"")).ok()
}

fn window(mut table: Table<'_>) -> Option<WindowSize> {
    let size = table.require("size", "for example size = \"60s\"").and_then(|entry| duration_in(&entry, WINDOW_SIZES));
    table.finish(|_| None);
    WindowSize::from_ms(i64::try_from(size?.as_millis()).ok()?)
}

fn transform(mut table: Table<'_>) -> Option<String> {
    let example = "for example sql = \"SELECT * FROM source\"";
    let sql = table.require("sql", example).and_then(|entry| entry.text(example));
    table.finish(|_| None);
    sql.map(str::to_owned)
}

fn retry(mut table: Table<'_>) -> Option<u32> {
    let max = match table.get("max") {
        Some(entry) => entry.integer(0..u64::from(RETRIES_MAX) + 1),
        None => Some(u64::from(RETRIES_DEFAULT)),
    };
    table.finish(|_| None);
    u32::try_from(max?).ok()
}

fn written_folder<'a>(
    mut table: Table<'a>,
    key: &'static str,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<Location> {
    let entry = table.require(key, &format!("for example {key} = \"s3://my-bucket/some/prefix/\""));
    table.finish(|_| None);
    let entry = entry?;
    let place = location::folder(&entry, base_dir)?;
    places.push(Named { entry, place: place.clone(), written: true });
    Some(place)
}

fn lookups<'a>(entry: &Entry<'a>, base_dir: Option<&Path>, places: &mut Vec<Named<'a>>) -> Option<Vec<LookupSpec>> {
    let elements = entry.elements("begin each lookup with [[lookup]], in double brackets")?;
    if elements.len() > LOOKUPS_MAX {
        entry.refuse(format_args!("there are {} lookups, at most {LOOKUPS_MAX} are possible", elements.len()), "");
        return None;
    }
    let mut names: Vec<String> = vec!["source".to_owned()];
    let read =
        elements.iter().map(|element| lookup(element.table()?, base_dir, places, &mut names)).collect::<Vec<_>>();
    read.into_iter().collect()
}

fn lookup<'a>(
    mut table: Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
    names: &mut Vec<String>,
) -> Option<LookupSpec> {
    let name =
        table.require("name", "for example name = \"country_lookup\"").and_then(|entry| lookup_name(&entry, names));
    let path = table.require("path", "for example path = \"s3://my-bucket/country_lookup/\"");
    let path = path.and_then(|entry| {
        let place = location::input_folder(&entry, base_dir)?;
        places.push(Named { entry, place: place.clone(), written: false });
        Some(place)
    });
    let format = match table.get("format") {
        Some(entry) => entry.choice(&[("csv", LookupFormat::Csv), ("parquet", LookupFormat::Parquet)]),
        None => Some(LookupFormat::Csv),
    };
    let refresh = match table.get("refresh") {
        Some(entry) => duration_in(&entry, REFRESHES),
        None => Some(REFRESH_DEFAULT),
    };
    let size_max = bytes(&mut table, "size_max", LOOKUP_SIZE_DEFAULT, 1);
    table.finish(|_| None);
    Some(LookupSpec { name: name?, path: path?, format: format?, refresh: refresh?, size_max: size_max? })
}

fn lookup_name(entry: &Entry<'_>, names: &mut Vec<String>) -> Option<String> {
    let text = entry.text("")?;
    let mut chars = text.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        entry.refuse(
            format_args!("{text:?} is not a name that SQL knows without quotes"),
            "letters, digits and `_`; no digit first",
        );
        return None;
    }
    if names.iter().any(|name| name.eq_ignore_ascii_case(text)) {
        let holder = if text.eq_ignore_ascii_case("source") { "the stream's records" } else { "another lookup" };
        entry.refuse(format_args!("{text:?} is already the name of {holder}"), "give it another name");
        return None;
    }
    names.push(text.to_owned());
    Some(text.to_owned())
}

fn sink_table<'a>(mut table: Table<'a>, base_dir: Option<&Path>, places: &mut Vec<Named<'a>>) -> Option<SinkSpec> {
    let path = table.require("path", "for example path = \"s3://my-bucket/output/\"");
    let path = path.and_then(|entry| {
        let place = location::folder(&entry, base_dir)?;
        places.push(Named { entry, place: place.clone(), written: true });
        Some(place)
    });
    let formats = [("parquet", SinkFormat::Parquet), ("json", SinkFormat::Json), ("csv", SinkFormat::Csv)];
    let format = match table.get("format") {
        Some(entry) => entry.choice(&formats),
        None => Some(SinkFormat::Parquet),
    };
    let compression = compression(&mut table, format);
    let partition_by = match table.get("partition_by") {
        Some(entry) => partition_by(&entry),
        None => Some(Vec::new()),
    };
    let target_size = bytes(&mut table, "target_size", TARGET_SIZE_DEFAULT, TARGET_SIZE_MIN);
    table.finish(|_| None);
    Some(SinkSpec {
        path: path?,
        format: format?,
        compression: compression?,
        partition_by: partition_by?,
        target_size: target_size?,
    })
}

fn compression(table: &mut Table<'_>, format: Option<SinkFormat>) -> Option<Compression> {
    let words = [
        ("none", Compression::None),
        ("snappy", Compression::Snappy),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ];
    let Some(entry) = table.get("compression") else {
        return Some(if format == Some(SinkFormat::Parquet) { Compression::Snappy } else { Compression::None });
    };
    let compression = entry.choice(&words)?;
    if compression == Compression::Snappy && format.is_some_and(|format| format != SinkFormat::Parquet) {
        entry.refuse("snappy is for format = \"parquet\" only", "use \"gzip\" or \"zstd\"");
    }
    Some(compression)
}

fn partition_by(entry: &Entry<'_>) -> Option<Vec<PartitionColumn>> {
    let elements = entry.elements("for example [\"ingest_year\", \"ingest_month\"]")?;
    if elements.len() > PARTITION_COLUMNS_MAX {
        entry.refuse(format_args!("has {} columns, at most {PARTITION_COLUMNS_MAX} are possible", elements.len()), "");
    }
    let mut columns = Vec::new();
    for element in elements {
        let example = "a column of the result, or ingest_year, ingest_month, ingest_day, ingest_hour";
        let Some(text) = element.text(example) else { continue };
        let column = match text {
            "ingest_year" => PartitionColumn::IngestYear,
            "ingest_month" => PartitionColumn::IngestMonth,
            "ingest_day" => PartitionColumn::IngestDay,
            "ingest_hour" => PartitionColumn::IngestHour,
            name if name.contains(['/', '=']) || name.chars().any(char::is_control) => {
                element
                    .refuse(format_args!("{name:?} can not name a folder"), "rename the column in the query with AS");
                continue;
            }
            name => PartitionColumn::Column(name.to_owned()),
        };
        if columns.contains(&column) {
            element.refuse("is there twice", "remove one");
        }
        columns.push(column);
    }
    Some(columns)
}

fn bytes(table: &mut Table<'_>, key: &'static str, default: u64, least: u64) -> Option<u64> {
    let Some(entry) = table.get(key) else { return Some(default) };
    let text = entry.text("for example \"256MiB\"")?;
    let Some(size) = parse_bytes(text) else {
        entry.refuse(format_args!("{text:?} is not a size"), "a whole number and a unit: \"64MiB\", \"1GB\"");
        return None;
    };
    if size < least {
        entry.refuse(format_args!("{text} is less than {least} bytes"), "");
    }
    Some(size)
}

/// A duration between two others, both allowed.
pub(super) fn duration_in(entry: &Entry<'_>, range: RangeInclusive<Duration>) -> Option<Duration> {
    let text = entry.text("a duration such as \"60s\"")?;
    let Some(duration) = parse_duration(text) else {
        entry.refuse(
            format_args!("{text:?} is not a duration"),
            "a whole number and a unit: \"500ms\", \"60s\", \"1m\", \"2h\", \"1d\"",
        );
        return None;
    };
    if !range.contains(&duration) {
        let (least, most) = (duration_text(*range.start()), duration_text(*range.end()));
        entry.refuse(format_args!("{text} is out of range: {least} to {most}"), "");
        return None;
    }
    Some(duration)
}
