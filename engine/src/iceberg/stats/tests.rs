use super::super::schema::{new_schema, with_field_ids};
use super::*;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

fn write(columns: Vec<(&str, ArrayRef)>, group_rows: usize) -> (Metrics, Vec<i64>, Schema) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let table = new_schema(&batch.schema()).unwrap();
    let schema = Arc::new(with_field_ids(&batch.schema(), &table));
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let mut writer = ArrowWriter::try_new(vec![], schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let footer = writer.finish().unwrap();
    let (metrics, offsets) = metrics(&footer, &table);
    (metrics, offsets, table)
}

#[test]
fn counts_and_bounds_are_those_of_the_values_over_all_row_groups() {
    let decimals = Decimal128Array::from(vec![Some(-5), None, Some(300), Some(2)])
        .with_precision_and_scale(20, 2)
        .unwrap();
    let small = Decimal128Array::from(vec![Some(-5), None, Some(300), Some(2)])
        .with_precision_and_scale(9, 2)
        .unwrap();
    let times = TimestampMicrosecondArray::from(vec![9, 5, 7, 8]).with_timezone("UTC");
    let (metrics, offsets, _) = write(
        vec![
            (
                "i",
                Arc::new(Int32Array::from(vec![Some(3), None, Some(-1), Some(2)])),
            ),
            ("d", Arc::new(decimals)),
            ("s", Arc::new(StringArray::from(vec!["b", "a", "é", "c"]))),
            ("t", Arc::new(times)),
            (
                "b",
                Arc::new(BooleanArray::from(vec![true, true, true, true])),
            ),
            ("day", Arc::new(Date32Array::from(vec![4, 3, 2, 1]))),
            ("small", Arc::new(small)),
        ],
        2,
    );
    assert_eq!(offsets.len(), 2);
    assert_eq!(offsets[0], 4);
    assert_eq!(metrics.value_counts[&1], 4);
    assert_eq!(metrics.null_counts[&1], 1);
    assert_eq!(metrics.null_counts[&3], 0);
    assert_eq!(metrics.lower_bounds[&1], (-1_i32).to_le_bytes());
    assert_eq!(metrics.upper_bounds[&1], 3_i32.to_le_bytes());
    assert_eq!(metrics.lower_bounds[&2], [0xfb]);
    assert_eq!(metrics.upper_bounds[&2], [0x01, 0x2c]);
    assert_eq!(metrics.lower_bounds[&3], b"a");
    assert_eq!(metrics.upper_bounds[&3], "é".as_bytes());
    assert_eq!(metrics.lower_bounds[&4], 5_i64.to_le_bytes());
    assert_eq!(metrics.upper_bounds[&4], 9_i64.to_le_bytes());
    assert_eq!(metrics.lower_bounds[&5], [1]);
    assert_eq!(metrics.lower_bounds[&6], 1_i32.to_le_bytes());
    assert_eq!(metrics.upper_bounds[&7], [0x01, 0x2c]);
    assert!(metrics.column_sizes.values().all(|size| *size > 0));
}

#[test]
fn long_texts_have_short_bounds_that_hold() {
    let long = "z".repeat(40);
    let last = "\u{10ffff}".repeat(20);
    let bytes = vec![0xff_u8; 20];
    let (metrics, ..) = write(
        vec![
            ("s", Arc::new(StringArray::from(vec![long.as_str(); 2]))),
            ("top", Arc::new(StringArray::from(vec![last.as_str(); 2]))),
            ("b", Arc::new(BinaryArray::from(vec![bytes.as_slice(); 2]))),
        ],
        10,
    );
    assert_eq!(metrics.lower_bounds[&1], "z".repeat(16).as_bytes());
    assert_eq!(
        metrics.upper_bounds[&1],
        format!("{}{{", "z".repeat(15)).as_bytes()
    );
    assert!(!metrics.upper_bounds.contains_key(&2));
    assert_eq!(metrics.lower_bounds[&3], vec![0xff; 16]);
    assert!(!metrics.upper_bounds.contains_key(&3));
}

#[test]
fn nulls_alone_nan_alone_and_items_of_lists_have_no_bounds() {
    let lists =
        ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2)]), None]);
    let (metrics, ..) = write(
        vec![
            ("n", Arc::new(Int32Array::from(vec![None, None]))),
            ("f", Arc::new(Float64Array::from(vec![f64::NAN, f64::NAN]))),
            ("l", Arc::new(lists)),
            ("mixed", Arc::new(Float64Array::from(vec![f64::NAN, -0.0]))),
        ],
        10,
    );
    assert!(!metrics.lower_bounds.contains_key(&1));
    assert_eq!(metrics.null_counts[&1], 2);
    assert!(!metrics.lower_bounds.contains_key(&2));
    assert_eq!(
        metrics.lower_bounds.keys().copied().collect::<Vec<_>>(),
        [4]
    );
    assert_eq!(metrics.upper_bounds[&4], 0_f64.to_le_bytes());
}

#[test]
fn a_row_group_of_nulls_does_not_hide_the_others_range() {
    let (metrics, ..) = write(
        vec![(
            "n",
            Arc::new(Int32Array::from(vec![
                None,
                None,
                Some(7),
                Some(9),
                None,
                None,
            ])),
        )],
        2,
    );
    assert_eq!(
        metrics.lower_bounds.get(&1),
        Some(&7_i32.to_le_bytes().to_vec())
    );
    assert_eq!(
        metrics.upper_bounds.get(&1),
        Some(&9_i32.to_le_bytes().to_vec())
    );
}

#[test]
fn only_the_first_hundred_columns_have_statistics() {
    let names: Vec<_> = (0..120).map(|at| format!("c{at}")).collect();
    let columns = names.iter().map(|name| {
        (
            name.as_str(),
            Arc::new(Int32Array::from(vec![1])) as ArrayRef,
        )
    });
    let (metrics, ..) = write(columns.collect(), 10);
    assert_eq!(metrics.value_counts.len(), COLUMNS_MAX);
}
