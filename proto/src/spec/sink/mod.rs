//! The `[sink]` table of a job file, and the facts of each kind of sink.
//!
//! Owns: the list of kinds, the interface for the rest of the program ([`SinkFacts`]), the stored
//! form of a kind. Does not own: the keys and facts of a kind (its module), what a worker writes
//! (the worker's `sink`), what is published (the controller's `sink`).
//! Rule: no code outside matches on the kind or reads its settings: a new one is a module here, one
//! in `engine/src/sink/`, in `worker/src/sink/` and in `controller/src/sink/`, and a line in the
//! registry of each.

mod files;
mod iceberg;

pub use files::{
    Compression, FilesSink, PARTITION_COLUMNS_MAX, PartitionColumn, SinkCatalog, SinkFormat,
    SinkTypes, TimestampFormat,
};
pub use iceberg::{
    DATA_FILE_EXTENSION, IcebergSink, PartitionBy, PartitionTransform, PinnedTable, TableCatalog,
    TableMaintenance,
};

use super::Location;
use super::key::{Absent, Fields, Key, Kind, Part, Read, Word};
use super::keys::key;
use super::location::Named;
use super::raw::{Entry, Table};
use super::role::AssumedRole;
use crate::JobName;
use crate::bad_message::BadMessage;
use crate::change::{Refusal, SinkChange};
use crate::report::StagedObject;
use crate::staged_place::StagedBy;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// The interface of a kind of sink for the rest of the program.
pub trait SinkFacts {
    /// The value of `type` in the job file.
    fn type_name(&self) -> &'static str;
    /// As text: `s3://bucket/out/ as parquet, snappy, 2 partition columns`.
    fn describe(&self) -> String;
    /// The format of the objects of rows.
    fn format(&self) -> SinkFormat;
    /// Where readers find the results.
    fn place(&self) -> String;
    /// The role whose credentials are used for the rows' place; `None`: the programs' own.
    fn role(&self) -> Option<&AssumedRole>;
    /// Every role that it names, each with its key in dots.
    fn roles(&self) -> Vec<(&'static str, &AssumedRole)>;
    /// The folders that it writes to, each with the key that names it.
    fn folders(&self) -> Vec<(&'static str, &Location)>;
    /// How the objects of a job's rows are named, as text.
    fn object_names(&self, job: &JobName) -> String;
    /// Each key that has a value, except `type`.
    fn fields(&self) -> Fields;
    /// The keys that have a value even if the job file omits them.
    fn defaults(&self) -> Fields;
    /// Why a running job cannot take over a change of this key; `None`: it can.
    fn refuses(&self, key: &str, change: &SinkChange<'_>) -> Option<Refusal>;
    /// Checks that what a worker reports as staged can only become visible where this task writes
    /// its rows, and that it is staged in the right place.
    ///
    /// # Errors
    /// [`BadMessage`] names the field.
    fn check(&self, by: &StagedBy<'_>, staged: &StagedObject) -> Result<(), BadMessage>;
    /// The sink with a place that no other job has, of this name or another, if names of objects
    /// alone do not tell jobs apart. `submitted_ms`: the job's first submit.
    fn set_apart(&self, _job: &JobName, _submitted_ms: i64) -> Option<SinkKind> {
        None
    }
    /// How often small files are rewritten; `None`: they are not.
    fn compacts_every(&self) -> Option<Duration> {
        None
    }
    /// What makes an epoch name fewer objects.
    fn fewer_objects(&self) -> &'static str;
}

/// The values of `compression`, for each kind of sink.
const COMPRESSIONS: Word<Compression> = Word(&[
    ("none", Compression::None),
    ("snappy", Compression::Snappy),
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
]);

/// The context for reading the keys of a kind.
pub(super) struct SinkContext<'a, 'c> {
    /// Relative paths are resolved against it.
    base_dir: Option<&'c Path>,
    /// Every location that the job file names.
    places: &'c mut Vec<Named<'a>>,
}

/// A kind of sink in a job file.
pub(super) struct Registered {
    /// The value of `type`.
    word: &'static str,
    pub part: &'static Part,
    /// The tables below it.
    pub tables: &'static [&'static Part],
    read: ReadKind,
}

type ReadKind = for<'a> fn(&mut Table<'a>, &mut SinkContext<'a, '_>) -> Option<SinkKind>;

macro_rules! sink_kinds {
    ($($variant:ident($sink:ty) in $module:ident),+ $(,)?) => {
        /// The kind of sink, with its settings.
        #[derive(Clone, Debug, PartialEq)]
        pub enum SinkKind {
            $(#[doc = concat!("See [`", stringify!($sink), "`].")] $variant($sink)),+
        }

        impl Deref for SinkKind {
            type Target = dyn SinkFacts;
            fn deref(&self) -> &(dyn SinkFacts + 'static) {
                match self {
                    $(Self::$variant(sink) => sink),+
                }
            }
        }

        $(impl From<$sink> for SinkKind {
            fn from(sink: $sink) -> Self {
                Self::$variant(sink)
            }
        })+

        impl Serialize for SinkKind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant(sink) => store($module::KIND.word, sink, serializer)),+
                }
            }
        }

