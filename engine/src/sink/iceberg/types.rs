//! The types in which a result is written into a table.
//!
//! Rule: a written column has the very type of the table's column; a new table's columns have those
//! that `written` gives to a table.

use crate::iceberg::schema::{self, written_type};
use crate::iceberg::types::{Field, Schema};
use crate::written::{Form, in_a_table};
use arrow::datatypes::{DataType, Field as ArrowField, FieldRef, Schema as ArrowSchema, SchemaRef};
use streamctl_proto::spec::Problem;

/// The written columns; `table`: those of a table that is known.
pub(super) fn form(result: &SchemaRef, table: Option<&Schema>) -> Form {
    let column = |column: &FieldRef| -> DataType {
        // A type that no table holds is refused at submit.
        let plain = in_a_table(column.data_type()).unwrap_or_else(|_| column.data_type().clone());
        let known = table.and_then(|table| table.column(column.name()));
        match known {
            Some(field) => written_type(&plain, &field.r#type),
            None => match schema::fields(&ArrowSchema::new(vec![ArrowField::new(
                column.name(),
                plain.clone(),
                true,
            )])) {
                Ok(fields) => fields
                    .first()
                    .map_or(plain.clone(), |field| written_type(&plain, &field.r#type)),
                Err(_) => plain,
            },
        }
    };
    let types: Vec<_> = result.fields().iter().map(column).collect();
    Form::in_types(result, types)
}

/// The result's columns before they are compared with a table.
fn plain(result: &SchemaRef) -> ArrowSchema {
    let column = |column: &FieldRef| {
        let plain = in_a_table(column.data_type()).unwrap_or_else(|_| column.data_type().clone());
        ArrowField::new(column.name(), plain, column.is_nullable())
    };
    ArrowSchema::new(result.fields().iter().map(column).collect::<Vec<_>>())
}

/// The result's columns in Iceberg's types, without ids.
pub(super) fn fields(result: &SchemaRef) -> Vec<Field> {
    schema::fields(&plain(result)).unwrap_or_default()
}

/// The schema of a new table for this result.
///
/// # Errors
/// Each column without a type.
pub(super) fn new_schema(result: &SchemaRef) -> Result<Schema, Vec<Problem>> {
    schema::new_schema(&plain(result)).map_err(|all| all.iter().map(problem).collect())
}

/// The columns that no table holds.
pub(super) fn refused(result: &SchemaRef) -> Vec<Problem> {
    match schema::fields(&plain(result)) {
        Ok(_) => vec![],
        Err(all) => all.iter().map(problem).collect(),
    }
}

fn problem(none: &schema::NoType) -> Problem {
    Problem::new("sink.table", none.to_string(), Some(none.hint.clone()))
}
