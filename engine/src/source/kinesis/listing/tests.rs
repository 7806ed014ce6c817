//! The listing against a fake service.

use super::*;
use aws_sdk_kinesis::Config;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const RETRY: Retry = Retry {
    tries_max: 4,
    base: Duration::from_millis(2),
};

/// A stream of this many shards; the second is closed, the third and the fourth come from both.
struct Fake {
    shards: u64,
    faults: VecDeque<(u16, &'static str)>,
    requests: Vec<Value>,
}

impl Fake {
    fn answer(&mut self, body: &Value) -> (u16, Value) {
        self.requests.push(body.clone());
        if let Some((status, code)) = self.faults.pop_front().filter(|(status, _)| *status != 200) {
            return (status, json!({"__type": code, "message": "as told"}));
        }
        let token = body["NextToken"].as_str();
        if token.is_some() && (body.get("StreamName").is_some() || body.get("StreamARN").is_some())
        {
            return (
                400,
                json!({"__type": "InvalidArgumentException", "message": "NextToken and StreamName"}),
            );
        }
        let from: u64 = token.map_or(0, |token| token.parse().unwrap());
        let to = self.shards.min(from + body["MaxResults"].as_u64().unwrap());
        let mut answer = json!({"Shards": (from..to).map(shard).collect::<Vec<_>>()});
        if to < self.shards {
            answer["NextToken"] = to.to_string().into();
        }
        (200, answer)
    }
}

fn name(i: u64) -> String {
    format!("shardId-{i:012}")
}

fn shard(i: u64) -> Value {
    let mut shard = json!({
        "ShardId": name(i),
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
    });
    if i == 1 {
        shard["SequenceNumberRange"]["EndingSequenceNumber"] = "9".into();
    }
    if i == 2 {
        shard["ParentShardId"] = name(0).into();
        shard["AdjacentParentShardId"] = name(1).into();
    }
    shard
}

async fn serve(stream: TcpStream, fake: Arc<Mutex<Fake>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let (status, answer) = fake
            .lock()
            .unwrap()
            .answer(&serde_json::from_slice(&body).unwrap());
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes()).await?;
    }
}

async fn start(shards: u64, faults: &[(u16, &'static str)]) -> (Client, Arc<Mutex<Fake>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let fake = Arc::new(Mutex::new(Fake {
        shards,
        faults: faults.iter().copied().collect(),
        requests: Vec::new(),
    }));
    let served = fake.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, served.clone()));
        }
    });
    (client(address), fake)
}

fn client(address: String) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(address)
        .build();
    Client::from_conf(config)
}

/// Another server at the stream's address, which returns this to every request.
async fn foreign(status: u16, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4_096];
            let _request = stream.read(&mut head).await.unwrap();
            let bytes = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn an_answer_of_something_else_is_not_shown() {
    const SECRET: &str = "S3cret-of-an-internal-service";
    let bodies = [
        SECRET.to_owned(),
        json!({"message": SECRET}).to_string(),
        json!({"__type": SECRET, "message": SECRET}).to_string(),
        json!({"__type": "AccessDeniedException", "message": SECRET}).to_string(),
        format!("<Error><Code>{SECRET}</Code><Message>{SECRET}</Message></Error>"),
    ];
    for body in bodies {
        for status in [200, 404, 503] {
            let endpoint = foreign(status, body.clone()).await;
            let client = client(endpoint.clone());
            let stream = StreamAddress {
                name: "sales".into(),
                endpoint: Some(endpoint),
                ..StreamAddress::default()
            };
            let listed = list(&client, &stream, RETRY).await;
            let described = describe(&client, &stream, RETRY).await;
            let shown = format!("{listed:?} {:?}", described.facts);
            assert!(
                !shown.contains("'S'") && !shown.contains("S3cret"),
                "{body} {status}: {shown}"
            );
            if body == SECRET {
                assert_eq!(shown.matches("not one of Kinesis").count(), 2, "{shown}");
            }
        }
    }
}

async fn listed(
    shards: u64,
    faults: &[(u16, &'static str)],
) -> (Result<Vec<ListedShard>, ListError>, Vec<Value>) {
    let (client, fake) = start(shards, faults).await;
    let stream = StreamAddress {
        name: "sales".into(),
        ..StreamAddress::default()
    };
    let shards = list(&client, &stream, RETRY).await;
    let requests = fake.lock().unwrap().requests.clone();
    (shards, requests)
}

#[tokio::test]
async fn line_10_every_page_is_read_at_one_thousand_and_at_ten_thousand_shards() {
    for (shards, pages) in [(4, 1), (1_000, 1), (1_001, 2), (10_000, 10)] {
        let (got, requests) = listed(shards, &[]).await;
        let ids: Vec<String> = got
            .unwrap()
            .into_iter()
            .map(|shard| shard.id.to_string())
            .collect();
        assert_eq!(ids, (0..shards).map(name).collect::<Vec<_>>());
        assert_eq!(requests.len(), pages);
        assert!(
            requests[1..]
                .iter()
                .all(|body| body.get("StreamName").is_none())
        );
    }
}

#[tokio::test]
async fn line_04_a_merged_shard_names_both_parents_and_a_closed_one_is_marked() {
    let shards = listed(3, &[]).await.0.unwrap();
    assert_eq!(shards[2].parents, [name(0), name(1)].map(ShardId::new));
    assert_eq!(
        shards.iter().map(|s| s.closed).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[tokio::test]
async fn line_10_a_listing_whose_token_expired_is_begun_again() {
    let (got, requests) = listed(2_500, &[(200, ""), (400, "ExpiredNextTokenException")]).await;
    assert_eq!(got.unwrap().len(), 2_500);
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[2]["StreamName"], "sales");
}

#[tokio::test]
async fn line_17_a_transient_failure_of_the_listing_is_tried_again() {
    let faults = [
        (400, "LimitExceededException"),
        (500, "InternalFailure"),
        (503, ""),
    ];
    let (got, requests) = listed(2, &faults).await;
    assert_eq!((got.unwrap().len(), requests.len()), (2, 4));
}

#[tokio::test]
async fn line_17_a_service_that_stays_down_is_unavailable_not_refused() {
    let (got, requests) = listed(2, &[(500, "InternalFailure"); 9]).await;
    assert!(matches!(got, Err(ListError::Unavailable { .. })));
    assert_eq!(requests.len(), RETRY.tries_max as usize);
}

#[tokio::test]
async fn line_20_a_missing_stream_and_missing_rights_are_refused_with_a_hint() {
    for (code, word) in [
        ("ResourceNotFoundException", "sales"),
        ("AccessDeniedException", "kinesis:ListShards"),
    ] {
        let (got, requests) = listed(2, &[(400, code)]).await;
        assert!(
            matches!(got, Err(ListError::Refused { hint, .. }) if hint.contains(word)),
            "{code}"
        );
        assert_eq!(requests.len(), 1);
    }
}

#[test]
fn a_machine_that_is_refused_may_be_served_later() {
    let codes = [
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "IncompleteSignature",
    ];
    for (code, status) in codes
        .map(|code| (code, Some(400)))
        .into_iter()
        .chain([("", Some(403)), ("Whatever", Some(407))])
    {
        assert!(refused_here(code, status).is_some(), "{code} {status:?}");
    }
    for (code, status) in [
        ("ResourceNotFoundException", Some(400)),
        ("", Some(500)),
        ("", None),
    ] {
        assert_eq!(refused_here(code, status), None, "{code} {status:?}");
    }
}
