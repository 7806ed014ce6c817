//! Some rows, or some dead letters, of a published epoch.
//!
//! Owns: reading them from workers over Flight, and the limits of that. Does not own: where they are
//! ([`FlightLocations`]), their text ([`table`]), who may see them (the gate in front of the pages).
//! Rule: bounded in rows, text, time and number, and nothing is kept. The reader of a page gets what
//! a Flight client with the same rights gets.

pub mod table;

use crate::leader_connection::{LeaderConnection, of_leader};
use crate::service::flight::FlightLocations;
use crate::service::jobs::name;
use arrow::error::ArrowError;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::FlightService as _;
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::security::dial::flight_url;
use streamctl_engine::security::gate::CallerToken;
use streamctl_engine::security::grant::Use;
use streamctl_engine::security::{Dialer, Token};
use streamctl_proto::MESSAGE_BYTES_MAX;
use streamctl_proto::flight::{EpochsCommand, EpochsMetadata, PartMetadata, RowsFrom};
use streamctl_proto::refusal::{CallRefusal, Reason};
use table::Table;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// Most rows of a sample.
pub const SAMPLE_ROWS_MAX: usize = 100;
/// Samples that a controller reads at once; further ones wait.
pub const SAMPLES_AT_ONCE_MAX: usize = 4;
/// Time of a sample, with its wait for a place. Browsers give an answer ten seconds.
pub const SAMPLE_TIMEOUT: Duration = Duration::from_secs(8);
/// Time to connect to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What the rows of a sample are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rows,
    DeadLetters,
}

#[derive(Clone, Debug)]
pub struct Wanted {
    pub job: String,
    pub epoch: u64,
    pub kind: Kind,
    pub rows_max: usize,
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub table: Table,
    /// Rows of the epoch; `None`: not known.
    pub total: Option<u64>,
    /// Where the first rows come from; `None` for dead letters, which are objects.
    pub origin: Option<PartMetadata>,
    /// Why there are not more rows, although the epoch has more.
    pub problem: Option<String>,
}

impl Sample {
    /// What was read before a failure; the failure, if that is nothing.
    fn despite(mut self, problem: Status) -> Result<Self, Status> {
        if self.table.rows.is_empty() {
            return Err(problem);
        }
        self.problem = Some(CallRefusal::text_of(&problem).0);
        Ok(self)
    }
}

/// Reads samples; clones share the places.
#[derive(Clone)]
pub struct Sampler {
    locations: Arc<FlightLocations>,
    leader: LeaderConnection,
    dialer: Dialer,
    places: Arc<Semaphore>,
}

/// Where the rows of an epoch are.
struct Located {
    info: FlightInfo,
    /// What workers require; none if they require nothing.
    grant: Option<Token>,
}

impl Sampler {
    /// `locations` answers while this process leads, `leader` otherwise.
    pub fn new(locations: FlightLocations, leader: LeaderConnection, dialer: Dialer) -> Self {
        Self {
            locations: Arc::new(locations),
            leader,
            dialer,
            places: Arc::new(Semaphore::new(SAMPLES_AT_ONCE_MAX)),
        }
    }

    /// The first rows of an epoch. The caller was admitted to the pages.
    ///
    /// # Errors
    /// There is no such published epoch, or none of its rows can be read.
    pub async fn sample(&self, by: &CallerToken, wanted: &Wanted) -> Result<Sample, Status> {
        let deadline = Instant::now() + SAMPLE_TIMEOUT;
        let _place = timeout_at(deadline, self.places.acquire())
            .await
            .map_err(|_| too_many())?;
        let located = timeout_at(deadline, self.located(by, wanted))
            .await
            .map_err(|_| late(wanted))??;
        let schema = schema_of(&located.info)?;
        let mut sample = Sample {
            table: Table::new(&schema, wanted.rows_max),
            total: u64::try_from(located.info.total_records).ok(),
            origin: None,
            problem: None,
        };
        let read = timeout_at(deadline, self.read(&located, &mut sample)).await;
        let problem = match read {
            Ok(Ok(())) => return Ok(sample),
            Ok(Err(status)) => status,
            Err(_) => late(wanted),
        };
        sample.despite(problem)
    }

    /// The endpoints of the epoch, from the leader, wherever it runs.
    async fn located(&self, by: &CallerToken, wanted: &Wanted) -> Result<Located, Status> {
        let job = name(&wanted.job)?;
        let descriptor = descriptor(wanted)?;
        let here = Request::new(descriptor.clone());
        let status = match self.locations.get_flight_info(here).await {
            Ok(info) => {
                let info = published(info.into_inner(), wanted)?.0;
                // The gate checked the caller; this grant does not leave the controllers.
                let grant = self.locations.admission.grant(&job, Use::Read, None);
                return Ok(Located { info, grant });
            }
            Err(status) => status,
        };
        let Some(leader) = CallRefusal::leader_named(&status) else {
            return Err(status);
        };
        let connection = self.leader.to(&leader)?.on_behalf_of(by);
        let mut client =
            FlightServiceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answer = client.get_flight_info(descriptor).await;
        let info = answer
            .map_err(|status| of_leader(&leader, status))?
            .into_inner();
        let (info, metadata) = published(info, wanted)?;
        let grant = metadata.grant.map(|text| Token::of_grant(&text));
        let grant = grant.transpose().map_err(internal)?;
        Ok(Located { info, grant })
    }

