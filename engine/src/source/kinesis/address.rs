//! The stream's address: the job file over the catalog's table.
//!
//! Rule: the identity of the stream (name and ARN) comes from one of the two as a whole, the rest
//! field by field.

use crate::catalog::{region_of_endpoint, stream_of_arn};
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::KinesisSource;

/// `None` when neither names a stream.
pub(super) fn merged(
    source: &KinesisSource,
    table: Option<&StreamAddress>,
) -> Option<StreamAddress> {
    let KinesisSource {
        stream,
        arn,
        endpoint,
        region,
        role_arn,
        session_name,
        ..
    } = source;
    let from_arn = arn.as_deref().and_then(stream_of_arn);
    let own_name = stream
        .clone()
        .or_else(|| from_arn.map(|(name, _)| name.to_owned()));
    let (name, arn) = match own_name {
        // The table's ARN is that of the table's stream only.
        Some(name) => {
            let same = table
                .filter(|table| table.name == name)
                .and_then(|table| table.arn.clone());
            (name, arn.clone().or(same))
        }
        None => (table?.name.clone(), table?.arn.clone()),
    };
    let arn_region = arn
        .as_deref()
        .and_then(stream_of_arn)
        .map(|(_, region)| region.to_owned());
    let own_region = region
        .clone()
        .or_else(|| from_arn.map(|(_, region)| region.to_owned()));
    // A region in the job file does not apply to the table's endpoint.
    let table_endpoint = table
        .and_then(|table| table.endpoint.clone())
        .filter(|endpoint| {
            own_region
                .as_deref()
                .is_none_or(|own| region_of_endpoint(endpoint).is_none_or(|theirs| theirs == own))
        });
    let endpoint = endpoint.clone().or(table_endpoint);
    let region = own_region
        .or(arn_region)
        .or_else(|| {
            endpoint
                .as_deref()
                .and_then(region_of_endpoint)
                .map(str::to_owned)
        })
        .or_else(|| table.and_then(|table| table.region.clone()));
    Some(StreamAddress {
        name,
        arn,
        endpoint,
        region,
        role_arn: role_arn
            .clone()
            .or_else(|| table.and_then(|table| table.role_arn.clone())),
        session_name: session_name
            .clone()
            .or_else(|| table.and_then(|table| table.session_name.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use streamctl_proto::spec::GRACE_DEFAULT;

    fn kinesis(stream: Option<&str>, arn: Option<&str>, region: Option<&str>) -> KinesisSource {
        KinesisSource {
            stream: stream.map(str::to_owned),
            arn: arn.map(str::to_owned),
            endpoint: None,
            region: region.map(str::to_owned),
            role_arn: None,
            session_name: None,
            poll_interval: Duration::from_secs(1),
            consumer: None,
            grace: GRACE_DEFAULT,
            aggregates: Default::default(),
            max_records_per_read: 10_000,
            format: Default::default(),
            compression: Default::default(),
        }
    }

    fn table() -> StreamAddress {
        StreamAddress {
            name: "orders".into(),
            arn: Some("arn:aws:kinesis:us-east-2:1:stream/orders".into()),
            endpoint: Some("https://kinesis.us-east-2.amazonaws.com".into()),
            region: Some("us-east-2".into()),
            role_arn: Some("arn:aws:iam::1:role/r".into()),
            session_name: None,
        }
    }

    #[test]
    fn a_job_without_a_stream_takes_the_table_s_address() {
        assert_eq!(
            merged(&kinesis(None, None, None), Some(&table())),
            Some(table())
        );
        assert_eq!(merged(&kinesis(None, None, None), None), None);
    }

    #[test]
    fn another_stream_never_gets_the_table_s_arn() {
        let address = merged(&kinesis(Some("returns"), None, None), Some(&table())).unwrap();
        assert_eq!((address.name.as_str(), address.arn), ("returns", None));
        assert_eq!(address.role_arn, table().role_arn);
    }

    #[test]
    fn the_job_s_arn_and_region_go_before_the_table_s_endpoint() {
        let arn = "arn:aws:kinesis:eu-west-1:1:stream/orders";
        let address = merged(&kinesis(None, Some(arn), None), Some(&table())).unwrap();
        assert_eq!(
            (address.region.as_deref(), address.endpoint),
            (Some("eu-west-1"), None)
        );
        let local = StreamAddress {
            endpoint: Some("http://127.0.0.1:4567".into()),
            ..table()
        };
        let address = merged(&kinesis(None, None, Some("eu-west-1")), Some(&local)).unwrap();
        assert_eq!(
            (address.region.as_deref(), address.endpoint),
            (Some("eu-west-1"), local.endpoint)
        );
    }
}
