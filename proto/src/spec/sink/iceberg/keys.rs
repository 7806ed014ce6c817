//! The keys of `type = "iceberg"` in a job file.
//!
//! Rule: a limit or a default is here once; parser and reference take it from here.

use super::{IcebergSink, PartitionBy, TableCatalog, maintenance};
use crate::spec::Location;
use crate::spec::key::{Absent, Flag, Key, Part, Size, Special, Text, Whole, Word};
use crate::spec::keys::{folder, key};
use crate::spec::location::{self, Named};
use crate::spec::raw::{Entry, Table};
use crate::spec::role;
use crate::spec::sink::{
    COMPRESSIONS, Compression, PARTITION_COLUMNS_MAX, Registered, SinkContext, SinkKind,
};
use std::num::NonZeroU32;

/// Snapshots of a job that stay, if the job does not set it.
const KEEP_SNAPSHOTS_DEFAULT: u64 = 1_000;
const KEEP_SNAPSHOTS_MAX: u64 = 1_000_000;
/// The size of files, if the job does not set it.
const TARGET_SIZE_DEFAULT: u64 = 128 << 20;
/// Longest name of a table, of credentials, and of a warehouse.
const NAME_CHARS_MAX: usize = 1_000;

/// The value of `catalog`.
#[derive(Clone, Copy, PartialEq)]
enum CatalogWord {
    Rest,
    Glue,
    S3Tables,
    Local,
}

static CATALOG: Key<Word<CatalogWord>> = key(
    "catalog",
    Word(&[
        ("rest", CatalogWord::Rest),
        ("glue", CatalogWord::Glue),
        ("s3tables", CatalogWord::S3Tables),
        ("local", CatalogWord::Local),
    ]),
    Absent::Refused("for example catalog = \"glue\""),
    "[where the table is](iceberg.md#catalogs): a REST catalog, the Glue Data Catalog, Amazon S3 Tables, or a folder of this machine",
);
static TABLE: Key<Special> = key(
    "table",
    Special(|| "`database.table`".to_owned()),
    Absent::Refused("for example table = \"sales.orders\""),
    "the table's name; a catalog with namespaces of several levels has more dots",
);
static URI: Key<Text> = key(
    "uri",
    Text,
    Absent::Means("the service's own address; `rest` needs one"),
    "the catalog's address, without `/v1`",
);
static WAREHOUSE: Key<Text> = key(
    "warehouse",
    Text,
    Absent::Means("the catalog's own; `s3tables` and `local` need one"),
    "`s3tables`: the ARN of the table bucket; `local`: a folder; `glue`: the catalog's id; `rest`: what the catalog calls it",
);
static REGION: Key<Text> = key(
    "region",
    Text,
    Absent::Means("the environment's"),
    "`glue`, `s3tables`: the region of the service",
);
static CREDENTIALS: Key<Text> = key(
    "credentials",
    Text,
    Absent::Means("none are sent"),
    "`rest`: the name of [credentials](iceberg.md#credentials) that the controllers have; a job file holds no secret",
);
static CREATE: Key<Flag> = key(
    "create",
    Flag,
    Absent::Is(false),
    "make the table at submit if it is missing: all columns of the result, optional",
);
static TABLE_LOCATION: Key<Special> = key(
    "location",
    Special(folder),
    Absent::Means("the catalog chooses; `glue` needs one to make a table"),
    "where a new table is; only with `create`",
);
static PARTITION: Key<Special> = key(
    "partition",
    Special(|| format!("a list of up to {PARTITION_COLUMNS_MAX} texts")),
    Absent::Means("as the table is; a new one is not partitioned"),
    "`column`, `year(column)`, `month(column)`, `day(column)`, `hour(column)`, `bucket(16, column)`, `truncate(4, column)`. \
     A table that exists must be partitioned so",
);
static KEEP_SNAPSHOTS: Key<Whole> = key(
    "keep_snapshots",
    Whole {
        least: 1,
        most: KEEP_SNAPSHOTS_MAX,
    },
    Absent::Is(KEEP_SNAPSHOTS_DEFAULT),
    "how many snapshots of this job stay in the table's history; those of others are left alone",
);
static COMPRESSION: Key<Word<Compression>> = key(
    "compression",
    COMPRESSIONS,
    Absent::Is(Compression::Zstd),
    "how the Parquet files are compressed",
);
static TARGET_SIZE: Key<Size> = key(
    "target_size",
    Size { least: 1 << 20 },
    Absent::Is(TARGET_SIZE_DEFAULT),
    "files are cut at about this size",
);
static MAINTENANCE: Key<Special> = key(
    "maintenance",
    Special(|| "`{ compact = \"1h\", target_size = \"256MiB\" }`".to_owned()),
    Absent::Means("small files stay"),
    "rewrite small files into larger ones: [below](#sinkmaintenance)",
);
static PART: Part = Part {
    title: "[sink] with type = \"iceberg\"",
    about: "Rows are added to an [Iceberg table](iceberg.md), one snapshot per window, exactly once.",
    keys: &[
        &CATALOG,
        &TABLE,
        &URI,
        &WAREHOUSE,
        &REGION,
        &CREDENTIALS,
        &role::ROLE_ARN,
        &role::SESSION_NAME,
        &CREATE,
        &TABLE_LOCATION,
        &PARTITION,
        &KEEP_SNAPSHOTS,
        &COMPRESSION,
        &TARGET_SIZE,
        &MAINTENANCE,
    ],
};

