//! Has a worker rewrite files of a table.
//!
//! Owns: the request. Does not own: when (`compactor`), reading and writing (the worker), which worker
//! (`worker_calls`).
//! Rule: an order is for one worker: if the connection breaks, the next rewriting has other names.

use crate::sink::compact::Rewriter;
use crate::worker_calls::{CallFailed, WorkerCalls};
use async_trait::async_trait;
use std::time::Duration;
use streamctl_engine::security::grant::Use;
use streamctl_proto::rewrite::{REWRITE_ACTION, RewriteOrder, RewriteOutcome};

/// Time for a rewriting. What takes longer is void by then.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(3_000);

/// Sends orders to the workers that are connected to the leader in this process.
pub struct WorkerRewriter {
    pub workers: WorkerCalls,
}

impl WorkerRewriter {
    async fn call(&self, order: &RewriteOrder) -> Result<RewriteOutcome, CallFailed> {
        let body = serde_json::to_vec(order).map_err(|error| CallFailed::of(error.to_string()))?;
        let job = &order.job.spec.name;
        let answer = self
            .workers
            .call_once(job, Use::Rewrite, REWRITE_ACTION, body, REWRITE_TIMEOUT)
            .await?;
        serde_json::from_slice(&answer).map_err(|error| CallFailed::of(error.to_string()))
    }
}

#[async_trait]
impl Rewriter for WorkerRewriter {
    async fn rewrite(&self, order: RewriteOrder) -> RewriteOutcome {
        match self.call(&order).await {
            Ok(outcome) => outcome,
            Err(CallFailed { reason, .. }) => RewriteOutcome::Failed { reason },
        }
    }
}
