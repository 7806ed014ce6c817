//! A table: an epoch is published by completing its data files and one commit to the catalog.
//!
//! Owns: the order, which files an epoch has, when manifests are merged. Does not own: the commit
//! (`engine::iceberg::commit`), how an object becomes visible (`objects`).
//! Rule: the table decides whether an epoch is in it, never an earlier answer. Files are complete
//! before a request names them.

mod compact;
mod listing;

use super::compact::{Compacted, CompactionTurn, NotCompacted};
use super::files::FilesCommitter;
use super::{Committed, Committer, Listing, PublishError, Visit};
use async_trait::async_trait;
use std::sync::Arc;
use streamctl_engine::iceberg::StoredFiles;
use streamctl_engine::iceberg::catalog::{Catalog, CatalogError, TableName};
use streamctl_engine::iceberg::commit::{self, CommitError, CommitSettings, Merged};
use streamctl_engine::iceberg::data_file::{DataFile, NotOfTable};
use streamctl_engine::iceberg::partition::BoundField;
use streamctl_engine::iceberg::plan::{self, EpochFiles, Writer};
use streamctl_engine::iceberg::tables::Merging;
use streamctl_engine::sink::{PinError, pinned_fields, writer};
use streamctl_engine::storage::{Inspected, Look, RefusalCause, StorageError, Storages};
use streamctl_proto::manifest::{Manifest, objects_after};
use streamctl_proto::report::ObjectKind;
use streamctl_proto::spec::{IcebergSink, Location, PinnedTable};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{ResolvedJob, StagedObject};

/// Small manifests are looked for after so many epochs.
const MERGE_EVERY: u64 = 25;
/// Merges in one go.
const MERGES_MAX: usize = 10;

pub(super) struct IcebergCommitter {
    /// By the role of the sink: the table's catalog and its files.
    storages: Storages,
    /// With the program's own credentials: the checkpoint location.
    own: Storages,
    sink: IcebergSink,
    /// `None`: the job was stored without a table.
    target: Option<Target>,
    objects: FilesCommitter,
}

/// The table, and who writes it.
#[derive(Clone)]
struct Target {
    pinned: PinnedTable,
    writer: Writer,
}

/// A table and its catalog.
struct Opened {
    catalog: Arc<dyn Catalog>,
    files: StoredFiles,
    name: TableName,
    settings: CommitSettings,
}

impl IcebergCommitter {
    pub fn new(storages: &Storages, sink: &IcebergSink, job: &ResolvedJob) -> Self {
        let target = sink.pinned.as_deref().map(|pinned| Target {
            pinned: pinned.clone(),
            writer: writer(job, pinned),
        });
        let data = target.iter().map(|target| target.pinned.data.clone());
        let rows = data.collect();
        let role = sink.role.as_ref();
        let dead_letters = job.spec.dead_letters();
        Self {
            storages: storages.as_role(role),
            own: storages.clone(),
            sink: sink.clone(),
            target,
            objects: FilesCommitter::of_places(storages, role, rows, dead_letters),
        }
    }

    fn target(&self) -> Result<&Target, CommitError> {
        let none = || self.refused(&PinError::None.to_string());
        self.target.as_ref().ok_or_else(none)
    }

    fn refused(&self, reason: &str) -> CommitError {
        CommitError::Refused {
            table: self.name().unwrap_or(TableName {
                namespace: vec![],
                name: self.sink.table.clone(),
            }),
            reason: reason.to_owned(),
            hint: "submit the job again".to_owned(),
        }
    }

    fn name(&self) -> Option<TableName> {
        TableName::parse(&self.sink.table).ok()
    }

    async fn open(&self) -> Result<Opened, CommitError> {
        let target = self.target()?;
        let name = self
            .name()
            .ok_or_else(|| self.refused("its table's name is none"))?;
        let catalog = self.storages.tables().catalog(&self.sink.catalog).await;
        let catalog = catalog.map_err(|error| of_catalog(&name, &error))?;
        let storage = self.storages.for_location(target.pinned.data.as_str());
        Ok(Opened {
            catalog,
            files: StoredFiles { storage },
            name,
            settings: CommitSettings {
                keep_snapshots: Some(self.sink.keep_snapshots),
                ..CommitSettings::default()
            },
        })
    }

