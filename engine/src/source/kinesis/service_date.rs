//! The `Date` of an AWS service's response, successful or not.
//!
//! Owns: reading it from the response's headers. Does not own: its use (the reader, the listing).
//! Rule: the first response of a call counts; without a header there is no date.

use crate::clock::http_date_ms;
use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::http::Headers;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The service's time in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceDate {
    /// When the response began to arrive.
    pub received: Instant,
    /// The service's clock, in whole seconds: milliseconds since the Unix epoch.
    pub date_ms: i64,
}

/// Takes the date of one call's response; a clone is passed to the call.
#[derive(Clone, Debug, Default)]
pub struct DateInterceptor(Arc<Mutex<Option<ServiceDate>>>);

impl DateInterceptor {
    /// Takes the date of a response that has just begun to arrive.
    pub fn take(&self, headers: &Headers) {
        let Some(date_ms) = headers.get("date").and_then(http_date_ms) else {
            return;
        };
        let date = ServiceDate {
            received: Instant::now(),
            date_ms,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(date);
    }

    /// The date of the response; `None`: no response, or none with a date.
    pub fn date(&self) -> Option<ServiceDate> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for DateInterceptor {
    fn name(&self) -> &'static str {
        "DateInterceptor"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.take(context.response().headers());
        Ok(())
    }
}
