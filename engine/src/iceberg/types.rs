//! Iceberg's types and schemas, and their JSON form.
//!
//! Owns: what a table's metadata states about columns. Does not own: how Arrow's types map to them
//! (`schema`).
//! Rule: a field is known by its id; its name may change.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};
use std::fmt;

/// Most levels of nested types in a schema from a catalog.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primitive {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    Time,
    Timestamp,
    Timestamptz,
    TimestampNs,
    TimestamptzNs,
    String,
    Uuid,
    Fixed(u32),
    Binary,
    /// A type of a later version of the format: kept, never written.
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Primitive(Primitive),
    Struct(Vec<Field>),
    List { element: Box<Field> },
    Map { key: Box<Field>, value: Box<Field> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub id: i32,
    pub name: String,
    pub required: bool,
    pub r#type: Type,
    /// `doc`, `initial-default` and what else the catalog states: kept as it is.
    pub rest: serde_json::Map<String, Value>,
}

impl Field {
    pub fn new(id: i32, name: &str, required: bool, r#type: Type) -> Self {
        Self {
            id,
            name: name.to_owned(),
            required,
            r#type,
            rest: serde_json::Map::new(),
        }
    }
}

/// One version of a table's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub schema_id: i32,
    pub identifier_field_ids: Vec<i32>,
    pub fields: Vec<Field>,
}

impl Schema {
    pub fn new(fields: Vec<Field>) -> Self {
        Self {
            schema_id: 0,
            identifier_field_ids: vec![],
            fields,
        }
    }

    /// A field at any depth of structs. Elements of lists and maps are no fields of their own here.
    pub fn field(&self, id: i32) -> Option<&Field> {
        fn within(fields: &[Field], id: i32) -> Option<&Field> {
            fields.iter().find_map(|field| match &field.r#type {
                _ if field.id == id => Some(field),
                Type::Struct(fields) => within(fields, id),
                Type::Primitive(_) | Type::List { .. } | Type::Map { .. } => None,
            })
        }
        within(&self.fields, id)
    }

    pub fn column(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The largest id of all fields.
    pub fn last_column_id(&self) -> i32 {
        fn within(fields: &[Field]) -> i32 {
            let ids = fields
                .iter()
                .map(|field| field.id.max(below(&field.r#type)));
            ids.max().unwrap_or(0)
        }
        fn below(r#type: &Type) -> i32 {
            match r#type {
                Type::Primitive(_) => 0,
                Type::Struct(fields) => within(fields),
                Type::List { element } => within(std::slice::from_ref(element)),
                Type::Map { key, value } => {
                    within(std::slice::from_ref(key)).max(within(std::slice::from_ref(value)))
                }
            }
        }
        within(&self.fields)
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal { precision, scale } => {
                return write!(f, "decimal({precision}, {scale})");
            }
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::TimestampNs => "timestamp_ns",
            Self::TimestamptzNs => "timestamptz_ns",
            Self::String => "string",
            Self::Uuid => "uuid",
            Self::Fixed(bytes) => return write!(f, "fixed[{bytes}]"),
            Self::Binary => "binary",
            Self::Other(name) => name,
        })
    }
}

impl Primitive {
    fn parse(text: &str) -> Self {
        let arguments = |name: &str, open: char, close: char| {
            let rest = text.strip_prefix(name)?.trim_start().strip_prefix(open)?;
            rest.strip_suffix(close)
        };
        match text {
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Timestamptz,
            "timestamp_ns" => Self::TimestampNs,
            "timestamptz_ns" => Self::TimestamptzNs,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            "binary" => Self::Binary,
            _ => {
                let decimal = arguments("decimal", '(', ')').and_then(|both| {
                    let (precision, scale) = both.split_once(',')?;
                    let precision = precision.trim().parse().ok()?;
                    let scale = scale.trim().parse().ok()?;
                    Some(Self::Decimal { precision, scale })
                });
                let fixed = || {
                    let bytes = arguments("fixed", '[', ']')?;
                    Some(Self::Fixed(bytes.trim().parse().ok()?))
                };
                decimal
                    .or_else(fixed)
                    .unwrap_or_else(|| Self::Other(text.to_owned()))
            }
        }
    }
}

/// As in a message: `list<struct<...>>` without the names inside.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primitive(primitive) => primitive.fmt(f),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (at, field) in fields.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {}", field.name, field.r#type)?;
                }
                f.write_str(">")
            }
            Self::List { element } => write!(f, "list<{}>", element.r#type),
            Self::Map { key, value } => write!(f, "map<{}, {}>", key.r#type, value.r#type),
        }
    }
}