    /// The last epoch that is in the table.
    async fn through(&self) -> Result<u64, CommitError> {
        let target = self.target()?;
        let opened = self.open().await?;
        let table = opened.catalog.load(&opened.name).await;
        let table = table.map_err(|error| of_catalog(&opened.name, &error))?;
        plan::through(&table, &target.writer).map_err(|stop| CommitError::Stopped {
            table: opened.name,
            stop,
        })
    }

    /// Completes what an epoch has staged. Objects that are gone after the table took the epoch
    /// are its readers' matter: a compaction replaced them.
    async fn complete(&self, epoch: &Committed<'_>) -> Result<(), PublishError> {
        let lost = match self.objects.publish(std::slice::from_ref(epoch)).await {
            Err(error @ PublishError::Lost { .. }) => error,
            done => return done,
        };
        let is_in = self.through().await;
        match is_in.map_err(|error| failed(epoch.manifest, error))? >= epoch.manifest.epoch.0 {
            true => Ok(()),
            false => Err(lost),
        }
    }

    /// The partition fields of the spec that a file was written with.
    async fn fields(&self, spec_id: i32) -> Result<Vec<BoundField>, CommitError> {
        let target = self.target()?;
        if spec_id == target.pinned.spec_id {
            return pinned_fields(&target.pinned).map_err(|error| self.refused(&error.to_string()));
        }
        let opened = self.open().await?;
        let table = opened.catalog.load(&opened.name).await;
        let table = table.map_err(|error| of_catalog(&opened.name, &error))?;
        let bound = table.spec(spec_id).zip(table.current_schema());
        let bound = bound.map(|(spec, schema)| spec.bind(schema));
        match bound {
            Some(Ok(fields)) => Ok(fields),
            Some(Err(bad)) => Err(self.refused(&bad.to_string())),
            None => Err(self.refused(&format!("the table has no partition spec {spec_id}"))),
        }
    }

    /// The files that an epoch adds, in the order of its manifest.
    async fn files(&self, epoch: &Committed<'_>) -> Result<EpochFiles, CommitError> {
        let Committed { manifest, repairs } = epoch;
        let mut files = vec![];
        let mut bound: Option<(i32, Vec<BoundField>)> = None;
        for object in objects_after(manifest, repairs) {
            let staged = object.staged;
            if staged.kind != ObjectKind::Data {
                continue;
            }
            let spec_id = staged.table_file.as_ref().map_or(0, |file| file.spec_id);
            let fields = match bound.take() {
                Some((known, fields)) if known == spec_id => fields,
                _ => self.fields(spec_id).await?,
            };
            let file = DataFile::reported(&staged, &fields);
            files.push(file.map_err(|error: NotOfTable| self.refused(&error.to_string()))?);
            bound = Some((spec_id, fields));
        }
        let (_, reference) = manifest.encode();
        Ok(EpochFiles {
            epoch: manifest.epoch.0,
            window_start_ms: manifest.window.start_ms,
            window_end_ms: manifest.window.end_ms,
            manifest_digest: reference.digest,
            files,
        })
    }

    async fn commit(&self, epochs: &[EpochFiles]) -> Result<(), CommitError> {
        if epochs.iter().all(|epoch| epoch.files.is_empty()) {
            return Ok(());
        }
        let target = self.target()?;
        let opened = self.open().await?;
        let committer = opened.committer(&target.writer);
        let clock = self.storages.tables().clock();
        let committed = committer.commit(epochs, &move || clock()).await?;
        tracing::debug!(
            table = %opened.name,
            snapshots = committed.added.len(),
            sent = committed.sent,
            "committed"
        );
        if epochs
            .iter()
            .any(|epoch| epoch.epoch.is_multiple_of(MERGE_EVERY))
            && let Some(merging) = self.storages.tables().begin_merge(&self.sink)
        {
            let target = target.clone();
            let clock = self.storages.tables().clock();
            tokio::spawn(async move { merge(opened, target, merging, clock).await });
        }
        Ok(())
    }
}

impl Opened {
    fn committer<'a>(&'a self, writer: &'a Writer) -> commit::Committer<'a> {
        commit::Committer {
            catalog: &*self.catalog,
            files: &self.files,
            table: &self.name,
            writer,
            settings: &self.settings,
        }
    }
}

