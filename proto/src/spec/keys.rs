//! Every key of a job file, once.
//!
//! Owns: names, limits, defaults, and the words about them. Does not own: checks over several keys
//! (`parse`, `source`).
//! Rule: the parser reads a key by what is declared here, and `docs/job-file.md` is made of it: a
//! key that is not here does not exist.

use super::key::{Absent, Key, Kind, Rate, Size, Span, Special, Text, WHOLE_MAX, Whole, Word};
use super::parse::{LOOKUPS_MAX, PARTITION_COLUMNS_MAX};
use super::reference::Described;
use super::source::{
    Address, Arn, GENERATOR_RATE_MAX, GENERATOR_SHARDS_MAX, HIVE_TYPES, RECORDS_PER_READ_MAX,
    Start, Type,
};
use super::{
    Compression, GRACE_DEFAULT, LookupFormat, OnDataLoss, POLL_INTERVAL_MIN, PayloadCompression,
    RecordFormat, SinkFormat, StartingPosition,
};
use crate::id::JOB_NAME_CHARS_MAX;
use std::time::Duration;

/// A table of a job file.
pub(super) struct Part {
    /// As it is begun in a file.
    pub title: &'static str,
    /// What it is for, in Markdown.
    pub about: &'static str,
    pub keys: &'static [&'static (dyn Described + Sync)],
}

impl Part {
    /// Whether a key of this name belongs to it.
    pub fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name() == name)
    }
}

/// All tables, in the order in which they are explained.
pub(super) static PARTS: [&Part; 14] = [
    &JOB,
    &SOURCE,
    &CATALOG,
    &SCHEMA,
    &KINESIS,
    &FILES,
    &GENERATOR,
    &WINDOW,
    &LOOKUP,
    &TRANSFORM,
    &SINK,
    &DEAD_LETTER,
    &CHECKPOINT,
    &RETRY,
];

const RETRIES_MAX: u64 = 100;
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(60);
const GRACE_MIN: Duration = Duration::from_millis(100);
const GRACE_MAX: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
const ANY: Whole = Whole {
    least: 0,
    most: WHOLE_MAX,
};

const fn key<K: Kind>(
    name: &'static str,
    kind: K,
    absent: Absent<K::Value>,
    about: &'static str,
) -> Key<K> {
    Key {
        name,
        kind,
        absent,
        about,
    }
}

fn folder() -> String {
    "a folder".to_owned()
}

fn table() -> String {
    "a table".to_owned()
}

pub(super) static NAME: Key<Special> = key(
    "name",
    Special(|| format!("1 to {JOB_NAME_CHARS_MAX} lower-case letters, digits and single dashes")),
    Absent::Refused("for example name = \"sales-by-country\""),
    "names the job everywhere",
);
pub(super) static SOURCE_TABLE: Key<Special> = key(
    "source",
    Special(table),
    Absent::Refused("add a table [source] with type = \"kinesis\""),
    "where records come from",
);
pub(super) static WINDOW_TABLE: Key<Special> = key(
    "window",
    Special(table),
    Absent::Refused("add a table [window] with size = \"60s\""),
    "how time is cut",
);
pub(super) static LOOKUPS: Key<Special> = key(
    "lookup",
    Special(|| format!("up to {LOOKUPS_MAX} tables, each begun with `[[lookup]]`")),
    Absent::Means("none"),
    "tables to join with",
);
pub(super) static TRANSFORM_TABLE: Key<Special> = key(
    "transform",
    Special(table),
    Absent::Refused("add a table [transform] with sql = \"SELECT * FROM source\""),
    "the query",
);
pub(super) static SINK_TABLE: Key<Special> = key(
    "sink",
    Special(table),
    Absent::Refused("add a table [sink] with path = \"s3://my-bucket/output/\""),
    "where results go",
);
pub(super) static DEAD_LETTER_TABLE: Key<Special> = key(
    "dead_letter",
    Special(table),
    Absent::Means("below the checkpoint"),
    "where records go that cannot be decoded",
);
pub(super) static CHECKPOINT_TABLE: Key<Special> = key(
    "checkpoint",
    Special(table),
    Absent::Refused("add a table [checkpoint] with location = \"s3://my-bucket/checkpoint/\""),
    "where manifests and lookup versions are kept",
);
pub(super) static RETRY_TABLE: Key<Special> = key(
    "retry",
    Special(table),
    Absent::Means("the defaults"),
    "when a failing job stops",
);
static JOB: Part = Part {
    title: "The job",
    about: "",
    keys: &[
        &NAME,
        &SOURCE_TABLE,
        &WINDOW_TABLE,
        &LOOKUPS,
        &TRANSFORM_TABLE,
        &SINK_TABLE,
        &DEAD_LETTER_TABLE,
        &CHECKPOINT_TABLE,
        &RETRY_TABLE,
    ],
};

