//! Notes the calls of the AWS SDK.
//!
//! Rule: a call is one until the SDK gives its caller a result: its attempts count together.

use super::{Flight, begin};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeSerializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

/// For the settings of every client.
#[derive(Debug)]
pub(crate) struct InFlight;

/// Lives as long as the settings of one call.
#[derive(Debug)]
struct Held {
    _flight: Flight,
}

impl Storable for Held {
    type Storer = StoreReplace<Self>;
}

impl Intercept for InFlight {
    fn name(&self) -> &'static str {
        "InFlight"
    }

    /// Before this, the settings do not have the operation.
    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let flight = settings
            .load::<Metadata>()
            .and_then(|call| begin(call.service(), call.name()));
        if let Some(flight) = flight {
            settings
                .interceptor_state()
                .store_put(Held { _flight: flight });
        }
        Ok(())
    }
}
