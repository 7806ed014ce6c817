//! Which implementation serves which location.
//!
//! Owns: the choice. Does not own: the operations.
//! Rule: the location's text alone decides: `s3://`, `memory://`, else a path of the local disk.

use super::{LocalStorage, MemoryStorage, S3Storage, Storage};
use crate::aws::{Aws, AwsSettings};
use std::sync::Arc;

/// All storages of a process; a clone shares them.
#[derive(Clone, Debug)]
pub struct Storages {
    s3: ForS3,
    local: Arc<dyn Storage>,
    memory: Arc<dyn Storage>,
}

/// What serves `s3://`.
#[derive(Clone, Debug)]
enum ForS3 {
    Service(Arc<S3Storage>),
    Given(Arc<dyn Storage>),
}

impl Storages {
    /// S3 through these clients, and the local disk.
    pub fn new(aws: Aws) -> Self {
        Self::with(aws, MemoryStorage::default())
    }

    /// The local disk; S3 with default settings, should a location ask for it.
    pub fn local() -> Self {
        Self::new(Aws::new(AwsSettings::default()))
    }

    /// Objects below `memory://` are in `memory`. For tests.
    pub fn memory(memory: MemoryStorage) -> Self {
        Self::with(Aws::new(AwsSettings::default()), memory)
    }

    /// The same; parts on their way to S3 take at most so many bytes together, all objects of the
    /// process.
    pub fn with_upload_bytes(self, bytes: usize) -> Self {
        let s3 = match self.s3 {
            ForS3::Service(service) => ForS3::Service(Arc::new(service.with_upload_bytes(bytes))),
            given @ ForS3::Given(_) => given,
        };
        Self { s3, ..self }
    }

    /// One storage for every location, whatever its text says. For tests.
    pub fn only(storage: Arc<dyn Storage>) -> Self {
        Self {
            s3: ForS3::Given(Arc::clone(&storage)),
            local: Arc::clone(&storage),
            memory: storage,
        }
    }

    fn with(aws: Aws, memory: MemoryStorage) -> Self {
        let s3 = ForS3::Service(Arc::new(S3Storage::new(aws)));
        Self {
            s3,
            local: Arc::new(LocalStorage),
            memory: Arc::new(memory),
        }
    }

    /// The one that serves this object or folder.
    pub fn for_location(&self, location: &str) -> Arc<dyn Storage> {
        if location.starts_with("s3://") {
            match &self.s3 {
                ForS3::Service(service) => Arc::clone(service) as Arc<dyn Storage>,
                ForS3::Given(storage) => Arc::clone(storage),
            }
        } else if location.starts_with("memory://") {
            Arc::clone(&self.memory)
        } else {
            Arc::clone(&self.local)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_s_text_decides() {
        let storages = Storages::local();
        for (location, storage) in [
            ("s3://b/k", "S3Storage"),
            ("memory://a", "MemoryStorage"),
            ("/data/out/", "LocalStorage"),
        ] {
            let chosen = format!("{:?}", storages.for_location(location));
            assert!(chosen.starts_with(storage), "{location}: {chosen}");
        }
    }
}