pub(in crate::spec) static KIND: Registered = Registered {
    word: "iceberg",
    part: &PART,
    tables: &[&maintenance::PART],
    read,
};

/// The entries that depend on the catalog.
struct CatalogEntries<'a> {
    uri: Option<Entry<'a>>,
    warehouse: Option<Entry<'a>>,
    region: Option<Entry<'a>>,
    credentials: Option<Entry<'a>>,
}

fn read<'a>(table: &mut Table<'a>, context: &mut SinkContext<'a, '_>) -> Option<SinkKind> {
    let word = table.value(&CATALOG);
    let name = table.entry(&TABLE).and_then(|entry| table_name(&entry));
    let entries = CatalogEntries {
        uri: table.entry(&URI),
        warehouse: table.entry(&WAREHOUSE),
        region: table.entry(&REGION),
        credentials: table.entry(&CREDENTIALS),
    };
    let catalog = word.and_then(|word| catalog(table, word, entries, context));
    let role = role::read(table, word == Some(CatalogWord::Local));
    let create = table.value(&CREATE);
    let location = match table.entry(&TABLE_LOCATION) {
        Some(entry) => new_location(&entry, word, create, context).map(Some),
        None => Some(None),
    };
    if word == Some(CatalogWord::Glue) && create == Some(true) && location == Some(None) {
        table.refuse(
            "location is missing: Glue chooses no place for a new table",
            "for example location = \"s3://my-bucket/tables/orders/\"",
        );
    }
    let partition = match table.entry(&PARTITION) {
        Some(entry) => partition(&entry).map(Some),
        None => Some(None),
    };
    let keep_snapshots = table.value(&KEEP_SNAPSHOTS);
    let keep_snapshots = keep_snapshots
        .and_then(|number| u32::try_from(number).ok())
        .and_then(NonZeroU32::new);
    let compression = table.value(&COMPRESSION);
    let target_size = table.value(&TARGET_SIZE);
    let maintenance = match table.entry(&MAINTENANCE) {
        Some(entry) => maintenance::read(&entry).map(Some),
        None => Some(None),
    };
    let sink = IcebergSink {
        catalog: catalog?,
        role: role?,
        table: name?,
        create: create?,
        location: location?,
        partition: partition?,
        keep_snapshots: keep_snapshots?,
        compression: compression?,
        target_size: target_size?,
        maintenance: maintenance?,
        pinned: None,
    };
    Some(sink.into())
}

fn table_name(entry: &Entry<'_>) -> Option<String> {
    let text = short(entry, "for example \"sales.orders\"")?;
    let bad = |part: &str| {
        part.is_empty()
            || part.trim() != part
            || part
                .chars()
                .any(|c| c.is_control() || c == '/' || c == '\\')
    };
    if !text.contains('.') || text.split('.').any(bad) {
        entry.refuse(
            format_args!("{text:?} is not the name of a table"),
            "write \"database.table\"",
        );
        return None;
    }
    Some(text)
}

/// A text that is not too long.
fn short(entry: &Entry<'_>, example: &str) -> Option<String> {
    let text = entry.text(example)?;
    if text.chars().count() > NAME_CHARS_MAX {
        entry.refuse(
            format_args!("has more than {NAME_CHARS_MAX} characters"),
            "",
        );
        return None;
    }
    Some(text.to_owned())
}

