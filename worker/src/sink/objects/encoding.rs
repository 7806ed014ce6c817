//! How rows are written into an object.

use streamctl_engine::written::TextForm;
use streamctl_proto::spec::{Compression, SinkFormat};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub format: SinkFormat,
    pub compression: Compression,
    /// Of Parquet's columns: smaller objects, for much memory.
    pub dictionaries: bool,
    /// Of JSON and CSV.
    pub text: TextForm,
}

impl Encoding {
    /// With all that it can do.
    pub fn new(format: SinkFormat, compression: Compression) -> Self {
        Self {
            format,
            compression,
            dictionaries: true,
            text: TextForm::default(),
        }
    }
}
