//! Puts the rows of some data files of a table into fewer ones, which are staged.
//!
//! Owns: the order of rows, which columns the outputs have. Does not own: reading a file ([`read`]),
//! writing one (`sink`), which files (the controller), when they become part of the table (its
//! commit).
//! Rule: exactly the rows of the inputs are staged, or nothing. Memory is that of one window and one
//! row group, whatever the inputs' size; windows go first.

mod columns;
mod read;
#[cfg(test)]
mod tests;

use crate::compute::Workload;
use crate::memory::WindowMemory;
use crate::session::World;
use crate::sink::{self, SinkError, Staged, Writer, WriterContext, rewriter};
use arrow::error::ArrowError;
use columns::Columns;
use parquet::errors::ParquetError;
use read::OpenFile;
use std::sync::Arc;
use streamctl_engine::iceberg::rewrite::GROUP_FILES_MAX;
use streamctl_engine::query::Pace;
use streamctl_engine::sink::{PinError, pinned_schema};
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::rewrite::{RewriteOrder, RewriteOutcome};
use streamctl_proto::spec::{IcebergSink, SinkKind};
use streamctl_proto::{StagedObject, count, describe};
use tonic::Status;

/// Stages the rows of the inputs, on the compute threads. If dropped, it stops, and what it staged
/// is an orphan.
///
/// # Errors
/// This worker has no memory to spare; another one may.
pub async fn rewrite_files(world: &World, order: RewriteOrder) -> Result<RewriteOutcome, Status> {
    // Half of the places for windows stay free, as for a task that has one already.
    let Some(memory) = world.budget.window(false, true) else {
        let busy = CallRefusal::new(Reason::WorkerUnavailable, "its windows take its memory");
        return Err(Status::from(busy));
    };
    let workload = Workload::new(
        &order.job.spec.name,
        format!("rewriting of {}", count(order.inputs.len() as u64, "file")),
    );
    let pace = Arc::clone(&workload.pace);
    let storages = world.storages.clone();
    let rewritten = world
        .compute
        .spawn(workload, async move {
            rewrite(&storages, &order, &memory, &pace).await
        })
        .await;
    let reason = match rewritten {
        Ok(Ok(objects)) => return Ok(RewriteOutcome::Rewritten { objects }),
        Ok(Err(error)) => describe(&error),
        Err(error) => error.to_string(),
    };
    Ok(RewriteOutcome::Failed { reason })
}

/// The files cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{location} cannot be read")]
    Parquet {
        location: String,
        source: ParquetError,
    },
    #[error("{location} cannot be read")]
    Columns {
        location: String,
        source: ArrowError,
    },
    /// Its size or its columns are not what the table states.
    #[error("{location}: {reason}")]
    Differs { location: String, reason: String },
    #[error("a row group of {location} has {bytes} bytes, and there is no memory for it now")]
    Memory { location: String, bytes: u64 },
    #[error("the files have {found} rows, the table states {listed}")]
    Rows { found: u64, listed: u64 },
    #[error("the order is not one for a table: {0}")]
    Order(String),
}

impl From<StorageError> for RewriteError {
    fn from(error: StorageError) -> Self {
        Self::Sink(error.into())
    }
}

/// The table of the order, if the order keeps to the limits.
fn checked(order: &RewriteOrder) -> Result<&IcebergSink, RewriteError> {
    let wrong = |reason: String| Err(RewriteError::Order(reason));
    let SinkKind::Iceberg(sink) = &order.job.spec.sink else {
        return wrong("the job writes files".to_owned());
    };
    let Some(pinned) = &sink.pinned else {
        return wrong(PinError::None.to_string());
    };
    if order.inputs.is_empty() || order.inputs.len() > GROUP_FILES_MAX {
        let files = order.inputs.len();
        return wrong(format!(
            "it names {files} files, the limit is {GROUP_FILES_MAX}"
        ));
    }
    let own = pinned.data.as_str();
    match order
        .inputs
        .iter()
        .find(|input| !input.location.starts_with(own))
    {
        Some(input) => wrong(format!("{} is not a file of the job", input.location)),
        None => Ok(sink),
    }
}

async fn rewrite(
    storages: &Storages,
    order: &RewriteOrder,
    memory: &WindowMemory,
    pace: &Arc<Pace>,
) -> Result<Vec<StagedObject>, RewriteError> {
    let sink = checked(order)?;
    let pinned = sink.pinned.as_deref();
    let pinned = pinned.ok_or_else(|| RewriteError::Order(PinError::None.to_string()))?;
    let table = pinned_schema(pinned).map_err(|error| RewriteError::Order(error.to_string()))?;
    let mut columns = Columns::new(&table);
    let of_sink = storages.as_role(sink.role.as_ref());
    for input in &order.inputs {
        let file = OpenFile::open(&of_sink, input).await?;
        columns.add(&input.location, file.schema())?;
        pace.yield_point().await;
    }
    let columns = columns.finish()?;
    let context = WriterContext {
        job: order.job.spec.name.clone(),
        task: order.task,
        window: order.window,
        storages: storages.clone(),
        rejected: order.job.spec.dead_letters(),
        memory: Arc::clone(&memory.sink),
    };
    let schema = Arc::clone(columns.schema());
    let mut writer = rewriter(sink, context, &order.partition, schema, order.target_size)?;
    for input in &order.inputs {
        let file = OpenFile::open(&of_sink, input).await?;
        if let Err(error) = copy(&file, &columns, &mut *writer, memory, pace).await {
            writer.abort().await;
            return Err(error);
        }
    }
    let Staged { objects, .. } = writer.finish().await?;
    let found = objects.iter().map(|object| object.rows).sum();
    let listed = order.inputs.iter().map(|input| input.rows).sum();
    if found != listed {
        let half = sink::of(&order.job.spec.sink);
        half.discard(storages, &objects).await;
        return Err(RewriteError::Rows { found, listed });
    }
    Ok(objects)
}

/// Writes the rows of a file, one row group after the other.
async fn copy(
    file: &OpenFile,
    columns: &columns::Chosen,
    writer: &mut dyn Writer,
    memory: &WindowMemory,
    pace: &Arc<Pace>,
) -> Result<(), RewriteError> {
    let places = columns.places(file.schema());
    for group in 0..file.row_groups() {
        let bytes = file.group_bytes(group);
        if !memory
            .query
            .try_set(usize::try_from(bytes).unwrap_or(usize::MAX))
        {
            let location = file.location().to_owned();
            return Err(RewriteError::Memory { location, bytes });
        }
        for batch in file.group(group).await? {
            let batch = batch.map_err(|source| RewriteError::Columns {
                location: file.location().to_owned(),
                source,
            })?;
            let batch =
                columns
                    .of_batch(&places, &batch)
                    .map_err(|source| RewriteError::Columns {
                        location: file.location().to_owned(),
                        source,
                    })?;
            writer.write(batch).await?;
            pace.yield_point().await;
        }
    }
    Ok(())
}
