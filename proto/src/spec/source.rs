//! The `[source]` table of a job file.
//!
//! Owns: what one key of it means for another, and where the columns come from. Does not own: keys,
//! limits and defaults (`keys`).
//! Rule: a key of another type is refused with its place, not ignored.

use super::key::{Kind, Read};
use super::keys;
use super::location::{self, Named};
use super::raw::{Entry, Table, nearest_hint};
use super::{SchemaFrom, SourceKind, SourceSpec, StartingPosition};
use crate::resolved::ColumnType;
use std::path::Path;

/// Records that the service gives per call, at most; also the default.
pub const RECORDS_PER_READ_MAX: u32 = 10_000;
/// Shards of a generator, at most.
pub const GENERATOR_SHARDS_MAX: u32 = 10_000;
/// Records per second of a generator, at most.
pub const GENERATOR_RATE_MAX: f64 = 10_000_000.0;

/// Types that a column may have.
pub(super) const HIVE_TYPES: [&str; 19] = [
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

/// What kind of source; further keys depend on it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Type {
    Kinesis,
    Files,
    Generator,
}

/// The ARN of a stream.
pub(super) struct Arn;
pub(super) struct Address;
/// A place in time to begin at.
pub(super) struct Start;

/// Reads the table; a folder that is read goes to `places` as well.
pub(super) fn source<'a>(
    mut table: Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<SourceSpec> {
    let kind = table.value(&keys::TYPE)?;
    let schema = schema(&mut table, base_dir, kind);
    let on_data_loss = table.value(&keys::ON_DATA_LOSS);
    let starting_position = match kind {
        Type::Kinesis => table.value(&keys::STARTING_POSITION),
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
    if ["secret", "access_key", "password", "token"]
        .iter()
        .any(|word| key.contains(word))
    {
        return Some(
            "credentials come from the environment of controller and workers, or from role_arn"
                .to_owned(),
        );
    }
    let types = [
        ("kinesis", &keys::KINESIS),
        ("files", &keys::FILES),
        ("generator", &keys::GENERATOR),
    ];
    let (name, _) = types.iter().find(|(_, part)| part.has(key))?;
    Some(format!("it is a key of type = {name:?}"))
}

fn kinesis(table: &mut Table<'_>) -> Option<SourceKind> {
    let tables = [keys::CATALOG_KEY.name, keys::SCHEMA_FILE.name]
        .map(|key| table.has(key))
        .contains(&true);
    let named = [keys::STREAM.name, keys::ARN.name]
        .map(|key| table.has(key))
        .contains(&true);
    if !tables && !named {
        table.refuse(
            "says neither which stream to read nor which catalog table names it",
            "add stream = \"my-stream\"",
        );
    }
    let stream = table.optional(&keys::STREAM);
    let arn = table.optional(&keys::ARN);
    let endpoint = table.optional(&keys::ENDPOINT);
    let region = table.optional(&keys::REGION);
    let role_arn = table.optional(&keys::ROLE_ARN);
    let session_name = table.optional(&keys::SESSION_NAME);
    let poll_interval = table.value(&keys::POLL_INTERVAL);
    let max_records_per_read = table.value(&keys::MAX_RECORDS_PER_READ);
    let compression = table.value(&keys::PAYLOAD_COMPRESSION);
    let grace = table.value(&keys::GRACE);
    Some(SourceKind::Kinesis {
        stream: stream?,
        arn: arn?,
        endpoint: endpoint?,
        region: region?,
        role_arn: role_arn?,
        session_name: session_name?,
        poll_interval: poll_interval?,
        max_records_per_read: u32::try_from(max_records_per_read?).ok()?,
        compression: compression?,
        grace: grace?,
    })
}

fn files<'a>(
    table: &mut Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<SourceKind> {
    let path = table.entry(&keys::FILES_PATH).and_then(|entry| {
        let place = location::input_folder(&entry, base_dir)?;
        places.push(Named {
            entry,
            place: place.clone(),
            written: false,
        });
        Some(place)
    });
    let format = table.value(&keys::FILES_FORMAT);
    let arrival_time = table.optional(&keys::ARRIVAL_TIME);
    Some(SourceKind::Files {
        path: path?,
        format: format?,
        arrival_time: arrival_time?,
    })
}

fn generator(table: &mut Table<'_>) -> Option<SourceKind> {
    let seed = table.value(&keys::SEED);
    let shards = table.value(&keys::SHARDS);
    let rate = table.value(&keys::RATE);
    let records_per_shard = table.optional(&keys::RECORDS_PER_SHARD);
    let bad_every = table.value(&keys::BAD_EVERY);
    let unmatched_every = table.value(&keys::UNMATCHED_EVERY);
    Some(SourceKind::Generator {
        seed: seed?,
        shards: u32::try_from(shards?).ok()?,
        rate: rate?,
        records_per_shard: records_per_shard?,
        bad_every: bad_every?,
        unmatched_every: unmatched_every?,
    })
}

impl Kind for Arn {
    type Value = String;
    fn words(&self) -> String {
        "the ARN of a stream".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for Arn {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        let arn = entry.text("")?;
        let good = arn.starts_with("arn:") && arn.contains(":stream/");
        if !good {
            let example = "arn:aws:kinesis:eu-central-1:123456789012:stream/my-stream";
            entry.refuse(format_args!("{arn:?} is not the ARN of a stream"), example);
        }
        good.then(|| arn.to_owned())
    }
}

impl Kind for Address {
    type Value = String;
    fn words(&self) -> String {
        "an address with `http://` or `https://`".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for Address {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        let url = entry.text("")?;
        if url.contains('@') {
            // Not shown: it would be logged with the job.
            let hint =
                "take it out; credentials are those of the programs, or of a role (role_arn)";
            entry.refuse(
                "holds a name or a password: a job file is stored and shown, and holds no secret",
                hint,
            );
            return None;
        }
        let good = ["http://", "https://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !good {
            let example = "for example \"https://kinesis.eu-central-1.amazonaws.com\"";
            entry.refuse(format_args!("{url:?} is not an address"), example);
        }
        good.then(|| url.to_owned())
    }
}

impl Kind for Start {
    type Value = StartingPosition;
    fn words(&self) -> String {
        "`latest`, `trim_horizon`, or a time with its zone such as `2026-11-24T00:00:00Z`"
            .to_owned()
    }
    fn shown(&self, value: &StartingPosition) -> String {
        match value {
            StartingPosition::Latest => "latest".to_owned(),
            StartingPosition::TrimHorizon => "trim_horizon".to_owned(),
            StartingPosition::Timestamp(ms) => chrono::DateTime::from_timestamp_millis(*ms)
                .map_or_else(String::new, |time| time.to_rfc3339()),
        }
    }
}

impl Read for Start {
    fn read(&self, entry: &Entry<'_>) -> Option<StartingPosition> {
        let example =
            "one of \"latest\", \"trim_horizon\", or a time such as \"2026-11-24T00:00:00Z\"";
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
                let hint = if likely.is_empty() {
                    example.to_owned()
                } else {
                    likely
                };
                entry.refuse(
                    format_args!("{text:?} is neither a known position nor a time with its zone"),
                    hint,
                );
                None
            }
        }
    }
}

fn schema(table: &mut Table<'_>, base_dir: Option<&Path>, kind: Type) -> Option<SchemaFrom> {
    let entries =
        [&keys::CATALOG_KEY, &keys::SCHEMA_FILE, &keys::SCHEMA_KEY].map(|key| table.entry(key));
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
    let database = table.value(&keys::DATABASE);
    let name = table.value(&keys::CATALOG_TABLE);
    let catalog_id = table.optional(&keys::CATALOG_ID);
    let region = table.optional(&keys::CATALOG_REGION);
    table.finish(|_| None);
    Some(SchemaFrom::Catalog {
        catalog_id: catalog_id?,
        database: database?,
        table: name?,
        region: region?,
    })
}

fn inline(table: &Table<'_>) -> Option<SchemaFrom> {
    let mut columns: Vec<ColumnType> = Vec::new();
    let mut good = true;
    for (name, entry) in table.all() {
        if let Some(first) = columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
        {
            entry.refuse(
                format_args!(
                    "is there already, as {:?}; case makes no difference",
                    first.name
                ),
                "remove one",
            );
        }
        match column_type(&entry) {
            Some(type_name) => columns.push(ColumnType {
                name: name.to_owned(),
                type_name,
            }),
            None => good = false,
        }
    }
    if good && columns.is_empty() {
        table.refuse("has no column", "add lines such as uuid = \"string\"");
    }
    good.then_some(SchemaFrom::Inline(columns))
}

fn column_type(entry: &Entry<'_>) -> Option<String> {
    let text = entry
        .text("a Hive type such as \"string\", \"bigint\", \"decimal(10,2)\", \"timestamp\"")?;
    let lower = text.trim().to_lowercase();
    let base = lower.split(['(', '<']).next().unwrap_or_default().trim();
    if HIVE_TYPES.contains(&base) {
        return Some(lower);
    }
    let likely = nearest_hint(base, &HIVE_TYPES);
    let hint = if likely.is_empty() {
        format!("known types: {}", HIVE_TYPES.join(", "))
    } else {
        likely
    };
    entry.refuse(format_args!("{text:?} is not a Hive type"), hint);
    None
}
