//! The values of the columns that say where a record comes from, and which window it is in.
//!
//! Owns: these values, for rows that are decoded. Does not own: which of the columns a query reads
//! (`streamctl_engine::query`).
//! Rule: they follow from the record's place and its epoch alone: each replay gives the same. A
//! replayed dead letter has those of the record that it was.

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use std::sync::Arc;
use streamctl_engine::query::RecordColumn;
use streamctl_engine::source::Record;
use streamctl_proto::{ResolvedJob, SequenceNumber, ShardId, Window};

/// Appends the columns that a query reads.
pub(crate) struct RecordValues<'a> {
    job: &'a ResolvedJob,
    columns: &'a [RecordColumn],
    /// `None`: that of each record's arrival (a preview).
    window: Option<Window>,
}

/// The place of a record in its source.
struct Place<'a> {
    shard: &'a ShardId,
    sequence: &'a SequenceNumber,
    sub_sequence: u64,
    arrival_ms: i64,
}

impl<'a> Place<'a> {
    fn of(record: &'a Record, shard: &'a ShardId) -> Self {
        match record.origin.as_deref() {
            Some(origin) => Self {
                shard: &origin.shard,
                sequence: &origin.sequence,
                sub_sequence: origin.sub_sequence,
                arrival_ms: origin.arrival_ms,
            },
            None => Self {
                shard,
                sequence: &record.sequence,
                sub_sequence: record.sub_sequence,
                arrival_ms: record.arrival_ms,
            },
        }
    }
}

impl<'a> RecordValues<'a> {
    pub fn new(job: &'a ResolvedJob, columns: &'a [RecordColumn], window: Option<Window>) -> Self {
        Self {
            job,
            columns,
            window,
        }
    }

