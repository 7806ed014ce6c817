//! `from_json(text, schema)`.
//!
//! Owns: which value a token has for a type, what is kept where one does not fit (mode PERMISSIVE).
//! Does not own: tokens (`jackson`), the syntax of schemas (`ddl`).
//! Rule: a field that does not fit is NULL and its neighbours stay; a text that is no JSON is a
//! struct of NULLs, and a list or a map that is NULL; an empty text is NULL. So does Spark 3.5.

use super::call::{Given, Refusal, Rows};
use super::jackson::{Beyond, Fault, Token, Tokens};
use super::types::TIME;
use super::{clock, ddl, number};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields};
use datafusion::common::{Result, exec_err};
use std::sync::Arc;

/// The column in which Spark would keep texts that are no JSON.
const CORRUPT_RECORD: &str = "_corrupt_record";

pub(super) fn type_of(given: &Given<'_>) -> Result<DataType, Refusal> {
    if *given.kind(0) != DataType::Utf8 {
        return Err(given.refuse("reads a text alone", "name a column of the type string"));
    }
    let schema = given.constant_text(1)?.unwrap_or_default();
    let hint = "write it as Spark does: 'id INT, items ARRAY<STRUCT<sku: STRING>>'";
    let refused =
        |reason: String| given.refuse(format!("does not take this schema: {reason}"), hint);
    let data_type = ddl::parsed(schema).map_err(refused)?;
    match &data_type {
        DataType::Struct(fields) if fields.iter().any(|field| field.name() == CORRUPT_RECORD) => {
            Err(refused(format!("a field {CORRUPT_RECORD} is not filled")))
        }
        nested if !nested.is_nested() => {
            Err(refused("it is no struct, no array and no map".into()))
        }
        nested if !has_text_keys(nested) => {
            Err(refused("the keys of a map are of the type string".into()))
        }
        _ => Ok(data_type),
    }
}

fn has_text_keys(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|one| has_text_keys(one.data_type())),
        DataType::List(element) => has_text_keys(element.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                *fields[0].data_type() == DataType::Utf8 && has_text_keys(fields[1].data_type())
            }
            _ => false,
        },
        _ => true,
    }
}

pub(super) fn from_json(rows: &Rows<'_>) -> Result<ArrayRef> {
    let values = (0..rows.count).map(|row| match rows.row(row).text(0) {
        Some(text) => root(&text, rows.gives),
        None => Read::Null,
    });
    array_of(rows.gives, values.collect())
}

