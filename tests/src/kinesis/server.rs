//! HTTP/1.1 and HTTP/2: one request, one response, or the script's fault instead.
//!
//! Rule: signatures are not checked; the signer is recorded. Kinesis is JSON 1.1 by `x-amz-target`,
//! STS a form.

use super::error::Refusal;
use super::operations::{Answer, about};
use super::script::{Call, Fault};
use super::{Service, Speaks, cbor, operations, subscriptions};
use crate::pki::Files;
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use std::io;
use std::sync::{Arc, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

type Body = BoxBody<Bytes, io::Error>;

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _delayed = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        match tls.clone() {
            None => _ = tokio::spawn(connection(stream, service)),
            Some(tls) => {
                tokio::spawn(async move {
                    // A client that does not trust the certificate is gone.
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(stream, service).await;
                    }
                });
            }
        }
    }
}

/// TLS with this certificate; HTTP/2 first.
pub(super) fn acceptor(certificate: &Files) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&certificate.cert)
        .and_then(Iterator::collect)
        .expect("it is a certificate");
    let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("it is a key");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate match");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn connection<S>(stream: S, service: Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| respond(Arc::clone(&service), request));
    // The client disconnected, or a fault of the script: the connection is over, and the error is
    // ignored.
    let _over = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn respond(
    service: Arc<Service>,
    request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    if request.method() == Method::GET {
        return Ok(response(
            200,
            "application/json",
            stats(&service).to_string().into(),
        ));
    }
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let operation = header("x-amz-target")
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .to_owned();
    let key = access_key(header("authorization"));
    let is_cbor = header("content-type") == cbor::MEDIA_TYPE;
    let is_http2 = request.version() == Version::HTTP_2;
    let bytes = request
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    if operation.is_empty() {
        return Ok(assume_role(
            &service,
            &key,
            &String::from_utf8_lossy(&bytes),
        ));
    }
    let body: Value = match is_cbor {
        true => cbor::request(&bytes),
        false => serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    let speaks = *service
        .speaks
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let ((stream, shard), at_us) = (operations::about(&body), service.clock.now_us());
    let mut call = Call {
        operation,
        stream,
        shard,
        at_us,
        key,
        is_cbor,
        is_http2,
        body,
        error: None,
        records: 0,
        last: false,
    };
    if let (true, Speaks::Json { status }) = (is_cbor, speaks) {
        call.is_cbor = false;
        let refusal = Refusal::new(status, "SerializationException", "no JSON");
        return Ok(send(&service, call, Err(refusal), false));
    }
    let fault = service.script.take(&call.operation, &call.shard);
    let refused = matches!(fault, Some(Fault::Error { .. } | Fault::Close));
    if call.operation == "SubscribeToShard" && !refused {
        if let Some(Fault::Delay(time)) = fault {
            tokio::time::sleep(time).await;
        }
        return Ok(
            match subscriptions::subscribe(&service, &call.body, fault) {
                Ok(response) => {
                    service.script.note(call, false);
                    response
                }
                Err(refusal) => send(&service, call, Err(refusal), false),
            },
        );
    }
    let answered = match &fault {
        Some(Fault::Error {
            status,
            code,
            message,
        }) => Err(Refusal::new(*status, code, message)),
        Some(Fault::Close) => {
            call.error = Some("Close".to_owned());
            service.script.note(call, false);
            return Err(io::Error::other("closed by the script"));
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(*time).await;
            service.perform(&call.operation, &call.body)
        }
        Some(Fault::Cut | Fault::Silence) | None => service.perform(&call.operation, &call.body),
    };
    Ok(send(&service, call, answered, fault == Some(Fault::Cut)))
}

/// A response with the service's time: its clients compare their own with it.
fn send(
    service: &Service,
    call: Call,
    answered: Result<Answer, Refusal>,
    cut: bool,
) -> Response<Body> {
    dated(service, respond_to(service, call, answered, cut))
}

/// A response with the service's time.
pub(super) fn dated(service: &Service, mut response: Response<Body>) -> Response<Body> {
    if let Ok(date) = HeaderValue::from_str(&service.clock.http_date()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

fn respond_to(
    service: &Service,
    mut call: Call,
    answered: Result<Answer, Refusal>,
    cut: bool,
) -> Response<Body> {
    let is_cbor = call.is_cbor;
    let speaks = *service
        .speaks
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let is_loose = is_cbor && speaks == Speaks::LooseCbor;
    let media_type = match is_cbor {
        true => cbor::MEDIA_TYPE,
        false => "application/x-amz-json-1.1",
    };
    let written = |json: Vec<u8>| match (is_cbor, is_loose) {
        (true, true) => cbor::loose_response(&json),
        (true, false) => cbor::response(&json),
        (false, _) => json,
    };
    match answered {
        Ok(answer) if cut => {
            call.error = Some("Cut".to_owned());
            service.script.note(call, false);
            cut_response(media_type, written(answer.body))
        }
        Ok(answer) => {
            (call.records, call.last) = (answer.records, answer.last);
            service.script.note(call, false);
            response(200, media_type, written(answer.body).into())
        }
        Err(refusal) => {
            call.error = Some(refusal.code.clone());
            service.script.note(call, refusal.by_limit);
            if is_loose {
                return response(500, "", Bytes::new());
            }
            let body = written(refusal.body().to_string().into_bytes());
            response(refusal.status, media_type, body.into())
        }
    }
}

fn response(status: u16, kind: &str, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed();
    let made = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .body(body);
    made.expect("status and header are valid")
}

/// Announces the whole body, sends half, and breaks off.
fn cut_response(kind: &str, body: Vec<u8>) -> Response<Body> {
    let half = Bytes::copy_from_slice(&body[..body.len() / 2]);
    let parts = [
        Ok(Frame::data(half)),
        Err(io::Error::other("cut by the script")),
    ];
    let stream = StreamBody::new(futures::stream::iter(parts).then(|part| async {
        // The first half must be sent before the connection breaks.
        tokio::task::yield_now().await;
        part
    }));
    let made = Response::builder()
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_LENGTH, body.len());
    made.body(BodyExt::boxed(stream))
        .expect("status and headers are valid")
}

/// `AWS4-HMAC-SHA256 Credential=KEY/date/...`.
fn access_key(authorization: &str) -> String {
    let credential = authorization
        .split("Credential=")
        .nth(1)
        .unwrap_or_default();
    credential.split('/').next().unwrap_or_default().to_owned()
}

/// `sts:AssumeRole`: the role's key is `ROLE-` and the session's name.
fn assume_role(service: &Service, key: &str, form: &str) -> Response<Body> {
    let field = |name: &str| {
        let pair = form
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.unwrap_or_default()
            .replace("%3A", ":")
            .replace("%2F", "/")
    };
    let role = field("RoleArn");
    let session = field("RoleSessionName");
    let action = field("Action");
    let operation = action;
    let at_us = service.clock.now_us();
    let key = key.to_owned();
    let body = json!({ "RoleArn": role, "RoleSessionName": session });
    let (stream, shard) = about(&body);
    service.script.note(
        Call {
            operation,
            stream,
            shard,
            at_us,
            key,
            is_cbor: false,
            is_http2: false,
            body,
            error: None,
            records: 0,
            last: false,
        },
        false,
    );
    let xml = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><Arn>{role}</Arn><AssumedRoleId>id:{session}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>ROLE-{session}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
         <SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    );
    response(200, "text/xml", xml.into())
}

/// For `GET /`: the counters so far.
fn stats(service: &Service) -> Value {
    let stream = |stream: &Arc<super::Stream>| json!({ "open_shards": stream.open_shards(), "records": stream.put_count() });
    let streams: serde_json::Map<String, Value> = service
        .streams()
        .iter()
        .map(|(name, each)| (name.clone(), stream(each)))
        .collect();
    json!({ "streams": streams, "calls": service.script.counts(), "violations": service.script.violations() })
}
