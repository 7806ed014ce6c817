//! A Kinesis shard over HTTP, with failures on demand.
//!
//! Owns: HTTP/1.1, JSON 1.1, one shard's records, iterators.
//! Rule: it responds as the service is documented to; only tests use it.

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::{Client, Config};
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The fault that the next call of a kind gets instead of a response.
pub(super) enum Fault {
    /// An error by its code.
    Code(u16, &'static str, &'static str),
    HangUp,
    Late(u64),
}

/// A call that was received.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) operation: String,
    pub(super) body: Value,
    pub(super) at: Instant,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) records: Vec<(u64, i64, String)>,
    /// Responses without records before each record.
    pub(super) gaps: u64,
    /// Names of children and their parents; closes the shard.
    pub(super) children: Option<Vec<(&'static str, Vec<&'static str>)>>,
    pub(super) faults: VecDeque<(&'static str, Fault)>,
    pub(super) taken: Vec<Taken>,
    /// Iterators made before this many calls are expired.
    pub(super) expired_before: usize,
    /// The service's clock; if `None`, responses have no date.
    pub(super) now_ms: Option<i64>,
    /// Records up to this number have expired.
    pub(super) trimmed_to: u64,
    /// An expired position gets no error but responses without records that are this far behind.
    pub(super) stuck_behind_ms: Option<i64>,
}

/// The server; it ends with its last client's connection and the test's runtime.
#[derive(Clone)]
pub(super) struct Fake {
    state: Arc<Mutex<State>>,
    address: String,
}

impl Fake {
    pub(super) async fn start(records: &[(u64, i64, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let records = records
            .iter()
            .map(|(n, t, data)| (*n, *t, (*data).to_owned()))
            .collect();
        let state = Arc::new(Mutex::new(State {
            records,
            ..State::default()
        }));
        let fake = Self { state, address };
        let server = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await.unwrap_or_default() });
            }
        });
        fake
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    pub(super) fn fault(&self, operation: &'static str, fault: Fault) {
        self.state().faults.push_back((operation, fault));
    }
    pub(super) fn taken(&self, operation: &str) -> Vec<Taken> {
        self.state()
            .taken
            .iter()
            .filter(|call| call.operation == operation)
            .cloned()
            .collect()
    }
    pub(super) fn client(&self) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .endpoint_url(&self.address)
            .build();
        Client::from_conf(config)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut operation = String::new();
            let mut length = 0;
            let mut line = String::new();
            loop {
                line.clear();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let Some((name, value)) = line.trim_end().split_once(": ") else {
                    if line.trim_end().is_empty() {
                        break;
                    } else {
                        continue;
                    }
                };
                match name.to_ascii_lowercase().as_str() {
                    "x-amz-target" => {
                        operation = value.rsplit('.').next().unwrap_or_default().to_owned()
                    }
                    "content-length" => length = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (status, answer) = match self.take(&operation, &body) {
                Some(Fault::HangUp) => return Ok(()),
                Some(Fault::Code(status, code, message)) => {
                    (status, json!({"__type": code, "message": message}))
                }
                Some(Fault::Late(ms)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
                    self.answer(&operation, &body)
                }
                None => self.answer(&operation, &body),
            };
            let text = answer.to_string();
            let date = self
                .state()
                .now_ms
                .and_then(chrono::DateTime::from_timestamp_millis);
            let date = date.map(|date| {
                date.format("date: %a, %d %b %Y %H:%M:%S GMT\r\n")
                    .to_string()
            });
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: \
                 application/x-amz-json-1.1\r\n{}content-length: {}\r\n\r\n",
                date.unwrap_or_default(),
                text.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
        }
    }

    fn take(&self, operation: &str, body: &Value) -> Option<Fault> {
        let mut state = self.state();
        state.taken.push(Taken {
            operation: operation.to_owned(),
            body: body.clone(),
            at: Instant::now(),
        });
        let first = state.faults.front().is_some_and(|(of, _)| *of == operation);
        if first {
            state.faults.pop_front().map(|(_, fault)| fault)
        } else {
            None
        }
    }

    fn answer(&self, operation: &str, body: &Value) -> (u16, Value) {
        let state = self.state();
        match operation {
            "GetShardIterator" => match state.expired(body) {
                Some(message) => (
                    400,
                    json!({"__type": "InvalidArgumentException", "message": message}),
                ),
                None => (
                    200,
                    json!({"ShardIterator": state.token(state.first(body), 0)}),
                ),
            },
            "GetRecords" => state.read(
                body["ShardIterator"].as_str().unwrap(),
                body["Limit"].as_u64().unwrap(),
            ),
            other => (
                400,
                json!({"__type": "UnknownOperationException", "message": other}),
            ),
        }
    }
}

