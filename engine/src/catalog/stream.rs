//! The location of a table's stream: the parameters that Glue writes.
//!
//! Rule: the storage descriptor's parameters take precedence over the table's; keys are
//! case-insensitive.

use std::collections::BTreeMap;
use streamctl_proto::resolved::StreamAddress;

/// The parameters of a table.
pub(super) struct Parameters {
    values: BTreeMap<String, String>,
}

impl Parameters {
    pub(super) fn new(
        descriptor: &BTreeMap<String, String>,
        table: &BTreeMap<String, String>,
    ) -> Self {
        let both = table.iter().chain(descriptor);
        let filled = both.filter(|(_, value)| !value.trim().is_empty());
        Self {
            values: filled
                .map(|(key, value)| (key.to_lowercase(), value.trim().to_owned()))
                .collect(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(&key.to_lowercase()).map(String::as_str)
    }

    fn owned(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    /// The Kinesis stream; `None` if the parameters name none.
    pub(super) fn stream(&self) -> Option<StreamAddress> {
        if self
            .get("typeOfData")
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("kinesis"))
        {
            return None;
        }
        let arn = self.owned("streamARN");
        let from_arn = arn.as_deref().and_then(stream_of_arn);
        let name = self
            .owned("streamName")
            .or_else(|| from_arn.map(|(name, _)| name.to_owned()))?;
        let endpoint = self.owned("endpointUrl");
        let region = from_arn
            .map(|(_, region)| region)
            .or_else(|| endpoint.as_deref().and_then(region_of_endpoint));
        Some(StreamAddress {
            name,
            region: region.map(str::to_owned),
            arn,
            endpoint,
            role_arn: self.owned("awsSTSRoleARN"),
            session_name: self.owned("awsSTSSessionName"),
        })
    }
}

/// Name and region of a stream's ARN: `arn:aws:kinesis:<region>:<account>:stream/<name>`.
pub fn stream_of_arn(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let prefix = parts.next()?;
    let _partition = parts.next()?;
    let service = parts.next()?;
    let region = parts.next()?;
    let _account = parts.next()?;
    let resource = parts.next()?;
    let name = resource.strip_prefix("stream/")?;
    let good = prefix == "arn"
        && service == "kinesis"
        && !region.is_empty()
        && !name.is_empty()
        && !name.contains('/');
    good.then_some((name, region))
}

/// The region in an address like `https://kinesis.<region>.amazonaws.com`; `None` for an address of
/// another form.
pub fn region_of_endpoint(url: &str) -> Option<&str> {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', ':']).next()?;
    let mut labels = host
        .split('.')
        .skip_while(|label| !label.starts_with("kinesis"));
    labels.next()?;
    let region = labels.next()?;
    let like_one = region.contains('-') && region.ends_with(|last: char| last.is_ascii_digit());
    like_one.then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn name_and_region_come_from_the_arn() {
        let arn = "arn:aws:kinesis:us-east-2:123456789012:stream/orders";
        let role = "arn:aws:iam::123456789012:role/reader";
        let descriptor = map(&[
            ("STREAMARN", arn),
            ("awsSTSRoleARN", role),
            ("awsstssessionname", "s"),
        ]);
        let stream = Parameters::new(&descriptor, &map(&[])).stream().unwrap();
        assert_eq!(
            (stream.name.as_str(), stream.region.as_deref()),
            ("orders", Some("us-east-2"))
        );
        assert_eq!(
            (stream.role_arn.as_deref(), stream.session_name.as_deref()),
            (Some(role), Some("s"))
        );
        assert_eq!(stream.arn.as_deref(), Some(arn));
    }

    #[test]
    fn the_descriptor_goes_before_the_table() {
        let table = map(&[("streamName", "old"), ("endpointUrl", "http://127.0.0.1:1")]);
        let descriptor = map(&[("streamname", "new")]);
        let stream = Parameters::new(&descriptor, &table).stream().unwrap();
        assert_eq!(
            (stream.name.as_str(), stream.endpoint.as_deref()),
            ("new", Some("http://127.0.0.1:1"))
        );
        assert_eq!(stream.region, None);
    }

    #[test]
    fn regions_are_read_from_the_service_s_own_addresses_only() {
        assert_eq!(
            region_of_endpoint("https://kinesis.eu-west-1.amazonaws.com"),
            Some("eu-west-1")
        );
        assert_eq!(
            region_of_endpoint("https://kinesis-fips.us-gov-west-1.amazonaws.com:443/x"),
            Some("us-gov-west-1")
        );
        assert_eq!(
            region_of_endpoint("https://vpce-1-2.kinesis.us-east-1.vpce.amazonaws.com"),
            Some("us-east-1")
        );
        assert_eq!(region_of_endpoint("http://127.0.0.1:4567"), None);
        assert_eq!(region_of_endpoint("http://kinesis.internal.example"), None);
    }

    #[test]
    fn what_is_no_stream_s_arn_gives_nothing() {
        for bad in [
            "",
            "orders",
            "arn:aws:s3:::bucket",
            "arn:aws:kinesis:us-east-1:1:stream/",
            "arn:aws:kinesis:us-east-1:1:stream/a/consumer/b:1",
        ] {
            assert_eq!(stream_of_arn(bad), None, "{bad}");
        }
    }
}
