//! The `[source]` table of a job file.
//!
//! Owns: which keys belong to which type of source, and where the columns come from.
//! Rule: a key of another type is refused with its place, not ignored.

use super::location::{self, Named};
use super::parse::duration_in;
use super::raw::{Entry, Table, nearest_hint};
use super::{
    OnDataLoss, POLL_INTERVAL_MIN, PayloadCompression, RecordFormat, SchemaFrom, SourceKind, SourceSpec,
    StartingPosition,
};
use crate::resolved::ColumnType;
use std::path::Path;
use std::time::Duration;

/// Records that the service gives per call, at most; also the default.
pub const RECORDS_PER_READ_MAX: u32 = 10_000;
/// Shards of a generator, at most.
pub const GENERATOR_SHARDS_MAX: u32 = 10_000;
/// Records per second of a generator, at most.
pub const GENERATOR_RATE_MAX: f64 = 10_000_000.0;

const POLL_INTERVAL_DEFAULT: Duration = Duration::from_millis(250);
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(60);

const KINESIS_KEYS: [&str; 10] = [
    "stream",
    "arn",
    "endpoint",
    "region",
    "role_arn",
    "session_name",
    "poll_interval",
    "max_records_per_read",
    "compression",
    "starting_position",
];
const FILES_KEYS: [&str; 3] = ["path", "format", "arrival_time"];
const GENERATOR_KEYS: [&str; 6] = ["seed", "shards", "rate", "records_per_shard", "bad_every", "unmatched_every"];

const HIVE_TYPES: [&str; 19] = [
    "string",
    "varchar",
    "char",
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "integer",
    "bigint",
    "float",
    "double",
    "real",
    "decimal",
    "date",
    "timestamp",
    "binary",
    "array",
    "map",
    "struct",
];

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Kinesis,
    Files,
    Generator,
}

/// Reads the table; a folder that is read goes to `places` as well.
pub(super) fn source<'a>(
    mut table: Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<SourceSpec> {
    let types = [("kinesis", Type::Kinesis), ("files", Type::Files), ("generator", Type::Generator)];
    let kind = table.require("type", "for example type = \"kinesis\"; also: files, generator")?.choice(&types)?;
    let schema = schema(&mut table, base_dir, kind);
    let on_data_loss = match table.get("on_data_loss") {
        Some(entry) => entry.choice(&[("fail", OnDataLoss::Fail), ("continue", OnDataLoss::Continue)]),
        None => Some(OnDataLoss::Fail),
    };
    let starting_position = match kind {
        Type::Kinesis => match table.get("starting_position") {
            Some(entry) => starting_position(&entry),
            None => Some(StartingPosition::Latest),
        },
        Type::Files | Type::Generator => Some(StartingPosition::TrimHorizon),
    };
    let kind = match kind {
        Type::Kinesis => kinesis(&mut table),
        Type::Files => files(&mut table, base_dir, places),
        Type::Generator => generator(&mut table),
    };
    table.finish(belongs_elsewhere);
    Some(SourceSpec {
        kind: kind?,
        schema: schema?,
        starting_position: starting_position?,
        on_data_loss: on_data_loss?,
    })
}

fn belongs_elsewhere(key: &str) -> Option<String> {
    if ["secret", "access_key", "password", "token"].iter().any(|word| key.contains(word)) {
        return Some("credentials come from the environment of controller and workers, or from role_arn".to_owned());
    }
    let types = [
        ("kinesis", KINESIS_KEYS.as_slice()),
        ("files", FILES_KEYS.as_slice()),
        ("generator", GENERATOR_KEYS.as_slice()),
    ];
    let (name, _) = types.iter().find(|(_, keys)| keys.contains(&key))?;
    Some(format!("it is a key of type = {name:?}"))
}

fn optional_text(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    Some(table.get(key)?.text("")?.to_owned())
}

