//! What every Data Catalog keeps: the fake, and the servers.

use super::{
    Altered, Created, DataCatalog, DataCatalogError, FilesTable, PARTITIONS_PER_REQUEST_MAX,
    Partition, TableName,
};
use streamctl_proto::resolved::ColumnType;

/// A table's name in a database.
pub fn name(database: &str, table: &str) -> TableName {
    TableName {
        catalog_id: None,
        database: database.to_owned(),
        table: table.to_owned(),
    }
}

fn column(name: &str, type_name: &str) -> ColumnType {
    ColumnType {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
    }
}

/// A table of Parquet files below a folder.
pub fn table(location: &str) -> FilesTable {
    let parquet = "org.apache.hadoop.hive.ql.io.parquet";
    let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    FilesTable {
        location: location.to_owned(),
        columns: vec![
            column("id", "bigint"),
            column("tags", "array<struct<a:int>>"),
        ],
        partition_keys: vec![column("country", "string"), column("day", "date")],
        input_format: format!("{parquet}.MapredParquetInputFormat"),
        output_format: format!("{parquet}.MapredParquetOutputFormat"),
        library: format!("{parquet}.serde.ParquetHiveSerDe"),
        serde: one("serialization.format", "1"),
        parameters: one("classification", "parquet"),
        version: None,
    }
}

fn partition(number: usize) -> Partition {
    let country = format!("c/{number}");
    Partition {
        location: format!("s3://b/t/country=c%2F{number}/day=2026-11-24/"),
        values: vec![country, "2026-11-24".to_owned()],
    }
}

/// Checks a catalog that has this database, without tables.
///
/// # Panics
/// It does not keep the contract.
pub async fn contract(catalog: &dyn DataCatalog, database: &str) {
    let missing = catalog.table(&name("no-such-database", "t")).await;
    assert!(
        matches!(missing, Err(DataCatalogError::DatabaseMissing { .. })),
        "{missing:?}"
    );
    let missing = catalog
        .create(&name("no-such-database", "t"), &table("s3://b/t/"))
        .await;
    assert!(
        matches!(missing, Err(DataCatalogError::DatabaseMissing { .. })),
        "{missing:?}"
    );
    let sales = name(database, "sales");
    assert_eq!(catalog.table(&sales).await, Ok(None));
    let new = table("s3://b/t/");
    let gone = catalog.add_partitions(&sales, &new, &[partition(0)]).await;
    assert!(
        matches!(gone, Err(DataCatalogError::TableMissing { .. })),
        "{gone:?}"
    );

    assert_eq!(catalog.create(&sales, &new).await, Ok(Created::Created));
    let other = table("s3://b/other/");
    assert_eq!(catalog.create(&sales, &other).await, Ok(Created::Exists));
    let made = catalog.table(&sales).await.unwrap().unwrap();
    let stated = FilesTable {
        version: None,
        ..made.clone()
    };
    assert_eq!(stated, new, "the first one stays");

    let more = [column("extra", "string")];
    let altered = catalog.add_columns(&sales, &made, &more).await;
    assert_eq!(altered, Ok(Altered::Altered));
    let again = catalog.add_columns(&sales, &made, &more).await;
    assert_eq!(again, Ok(Altered::Conflict), "it is not as it was read");
    let altered = catalog.table(&sales).await.unwrap().unwrap();
    let names: Vec<_> = altered.columns.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["id", "tags", "extra"]);
    assert_eq!(altered.partition_keys, new.partition_keys);
    assert_eq!(altered.parameters, new.parameters);

    let all: Vec<_> = (0..PARTITIONS_PER_REQUEST_MAX).map(partition).collect();
    for some in [&all[..3], &all[..], &all[..]] {
        let registered = catalog.add_partitions(&sales, &altered, some).await;
        assert_eq!(registered, Ok(()), "what is there is success");
    }
}
