//! Dead letters as rows.
//!
//! Owns: from letters to batches. Does not own: their columns (`engine`), how they are stored
//! ([`crate::dead_letter`]).
//! Rule: a letter's payload is complete, with its record's place in the source; at most a few
//! batches are in memory.

use crate::dead_letter::read::{Letter, Letters, LettersError};
use arrow::array::{
    ArrayRef, BinaryBuilder, StringBuilder, TimestampMillisecondArray, UInt64Array,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use futures::{Stream, TryStreamExt};
use std::sync::Arc;
use streamctl_engine::dead_letters::dead_letter_schema;
use streamctl_engine::storage::Storages;
use streamctl_proto::{Manifest, describe};
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
    let letters = Letters::new(storages, manifest.epoch, objects.into_iter(), 0);
    let next = |mut letters: Letters| async {
        let given = letters
            .next(BATCH_LETTERS_MAX, BATCH_BYTES_MAX)
            .await
            .map_err(|error| failed(&error))?;
        if given.is_empty() {
            return Ok::<_, FlightError>(None);
        }
        Ok(Some((batch(&given)?, letters)))
    };
    futures::stream::try_unfold(letters, next).into_stream()
}

fn failed(error: &LettersError) -> FlightError {
    let text = describe(error);
    let status = match error {
        LettersError::Gone { .. } | LettersError::Changed { .. } => Status::data_loss(text),
        LettersError::Storage(_) => Status::unavailable(text),
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
    ];
    RecordBatch::try_new(dead_letter_schema(), columns)
}
