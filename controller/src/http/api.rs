//! `/api/v1`: the Jobs service as JSON, with the names of `-o json`.
//!
//! Owns: paths, query parameters, the form of an error. Does not own: the names
//! (`streamctl_proto::json`).
//! Rule: GET only; each answer is bounded, whatever the job's size.

use super::State as Shared;
use crate::leading::Who;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use streamctl_engine::security::gate::CallerToken;
use streamctl_proto::{json as names, v1};
use tonic::{Code, Status};

/// Shards of a job in one answer: those with the largest lag.
pub const SHARDS_SHOWN_MAX: usize = 500;
pub const EPOCHS_SHOWN_MAX: u32 = 200;
/// Epochs if the request does not set a limit.
const EPOCHS_SHOWN: u32 = 20;

/// The root of all paths.
const ROOT: &str = "/api/v1";
/// The available paths, for an unknown path's error.
const PATHS: &str =
    "there are /cluster, /jobs, /jobs/JOB, /jobs/JOB/epochs, /workers and /scaling below /api/v1";

pub(super) fn routes() -> Router<Shared> {
    let routes = Router::new()
        .route("/cluster", get(cluster))
        .route("/jobs", get(jobs))
        .route("/jobs/{job}", get(job))
        .route("/jobs/{job}/epochs", get(epochs))
        .route("/workers", get(workers))
        .route("/scaling", get(scaling));
    below_root(routes)
}

/// Nests the routes below the root; any other path there gets an error of the same form.
fn below_root<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let routes = routes
        .fallback(nothing)
        .method_not_allowed_fallback(only_read);
    // Nesting does not match the root with a slash.
    Router::new()
        .nest(ROOT, routes)
        .route(&format!("{ROOT}/"), any(nothing))
}

async fn nothing() -> Refused {
    Refused(Status::not_found(format!(
        "there is no such path in the API\n  hint: {PATHS}"
    )))
}

async fn only_read() -> Response {
    let reported = json!({ "error": "the API is read-only", "hint": "use GET; `streamctl` and gRPC change jobs" });
    (StatusCode::METHOD_NOT_ALLOWED, Json(reported)).into_response()
}

/// This controller, and the leader.
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

async fn jobs(State(shared): State<Shared>, by: CallerToken) -> Result<Json<Value>, Refused> {
    let response = shared.leader_jobs.jobs(&by).await?;
    Ok(Json(
        json!({ "jobs": response.jobs.iter().map(names::status).collect::<Vec<_>>() }),
    ))
}

async fn job(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
) -> Result<Json<Value>, Refused> {
    let mut status = shared.leader_jobs.job(&by, job).await?;
    let omitted = keep_farthest(&mut status.shards);
    let mut response = names::status(&status);
    response["shards_omitted"] = json!(omitted);
    Ok(Json(response))
}

/// Keeps the shards with the largest lag, in their order; returns how many were omitted.
fn keep_farthest(shards: &mut Vec<v1::ShardStatus>) -> usize {
    let omitted = shards.len().saturating_sub(SHARDS_SHOWN_MAX);
    if omitted > 0 {
        // Open shards first, then by lag.
        shards.sort_by_key(|shard| (shard.ended, std::cmp::Reverse(shard.lag_ms)));
        shards.truncate(SHARDS_SHOWN_MAX);
        shards.sort_by(|a, b| a.shard.cmp(&b.shard));
    }
    omitted
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    to: u64,
    limit: Option<u32>,
}

async fn epochs(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(requested) = query.map_err(|refused| {
        let hint = "from, to and limit are numbers";
        Status::invalid_argument(format!("{}\n  hint: {hint}", refused.body_text()))
    })?;
    let limit = requested
        .limit
        .unwrap_or(EPOCHS_SHOWN)
        .clamp(1, EPOCHS_SHOWN_MAX);
    let response = shared
        .leader_jobs
        .epochs(
            &by,
            v1::ListEpochsRequest {
                job,
                from: requested.from,
                limit,
                to: requested.to,
            },
        )
        .await?;
    Ok(Json(
        json!({ "epochs": response.epochs.iter().map(names::epoch).collect::<Vec<_>>() }),
    ))
}

async fn workers(State(shared): State<Shared>, by: CallerToken) -> Result<Json<Value>, Refused> {
    let response = shared.leader_jobs.workers(&by).await?;
    Ok(Json(
        json!({ "workers": response.workers.iter().map(names::worker).collect::<Vec<_>>() }),
    ))
}

async fn scaling(State(shared): State<Shared>, by: CallerToken) -> Result<Json<Value>, Refused> {
    let response = shared
        .leader_jobs
        .scaling(&by, v1::GetScalingRequest::default())
        .await?;
    Ok(Json(names::scaling(&response)))
}

/// An error: `{"error": ..., "hint": ...}`.
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
        let (error, hint) = self
            .0
            .message()
            .split_once("\n  hint: ")
            .unwrap_or((self.0.message(), ""));
        (code, Json(json!({ "error": error, "hint": hint }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
        assert_eq!(
            shards.first().unwrap().shard,
            format!("s-{:05}", 10_000 - SHARDS_SHOWN_MAX)
        );
        assert_eq!(shards.last().unwrap().shard, "s-09999");
        let mut few: Vec<_> = (0..3).rev().map(shard).collect();
        assert_eq!(
            (keep_farthest(&mut few), few[0].shard.as_str()),
            (0, "s-00002"),
            "few are left as they are"
        );
    }

    async fn call(address: std::net::SocketAddr, request: &str) -> (String, Value) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream
            .write_all(format!("{request} {head}").as_bytes())
            .await
            .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("{request}: {response}"));
        (head.split(' ').nth(1).unwrap().to_owned(), body)
    }

    #[tokio::test]
    async fn whatever_is_not_there_is_refused_as_json() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Router::new().route("/", get(async || "a page"));
        let one = Router::new().route("/jobs", get(async || Json(json!({"jobs": []}))));
        let app = pages
            .merge(below_root(one))
            .merge(Router::new().route("/metrics", get(async || "figures")));
        tokio::spawn(streamctl_engine::http::serve(
            listener,
            app,
            std::future::pending(),
        ));
        assert_eq!(
            call(address, "GET /api/v1/jobs").await.1,
            json!({"jobs": []})
        );
        for path in [
            "/api/v1",
            "/api/v1/",
            "/api/v1/job",
            "/api/v1/jobs/",
            "/api/v1/a/b/c",
        ] {
            let (code, reported) = call(address, &format!("GET {path}")).await;
            assert_eq!(code, "404", "{path}");
            assert!(
                reported["hint"]
                    .as_str()
                    .unwrap()
                    .contains("/jobs/JOB/epochs"),
                "{path}: {reported}"
            );
        }
        let (code, reported) = call(address, "POST /api/v1/jobs").await;
        assert_eq!(
            (code.as_str(), &reported["error"]),
            ("405", &json!("the API is read-only"))
        );
    }

    #[test]
    fn a_refusal_has_its_hint_apart() {
        let refused = Refused(Status::not_found(
            "no job\n  hint: `streamctl list` shows those there are",
        ));
        assert_eq!(refused.into_response().status(), StatusCode::NOT_FOUND);
    }
}
