//! Values of the result in their written types.
//!
//! Rule: a value becomes the same value, to the microsecond for times; a row with a value that has
//! no place in its type is given back, never written as another one.

use super::Formed;
use super::types::may_lose;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StructArray,
};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, DurationMicrosecondType, DurationNanosecondType, Field,
    Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// Nanoseconds of a microsecond.
const NANOS: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// The rows in the types of `written`, column by column.
pub(super) fn formed(batch: &RecordBatch, written: &SchemaRef) -> Result<Formed, ArrowError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    let mut kept = vec![true; batch.num_rows()];
    let mut refused = vec![];
    for (column, field) in batch.columns().iter().zip(written.fields()) {
        let converted = convert(column, field.data_type())?;
        if may_lose(column.data_type(), field.data_type()) && values(&converted) != values(column) {
            for (row, kept) in kept.iter_mut().enumerate().filter(|(_, kept)| **kept) {
                if values(&converted.slice(row, 1)) != values(&column.slice(row, 1)) {
                    *kept = false;
                    refused.push((reason(column, row, field), batch.slice(row, 1)));
                }
            }
        }
        columns.push(converted);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let rows = if refused.is_empty() {
        RecordBatch::try_new_with_options(Arc::clone(written), columns, &rows)?
    } else {
        let nullable = RecordBatch::try_new_with_options(nullable(written), columns, &rows)?;
        let kept = filter_record_batch(&nullable, &BooleanArray::from(kept))?;
        let count = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        let columns = kept.columns().to_vec();
        RecordBatch::try_new_with_options(Arc::clone(written), columns, &count)?
    };
    Ok(Formed { rows, refused })
}

/// Until refused rows are gone, their values are nulls.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
    ))
}

fn reason(column: &ArrayRef, row: usize, field: &Field) -> String {
    let value = ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())
        .map_or_else(|_| "its value".to_owned(), |all| all.value(row).to_string());
    format!(
        "column {:?} is written as {}, which cannot hold {value:.200}",
        field.name(),
        field.data_type()
    )
}

/// Values that are not null, at all depths.
fn values(array: &dyn Array) -> usize {
    let own = array.len() - array.logical_null_count();
    let below = match array.data_type() {
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .map(|column| values(column))
            .sum(),
        DataType::List(_) => (0..array.len())
            .filter(|row| array.is_valid(*row))
            .map(|row| values(&array.as_list::<i32>().value(row)))
            .sum(),
        DataType::Map(..) => (0..array.len())
            .filter(|row| array.is_valid(*row))
            .map(|row| values(&array.as_map().value(row)))
            .sum(),
        DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => return as_list(array).map_or(own, |list| values(&list)),
        _ => 0,
    };
    own + below
}

/// Any kind of list as the plain one, with the same items.
fn as_list(array: &dyn Array) -> Result<ArrayRef, ArrowError> {
    let item = match array.data_type() {
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Arc::clone(item),
        _ => return cast(array, array.data_type()),
    };
    cast(array, &DataType::List(item))
}

fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    use DataType::*;
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(match (array.data_type(), to) {
        (Dictionary(_, value), _) => convert(&cast(array, value)?, to)?,
        (RunEndEncoded(_, values), _) => convert(&cast(array, values.data_type())?, to)?,
        // Casts cut toward zero: before 1970 that is the microsecond after.
        (Timestamp(TimeUnit::Nanosecond, _), Timestamp(_, zone)) => {
            let nanos = array.as_primitive::<TimestampNanosecondType>();
            let micros = nanos.unary::<_, TimestampMicrosecondType>(|at| at.div_euclid(NANOS));
            Arc::new(micros.with_timezone_opt(zone.clone()))
        }
        (Date64, Date32) => {
            let days = array
                .as_primitive::<Date64Type>()
                .unary_opt::<_, Date32Type>(|at| i32::try_from(at.div_euclid(DAY_MS)).ok());
            Arc::new(days)
        }
        (Duration(TimeUnit::Nanosecond), Int64) => {
            let nanos = array.as_primitive::<DurationNanosecondType>();
            Arc::new(nanos.unary::<_, Int64Type>(|length| length.div_euclid(NANOS)))
        }
        (Duration(_), Int64) => {
            let micros = cast(array, &Duration(TimeUnit::Microsecond))?;
            let micros = micros.as_primitive::<DurationMicrosecondType>();
            Arc::new(micros.unary::<_, Int64Type>(|length| length))
        }
        (Struct(_), Struct(fields)) => {
            let from = array.as_struct();
            let columns = from.columns().iter().zip(fields);
            let columns = columns
                .map(|(column, field)| convert(column, field.data_type()))
                .collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                from.nulls().cloned(),
                from.len(),
            )?)
        }
        (List(_), List(item)) => {
            let (_, offsets, items, nulls) = array.as_list::<i32>().clone().into_parts();
            let items = convert(&items, item.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?)
        }
        (LargeList(_) | FixedSizeList(..) | ListView(_) | LargeListView(_), List(_)) => {
            convert(&as_list(array)?, to)?
        }
        (Map(..), Map(entries, sorted)) => {
            let (_, offsets, items, nulls, _) = array.as_map().clone().into_parts();
            let items: ArrayRef = Arc::new(items);
            let items = convert(&items, entries.data_type())?;
            Arc::new(MapArray::try_new(
                Arc::clone(entries),
                offsets,
                items.as_struct().clone(),
                nulls,
                *sorted,
            )?)
        }
        _ => cast(array, to)?,
    })
}
