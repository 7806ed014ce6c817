//! Messages of an event stream (`application/vnd.amazon.eventstream`).
//!
//! Owns: which frames are events, exceptions or neither. Does not own: frames themselves (AWS's
//! decoder checks their lengths and sums), what an event contains (`answer`).
//! Rule: pure; what is not whole is kept, up to a limit.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

/// Most bytes that wait for the end of a message. An event has up to 10 MiB of payload, as base64.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// A message of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An event with records or without, in JSON.
    Event(Bytes),
    /// The stream ends with this error.
    Exception { code: String, message: String },
    /// Anything else: the initial response, which some services omit.
    Other,
}

/// The bytes are not an event stream.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("a message of more than {FRAME_BYTES_MAX} bytes")]
    TooLong,
    #[error("not an event stream: {0}")]
    Frame(#[from] aws_smithy_eventstream::error::Error),
}

/// The messages of one response.
#[derive(Debug, Default)]
pub struct Frames {
    decoder: MessageFrameDecoder,
    bytes: BytesMut,
    /// A message began whose end is not here yet.
    is_open: bool,
}

impl Frames {
    pub fn push(&mut self, bytes: &Bytes) -> Result<(), Malformed> {
        if self.bytes.len() + bytes.len() > FRAME_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        self.bytes.extend_from_slice(bytes);
        self.is_open |= !bytes.is_empty();
        Ok(())
    }

    /// The next whole message.
    pub fn next(&mut self) -> Result<Option<Incoming>, Malformed> {
        match self.decoder.decode_frame(&mut self.bytes)? {
            DecodedFrame::Complete(message) => {
                self.is_open = self.bytes.has_remaining();
                Ok(Some(incoming(&message)))
            }
            DecodedFrame::Incomplete => Ok(None),
        }
    }

    /// Whether everything that was pushed was part of a whole message.
    pub fn is_whole(&self) -> bool {
        !self.is_open
    }
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(alias = "Message")]
    message: Option<String>,
}

fn incoming(message: &Message) -> Incoming {
    let header = |name: &str| {
        let header = message
            .headers()
            .iter()
            .find(|header| header.name().as_str() == name)?;
        Some(header.value().as_string().ok()?.as_str().to_owned())
    };
    let body = || serde_json::from_slice::<ErrorBody>(message.payload()).unwrap_or_default();
    match header(":message-type").as_deref() {
        Some("event") if header(":event-type").as_deref() == Some("SubscribeToShardEvent") => {
            Incoming::Event(message.payload().clone())
        }
        Some("exception") => Incoming::Exception {
            code: header(":exception-type").unwrap_or_default(),
            message: body().message.unwrap_or_default(),
        },
        Some("error") => Incoming::Exception {
            code: header(":error-code").unwrap_or_default(),
            message: header(":error-message").unwrap_or_default(),
        },
        _ => Incoming::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue};

    fn framed(headers: &[(&'static str, &'static str)], payload: &'static str) -> Vec<u8> {
        let mut message = Message::new(Bytes::from_static(payload.as_bytes()));
        for (name, value) in headers {
            message = message.add_header(Header::new(*name, HeaderValue::String((*value).into())));
        }
        let mut bytes = Vec::new();
        write_message_to(&message, &mut bytes).unwrap();
        bytes
    }

    fn event(payload: &'static str) -> Vec<u8> {
        let headers = [
            (":message-type", "event"),
            (":event-type", "SubscribeToShardEvent"),
        ];
        framed(&headers, payload)
    }

    #[test]
    fn e09_messages_are_whole_however_the_connection_cuts_them() {
        let initial = [
            (":message-type", "event"),
            (":event-type", "initial-response"),
        ];
        let all = [framed(&initial, "{}"), event("{\"a\":1}"), event("{}")].concat();
        for size in [1, 7, all.len()] {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in all.chunks(size) {
                frames.push(&Bytes::copy_from_slice(part)).unwrap();
                while let Some(message) = frames.next().unwrap() {
                    found.push(message);
                }
            }
            assert!(frames.is_whole());
            let events = [
                Incoming::Other,
                Incoming::Event(Bytes::from_static(b"{\"a\":1}")),
                Incoming::Event(Bytes::from_static(b"{}")),
            ];
            assert_eq!(found, events);
        }
        let mut frames = Frames::default();
        let broken = Bytes::copy_from_slice(&all[..all.len() - 1]);
        frames.push(&broken).unwrap();
        while frames.next().unwrap().is_some() {}
        assert!(!frames.is_whole());
    }

    #[test]
    fn an_exception_has_a_code_and_a_message() {
        let headers = [
            (":message-type", "exception"),
            (":exception-type", "ResourceInUseException"),
        ];
        let mut frames = Frames::default();
        let bytes = framed(&headers, "{\"message\":\"taken over\"}");
        frames.push(&bytes.into()).unwrap();
        let exception = Incoming::Exception {
            code: "ResourceInUseException".to_owned(),
            message: "taken over".to_owned(),
        };
        assert_eq!(frames.next().unwrap(), Some(exception));
    }

    #[test]
    fn what_is_no_event_stream_is_refused_and_never_grows_without_bound() {
        let mut bytes = event("{}");
        bytes[9] ^= 1;
        let mut frames = Frames::default();
        frames.push(&bytes.into()).unwrap();
        assert!(frames.next().is_err());
        let mut frames = Frames::default();
        let part = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        frames.push(&part).unwrap();
        assert!(frames.push(&Bytes::from_static(b"x")).is_err());
    }
}
