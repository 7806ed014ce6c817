//! Dead letters as rows.
//!
//! Owns: from letters to batches. Does not own: their columns (`engine`), how they are stored
//! ([`crate::dead_letter`]).
//! Rule: a letter's payload is complete, with its record's place in the source; at most a few
//! batches are in memory.

use crate::dead_letter::read::{Letter, Letters, LettersError};
use crate::dead_letter::rows::{RejectedLine, RejectedLines};
use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, StringArray, StringBuilder, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use futures::{Stream, TryStreamExt};
use std::sync::Arc;
use streamctl_engine::dead_letters::{RECORD, ROW, dead_letter_schema};
use streamctl_engine::storage::Storages;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{Epoch, Manifest, describe};
use tonic::Status;

/// Most letters of one batch.
const BATCH_LETTERS_MAX: usize = 1_000;
/// A batch is full at this size of its payloads.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The dead letters of an epoch, read on demand.
pub fn batches(
    storages: Storages,
    manifest: &Manifest,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
    let objects = manifest.dead_letter_objects().cloned().collect::<Vec<_>>();
    let rejected = manifest.rejected_row_objects().cloned();
    let listed = Listed {
        epoch: manifest.epoch,
        rows: RejectedLines::new(storages.clone(), rejected.collect::<Vec<_>>().into_iter()),
        letters: Letters::new(storages, manifest.epoch, objects.into_iter(), 0),
    };
    let next = |mut listed: Listed| async {
        let next = listed.next().await?;
        Ok::<_, FlightError>(next.map(|batch| (batch, listed)))
    };
    futures::stream::try_unfold(listed, next).into_stream()
}

/// The dead letters of an epoch, then its rejected rows.
struct Listed {
    epoch: Epoch,
    letters: Letters,
    rows: RejectedLines,
}

impl Listed {
    async fn next(&mut self) -> Result<Option<RecordBatch>, FlightError> {
        let letters = self.letters.next(BATCH_LETTERS_MAX, BATCH_BYTES_MAX).await;
        let letters = letters.map_err(|error| failed(&error))?;
        if !letters.is_empty() {
            return Ok(Some(batch(&letters)?));
        }
        let rows = self.rows.next(BATCH_LETTERS_MAX, BATCH_BYTES_MAX).await;
        let rows = rows.map_err(|error| failed(&error))?;
        match rows.is_empty() {
            true => Ok(None),
            false => Ok(Some(batch_of_rows(self.epoch, &rows)?)),
        }
    }
}

fn failed(error: &LettersError) -> FlightError {
    let text = describe(error);
    let status = match error {
        LettersError::Gone { .. } | LettersError::Changed { .. } => {
            Status::from(CallRefusal::new(Reason::CheckpointDamaged, text))
        }
        LettersError::Storage(_) => {
            Status::from(CallRefusal::new(Reason::CheckpointUnavailable, text))
        }
    };
    FlightError::Tonic(Box::new(status))
}

fn batch(letters: &[Letter]) -> Result<RecordBatch, ArrowError> {
    let numbers = |of: fn(&Letter) -> u64| {
        Arc::new(UInt64Array::from_iter_values(letters.iter().map(of))) as ArrayRef
    };
    let texts = |of: fn(&Letter) -> &str| {
        let mut builder = StringBuilder::new();
        letters
            .iter()
            .for_each(|letter| builder.append_value(of(letter)));
        Arc::new(builder.finish()) as ArrayRef
    };
    let times = TimestampMillisecondArray::from_iter_values(
        letters.iter().map(|letter| letter.origin.arrival_ms),
    );
    let mut payloads = BinaryBuilder::new();
    letters
        .iter()
        .for_each(|letter| payloads.append_value(&letter.data));
    let replayed = letters
        .iter()
        .map(|letter| letter.replayed_from.map(|epoch| epoch.0));
    let columns = vec![
        numbers(|letter| letter.origin.epoch.0),
        texts(|letter| letter.origin.shard.as_str()),
        texts(|letter| letter.origin.sequence.as_str()),
        numbers(|letter| letter.origin.sub_sequence),
        Arc::new(times.with_timezone("UTC")),
        texts(|letter| &letter.reason),
        Arc::new(payloads.finish()),
        Arc::new(UInt64Array::from_iter(replayed)),
        texts(|_| RECORD),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns)
}

fn batch_of_rows(epoch: Epoch, rows: &[RejectedLine]) -> Result<RecordBatch, ArrowError> {
    let count = rows.len();
    let repeated = |text: &str| Arc::new(StringArray::from(vec![text; count])) as ArrayRef;
    let starts =
        TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.window_start_ms));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(vec![epoch.0; count])),
        repeated(""),
        repeated(""),
        Arc::new(UInt64Array::from(vec![0; count])),
        Arc::new(starts.with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|row| &row.reason),
        )),
        Arc::new(BinaryArray::from_iter_values(
            rows.iter().map(|row| &row.row),
        )),
        Arc::new(UInt64Array::from(vec![None; count])),
        repeated(ROW),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns)
}
