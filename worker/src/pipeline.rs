//! From records to result rows.
//!
//! Owns: decode, then transform; how much is decoded at once; which records become neither. Does not
//! own: which records are read, what becomes of bad ones, where rows go.
//! Rule: a window, its replay and a preview take this one way, so the same records give the same
//! rows and the same dead letters.

mod output;

pub use output::{CallContext, Output, Produced};

use crate::record_values::RecordValues;
use crate::task::timed::timed;
use crate::task::{Context, DecodedNext, TaskError};
use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use output::FunctionOutput;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_engine::format::{BadRecord, Decoder, SeveralRows, records_of_rows};
use streamctl_engine::query::{
    BlamedRow, OpenQuery, Pace, Pushed, QueryError, QueryInput, QueryOutput, QueryPlan,
    QueryProfile, UnmatchedCounter,
};
use streamctl_engine::source::{Foreign, Record};
use streamctl_proto::report::{NullValues, UnknownKey};
use streamctl_proto::spec::{Aggregates, OnQueryError};
use streamctl_proto::{ShardId, Window};

/// Records decoded at once.
pub const DECODE_RECORDS_MAX: usize = 8_192;
/// Values decoded at once, records times columns and fields of structs: each takes memory even where
/// it is null.
const DECODE_VALUES_MAX: usize = 1 << 20;

/// An open window of a job, or an open replay of one.
pub struct Pipeline<'a> {
    pub input: Input<'a>,
    /// The result rows; ends after [`Input`] is dropped.
    pub output: Output<'a>,
    pub unmatched: UnmatchedCounter,
    /// Final when the output has ended.
    pub profile: QueryProfile,
}

impl<'a> Pipeline<'a> {
    /// Decodes what `plan` reads into `open`. `window`: that of all records; `None`: each has that of
    /// its arrival. `given` is for the job's function.
    ///
    /// # Errors
    /// The source's columns are not decoded into.
    pub fn new(
        context: &'a Context,
        plan: &'a QueryPlan,
        window: Option<Window>,
        open: OpenQuery,
        given: CallContext,
        pace: Arc<Pace>,
    ) -> Result<Self, TaskError> {
        let decoder = context.decoder(context.source_schema()?, plan.source_columns())?;
        let records_max = DECODE_VALUES_MAX / decoder.width().max(1);
        let input = Input {
            context,
            decoder,
            of_records: RecordValues::new(&context.job, plan.record_columns(), window),
            query: open.input,
            records_max: records_max.clamp(1, DECODE_RECORDS_MAX),
            bytes_max: context.budget.decode_bytes(),
            has_enough: false,
            pace,
        };
        Ok(Self {
            input,
            output: output_of(context, plan, open.output, given)?,
            unmatched: open.unmatched,
            profile: open.profile,
        })
    }
}

/// The query's rows, or those that the job's function returns for them.
fn output_of<'a>(
    context: &'a Context,
    plan: &QueryPlan,
    query: QueryOutput,
    given: CallContext,
) -> Result<Output<'a>, TaskError> {
    let Some(function) = &context.job.spec.function else {
        return Ok(Output::Query(query));
    };
    let input = plan.output_schema().clone();
    let result = context.result_schema(plan)?;
    let output = FunctionOutput::new(context, query, input, result, function.per.clone(), given);
    Ok(Output::Function(Box::new(output)))
}

/// Takes the records of a window. Dropped, it ends the window.
pub struct Input<'a> {
    context: &'a Context,
    decoder: Decoder,
    of_records: RecordValues<'a>,
    query: QueryInput,
    records_max: usize,
    bytes_max: usize,
    has_enough: bool,
    pace: Arc<Pace>,
}

/// Records that were taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// How many of the records given, from the first.
    pub records: usize,
    /// Which of these become no row, in their order; the query has the rows of the others.
    pub dead: Vec<DeadRecord>,
    /// Rows beyond the first of each record.
    pub further_rows: u64,
    /// Bad values that became null, per column.
    pub nulls: Vec<NullValues>,
    /// Keys that no column has.
    pub unknown_keys: Vec<UnknownKey>,
    pub decoding: Duration,
    pub computing: Duration,
}

/// A record that becomes a dead letter in place of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRecord {
    /// Its place among the records given, from 0.
    pub index: usize,
    pub reason: String,
    pub cause: Cause,
}

/// Why a record becomes no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It cannot be decoded.
    Format,
    /// The query cannot take its row.
    Query,
    /// It is of an aggregate, and of another shard's hash range.
    Foreign,
}

const FOREIGN: &str = "a user record of an aggregate, outside of the hash range of this shard: a \
                       producer of the KPL has put it again, another library has not";

impl Taken {
    /// Counts the rows of the records that did not become dead letters.
    fn note_further_rows(&mut self, several: &[SeveralRows]) {
        let is_dead = |one: &&SeveralRows| {
            self.dead
                .binary_search_by_key(&one.index, |dead| dead.index)
                .is_ok()
        };
        let of_live = several.iter().filter(|one| !is_dead(one));
        self.further_rows = of_live.map(|one| one.rows as u64 - 1).sum();
    }

    /// How many became no row for this cause.
    pub fn dead_by(&self, cause: Cause) -> u64 {
        self.dead.iter().filter(|dead| dead.cause == cause).count() as u64
    }
}

