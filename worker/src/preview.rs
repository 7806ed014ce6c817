//! A job's query on a few records of its real source: nothing is committed, nothing is written.
//!
//! Owns: which records are taken. Does not own: reading, decoding, the query: they are those of the
//! live path; the request and its answer ([`order`]).
//! Rule: bounded in records, bytes, shards and time; it does not wait for a source that returns
//! nothing.

mod order;

pub use order::{PreviewError, Resources, preview, preview_action};

use crate::pipeline::{CallContext, Pipeline, Produced};
use crate::sink::SinkError;
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::query::{BATCH_ROWS, Pace, QueryError, QueryPlan};
use streamctl_engine::sink::layout;
use streamctl_engine::source::sample::End;
use streamctl_engine::source::{ReadError, Record, ShardToRead};
use streamctl_engine::written::Formed;
use streamctl_proto::preview::PREVIEW_SHARDS_MAX;
use streamctl_proto::report::{NullValues, UnknownKey, UnmatchedKey, most_null, most_unknown};
use streamctl_proto::{LookupVersion, ShardId};
use tokio::time::{Instant, timeout_at};

/// Most payload bytes of a preview's records, half of a replay's memory: all of them are held.
const SAMPLE_BYTES_MAX: usize = 32 << 20;
/// Most memory of a preview's result.
const RESULT_BYTES_MAX: usize = 64 << 20;
/// Consecutive empty reads after which a shard counts as empty: Kinesis crosses gaps that way.
const EMPTY_READS_MAX: usize = 20;

/// Some records, by arrival, and their shards.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub records: Vec<(ShardId, Record)>,
    /// The time or the room for records ran out before every shard was read as far as requested.
    pub cut_short: bool,
}

/// A record that is not a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Its place in the sample, from 0.
    pub index: usize,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    /// The columns of the result, as the sink writes them.
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// Why rows would be rejected: a value has no place in the type of its column.
    pub rejected: Vec<String>,
    /// The records that would be dead letters.
    pub bad: Vec<Bad>,
    /// Rows without a match in a lookup.
    pub unmatched: u64,
    /// The most frequent keys of these.
    pub unmatched_keys: Vec<UnmatchedKey>,
    /// The columns whose bad values became null.
    pub null_values: Vec<NullValues>,
    /// The keys that no column has.
    pub unknown_keys: Vec<UnknownKey>,
}

/// Reads up to `records_max` records, about as many from each shard, for at most `within`.
///
/// # Errors
/// A reader's error that a retry cannot fix.
pub async fn sample(
    context: &Context,
    shards: &[ShardToRead],
    end: End,
    records_max: usize,
    within: Duration,
) -> Result<Sample, ReadError> {
    let deadline = Instant::now() + within;
    let shards = &shards[..shards.len().min(PREVIEW_SHARDS_MAX)];
    let wanted = Wanted {
        end,
        records_max,
        bytes_max: SAMPLE_BYTES_MAX / shards.len().max(1),
    };
    let reads = shards
        .iter()
        .map(|shard| some_of(context, shard, &wanted, deadline));
    let mut all = Vec::new();
    let mut cut_short = false;
    for (shard, read) in shards
        .iter()
        .zip(futures::future::try_join_all(reads).await?)
    {
        let (records, cut) = read;
        cut_short |= cut;
        all.push((shard.shard.clone(), records));
    }
    let mut records = fair(all, end, records_max);
    records.sort_by_key(|(_, record)| record.arrival_ms);
    Ok(Sample { records, cut_short })
}

/// What is taken of one shard.
struct Wanted {
    end: End,
    records_max: usize,
    bytes_max: usize,
}

/// Records of one shard.
#[derive(Default)]
struct Kept {
    records: VecDeque<Record>,
    bytes: usize,
    /// More records were wanted than there is room for.
    is_full: bool,
}

impl Kept {
    /// Adds records, and drops those that are too many, from the end that is not wanted.
    fn add(&mut self, records: Vec<Record>, wanted: &Wanted) {
        self.bytes += records.iter().map(|one| one.data.len()).sum::<usize>();
        self.records.extend(records);
        while self.records.len() > wanted.records_max {
            self.drop_one(wanted.end);
        }
        while self.bytes > wanted.bytes_max && self.records.len() > 1 {
            self.is_full = true;
            self.drop_one(wanted.end);
        }
    }

    fn drop_one(&mut self, end: End) {
        let dropped = match end {
            End::First => self.records.pop_back(),
            End::Last => self.records.pop_front(),
        };
        self.bytes -= dropped.map_or(0, |one| one.data.len());
    }
}

