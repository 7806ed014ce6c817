//! What Arrow Flight carries besides rows: commands, metadata, tickets, as JSON.
//!
//! Owns: their forms. Does not own: which epochs exist (the controller), the rows (workers).
//! Rule: controllers write tickets and workers read them: both use these types, and
//! `proto/golden/flight-*.json` keeps their forms.

use crate::{JobName, TaskId};
use serde::{Deserialize, Serialize};

/// Longest ticket that is read.
pub const TICKET_BYTES_MAX: usize = 1_024;

/// What a subscriber requests: the command of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochsCommand {
    pub job: String,
    /// The first epoch; 0 and 1 both mean the first.
    #[serde(default)]
    pub from: u64,
    /// The last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// This epoch alone: for `from` and `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Most epochs in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Return what could not be decoded instead of the rows of the epochs; `limit` counts the
    /// epochs that are examined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead_letters: bool,
    /// Include epochs that are committed and not yet published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub committed: bool,
    /// Compute the rows from the stream again, even if memory or published objects hold them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reread: bool,
}

/// A command names one epoch, or a range, not both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`epoch` names one epoch; write it without `from` and `to`")]
pub struct EpochAndRange;

impl EpochsCommand {
    /// The same with `from` and `to` in place of `epoch`.
    ///
    /// # Errors
    /// It has both.
    pub fn as_range(self) -> Result<Self, EpochAndRange> {
        match self.epoch {
            None => Ok(self),
            Some(_) if self.from != 0 || self.to.is_some() => Err(EpochAndRange),
            Some(epoch) => Ok(Self {
                from: epoch.max(1),
                to: Some(epoch.max(1)),
                epoch: None,
                ..self
            }),
        }
    }
}

/// The metadata of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochsMetadata {
    pub next_epoch: u64,
    /// The job's state: `running`, `completed` ...
    pub state: String,
    /// The token to present to workers instead of the caller's own; none if they require none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
}

/// The metadata of one endpoint of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointMetadata {
    pub epoch: u64,
}

/// Names one task's part of one epoch, or the epoch's dead letters: a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartTicket {
    pub job: JobName,
    pub epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The epoch's dead letters, of all tasks, instead of the rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead_letters: bool,
    /// Compute the rows from the stream again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reread: bool,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowsFrom {
    /// The worker that computed them still has them.
    Memory,
    /// The published objects.
    Objects,
    /// They are computed from the stream again.
    Stream,
}

/// The metadata of the schema in front of a part's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMetadata {
    pub rows_from: RowsFrom,
    /// Why the published objects do not give the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_from_objects: Option<String>,
}

/// The content that a ticket requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    Part(TaskId),
    DeadLetters,
}

/// It is no ticket of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a ticket of GetFlightInfo")]
pub struct BadTicket;

impl PartTicket {
    /// Reads a ticket from the controller's `GetFlightInfo`.
    ///
    /// # Errors
    /// For anything else.
    pub fn read(bytes: &[u8]) -> Result<Self, BadTicket> {
        if bytes.len() > TICKET_BYTES_MAX {
            return Err(BadTicket);
        }
        let ticket: Self = serde_json::from_slice(bytes).map_err(|_| BadTicket)?;
        ticket.requested().map(|_| ticket)
    }

    /// # Errors
    /// It names both a part and the dead letters, or neither.
    pub fn requested(&self) -> Result<Requested, BadTicket> {
        match (self.task, self.dead_letters) {
            (Some(task), false) => Ok(Requested::Part(task)),
            (None, true) => Ok(Requested::DeadLetters),
            _ => Err(BadTicket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Term;
    use serde::de::DeserializeOwned;
    use std::fmt::Debug;

    /// The form that others may hold: it is written as it was, and read.
    fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(golden: &str, value: T) {
        let golden = golden.trim_end();
        assert_eq!(serde_json::to_string(&value).unwrap(), golden);
        assert_eq!(serde_json::from_str::<T>(golden).unwrap(), value);
    }

    #[test]
    fn the_forms_are_those_of_the_golden_files() {
        kept(
            include_str!("../golden/flight-command.json"),
            EpochsCommand {
                job: "sales".into(),
                from: 7,
                to: Some(9),
                limit: Some(100),
                dead_letters: true,
                committed: true,
                ..Default::default()
            },
        );
        kept(
            include_str!("../golden/flight-command-epoch.json"),
            EpochsCommand {
                job: "sales".into(),
                epoch: Some(7),
                reread: true,
                ..Default::default()
            },
        );
        kept(
            include_str!("../golden/flight-part.json"),
            PartMetadata {
                rows_from: RowsFrom::Stream,
                not_from_objects: Some("x".into()),
            },
        );
        kept(
            include_str!("../golden/flight-metadata.json"),
            EpochsMetadata {
                next_epoch: 10,
                state: "running".into(),
                grant: Some("stg_x".into()),
            },
        );
        kept(
            include_str!("../golden/flight-endpoint.json"),
            EndpointMetadata { epoch: 7 },
        );
        let ticket = PartTicket {
            job: "sales".parse().unwrap(),
            epoch: 7,
            task: Some(TaskId {
                term: Term(3),
                counter: 12,
            }),
            dead_letters: false,
            reread: false,
        };
        kept(include_str!("../golden/flight-ticket.json"), ticket.clone());
        let reread = PartTicket {
            reread: true,
            ..ticket.clone()
        };
        kept(include_str!("../golden/flight-ticket-reread.json"), reread);
        let letters = PartTicket {
            task: None,
            dead_letters: true,
            ..ticket
        };
        kept(
            include_str!("../golden/flight-ticket-letters.json"),
            letters,
        );
    }

    #[test]
    fn one_epoch_is_a_range_and_not_beside_one() {
        let command = |text: &str| serde_json::from_str::<EpochsCommand>(text).unwrap();
        let one = command(r#"{"job": "sales", "epoch": 7}"#).as_range();
        let range = command(r#"{"job": "sales", "from": 7, "to": 7}"#);
        assert_eq!(one, Ok(range));
        for both in ["from", "to"] {
            let text = format!(r#"{{"job": "sales", "epoch": 7, "{both}": 7}}"#);
            assert_eq!(command(&text).as_range(), Err(EpochAndRange));
        }
    }

    #[test]
    fn a_command_needs_only_the_job() {
        let command: EpochsCommand = serde_json::from_str(r#"{"job": "sales"}"#).unwrap();
        let expected = EpochsCommand {
            job: "sales".into(),
            ..Default::default()
        };
        assert_eq!(command, expected);
    }
}
