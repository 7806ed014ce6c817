//! `type = "iceberg"`: results of one window of one task into staged data files of a table.
//!
//! Owns: the part of each row, ids in the files, what is reported of a file. Does not own: how rows
//! become objects (`objects`), the commit (the controller): a worker never talks to a catalog.
//! Rule: a file is of one partition, in the columns of the table as it was pinned at submit.

mod rewrite;
mod rows;
mod split;

pub(crate) use rewrite::rewriter;

use super::objects::{Encoding, Numbers, ObjectsContext, ObjectsWriter};
use super::read_back::{ReadBack, Whole};
use super::stored::StoredRows;
use super::{NotReadBack, Sink, SinkError, Writer, WriterContext};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use split::TableSplit;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use streamctl_engine::sink::PinError;
use streamctl_engine::written::TextForm;
use streamctl_engine::written::back::Back;
use streamctl_proto::Window;
use streamctl_proto::report::StagedObject;
use streamctl_proto::spec::{DATA_FILE_EXTENSION, IcebergSink, PinnedTable, SinkFormat};

#[async_trait]
impl Sink for IcebergSink {
    fn writer(
        &self,
        context: WriterContext,
        result: SchemaRef,
    ) -> Result<Box<dyn Writer>, SinkError> {
        let pinned = pinned(self)?;
        let split = TableSplit::new(self, pinned, &result)?;
        let WriterContext {
            job,
            task,
            window,
            storages,
            rejected,
            memory,
        } = context;
        let context = ObjectsContext {
            place: pinned.data.clone(),
            storage: storages
                .as_role(self.role.as_ref())
                .for_location(pinned.data.as_str()),
            job,
            task,
            window,
            encoding: Encoding::new(SinkFormat::Parquet, self.compression),
            extension: DATA_FILE_EXTENSION,
            target_size: self.target_size,
            // Two partitions may share a folder.
            numbers: Numbers::Together(Arc::new(AtomicU32::new(0))),
            rejected_storage: storages.for_location(rejected.as_str()),
            rejected,
            memory,
        };
        Ok(Box::new(ObjectsWriter::new(context, Arc::new(split))?))
    }

    /// The values of its partition.
    fn part_of(&self, staged: &StagedObject) -> String {
        let file = staged.table_file.as_deref();
        split::part_key(file.map_or(&[], |file| &file.partition))
    }

    fn rows(&self, result: &SchemaRef, _window: Window) -> Result<Box<dyn StoredRows>, SinkError> {
        Ok(Box::new(rows::Rows::new(self, pinned(self)?, result)?))
    }

    fn read_back(
        &self,
        result: &SchemaRef,
        _window: Window,
    ) -> Result<Box<dyn ReadBack>, NotReadBack> {
        let split = TableSplit::new(self, pinned(self)?, result)?;
        let text = TextForm::default();
        let back = Back::new(split.form(), SinkFormat::Parquet, text, &[])?;
        Ok(Box::new(Whole(back)))
    }
}

fn pinned(sink: &IcebergSink) -> Result<&PinnedTable, SinkError> {
    let pinned = sink.pinned.as_deref();
    pinned.ok_or_else(|| SinkError::Table(PinError::None.to_string()))
}

#[cfg(test)]
mod tests;
