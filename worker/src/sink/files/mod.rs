//! `type = "files"`: results of one window of one task into staged objects.
//!
//! Owns: partitions, the form of rows. Does not own: how rows become objects (`objects`), when these
//! become visible (the commit).
//! Rule: every object is one folder's.
//!
//! An object's name is `<path><k=v/...><window>-<job>-<task>-<n>.<ext>`; `n` counts from 0000 in
//! each folder.

mod partition;
mod read_back;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

use partition::{Partitioner, Parts};

use super::objects::{self, Encoding, Numbers, ObjectsContext, ObjectsWriter, Part, Split};
use super::read_back::ReadBack;
use super::stored::StoredRows;
use super::{EncodeError, NotReadBack, Sink, SinkError, Writer, WriterContext};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use parquet::file::metadata::ParquetMetaData;
use std::sync::Arc;
use streamctl_engine::written::{Form, TextForm};
use streamctl_proto::Window;
use streamctl_proto::report::StagedObject;
use streamctl_proto::spec::{FilesSink, Location};
use streamctl_proto::table_file::TableFile;

#[async_trait]
impl Sink for FilesSink {
    fn writer(
        &self,
        context: WriterContext,
        result: SchemaRef,
    ) -> Result<Box<dyn Writer>, SinkError> {
        Ok(Box::new(files_writer(self, context, &result)?))
    }

    /// `k=v/...`, empty without partitions.
    fn part_of(&self, staged: &StagedObject) -> String {
        let location = staged.location.as_str();
        let name = location.strip_prefix(self.path.as_str());
        let name = name.unwrap_or(location);
        name.rfind('/')
            .map_or("", |slash| &name[..=slash])
            .to_owned()
    }

    fn rows(&self, result: &SchemaRef, window: Window) -> Result<Box<dyn StoredRows>, SinkError> {
        Ok(Box::new(rows::Rows::new(self, result, window)?))
    }

    fn read_back(
        &self,
        result: &SchemaRef,
        window: Window,
    ) -> Result<Box<dyn ReadBack>, NotReadBack> {
        Ok(Box::new(read_back::Objects::new(self, result, window)?))
    }
}

fn files_writer(
    sink: &FilesSink,
    context: WriterContext,
    result: &SchemaRef,
) -> Result<ObjectsWriter, SinkError> {
    let split = FilesSplit::new(sink, context.window, result)?;
    ObjectsWriter::new(objects_context(sink, context), Arc::new(split))
}

/// The context of the objects of one window.
fn objects_context(sink: &FilesSink, context: WriterContext) -> ObjectsContext {
    let WriterContext {
        job,
        task,
        window,
        storages,
        rejected,
        memory,
    } = context;
    ObjectsContext {
        place: sink.path.clone(),
        storage: storages
            .as_role(sink.role.as_ref())
            .for_location(sink.path.as_str()),
        job,
        task,
        window,
        encoding: Encoding {
            text: TextForm::of(sink),
            ..Encoding::new(sink.format, sink.compression)
        },
        extension: sink.extension(),
        target_size: sink.target_size,
        numbers: Numbers::PerPart,
        rejected_storage: storages.for_location(rejected.as_str()),
        rejected,
        memory,
    }
}

/// Rows by folder.
struct FilesSplit {
    place: Location,
    form: Form,
    partitioner: Partitioner,
}

impl FilesSplit {
    /// `result` is the schema of the query's result.
    fn new(sink: &FilesSink, window: Window, result: &SchemaRef) -> Result<Self, SinkError> {
        let form = Form::new(result, sink);
        let partitioner = Partitioner::new(&sink.partition_by, window, form.schema())?;
        Ok(Self {
            place: sink.path.clone(),
            form,
            partitioner,
        })
    }
}

impl Split for FilesSplit {
    fn schema(&self) -> &SchemaRef {
        self.partitioner.schema()
    }

    fn split(&self, batch: &RecordBatch) -> Result<objects::Parts, SinkError> {
        let Parts { folders, rejected } =
            self.partitioner
                .split_formed(&self.place, &self.form, batch)?;
        let part = |(folder, rows): (String, RecordBatch)| Part {
            key: folder.clone(),
            folder,
            rows,
        };
        Ok(objects::Parts {
            parts: folders.into_iter().map(part).collect(),
            rejected,
        })
    }

    fn table_file(&self, _part: &str, _footer: &ParquetMetaData) -> Option<TableFile> {
        None
    }
}
