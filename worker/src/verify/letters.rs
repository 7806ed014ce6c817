//! Dead letters as comparable bytes.
//!
//! Owns: one key per letter, the same for a letter that was read back and for a record that is bad
//! again. Does not own: rows (`sink::stored`).
//! Rule: the reason is not part of it: its text may change from build to build.

use crate::sink::EncodeError;
use crate::sink::stored::{Give, Keyed, STORED_LINE_BYTES_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use streamctl_engine::source::Record;
use streamctl_engine::source::files::lines::Lines;
use streamctl_proto::ShardId;

/// The key of a dead letter: without its reason, whose text may change from build to build.
#[derive(Deserialize)]
struct Letter {
    shard: String,
    sequence_number: String,
    #[serde(default)]
    sub_sequence: u64,
    #[serde(default)]
    reason: String,
    raw_base64: String,
}

impl Letter {
    fn give(&self, give: Give<'_>) {
        let Self {
            shard,
            sequence_number,
            sub_sequence,
            reason,
            raw_base64,
        } = self;
        let key = format!("{shard}\n{sequence_number}\n{sub_sequence}\n{raw_base64}");
        let text = || format!("{shard} {sequence_number}/{sub_sequence}: {reason}");
        give(Keyed {
            key: key.as_bytes(),
            text: &text,
        });
    }
}

/// The letters of an object that was read back.
pub fn dead_letters(location: &str, bytes: Bytes, give: Give<'_>) -> Result<(), EncodeError> {
    let mut lines = Lines::open(location, bytes, false)?.with_limit(STORED_LINE_BYTES_MAX);
    while let Some(line) = lines.next_line()? {
        match serde_json::from_slice::<Letter>(&line.bytes) {
            Ok(letter) => letter.give(give),
            Err(error) => {
                let text = || format!("line {} is not a dead letter: {error}", line.number);
                give(Keyed {
                    key: &line.bytes,
                    text: &text,
                });
            }
        }
    }
    Ok(())
}

/// The letter of a record that is bad again.
pub fn dead_letter(shard: &ShardId, record: &Record, reason: &str, give: Give<'_>) {
    // A replayed record that is bad again has its first place.
    let origin = record.origin.as_deref();
    let shard = origin.map_or(shard, |origin| &origin.shard);
    let sequence = origin.map_or(&record.sequence, |origin| &origin.sequence);
    let letter = Letter {
        shard: shard.as_str().to_owned(),
        sequence_number: sequence.as_str().to_owned(),
        sub_sequence: origin.map_or(record.sub_sequence, |origin| origin.sub_sequence),
        reason: reason.to_owned(),
        raw_base64: STANDARD.encode(&record.data),
    };
    letter.give(give);
}