fn type_json(r#type: &Type) -> Value {
    match r#type {
        Type::Primitive(primitive) => Value::String(primitive.to_string()),
        Type::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(field_json).collect();
            json!({"type": "struct", "fields": fields})
        }
        Type::List { element } => json!({
            "type": "list",
            "element-id": element.id,
            "element-required": element.required,
            "element": type_json(&element.r#type),
        }),
        Type::Map { key, value } => json!({
            "type": "map",
            "key-id": key.id,
            "key": type_json(&key.r#type),
            "value-id": value.id,
            "value-required": value.required,
            "value": type_json(&value.r#type),
        }),
    }
}

fn field_json(field: &Field) -> Value {
    let mut json = field.rest.clone();
    json.insert("id".into(), field.id.into());
    json.insert("name".into(), field.name.clone().into());
    json.insert("required".into(), field.required.into());
    json.insert("type".into(), type_json(&field.r#type));
    Value::Object(json)
}

fn parse_type(json: &Value, depth: usize) -> Result<Type, String> {
    if depth > DEPTH_MAX {
        return Err(format!("a type has more than {DEPTH_MAX} levels"));
    }
    if let Some(name) = json.as_str() {
        return Ok(Type::Primitive(Primitive::parse(name)));
    }
    let inner = |name: &str, id: &str, required: &str| -> Result<Box<Field>, String> {
        let r#type = parse_type(json.get(name).unwrap_or(&Value::Null), depth + 1)?;
        let required = json.get(required).and_then(Value::as_bool).unwrap_or(true);
        Ok(Box::new(Field::new(
            number(json, id)?,
            name,
            required,
            r#type,
        )))
    };
    match json.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(Type::Struct(parse_fields(json, depth + 1)?)),
        Some("list") => Ok(Type::List {
            element: inner("element", "element-id", "element-required")?,
        }),
        Some("map") => Ok(Type::Map {
            key: inner("key", "key-id", "key-required")?,
            value: inner("value", "value-id", "value-required")?,
        }),
        _ => Err(format!("this is not a type: {json}")),
    }
}

fn parse_fields(json: &Value, depth: usize) -> Result<Vec<Field>, String> {
    let fields = json.get("fields").and_then(Value::as_array);
    let fields = fields.ok_or("a struct has no \"fields\"")?;
    fields.iter().map(|json| parse_field(json, depth)).collect()
}

fn parse_field(json: &Value, depth: usize) -> Result<Field, String> {
    let name = json.get("name").and_then(Value::as_str);
    let name = name.ok_or("a field has no \"name\"")?;
    let required = json.get("required").and_then(Value::as_bool);
    let r#type = json.get("type").ok_or("a field has no \"type\"")?;
    let mut rest = json.as_object().cloned().unwrap_or_default();
    for known in ["id", "name", "required", "type"] {
        rest.remove(known);
    }
    Ok(Field {
        id: number(json, "id")?,
        name: name.to_owned(),
        required: required.unwrap_or(false),
        r#type: parse_type(r#type, depth)?,
        rest,
    })
}

fn number(json: &Value, name: &str) -> Result<i32, String> {
    let number = json.get(name).and_then(Value::as_i64);
    let number = number.and_then(|number| i32::try_from(number).ok());
    number.ok_or_else(|| format!("{name:?} is missing or not an integer"))
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = type_json(&Type::Struct(self.fields.clone()));
        json["schema-id"] = self.schema_id.into();
        if !self.identifier_field_ids.is_empty() {
            json["identifier-field-ids"] = self.identifier_field_ids.clone().into();
        }
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        let fields = parse_fields(&json, 0).map_err(de::Error::custom)?;
        let ids = json.get("identifier-field-ids").and_then(Value::as_array);
        let ids = ids.into_iter().flatten().filter_map(Value::as_i64);
        Ok(Self {
            schema_id: number(&json, "schema-id").unwrap_or(0),
            identifier_field_ids: ids.filter_map(|id| i32::try_from(id).ok()).collect(),
            fields,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_read_and_written_without_loss() {
        let text = r#"{"type":"struct","schema-id":3,"identifier-field-ids":[1],"fields":[
            {"id":1,"name":"a","required":true,"type":"long","doc":"key"},
            {"id":2,"name":"b","required":false,"type":{"type":"list","element-id":3,
             "element-required":false,"element":"decimal(9,2)"}},
            {"id":4,"name":"c","required":false,"type":{"type":"map","key-id":5,"key":"string",
             "value-id":6,"value-required":true,"value":{"type":"struct","fields":[
                {"id":7,"name":"d","required":false,"type":"fixed[16]","initial-default":"00"}]}}},
            {"id":8,"name":"e","required":false,"type":"variant"}]}"#;
        let schema: Schema = serde_json::from_str(text).unwrap();
        assert_eq!(schema.last_column_id(), 8);
        let again: Schema = serde_json::from_str(&serde_json::to_string(&schema).unwrap()).unwrap();
        assert_eq!(again, schema);
        assert_eq!(schema.fields[0].rest["doc"], "key");
        assert_eq!(schema.fields[1].r#type.to_string(), "list<decimal(9, 2)>");
        assert_eq!(
            schema.fields[3].r#type,
            Type::Primitive(Primitive::Other("variant".into()))
        );
    }

    #[test]
    fn a_type_without_end_is_refused() {
        let mut json = json!("int");
        for id in 0..100 {
            json = json!({"type": "list", "element-id": id, "element-required": true,
                "element": json});
        }
        let json = json!({"type": "struct", "fields": [
            {"id": 1, "name": "a", "required": true, "type": json}]});
        assert!(serde_json::from_value::<Schema>(json).is_err());
    }
}
