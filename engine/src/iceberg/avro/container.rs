//! The object container file.
//!
//! Rule: one block, and a marker made from the content, so that equal content is an equal file.

use super::read::Reader;
use super::schema::{Node, parse_schema};
use super::{AvroError, Value, bad, write};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

/// Largest container, packed or unpacked, that is read.
pub const CONTAINER_BYTES_MAX: u64 = 256 << 20;
const MAGIC: &[u8; 4] = b"Obj\x01";
const MARKER_BYTES: usize = 16;
/// Smaller blocks are not packed: the header is larger than what would be saved.
const PACKED_FROM: usize = 16 * 1024;

/// A schema and its text.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    text: String,
    node: Node,
}

impl AvroSchema {
    /// # Errors
    /// A type that is not one of Avro's.
    pub fn new(json: &serde_json::Value) -> Result<Self, AvroError> {
        Ok(Self {
            text: json.to_string(),
            node: parse_schema(json)?,
        })
    }

    pub fn node(&self) -> &Node {
        &self.node
    }
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Container {
    pub schema: Node,
    /// The header's entries, `avro.schema` among them.
    pub header: Vec<(String, Vec<u8>)>,
    pub records: Vec<Value>,
}

impl Container {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.header.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// The file of these records; `header` are the entries beside the schema and the codec.
///
/// # Errors
/// Records that do not fit the schema.
pub fn write_container(
    schema: &AvroSchema,
    header: &[(&str, String)],
    records: &[Value],
) -> Result<Vec<u8>, AvroError> {
    let mut block = Vec::new();
    for record in records {
        write::value(record, &schema.node, &mut block)?;
    }
    let (codec, packed) = match block.len() {
        ..PACKED_FROM => ("null", block),
        _ => ("deflate", deflate(&block)?),
    };

    let mut file = MAGIC.to_vec();
    write::length(header.len() + 2, &mut file);
    let mut entry = |name: &str, value: &str| {
        write::bytes(name.as_bytes(), &mut file);
        write::bytes(value.as_bytes(), &mut file);
    };
    entry("avro.schema", &schema.text);
    entry("avro.codec", codec);
    for (name, value) in header {
        entry(name, value);
    }
    file.push(0);
    let mut digest = Sha256::new();
    digest.update(&file);
    digest.update(&packed);
    let marker = digest.finalize()[..MARKER_BYTES].to_vec();
    file.extend(&marker);
    if !records.is_empty() {
        write::length(records.len(), &mut file);
        write::bytes(&packed, &mut file);
        file.extend(&marker);
    }
    Ok(file)
}

fn deflate(block: &[u8]) -> Result<Vec<u8>, AvroError> {
    let mut encoder = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::default());
    let packed = encoder.write_all(block).and_then(|()| encoder.finish());
    packed.map_err(|error| AvroError(error.to_string()))
}

/// Reads a container; `known` is the schema that it probably has.
///
/// # Errors
/// Bytes that are not a container, or one of an unknown codec.
pub fn read_container(bytes: &[u8], known: &AvroSchema) -> Result<Container, AvroError> {
    let mut reader = Reader::new(bytes);
    if reader.take(MAGIC.len())? != MAGIC {
        return bad("this is not an Avro file");
    }
    let header = reader.value(&Node::Map(Box::new(Node::Bytes)))?;
    let Value::Map(header) = header else {
        return bad("the file has no header");
    };
    let header: Vec<(String, Vec<u8>)> = header
        .into_iter()
        .map(|(name, value)| (name, value.bytes().unwrap_or_default().to_vec()))
        .collect();
    let entry = |name: &str| {
        let found = header.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_slice())
    };
    let schema = entry("avro.schema").unwrap_or_default();
    let schema = if schema == known.text.as_bytes() {
        known.node.clone()
    } else {
        let json = serde_json::from_slice(schema).map_err(|error| AvroError(error.to_string()))?;
        parse_schema(&json)?
    };
    let codec = entry("avro.codec").unwrap_or(b"null").to_vec();
    let marker = reader.take(MARKER_BYTES)?;
    let mut records = Vec::new();
    let mut room = CONTAINER_BYTES_MAX;
    while !reader.is_empty() {
        let count = reader.long()?;
        let block = unpack(&codec, reader.bytes()?, room)?;
        room = room.saturating_sub(block.len() as u64);
        let mut inner = Reader::new(&block);
        for _ in 0..count {
            if inner.is_empty() {
                return bad("a block has fewer records than it states");
            }
            records.push(inner.value(&schema)?);
        }
        if reader.take(MARKER_BYTES)? != marker {
            return bad("a block does not end with the file's marker");
        }
    }
    Ok(Container {
        schema,
        header,
        records,
    })
}

