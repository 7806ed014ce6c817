//! Where the results of a job are: Arrow Flight without data.
//!
//! Owns: `GetFlightInfo` and `PollFlightInfo` for a job and a range of epochs. Does not own: rows (workers).
//! Rule: only published epochs are named, in order, so that a subscriber can stop and go on at `next_epoch`.

use super::jobs::told;
use crate::core::Core;
use crate::core::job::EpochFigures;
use crate::leading::Leader;
use crate::publish::Checkpoints;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use streamctl_engine::resolve::output_schema;
use streamctl_engine::storage::Storages;
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, TaskId, WorkerId};
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
    /// Where manifests are.
    pub storages: Storages,
}

/// What the core knows of a job's epochs and of who has their rows.
struct Known {
    job: ResolvedJob,
    state: String,
    head: Option<ManifestRef>,
    published: Epoch,
    /// The last epochs, oldest first.
    recent: Vec<EpochFigures>,
    /// Where the tasks that are remembered ran, if their workers are still there.
    task_addresses: BTreeMap<TaskId, String>,
    /// All Flight services: any worker can compute an epoch again.
    addresses: Vec<String>,
}

/// What the core knows of the job that the command wants.
fn known(core: &Core, name: &JobName) -> Result<Known, Status> {
    let job = core.jobs.get(name).ok_or_else(|| Status::not_found(format!("there is no job {name}")))?;
    let connected = |id: &WorkerId| core.workers.get(id).filter(|worker| worker.connected);
    let address = |(task, id): (&TaskId, &WorkerId)| Some((*task, connected(id)?.flight_address.clone()));
    let state = core.status(name, true).map(|status| status.state().as_str_name().to_owned()).unwrap_or_default();
    Ok(Known {
        job: job.resolved.clone(),
        state: state.trim_start_matches("JOB_STATE_").to_lowercase(),
        head: job.head.clone(),
        published: job.published,
        recent: job.recent.iter().cloned().collect(),
        task_addresses: job.task_workers.iter().filter_map(address).collect(),
        addresses: core.workers.values().filter(|w| w.connected).map(|w| w.flight_address.clone()).collect(),
    })
}

impl FlightLocations {
    async fn info(&self, descriptor: FlightDescriptor) -> Result<(FlightInfo, Command), Status> {
        let command = read_command(&descriptor)?;
        let name = super::jobs::name(&command.job)?;
        let mut known = self.leader.handle()?.ask(move |core| known(core, &name)).await??;
        let from = command.from.max(1);
        self.fetch_older(&mut known, from).await?;
        let limit = command.limit.unwrap_or(EPOCHS_DEFAULT).clamp(1, EPOCHS_DEFAULT);
        let last = command.to.unwrap_or(u64::MAX).min(known.published.0);
        let wanted = known.recent.iter().filter(|figures| (from..=last).contains(&figures.epoch.0)).take(limit);
        let epochs: Vec<&EpochFigures> = wanted.collect();
        let next_epoch = epochs.last().map_or(from, |figures| figures.epoch.0 + 1);
        let info = describe_epochs(&known, &epochs, next_epoch)?.with_descriptor(descriptor);
        Ok((info, Command { from: next_epoch, ..command }))
    }

    /// Reads the figures of epochs that are not in memory from their manifests.
    async fn fetch_older(&self, known: &mut Known, from: u64) -> Result<(), Status> {
        let Some(head) = known.head.as_ref().filter(|head| head.epoch.0 >= from) else { return Ok(()) };
        if known.recent.first().is_some_and(|oldest| oldest.epoch.0 <= from) {
            return Ok(());
        }
        let checkpoints = Checkpoints::of(&self.storages, &known.job);
        let read = checkpoints.read_back(head, Epoch(from - 1)).await;
        let manifests = read.map_err(|error| Status::unavailable(streamctl_proto::describe(&error)))?;
        known.recent = manifests.iter().map(|manifest| EpochFigures::of(manifest, "")).collect();
        Ok(())
    }
}

/// One endpoint per task and epoch.
fn describe_epochs(known: &Known, epochs: &[&EpochFigures], next_epoch: u64) -> Result<FlightInfo, Status> {
    let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let schema = output_schema(&known.job).map_err(|error| internal(&error))?;
    let metadata = Metadata { next_epoch, state: known.state.clone() };
    let metadata = serde_json::to_vec(&metadata).map_err(|error| internal(&error))?;
    let rows: u64 = epochs.iter().map(|figures| figures.counts.rows_out).sum();
    let mut info = FlightInfo::new()
        .try_with_schema(&schema)
        .map_err(|error| internal(&error))?
        .with_total_records(i64::try_from(rows).unwrap_or(-1))
        .with_ordered(true)
        .with_app_metadata(metadata);
    for figures in epochs {
        for task in &figures.tasks {
            let ticket = PartTicket { job: known.job.spec.name.clone(), epoch: figures.epoch.0, task: *task };
            let ticket = serde_json::to_vec(&ticket).map_err(|error| internal(&error))?;
            let epoch = serde_json::json!({ "epoch": figures.epoch.0 }).to_string();
            let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket)).with_app_metadata(epoch);
            let own = known.task_addresses.get(task);
            for address in own.map_or(known.addresses.as_slice(), std::slice::from_ref) {
                endpoint = endpoint.with_location(format!("grpc://{address}"));
            }
            info = info.with_endpoint(endpoint);
        }
    }
    Ok(info)
}

/// The command of a descriptor: JSON, or a path of the job's name and, if wanted, the first epoch.
///
/// # Errors
/// `INVALID_ARGUMENT`, with an example of what is right.
pub fn read_command(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    if let [job, rest @ ..] = descriptor.path.as_slice() {
        let from = rest.first().map_or(Ok(0), |text| text.parse());
        let from = from.map_err(|_| Status::invalid_argument("the second part of the path is an epoch's number"))?;
        return Ok(Command { job: job.clone(), from, to: None, limit: None });
    }
    serde_json::from_slice(&descriptor.cmd).map_err(|error| {
        let example = r#"{"job": "sales", "from": 1}"#;
        Status::invalid_argument(told(&format!("the command is JSON like {example}: {error}")))
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
