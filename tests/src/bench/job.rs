//! The measured jobs: the model job's query, on generated records or on a stream, in any location.
//!
//! Owns: their text, their folders. Does not own: running them.
//! Rule: they differ only in source, window and location.

use super::pipeline::COLUMNS;
use crate::places::country_lookup;
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of most jobs; a prefix of the others.
pub(super) const JOB: &str = "bench";
/// Stream of a job that reads Kinesis.
pub(super) const STREAM: &str = "bench";

/// The source of a job's records.
pub(super) enum Source<'a> {
    /// Generated: the number of shards, records per second in total, records per shard (unlimited
    /// by default).
    Generator {
        shards: u32,
        rate: u64,
        records: Option<u64>,
    },
    /// Read from this service's [`STREAM`], from its oldest record.
    Kinesis {
        endpoint: &'a str,
        /// By default that of the product.
        poll: Option<&'a str>,
        /// Enhanced fan-out with a consumer of this name.
        consumer: Option<&'a str>,
    },
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Generator {
                shards,
                rate,
                records,
            } => {
                write!(f, "type = \"generator\"\nshards = {shards}\nrate = {rate}")?;
                records.map_or(Ok(()), |count| write!(f, "\nrecords_per_shard = {count}"))
            }
            Source::Kinesis {
                endpoint,
                poll,
                consumer,
            } => {
                write!(
                    f,
                    "type = \"kinesis\"\nstream = \"{STREAM}\"\nendpoint = \"{endpoint}\""
                )?;
                if let Some(poll) = poll {
                    write!(f, "\npoll_interval = \"{poll}\"")?;
                }
                if let Some(consumer) = consumer {
                    write!(f, "\nconsumer = \"{consumer}\"")?;
                }
                write!(f, "\nstarting_position = \"trim_horizon\"\n[source.schema]")?;
                COLUMNS
                    .iter()
                    .try_for_each(|column| write!(f, "\n{column} = \"string\""))
            }
        }
    }
}

/// A job in the model job's shape.
pub(super) struct JobText<'a> {
    pub(super) name: &'a str,
    pub(super) place: &'a str,
    pub(super) lookup: &'a str,
    pub(super) window: &'a str,
    pub(super) source: Source<'a>,
}

impl JobText<'_> {
    pub(super) fn written(&self, folder: &Path) -> String {
        let Self {
            name,
            place,
            lookup,
            window,
            source,
        } = self;
        let text = format!(
            r#"
name = "{name}"

[source]
{source}

[window]
size = "{window}"

[[lookup]]
name = "country_lookup"
path = "{lookup}"
format = "csv"

[transform]
sql = """
SELECT s.uuid, s.country, s.itemtype, s.saleschannel, s.orderpriority, s.orderdate, s.region, s.shipdate,
       c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "{place}/out/"
partition_by = ["ingest_year", "ingest_month", "ingest_day", "ingest_hour"]

[dead_letter]
path = "{place}/dead/"

[checkpoint]
location = "{place}/checkpoint/"
"#
        );
        let file = folder.join("job.toml");
        std::fs::write(&file, text).expect("the folder takes files");
        text_of(&file).to_owned()
    }
}

pub(super) fn text_of(path: &Path) -> &str {
    path.to_str().expect("the folder's path is text")
}

/// A folder with the lookup in it.
pub(super) fn folder_with_lookup(root: &Path, name: &str) -> (PathBuf, String) {
    let folder = root.join(name);
    let lookup = folder.join("lookup");
    std::fs::create_dir_all(&lookup).expect("the folder takes files");
    std::fs::copy(country_lookup(), lookup.join("country_lookup.csv"))
        .expect("the folder takes files");
    let lookup = format!("{}/", lookup.display());
    (folder, lookup)
}
