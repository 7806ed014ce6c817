//! Rows as lines of JSON.
//!
//! Rule: a value's text depends on the value and the sink's keys alone, not on its batch.

use super::TextForm;
use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BinaryArray, MapArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder,
    make_encoder,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::io::Write;
use std::sync::Arc;
use streamctl_proto::spec::{SinkTypes, TimestampFormat};

/// Writes each row as an object on a line of its own. Null columns are left out, unless
/// `explicit_nulls` is set.
///
/// # Errors
/// A type that JSON has no form for, or those of `out`.
pub fn write_lines<W: Write>(
    rows: &RecordBatch,
    form: TextForm,
    explicit_nulls: bool,
    out: W,
) -> Result<(), ArrowError> {
    let mut builder = WriterBuilder::new().with_explicit_nulls(explicit_nulls);
    if form.timestamps == TimestampFormat::Hive {
        builder = builder
            .with_timestamp_format(TextForm::HIVE_TIMESTAMP.to_owned())
            .with_timestamp_tz_format(TextForm::HIVE_TIMESTAMP.to_owned());
    }
    if form.types == SinkTypes::Hive {
        builder = builder.with_encoder_factory(Arc::new(HiveText));
    }
    let mut writer = builder.build::<_, LineDelimited>(out);
    writer.write(rows)?;
    writer.finish()
}

/// Bytes as base64, and numbers that JSON does not have as Spark and Jackson write them.
#[derive(Debug)]
struct HiveText;

impl EncoderFactory for HiveText {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Base64Text(array.as_binary::<i32>())),
            DataType::Float32 => Box::new(Floats(array.as_primitive::<Float32Type>())),
            DataType::Float64 => Box::new(Floats(array.as_primitive::<Float64Type>())),
            DataType::Map(entries, _) => match Maps::new(entries, array.as_map(), options)? {
                Some(maps) => Box::new(maps),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// Maps with all their keys: a null value is written, as Spark does, unlike a null field.
struct Maps<'a> {
    offsets: &'a [i32],
    /// As text.
    keys: StringArray,
    values: NullableEncoder<'a>,
}

impl<'a> Maps<'a> {
    /// `None`: these are not the fields of a map.
    fn new(
        entries: &'a FieldRef,
        map: &'a MapArray,
        options: &'a EncoderOptions,
    ) -> Result<Option<Self>, ArrowError> {
        let DataType::Struct(fields) = entries.data_type() else {
            return Ok(None);
        };
        let Some(value) = fields.get(1) else {
            return Ok(None);
        };
        let keys = cast(map.keys(), &DataType::Utf8)?;
        Ok(Some(Self {
            offsets: map.value_offsets(),
            keys: keys.as_string::<i32>().clone(),
            values: make_encoder(value, map.values().as_ref(), options)?,
        }))
    }
}

impl Encoder for Maps<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let place = |index: usize| usize::try_from(self.offsets[index]).unwrap_or_default();
        let entries = place(row)..place(row + 1);
        out.push(b'{');
        for (number, entry) in entries.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let key = serde_json::Value::from(self.keys.value(entry)).to_string();
            out.extend_from_slice(key.as_bytes());
            out.push(b':');
            match self.values.is_null(entry) {
                true => out.extend_from_slice(b"null"),
                false => self.values.encode(entry, out),
            }
        }
        out.push(b'}');
    }
}

struct Base64Text<'a>(&'a BinaryArray);

impl Encoder for Base64Text<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(BASE64.encode(self.0.value(row)).as_bytes());
        out.push(b'"');
    }
}

struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Encoder for Floats<'_, T>
where
    T::Native: Float,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        match value.word() {
            Some(word) => {
                out.push(b'"');
                out.extend_from_slice(word.as_bytes());
                out.push(b'"');
            }
            None => value.digits(out),
        }
    }
}

/// A float and its text.
pub(super) trait Float: Copy {
    /// For what is no number: Java's words, which Hive and Spark read.
    fn word(self) -> Option<&'static str>;
    /// The fewest digits that give this number back.
    fn digits(self, out: &mut Vec<u8>);
}

macro_rules! float {
    ($($float:ty),+) => {$(
        impl Float for $float {
            fn word(self) -> Option<&'static str> {
                if self.is_nan() {
                    Some("NaN")
                } else if self.is_finite() {
                    None
                } else if self > 0.0 {
                    Some("Infinity")
                } else {
                    Some("-Infinity")
                }
            }
            fn digits(self, out: &mut Vec<u8>) {
                // Memory is the only thing that can refuse bytes, and it aborts instead.
                _ = serde_json::to_writer(out, &self);
            }
        }
    )+};
}

float!(f32, f64);