/// Records of one shard, and whether the time or the room ran out before there were enough.
async fn some_of(
    context: &Context,
    shard: &ShardToRead,
    wanted: &Wanted,
    deadline: Instant,
) -> Result<(VecDeque<Record>, bool), ReadError> {
    let mut kept = Kept::default();
    let mut empty = 0;
    let Ok(reader) = timeout_at(deadline, context.sources.open(&context.job, shard)).await else {
        return Ok((kept.records, true));
    };
    let mut reader = reader?;
    while empty < EMPTY_READS_MAX {
        let Ok(chunk) = timeout_at(deadline, reader.next()).await else {
            return Ok((kept.records, true));
        };
        let chunk = chunk?;
        empty = if chunk.records.is_empty() {
            empty + 1
        } else {
            0
        };
        kept.add(chunk.records, wanted);
        let has_first = kept.is_full || kept.records.len() >= wanted.records_max;
        let enough = wanted.end == End::First && has_first;
        if enough || chunk.end.is_some() || (chunk.behind_ms == 0 && chunk.complete_to_ms.is_some())
        {
            break;
        }
    }
    Ok((kept.records, kept.is_full))
}

/// Takes one of each shard in turn, from the requested end.
fn fair(
    mut shards: Vec<(ShardId, VecDeque<Record>)>,
    end: End,
    records_max: usize,
) -> Vec<(ShardId, Record)> {
    let mut taken = Vec::new();
    let mut more = true;
    while more && taken.len() < records_max {
        more = false;
        for (shard, records) in &mut shards {
            let next = if end == End::First {
                records.pop_front()
            } else {
                records.pop_back()
            };
            if let Some(record) = next.filter(|_| taken.len() < records_max) {
                taken.push((shard.clone(), record));
                more = true;
            }
        }
    }
    // The last records of each shard were taken in reverse.
    if end == End::Last {
        taken.reverse();
    }
    taken
}

/// The next records and their shard: only those of one shard, if their places count.
fn some<'a>(
    sampled: &'a [(ShardId, Record)],
    records: &'a [Record],
    of_shard: bool,
) -> (&'a ShardId, &'a [Record]) {
    let shard = &sampled[0].0;
    let is_other = |(other, _): &(ShardId, Record)| of_shard && other != shard;
    let end = sampled.iter().position(is_other).unwrap_or(records.len());
    (shard, &records[..end])
}

/// What the job's function is given: the window of the last record, and lookups without a version.
fn given_for(
    context: &Context,
    lookups: &BTreeMap<String, RecordBatch>,
    sample: &Sample,
) -> CallContext {
    let last = sample.records.last();
    let arrival_ms = last.map_or(0, |(_, record)| record.arrival_ms);
    let rows = |(name, rows): (&String, &RecordBatch)| {
        let version = LookupVersion::new("preview");
        (name.clone(), (version, rows.clone()))
    };
    CallContext {
        window: context.job.spec.window.window_of(arrival_ms),
        attempt: 1,
        memory: None,
        lookups: lookups.iter().map(rows).collect(),
    }
}

