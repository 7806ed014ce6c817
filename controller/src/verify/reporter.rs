//! Progress and findings of a running verification, sent to the caller.
//!
//! Owns: counting findings, how many are sent, how often progress is sent. Rule: all findings are
//! counted, but only the first ones are sent: a deleted folder must not cause a million messages.

use super::finding::{Finding, Severity};
use std::time::Duration;
use streamctl_proto::v1::verify_event::Event;
use streamctl_proto::{v1, v1::VerifyProgress};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

/// Findings that one verification sends; further ones are only counted.
pub const FINDINGS_MAX: u64 = 1_000;
/// Shortest time between two progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// The channel to the caller.
pub struct Reporter {
    sender: mpsc::Sender<Result<v1::VerifyEvent, Status>>,
    sent_at: Option<Instant>,
    /// Broken promises.
    pub faults: u64,
    /// What could not be checked.
    pub unchecked: u64,
    /// Informational findings.
    pub notes: u64,
    pub unsent: u64,
}

impl Reporter {
    pub fn new(sender: mpsc::Sender<Result<v1::VerifyEvent, Status>>) -> Self {
        Self {
            sender,
            sent_at: None,
            faults: 0,
            unchecked: 0,
            notes: 0,
            unsent: 0,
        }
    }

    pub async fn find(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            match finding.severity() {
                Severity::Note => self.notes += 1,
                Severity::Unchecked => self.unchecked += 1,
                Severity::Fault | Severity::Unspecified => self.faults += 1,
            }
            if self.faults + self.unchecked + self.notes > FINDINGS_MAX {
                self.unsent += 1;
            } else {
                self.send(Event::Finding(finding.into())).await;
            }
        }
    }

    /// Sends the progress, unless it was sent just before.
    pub async fn progress(&mut self, progress: impl FnOnce() -> VerifyProgress) {
        let now = Instant::now();
        if self
            .sent_at
            .is_none_or(|sent_at| now - sent_at >= PROGRESS_INTERVAL)
        {
            self.sent_at = Some(now);
            self.send(Event::Progress(progress())).await;
        }
    }

    pub async fn conclude(&self, summary: v1::VerifySummary) {
        let Self {
            faults,
            unchecked,
            notes,
            unsent,
            ..
        } = *self;
        let summary = v1::VerifySummary {
            faults,
            unchecked,
            notes,
            findings_unsent: unsent,
            ..summary
        };
        self.send(Event::Summary(summary)).await;
    }

    /// The caller may be gone; then the verification is ended from outside.
    async fn send(&self, event: Event) {
        let _gone = self
            .sender
            .send(Ok(v1::VerifyEvent { event: Some(event) }))
            .await;
    }
}
