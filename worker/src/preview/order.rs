//! The order to preview a job, and its answer.
//!
//! Owns: from `v1::PreviewJob` to `v1::PreviewResponse`. Does not own: what a preview reads and
//! computes (`preview`), who may order one (`flight`).
//! Rule: an error of the job is an answer; only what another worker may do better is a failure.

use super::{Outcome, Sample, compute, sample};
use crate::compute::{Compute, Workload};
use crate::functions::Functions;
use crate::lookups::Table;
use crate::memory::MemoryBudget;
use crate::source::Sources;
use crate::task::{Context, TaskError};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::clock::system_clock;
use streamctl_engine::resolve::plan_of;
use streamctl_engine::source::sample::{SampleFrom, Sampling};
use streamctl_engine::source::{ReadError, ShardToRead, connector};
use streamctl_engine::storage::Storages;
use streamctl_proto::function_code::{CodeError, FunctionCode};
use streamctl_proto::preview::{PREVIEW_RECORDS_MAX, PREVIEW_SHARDS_MAX, PREVIEW_TIMEOUT_MAX};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{MESSAGE_BYTES_MAX, ResolvedJob, v1};
use tokio::time::{Instant, timeout};
use tonic::Status;

/// How long the query of a preview may compute.
const COMPUTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer: what carries it needs some bytes of a message too.
const ANSWER_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (64 << 10);

/// What a preview needs of its process.
#[derive(Clone)]
pub struct Resources {
    pub storages: Storages,
    pub sources: Sources,
    pub budget: MemoryBudget,
    pub compute: Compute,
    pub functions: Functions,
}

