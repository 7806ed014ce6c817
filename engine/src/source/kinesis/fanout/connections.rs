//! The connections of subscriptions.
//!
//! Owns: how many subscriptions share a client, which has one connection if the service speaks
//! HTTP/2. Does not own: calls.
//! Rule: subscriptions never share a connection with calls: they last for minutes, the service
//! limits the streams of a connection, and one that is not read takes of the window of all.

use crate::aws::Aws;
use aws_sdk_kinesis::Client;
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_proto::resolved::StreamAddress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Subscriptions of one client. Servers allow 100 streams of a connection or more.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 64;

struct Shared {
    stream: StreamAddress,
    client: Client,
    places: Arc<Semaphore>,
}

impl Shared {
    fn is_idle(&self) -> bool {
        self.places.available_permits() == SUBSCRIPTIONS_PER_CONNECTION_MAX
    }
}

/// The clients of all subscriptions of a worker. Clones share them.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Vec<Shared>>>);

impl Connections {
    /// A client for one more subscription, with the settings of `base`; the place is taken until the
    /// permit is dropped.
    pub fn place(
        &self,
        aws: &Aws,
        base: &Client,
        stream: &StreamAddress,
    ) -> (Client, Option<OwnedSemaphorePermit>) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for shared in clients.iter().filter(|shared| shared.stream == *stream) {
            if let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() {
                return (shared.client.clone(), Some(place));
            }
        }
        clients.retain(|shared| !shared.is_idle());
        let config = base.config().to_builder().http_client(aws.new_http());
        let client = Client::from_conf(config.build());
        let places = Arc::new(Semaphore::new(SUBSCRIPTIONS_PER_CONNECTION_MAX));
        let place = Arc::clone(&places).try_acquire_owned().ok();
        clients.push(Shared {
            stream: stream.clone(),
            client: client.clone(),
            places,
        });
        (client, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::AwsSettings;
    use aws_sdk_kinesis::config::{BehaviorVersion, Config};

    #[test]
    fn a_client_has_a_limited_number_of_subscriptions_and_goes_when_it_has_none() {
        let config = Config::builder().behavior_version(BehaviorVersion::latest());
        let base = Client::from_conf(config.build());
        let aws = Aws::new(AwsSettings::default());
        let connections = Connections::default();
        let stream = StreamAddress::default();
        let count = || connections.0.lock().unwrap().len();
        let mut places: Vec<_> = (0..SUBSCRIPTIONS_PER_CONNECTION_MAX + 1)
            .map(|_| connections.place(&aws, &base, &stream).1)
            .collect();
        assert!(places.iter().all(Option::is_some));
        assert_eq!(count(), 2);
        places.clear();
        let other = StreamAddress {
            name: "other".into(),
            ..StreamAddress::default()
        };
        let _place = connections.place(&aws, &base, &other);
        assert_eq!(count(), 1);
    }
}
