//! GetRecords responses in memory, which replace the SDK client's connection.
//!
//! Owns: their JSON and CBOR, in the service's form; handing them out. Does not own: their reader.
//! Rule: everything above the connection is the product's and the SDK's: requests are made, signed
//! and sent.

use super::data::Sales;
use crate::kinesis::cbor;
use anyhow::Context as _;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use streamctl_engine::source::Record;
use streamctl_engine::source::kinesis::answer::PartitionKeys;
use streamctl_engine::source::kinesis::{Api, Routes, Service, Spoken, Wire};
use streamctl_proto::resolved::StreamAddress;
use tokio::sync::Semaphore;

/// Responses for one reader, in order.
#[derive(Clone, Debug)]
pub struct Answers {
    bodies: Arc<Vec<Bytes>>,
    wire: Wire,
}

impl Answers {
    /// One for each chunk of these records.
    pub fn of(sales: &Sales, wire: Wire) -> Self {
        let body = |records: &[Record]| match wire {
            Wire::Json => body(records),
            Wire::Cbor => cbor::response(&body(records)).into(),
        };
        Self {
            bodies: Arc::new(sales.chunks().map(body).collect()),
            wire,
        }
    }

    /// Bytes of all responses.
    pub fn bytes(&self) -> u64 {
        self.bodies.iter().map(|body| body.len() as u64).sum()
    }

    /// The bytes of the first response.
    pub fn first(&self) -> Option<&[u8]> {
        self.bodies.first().map(|body| &body[..])
    }

    pub fn count(&self) -> usize {
        self.bodies.len()
    }

    /// A client that receives them in order.
    pub fn client(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "bench"))
            .http_client(self.http_client())
            .build();
        aws_sdk_kinesis::Client::from_conf(config)
    }

    fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Connection {
            answers: self.clone(),
            given: Arc::default(),
        });
        http_client_fn(move |_, _| connector.clone())
    }

    /// The product's calls for one shard through that client.
    pub fn api(&self) -> Api {
        Api {
            service: Service::Sdk(self.client()),
            stream: StreamAddress {
                name: "sales".into(),
                ..StreamAddress::default()
            },
            shard: "shardId-000000000000".into(),
            records_max: 10_000,
            partition_keys: PartitionKeys::Counted,
            timeout: Duration::from_secs(30),
            spoken: Spoken::known(self.wire),
            routes: Routes::default(),
            calls: Arc::new(Semaphore::new(1)),
        }
    }
}

#[derive(Debug)]
struct Connection {
    answers: Answers,
    given: Arc<AtomicUsize>,
}

impl HttpConnector for Connection {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let index = self.given.fetch_add(1, Ordering::Relaxed);
        let body = self.answers.bodies.get(index).cloned().unwrap_or_default();
        let status = 200.try_into().expect("200 is a status");
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        let media_type = match self.answers.wire {
            Wire::Json => "application/x-amz-json-1.1",
            Wire::Cbor => cbor::MEDIA_TYPE,
        };
        response.headers_mut().insert("content-type", media_type);
        HttpConnectorFuture::ready(Ok(response))
    }
}

fn body(records: &[Record]) -> Bytes {
    let mut out =
        String::from(r#"{"MillisBehindLatest":0,"NextShardIterator":"AAAAAAAAAAE","Records":["#);
    for (index, record) in records.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let arrival = record.arrival_ms as f64 / 1e12;
        let sequence = record.sequence.as_str();
        write!(
            out,
            r#"{comma}{{"ApproximateArrivalTimestamp":{arrival:.12}E9,"Data":""#
        )
        .expect("a string takes text");
        base64_simd::STANDARD.encode_append(&record.data, &mut out);
        write!(
            out,
            r#"","PartitionKey":"{index}","SequenceNumber":"49623{sequence:0>51}"}}"#
        )
        .expect("a string takes text");
    }
    out += "]}";
    out.into()
}

/// Decodes all responses, which are JSON, with the SDK's own decoder; returns the number of records.
pub async fn by_the_sdk(answers: &Answers) -> anyhow::Result<usize> {
    let client = answers.client();
    let mut records = 0;
    for _ in 0..answers.count() {
        let answer = client
            .get_records()
            .shard_iterator("AAAAAAAAAAE")
            .send()
            .await?;
        records += answer.records.len();
    }
    Ok(records)
}

/// Decodes all responses with the product's decoder; returns the number of records.
pub async fn by_the_product(answers: &Answers) -> anyhow::Result<usize> {
    let api = answers.api();
    let mut records = 0;
    for _ in 0..answers.count() {
        records += read(&api).await?.len();
    }
    Ok(records)
}

pub async fn read(api: &Api) -> anyhow::Result<Vec<Record>> {
    let answer = api.clone().records("AAAAAAAAAAE".into(), 0).await;
    let answer = answer
        .map_err(|failure| anyhow::anyhow!("{}", failure.message))
        .context("GetRecords")?;
    Ok(answer.records)
}
