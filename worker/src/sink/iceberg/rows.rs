//! Rows of a table's files as comparable bytes, from stored files and from batches alike.
//!
//! Rule: values are compared; the partition follows from them and is no part of a row.

use super::split::TableSplit;
use super::{PinnedTable, SinkError};
use crate::function::DeadRows;
use crate::sink::EncodeError;
use crate::sink::objects::{
    ParquetRows, Parts, RejectedRows, Split as _, dead_rows_as_json, rows_as_json,
};
use crate::sink::stored::{Give, StoredRows, rejected_lines};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use streamctl_engine::written::TextForm;
use streamctl_proto::spec::IcebergSink;

/// Rows of a job's result.
pub(super) struct Rows {
    split: TableSplit,
    values: ParquetRows,
}

impl Rows {
    pub fn new(
        sink: &IcebergSink,
        pinned: &PinnedTable,
        result: &SchemaRef,
    ) -> Result<Self, SinkError> {
        let split = TableSplit::new(sink, pinned, result)?;
        let values = ParquetRows::new(split.schema())?;
        Ok(Self { split, values })
    }
}

impl StoredRows for Rows {
    fn of_object(
        &mut self,
        _location: &str,
        bytes: Bytes,
        give: Give<'_>,
    ) -> Result<(), EncodeError> {
        self.values.of_file("", bytes, give)
    }

    fn of_batch(&mut self, batch: &RecordBatch, give: Give<'_>) -> Result<(), SinkError> {
        let Parts { parts, rejected } = self.split.split(batch)?;
        for RejectedRows { rows, .. } in rejected {
            rejected_lines(&rows_as_json(&rows, TextForm::default())?, give);
        }
        for part in parts {
            self.values.values("", &part.rows, give)?;
        }
        Ok(())
    }

    fn of_dead(&mut self, dead: &DeadRows, give: Give<'_>) -> Result<(), SinkError> {
        rejected_lines(&dead_rows_as_json(dead, TextForm::default())?, give);
        Ok(())
    }
}
