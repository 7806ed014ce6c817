//! Computes lost parts of a committed epoch again, under new names. They are staged like a window
//! that was just read.
//!
//! Owns: which rows and dead letters replace lost objects. Does not own: reading ranges (`replay`),
//! formats (`sink`), when they become visible (the commit of the manifest that names them).
//! Rule: exactly the rows of the lost objects are staged, or nothing. A part of a task's rows
//! (for files: a folder) is lost as a whole or not at all: nothing identifies the object of a row
//! within one part.

use crate::compute::{Compute, Workload};
use crate::dead_letter::DeadLetterSink;
use crate::function::DeadRows;
use crate::pipeline::DeadRecord;
use crate::replay::{Witness, recompute};
use crate::sink::{self, Sink, Staged, Writer};
use crate::task::window::{WindowKey, dead_letters, writer_context};
use crate::task::{Context, TaskError};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamctl_engine::query::Pace;
use streamctl_engine::source::{ReadError, Record};
use streamctl_proto::manifest::ManifestObject;
use streamctl_proto::report::{ObjectKind, StagedObject};
use streamctl_proto::verify::{RebuildOrder, RebuildOutcome};
use streamctl_proto::{Manifest, ShardId, TaskId};
use tokio::sync::Mutex;

/// Stages replacements of the lost objects, on the threads of `compute`. `objects` are those of the
/// epoch, including earlier repairs. If dropped, it stops, and what it staged is an orphan.
pub async fn rebuild_epoch(
    context: Arc<Context>,
    compute: &Compute,
    manifest: Manifest,
    objects: Vec<ManifestObject>,
    order: RebuildOrder,
) -> RebuildOutcome {
    let workload = Workload::new(
        &context.job.spec.name,
        format!("repair of epoch {}", manifest.epoch),
    );
    let pace = Arc::clone(&workload.pace);
    let rebuilt = compute
        .spawn(workload, async move {
            rebuild(&context, &manifest, &objects, &order, &pace).await
        })
        .await;
    let failed = |reason: String| RebuildOutcome::Failed { reason };
    match rebuilt {
        Ok(Ok(objects)) => RebuildOutcome::Rebuilt { objects },
        Ok(Err(RebuildError::Task(error @ TaskError::Read(ReadError::DataLoss { .. })))) => {
            RebuildOutcome::Gone {
                reason: error.describe(),
            }
        }
        Ok(Err(error)) => failed(streamctl_proto::describe(&error)),
        Err(error) => failed(error.to_string()),
    }
}

/// The lost objects cannot be computed again.
#[derive(Debug, thiserror::Error)]
enum RebuildError {
    /// It cannot be read or staged.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Some of a folder's rows are visible, and it is unknown which.
    #[error(
        "{location} is lost, and {visible} of the same task and folder is visible: their rows \
         cannot be told apart"
    )]
    Mixed { location: String, visible: String },
    /// The records differ, or the query returns other rows for them.
    #[error("its records give {found} rows and dead letters in place of the {lost} that were lost")]
    Differs { found: u64, lost: u64 },
    /// The epoch does not contain this object.
    #[error("{0} is no object of this epoch")]
    Unknown(String),
}

/// The lost parts of a task.
#[derive(Debug, Default)]
struct Lost {
    /// Parts of its rows, as the sink names them.
    parts: BTreeSet<String>,
    rejected_rows: bool,
    dead_letters: bool,
}

/// The lost parts of each task, if they can be determined.
fn lost(
    objects: &[ManifestObject],
    order: &RebuildOrder,
    sink: &dyn Sink,
) -> Result<BTreeMap<TaskId, Lost>, RebuildError> {
    let requested: BTreeSet<&str> = order.lost.iter().map(String::as_str).collect();
    let is_lost = |object: &&ManifestObject| requested.contains(object.staged.location.as_str());
    let group =
        |object: &ManifestObject| (object.task, object.staged.kind, part(&object.staged, sink));
    let visible: BTreeMap<_, _> = objects
        .iter()
        .filter(|object| !is_lost(object))
        .map(|object| (group(object), object.staged.location.clone()))
        .collect();
    let mut found: BTreeMap<TaskId, Lost> = BTreeMap::new();
    let mut seen = 0;
    for object in objects.iter().filter(is_lost) {
        seen += 1;
        let location = object.staged.location.clone();
        if let Some(visible) = visible.get(&group(object)).cloned() {
            return Err(RebuildError::Mixed { location, visible });
        }
        let of_task = found.entry(object.task).or_default();
        match object.staged.kind {
            ObjectKind::Data => _ = of_task.parts.insert(part(&object.staged, sink)),
            ObjectKind::RejectedRow => of_task.rejected_rows = true,
            ObjectKind::DeadLetter => of_task.dead_letters = true,
        }
    }
    if seen < requested.len() {
        let known = |location: &&&str| {
            objects
                .iter()
                .any(|object| object.staged.location == **location)
        };
        let unknown = requested.iter().find(|location| !known(location));
        return Err(RebuildError::Unknown(
            unknown
                .map(|location| (*location).to_owned())
                .unwrap_or_default(),
        ));
    }
    Ok(found)
}

