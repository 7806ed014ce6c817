//! Iceberg tables: appending to them exactly once.
//!
//! Owns: the forms of a table's metadata and manifests, statistics of data files, the commit of
//! epochs, catalogs. Does not own: writing data files and making them visible (`storage`), when an
//! epoch is published (the controller).
//! Rule: an epoch is in a table if, and only if, the table itself states it; no memory of ours
//! decides.

pub mod avro;
pub mod catalog;
pub mod commit;
pub mod compare;
pub mod data_file;
pub mod datum;
pub mod files;
pub mod manifest;
pub mod manifest_list;
pub mod merge;
pub mod metadata;
pub mod partition;
pub mod plan;
pub mod rewrite;
pub mod schema;
pub mod split;
pub mod stats;
mod stored;
pub mod tables;
pub mod transform;
pub mod types;

pub use stored::{StoredFiles, storage_location};
