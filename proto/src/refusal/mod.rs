//! Refusals: why a call failed, as data on the wire.
//!
//! Owns: from [`CallRefusal`] to the details of a gRPC status (`ErrorInfo`, `BadRequest`,
//! `RetryInfo`) and back. Does not own: the reasons' table ([`reason`]).
//! Rule: statuses with a reason are made and read here alone; no program searches a message.

mod reason;
#[cfg(test)]
mod tests;

pub use reason::Reason;

use crate::spec::{Problem, Problems};
use crate::v1;
use prost::Message;
use std::collections::HashMap;
use std::fmt;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::pb;

/// The metadata key that carries the leader's address, for clients that read no details.
pub const LEADER_METADATA: &str = "streamctl-leader";
/// Whose reasons these are, in `ErrorInfo`.
const DOMAIN: &str = "streamctl";
const HINT: &str = "hint";
const LEADER: &str = "leader";
/// Types of details.
const TYPE_PREFIX: &str = "type.googleapis.com/";
/// Longest message, as its header counts it. Clients accept 16 KiB of headers for all of a refusal,
/// which holds the message twice.
const MESSAGE_BYTES_MAX: usize = 3 << 10;
/// Most bytes of problems in the details; they travel in base64.
const PROBLEMS_BYTES_MAX: usize = 4 << 10;
/// Longest hint.
const HINT_BYTES_MAX: usize = 1 << 10;

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRefusal {
    pub reason: Reason,
    /// Without the hint.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// What is wrong with the job file.
    pub problems: Vec<Problem>,
    /// Problems that did not fit.
    pub problems_left_out: usize,
    /// The leader's address, from a controller that stands by.
    pub leader: Option<String>,
}

impl CallRefusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            hint: None,
            problems: vec![],
            problems_left_out: 0,
            leader: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The address of the controller that leads.
    #[must_use]
    pub fn leader(mut self, address: &str) -> Self {
        self.leader = Some(address.to_owned());
        self
    }

    /// Problems of a job file, with their lines.
    pub fn of_job_file(problems: Problems) -> Self {
        Self {
            problems: problems.0.clone(),
            ..Self::new(Reason::InvalidJobFile, problems.to_string())
        }
    }

    /// Reads the details of a status; `None`: it has none of ours, as those of a broken connection.
    pub fn read(status: &Status) -> Option<Self> {
        let details = pb::Status::decode(status.details()).ok()?.details;
        let info: pb::ErrorInfo = find(&details, "google.rpc.ErrorInfo")?;
        if info.domain != DOMAIN {
            return None;
        }
        let reason = Reason::of_name(&info.reason)?;
        let hint = info.metadata.get(HINT).cloned();
        let text = status.message();
        let message = match &hint {
            Some(hint) => text
                .strip_suffix(hint_suffix(hint).as_str())
                .unwrap_or(text),
            None => text,
        };
        let violations: Option<pb::BadRequest> = find(&details, "google.rpc.BadRequest");
        let more: Option<v1::ProblemDetails> = find(&details, "streamctl.v1.ProblemDetails");
        let more = more.unwrap_or_default();
        Some(Self {
            reason,
            message: message.to_owned(),
            problems: problems(violations.unwrap_or_default(), &more),
            problems_left_out: more.left_out as usize,
            leader: info.metadata.get(LEADER).cloned(),
            hint,
        })
    }

    /// The address of the leader, host:port, from a controller that stands by.
    pub fn leader_named(status: &Status) -> Option<String> {
        let named = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
        let is_standby = status.code() == Code::FailedPrecondition && !named.is_empty();
        is_standby.then(|| named.to_owned())
    }

    /// Message and hint of any status.
    pub fn text_of(status: &Status) -> (String, Option<String>) {
        match Self::read(status) {
            Some(refusal) => (refusal.message, refusal.hint),
            None => (status.message().to_owned(), None),
        }
    }

    /// Whether no controller leads at this address at this moment.
    pub fn is_not_leading(status: &Status) -> bool {
        Self::read(status).is_some_and(|refusal| {
            matches!(
                refusal.reason,
                Reason::Standby | Reason::NoLeader | Reason::LeadershipLost
            )
        })
    }
}

impl fmt::Display for CallRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => f.write_str(&hint_suffix(hint)),
            None => Ok(()),
        }
    }
}

fn hint_suffix(hint: &str) -> String {
    format!("\n  hint: {hint}")
}

