//! The keys of `type = "files"` in a job file.
//!
//! Rule: a limit or a default is here once; parser and reference take it from here.

use super::catalog;
use super::{Compression, FilesSink, PartitionColumn, SinkFormat, SinkTypes, TimestampFormat};
use crate::spec::Location;
use crate::spec::key::{Absent, Key, Part, Read, Size, Special, Word};
use crate::spec::keys::{folder, key};
use crate::spec::location::{self, Named};
use crate::spec::raw::{Entry, Table};
use crate::spec::role;
use crate::spec::sink::{COMPRESSIONS, Registered, SinkContext, SinkKind};

pub const PARTITION_COLUMNS_MAX: usize = 16;
/// The size of objects, if the job does not set it.
pub(super) const TARGET_SIZE_DEFAULT: u64 = 128 << 20;

static PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/output/\""),
    "where objects are published; other jobs may write there too",
);
static FORMAT: Key<Word<SinkFormat>> = key(
    "format",
    Word(&[
        ("parquet", SinkFormat::Parquet),
        ("json", SinkFormat::Json),
        ("csv", SinkFormat::Csv),
    ]),
    Absent::Is(SinkFormat::Parquet),
    "Parquet, JSON lines, or CSV with a header",
);
static COMPRESSION: Key<Word<Compression>> = key(
    "compression",
    COMPRESSIONS,
    Absent::Means("`snappy` for Parquet, else `none`"),
    "how they are compressed; `snappy` is for Parquet only",
);
static PARTITION_BY: Key<Special> = key(
    "partition_by",
    Special(|| format!("a list of up to {PARTITION_COLUMNS_MAX} names")),
    Absent::Means("no folders"),
    "each becomes a folder `name=value/`: columns of the result, or `ingest_year`, `ingest_month`, `ingest_day`, `ingest_hour` of the \
     window's start (UTC). One task may write to 1,000 folders in one window; more stop the job",
);
static TARGET_SIZE: Key<Size> = key(
    "target_size",
    Size { least: 1 << 20 },
    Absent::Is(TARGET_SIZE_DEFAULT),
    "objects are cut at about this size",
);
static TYPES: Key<Word<SinkTypes>> = key(
    "types",
    Word(&[("hive", SinkTypes::Hive), ("arrow", SinkTypes::Arrow)]),
    Absent::Is(SinkTypes::Hive),
    "`hive`: [types and text forms](query.md#what-is-written) that Hive, Spark and Athena read; \
     `arrow`: those of the query's result, as jobs of earlier versions are written",
);
static TIMESTAMP_FORMAT: Key<Word<TimestampFormat>> = key(
    "timestamp_format",
    Word(&[
        ("iso", TimestampFormat::Iso),
        ("hive", TimestampFormat::Hive),
    ]),
    Absent::Is(TimestampFormat::Iso),
    "JSON and CSV: `iso` is `2026-11-24T00:45:00`, which Spark reads and writes; `hive` is \
     `2026-11-24 00:45:00`, which the SerDes of Hive and Athena need",
);
static CATALOG: Key<Special> = key(
    "catalog",
    Special(|| "`{ database = \"...\", table = \"...\" }`".to_owned()),
    Absent::Means("the files are in no table"),
    "the table of the Data Catalog by which readers find the files: [below](#sinkcatalog)",
);
static PART: Part = Part {
    title: "[sink] with type = \"files\"",
    about: "A task writes one object per window and folder, named after the window, the job and the task.",
    keys: &[
        &PATH,
        &role::ROLE_ARN,
        &role::SESSION_NAME,
        &FORMAT,
        &COMPRESSION,
        &PARTITION_BY,
        &TARGET_SIZE,
        &TYPES,
        &TIMESTAMP_FORMAT,
        &CATALOG,
    ],
};

pub(in crate::spec) static KIND: Registered = Registered {
    word: "files",
    part: &PART,
    tables: &[&catalog::PART],
    read,
};

