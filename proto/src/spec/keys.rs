//! Every key of a job file, once.
//!
//! Owns: names, limits, defaults, and their descriptions. Does not own: checks over several keys
//! (`parse`, `source`), the keys of a kind of source or sink.
//! Rule: the parser reads a key by its declaration here, and `docs/job-file.md` is generated from
//! it: a key that is not here does not exist.

use super::keep::{KEEP_DEFAULT, Keep, KeepKind};
use super::key::{
    Absent, AnyText, Ascii, Flag, Key, Kind, Part, Share, Size, Span, Special, Text, Whole, Word,
};
use super::role;
use super::{
    BAD_SHARE_PPM_DEFAULT, Dialect, HiveType, LookupFormat, OnDataLoss, OnQueryError, TextEncoding,
};
use crate::id::JOB_NAME_CHARS_MAX;
use std::time::Duration;

/// Most lookups of one job.
pub const LOOKUPS_MAX: usize = 64;
/// How often a lookup is looked at, if its job does not say.
pub(super) const REFRESH_DEFAULT: Duration = Duration::from_secs(60);
/// Most bytes of a lookup, if its job does not say.
pub(super) const LOOKUP_BYTES_DEFAULT: u64 = 256 << 20;

const RETRIES_MAX: u64 = 100;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) const fn key<K: Kind>(
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

pub(super) fn folder() -> String {
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
    "the query; may be left out beside `[function]`",
);
pub(super) static FUNCTION_TABLE: Key<Special> = key(
    "function",
    Special(table),
    Absent::Means("the query's rows are the result"),
    "your own function, which takes the query's rows",
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
pub(super) static JOB: Part = Part {
    title: "The job",
    about: "",
    keys: &[
        &NAME,
        &SOURCE_TABLE,
        &WINDOW_TABLE,
        &LOOKUPS,
        &TRANSFORM_TABLE,
        &FUNCTION_TABLE,
        &SINK_TABLE,
        &DEAD_LETTER_TABLE,
        &CHECKPOINT_TABLE,
        &RETRY_TABLE,
    ],
};

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
    "what to do when records were gone before they could be read: the job stops and names the \
     gap, or counts it and goes on",
);

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
    keys: &[
        &DATABASE,
        &CATALOG_TABLE,
        &CATALOG_ID,
        &CATALOG_REGION,
        &role::ROLE_ARN,
        &role::SESSION_NAME,
    ],
};

static COLUMN: Key<Special> = key(
    "*column*",
    Special(|| {
        let names: Vec<_> = HiveType::names().map(|name| format!("`{name}`")).collect();
        format!("a Hive type: {}", names.join(", "))
    }),
    Absent::Means("at least one column"),
    "a column and its type, such as `amount = \"decimal(10,2)\"` or \
     `items = \"array<struct<sku:string,price:decimal(10,2)>>\"`; as `string`, an object or array \
     is its JSON",
);
pub(super) static SCHEMA: Part = Part {
    title: "[source.schema]",
    about: "One line per column, in their order.",
    keys: &[&COLUMN],
};

pub(super) static WINDOW_SIZE: Key<Span> = key(
    "size",
    Span {
        least: Duration::from_millis(100),
        most: DAY,
    },
    Absent::Refused("for example size = \"60s\""),
    "how long a window is; windows are of arrival time and aligned to multiples of their size \
     since the Unix epoch",
);
pub(super) static WINDOW: Part = Part {
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
    "CSV has a header, and columns that `schema` does not name are text",
);
pub(super) static REFRESH: Key<Span> = key(
    "refresh",
    Span {
        least: Duration::from_secs(1),
        most: DAY,
    },
    Absent::Is(REFRESH_DEFAULT),
    "how often to look for a new version",
);
pub(super) static SIZE_MAX: Key<Size> = key(
    "size_max",
    Size { least: 1 },
    Absent::Is(LOOKUP_BYTES_DEFAULT),
    "a larger version is refused, and the one before stays in use",
);
pub(super) static ALLOW_EMPTY: Key<Flag> = key(
    "allow_empty",
    Flag,
    Absent::Is(false),
    "whether a version without rows may follow one with rows; otherwise it is refused",
);
pub(super) static LOOKUP_DELIMITER: Key<Ascii> = key(
    "delimiter",
    Ascii,
    Absent::Is(','),
    "CSV: between two fields; `\"\\t\"` is a tab",
);
pub(super) static LOOKUP_QUOTE: Key<Ascii> = key(
    "quote",
    Ascii,
    Absent::Is('"'),
    "CSV: around a field that holds the delimiter, a line end or a quote; a quote inside is doubled",
);
pub(super) static LOOKUP_ENCODING: Key<Word<TextEncoding>> = key(
    "encoding",
    Word(&[
        ("utf-8", TextEncoding::Utf8),
        ("latin-1", TextEncoding::Windows1252),
        ("windows-1252", TextEncoding::Windows1252),
        ("utf-16", TextEncoding::Utf16),
    ]),
    Absent::Is(TextEncoding::Utf8),
    "CSV: how its text is written in bytes; `latin-1` and `windows-1252` are the same",
);
pub(super) static LOOKUP_NULL_TEXT: Key<AnyText> = key(
    "null_text",
    AnyText,
    Absent::Means("empty"),
    "CSV: a field of just this text is null, in quotes too; an empty field always is",
);
pub(super) static LOOKUP_SCHEMA: Key<Special> = key(
    "schema",
    Special(|| "a table `[lookup.schema]`".to_owned()),
    Absent::Means("text in CSV, the files' types in Parquet"),
    "Hive types of some of its columns, such as `id = \"bigint\"`; a version with a value that does \
     not fit is refused",
);
pub(super) static LOOKUP: Part = Part {
    title: "[[lookup]]",
    about: "A table in files, which every worker holds in memory. A window takes the newest version there is when it opens, and its manifest names it. \
            A version is taken only if the query can run on it: it has the columns that the query reads, in types that become those of the submit \
            without loss, and rows if the one before had some. Otherwise the one before stays, and the status says why. \
            A folder `Code=DE/` below the path is a column of its files, as in Hive.",
    keys: &[
        &LOOKUP_NAME,
        &LOOKUP_PATH,
        &role::ROLE_ARN,
        &role::SESSION_NAME,
        &LOOKUP_FORMAT,
        &REFRESH,
        &SIZE_MAX,
        &ALLOW_EMPTY,
        &LOOKUP_DELIMITER,
        &LOOKUP_QUOTE,
        &LOOKUP_ENCODING,
        &LOOKUP_NULL_TEXT,
        &LOOKUP_SCHEMA,
    ],
};

