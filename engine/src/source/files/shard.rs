//! A file as a shard: the data that the controller's listing passes to the worker that reads it.
//!
//! Owns: the text form of a file shard's detail. Does not own: listing, reading.
//! Rule: a file is read as it was listed (same ETag) or not at all.

use crate::storage::ObjectInfo;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileShard {
    pub location: String,
    /// In bytes, as stored.
    pub size: u64,
    /// Changes when the content does.
    pub etag: String,
}

impl FileShard {
    /// The text that travels as a shard's detail.
    pub fn to_detail(&self) -> String {
        serde_json::json!({"location": self.location, "size": self.size, "etag": self.etag})
            .to_string()
    }
    /// From a shard's detail; `None` if it is invalid.
    pub fn from_detail(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl From<ObjectInfo> for FileShard {
    fn from(info: ObjectInfo) -> Self {
        Self {
            location: info.location,
            size: info.size,
            etag: info.etag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_survives_the_way_to_the_worker() {
        let file = FileShard {
            location: "s3://b/a \"b\".json".into(),
            size: 7,
            etag: "\"x\"".into(),
        };
        assert_eq!(FileShard::from_detail(&file.to_detail()), Some(file));
        assert_eq!(FileShard::from_detail("s3://b/a"), None);
    }
}
