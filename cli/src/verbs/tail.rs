//! `streamctl tail`: the rows of a job as its epochs are published, over Arrow Flight.
//!
//! Owns: following from epoch to epoch. Does not own: what a ticket means (the worker).
//! Rule: rows are printed in the order of the epochs, none twice; if the connection breaks, the
//! error names the epoch to continue at.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Format, Output};
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightClient, FlightDescriptor, FlightEndpoint, FlightInfo};
use clap::Args;
use futures::TryStreamExt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use streamctl_engine::security::ClientConnection;
use streamctl_engine::security::dial::flight_url;
use streamctl_engine::security::grant::GRANT_LIFETIME;
use streamctl_proto::MESSAGE_BYTES_MAX;
use streamctl_proto::flight::{EndpointMetadata, EpochsCommand, EpochsMetadata};
use streamctl_proto::v1::GetJobRequest;
use tonic::{Code, Status};

/// Of `tail`.
#[derive(Args, Debug)]
pub struct TailArgs {
    /// Job name
    pub job: String,
    /// First epoch
    #[arg(long, value_name = "EPOCH", conflicts_with = "epochs")]
    pub from: Option<u64>,
    /// Last epoch (default: follow until the job ends)
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// Start with the newest N published epochs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    pub epochs: u64,
    /// Also print epochs that are committed but not yet published
    #[arg(long)]
    pub committed: bool,
    /// Compute the rows from the stream again, even if workers or published objects have them
    #[arg(long)]
    pub reread: bool,
}

/// Epochs per request.
const EPOCHS_PER_REQUEST: u64 = 16;
/// How long to wait if there is no newer epoch.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How many times to request a new grant because a worker refuses the current one.
const GRANT_RENEWALS_MAX: u32 = 8;
/// The location that stands for the endpoint's own server.
pub(super) const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// The servers that rows are read from, and the credentials.
pub(super) struct Readers<'c> {
    pub(super) controller: &'c Controller,
    /// The server that sent the endpoints.
    pub(super) origin: ClientConnection,
    pub(super) grant: Option<String>,
    pub(super) since: Instant,
}

