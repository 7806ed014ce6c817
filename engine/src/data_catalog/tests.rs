//! The fake keeps the contract; registration by it, with faults.

use super::contract::{contract, name, table};
use super::memory::{Fault, MemoryCatalog};
use super::*;
use std::time::Duration;

fn sink() -> SinkCatalog {
    SinkCatalog {
        role: None,
        database: "db".into(),
        table: "sales".into(),
        catalog_id: None,
        region: None,
        projection: false,
        add_columns: true,
    }
}

fn partition(number: usize) -> Partition {
    Partition {
        values: vec![number.to_string(), "2026-11-24".into()],
        location: format!("s3://b/t/country={number}/day=2026-11-24/"),
    }
}

async fn scene() -> (Arc<MemoryCatalog>, DataCatalogs, TableName) {
    let catalog = Arc::new(MemoryCatalog::with_database("db"));
    let sales = name("db", "sales");
    catalog.create(&sales, &table("s3://b/t/")).await.unwrap();
    let catalogs = DataCatalogs::only(catalog.clone());
    (catalog, catalogs, sales)
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract(&MemoryCatalog::with_database("db"), "db").await;
}

#[tokio::test(start_paused = true)]
async fn partitions_are_registered_in_batches_and_once_within_a_time() {
    let (catalog, catalogs, sales) = scene().await;
    let all: Vec<_> = (0..250).map(partition).collect();
    catalogs.register(&sink(), all.clone()).await.unwrap();
    assert_eq!(catalog.registrations(), [100, 100, 50]);
    assert_eq!(catalog.partitions(&sales).len(), 250);
    catalogs.register(&sink(), all.clone()).await.unwrap();
    assert_eq!(catalog.registrations().len(), 3, "they are known");
    // Others removed one, and later rows need it.
    catalog.drop_partition(&sales, &all[7].values);
    tokio::time::advance(Duration::from_secs(601)).await;
    catalogs
        .register(&sink(), vec![all[7].clone()])
        .await
        .unwrap();
    assert_eq!(catalog.partitions(&sales).len(), 250);
}

#[tokio::test]
async fn what_a_fault_left_is_registered_by_the_next_call() {
    for fault in [
        Fault::Unavailable,
        Fault::AnswerLost,
        Fault::Half,
        Fault::Denied,
    ] {
        let (catalog, catalogs, sales) = scene().await;
        let all: Vec<_> = (0..8).map(partition).collect();
        catalog.fail([fault]);
        let failed = catalogs.register(&sink(), all.clone()).await.unwrap_err();
        assert_eq!(failed.hint().is_some(), fault == Fault::Denied, "{failed}");
        catalogs.register(&sink(), all.clone()).await.unwrap();
        assert_eq!(catalog.partitions(&sales).len(), 8, "{fault:?}");
    }
}

#[tokio::test]
async fn a_dropped_table_is_named() {
    let (catalog, catalogs, sales) = scene().await;
    catalog.drop_table(&sales);
    let error = catalogs.register(&sink(), vec![partition(1)]).await;
    let error = error.unwrap_err();
    assert_eq!(error, DataCatalogError::TableMissing { table: sales });
    assert!(error.hint().unwrap().contains("--change"));
}
