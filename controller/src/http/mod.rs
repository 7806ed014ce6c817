//! What a controller shows over HTTP: the dashboard, a read-only JSON API, metrics, health.
//!
//! Owns: which path answers what. Does not own: the limits of the door (`streamctl_engine::http`),
//! what is known of jobs (`service`), the figures (`metrics`).
//! Rule: read-only. A standby answers what the leader says, and says who leads.

mod api;
mod ask;
mod page;

use crate::leading::{Leader, Who};
use crate::metrics::Metrics;
use crate::service::jobs::JobsService;
use crate::store::LeaderRecord;
pub use ask::Ask;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, extract};
use std::sync::Arc;
use streamctl_engine::clock::Clock;
use streamctl_engine::http::{Ready, health, metrics_answer};
use streamctl_engine::metrics::Sheet;
use streamctl_engine::security::Dialer;

/// What the pages are made of.
#[derive(Clone)]
pub struct Shown {
    pub me: LeaderRecord,
    pub leader: Leader,
    /// What is known of jobs.
    pub jobs: JobsService,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Figures of a worker in the same process.
    pub beside: Option<MoreFigures>,
    pub dialer: Dialer,
    /// The other controllers speak TLS, as this one does.
    pub tls: bool,
}

/// Adds figures to an answer of `/metrics`.
pub type MoreFigures = Arc<dyn Fn(&mut Sheet) + Send + Sync>;

#[derive(Clone)]
struct State {
    me: LeaderRecord,
    leader: Leader,
    ask: Ask,
    clock: Clock,
}

/// Everything that is shown, without the limits of the door.
pub fn router(shown: Shown) -> Router {
    let Shown {
        me,
        leader,
        jobs,
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
        ask: Ask::new(jobs, dialer, tls),
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

async fn figures(extract::State((metrics, leader, beside)): extract::State<Figures>) -> Response {
    let mut sheet = Sheet::default();
    metrics.sheet(&leader, &mut sheet).await;
    if let Some(beside) = beside {
        beside(&mut sheet);
    }
    metrics_answer(sheet.text())
}

/// A controller is ready as soon as it leads or knows who does: both can be asked.
pub fn ready(leader: Leader) -> Ready {
    Arc::new(move || match leader.who() {
        Who::Here(_) | Who::Elsewhere(Some(_)) => Ok(()),
        Who::Elsewhere(None) => Err("no controller leads at the moment".to_owned()),
    })
}
