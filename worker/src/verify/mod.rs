//! Reads a committed epoch from its source again and compares it, row by row, with its stored
//! objects.
//!
//! Owns: what is compared with what. Does not own: reading ranges (`replay`), the verdict (the
//! controller).
//! Rule: rows are compared as multisets, regardless of order, in bounded memory; records that the
//! source no longer keeps are not a difference.

mod letters;
mod tally;
#[cfg(test)]
mod tests;

use crate::compute::{Compute, Workload};
use crate::function::DeadRows;
use crate::pipeline::DeadRecord;
use crate::replay::{Witness, recompute};
use crate::sink::stored::{self, Keyed, StoredRows};
use crate::sink::{self, EncodeError, SinkError};
use crate::task::{Context, TaskError};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_engine::query::Pace;
use streamctl_engine::source::{ReadError, Record};
use streamctl_engine::storage::StorageError;
use streamctl_proto::manifest::ManifestPart;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::verify::EpochOutcome;
use streamctl_proto::{Manifest, Position, ShardId, TaskId, Window};
use tally::{Differences, Side, Tally};

/// Manifests count late records since this version.
const LATE_SINCE_VERSION: u32 = 3;

/// Compares an epoch, on the threads of `compute`. If dropped, it stops.
pub async fn verify_epoch(
    context: Arc<Context>,
    compute: &Compute,
    manifest: Manifest,
) -> EpochOutcome {
    let workload = Workload::new(
        &context.job.spec.name,
        format!("verification of epoch {}", manifest.epoch),
    );
    let pace = Arc::clone(&workload.pace);
    let compared = compute
        .spawn(workload, async move {
            compare(&context, &manifest, &pace).await
        })
        .await;
    let failed = |reason: String, hint: String| EpochOutcome::Failed { reason, hint };
    match compared {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(VerifyError::Task(error @ TaskError::Read(ReadError::DataLoss { .. })))) => {
            EpochOutcome::Gone {
                reason: error.describe(),
            }
        }
        Ok(Err(error)) => failed(streamctl_proto::describe(&error), error.hint()),
        Err(error) => failed(error.to_string(), String::new()),
    }
}

/// An epoch cannot be compared.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    /// It cannot be read from its source, or its query cannot be run.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// An object exists but has the wrong content.
    #[error("{location} cannot be read back: {reason}")]
    Object {
        location: String,
        /// The error of its format.
        reason: String,
    },
}

impl VerifyError {
    fn object(location: &str, error: &EncodeError) -> Self {
        let reason = match error {
            EncodeError::Arrow(error) => error.to_string(),
            EncodeError::Parquet(error) => error.to_string(),
            EncodeError::Compress(error) => error.to_string(),
        };
        Self::Object {
            location: location.to_owned(),
            reason,
        }
    }

    /// The advice; a task's own hints are about running jobs.
    fn hint(&self) -> String {
        match self {
            Self::Task(TaskError::Read(ReadError::Refused { hint, .. })) => hint.clone(),
            Self::Task(TaskError::Sink(SinkError::Storage(StorageError::Refused {
                hint, ..
            }))) => hint.clone(),
            Self::Task(error @ TaskError::NotRepeatable) => error.hint(),
            Self::Task(_) | Self::Object { .. } => String::new(),
        }
    }
}

impl From<SinkError> for VerifyError {
    fn from(error: SinkError) -> Self {
        Self::Task(error.into())
    }
}

async fn compare(
    context: &Context,
    manifest: &Manifest,
    pace: &Arc<Pace>,
) -> Result<EpochOutcome, VerifyError> {
    let mut rows = Tally::default();
    let mut dead_letters = Tally::default();
    let ranges = pass(
        context,
        manifest,
        pace,
        &mut |kind, side, keyed| match kind {
            ObjectKind::Data | ObjectKind::RejectedRow => rows.add(side, keyed.key),
            ObjectKind::DeadLetter => dead_letters.add(side, keyed.key),
        },
    )
    .await?;
    let mut more_rows = Differences::of(&rows);
    let mut more_dead = Differences::of(&dead_letters);
    if !(more_rows.is_empty() && more_dead.is_empty()) {
        // Sums only show that there is a difference: a second pass finds it, among the rows whose
        // sums differ.
        pass(
            context,
            manifest,
            pace,
            &mut |kind, side, keyed| match kind {
                ObjectKind::Data | ObjectKind::RejectedRow => more_rows.add(side, keyed),
                ObjectKind::DeadLetter => more_dead.add(side, keyed),
            },
        )
        .await?;
    }
    let rows = more_rows.compared(&rows);
    let dead_letters = more_dead.compared(&dead_letters);
    Ok(EpochOutcome::Compared {
        rows,
        dead_letters,
        ranges,
    })
}

