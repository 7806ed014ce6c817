//! The form of GetRecords calls: CBOR, or JSON where the service does not speak CBOR.
//!
//! Owns: finding out which it is, requests and errors in CBOR, taking responses before the SDK
//! decodes them. Does not own: responses with records (`answer`).
//! Rule: a service is asked in CBOR until it answers in another form; JSON is settled only by
//! records in JSON. Requests, signatures, connections and time limits stay the SDK's.

use super::cbor::{Reader, Value, write_map, write_text, write_unsigned};
use aws_sdk_kinesis::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Media type of the service's CBOR. In JSON, payloads are a third larger, as base64.
const CBOR_TYPE: &str = "application/x-amz-cbor-1.1";
const JSON_TYPE: &str = "application/x-amz-json-1.1";
/// The body that the SDK decodes instead of that of a successful response.
const NO_RECORDS: &str = r#"{"Records":[]}"#;
/// The body that the SDK decodes instead of that of an error in CBOR.
const NO_ERROR: &str = "{}";

/// The form of a request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Json,
    Cbor,
}

impl Wire {
    /// By the media type of a response; `None`: neither.
    fn of(media_type: &str) -> Option<Self> {
        let name = media_type.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            CBOR_TYPE | "application/cbor" => Some(Self::Cbor),
            JSON_TYPE | "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The form of a response by its headers; `None`: neither, or not stated.
    pub fn of_response(headers: &Headers) -> Option<Self> {
        headers.get("content-type").and_then(Self::of)
    }

    /// The media type of requests.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON_TYPE,
            Self::Cbor => CBOR_TYPE,
        }
    }
}

/// Which form a service speaks, as far as it is known. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Spoken(Arc<OnceLock<Wire>>);

impl Spoken {
    /// A service that is known to speak this form.
    pub fn known(wire: Wire) -> Self {
        Self(Arc::new(OnceLock::from(wire)))
    }

    /// `None`: not known yet.
    pub fn wire(&self) -> Option<Wire> {
        self.0.get().copied()
    }

    /// The service has answered a request in this form. The first answer counts.
    pub fn settle(&self, wire: Wire) {
        if self.0.set(wire).is_ok() {
            tracing::debug!(?wire, "form of GetRecords is known");
        }
    }
}

/// A GetRecords request.
#[derive(Clone, Debug)]
pub struct RecordsRequest {
    pub iterator: String,
    pub limit: u32,
    pub stream_arn: Option<String>,
}

impl RecordsRequest {
    /// The request in this form.
    pub fn body(&self, wire: Wire) -> Vec<u8> {
        match wire {
            Wire::Cbor => self.to_cbor(),
            Wire::Json => self.to_json(),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let mut fields = serde_json::json!({
            "ShardIterator": self.iterator,
            "Limit": self.limit,
        });
        if let Some(arn) = &self.stream_arn {
            fields["StreamARN"] = arn.as_str().into();
        }
        fields.to_string().into_bytes()
    }

    fn to_cbor(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.iterator.len() + 200);
        write_map(2 + u64::from(self.stream_arn.is_some()), &mut out);
        write_text("ShardIterator", &mut out);
        write_text(&self.iterator, &mut out);
        write_text("Limit", &mut out);
        write_unsigned(self.limit.into(), &mut out);
        if let Some(arn) = &self.stream_arn {
            write_text("StreamARN", &mut out);
            write_text(arn, &mut out);
        }
        out
    }
}

/// The code and message of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireError {
    pub code: Option<String>,
    pub message: Option<String>,
}

impl WireError {
    /// Of a response in this form. A header states the code, too.
    pub fn of_response(wire: Option<Wire>, headers: &Headers, body: &[u8]) -> Self {
        let found = match wire {
            Some(Wire::Cbor) => Self::of_cbor(body),
            Some(Wire::Json) | None => Self::of_json(body),
        };
        let stated = headers.get("x-amzn-errortype").map(|code| {
            // A code may be followed by an address: `Code:http://...`.
            let code = code.split(':').next().unwrap_or(code);
            without_name_space(code)
        });
        Self {
            code: stated.or(found.code),
            ..found
        }
    }

