//! `format = "json"`: one JSON object per record.

use super::{FormatFacts, PayloadFormat, Registered};
use serde::{Deserialize, Serialize};

/// JSON objects; their keys are the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFormat {
    /// The objects are made of the rows of CSV files. It follows from the source and is not stored.
    #[serde(skip)]
    pub of_rows: bool,
}

pub(super) static FORMAT: Registered = Registered {
    word: "json",
    part: None,
    read: |_| Some(PayloadFormat::default()),
};

impl FormatFacts for JsonFormat {
    fn name(&self) -> &'static str {
        FORMAT.word
    }
}
