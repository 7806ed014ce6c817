//! Rows by partition.
//!
//! Owns: the partition values of rows, one batch per partition. Does not own: the files (the
//! worker's sink).
//! Rule: a row's partition follows from its own values and the spec alone.

use super::datum::Datum;
use super::partition::{BoundField, PartitionValues, folder, key};
use super::schema::arrow_type;
use super::transform::Transform;
use super::types::{Primitive, Schema};
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Schema as ArrowSchema, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use std::collections::HashMap;

/// Splits batches of one schema.
#[derive(Clone, Debug)]
pub struct Splitter {
    fields: Vec<BoundField>,
    /// The batch's column of each field; `None`: the field's transform needs none.
    columns: Vec<Option<usize>>,
}

/// Rows of one partition.
#[derive(Clone, Debug)]
pub struct Part {
    pub values: PartitionValues,
    pub rows: RecordBatch,
}

/// A partition field whose column the query does not return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table is partitioned by column {column:?}, and the query does not return it")]
pub struct NoColumn {
    pub column: String,
}

impl Splitter {
    /// # Errors
    /// A column that is not in the result.
    pub fn new(
        fields: Vec<BoundField>,
        table: &Schema,
        result: &ArrowSchema,
    ) -> Result<Self, NoColumn> {
        let column = |field: &BoundField| {
            if field.transform == Transform::Void {
                return Ok(None);
            }
            let name = table
                .field(field.source_id)
                .map(|source| source.name.as_str());
            let name = name.unwrap_or_default();
            match result.index_of(name) {
                Ok(at) => Ok(Some(at)),
                Err(_) => Err(NoColumn {
                    column: name.to_owned(),
                }),
            }
        };
        let columns = fields.iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self { fields, columns })
    }

    /// The rows of each partition, in their order; partitions in the order of their first row.
    ///
    /// # Errors
    /// A column of a type that does not fit the table's.
    pub fn split(&self, batch: &RecordBatch) -> Result<Vec<Part>, ArrowError> {
        if self.fields.is_empty() || batch.num_rows() == 0 {
            let values = vec![];
            let rows = batch.clone();
            return Ok(vec![Part { values, rows }]);
        }
        let columns = self.fields.iter().zip(&self.columns);
        let columns: Vec<Option<ArrayRef>> = columns
            .map(|(field, at)| {
                let plain = |at: &usize| plain(batch.column(*at), &field.source);
                at.as_ref().map(plain).transpose()
            })
            .collect::<Result<_, _>>()?;
        let mut found: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut parts: Vec<(PartitionValues, Vec<u32>)> = vec![];
        for row in 0..batch.num_rows() {
            let values: PartitionValues = self
                .fields
                .iter()
                .zip(&columns)
                .map(|(field, column)| {
                    let value = datum(column.as_ref()?, row, &field.source)?;
                    field.transform.apply(&value, &field.source)
                })
                .collect();
            let part = *found.entry(key(&values)).or_insert_with(|| {
                parts.push((values, vec![]));
                parts.len() - 1
            });
            parts[part].1.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        if parts.len() == 1 {
            let (values, _) = parts.remove(0);
            let rows = batch.clone();
            return Ok(vec![Part { values, rows }]);
        }
        let part = |(values, rows): (PartitionValues, Vec<u32>)| {
            let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
            Ok(Part { values, rows })
        };
        parts.into_iter().map(part).collect()
    }

    /// The folder of a partition below the table's data folder.
    pub fn folder(&self, values: &PartitionValues) -> String {
        folder(&self.fields, values)
    }
}

/// The column in the one Arrow type of the table's type.
fn plain(column: &ArrayRef, source: &Primitive) -> Result<ArrayRef, ArrowError> {
    let to = match source {
        Primitive::Uuid | Primitive::Fixed(_) => Some(DataType::Binary),
        source => arrow_type(source),
    };
    let to = to.ok_or_else(|| {
        let reason = format!("rows cannot be partitioned by a column of type {source}");
        ArrowError::SchemaError(reason)
    })?;
    if *column.data_type() == to {
        return Ok(column.clone());
    }
    cast(column, &to)
}

fn datum(column: &ArrayRef, row: usize, source: &Primitive) -> Option<Datum> {
    use Primitive as P;
    if column.is_null(row) {
        return None;
    }
    Some(match source {
        P::Boolean => Datum::Boolean(column.as_boolean().value(row)),
        P::Int => Datum::Int(column.as_primitive::<Int32Type>().value(row)),
        P::Long => Datum::Long(column.as_primitive::<Int64Type>().value(row)),
        P::Float => Datum::Float(column.as_primitive::<Float32Type>().value(row)),
        P::Double => Datum::Double(column.as_primitive::<Float64Type>().value(row)),
        P::Decimal { .. } => Datum::Decimal(column.as_primitive::<Decimal128Type>().value(row)),
        P::Date => Datum::Int(column.as_primitive::<Date32Type>().value(row)),
        P::Time => Datum::Long(column.as_primitive::<Time64MicrosecondType>().value(row)),
        P::Timestamp | P::Timestamptz => {
            Datum::Long(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        P::String => Datum::Text(column.as_string::<i32>().value(row).to_owned()),
        P::Uuid | P::Fixed(_) | P::Binary => {
            Datum::Bytes(column.as_binary::<i32>().value(row).to_vec())
        }
        P::TimestampNs | P::TimestamptzNs | P::Other(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::catalog::contract::new_table;
    use super::super::partition::PartitionField;
    use super::*;
    use arrow::array::{StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    const DAY: i64 = 86_400_000_000;

    fn batch() -> RecordBatch {
        let at = TimestampMicrosecondArray::from(vec![Some(DAY), Some(-1), Some(DAY + 1), None])
            .with_timezone("UTC");
        let country = StringArray::from(vec!["PE", "CH", "PE", "PE"]);
        RecordBatch::try_from_iter([
            ("country", Arc::new(country) as ArrayRef),
            ("at", Arc::new(at)),
        ])
        .unwrap()
    }

    #[test]
    fn each_row_is_in_the_part_of_its_values() {
        let table = new_table("db", "t", None);
        let mut spec = table.spec.clone();
        spec.fields.push(PartitionField {
            source_id: 2,
            field_id: Some(1001),
            name: "country".into(),
            transform: Transform::Truncate(1),
        });
        let fields = spec.bind(&table.schema).unwrap();
        let batch = batch();
        let splitter = Splitter::new(fields, &table.schema, &batch.schema()).unwrap();
        let parts = splitter.split(&batch).unwrap();
        let found: Vec<_> = parts
            .iter()
            .map(|part| (splitter.folder(&part.values), part.rows.num_rows()))
            .collect();
        assert_eq!(
            found,
            [
                ("at_day=1970-01-02/country=P".to_owned(), 2),
                ("at_day=1969-12-31/country=C".to_owned(), 1),
                ("at_day=null/country=P".to_owned(), 1),
            ]
        );
    }

    #[test]
    fn a_partition_column_that_the_query_leaves_out_is_named() {
        let table = new_table("db", "t", None);
        let fields = table.spec.bind(&table.schema).unwrap();
        let without = batch().project(&[0]).unwrap();
        let error = Splitter::new(fields, &table.schema, &without.schema()).unwrap_err();
        assert_eq!(error.column, "at");
    }
}
