//! Why a call of a function failed.
//!
//! Rule: each error has the facts, the function's last log lines and what its reader does next. It
//! does not decide about a retry.

use super::NoRoom;
use super::frame::RaisedHead;
use super::log::{LogLine, plain};
use super::sandbox::Missing;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;
use streamctl_engine::aws::RoleError;
use streamctl_engine::memory::mib;

/// An error of the rows' source: it ends the call.
pub type InputError = Box<dyn std::error::Error + Send + Sync>;

/// Most bytes of a traceback that are kept, from its end.
const TRACEBACK_BYTES_MAX: usize = 16 << 10;
/// Most bytes of each other text of an exception.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// An exception of the user's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    pub kind: String,
    pub message: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub traceback: String,
}

impl From<RaisedHead> for Raised {
    fn from(head: RaisedHead) -> Self {
        let mut start = head.traceback.len().saturating_sub(TRACEBACK_BYTES_MAX);
        while !head.traceback.is_char_boundary(start) {
            start += 1;
        }
        Self {
            kind: shortened(head.kind),
            message: shortened(head.message),
            file: head.file.map(shortened),
            line: head.line,
            traceback: plain(&head.traceback[start..]),
        }
    }
}

fn shortened(text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    plain(&text[..end])
}

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            match self.line {
                Some(line) => write!(f, "{file}, line {line}: ")?,
                None => write!(f, "{file}: ")?,
            }
        }
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// What the child was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Python starts and imports the code.
    Start,
    Call,
    Published,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "while its code was imported",
            Self::Call => "during a call",
            Self::Published => "during on_published",
        })
    }
}

/// Those that end a process of Python.
const SIGNALS: [(i32, &str); 11] = [
    (libc::SIGINT, "SIGINT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGSYS, "SIGSYS"),
];

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match SIGNALS.iter().find(|(number, _)| number == signal) {
                Some((_, name)) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
        }
    }
}

/// How it became known that memory ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemorySign {
    /// An allocation failed, and Python raised an exception.
    Raised(Raised),
    /// The child used more than its limit, and was ended.
    Exceeded,
    /// The child ended near its limit: a library does not bear a failed allocation.
    Ended(Exit),
}

impl std::fmt::Display for MemorySign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raised(raised) => write!(f, "{raised}"),
            Self::Exceeded => f.write_str("it was ended"),
            Self::Ended(exit) => write!(f, "its process ended with {exit}"),
        }
    }
}

