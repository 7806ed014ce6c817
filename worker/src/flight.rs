//! Serves the rows of committed epochs over Arrow Flight.
//!
//! Owns: `DoGet`: rows from memory, else from published objects, else computed again; `DoAction` for
//! a verification. Does not own: which epochs exist and where (the controller's `GetFlightInfo`), the
//! columns of dead letters ([`letters`]).
//! Rule: a ticket names a job, an epoch, and a task or its dead letters, nothing else; the
//! controller resolves it.

mod letters;

use crate::compute::Compute;
use crate::functions::{Functions, learn_action, published_action};
use crate::preview::{Resources, preview_action};
use crate::published::{Published, published};
use crate::rebuild::rebuild_epoch;
use crate::replay::{Replay, WaitingBatch, replay};
use crate::results::KeptRows;
use crate::rewrite::rewrite_files;
use crate::session::{Settings, World};
use crate::sink::SinkError;
use crate::task::{Context, TaskError};
use crate::verify::verify_epoch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message as _;
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::dead_letters::dead_letter_schema;
use streamctl_engine::security::dial::like;
use streamctl_engine::security::grant::{Grant, Use};
use streamctl_engine::security::{Caller, CountedFor, Role, Turn, Turns};
use streamctl_engine::source::ReadError;
use streamctl_proto::flight::{BadTicket, PartMetadata, PartTicket, Requested, RowsFrom};
use streamctl_proto::function_code::{LEARN_ACTION, PUBLISHED_ACTION};
use streamctl_proto::manifest::objects_after;
use streamctl_proto::preview::PREVIEW_ACTION;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::rewrite::{REWRITE_ACTION, RewriteOrder};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::verify::{EpochTicket, REBUILD_ACTION, RebuildOrder, VERIFY_ACTION};
use streamctl_proto::{
    EPOCH_ANSWER_BYTES_MAX, JobName, MESSAGE_BYTES_MAX, Manifest, ResolvedJob, TaskId, v1,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

/// Time in which a controller must return an epoch.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for an epoch of any age: the controller walks back to it, one manifest at a time.
const OLD_EPOCH_TIMEOUT: Duration = Duration::from_secs(600);
/// Most redirects to a leader that a controller names.
const REDIRECTS_MAX: usize = 3;
/// Largest body of an action: it names the objects that an epoch has lost.
const ACTION_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// Most concurrent replays of one caller, including those that wait for a place.
pub const REPLAYS_PER_CALLER_MAX: usize = 4;

fn no_ticket(error: BadTicket) -> Status {
    Status::from(CallRefusal::new(Reason::InvalidArgument, error.to_string()))
}

/// Serves Flight on a worker.
pub struct FlightRows {
    pub settings: Settings,
    /// What is needed to compute rows.
    pub world: World,
    /// Replays of each caller for `DoGet`.
    replays: Turns,
    /// Replays for `DoAction`: a reader of old rows does not delay a verification from the same
    /// address.
    checks: Turns,
}

impl FlightRows {
    /// Serves a worker with these settings.
    pub fn new(settings: Settings, world: World) -> Self {
        let [replays, checks] = [(); 2].map(|()| Turns::new(REPLAYS_PER_CALLER_MAX));
        Self {
            settings,
            world,
            replays,
            checks,
        }
    }

    /// The manifest of an epoch and its job, from the leading controller.
    async fn epoch(
        &self,
        job: &JobName,
        epoch: u64,
        limit: Duration,
    ) -> Result<(Manifest, ResolvedJob), Status> {
        let mut last = Status::from(CallRefusal::new(Reason::NoLeader, "no controller answers"));
        let mut addresses = self.settings.controllers.clone();
        let mut redirects = REDIRECTS_MAX;
        while let Some(address) = addresses.pop() {
            match self.fetch_epoch(&address, job, epoch, limit).await {
                Ok(found) => {
                    let bad = |e: serde_json::Error| {
                        Status::from(CallRefusal::new(Reason::Internal, e.to_string()))
                    };
                    let manifest = serde_json::from_str(&found.manifest_json).map_err(bad)?;
                    return Ok((
                        manifest,
                        serde_json::from_str(&found.job_json).map_err(bad)?,
                    ));
                }
                Err(status) if elsewhere(&status) => {
                    if let Some(leader) =
                        CallRefusal::leader_named(&status).filter(|_| redirects > 0)
                    {
                        redirects -= 1;
                        addresses.push(like(&address, &leader));
                    }
                    last = status;
                }
                Err(status) => return Err(status),
            }
        }
        Err(last)
    }

    async fn fetch_epoch(
        &self,
        address: &str,
        job: &JobName,
        epoch: u64,
        limit: Duration,
    ) -> Result<v1::GetEpochResponse, Status> {
        let tune = |endpoint: Endpoint| endpoint.connect_timeout(LOOKUP_TIMEOUT).timeout(limit);
        let line = self
            .settings
            .protection
            .dialer
            .connect(address, tune)
            .await?;
        let mut client = JobsClient::new(line).max_decoding_message_size(EPOCH_ANSWER_BYTES_MAX);
        let request = v1::GetEpochRequest {
            job: job.to_string(),
            epoch,
        };
        client.get_epoch(request).await.map(Response::into_inner)
    }
}

/// The result of an action: one message, as JSON.
type Results = BoxStream<'static, Result<arrow_flight::Result, Status>>;

impl FlightRows {
    async fn verify(&self, ticket: EpochTicket, turn: Turn) -> Result<Response<Results>, Status> {
        let (mut manifest, context, compute) = self.old_epoch(&ticket.job, ticket.epoch).await?;
        manifest.objects = objects_after(&manifest, &ticket.repairs);
        Ok(result_of(async move {
            let _turn = turn;
            verify_epoch(context, &compute, manifest).await
        }))
    }

    async fn rebuild(&self, order: RebuildOrder, turn: Turn) -> Result<Response<Results>, Status> {
        let (manifest, context, compute) = self.old_epoch(&order.job, order.epoch).await?;
        let objects = objects_after(&manifest, &order.repairs);
        Ok(result_of(async move {
            let _turn = turn;
            rebuild_epoch(context, &compute, manifest, objects, order).await
        }))
    }

    /// Calls a function without rows.
    async fn learn(
        &self,
        request: v1::LearnFunction,
        turn: Turn,
    ) -> Result<Response<Results>, Status> {
        let learned = learn_action(&self.world.functions, &self.world.storages, request).await?;
        drop(turn);
        let body = learned.encode_to_vec().into();
        let result = async move { Ok(arrow_flight::Result { body }) };
        Ok(Response::new(futures::stream::once(result).boxed()))
    }

    /// Computes a job's query on some records.
    async fn preview(
        &self,
        order: v1::PreviewJob,
        turn: Turn,
    ) -> Result<Response<Results>, Status> {
        let World {
            storages,
            sources,
            compute,
            budget,
            functions,
            ..
        } = self.world.clone();
        let resources = Resources {
            storages,
            sources,
            budget,
            compute,
            functions,
        };
        let previewed = preview_action(resources, order).await?;
        drop(turn);
        let body = previewed.encode_to_vec().into();
        let result = async move { Ok(arrow_flight::Result { body }) };
        Ok(Response::new(futures::stream::once(result).boxed()))
    }

    /// Puts the rows of some files of a table into fewer ones.
    fn rewrite(&self, order: RewriteOrder, turn: Turn) -> Response<Results> {
        let world = self.world.clone();
        let result = async move {
            let _turn = turn;
            let outcome = rewrite_files(&world, order).await?;
            let body = serde_json::to_vec(&outcome).map_err(|error| {
                Status::from(CallRefusal::new(Reason::Internal, error.to_string()))
            })?;
            Ok(arrow_flight::Result { body: body.into() })
        };
        Response::new(futures::stream::once(result).boxed())
    }

    /// Computes a task's part of an epoch again. `not_from_objects`: why its published objects do
    /// not give the rows.
    async fn reread(
        &self,
        job: ResolvedJob,
        manifest: Manifest,
        task: TaskId,
        not_from_objects: Option<String>,
        extensions: &Extensions,
    ) -> Result<Rows, Status> {
        check_can_run(&self.world.functions, &job)?;
        let turn = begin_replay(&self.replays, extensions)?;
        let epoch = manifest.epoch.0;
        let World {
            storages,
            sources,
            compute,
            budget,
            functions,
            ..
        } = self.world.clone();
        let context = Arc::new(Context::new(job, storages, sources, budget, functions));
        match replay(context, &compute, manifest, task).await {
            Ok(Some(rows)) => given(RowsFrom::Stream, not_from_objects, rows, turn),
            Ok(None) => Err(no_such_part(epoch, task)),
            Err(error) => Err(failed_again(&error, not_from_objects.as_deref())),
        }
    }

    /// An epoch of any age, and what is needed to compute it again.
    async fn old_epoch(
        &self,
        job: &JobName,
        epoch: u64,
    ) -> Result<(Manifest, Arc<Context>, Compute), Status> {
        let (manifest, job) = self.epoch(job, epoch, OLD_EPOCH_TIMEOUT).await?;
        check_can_run(&self.world.functions, &job)?;
        let World {
            storages,
            sources,
            compute,
            budget,
            functions,
            ..
        } = self.world.clone();
        Ok((
            manifest,
            Arc::new(Context::new(job, storages, sources, budget, functions)),
            compute,
        ))
    }
}

fn read_body<T: serde::de::DeserializeOwned>(action: &Action) -> Result<T, Status> {
    serde_json::from_slice(&action.body).map_err(|_| {
        Status::from(CallRefusal::new(
            Reason::InvalidArgument,
            "this is not an epoch of a job",
        ))
    })
}

/// The message in the body of an action.
fn decoded<M: prost::Message + Default>(body: bytes::Bytes, what: &str) -> Result<M, Status> {
    M::decode(body).map_err(|_| {
        let text = format!("this is not {what}");
        Status::from(CallRefusal::new(Reason::InvalidArgument, text))
    })
}

fn result_of<T: Serialize>(outcome: impl Future<Output = T> + Send + 'static) -> Response<Results> {
    let result = async move {
        let body = serde_json::to_vec(&outcome.await)
            .map_err(|error| Status::from(CallRefusal::new(Reason::Internal, error.to_string())))?;
        Ok(arrow_flight::Result { body: body.into() })
    };
    Response::new(futures::stream::once(result).boxed())
}

/// Another controller may know: this one does not respond in time, or does not lead.
fn elsewhere(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::FailedPrecondition | Code::DeadlineExceeded | Code::Cancelled
    )
}

