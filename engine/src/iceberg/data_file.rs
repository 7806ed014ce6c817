//! A data file of a table, as its manifest lists it, and as a worker reports it.
//!
//! Rule: nothing in it depends on the snapshot that adds it, so that each try writes the same.

use super::datum::Datum;
use super::partition::{BoundField, PartitionValues};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use streamctl_proto::StagedObject;
use streamctl_proto::table_file::{
    Bytes, ColumnStatistics, SPLIT_OFFSETS_MAX, STATISTICS_COLUMNS_MAX, TableFile,
};

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

/// A reported file that is no file of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {reason}")]
pub struct NotOfTable {
    pub location: String,
    pub reason: String,
}

impl DataFile {
    /// A staged object as a file of the table; `fields` are those of the spec that it was written
    /// with.
    ///
    /// # Errors
    /// Partition values that are not of the fields' types.
    pub fn reported(staged: &StagedObject, fields: &[BoundField]) -> Result<Self, NotOfTable> {
        let wrong = |reason: String| NotOfTable {
            location: staged.location.clone(),
            reason,
        };
        let Some(file) = &staged.table_file else {
            return Err(wrong("nothing is reported of its columns".into()));
        };
        if file.partition.len() != fields.len() {
            return Err(wrong(format!(
                "it has {} partition values, the table has {} partition fields",
                file.partition.len(),
                fields.len()
            )));
        }
        let value = |(field, value): (&BoundField, &Option<Bytes>)| match value {
            None => Ok(None),
            Some(Bytes(bytes)) => Datum::from_bytes(&field.result, bytes)
                .map(Some)
                .ok_or_else(|| wrong(format!("its {} is not a {}", field.name, field.result))),
        };
        Ok(Self {
            location: staged.location.clone(),
            size: staged.size,
            rows: staged.rows,
            spec_id: file.spec_id,
            partition: fields
                .iter()
                .zip(&file.partition)
                .map(value)
                .collect::<Result<_, _>>()?,
            metrics: Metrics::reported(&file.columns),
            split_offsets: file.split_offsets.clone(),
        })
    }
}

/// The values of a partition in a report.
pub fn reported_partition(values: &[Option<Datum>]) -> Vec<Option<Bytes>> {
    let bytes = |value: &Option<Datum>| value.as_ref().map(|value| Bytes(value.to_bytes()));
    values.iter().map(bytes).collect()
}

/// A file in a report, without what is beyond the limits.
pub fn report(
    spec_id: i32,
    partition: Vec<Option<Bytes>>,
    metrics: &Metrics,
    mut split_offsets: Vec<i64>,
) -> TableFile {
    if split_offsets.len() > SPLIT_OFFSETS_MAX {
        split_offsets.clear();
    }
    let column = |(id, values): (&i32, &i64)| {
        let bytes = |bounds: &BTreeMap<i32, Vec<u8>>| bounds.get(id).cloned().map(Bytes);
        ColumnStatistics {
            id: *id,
            size: metrics.column_sizes.get(id).copied().unwrap_or(0),
            values: *values,
            nulls: metrics.null_counts.get(id).copied(),
            lower: bytes(&metrics.lower_bounds),
            upper: bytes(&metrics.upper_bounds),
        }
    };
    let columns = metrics.value_counts.iter().map(column);
    TableFile {
        spec_id,
        partition,
        columns: columns.take(STATISTICS_COLUMNS_MAX).collect(),
        split_offsets,
    }
}

impl Metrics {
    fn reported(columns: &[ColumnStatistics]) -> Self {
        let mut metrics = Self::default();
        for column in columns {
            metrics.column_sizes.insert(column.id, column.size);
            metrics.value_counts.insert(column.id, column.values);
            if let Some(nulls) = column.nulls {
                metrics.null_counts.insert(column.id, nulls);
            }
            if let Some(Bytes(lower)) = &column.lower {
                metrics.lower_bounds.insert(column.id, lower.clone());
            }
            if let Some(Bytes(upper)) = &column.upper {
                metrics.upper_bounds.insert(column.id, upper.clone());
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::super::transform::Transform;
    use super::super::types::Primitive;
    use super::*;
    use streamctl_proto::report::{ObjectKind, Staging};

    fn staged(file: Option<TableFile>) -> StagedObject {
        StagedObject {
            kind: ObjectKind::Data,
            location: "/t/data/a.parquet".into(),
            size: 10,
            crc32c: 0,
            rows: 3,
            table_file: file.map(Box::new),
            staging: Staging::File {
                staged_path: "/t/data/.a.staged".into(),
            },
        }
    }

    fn fields() -> Vec<BoundField> {
        vec![BoundField {
            field_id: 1000,
            name: "day".into(),
            transform: Transform::Day,
            source_id: 1,
            source: Primitive::Timestamptz,
            result: Primitive::Date,
        }]
    }

    #[test]
    fn what_is_reported_is_what_the_manifest_lists() {
        let metrics = Metrics {
            column_sizes: [(1, 8)].into(),
            value_counts: [(1, 3)].into(),
            null_counts: [(1, 0)].into(),
            lower_bounds: [(1, vec![1])].into(),
            upper_bounds: BTreeMap::new(),
        };
        let partition = vec![Some(Datum::Int(19_727))];
        let file = report(0, reported_partition(&partition), &metrics, vec![4]);
        let listed = DataFile::reported(&staged(Some(file)), &fields()).unwrap();
        assert_eq!(listed.partition, partition);
        assert_eq!(listed.metrics, metrics);
        assert_eq!((listed.rows, listed.split_offsets), (3, vec![4]));
    }

    #[test]
    fn a_partition_value_of_another_type_is_refused() {
        let bad = |partition| {
            let file = TableFile {
                partition,
                ..TableFile::default()
            };
            let error = DataFile::reported(&staged(Some(file)), &fields()).unwrap_err();
            error.to_string()
        };
        assert!(bad(vec![Some(Bytes(vec![1, 2]))]).contains("its day is not a date"));
        assert!(bad(vec![]).contains("0 partition values"));
        let none = DataFile::reported(&staged(None), &fields()).unwrap_err();
        assert!(none.to_string().contains("nothing is reported"));
    }
}
