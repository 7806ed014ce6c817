//! How shards and windows of a job spread over tasks, as text.

use std::time::Duration;
use streamctl_core::assign::TASKS_PER_WORKER_MAX;
use streamctl_core::job::WINDOWS_AHEAD_MAX;
use streamctl_proto::JobSpec;
use streamctl_proto::spec::summary::duration;

/// `whole_window`: whether the query needs whole windows; only a plan shows that.
pub(super) fn text(spec: &JobSpec, whole_window: Option<bool>, shards: Option<usize>) -> String {
    let shards = match shards {
        Some(shards) => spec.source.kind.describe_shards(shards),
        None => "an unknown number of shards".to_owned(),
    };
    let tasks = match whole_window {
        Some(true) => format!("{shards}, all read by one task: the query needs whole windows"),
        Some(false) if takes_windows(spec) => {
            format!("{shards}, all read by one task: the function takes whole windows")
        }
        Some(false) => {
            format!(
                "{shards}, over all workers, in at most {TASKS_PER_WORKER_MAX} tasks on each: \
                 rows are handled alone"
            )
        }
        None => {
            format!("{shards}; whether one task must read them all is not known without a plan")
        }
    };
    let size = duration(Duration::from_millis(spec.window.ms().unsigned_abs()));
    format!(
        "{tasks}\nwindows of {size} by arrival time; one is committed when every shard is past it, \
         and at most {WINDOWS_AHEAD_MAX} are open at a time"
    )
}

/// Whether a call of the job's function takes all rows of a window.
pub(super) fn takes_windows(spec: &JobSpec) -> bool {
    let function = spec.function.as_ref();
    function.is_some_and(|function| function.per.needs_whole_window())
}