/// Rows on their way to a reader.
type Rows = Response<BoxStream<'static, Result<FlightData, Status>>>;

fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Rows {
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(batches);
    Response::new(encoder.map_err(Status::from).boxed())
}

/// The rows of a part of an epoch, after where they come from.
fn part(
    rows_from: RowsFrom,
    not_from_objects: Option<String>,
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Result<Rows, Status> {
    let metadata = PartMetadata {
        rows_from,
        not_from_objects,
    };
    let metadata = serde_json::to_vec(&metadata)
        .map_err(|error| Status::from(CallRefusal::new(Reason::Internal, error.to_string())))?;
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_metadata(metadata.into())
        .build(batches);
    Ok(Response::new(encoder.map_err(Status::from).boxed()))
}

/// Rows that are read or computed while they are sent.
fn given(
    rows_from: RowsFrom,
    not_from_objects: Option<String>,
    rows: Replay,
    turn: Turn,
) -> Result<Rows, Status> {
    let Replay {
        schema,
        batches,
        running,
    } = rows;
    let reason = not_from_objects.clone();
    let rows = ReceiverStream::new(batches)
        .map_ok(WaitingBatch::take)
        .map_err(move |error| {
            let _until_the_stream_is_dropped = (&running, &turn);
            FlightError::Tonic(Box::new(failed_again(&error, reason.as_deref())))
        });
    part(rows_from, not_from_objects, schema, rows)
}

fn failed(error: &TaskError) -> Status {
    failed_again(error, None)
}

/// Why rows cannot be read, and why not from their published objects either.
fn failed_again(error: &TaskError, not_from_objects: Option<&str>) -> Status {
    let text = match not_from_objects {
        None => error.describe(),
        Some(reason) => format!(
            "{}; its published objects do not give these rows: {reason}",
            error.describe()
        ),
    };
    let refusal = match error {
        TaskError::Read(ReadError::DataLoss { .. }) => {
            CallRefusal::new(Reason::CheckpointDamaged, text)
        }
        TaskError::Sink(SinkError::ReadBack { .. }) => {
            CallRefusal::new(Reason::CheckpointDamaged, text).hint(
                "compare the epoch with its objects (streamctl verify), or have the rows computed \
                 from the stream again (\"reread\": true, or tail --reread)",
            )
        }
        _ => CallRefusal::new(Reason::Internal, text),
    };
    Status::from(refusal)
}

/// Begins one more replay of a caller, until the turn is dropped.
fn begin_replay(turns: &Turns, extensions: &Extensions) -> Result<Turn, Status> {
    let caller = extensions
        .get::<CountedFor>()
        .unwrap_or(&CountedFor::Process);
    turns.take(caller).ok_or_else(|| {
        Status::from(
            CallRefusal::new(
                Reason::TooManyCalls,
                format!(
                    "this worker reads or computes {REPLAYS_PER_CALLER_MAX} epochs of this \
                 caller again already"
                ),
            )
            .hint(
                "read them one after the other, or from other workers: \
                 GetFlightInfo names all that can",
            ),
        )
    })
}

fn no_such_part(epoch: u64, task: TaskId) -> Status {
    Status::from(CallRefusal::new(
        Reason::EpochNotFound,
        format!("epoch {epoch} has no part of task {task}"),
    ))
}

/// A grant is for one use and one job. The gate has already checked its signature, its expiry and
/// its caller.
fn check_grant(grant: Option<&Grant>, wanted: Use, job: &JobName) -> Result<(), Status> {
    let Some(grant) = grant.filter(|grant| grant.r#use != wanted || grant.job != *job) else {
        return Ok(());
    };
    Err(Status::from(
        CallRefusal::new(
            Reason::PermissionDenied,
            format!(
                "this grant is for another use or job: it is of job {}",
                grant.job
            ),
        )
        .hint("show each grant with the tickets that came with it"),
    ))
}

/// Another worker may run the job's function.
fn check_can_run(functions: &Functions, job: &ResolvedJob) -> Result<(), Status> {
    match functions.can_run(job) {
        true => Ok(()),
        false => Err(Status::from(
            CallRefusal::new(
                Reason::WorkerUnavailable,
                "the job has a function, and this worker runs none",
            )
            .hint("start workers with --functions"),
        )),
    }
}

/// A job that a caller sends names any place, and its code runs here: that needs a controller's
/// grant for this use, or the role admin.
fn check_job_sender(extensions: &Extensions, wanted: Use) -> Result<(), Status> {
    let is_granted = extensions
        .get::<Grant>()
        .is_some_and(|grant| grant.r#use == wanted);
    let caller = extensions.get::<Caller>().unwrap_or(&Caller::ANYBODY);
    if is_granted || caller.may(Role::Admin) {
        return Ok(());
    }
    Err(Status::from(
        CallRefusal::new(
            Reason::PermissionDenied,
            "jobs are taken from a controller only",
        )
        .hint("send the job file to a controller"),
    ))
}

fn not_here<T>() -> Result<T, Status> {
    Err(Status::unimplemented(
        "a worker only serves DoGet and DoAction: ask the controller where the rows are",
    ))
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

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let (_, extensions, ticket) = request.into_parts();
        let ticket = PartTicket::read(&ticket.ticket).map_err(no_ticket)?;
        check_grant(extensions.get(), Use::Read, &ticket.job)?;
        let (manifest, job) = self
            .epoch(&ticket.job, ticket.epoch, LOOKUP_TIMEOUT)
            .await?;
        let task = match ticket.requested().map_err(no_ticket)? {
            Requested::Part(task) => task,
            Requested::DeadLetters => {
                let batches = letters::batches(self.world.storages.clone(), &manifest);
                return Ok(encoded(dead_letter_schema(), batches));
            }
        };
        // Rows of a cancelled task may also be kept, although they are in no epoch.
        if !manifest.parts.iter().any(|part| part.task == task) {
            return Err(no_such_part(ticket.epoch, task));
        }
        if ticket.reread {
            return self.reread(job, manifest, task, None, &extensions).await;
        }
        if let Some(KeptRows { schema, batches }) =
            self.world.results.get(&ticket.job, manifest.window, task)
        {
            let rows: Vec<_> = batches.iter().cloned().map(Ok).collect();
            let rows = futures::stream::iter(rows);
            return part(RowsFrom::Memory, None, schema, rows);
        }
        let turn = begin_replay(&self.replays, &extensions)?;
        match published(&job, &self.world, &manifest, task).await {
            Ok(Published::Rows(rows)) => given(RowsFrom::Objects, None, rows, turn),
            Ok(Published::NotExact(reason)) => {
                drop(turn);
                tracing::debug!(
                    job = %ticket.job, epoch = ticket.epoch, %task, reason,
                    "published objects do not give the rows of an epoch: they are computed again"
                );
                self.reread(job, manifest, task, Some(reason), &extensions)
                    .await
            }
            Err(error) => Err(failed(&error)),
        }
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        not_here()
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        not_here()
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        not_here()
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_here()
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("no handshake is needed"))
    }

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        not_here()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_here()
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let (_, extensions, action) = request.into_parts();
        let grant = extensions.get();
        if action.body.len() > ACTION_BYTES_MAX {
            return Err(Status::from(CallRefusal::new(
                Reason::InvalidArgument,
                "this is not an epoch of a job",
            )));
        }
        match action.r#type.as_str() {
            VERIFY_ACTION => {
                let ticket: EpochTicket = read_body(&action)?;
                check_grant(grant, Use::Verify, &ticket.job)?;
                self.verify(ticket, begin_replay(&self.checks, &extensions)?)
                    .await
            }
            REBUILD_ACTION => {
                let order: RebuildOrder = read_body(&action)?;
                check_grant(grant, Use::Rebuild, &order.job)?;
                self.rebuild(order, begin_replay(&self.checks, &extensions)?)
                    .await
            }
            LEARN_ACTION => {
                let request: v1::LearnFunction = decoded(action.body, "a function of a job")?;
                check_job_sender(&extensions, Use::Function)?;
                self.learn(request, begin_replay(&self.checks, &extensions)?)
                    .await
            }
            PREVIEW_ACTION => {
                let order: v1::PreviewJob = decoded(action.body, "a preview of a job")?;
                check_job_sender(&extensions, Use::Preview)?;
                self.preview(order, begin_replay(&self.checks, &extensions)?)
                    .await
            }
            REWRITE_ACTION => {
                let order: RewriteOrder = read_body(&action)?;
                check_job_sender(&extensions, Use::Rewrite)?;
                Ok(self.rewrite(order, begin_replay(&self.checks, &extensions)?))
            }
            PUBLISHED_ACTION => {
                let request: v1::PublishedEpoch = decoded(action.body, "an epoch of a job")?;
                check_job_sender(&extensions, Use::Function)?;
                let World {
                    functions,
                    storages,
                    ..
                } = &self.world;
                published_action(functions, storages, request).await?;
                let body = Vec::new().into();
                let result = async move { Ok(arrow_flight::Result { body }) };
                Ok(Response::new(futures::stream::once(result).boxed()))
            }
            _ => Err(Status::unimplemented(format!(
                "the actions are {VERIFY_ACTION}, {REBUILD_ACTION}, {LEARN_ACTION}, {PREVIEW_ACTION}, {REWRITE_ACTION} and {PUBLISHED_ACTION}"
            ))),
        }
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let description =
            "reads an epoch from its source again and compares it with its objects".to_owned();
        let verify = ActionType {
            r#type: VERIFY_ACTION.to_owned(),
            description,
        };
        let description =
            "computes again what an epoch has lost, and stages it under new names".to_owned();
        let rebuild = ActionType {
            r#type: REBUILD_ACTION.to_owned(),
            description,
        };
        let description = "calls a function of a job without rows, to learn its columns".to_owned();
        let learn = ActionType {
            r#type: LEARN_ACTION.to_owned(),
            description,
        };
        let description = "calls the function on_published of a job".to_owned();
        let published = ActionType {
            r#type: PUBLISHED_ACTION.to_owned(),
            description,
        };
        let description = "runs the query of a job on a few records, and writes nothing".to_owned();
        let preview = ActionType {
            r#type: PREVIEW_ACTION.to_owned(),
            description,
        };
        let description =
            "puts the rows of small files of a table into fewer ones, and stages them".to_owned();
        let rewrite = ActionType {
            r#type: REWRITE_ACTION.to_owned(),
            description,
        };
        let all = [verify, rebuild, learn, preview, rewrite, published].map(Ok);
        Ok(Response::new(futures::stream::iter(all).boxed()))
    }
}

#[cfg(test)]
mod tests;