/// A value that was read.
enum Read {
    Null,
    Bool(bool),
    Whole(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    Text(String),
    Days(i32),
    Micros(i64),
    List(Vec<Read>),
    Map(Vec<(String, Read)>),
    Struct(Vec<Read>),
}

/// Why a value is not whole.
enum Broken {
    /// There is none.
    All,
    /// A part of it is NULL.
    Part(Read),
}

impl From<Fault> for Broken {
    fn from(_: Fault) -> Self {
        Self::All
    }
}

type Taken = std::result::Result<Read, Broken>;

fn root(text: &str, kind: &DataType) -> Read {
    let nothing = || match kind {
        DataType::Struct(fields) => Read::Struct(fields.iter().map(|_| Read::Null).collect()),
        _ => Read::Null,
    };
    let mut tokens = Tokens::new(text, Beyond::Infinity);
    match tokens.next() {
        Ok(None) => return Read::Null,
        Err(Fault) => return nothing(),
        Ok(Some(_)) => {}
    }
    let taken = match (tokens.current, kind) {
        (Some(Token::StartObject), DataType::List(element)) => match element.data_type() {
            DataType::Struct(_) => match value(&mut tokens, element.data_type()) {
                Ok(one) | Err(Broken::Part(one)) => Ok(Read::List(vec![one])),
                Err(Broken::All) => Err(Broken::All),
            },
            _ => Err(Broken::All),
        },
        _ => value(&mut tokens, kind),
    };
    match taken {
        Ok(Read::Null) | Err(Broken::All) => nothing(),
        Ok(read) | Err(Broken::Part(read)) => read,
    }
}

/// The value that begins at the current token.
fn value(tokens: &mut Tokens<'_>, kind: &DataType) -> Taken {
    let mut token = tokens.current;
    while token == Some(Token::FieldName) {
        token = tokens.next()?;
    }
    let token = match token {
        None | Some(Token::Null) => return Ok(Read::Null),
        Some(token) => token,
    };
    match (kind, token) {
        (DataType::Struct(fields), Token::StartObject) => object(tokens, fields),
        (DataType::List(element), Token::StartArray) => list(tokens, element.data_type()),
        (DataType::Map(entries, _), Token::StartObject) => match entries.data_type() {
            DataType::Struct(fields) => map(tokens, fields[1].data_type()),
            _ => Err(Broken::All),
        },
        (DataType::Utf8, Token::Text) => Ok(Read::Text(tokens.text()?)),
        (DataType::Utf8, _) => {
            let mut text = String::new();
            tokens.copy(&mut text)?;
            Ok(Read::Text(text))
        }
        (DataType::Boolean, Token::True) => Ok(Read::Bool(true)),
        (DataType::Boolean, Token::False) => Ok(Read::Bool(false)),
        (single, Token::Text) => {
            let text = tokens.text()?;
            of_text(&text, single).ok_or(Broken::All)
        }
        (single, Token::Int | Token::Float) => {
            let digits = tokens.digits_of_number();
            of_number(digits, token == Token::Int, single).ok_or(Broken::All)
        }
        _ => Err(Broken::All),
    }
}

fn object(tokens: &mut Tokens<'_>, fields: &Fields) -> Taken {
    let mut values: Vec<Read> = fields.iter().map(|_| Read::Null).collect();
    let mut is_whole = true;
    while goes_on(tokens, Token::EndObject)? {
        let name = tokens.name();
        let Some(place) = fields
            .iter()
            .position(|field| Some(field.name().as_str()) == name)
        else {
            tokens.skip_children()?;
            continue;
        };
        match value(tokens, fields[place].data_type()) {
            Ok(read) => values[place] = read,
            Err(Broken::Part(read)) => {
                values[place] = read;
                is_whole = false;
            }
            Err(Broken::All) => {
                is_whole = false;
                tokens.skip_children()?;
            }
        }
    }
    let read = Read::Struct(values);
    if is_whole {
        Ok(read)
    } else {
        Err(Broken::Part(read))
    }
}

/// An element that is nothing ends the list; one that lacks a part stays.
fn list(tokens: &mut Tokens<'_>, element: &DataType) -> Taken {
    let mut values = vec![];
    let mut is_whole = true;
    while goes_on(tokens, Token::EndArray)? {
        match value(tokens, element) {
            Ok(read) => values.push(read),
            Err(Broken::Part(read)) => {
                values.push(read);
                is_whole = false;
            }
            Err(Broken::All) => return Err(Broken::All),
        }
    }
    let read = Read::List(values);
    if is_whole {
        Ok(read)
    } else {
        Err(Broken::Part(read))
    }
}

/// A value that is nothing makes the map nothing, after all of it was read.
fn map(tokens: &mut Tokens<'_>, kind: &DataType) -> Taken {
    let mut entries = vec![];
    let mut is_whole = true;
    let mut lacks_value = false;
    while goes_on(tokens, Token::EndObject)? {
        let name = tokens.name().unwrap_or_default().to_owned();
        match value(tokens, kind) {
            Ok(read) => entries.push((name, read)),
            Err(Broken::Part(read)) => {
                entries.push((name, read));
                is_whole = false;
            }
            Err(Broken::All) => {
                lacks_value = true;
                tokens.skip_children()?;
            }
        }
    }
    match (lacks_value, is_whole) {
        (true, _) => Err(Broken::All),
        (false, true) => Ok(Read::Map(entries)),
        (false, false) => Err(Broken::Part(Read::Map(entries))),
    }
}

fn goes_on(tokens: &mut Tokens<'_>, end: Token) -> std::result::Result<bool, Fault> {
    Ok(tokens.next()?.is_some_and(|token| token != end))
}

fn infinite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+INF" | "+Infinity" | "Infinity" => Some(f64::INFINITY),
        "-INF" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn of_text(text: &str, kind: &DataType) -> Option<Read> {
    if text.is_empty() {
        return None;
    }
    match kind {
        DataType::Float32 => infinite(text).map(|value| Read::Float(value as f32)),
        DataType::Float64 => infinite(text).map(Read::Double),
        DataType::Decimal128(digits, scale) => {
            decimal(&text.replace(',', ""), *digits, *scale).map(Read::Decimal)
        }
        DataType::Date32 => {
            let found = clock::date(text).or_else(|| clock::date(&without_gmt(text)));
            found.or_else(|| days(text)).map(Read::Days)
        }
        time if *time == TIME => {
            let found = clock::time(text).or_else(|| clock::time(&without_gmt(text)));
            found.map(Read::Micros)
        }
        _ => None,
    }
}

/// `2000-01-01T00:00GMT+01:00`, as Spark 1 wrote it.
fn without_gmt(text: &str) -> String {
    text.replacen("GMT", "", 1)
}

/// Days since 1970, as Spark 1 wrote dates. Those before 1582 are of another calendar, and NULL here.
fn days(text: &str) -> Option<i32> {
    const FIRST_GREGORIAN_DAY: i32 = -141_427;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Four to seven digits are a year.
    let is_count = !digits.is_empty() && !(4..=7).contains(&digits.len());
    if !is_count || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let days: i32 = text.parse().ok()?;
    (days >= FIRST_GREGORIAN_DAY).then_some(days)
}

fn decimal(text: &str, digits: u8, scale: i8) -> Option<i128> {
    let is_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    is_number
        .then(|| number::decimal(text, digits, scale))
        .flatten()
}

fn of_number(digits: &str, is_int: bool, kind: &DataType) -> Option<Read> {
    let whole = || digits.parse::<i64>().ok().filter(|_| is_int);
    let within = |least: i64, most: i64| {
        let number = whole().filter(|number| (least..=most).contains(number));
        number.map(Read::Whole)
    };
    match kind {
        // Jackson takes a byte with or without a sign.
        DataType::Int8 => match within(i8::MIN.into(), u8::MAX.into())? {
            Read::Whole(number) => Some(Read::Whole((number as i8).into())),
            other => Some(other),
        },
        DataType::Int16 => within(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => within(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => within(i64::MIN, i64::MAX),
        DataType::Float32 => match infinite(digits) {
            Some(value) => Some(Read::Float(value as f32)),
            None => digits.parse().ok().map(Read::Float),
        },
        DataType::Float64 => match infinite(digits) {
            Some(value) => Some(Read::Double(value)),
            None => digits.parse().ok().map(Read::Double),
        },
        DataType::Decimal128(most, scale) => decimal(digits, *most, *scale).map(Read::Decimal),
        time if *time == TIME => {
            whole().map(|seconds| Read::Micros(seconds.wrapping_mul(1_000_000)))
        }
        _ => None,
    }
}

/// A column of the values that were read for this type.
fn array_of(kind: &DataType, values: Vec<Read>) -> Result<ArrayRef> {
    let each = values.into_iter();
    let whole = |read: Read| match read {
        Read::Whole(value) => Some(value),
        _ => None,
    };
    Ok(match kind {
        DataType::Boolean => Arc::new(
            each.map(|read| match read {
                Read::Bool(value) => Some(value),
                _ => None,
            })
            .collect::<BooleanArray>(),
        ),
        DataType::Int8 => Arc::new(
            each.map(|read| whole(read).map(|n| n as i8))
                .collect::<Int8Array>(),
        ),
        DataType::Int16 => Arc::new(
            each.map(|read| whole(read).map(|n| n as i16))
                .collect::<Int16Array>(),
        ),
        DataType::Int32 => Arc::new(
            each.map(|read| whole(read).map(|n| n as i32))
                .collect::<Int32Array>(),
        ),
        DataType::Int64 => Arc::new(each.map(whole).collect::<Int64Array>()),
        DataType::Float32 => Arc::new(
            each.map(|read| match read {
                Read::Float(value) => Some(value),
                _ => None,
            })
            .collect::<Float32Array>(),
        ),
        DataType::Float64 => Arc::new(
            each.map(|read| match read {
                Read::Double(value) => Some(value),
                _ => None,
            })
            .collect::<Float64Array>(),
        ),
        DataType::Decimal128(digits, scale) => Arc::new(
            each.map(|read| match read {
                Read::Decimal(value) => Some(value),
                _ => None,
            })
            .collect::<Decimal128Array>()
            .with_precision_and_scale(*digits, *scale)?,
        ),
        DataType::Utf8 => Arc::new(
            each.map(|read| match read {
                Read::Text(value) => Some(value),
                _ => None,
            })
            .collect::<StringArray>(),
        ),
        DataType::Date32 => Arc::new(
            each.map(|read| match read {
                Read::Days(value) => Some(value),
                _ => None,
            })
            .collect::<Date32Array>(),
        ),
        time if *time == TIME => Arc::new(
            each.map(|read| match read {
                Read::Micros(value) => Some(value),
                _ => None,
            })
            .collect::<TimestampMicrosecondArray>(),
        ),
        DataType::Struct(fields) => structs(fields, each)?,
        DataType::List(element) => {
            let mut inner = vec![];
            let mut lengths = vec![];
            let mut valid = vec![];
            for read in each {
                valid.push(matches!(read, Read::List(_)));
                match read {
                    Read::List(elements) => {
                        lengths.push(elements.len());
                        inner.extend(elements);
                    }
                    _ => lengths.push(0),
                }
            }
            Arc::new(ListArray::try_new(
                Arc::clone(element),
                OffsetBuffer::from_lengths(lengths),
                array_of(element.data_type(), inner)?,
                Some(NullBuffer::from(valid)),
            )?)
        }
        DataType::Map(entries, is_sorted) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return exec_err!("a map has entries");
            };
            let mut keys = vec![];
            let mut inner = vec![];
            let mut lengths = vec![];
            let mut valid = vec![];
            for read in each {
                valid.push(matches!(read, Read::Map(_)));
                let Read::Map(found) = read else {
                    lengths.push(0);
                    continue;
                };
                lengths.push(found.len());
                for (key, value) in found {
                    keys.push(key);
                    inner.push(value);
                }
            }
            let keys: ArrayRef = Arc::new(StringArray::from(keys));
            let values = array_of(fields[1].data_type(), inner)?;
            let found = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            Arc::new(MapArray::try_new(
                Arc::clone(entries),
                OffsetBuffer::from_lengths(lengths),
                found,
                Some(NullBuffer::from(valid)),
                *is_sorted,
            )?)
        }
        other => return exec_err!("from_json() gives no {other}"),
    })
}

fn structs(fields: &Fields, values: impl ExactSizeIterator<Item = Read>) -> Result<ArrayRef> {
    let count = values.len();
    let mut columns: Vec<Vec<Read>> = fields.iter().map(|_| Vec::with_capacity(count)).collect();
    let mut valid = Vec::with_capacity(count);
    for read in values {
        valid.push(matches!(read, Read::Struct(_)));
        match read {
            Read::Struct(inner) => {
                for (column, value) in columns.iter_mut().zip(inner) {
                    column.push(value);
                }
            }
            _ => columns
                .iter_mut()
                .for_each(|column| column.push(Read::Null)),
        }
    }
    let arrays = fields.iter().zip(columns);
    let arrays = arrays
        .map(|(field, column)| array_of(field.data_type(), column))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(
        fields.clone(),
        arrays,
        Some(NullBuffer::from(valid)),
    )?))
}
