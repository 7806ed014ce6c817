//! `streamctl dead-letters`: what could not be decoded, why, and its bytes.
//!
//! Owns: paging, the sum by reason. Does not own: what a ticket means (the worker), replaying
//! ([`super::replay`]). Rule: a page of epochs and one batch of letters are in memory, however many
//! there are.

pub mod args;

use super::tail::{REUSE_CONNECTION, Readers, next_of, text_of};
use crate::client::Controller;
use crate::error::CliError;
use crate::output::{Format, Output};
use args::DeadLettersArgs;
use arrow::array::{Array, BinaryArray, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightInfo};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;
use streamctl_engine::dead_letters::{RECORD, ROW};
use streamctl_engine::security::ClientConnection;
use streamctl_proto::flight::EpochsCommand;
use streamctl_proto::{MESSAGE_BYTES_MAX, count};

/// Epochs that are examined per request.
const EPOCHS_PER_REQUEST: u64 = 100;
/// Characters of a payload that the table shows.
const PAYLOAD_CHARS_MAX: usize = 80;
/// In place of the shard of a row of the result.
const ROW_SHARD: &str = "(row of the result)";
/// Reasons that are counted separately. A reason that quotes a record is a separate one.
const REASONS_MAX: usize = 1_000;
/// Reasons that the summary at the end shows.
const REASONS_SHOWN_MAX: usize = 10;

/// Prints dead letters, oldest first, and at the end their number by reason.
pub async fn run(
    args: &DeadLettersArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    if args.replay {
        return super::replay::run(args, controller, out).await;
    }
    let (mut from, to) = args.range();
    let progress = out.progress("looking for dead letters");
    let mut printer = Printer::new(args, out);
    while to.is_none_or(|to| from <= to) {
        progress.show(format!("looking for dead letters, from epoch {from} on"));
        let (info, line) = page(args, from, to, controller).await?;
        let next = next_of(&info, from)?;
        let mut readers = Readers {
            controller,
            origin: line,
            grant: next.grant,
            since: Instant::now(),
        };
        for endpoint in &info.endpoint {
            let again = async || next_of(&page(args, from, to, controller).await?.0, from);
            let read = readers
                .read(endpoint, again, |batch| printer.batch(&batch))
                .await;
            let flow = read.map_err(|error| match error {
                CliError::UnexpectedResponse(reason) => CliError::Rows {
                    epoch: from,
                    reason,
                },
                error => error,
            })?;
            if flow.is_break() {
                return printer.end();
            }
        }
        if next.next_epoch <= from {
            break;
        }
        from = next.next_epoch;
    }
    printer.end()
}

async fn page(
    args: &DeadLettersArgs,
    from: u64,
    to: Option<u64>,
    controller: &Controller,
) -> Result<(FlightInfo, ClientConnection), CliError> {
    let command = text_of(&EpochsCommand {
        job: args.job.clone(),
        from,
        to,
        limit: usize::try_from(EPOCHS_PER_REQUEST).ok(),
        dead_letters: true,
        ..EpochsCommand::default()
    });
    let call = |line: ClientConnection| {
        let descriptor = FlightDescriptor::new_cmd(command.clone());
        async move {
            let mut client =
                FlightServiceClient::new(line.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut info = client.get_flight_info(descriptor).await?.into_inner();
            // Without a location, the answering server has the rows; the controller never has any.
            if let Some(alone) = info
                .endpoint
                .iter_mut()
                .find(|endpoint| endpoint.location.is_empty())
            {
                alone.location.push(arrow_flight::Location {
                    uri: REUSE_CONNECTION.to_owned(),
                });
            }
            Ok(tonic::Response::new((info, line)))
        }
    };
    controller.call(call).await
}

/// One dead letter, as received.
struct Row<'b> {
    epoch: u64,
    shard: &'b str,
    sequence_number: &'b str,
    sub_sequence: u64,
    arrival_ms: i64,
    reason: &'b str,
    payload: &'b [u8],
    replayed_from: Option<u64>,
    /// A row of the result, which has no place in the source.
    is_row: bool,
}

/// The letters of a batch.
fn rows(batch: &RecordBatch) -> Option<Vec<Row<'_>>> {
    fn column<'b, A: 'static>(batch: &'b RecordBatch, name: &str) -> Option<&'b A> {
        batch.column_by_name(name)?.as_any().downcast_ref::<A>()
    }
    let epochs: &UInt64Array = column(batch, "epoch")?;
    let shards: &StringArray = column(batch, "shard")?;
    let sequences: &StringArray = column(batch, "sequence_number")?;
    let subs: &UInt64Array = column(batch, "sub_sequence")?;
    let times: &TimestampMillisecondArray = column(batch, "arrival_time")?;
    let reasons: &StringArray = column(batch, "reason")?;
    let payloads: &BinaryArray = column(batch, "payload")?;
    let replayed: &UInt64Array = column(batch, "replayed_from")?;
    // A worker of an earlier build lists records alone.
    let kinds: Option<&StringArray> = column(batch, "kind");
    let row = |i: usize| Row {
        epoch: epochs.value(i),
        shard: shards.value(i),
        sequence_number: sequences.value(i),
        sub_sequence: subs.value(i),
        arrival_ms: times.value(i),
        reason: reasons.value(i),
        payload: payloads.value(i),
        replayed_from: replayed.is_valid(i).then(|| replayed.value(i)),
        is_row: kinds.is_some_and(|kinds| kinds.value(i) == ROW),
    };
    Some((0..batch.num_rows()).map(row).collect())
}

