//! All that a job needs of the world, asked in one go.
//!
//! Owns: that the source's shards are asked for with the rest. Does not own: any check (`engine::resolve`).
//! Rule: what is wrong with the source stands beside what is wrong with the rest: all problems are told at once.

use super::{ListError, ListedShard, ShardLister};
use streamctl_engine::resolve::World;
use streamctl_engine::resolve::explore::{Explored, explore};
use streamctl_proto::JobSpec;
use streamctl_proto::spec::{Problem, SourceKind};

/// Asks for columns, lookups, shards and, where `places` says so, the written places. The shards are there when they
/// could be listed.
pub async fn look(
    world: &World,
    lister: &dyn ShardLister,
    spec: &JobSpec,
    places: bool,
) -> (Explored, Option<Vec<ListedShard>>) {
    let mut found = explore(world, spec, places).await;
    if matches!(spec.source.kind, SourceKind::Kinesis { .. }) && found.stream.is_none() {
        // Which stream it is was not to be had, and that is told already.
        return (found, None);
    }
    let shards = match lister.list(&spec.source.kind, found.stream.as_ref()).await {
        Ok(shards) => {
            if let SourceKind::Files { path, .. } = &spec.source.kind
                && shards.is_empty()
            {
                let hint =
                    "write the files first, or mend the path: a job reads those that are there when it is started";
                let problem = Problem::new("source.path", format!("there is no file below {path}"), Some(hint.into()));
                found.problems.push(problem);
            }
            Some(shards)
        }
        Err(ListError::Refused { reason, hint }) => {
            found.problems.push(Problem::new("source", reason, Some(hint)));
            None
        }
        Err(error @ ListError::Unavailable { .. }) => {
            found.unavailable.push(("source".into(), error.to_string()));
            None
        }
    };
    (found, shards)
}
