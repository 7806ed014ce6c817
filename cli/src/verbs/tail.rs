//! `streamctl tail`: the rows of a job as its epochs are published, over Arrow Flight.
//!
//! Owns: following from epoch to epoch. Does not own: what a ticket means (the worker).
//! Rule: rows are printed in the order of the epochs, none twice; where it breaks, the error says where to go on.

use crate::args::TailArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Format, Output};
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightClient, FlightDescriptor, FlightEndpoint, FlightInfo};
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Duration;
use streamctl_engine::security::Line;
use streamctl_engine::security::dial::flight_url;
use streamctl_proto::MESSAGE_BYTES_MAX;
use streamctl_proto::v1::GetJobRequest;

/// Epochs asked for at a time.
const EPOCHS_PER_ASK: u64 = 16;
/// How long to wait when there is no newer epoch.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// A location that means: where the endpoint came from.
pub(super) const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// What the controller says beside the endpoints.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    pub(super) next_epoch: u64,
    pub(super) state: String,
}

/// Prints epochs until the last one wanted, or until the job ends.
pub async fn run(args: &TailArgs, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let progress = out.progress("asking for the job");
    let mut from = match args.from {
        Some(epoch) => epoch.max(1),
        None => newest(args, controller).await?,
    };
    while args.to.is_none_or(|to| from <= to) {
        progress.say(format!("waiting for epoch {from}"));
        let (info, line) = endpoints(args, from, controller).await?;
        let next: Next = serde_json::from_slice(&info.app_metadata)
            .map_err(|error| CliError::Answer(format!("what follows epoch {from}: {error}")))?;
        let count = info.endpoint.len();
        for endpoint in info.endpoint {
            progress.say(format!("reading the rows of epoch {}", epoch_of(&endpoint).unwrap_or(from)));
            let print = |batch: RecordBatch| print_batch(&batch, out).map(ControlFlow::Continue);
            let _all = for_each_batch(&endpoint, controller, &line, print).await.map_err(|error| match error {
                CliError::Answer(reason) => CliError::Rows { epoch: epoch_of(&endpoint).unwrap_or(from), reason },
                error => error,
            })?;
        }
        if next.next_epoch < from {
            return Err(CliError::Answer(format!("epoch {} after epoch {from}", next.next_epoch)));
        }
        let nothing_new = next.next_epoch == from && count == 0;
        from = next.next_epoch;
        if nothing_new {
            if ["stopped", "completed", "failed"].contains(&next.state.as_str()) {
                out.note(&format!("job {} is {}; the next epoch would be {from}", args.job, next.state));
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    Ok(())
}

/// The epoch whose rows an endpoint has, where the controller says so: `{"epoch":7}`.
fn epoch_of(endpoint: &FlightEndpoint) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(&endpoint.app_metadata).ok()?["epoch"].as_u64()
}

/// The first of the newest `-n` published epochs.
async fn newest(args: &TailArgs, controller: &Controller) -> Result<u64, CliError> {
    let request = GetJobRequest { job: args.job.clone(), brief: true };
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    let published = controller.ask(ask).await?.published;
    Ok((published + 1).saturating_sub(args.epochs).max(1))
}

async fn endpoints(args: &TailArgs, from: u64, controller: &Controller) -> Result<(FlightInfo, Line), CliError> {
    let limit = args.to.map_or(EPOCHS_PER_ASK, |to| (to - from + 1).min(EPOCHS_PER_ASK));
    let mut command = json!({"job": args.job, "from": from, "to": args.to, "limit": limit});
    if args.committed {
        // A controller of an earlier version does not know the word.
        command["committed"] = json!(true);
    }
    let command = command.to_string();
    let ask = |line: Line| {
        let descriptor = FlightDescriptor::new_cmd(command.clone());
        async move {
            let mut client = FlightServiceClient::new(line.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let info = client.get_flight_info(descriptor).await?.into_inner();
            Ok(tonic::Response::new((info, line)))
        }
    };
    controller.ask(ask).await
}

/// Tries the endpoint's locations in turn until one gives rows; a location that broke off is not left for another.
pub(super) async fn for_each_batch(
    endpoint: &FlightEndpoint,
    controller: &Controller,
    origin: &Line,
    mut each: impl FnMut(RecordBatch) -> Result<ControlFlow<()>, CliError>,
) -> Result<ControlFlow<()>, CliError> {
    let ticket = endpoint.ticket.clone().ok_or_else(|| CliError::Answer("an endpoint without a ticket".into()))?;
    let mut failures = Vec::new();
    let here = [REUSE_CONNECTION.to_owned()];
    let uris = endpoint.location.iter().map(|location| location.uri.clone()).collect::<Vec<_>>();
    for uri in if uris.is_empty() { here.to_vec() } else { uris } {
        let line =
            if uri == REUSE_CONNECTION { Ok(origin.clone()) } else { controller.connect(&flight_url(&uri)).await };
        let line = match line {
            Ok(line) => line,
            Err(status) => {
                failures.push(format!("{uri}: {}", status.message()));
                continue;
            }
        };
        let service = FlightServiceClient::new(line).max_decoding_message_size(MESSAGE_BYTES_MAX);
        match FlightClient::new_from_inner(service).do_get(ticket.clone()).await {
            Ok(mut rows) => {
                let broken = |error: arrow_flight::error::FlightError| CliError::Answer(format!("{uri}: {error}"));
                while let Some(batch) = rows.try_next().await.map_err(broken)? {
                    if each(batch)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => failures.push(format!("{uri}: {error}")),
        }
    }
    Err(CliError::Answer(failures.join("; ")))
}

fn print_batch(batch: &RecordBatch, out: &mut Output) -> Result<(), CliError> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let text = batch_text(batch, out.format()).map_err(|error| CliError::Answer(error.to_string()))?;
    out.text(&text)
}

/// A table, or one JSON object per line; nulls are written out, so that every line has the same keys.
fn batch_text(batch: &RecordBatch, format: Format) -> Result<String, arrow::error::ArrowError> {
    if format == Format::Table {
        return Ok(arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch))?.to_string());
    }
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&writer.into_inner()).into_owned())
}

#[cfg(test)]
mod tests;