pub(super) static SQL: Key<Text> = key(
    "sql",
    Text,
    Absent::Refused("for example sql = \"SELECT * FROM source\""),
    "one SELECT over `source`, the records of a window, and the lookups by their names",
);
pub(super) static ON_QUERY_ERROR: Key<Word<OnQueryError>> = key(
    "on_query_error",
    Word(&[
        ("dead_letter", OnQueryError::DeadLetter),
        ("fail", OnQueryError::Fail),
    ]),
    Absent::Is(OnQueryError::DeadLetter),
    "what to do with a record that the query cannot take (a division by zero, a text that cannot be cast): it becomes a \
     [dead letter](dead-letters.md#records-that-the-query-cannot-take) that names expression and value, or the window fails",
);
pub(super) static MAX_BAD_SHARE: Key<Share> = key(
    "max_bad_share",
    Share,
    Absent::Is(BAD_SHARE_PPM_DEFAULT),
    "the share of a window's records that may become such dead letters: if it is more, and more than 10 records, the job stops and \
     names one",
);
pub(super) static DIALECT: Key<Word<Dialect>> = key(
    "dialect",
    Word(&[
        ("datafusion", Dialect::Datafusion),
        ("spark", Dialect::Spark),
    ]),
    Absent::Is(Dialect::Datafusion),
    "what names, operators and functions of `sql` mean: DataFusion's, or those of [Spark SQL](spark-dialect.md) 3.5",
);
pub(super) static TRANSFORM: Part = Part {
    title: "[transform]",
    about: "[The query](query.md) has types, JSON, lookups, what is refused, and what stands for functions of Spark. A name with capitals \
            needs double quotes. Where a value cannot be cast, `TRY_CAST` gives NULL. A query that needs the \
            whole window (aggregate, `DISTINCT`, `ORDER BY`, `LIMIT`) runs on one worker.",
    keys: &[&SQL, &DIALECT, &ON_QUERY_ERROR, &MAX_BAD_SHARE],
};

pub(super) static DEAD_LETTER_PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/dead/\""),
    "where they are published, as JSON lines in gzip",
);
pub(super) static DEAD_LETTER: Part = Part {
    title: "[dead_letter]",
    about: "Each record that cannot be decoded, or that the query cannot take, whole, with shard, sequence number, time and reason: [dead letters](dead-letters.md).",
    keys: &[&DEAD_LETTER_PATH],
};

pub(super) static LOCATION: Key<Special> = key(
    "location",
    Special(folder),
    Absent::Refused("for example location = \"s3://my-bucket/checkpoint/\""),
    "their folder; a job goes on from what is there, and refuses what another one left",
);
pub(super) static KEEP: Key<KeepKind> = key(
    "keep",
    KeepKind,
    Absent::Is(Keep::For(KEEP_DEFAULT)),
    "how long [history](operations.md#history) is kept: manifests and earlier versions of the job. Longer than the age of the \
     oldest copy of etcd that may be restored",
);

pub(super) static CHECKPOINT: Part = Part {
    title: "[checkpoint]",
    about: "Manifests and lookup versions. With etcd's heads, it is all that a job remembers.",
    keys: &[&LOCATION, &KEEP],
};

pub(super) static RETRIES: Key<Whole> = key(
    "max",
    Whole {
        least: 0,
        most: RETRIES_MAX,
    },
    Absent::Is(3),
    "one round of failing tasks more than this, without a window committed in between, stops the \
     job as failed",
);
pub(super) static RETRY: Part = Part {
    title: "[retry]",
    about: "For what fails again and again, such as a query on a row that it cannot take. A service that does not answer is waited for.",
    keys: &[&RETRIES],
};
