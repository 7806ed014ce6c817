//! Rows into staged objects, part by part: what kinds of sink that stage files share.
//!
//! Owns: names of objects, formats, cutting by size, memory of all parts of a window. Does not own:
//! the part of each row ([`Split`], of a kind), when objects become visible (the commit).
//! Rule: every object is one part's, and is named by window, job and task.
//!
//! An object's name is `<place><folder><window>-<job>-<task>-<n>.<ext>`. A task is its attempt, so
//! that no two attempts ever name the same object.

mod encode;
mod encoding;
mod folder;
mod parquet_file;
mod parquet_rows;
mod rejected;

pub(crate) use encode::{Encoder, OBJECT_BYTES_ALWAYS};
use encode::{least, sparing};
pub(crate) use encoding::Encoding;
pub(crate) use parquet_rows::ParquetRows;
pub(crate) use rejected::{RejectedRows, Rejection, dead_rows_as_json, rows_as_json};

use super::{EncodeError, GzipLines, ObjectWriter, SinkError, Staged, Wanted, Writer, abandon_all};
use crate::function::DeadRows;
use crate::memory::Holding;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
pub(in crate::sink) use folder::Folder;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};
use parquet::file::metadata::ParquetMetaData;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use streamctl_engine::storage::Storage;
use streamctl_proto::report::{StagedObject, object_name};
use streamctl_proto::spec::Location;
use streamctl_proto::table_file::{STATISTICS_BYTES_MAX, TableFile};
use streamctl_proto::{JobName, TaskId, Window};

/// Parts that one window of one task may write to: each has its own object.
pub const PARTITIONS_MAX: usize = 1_000;
/// Memory that unfinished row groups and parts being filled of one window may take together,
/// however much there is; above it the largest are written early.
pub(super) const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Objects finished concurrently: each is a call to the service.
const FINISH_CONCURRENCY: usize = 16;

/// The part of each row, and what is reported of an object besides its size.
pub(crate) trait Split: Send + Sync {
    /// The columns of the objects.
    fn schema(&self) -> &SchemaRef;
    /// The rows of each part, and those that are in none.
    fn split(&self, batch: &RecordBatch) -> Result<Parts, SinkError>;
    /// What a table must know of an object of this part, from its footer.
    fn table_file(&self, part: &str, footer: &ParquetMetaData) -> Option<TableFile>;
}

/// Rows of a batch, by their parts.
#[derive(Default)]
pub(crate) struct Parts {
    pub parts: Vec<Part>,
    pub rejected: Vec<RejectedRows>,
}

/// Rows of one part.
pub(crate) struct Part {
    /// Different parts have different ones.
    pub key: String,
    /// The folder of its objects; ends in a slash, or is empty.
    pub folder: String,
    /// In the columns of the objects.
    pub rows: RecordBatch,
}

/// How objects are numbered.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// In each part from 0: each has a folder of its own.
    PerPart,
    /// Over all parts.
    Together(Arc<AtomicU32>),
}

