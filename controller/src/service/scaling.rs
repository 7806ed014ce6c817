//! KEDA's external scaler: the desired number of workers, for an autoscaler of pods.
//!
//! Owns: KEDA's form of the answer. Does not own: the number (`scaling`), which controller leads.
//! Rule: every controller returns the leader's answer. While the number is unknown, the answer is
//! UNAVAILABLE and never a number: an autoscaler without an answer leaves the pods as they are.

use crate::http::LeaderJobs;
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::security::gate::CallerToken;
use streamctl_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef, external_scaler_server,
};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::v1;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const METRIC: &str = "workers_desired";
/// Most streams of one controller that report whether there is work.
const STREAMS_MAX: usize = 64;
/// Time between two checks for work, for such a stream.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Serves `externalscaler.ExternalScaler`.
#[derive(Clone)]
pub struct ExternalScaler {
    leader_jobs: LeaderJobs,
    streams: Arc<Semaphore>,
}

impl ExternalScaler {
    /// Returns the leader's answers.
    pub fn new(leader_jobs: LeaderJobs) -> Self {
        Self {
            leader_jobs,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    async fn status(&self, by: &CallerToken) -> Result<v1::ScalingStatus, Status> {
        self.leader_jobs
            .scaling(
                by,
                v1::GetScalingRequest {
                    job: String::new(),
                    limit: 1,
                },
            )
            .await
    }
}

type Activity = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl external_scaler_server::ExternalScaler for ExternalScaler {
    type StreamIsActiveStream = Activity;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let status = self.status(&request.metadata().into()).await?;
        known(&status)?;
        Ok(Response::new(IsActiveResponse {
            result: status.active,
        }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Activity>, Status> {
        let many = |_| {
            Status::from(CallRefusal::new(
                Reason::TooManyCalls,
                format!("{STREAMS_MAX} such streams are open already"),
            ))
        };
        let place = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(many)?;
        let (reported, activity) = mpsc::channel(1);
        let scaler = self.clone();
        let by = CallerToken::from(request.metadata());
        tokio::spawn(async move {
            scaler.report_activity(&by, reported).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(activity))))
    }

    async fn get_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let spec = MetricSpec {
            metric_name: METRIC.into(),
            target_size: 1,
            target_size_float: 1.0,
        };
        Ok(Response::new(GetMetricSpecResponse {
            metric_specs: vec![spec],
        }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let by = CallerToken::from(request.metadata());
        let name = request.into_inner().metric_name;
        if !is_ours(&name) {
            let refusal = CallRefusal::new(
                Reason::InvalidArgument,
                format!("there is no metric {name:?}"),
            );
            return Err(Status::from(
                refusal.hint(format!("the only one is {METRIC:?}")),
            ));
        }
        let desired = known(&self.status(&by).await?)?;
        let value = MetricValue {
            metric_name: METRIC.into(),
            metric_value: desired.into(),
            metric_value_float: desired.into(),
        };
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![value],
        }))
    }
}

impl ExternalScaler {
    /// Reports activity now and at every change, until the receiver is gone. While it is unknown,
    /// nothing is sent.
    async fn report_activity(
        &self,
        by: &CallerToken,
        reported: mpsc::Sender<Result<IsActiveResponse, Status>>,
    ) {
        let mut before = None;
        while !reported.is_closed() {
            if let Ok(status) = self.status(by).await
                && known(&status).is_ok()
                && before != Some(status.active)
            {
                before = Some(status.active);
                if reported
                    .send(Ok(IsActiveResponse {
                        result: status.active,
                    }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            tokio::select! {
                () = reported.closed() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }
}

/// The number, or an error if a new leader does not know it yet.
fn known(status: &v1::ScalingStatus) -> Result<u32, Status> {
    let text =
        "a leader has just begun and measures the current workers; try again in a few seconds";
    status
        .desired
        .ok_or_else(|| Status::from(CallRefusal::new(Reason::NotReady, text)))
}

/// KEDA prepends `s0-` with the number of the trigger; newer versions remove it again.
fn is_ours(name: &str) -> bool {
    let bare = name.strip_prefix('s').and_then(|rest| rest.split_once('-'));
    let bare = bare
        .filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
        .map_or(name, |(_, bare)| bare);
    bare.is_empty() || bare == METRIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_is_known_by_its_name_with_and_without_the_number_of_its_trigger() {
        for (name, ours) in [
            ("workers_desired", true),
            ("s0-workers_desired", true),
            ("s12-workers_desired", true),
            ("", true),
            ("sx-workers_desired", false),
            ("lag", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }

    #[test]
    fn an_unknown_answer_is_unavailable() {
        assert_eq!(
            known(&v1::ScalingStatus::default()).unwrap_err().code(),
            tonic::Code::Unavailable
        );
        assert_eq!(
            known(&v1::ScalingStatus {
                desired: Some(0),
                ..Default::default()
            })
            .unwrap(),
            0
        );
    }
}