fn kinesis(table: &mut Table<'_>) -> Option<SourceKind> {
    let tables = ["catalog", "schema_file"].map(|key| table.has(key)).contains(&true);
    let named = ["stream", "arn"].map(|key| table.has(key)).contains(&true);
    if !tables && !named {
        table
            .refuse("says neither which stream to read nor which catalog table names it", "add stream = \"my-stream\"");
    }
    if let Some(entry) = table.get("arn")
        && let Some(arn) = entry.text("")
        && (!arn.starts_with("arn:") || !arn.contains(":stream/"))
    {
        entry.refuse(
            format_args!("{arn:?} is not the ARN of a stream"),
            "arn:aws:kinesis:eu-central-1:123456789012:stream/my-stream",
        );
    }
    if let Some(entry) = table.get("endpoint")
        && let Some(url) = entry.text("")
        && url.contains('@')
    {
        // Not shown: it would be logged with the job.
        entry.refuse(
            "holds a name or a password: a job file is stored and shown, and holds no secret",
            "take it out; credentials are those of the programs, or of a role (role_arn)",
        );
    } else if let Some(entry) = table.get("endpoint")
        && let Some(url) = entry.text("")
        && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
    {
        entry.refuse(
            format_args!("{url:?} is not an address"),
            "for example \"https://kinesis.eu-central-1.amazonaws.com\"",
        );
    }
    let poll_interval = match table.get("poll_interval") {
        Some(entry) => duration_in(&entry, POLL_INTERVAL_MIN..=POLL_INTERVAL_MAX),
        None => Some(POLL_INTERVAL_DEFAULT),
    };
    let max_records_per_read = match table.get("max_records_per_read") {
        Some(entry) => entry.integer(1..u64::from(RECORDS_PER_READ_MAX) + 1),
        None => Some(u64::from(RECORDS_PER_READ_MAX)),
    };
    let compression = match table.get("compression") {
        Some(entry) => entry.choice(&[("none", PayloadCompression::None), ("auto", PayloadCompression::Auto)]),
        None => Some(PayloadCompression::None),
    };
    let [stream, arn, endpoint, region, role_arn, session_name] =
        ["stream", "arn", "endpoint", "region", "role_arn", "session_name"].map(|key| optional_text(table, key));
    Some(SourceKind::Kinesis {
        stream,
        arn,
        endpoint,
        region,
        role_arn,
        session_name,
        poll_interval: poll_interval?,
        max_records_per_read: u32::try_from(max_records_per_read?).ok()?,
        compression: compression?,
    })
}

fn files<'a>(table: &mut Table<'a>, base_dir: Option<&Path>, places: &mut Vec<Named<'a>>) -> Option<SourceKind> {
    let path = table.require("path", "for example path = \"s3://my-bucket/events/\"");
    let path = path.and_then(|entry| {
        let place = location::input_folder(&entry, base_dir)?;
        places.push(Named { entry, place: place.clone(), written: false });
        Some(place)
    });
    let formats = [("json", RecordFormat::Json), ("csv", RecordFormat::Csv)];
    let format =
        table.require("format", "for example format = \"json\"; also: csv").and_then(|entry| entry.choice(&formats));
    let arrival_time = optional_text(table, "arrival_time");
    Some(SourceKind::Files { path: path?, format: format?, arrival_time })
}

fn generator(table: &mut Table<'_>) -> Option<SourceKind> {
    let mut count = |key, default, range: std::ops::Range<u64>| match table.get(key) {
        Some(entry) => entry.integer(range),
        None => Some(default),
    };
    let any = 0..i64::MAX as u64;
    let seed = count("seed", 1, any.clone());
    let shards = count("shards", 2, 1..u64::from(GENERATOR_SHARDS_MAX) + 1);
    let (bad_every, unmatched_every) = (count("bad_every", 0, any.clone()), count("unmatched_every", 0, any.clone()));
    let records_per_shard = table.get("records_per_shard").map(|entry| entry.integer(1..i64::MAX as u64));
    let rate = match table.get("rate") {
        Some(entry) => entry.number().filter(|rate| {
            let good = *rate > 0.0 && *rate <= GENERATOR_RATE_MAX;
            if !good {
                entry.refuse(
                    format_args!("{rate} is out of range: above 0, up to {GENERATOR_RATE_MAX} records a second"),
                    "",
                );
            }
            good
        }),
        None => Some(100.0),
    };
    Some(SourceKind::Generator {
        seed: seed?,
        shards: u32::try_from(shards?).ok()?,
        rate: rate?,
        records_per_shard: match records_per_shard {
            Some(records) => Some(records?),
            None => None,
        },
        bad_every: bad_every?,
        unmatched_every: unmatched_every?,
    })
}

