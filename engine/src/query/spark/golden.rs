//! The golden table: what Spark gave for every expression, compared value by value.
//!
//! Rule: an answer is Spark's own (`tests/golden/spark/make.py`), or the expression is refused here.
//! Every function of the dialect is in the table.

use super::types;
use crate::catalog::arrow_schema;
use crate::format::Decoder;
use crate::query::{QueryPlan, QueryText};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{Dialect, PayloadFormat};

/// A file of the table. It is read when the test runs, so that new answers need no new build.
fn golden(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/spark/");
    std::fs::read_to_string(format!("{folder}{name}")).unwrap()
}

fn text_query(sql: &str) -> QueryText<'_> {
    QueryText {
        sql,
        dialect: Dialect::Spark,
        is_new: true,
    }
}

/// The rows on which Spark was asked.
fn source() -> RecordBatch {
    let golden: Value = serde_json::from_str(&golden("rows.json")).unwrap();
    let columns: Vec<(&str, DataType)> = golden["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            let name = column[0].as_str().unwrap();
            let column = ColumnType {
                name: name.to_owned(),
                type_name: column[1].as_str().unwrap().to_owned(),
            };
            let schema = arrow_schema(&[column], NestedColumns::Typed).unwrap();
            (name, schema.field(0).data_type().clone())
        })
        .collect();
    let rows = golden["rows"].as_array().unwrap();
    let arrays = columns.iter().enumerate().map(|(place, (_, kind))| {
        let texts: Vec<Option<String>> = rows
            .iter()
            .map(|row| match &row[place] {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            })
            .collect();
        if kind.is_nested() {
            return decoded(kind, &texts);
        }
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(texts));
        super::value::cast(&texts, kind).unwrap()
    });
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays.collect()).unwrap()
}

/// Values of a nested column from their JSON.
fn decoded(kind: &DataType, texts: &[Option<String>]) -> ArrayRef {
    let schema = Arc::new(Schema::new(vec![Field::new("c", kind.clone(), true)]));
    let mut decoder = Decoder::new(&PayloadFormat::default(), schema, &[0]).unwrap();
    let record = |text: &Option<String>| format!("{{\"c\":{}}}", text.as_deref().unwrap_or("null"));
    let records: Vec<String> = texts.iter().map(record).collect();
    let decoded = decoder.decode_payloads(records.iter().map(String::as_bytes));
    assert_eq!(decoded.bad, []);
    Arc::clone(decoded.batch.column(0))
}

fn plan(schema: SchemaRef, sql: &str) -> Result<QueryPlan, String> {
    QueryPlan::blocking(schema, vec![], text_query(sql)).map_err(|error| error.to_string())
}