impl State {
    /// The position of an iterator, the number of empty responses that it returned there, and when
    /// it was made.
    fn token(&self, index: usize, gap: u64) -> String {
        format!("{index}:{gap}:{}", self.taken.len())
    }

    /// The error of a sequence number that has expired.
    fn expired(&self, body: &Value) -> Option<&'static str> {
        let after: u64 = body["StartingSequenceNumber"].as_str()?.parse().unwrap();
        (after < self.trimmed_to && self.stuck_behind_ms.is_none())
            .then_some("the sequence number has expired")
    }

    fn first(&self, body: &Value) -> usize {
        match body["ShardIteratorType"].as_str().unwrap() {
            "TRIM_HORIZON" => self.oldest(),
            "AT_TIMESTAMP" => {
                let at = (body["Timestamp"].as_f64().unwrap() * 1000.0).round() as i64;
                let first = self
                    .records
                    .iter()
                    .position(|(_, t, _)| *t >= at)
                    .unwrap_or(self.records.len());
                first.max(self.oldest())
            }
            "AFTER_SEQUENCE_NUMBER" => {
                let after: u64 = body["StartingSequenceNumber"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                self.records.partition_point(|(n, _, _)| *n <= after)
            }
            other => panic!("{other}"),
        }
    }

    fn oldest(&self) -> usize {
        self.records
            .partition_point(|(n, _, _)| *n <= self.trimmed_to)
    }

    fn read(&self, token: &str, limit: u64) -> (u16, Value) {
        let parts: Vec<u64> = token.split(':').map(|part| part.parse().unwrap()).collect();
        let index = parts[0] as usize;
        let gap = parts[1];
        let made = parts[2] as usize;
        if made < self.expired_before {
            return (
                400,
                json!({"__type": "ExpiredIteratorException", "message": "Iterator expired."}),
            );
        }
        if let Some(behind_ms) = self.stuck_behind_ms.filter(|_| index < self.oldest()) {
            let next = self.token(index, gap);
            return (
                200,
                json!({"Records": [], "NextShardIterator": next, "MillisBehindLatest": behind_ms}),
            );
        }
        let index = index.max(self.oldest());
        if gap < self.gaps && index < self.records.len() {
            let next = self.token(index, gap + 1);
            return (
                200,
                json!({"Records": [], "NextShardIterator": next, "MillisBehindLatest": 1000}),
            );
        }
        let end = self.records.len().min(index + limit as usize);
        let record = |(number, arrival, data): &(u64, i64, String)| {
            let data = base64::engine::general_purpose::STANDARD.encode(data);
            let arrival = *arrival as f64 / 1000.0;
            json!({"SequenceNumber": number.to_string(), "ApproximateArrivalTimestamp": arrival, "Data": data, "PartitionKey": "k"})
        };
        let records: Vec<Value> = self.records[index..end].iter().map(record).collect();
        let at_tip = end == self.records.len();
        let mut answer =
            json!({"Records": records, "MillisBehindLatest": if at_tip { 0 } else { 1000 }});
        match &self.children {
            Some(children) if at_tip => {
                let range = json!({"StartingHashKey": "0", "EndingHashKey": "1"});
                let child = |(name, parents): &(&str, Vec<&str>)| json!({"ShardId": name, "ParentShards": parents, "HashKeyRange": range});
                answer["ChildShards"] = children.iter().map(child).collect();
            }
            _ => answer["NextShardIterator"] = self.token(end, 0).into(),
        }
        (200, answer)
    }
}