fn starting_position(entry: &Entry<'_>) -> Option<StartingPosition> {
    let example = "one of \"latest\", \"trim_horizon\", or a time such as \"2026-11-24T00:00:00Z\"";
    let text = entry.text_or_time(example)?;
    match text.as_str() {
        "latest" => return Some(StartingPosition::Latest),
        "trim_horizon" => return Some(StartingPosition::TrimHorizon),
        _ => {}
    }
    match chrono::DateTime::parse_from_rfc3339(&text) {
        Ok(time) => Some(StartingPosition::Timestamp(time.timestamp_millis())),
        Err(_) => {
            let likely = nearest_hint(&text, &["latest", "trim_horizon"]);
            let hint = if likely.is_empty() { example.to_owned() } else { likely };
            entry.refuse(format_args!("{text:?} is neither a known position nor a time with its zone"), hint);
            None
        }
    }
}

fn schema(table: &mut Table<'_>, base_dir: Option<&Path>, kind: Type) -> Option<SchemaFrom> {
    let entries = ["catalog", "schema_file", "schema"].map(|key| table.get(key));
    if let Some(second) = entries.iter().flatten().nth(1) {
        second.refuse(
            "the columns are already described by another key",
            "keep one of catalog, schema_file, [source.schema]",
        );
        return None;
    }
    match entries {
        [Some(catalog), _, _] => catalog_table(catalog.table()?),
        [_, Some(file), _] => location::file(&file, base_dir).map(SchemaFrom::File),
        [_, _, Some(schema)] => inline(&schema.table()?),
        [None, None, None] if kind == Type::Generator => Some(SchemaFrom::BuiltIn),
        [None, None, None] => {
            table.refuse(
                "does not say which columns the records have",
                "add catalog = { database = \"...\", table = \"...\" }, or a table [source.schema] with column = \"type\"",
            );
            None
        }
    }
}

fn catalog_table(mut table: Table<'_>) -> Option<SchemaFrom> {
    let database = table.require("database", "for example database = \"my_database\"").and_then(|entry| entry.text(""));
    let name = table.require("table", "for example table = \"my_table\"").and_then(|entry| entry.text(""));
    let (catalog_id, region) = (optional_text(&mut table, "catalog_id"), optional_text(&mut table, "region"));
    table.finish(|_| None);
    Some(SchemaFrom::Catalog { catalog_id, database: database?.to_owned(), table: name?.to_owned(), region })
}

fn inline(table: &Table<'_>) -> Option<SchemaFrom> {
    let mut columns: Vec<ColumnType> = Vec::new();
    let mut good = true;
    for (name, entry) in table.all() {
        if let Some(first) = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)) {
            entry.refuse(format_args!("is there already, as {:?}; case makes no difference", first.name), "remove one");
        }
        match column_type(&entry) {
            Some(type_name) => columns.push(ColumnType { name: name.to_owned(), type_name }),
            None => good = false,
        }
    }
    if good && columns.is_empty() {
        table.refuse("has no column", "add lines such as uuid = \"string\"");
    }
    good.then_some(SchemaFrom::Inline(columns))
}

fn column_type(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("a Hive type such as \"string\", \"bigint\", \"decimal(10,2)\", \"timestamp\"")?;
    let lower = text.trim().to_lowercase();
    let base = lower.split(['(', '<']).next().unwrap_or_default().trim();
    if HIVE_TYPES.contains(&base) {
        return Some(lower);
    }
    let likely = nearest_hint(base, &HIVE_TYPES);
    let hint = if likely.is_empty() { format!("known types: {}", HIVE_TYPES.join(", ")) } else { likely };
    entry.refuse(format_args!("{text:?} is not a Hive type"), hint);
    None
}