fn read<'a>(table: &mut Table<'a>, context: &mut SinkContext<'a, '_>) -> Option<SinkKind> {
    let path = table.entry(&PATH).and_then(|entry| {
        let place = location::folder(&entry, context.base_dir)?;
        context.places.push(Named {
            entry,
            place: place.clone(),
            written: true,
        });
        Some(place)
    });
    let role = role::read(table, location::is_local(path.as_ref()));
    let format = table.value(&FORMAT);
    let compression = compression(table, format);
    let partition_by = match table.entry(&PARTITION_BY) {
        Some(entry) => partition_by(&entry),
        None => Some(Vec::new()),
    };
    let target_size = table.value(&TARGET_SIZE);
    let types = table.value(&TYPES);
    let timestamp_format = timestamp_format(table, format);
    let catalog = match table.entry(&CATALOG) {
        None => Some(None),
        Some(entry) => {
            refuse_for_catalog(&entry, path.as_ref(), types);
            let catalog = catalog::read(&entry);
            let projects = catalog.as_ref().is_some_and(|catalog| catalog.projection);
            if projects && partition_by.as_ref().is_some_and(Vec::is_empty) {
                entry.refuse(
                    "projection is for a sink with partition_by only",
                    "leave projection out: without folders there is nothing to register",
                );
            }
            catalog.map(Some)
        }
    };
    let sink = FilesSink {
        path: path?,
        role: role?,
        format: format?,
        compression: compression?,
        partition_by: partition_by?,
        target_size: target_size?,
        types: types?,
        timestamp_format: timestamp_format?,
        catalog: catalog?,
    };
    Some(sink.into())
}

/// What the readers of a table could not read.
fn refuse_for_catalog(entry: &Entry<'_>, path: Option<&Location>, types: Option<SinkTypes>) {
    if types == Some(SinkTypes::Arrow) {
        entry.refuse(
            "is for types = \"hive\" only",
            "leave `types` out: tables of the catalog have Hive's types",
        );
    }
    if path.is_some_and(|path| !path.as_str().starts_with("s3://")) {
        entry.refuse(
            "is for a path in S3 only",
            "path = \"s3://bucket/folder/\", or leave the catalog out",
        );
    }
}

fn timestamp_format(table: &mut Table<'_>, format: Option<SinkFormat>) -> Option<TimestampFormat> {
    let Some(entry) = table.entry(&TIMESTAMP_FORMAT) else {
        return TIMESTAMP_FORMAT.default();
    };
    if format == Some(SinkFormat::Parquet) {
        entry.refuse(
            "is for format = \"json\" and \"csv\" only",
            "remove it: Parquet holds microseconds since 1970",
        );
    }
    TIMESTAMP_FORMAT.kind.read(&entry)
}

fn compression(table: &mut Table<'_>, format: Option<SinkFormat>) -> Option<Compression> {
    let Some(entry) = table.entry(&COMPRESSION) else {
        return Some(if format == Some(SinkFormat::Parquet) {
            Compression::Snappy
        } else {
            Compression::None
        });
    };
    let compression = COMPRESSION.kind.read(&entry)?;
    if compression == Compression::Snappy
        && format.is_some_and(|format| format != SinkFormat::Parquet)
    {
        entry.refuse(
            "snappy is for format = \"parquet\" only",
            "use \"gzip\" or \"zstd\"",
        );
    }
    Some(compression)
}

fn partition_by(entry: &Entry<'_>) -> Option<Vec<PartitionColumn>> {
    let elements = entry.elements("for example [\"ingest_year\", \"ingest_month\"]")?;
    if elements.len() > PARTITION_COLUMNS_MAX {
        entry.refuse(
            format_args!(
                "has {} columns, at most {PARTITION_COLUMNS_MAX} are possible",
                elements.len()
            ),
            "",
        );
    }
    let mut columns = Vec::new();
    for element in elements {
        let example =
            "a column of the result, or ingest_year, ingest_month, ingest_day, ingest_hour";
        let Some(text) = element.text(example) else {
            continue;
        };
        let column = match text {
            "ingest_year" => PartitionColumn::IngestYear,
            "ingest_month" => PartitionColumn::IngestMonth,
            "ingest_day" => PartitionColumn::IngestDay,
            "ingest_hour" => PartitionColumn::IngestHour,
            name if name.contains(['/', '=']) || name.chars().any(char::is_control) => {
                element.refuse(
                    format_args!("{name:?} cannot name a folder"),
                    "rename the column in the query with AS",
                );
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
