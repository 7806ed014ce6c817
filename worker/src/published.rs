//! A task's rows of a committed epoch, from its published objects.
//!
//! Owns: which objects, and when they do not give the rows. Does not own: formats
//! ([`crate::sink::read_back`]), computing the rows again ([`crate::replay`]).
//! Rule: either exactly the rows that the query returned, or the reason why not, before the first
//! row. What turns out later is an error, never fewer rows.

use crate::compute::Workload;
use crate::memory::{Holding, mib};
use crate::replay::{Outlet, Replay, give};
use crate::session::World;
use crate::sink::read_back::ReadBack;
use crate::sink::{self, SinkError};
use crate::task::TaskError;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::Arc;
use streamctl_engine::query::Pace;
use streamctl_engine::resolve::output_schema;
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::report::ObjectKind;
use streamctl_proto::{Manifest, ResolvedJob, StagedObject, TaskId, count};

/// Most objects of one task's part of an epoch that are read back.
pub const OBJECTS_MAX: usize = 1_000;
/// Objects that are looked for at once.
const LOOK_CONCURRENCY: usize = 16;

/// What the published objects give.
pub enum Published {
    Rows(Replay),
    /// Nothing, for this reason.
    NotExact(String),
}

/// The rows of a task's part of an epoch, as they were published.
///
/// # Errors
/// The storage does not answer.
pub async fn published(
    job: &ResolvedJob,
    world: &World,
    manifest: &Manifest,
    task: TaskId,
) -> Result<Published, TaskError> {
    let objects = match objects_of(manifest, task) {
        Ok(objects) => objects,
        Err(reason) => return Ok(Published::NotExact(reason)),
    };
    let schema = match output_schema(job) {
        Ok(schema) => schema,
        Err(error) => return Ok(Published::NotExact(error.to_string())),
    };
    let reader = match sink::of(&job.spec.sink).read_back(&schema, manifest.window) {
        Ok(reader) => reader,
        Err(error) => return Ok(Published::NotExact(streamctl_proto::describe(&error))),
    };
    for object in &objects {
        if let Err(error) = reader.check(&object.location) {
            return Ok(Published::NotExact(error.to_string()));
        }
    }
    let (memory, place) = world.budget.replay().await;
    let largest = objects.iter().map(|object| object.size).max().unwrap_or(0);
    if !memory.try_grow(usize::try_from(largest).unwrap_or(usize::MAX)) {
        let most = mib(memory.most() as u64);
        let largest = mib(largest);
        return Ok(Published::NotExact(format!(
            "an object of {largest} is read as a whole, and there is no memory for it now (at most \
             {most})"
        )));
    }
    // Only objects with rows are read.
    let storages = world.storages.as_role(job.spec.sink.role());
    if let Some(reason) = missing(&storages, &objects).await? {
        return Ok(Published::NotExact(reason));
    }
    let (outlet, batches) = Outlet::new();
    let workload = Workload::new(
        &job.spec.name,
        format!("published rows of epoch {}", manifest.epoch),
    );
    let pace = Arc::clone(&workload.pace);
    let running = world.compute.spawn(workload, async move {
        let _place = place;
        if let Err(error) = read(&storages, &*reader, &objects, &memory, &outlet, &pace).await {
            outlet.fail(error).await;
        }
    });
    Ok(Published::Rows(Replay {
        schema,
        batches,
        running,
    }))
}

/// The objects of a task's rows in the order of their names, if they hold all of them.
fn objects_of(manifest: &Manifest, task: TaskId) -> Result<Vec<StagedObject>, String> {
    let parts = || manifest.parts.iter().filter(|part| part.task == task);
    let rejected: u64 = parts().map(|part| part.counts.rows_rejected).sum();
    if rejected > 0 {
        return Err(format!(
            "{} could not be written, and is beside the dead letters",
            count(rejected, "row")
        ));
    }
    let expected: u64 = parts().map(|part| part.counts.rows_out).sum();
    let mut objects: Vec<StagedObject> = manifest
        .objects
        .iter()
        .filter(|object| object.task == task && object.staged.kind == ObjectKind::Data)
        .map(|object| object.staged.clone())
        .collect();
    let written: u64 = objects.iter().map(|object| object.rows).sum();
    if written != expected {
        return Err(format!("its objects hold {written} of {expected} rows"));
    }
    if objects.len() > OBJECTS_MAX {
        let objects = objects.len();
        return Err(format!(
            "it has {objects} objects, the limit is {OBJECTS_MAX}"
        ));
    }
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(objects)
}

/// Why an object is not there as it was published, if one is not.
async fn missing(
    storages: &Storages,
    objects: &[StagedObject],
) -> Result<Option<String>, SinkError> {
    let look = |object: &StagedObject| {
        let storage = storages.for_location(&object.location);
        let (location, size) = (object.location.clone(), object.size);
        async move {
            match storage.head(&location).await {
                Ok(found) if found.size == size => Ok(None),
                Ok(found) => Ok(Some(format!(
                    "{location} has {} bytes, {size} were published",
                    found.size
                ))),
                Err(error @ StorageError::NotFound { .. }) => Ok(Some(error.to_string())),
                Err(error) => Err(SinkError::from(error)),
            }
        }
    };
    let looks: Vec<_> = objects.iter().map(look).collect();
    let found = stream::iter(looks).buffered(LOOK_CONCURRENCY);
    found
        .try_filter_map(async |missing| Ok(missing))
        .boxed()
        .try_next()
        .await
}

/// Sends the rows of one object after the other.
async fn read(
    storages: &Storages,
    reader: &dyn ReadBack,
    objects: &[StagedObject],
    _memory: &Holding,
    outlet: &Outlet,
    pace: &Arc<Pace>,
) -> Result<(), TaskError> {
    for object in objects {
        let bytes = bytes_of(storages, object).await?;
        let wrong = |reason: String| {
            let location = object.location.clone();
            TaskError::from(SinkError::ReadBack { location, reason })
        };
        let batches = reader.open(&object.location, bytes);
        let mut rows = 0;
        for batch in batches.map_err(|error| wrong(error.to_string()))? {
            let batch = batch.map_err(|error| wrong(error.to_string()))?;
            rows += batch.num_rows() as u64;
            if !give(outlet, batch).await? {
                return Ok(());
            }
            pace.yield_point().await;
        }
        if rows != object.rows {
            return Err(wrong(format!(
                "it has {rows} rows, {} were published",
                object.rows
            )));
        }
    }
    Ok(())
}

/// The bytes that were published, not what may have replaced them.
async fn bytes_of(storages: &Storages, object: &StagedObject) -> Result<Bytes, SinkError> {
    let storage = storages.for_location(&object.location);
    let bytes = storage.get(&object.location, object.size).await?;
    match crc32c::crc32c(&bytes) == object.crc32c {
        true => Ok(bytes),
        false => Err(SinkError::ReadBack {
            location: object.location.clone(),
            reason: "its content is not what was published".to_owned(),
        }),
    }
}
