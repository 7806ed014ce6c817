//! The versions of a job over HTTP: their list, their job files, what one changed of another.
//!
//! Owns: paths' parameters. Does not own: the limits (`service::spec`), the names of the fields.
//! Rule: as for all of the API, GET only and bounded.

use super::State as Shared;
use super::refused::Refused;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use streamctl_engine::security::gate::CallerToken;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{json as names, v1};
use tonic::Status;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default)]
    before: u64,
    #[serde(default)]
    limit: u32,
}

pub async fn list(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let hint = "before and limit are numbers";
    let Query(ListQuery { before, limit }) =
        query.map_err(|rejected| Refused::query(&rejected, hint))?;
    let request = v1::ListJobVersionsRequest { job, before, limit };
    let page = shared.leader_jobs.job_versions(&by, request).await?;
    Ok(Json(json!({
        "versions": page.versions.iter().map(names::job_version).collect::<Vec<_>>(),
        "next_before": page.next_before,
    })))
}

pub async fn one(
    State(shared): State<Shared>,
    by: CallerToken,
    path: Result<Path<(String, u64)>, PathRejection>,
) -> Result<Json<Value>, Refused> {
    let Path((job, version)) = path.map_err(|rejected| {
        let refusal = CallRefusal::new(Reason::InvalidArgument, rejected.body_text());
        Status::from(refusal.hint("a version is a number"))
    })?;
    let request = v1::GetJobSpecRequest {
        job,
        version: Some(version),
    };
    let found = shared.leader_jobs.job_spec(&by, request).await?;
    Ok(Json(names::job_spec(&found)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareQuery {
    from: u64,
    to: Option<u64>,
}

pub async fn compare(
    State(shared): State<Shared>,
    by: CallerToken,
    Path(job): Path<String>,
    query: Result<Query<CompareQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let hint = "from and to are versions, such as from=3&to=4";
    let Query(CompareQuery { from, to }) =
        query.map_err(|rejected| Refused::query(&rejected, hint))?;
    let request = v1::CompareJobVersionsRequest { job, from, to };
    let compared = shared.leader_jobs.compared_versions(&by, request).await?;
    Ok(Json(names::compared_versions(&compared)))
}
