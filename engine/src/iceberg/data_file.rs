//! A data file of a table, as its manifest lists it.
//!
//! Rule: nothing in it depends on the snapshot that adds it, so that each try writes the same.

use super::partition::PartitionValues;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    pub location: String,
    /// In bytes.
    pub size: u64,
    pub rows: u64,
    pub spec_id: i32,
    pub partition: PartitionValues,
    #[serde(default)]
    pub metrics: Metrics,
    /// Where its row groups begin.
    #[serde(default)]
    pub split_offsets: Vec<i64>,
}

/// What is known of a file's columns, by field id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// In bytes.
    pub column_sizes: BTreeMap<i32, i64>,
    pub value_counts: BTreeMap<i32, i64>,
    pub null_counts: BTreeMap<i32, i64>,
    /// By the single-value serialisation.
    pub lower_bounds: BTreeMap<i32, Vec<u8>>,
    pub upper_bounds: BTreeMap<i32, Vec<u8>>,
}
