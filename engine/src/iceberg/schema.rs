//! Columns of a query's result as columns of a table.
//!
//! Owns: the Iceberg type of each Arrow type, ids of new columns, ids in the writer's schema. Does
//! not own: which type a written column has (`written`), comparison with a table (`compare`).
//! Rule: a column has a type that every reader knows, or it is refused by its name.

use super::types::{Field, Primitive, Schema, Type};
use arrow::datatypes::{DataType, Field as ArrowField, FieldRef, Schema as ArrowSchema, TimeUnit};
use std::collections::HashMap;
use std::sync::Arc;

/// The key by which the Parquet writer takes a field's id.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";
/// Most digits of a decimal.
const DIGITS_MAX: u8 = 38;

/// A column that Iceberg has no type for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?} is {data_type}, and Iceberg has no such type")]
pub struct NoType {
    /// With the path inside it: `a.b`.
    pub column: String,
    pub data_type: DataType,
    pub hint: String,
}

/// The schema of a new table. Every column is optional: whether a query's column may be null can
/// change with the query.
///
/// # Errors
/// Each column without a type.
pub fn new_schema(columns: &ArrowSchema) -> Result<Schema, Vec<NoType>> {
    let mut schema = Schema::new(fields(columns)?);
    let mut ids = 0;
    number(&mut schema.fields, &mut ids);
    for field in &mut schema.fields {
        field.required = false;
    }
    Ok(schema)
}

/// The columns with Iceberg's types, not numbered; required if they are never null.
///
/// # Errors
/// Each column without a type.
pub fn fields(columns: &ArrowSchema) -> Result<Vec<Field>, Vec<NoType>> {
    let mut refused = vec![];
    let mut fields = vec![];
    for column in columns.fields() {
        match field(column.name(), column) {
            Ok(field) => fields.push(field),
            Err(error) => refused.push(error),
        }
    }
    if refused.is_empty() {
        Ok(fields)
    } else {
        Err(refused)
    }
}

fn field(path: &str, column: &ArrowField) -> Result<Field, NoType> {
    let r#type = iceberg_type(path, column.data_type())?;
    Ok(Field::new(0, column.name(), !column.is_nullable(), r#type))
}

fn iceberg_type(path: &str, data_type: &DataType) -> Result<Type, NoType> {
    use DataType as D;
    let refused = |cast: &str| NoType {
        column: path.to_owned(),
        data_type: data_type.clone(),
        hint: format!("cast it: CAST({path} AS {cast}), or leave it out"),
    };
    let list = |item: &FieldRef| -> Result<Type, NoType> {
        let mut element = field(&format!("{path}.element"), item)?;
        element.name = "element".to_owned();
        Ok(Type::List {
            element: Box::new(element),
        })
    };
    Ok(Type::Primitive(match data_type {
        D::Boolean => Primitive::Boolean,
        D::Int8 | D::Int16 | D::Int32 => Primitive::Int,
        D::Int64 => Primitive::Long,
        D::Float32 => Primitive::Float,
        D::Float64 => Primitive::Double,
        D::Date32 => Primitive::Date,
        D::Time64(TimeUnit::Microsecond) => Primitive::Time,
        D::Timestamp(TimeUnit::Microsecond, None) => Primitive::Timestamp,
        D::Timestamp(TimeUnit::Microsecond, Some(_)) => Primitive::Timestamptz,
        D::Utf8 | D::LargeUtf8 | D::Utf8View => Primitive::String,
        D::Binary | D::LargeBinary | D::BinaryView => Primitive::Binary,
        D::FixedSizeBinary(bytes) => match u32::try_from(*bytes) {
            Ok(bytes) => Primitive::Fixed(bytes),
            Err(_) => return Err(refused("VARBINARY")),
        },
        D::Decimal32(precision, scale)
        | D::Decimal64(precision, scale)
        | D::Decimal128(precision, scale)
        | D::Decimal256(precision, scale) => match u8::try_from(*scale) {
            Ok(scale) if *precision <= DIGITS_MAX => Primitive::Decimal {
                precision: *precision,
                scale,
            },
            _ => return Err(refused("DECIMAL(38, 10)")),
        },
        D::Dictionary(_, values) => return iceberg_type(path, values),
        D::RunEndEncoded(_, values) => return iceberg_type(path, values.data_type()),
        D::List(item)
        | D::LargeList(item)
        | D::ListView(item)
        | D::LargeListView(item)
        | D::FixedSizeList(item, _) => return list(item),
        D::Struct(inner) => {
            let inner = inner
                .iter()
                .map(|inner| field(&format!("{path}.{}", inner.name()), inner));
            return Ok(Type::Struct(inner.collect::<Result<_, _>>()?));
        }
        D::Map(entries, _) => return map(path, entries, || refused("VARCHAR")),
        D::UInt8 | D::UInt16 => return Err(refused("INT")),
        D::UInt32 | D::UInt64 | D::Duration(_) => return Err(refused("BIGINT")),
        D::Float16 => return Err(refused("FLOAT")),
        D::Date64 => return Err(refused("DATE")),
        D::Timestamp(..) => return Err(refused("TIMESTAMP(6)")),
        D::Time32(_) | D::Time64(_) | D::Null | D::Interval(_) | D::Union(..) => {
            return Err(refused("VARCHAR"));
        }
    }))
}

fn map(path: &str, entries: &ArrowField, refused: impl Fn() -> NoType) -> Result<Type, NoType> {
    let DataType::Struct(inner) = entries.data_type() else {
        return Err(refused());
    };
    let [key, value] = inner.as_ref() else {
        return Err(refused());
    };
    let mut key = field(&format!("{path}.key"), key)?;
    let mut value = field(&format!("{path}.value"), value)?;
    key.name = "key".to_owned();
    key.required = true;
    value.name = "value".to_owned();
    Ok(Type::Map {
        key: Box::new(key),
        value: Box::new(value),
    })
}

/// Numbers the fields of a struct, then what is in them: the order in which other engines number
/// a new table.
fn number(fields: &mut [Field], ids: &mut i32) {
    for field in fields.iter_mut() {
        *ids += 1;
        field.id = *ids;
    }
    for field in fields.iter_mut() {
        match &mut field.r#type {
            Type::Primitive(_) => {}
            Type::Struct(inner) => number(inner, ids),
            Type::List { element } => number(std::slice::from_mut(element), ids),
            Type::Map { key, value } => {
                *ids += 1;
                key.id = *ids;
                *ids += 1;
                value.id = *ids;
                for inner in [key, value] {
                    if let Type::Struct(fields) = &mut inner.r#type {
                        number(fields, ids);
                    }
                }
            }
        }
    }
}

