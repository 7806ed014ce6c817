//! Whole lists, page by page.

use super::{Controller, jobs};
use crate::error::CliError;
use streamctl_proto::v1::{JobStatus, ListJobsRequest, ListWorkersRequest, WorkerStatus};

impl Controller {
    /// All jobs, in the order of their names.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn all_jobs(&self) -> Result<Vec<JobStatus>, CliError> {
        let mut all = vec![];
        let mut request = ListJobsRequest::default();
        loop {
            let call = |channel| {
                let request = request.clone();
                async move { jobs(channel).list_jobs(request).await }
            };
            let page = self.call(call).await?;
            all.extend(page.jobs);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// All workers, in the order of their names.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn all_workers(&self) -> Result<Vec<WorkerStatus>, CliError> {
        let mut all = vec![];
        let mut request = ListWorkersRequest::default();
        loop {
            let call = |channel| {
                let request = request.clone();
                async move { jobs(channel).list_workers(request).await }
            };
            let page = self.call(call).await?;
            all.extend(page.workers);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }
}
