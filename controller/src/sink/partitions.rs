//! The partitions of the sink's table that hold the rows of an epoch.
//!
//! Owns: which there are. Does not own: the catalog's requests (the engine).
//! Rule: a partition follows from the names of an epoch's objects alone, so that each leader finds
//! the same ones.

use super::{Committed, PublishError};
use std::collections::BTreeSet;
use streamctl_engine::data_catalog::{DataCatalogError, Partition};
use streamctl_engine::storage::Storages;
use streamctl_proto::manifest::objects_after;
use streamctl_proto::names::partition_values;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::spec::{FilesSink, PartitionColumn};

/// Registers the partitions of these epochs in the catalog that the sink names. Idempotent.
pub(super) async fn register(
    storages: &Storages,
    sink: &FilesSink,
    epochs: &[Committed<'_>],
) -> Result<(), PublishError> {
    let catalog = sink.catalog.as_ref().filter(|catalog| !catalog.projection);
    let (Some(catalog), Some(first)) = (catalog, epochs.first()) else {
        return Ok(());
    };
    let partitions: BTreeSet<Partition> = epochs
        .iter()
        .flat_map(|epoch| of_epoch(sink, epoch))
        .collect();
    let registered = storages
        .data_catalogs()
        .register(catalog, partitions.into_iter().collect());
    registered.await.map_err(|error| failed(first, error))
}

/// The partitions of an epoch's rows. A job takes over with other folders: what an earlier version
/// wrote is not of the table.
fn of_epoch(sink: &FilesSink, epoch: &Committed<'_>) -> Vec<Partition> {
    let Committed { manifest, repairs } = epoch;
    let path = sink.path.as_str();
    let partition = |location: &str| {
        let (folders, _) = location.strip_prefix(path)?.rsplit_once('/')?;
        let columns = sink.partition_by.iter().map(PartitionColumn::name);
        let values = partition_values(columns, folders)?;
        Some(Partition {
            values,
            location: format!("{path}{folders}/"),
        })
    };
    objects_after(manifest, repairs)
        .iter()
        .filter(|object| object.staged.kind == ObjectKind::Data)
        .filter_map(|object| partition(&object.staged.location))
        .collect()
}

fn failed(first: &Committed<'_>, error: DataCatalogError) -> PublishError {
    let job = first.manifest.job.clone();
    let epoch = first.manifest.epoch;
    match error {
        DataCatalogError::Denied { .. } | DataCatalogError::Unavailable { .. } => {
            PublishError::Partitions {
                job,
                epoch,
                source: error,
            }
        }
        DataCatalogError::DatabaseMissing { .. }
        | DataCatalogError::TableMissing { .. }
        | DataCatalogError::Refused { .. } => PublishError::Refused {
            job,
            epoch,
            reason: error.to_string(),
            hint: error.hint().unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests;
