//! Files in memory.
//!
//! Rule: an existing file is never changed, and writing another content under its name is a fault
//! of the test's subject.

use super::super::super::files::{Files, FilesError};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub struct MemoryFiles {
    files: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryFiles {
    pub fn names(&self) -> Vec<String> {
        let files = self.files.lock().expect("no test panics with the lock");
        files.keys().cloned().collect()
    }

    /// The file, for a test that reads without waiting.
    pub fn read(&self, location: &str) -> Option<Bytes> {
        let files = self.files.lock().expect("no test panics with the lock");
        files.get(location).cloned()
    }

    pub fn write(&self, location: &str, bytes: Bytes) {
        let mut files = self.files.lock().expect("no test panics with the lock");
        let known = files.entry(location.to_owned()).or_insert(bytes.clone());
        assert_eq!(*known, bytes, "{location} would change");
    }
}

#[async_trait]
impl Files for MemoryFiles {
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, FilesError> {
        let bytes = self.read(location).ok_or_else(|| FilesError::Missing {
            location: location.to_owned(),
        })?;
        assert!(bytes.len() as u64 <= limit, "{location} is too large");
        Ok(bytes)
    }

    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<(), FilesError> {
        self.write(location, bytes);
        Ok(())
    }

    async fn remove(&self, location: &str) -> Result<(), FilesError> {
        let mut files = self.files.lock().expect("no test panics with the lock");
        files.remove(location);
        Ok(())
    }
}
