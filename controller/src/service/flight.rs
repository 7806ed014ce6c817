//! Locations of a job's results: Arrow Flight without data.
//!
//! Owns: `GetFlightInfo` and `PollFlightInfo` for a job and a range of epochs. Does not own: rows
//! (workers).
//! Rule: only published epochs are named, in order, unless the caller requests committed ones too.
//! A subscriber can stop and continue at `next_epoch`. One answer has one schema: it ends before
//! the first epoch of another version of the job.

use super::{no_epoch, not_found};
use crate::admission::Admission;
use crate::history::{History, Kept};
use crate::leading::Leader;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use streamctl_core::Core;
use streamctl_core::job::EpochFigures;
use streamctl_engine::dead_letters::dead_letter_schema;
use streamctl_engine::resolve::output_schema;
use streamctl_engine::security::dial::flight_location;
use streamctl_engine::security::grant::Use;
use streamctl_engine::security::token::Proof;
use streamctl_proto::flight::{
    EndpointMetadata, EpochsCommand, EpochsMetadata, PartTicket, Requested,
};
use streamctl_proto::json::state;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{
    Epoch, JobName, JobVersion, Manifest, ManifestRef, ResolvedJob, TaskId, WorkerId,
};
use tonic::{Request, Response, Status, Streaming};

/// Epochs per answer if the request does not set a limit.
const EPOCHS_DEFAULT: usize = 100;

/// Serves Flight on the controller.
pub struct FlightLocations {
    pub leader: Leader,
    pub history: History,
    /// Grants for callers to present to workers.
    pub admission: Admission,
}

/// The core's state of a job's epochs and of the workers that have their rows.
struct Known {
    job: ResolvedJob,
    state: String,
    kept: Option<Kept>,
    published: Epoch,
    /// The last epochs, oldest first.
    recent: Vec<EpochFigures>,
    /// The Flight addresses of the workers of the remembered tasks, if they still have a session.
    task_addresses: BTreeMap<TaskId, String>,
    /// All Flight services: any worker can compute an epoch again.
    addresses: Vec<String>,
}

/// The core's state of the job in the command.
fn known(core: &Core, name: &JobName) -> Result<Known, Status> {
    let job = core
        .job(name)
        .ok_or_else(|| not_found(name, core.job_names()))?;
    let connected = |id: &WorkerId| core.workers.get(id).filter(|worker| worker.connected);
    let address =
        |(task, id): (&TaskId, &WorkerId)| Some((*task, connected(id)?.flight_address.clone()));
    let status = core.status(name, true).unwrap_or_default();
    Ok(Known {
        job: job.resolved().clone(),
        state: state(&status).to_owned(),
        kept: Kept::of(job),
        published: job.published(),
        recent: job.recent().cloned().collect(),
        task_addresses: job.task_workers().iter().filter_map(address).collect(),
        addresses: core
            .workers
            .values()
            .filter(|w| w.connected)
            .map(|w| w.flight_address.clone())
            .collect(),
    })
}

