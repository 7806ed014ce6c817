//! SubscribeToShard: events in `application/vnd.amazon.eventstream` for as long as it lasts.
//!
//! Owns: the events of one subscription. Does not own: who may subscribe (`consumers`), frames (AWS's
//! own encoder writes them).
//! Rule: as the real service: an event has the records up to a place that moves without records too;
//! the last event of a closed shard names its children and has no place.

use super::consumers::Grant;
use super::error::Refusal;
use super::operations::{child_shard, text};
use super::script::Fault;
use super::stream::{Shard, Stream, sequence_text};
use super::{Service, server};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Records of one event.
const RECORDS_MAX: usize = 1_000;
/// How often a subscription looks at the clock, which a test may move.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Parts = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

/// Begins a subscription.
pub(super) fn subscribe(
    service: &Arc<Service>,
    body: &Value,
    fault: Option<Fault>,
) -> Result<Response<BoxBody<Bytes, io::Error>>, Refusal> {
    let arn = text(body, "ConsumerARN")?;
    let shard = text(body, "ShardId")?;
    let now_us = service.clock.now_us();
    let grant = service.consumers.grant(arn, shard, now_us)?;
    let stream = service.find(&grant.stream)?;
    let shard = service.shard(&stream, shard)?;
    let position = &body["StartingPosition"];
    let iterator = json!({
        "ShardIteratorType": position["Type"], "StartingSequenceNumber": position["SequenceNumber"],
        "Timestamp": position["Timestamp"],
    });
    let after = {
        let mut state = shard.state();
        stream.expire(&mut state);
        service.iterator_after(&stream, &shard, &state, &iterator)?
    };
    let (parts, received) = mpsc::channel(1);
    let feed = Feed {
        service: Arc::clone(service),
        stream,
        shard,
        after,
        began_us: now_us,
        sent_us: None,
        fault,
    };
    tokio::spawn(feed.run(grant, parts));
    let made = Response::builder().header(CONTENT_TYPE, "application/vnd.amazon.eventstream");
    let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(received)));
    Ok(server::dated(
        service,
        made.body(body).expect("status and header are valid"),
    ))
}

struct Feed {
    service: Arc<Service>,
    stream: Arc<Stream>,
    shard: Arc<Shard>,
    /// The number of the last record that was sent.
    after: u64,
    began_us: i64,
    sent_us: Option<i64>,
    fault: Option<Fault>,
}

/// What there is to send.
struct Event {
    json: Vec<u8>,
    records: usize,
    bytes: usize,
    last: u64,
    is_end: bool,
}

impl Feed {
    async fn run(mut self, mut grant: Grant, parts: Parts) {
        let initial = frame("initial-response", "{}".into());
        if parts.send(Ok(Frame::data(initial))).await.is_err() {
            return;
        }
        loop {
            let limits = self.service.consumers.limits();
            let now_us = self.service.clock.now_us();
            let lasted_us = now_us - self.began_us;
            if lasted_us >= limits.lasts.as_micros() as i64 {
                return;
            }
            let is_silent = self.fault == Some(Fault::Silence);
            let event = self.event(now_us);
            let heartbeat_us = limits.heartbeat.as_micros() as i64;
            let is_due = self
                .sent_us
                .is_none_or(|sent_us| now_us - sent_us >= heartbeat_us);
            if !is_silent && (event.records > 0 || event.is_end || is_due) {
                let bytes = frame("SubscribeToShardEvent", event.json.into());
                if self.fault == Some(Fault::Cut) && event.records > 0 {
                    let half = bytes.slice(..bytes.len() / 2);
                    let _gone = parts.send(Ok(Frame::data(half))).await;
                    let _gone = parts.send(Err(io::Error::other("cut by the script"))).await;
                    return;
                }
                let sent = tokio::select! {
                    sent = parts.send(Ok(Frame::data(bytes))) => sent.is_ok(),
                    _ = &mut grant.ended => false,
                };
                if !sent || event.is_end {
                    return;
                }
                self.sent_us = Some(now_us);
                self.after = event.last;
                let cost = event.bytes as f64 / limits.bytes_per_second as f64;
                tokio::time::sleep(Duration::from_secs_f64(cost)).await;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = parts.closed() => return,
                _ = &mut grant.ended => return,
            }
        }
    }

    fn event(&self, now_us: i64) -> Event {
        let mut state = self.shard.state();
        self.stream.expire(&mut state);
        let (records_json, records, bytes, last) = state.after(self.after, RECORDS_MAX);
        let next = state.next(last);
        let behind_ms = next.map_or(0, |record| (now_us / 1_000 - record.arrival_ms).max(1));
        let closed = state.closed.clone().filter(|_| next.is_none());
        // Later records of this shard have later numbers, because they are put under its lock.
        let place = match next {
            Some(_) => last,
            None => self.stream.last_number(),
        };
        drop(state);
        let mut rest = json!({ "MillisBehindLatest": behind_ms });
        match &closed {
            Some(closed) => {
                let children = closed.children.iter();
                let children: Vec<Value> = children
                    .filter_map(|child| child_shard(&self.stream, *child))
                    .collect();
                rest["ChildShards"] = children.into();
            }
            None => rest["ContinuationSequenceNumber"] = sequence_text(place).into(),
        }
        let rest = rest.to_string();
        let json = [
            b"{\"Records\":[",
            &records_json[..],
            b"],",
            &rest.as_bytes()[1..],
        ]
        .concat();
        Event {
            json,
            records,
            bytes,
            last: last.max(self.after),
            is_end: closed.is_some(),
        }
    }
}

fn frame(kind: &'static str, payload: Bytes) -> Bytes {
    let text = |text: &'static str| HeaderValue::String(text.into());
    let message = Message::new(payload)
        .add_header(Header::new(":message-type", text("event")))
        .add_header(Header::new(":event-type", text(kind)))
        .add_header(Header::new(
            ":content-type",
            text("application/x-amz-json-1.1"),
        ));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("memory takes what is written");
    bytes.into()
}
