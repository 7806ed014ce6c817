//! Avro schemas.
//!
//! Rule: only what Iceberg writes is read; a schema of another writer that refers to named types
//! by their name is resolved.

use super::{AvroError, bad};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Most levels of a schema.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Record(Vec<NodeField>),
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeField {
    pub name: String,
    /// Iceberg's `field-id`.
    pub id: Option<i32>,
    pub node: Node,
}

impl Node {
    pub fn fields(&self) -> &[NodeField] {
        match self {
            Self::Record(fields) => fields,
            _ => &[],
        }
    }

    /// The type beside null in a union of two, else the node itself.
    pub fn without_null(&self) -> &Node {
        match self {
            Self::Union(branches) if branches.len() == 2 => branches
                .iter()
                .find(|branch| **branch != Node::Null)
                .unwrap_or(self),
            _ => self,
        }
    }
}

/// # Errors
/// A type that is not one of Avro's.
pub fn parse_schema(json: &Json) -> Result<Node, AvroError> {
    parse(json, &mut BTreeMap::new(), 0)
}

fn parse(json: &Json, named: &mut BTreeMap<String, Node>, depth: usize) -> Result<Node, AvroError> {
    if depth > DEPTH_MAX {
        return bad(format!("the schema has more than {DEPTH_MAX} levels"));
    }
    match json {
        Json::String(name) => by_name(name, named),
        Json::Array(branches) => {
            let branches = branches.iter().map(|json| parse(json, named, depth + 1));
            Ok(Node::Union(branches.collect::<Result<_, _>>()?))
        }
        Json::Object(object) => {
            let Some(kind) = object.get("type") else {
                return bad("a type of the schema has no \"type\"");
            };
            let inner = |name: &str| object.get(name).unwrap_or(&Json::Null);
            let node = match kind.as_str() {
                Some("record") => Node::Record(fields(inner("fields"), named, depth)?),
                Some("array") => Node::Array(Box::new(parse(inner("items"), named, depth + 1)?)),
                Some("map") => Node::Map(Box::new(parse(inner("values"), named, depth + 1)?)),
                Some("fixed") => match inner("size").as_u64() {
                    Some(size) if size <= 1 << 20 => {
                        Node::Fixed(usize::try_from(size).unwrap_or(usize::MAX))
                    }
                    _ => return bad("a fixed has no usable \"size\""),
                },
                Some("enum") => {
                    let symbols = inner("symbols").as_array().into_iter().flatten();
                    let symbols = symbols.filter_map(Json::as_str).map(str::to_owned);
                    Node::Enum(symbols.collect())
                }
                Some(name) => return by_name(name, named),
                None => return parse(kind, named, depth + 1),
            };
            if let Some(name) = object.get("name").and_then(Json::as_str) {
                named.insert(name.to_owned(), node.clone());
            }
            Ok(node)
        }
        _ => bad(format!("this is not a type: {json}")),
    }
}

fn by_name(name: &str, named: &BTreeMap<String, Node>) -> Result<Node, AvroError> {
    Ok(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::Text,
        _ => match named.get(name) {
            Some(node) => node.clone(),
            None => return bad(format!("the schema names an unknown type {name:?}")),
        },
    })
}

fn fields(
    json: &Json,
    named: &mut BTreeMap<String, Node>,
    depth: usize,
) -> Result<Vec<NodeField>, AvroError> {
    let Some(fields) = json.as_array() else {
        return bad("a record has no \"fields\"");
    };
    let field = |json: &Json| -> Result<NodeField, AvroError> {
        let name = json.get("name").and_then(Json::as_str).unwrap_or_default();
        let id = json.get("field-id").and_then(Json::as_i64);
        Ok(NodeField {
            name: name.to_owned(),
            id: id.and_then(|id| i32::try_from(id).ok()),
            node: parse(json.get("type").unwrap_or(&Json::Null), named, depth + 1)?,
        })
    };
    fields.iter().map(field).collect()
}
