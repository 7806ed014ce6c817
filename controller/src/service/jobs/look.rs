//! `Explain` and `Preview`: what a job file would do, with this cluster's catalog and rights.
//!
//! Owns: their limits. Does not own: what is explained (`explain`), what a worker gets (`preview`).
//! Rule: the job file of a caller is handled as in a submit: it is planned on threads of its own,
//! and a caller has only so many of these calls at once.

use super::super::submit::{code_of, parse, refused, with_code};
use super::JobsService;
use crate::preview::order;
use crate::worker_calls::CallFailed;
use crate::{explain::explain, worker_calls::WorkerCalls};
use prost::Message as _;
use std::time::Duration;
use streamctl_engine::security::grant::Use;
use streamctl_engine::security::{Caller, CountedFor, Turn, Turns};
use streamctl_proto::preview::{PREVIEW_ACTION, PREVIEW_TIMEOUT_MAX};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{MESSAGE_BYTES_MAX, v1};
use tonic::{Extensions, Status};

/// Calls of one caller at once.
pub const LOOKS_PER_CALLER_MAX: usize = 4;
/// Time to resolve a job: its function may need an environment first.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(300);
/// Time of a worker for a preview besides that for which it waits for records.
const WORK_TIMEOUT: Duration = Duration::from_secs(120);
/// Time of a preview: more than all of its parts.
pub(super) const PREVIEW_TIMEOUT: Duration = Duration::from_secs(1_200);

/// What the two calls need besides a submit's parts.
#[derive(Clone)]
pub struct Looks {
    pub workers: WorkerCalls,
    turns: Turns,
}

impl Looks {
    pub fn new(workers: WorkerCalls) -> Self {
        Self {
            workers,
            turns: Turns::new(LOOKS_PER_CALLER_MAX),
        }
    }

    /// One more call of this caller, until the turn is dropped.
    pub(super) fn turn(&self, extensions: &Extensions) -> Result<Turn, Status> {
        let caller = extensions
            .get::<CountedFor>()
            .unwrap_or(&CountedFor::Process);
        self.turns.take(caller).ok_or_else(|| {
            Status::from(
                CallRefusal::new(
                    Reason::TooManyCalls,
                    format!(
                        "{LOOKS_PER_CALLER_MAX} job files of this caller are being \
                 explained or previewed already"
                    ),
                )
                .hint("send one after the other"),
            )
        })
    }
}

impl JobsService {
    pub(super) async fn explained(
        &self,
        caller: &Caller,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, Status> {
        let spec = parse(&request.spec_toml, &request.base_dir)?;
        let code = code_of(&spec, request.function_code)?;
        let submitter = self.submitter.for_caller(caller);
        let world = with_code(&submitter.world, code);
        let explained = explain(&world, &*submitter.lister, &spec, &request.spec_toml);
        let explained = in_time(RESOLVE_TIMEOUT, explained).await?;
        let bytes = explained.encoded_len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(Status::from(
                CallRefusal::new(
                    Reason::TooLarge,
                    format!(
                        "what there is to explain has {bytes} bytes; at most \
                 {MESSAGE_BYTES_MAX} are sent"
                    ),
                )
                .hint("explain the file where you are: --local"),
            ));
        }
        Ok(explained)
    }

    pub(super) async fn previewed(
        &self,
        caller: &Caller,
        request: v1::PreviewRequest,
    ) -> Result<v1::PreviewResponse, Status> {
        let text = request.spec_toml.clone();
        let spec = parse(&text, &request.base_dir)?;
        let name = spec.name.clone();
        let code = code_of(&spec, request.function_code.clone())?;
        let submitter = self.submitter.for_caller(caller);
        let world = with_code(&submitter.world, code);
        let now_ms = (submitter.clock)();
        let resolved = order(&world, &*submitter.lister, spec, request, now_ms);
        let order = in_time(RESOLVE_TIMEOUT, resolved)
            .await?
            .map_err(|error| refused(error, &text))?;
        let waited = Duration::from_millis(order.timeout_ms.into()).min(PREVIEW_TIMEOUT_MAX);
        let called = self.looks.workers.call_once(
            &name,
            Use::Preview,
            PREVIEW_ACTION,
            order.encode_to_vec(),
            waited + WORK_TIMEOUT,
        );
        let body = called.await.map_err(|CallFailed { reason, hint }| {
            let hint = match hint {
                "" => "see the log of that worker",
                hint => hint,
            };
            Status::from(CallRefusal::new(Reason::WorkerUnavailable, reason).hint(hint))
        })?;
        let previewed = v1::PreviewedJob::decode(body).map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::Internal,
                format!("a worker's answer: {error}"),
            ))
        })?;
        match previewed.outcome {
            Some(v1::previewed_job::Outcome::Preview(preview)) => Ok(preview),
            Some(v1::previewed_job::Outcome::Failed(failed)) => {
                let refusal = CallRefusal::new(Reason::WorkFailed, failed.message);
                Err(Status::from(refusal.hint(failed.hint)))
            }
            None => Err(Status::from(CallRefusal::new(
                Reason::Internal,
                "a worker's answer is empty",
            ))),
        }
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Status> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        Status::from(
            CallRefusal::new(
                Reason::ServiceUnavailable,
                format!("the job is not resolved within {} s", limit.as_secs()),
            )
            .hint("see which of its services answers late"),
        )
    })
}
