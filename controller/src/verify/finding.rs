//! One finding of a verification.
//!
//! Owns: the severity of each kind, and what to do about it. Does not own: the checks.
//! Rule: only a broken promise is a fault; what could not be checked is reported as unchecked.

use streamctl_proto::v1;
pub use streamctl_proto::v1::verify_finding::{Kind, Severity};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// The epoch; 0: none.
    pub epoch: u64,
    /// A shard, an object, a manifest; empty: none.
    pub subject: String,
    pub text: String,
}

impl Finding {
    /// A finding about `subject` in `epoch`.
    pub fn new(
        kind: Kind,
        epoch: u64,
        subject: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            epoch,
            subject: subject.into(),
            text: text.into(),
        }
    }

    /// What it means for the verification.
    pub fn severity(&self) -> Severity {
        match self.kind {
            Kind::ObjectWaiting | Kind::EpochRepaired => Severity::Note,
            Kind::ReplayGone | Kind::NotChecked | Kind::DataLoss => Severity::Unchecked,
            _ => Severity::Fault,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            Kind::ManifestMissing | Kind::ManifestChanged => {
                "restore it from a copy or an earlier version; streamctl deletes manifests only \
                 before the anchor, and changes none"
            }
            Kind::ObjectMissing => {
                "restore it, or take its epoch's rows from the stream again with `streamctl tail`; \
                 nothing of streamctl ever deletes a published object"
            }
            Kind::ObjectSize | Kind::ObjectChecksum => {
                "restore it: somebody has written to it since it was published"
            }
            Kind::ObjectStray => {
                "readers of the folder see it: find out who put it there, then move it away"
            }
            Kind::StoreOlder => {
                "nothing of these epochs is lost, leave their objects where they are: `streamctl \
                 repair`, then verify again"
            }
            Kind::ObjectWaiting => "it becomes visible when its epoch is published: verify again",
            Kind::EpochRepaired => {
                "nothing is wrong: the same records gave the same rows, under other names"
            }
            Kind::EpochSkipped => {
                "its user gave them up with `streamctl repair --skip`; verify from the epoch \
                 after it with --from"
            }
            Kind::ReplayGone => {
                "nothing is wrong; replay a newer epoch, or lengthen the stream's retention"
            }
            Kind::ReplayRows | Kind::ReplayDeadLetters | Kind::ReplayRecords => {
                "if no object of this epoch was changed, report it with the manifest: the same \
                 records must give the same rows"
            }
            Kind::JobVersion => {
                "restore the versions of the job from a copy; nothing of streamctl ever deletes \
                 or changes one"
            }
            Kind::DataLoss => {
                "the job file accepts it (on_data_loss = \"continue\"); raise the stream's \
                 retention, and see why the job did not read"
            }
            Kind::NotChecked => "verify again once that is fixed",
            _ => {
                "report it with the manifests of this epoch and the one before: it must never \
                 happen"
            }
        }
    }
}

impl From<Finding> for v1::VerifyFinding {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.severity().into(),
            kind: finding.kind.into(),
            epoch: finding.epoch,
            hint: finding.hint().to_owned(),
            subject: finding.subject,
            text: finding.text,
        }
    }
}
