//! `type = "files"`: results of one window of one task into staged objects.
//!
//! Owns: names of objects, partitions, formats, cutting by size. Does not own: when they become
//! visible (the commit).
//! Rule: every object is one folder's, and is named by window, job and task.
//!
//! An object's name is `<path><k=v/...><window>-<job>-<task>-<n>.<ext>`; `n` counts from 0000 in
//! each folder. A task is its attempt, so that no two attempts ever name the same object.

mod encode;
mod encoding;
mod folder;
mod parquet_file;
mod partition;
mod rejected;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use encode::OBJECT_BYTES_ALWAYS;
use encode::{Encoder, least, sparing};
use encoding::Encoding;
use partition::{Partitioner, Parts};
use rejected::RejectedRows;

use super::stored::StoredRows;
use super::{
    EncodeError, GzipLines, ObjectWriter, Sink, SinkError, Staged, Wanted, Writer, WriterContext,
    abandon_all,
};
use crate::function::DeadRows;
use crate::memory::Holding;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use folder::Folder;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamctl_engine::storage::Storage;
use streamctl_engine::written::{Form, TextForm};
use streamctl_proto::report::{StagedObject, object_name};
use streamctl_proto::spec::{FilesSink, Location};
use streamctl_proto::{JobName, TaskId, Window};

/// Folders that one window of one task may write to: each has its own object.
pub const PARTITIONS_MAX: usize = 1_000;
/// Memory that unfinished row groups and parts being filled of one window may take together,
/// however much there is; above it the largest are written early.
const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Objects finished concurrently: each is a call to the service.
const FINISH_CONCURRENCY: usize = 16;

#[async_trait]
impl Sink for FilesSink {
    fn writer(
        &self,
        context: WriterContext,
        result: SchemaRef,
    ) -> Result<Box<dyn Writer>, SinkError> {
        let context = FilesContext {
            spec: Arc::new(self.clone()),
            job: context.job,
            task: context.task,
            window: context.window,
            storage: context.storages.for_location(self.path.as_str()),
            rejected_storage: context.storages.for_location(context.rejected.as_str()),
            rejected: context.rejected,
            memory: context.memory,
        };
        Ok(Box::new(FilesWriter::new(context, result)?))
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
}

/// The context of the objects of one window.
#[derive(Clone, Debug)]
struct FilesContext {
    spec: Arc<FilesSink>,
    job: JobName,
    task: TaskId,
    window: Window,
    /// The storage of `spec.path`.
    storage: Arc<dyn Storage>,
    rejected: Location,
    /// The storage of `rejected`.
    rejected_storage: Arc<dyn Storage>,
    /// Memory for unfinished row groups and parts being filled.
    memory: Arc<Holding>,
}

impl FilesContext {
    /// How objects of this schema are encoded.
    fn encoding(&self, schema: &SchemaRef) -> Encoding {
        let encoding = Encoding {
            text: TextForm::of(&self.spec),
            ..Encoding::new(self.spec.format, self.spec.compression)
        };
        sparing(encoding, schema, self.memory.most().min(MEMORY_BYTES_MAX))
    }

    /// Refuses a schema that could never fit into memory.
    fn check_width(&self, schema: &SchemaRef) -> Result<(), SinkError> {
        let needed = least(self.encoding(schema), schema);
        let most = self.memory.most();
        if needed <= most.max(OBJECT_BYTES_ALWAYS) {
            return Ok(());
        }
        Err(SinkError::TooWide {
            columns: schema.fields().len(),
            needed,
            most,
        })
    }

    fn location(&self, folder: &str, number: u32) -> String {
        let Self {
            spec,
            job,
            task,
            window,
            ..
        } = self;
        let extension = spec.extension();
        spec.path.join(&format!(
            "{folder}{}",
            object_name(*window, job, *task, number, extension)
        ))
    }
}

/// Writes the objects of one window of one task.
struct FilesWriter {
    context: FilesContext,
    form: Form,
    partitioner: Partitioner,
    folders: BTreeMap<String, Folder>,
    rejected: GzipLines,
    /// Memory of all folders and of the rejected rows.
    memory: usize,
    done: Vec<StagedObject>,
}

impl FilesWriter {
    /// `output_schema` is that of the query's result.
    fn new(context: FilesContext, output_schema: SchemaRef) -> Result<Self, SinkError> {
        let form = Form::new(&output_schema, &context.spec);
        let partitioner =
            Partitioner::new(&context.spec.partition_by, context.window, form.schema())?;
        context.check_width(partitioner.schema())?;
        let folders = BTreeMap::new();
        let rejected = rejected::objects(&context);
        Ok(Self {
            context,
            form,
            partitioner,
            folders,
            rejected,
            memory: 0,
            done: Vec::new(),
        })
    }

    /// Adds lines of rejected rows.
    async fn write_rejected(&mut self, lines: &[u8], rows: u64) -> Result<(), SinkError> {
        let before = self.rejected.memory();
        let written = self.rejected.write(lines, rows).await;
        self.memory = self.memory - before + self.rejected.memory();
        written?;
        self.keep_within_memory().await
    }

