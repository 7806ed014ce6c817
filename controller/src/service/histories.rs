//! What jobs and workers did over time, over gRPC.
//!
//! Does not own: the points (`streamctl_core`).
//! Rule: a response is at most a day in minutes, or an hour in tens of seconds.

use super::jobs::{JobsService, name};
use super::not_found;
use streamctl_core::HISTORY_SPAN_MS_MAX;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{WorkerId, v1};
use tonic::Status;

/// The span of time of a request without one.
const SPAN_MS_DEFAULT: i64 = 3_600_000;

fn span_ms(requested: i64) -> Result<i64, Status> {
    match requested {
        0 => Ok(SPAN_MS_DEFAULT),
        1..=HISTORY_SPAN_MS_MAX => Ok(requested),
        _ => Err(Status::from(
            CallRefusal::new(
                Reason::InvalidArgument,
                format!("span_ms {requested} is not between 1 and {HISTORY_SPAN_MS_MAX}"),
            )
            .hint("a day is kept"),
        )),
    }
}

impl JobsService {
    pub(super) async fn job_history(
        &self,
        request: v1::GetJobHistoryRequest,
    ) -> Result<v1::JobHistory, Status> {
        let job = name(&request.job)?;
        let span_ms = span_ms(request.span_ms)?;
        let handle = self.leader.handle()?;
        let found = handle.query(move |core| {
            let history = core.job_history(&job, span_ms);
            history.ok_or_else(|| not_found(&job, core.job_names()))
        });
        found.await?
    }

    pub(super) async fn worker(
        &self,
        request: v1::GetWorkerRequest,
    ) -> Result<v1::WorkerDetails, Status> {
        let span_ms = span_ms(request.span_ms)?;
        let worker = WorkerId::new(request.worker);
        let missing = Status::from(
            CallRefusal::new(
                Reason::WorkerNotFound,
                format!("no worker {worker} is connected"),
            )
            .hint("`streamctl workers` lists those there are"),
        );
        let handle = self.leader.handle()?;
        let found = handle.query(move |core| core.worker_details(&worker, span_ms));
        found.await?.ok_or(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_an_hour_or_as_requested_and_no_more_than_a_day() {
        assert_eq!(span_ms(0).unwrap(), SPAN_MS_DEFAULT);
        assert_eq!(span_ms(HISTORY_SPAN_MS_MAX).unwrap(), HISTORY_SPAN_MS_MAX);
        for wrong in [-1, HISTORY_SPAN_MS_MAX + 1] {
            let refused = span_ms(wrong).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
    }
}
