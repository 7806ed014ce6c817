//! Powers, roots, angles.
//!
//! Owns: functions of which Java's `Math` gives another last digit on another processor. Does not
//! own: those that are the same everywhere (`math`).
//! Rule: computed by one library on every machine, so that a window read again gives the same;
//! where Java is given another result for an edge than C, the edge is Java's.

use super::call::Rows;
use arrow::array::ArrayRef;
use datafusion::common::Result;
use std::f64::consts;

/// Names of these functions in the golden table, which compares them within some last digits.
#[cfg(test)]
pub(super) const NAMES: &[&str] = &[
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "cot",
    "csc", "expm1", "hypot", "log1p", "pow", "power", "sec", "sin", "sinh", "tan", "tanh",
];

fn one(rows: &Rows<'_>, of: fn(f64) -> f64) -> Result<ArrayRef> {
    rows.doubles(|row| row.double(0).map(of))
}

fn two(rows: &Rows<'_>, of: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    rows.doubles(|row| Some(of(row.double(0)?, row.double(1)?)))
}

pub(super) fn pi(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|_| Some(consts::PI))
}

pub(super) fn e(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|_| Some(consts::E))
}

pub(super) fn pow(rows: &Rows<'_>) -> Result<ArrayRef> {
    two(rows, |base, exponent| {
        let is_one = base.abs() == 1.0;
        if exponent.is_nan() || (is_one && exponent.is_infinite()) {
            return f64::NAN;
        }
        libm::pow(base, exponent)
    })
}

pub(super) fn hypot(rows: &Rows<'_>) -> Result<ArrayRef> {
    two(rows, libm::hypot)
}

pub(super) fn atan2(rows: &Rows<'_>) -> Result<ArrayRef> {
    // Spark makes 0.0 of -0.0 first.
    two(rows, |y, x| libm::atan2(y + 0.0, x + 0.0))
}

pub(super) fn cbrt(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::cbrt)
}

pub(super) fn sin(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::sin)
}

pub(super) fn cos(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::cos)
}

pub(super) fn tan(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::tan)
}

pub(super) fn cot(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| 1.0 / libm::tan(value))
}

pub(super) fn sec(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| 1.0 / libm::cos(value))
}

pub(super) fn csc(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| 1.0 / libm::sin(value))
}

pub(super) fn asin(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::asin)
}

pub(super) fn acos(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::acos)
}

pub(super) fn atan(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::atan)
}

pub(super) fn sinh(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::sinh)
}

pub(super) fn cosh(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::cosh)
}

pub(super) fn tanh(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::tanh)
}

/// By Spark's own formula.
pub(super) fn asinh(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| match value {
        f64::NEG_INFINITY => value,
        _ => libm::log(value + (value * value + 1.0).sqrt()),
    })
}

/// By Spark's own formula.
pub(super) fn acosh(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| {
        libm::log(value + (value * value - 1.0).sqrt())
    })
}

/// By Spark's own formula.
pub(super) fn atanh(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| {
        0.5 * (libm::log1p(value) - libm::log1p(-value))
    })
}

pub(super) fn expm1(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, libm::expm1)
}

/// NULL where there is no logarithm, as Spark has it.
pub(super) fn log1p(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| {
        let value = row.double(0)?;
        (value > -1.0 || value.is_nan()).then(|| libm::log1p(value))
    })
}

pub(super) fn degrees(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| value * (180.0 / consts::PI))
}

pub(super) fn radians(rows: &Rows<'_>) -> Result<ArrayRef> {
    one(rows, |value| value * (consts::PI / 180.0))
}