    /// The query reads none of them.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Appends the columns to rows of `shard`. `of_rows`: the record of each row, by its place in
    /// `records`, ascending.
    ///
    /// # Errors
    /// A bug: there are more or fewer rows than that.
    pub fn append(
        &self,
        rows: RecordBatch,
        of_rows: impl Iterator<Item = usize>,
        records: &[Record],
        shard: &ShardId,
    ) -> Result<RecordBatch, ArrowError> {
        if self.columns.is_empty() {
            return Ok(rows);
        }
        let of_rows: Vec<(usize, u64)> = numbered(of_rows).collect();
        let places: Vec<(&Record, Place<'_>, u64)> = of_rows
            .into_iter()
            .map(|(index, object)| {
                let record = &records[index];
                (record, Place::of(record, shard), object)
            })
            .collect();
        let mut fields: Vec<Arc<Field>> = rows.schema().fields().to_vec();
        let mut arrays = rows.columns().to_vec();
        for column in self.columns {
            fields.push(Arc::new(column.field()));
            arrays.push(self.values(*column, &places));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
    }

    fn values(&self, column: RecordColumn, places: &[(&Record, Place<'_>, u64)]) -> ArrayRef {
        let times = |time: &dyn Fn(&Record, &Place<'_>) -> i64| -> ArrayRef {
            let us = places
                .iter()
                .map(|(record, place, _)| time(record, place).saturating_mul(1_000));
            Arc::new(TimestampMicrosecondArray::from_iter_values(us))
        };
        let texts = |text: &dyn Fn(&Record, &Place<'_>, u64) -> Option<String>| -> ArrayRef {
            let texts = places
                .iter()
                .map(|(record, place, object)| text(record, place, *object));
            Arc::new(StringArray::from_iter(texts))
        };
        match column {
            RecordColumn::WindowStart => times(&|record, _| self.window_of(record).start_ms),
            RecordColumn::WindowEnd => times(&|record, _| self.window_of(record).end_ms),
            RecordColumn::ArrivalTime => times(&|_, place| place.arrival_ms),
            RecordColumn::Shard => texts(&|_, place, _| Some(place.shard.to_string())),
            RecordColumn::SequenceNumber => {
                texts(&|_, place, _| Some(place.sequence.as_str().to_owned()))
            }
            RecordColumn::PartitionKey => {
                texts(&|record, _, _| record.extra.as_ref()?.partition_key.clone())
            }
            RecordColumn::File => texts(&|_, place, _| {
                let folder = self.job.spec.source.kind.input_folder()?;
                Some(folder.join(place.shard.as_str()))
            }),
            RecordColumn::IngestId => texts(&|_, place, object| Some(self.id(place, object))),
        }
    }

    fn window_of(&self, record: &Record) -> Window {
        let own = || self.job.spec.window.window_of(record.arrival_ms);
        self.window.unwrap_or_else(own)
    }

    /// Job, shard, sequence number and sub-sequence; behind it which object of the record it is, for
    /// those that are not the first.
    fn id(&self, place: &Place<'_>, object: u64) -> String {
        let Place {
            shard,
            sequence,
            sub_sequence,
            ..
        } = place;
        let job = &self.job.spec.name;
        let id = format!("{job}/{shard}/{}/{sub_sequence}", sequence.as_str());
        match object {
            0 => id,
            object => format!("{id}/{object}"),
        }
    }
}

/// With each row's number among the rows of its record, from 0.
fn numbered(of_rows: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, u64)> {
    let mut last = None;
    of_rows.map(move |index| {
        let object = match last {
            Some((before, object)) if before == index => object + 1,
            _ => 0,
        };
        last = Some((index, object));
        (index, object)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::job;
    use arrow::array::Int64Array;
    use arrow::util::display::array_value_to_string;
    use streamctl_engine::source::{Extra, Foreign, Origin};
    use streamctl_proto::Epoch;
    use streamctl_proto::spec::{FilesSource, Location, RecordFormat, SourceKind};

    const WINDOW: Window = Window {
        start_ms: 60_000,
        end_ms: 120_000,
    };

    fn records() -> Vec<Record> {
        let record = |sequence: u64, sub_sequence, extra| Record {
            sequence: sequence.into(),
            sub_sequence,
            arrival_ms: 61_500,
            data: "{}".into(),
            origin: None,
            extra,
            foreign: Foreign::No,
        };
        let keyed = Extra {
            partition_key: Some("key".into()),
            ..Extra::default()
        };
        let origin = Origin {
            epoch: Epoch(7),
            shard: "shardId-9".into(),
            sequence: 4.into(),
            sub_sequence: 2,
            arrival_ms: 1_000,
        };
        let replayed = Record {
            origin: Some(Box::new(origin)),
            ..record(1, 0, None)
        };
        vec![
            record(11, 3, Some(Box::new(keyed))),
            record(12, 0, None),
            replayed,
        ]
    }

    /// The appended values of rows of these records, a line for each.
    fn appended(job: &ResolvedJob, columns: &[RecordColumn], of_rows: &[usize]) -> Vec<String> {
        let own: ArrayRef = Arc::new(Int64Array::from_iter_values(0..of_rows.len() as i64));
        let rows = RecordBatch::try_from_iter([("n", own)]).unwrap();
        let values = RecordValues::new(job, columns, Some(WINDOW));
        let shard = "shardId-1".into();
        let rows = values
            .append(rows, of_rows.iter().copied(), &records(), &shard)
            .unwrap();
        let line = |row| {
            let columns = rows.columns()[1..].iter();
            let values = columns.map(|column| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => array_value_to_string(column, row).unwrap(),
            });
            values.collect::<Vec<_>>().join(" ")
        };
        (0..rows.num_rows()).map(line).collect()
    }

    #[test]
    fn each_row_has_its_record_s_place_and_a_replayed_letter_that_of_its_record() {
        let columns = [
            RecordColumn::WindowStart,
            RecordColumn::WindowEnd,
            RecordColumn::ArrivalTime,
            RecordColumn::Shard,
            RecordColumn::SequenceNumber,
            RecordColumn::PartitionKey,
            RecordColumn::File,
        ];
        let lines = appended(&job("SELECT id FROM source"), &columns, &[0, 2]);
        assert_eq!(
            lines,
            [
                "1970-01-01T00:01:00 1970-01-01T00:02:00 1970-01-01T00:01:01.500 shardId-1 11 key NULL",
                "1970-01-01T00:01:00 1970-01-01T00:02:00 1970-01-01T00:00:01 shardId-9 4 NULL NULL",
            ]
        );
    }

    #[test]
    fn an_ingest_id_is_of_job_shard_position_and_object() {
        let job = job("SELECT id FROM source");
        let name = &job.spec.name;
        let ids = appended(&job, &[RecordColumn::IngestId], &[0, 1, 1, 1, 2]);
        let expected = [
            "shardId-1/11/3",
            "shardId-1/12/0",
            "shardId-1/12/0/1",
            "shardId-1/12/0/2",
            "shardId-9/4/2",
        ];
        assert_eq!(ids, expected.map(|id| format!("{name}/{id}")));
    }

    #[test]
    fn a_file_is_named_with_its_folder() {
        let mut job = job("SELECT id FROM source");
        job.spec.source.kind = SourceKind::Files(FilesSource {
            role: None,
            path: Location::folder("s3://bkt/in"),
            format: RecordFormat::Json,
            arrival_time: None,
            on_bad_arrival_time: Default::default(),
            max_arrival_ahead: None,
        });
        let lines = appended(&job, &[RecordColumn::File], &[1]);
        assert_eq!(lines, ["s3://bkt/in/shardId-1"]);
    }
}
