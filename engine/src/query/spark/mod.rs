//! The dialect of Spark SQL 3.5, with ANSI off and the time zone UTC.
//!
//! Owns: its syntax ([`lower`]), its operators and types ([`operators`], [`types`]), its functions
//! ([`list`]), the patterns of Java. Does not own: planning (`sql`), limits (`bounded`).
//! Rule: an expression gives what Spark gives, value by value, or it is refused by name when the
//! query is planned. The golden table in `tests/golden/spark` is made by Spark and compared in
//! [`golden`]; what it does not hold is not in the dialect.

mod aggregates;
mod arithmetic;
mod binary;
mod call;
mod checks;
mod clock;
mod curves;
mod ddl;
mod extremes;
mod fdlibm;
mod from_json;
#[cfg(test)]
mod golden;
mod groups;
mod hash;
mod higher;
mod jackson;
mod json;
mod json_text;
mod list;
mod list_sets;
mod lists;
mod lower;
mod maps;
mod masks;
mod math;
mod most_often;
mod nested;
mod number;
mod operators;
mod pattern;
mod printf;
mod regex;
mod rows;
mod sketch;
#[cfg(test)]
mod tests;
mod text;
mod time_windows;
mod times;
mod types;
mod unions;
mod units;
mod url;
mod value;
mod xxhash;
mod zones;

pub(super) use call::Refusal;
pub(super) use checks::check;
pub(super) use higher::higher_functions;
pub(super) use json_text::{is_writable, json_of};
pub(super) use list::functions;
pub(super) use lower::{Lowered, read};
pub(super) use operators::Operators;
pub(super) use unions::widened;

use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The columns of a table as this dialect names them: capitals do not count, so all are small.
///
/// # Errors
/// The name that two columns share.
pub(super) fn columns(schema: &SchemaRef) -> Result<SchemaRef, String> {
    let mut names = BTreeSet::new();
    let mut fields = vec![];
    for field in schema.fields() {
        let name = field.name().to_lowercase();
        if !names.insert(name.clone()) {
            return Err(field.name().clone());
        }
        fields.push(Arc::new(Field::clone(field).with_name(name)));
    }
    Ok(Arc::new(Schema::new(fields)))
}