    async fn write_folder(&mut self, name: String, rows: RecordBatch) -> Result<(), SinkError> {
        if self.folders.len() == PARTITIONS_MAX && !self.folders.contains_key(&name) {
            return Err(SinkError::TooManyPartitions {
                limit: PARTITIONS_MAX,
            });
        }
        let folder = self
            .folders
            .entry(name)
            .or_insert_with_key(|name| Folder::new(name.clone()));
        let before = folder.memory();
        let full = folder
            .add(&self.context, self.partitioner.schema(), rows)
            .await;
        self.memory = self.memory - before + folder.memory();
        self.done.extend(full?);
        Ok(())
    }

    /// Many partitions each with a small unfinished row group are together as large as one with a
    /// large one. If they take too much memory, the largest row groups are written; if that is not
    /// enough, the largest folders' objects are finished, and continue in new ones.
    async fn keep_within_memory(&mut self) -> Result<(), SinkError> {
        if self.memory <= MEMORY_BYTES_MAX && self.context.memory.try_set(self.memory) {
            return Ok(());
        }
        // Release half at once, so that this is not repeated for each batch.
        let target = self
            .context
            .memory
            .used()
            .max(self.context.memory.minimum())
            .min(MEMORY_BYTES_MAX)
            / 2;
        self.release_largest(target).await?;
        if self.memory > target && self.rejected.memory() > 0 {
            self.memory -= self.rejected.memory();
            self.rejected.close().await?;
        }
        if self.memory > target {
            let largest = self.largest_above(target);
            self.finish_folders(largest).await?;
        }
        // The rest is in memory in any case: an object has a minimum size.
        self.context.memory.set(self.memory);
        Ok(())
    }

    /// Row groups that are a small part of their folder's memory are not worth it: they are written
    /// with their object.
    async fn release_largest(&mut self, target: usize) -> Result<(), SinkError> {
        let worth_it = |folder: &&mut Folder| folder.releasable() > folder.memory() / 2;
        let mut folders: Vec<_> = self.folders.values_mut().filter(worth_it).collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.releasable()));
        for folder in folders {
            if self.memory <= target {
                break;
            }
            let before = folder.memory();
            folder.release().await?;
            self.memory = self.memory - before + folder.memory();
        }
        Ok(())
    }

    /// Folders without which all others take no more than `target`.
    fn largest_above(&self, target: usize) -> BTreeSet<String> {
        let mut sizes: Vec<_> = self
            .folders
            .iter()
            .map(|(name, folder)| (folder.memory(), name))
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let mut memory = self.memory;
        let needed = sizes.into_iter().take_while(|(size, _)| {
            let more = memory > target;
            memory -= size;
            more
        });
        needed.map(|(_, name)| name.clone()).collect()
    }

    /// Finishes the objects of these folders, all of them, and then returns the first error.
    async fn finish_folders(&mut self, names: BTreeSet<String>) -> Result<(), SinkError> {
        let Self {
            context,
            form: _,
            partitioner,
            folders,
            memory,
            done,
            rejected: _,
        } = self;
        let chosen: Vec<_> = folders
            .iter_mut()
            .filter(|(name, _)| names.contains(*name))
            .map(|each| each.1)
            .collect();
        *memory -= chosen.iter().map(|folder| folder.memory()).sum::<usize>();
        // Boxed, because the compiler cannot prove that the borrows are `Send`.
        let schema = partitioner.schema();
        let all: Vec<_> = chosen
            .into_iter()
            .map(|folder| folder.finish(context, schema).boxed())
            .collect();
        let mut failed = None;
        let mut finished = stream::iter(all).buffered(FINISH_CONCURRENCY);
        while let Some(result) = finished.next().await {
            match result {
                Ok(object) => done.extend(object),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Writer for FilesWriter {
    async fn write_only(
        &mut self,
        batch: RecordBatch,
        wanted: Wanted<'_>,
    ) -> Result<(), SinkError> {
        let Parts { folders, rejected } =
            self.partitioner
                .split_formed(&self.context.spec.path, &self.form, &batch)?;
        for (name, rows) in folders {
            if !wanted(Some(&name)) {
                continue;
            }
            self.write_folder(name, rows).await?;
            self.keep_within_memory().await?;
        }
        for rows in rejected.into_iter().filter(|_| wanted(None)) {
            let text = TextForm::of(&self.context.spec);
            let lines = rejected::lines(self.context.window, &rows, text)?;
            self.write_rejected(&lines, rows.rows.num_rows() as u64)
                .await?;
        }
        Ok(())
    }

    async fn write_dead(&mut self, dead: DeadRows) -> Result<(), SinkError> {
        let text = TextForm::of(&self.context.spec);
        let rows = rejected::dead_rows_as_json(&dead, text)?;
        let lines = rejected::lines_of(self.context.window, dead.reasons.iter(), &rows);
        self.write_rejected(&lines, dead.reasons.len() as u64).await
    }

    async fn finish(mut self: Box<Self>) -> Result<Staged, SinkError> {
        let all = self.folders.keys().cloned().collect();
        let finished = match self.finish_folders(all).await {
            Ok(()) => self.rejected.close().await,
            Err(error) => Err(error),
        };
        if let Err(error) = finished {
            self.abort().await;
            return Err(error);
        }
        let rejected = self.rejected.take();
        let rows_rejected = rejected.iter().map(|object| object.rows).sum();
        let mut objects = self.done;
        objects.extend(rejected);
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(Staged {
            objects,
            rows_rejected,
        })
    }

    async fn abort(self: Box<Self>) {
        for folder in self.folders.into_values() {
            folder.abort().await;
        }
        self.rejected.abort().await;
        abandon_all(&*self.context.storage, &self.done).await;
    }
}
