//! The order of doubles under `max` and `min`: NaN is the largest, as in Spark.
//!
//! Owns: a key of the same order for each double, and the way back. Does not own: the aggregates,
//! which are the planner's.
//! Rule: keys are of types that no value of the dialect has; other values are their own keys.

use super::call::{Given, Refusal, Rows};
use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::array::{Time32MillisecondArray, Time64NanosecondArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Time32MillisecondType, Time64NanosecondType, TimeUnit,
};
use datafusion::common::Result;
use std::sync::Arc;

const KEY_64: DataType = DataType::Time64(TimeUnit::Nanosecond);
const KEY_32: DataType = DataType::Time32(TimeUnit::Millisecond);

pub(super) fn key_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(match given.kind(0) {
        DataType::Float64 => KEY_64,
        DataType::Float32 => KEY_32,
        other => other.clone(),
    })
}

/// Its own inverse.
fn ordered_64(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn ordered_32(bits: i32) -> i32 {
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

pub(super) fn key(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    Ok(match column.data_type() {
        DataType::Float64 => {
            let of = |value: f64| {
                let value = if value.is_nan() {
                    f64::NAN.abs()
                } else {
                    value
                };
                ordered_64(value.to_bits() as i64)
            };
            let keys: Time64NanosecondArray = column.as_primitive::<Float64Type>().unary(of);
            Arc::new(keys)
        }
        DataType::Float32 => {
            let of = |value: f32| {
                let value = if value.is_nan() {
                    f32::NAN.abs()
                } else {
                    value
                };
                ordered_32(value.to_bits() as i32)
            };
            let keys: Time32MillisecondArray = column.as_primitive::<Float32Type>().unary(of);
            Arc::new(keys)
        }
        _ => column,
    })
}

pub(super) fn value_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(match given.kind(0) {
        DataType::Time64(_) => DataType::Float64,
        DataType::Time32(_) => DataType::Float32,
        other => other.clone(),
    })
}

pub(super) fn value(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    Ok(match column.data_type() {
        DataType::Time64(_) => {
            let of = |key: i64| f64::from_bits(ordered_64(key) as u64);
            let values: Float64Array = column.as_primitive::<Time64NanosecondType>().unary(of);
            Arc::new(values)
        }
        DataType::Time32(_) => {
            let of = |key: i32| f32::from_bits(ordered_32(key) as u32);
            let values: Float32Array = column.as_primitive::<Time32MillisecondType>().unary(of);
            Arc::new(values)
        }
        _ => column,
    })
}
