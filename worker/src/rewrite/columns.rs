//! The columns of rewritten files: those that some input has.
//!
//! Rule: a column is known by its id. A file without a column has nulls in it, as its readers see;
//! a column that was dropped from the table has no readers, and is left out.

use super::RewriteError;
use crate::sink::SinkError;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use streamctl_engine::iceberg::schema::{FIELD_ID_KEY, arrow_type};
use streamctl_engine::iceberg::types::{Schema, Type};

/// Collects the columns of the inputs.
pub(super) struct Columns<'a> {
    table: &'a Schema,
    types: BTreeMap<i32, DataType>,
}

/// The columns of the outputs.
pub(super) struct Chosen {
    schema: SchemaRef,
    ids: Vec<i32>,
}

fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}

impl<'a> Columns<'a> {
    pub fn new(table: &'a Schema) -> Self {
        Self {
            table,
            types: BTreeMap::new(),
        }
    }

    /// Adds the columns of a file.
    pub fn add(&mut self, location: &str, schema: &ArrowSchema) -> Result<(), RewriteError> {
        let differs = |reason: String| RewriteError::Differs {
            location: location.to_owned(),
            reason,
        };
        for field in schema.fields() {
            let name = field.name();
            let id = id_of(field);
            let id = id.ok_or_else(|| differs(format!("its column {name:?} has no id")))?;
            let Some(column) = self.table.fields.iter().find(|column| column.id == id) else {
                continue;
            };
            let given = field.data_type();
            let wanted = match (self.types.get(&id), &column.r#type) {
                (None, _) => given.clone(),
                (Some(known), _) if known == given => continue,
                // A number that was narrower before.
                (Some(_), Type::Primitive(primitive)) => {
                    let wanted = arrow_type(primitive);
                    wanted.ok_or_else(|| differs(format!("its column {name:?} is {given}")))?
                }
                (Some(known), _) => {
                    let reason = format!("its column {name:?} is {given}, in other files {known}");
                    return Err(differs(reason));
                }
            };
            self.types.insert(id, wanted);
        }
        Ok(())
    }

    /// In the order of the table.
    pub fn finish(self) -> Result<Chosen, RewriteError> {
        let mut fields = vec![];
        let mut ids = vec![];
        for column in &self.table.fields {
            let Some(data_type) = self.types.get(&column.id) else {
                continue;
            };
            let id = (FIELD_ID_KEY.to_owned(), column.id.to_string());
            let field = Field::new(&column.name, data_type.clone(), !column.required);
            fields.push(field.with_metadata(HashMap::from([id])));
            ids.push(column.id);
        }
        if fields.is_empty() {
            return Err(SinkError::NoColumns.into());
        }
        Ok(Chosen {
            schema: Arc::new(ArrowSchema::new(fields)),
            ids,
        })
    }
}

impl Chosen {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Where a file has each column.
    pub fn places(&self, file: &ArrowSchema) -> Vec<Option<usize>> {
        let place = |id: &i32| {
            let mut fields = file.fields().iter();
            fields.position(|field| id_of(field) == Some(*id))
        };
        self.ids.iter().map(place).collect()
    }

    /// The rows of a file in the columns of the outputs.
    pub fn of_batch(
        &self,
        places: &[Option<usize>],
        batch: &RecordBatch,
    ) -> Result<RecordBatch, ArrowError> {
        let column =
            |(field, place): (&Arc<Field>, &Option<usize>)| -> Result<ArrayRef, ArrowError> {
                match place {
                    None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                    Some(at) if batch.column(*at).data_type() == field.data_type() => {
                        Ok(Arc::clone(batch.column(*at)))
                    }
                    Some(at) => cast(batch.column(*at), field.data_type()),
                }
            };
        let columns = self.schema.fields().iter().zip(places).map(column);
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }
}
