//! Checks everything outside that a job depends on, in one pass.
//!
//! Owns: listing the source's shards together with the rest. Does not own: any check
//! (`engine::resolve`).
//! Rule: all problems are returned at once, those of the source with the others.

use super::ShardLister;
use streamctl_engine::resolve::World;
use streamctl_engine::resolve::explore::{Explored, explore};
use streamctl_engine::source::{ListError, Listing, connector};
use streamctl_proto::JobSpec;
use streamctl_proto::count::count;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::resolved::StreamFacts;
use streamctl_proto::spec::{OnDataLoss, Problem, StartingPosition};

const HOUR_MS: i64 = 3_600_000;

/// Checks columns, lookups, shards and, if `places` is set, the output locations. Returns the
/// shards if they could be listed.
pub async fn explore_all(
    world: &World,
    lister: &dyn ShardLister,
    spec: &JobSpec,
    places: bool,
) -> (Explored, Option<Listing>) {
    let mut found = explore(world, spec, places).await;
    if !world.foreign.check_roles(spec).is_empty() {
        // That is reported, and no request is sent by a refused role.
        return (found, None);
    }
    if spec.source.kind.reads_stream() && found.stream.is_none() {
        // The identity of the stream is unknown, which is already reported.
        return (found, None);
    }
    let refused = found
        .stream
        .as_ref()
        .map(|stream| world.foreign.check(stream))
        .unwrap_or_default();
    if !refused.is_empty() {
        // No request is sent to a refused stream.
        found.problems.extend(refused);
        return (found, None);
    }
    let listing = match lister.list(&spec.source.kind, found.stream.as_ref()).await {
        Ok(listing) => {
            let problem = connector(&spec.source.kind).check_listing(&listing);
            found.problems.extend(problem);
            match &listing.stream {
                Ok(Some(stream)) => {
                    found
                        .problems
                        .extend(expired_start(spec, stream, listing.service_ms))
                }
                Ok(None) => {}
                Err(ListError::Refused { .. } | ListError::Unavailable { .. }) if !places => {}
                Err(ListError::Refused { reason, hint, .. }) => {
                    found
                        .problems
                        .push(Problem::new("source", reason.clone(), Some(hint.clone())));
                }
                Err(error @ ListError::Unavailable { .. }) => {
                    found.unavailable.push(("source".into(), error.to_string()));
                }
            }
            Some(listing)
        }
        Err(ListError::Refused { reason, hint, .. }) => {
            found
                .problems
                .push(Problem::new("source", reason, Some(hint)));
            None
        }
        Err(error @ ListError::Unavailable { .. }) => {
            found.unavailable.push(("source".into(), error.to_string()));
            None
        }
    };
    (found, listing)
}

/// A job that starts in the past needs records that the stream may no longer have.
fn expired_start(spec: &JobSpec, stream: &StreamFacts, service_ms: Option<i64>) -> Option<Problem> {
    let StartingPosition::Timestamp(start_ms) = spec.source.starting_position else {
        return None;
    };
    let horizon_ms = service_ms?.saturating_sub(stream.retention_ms);
    let from_ms = start_ms.max(stream.identity.created_ms);
    if spec.source.on_data_loss == OnDataLoss::Continue || from_ms >= horizon_ms {
        return None;
    }
    let gap = TimeGap {
        from_ms,
        to_ms: horizon_ms,
    };
    let hours = count(stream.retention_ms / HOUR_MS, "hour");
    let problem = format!("the stream keeps records for {hours}: what arrived {gap} has expired");
    let hint = "start later, or at \"trim_horizon\"; or set on_data_loss = \"continue\" to begin at the oldest record and record the gap";
    Some(Problem::new(
        "source.starting_position",
        problem,
        Some(hint.into()),
    ))
}
