//! Reads dead letters back, from the objects that a manifest names.
//!
//! Owns: their order, the check that they are the committed bytes. Does not own: their use (a
//! replay, a listing).
//! Rule: an object is read only if it matches its manifest (size, CRC-32C, letters).

use super::BadLetter;
use super::DeadLetter;
use bytes::{Buf, Bytes};
use flate2::bufread::GzDecoder;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use streamctl_engine::source::{Extra, Foreign, Origin, Record};
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::{Epoch, StagedObject};

/// Largest object that is read: objects are cut at 64 MiB, after the letter that reaches it. Held
/// in memory, compressed.
pub const LETTER_OBJECT_BYTES_MAX: u64 = 128 << 20;
/// Longest line that is read: a record of 10 MiB in base64, and the other fields.
pub const LETTER_BYTES_MAX: usize = 16 << 20;

/// A dead letter as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The record as its source gave it: its original place and its payload.
    pub origin: Origin,
    /// The epoch that it was replayed from, if it became a dead letter again.
    pub replayed_from: Option<Epoch>,
    /// Why it could not be decoded.
    pub reason: String,
    pub data: Bytes,
    /// Its partition key, if it was kept.
    pub partition_key: Option<String>,
    /// Its place among the dead letters of its epoch, from 1.
    pub number: u64,
}

impl Letter {
    /// The letter as a record that is read now.
    pub fn into_record(self, arrival_ms: i64) -> Record {
        let origin = Some(Box::new(self.origin));
        let keyed = |key| {
            Box::new(Extra {
                partition_key: Some(key),
                ..Extra::default()
            })
        };
        Record {
            sequence: self.number.into(),
            sub_sequence: 0,
            arrival_ms,
            data: self.data,
            origin,
            extra: self.partition_key.map(keyed),
            foreign: Foreign::No,
        }
    }
}

/// Dead letters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    #[error("{location} was deleted")]
    Gone { location: String },
    /// An object differs from what was committed.
    #[error("{location} is not what was committed: {reason}")]
    Changed { location: String, reason: String },
    /// The storage's error; [`StorageError::Unavailable`] may be retried.
    #[error(transparent)]
    Storage(StorageError),
}

/// The dead letters of one epoch, in order.
pub struct Letters {
    storages: Storages,
    epoch: Epoch,
    objects: VecDeque<StagedObject>,
    open: Option<OpenObject>,
    /// The last one that was returned or skipped.
    last: u64,
    /// Letters up to here are skipped.
    after: u64,
}

pub(super) struct OpenObject {
    location: String,
    lines: BufReader<GzDecoder<bytes::buf::Reader<Bytes>>>,
    left: u64,
}

impl Letters {
    /// The letters after the `after`-th, from the objects of `epoch`.
    pub fn new(
        storages: Storages,
        epoch: Epoch,
        objects: impl Iterator<Item = StagedObject>,
        after: u64,
    ) -> Self {
        let mut letters = Self {
            storages,
            epoch,
            objects: objects.collect(),
            open: None,
            last: 0,
            after,
        };
        while letters
            .objects
            .front()
            .is_some_and(|object| letters.last + object.rows <= after)
        {
            letters.last += letters.objects.pop_front().map_or(0, |object| object.rows);
        }
        letters
    }

    /// Whether all letters have been returned.
    pub fn is_over(&self) -> bool {
        self.objects.is_empty() && self.open.as_ref().is_none_or(|object| object.left == 0)
    }

    /// At most this many, or one; empty if there are no more. Cancel safe: dropping the future
    /// loses nothing.
    pub async fn next(
        &mut self,
        letters_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Letter>, LettersError> {
        let mut given = Vec::new();
        let mut bytes = 0;
        while given.is_empty() {
            if self.open.is_none() {
                let Some(object) = self.objects.front() else {
                    break;
                };
                self.open = Some(open(&self.storages, object).await?);
                self.objects.pop_front();
            }
            while let Some(object) = self
                .open
                .as_mut()
                .filter(|_| given.len() < letters_max && bytes < bytes_max)
            {
                let Some(line) = object.next()? else {
                    self.open = None;
                    break;
                };
                self.last += 1;
                if self.last > self.after {
                    let letter = letter(self.epoch, self.last, &line)
                        .map_err(|bad| object.changed(bad.to_string()))?;
                    bytes += letter.data.len();
                    given.push(letter);
                }
            }
        }
        Ok(given)
    }
}

/// Fetches an object, if it is still the committed one.
pub(super) async fn open(
    storages: &Storages,
    object: &StagedObject,
) -> Result<OpenObject, LettersError> {
    let location = object.location.clone();
    let changed = |reason: String| LettersError::Changed {
        location: location.clone(),
        reason,
    };
    let bytes = match storages
        .for_location(&location)
        .get(&location, LETTER_OBJECT_BYTES_MAX)
        .await
    {
        Ok(bytes) => bytes,
        Err(StorageError::NotFound { location }) => return Err(LettersError::Gone { location }),
        Err(error) => return Err(LettersError::Storage(error)),
    };
    if bytes.len() as u64 != object.size {
        return Err(changed(format!(
            "it has {} bytes, not {}",
            bytes.len(),
            object.size
        )));
    }
    if crc32c::crc32c(&bytes) != object.crc32c {
        return Err(changed("its checksum is another".into()));
    }
    let lines = BufReader::new(GzDecoder::new(bytes.reader()));
    Ok(OpenObject {
        location,
        lines,
        left: object.rows,
    })
}

impl OpenObject {
    pub(super) fn changed(&self, reason: String) -> LettersError {
        LettersError::Changed {
            location: self.location.clone(),
            reason,
        }
    }

    /// The next line; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, LettersError> {
        let mut line = Vec::new();
        let read = (&mut self.lines)
            .take(LETTER_BYTES_MAX as u64)
            .read_until(b'\n', &mut line);
        read.map_err(|error| self.changed(error.to_string()))?;
        match (line.last(), self.left) {
            (None, 0) => Ok(None),
            (Some(b'\n'), 1..) => {
                self.left -= 1;
                Ok(Some(line))
            }
            (None, left) => Err(self.changed(format!("{left} letters are missing at its end"))),
            (_, 0) => Err(self.changed("it has more letters than were committed".into())),
            _ => Err(self.changed(format!("a letter is longer than {LETTER_BYTES_MAX} bytes"))),
        }
    }
}

fn letter(epoch: Epoch, number: u64, line: &[u8]) -> Result<Letter, BadLetter> {
    let DeadLetter {
        shard,
        sequence_number,
        sub_sequence,
        arrival_ms,
        reason,
        raw_base64,
        replayed_from,
        partition_key,
        ..
    } = serde_json::from_slice(line)?;
    let data = super::payload(&raw_base64)?;
    let shard = streamctl_proto::ShardId::new(shard);
    let sequence = sequence_number.into_owned().try_into()?;
    let origin = Origin {
        epoch,
        shard,
        sequence,
        sub_sequence,
        arrival_ms,
    };
    let replayed_from = replayed_from.map(Epoch);
    let reason = reason.into_owned();
    Ok(Letter {
        origin,
        replayed_from,
        reason,
        data,
        partition_key: partition_key.map(Cow::into_owned),
        number,
    })
}