/// The one Arrow type of a table's type; `None`: no result is written in it.
pub fn arrow_type(primitive: &Primitive) -> Option<DataType> {
    use Primitive as P;
    Some(match primitive {
        P::Boolean => DataType::Boolean,
        P::Int => DataType::Int32,
        P::Long => DataType::Int64,
        P::Float => DataType::Float32,
        P::Double => DataType::Float64,
        P::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
        }
        P::Date => DataType::Date32,
        P::Time => DataType::Time64(TimeUnit::Microsecond),
        P::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        P::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        P::String => DataType::Utf8,
        P::Binary => DataType::Binary,
        P::TimestampNs | P::TimestamptzNs | P::Uuid | P::Fixed(_) | P::Other(_) => return None,
    })
}

/// The Arrow type in which a column of this type is written into a column of the table: that of
/// the table, with the fields of structs in the order of the query. `compare` has found no
/// difference; where there is one, the column keeps its type.
pub fn written_type(column: &DataType, table: &Type) -> DataType {
    let inner = |column: &FieldRef, table: &Field| -> FieldRef {
        let data_type = written_type(column.data_type(), &table.r#type);
        Arc::new(ArrowField::new(
            column.name(),
            data_type,
            column.is_nullable(),
        ))
    };
    match (column, table) {
        (_, Type::Primitive(primitive)) => arrow_type(primitive).unwrap_or_else(|| column.clone()),
        (DataType::Struct(columns), Type::Struct(fields)) => {
            let column = |column: &FieldRef| {
                let known = fields.iter().find(|field| field.name == *column.name());
                known.map_or_else(|| Arc::clone(column), |field| inner(column, field))
            };
            DataType::Struct(columns.iter().map(column).collect())
        }
        (DataType::List(item), Type::List { element }) => DataType::List(inner(item, element)),
        (DataType::Map(entries, sorted), Type::Map { key, value }) => {
            let DataType::Struct(columns) = entries.data_type() else {
                return column.clone();
            };
            let columns = columns.iter().zip([key, value]);
            let columns = columns.map(|(column, field)| inner(column, field));
            let entries = ArrowField::new(
                entries.name(),
                DataType::Struct(columns.collect()),
                entries.is_nullable(),
            );
            DataType::Map(Arc::new(entries), *sorted)
        }
        (other, _) => other.clone(),
    }
}

/// The writer's schema with the ids of the table's columns, by name. A column that the table does
/// not have stays without an id; `compare` refuses it before.
pub fn with_field_ids(columns: &ArrowSchema, table: &Schema) -> ArrowSchema {
    let fields: Vec<_> = columns
        .fields()
        .iter()
        .map(|column| match table.column(column.name()) {
            Some(field) => numbered(column, field),
            None => Arc::clone(column),
        })
        .collect();
    ArrowSchema::new_with_metadata(fields, columns.metadata().clone())
}

fn numbered(column: &FieldRef, field: &Field) -> FieldRef {
    let mut metadata: HashMap<_, _> = column.metadata().clone();
    metadata.insert(FIELD_ID_KEY.to_owned(), field.id.to_string());
    let data_type = match (column.data_type(), &field.r#type) {
        (DataType::Struct(inner), Type::Struct(fields)) => {
            let inner = inner.iter().map(|inner| {
                match fields.iter().find(|field| field.name == *inner.name()) {
                    Some(field) => numbered(inner, field),
                    None => Arc::clone(inner),
                }
            });
            DataType::Struct(inner.collect())
        }
        (DataType::List(item), Type::List { element }) => DataType::List(numbered(item, element)),
        (DataType::LargeList(item), Type::List { element }) => {
            DataType::LargeList(numbered(item, element))
        }
        (DataType::FixedSizeList(item, length), Type::List { element }) => {
            DataType::FixedSizeList(numbered(item, element), *length)
        }
        (DataType::Map(entries, sorted), Type::Map { key, value }) => {
            DataType::Map(numbered_entries(entries, key, value), *sorted)
        }
        (other, _) => other.clone(),
    };
    Arc::new(
        ArrowField::new(column.name(), data_type, column.is_nullable()).with_metadata(metadata),
    )
}

fn numbered_entries(entries: &FieldRef, key: &Field, value: &Field) -> FieldRef {
    let DataType::Struct(inner) = entries.data_type() else {
        return Arc::clone(entries);
    };
    let inner = inner
        .iter()
        .zip([key, value])
        .map(|(inner, field)| numbered(inner, field));
    let data_type = DataType::Struct(inner.collect());
    Arc::new(
        ArrowField::new(entries.name(), data_type, entries.is_nullable())
            .with_metadata(entries.metadata().clone()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: DataType) -> ArrowField {
        ArrowField::new(name, data_type, true)
    }

    fn nested() -> ArrowSchema {
        let inner = DataType::Struct(vec![column("c", DataType::Utf8)].into());
        let entries = DataType::Struct(
            vec![
                ArrowField::new("keys", DataType::Utf8, false),
                column("values", inner.clone()),
            ]
            .into(),
        );
        ArrowSchema::new(vec![
            column("a", DataType::new_list(inner.clone(), true)),
            column(
                "m",
                DataType::Map(Arc::new(ArrowField::new("e", entries, false)), false),
            ),
            column("s", inner),
            column("d", DataType::Decimal128(20, 2)),
            column(
                "t",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ),
        ])
    }

    #[test]
    fn a_new_table_has_ids_level_by_level() {
        let schema = new_schema(&nested()).unwrap();
        let ids: Vec<_> = schema.fields.iter().map(|field| field.id).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        assert_eq!(schema.last_column_id(), 11);
        let types: Vec<_> = schema
            .fields
            .iter()
            .map(|field| field.r#type.to_string())
            .collect();
        assert_eq!(
            types,
            [
                "list<struct<c: string>>",
                "map<string, struct<c: string>>",
                "struct<c: string>",
                "decimal(20, 2)",
                "timestamptz",
            ]
        );
    }

    #[test]
    fn every_level_of_the_written_schema_has_the_table_s_id() {
        let schema = new_schema(&nested()).unwrap();
        let written = with_field_ids(&nested(), &schema);
        let id = |field: &ArrowField| field.metadata()[FIELD_ID_KEY].clone();
        let DataType::List(item) = written.field(0).data_type() else {
            panic!("a list");
        };
        let Type::List { element } = &schema.fields[0].r#type else {
            panic!("a list");
        };
        assert_eq!(id(item), element.id.to_string());
        let DataType::Map(entries, _) = written.field(1).data_type() else {
            panic!("a map");
        };
        let DataType::Struct(entries) = entries.data_type() else {
            panic!("entries");
        };
        let Type::Map { key, value } = &schema.fields[1].r#type else {
            panic!("a map");
        };
        assert_eq!(id(&entries[0]), key.id.to_string());
        assert_eq!(id(&entries[1]), value.id.to_string());
        assert_eq!(id(written.field(3)), "4");
    }

    #[test]
    fn a_column_without_a_type_is_refused_by_name_with_a_cast() {
        let inner = DataType::Struct(vec![column("n", DataType::UInt64)].into());
        let columns = ArrowSchema::new(vec![
            column("ok", DataType::Int32),
            column("s", inner),
            column(
                "i",
                DataType::Interval(arrow::datatypes::IntervalUnit::DayTime),
            ),
            column("ns", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ]);
        let refused = new_schema(&columns).unwrap_err();
        let names: Vec<_> = refused
            .iter()
            .map(|refused| refused.column.as_str())
            .collect();
        assert_eq!(names, ["s.n", "i", "ns"]);
        assert!(refused[0].hint.contains("CAST(s.n AS BIGINT)"));
        assert!(refused[0].to_string().contains("\"s.n\" is UInt64"));
    }
}
