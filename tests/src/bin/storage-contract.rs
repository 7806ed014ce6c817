//! Runs the storage's contract against the S3 server in the environment, below the given folder.
//!
//! This is a program of its own because the SDK reads addresses and keys from its process's
//! environment, which a test cannot change for itself.

use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::storage::{Storages, contract};
use streamctl_proto::spec::Location;

#[tokio::main]
async fn main() {
    let folder = std::env::args()
        .nth(1)
        .expect("usage: storage-contract s3://bucket/empty/folder/");
    let root = Location::folder(&folder);
    let storage = Storages::new(Aws::new(AwsSettings::from_env())).for_location(root.as_str());
    contract::contract(&*storage, &root).await;
}