impl FlightLocations {
    async fn info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<(FlightInfo, EpochsCommand), Status> {
        let proof = request.extensions().get::<Proof>().cloned();
        let descriptor = request.into_inner();
        let command = read_command(&descriptor)?;
        let name = super::jobs::name(&command.job)?;
        let reread = command.reread;
        let mut known = self
            .leader
            .handle()?
            .query(move |core| known(core, &name))
            .await??;
        let first = known.kept.as_ref().map_or(Epoch(1), |kept| kept.first);
        let from = if command.from == 0 {
            first.0
        } else {
            command.from
        };
        let limit = command
            .limit
            .unwrap_or(EPOCHS_DEFAULT)
            .clamp(1, EPOCHS_DEFAULT) as u64;
        let committed = known.kept.as_ref().map_or(Epoch(0), |kept| kept.head.epoch);
        if from < first.0 {
            return Err(no_epoch(&known.job.spec.name, from, first, committed));
        }
        let there = if command.committed {
            committed
        } else {
            known.published
        };
        let last = command
            .to
            .unwrap_or(u64::MAX)
            .min(there.0)
            .min(from.saturating_add(limit - 1));
        self.fetch_older(&mut known, from..=last).await?;
        let (made_by, epochs) = of_one_version(&known, from..=last);
        let made_by = self.history.version(&known.job, made_by).await;
        let made_by = made_by.map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::CheckpointUnavailable,
                streamctl_proto::describe(&error),
            ))
        })?;
        let next_epoch = epochs.last().map_or(from, |figures| figures.epoch.0 + 1);
        if known.addresses.is_empty() && !epochs.is_empty() {
            let hint = "start one: workers have the rows, or compute them again";
            return Err(Status::from(
                CallRefusal::new(Reason::WorkerUnavailable, "no worker is connected").hint(hint),
            ));
        }
        let info = match command.dead_letters {
            true => describe_dead_letters(&known, &epochs)?,
            false => describe_epochs(&known, &made_by, &epochs, reread)?,
        };
        // Without a proof, authentication was not required, and a grant would outlive the open
        // access.
        let grant = proof.and_then(|proof| {
            self.admission
                .grant(&known.job.spec.name, Use::Read, Some(&proof))
        });
        let grant = grant.map(|grant| grant.reveal().to_owned());
        let metadata = EpochsMetadata {
            next_epoch,
            state: known.state.clone(),
            grant,
        };
        let info = info.with_app_metadata(serde_json::to_vec(&metadata).map_err(internal)?);
        let info = info.with_descriptor(descriptor);
        Ok((
            info,
            EpochsCommand {
                from: next_epoch,
                ..command
            },
        ))
    }

    /// Reads the figures of epochs that are not in memory from their manifests.
    async fn fetch_older(
        &self,
        known: &mut Known,
        epochs: RangeInclusive<u64>,
    ) -> Result<(), Status> {
        let Some(kept) = known.kept.as_ref().filter(|_| !epochs.is_empty()) else {
            return Ok(());
        };
        if known
            .recent
            .first()
            .is_some_and(|oldest| oldest.epoch.0 <= *epochs.start())
        {
            return Ok(());
        }
        let figures = |_: &ManifestRef, manifest: Manifest| EpochFigures::of(&manifest, "");
        let read = self.history.walk(&known.job, kept, epochs, figures).await;
        known.recent = read.map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::CheckpointUnavailable,
                streamctl_proto::describe(&error),
            ))
        })?;
        Ok(())
    }
}

/// Those of these epochs that belong to the version of the first one, in order.
fn of_one_version(known: &Known, epochs: RangeInclusive<u64>) -> (JobVersion, Vec<&EpochFigures>) {
    let requested = || {
        known
            .recent
            .iter()
            .filter(|figures| epochs.contains(&figures.epoch.0))
    };
    let made_by = requested()
        .next()
        .map_or(known.job.job_version, |figures| figures.job_version);
    (
        made_by,
        requested()
            .take_while(|figures| figures.job_version == made_by)
            .collect(),
    )
}

/// The name and the result's columns of each job.
fn listed(core: &Core) -> Vec<(JobName, Result<SchemaRef, ArrowError>)> {
    let names = core.job_names().cloned();
    let schema = |name: JobName| {
        let schema = output_schema(core.job(&name)?.resolved());
        Some((name, schema))
    };
    names.filter_map(schema).collect()
}

/// A job without endpoints: `GetFlightInfo` names these.
fn flight((job, schema): &(JobName, Result<SchemaRef, ArrowError>)) -> Result<FlightInfo, Status> {
    let info = match schema {
        Ok(schema) => FlightInfo::new()
            .try_with_schema(schema)
            .map_err(internal)?,
        // A job whose stored columns cannot be read does not hide the others.
        Err(_) => FlightInfo::new(),
    };
    Ok(info.with_descriptor(FlightDescriptor::new_path(vec![job.to_string()])))
}

/// One endpoint per task and epoch, all of one version of the job.
fn describe_epochs(
    known: &Known,
    made_by: &ResolvedJob,
    epochs: &[&EpochFigures],
    reread: bool,
) -> Result<FlightInfo, Status> {
    let schema = output_schema(made_by).map_err(internal)?;
    let rows = epochs.iter().map(|figures| figures.counts.rows_out).sum();
    let mut info = describe(&schema, rows)?;
    for figures in epochs {
        for task in &figures.tasks {
            let own = known.task_addresses.get(task);
            let addresses = own.map_or(known.addresses.as_slice(), std::slice::from_ref);
            let what = Requested::Part(*task);
            info = info.with_endpoint(endpoint(known, figures.epoch, what, reread, addresses)?);
        }
    }
    Ok(info)
}

