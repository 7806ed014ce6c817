//! What a worker needs to preview a job.
//!
//! Owns: resolving the job as a submit would, which shards are read. Does not own: any check
//! (`engine::resolve`), reading and computing (the worker).
//! Rule: a controller never sees records: a worker reads them.

use crate::shards::{ShardLister, explore_all};
use streamctl_engine::resolve::{ResolveError, World};
use streamctl_engine::source::ListedShard;
use streamctl_engine::source::connector;
use streamctl_engine::source::sample::SampleFrom;
use streamctl_proto::preview::{PREVIEW_RECORDS_MAX, PREVIEW_SHARDS_MAX, PREVIEW_TIMEOUT_MAX};
use streamctl_proto::spec::{Problem, Problems};
use streamctl_proto::{JobSpec, ResolvedJob, v1};

/// How many records are read if the request has no number.
const RECORDS_DEFAULT: u32 = 20;
/// How long records are waited for if the request has no time.
const TIMEOUT_DEFAULT_MS: u32 = 10_000;

/// Resolves the job of a request at `now_ms`.
///
/// # Errors
/// Every problem of the job; if there is none, what did not respond.
pub async fn order(
    world: &World,
    lister: &dyn ShardLister,
    spec: JobSpec,
    request: v1::PreviewRequest,
    now_ms: i64,
) -> Result<v1::PreviewJob, ResolveError> {
    let from = request.from();
    let (found, listing) = explore_all(world, lister, &spec, false).await;
    let job = found.job(spec, String::new(), now_ms)?;
    let listing =
        listing.ok_or_else(|| problem("source", "its shards are not known".to_owned()))?;
    let records = match request.records {
        0 => RECORDS_DEFAULT,
        records => records.min(PREVIEW_RECORDS_MAX),
    };
    let timeout_max = u32::try_from(PREVIEW_TIMEOUT_MAX.as_millis()).unwrap_or(u32::MAX);
    let timeout_ms = match request.timeout_ms {
        0 => TIMEOUT_DEFAULT_MS,
        timeout => timeout.min(timeout_max),
    };
    let shards = sampled(&job, &listing.shards, from);
    let job_json = serde_json::to_string(&job)
        .map_err(|error| problem("", format!("it cannot be written down: {error}")))?;
    Ok(v1::PreviewJob {
        job_json,
        function_code: request.function_code,
        shards,
        shards_in_all: listing.shards.len() as u64,
        records,
        from: from.into(),
        timeout_ms,
    })
}

fn problem(field: &str, message: String) -> ResolveError {
    Problems(vec![Problem::new(field, message, None)]).into()
}

fn sampled(job: &ResolvedJob, all: &[ListedShard], from: v1::PreviewFrom) -> Vec<v1::PreviewShard> {
    let source = &job.spec.source;
    let connector = connector(&source.kind);
    let from = SampleFrom::of(from, source.starting_position);
    let is_sampled = |shard: &&ListedShard| connector.is_sampled(shard, all, from);
    let shard = |shard: &ListedShard| v1::PreviewShard {
        shard: shard.id.to_string(),
        detail: shard.detail.clone(),
    };
    let sampled = all.iter().filter(is_sampled).take(PREVIEW_SHARDS_MAX);
    sampled.map(shard).collect()
}
