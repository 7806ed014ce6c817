//! Calls by a learned route and calls of the SDK, side by side on one server.

use super::Routes;
use crate::aws::Aws;
use crate::source::kinesis::answer::PartitionKeys;
use crate::source::kinesis::api::{Api, Service};
use crate::source::kinesis::cursor::Failure;
use crate::source::kinesis::wire::{Spoken, Wire};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streamctl_proto::resolved::StreamAddress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const KEY: &str = "AKIDROUTE";
/// Of the fake's keys.
const SECRET: &str = "secret";
const NO_RECORDS: &str = r#"{"Records":[],"NextShardIterator":"b","MillisBehindLatest":0}"#;
const ERRORS: [(u16, &str, &str, &str); 5] = [
    (
        400,
        "application/x-amz-json-1.1",
        "",
        r#"{"__type":"ProvisionedThroughputExceededException","message":"slow down"}"#,
    ),
    (
        400,
        "application/x-amz-json-1.1",
        "",
        r#"{"__type":"com.amazonaws.kinesis#ExpiredIteratorException","message":"old"}"#,
    ),
    (
        403,
        "application/x-amz-json-1.1",
        "AccessDeniedException:http://internal.amazon.com/coral/",
        r#"{"Message":"no"}"#,
    ),
    (
        500,
        "application/x-amz-json-1.1",
        "",
        r#"{"__type":"InternalFailure"}"#,
    ),
    (502, "text/html", "", "<html>bad gateway</html>"),
];

#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    media_type: &'static str,
    error_type: &'static str,
    body: Vec<u8>,
}

fn records() -> Reply {
    Reply {
        status: 200,
        media_type: "application/x-amz-json-1.1",
        error_type: "",
        body: NO_RECORDS.into(),
    }
}

#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The SDK numbers its calls.
    fn is_of_sdk(&self) -> bool {
        self.header("amz-sdk-invocation-id").is_some()
    }

    /// Signature Version 4, computed here from what arrived.
    fn is_signed(&self) -> bool {
        let authorization = self.header("authorization").unwrap_or_default();
        let part = |name: &str| {
            let (_, rest) = authorization.split_once(name).unwrap_or_default();
            rest.split(',').next().unwrap_or_default().trim()
        };
        let time = self.header("x-amz-date").unwrap_or_default();
        let scope = part("Credential=").strip_prefix(&format!("{KEY}/"));
        let scope = scope.unwrap_or_default();
        let signed = part("SignedHeaders=");
        let headers: BTreeMap<&str, &str> = signed
            .split(';')
            .map(|name| (name, self.header(name).unwrap_or_default()))
            .collect();
        for name in ["host", "x-amz-date", "x-amz-target", "content-type"] {
            assert!(headers.contains_key(name), "{name} is not signed: {signed}");
        }
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let body = hex(&Sha256::digest(&self.body));
        let canonical = format!("POST\n/\n\n{headers}\n{signed}\n{body}");
        let canonical = hex(&Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}");
        let key = scope
            .split('/')
            .fold(format!("AWS4{SECRET}").into_bytes(), |key, part| {
                hmac(&key, part.as_bytes())
            });
        scope.ends_with("/us-east-1/kinesis/aws4_request")
            && part("Signature=") == hex(&hmac(&key, text.as_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256 of keys of at most a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(at, byte)| *at ^= byte);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text);
    let outer = Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner.finalize());
    outer.finalize().to_vec()
}