impl Input<'_> {
    /// Decodes the first of these records, at least one, and gives their rows to the query, in the
    /// order of `shard`. Lets other jobs have a turn.
    ///
    /// # Errors
    /// A payload is too large for this worker, unpacked. The query cannot go on, or cannot take a
    /// row of a job that fails then.
    pub async fn take(&mut self, shard: &ShardId, records: &[Record]) -> Result<Taken, TaskError> {
        let began = Instant::now();
        let next = self
            .context
            .decode_next(&mut self.decoder, records, self.records_max, self.bytes_max)
            .await?;
        let DecodedNext {
            count,
            decoded,
            room,
        } = next;
        let now = &records[..count];
        let mut several = decoded.several;
        let mut taken = Taken {
            records: count,
            further_rows: 0,
            dead: decoded.bad.into_iter().map(DeadRecord::from).collect(),
            nulls: decoded.nulls,
            unknown_keys: decoded.unknown_keys,
            decoding: began.elapsed(),
            computing: Duration::ZERO,
        };
        let rows = self.with_places(decoded.batch, shard, now, &several, &taken.dead)?;
        let rows = self.without_foreign(now, rows, &mut several, &mut taken.dead)?;
        if rows.num_rows() > 0 && !self.has_enough {
            let mut blamed = Vec::new();
            let together = together(count, &taken.dead, &several);
            let pushed = self
                .query
                .push_records(shard.as_str(), rows, &together, &mut blamed);
            let pushed = timed(&mut taken.computing, pushed).await?;
            self.has_enough = pushed == Pushed::NotNeeded;
            self.blame(shard, now, blamed, &several, &mut taken.dead)?;
        }
        taken.note_further_rows(&several);
        drop(room);
        self.pace.yield_point().await;
        Ok(taken)
    }

    /// The rows with the columns of their records' places that the query reads.
    fn with_places(
        &self,
        rows: RecordBatch,
        shard: &ShardId,
        records: &[Record],
        several: &[SeveralRows],
        dead: &[DeadRecord],
    ) -> Result<RecordBatch, TaskError> {
        if self.of_records.is_empty() {
            return Ok(rows);
        }
        let of_rows = records_of_rows(records.len(), indexes(dead), several);
        let rows = self
            .of_records
            .append(rows, of_rows.into_iter(), records, shard)
            .map_err(|error| QueryError::Input(error.to_string()))?;
        Ok(rows)
    }

    /// The rows without those of other shards, if these become dead letters.
    fn without_foreign(
        &self,
        records: &[Record],
        rows: RecordBatch,
        several: &mut Vec<SeveralRows>,
        dead: &mut Vec<DeadRecord>,
    ) -> Result<RecordBatch, TaskError> {
        let kind = &self.context.job.spec.source.kind;
        let is_foreign = |record: &Record| record.foreign == Foreign::Yes;
        if kind.aggregates() != Some(Aggregates::DeadLetter) || !records.iter().any(is_foreign) {
            return Ok(rows);
        }
        let of_rows = records_of_rows(records.len(), indexes(dead), several);
        let own: BooleanArray = of_rows
            .iter()
            .map(|index| Some(!is_foreign(&records[*index])))
            .collect();
        let rows = filter_record_batch(&rows, &own)
            .map_err(|error| QueryError::Input(error.to_string()))?;
        several.retain(|one| !is_foreign(&records[one.index]));
        dead.retain(|dead| !is_foreign(&records[dead.index]));
        let foreign = records
            .iter()
            .enumerate()
            .filter(|(_, one)| is_foreign(one));
        dead.extend(foreign.map(|(index, _)| DeadRecord {
            index,
            reason: FOREIGN.to_owned(),
            cause: Cause::Foreign,
        }));
        dead.sort_by_key(|dead| dead.index);
        Ok(rows)
    }

    /// Adds the records of the rows that the query cannot take.
    fn blame(
        &self,
        shard: &ShardId,
        records: &[Record],
        blamed: Vec<BlamedRow>,
        several: &[SeveralRows],
        dead: &mut Vec<DeadRecord>,
    ) -> Result<(), TaskError> {
        if blamed.is_empty() {
            return Ok(());
        }
        let of_rows = records_of_rows(records.len(), indexes(dead), several);
        for BlamedRow { row, reason } in blamed {
            let index = of_rows[row];
            match self.context.job.spec.query_errors.on {
                OnQueryError::DeadLetter => dead.push(DeadRecord {
                    index,
                    reason: format!("the query cannot take it: {reason}"),
                    cause: Cause::Query,
                }),
                OnQueryError::Fail => {
                    let place = place(shard, &records[index]);
                    return Err(QueryError::Rows(format!("{reason}; record {place}")).into());
                }
            }
        }
        dead.sort_by_key(|dead| dead.index);
        Ok(())
    }

    /// The result does not depend on further rows.
    pub fn has_enough(&self) -> bool {
        self.has_enough
    }
}

impl From<BadRecord> for DeadRecord {
    fn from(BadRecord { index, reason }: BadRecord) -> Self {
        Self {
            index,
            reason,
            cause: Cause::Format,
        }
    }
}

fn indexes(dead: &[DeadRecord]) -> impl Iterator<Item = usize> {
    dead.iter().map(|dead| dead.index)
}

/// The places of the rows of each record that has several.
fn together(records: usize, dead: &[DeadRecord], several: &[SeveralRows]) -> Vec<Range<usize>> {
    if several.is_empty() {
        return Vec::new();
    }
    let of_rows = records_of_rows(records, indexes(dead), several);
    let place = |one: &SeveralRows| {
        let start = of_rows.partition_point(|index| *index < one.index);
        start..start + one.rows
    };
    several.iter().map(place).collect()
}

/// Where a record is in its source, for a message.
pub(crate) fn place(shard: &ShardId, record: &Record) -> String {
    match record.origin.as_deref() {
        Some(origin) => format!("{} of shard {}", origin.sequence, origin.shard),
        None => format!("{} of shard {shard}", record.sequence),
    }
}

#[cfg(test)]
mod tests;
