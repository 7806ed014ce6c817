//! Computes one task's part of a committed epoch again, from the ranges of its manifest.
//!
//! Owns: reading a range from a source to its end. Does not own: decoding, the query: they are those of the live path.
//! Rule: same ranges, same lookup versions, same query: the same rows (Promise 2).

use crate::decode::Decoder;
use crate::sink::SinkError;
use crate::source::{Record, ShardToRead};
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use streamctl_engine::file_shard::FileShard;
use streamctl_engine::query::{QueryInput, QueryPlan};
use streamctl_proto::manifest::ManifestPart;
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{Manifest, Position, ShardId, ShardRange, TaskId};
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

/// Begins to compute a task's part of an epoch again.
pub async fn replay(
    context: std::sync::Arc<Context>,
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
    tokio::spawn(async move {
        if let Err(error) = run(&context, &plan, &tables, parts, &sender).await {
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
            let mut records = reader.next().await?.records;
            let inside = |record: &Record| record.position().reaches(&range.to);
            records.retain(inside);
            empty = if records.is_empty() { empty + 1 } else { 0 };
            if empty > EMPTY_READS_MAX {
                return Err(TaskError::Read(gone(&shard, &range.from)));
            }
            left = left.saturating_sub(records.len() as u64);
            input.push(decoder.decode(&records).batch).await?;
        }
    }
    Ok(())
}

/// What a listing would say of the shard now.
async fn detail(context: &Context, shard: &ShardId) -> Result<String, TaskError> {
    let SourceKind::Files { path, .. } = &context.job.spec.source.kind else { return Ok(String::new()) };
    let location = path.join(shard.as_str());
    let info = context.storages.for_location(&location).head(&location).await;
    Ok(FileShard::from(info.map_err(SinkError::from)?).to_detail())
}

fn gone(shard: &ShardId, position: &Position) -> crate::source::ReadError {
    let detail = "the source gives no more records of this range".to_owned();
    crate::source::ReadError::DataLoss { shard: shard.clone(), position: position.clone(), detail }
}
