//! GetRecords without the SDK's way of a call, which takes several times what its request does: a
//! worker that read ten thousand quiet shards did hardly anything else.
//!
//! Owns: where the calls of a stream go and how they are signed, learned from a call of the SDK.
//! Does not own: the form of requests and responses (`wire`, `answer`), connections and keys (the
//! SDK's), what a failure means.
//! Rule: the SDK decides. A route is learned from a call of the SDK that returned records and
//! forgotten at the first call that does not, so that the SDK makes the next one.

use super::wire::{RecordsRequest, Wire};
use crate::calls;
use aws_sdk_kinesis::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::auth::AuthSchemeId;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::identity::{
    ResolveCachedIdentity as _, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::GetIdentityResolver as _;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_proto::describe;

/// The scheme of AWS Signature Version 4.
const SIGV4: AuthSchemeId = AuthSchemeId::new("sigv4");
/// Headers of the SDK's request that each request has alike.
const SAME_HEADERS: [&str; 3] = ["x-amz-target", "user-agent", "x-amz-user-agent"];

/// Where calls for the records of one stream go. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<Mutex<Option<Arc<Route>>>>);

impl Routes {
    /// `None`: the SDK makes the next call.
    pub(super) fn known(&self) -> Option<Arc<Route>> {
        self.lock().clone()
    }

    pub(super) fn learn(&self, route: Route) {
        self.lock().get_or_insert_with(|| Arc::new(route));
    }

    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Route>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of one call of the SDK.
#[derive(Debug)]
pub(super) struct Route {
    uri: String,
    headers: Vec<(&'static str, String)>,
    region: String,
    service: String,
    keys: SharedIdentityResolver,
    connector: SharedHttpConnector,
    components: RuntimeComponents,
}

impl Route {
    /// `None`: it is signed in another way.
    fn of(
        request: &HttpRequest,
        components: &RuntimeComponents,
        settings: &ConfigBag,
    ) -> Option<Self> {
        let headers = SAME_HEADERS.iter().filter_map(|name| {
            let value = request.headers().get(name)?;
            Some((*name, value.to_owned()))
        });
        let timeouts = settings.load::<TimeoutConfig>()?;
        // As the SDK has them: then its connections are used.
        let mut connection = HttpConnectorSettings::builder();
        connection.set_connect_timeout(timeouts.connect_timeout());
        connection.set_read_timeout(timeouts.read_timeout());
        let http = components.http_client()?;
        Some(Self {
            uri: request.uri().to_owned(),
            headers: headers.collect(),
            region: settings.load::<SigningRegion>()?.as_ref().to_owned(),
            service: settings.load::<SigningName>()?.as_ref().to_owned(),
            keys: components.identity_resolver(SIGV4)?,
            connector: http.http_connector(&connection.build(), components),
            components: components.clone(),
        })
    }

    /// One call.
    ///
    /// # Errors
    /// There is no response.
    pub(super) async fn call(
        &self,
        request: &RecordsRequest,
        wire: Wire,
    ) -> Result<HttpResponse, String> {
        let _flight = calls::begin("Kinesis", "GetRecords");
        let request = self
            .signed(request.body(wire), wire.media_type())
            .await
            .map_err(|error| format!("the call is not signed: {}", describe(&*error)))?;
        let answered = self.connector.call(request).await;
        answered.map_err(|error| describe(&error))
    }

    async fn signed(
        &self,
        body: Vec<u8>,
        media_type: &'static str,
    ) -> Result<HttpRequest, BoxError> {
        let settings = ConfigBag::base();
        let cache = self.components.identity_cache();
        let identity = cache
            .resolve_cached_identity(self.keys.clone(), &self.components, &settings)
            .await?;
        let time = self.components.time_source().ok_or("there is no clock")?;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(time.now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let same = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let headers = same.chain([("content-type", media_type)]);
        let signable = SignableRequest::new(
            "POST",
            self.uri.as_str(),
            headers.clone(),
            SignableBody::Bytes(&body),
        )?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_method("POST")?;
        request.set_uri(self.uri.as_str())?;
        for (name, value) in headers.chain(signature.headers()) {
            request
                .headers_mut()
                .insert(name.to_owned(), value.to_owned());
        }
        *request.body_mut() = SdkBody::from(body);
        Ok(request)
    }
}

/// Learns the route of one call of the SDK; a clone is passed to the call.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteInterceptor(Arc<Mutex<Option<Route>>>);

impl RouteInterceptor {
    /// The route, if the call was about to be signed.
    pub fn taken(&self) -> Option<Route> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for RouteInterceptor {
    fn name(&self) -> &'static str {
        "RouteInterceptor"
    }

    fn read_before_signing(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let route = Route::of(context.request(), components, settings);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = route;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