        impl<'de> Deserialize<'de> for SinkKind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (word, settings) = stored(deserializer)?;
                match word.as_str() {
                    $(word if word == $module::KIND.word => {
                        let sink = serde_json::from_value(settings).map_err(D::Error::custom)?;
                        Ok(Self::$variant(sink))
                    })+
                    word => Err(D::Error::custom(format_args!(
                        "{word:?} is no kind of sink that this build knows"
                    ))),
                }
            }
        }

        pub(super) static KINDS: &[&Registered] = &[$(&$module::KIND),+];
    };
}

// The registry.
sink_kinds! {
    Files(FilesSink) in files,
    Iceberg(IcebergSink) in iceberg,
}

/// The kind of jobs that do not name one; it is stored without its name, as earlier builds stored
/// it.
static DEFAULT: &Registered = &files::KIND;

/// The settings of a kind, after its name unless it is the default.
fn store<T: Serialize, S: Serializer>(
    word: &'static str,
    settings: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Typed<'a, T> {
        r#type: &'static str,
        #[serde(flatten)]
        settings: &'a T,
    }
    if word == DEFAULT.word {
        settings.serialize(serializer)
    } else {
        let r#type = word;
        Typed { r#type, settings }.serialize(serializer)
    }
}

/// The name of a stored kind, and its settings.
fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(String, Value), D::Error> {
    let mut settings = Map::<String, Value>::deserialize(deserializer)?;
    let word = match settings.remove("type") {
        None => DEFAULT.word.to_owned(),
        Some(Value::String(word)) => word,
        Some(other) => {
            return Err(D::Error::custom(format_args!(
                "{other} names no kind of sink"
            )));
        }
    };
    Ok((word, Value::Object(settings)))
}

static TYPE: Key<Type> = key(
    "type",
    Type,
    Absent::Is(DEFAULT),
    "what kind of sink; further keys depend on it",
);
pub(super) static SINK: Part = Part {
    title: "[sink]",
    about: "Where the rows of the query go. A window's rows become visible together, once.",
    keys: &[&TYPE],
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

/// Reads the table; the folders that it names are added to `places` as well.
pub(super) fn sink<'a>(
    mut table: Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<SinkKind> {
    let registered = table.value(&TYPE)?;
    let mut context = SinkContext { base_dir, places };
    let sink = (registered.read)(&mut table, &mut context);
    table.finish(belongs_elsewhere);
    sink
}

fn belongs_elsewhere(key: &str) -> Option<String> {
    let kind = KINDS.iter().find(|kind| kind.part.has(key))?;
    Some(format!("it is a key of type = {:?}", kind.word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = r#"{"path":"/out/","format":"json","compression":"none","partition_by":[],"target_size":1048576}"#;

    #[test]
    fn the_kind_of_earlier_builds_is_stored_without_its_name() {
        let sink: SinkKind = serde_json::from_str(STORED).unwrap();
        assert_eq!(sink.type_name(), "files");
        assert_eq!(serde_json::to_string(&sink).unwrap(), STORED);
        let named = STORED.replacen('{', r#"{"type":"files","#, 1);
        assert_eq!(serde_json::from_str::<SinkKind>(&named).unwrap(), sink);
    }

    #[test]
    fn any_other_kind_is_stored_with_its_name() {
        let mut bytes = Vec::new();
        let settings = serde_json::json!({"table": "db.sales"});
        store(
            "table",
            &settings,
            &mut serde_json::Serializer::new(&mut bytes),
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"type":"table","table":"db.sales"}"#
        );
    }

    #[test]
    fn a_kind_of_a_later_build_is_not_taken_for_files() {
        for (word, problem) in [
            (
                r#""table""#,
                r#""table" is no kind of sink that this build knows"#,
            ),
            ("7", "7 names no kind of sink"),
        ] {
            let later = STORED.replacen('{', &format!(r#"{{"type":{word},"#), 1);
            let error = serde_json::from_str::<SinkKind>(&later).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
