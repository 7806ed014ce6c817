//! A schema as bytes: an Arrow IPC stream without batches.

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};

/// # Errors
/// It has a type without a stored form.
pub fn encode(schema: &SchemaRef) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.finish()?;
    writer.into_inner()
}

/// # Errors
/// These bytes are not a schema.
pub fn decode(bytes: &[u8]) -> Result<SchemaRef, ArrowError> {
    Ok(StreamReader::try_new(bytes, None)?.schema())
}