impl Numbers {
    /// The number of the next object, of a part that has had this many.
    fn next(&self, of_part: u32) -> u32 {
        match self {
            Self::PerPart => of_part,
            Self::Together(next) => next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// The context of the objects of one window.
#[derive(Clone, Debug)]
pub(crate) struct ObjectsContext {
    /// The folder of all objects.
    pub place: Location,
    /// Its storage.
    pub storage: Arc<dyn Storage>,
    pub job: JobName,
    pub task: TaskId,
    pub window: Window,
    /// How objects are encoded, if there is enough memory.
    pub encoding: Encoding,
    /// Of objects with rows.
    pub extension: &'static str,
    /// Objects are cut at about this size.
    pub target_size: u64,
    pub numbers: Numbers,
    pub rejected: Location,
    /// The storage of `rejected`.
    pub rejected_storage: Arc<dyn Storage>,
    /// Memory for unfinished row groups and parts being filled.
    pub memory: Arc<Holding>,
}

impl ObjectsContext {
    /// How objects of this schema are encoded.
    fn encoding(&self, schema: &SchemaRef) -> Encoding {
        sparing(
            self.encoding,
            schema,
            self.memory.most().min(MEMORY_BYTES_MAX),
        )
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
            place,
            job,
            task,
            window,
            extension,
            ..
        } = self;
        place.join(&format!(
            "{folder}{}",
            object_name(*window, job, *task, number, extension)
        ))
    }
}

/// Writes the objects of one window of one task.
pub(crate) struct ObjectsWriter {
    pub(in crate::sink) context: ObjectsContext,
    split: Arc<dyn Split>,
    pub(in crate::sink) folders: BTreeMap<String, Folder>,
    /// Bytes of statistics of the objects that are done.
    statistics: usize,
    rejected: GzipLines,
    /// Memory of all folders and of the rejected rows.
    pub(in crate::sink) memory: usize,
    done: Vec<StagedObject>,
}

impl ObjectsWriter {
    pub fn new(context: ObjectsContext, split: Arc<dyn Split>) -> Result<Self, SinkError> {
        context.check_width(split.schema())?;
        let folders = BTreeMap::new();
        let rejected = rejected::objects(&context);
        Ok(Self {
            context,
            split,
            folders,
            statistics: 0,
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

    async fn write_part(&mut self, part: Part) -> Result<(), SinkError> {
        let Part { key, folder, rows } = part;
        if self.folders.len() == PARTITIONS_MAX && !self.folders.contains_key(&key) {
            return Err(SinkError::TooManyPartitions {
                limit: PARTITIONS_MAX,
            });
        }
        let folder = match self.folders.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let opened = Folder::new(new.key().clone(), folder);
                new.insert(opened)
            }
        };
        let before = folder.memory();
        let full = folder.add(&self.context, &*self.split, rows).await;
        self.memory = self.memory - before + folder.memory();
        let full = full?;
        self.finished(full);
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
            split,
            folders,
            memory,
            ..
        } = self;
        let chosen: Vec<_> = folders
            .iter_mut()
            .filter(|(name, _)| names.contains(*name))
            .map(|each| each.1)
            .collect();
        *memory -= chosen.iter().map(|folder| folder.memory()).sum::<usize>();
        // Boxed, because the compiler cannot prove that the borrows are `Send`.
        let split = &**split;
        let all: Vec<_> = chosen
            .into_iter()
            .map(|folder| folder.finish(context, split).boxed())
            .collect();
        let mut failed = None;
        let results: Vec<_> = stream::iter(all)
            .buffered(FINISH_CONCURRENCY)
            .collect()
            .await;
        for result in results {
            match result {
                Ok(object) => self.finished(object),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Keeps an object that is staged; without statistics if there are too many of them.
    fn finished(&mut self, object: Option<StagedObject>) {
        let Some(mut object) = object else {
            return;
        };
        if let Some(file) = &mut object.table_file {
            let bytes = file.statistics_bytes();
            if self.statistics + bytes > STATISTICS_BYTES_MAX {
                file.columns.clear();
            } else {
                self.statistics += bytes;
            }
        }
        self.done.push(object);
    }
}

#[async_trait]
impl Writer for ObjectsWriter {
    async fn write_only(
        &mut self,
        batch: RecordBatch,
        wanted: Wanted<'_>,
    ) -> Result<(), SinkError> {
        let Parts { parts, rejected } = self.split.split(&batch)?;
        for part in parts {
            if !wanted(Some(&part.key)) {
                continue;
            }
            self.write_part(part).await?;
            self.keep_within_memory().await?;
        }
        for rows in rejected.into_iter().filter(|_| wanted(None)) {
            let text = self.context.encoding.text;
            let lines = rejected::lines(self.context.window, &rows, text)?;
            self.write_rejected(&lines, rows.rows.num_rows() as u64)
                .await?;
        }
        Ok(())
    }

    async fn write_dead(&mut self, dead: DeadRows) -> Result<(), SinkError> {
        let text = self.context.encoding.text;
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
