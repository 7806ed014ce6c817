//! What is stored, as rows: to compare it with what the query returns for the same records.
//!
//! Owns: one key per row, the same for a row that was read back and one that was computed again; the
//! trait of a kind's rows; rejected rows, which all kinds store alike. Does not own: a kind's formats
//! (its module), dead letters (`verify`).
//! Rule: equal rows have equal keys, whatever holds them.

use super::{EncodeError, SinkError};
use crate::function::DeadRows;
use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use streamctl_engine::source::files::lines::Lines;
use streamctl_engine::storage::Storages;
use streamctl_proto::StagedObject;
use streamctl_proto::spec::AssumedRole;

/// Largest object that is compared: it is held in memory.
pub const STORED_BYTES_MAX: u64 = 1 << 30;
/// Longest line of an object: a record of 10 MiB in a dead letter, twice, and more than any row of
/// a result.
pub const STORED_LINE_BYTES_MAX: usize = 64 << 20;

/// A row: its key for the comparison, and its text.
pub struct Keyed<'k> {
    /// Equal rows have equal keys.
    pub key: &'k [u8],
    pub text: &'k dyn Fn() -> String,
}

/// Takes one row after the other.
pub type Give<'g> = &'g mut dyn FnMut(Keyed<'_>);

/// The rows of a job's result, stored and computed.
pub trait StoredRows: Send {
    /// The rows of an object that was read back.
    fn of_object(
        &mut self,
        location: &str,
        bytes: Bytes,
        give: Give<'_>,
    ) -> Result<(), EncodeError>;
    /// The rows of a batch of the result.
    fn of_batch(&mut self, batch: &RecordBatch, give: Give<'_>) -> Result<(), SinkError>;
    /// Rows that the job's function put aside.
    fn of_dead(&mut self, dead: &DeadRows, give: Give<'_>) -> Result<(), SinkError>;
}

/// The bytes of an object of a sink with this role.
pub async fn read(
    storages: &Storages,
    role: Option<&AssumedRole>,
    object: &StagedObject,
) -> Result<Bytes, SinkError> {
    Ok(storages
        .for_staged(role, object)
        .get(&object.location, STORED_BYTES_MAX)
        .await?)
}

/// Folder, header and row, each ended so that no two lists make the same key.
pub fn key(into: &mut Vec<u8>, folder: &str, header: &[u8], row: &[u8]) {
    into.clear();
    for part in [folder.as_bytes(), header] {
        into.extend_from_slice(&(part.len() as u64).to_be_bytes());
        into.extend_from_slice(part);
    }
    into.extend_from_slice(row);
}

/// Rejected rows in JSON lines.
pub fn rejected_lines(rows: &[u8], give: Give<'_>) {
    let rows = rows.split(|byte| *byte == b'\n');
    for row in rows.filter(|row| !row.is_empty()) {
        rejected_row(row, give);
    }
}

/// A rejected row, without the reason.
fn rejected_row(row: &[u8], give: Give<'_>) {
    let mut bytes = Vec::with_capacity(row.len() + 16);
    key(&mut bytes, "", b"rejected", row);
    let text = || format!("rejected row {}", String::from_utf8_lossy(row));
    give(Keyed {
        key: &bytes,
        text: &text,
    });
}

/// The rows of an object that was read back.
pub fn rejected_rows(location: &str, bytes: Bytes, give: Give<'_>) -> Result<(), EncodeError> {
    #[derive(Deserialize)]
    struct Rejected<'r> {
        #[serde(borrow)]
        row: &'r RawValue,
    }
    let mut lines = Lines::open(location, bytes, false)?.with_limit(STORED_LINE_BYTES_MAX);
    while let Some(line) = lines.next_line()? {
        match serde_json::from_slice::<Rejected<'_>>(&line.bytes) {
            Ok(rejected) => rejected_row(rejected.row.get().as_bytes(), give),
            Err(error) => {
                let text = || format!("line {} is not a rejected row: {error}", line.number);
                give(Keyed {
                    key: &line.bytes,
                    text: &text,
                });
            }
        }
    }
    Ok(())
}