/// Why a job cannot be previewed.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// Another build made it.
    #[error("the order is not understood: {0}")]
    Order(String),
    #[error("function: {0}")]
    Code(#[from] CodeError),
    #[error("{}", .0.describe())]
    Task(#[from] TaskError),
    #[error("the query computes longer than {} s", COMPUTE_TIMEOUT.as_secs())]
    Late,
    #[error("the rows cannot be written: {0}")]
    Rows(#[from] ArrowError),
    #[error("the rows of the preview have {0} bytes together; at most {ANSWER_BYTES_MAX} are sent")]
    Large(usize),
}

impl PreviewError {
    pub fn hint(&self) -> String {
        match self {
            Self::Order(_) => "run controllers and workers of the same version".to_owned(),
            Self::Code(_) => {
                "submit it with the program `streamctl`, which packs the code".to_owned()
            }
            Self::Task(TaskError::Read(ReadError::Refused { hint, .. })) => hint.clone(),
            Self::Task(TaskError::Read(_)) => "check the job's [source]".to_owned(),
            Self::Task(_) => "`streamctl explain` shows columns and plan".to_owned(),
            Self::Late | Self::Large(_) => "preview fewer records: --records".to_owned(),
            Self::Rows(_) => "cast columns of unusual types to text".to_owned(),
        }
    }
}

/// Answers a controller.
///
/// # Errors
/// This worker cannot do it; another one may.
pub async fn preview_action(
    resources: Resources,
    order: v1::PreviewJob,
) -> Result<v1::PreviewedJob, Status> {
    let previewed = preview(resources, order).await.and_then(|response| {
        let bytes = response.encoded_len();
        match bytes <= ANSWER_BYTES_MAX {
            true => Ok(response),
            false => Err(PreviewError::Large(bytes)),
        }
    });
    let outcome = match previewed {
        Ok(response) => v1::previewed_job::Outcome::Preview(response),
        // Its credentials, rights, clock or memory: another worker may do it.
        Err(PreviewError::Task(error)) if error.refused_by().is_some() => {
            return Err(Status::from(CallRefusal::new(
                Reason::WorkerUnavailable,
                error.describe(),
            )));
        }
        Err(error) => v1::previewed_job::Outcome::Failed(v1::PreviewFailed {
            hint: error.hint(),
            message: error.to_string(),
        }),
    };
    Ok(v1::PreviewedJob {
        outcome: Some(outcome),
    })
}

/// Reads some records and runs the job's query on them. If dropped, it stops.
///
/// # Errors
/// [`PreviewError`]
pub async fn preview(
    resources: Resources,
    order: v1::PreviewJob,
) -> Result<v1::PreviewResponse, PreviewError> {
    let from = order.from();
    let mut job: ResolvedJob = serde_json::from_str(&order.job_json)
        .map_err(|error| PreviewError::Order(error.to_string()))?;
    let code = match &job.function_code {
        Some(_) => Some(FunctionCode::try_from(order.function_code)?),
        None => None,
    };
    let records_max = order.records.min(PREVIEW_RECORDS_MAX) as usize;
    let from = SampleFrom::of(from, job.spec.source.starting_position);
    let sampling = connector(&job.spec.source.kind).sampling(from, records_max, system_clock()());
    if let Some(start) = sampling.start.clone() {
        job.start = start;
    }
    let Resources {
        storages,
        sources,
        budget,
        compute,
        functions,
    } = resources;
    let context = Context::new(job, storages, sources, budget, functions.with_code(code));
    let context = Arc::new(context);
    let within = Duration::from_millis(order.timeout_ms.into()).min(PREVIEW_TIMEOUT_MAX);
    let shards = &order.shards[..order.shards.len().min(PREVIEW_SHARDS_MAX)];
    let sample = best_sample(&context, sampling, shards, records_max, within)
        .await
        .map_err(TaskError::from)?;
    let computed = computed(Arc::clone(&context), &compute, sample);
    let Computed {
        sample,
        outcome,
        whole_window,
    } = timeout(COMPUTE_TIMEOUT, computed)
        .await
        .map_err(|_| PreviewError::Late)??;
    let shown = Shown {
        job: context.job.spec.name.to_string(),
        shards: order.shards_in_all,
        shards_read: shards.len() as u64,
        whole_window,
    };
    response(shown, &sample, outcome)
}

/// The reads of a sampling, one after the other, until there are enough records.
async fn best_sample(
    context: &Context,
    sampling: Sampling,
    shards: &[v1::PreviewShard],
    records_max: usize,
    within: Duration,
) -> Result<Sample, ReadError> {
    let deadline = Instant::now() + within;
    let mut best = Sample::default();
    for (position, end) in sampling.reads {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            best.cut_short = true;
            break;
        }
        let to_read = |shard: &v1::PreviewShard| {
            let id = shard.shard.as_str().into();
            ShardToRead::new(id, position.clone(), shard.detail.clone())
        };
        let shards: Vec<_> = shards.iter().map(to_read).collect();
        let taken = sample(context, &shards, end, records_max, left).await?;
        if taken.records.len() >= best.records.len() {
            best = taken;
        }
        if best.records.len() >= records_max || best.cut_short {
            break;
        }
    }
    Ok(best)
}

/// A sample with the query's result.
struct Computed {
    sample: Sample,
    outcome: Outcome,
    whole_window: bool,
}

/// Plans and runs the query, on the threads of `compute`.
async fn computed(
    context: Arc<Context>,
    compute_on: &Compute,
    sample: Sample,
) -> Result<Computed, TaskError> {
    let workload = Workload::new(&context.job.spec.name, "preview");
    let pace = Arc::clone(&workload.pace);
    let work = async move {
        let tables = current_lookups(&context).await?;
        let schemas = tables
            .iter()
            .map(|(name, table)| (name.clone(), table.rows.schema()))
            .collect();
        let plan = plan_of(&context.job, schemas).await?;
        let rows: BTreeMap<String, RecordBatch> = tables
            .iter()
            .map(|(name, table)| (name.clone(), table.rows.clone()))
            .collect();
        let outcome = compute(&context, &plan, &rows, &sample, &pace).await?;
        Ok(Computed {
            sample,
            outcome,
            whole_window: plan.whole_window(),
        })
    };
    let running = compute_on.spawn(workload, work);
    let done = running.await;
    done.map_err(|error| TaskError::Panicked(error.to_string()))?
}

/// The lookups in their current state: no window has pinned a version of them.
async fn current_lookups(context: &Context) -> Result<Vec<(String, Arc<Table>)>, TaskError> {
    let mut tables = vec![];
    for spec in &context.job.spec.lookups {
        let lookups = context.budget.lookups();
        let table = lookups.current(&context.storages, spec).await?;
        tables.push((spec.name.clone(), Arc::new(table)));
    }
    Ok(tables)
}

/// What is known of a preview besides its records.
struct Shown {
    job: String,
    shards: u64,
    shards_read: u64,
    whole_window: bool,
}

fn response(
    shown: Shown,
    sample: &Sample,
    outcome: Outcome,
) -> Result<v1::PreviewResponse, PreviewError> {
    let letter = |bad: &super::Bad| {
        let (shard, record) = sample.records.get(bad.index)?;
        Some(v1::PreviewedLetter {
            shard: shard.to_string(),
            sequence_number: record.sequence.to_string(),
            reason: bad.reason.clone(),
            payload: record.data.to_vec(),
        })
    };
    Ok(v1::PreviewResponse {
        job: shown.job,
        shards: shown.shards,
        shards_read: shown.shards_read,
        cut_short: sample.cut_short,
        records: sample.records.len() as u64,
        whole_window: shown.whole_window,
        rows: encoded(&outcome)?,
        dead_letters: outcome.bad.iter().filter_map(letter).collect(),
        rejected: outcome.rejected,
        rows_unmatched: outcome.unmatched,
        unmatched: outcome.unmatched_keys.iter().map(Into::into).collect(),
        null_values: outcome.null_values.iter().map(Into::into).collect(),
        unknown_keys: outcome.unknown_keys.iter().map(Into::into).collect(),
    })
}

/// The rows as an Arrow IPC stream.
fn encoded(outcome: &Outcome) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &outcome.schema)?;
    for batch in &outcome.batches {
        writer.write(batch)?;
    }
    writer.into_inner()
}
