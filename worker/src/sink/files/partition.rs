//! The folder of each row.
//!
//! Owns: the names of folders, splitting batches by them. Does not own: objects.
//! Rule: folder names follow Hive, so that Athena, Spark and a crawler can read them.

use super::SinkError;
use crate::sink::objects::{RejectedRows, Rejection};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use chrono::{Datelike as _, Timelike as _};
use std::collections::HashMap;
use std::sync::Arc;
use streamctl_engine::written::Form;
use streamctl_proto::Window;
use streamctl_proto::names::{check_folder, partition_folder};
use streamctl_proto::spec::{Location, PartitionColumn};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    /// The same for all rows of the window.
    Fixed(String),
    /// `name=` and the value of the result's column with this index.
    Column { name: String, index: usize },
}

/// Rows of a batch, by their folders.
#[derive(Default)]
pub(crate) struct Parts {
    /// Without the columns that form the folder.
    pub folders: Vec<(String, RecordBatch)>,
    /// Rows whose partition is not a valid folder name.
    pub rejected: Vec<RejectedRows>,
}

/// Distributes the rows of one window over folders.
#[derive(Debug)]
pub(crate) struct Partitioner {
    levels: Vec<Level>,
    /// Columns that stay in the objects.
    kept: Vec<usize>,
    schema: SchemaRef,
}

impl Partitioner {
    /// `schema` is that of the result.
    pub fn new(
        columns: &[PartitionColumn],
        window: Window,
        schema: &Schema,
    ) -> Result<Self, SinkError> {
        let levels = columns
            .iter()
            .map(|column| level(column, window, schema))
            .collect::<Result<Vec<_>, _>>()?;
        let is_folder = |index: &usize| {
            levels.iter().any(
                |level| matches!(level, Level::Column { index: folder, .. } if folder == index),
            )
        };
        let kept: Vec<usize> = (0..schema.fields().len())
            .filter(|index| !is_folder(index))
            .collect();
        if kept.is_empty() {
            return Err(SinkError::NoColumns);
        }
        let schema = schema.project(&kept).map_err(SinkError::Split)?;
        Ok(Self {
            levels,
            kept,
            schema: Arc::new(schema),
        })
    }

    /// The schema of the objects: the result without the columns that form folders.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The names of the levels of a folder, each with its column of the result unless it is of the
    /// window's time.
    pub fn levels(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        self.levels.iter().map(|level| match level {
            Level::Fixed(folder) => (folder.split('=').next().unwrap_or(folder), None),
            Level::Column { name, index } => (name.as_str(), Some(*index)),
        })
    }

    /// Rows of the result in their written types, by folder; those that cannot be written are
    /// rejected.
    pub fn split_formed(
        &self,
        place: &Location,
        form: &Form,
        batch: &RecordBatch,
    ) -> Result<Parts, SinkError> {
        let formed = form.rows(batch).map_err(SinkError::Split)?;
        let mut parts = self.split(place, &formed.rows)?;
        let refused = formed.refused.into_iter();
        parts
            .rejected
            .extend(refused.map(|(reason, rows)| RejectedRows {
                reason: Rejection::Value(reason),
                rows,
            }));
        Ok(parts)
    }

    /// The rows of each folder below `place`, in their order; folders end in a slash, or are empty.
    pub fn split(&self, place: &Location, batch: &RecordBatch) -> Result<Parts, SinkError> {
        let texts = self.texts(batch)?;
        let content = batch.project(&self.kept).map_err(SinkError::Split)?;
        let mut parts = Parts::default();
        if content.num_rows() == 0 {
            return Ok(parts);
        }
        let groups = if texts.is_empty() {
            vec![vec![]]
        } else {
            groups(&texts).map_err(SinkError::Split)?
        };
        let all = groups.len() == 1;
        for rows in groups {
            let folder = self.folder(&texts, rows.first().map_or(0, |row| *row as usize));
            let numbers = UInt32Array::from(rows);
            let of = |batch: &RecordBatch| {
                if all {
                    Ok(batch.clone())
                } else {
                    take_record_batch(batch, &numbers).map_err(SinkError::Split)
                }
            };
            match check_folder(place.as_str(), &folder) {
                Ok(()) => parts.folders.push((folder, of(&content)?)),
                Err(reason) => parts.rejected.push(RejectedRows {
                    reason: Rejection::Folder(reason),
                    rows: of(batch)?,
                }),
            }
        }
        Ok(parts)
    }

