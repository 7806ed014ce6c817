//! Records of some 1 KB with three levels: a customer with an address, five items, a map of tags.
//!
//! Rule: pure; each record differs from the others where those of a shop do.

use anyhow::Context as _;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use bytes::Bytes;
use std::sync::Arc;
use streamctl_engine::format::Decoder;
use streamctl_engine::source::{Foreign, Record};
use streamctl_proto::spec::PayloadFormat;

const ITEMS: usize = 5;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn schema() -> Schema {
    let address: Fields = vec![text("city"), text("zip"), text("street")].into();
    let customer: Fields = vec![
        text("id"),
        Field::new("address", DataType::Struct(address), true),
    ]
    .into();
    let item: Fields = vec![
        text("sku"),
        Field::new("price", DataType::Float64, true),
        Field::new("quantity", DataType::Int64, true),
        text("name"),
    ]
    .into();
    let item = Field::new_list_field(DataType::Struct(item), true);
    let tag: Fields = vec![Field::new("key", DataType::Utf8, false), text("value")].into();
    let tags = Field::new("entries", DataType::Struct(tag), false);
    Schema::new(vec![
        text("id"),
        Field::new("customer", DataType::Struct(customer), true),
        Field::new("items", DataType::List(Arc::new(item)), true),
        Field::new("tags", DataType::Map(Arc::new(tags), false), true),
    ])
}

/// A decoder of all columns.
pub fn decoder() -> anyhow::Result<Decoder> {
    let schema = Arc::new(schema());
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    Decoder::new(&PayloadFormat::default(), schema, &all).context("each type can be decoded")
}

/// The first so many records.
pub fn records(count: usize) -> Vec<Record> {
    let one = |index: usize| Record {
        sequence: (index as u64).into(),
        sub_sequence: 0,
        arrival_ms: super::pipeline::WINDOW.start_ms,
        data: Bytes::from(payload(index)),
        origin: None,
        extra: None,
        foreign: Foreign::No,
    };
    (1..=count).map(one).collect()
}

fn payload(index: usize) -> String {
    let item = |number: usize| {
        serde_json::json!({
            "sku": format!("sku-{:08}", index * 7 + number),
            "price": (index % 900 * 100 + number * 13) as f64 / 100.0,
            "quantity": 1 + number,
            "name": format!("An item of the catalogue with a longer name, number {}", index * 31 + number),
        })
    };
    let items: Vec<_> = (0..ITEMS).map(item).collect();
    let record = serde_json::json!({
        "id": format!("{index:036}"),
        "customer": {
            "id": format!("customer-{index:012}"),
            "address": {
                "city": "Sankt Gallen",
                "zip": format!("90{:02}", index % 100),
                "street": format!("Lange Strasse {}", index % 300),
            },
        },
        "items": items,
        "tags": {
            "source": "web",
            "campaign": format!("winter-{}", index % 12),
            "device": "a phone of some make",
            "locale": "de_CH",
            "referrer": format!("https://www.example.com/{index}"),
        },
    });
    record.to_string()
}