/// Runs the job's query on a sample, with these rows as its lookups.
///
/// # Errors
/// The same as a worker's: the query or the columns do not fit.
pub async fn compute(
    context: &Context,
    plan: &QueryPlan,
    lookups: &BTreeMap<String, RecordBatch>,
    sample: &Sample,
    pace: &Arc<Pace>,
) -> Result<Outcome, TaskError> {
    let (memory, _place) = context.budget.replay().await;
    let open = plan.open_within(lookups, memory, BATCH_ROWS, pace).await?;
    let given = given_for(context, lookups, sample);
    let pipeline = Pipeline::new(context, plan, None, open, given, Arc::clone(pace))?;
    let Pipeline {
        input,
        mut output,
        unmatched,
        ..
    } = pipeline;
    let records: Vec<Record> = sample
        .records
        .iter()
        .map(|(_, record)| record.clone())
        .collect();
    let of_shard = !plan.record_columns().is_empty();
    let feed = async {
        let mut input = input;
        let mut done = 0;
        let mut bad = Vec::new();
        let mut nulls = Vec::new();
        let mut unknown = Vec::new();
        while done < records.len() {
            let (shard, rest) = some(&sample.records[done..], &records[done..], of_shard);
            let taken = input.take(shard, rest).await?;
            bad.extend(taken.dead.into_iter().map(|one| Bad {
                index: done + one.index,
                reason: one.reason,
            }));
            nulls.extend_from_slice(&taken.nulls);
            unknown.extend_from_slice(&taken.unknown_keys);
            done += taken.records;
        }
        let null_values = most_null(nulls.iter());
        Ok::<_, TaskError>((bad, null_values, most_unknown(unknown.iter())))
    };
    let give = async {
        let mut batches = Vec::new();
        let mut held = 0;
        let mut rejected = Vec::new();
        while let Some(produced) = output.next().await? {
            let batch = match produced {
                Produced::Rows(batch) => batch,
                Produced::Dead(dead) => {
                    rejected.extend(dead.reasons);
                    continue;
                }
            };
            held += batch.get_array_memory_size();
            if held > RESULT_BYTES_MAX {
                let detail =
                    "the rows of the preview are too large together: take fewer records".to_owned();
                return Err(QueryError::Memory {
                    limit_bytes: RESULT_BYTES_MAX,
                    detail,
                }
                .into());
            }
            batches.push(batch);
        }
        Ok::<_, TaskError>((batches, rejected))
    };
    let ((bad, null_values, unknown_keys), (batches, mut rejected)) = tokio::try_join!(feed, give)?;
    let form = layout(&context.job.spec.sink).form(&context.result_schema(plan)?);
    let mut formed = Vec::with_capacity(batches.len());
    for batch in &batches {
        let Formed { rows, refused } = form.rows(batch).map_err(SinkError::Split)?;
        formed.push(rows);
        rejected.extend(refused.into_iter().map(|(reason, _)| reason));
    }
    let unmatched_rows = unmatched.rows();
    let unmatched_keys = unmatched.top();
    Ok(Outcome {
        schema: Arc::clone(form.schema()),
        batches: formed,
        rejected,
        bad,
        unmatched: unmatched_rows,
        unmatched_keys,
        null_values,
        unknown_keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::{Bed, job};
    use streamctl_proto::Position;

    fn shards(names: &[&str]) -> Vec<ShardToRead> {
        let shard = |name: &&str| ShardToRead::new((*name).into(), Position::Start, String::new());
        names.iter().map(shard).collect()
    }

    fn sequences(sample: &Sample) -> Vec<String> {
        sample
            .records
            .iter()
            .map(|(shard, record)| format!("{shard}{}", record.sequence))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_shard_gives_its_share_from_the_wanted_end() {
        let bed = Bed::new(job("SELECT id FROM source"));
        bed.push("a", 0, &[1, 2, 3, 4, 5]);
        bed.push("b", 100, &[1]);
        for name in ["a", "b"] {
            bed.source.close(&name.into(), vec![]);
        }
        let context = bed.context();
        let within = Duration::from_secs(5);
        let first = sample(&context, &shards(&["a", "b"]), End::First, 3, within)
            .await
            .unwrap();
        let last = sample(&context, &shards(&["a", "b"]), End::Last, 3, within)
            .await
            .unwrap();
        assert_eq!(first.records.len(), 3);
        assert!(
            sequences(&first)
                .iter()
                .filter(|name| name.starts_with('a'))
                .count()
                == 2,
            "{:?}",
            sequences(&first)
        );
        assert_ne!(sequences(&first), sequences(&last));
        let all = sample(&context, &shards(&["a", "b"]), End::First, 100, within)
            .await
            .unwrap();
        assert_eq!((all.records.len(), all.cut_short), (6, false));
    }

    #[test]
    fn a_sample_that_has_no_more_room_keeps_the_wanted_end_and_is_cut_short() {
        let record = |sequence: &str| Record {
            sequence: sequence.to_owned().try_into().unwrap(),
            sub_sequence: 0,
            arrival_ms: 0,
            data: bytes::Bytes::from(vec![b'x'; 4]),
            origin: None,
            extra: None,
            foreign: Default::default(),
        };
        let records = || ["1", "2", "3", "4"].map(record).to_vec();
        for (end, expected) in [(End::First, ["1", "2"]), (End::Last, ["3", "4"])] {
            let wanted = Wanted {
                end,
                records_max: 3,
                bytes_max: 8,
            };
            let mut kept = Kept::default();
            kept.add(records(), &wanted);
            let sequences: Vec<_> = kept
                .records
                .iter()
                .map(|one| one.sequence.to_string())
                .collect();
            assert_eq!(
                (sequences, kept.bytes),
                (expected.map(String::from).to_vec(), 8)
            );
            assert!(kept.is_full);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_gives_nothing_is_not_waited_for() {
        let bed = Bed::new(job("SELECT id FROM source"));
        let none = sample(
            &bed.context(),
            &shards(&["a"]),
            End::First,
            3,
            Duration::from_secs(5),
        )
        .await
        .unwrap();
        assert!(none.records.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_query_runs_on_the_sample_and_names_what_is_bad() {
        let bed = Bed::new(job("SELECT id FROM source WHERE id >= 1"));
        bed.push("a", 0, &[10, 20]);
        bed.source.close(&"a".into(), vec![]);
        let context = bed.context();
        let mut sample = sample(
            &context,
            &shards(&["a"]),
            End::First,
            10,
            Duration::from_secs(5),
        )
        .await
        .unwrap();
        sample.records[0].1.data = bytes::Bytes::from_static(b"not json");
        let (plan, tables) = context.plan(&BTreeMap::new()).await.unwrap();
        let outcome = compute(&context, &plan, &tables, &sample, &Arc::default())
            .await
            .unwrap();
        assert_eq!(
            outcome.bad.iter().map(|bad| bad.index).collect::<Vec<_>>(),
            [0]
        );
        assert_eq!(
            outcome
                .batches
                .iter()
                .map(RecordBatch::num_rows)
                .sum::<usize>(),
            1
        );
    }
}
