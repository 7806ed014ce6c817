//! The gRPC services: convert in, make one call, convert out.
//!
//! Rule: no decision is taken here.

mod change;
mod delete;
pub mod flight;
pub mod jobs;
mod replays;
pub mod scaling;
pub mod submit;
pub mod workers;

use crate::handle::Handle;
use std::time::Duration;
use streamctl_proto::JobName;
use tonic::Status;

/// Time in which the store must take what a user wants of a job.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// There is no job of this name. The text brings its hint, so that no client adds another one.
pub(crate) fn not_found(job: &JobName) -> Status {
    Status::not_found(format!("there is no job {job}\n  hint: `streamctl list` shows those there are"))
}

/// Waits until the store holds what is wanted of a job: what was answered survives this leader.
async fn recorded(mut handle: Handle, job: &JobName) -> Result<(), Status> {
    let stored = async {
        loop {
            let asked = job.clone();
            if handle.ask(move |core| core.jobs.get(&asked).is_none_or(|job| !job.recording)).await? {
                return Ok(());
            }
            handle.changed().await?;
        }
    };
    let late = |_| {
        Status::unavailable(format!(
            "the controller does it, but its store did not take it within {} s: the next leader would not know of it\n  \
             hint: see `streamctl status {job}`, and ask again when the store answers",
            RECORD_TIMEOUT.as_secs()
        ))
    };
    tokio::time::timeout(RECORD_TIMEOUT, stored).await.map_err(late)?
}