/// Prints epochs until the last one requested, or until the job ends.
pub async fn run(
    args: &TailArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let progress = out.progress("asking for the job");
    let mut from = match args.from {
        Some(epoch) => epoch.max(1),
        None => newest(args, controller).await?,
    };
    while args.to.is_none_or(|to| from <= to) {
        progress.show(format!("waiting for epoch {from}"));
        let (info, line) = endpoints(args, from, controller).await?;
        let next = next_of(&info, from)?;
        let count = info.endpoint.len();
        let mut readers = Readers {
            controller,
            origin: line,
            grant: next.grant,
            since: Instant::now(),
        };
        for endpoint in info.endpoint {
            let epoch = epoch_of(&endpoint).unwrap_or(from);
            progress.show(format!("reading the rows of epoch {epoch}"));
            let again = async || next_of(&endpoints(args, epoch, controller).await?.0, epoch);
            let print = |batch: RecordBatch| print_batch(&batch, out).map(ControlFlow::Continue);
            let _all =
                readers
                    .read(&endpoint, again, print)
                    .await
                    .map_err(|error| match error {
                        CliError::UnexpectedResponse(reason) => CliError::Rows { epoch, reason },
                        error => error,
                    })?;
        }
        if next.next_epoch < from {
            return Err(CliError::UnexpectedResponse(format!(
                "epoch {} after epoch {from}",
                next.next_epoch
            )));
        }
        let nothing_new = next.next_epoch == from && count == 0;
        from = next.next_epoch;
        if nothing_new {
            if ["stopped", "completed", "failed"].contains(&next.state.as_str()) {
                out.note(&format!(
                    "job {} is {}; the next epoch would be {from}",
                    args.job, next.state
                ));
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    Ok(())
}

/// The controller's metadata with the endpoints.
pub(super) fn next_of(info: &FlightInfo, from: u64) -> Result<EpochsMetadata, CliError> {
    let next = serde_json::from_slice(&info.app_metadata);
    next.map_err(|error| {
        CliError::UnexpectedResponse(format!("what follows epoch {from}: {error}"))
    })
}

/// The epoch of an endpoint's rows, if the controller sends it.
fn epoch_of(endpoint: &FlightEndpoint) -> Option<u64> {
    let metadata: EndpointMetadata = serde_json::from_slice(&endpoint.app_metadata).ok()?;
    Some(metadata.epoch)
}

/// The first of the newest `-n` published epochs.
async fn newest(args: &TailArgs, controller: &Controller) -> Result<u64, CliError> {
    let request = GetJobRequest {
        job: args.job.clone(),
        brief: true,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    let published = controller.call(call).await?.published;
    Ok((published + 1).saturating_sub(args.epochs).max(1))
}

/// The command of a descriptor.
pub(super) fn text_of(command: &EpochsCommand) -> String {
    serde_json::to_string(command).expect("a command has only text keys")
}

async fn endpoints(
    args: &TailArgs,
    from: u64,
    controller: &Controller,
) -> Result<(FlightInfo, ClientConnection), CliError> {
    let limit = args.to.map_or(EPOCHS_PER_REQUEST, |to| {
        (to - from + 1).min(EPOCHS_PER_REQUEST)
    });
    let command = EpochsCommand {
        job: args.job.clone(),
        from,
        to: args.to,
        limit: usize::try_from(limit).ok(),
        committed: args.committed,
        reread: args.reread,
        ..EpochsCommand::default()
    };
    let command = text_of(&command);
    let call = |line: ClientConnection| {
        let descriptor = FlightDescriptor::new_cmd(command.clone());
        async move {
            let mut client =
                FlightServiceClient::new(line.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let info = client.get_flight_info(descriptor).await?.into_inner();
            Ok(tonic::Response::new((info, line)))
        }
    };
    controller.call(call).await
}

/// The outcome of an attempt to read an endpoint.
enum Attempt {
    /// Its rows were read, to their end or up to the limit.
    Read(ControlFlow<()>),
    /// None of its locations returns rows.
    Unread {
        reason: String,
        /// A location refused the grant.
        grant_refused: bool,
    },
}

impl Readers<'_> {
    /// A grant of this age may expire before all remaining calls: a new one is requested in time.
    fn are_old(&self) -> bool {
        self.grant.is_some() && self.since.elapsed() > GRANT_LIFETIME / 2
    }

    fn renew(&mut self, next: EpochsMetadata) {
        self.grant = next.grant;
        self.since = Instant::now();
    }

    /// Reads one endpoint. `again` requests its page once more: if the grant is old, or if a worker
    /// refuses it because another controller leads by now, which signs with another key.
    pub(super) async fn read(
        &mut self,
        endpoint: &FlightEndpoint,
        again: impl AsyncFn() -> Result<EpochsMetadata, CliError>,
        mut each: impl FnMut(RecordBatch) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<ControlFlow<()>, CliError> {
        if self.are_old() {
            self.renew(again().await?);
        }
        let mut renewals_left = GRANT_RENEWALS_MAX;
        loop {
            match self.attempt(endpoint, &mut each).await? {
                Attempt::Read(flow) => return Ok(flow),
                Attempt::Unread {
                    grant_refused: true,
                    ..
                } if renewals_left > 0 => renewals_left -= 1,
                Attempt::Unread { reason, .. } => return Err(CliError::UnexpectedResponse(reason)),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            self.renew(again().await?);
        }
    }

    /// Tries the endpoint's locations in turn until one returns rows. If a location breaks off
    /// after that, no other one is tried.
    async fn attempt(
        &self,
        endpoint: &FlightEndpoint,
        each: &mut impl FnMut(RecordBatch) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Attempt, CliError> {
        let ticket = endpoint
            .ticket
            .clone()
            .ok_or_else(|| CliError::UnexpectedResponse("an endpoint without a ticket".into()))?;
        let mut failures = Vec::new();
        let mut grant_refused = false;
        let here = [REUSE_CONNECTION.to_owned()];
        let uris = endpoint
            .location
            .iter()
            .map(|location| location.uri.clone())
            .collect::<Vec<_>>();
        for uri in if uris.is_empty() { here.to_vec() } else { uris } {
            let line = match self.line_to(&uri).await {
                Ok(line) => line,
                Err(status) => {
                    failures.push(format!("{uri}: {}", status.message()));
                    continue;
                }
            };
            let service =
                FlightServiceClient::new(line).max_decoding_message_size(MESSAGE_BYTES_MAX);
            match FlightClient::new_from_inner(service)
                .do_get(ticket.clone())
                .await
            {
                Ok(mut rows) => {
                    let broken = |error: FlightError| {
                        CliError::UnexpectedResponse(format!("{uri}: {error}"))
                    };
                    while let Some(batch) = rows.try_next().await.map_err(broken)? {
                        if each(batch)?.is_break() {
                            return Ok(Attempt::Read(ControlFlow::Break(())));
                        }
                    }
                    return Ok(Attempt::Read(ControlFlow::Continue(())));
                }
                Err(error) => {
                    let refused = matches!(&error, FlightError::Tonic(status) if status.code() == Code::Unauthenticated);
                    grant_refused |= refused && self.grant.is_some();
                    failures.push(format!("{uri}: {error}"));
                }
            }
        }
        Ok(Attempt::Unread {
            reason: failures.join("; "),
            grant_refused,
        })
    }

    async fn line_to(&self, uri: &str) -> Result<ClientConnection, Status> {
        match uri == REUSE_CONNECTION {
            true => Ok(self.origin.clone()),
            false => {
                self.controller
                    .connect_to_worker(&flight_url(uri), self.grant.as_deref())
                    .await
            }
        }
    }
}

fn print_batch(batch: &RecordBatch, out: &mut Output) -> Result<(), CliError> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let text = batch_text(batch, out.format())
        .map_err(|error| CliError::UnexpectedResponse(error.to_string()))?;
    out.text(&text)
}

/// A table, or one JSON object per line; nulls are written explicitly, so that every line has the
/// same keys.
fn batch_text(batch: &RecordBatch, format: Format) -> Result<String, arrow::error::ArrowError> {
    if format == Format::Table {
        return Ok(
            arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch))?.to_string(),
        );
    }
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&writer.into_inner()).into_owned())
}

#[cfg(test)]
mod tests;
