//! The partition of each row.
//!
//! Owns: splitting batches by the table's spec, folders, rows without a partition. Does not own: the
//! transforms (`engine::iceberg`).
//! Rule: the values decide, not the folder: two partitions may share a folder, and none shares a
//! file.

use super::SinkError;
use crate::sink::objects::{Part, Parts, RejectedRows, Rejection, Split};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::file::metadata::ParquetMetaData;
use std::sync::Arc;
use streamctl_engine::iceberg::data_file::{self, reported_partition};
use streamctl_engine::iceberg::datum::Datum;
use streamctl_engine::iceberg::partition::BoundField;
use streamctl_engine::iceberg::schema::with_field_ids;
use streamctl_engine::iceberg::split::Splitter;
use streamctl_engine::iceberg::stats;
use streamctl_engine::iceberg::types::Schema;
use streamctl_engine::sink::{PinError, layout, pinned_fields, pinned_schema};
use streamctl_engine::written::Form;
use streamctl_proto::names::{check_folder, partition_folder};
use streamctl_proto::spec::{IcebergSink, Location, PinnedTable, SinkKind};
use streamctl_proto::table_file::{Bytes, PARTITION_VALUE_BYTES_MAX, TableFile};

/// Rows by partition of a table.
pub(super) struct TableSplit {
    place: Location,
    form: Form,
    table: Schema,
    fields: Vec<BoundField>,
    splitter: Splitter,
    spec_id: i32,
    /// The written columns, with the table's ids.
    schema: SchemaRef,
}

impl TableSplit {
    /// `result` is the schema of the query's result.
    pub fn new(
        sink: &IcebergSink,
        pinned: &PinnedTable,
        result: &SchemaRef,
    ) -> Result<Self, SinkError> {
        let wrong = |error: PinError| SinkError::Table(error.to_string());
        let table = pinned_schema(pinned).map_err(wrong)?;
        let fields = pinned_fields(pinned).map_err(wrong)?;
        let form = layout(&SinkKind::from(sink.clone())).form(result);
        let splitter = Splitter::new(fields.clone(), &table, form.schema())
            .map_err(|error| SinkError::Table(error.to_string()))?;
        let schema = Arc::new(with_field_ids(form.schema(), &table));
        // The ids of nested columns are in their types.
        let types = schema.fields().iter();
        let types: Vec<_> = types.map(|field| field.data_type().clone()).collect();
        let form = Form::in_types(result, types);
        Ok(Self {
            place: pinned.data.clone(),
            form,
            table,
            fields,
            splitter,
            spec_id: pinned.spec_id,
            schema,
        })
    }

    /// The columns of the files for this result.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Why rows with these values are in no file.
    fn refusal(&self, values: &[Option<Datum>]) -> Option<String> {
        let long = |value: &Option<Datum>| {
            let bytes = value.as_ref().map(|value| value.to_bytes().len());
            bytes.is_some_and(|bytes| bytes > PARTITION_VALUE_BYTES_MAX)
        };
        let at = values.iter().position(long)?;
        let field = self.fields.get(at).map_or("", |field| &field.name);
        Some(format!(
            "its value of the partition field {field:?} has more than {PARTITION_VALUE_BYTES_MAX} \
             bytes"
        ))
    }
}

impl Split for TableSplit {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn split(&self, batch: &RecordBatch) -> Result<Parts, SinkError> {
        let formed = self.form.rows(batch).map_err(SinkError::Split)?;
        let refused = formed.refused.into_iter();
        let refused = refused.map(|(reason, rows)| RejectedRows {
            reason: Rejection::Value(reason),
            rows,
        });
        let mut all = Parts {
            parts: vec![],
            rejected: refused.collect(),
        };
        if formed.rows.num_rows() == 0 {
            return Ok(all);
        }
        for part in self
            .splitter
            .split(&formed.rows)
            .map_err(SinkError::Split)?
        {
            if let Some(reason) = self.refusal(&part.values) {
                all.rejected.push(RejectedRows {
                    reason: Rejection::Value(reason),
                    rows: part.rows,
                });
                continue;
            }
            all.parts.push(Part {
                key: part_key(&reported_partition(&part.values)),
                folder: folder(&self.place, &self.fields, &part.values),
                rows: with_ids(&part.rows, &self.schema)?,
            });
        }
        Ok(all)
    }

    fn table_file(&self, part: &str, footer: &ParquetMetaData) -> Option<TableFile> {
        let (metrics, offsets) = stats::metrics(footer, &self.table);
        Some(data_file::report(
            self.spec_id,
            partition_of(part),
            &metrics,
            offsets,
        ))
    }
}

/// The folder of a partition below `place`; none if its values name no folder.
pub(super) fn folder(place: &Location, fields: &[BoundField], values: &[Option<Datum>]) -> String {
    let mut folder = String::new();
    for (field, value) in fields.iter().zip(values) {
        let text = field.transform.text(value.as_ref(), &field.source);
        let text = value.as_ref().map(|_| text.as_str());
        folder.push_str(&partition_folder(&field.name, text));
        folder.push('/');
    }
    match check_folder(place.as_str(), &folder) {
        Ok(()) => folder,
        Err(_) => String::new(),
    }
}

/// The same columns, with the table's ids.
fn with_ids(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SinkError> {
    let columns = rows.columns().to_vec();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(SinkError::Split)
}

/// What distinguishes a partition: its values, in hexadecimal.
pub(super) fn part_key(values: &[Option<Bytes>]) -> String {
    let text = |value: &Option<Bytes>| match value {
        None => "-".to_owned(),
        Some(bytes) => format!("={}", String::from(bytes.clone())),
    };
    let texts: Vec<_> = values.iter().map(text).collect();
    texts.join("/")
}

/// The values of a partition, from its key.
fn partition_of(key: &str) -> Vec<Option<Bytes>> {
    let value = |text: &str| {
        let hex = text.strip_prefix('=')?;
        Bytes::try_from(hex.to_owned()).ok()
    };
    key.split('/')
        .filter(|text| !text.is_empty())
        .map(value)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_back_from_its_key() {
        for values in [
            vec![],
            vec![None],
            vec![Some(Bytes(vec![])), None, Some(Bytes(vec![0, 255]))],
        ] {
            assert_eq!(partition_of(&part_key(&values)), values);
        }
    }
}
