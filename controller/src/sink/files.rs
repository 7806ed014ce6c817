//! Files below a folder: an epoch is published by completing its staged objects, and by registering
//! their partitions if a table shows them.

use super::{Committed, Committer, PublishError, Visit, objects, partitions};
use async_trait::async_trait;
use futures::StreamExt as _;
use std::sync::Arc;
use streamctl_engine::storage::{Inspected, Look, Storage, StorageError, Storages};
use streamctl_proto::spec::{AssumedRole, FilesSink, Location, SinkFacts as _};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{Manifest, StagedObject};

pub(super) struct FilesCommitter {
    storages: Storages,
    /// Of the places with rows.
    role: Option<AssumedRole>,
    rows: Vec<Location>,
    dead_letters: Location,
    /// `None`: the objects are of another kind of sink.
    sink: Option<FilesSink>,
}

impl FilesCommitter {
    pub fn new(storages: &Storages, sink: &FilesSink, dead_letters: Location) -> Self {
        let folders = sink.folders().into_iter();
        let rows = folders.map(|(_, folder)| folder.clone()).collect();
        Self {
            sink: Some(sink.clone()),
            ..Self::of_places(storages, sink.role(), rows, dead_letters)
        }
    }

    /// Of any kind that stages objects with rows in the folders `rows`, by this role.
    pub fn of_places(
        storages: &Storages,
        role: Option<&AssumedRole>,
        rows: Vec<Location>,
        dead_letters: Location,
    ) -> Self {
        Self {
            storages: storages.clone(),
            role: role.cloned(),
            rows,
            dead_letters,
            sink: None,
        }
    }

    /// Serves one of the places.
    fn storage_of(&self, place: &Location) -> Arc<dyn Storage> {
        let role = self.role.as_ref().filter(|_| *place != self.dead_letters);
        self.storages.as_role(role).for_location(place.as_str())
    }
}

#[async_trait]
impl Committer for FilesCommitter {
    async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
        for epoch in epochs {
            objects::publish(&self.storages, self.role.as_ref(), epoch).await?;
        }
        if let Some(sink) = &self.sink {
            partitions::register(&self.storages, sink, epochs).await?;
        }
        Ok(())
    }

    async fn is_visible(&self, manifest: &Manifest) -> Result<bool, StorageError> {
        objects::is_visible(&self.storages, self.role.as_ref(), manifest).await
    }

    fn places(&self) -> Vec<Location> {
        let rows = self.rows.iter();
        rows.chain([&self.dead_letters]).cloned().collect()
    }

    async fn sweep(&self, place: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        let storage = self.storage_of(place);
        storage.sweep(place, orphans).await
    }

    async fn inspect(&self, staged: &StagedObject, look: Look) -> Result<Inspected, StorageError> {
        let storage = self.storages.for_staged(self.role.as_ref(), staged);
        storage.inspect(&staged.location, look).await
    }

    async fn visit(&self, place: &Location, visit: Visit<'_>) -> Result<(), StorageError> {
        let storage = self.storage_of(place);
        let mut pages = storage.pages(place);
        while let Some(page) = pages.next().await {
            visit(page?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_used_for_the_rows_and_not_for_the_dead_letters() {
        let role = AssumedRole::new("arn:aws:iam::123456789012:role/writer");
        let rows = Location::folder("s3://their-bucket/out/");
        let dead = Location::folder("s3://own-bucket/dead/");
        let sink = FilesSink {
            role: Some(role.clone()),
            ..FilesSink::new(rows.clone())
        };
        let committer = FilesCommitter::new(&Storages::local(), &sink, dead.clone());
        assert_eq!(committer.places(), [rows.clone(), dead.clone()]);
        let by_role = |place| {
            let storage = committer.storage_of(place);
            format!("{storage:?}").contains(&role.role_arn)
        };
        assert!(by_role(&rows));
        assert!(!by_role(&dead));
    }
}