/// Merges small manifests, beside the epochs. What fails is tried again after some more of them.
async fn merge(
    opened: Opened,
    target: Target,
    merging: Merging,
    clock: streamctl_engine::clock::Clock,
) {
    for _ in 0..MERGES_MAX {
        let committer = opened.committer(&target.writer);
        match committer.merge_manifests(clock()).await {
            Ok(Merged::Merged(manifests)) => {
                tracing::info!(table = %opened.name, manifests, "merged manifests");
            }
            Ok(Merged::NotDue) => break,
            Err(error) => {
                tracing::debug!(table = %opened.name, %error, "manifests are not merged now");
                break;
            }
        }
    }
    drop(merging);
}

fn of_catalog(table: &TableName, error: &CatalogError) -> CommitError {
    let reason = error.to_string();
    match error {
        CatalogError::TableMissing { table } => CommitError::TableMissing {
            table: table.clone(),
        },
        CatalogError::Refused { hint, .. } => CommitError::Refused {
            table: table.clone(),
            reason,
            hint: hint.clone(),
        },
        CatalogError::Unavailable { .. } => CommitError::Unavailable {
            table: table.clone(),
            attempts: 1,
            last: reason,
        },
    }
}

fn failed(manifest: &Manifest, error: CommitError) -> PublishError {
    let job = manifest.job.clone();
    let epoch = manifest.epoch;
    match error {
        CommitError::Unavailable { .. } => PublishError::Catalog {
            job,
            epoch,
            source: error,
        },
        CommitError::Stopped { .. }
        | CommitError::TableMissing { .. }
        | CommitError::Refused { .. } => PublishError::Refused {
            job,
            epoch,
            reason: error.to_string(),
            hint: error.hint().to_owned(),
        },
    }
}

/// For callers that only look.
fn as_storage(sink: &IcebergSink, error: &CommitError) -> StorageError {
    let location = sink.table.clone();
    let reason = error.to_string();
    match error {
        CommitError::Unavailable { .. } => StorageError::Unavailable { location, reason },
        CommitError::Stopped { .. }
        | CommitError::TableMissing { .. }
        | CommitError::Refused { .. } => StorageError::Refused {
            cause: RefusalCause::Request,
            location,
            reason,
            hint: error.hint().to_owned(),
        },
    }
}

#[async_trait]
impl Committer for IcebergCommitter {
    async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
        let mut all = vec![];
        for epoch in epochs {
            self.complete(epoch).await?;
            let files = self.files(epoch).await;
            all.push(files.map_err(|error| failed(epoch.manifest, error))?);
        }
        match (self.commit(&all).await, epochs.first()) {
            (Err(error), Some(first)) => Err(failed(first.manifest, error)),
            (Err(_) | Ok(()), _) => Ok(()),
        }
    }

    /// A file is completed only after its epoch was committed.
    async fn is_visible(&self, manifest: &Manifest) -> Result<bool, StorageError> {
        if self.objects.is_visible(manifest).await? {
            return Ok(true);
        }
        match self.through().await {
            Ok(through) => Ok(through >= manifest.epoch.0),
            // A table that is gone shows nothing.
            Err(CommitError::TableMissing { .. }) => Ok(false),
            Err(error) => Err(as_storage(&self.sink, &error)),
        }
    }

    fn places(&self) -> Vec<Location> {
        self.objects.places()
    }

    async fn sweep(&self, place: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        self.objects.sweep(place, orphans).await
    }

    async fn inspect(&self, staged: &StagedObject, look: Look) -> Result<Inspected, StorageError> {
        self.objects.inspect(staged, look).await
    }

    async fn visit(&self, place: &Location, visit: Visit<'_>) -> Result<(), StorageError> {
        self.objects.visit(place, visit).await
    }

    async fn compact(&self, turn: CompactionTurn<'_>) -> Result<Compacted, NotCompacted> {
        compact::compact(self, turn).await
    }

    async fn listing(&self) -> Result<Option<Listing>, StorageError> {
        let listed = async {
            let target = self.target()?;
            let opened = self.open().await?;
            listing::list(&opened, &target.writer, &target.pinned.data).await
        };
        let listed: Result<Listing, CommitError> = listed.await;
        listed
            .map(Some)
            .map_err(|error| as_storage(&self.sink, &error))
    }
}

#[cfg(test)]
mod tests;