/// One endpoint per epoch that has dead letters or rejected rows; any worker can read them.
fn describe_dead_letters(known: &Known, epochs: &[&EpochFigures]) -> Result<FlightInfo, Status> {
    let letters_of = |figures: &EpochFigures| {
        let counts = &figures.counts;
        counts.rows_dead.saturating_add(counts.rows_rejected)
    };
    let letters = epochs.iter().map(|figures| letters_of(figures)).sum();
    let mut info = describe(&dead_letter_schema(), letters)?;
    for figures in epochs.iter().filter(|figures| letters_of(figures) > 0) {
        let what = Requested::DeadLetters;
        info = info.with_endpoint(endpoint(
            known,
            figures.epoch,
            what,
            false,
            &known.addresses,
        )?);
    }
    Ok(info)
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::from(CallRefusal::new(Reason::Internal, error.to_string()))
}

/// Schema and rows, without endpoints.
fn describe(schema: &Schema, rows: u64) -> Result<FlightInfo, Status> {
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(internal)?;
    Ok(info
        .with_total_records(i64::try_from(rows).unwrap_or(-1))
        .with_ordered(true))
}

/// The location of one part of an epoch, or of its dead letters.
fn endpoint(
    known: &Known,
    epoch: Epoch,
    what: Requested,
    reread: bool,
    addresses: &[String],
) -> Result<FlightEndpoint, Status> {
    let job = known.job.spec.name.clone();
    let task = match what {
        Requested::Part(task) => Some(task),
        Requested::DeadLetters => None,
    };
    let ticket = PartTicket {
        job,
        epoch: epoch.0,
        task,
        dead_letters: task.is_none(),
        reread,
    };
    let ticket = Ticket::new(serde_json::to_vec(&ticket).map_err(internal)?);
    let metadata = EndpointMetadata { epoch: epoch.0 };
    let metadata = serde_json::to_vec(&metadata).map_err(internal)?;
    let endpoint = FlightEndpoint::new()
        .with_ticket(ticket)
        .with_app_metadata(metadata);
    Ok(addresses.iter().fold(endpoint, |endpoint, address| {
        endpoint.with_location(flight_location(address))
    }))
}

/// The command of a descriptor: JSON, or a path of the job's name and optionally the first epoch.
///
/// # Errors
/// `INVALID_ARGUMENT`, with an example of a correct command.
pub fn read_command(descriptor: &FlightDescriptor) -> Result<EpochsCommand, Status> {
    let bad = |text: &str| Status::from(CallRefusal::new(Reason::InvalidArgument, text));
    if let [job, rest @ ..] = descriptor.path.as_slice() {
        let from = rest.first().map_or(Ok(0), |text| text.parse());
        let from = from.map_err(|_| bad("the second part of the path is an epoch's number"))?;
        return Ok(EpochsCommand {
            job: job.clone(),
            from,
            ..EpochsCommand::default()
        });
    }
    let command: EpochsCommand = serde_json::from_slice(&descriptor.cmd).map_err(|error| {
        let example = r#"{"job": "sales", "epoch": 7} or {"job": "sales", "from": 1}"#;
        bad(&format!("the command is JSON like {example}: {error}"))
    })?;
    command.as_range().map_err(|error| bad(&error.to_string()))
}

fn elsewhere<T>() -> Result<T, Status> {
    Err(Status::unimplemented(
        "the controller has no rows: ask the workers that GetFlightInfo names",
    ))
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

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (info, _) = self.info(request).await?;
        Ok(Response::new(info))
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let (info, next) = self.info(request).await?;
        let next = serde_json::to_vec(&next)
            .map_err(|error| Status::from(CallRefusal::new(Reason::Internal, error.to_string())))?;
        let poll = PollInfo::new()
            .with_info(info)
            .with_descriptor(FlightDescriptor::new_cmd(next));
        Ok(Response::new(poll))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let (info, _) = self.info(request).await?;
        Ok(Response::new(SchemaResult {
            schema: info.schema,
        }))
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let jobs = self.leader.handle()?.query(listed).await?;
        let flights: Vec<_> = jobs.iter().map(flight).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(flights))))
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

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        elsewhere()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        elsewhere()
    }

    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        elsewhere()
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }
}