pub(super) static TYPE: Key<Word<Type>> = key(
    "type",
    Word(&[
        ("kinesis", Type::Kinesis),
        ("files", Type::Files),
        ("generator", Type::Generator),
    ]),
    Absent::Refused("for example type = \"kinesis\"; also: files, generator"),
    "what kind of source; further keys depend on it",
);
pub(super) static CATALOG_KEY: Key<Special> = key(
    "catalog",
    Special(|| "`{ database = \"...\", table = \"...\" }`".to_owned()),
    Absent::Means("one of the next two"),
    "the columns are those of this table of the Glue Data Catalog",
);
pub(super) static SCHEMA_FILE: Key<Special> = key(
    "schema_file",
    Special(|| "the path of a file".to_owned()),
    Absent::Means("`catalog`"),
    "the columns are those in this file, which holds the answer of Glue's GetTable",
);
pub(super) static SCHEMA_KEY: Key<Special> = key(
    "schema",
    Special(|| "a table `[source.schema]`".to_owned()),
    Absent::Means("`catalog`; a generator knows its own"),
    "the columns are those written here",
);
pub(super) static ON_DATA_LOSS: Key<Word<OnDataLoss>> = key(
    "on_data_loss",
    Word(&[
        ("fail", OnDataLoss::Fail),
        ("continue", OnDataLoss::Continue),
    ]),
    Absent::Is(OnDataLoss::Fail),
    "what to do when records were gone before they could be read: the job stops and names the gap, or counts it and goes on",
);
static SOURCE: Part = Part {
    title: "[source]",
    about: "Just one of `catalog`, `schema_file` and `schema` says which columns the records have. Names of columns match those in the \
            records without regard to case.",
    keys: &[
        &TYPE,
        &CATALOG_KEY,
        &SCHEMA_FILE,
        &SCHEMA_KEY,
        &ON_DATA_LOSS,
    ],
};

pub(super) static DATABASE: Key<Text> = key(
    "database",
    Text,
    Absent::Refused("for example database = \"my_database\""),
    "its database",
);
pub(super) static CATALOG_TABLE: Key<Text> = key(
    "table",
    Text,
    Absent::Refused("for example table = \"my_table\""),
    "its name",
);
pub(super) static CATALOG_ID: Key<Text> = key(
    "catalog_id",
    Text,
    Absent::Means("the caller's"),
    "the account that owns the catalog",
);
pub(super) static CATALOG_REGION: Key<Text> = key(
    "region",
    Text,
    Absent::Means("the environment's"),
    "the catalog's region",
);
pub(super) static CATALOG: Part = Part {
    title: "[source.catalog]",
    about: "The table is read at submit; a job keeps the columns that it began with.",
    keys: &[&DATABASE, &CATALOG_TABLE, &CATALOG_ID, &CATALOG_REGION],
};

