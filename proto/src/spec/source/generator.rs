//! `type = "generator"`: the computed sales records of the model job.

use super::{Registered, SourceContext, SourceFacts, SourceKind, StartingPosition};
use crate::change::{ANOTHER_NAME, Refusal, SourceChange, refuse};
use crate::count;
use crate::resolved::StreamAddress;
use crate::spec::SourceSpec;
use crate::spec::key::{Absent, Fields, Key, Part, Rate, WHOLE_MAX, Whole};
use crate::spec::keys::key;
use crate::spec::raw::Table;
use serde::{Deserialize, Serialize};

/// Most shards of a generator.
pub const GENERATOR_SHARDS_MAX: u32 = 10_000;
/// Most records per second of a generator.
pub const GENERATOR_RATE_MAX: f64 = 10_000_000.0;
/// The columns of the records; all are text.
pub const GENERATOR_COLUMNS: [&str; 14] = [
    "uuid",
    "country",
    "itemtype",
    "saleschannel",
    "orderpriority",
    "orderdate",
    "region",
    "shipdate",
    "unitssold",
    "unitprice",
    "unitcost",
    "totalrevenue",
    "totalcost",
    "totalprofit",
];
const ANY: Whole = Whole {
    least: 0,
    most: WHOLE_MAX,
};

/// The computed sales records of the model job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorSource {
    /// Same seed, same records.
    pub seed: u64,
    pub shards: u32,
    /// Records per second, over all shards.
    pub rate: f64,
    /// Records per shard after which it ends; `None`: never.
    pub records_per_shard: Option<u64>,
    /// Every n-th record of a shard is not JSON; 0: none.
    pub bad_every: u64,
    /// Every n-th record of a shard has a country that no lookup has; 0: none.
    pub unmatched_every: u64,
}

static SEED: Key<Whole> = key(
    "seed",
    ANY,
    Absent::Is(1),
    "the same seed gives the same records",
);
static SHARDS: Key<Whole> = key(
    "shards",
    Whole {
        least: 1,
        most: GENERATOR_SHARDS_MAX as u64,
    },
    Absent::Is(2),
    "how many shards it has",
);
static RATE: Key<Rate> = key(
    "rate",
    Rate {
        most: GENERATOR_RATE_MAX,
    },
    Absent::Is(100.0),
    "records a second, over all shards",
);
static RECORDS_PER_SHARD: Key<Whole> = key(
    "records_per_shard",
    Whole {
        least: 1,
        most: WHOLE_MAX,
    },
    Absent::Means("no end"),
    "after how many records of each shard it ends",
);
static BAD_EVERY: Key<Whole> = key(
    "bad_every",
    ANY,
    Absent::Is(0),
    "every so many records one is not JSON; 0: none",
);
static UNMATCHED_EVERY: Key<Whole> = key(
    "unmatched_every",
    ANY,
    Absent::Is(0),
    "every so many records one has a country that no lookup has; 0: none",
);
static PART: Part = Part {
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

pub(super) static KIND: Registered = Registered {
    word: "generator",
    part: &PART,
    has_own_columns: true,
    read,
};

fn read(
    table: &mut Table<'_>,
    _: &mut SourceContext<'_, '_>,
) -> Option<(SourceKind, StartingPosition)> {
    let seed = table.value(&SEED);
    let shards = table.value(&SHARDS);
    let rate = table.value(&RATE);
    let records_per_shard = table.optional(&RECORDS_PER_SHARD);
    let bad_every = table.value(&BAD_EVERY);
    let unmatched_every = table.value(&UNMATCHED_EVERY);
    let source = GeneratorSource {
        seed: seed?,
        shards: u32::try_from(shards?).ok()?,
        rate: rate?,
        records_per_shard: records_per_shard?,
        bad_every: bad_every?,
        unmatched_every: unmatched_every?,
    };
    Some((SourceKind::Generator(source), StartingPosition::TrimHorizon))
}

impl SourceFacts for GeneratorSource {
    fn type_name(&self) -> &'static str {
        KIND.word
    }

    fn describe(&self) -> String {
        let shards = count(self.shards, "shard");
        format!("generator, {shards}, {} records a second", self.rate)
    }

    fn own_columns(&self) -> Option<&'static [&'static str]> {
        Some(&GENERATOR_COLUMNS)
    }

    fn fields(&self, spec: &SourceSpec, _: Option<&StreamAddress>) -> Fields {
        let mut fields = self.defaults(spec);
        let records = self.records_per_shard;
        fields.extend(records.map(|count| ("records_per_shard", count.to_string())));
        fields
    }

    fn defaults(&self, _: &SourceSpec) -> Fields {
        vec![
            ("seed", self.seed.to_string()),
            ("shards", self.shards.to_string()),
            ("rate", self.rate.to_string()),
            ("bad_every", self.bad_every.to_string()),
            ("unmatched_every", self.unmatched_every.to_string()),
        ]
    }

    fn refuses(&self, key: &str, change: &SourceChange<'_>) -> Option<Refusal> {
        if PART.has(key) {
            return refuse(
                "the records of a generator, and their times, follow from it",
                ANOTHER_NAME,
            );
        }
        change.another_source()
    }
}