fn unpack(codec: &[u8], block: &[u8], room: u64) -> Result<Vec<u8>, AvroError> {
    let mut unpacked = Vec::new();
    let limited = |reader: &mut dyn Read, unpacked: &mut Vec<u8>| {
        let read = reader.take(room + 1).read_to_end(unpacked);
        read.map_err(|error| AvroError(format!("a block cannot be unpacked: {error}")))
    };
    match codec {
        b"null" => unpacked.extend_from_slice(block),
        b"deflate" => {
            limited(&mut flate2::read::DeflateDecoder::new(block), &mut unpacked)?;
        }
        b"zstandard" => {
            let decoder = zstd::stream::read::Decoder::new(block);
            let mut decoder = decoder.map_err(|error| AvroError(error.to_string()))?;
            limited(&mut decoder, &mut unpacked)?;
        }
        b"snappy" => {
            // Four bytes of CRC-32 follow.
            let packed = block.split_at_checked(block.len().saturating_sub(4));
            let packed = packed.map_or(block, |(packed, _)| packed);
            let length = snap::raw::decompress_len(packed);
            if length.as_ref().is_ok_and(|length| *length as u64 <= room) {
                let vec = snap::raw::Decoder::new().decompress_vec(packed);
                unpacked = vec.map_err(|error| AvroError(error.to_string()))?;
            } else {
                return bad("a block cannot be unpacked, or is too large");
            }
        }
        _ => {
            let codec = String::from_utf8_lossy(codec);
            return bad(format!("the codec {codec:?} is not known"));
        }
    }
    if unpacked.len() as u64 > room {
        return bad(format!(
            "the file has more than {CONTAINER_BYTES_MAX} bytes, unpacked"
        ));
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> AvroSchema {
        let json = json!({"type": "record", "name": "r", "fields": [
            {"name": "a", "type": "long", "field-id": 1},
            {"name": "b", "type": ["null", "string"], "default": null, "field-id": 2},
            {"name": "c", "type": {"type": "array", "items": {"type": "record", "name": "e",
                "fields": [{"name": "k", "type": "int"}, {"name": "v", "type": "bytes"}]}}},
            {"name": "d", "type": ["null", "e"], "default": null},
            {"name": "f", "type": {"type": "fixed", "name": "f3", "size": 3}},
            {"name": "g", "type": "double"}, {"name": "h", "type": "boolean"},
            {"name": "i", "type": "float"}]});
        AvroSchema::new(&json).unwrap()
    }

    fn record(number: i64) -> Value {
        let entry = Value::Record(vec![Value::Int(-7), Value::Bytes(vec![1, 2])]);
        Value::Record(vec![
            Value::Long(number),
            if number % 2 == 0 {
                Value::Null
            } else {
                Value::Text("é".into())
            },
            Value::Array(vec![entry.clone(), entry]),
            Value::Null,
            Value::Bytes(vec![7, 8, 9]),
            Value::Double(0.5),
            Value::Boolean(true),
            Value::Float(-1.5),
        ])
    }

    #[test]
    fn records_come_back_and_equal_content_is_an_equal_file() {
        let records: Vec<_> = [0, 1, -1, 63, 64, i64::MAX, i64::MIN].map(record).to_vec();
        let header = [("format-version", "2".to_owned())];
        let file = write_container(&schema(), &header, &records).unwrap();
        assert_eq!(file, write_container(&schema(), &header, &records).unwrap());
        let read = read_container(&file, &schema()).unwrap();
        assert_eq!(read.records, records);
        assert_eq!(read.header("format-version"), Some("2"));
        assert_eq!(read.schema.fields()[1].id, Some(2));
    }

    #[test]
    fn many_records_are_packed_and_come_back() {
        let records: Vec<_> = (0..5000).map(record).collect();
        let file = write_container(&schema(), &[], &records).unwrap();
        assert!(file.len() < 50_000, "{}", file.len());
        let read = read_container(&file, &schema()).unwrap();
        assert_eq!(read.header("avro.codec"), Some("deflate"));
        assert_eq!(read.records, records);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_refused_and_never_a_panic() {
        let file = write_container(&schema(), &[], &[record(1), record(2)]).unwrap();
        let known = schema();
        for end in 0..file.len() {
            // An end before the first block is a file without records.
            if let Ok(read) = read_container(&file[..end], &known) {
                assert!(read.records.is_empty());
            }
        }
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                let _ = read_container(&changed, &known);
            }
        }
    }
}