/// Why a call of a function failed.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    #[error("the function failed {phase}: {raised}")]
    Raised {
        raised: Raised,
        phase: Phase,
        log: Vec<LogLine>,
    },
    #[error("the function's process ended {phase}, with {exit}")]
    Ended {
        exit: Exit,
        phase: Phase,
        log: Vec<LogLine>,
    },
    #[error("the function closed its connection to the worker {phase}")]
    Closed { phase: Phase, log: Vec<LogLine> },
    #[error(
        "the function ran out of memory: its limit is {}{}; {sign}",
        mib(*limit), peak.map(|peak| format!(", it used {}", mib(peak))).unwrap_or_default()
    )]
    Memory {
        /// Bytes.
        limit: u64,
        peak: Option<u64>,
        sign: MemorySign,
        log: Vec<LogLine>,
    },
    #[error("the function did not end within {limit:?} ({phase}), and was ended")]
    TimeLimit {
        limit: Duration,
        phase: Phase,
        log: Vec<LogLine>,
    },
    #[error("the function's process does not keep to the protocol: {problem}")]
    Protocol { problem: String, log: Vec<LogLine> },
    #[error("the input of the function: {0}")]
    Input(#[source] InputError),
    #[error(
        "the rows of the window have {} or more as Arrow, function.memory is {}",
        mib(*bytes), mib(*limit)
    )]
    InputTooLarge {
        /// Bytes.
        bytes: u64,
        limit: u64,
    },
    #[error("the result of the function has {} or more as Arrow, function.memory is {}",
        mib(*bytes), mib(*limit))]
    ResultTooLarge {
        /// Bytes.
        bytes: u64,
        limit: u64,
    },
    #[error(
        "the result of the function has {} or more as Arrow, and there is no room for it: windows of \
         this worker have {} together",
        mib(.0.bytes), mib(.0.most)
    )]
    NoRoom(NoRoom),
    #[error("the rows cannot be sent to the function: {0}")]
    Encode(#[source] arrow::error::ArrowError),
    #[error("Python cannot be started: {python}: {problem}", python = .python.display())]
    NoPython { python: PathBuf, problem: String },
    /// A part of the protection is needed and is not to be had on this machine.
    #[error("the function does not run unprotected: {}", Missing::list(.missing))]
    NotProtected { missing: Vec<Missing> },
    #[error("the function's process cannot be started ({step}): {problem}")]
    NotStarted {
        step: String,
        problem: String,
        log: Vec<LogLine>,
    },
    #[error("the function server {url} cannot be reached: {problem}")]
    NotReached { url: String, problem: String },
    #[error("the function server {url} refused the call: {problem}")]
    Server { url: String, problem: String },
    /// It has credentials of a role, and the role is not assumed.
    #[error("the credentials of the function: {0}")]
    Role(RoleError),
    #[error("a function server takes no {0}")]
    NotForServers(&'static str),
}

impl FunctionError {
    /// The function's last lines.
    pub fn log(&self) -> &[LogLine] {
        match self {
            Self::Raised { log, .. }
            | Self::Ended { log, .. }
            | Self::Closed { log, .. }
            | Self::Memory { log, .. }
            | Self::TimeLimit { log, .. }
            | Self::Protocol { log, .. }
            | Self::NotStarted { log, .. } => log,
            Self::Input(_)
            | Self::InputTooLarge { .. }
            | Self::ResultTooLarge { .. }
            | Self::NoRoom(_)
            | Self::Encode(_)
            | Self::NoPython { .. }
            | Self::NotProtected { .. }
            | Self::NotReached { .. }
            | Self::Server { .. }
            | Self::Role(_)
            | Self::NotForServers(_) => &[],
        }
    }

    /// The user's exception.
    pub fn raised(&self) -> Option<&Raised> {
        match self {
            Self::Raised { raised, .. }
            | Self::Memory {
                sign: MemorySign::Raised(raised),
                ..
            } => Some(raised),
            _ => None,
        }
    }

    /// What the reader does next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Raised {
                phase: Phase::Start,
                raised,
                ..
            } if !raised.kind.contains("ModuleNotFound")
                && !raised.kind.contains("ImportError") =>
            {
                "fix the function's code"
            }
            Self::Raised {
                phase: Phase::Start,
                ..
            } => {
                "the code cannot be imported: fix it, or add the missing package to the \
                 function's requirements (pyarrow is always needed)"
            }
            Self::Raised { .. } => "fix the function and submit the job with --change",
            Self::Ended {
                phase: Phase::Start,
                ..
            } => {
                "Python needs pyarrow: install it for the worker's interpreter (--function-python; of \
                 `streamctl run`: STREAMCTL_FUNCTION_PYTHON), or add it to the function's requirements"
            }
            Self::Ended {
                exit: Exit::Signal(9),
                ..
            } => {
                "the process was killed from outside: look whether the machine or the control \
                 group ran out of memory"
            }
            Self::Ended { .. } => {
                "the function must return or raise; a library that ends the process shows why in \
                 the last lines"
            }
            Self::Closed { .. } | Self::Protocol { .. } => {
                "the function must leave file descriptors alone that it did not open"
            }
            Self::Memory { .. } | Self::InputTooLarge { .. } | Self::ResultTooLarge { .. } => {
                "raise function.memory, shorten the window, or select fewer rows and columns in \
                 the SQL; per = \"batch\" calls a row-wise function with parts of the window"
            }
            Self::NoRoom(_) => {
                "start the workers with a larger --memory-limit, or return fewer rows and columns"
            }
            Self::TimeLimit { .. } => "raise function.timeout, or make the function faster",
            Self::Input(_) | Self::Encode(_) => "this is no fault of the function",
            Self::NoPython { .. } => {
                "install Python 3.10 or later on the worker, or name it with --function-python"
            }
            Self::NotProtected { .. } => {
                "see docs/functions-sandbox.md for what a machine or container must allow"
            }
            Self::NotStarted { .. } => {
                "see docs/functions-sandbox.md for what the worker needs to start functions"
            }
            Self::NotReached { .. } => {
                "start the server (streamctl-function serve) and check function.url"
            }
            Self::Server { .. } => "see the log of the function server",
            Self::Role(_) => {
                "let the trust policy of function.credentials name the role of the workers, and \
                 allow that role sts:AssumeRole on it"
            }
            Self::NotForServers(_) => "leave it out, or run the function on the workers",
        }
    }

    /// The error with traceback and last lines, for people.
    pub fn report(&self) -> String {
        let mut text = streamctl_proto::describe(self);
        if let Some(raised) = self.raised().filter(|raised| !raised.traceback.is_empty()) {
            let _ = write!(text, "\n{}", raised.traceback.trim_end());
        }
        if !self.log().is_empty() {
            text.push_str("\nlast lines of the function:");
        }
        for line in self.log() {
            let _ = write!(text, "\n  {}", line.text);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_exception_reports_is_bounded_and_plain() {
        let head = RaisedHead {
            kind: "ValueError".into(),
            message: format!("\x1b[31m{}", "ü".repeat(10_000)),
            file: Some("transform.py".into()),
            line: Some(3),
            traceback: format!("{}\nlast line", "x".repeat(1 << 20)),
        };
        let raised = Raised::from(head);
        assert!(raised.message.starts_with("\u{fffd}[31mü"));
        assert!(raised.message.len() < TEXT_BYTES_MAX + 8);
        assert!(raised.traceback.len() <= TRACEBACK_BYTES_MAX);
        assert!(raised.traceback.ends_with("\nlast line"));
        assert!(
            raised
                .to_string()
                .starts_with("transform.py, line 3: ValueError: ")
        );
    }

    #[test]
    fn an_error_has_its_facts_and_its_hint() {
        let error = FunctionError::Memory {
            limit: 256 << 20,
            peak: Some(250 << 20),
            sign: MemorySign::Ended(Exit::Signal(libc::SIGABRT)),
            log: vec![],
        };
        let text = "the function ran out of memory: its limit is 256MiB, it used 250MiB; its process \
                    ended with signal 6 (SIGABRT)";
        assert_eq!(error.to_string(), text);
        assert!(error.hint().starts_with("raise function.memory"));
    }
}
