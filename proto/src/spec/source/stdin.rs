//! `type = "stdin"`: lines from a pipe into `streamctl run`.

use super::{Registered, SourceContext, SourceFacts, SourceKind, StartingPosition};
use crate::change::{Refusal, SourceChange};
use crate::resolved::StreamAddress;
use crate::spec::format;
use crate::spec::format::FORMAT;
use crate::spec::key::{Fields, Part};
use crate::spec::raw::Table;
use crate::spec::{PayloadFormat, SourceSpec};
use serde::{Deserialize, Serialize};

/// The standard input of the process: one shard, each line a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StdinSource {
    pub format: PayloadFormat,
}

static PART: Part = Part {
    title: "[source] with type = \"stdin\"",
    about: "Each line of the standard input of `streamctl run` is a record; the job ends with the input. A pipe \
            cannot be read twice: a cluster refuses such a job, and what a run that was ended has not read is lost.",
    keys: &[&FORMAT],
};

pub(super) static KIND: Registered = Registered {
    word: "stdin",
    part: &PART,
    has_own_columns: false,
    read,
};

fn read(
    table: &mut Table<'_>,
    _: &mut SourceContext<'_, '_>,
) -> Option<(SourceKind, StartingPosition)> {
    let format = format::read(table)?;
    let source = SourceKind::Stdin(StdinSource { format });
    Some((source, StartingPosition::TrimHorizon))
}

impl SourceFacts for StdinSource {
    fn type_name(&self) -> &'static str {
        KIND.word
    }

    fn describe(&self) -> String {
        "standard input".to_owned()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn reads_once(&self) -> bool {
        true
    }

    /// A line arrives when it is read.
    fn keeps_arrival(&self) -> bool {
        false
    }

    fn payload_format(&self) -> PayloadFormat {
        self.format.clone()
    }

    fn fields(&self, spec: &SourceSpec, _: Option<&StreamAddress>) -> Fields {
        self.defaults(spec)
    }

    fn defaults(&self, _: &SourceSpec) -> Fields {
        let mut fields = vec![("format", self.format.name().to_owned())];
        fields.extend(self.format.fields());
        fields
    }

    fn refuses(&self, _: &str, _: &SourceChange<'_>) -> Option<Refusal> {
        // How lines are decoded; which lines there are does not follow from it.
        None
    }
}