    /// The partition columns as text, in the order of the levels.
    fn texts(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, SinkError> {
        let column = |level: &Level| match level {
            Level::Fixed(_) => None,
            Level::Column { index, .. } => {
                Some(cast(batch.column(*index), &DataType::Utf8).map_err(SinkError::Split))
            }
        };
        self.levels.iter().filter_map(column).collect()
    }

    fn folder(&self, texts: &[ArrayRef], row: usize) -> String {
        let mut folder = String::new();
        let mut texts = texts.iter();
        for level in &self.levels {
            match level {
                Level::Fixed(text) => folder.push_str(text),
                Level::Column { name, .. } => {
                    let values = texts.next().map(|column| column.as_string::<i32>());
                    folder.push_str(&partition_folder(
                        name,
                        values.and_then(|values| text_at(values, row)),
                    ));
                }
            }
            folder.push('/');
        }
        folder
    }
}

fn text_at(values: &StringArray, row: usize) -> Option<&str> {
    values.is_valid(row).then(|| values.value(row))
}

fn level(column: &PartitionColumn, window: Window, schema: &Schema) -> Result<Level, SinkError> {
    let time = chrono::DateTime::from_timestamp_millis(window.start_ms).unwrap_or_default();
    Ok(match column {
        PartitionColumn::IngestYear => Level::Fixed(format!("ingest_year={:04}", time.year())),
        PartitionColumn::IngestMonth => Level::Fixed(format!("ingest_month={:02}", time.month())),
        PartitionColumn::IngestDay => Level::Fixed(format!("ingest_day={:02}", time.day())),
        PartitionColumn::IngestHour => Level::Fixed(format!("ingest_hour={:02}", time.hour())),
        PartitionColumn::Column(name) => {
            let exact = schema
                .fields()
                .iter()
                .position(|field| field.name() == name);
            let any_case = || {
                schema
                    .fields()
                    .iter()
                    .position(|field| field.name().eq_ignore_ascii_case(name))
            };
            let index = exact
                .or_else(any_case)
                .ok_or_else(|| SinkError::UnknownColumn {
                    column: name.clone(),
                    columns: schema
                        .fields()
                        .iter()
                        .map(|field| field.name().clone())
                        .collect(),
                })?;
            Level::Column {
                name: name.clone(),
                index,
            }
        }
    })
}

/// Row numbers with equal values, each list in order, lists in order of their first row.
fn groups(texts: &[ArrayRef]) -> Result<Vec<Vec<u32>>, arrow::error::ArrowError> {
    let fields = texts
        .iter()
        .map(|column| SortField::new(column.data_type().clone()))
        .collect();
    let rows = RowConverter::new(fields)?.convert_columns(texts)?;
    let mut found: HashMap<_, usize> = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let group = *found.entry(row).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        // A batch has fewer than 2^32 rows: its offsets are 32 bits wide.
        groups[group].push(index as u32);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;
    use arrow::datatypes::Field;

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int32, false),
            Field::new("Code", DataType::Utf8, true),
            Field::new("n", DataType::Int32, true),
        ]);
        let codes = StringArray::from(vec![Some("DE"), None, Some("a/b"), Some("DE"), Some("")]);
        let numbers = Int32Array::from(vec![1, 1, 1, 1, 1]);
        let ids = Int32Array::from(vec![1, 2, 3, 4, 5]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(ids), Arc::new(codes), Arc::new(numbers)],
        )
        .unwrap()
    }

    /// 2026-03-04T05:06:00Z.
    const WINDOW: Window = Window {
        start_ms: 1_772_600_760_000,
        end_ms: 1_772_600_820_000,
    };

    fn split(columns: &[PartitionColumn]) -> Vec<(String, Vec<i32>)> {
        let batch = batch();
        let parts = Partitioner::new(columns, WINDOW, &batch.schema())
            .unwrap()
            .split(&Location::folder("/out"), &batch)
            .unwrap();
        let ids = |part: &RecordBatch| {
            part.column(0)
                .as_primitive::<arrow::datatypes::Int32Type>()
                .values()
                .to_vec()
        };
        assert!(parts.rejected.is_empty());
        parts
            .folders
            .iter()
            .map(|(folder, part)| (folder.clone(), ids(part)))
            .collect()
    }

    #[test]
    fn folders_of_time_are_those_of_the_windows_start() {
        use PartitionColumn::*;
        let parts = split(&[IngestYear, IngestMonth, IngestDay, IngestHour]);
        assert_eq!(parts.len(), 1);
        assert_eq!(
            parts[0].0,
            "ingest_year=2026/ingest_month=03/ingest_day=04/ingest_hour=05/"
        );
        assert_eq!(split(&[])[0].0, "");
    }

    #[test]
    fn rows_go_to_the_folder_of_their_values_and_keep_their_order() {
        use PartitionColumn::*;
        let parts = split(&[IngestYear, Column("code".into()), Column("n".into())]);
        let expected = [
            ("ingest_year=2026/code=DE/n=1/".to_owned(), vec![1, 4]),
            (
                "ingest_year=2026/code=__HIVE_DEFAULT_PARTITION__/n=1/".to_owned(),
                vec![2],
            ),
            ("ingest_year=2026/code=a%2Fb/n=1/".to_owned(), vec![3]),
            (
                "ingest_year=2026/code=__HIVE_DEFAULT_PARTITION__/n=1/".to_owned(),
                vec![5],
            ),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn columns_that_are_folders_leave_the_objects_but_one_must_stay() {
        let schema = batch().schema();
        let folders = |names: &[&str]| {
            names
                .iter()
                .map(|n| PartitionColumn::Column((*n).into()))
                .collect::<Vec<_>>()
        };
        let partitioner = Partitioner::new(&folders(&["Code", "n"]), WINDOW, &schema).unwrap();
        assert_eq!(
            partitioner
                .schema()
                .fields()
                .iter()
                .map(|f| f.name().as_str())
                .collect::<Vec<_>>(),
            ["id"]
        );
        let all = Partitioner::new(&folders(&["Code", "n", "id"]), WINDOW, &schema);
        assert!(matches!(all, Err(SinkError::NoColumns)));
        let unknown = Partitioner::new(&folders(&["country"]), WINDOW, &schema).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "the result has no column country to partition by; it has id, Code, n"
        );
    }
}