/// Receives every row and dead letter of both sides.
type Visit<'v> = &'v mut (dyn FnMut(ObjectKind, Side, Keyed<'_>) + Send);

/// Visits the stored objects, then the records. Returns the problems of the ranges.
async fn pass(
    context: &Context,
    manifest: &Manifest,
    pace: &Arc<Pace>,
    visit: Visit<'_>,
) -> Result<Vec<String>, VerifyError> {
    let (plan, _) = context.plan(&manifest.lookups).await?;
    let spec = &context.job.spec;
    let result = context.result_schema(&plan)?;
    let mut rows = sink::of(&spec.sink).rows(&result, manifest.window)?;
    for object in &manifest.objects {
        let kind = object.staged.kind;
        let bytes = stored::read(&context.storages, spec.sink.role(), &object.staged).await?;
        let mut give = |keyed: Keyed<'_>| visit(kind, Side::Stored, keyed);
        let location = &object.staged.location;
        let given = match kind {
            ObjectKind::Data => rows.of_object(location, bytes, &mut give),
            ObjectKind::DeadLetter => letters::dead_letters(location, bytes, &mut give),
            ObjectKind::RejectedRow => stored::rejected_rows(location, bytes, &mut give),
        };
        given.map_err(|error| VerifyError::object(location, &error))?;
        pace.yield_point().await;
    }
    let tasks: BTreeSet<TaskId> = manifest.parts.iter().map(|part| part.task).collect();
    let window = manifest.window;
    let again = Again(Mutex::new(Seen {
        rows,
        visit,
        window,
        late: 0,
        shards: BTreeMap::new(),
    }));
    let mut wrong = vec![];
    for task in tasks {
        recompute(context, manifest, task, &again, pace).await?;
        let shards = std::mem::take(&mut again.lock().shards);
        let parts = manifest.parts.iter().filter(|part| part.task == task);
        wrong.extend(parts.flat_map(|part| judge(part, &shards)));
    }
    let late = again.lock().late;
    let counted = manifest.counts.rows_late;
    // Manifests of earlier versions do not count them.
    let is_known = manifest.version >= LATE_SINCE_VERSION && spec.source.kind.keeps_arrival();
    if is_known && late != counted {
        wrong.push(format!(
            "{} arrived outside of the window {window}, its manifest counts {counted}",
            streamctl_proto::count(late, "record")
        ));
    }
    Ok(wrong)
}

struct Again<'v>(Mutex<Seen<'v>>);

struct Seen<'v> {
    rows: Box<dyn StoredRows>,
    visit: Visit<'v>,
    window: Window,
    /// Records whose window is not that of their arrival.
    late: u64,
    /// Records of each shard, and after the last of them.
    shards: BTreeMap<ShardId, (u64, Position)>,
}

impl<'v> Again<'v> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen<'v>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Witness for Again<'_> {
    async fn read(
        &self,
        shard: &ShardId,
        records: &[Record],
        dead: &[DeadRecord],
    ) -> Result<(), TaskError> {
        let Seen {
            visit,
            shards,
            window,
            late,
            ..
        } = &mut *self.lock();
        *late += records
            .iter()
            .filter(|record| record.is_late(*window))
            .count() as u64;
        if let Some(last) = records.last() {
            let seen = shards.entry(shard.clone()).or_insert((0, Position::Start));
            *seen = (seen.0 + records.len() as u64, last.position());
        }
        for one in dead {
            letters::dead_letter(shard, &records[one.index], &one.reason, &mut |keyed| {
                visit(ObjectKind::DeadLetter, Side::Replayed, keyed);
            });
        }
        Ok(())
    }

    async fn rows(&self, batch: &RecordBatch) -> Result<(), TaskError> {
        let Seen { rows, visit, .. } = &mut *self.lock();
        let given = rows.of_batch(batch, &mut |keyed| {
            visit(ObjectKind::Data, Side::Replayed, keyed)
        });
        given.map_err(|error: SinkError| error.into())
    }

    async fn dead_rows(&self, dead: DeadRows) -> Result<(), TaskError> {
        let Seen { rows, visit, .. } = &mut *self.lock();
        let given = rows.of_dead(&dead, &mut |keyed| {
            visit(ObjectKind::RejectedRow, Side::Replayed, keyed)
        });
        given.map_err(|error: SinkError| error.into())
    }
}

/// Checks that a range has as many records as its manifest counts, and ends at its manifest's end.
fn judge(part: &ManifestPart, shards: &BTreeMap<ShardId, (u64, Position)>) -> Vec<String> {
    let nothing = (0, Position::Start);
    let of = |(shard, range)| {
        let range: &streamctl_proto::ShardRange = range;
        let shard: &ShardId = shard;
        let (records, last) = shards.get(shard).unwrap_or(&nothing);
        let right = *records == range.records && *last == range.to;
        (!right).then(|| {
            let from = &range.from;
            let to = &range.to;
            format!(
                "shard {shard} from {from} to {to}: its manifest counts {} records, the source gives {records}, \
                 the last of them {last}",
                range.records
            )
        })
    };
    part.ranges.iter().filter_map(of).collect()
}