static COLUMN: Key<Special> = key(
    "*column*",
    Special(|| {
        format!(
            "a Hive type: {}",
            HIVE_TYPES.map(|name| format!("`{name}`")).join(", ")
        )
    }),
    Absent::Means("at least one column"),
    "a column and its type, such as `amount = \"decimal(10,2)\"`; arrays, maps and structs become text with their JSON",
);
static SCHEMA: Part = Part {
    title: "[source.schema]",
    about: "One line per column, in their order.",
    keys: &[&COLUMN],
};

pub(super) static STREAM: Key<Text> = key(
    "stream",
    Text,
    Absent::Means("the catalog table's"),
    "the stream's name",
);
pub(super) static ARN: Key<Arn> = key(
    "arn",
    Arn,
    Absent::Means("the catalog table's"),
    "the stream's ARN",
);
pub(super) static ENDPOINT: Key<Address> = key(
    "endpoint",
    Address,
    Absent::Means("the catalog table's, else the region's"),
    "where the service answers",
);
pub(super) static REGION: Key<Text> = key(
    "region",
    Text,
    Absent::Means("of the ARN, the table or the environment"),
    "the stream's region",
);
pub(super) static ROLE_ARN: Key<Text> = key(
    "role_arn",
    Text,
    Absent::Means("the catalog table's, else none"),
    "a role to assume for reading",
);
pub(super) static SESSION_NAME: Key<Text> = key(
    "session_name",
    Text,
    Absent::Means("the catalog table's, else `streamctl`"),
    "names the role's session",
);
pub(super) static STARTING_POSITION: Key<Start> = key(
    "starting_position",
    Start,
    Absent::Is(StartingPosition::Latest),
    "where shards begin that are there at submit; `latest` is the time of the submit",
);
pub(super) static POLL_INTERVAL: Key<Span> = key(
    "poll_interval",
    Span {
        least: POLL_INTERVAL_MIN,
        most: POLL_INTERVAL_MAX,
    },
    Absent::Is(Duration::from_millis(250)),
    "how long to wait between two reads of a shard at its tip",
);
pub(super) static MAX_RECORDS_PER_READ: Key<Whole> = key(
    "max_records_per_read",
    Whole {
        least: 1,
        most: RECORDS_PER_READ_MAX as u64,
    },
    Absent::Is(RECORDS_PER_READ_MAX as u64),
    "how many records a read asks for",
);
pub(super) static PAYLOAD_COMPRESSION: Key<Word<PayloadCompression>> = key(
    "compression",
    Word(&[
        ("none", PayloadCompression::None),
        ("auto", PayloadCompression::Auto),
    ]),
    Absent::Is(PayloadCompression::None),
    "`auto`: payloads in gzip, zstd or snappy's framing are told by their first bytes and unpacked",
);
pub(super) static GRACE: Key<Span> = key(
    "grace",
    Span {
        least: GRACE_MIN,
        most: GRACE_MAX,
    },
    Absent::Is(GRACE_DEFAULT),
    "how long after its arrival a record may become readable and still be in the window of its arrival; windows close that much later",
);
pub(super) static KINESIS: Part = Part {
    title: "[source] with type = \"kinesis\"",
    about: "The stream is named by `stream`, by `arn`, or by the catalog table; what is written here goes before what the table says. \
            Credentials come from the environment of controller and workers, or from `role_arn`; never from this file.",
    keys: &[
        &STREAM,
        &ARN,
        &ENDPOINT,
        &REGION,
        &ROLE_ARN,
        &SESSION_NAME,
        &STARTING_POSITION,
        &POLL_INTERVAL,
        &MAX_RECORDS_PER_READ,
        &GRACE,
        &PAYLOAD_COMPRESSION,
    ],
};

