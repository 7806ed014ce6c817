//! Metadata files in the project's storages.
//!
//! Rule: the location in a table's metadata is the location of the object.

use super::files::{Files, FilesError};
use crate::storage::{Storage, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// Files of a table in S3 or a folder.
#[derive(Clone, Debug)]
pub struct StoredFiles {
    pub storage: Arc<dyn Storage>,
}

/// A location of a table as the project's storages name it: other engines write `s3a://` and
/// `file:` for the same places.
pub fn storage_location(text: &str) -> String {
    for scheme in ["s3a://", "s3n://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return format!("s3://{rest}");
        }
    }
    match text.strip_prefix("file:") {
        Some(path) => format!("/{}", path.trim_start_matches('/')),
        None => text.to_owned(),
    }
}

#[async_trait]
impl Files for StoredFiles {
    async fn get(&self, file: &str, limit: u64) -> Result<Bytes, FilesError> {
        Ok(self.storage.get(&storage_location(file), limit).await?)
    }

    async fn put_new(&self, file: &str, bytes: Bytes) -> Result<(), FilesError> {
        self.storage.put_new(&storage_location(file), bytes).await?;
        Ok(())
    }

    async fn remove(&self, file: &str) -> Result<(), FilesError> {
        Ok(self.storage.delete(&storage_location(file)).await?)
    }
}

impl From<StorageError> for FilesError {
    fn from(error: StorageError) -> Self {
        let reason = error.to_string();
        match error {
            StorageError::NotFound { location } | StorageError::StagedLost { location } => {
                Self::Missing { location }
            }
            StorageError::Refused {
                location,
                reason,
                hint,
                ..
            } => Self::Refused {
                location,
                reason,
                hint,
            },
            StorageError::TooLarge { location, .. } => Self::Refused {
                location,
                reason,
                hint: "rewrite the table's manifests, so that they are fewer".into(),
            },
            StorageError::Unavailable { location, reason } => {
                Self::Unavailable { location, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_engines_names_of_a_place_are_understood() {
        assert_eq!(storage_location("s3a://b/k"), "s3://b/k");
        assert_eq!(storage_location("file:///a/b"), "/a/b");
        assert_eq!(storage_location("file:/a/b"), "/a/b");
        assert_eq!(storage_location("/a/b"), "/a/b");
        assert_eq!(storage_location("s3://b/k"), "s3://b/k");
    }
}