fn find<M: Message + Default>(details: &[prost_types::Any], name: &str) -> Option<M> {
    let is_it = |any: &&prost_types::Any| any.type_url.strip_prefix(TYPE_PREFIX) == Some(name);
    let any = details.iter().find(is_it)?;
    M::decode(any.value.as_slice()).ok()
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("{TYPE_PREFIX}{name}"),
        value: message.encode_to_vec(),
    }
}

fn problems(violations: pb::BadRequest, more: &v1::ProblemDetails) -> Vec<Problem> {
    let violations = violations.field_violations.into_iter();
    let problem = |(index, violation): (usize, pb::bad_request::FieldViolation)| {
        let detail = more.problems.get(index);
        Problem {
            line: detail
                .and_then(|detail| detail.line)
                .map(|line| line as usize),
            field: violation.field,
            part: None,
            message: violation.description,
            hint: detail.and_then(|detail| detail.hint.clone()),
        }
    };
    violations.enumerate().map(problem).collect()
}

/// As many problems as fit.
fn of_problems(problems: &[Problem]) -> (pb::BadRequest, v1::ProblemDetails) {
    let mut request = pb::BadRequest::default();
    let mut more = v1::ProblemDetails::default();
    let mut bytes = 0;
    for problem in problems {
        let hint_bytes = problem.hint.as_ref().map_or(0, String::len);
        bytes += problem.field.len() + problem.message.len() + hint_bytes + 16;
        if bytes > PROBLEMS_BYTES_MAX {
            break;
        }
        request
            .field_violations
            .push(pb::bad_request::FieldViolation {
                field: problem.field.clone(),
                description: problem.message.clone(),
                ..Default::default()
            });
        more.problems.push(v1::ProblemDetail {
            line: problem.line.and_then(|line| u32::try_from(line).ok()),
            hint: problem.hint.clone(),
        });
    }
    let left_out = problems.len() - more.problems.len();
    more.left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
    (request, more)
}

/// The beginning of a text that fits into a header: a byte that is not printable ASCII takes three.
fn fitting(text: &str, bytes_max: usize) -> &str {
    let mut bytes = 0;
    let cost = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            1
        } else {
            3 * c.len_utf8()
        }
    };
    let fits = |(_, c): &(usize, char)| {
        bytes += cost(*c);
        bytes <= bytes_max
    };
    let end = text
        .char_indices()
        .take_while(fits)
        .last()
        .map_or(0, |(at, c)| at + c.len_utf8());
    &text[..end]
}

fn shortened(text: &str, bytes_max: usize) -> String {
    let fitting = fitting(text, bytes_max);
    match fitting.len() == text.len() {
        true => text.to_owned(),
        false => format!("{fitting}\nand more"),
    }
}

impl From<CallRefusal> for Status {
    fn from(refusal: CallRefusal) -> Self {
        let reason = refusal.reason;
        let hint = refusal
            .hint
            .map(|hint| fitting(&hint, HINT_BYTES_MAX).to_owned());
        let room = MESSAGE_BYTES_MAX - hint.as_ref().map_or(0, String::len);
        let message = CallRefusal {
            hint: hint.clone(),
            ..CallRefusal::new(reason, shortened(&refusal.message, room))
        }
        .to_string();
        let leader = refusal.leader;
        let metadata = [(HINT, hint), (LEADER, leader.clone())];
        let metadata: HashMap<String, String> = metadata
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        let info = pb::ErrorInfo {
            reason: reason.name().to_owned(),
            domain: DOMAIN.to_owned(),
            metadata,
        };
        let mut details = vec![any("google.rpc.ErrorInfo", &info)];
        if let Some(after) = reason.retry_after() {
            let retry = pb::RetryInfo {
                retry_delay: prost_types::Duration::try_from(after).ok(),
            };
            details.push(any("google.rpc.RetryInfo", &retry));
        }
        if !refusal.problems.is_empty() {
            let (request, more) = of_problems(&refusal.problems);
            details.push(any("google.rpc.BadRequest", &request));
            details.push(any("streamctl.v1.ProblemDetails", &more));
        }
        let code = reason.code();
        let status = pb::Status {
            code: Code::into(code),
            message: message.clone(),
            details,
        };
        let mut status = Status::with_details(code, message, status.encode_to_vec().into());
        if let Some(value) = leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
            status.metadata_mut().insert(LEADER_METADATA, value);
        }
        status
    }
}