pub(super) static FILES_PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/events/\""),
    "every file below it is read, and is a shard",
);
pub(super) static FILES_FORMAT: Key<Word<RecordFormat>> = key(
    "format",
    Word(&[("json", RecordFormat::Json), ("csv", RecordFormat::Csv)]),
    Absent::Refused("for example format = \"json\"; also: csv"),
    "one JSON object per line, or CSV with a header; either may be compressed by gzip or zstd",
);
pub(super) static ARRIVAL_TIME: Key<Text> = key(
    "arrival_time",
    Text,
    Absent::Means("the time of reading"),
    "the column that holds a record's arrival time; a record without one, or with one that is no time, has that of the record before it",
);
pub(super) static FILES: Part = Part {
    title: "[source] with type = \"files\"",
    about: "The job ends when all files are read.",
    keys: &[&FILES_PATH, &FILES_FORMAT, &ARRIVAL_TIME],
};

pub(super) static SEED: Key<Whole> = key(
    "seed",
    ANY,
    Absent::Is(1),
    "the same seed gives the same records",
);
pub(super) static SHARDS: Key<Whole> = key(
    "shards",
    Whole {
        least: 1,
        most: GENERATOR_SHARDS_MAX as u64,
    },
    Absent::Is(2),
    "how many shards it has",
);
pub(super) static RATE: Key<Rate> = key(
    "rate",
    Rate {
        most: GENERATOR_RATE_MAX,
    },
    Absent::Is(100.0),
    "records a second, over all shards",
);
pub(super) static RECORDS_PER_SHARD: Key<Whole> = key(
    "records_per_shard",
    Whole {
        least: 1,
        most: WHOLE_MAX,
    },
    Absent::Means("no end"),
    "after how many records of each shard it ends",
);
pub(super) static BAD_EVERY: Key<Whole> = key(
    "bad_every",
    ANY,
    Absent::Is(0),
    "every so many records one is not JSON; 0: none",
);
pub(super) static UNMATCHED_EVERY: Key<Whole> = key(
    "unmatched_every",
    ANY,
    Absent::Is(0),
    "every so many records one has a country that no lookup has; 0: none",
);
pub(super) static GENERATOR: Part = Part {
    title: "[source] with type = \"generator\"",
    about: "The sales records of the model job, computed: for trying out and for load.",
    keys: &[
        &SEED,
        &SHARDS,
        &RATE,
        &RECORDS_PER_SHARD,
        &BAD_EVERY,
        &UNMATCHED_EVERY,
    ],
};

pub(super) static WINDOW_SIZE: Key<Span> = key(
    "size",
    Span {
        least: Duration::from_millis(100),
        most: DAY,
    },
    Absent::Refused("for example size = \"60s\""),
    "how long a window is; windows are of arrival time and aligned to multiples of their size since the Unix epoch",
);
static WINDOW: Part = Part {
    title: "[window]",
    about: "",
    keys: &[&WINDOW_SIZE],
};

pub(super) static LOOKUP_NAME: Key<Special> = key(
    "name",
    Special(|| "letters, digits and `_`, no digit first; not `source`".to_owned()),
    Absent::Refused("for example name = \"country_lookup\""),
    "its name in the query",
);
pub(super) static LOOKUP_PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/country_lookup/\""),
    "every file below it is part of the table",
);
pub(super) static LOOKUP_FORMAT: Key<Word<LookupFormat>> = key(
    "format",
    Word(&[
        ("csv", LookupFormat::Csv),
        ("parquet", LookupFormat::Parquet),
    ]),
    Absent::Is(LookupFormat::Csv),
    "CSV has a header, and all its columns are text",
);
pub(super) static REFRESH: Key<Span> = key(
    "refresh",
    Span {
        least: Duration::from_secs(1),
        most: DAY,
    },
    Absent::Is(Duration::from_secs(60)),
    "how often to look for a new version",
);
pub(super) static SIZE_MAX: Key<Size> = key(
    "size_max",
    Size { least: 1 },
    Absent::Is(256 << 20),
    "a larger version is refused, and the one before stays in use",
);
static LOOKUP: Part = Part {
    title: "[[lookup]]",
    about: "A table in files, which every worker holds in memory. A window takes the newest version there is when it opens, and its manifest names it.",
    keys: &[
        &LOOKUP_NAME,
        &LOOKUP_PATH,
        &LOOKUP_FORMAT,
        &REFRESH,
        &SIZE_MAX,
    ],
};

