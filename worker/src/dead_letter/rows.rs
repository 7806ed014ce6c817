//! Reads rejected rows back, from the objects that a manifest names.
//!
//! Owns: their order. Does not own: the check that an object is the committed one ([`super::read`]),
//! how they are written (the sink).
//! Rule: a row is given as it was written, byte for byte.

use super::read::{LettersError, OpenObject, open};
use bytes::Bytes;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use streamctl_engine::storage::Storages;
use streamctl_proto::StagedObject;

/// A row that is in no object of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedLine {
    pub window_start_ms: i64,
    /// Why it is not in the result.
    pub reason: String,
    /// The row as a JSON object.
    pub row: Bytes,
}

/// The stored form.
#[derive(Deserialize)]
struct Stored<'a> {
    window_start: String,
    reason: String,
    #[serde(borrow)]
    row: &'a RawValue,
}

/// The rejected rows of one epoch, in order.
pub struct RejectedLines {
    storages: Storages,
    objects: VecDeque<StagedObject>,
    open: Option<OpenObject>,
}

impl RejectedLines {
    pub fn new(storages: Storages, objects: impl Iterator<Item = StagedObject>) -> Self {
        Self {
            storages,
            objects: objects.collect(),
            open: None,
        }
    }

    /// At most this many, or one; empty if there are no more.
    pub async fn next(
        &mut self,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<RejectedLine>, LettersError> {
        let mut given = Vec::new();
        let mut bytes = 0;
        while given.len() < rows_max && bytes < bytes_max {
            let Some(object) = &mut self.open else {
                let Some(next) = self.objects.pop_front() else {
                    break;
                };
                self.open = Some(open(&self.storages, &next).await?);
                continue;
            };
            let Some(line) = object.next()? else {
                self.open = None;
                continue;
            };
            let stored: Stored<'_> =
                serde_json::from_slice(&line).map_err(|error| object.changed(error.to_string()))?;
            let start = DateTime::parse_from_rfc3339(&stored.window_start)
                .map_err(|error| object.changed(format!("window_start: {error}")))?;
            let row = Bytes::copy_from_slice(stored.row.get().as_bytes());
            bytes += row.len();
            given.push(RejectedLine {
                window_start_ms: start.timestamp_millis(),
                reason: stored.reason,
                row,
            });
        }
        Ok(given)
    }
}
