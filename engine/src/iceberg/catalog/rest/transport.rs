//! HTTP calls to a catalog.
//!
//! Rule: every call has a deadline and every body a limit. A call that failed may have arrived.

use super::super::super::metadata::METADATA_BYTES_MAX;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time of a call with its answer. A commit may wait for others in the catalog.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub method: Method,
    pub url: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub idempotency_key: Option<String>,
}

impl Call {
    pub(super) fn get(url: String) -> Self {
        Self {
            method: Method::Get,
            url,
            content_type: "application/json",
            body: vec![],
            idempotency_key: None,
        }
    }

    pub(super) fn post(url: String, body: Vec<u8>) -> Self {
        Self {
            method: Method::Post,
            body,
            ..Self::get(url)
        }
    }

    /// The headers beside those of the credentials.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if self.method == Method::Post {
            headers.push(("content-type".to_owned(), self.content_type.to_owned()));
        }
        if let Some(key) = &self.idempotency_key {
            headers.push(("idempotency-key".to_owned(), key.clone()));
        }
        headers
    }
}

#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: u16,
    /// The error type of AWS services.
    pub error_type: Option<String>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The call was not sent, and a retry may succeed.
    NotSent(String),
    /// The call was not sent, and a retry changes nothing.
    Impossible { reason: String, hint: String },
    /// It may have arrived.
    Unknown(String),
}

pub(super) struct Transport {
    connector: Connector,
}

impl Transport {
    pub(super) fn new() -> Self {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(CALL_TIMEOUT)
            .build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::AwsLc,
            ))
            .build();
        Self { connector }
    }

    pub(super) async fn send(
        &self,
        call: &Call,
        credentials: &[(String, String)],
    ) -> Result<Reply, Failure> {
        let impossible = |reason: String| Failure::Impossible {
            reason: format!("{}: {reason}", call.url),
            hint: "check the catalog's address and credentials".to_owned(),
        };
        let mut request = HttpRequest::new(SdkBody::from(call.body.clone()));
        let uri = request.set_uri(call.url.as_str());
        uri.map_err(|error| impossible(error.to_string()))?;
        let method = request.set_method(call.method.name());
        method.map_err(|error| impossible(error.to_string()))?;
        for (name, value) in call.headers().iter().chain(credentials) {
            let set = request
                .headers_mut()
                .try_insert(name.clone(), value.clone());
            set.map_err(|error| impossible(error.to_string()))?;
        }
        match tokio::time::timeout(CALL_TIMEOUT, self.exchange(request)).await {
            Ok(reply) => reply,
            Err(_) => Err(Failure::Unknown(format!(
                "no answer in {} s",
                CALL_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<Reply, Failure> {
        let reply = self.connector.call(request).await;
        let reply = reply.map_err(|error| Failure::Unknown(causes(&error)))?;
        let status = reply.status().as_u16();
        let error_type = reply.headers().get("x-amzn-errortype").map(str::to_owned);
        let mut stream = ByteStream::new(reply.into_body());
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Failure::Unknown(error.to_string()))?;
            body.extend_from_slice(&chunk);
            if body.len() as u64 > METADATA_BYTES_MAX {
                return Err(Failure::Unknown(format!(
                    "the answer has more than {METADATA_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(Reply {
            status,
            error_type,
            body,
        })
    }
}

/// An error with what is below it: the outermost text alone is "dispatch failure".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(": ");
        text.push_str(&error.to_string());
        below = error.source();
    }
    text
}
