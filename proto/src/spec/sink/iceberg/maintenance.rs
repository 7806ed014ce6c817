//! What a job does to keep its table readable: its keys in the job file.
//!
//! Does not own: which files are rewritten, and how (the engine, the worker, the controller).

use crate::spec::key::{Absent, Key, Part, Size, Span};
use crate::spec::keys::key;
use crate::spec::raw::{Entry, Table};
use crate::spec::{bytes_text, duration_text};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The shortest time between two looks for small files.
const COMPACT_MIN: Duration = Duration::from_secs(10);
const COMPACT_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The size of rewritten files, if the job does not set it.
const TARGET_SIZE_DEFAULT: u64 = 256 << 20;
const TARGET_SIZE_MIN: u64 = 1 << 20;
/// Larger files help no reader, and a rewriting reads four times as much.
const TARGET_SIZE_MAX: u64 = 4 << 30;

/// Rewriting small files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMaintenance {
    /// How often small files are looked for.
    pub compact: Duration,
    /// Rewritten files are cut at about this size.
    pub target_size: u64,
}

impl TableMaintenance {
    /// For users: `compact every 1h into 256MiB`.
    pub fn describe(&self) -> String {
        let every = duration_text(self.compact);
        format!(
            "compact every {every} into {}",
            bytes_text(self.target_size)
        )
    }
}

static COMPACT: Key<Span> = key(
    "compact",
    Span {
        least: COMPACT_MIN,
        most: COMPACT_MAX,
    },
    Absent::Refused("for example compact = \"1h\""),
    "how often small files are looked for",
);
static TARGET_SIZE: Key<Size> = key(
    "target_size",
    Size {
        least: TARGET_SIZE_MIN,
    },
    Absent::Is(TARGET_SIZE_DEFAULT),
    "the size of rewritten files, at most `4GiB`; those below three quarters of it are small",
);
pub(super) static PART: Part = Part {
    title: "[sink.maintenance]",
    about: "With `type = \"iceberg\"`: workers [rewrite small files](iceberg.md#small-files) of the job into larger ones, beside the appends.",
    keys: &[&COMPACT, &TARGET_SIZE],
};

pub(super) fn read(entry: &Entry<'_>) -> Option<TableMaintenance> {
    let mut table = entry.table()?;
    let read = maintenance(&mut table);
    table.finish(|_| None);
    let read = read?;
    if read.target_size > TARGET_SIZE_MAX {
        entry.refuse(
            format_args!("target_size is more than {}", bytes_text(TARGET_SIZE_MAX)),
            "for example target_size = \"256MiB\"",
        );
    }
    Some(read)
}

fn maintenance(table: &mut Table<'_>) -> Option<TableMaintenance> {
    let compact = table.value(&COMPACT);
    let target_size = table.value(&TARGET_SIZE);
    Some(TableMaintenance {
        compact: compact?,
        target_size: target_size?,
    })
}
