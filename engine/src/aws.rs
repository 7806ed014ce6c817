//! AWS clients: a stand-in until the real one is merged.

use streamctl_proto::resolved::StreamAddress;

/// Makes clients.
#[derive(Clone, Debug, Default)]
pub struct Aws;

impl Aws {
    /// For a stream.
    pub async fn kinesis(&self, stream: &StreamAddress) -> aws_sdk_kinesis::Client {
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest());
        if let Some(region) = stream.region.clone() {
            loader = loader.region(aws_config::Region::new(region));
        }
        aws_sdk_kinesis::Client::new(&loader.load().await)
    }
}
