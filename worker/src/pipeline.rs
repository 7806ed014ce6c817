//! From records to result rows.
//!
//! Owns: decode, then transform; how much is decoded at once. Does not own: which records are read,
//! what becomes of bad ones, where rows go.
//! Rule: a window, its replay and a preview take this one way, so the same records give the same
//! rows.

use crate::memory::UnpackRoom;
use crate::record_values::RecordValues;
use crate::task::{Context, DecodedNext, TaskError};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_engine::format::{BadRecord, Decoder};
use streamctl_engine::query::{
    OpenQuery, Pace, Pushed, QueryError, QueryInput, QueryOutput, QueryPlan, UnmatchedCounter,
};
use streamctl_engine::source::Record;
use streamctl_proto::{ShardId, Window};

/// Records decoded at once.
pub const DECODE_RECORDS_MAX: usize = 8_192;
/// Values decoded at once, records times columns: each takes memory even where it is null.
const DECODE_VALUES_MAX: usize = 1 << 20;

/// An open window of a job, or an open replay of one.
pub struct Pipeline<'a> {
    pub input: Input<'a>,
    /// The result rows; ends after [`Input`] is dropped.
    pub output: QueryOutput,
    pub unmatched: UnmatchedCounter,
}

impl<'a> Pipeline<'a> {
    /// Decodes what `plan` reads into `open`. `window`: that of all records; `None`: each has that of
    /// its arrival.
    ///
    /// # Errors
    /// The source's columns are not decoded into.
    pub fn new(
        context: &'a Context,
        plan: &'a QueryPlan,
        window: Option<Window>,
        open: OpenQuery,
        pace: Arc<Pace>,
    ) -> Result<Self, TaskError> {
        let columns = plan.source_columns();
        let input = Input {
            context,
            decoder: context.decoder(context.source_schema()?, columns)?,
            of_records: RecordValues::new(&context.job, plan.record_columns(), window),
            query: open.input,
            records_max: (DECODE_VALUES_MAX / columns.len().max(1)).clamp(1, DECODE_RECORDS_MAX),
            bytes_max: context.budget.decode_bytes(),
            has_enough: false,
            pace,
        };
        Ok(Self {
            input,
            output: open.output,
            unmatched: open.unmatched,
        })
    }
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

/// Records that are decoded.
pub struct Step {
    /// How many of the records given, from the first.
    pub records: usize,
    /// Which of these are bad; the others are rows.
    pub bad: Vec<BadRecord>,
    pub decoding: Duration,
    rows: RecordBatch,
    room: Option<UnpackRoom>,
}

impl Step {
    pub fn rows(&self) -> usize {
        self.rows.num_rows()
    }
}

impl Input<'_> {
    /// Decodes the first of these records of `shard`, at least one.
    ///
    /// # Errors
    /// A payload is too large for this worker, unpacked.
    pub async fn decode(&mut self, shard: &ShardId, records: &[Record]) -> Result<Step, TaskError> {
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
        let of_rows = of_rows(count, &decoded.bad);
        let rows = self
            .of_records
            .append(decoded.batch, of_rows, &records[..count], shard)
            .map_err(|error| QueryError::Input(error.to_string()))?;
        Ok(Step {
            records: count,
            bad: decoded.bad,
            decoding: began.elapsed(),
            rows,
            room,
        })
    }

    /// Gives the rows of a step to the query, in the order of `shard`, and lets other jobs have a
    /// turn.
    pub async fn push(&mut self, shard: &str, step: Step) -> Result<(), TaskError> {
        if step.rows() > 0 && !self.has_enough {
            self.has_enough = self.query.push(shard, step.rows).await? == Pushed::NotNeeded;
        }
        drop(step.room);
        self.pace.yield_point().await;
        Ok(())
    }

    /// The result does not depend on further rows.
    pub fn has_enough(&self) -> bool {
        self.has_enough
    }
}

/// The record of each row, by its place among the records given.
fn of_rows(records: usize, bad: &[BadRecord]) -> impl Iterator<Item = usize> {
    let mut bad = bad.iter().map(|bad| bad.index).peekable();
    (0..records).filter(move |index| bad.next_if_eq(index).is_none())
}
