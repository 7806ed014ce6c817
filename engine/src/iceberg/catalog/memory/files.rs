//! Files in memory.
//!
//! Rule: an existing file is never changed, and writing another content under its name is a fault
//! of the test's subject.

use super::super::super::files::{Files, FilesError};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct MemoryFiles {
    files: Mutex<BTreeMap<String, Bytes>>,
    written: AtomicU64,
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

    /// The bytes of all files that were ever written.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub fn write(&self, location: &str, bytes: Bytes) {
        let mut files = self.files.lock().expect("no test panics with the lock");
        match files.entry(location.to_owned()) {
            Entry::Occupied(known) => assert_eq!(*known.get(), bytes, "{location} would change"),
            Entry::Vacant(free) => {
                self.written
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                free.insert(bytes);
            }
        }
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
