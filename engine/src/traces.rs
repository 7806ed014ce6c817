//! Traces: one for each window of a job, from its first record to its published epoch, across all
//! processes.
//!
//! Owns: the ids, the connection to a collector (OTLP over gRPC). Does not own: which work gets a
//! span.
//! Rule: both sides derive a window's trace from what they know of it, so that a new leader, or a
//! worker that it adopts, continues the same trace; spans that cannot be sent are dropped, and
//! nothing waits for them.

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use streamctl_proto::{JobName, Window};

/// Spans that are queued for the collector; further ones are dropped.
pub const SPANS_WAITING_MAX: usize = 4_096;
/// Spans in one message to the collector.
pub const SPANS_PER_EXPORT_MAX: usize = 512;
/// Interval between two messages to the collector.
pub const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Time to send the last spans at the end of the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The trace of one window of one job, and its root span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTrace {
    trace: TraceId,
    root: SpanId,
}

impl WindowTrace {
    /// The same in every process. A job that is created again with the same name has other traces.
    pub fn of(job: &JobName, submitted_ms: i64, window: Window) -> Self {
        let text = format!(
            "streamctl trace 1\n{job}\n{submitted_ms}\n{}\n{}",
            window.start_ms, window.end_ms
        );
        let digest = Sha256::digest(text.as_bytes());
        let mut trace = [0; 16];
        let mut root = [0; 8];
        trace.copy_from_slice(&digest[..16]);
        root.copy_from_slice(&digest[16..24]);
        Self {
            trace: TraceId::from_bytes(trace),
            root: SpanId::from_bytes(root),
        }
    }

    /// 32 hexadecimal digits, as in logs and in a collector.
    pub fn id(&self) -> String {
        self.trace.to_string()
    }
}

/// The place of a span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The window itself.
    Root,
    Below,
    Under(SpanId),
}

#[derive(Clone, Debug)]
pub struct Span {
    pub trace: WindowTrace,
    pub place: Place,
    pub name: &'static str,
    pub begin: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<(&'static str, Value)>,
    pub error: Option<String>,
}

impl Span {
    /// A successful span.
    pub fn new(
        trace: WindowTrace,
        place: Place,
        name: &'static str,
        begin: SystemTime,
        end: SystemTime,
    ) -> Self {
        Self {
            trace,
            place,
            name,
            begin,
            end,
            attributes: vec![],
            error: None,
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }
}

/// The destination of spans; none by default. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<BatchSpanProcessor>>);

/// The collector cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The address is invalid.
    #[error("traces cannot be sent to {endpoint}: {reason}")]
    Endpoint { endpoint: String, reason: String },
}

impl Traces {
    /// Sends to a collector for OTLP over gRPC at `http://host:port`. Call it inside a Tokio
    /// runtime, whose threads send.
    ///
    /// # Errors
    /// An invalid address, or one with TLS: a collector or its agent is expected on this machine or
    /// in this network.
    pub fn to(endpoint: &str, service: &'static str, instance: &str) -> Result<Self, TracesError> {
        let bad = |reason: String| TracesError::Endpoint {
            endpoint: endpoint.to_owned(),
            reason,
        };
        if !endpoint.starts_with("http://") {
            return Err(bad(
                "it must begin with http://; TLS to a collector is not supported".to_owned(),
            ));
        }
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build();
        let exporter = exporter.map_err(|error| bad(error.to_string()))?;
        let limits = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_WAITING_MAX)
            .with_max_export_batch_size(SPANS_PER_EXPORT_MAX)
            .with_scheduled_delay(EXPORT_INTERVAL);
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(limits.build())
            .build();
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        processor.set_resource(&resource.build());
        Ok(Self(Some(Arc::new(processor))))
    }

    /// Whether spans are sent: if not, callers can skip the work for them.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records a span; returns its id, so that others can be placed under it.
    pub fn record(&self, span: Span) -> SpanId {
        let id = match span.place {
            Place::Root => span.trace.root,
            Place::Below | Place::Under(_) => SpanId::from_bytes(fastrand::u64(1..).to_be_bytes()),
        };
        if let Some(processor) = &self.0 {
            processor.on_end(data(span, id));
        }
        id
    }

    /// Sends queued spans; blocks for up to two seconds.
    pub fn close(&self) {
        if let Some(processor) = &self.0
            && let Err(error) = processor.shutdown_with_timeout(CLOSE_TIMEOUT)
        {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

fn data(span: Span, id: SpanId) -> SpanData {
    let parent = match span.place {
        Place::Root => SpanId::INVALID,
        Place::Below => span.trace.root,
        Place::Under(parent) => parent,
    };
    let context = SpanContext::new(
        span.trace.trace,
        id,
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    SpanData {
        span_context: context,
        parent_span_id: parent,
        parent_span_is_remote: span.place == Place::Below,
        span_kind: SpanKind::Internal,
        name: span.name.into(),
        start_time: span.begin,
        end_time: span.end.max(span.begin),
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, value))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("streamctl").build(),
    }
}

/// The time of spans must match that of other programs.
#[expect(
    clippy::disallowed_methods,
    reason = "no decision depends on it, and a span is of real time"
)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_one_trace_for_all_processes_and_no_other_window_has_it() {
        let job: JobName = "sales".parse().unwrap();
        let window = |start_ms| Window {
            start_ms,
            end_ms: start_ms + 1_000,
        };
        let trace = WindowTrace::of(&job, 5, window(0));
        assert_eq!(trace, WindowTrace::of(&job, 5, window(0)));
        assert_eq!(trace.id().len(), 32);
        let others = [
            WindowTrace::of(&job, 5, window(1_000)),
            WindowTrace::of(&job, 6, window(0)),
            WindowTrace::of(&"sales-2".parse().unwrap(), 5, window(0)),
        ];
        assert!(
            others
                .iter()
                .all(|other| other.trace != trace.trace && other.root != trace.root)
        );
    }

    #[test]
    fn a_collector_with_tls_is_refused_in_words() {
        let error = Traces::to("https://collector:4317", "streamctl-worker", "w").unwrap_err();
        assert!(
            error.to_string().contains("must begin with http://"),
            "{error}"
        );
        assert!(!Traces::default().is_on());
    }
}