    fn of_json(body: &[u8]) -> Self {
        let fields: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| fields.get(name)?.as_str();
        Self {
            code: text("__type").or(text("code")).map(without_name_space),
            message: text("message").or(text("Message")).map(str::to_owned),
        }
    }

    /// Fields that cannot be read are left out.
    pub fn of_cbor(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut reader = Reader::new(body);
        let Ok(mut left) = reader.map() else {
            return error;
        };
        while let Ok(true) = reader.more(&mut left) {
            let (Ok(key), Ok(value)) = (reader.text(), reader.value()) else {
                break;
            };
            let Value::Text(text) = value else { continue };
            match &*key {
                "__type" => error.code = Some(without_name_space(&text)),
                "message" | "Message" => error.message = Some(text.into_owned()),
                _ => {}
            }
        }
        error
    }
}

/// A code may be qualified by a name space: `com.amazonaws.kinesis#Code`.
fn without_name_space(code: &str) -> String {
    code.rsplit('#').next().unwrap_or(code).to_owned()
}

/// What was taken of a response.
#[derive(Debug, Default)]
pub struct TakenResponse {
    /// The form of its media type; `None`: no response, or another type.
    pub wire: Option<Wire>,
    /// The body of a success, or of an error in CBOR.
    pub body: Option<SdkBody>,
}

/// Writes one request in CBOR, if it is given, and takes the response before the SDK decodes it. The
/// SDK allocates for each text and each payload, has half the speed of `answer::decode`, and does not
/// know CBOR. Clones share the response.
#[derive(Clone, Debug, Default)]
pub struct WireInterceptor {
    cbor: Option<RecordsRequest>,
    taken: Arc<Mutex<TakenResponse>>,
}

impl WireInterceptor {
    /// For one call in this form.
    pub fn new(wire: Wire, request: &RecordsRequest) -> Self {
        Self {
            cbor: (wire == Wire::Cbor).then(|| request.clone()),
            taken: Arc::default(),
        }
    }

    /// What the call received.
    pub fn taken(&self) -> TakenResponse {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, TakenResponse> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for WireInterceptor {
    fn name(&self) -> &'static str {
        "WireInterceptor"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(request) = &self.cbor else {
            return Ok(());
        };
        let body = request.to_cbor();
        let http = context.request_mut();
        http.headers_mut()
            .insert("content-length", body.len().to_string());
        http.headers_mut().insert("content-type", CBOR_TYPE);
        *http.body_mut() = SdkBody::from(body);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let wire = Wire::of_response(response.headers());
        let instead = match (response.status().is_success(), wire) {
            (true, _) => Some(NO_RECORDS),
            (false, Some(Wire::Cbor)) => Some(NO_ERROR),
            (false, _) => None,
        };
        let body = instead.map(|text| std::mem::replace(response.body_mut(), SdkBody::from(text)));
        *self.lock() = TakenResponse { wire, body };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_the_first_answer() {
        let spoken = Spoken::default();
        assert_eq!(spoken.wire(), None);
        spoken.clone().settle(Wire::Cbor);
        spoken.settle(Wire::Json);
        assert_eq!(spoken.wire(), Some(Wire::Cbor));
    }

    #[test]
    fn media_types_are_read_with_parameters_and_in_any_case() {
        assert_eq!(Wire::of("application/x-amz-cbor-1.1"), Some(Wire::Cbor));
        assert_eq!(
            Wire::of("Application/X-Amz-Json-1.1; charset=utf-8"),
            Some(Wire::Json)
        );
        assert_eq!(Wire::of("text/html"), None);
    }

    #[test]
    fn an_error_has_its_code_without_a_name_space() {
        let mut body = Vec::new();
        write_map(3, &mut body);
        write_text("__type", &mut body);
        write_text("com.amazonaws#ExpiredIteratorException", &mut body);
        write_text("other", &mut body);
        write_unsigned(1, &mut body);
        write_text("message", &mut body);
        write_text("it is old", &mut body);
        let error = WireError::of_cbor(&body);
        assert_eq!(error.code.as_deref(), Some("ExpiredIteratorException"));
        assert_eq!(error.message.as_deref(), Some("it is old"));
        assert_eq!(WireError::of_cbor(b"\xff"), WireError::default());
        assert_eq!(WireError::of_cbor(&body[..10]), WireError::default());
    }
}
