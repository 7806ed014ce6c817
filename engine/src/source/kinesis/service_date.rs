//! The `Date` of an AWS service's answer, good or not.
//!
//! Owns: taking it from the response's headers. Does not own: what is made of it (the reader, the
//! listing).
//! Rule: the first answer of a call counts; without a header nothing is made up.

use crate::clock::http_date_ms;
use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What an answer says of the service's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceDate {
    /// When the answer began to arrive.
    pub received: Instant,
    /// The service's clock, in whole seconds: milliseconds since the Unix epoch.
    pub date_ms: i64,
}

/// Takes the date of one call's answer; a clone is given to the call.
#[derive(Clone, Debug, Default)]
pub struct DateInterceptor(Arc<Mutex<Option<ServiceDate>>>);

impl DateInterceptor {
    /// What the answer said; `None`: no answer, or none with a date.
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
        if let Some(date_ms) = context
            .response()
            .headers()
            .get("date")
            .and_then(http_date_ms)
        {
            let date = ServiceDate {
                received: Instant::now(),
                date_ms,
            };
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(date);
        }
        Ok(())
    }
}