/// All dead letters of a task are one part, and so are all its rejected rows.
fn part(object: &StagedObject, sink: &dyn Sink) -> String {
    match object.kind {
        ObjectKind::DeadLetter | ObjectKind::RejectedRow => String::new(),
        ObjectKind::Data => sink.part_of(object),
    }
}

async fn rebuild(
    context: &Context,
    manifest: &Manifest,
    objects: &[ManifestObject],
    order: &RebuildOrder,
    pace: &Arc<Pace>,
) -> Result<Vec<StagedObject>, RebuildError> {
    let half = sink::of(&context.job.spec.sink);
    let by_task = lost(objects, order, half)?;
    let of_lost = objects
        .iter()
        .filter(|object| order.lost.contains(&object.staged.location));
    let rows_lost: u64 = of_lost.map(|object| object.staged.rows).sum();
    let (plan, _) = context.plan(&manifest.lookups).await?;
    // Older than all open windows, so it is never refused.
    let Some(memory) = context.budget.window(true, false) else {
        return Err(RebuildError::Differs {
            found: 0,
            lost: rows_lost,
        });
    };
    let which = WindowKey {
        task: order.task,
        window: manifest.window,
        lookups: manifest.lookups.clone(),
        attempt: 1,
    };
    let writer_context = writer_context(context, &which, &memory);
    let sink = half
        .writer(writer_context, context.result_schema(&plan)?)
        .map_err(TaskError::from)?;
    let dead = DeadLetterSink::new(dead_letters(context, &which, &memory));
    let staging = Staging {
        lost: Mutex::default(),
        sinks: Mutex::new(Sinks { sink, dead }),
    };
    for (task, of_task) in by_task {
        *staging.lost.lock().await = of_task;
        if let Err(error) = recompute(context, manifest, task, &staging, pace).await {
            staging.sinks.into_inner().abort().await;
            return Err(error.into());
        }
    }
    let Sinks { sink, dead } = staging.sinks.into_inner();
    let mut staged = match sink.finish().await {
        Ok(Staged { objects, .. }) => objects,
        Err(error) => {
            dead.abort().await;
            return Err(TaskError::from(error).into());
        }
    };
    match dead.finish().await {
        Ok(letters) => staged.extend(letters),
        Err(error) => {
            half.discard(&context.storages, &staged).await;
            return Err(TaskError::from(error).into());
        }
    }
    let found = staged.iter().map(|object| object.rows).sum();
    if found != rows_lost {
        half.discard(&context.storages, &staged).await;
        return Err(RebuildError::Differs {
            found,
            lost: rows_lost,
        });
    }
    Ok(staged)
}

/// Stages the lost part of a replay.
struct Staging {
    /// The lost part of the task that is being computed.
    lost: Mutex<Lost>,
    sinks: Mutex<Sinks>,
}

struct Sinks {
    sink: Box<dyn Writer>,
    dead: DeadLetterSink,
}

impl Sinks {
    async fn abort(self) {
        self.sink.abort().await;
        self.dead.abort().await;
    }
}

#[async_trait]
impl Witness for Staging {
    async fn read(
        &self,
        shard: &ShardId,
        records: &[Record],
        dead: &[DeadRecord],
    ) -> Result<(), TaskError> {
        if !self.lost.lock().await.dead_letters {
            return Ok(());
        }
        for one in dead {
            self.sinks
                .lock()
                .await
                .dead
                .write(shard, &records[one.index], &one.reason)
                .await?;
        }
        Ok(())
    }

    async fn rows(&self, batch: &RecordBatch) -> Result<(), TaskError> {
        let lost = self.lost.lock().await;
        if lost.parts.is_empty() && !lost.rejected_rows {
            return Ok(());
        }
        let mut sinks = self.sinks.lock().await;
        let is_lost =
            |part: Option<&str>| part.map_or(lost.rejected_rows, |part| lost.parts.contains(part));
        Ok(sinks.sink.write_only(batch.clone(), &is_lost).await?)
    }

    async fn dead_rows(&self, dead: DeadRows) -> Result<(), TaskError> {
        if !self.lost.lock().await.rejected_rows {
            return Ok(());
        }
        Ok(self.sinks.lock().await.sink.write_dead(dead).await?)
    }
}

#[cfg(test)]
mod tests;