pub(super) static SQL: Key<Text> = key(
    "sql",
    Text,
    Absent::Refused("for example sql = \"SELECT * FROM source\""),
    "one SELECT over `source`, the records of a window, and the lookups by their names",
);
static TRANSFORM: Part = Part {
    title: "[transform]",
    about: "[The query](query.md) has types, JSON, lookups, what is refused, and what stands for functions of Spark. A name with capitals \
            needs double quotes. A value that cannot be cast fails the window: `TRY_CAST` gives NULL instead. A query that needs the \
            whole window (aggregate, `DISTINCT`, `ORDER BY`, `LIMIT`) runs on one worker.",
    keys: &[&SQL],
};

pub(super) static SINK_PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/output/\""),
    "where objects are published; other jobs may write there too",
);
pub(super) static SINK_FORMAT: Key<Word<SinkFormat>> = key(
    "format",
    Word(&[
        ("parquet", SinkFormat::Parquet),
        ("json", SinkFormat::Json),
        ("csv", SinkFormat::Csv),
    ]),
    Absent::Is(SinkFormat::Parquet),
    "Parquet, JSON lines, or CSV with a header",
);
pub(super) static SINK_COMPRESSION: Key<Word<Compression>> = key(
    "compression",
    Word(&[
        ("none", Compression::None),
        ("snappy", Compression::Snappy),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ]),
    Absent::Means("`snappy` for Parquet, else `none`"),
    "how they are compressed; `snappy` is for Parquet only",
);
pub(super) static PARTITION_BY: Key<Special> = key(
    "partition_by",
    Special(|| format!("a list of up to {PARTITION_COLUMNS_MAX} names")),
    Absent::Means("no folders"),
    "each becomes a folder `name=value/`: columns of the result, or `ingest_year`, `ingest_month`, `ingest_day`, `ingest_hour` of the \
     window's start (UTC)",
);
pub(super) static TARGET_SIZE: Key<Size> = key(
    "target_size",
    Size { least: 1 << 20 },
    Absent::Is(128 << 20),
    "objects are cut at about this size",
);
static SINK: Part = Part {
    title: "[sink]",
    about: "A task writes one object per window and folder, named after the window, the job and the task.",
    keys: &[
        &SINK_PATH,
        &SINK_FORMAT,
        &SINK_COMPRESSION,
        &PARTITION_BY,
        &TARGET_SIZE,
    ],
};

pub(super) static DEAD_LETTER_PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/dead/\""),
    "where they are published, as JSON lines in gzip",
);
static DEAD_LETTER: Part = Part {
    title: "[dead_letter]",
    about: "Each record that cannot be decoded, whole, with shard, sequence number, time and reason: [dead letters](dead-letters.md).",
    keys: &[&DEAD_LETTER_PATH],
};

pub(super) static LOCATION: Key<Special> = key(
    "location",
    Special(folder),
    Absent::Refused("for example location = \"s3://my-bucket/checkpoint/\""),
    "their folder; a job goes on from what is there, and refuses what another one left",
);
static CHECKPOINT: Part = Part {
    title: "[checkpoint]",
    about: "Manifests and lookup versions. With etcd's heads, it is all that a job remembers.",
    keys: &[&LOCATION],
};

pub(super) static RETRIES: Key<Whole> = key(
    "max",
    Whole {
        least: 0,
        most: RETRIES_MAX,
    },
    Absent::Is(3),
    "one round of failing tasks more than this, without a window committed in between, stops the job as failed",
);
static RETRY: Part = Part {
    title: "[retry]",
    about: "For what fails again and again, such as a query on a row that it cannot take. A service that does not answer is waited for.",
    keys: &[&RETRIES],
};
