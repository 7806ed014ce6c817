//! Files below a folder: an epoch is published by completing its staged objects, and by registering
//! their partitions if a table shows them.

use super::{Committed, Committer, PublishError, Visit, objects, partitions};
use async_trait::async_trait;
use futures::StreamExt as _;
use streamctl_engine::storage::{Inspected, Look, StorageError, Storages};
use streamctl_proto::spec::{FilesSink, Location, SinkFacts as _};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{Manifest, StagedObject};

pub(super) struct FilesCommitter {
    storages: Storages,
    places: Vec<Location>,
    /// `None`: the objects are of another kind of sink.
    sink: Option<FilesSink>,
}

impl FilesCommitter {
    pub fn new(storages: &Storages, sink: &FilesSink, dead_letters: Location) -> Self {
        let folders = sink.folders().into_iter();
        let places = folders.map(|(_, folder)| folder.clone());
        Self {
            sink: Some(sink.clone()),
            ..Self::of_places(storages, places.chain([dead_letters]).collect())
        }
    }

    /// Of any kind that stages objects in these folders.
    pub fn of_places(storages: &Storages, places: Vec<Location>) -> Self {
        Self {
            storages: storages.clone(),
            places,
            sink: None,
        }
    }
}

#[async_trait]
impl Committer for FilesCommitter {
    async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
        for epoch in epochs {
            objects::publish(&self.storages, epoch).await?;
        }
        if let Some(sink) = &self.sink {
            partitions::register(&self.storages, sink, epochs).await?;
        }
        Ok(())
    }

    async fn is_visible(&self, manifest: &Manifest) -> Result<bool, StorageError> {
        objects::is_visible(&self.storages, manifest).await
    }

    fn places(&self) -> Vec<Location> {
        self.places.clone()
    }

    async fn sweep(&self, place: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        let storage = self.storages.for_location(place.as_str());
        storage.sweep(place, orphans).await
    }

    async fn inspect(&self, staged: &StagedObject, look: Look) -> Result<Inspected, StorageError> {
        let storage = self.storages.for_location(&staged.location);
        storage.inspect(&staged.location, look).await
    }

    async fn visit(&self, place: &Location, visit: Visit<'_>) -> Result<(), StorageError> {
        let storage = self.storages.for_location(place.as_str());
        let mut pages = storage.pages(place);
        while let Some(page) = pages.next().await {
            visit(page?);
        }
        Ok(())
    }
}