fn catalog<'a>(
    table: &Table<'a>,
    word: CatalogWord,
    entries: CatalogEntries<'a>,
    context: &mut SinkContext<'a, '_>,
) -> Option<TableCatalog> {
    let CatalogEntries {
        uri,
        warehouse,
        region,
        credentials,
    } = entries;
    let not_for = |entry: Option<Entry<'_>>, of: &str| {
        if let Some(entry) = entry {
            entry.refuse(format_args!("is for {of}"), "remove it");
        }
    };
    let optional = |entry: Option<Entry<'_>>| match entry {
        Some(entry) => short(&entry, "").map(Some),
        None => Some(None),
    };
    match word {
        CatalogWord::Rest => {
            not_for(region, "catalog = \"glue\" and \"s3tables\"");
            let Some(uri) = uri else {
                table.refuse(
                    "uri is missing: the address of the catalog",
                    "for example uri = \"https://catalog.example.com\"",
                );
                return None;
            };
            let uri = address(&uri);
            let warehouse = optional(warehouse);
            let credentials = match credentials {
                Some(entry) => credentials_name(&entry).map(Some),
                None => Some(None),
            };
            Some(TableCatalog::Rest {
                uri: uri?,
                warehouse: warehouse?,
                credentials: credentials?,
            })
        }
        CatalogWord::Glue | CatalogWord::S3Tables => {
            not_for(credentials, "catalog = \"rest\"");
            let uri = match uri {
                Some(entry) => address(&entry).map(Some),
                None => Some(None),
            };
            let region = optional(region);
            let warehouse = optional(warehouse);
            if word == CatalogWord::Glue {
                return Some(TableCatalog::Glue {
                    warehouse: warehouse?,
                    region: region?,
                    uri: uri?,
                });
            }
            let Some(warehouse) = warehouse? else {
                table.refuse(
                    "warehouse is missing: the ARN of the table bucket",
                    "for example warehouse = \"arn:aws:s3tables:eu-west-1:123456789012:bucket/tables\"",
                );
                return None;
            };
            Some(TableCatalog::S3Tables {
                warehouse,
                region: region?,
                uri: uri?,
            })
        }
        CatalogWord::Local => {
            not_for(uri, "the other catalogs");
            not_for(region, "catalog = \"glue\" and \"s3tables\"");
            not_for(credentials, "catalog = \"rest\"");
            let Some(entry) = warehouse else {
                table.refuse(
                    "warehouse is missing: the folder of the tables",
                    "for example warehouse = \"./warehouse\"",
                );
                return None;
            };
            let place = location::folder(&entry, context.base_dir)?;
            if place.bucket_and_prefix().is_some() {
                entry.refuse(
                    "is in S3; a local catalog is a folder of one machine",
                    "use catalog = \"glue\", \"s3tables\" or \"rest\" for tables in S3",
                );
                return None;
            }
            context.places.push(Named {
                entry,
                place: place.clone(),
                written: true,
            });
            Some(TableCatalog::Local { warehouse: place })
        }
    }
}

/// An address of a catalog, without a last slash and without `/v1`.
fn address(entry: &Entry<'_>) -> Option<String> {
    let text = short(entry, "for example \"https://catalog.example.com\"")?;
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host) if host.contains('@') => {
            // The value is not shown: it would be logged.
            entry.refuse(
                "holds a name or a password: a job file is stored and shown, and holds no secret",
                "take it out and name the operator's credentials by the key credentials",
            );
            None
        }
        Some(host) if !host.is_empty() && !text.contains(['?', '#', ' ']) => {
            let text = text.trim_end_matches('/');
            Some(text.strip_suffix("/v1").unwrap_or(text).to_owned())
        }
        _ => {
            entry.refuse(
                format_args!("{text:?} is not the address of a catalog"),
                "for example \"https://catalog.example.com\"",
            );
            None
        }
    }
}

/// A name of a file in the folder of the credentials.
fn credentials_name(entry: &Entry<'_>) -> Option<String> {
    let text = short(entry, "for example \"lakekeeper\"")?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.chars().all(good) {
        entry.refuse(
            "is not the name of credentials: letters, digits, - and _",
            "name those that the controllers have; the secret itself is never in a job file",
        );
        return None;
    }
    Some(text)
}

fn new_location<'a>(
    entry: &Entry<'a>,
    word: Option<CatalogWord>,
    create: Option<bool>,
    context: &mut SinkContext<'a, '_>,
) -> Option<Location> {
    let place = location::folder(entry, context.base_dir)?;
    if word == Some(CatalogWord::Local) {
        entry.refuse(
            "is not for catalog = \"local\": a table is in the warehouse",
            "remove it",
        );
    }
    if create == Some(false) {
        entry.refuse("is for a new table", "add create = true, or remove it");
    }
    context.places.push(Named {
        entry: entry.clone(),
        place: place.clone(),
        written: true,
    });
    Some(place)
}

fn partition(entry: &Entry<'_>) -> Option<Vec<PartitionBy>> {
    let elements = entry.elements("for example [\"day(sold_at)\", \"region\"]")?;
    if elements.len() > PARTITION_COLUMNS_MAX {
        entry.refuse(
            format_args!(
                "has {} fields, at most {PARTITION_COLUMNS_MAX} are possible",
                elements.len()
            ),
            "",
        );
    }
    let mut all: Vec<PartitionBy> = Vec::new();
    for element in elements {
        let Some(text) = element.text("for example \"day(sold_at)\"") else {
            continue;
        };
        match PartitionBy::parse(text) {
            Ok(by) if all.iter().any(|one| one.field_name() == by.field_name()) => {
                element.refuse("is there twice", "remove one");
            }
            Ok(by) => all.push(by),
            Err((message, hint)) => element.refuse(message, hint),
        }
    }
    Some(all)
}