    async fn read(&self, located: &Located, sample: &mut Sample) -> Result<(), Status> {
        let dialer = match &located.grant {
            Some(grant) => self.dialer.with_token(grant.clone()),
            None => self.dialer.without_token(),
        };
        for endpoint in &located.info.endpoint {
            if sample.table.is_full() {
                break;
            }
            read_part(&dialer, endpoint, sample).await?;
        }
        Ok(())
    }
}

/// The first of a part's locations that answers gives its rows.
async fn read_part(
    dialer: &Dialer,
    endpoint: &FlightEndpoint,
    sample: &mut Sample,
) -> Result<(), Status> {
    let ticket = endpoint.ticket.clone().unwrap_or_default();
    let mut failed = Status::from(CallRefusal::new(
        Reason::WorkerUnavailable,
        "no worker is named for these rows",
    ));
    for location in &endpoint.location {
        let of_worker = |status: Status| worker_failed(&location.uri, &status);
        match open(dialer, &location.uri, ticket.clone()).await {
            Ok(messages) => return take(messages, sample).await.map_err(of_worker),
            Err(status) => failed = of_worker(status),
        }
    }
    Err(failed)
}

async fn open(
    dialer: &Dialer,
    location: &str,
    ticket: Ticket,
) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send + use<>, Status> {
    let tune = |endpoint: Endpoint| {
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(SAMPLE_TIMEOUT)
    };
    let connection = dialer.connect(&flight_url(location), tune).await?;
    let mut client =
        FlightServiceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Ok(client.do_get(ticket).await?.into_inner())
}

/// Takes rows until there are enough; the rest of the stream is dropped, which ends it at the worker.
async fn take(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    sample: &mut Sample,
) -> Result<(), Status> {
    let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut decoder = FlightDataDecoder::new(messages);
    while let Some(decoded) = decoder.next().await {
        let decoded = decoded?;
        match decoded.payload {
            DecodedPayload::Schema(_) if sample.origin.is_none() => {
                sample.origin = serde_json::from_slice(&decoded.inner.app_metadata).ok();
            }
            DecodedPayload::RecordBatch(batch) => {
                sample.table.add(&batch).map_err(internal_arrow)?;
                if sample.table.is_full() {
                    break;
                }
            }
            DecodedPayload::Schema(_) | DecodedPayload::None => {}
        }
    }
    Ok(())
}

fn descriptor(wanted: &Wanted) -> Result<FlightDescriptor, Status> {
    let command = EpochsCommand {
        job: wanted.job.clone(),
        epoch: Some(wanted.epoch),
        dead_letters: wanted.kind == Kind::DeadLetters,
        ..EpochsCommand::default()
    };
    let command = serde_json::to_vec(&command).map_err(internal)?;
    Ok(FlightDescriptor::new_cmd(command))
}

/// The answer, if the epoch is in it: only published epochs are.
fn published(info: FlightInfo, wanted: &Wanted) -> Result<(FlightInfo, EpochsMetadata), Status> {
    let metadata: EpochsMetadata = serde_json::from_slice(&info.app_metadata).map_err(internal)?;
    if metadata.next_epoch > wanted.epoch {
        return Ok((info, metadata));
    }
    let Wanted { job, epoch, .. } = wanted;
    let refusal = CallRefusal::new(
        Reason::EpochNotFound,
        format!("epoch {epoch} of job {job} is not published"),
    );
    Err(Status::from(refusal.hint(format!(
        "`streamctl epochs {job}` shows which are; `streamctl tail {job} --from {epoch} --committed` reads one that is committed"
    ))))
}

fn schema_of(info: &FlightInfo) -> Result<arrow::datatypes::Schema, Status> {
    info.clone().try_decode_schema().map_err(internal_arrow)
}

fn internal_arrow(error: ArrowError) -> Status {
    internal(error)
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::from(CallRefusal::new(Reason::Internal, error.to_string()))
}

/// A worker's refusal: not one of the caller, whatever its code.
fn worker_failed(location: &str, status: &Status) -> Status {
    let (text, hint) = CallRefusal::text_of(status);
    let text = format!("worker at {location}: {text}");
    let refusal = CallRefusal::new(Reason::WorkerUnavailable, text);
    Status::from(match hint {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    })
}

fn too_many() -> Status {
    let text = format!("{SAMPLES_AT_ONCE_MAX} samples are being read already");
    Status::from(CallRefusal::new(Reason::TooManyCalls, text).hint("try again in some seconds"))
}

fn late(wanted: &Wanted) -> Status {
    let Wanted { job, epoch, .. } = wanted;
    let verb = match wanted.kind {
        Kind::Rows => "tail",
        Kind::DeadLetters => "dead-letters",
    };
    let text = format!(
        "the rows were not there within {} s: they are read from objects, or computed again",
        SAMPLE_TIMEOUT.as_secs()
    );
    let hint = format!("`streamctl {verb} {job} --from {epoch} --to {epoch}` waits for them");
    Status::from(CallRefusal::new(Reason::ServiceUnavailable, text).hint(hint))
}

/// The word for an origin, as in Flight's metadata.
pub fn word(origin: RowsFrom) -> &'static str {
    match origin {
        RowsFrom::Memory => "memory",
        RowsFrom::Objects => "objects",
        RowsFrom::Stream => "stream",
    }
}

#[cfg(test)]
mod tests;
