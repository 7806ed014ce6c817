//! `explain` and `preview` in this process, with the user's own credentials.
//!
//! Owns: putting the parts together. Does not own: what a cluster does too: resolving (the
//! controller's code), reading and computing (the worker's).
//! Rule: nothing is started or written.

use super::functions;
use crate::error::CliError;
use streamctl_controller::explain::explain;
use streamctl_controller::preview::order;
use streamctl_controller::shards::SourceShards;
use streamctl_engine::clock::system_clock;
use streamctl_engine::resolve::{ResolveError, World};
use streamctl_proto::JobSpec;
use streamctl_proto::v1::{ExplainResponse, PreviewJob, PreviewRequest, PreviewResponse};
use streamctl_worker::compute::Compute;
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::preview::{Resources, preview};
use streamctl_worker::source::Sources;

/// What a job would do. `text` is its job file; `world` has the code of its function.
pub async fn explain_here(world: &World, spec: &JobSpec, text: &str) -> ExplainResponse {
    explain(world, &lister(world), spec, text).await
}

/// What is needed to preview a job.
///
/// # Errors
/// Every problem of the file, or what did not respond.
pub async fn order_here(
    world: &World,
    spec: JobSpec,
    request: PreviewRequest,
) -> Result<PreviewJob, ResolveError> {
    order(world, &lister(world), spec, request, system_clock()()).await
}

/// Reads some records and runs the query on them.
///
/// # Errors
/// The source cannot be read, or the query cannot be run.
pub async fn preview_here(world: World, order: PreviewJob) -> Result<PreviewResponse, CliError> {
    let resources = Resources {
        sources: Sources::new(world.aws, world.storages.clone()),
        storages: world.storages,
        budget: MemoryBudget::default(),
        compute: Compute::from(tokio::runtime::Handle::current()),
        functions: functions::here(),
    };
    let previewed = preview(resources, order).await;
    previewed.map_err(|error| CliError::Local {
        message: error.to_string(),
        hint: error.hint(),
    })
}

fn lister(world: &World) -> SourceShards {
    SourceShards::new(world.aws.clone(), world.storages.clone()).local()
}
