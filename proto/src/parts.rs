//! Messages of a worker's session that are larger than one gRPC message.
//!
//! Owns: splitting a message into parts and reassembling it. Does not own: the session.
//! Rule: an assembled message is bounded. A message that fits is sent whole: an earlier build does
//! not know parts.

use crate::{MESSAGE_BYTES_MAX, v1};
use prost::Message;

/// Larger messages are sent in parts.
pub const WHOLE_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;
/// Size of one part. Each part also shows that the sender is alive, so it must be small enough for
/// a slow network.
pub const PART_BYTES: usize = 1 << 20;
/// Largest assembled message.
pub const ASSEMBLED_BYTES_MAX: usize = 256 << 20;
/// Largest report: the manifest of a larger one could not be read.
pub const REPORT_BYTES_MAX: usize = 64 << 20;
/// All uncommitted reports of a worker: they go into one Hello.
pub const UNDECIDED_BYTES_MAX: usize = 128 << 20;

/// A message that may be sent in parts.
pub trait InParts: Message + Default {
    /// Wraps a part in such a message.
    fn of_part(part: v1::Part) -> Self;
    /// Returns the part, if the message is one.
    fn into_part(self) -> Result<v1::Part, Self>;
}

macro_rules! in_parts {
    ($message:ty, $one_of:ident) => {
        impl InParts for $message {
            fn of_part(part: v1::Part) -> Self {
                Self {
                    message: Some(v1::$one_of::Message::Part(part)),
                }
            }
            fn into_part(self) -> Result<v1::Part, Self> {
                match self.message {
                    Some(v1::$one_of::Message::Part(part)) => Ok(part),
                    message => Err(Self { message }),
                }
            }
        }
    };
}

in_parts!(v1::WorkerMessage, worker_message);
in_parts!(v1::ControllerMessage, controller_message);

/// The message itself, or its parts, in order.
pub fn cut<M: InParts>(message: M) -> Cut<M> {
    if message.encoded_len() <= WHOLE_BYTES_MAX {
        return Cut {
            whole: Some(message),
            encoded: vec![],
            at: 0,
        };
    }
    Cut {
        whole: None,
        encoded: message.encode_to_vec(),
        at: 0,
    }
}

/// See [`cut`].
#[derive(Debug)]
pub struct Cut<M> {
    whole: Option<M>,
    encoded: Vec<u8>,
    at: usize,
}

impl<M: InParts> Iterator for Cut<M> {
    type Item = M;

    fn next(&mut self) -> Option<M> {
        if self.at == self.encoded.len() {
            return self.whole.take();
        }
        let end = self.encoded.len().min(self.at + PART_BYTES);
        let data = self.encoded[self.at..end].to_vec();
        self.at = end;
        Some(M::of_part(v1::Part {
            data,
            last: end == self.encoded.len(),
        }))
    }
}

/// Parts that do not form a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    #[error("a message in parts has more than {limit} bytes")]
    TooLarge {
        /// [`ASSEMBLED_BYTES_MAX`].
        limit: usize,
    },
    #[error("parts that are put together are no message: {0}")]
    Garbled(#[from] prost::DecodeError),
    /// Another message arrived before the last part.
    #[error("a message comes between the parts of another")]
    Interrupted,
}

#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    held: Option<Vec<u8>>,
}

impl Default for Assembler {
    fn default() -> Self {
        Self {
            limit: ASSEMBLED_BYTES_MAX,
            held: None,
        }
    }
}

impl Assembler {
    /// Takes the next message; returns a message when it is complete, and `None` while parts are
    /// missing.
    ///
    /// # Errors
    /// [`PartsError`]: nothing that follows can be assembled.
    pub fn take<M: InParts>(&mut self, message: M) -> Result<Option<M>, PartsError> {
        let part = match (message.into_part(), &self.held) {
            (Ok(part), _) => part,
            (Err(whole), None) => return Ok(Some(whole)),
            (Err(_), Some(_)) => return Err(PartsError::Interrupted),
        };
        let mut held = self.held.take().unwrap_or_default();
        if held.len() + part.data.len() > self.limit {
            return Err(PartsError::TooLarge { limit: self.limit });
        }
        held.extend_from_slice(&part.data);
        if part.last {
            return Ok(Some(M::decode(&held[..])?));
        }
        self.held = Some(held);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::worker_message::Message as Said;

    fn report(objects: usize) -> v1::WorkerMessage {
        let location = "s3://bucket/out/".to_owned() + &"x".repeat(1_000);
        let object = v1::StagedObject {
            location,
            ..v1::StagedObject::default()
        };
        let report = v1::Report {
            objects: vec![object; objects],
            ..v1::Report::default()
        };
        v1::WorkerMessage {
            message: Some(Said::Report(report)),
        }
    }

    fn assembled(
        parts: impl Iterator<Item = v1::WorkerMessage>,
    ) -> Result<Vec<v1::WorkerMessage>, PartsError> {
        let mut assembler = Assembler::default();
        let mut whole = vec![];
        for part in parts {
            whole.extend(assembler.take(part)?);
        }
        Ok(whole)
    }

    #[test]
    fn a_message_that_fits_is_sent_as_it_is() {
        let small = report(3);
        assert_eq!(cut(small.clone()).collect::<Vec<_>>(), [small]);
    }

    #[test]
    fn a_large_message_arrives_as_it_was_and_no_part_is_large() {
        let large = report(40_000);
        assert!(large.encoded_len() > 2 * MESSAGE_BYTES_MAX);
        let parts: Vec<_> = cut(large.clone()).collect();
        assert!(
            parts
                .iter()
                .all(|part| part.encoded_len() <= PART_BYTES + 16)
        );
        let between = [report(1), large.clone(), report(2), large];
        let came = assembled(between.clone().into_iter().flat_map(cut)).unwrap();
        assert_eq!(came, between);
    }

    #[test]
    fn what_is_put_together_is_bounded_and_must_be_a_message() {
        let part = |data: Vec<u8>, last| v1::WorkerMessage::of_part(v1::Part { data, last });
        let mut assembler = Assembler {
            limit: 10,
            held: None,
        };
        assert_eq!(assembler.take(part(vec![0; 10], false)), Ok(None));
        assert_eq!(
            assembler.take(part(vec![0], false)),
            Err(PartsError::TooLarge { limit: 10 })
        );
        let garbled = assembled([part(vec![0xFF; 4], true)].into_iter()).unwrap_err();
        assert!(matches!(garbled, PartsError::Garbled(_)));
        let interrupted = assembled([part(vec![1], false), report(1)].into_iter()).unwrap_err();
        assert_eq!(interrupted, PartsError::Interrupted);
    }
}
