//! `/api/v1`: the Jobs service as JSON, with the names of `-o json`.
//!
//! Owns: paths, query parameters. Does not own: the names (`streamctl_proto::json`), the form of an
//! error (`refused`).
//! Rule: GET only; each answer is bounded, whatever the job's size.

use super::State as Shared;
use super::refused::Refused;
use super::{samples, versions};
use crate::leading::Who;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use streamctl_engine::security::gate::CallerToken;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{json as names, v1};
use tonic::Status;

/// Shards of a job in one answer: those with the largest lag.
pub const SHARDS_SHOWN_MAX: usize = 500;
pub const EPOCHS_SHOWN_MAX: u32 = 200;
/// Epochs if the request does not set a limit.
const EPOCHS_SHOWN: u32 = 20;

/// The root of all paths.
const ROOT: &str = "/api/v1";
/// The available paths, for an unknown path's error.
const PATHS: &str = "there are /cluster, /events, /jobs, /jobs/JOB, /jobs/JOB/epochs, /jobs/JOB/epochs/N/rows, /jobs/JOB/epochs/N/dead-letters, /jobs/JOB/events, /jobs/JOB/profile, /jobs/JOB/history, /jobs/JOB/versions, /jobs/JOB/versions/N, /jobs/JOB/compare, /workers, /workers/WORKER and /scaling below /api/v1";

pub(super) fn routes() -> Router<Shared> {
    let routes = Router::new()
        .route("/cluster", get(cluster))
        .route("/jobs", get(jobs))
        .route("/jobs/{job}", get(job))
        .route("/jobs/{job}/epochs", get(epochs))
        .route("/jobs/{job}/epochs/{epoch}/rows", get(samples::rows))
        .route(
            "/jobs/{job}/epochs/{epoch}/dead-letters",
            get(samples::dead_letters),
        )
        .route("/jobs/{job}/events", get(events_of))
        .route("/jobs/{job}/profile", get(profile))
        .route("/jobs/{job}/history", get(history))
        .route("/workers/{worker}", get(worker))
        .route("/jobs/{job}/versions", get(versions::list))
        .route("/jobs/{job}/versions/{version}", get(versions::one))
        .route("/jobs/{job}/compare", get(versions::compare))
        .route("/events", get(events))
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
    Refused(Status::from(
        CallRefusal::new(Reason::JobNotFound, "there is no such path in the API").hint(PATHS),
    ))
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
    let jobs = shared.leader_jobs.jobs(&by).await?;
    Ok(Json(
        json!({ "jobs": jobs.iter().map(names::status).collect::<Vec<_>>() }),
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

async fn profile(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
) -> Result<Json<Value>, Refused> {
    let profile = shared.leader_jobs.profile(&by, job).await?;
    Ok(Json(names::job_profile(&profile)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpanQuery {
    #[serde(default)]
    span_ms: i64,
}

type SpanParameters = Result<Query<SpanQuery>, QueryRejection>;

fn span_ms(query: SpanParameters) -> Result<i64, Refused> {
    let Query(SpanQuery { span_ms }) = query
        .map_err(|rejected| Refused::query(&rejected, "span_ms is a number of milliseconds"))?;
    Ok(span_ms)
}

async fn history(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
    query: SpanParameters,
) -> Result<Json<Value>, Refused> {
    let span_ms = span_ms(query)?;
    let request = v1::GetJobHistoryRequest { job, span_ms };
    let history = shared.leader_jobs.job_history(&by, request).await?;
    Ok(Json(names::job_history(&history)))
}

async fn worker(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(worker): Path<String>,
    query: SpanParameters,
) -> Result<Json<Value>, Refused> {
    let span_ms = span_ms(query)?;
    let request = v1::GetWorkerRequest { worker, span_ms };
    let details = shared.leader_jobs.worker(&by, request).await?;
    Ok(Json(names::worker_details(&details)))
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
    #[serde(default)]
    since_ms: i64,
    #[serde(default)]
    until_ms: i64,
}

async fn epochs(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(requested) = query.map_err(|refused| {
        let hint = "from, to, limit, since_ms and until_ms are numbers";
        Status::from(CallRefusal::new(Reason::InvalidArgument, refused.body_text()).hint(hint))
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
                since_ms: requested.since_ms,
                until_ms: requested.until_ms,
            },
        )
        .await?;
    Ok(Json(
        json!({ "epochs": response.epochs.iter().map(names::epoch).collect::<Vec<_>>() }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    since_ms: i64,
    /// Continues after a page.
    #[serde(default)]
    after: String,
    #[serde(default)]
    limit: u32,
}

type EventsParameters = Result<Query<EventsQuery>, QueryRejection>;

async fn events(
    State(shared): State<Shared>,
    by: CallerToken,
    query: EventsParameters,
) -> Result<Json<Value>, Refused> {
    page_of_events(&shared, &by, String::new(), query).await
}

async fn events_of(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
    query: EventsParameters,
) -> Result<Json<Value>, Refused> {
    page_of_events(&shared, &by, job, query).await
}

async fn page_of_events(
    shared: &Shared,
    by: &CallerToken,
    job: String,
    query: EventsParameters,
) -> Result<Json<Value>, Refused> {
    let Query(requested) = query.map_err(|refused| {
        let hint = "since_ms and limit are numbers, after is next_page_token of the page before";
        Status::from(CallRefusal::new(Reason::InvalidArgument, refused.body_text()).hint(hint))
    })?;
    let request = v1::ListEventsRequest {
        job,
        since_ms: requested.since_ms,
        page_size: requested.limit,
        page_token: requested.after,
    };
    let page = shared.leader_jobs.events(by, request).await?;
    Ok(Json(json!({
        "events": page.events.iter().map(names::event).collect::<Vec<_>>(),
        "next_page_token": page.next_page_token, "more": page.more,
        "stored": page.stored, "problem": page.problem,
    })))
}

async fn workers(State(shared): State<Shared>, by: CallerToken) -> Result<Json<Value>, Refused> {
    let workers = shared.leader_jobs.workers(&by).await?;
    Ok(Json(
        json!({ "workers": workers.iter().map(names::worker).collect::<Vec<_>>() }),
    ))
}

async fn scaling(State(shared): State<Shared>, by: CallerToken) -> Result<Json<Value>, Refused> {
    let response = shared
        .leader_jobs
        .scaling(&by, v1::GetScalingRequest::default())
        .await?;
    Ok(Json(names::scaling(&response)))
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
}
