//! `format = "json"`: one JSON object per record.

use super::{FormatFacts, PayloadFormat, Registered};
use serde::{Deserialize, Serialize};

/// One JSON object per record; its keys are the columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFormat {}

pub(super) static FORMAT: Registered = Registered {
    word: "json",
    part: None,
    read: |_| Some(PayloadFormat::Json(JsonFormat {})),
};

impl FormatFacts for JsonFormat {
    fn name(&self) -> &'static str {
        FORMAT.word
    }
}
