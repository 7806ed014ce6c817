//! What a table lists, to compare it with what was committed.
//!
//! Owns: reading the current snapshot, and what others have removed. Does not own: what a
//! difference means (`verify`).
//! Rule: reads only; memory is bounded by the number of files.

use super::super::Listing;
use super::super::listing::Gone;
use super::{Opened, of_catalog};
use futures::stream::{self, StreamExt as _};
use std::sync::Arc;
use streamctl_engine::iceberg::commit::{CommitError, LIST_BYTES_MAX};
use streamctl_engine::iceberg::files::{Files as _, FilesError};
use streamctl_engine::iceberg::manifest::{self, DELETED, Listed};
use streamctl_engine::iceberg::manifest_list::{self, Content, ManifestFile};
use streamctl_engine::iceberg::metadata::{Snapshot, TableMetadata};
use streamctl_engine::iceberg::plan::{self, Stop, Writer};
use streamctl_engine::iceberg::storage_location;
use streamctl_proto::spec::Location;

/// Largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Manifests that are read at the same time.
const READ_PARALLEL_MAX: usize = 8;
/// Snapshots whose removed files are looked at.
const REMOVING_SNAPSHOTS_MAX: usize = 1_000;

/// The files of the table's current snapshot.
pub(super) async fn list(
    opened: &Opened,
    writer: &Writer,
    own: &Location,
) -> Result<Listing, CommitError> {
    let table = opened.catalog.load(&opened.name).await;
    let table = table.map_err(|error| of_catalog(&opened.name, &error))?;
    if table.table_uuid != writer.table_uuid {
        let pinned = writer.table_uuid.clone();
        let found = table.table_uuid.clone();
        return Err(CommitError::Stopped {
            table: opened.name.clone(),
            stop: Stop::TableReplaced { pinned, found },
        });
    }
    let mut listing = Listing::new(opened.name.to_string(), own.as_str());
    let through = plan::through(&table, writer);
    listing.through = through.map_err(|stop| CommitError::Stopped {
        table: opened.name.clone(),
        stop,
    })?;
    if let Some(current) = table.current() {
        let manifests = manifests(opened, current).await?;
        each_entry(opened, &manifests, |entry| {
            if entry.status != DELETED {
                listing.add(&storage_location(&entry.location), entry.rows);
            }
        })
        .await?;
    }
    removed(opened, &table, writer, &mut listing).await?;
    for snapshot in &table.snapshots {
        for epoch in plan::epochs_of(snapshot, writer) {
            listing.stated(epoch);
        }
    }
    Ok(listing)
}

/// The files that snapshots removed, as far as these snapshots are kept.
async fn removed(
    opened: &Opened,
    table: &TableMetadata,
    writer: &Writer,
    listing: &mut Listing,
) -> Result<(), CommitError> {
    let operation = |snapshot: &Snapshot| {
        let operation = snapshot.summary.get("operation");
        operation.map_or("", String::as_str).to_owned()
    };
    let removing = table.snapshots.iter().filter(|snapshot| {
        let removes = matches!(&*operation(snapshot), "replace" | "overwrite" | "delete");
        removes && (!plan::is_own(snapshot, writer) || plan::has_rewritten(snapshot, writer))
    });
    for snapshot in removing.take(REMOVING_SNAPSHOTS_MAX) {
        let own = manifests(opened, snapshot).await?.into_iter();
        let own: Vec<_> = own
            .filter(|manifest| manifest.added_snapshot_id == snapshot.snapshot_id)
            .collect();
        let gone = match &*operation(snapshot) {
            "replace" => Gone::Rewritten {
                by_job: plan::is_own(snapshot, writer),
            },
            operation => Gone::Removed {
                snapshot: snapshot.snapshot_id,
                operation: operation.to_owned(),
            },
        };
        each_entry(opened, &own, |entry| {
            if entry.status == DELETED {
                listing.gone(&storage_location(&entry.location), gone.clone());
            }
        })
        .await?;
    }
    let ids: Vec<_> = table.snapshots.iter().map(|one| one.snapshot_id).collect();
    let is_cut = |snapshot: &Arc<Snapshot>| {
        let parent = snapshot.parent_snapshot_id;
        parent.is_some_and(|parent| !ids.contains(&parent))
    };
    listing.history_is_cut = table.snapshots.iter().any(is_cut);
    Ok(())
}

async fn manifests(opened: &Opened, snapshot: &Snapshot) -> Result<Vec<ManifestFile>, CommitError> {
    let Some(location) = &snapshot.manifest_list else {
        return Ok(vec![]);
    };
    let bytes = opened.files.get(location, LIST_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| failed(opened, error))?;
    let listed =
        manifest_list::decode(&bytes).map_err(|error| damaged(opened, location, &error))?;
    let data = listed.into_iter();
    Ok(data
        .filter(|manifest| manifest.content == Content::Data)
        .collect())
}

async fn each_entry(
    opened: &Opened,
    manifests: &[ManifestFile],
    mut visit: impl FnMut(Listed),
) -> Result<(), CommitError> {
    let reads = manifests.iter().map(|manifest| async move {
        let location = &manifest.location;
        let bytes = opened.files.get(location, MANIFEST_BYTES_MAX).await;
        let bytes = bytes.map_err(|error| failed(opened, error))?;
        manifest::decode(&bytes).map_err(|error| damaged(opened, location, &error))
    });
    let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffered(READ_PARALLEL_MAX);
    while let Some(entries) = reads.next().await {
        entries?.into_iter().for_each(&mut visit);
    }
    Ok(())
}

fn damaged(opened: &Opened, location: &str, error: &dyn std::fmt::Display) -> CommitError {
    CommitError::Refused {
        table: opened.name.clone(),
        reason: format!("{location}: {error}"),
        hint: "the table is damaged; look at it with another reader".to_owned(),
    }
}

fn failed(opened: &Opened, error: FilesError) -> CommitError {
    let table = opened.name.clone();
    let reason = error.to_string();
    match error {
        FilesError::Refused { hint, .. } => CommitError::Refused {
            table,
            reason,
            hint,
        },
        FilesError::Missing { .. } | FilesError::Unavailable { .. } => CommitError::Unavailable {
            table,
            attempts: 1,
            last: reason,
        },
    }
}
