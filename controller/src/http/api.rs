//! `/api/v1`: what the Jobs service knows, as JSON with the names of `-o json`.
//!
//! Owns: paths, query parameters, how a refusal looks. Does not own: the names (`streamctl_proto::json`).
//! Rule: GET only; each answer is bounded, whatever the job's size.

use super::State as Shared;
use crate::leading::Who;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use streamctl_engine::security::gate::Asked;
use streamctl_proto::{json as names, v1};
use tonic::{Code, Status};

/// Shards of a job in one answer: those farthest behind.
pub const SHARDS_SHOWN_MAX: usize = 500;
/// Epochs in one answer.
pub const EPOCHS_SHOWN_MAX: u32 = 200;
/// Epochs when the request does not say how many.
const EPOCHS_SHOWN: u32 = 20;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/cluster", get(cluster))
        .route("/jobs", get(jobs))
        .route("/jobs/{job}", get(job))
        .route("/jobs/{job}/epochs", get(epochs))
        .route("/workers", get(workers))
        .route("/scaling", get(scaling))
        .fallback(async || Refused(Status::not_found("there is no such path below /api/v1")))
}

/// Who answers, and who leads.
async fn cluster(State(shared): State<Shared>) -> Json<Value> {
    let (leads, leader, term) = match shared.leader.who() {
        Who::Here(term) => (true, Some(shared.me.address.clone()), Some(term.0)),
        Who::Elsewhere(address) => (false, address, None),
    };
    Json(json!({
        "controller": shared.me.id, "address": shared.me.address, "leads": leads, "leader": leader, "term": term,
        "version": env!("CARGO_PKG_VERSION"), "now_ms": (shared.clock)(),
    }))
}

async fn jobs(State(shared): State<Shared>, by: Asked) -> Result<Json<Value>, Refused> {
    let answer = shared.ask.jobs(&by).await?;
    Ok(Json(json!({ "jobs": answer.jobs.iter().map(names::status).collect::<Vec<_>>() })))
}

async fn job(State(shared): State<Shared>, by: Asked, Path(job): Path<String>) -> Result<Json<Value>, Refused> {
    let mut status = shared.ask.job(&by, job).await?;
    let omitted = keep_farthest(&mut status.shards);
    let mut answer = names::status(&status);
    answer["shards_omitted"] = json!(omitted);
    Ok(Json(answer))
}

/// Keeps the shards that are farthest behind, in their order; says how many were left out.
fn keep_farthest(shards: &mut Vec<v1::ShardStatus>) -> usize {
    let omitted = shards.len().saturating_sub(SHARDS_SHOWN_MAX);
    if omitted > 0 {
        // Open ones first, then by lag.
        shards.sort_by_key(|shard| (shard.ended, std::cmp::Reverse(shard.lag_ms)));
        shards.truncate(SHARDS_SHOWN_MAX);
        shards.sort_by(|a, b| a.shard.cmp(&b.shard));
    }
    omitted
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    from: u64,
    limit: Option<u32>,
}

async fn epochs(
    State(shared): State<Shared>,
    by: Asked,
    Path(job): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Refused> {
    let _room = shared.epoch_reads.acquire().await;
    let limit = wanted.limit.unwrap_or(EPOCHS_SHOWN).clamp(1, EPOCHS_SHOWN_MAX);
    let answer = shared.ask.epochs(&by, v1::ListEpochsRequest { job, from: wanted.from, limit }).await?;
    Ok(Json(json!({ "epochs": answer.epochs.iter().map(names::epoch).collect::<Vec<_>>() })))
}

async fn workers(State(shared): State<Shared>, by: Asked) -> Result<Json<Value>, Refused> {
    let answer = shared.ask.workers(&by).await?;
    Ok(Json(json!({ "workers": answer.workers.iter().map(names::worker).collect::<Vec<_>>() })))
}

async fn scaling(State(shared): State<Shared>, by: Asked) -> Result<Json<Value>, Refused> {
    let answer = shared.ask.scaling(&by, v1::GetScalingRequest::default()).await?;
    Ok(Json(names::scaling(&answer)))
}

/// Why there is no answer: `{"error": ..., "hint": ...}`.
struct Refused(Status);

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let code = match self.0.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let (error, hint) = self.0.message().split_once("\n  hint: ").unwrap_or((self.0.message(), ""));
        (code, Json(json!({ "error": error, "hint": hint }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_shards_those_that_are_farthest_behind_are_shown() {
        let shard = |n: usize| v1::ShardStatus {
            shard: format!("s-{n:05}"),
            lag_ms: n as u64,
            ended: n >= 10_000,
            ..Default::default()
        };
        let mut shards: Vec<_> = (0..10_010).map(shard).collect();
        assert_eq!(keep_farthest(&mut shards), 10_010 - SHARDS_SHOWN_MAX);
        assert_eq!(shards.first().unwrap().shard, format!("s-{:05}", 10_000 - SHARDS_SHOWN_MAX));
        assert_eq!(shards.last().unwrap().shard, "s-09999");
        let mut few: Vec<_> = (0..3).rev().map(shard).collect();
        assert_eq!((keep_farthest(&mut few), few[0].shard.as_str()), (0, "s-00002"), "few are left as they are");
    }

    #[test]
    fn a_refusal_has_its_hint_apart() {
        let refused = Refused(Status::not_found("no job\n  hint: `streamctl list` shows those there are"));
        assert_eq!(refused.into_response().status(), StatusCode::NOT_FOUND);
    }
}
