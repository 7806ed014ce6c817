//! Rows of one partition into rewritten files.
//!
//! Rule: the rows are of the partition that the order names: they come from files of it.

use super::split::{folder, part_key};
use super::{PinnedTable, pinned};
use crate::sink::objects::{Encoding, Numbers, ObjectsContext, ObjectsWriter, Part, Parts, Split};
use crate::sink::{SinkError, Writer, WriterContext};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::file::metadata::ParquetMetaData;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use streamctl_engine::iceberg::data_file;
use streamctl_engine::iceberg::datum::Datum;
use streamctl_engine::iceberg::stats;
use streamctl_engine::iceberg::types::Schema;
use streamctl_engine::sink::{PinError, pinned_fields, pinned_schema};
use streamctl_proto::rewrite::REWRITTEN_FOLDER;
use streamctl_proto::spec::{DATA_FILE_EXTENSION, IcebergSink, Location, SinkFormat};
use streamctl_proto::table_file::{Bytes, TableFile};

/// A writer of rows in these columns, all of one partition, into files of about this size.
///
/// # Errors
/// The job has no table, or the partition is none of its spec.
pub(crate) fn rewriter(
    sink: &IcebergSink,
    context: WriterContext,
    partition: &[Option<Bytes>],
    columns: SchemaRef,
    target_size: u64,
) -> Result<Box<dyn Writer>, SinkError> {
    let pinned = pinned(sink)?;
    let place = Location::folder(&pinned.data.join(REWRITTEN_FOLDER));
    let part = OnePartition::new(pinned, &place, partition, columns)?;
    let WriterContext {
        job,
        task,
        window,
        storages,
        rejected,
        memory,
    } = context;
    let context = ObjectsContext {
        storage: storages
            .as_role(sink.role.as_ref())
            .for_location(place.as_str()),
        place,
        job,
        task,
        window,
        encoding: Encoding::new(SinkFormat::Parquet, sink.compression),
        extension: DATA_FILE_EXTENSION,
        target_size,
        numbers: Numbers::Together(Arc::new(AtomicU32::new(0))),
        rejected_storage: storages.for_location(rejected.as_str()),
        rejected,
        memory,
    };
    Ok(Box::new(ObjectsWriter::new(context, Arc::new(part))?))
}

struct OnePartition {
    key: String,
    folder: String,
    partition: Vec<Option<Bytes>>,
    spec_id: i32,
    table: Schema,
    /// The written columns, with the table's ids.
    schema: SchemaRef,
}

impl OnePartition {
    fn new(
        pinned: &PinnedTable,
        place: &Location,
        partition: &[Option<Bytes>],
        schema: SchemaRef,
    ) -> Result<Self, SinkError> {
        let wrong = |error: PinError| SinkError::Table(error.to_string());
        let table = pinned_schema(pinned).map_err(wrong)?;
        let fields = pinned_fields(pinned).map_err(wrong)?;
        let values: Option<Vec<Option<Datum>>> = fields
            .iter()
            .zip(partition)
            .map(|(field, value)| match value {
                None => Some(None),
                Some(Bytes(bytes)) => Datum::from_bytes(&field.result, bytes).map(Some),
            })
            .collect();
        let values = values.filter(|values| values.len() == partition.len());
        let values = values.filter(|values| values.len() == fields.len());
        let Some(values) = values else {
            let reason = "the partition is not one of the table's partition spec";
            return Err(SinkError::Table(reason.to_owned()));
        };
        Ok(Self {
            key: part_key(partition),
            folder: folder(place, &fields, &values),
            partition: partition.to_vec(),
            spec_id: pinned.spec_id,
            table,
            schema,
        })
    }
}

impl Split for OnePartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn split(&self, batch: &RecordBatch) -> Result<Parts, SinkError> {
        let part = Part {
            key: self.key.clone(),
            folder: self.folder.clone(),
            rows: batch.clone(),
        };
        Ok(Parts {
            parts: vec![part],
            rejected: vec![],
        })
    }

    fn table_file(&self, _part: &str, footer: &ParquetMetaData) -> Option<TableFile> {
        let (metrics, offsets) = stats::metrics(footer, &self.table);
        let partition = self.partition.clone();
        Some(data_file::report(
            self.spec_id,
            partition,
            &metrics,
            offsets,
        ))
    }
}
