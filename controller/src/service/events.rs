//! The journal over gRPC, in pages.
//!
//! Owns: tokens. Does not own: what is in the journal (`streamctl_core::journal`).
//! Rule: a token stays valid under the next leader.

use super::jobs::JobsService;
use super::not_found;
use streamctl_core::Core;
use streamctl_core::journal::Query;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{JobName, v1};
use tonic::Status;

/// Events of a response if the request has no size.
const EVENTS_DEFAULT: u32 = 500;
/// Most events of a response.
const EVENTS_MAX: u32 = 1_000;

impl JobsService {
    pub(super) async fn events(
        &self,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Status> {
        let query = query(&request)?;
        let read = move |core: &Core| {
            if let Some(job) = query.job.as_ref().filter(|job| !is_known(core, job)) {
                return Err(not_found(job, core.job_names()));
            }
            let problem = match core.journal.is_loaded() {
                true => core.journal.problem.clone(),
                false => Some("the events before this leader are being read".to_owned()),
            };
            let page = core.journal.page(&query);
            Ok(v1::ListEventsResponse {
                events: page.entries.iter().map(Into::into).collect(),
                next_page_token: page.revision.to_string(),
                more: page.more,
                stored: core.journal.is_stored(),
                problem: problem.unwrap_or_default(),
            })
        };
        self.leader.handle()?.query(read).await?
    }
}

fn query(request: &v1::ListEventsRequest) -> Result<Query, Status> {
    let job = match request.job.as_str() {
        "" => None,
        job => Some(super::jobs::name(job)?),
    };
    let token = request.page_token.as_str();
    let after = match token {
        "" => 0,
        token => token.parse().map_err(|_| {
            let text = format!("{token:?} is no page token of events");
            let hint = "use next_page_token of the response before";
            Status::from(CallRefusal::new(Reason::InvalidArgument, text).hint(hint))
        })?,
    };
    let limit = match request.page_size {
        0 => EVENTS_DEFAULT,
        size => size.min(EVENTS_MAX),
    };
    Ok(Query {
        job,
        after,
        since_ms: request.since_ms,
        limit: limit as usize,
    })
}

/// The job exists, or the journal has events of it.
fn is_known(core: &Core, job: &JobName) -> bool {
    let one = Query {
        job: Some(job.clone()),
        limit: 1,
        ..Query::default()
    };
    core.job(job).is_some() || !core.journal.page(&one).entries.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_something_else_is_refused() {
        let request = |token: &str| v1::ListEventsRequest {
            page_token: token.to_owned(),
            ..Default::default()
        };
        assert_eq!(query(&request("7")).unwrap().after, 7);
        assert_eq!(query(&request("")).unwrap().after, 0);
        let refused = query(&request("sales")).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}
