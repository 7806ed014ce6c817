//! A collector of traces: receives spans over OTLP, like Jaeger or an OpenTelemetry Collector, and
//! keeps them.
//!
//! Owns: the gRPC service. Does not own: the expected spans.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A received span.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `service.name` of the sender.
    pub service: String,
    pub trace: String,
    pub id: String,
    /// In hexadecimal digits; empty: it is the root.
    pub parent: String,
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub begin: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub error: Option<String>,
}

/// Keeps what it receives; ended when dropped.
#[derive(Debug)]
pub struct Collector {
    spans: Arc<Mutex<Vec<Seen>>>,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

struct Service(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self
            .0
            .lock()
            .map_err(|_| Status::internal("a test has failed"))?;
        for resource in request.into_inner().resource_spans {
            let facts = resource
                .resource
                .map(|resource| texts(resource.attributes))
                .unwrap_or_default();
            let service = facts.get("service.name").cloned().unwrap_or_default();
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                spans.push(Seen {
                    service: service.clone(),
                    trace: digits(&span.trace_id),
                    id: digits(&span.span_id),
                    parent: digits(&span.parent_span_id),
                    name: span.name,
                    begin: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: texts(span.attributes),
                    error: span
                        .status
                        .map(|status| status.message)
                        .filter(|message| !message.is_empty()),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on a free port of this machine.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime starts");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let spans = Arc::default();
        let server = TraceServiceServer::new(Service(Arc::clone(&spans)));
        let serving = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(serving);
        Self {
            spans,
            address,
            _runtime: runtime,
        }
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Seen> {
        self.spans
            .lock()
            .expect("nothing panics under this lock")
            .clone()
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| {
        let value = match attribute.value?.value? {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        Some((attribute.key, value))
    };
    attributes.into_iter().filter_map(text).collect()
}
