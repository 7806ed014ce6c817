//! The `[source]` table of a job file, and the facts of each kind of source.
//!
//! Owns: the list of kinds, the interface for the rest of the program ([`SourceFacts`]), the source
//! of the columns. Does not own: the keys and facts of a kind (its module), how a kind is listed
//! and read (`streamctl_engine::source`).
//! Rule: no code outside matches on the kind: a new one is a module here, one in
//! `engine/src/source/`, and a line in the registry of each.

mod consumer;
mod files;
mod generator;
mod kinesis;
mod stdin;

pub use consumer::ConsumerName;
pub use files::{FilesSource, OnBadArrival};
pub use generator::{GENERATOR_COLUMNS, GENERATOR_RATE_MAX, GENERATOR_SHARDS_MAX, GeneratorSource};
pub use kinesis::{
    Aggregates, GRACE_DEFAULT, KinesisSource, POLL_INTERVAL_MIN, RECORDS_PER_READ_MAX,
};
pub use stdin::StdinSource;

use super::format;
use super::key::{Absent, Fields, Key, Kind, Part, Read};
use super::keys::{self, key};
use super::location::{self, Named};
use super::raw::{Entry, Table, nearest_hint};
use super::role::{self, AssumedRole};
use super::values;
use super::{
    HiveType, Location, NotAType, PayloadCompression, PayloadFormat, SchemaFrom, SourceSpec,
    StartingPosition,
};
use crate::change::{Refusal, SourceChange};
use crate::json::time;
use crate::resolved::{ColumnType, StreamAddress};
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::path::Path;

/// Compressions that payloads are unpacked from, if the job file says so.
const UNPACKED: [&str; 3] = ["gzip", "zstd", "snappy"];

/// How a source's records are written, for comparison with what a catalog table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordForm {
    /// `json` or `csv`.
    pub format: &'static str,
    /// Keys of the format and their values; an empty value may be missing.
    pub keys: Fields,
    /// The same that no key of the job file changes.
    pub fixed: Fields,
    /// Lines before the first record that are not one.
    pub header_lines: u64,
    /// Compressions that are unpacked.
    pub unpacks: &'static [&'static str],
    /// `compression = "auto"` makes it unpack.
    pub may_unpack: bool,
}

/// What the rest of the program asks of a kind of source.
pub trait SourceFacts {
    /// The value of `type` in the job file.
    fn type_name(&self) -> &'static str;
    /// As text: `Kinesis stream orders`.
    fn describe(&self) -> String;
    /// As text: `3 shards`.
    fn describe_shards(&self, shards: usize) -> String {
        crate::count(shards, "shard")
    }
    /// Whether it ends by itself, shard after shard.
    fn is_bounded(&self) -> bool {
        false
    }
    /// Whether what it reads is gone with the process that read it.
    fn reads_once(&self) -> bool {
        false
    }
    /// Whether it reads a stream whose address the job file or the catalog table has
    /// ([`crate::ResolvedJob::stream`]).
    fn reads_stream(&self) -> bool {
        false
    }
    /// The role by which its place is read, if the job file alone decides that.
    fn role(&self) -> Option<&AssumedRole> {
        None
    }
    /// The folder that it reads.
    fn input_folder(&self) -> Option<&Location> {
        None
    }
    /// The column that holds a record's arrival time.
    fn arrival_column(&self) -> Option<&str> {
        None
    }
    /// Whether a record can be read at about its arrival time.
    fn is_read_on_arrival(&self) -> bool {
        true
    }
    /// Whether a record keeps its arrival time when it is read again.
    fn keeps_arrival(&self) -> bool {
        true
    }
    /// The format of payloads when they are decoded.
    fn payload_format(&self) -> PayloadFormat {
        PayloadFormat::default()
    }
    /// Whether payloads may be compressed.
    fn payload_compression(&self) -> PayloadCompression {
        PayloadCompression::None
    }
    /// Whether it has a key for the compression of payloads.
    fn has_compression(&self) -> bool {
        false
    }
    /// How its records are written.
    fn record_form(&self) -> RecordForm {
        let format = self.payload_format();
        let unpacks: &[&str] = match self.payload_compression() {
            PayloadCompression::None => &[],
            PayloadCompression::Auto => &UNPACKED,
        };
        RecordForm {
            format: format.name(),
            keys: format.fields(),
            fixed: Fields::new(),
            header_lines: 0,
            unpacks,
            may_unpack: self.has_compression(),
        }
    }
    /// The consumer that it reads through.
    fn consumer(&self) -> Option<&ConsumerName> {
        None
    }
    /// What becomes of user records of other shards, if a record may be an aggregate.
    fn aggregates(&self) -> Option<Aggregates> {
        None
    }
    /// The columns of its records, all text, if the source itself defines them.
    fn own_columns(&self) -> Option<&'static [&'static str]> {
        None
    }
    /// Each key that has a value, except `type`. `stream`: the resolved address.
    fn fields(&self, spec: &SourceSpec, stream: Option<&StreamAddress>) -> Fields;
    /// The keys that have a value even if the job file omits them.
    fn defaults(&self, spec: &SourceSpec) -> Fields;
    /// Why a running job cannot take over a change of this key; `None`: it can.
    fn refuses(&self, key: &str, change: &SourceChange<'_>) -> Option<Refusal>;
}

/// The context for reading the keys of a kind.
pub(super) struct SourceContext<'a, 'c> {
    /// Relative paths are resolved against it.
    base_dir: Option<&'c Path>,
    /// Every location that the job file names.
    places: &'c mut Vec<Named<'a>>,
}