/// A server that gives these replies, then records; without a reply it closes the connection.
#[derive(Clone, Debug, Default)]
struct Server {
    replies: Arc<Mutex<Vec<Option<Reply>>>>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    async fn started(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(connection));
            }
        });
        address
    }

    async fn serve(self, mut connection: TcpStream) {
        let mut bytes = vec![];
        loop {
            let mut part = [0; 4096];
            let Ok(length @ 1..) = connection.read(&mut part).await else {
                return;
            };
            bytes.extend_from_slice(&part[..length]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let mut request = Request {
                head: String::from_utf8_lossy(&bytes[..end]).into_owned(),
                body: vec![],
            };
            let length: usize = request.header("content-length").unwrap().parse().unwrap();
            if bytes.len() < end + 4 + length {
                continue;
            }
            request.body = bytes[end + 4..end + 4 + length].to_vec();
            bytes.drain(..end + 4 + length);
            self.seen.lock().unwrap().push(request);
            let reply = self.replies.lock().unwrap().pop();
            let Some(reply) = reply.unwrap_or_else(|| Some(records())) else {
                return;
            };
            let error_type = match reply.error_type {
                "" => String::new(),
                code => format!("x-amzn-errortype: {code}\r\n"),
            };
            let head = format!(
                "HTTP/1.1 {} X\r\ncontent-type: {}\r\n{error_type}date: Tue, 24 Nov 2026 10:20:30 GMT\r\ncontent-length: {}\r\n\r\n",
                reply.status,
                reply.media_type,
                reply.body.len()
            );
            let answer = [head.as_bytes(), &reply.body].concat();
            if connection.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    fn next(&self, reply: Option<Reply>) {
        *self.replies.lock().unwrap() = vec![reply];
    }

    /// Whether the SDK sent each request since the last call; all are signed.
    fn senders(&self) -> Vec<bool> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        for request in &seen {
            assert!(request.is_signed(), "{}", request.head);
            let target = request.header("x-amz-target");
            assert_eq!(target, Some("Kinesis_20131202.GetRecords"));
        }
        seen.iter().map(Request::is_of_sdk).collect()
    }
}

async fn api(server: &Server, wire: Wire) -> Api {
    let stream = StreamAddress {
        name: "sales".into(),
        arn: Some("arn:aws:kinesis:us-east-1:123456789012:stream/sales".into()),
        ..StreamAddress::default()
    };
    let aws = Aws::with_fake(&server.started().await, KEY).await;
    Api {
        service: Service::Sdk(aws.kinesis(&stream).await),
        stream,
        shard: "shardId-000000000000".into(),
        records_max: 7,
        partition_keys: PartitionKeys::Counted,
        timeout: Duration::from_secs(5),
        spoken: Spoken::known(wire),
        routes: Routes::default(),
        calls: Arc::new(Semaphore::new(1)),
    }
}

async fn call(api: &Api) -> Result<(), Failure> {
    let answer = api.clone().records("a \"quoted\" one".into(), 0).await?;
    assert_eq!(
        answer.date.map(|date| date.date_ms),
        Some(1_795_515_630_000)
    );
    Ok(())
}

#[tokio::test]
async fn the_sdk_makes_the_first_call_and_the_next_ones_are_alike_and_signed() {
    let server = Server::default();
    let api = api(&server, Wire::Json).await;
    for _ in 0..3 {
        call(&api).await.unwrap();
    }
    let seen = server.seen.lock().unwrap().clone();
    assert_eq!(server.senders(), [true, false, false]);
    let fields =
        |request: &Request| -> serde_json::Value { serde_json::from_slice(&request.body).unwrap() };
    assert_eq!(fields(&seen[0]), fields(&seen[1]));
    for name in ["content-type", "user-agent", "host", "x-amz-user-agent"] {
        assert_eq!(seen[0].header(name), seen[1].header(name), "{name}");
    }
}

#[tokio::test]
async fn a_call_in_cbor_by_a_route_is_the_sdk_s() {
    let server = Server::default();
    let mut body = vec![0xA1, 0x67];
    body.extend_from_slice(b"Records");
    body.push(0x80);
    let reply = Reply {
        status: 200,
        media_type: "application/x-amz-cbor-1.1",
        error_type: "",
        body,
    };
    let api = api(&server, Wire::Cbor).await;
    for _ in 0..2 {
        server.next(Some(reply.clone()));
        call(&api).await.unwrap();
    }
    let seen = server.seen.lock().unwrap().clone();
    assert_eq!(server.senders(), [true, false]);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(
        seen[1].header("content-type"),
        Some("application/x-amz-cbor-1.1")
    );
}

#[tokio::test]
async fn an_error_is_the_same_by_a_route_and_the_sdk_makes_the_call_after_it() {
    let server = Server::default();
    for (status, media_type, error_type, body) in ERRORS {
        let reply = Some(Reply {
            status,
            media_type,
            error_type,
            body: body.into(),
        });
        let api = api(&server, Wire::Json).await;
        server.next(reply.clone());
        let by_sdk = call(&api).await.unwrap_err();
        call(&api).await.unwrap();
        server.next(reply);
        let by_route = call(&api).await.unwrap_err();
        call(&api).await.unwrap();
        assert_eq!(server.senders(), [true, true, false, true], "{body}");
        assert_eq!(by_route.code, by_sdk.code, "{body}");
        assert_eq!(by_route.status, by_sdk.status, "{body}");
        assert!(by_route.date.is_some() && by_sdk.date.is_some());
        if by_sdk.code.is_some() && body.contains("essage") {
            assert_eq!(by_route.message, by_sdk.message, "{body}");
        }
    }
}

#[tokio::test]
async fn an_error_in_cbor_is_the_same_by_a_route() {
    let server = Server::default();
    let reply = |status, body: Vec<u8>| Reply {
        status,
        media_type: "application/x-amz-cbor-1.1",
        error_type: "",
        body,
    };
    let text = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        [&[0x78, length], text.as_bytes()].concat()
    };
    let fields = [
        "__type",
        "com.amazonaws.kinesis#ExpiredIteratorException",
        "message",
        "it is old",
    ];
    let error = reply(400, [vec![0xA2], fields.map(text).concat()].concat());
    let records = reply(200, [vec![0xA1], text("Records"), vec![0x80]].concat());
    let api = api(&server, Wire::Cbor).await;
    server.next(Some(error.clone()));
    let by_sdk = call(&api).await.unwrap_err();
    server.next(Some(records));
    call(&api).await.unwrap();
    server.next(Some(error));
    let by_route = call(&api).await.unwrap_err();
    assert_eq!(server.senders(), [true, true, false]);
    assert_eq!(by_route.code.as_deref(), Some("ExpiredIteratorException"));
    let parts = |failure: Failure| (failure.code, failure.status, failure.message);
    assert_eq!(parts(by_route), parts(by_sdk));
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_failure_and_the_sdk_makes_the_call_after_it() {
    let server = Server::default();
    let api = api(&server, Wire::Json).await;
    call(&api).await.unwrap();
    server.next(None);
    let failure = call(&api).await.unwrap_err();
    assert_eq!((failure.code, failure.status), (None, None));
    assert!(!failure.message.is_empty());
    call(&api).await.unwrap();
    assert_eq!(server.senders(), [true, false, true]);
}