fn run(plan: &QueryPlan, source: &RecordBatch) -> Result<RecordBatch, String> {
    let input = source.project(plan.source_columns()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let batches = runtime
        .block_on(async {
            let mut open = plan.open(&BTreeMap::new(), 1 << 30).await?;
            open.input.push("shard", input).await?;
            open.input.close();
            let mut batches = vec![];
            while let Some(batch) = open.output.next().await? {
                batches.push(batch);
            }
            Ok::<_, crate::query::QueryError>(batches)
        })
        .map_err(|error| error.to_string())?;
    let schema = Arc::clone(plan.output_schema());
    arrow::compute::concat_batches(&schema, &batches).map_err(|error| error.to_string())
}

/// A value in the form of the golden table.
fn shown(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let text = match array.data_type() {
        DataType::Null => return Value::Null,
        DataType::Boolean => return Value::Bool(array.as_boolean().value(row)),
        DataType::Utf8 => return Value::String(array.as_string::<i32>().value(row).to_owned()),
        DataType::List(_) => {
            let inner = array.as_list::<i32>().value(row);
            return (0..inner.len()).map(|at| shown(&inner, at)).collect();
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            return columns.map(|column| shown(column, row)).collect();
        }
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().value(row));
            let mut entries: Vec<Value> =
                (0..entries.len()).map(|at| shown(&entries, at)).collect();
            entries.sort_by_key(Value::to_string);
            return Value::Array(entries);
        }
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Decimal128(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            super::number::decimal_text(value, *scale)
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>().value(row).iter();
            bytes.map(|byte| format!("{byte:02x}")).collect()
        }
        DataType::Date32 => super::clock::date_text(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => {
            super::clock::time_text(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        other => panic!("{other} is not in the table"),
    };
    Value::String(text)
}

/// Units of the last place by which a function of which Java's own last digit depends on the
/// processor may differ.
const LAST_DIGITS: u64 = 4;

/// Units of the last place by which the values of an expression may differ.
fn tolerance(sql: &str) -> u64 {
    let is_called = |name: &&str| {
        let call = format!("{name}(");
        let mut calls = sql.match_indices(&call).map(|(at, _)| at);
        calls.any(|at| {
            !sql[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
        })
    };
    if super::curves::NAMES.iter().any(is_called) {
        LAST_DIGITS
    } else {
        0
    }
}

/// Whether two values are the same, but for so many units of the last place.
fn same(kind: &DataType, one: &Value, two: &Value, units: u64) -> bool {
    match (one, two) {
        (Value::Array(one), Value::Array(two)) => {
            let mut pairs = one.iter().zip(two).enumerate();
            let inner = |place: usize| match kind {
                DataType::Struct(fields) => fields[place].data_type(),
                DataType::List(inner) | DataType::Map(inner, _) => inner.data_type(),
                _ => kind,
            };
            one.len() == two.len()
                && pairs.all(|(place, (one, two))| same(inner(place), one, two, units))
        }
        (Value::String(one), Value::String(two)) => match kind {
            DataType::Float32 | DataType::Float64 => {
                let number = |text: &str| text.parse::<f64>().unwrap();
                let one = number(one);
                let two = number(two);
                let is_near = one.is_sign_negative() == two.is_sign_negative()
                    && one.to_bits().abs_diff(two.to_bits()) <= units;
                is_near || one.is_nan() && two.is_nan()
            }
            DataType::Timestamp(..) => {
                let whole = |text: &str| match text.split_once('.') {
                    Some((head, fraction)) => format!("{head}.{fraction:0<6}"),
                    None => format!("{text}.000000"),
                };
                whole(one) == whole(two)
            }
            DataType::Decimal128(..) => {
                let number = |text: &str| {
                    super::number::decimal(text, 38, 18).map(|number| (number, text.len()))
                };
                match (number(one), number(two)) {
                    (Some((one, _)), Some((two, _))) => one == two,
                    _ => one == two,
                }
            }
            _ => one == two,
        },
        _ => one == two,
    }
}

/// The first value that is another, or none.
fn difference(answer: &Value, source: &RecordBatch) -> Result<(), String> {
    let sql = answer["sql"].as_str().unwrap();
    let is_query = answer.get("rows").is_some();
    let units = tolerance(sql);
    let query = if is_query {
        sql.to_owned()
    } else {
        format!("SELECT {sql} AS r FROM source")
    };
    let plan = plan(source.schema(), &query).map_err(|error| format!("refused: {error}"))?;
    let result = run(&plan, source)?;
    let kinds: Vec<String> = result
        .schema()
        .fields()
        .iter()
        .map(|field| types::name(field.data_type()))
        .collect();
    let mut expected: Vec<Vec<Value>> = vec![];
    let (wanted, names): (Vec<&str>, Vec<&str>) = if is_query {
        let list = |key: &str| {
            answer[key]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one.as_str().unwrap())
        };
        for row in answer["rows"].as_array().unwrap() {
            expected.push(row.as_array().unwrap().clone());
        }
        (list("types").collect(), list("names").collect())
    } else {
        for run in answer["values"].as_array().unwrap() {
            for _ in 0..run[1].as_u64().unwrap() {
                expected.push(vec![run[0].clone()]);
            }
        }
        (vec![answer["type"].as_str().unwrap()], vec!["r"])
    };
    let given: Vec<String> = result
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    if given != names {
        return Err(format!("columns {given:?}, in Spark {names:?}"));
    }
    if kinds != wanted {
        return Err(format!("type {kinds:?}, in Spark {wanted:?}"));
    }
    if result.num_rows() != expected.len() {
        return Err(format!(
            "{} rows, in Spark {}",
            result.num_rows(),
            expected.len()
        ));
    }
    let mut differing = 0;
    let mut first = None;
    for (row, values) in expected.iter().enumerate() {
        for (place, value) in values.iter().enumerate() {
            let ours = shown(result.column(place), row);
            if !same(result.column(place).data_type(), &ours, value, units) {
                differing += 1;
                first.get_or_insert_with(|| {
                    let input = source
                        .columns()
                        .iter()
                        .zip(source.schema().fields().iter().cloned().collect::<Vec<_>>());
                    let row_text: Vec<String> = if is_query {
                        vec![]
                    } else {
                        input
                            .filter(|(_, field)| sql.contains(field.name().as_str()))
                            .map(|(column, field)| {
                                format!("{}={}", field.name(), shown(column, row))
                            })
                            .collect()
                    };
                    format!(
                        "row {row} column {place}: {ours}, in Spark {value}; {}",
                        row_text.join(" ")
                    )
                });
            }
        }
    }
    match first {
        Some(first) => Err(format!("{differing} values; {first}")),
        None => Ok(()),
    }
}

#[test]
fn every_expression_gives_what_spark_gives_or_is_refused() {
    let source = source();
    // Expressions that Spark evaluates and this dialect refuses, each for a reason of its own.
    let refused = golden("refused.txt");
    let answers = golden("answers.jsonl");
    let refused: BTreeSet<&str> = refused
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut problems = vec![];
    let mut same = 0;
    let mut values = 0;
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let sql = answer["sql"].as_str().unwrap();
        if answer.get("refused").is_some() {
            let query = format!("SELECT {sql} AS r FROM source");
            if plan(source.schema(), &query).is_ok() {
                problems.push(format!("{sql}: Spark refuses it"));
            }
            continue;
        }
        let result = difference(&answer, &source);
        match (result, refused.contains(sql)) {
            (Ok(()), false) => {
                same += 1;
                values += source.num_rows();
            }
            (Err(text), true) if text.starts_with("refused: ") => {}
            (Ok(()), true) => problems.push(format!("{sql}: is not refused any more")),
            (Err(text), _) => problems.push(format!("{sql}: {text}")),
        }
    }
    assert!(
        problems.is_empty(),
        "{} of {}:\n{}",
        problems.len(),
        same + problems.len(),
        problems.join("\n")
    );
    assert!(
        same >= 250 && values > 50_000,
        "{same} expressions, {values} values"
    );
}

#[test]
fn every_function_is_in_the_table() {
    let asked = golden("answers.jsonl").to_lowercase();
    let missing: Vec<&str> = super::list::names()
        .filter(|name| {
            !asked.contains(&format!("{name}(")) && !asked.contains(&format!("{name} ("))
        })
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    let empty = new_null_array(&DataType::Utf8, 1);
    assert_eq!(shown(&empty, 0), Value::Null);
}

#[test]
fn a_list_is_folded_within_bounds() {
    let source = source();
    for (sum, message) in [
        (
            "aggregate(sequence(1, 100001 + id), 0, (a, x) -> a)",
            "elements: 100000 are the most",
        ),
        (
            "aggregate(transform(split(repeat('a,', 30000 + id), ','), x -> 1), s, (a, x) -> concat(a, '0123456789'))",
            "would make ",
        ),
    ] {
        let sql = format!("SELECT {sum} AS r FROM source WHERE id = 1");
        let plan = plan(source.schema(), &sql).unwrap();
        let error = run(&plan, &source).unwrap_err();
        assert!(error.contains(message), "{sql}: {error}");
    }
}

#[test]
fn copies_of_a_row_for_each_element_are_charged_before_they_are_made() {
    let source = source();
    let long = "(SELECT id, concat(repeat('0123456789', 1000), s) AS long FROM source)";
    for sql in [
        format!("SELECT transform(sequence(1, 100000 + abs(id % 2)), v -> long) AS r FROM {long}"),
        "SELECT transform(sequence(1, 100000 + abs(id % 2)), v -> repeat('0123456789', 1000)) AS r FROM source"
            .to_owned(),
    ] {
        let plan = plan(source.schema(), &sql).unwrap();
        let error = run(&plan, &source).unwrap_err();
        assert!(error.contains("() would make "), "{sql}: {error}");
    }
}

/// Case P31: before this dialect, these expressions of Spark's SQL silently had other values.
#[test]
fn p31_each_expression_of_the_case_gives_what_spark_gives_or_is_refused() {
    const GIVEN: [(&str, &str); 21] = [
        ("date_format_java", "2026-11-24"),
        ("to_timestamp_java", "2026-11-24 00:00:00"),
        ("substr_negative", "ef"),
        ("pipes_null", "NULL"),
        ("log", "4.605170185988092"),
        ("split_part", "x"),
        ("double_quoted_text2", "no"),
        ("cast_text_int", "12"),
        ("cast_int_text_long", "5"),
        ("round_half", "3"),
        ("dayofweek", "3"),
        ("datediff", "0"),
        ("unix_ts", "1795515630"),
        ("locate", "3"),
        ("double_equals", "true"),
        ("like_any", "false"),
        ("length_null", "NULL"),
        ("cast_bool", "true"),
        ("cast_ts_text", "2026-11-24 10:20:30"),
        ("decimal_div", "0.333333"),
        ("ifnull", "b"),
    ];
    // Functions of DataFusion, and what differs each time.
    const REFUSED: [&str; 5] = ["array_index", "hex", "current", "uuid", "input_file"];
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/cases/P31_spark_sql_dialect/expressions.json"
    );
    let case: Value = serde_json::from_str(&std::fs::read_to_string(case).unwrap()).unwrap();
    let time = super::clock::time("2026-11-24 10:20:30").unwrap();
    let text = |text: &str| -> ArrayRef { Arc::new(arrow::array::StringArray::from(vec![text])) };
    let source = RecordBatch::try_from_iter_with_nullable([
        (
            "id",
            Arc::new(arrow::array::Int32Array::from(vec![1])) as ArrayRef,
            true,
        ),
        ("s", text("abcdef"), true),
        ("n", Arc::new(arrow::array::Int32Array::from(vec![5])), true),
        ("nothing", new_null_array(&DataType::Utf8, 1), true),
        ("csv", text("x,y,z"), true),
        (
            "ts",
            Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![time])),
            true,
        ),
        ("us", text("11/24/2026"), true),
        ("num", text("12.7"), true),
        ("status", text("ok"), true),
        ("ok", text("column"), true),
    ])
    .unwrap();
    for expression in case.as_array().unwrap() {
        let id = expression["id"].as_str().unwrap();
        let sql = expression["sql"].as_str().unwrap();
        let planned = plan(source.schema(), &format!("SELECT {sql} AS r FROM source"));
        let given = match planned {
            Ok(plan) => {
                let rows = run(&plan, &source).unwrap();
                match shown(rows.column(0), 0) {
                    Value::Null => "NULL".to_owned(),
                    Value::String(text) => text,
                    other => other.to_string(),
                }
            }
            Err(_) => "refused".to_owned(),
        };
        if id == "sha2" {
            assert_eq!(given.len(), 64, "{sql}: {given}");
            continue;
        }
        let expected = match GIVEN.iter().find(|(known, _)| *known == id) {
            Some((_, value)) => *value,
            None => {
                assert!(REFUSED.contains(&id), "{id} has no expected value");
                "refused"
            }
        };
        assert_eq!(given, expected, "{sql}");
    }
}
