//! Iceberg tables on a catalog that is not ours.
//!
//! Owns: the contract of catalogs and the commit of epochs on a real REST server. Does not own: what
//! a catalog may do wrong (the engine's fake).
//! Rule: the table is judged by what the server returns to a client that took no part.

use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;
use streamctl_engine::clock::{now_ms, system_clock};
use streamctl_engine::iceberg::catalog::contract::{contract, new_table};
use streamctl_engine::iceberg::catalog::memory::MemoryFiles;
use streamctl_engine::iceberg::catalog::rest::{Auth, RestCatalog, RestSettings, Secret, Service};
use streamctl_engine::iceberg::catalog::{Catalog as _, TableName};
use streamctl_engine::iceberg::commit::{CommitSettings, Committer};
use streamctl_engine::iceberg::data_file::{DataFile, Metrics};
use streamctl_engine::iceberg::plan::{EpochFiles, Writer};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::servers::{Server, WAREHOUSE};

const EPOCHS: u64 = 40;
const WAREHOUSE_WITHIN: Duration = Duration::from_secs(30);

/// With an access key of the server as a client's id and secret.
fn token() -> Auth {
    Auth::Client {
        token_uri: None,
        id: Some("test".into()),
        secret: Secret::new("test".into()),
        scope: None,
    }
}

/// Signed as for S3 Tables.
fn signed() -> Auth {
    let keys = Credentials::new("test", "test", None, None, "test");
    Auth::Aws {
        service: Service::S3Tables,
        region: "us-east-1".into(),
        credentials: SharedCredentialsProvider::new(keys),
    }
}

fn catalog(port: u16, auth: Auth) -> RestCatalog {
    let settings = RestSettings {
        uri: format!("http://127.0.0.1:{port}"),
        warehouse: Some(WAREHOUSE.into()),
        auth,
    };
    RestCatalog::new(settings, system_clock())
}

fn epoch(number: u64, folder: &str) -> EpochFiles {
    let start = i64::try_from(number).unwrap() * 60_000;
    EpochFiles {
        epoch: number,
        window_start_ms: start,
        window_end_ms: start + 60_000,
        manifest_digest: format!("{number:064x}"),
        files: vec![DataFile {
            location: format!("{folder}/{number}.parquet"),
            size: 100,
            rows: number,
            spec_id: 0,
            partition: vec![None],
            metrics: Metrics::default(),
            split_offsets: vec![],
        }],
    }
}

/// Runs a test's calls against a server with an Iceberg catalog.
fn with_server<F: Future<Output = ()>>(test: impl FnOnce(u16) -> F) {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = Server::tables(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test(port));
}

#[test]
fn the_catalog_keeps_its_contract_on_a_rest_server() {
    with_server(keeps_its_contract);
}

#[test]
fn two_leaders_at_once_bring_each_epoch_into_the_table_once() {
    with_server(two_leaders);
}

/// The server makes its warehouse some time after it listens.
async fn create_namespace(catalog: &RestCatalog, name: &str) {
    let made = async {
        while let Err(error) = catalog.create_namespace(&[name]).await {
            assert!(error.to_string().contains("not found"), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let made = tokio::time::timeout(WAREHOUSE_WITHIN, made).await;
    made.expect("the server makes its warehouse");
}

async fn keeps_its_contract(port: u16) {
    for (namespace, auth) in [("token", token()), ("signed", signed())] {
        let catalog = catalog(port, auth);
        create_namespace(&catalog, namespace).await;
        contract(&catalog, namespace, None).await;
    }
}

async fn two_leaders(port: u16) {
    let first = catalog(port, token());
    let second = catalog(port, signed());
    create_namespace(&first, "db").await;
    let new = new_table("db", "sales", None);
    first.create(&new).await.unwrap();
    let table = first.load(&new.name).await.unwrap();
    let writer = Writer {
        cluster: "prod".into(),
        job: "sales".into(),
        submitted_ms: 1,
        table_uuid: table.table_uuid.clone(),
    };
    let files = MemoryFiles::default();
    let epochs: Vec<_> = (1..=EPOCHS)
        .map(|number| epoch(number, &table.data_folder()))
        .collect();
    let both = [&first, &second].map(|catalog| lead(catalog, &files, &new.name, &writer, &epochs));
    let [one, other] = both;
    let (one, other) = tokio::join!(one, other);
    let table = first.load(&new.name).await.unwrap();
    let mut seen = BTreeMap::new();
    for snapshot in &table.snapshots {
        for number in snapshot.summary["streamctl.epochs"].split(',') {
            *seen.entry(number.parse::<u64>().unwrap()).or_insert(0) += 1;
        }
    }
    assert_eq!(seen, (1..=EPOCHS).map(|number| (number, 1)).collect());
    assert_eq!(one + other, table.snapshots.len());
    let rows: u64 = (1..=EPOCHS).sum();
    let current = table.current().unwrap();
    assert_eq!(current.summary["total-records"], rows.to_string());
    assert_eq!(table.properties["streamctl.prod.sales"], EPOCHS.to_string());
}

/// Commits the epochs one by one, and returns how many snapshots it added.
async fn lead(
    catalog: &RestCatalog,
    files: &MemoryFiles,
    table: &TableName,
    writer: &Writer,
    epochs: &[EpochFiles],
) -> usize {
    let settings = CommitSettings {
        keep_snapshots: NonZeroU32::new(1000),
        ..CommitSettings::default()
    };
    let committer = Committer {
        catalog,
        files,
        table,
        writer,
        settings: &settings,
    };
    let mut added = 0;
    for epoch in epochs.chunks(1) {
        added += committer.commit(epoch, &now_ms).await.unwrap().added.len();
    }
    added
}
