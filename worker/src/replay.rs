//! Computes one task's part of a committed epoch again, from the ranges of its manifest.
//!
//! Owns: reading a range from a source to its end. Does not own: decoding, the query: they are those of the live path.
//! Rule: same ranges, same lookup versions, same query: the same rows (Promise 2).

use crate::decode::Decoder;
use crate::sink::SinkError;
use crate::source::ShardToRead;
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::file_shard::FileShard;
use streamctl_engine::query::{Pushed, QueryInput, QueryPlan};
use streamctl_engine::storage::StorageError;
use streamctl_proto::manifest::ManifestPart;
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{Manifest, Position, ShardId, ShardRange, TaskId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Batches of a replay that may wait for its reader.
const BATCHES_MAX: usize = 8;
/// Reads in a row that may give nothing before a range counts as gone.
const EMPTY_READS_MAX: usize = 200;

/// A replay that runs: the schema of its rows, then the rows.
pub struct Replay {
    /// Of the batches.
    pub schema: SchemaRef,
    /// The rows; ends with an error or with the last batch.
    pub batches: mpsc::Receiver<Result<RecordBatch, TaskError>>,
}

/// Begins to compute a task's part of an epoch again, on the threads of `compute`. `None`: the epoch has no such part.
pub async fn replay(
    context: Arc<Context>,
    compute: &Handle,
    manifest: Manifest,
    task: TaskId,
) -> Result<Option<Replay>, TaskError> {
    let parts: Vec<ManifestPart> = manifest.parts.into_iter().filter(|part| part.task == task).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let (plan, tables) = context.plan(&manifest.lookups).await?;
    let schema = plan.output_schema().clone();
    let (sender, batches) = mpsc::channel(BATCHES_MAX);
    compute.spawn(async move {
        let ran = tokio::select! {
            ran = run(&context, &plan, &tables, parts, &sender) => ran,
            // Nobody reads the rows any more: neither the source nor the query may wait for them.
            () = sender.closed() => return,
        };
        if let Err(error) = ran {
            let _over = sender.send(Err(error)).await;
        }
    });
    Ok(Some(Replay { schema, batches }))
}

async fn run(
    context: &Context,
    plan: &QueryPlan,
    tables: &BTreeMap<String, RecordBatch>,
    parts: Vec<ManifestPart>,
    sender: &mpsc::Sender<Result<RecordBatch, TaskError>>,
) -> Result<(), TaskError> {
    let mut open = plan.open(tables, context.settings.query_bytes_max).await?;
    let decoder = Decoder::new(context.source_schema()?, plan.source_columns())?;
    let ranges = parts.into_iter().flat_map(|part| part.ranges);
    let read = read_ranges(context, decoder, ranges, open.input);
    let give = async {
        while let Some(batch) = open.output.next().await? {
            if sender.send(Ok(batch)).await.is_err() {
                break;
            }
        }
        Ok::<(), TaskError>(())
    };
    tokio::try_join!(read, give)?;
    Ok(())
}

async fn read_ranges(
    context: &Context,
    mut decoder: Decoder,
    ranges: impl Iterator<Item = (ShardId, ShardRange)>,
    input: QueryInput,
) -> Result<(), TaskError> {
    for (shard, range) in ranges {
        let detail = detail(context, &shard).await?;
        let to_read = ShardToRead { shard: shard.clone(), from: range.from.clone(), detail };
        let mut reader = context.sources.open(&context.job, &to_read).await?;
        let (mut left, mut empty) = (range.records, 0);
        while left > 0 {
            let chunk = reader.next().await?;
            let mut records = chunk.records;
            let given = records.len();
            records.retain(|record| record.position().reaches(&range.to));
            left = left.saturating_sub(records.len() as u64);
            empty = if given == 0 { empty + 1 } else { 0 };
            // A record beyond the range, the shard's end, or nothing for long: what is left is not there any more.
            let beyond = given > records.len() || chunk.end.is_some() || empty > EMPTY_READS_MAX;
            if left > 0 && beyond {
                return Err(TaskError::Read(gone(&shard, &range.from)));
            }
            let rows = decoder.decode(&records).batch;
            if rows.num_rows() > 0 && input.push(rows).await? == Pushed::NotNeeded {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What a listing would say of the shard now.
async fn detail(context: &Context, shard: &ShardId) -> Result<String, TaskError> {
    let SourceKind::Files { path, .. } = &context.job.spec.source.kind else { return Ok(String::new()) };
    let location = path.join(shard.as_str());
    match context.storages.for_location(&location).head(&location).await {
        Ok(info) => Ok(FileShard::from(info).to_detail()),
        Err(StorageError::NotFound { .. }) => Err(TaskError::Read(gone(shard, &Position::Start))),
        Err(error) => Err(SinkError::from(error).into()),
    }
}

fn gone(shard: &ShardId, position: &Position) -> crate::source::ReadError {
    let detail = "the source gives no more records of this range".to_owned();
    crate::source::ReadError::DataLoss { shard: shard.clone(), position: position.clone(), detail }
}
