//! Serves the rows of committed epochs over Arrow Flight.
//!
//! Owns: `DoGet`. Does not own: which epochs there are and where (the controller's `GetFlightInfo`).
//! Rule: a ticket names a job, an epoch and a task, nothing else; what it resolves to comes from the controller.

use crate::replay::replay;
use crate::results::KeptRows;
use crate::session::{Settings, World, leader_named};
use crate::source::ReadError;
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::{JobName, MESSAGE_BYTES_MAX, Manifest, ResolvedJob, TaskId, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status, Streaming};

/// Time in which a controller must say what an epoch is.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Leaders that are asked because a controller named them.
const REDIRECTS_MAX: usize = 3;
/// The largest ticket.
const TICKET_BYTES_MAX: usize = 1_024;

/// Names one task's part of one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartTicket {
    /// Which job.
    pub job: JobName,
    /// Which epoch.
    pub epoch: u64,
    /// Whose part.
    pub task: TaskId,
}

impl PartTicket {
    /// Reads a ticket that the controller's `GetFlightInfo` gave.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for anything else.
    pub fn read(bytes: &[u8]) -> Result<Self, Status> {
        let bad = || Status::invalid_argument("this is not a ticket of GetFlightInfo");
        if bytes.len() > TICKET_BYTES_MAX {
            return Err(bad());
        }
        serde_json::from_slice(bytes).map_err(|_| bad())
    }
}

/// Serves Flight on a worker.
pub struct FlightRows {
    /// Where controllers answer.
    pub settings: Settings,
    /// What rows are computed with.
    pub world: World,
}

impl FlightRows {
    /// The manifest of an epoch and its job, from whichever controller leads.
    async fn epoch(&self, ticket: &PartTicket) -> Result<(Manifest, ResolvedJob), Status> {
        let mut last = Status::unavailable("no controller answers");
        let mut addresses = self.settings.controllers.clone();
        let mut redirects = REDIRECTS_MAX;
        while let Some(address) = addresses.pop() {
            match ask(&address, ticket).await {
                Ok(found) => {
                    let bad = |e: serde_json::Error| Status::internal(e.to_string());
                    let manifest = serde_json::from_str(&found.manifest_json).map_err(bad)?;
                    return Ok((manifest, serde_json::from_str(&found.job_json).map_err(bad)?));
                }
                Err(status) if elsewhere(&status) => {
                    if let Some(leader) = leader_named(&status).filter(|_| redirects > 0) {
                        redirects -= 1;
                        addresses.push(format!("http://{leader}"));
                    }
                    last = status;
                }
                Err(status) => return Err(status),
            }
        }
        Err(last)
    }
}

/// Another controller may know: this one does not answer in time, or does not lead.
fn elsewhere(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::FailedPrecondition | Code::DeadlineExceeded | Code::Cancelled)
}

async fn ask(address: &str, ticket: &PartTicket) -> Result<v1::GetEpochResponse, Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(unavailable)?;
    let channel = endpoint.connect_timeout(LOOKUP_TIMEOUT).timeout(LOOKUP_TIMEOUT).connect().await;
    let mut client = JobsClient::new(channel.map_err(unavailable)?).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = v1::GetEpochRequest { job: ticket.job.to_string(), epoch: ticket.epoch };
    client.get_epoch(request).await.map(Response::into_inner)
}

fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Response<BoxStream<'static, Result<FlightData, Status>>> {
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    Response::new(encoder.map_err(Status::from).boxed())
}

fn failed(error: &TaskError) -> Status {
    match error {
        TaskError::Read(ReadError::DataLoss { .. }) => Status::data_loss(error.describe()),
        _ => Status::internal(error.describe()),
    }
}

fn not_here<T>() -> Result<T, Status> {
    Err(Status::unimplemented("a worker only serves DoGet: ask the controller where the rows are"))
}

#[tonic::async_trait]
impl FlightService for FlightRows {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = PartTicket::read(&request.into_inner().ticket)?;
        let (manifest, job) = self.epoch(&ticket).await?;
        if let Some(KeptRows { schema, batches }) = self.world.results.get(&ticket.job, manifest.window, ticket.task) {
            let rows: Vec<_> = batches.iter().cloned().map(Ok).collect();
            return Ok(encoded(schema, futures::stream::iter(rows)));
        }
        let World { storages, sources, compute, .. } = self.world.clone();
        let context = Arc::new(Context::new(job, storages, sources, self.settings.task));
        let replayed = replay(context, &compute, manifest, ticket.task).await.map_err(|error| failed(&error))?;
        let Some(replayed) = replayed else {
            return Err(Status::not_found(format!("epoch {} has no part of task {}", ticket.epoch, ticket.task)));
        };
        let rows = ReceiverStream::new(replayed.batches);
        Ok(encoded(replayed.schema, rows.map_err(|error| FlightError::Tonic(Box::new(failed(&error))))))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        not_here()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_here()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_here()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_here()
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("no handshake is needed"))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        not_here()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_here()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_here()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }
}

#[cfg(test)]
mod tests;