/// A kind of source in a job file.
pub(super) struct Registered {
    /// The value of `type`.
    word: &'static str,
    pub part: &'static Part,
    /// See [`SourceFacts::own_columns`].
    has_own_columns: bool,
    read: ReadKind,
}

type ReadKind = for<'a> fn(
    &mut Table<'a>,
    &mut SourceContext<'a, '_>,
) -> Option<(SourceKind, StartingPosition)>;

macro_rules! source_kinds {
    ($($variant:ident($source:ty) in $module:ident),+ $(,)?) => {
        /// The kind of source, with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum SourceKind {
            $(#[doc = concat!("See [`", stringify!($source), "`].")] $variant($source)),+
        }

        impl Deref for SourceKind {
            type Target = dyn SourceFacts;
            fn deref(&self) -> &(dyn SourceFacts + 'static) {
                match self {
                    $(Self::$variant(source) => source),+
                }
            }
        }

        pub(super) static KINDS: &[&Registered] = &[$(&$module::KIND),+];
    };
}

// The registry.
source_kinds! {
    Kinesis(KinesisSource) in kinesis,
    Files(FilesSource) in files,
    Generator(GeneratorSource) in generator,
    Stdin(StdinSource) in stdin,
}

static TYPE: Key<Type> = key(
    "type",
    Type,
    Absent::Refused("for example type = \"kinesis\"; also: files, generator"),
    "what kind of source; further keys depend on it",
);
pub(super) static SOURCE: Part = Part {
    title: "[source]",
    about: "Just one of `catalog`, `schema_file` and `schema` says which columns the records have. Names of columns match those in the \
            records without regard to case.",
    keys: &[
        &TYPE,
        &keys::CATALOG_KEY,
        &keys::SCHEMA_FILE,
        &keys::SCHEMA_KEY,
        &keys::ON_DATA_LOSS,
        &values::TIMESTAMP_NUMBERS,
        &values::TIMESTAMP_FORMATS,
        &values::DECIMALS,
        &values::ON_BAD_VALUE,
    ],
};

/// The value of `type`.
pub(super) struct Type;

impl Kind for Type {
    type Value = &'static Registered;
    fn words(&self) -> String {
        let words: Vec<_> = KINDS
            .iter()
            .map(|kind| format!("`{}`", kind.word))
            .collect();
        super::key::or(&words)
    }
    fn shown(&self, kind: &&'static Registered) -> String {
        kind.word.to_owned()
    }
}

impl Read for Type {
    fn read(&self, entry: &Entry<'_>) -> Option<&'static Registered> {
        let words: Vec<_> = KINDS.iter().map(|kind| (kind.word, *kind)).collect();
        entry.choice(&words)
    }
}

/// Reads the table; an input folder is added to `places` as well.
pub(super) fn source<'a>(
    mut table: Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<SourceSpec> {
    let registered = table.value(&TYPE)?;
    let on_data_loss = table.value(&keys::ON_DATA_LOSS);
    let values = values::read(&mut table);
    let mut context = SourceContext { base_dir, places };
    let kind = (registered.read)(&mut table, &mut context);
    let schema = schema(&mut table, base_dir, registered);
    table.finish(belongs_elsewhere);
    let (kind, starting_position) = kind?;
    Some(SourceSpec {
        kind,
        schema: schema?,
        starting_position,
        on_data_loss: on_data_loss?,
        values: values?,
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
    if let Some(format) = format::of_key(key) {
        return Some(format!("it is a key of format = {format:?}"));
    }
    let kind = KINDS.iter().find(|kind| kind.part.has(key))?;
    Some(format!("it is a key of type = {:?}", kind.word))
}

fn start_text(position: StartingPosition) -> String {
    match position {
        StartingPosition::Latest => "latest".into(),
        StartingPosition::TrimHorizon => "trim_horizon".into(),
        StartingPosition::Timestamp(ms) => time(ms),
    }
}

/// A value as in a job file.
fn fields_text(value: &impl Serialize) -> String {
    crate::change::value_text(value)
}

fn schema(table: &mut Table<'_>, base_dir: Option<&Path>, kind: &Registered) -> Option<SchemaFrom> {
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
        [None, None, None] if kind.has_own_columns => Some(SchemaFrom::BuiltIn),
        [None, None, None] => {
            table.refuse(
                "does not say which columns the records have",
                "add catalog = { database = \"...\", table = \"...\" }, or a table \
                 [source.schema] with column = \"type\"",
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
    let role = role::read(&mut table, false);
    table.finish(|_| None);
    Some(SchemaFrom::Catalog {
        catalog_id: catalog_id?,
        database: database?,
        table: name?,
        region: region?,
        role: role?,
    })
}

fn inline(table: &Table<'_>) -> Option<SchemaFrom> {
    columns(table).map(SchemaFrom::Inline)
}

/// Columns and their types, a line for each; at least one.
pub(super) fn columns(table: &Table<'_>) -> Option<Vec<ColumnType>> {
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
    good.then_some(columns)
}

fn column_type(entry: &Entry<'_>) -> Option<String> {
    let text = entry
        .text("a Hive type such as \"string\", \"bigint\", \"decimal(10,2)\", \"timestamp\"")?;
    let hint = match HiveType::parse(text) {
        Ok(_) => return Some(text.trim().to_lowercase()),
        Err(NotAType::Name(name)) => {
            let names: Vec<_> = HiveType::names().collect();
            let likely = nearest_hint(&name, &names);
            if likely.is_empty() {
                HiveType::hint()
            } else {
                likely
            }
        }
        Err(other) => other.hint(),
    };
    entry.refuse(format_args!("{text:?} is not a Hive type"), hint);
    None
}