impl Row<'_> {
    /// One line; a payload that is not text is in base64.
    fn json(&self) -> Value {
        let mut json = json!({
            "epoch": self.epoch, "shard": self.shard, "sequence_number": self.sequence_number,
            "sub_sequence": self.sub_sequence, "arrival_time": time(self.arrival_ms), "arrival_ms": self.arrival_ms,
            "reason": self.reason, "replayed_from": self.replayed_from,
            "kind": if self.is_row { ROW } else { RECORD },
        });
        match std::str::from_utf8(self.payload) {
            Ok(text) => json["payload"] = text.into(),
            Err(_) => json["payload_base64"] = STANDARD.encode(self.payload).into(),
        }
        json
    }

    fn cells(&self) -> [String; 6] {
        let sequence = match self.sub_sequence {
            0 => self.sequence_number.to_owned(),
            sub => format!("{}/{sub}", self.sequence_number),
        };
        let epoch = match self.replayed_from {
            Some(before) => format!("{} (of {before})", self.epoch),
            None => self.epoch.to_string(),
        };
        let arrived = time(self.arrival_ms);
        let reason = self.reason.to_owned();
        let shard = if self.is_row { ROW_SHARD } else { self.shard };
        [
            epoch,
            shard.to_owned(),
            sequence,
            arrived,
            reason,
            cut(self.payload),
        ]
    }
}

/// The beginning of a payload on one line; control characters are escaped.
pub(super) fn cut(payload: &[u8]) -> String {
    // A character has four bytes at most; what is behind the cut need not be examined.
    let head = &payload[..payload.len().min(PAYLOAD_CHARS_MAX * 4)];
    let text = String::from_utf8_lossy(head);
    let plain = |c: char| {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            c.to_string()
        }
    };
    let shown: String = text.chars().take(PAYLOAD_CHARS_MAX).map(plain).collect();
    let whole = head.len() == payload.len() && text.chars().count() <= PAYLOAD_CHARS_MAX;
    if whole {
        shown
    } else {
        format!("{shown}… ({} bytes)", payload.len())
    }
}

fn time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Prints letters as they arrive.
struct Printer<'a> {
    args: &'a DeadLettersArgs,
    out: &'a mut Output,
    widths: [usize; 6],
    letters: u64,
    /// The epoch of the first letter beyond the limit.
    left_out: Option<u64>,
    reasons: BTreeMap<String, u64>,
    other_reasons: u64,
}

const HEADINGS: [&str; 6] = [
    "EPOCH",
    "SHARD",
    "SEQUENCE NUMBER",
    "ARRIVED",
    "REASON",
    "PAYLOAD",
];

impl<'a> Printer<'a> {
    fn new(args: &'a DeadLettersArgs, out: &'a mut Output) -> Self {
        let widths = [0; 6];
        let reasons = BTreeMap::new();
        Self {
            args,
            out,
            widths,
            letters: 0,
            left_out: None,
            reasons,
            other_reasons: 0,
        }
    }

    /// Breaks when the limit is reached.
    fn batch(&mut self, batch: &RecordBatch) -> Result<ControlFlow<()>, CliError> {
        let rows = rows(batch)
            .ok_or_else(|| CliError::UnexpectedResponse("rows that are no dead letters".into()))?;
        let room = self
            .args
            .limit
            .map_or(u64::MAX, |limit| limit - self.letters);
        let fit = rows.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let left_out = rows.get(fit).map(|row| row.epoch);
        let rows = &rows[..fit];
        if self.args.raw {
            let end = if self.args.null { b'\0' } else { b'\n' };
            rows.iter()
                .try_for_each(|row| self.out.bytes(row.payload, end))?;
        } else if self.out.format() == Format::Json {
            rows.iter()
                .try_for_each(|row| self.out.text(&row.json().to_string()))?;
        } else {
            self.table(rows)?;
        }
        for row in rows {
            self.letters += 1;
            if self.reasons.len() < REASONS_MAX || self.reasons.contains_key(row.reason) {
                *self.reasons.entry(row.reason.to_owned()).or_default() += 1;
            } else {
                self.other_reasons += 1;
            }
        }
        self.left_out = left_out;
        Ok(if left_out.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    /// Columns only ever grow, so later rows stay aligned below earlier ones.
    fn table(&mut self, rows: &[Row<'_>]) -> Result<(), CliError> {
        let cells: Vec<[String; 6]> = rows.iter().map(Row::cells).collect();
        let first = self.letters == 0 && !cells.is_empty();
        let headings = HEADINGS.map(str::to_owned);
        for line in cells.iter().chain([&headings]) {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in first.then_some(&headings).into_iter().chain(&cells) {
            let padded = line
                .iter()
                .zip(self.widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            self.out
                .text(padded.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// The number of letters by reason, most frequent first.
    fn end(self) -> Result<(), CliError> {
        if let Some(epoch) = self.left_out {
            self.out.note(&format!(
                "there are more: go on with --from {epoch}, or raise --limit"
            ));
        }
        self.out.note(&match self.letters {
            0 => "no dead letters".to_owned(),
            letters => count(letters, "dead letter"),
        });
        let mut reasons: Vec<(String, u64)> = self.reasons.into_iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let unnamed = reasons
            .iter()
            .skip(REASONS_SHOWN_MAX)
            .map(|(_, letters)| letters)
            .sum::<u64>()
            + self.other_reasons;
        for (reason, letters) in reasons.into_iter().take(REASONS_SHOWN_MAX) {
            self.out.note(&format!("{letters:>8}  {reason}"));
        }
        if unnamed > 0 {
            self.out.note(&format!("{unnamed:>8}  for other reasons"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
