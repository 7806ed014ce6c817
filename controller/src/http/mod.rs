//! HTTP of a controller: the dashboard, a read-only JSON API, metrics, health.
//!
//! Owns: the paths. Does not own: connection limits (`streamctl_engine::http`), the state of jobs
//! (`service`), the metrics (`metrics`).
//! Rule: read-only. A standby returns the leader's answer, and which controller leads.

mod api;
mod leader_jobs;
mod page;
mod refused;
mod samples;
mod versions;

use crate::leading::{Leader, Who};
use crate::metrics::Metrics;
use crate::sample::Sampler;
use crate::service::jobs::JobsService;
use crate::store::LeaderRecord;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, extract};
pub use leader_jobs::LeaderJobs;
use std::sync::Arc;
use streamctl_engine::clock::Clock;
use streamctl_engine::http::{Ready, health, metrics_answer};
use streamctl_engine::metrics::Sheet;
use streamctl_engine::security::Dialer;

/// The data that the pages show.
#[derive(Clone)]
pub struct Shown {
    pub me: LeaderRecord,
    pub leader: Leader,
    /// The Jobs service.
    pub jobs: JobsService,
    /// Reads rows from workers.
    pub sampler: Sampler,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Metrics of a worker in the same process.
    pub beside: Option<MoreFigures>,
    pub dialer: Dialer,
    /// The other controllers use TLS if this one does.
    pub tls: bool,
}

/// Adds metrics to an answer of `/metrics`.
pub type MoreFigures = Arc<dyn Fn(&mut Sheet) + Send + Sync>;

#[derive(Clone)]
struct State {
    me: LeaderRecord,
    leader: Leader,
    leader_jobs: LeaderJobs,
    sampler: Sampler,
    clock: Clock,
}

/// All routes, without the connection limits.
pub fn router(shown: Shown) -> Router {
    let Shown {
        me,
        leader,
        jobs,
        sampler,
        clock,
        metrics,
        beside,
        dialer,
        tls,
    } = shown;
    let ready = ready(leader.clone());
    let state = State {
        me,
        leader: leader.clone(),
        leader_jobs: LeaderJobs::new(jobs, dialer, tls),
        sampler,
        clock,
    };
    let api = api::routes().with_state(state);
    let figures = Router::new()
        .route("/metrics", get(figures))
        .with_state((metrics, leader, beside));
    page::routes()
        .merge(api)
        .merge(figures)
        .merge(health(ready))
}

type Figures = (Metrics, Leader, Option<MoreFigures>);

async fn figures(
    extract::State((metrics, leader, beside)): extract::State<Figures>,
    headers: HeaderMap,
) -> Response {
    let mut sheet = Sheet::default();
    metrics.sheet(&leader, &mut sheet).await;
    if let Some(beside) = beside {
        beside(&mut sheet);
    }
    metrics_answer(&headers, &sheet)
}

/// A controller is ready once it leads or knows which controller does: it can answer in both cases.
pub fn ready(leader: Leader) -> Ready {
    Arc::new(move || match leader.who() {
        Who::Here(_) | Who::Elsewhere(Some(_)) => Ok(()),
        Who::Elsewhere(None) => Err("no controller leads at the moment".to_owned()),
    })
}
