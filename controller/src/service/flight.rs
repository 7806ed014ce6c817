//! Where the results of a job are: Arrow Flight without data.
//!
//! Owns: `GetFlightInfo` and `PollFlightInfo` for a job and a range of epochs. Does not own: rows (workers).
//! Rule: only published epochs are named, in order, so that a subscriber can stop and go on at `next_epoch`.

use crate::core::Core;
use crate::leading::Leader;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use streamctl_engine::resolve::output_schema;
use streamctl_proto::{JobName, ResolvedJob, TaskId};
use tonic::{Request, Response, Status, Streaming};

/// Epochs named per answer when the request does not say how many.
const EPOCHS_DEFAULT: usize = 100;

/// What a subscriber wants: the JSON of a descriptor's command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Which job.
    pub job: String,
    /// The first epoch; 0 and 1 are both the first.
    #[serde(default)]
    pub from: u64,
    /// The last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// At most so many epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What comes with the endpoints, as JSON in `app_metadata`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metadata {
    /// Where to go on.
    pub next_epoch: u64,
    /// The job's state: `running`, `completed` ...
    pub state: String,
}

/// Names one task's part of one epoch: the JSON of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartTicket {
    /// Which job.
    pub job: JobName,
    /// Which epoch.
    pub epoch: u64,
    /// Whose part.
    pub task: TaskId,
}

/// Serves Flight on the controller.
pub struct FlightLocations {
    /// Who leads.
    pub leader: Leader,
}

struct Found {
    job: ResolvedJob,
    state: String,
    next_epoch: u64,
    parts: Vec<(PartTicket, Vec<String>)>,
    rows: u64,
}

/// The published epochs that the command wants, and where their rows are.
fn find(core: &Core, command: &Command) -> Result<Found, Status> {
    let name: JobName = command.job.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
    let job = core.jobs.get(&name).ok_or_else(|| Status::not_found(format!("there is no job {name}")))?;
    let from = command.from.max(1);
    let oldest = job.recent.front().map_or(1, |figures| figures.epoch.0);
    if from < oldest && job.head.is_some() && job.epoch().0 >= from {
        let reason = format!(
            "epochs before {oldest} are not kept at hand; their objects are in {}",
            job.resolved.spec.sink.path
        );
        return Err(Status::out_of_range(reason));
    }
    let limit = command.limit.unwrap_or(EPOCHS_DEFAULT).clamp(1, EPOCHS_DEFAULT);
    let last = command.to.unwrap_or(u64::MAX);
    let wanted = job.recent.iter().filter(|f| f.epoch.0 >= from && f.epoch.0 <= last && f.epoch <= job.published);
    let all: Vec<String> = core.workers.values().filter(|w| w.connected).map(|w| w.flight_address.clone()).collect();
    let (mut parts, mut next_epoch, mut rows) = (vec![], from, 0);
    for figures in wanted.take(limit) {
        next_epoch = figures.epoch.0 + 1;
        rows += figures.counts.rows_out;
        for task in &figures.tasks {
            let owner = job.task_workers.get(task).and_then(|id| core.workers.get(id)).filter(|w| w.connected);
            let at = owner.map_or_else(|| all.clone(), |worker| vec![worker.flight_address.clone()]);
            parts.push((PartTicket { job: name.clone(), epoch: figures.epoch.0, task: *task }, at));
        }
    }
    let state =
        core.status(&name, true).map(|s| s.state().as_str_name().trim_start_matches("JOB_STATE_").to_lowercase());
    Ok(Found { job: job.resolved.clone(), state: state.unwrap_or_default(), next_epoch, parts, rows })
}

impl FlightLocations {
    async fn info(&self, descriptor: FlightDescriptor) -> Result<(FlightInfo, Command), Status> {
        let command = read_command(&descriptor)?;
        let asked = command.clone();
        let found = self.leader.handle()?.ask(move |core| find(core, &asked)).await??;
        let schema = output_schema(&found.job).map_err(|error| Status::internal(error.to_string()))?;
        let metadata = Metadata { next_epoch: found.next_epoch, state: found.state };
        let metadata = serde_json::to_vec(&metadata).map_err(|e| Status::internal(e.to_string()))?;
        let mut info = FlightInfo::new()
            .try_with_schema(&schema)
            .map_err(|error| Status::internal(error.to_string()))?
            .with_descriptor(descriptor)
            .with_total_records(i64::try_from(found.rows).unwrap_or(-1))
            .with_ordered(true)
            .with_app_metadata(metadata);
        for (ticket, addresses) in found.parts {
            let epoch = serde_json::json!({ "epoch": ticket.epoch }).to_string();
            let ticket = serde_json::to_vec(&ticket).map_err(|e| Status::internal(e.to_string()))?;
            let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket)).with_app_metadata(epoch);
            for address in addresses {
                endpoint = endpoint.with_location(format!("grpc://{address}"));
            }
            info = info.with_endpoint(endpoint);
        }
        let next = Command { from: found.next_epoch, ..command };
        Ok((info, next))
    }
}

/// The command of a descriptor: JSON, or a path of the job's name and, if wanted, the first epoch.
fn read_command(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    if let [job, rest @ ..] = descriptor.path.as_slice() {
        let from = rest.first().map_or(Ok(0), |text| text.parse());
        let from = from.map_err(|_| Status::invalid_argument("the second part of the path is an epoch's number"))?;
        return Ok(Command { job: job.clone(), from, to: None, limit: None });
    }
    serde_json::from_slice(&descriptor.cmd).map_err(|error| {
        Status::invalid_argument(format!(r#"the command is JSON like {{"job": "sales", "from": 1}}: {error}"#))
    })
}

fn elsewhere<T>() -> Result<T, Status> {
    Err(Status::unimplemented("the controller has no rows: ask the workers that GetFlightInfo names"))
}

#[tonic::async_trait]
impl FlightService for FlightLocations {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let (info, _) = self.info(request.into_inner()).await?;
        Ok(Response::new(info))
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let (info, next) = self.info(request.into_inner()).await?;
        let next = serde_json::to_vec(&next).map_err(|error| Status::internal(error.to_string()))?;
        let poll = PollInfo::new().with_info(info).with_descriptor(FlightDescriptor::new_cmd(next));
        Ok(Response::new(poll))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let (info, _) = self.info(request.into_inner()).await?;
        Ok(Response::new(SchemaResult { schema: info.schema }))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let jobs = self.leader.handle()?.ask(|core| core.jobs.keys().cloned().collect::<Vec<_>>()).await?;
        let flight =
            |job: JobName| Ok(FlightInfo::new().with_descriptor(FlightDescriptor::new_path(vec![job.to_string()])));
        Ok(Response::new(Box::pin(futures::stream::iter(jobs.into_iter().map(flight)))))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("no handshake is needed"))
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        elsewhere()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        elsewhere()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        elsewhere()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        elsewhere()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }
}
