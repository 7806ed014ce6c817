//! Messages to and from domain types.
//!
//! Rule: conversion from the wire to the domain checks (`TryFrom`, names the field); the other way
//! cannot fail.

pub use crate::bad_message::BadMessage;
use crate::change::FieldChange;
use crate::manifest::TimeGap;
use crate::profile::OperatorFigures;
use crate::report::{
    Counts, NullValues, ObjectKind, Report, ShardRange, StageTimes, StagedObject, Staging,
    UnknownKey, UnmatchedKey,
};
use crate::table_file::{Bytes, ColumnStatistics, TableFile};
use crate::{JobName, LookupVersion, Position, SequenceNumber, ShardId, TaskId, Term, Window, v1};
use std::collections::BTreeMap;

fn bad(field: &'static str, problem: impl ToString) -> BadMessage {
    BadMessage {
        field,
        problem: problem.to_string(),
    }
}

/// The field, or the error that it is missing.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, BadMessage> {
    value.ok_or_else(|| bad(field, "is missing"))
}

impl From<&Position> for v1::Position {
    fn from(position: &Position) -> Self {
        use v1::position::{After, At, End, Start};
        let at = match position {
            Position::Start => At::Start(Start {}),
            Position::Timestamp(ms) => At::TimestampMs(*ms),
            Position::After {
                sequence,
                sub_sequence,
            } => At::After(After {
                sequence: sequence.to_string(),
                sub_sequence: *sub_sequence,
            }),
            Position::End => At::End(End {}),
        };
        Self { at: Some(at) }
    }
}

impl TryFrom<v1::Position> for Position {
    type Error = BadMessage;

    fn try_from(message: v1::Position) -> Result<Self, BadMessage> {
        use v1::position::At;
        Ok(match required("position.at", message.at)? {
            At::Start(_) => Position::Start,
            At::TimestampMs(ms) => Position::Timestamp(ms),
            At::After(after) => Position::After {
                sequence: SequenceNumber::try_from(after.sequence)
                    .map_err(|e| bad("position.after.sequence", e))?,
                sub_sequence: after.sub_sequence,
            },
            At::End(_) => Position::End,
        })
    }
}

/// A required position.
pub fn position(
    field: &'static str,
    message: Option<v1::Position>,
) -> Result<Position, BadMessage> {
    required(field, message)?.try_into()
}

impl From<TaskId> for v1::TaskId {
    fn from(task: TaskId) -> Self {
        Self {
            term: task.term.0,
            counter: task.counter,
        }
    }
}

impl From<v1::TaskId> for TaskId {
    fn from(message: v1::TaskId) -> Self {
        Self {
            term: Term(message.term),
            counter: message.counter,
        }
    }
}

/// A required task id.
pub fn task_id(message: Option<v1::TaskId>) -> Result<TaskId, BadMessage> {
    required("task", message).map(TaskId::from)
}

impl From<Window> for v1::Window {
    fn from(window: Window) -> Self {
        Self {
            start_ms: window.start_ms,
            end_ms: window.end_ms,
        }
    }
}

/// A required window, which must have a length.
pub fn window(message: Option<v1::Window>) -> Result<Window, BadMessage> {
    let v1::Window { start_ms, end_ms } = required("window", message)?;
    if start_ms < end_ms {
        Ok(Window { start_ms, end_ms })
    } else {
        Err(bad("window", "ends before it starts"))
    }
}

impl From<&Counts> for v1::Counts {
    fn from(c: &Counts) -> Self {
        Self {
            rows_in: c.rows_in,
            bytes_in: c.bytes_in,
            rows_decoded: c.rows_decoded,
            rows_dead: c.rows_dead,
            rows_unmatched: c.rows_unmatched,
            rows_out: c.rows_out,
            rows_late: c.rows_late,
            rows_rejected: c.rows_rejected,
            rows_without_arrival: c.rows_without_arrival,
            rows_failed: c.rows_failed,
            rows_foreign: c.rows_foreign,
            rows_further: c.rows_further,
            values_null: c.values_null,
        }
    }
}

impl From<TimeGap> for v1::TimeGap {
    fn from(gap: TimeGap) -> Self {
        Self {
            from_ms: gap.from_ms,
            to_ms: gap.to_ms,
        }
    }
}

impl TryFrom<v1::TimeGap> for TimeGap {
    type Error = BadMessage;

    fn try_from(gap: v1::TimeGap) -> Result<Self, BadMessage> {
        let v1::TimeGap { from_ms, to_ms } = gap;
        if from_ms < to_ms {
            Ok(Self { from_ms, to_ms })
        } else {
            Err(bad("lost", "ends before it starts"))
        }
    }
}

impl From<FieldChange> for v1::FieldChange {
    fn from(change: FieldChange) -> Self {
        let taken_over = change.refused.is_none();
        let (reason, hint) = change
            .refused
            .map(|refusal| (refusal.reason, refusal.hint))
            .unwrap_or_default();
        Self {
            field: change.field,
            was: change.was,
            will_be: change.will_be,
            taken_over,
            reason,
            hint,
        }
    }
}

impl From<v1::Counts> for Counts {
    fn from(c: v1::Counts) -> Self {
        Self {
            rows_in: c.rows_in,
            bytes_in: c.bytes_in,
            rows_decoded: c.rows_decoded,
            rows_dead: c.rows_dead,
            rows_unmatched: c.rows_unmatched,
            rows_out: c.rows_out,
            rows_late: c.rows_late,
            rows_rejected: c.rows_rejected,
            rows_without_arrival: c.rows_without_arrival,
            rows_failed: c.rows_failed,
            rows_foreign: c.rows_foreign,
            rows_further: c.rows_further,
            values_null: c.values_null,
        }
    }
}

impl From<&NullValues> for v1::NullValues {
    fn from(null: &NullValues) -> Self {
        Self {
            column: null.column.clone(),
            values: null.values,
        }
    }
}

impl From<v1::NullValues> for NullValues {
    fn from(null: v1::NullValues) -> Self {
        Self {
            column: null.column,
            values: null.values,
        }
    }
}

impl From<&UnknownKey> for v1::UnknownKey {
    fn from(one: &UnknownKey) -> Self {
        Self {
            key: one.key.clone(),
            count: one.count,
        }
    }
}

impl From<v1::UnknownKey> for UnknownKey {
    fn from(one: v1::UnknownKey) -> Self {
        Self {
            key: one.key,
            count: one.count,
        }
    }
}

impl From<&StageTimes> for v1::StageTimes {
    fn from(t: &StageTimes) -> Self {
        Self {
            decode_us: t.decode_us,
            transform_us: t.transform_us,
            stage_us: t.stage_us,
            last_read_us: t.last_read_us,
            last_decode_us: t.last_decode_us,
            last_transform_us: t.last_transform_us,
            last_stage_us: t.last_stage_us,
            report_us: t.report_us,
            commit_us: t.commit_us,
            publish_us: t.publish_us,
        }
    }
}

impl From<v1::StageTimes> for StageTimes {
    fn from(t: v1::StageTimes) -> Self {
        Self {
            decode_us: t.decode_us,
            transform_us: t.transform_us,
            stage_us: t.stage_us,
            last_read_us: t.last_read_us,
            last_decode_us: t.last_decode_us,
            last_transform_us: t.last_transform_us,
            last_stage_us: t.last_stage_us,
            report_us: t.report_us,
            commit_us: t.commit_us,
            publish_us: t.publish_us,
        }
    }
}

impl From<&UnmatchedKey> for v1::UnmatchedKey {
    fn from(u: &UnmatchedKey) -> Self {
        Self {
            lookup: u.lookup.clone(),
            key: u.key.clone(),
            rows: u.rows,
        }
    }
}

impl From<v1::UnmatchedKey> for UnmatchedKey {
    fn from(u: v1::UnmatchedKey) -> Self {
        Self {
            lookup: u.lookup,
            key: u.key,
            rows: u.rows,
        }
    }
}

impl From<&StagedObject> for v1::StagedObject {
    fn from(object: &StagedObject) -> Self {
        use v1::staged_object::{File, Kind, Multipart, Staging as Wire};
        let kind = match object.kind {
            ObjectKind::Data => Kind::Data,
            ObjectKind::DeadLetter => Kind::DeadLetter,
            ObjectKind::RejectedRow => Kind::RejectedRow,
        };
        let staging = match &object.staging {
            Staging::Multipart { upload_id, etags } => Wire::Multipart(Multipart {
                upload_id: upload_id.clone(),
                etags: etags.clone(),
            }),
            Staging::File { staged_path } => Wire::File(File {
                staged_path: staged_path.clone(),
            }),
        };
        Self {
            kind: kind.into(),
            location: object.location.clone(),
            size: object.size,
            crc32c: object.crc32c,
            rows: object.rows,
            staging: Some(staging),
            table_file: object.table_file.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<v1::StagedObject> for StagedObject {
    type Error = BadMessage;

    fn try_from(message: v1::StagedObject) -> Result<Self, BadMessage> {
        use v1::staged_object::{Kind, Staging as Wire};
        let kind = match message.kind() {
            Kind::Data => ObjectKind::Data,
            Kind::DeadLetter => ObjectKind::DeadLetter,
            Kind::RejectedRow => ObjectKind::RejectedRow,
            Kind::Unspecified => return Err(bad("object.kind", "is missing")),
        };
        let staging = match required("object.staging", message.staging)? {
            Wire::Multipart(m) => Staging::Multipart {
                upload_id: m.upload_id,
                etags: m.etags,
            },
            Wire::File(f) => Staging::File {
                staged_path: f.staged_path,
            },
        };
        Ok(Self {
            kind,
            location: message.location,
            size: message.size,
            crc32c: message.crc32c,
            rows: message.rows,
            staging,
            table_file: message.table_file.map(|file| Box::new(file.into())),
        })
    }
}

impl From<&TableFile> for v1::TableFile {
    fn from(file: &TableFile) -> Self {
        use v1::table_file::{Column, Value};
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.0.clone());
        let column = |column: &ColumnStatistics| Column {
            id: column.id,
            size: column.size,
            values: column.values,
            nulls: column.nulls,
            lower: bytes(&column.lower),
            upper: bytes(&column.upper),
        };
        let value = |value: &Option<Bytes>| Value {
            value: bytes(value),
        };
        Self {
            spec_id: file.spec_id,
            partition: file.partition.iter().map(value).collect(),
            columns: file.columns.iter().map(column).collect(),
            split_offsets: file.split_offsets.clone(),
        }
    }
}

impl From<v1::TableFile> for TableFile {
    fn from(message: v1::TableFile) -> Self {
        let column = |column: v1::table_file::Column| ColumnStatistics {
            id: column.id,
            size: column.size,
            values: column.values,
            nulls: column.nulls,
            lower: column.lower.map(Bytes),
            upper: column.upper.map(Bytes),
        };
        let partition = message.partition.into_iter();
        Self {
            spec_id: message.spec_id,
            partition: partition.map(|value| value.value.map(Bytes)).collect(),
            columns: message.columns.into_iter().map(column).collect(),
            split_offsets: message.split_offsets,
        }
    }
}

/// Lookup versions as the wire lists them.
pub fn lookups_to_wire(lookups: &BTreeMap<String, LookupVersion>) -> Vec<v1::LookupVersion> {
    let pair = |(lookup, version): (&String, &LookupVersion)| v1::LookupVersion {
        lookup: lookup.clone(),
        version: version.to_string(),
    };
    lookups.iter().map(pair).collect()
}

/// Lookup versions as the domain holds them.
pub fn lookups_from_wire(lookups: Vec<v1::LookupVersion>) -> BTreeMap<String, LookupVersion> {
    lookups
        .into_iter()
        .map(|l| (l.lookup, LookupVersion::new(l.version)))
        .collect()
}

impl From<&Report> for v1::Report {
    fn from(report: &Report) -> Self {
        let range = |(shard, range): (&ShardId, &ShardRange)| v1::ShardRange {
            shard: shard.to_string(),
            from: Some((&range.from).into()),
            to: Some((&range.to).into()),
            records: range.records,
            bytes: range.bytes,
        };
        Self {
            task: Some(report.task.into()),
            job: report.job.to_string(),
            window: Some(report.window.into()),
            ranges: report.ranges.iter().map(range).collect(),
            counts: Some((&report.counts).into()),
            lookups: lookups_to_wire(&report.lookups),
            objects: report.objects.iter().map(Into::into).collect(),
            unmatched: report.unmatched.iter().map(Into::into).collect(),
            null_values: report.null_values.iter().map(Into::into).collect(),
            unknown_keys: report.unknown_keys.iter().map(Into::into).collect(),
            stages: Some((&report.stages).into()),
            operators: report.operators.iter().map(Into::into).collect(),
        }
    }
}

impl From<&OperatorFigures> for v1::OperatorFigures {
    fn from(figures: &OperatorFigures) -> Self {
        Self {
            depth: figures.depth,
            name: figures.name.clone(),
            detail: figures.detail.clone(),
            rows: figures.rows,
            compute_us: figures.compute_us,
        }
    }
}

impl From<v1::OperatorFigures> for OperatorFigures {
    fn from(message: v1::OperatorFigures) -> Self {
        Self {
            depth: message.depth,
            name: message.name,
            detail: message.detail,
            rows: message.rows,
            compute_us: message.compute_us,
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = BadMessage;

    fn try_from(message: v1::Report) -> Result<Self, BadMessage> {
        let mut ranges = BTreeMap::new();
        for range in message.ranges {
            let from = position("range.from", range.from)?;
            let to = position("range.to", range.to)?;
            let taken = ShardRange {
                from,
                to,
                records: range.records,
                bytes: range.bytes,
            };
            if ranges.insert(ShardId::new(range.shard), taken).is_some() {
                return Err(bad("ranges", "one shard twice"));
            }
        }
        let counts: Counts = message.counts.unwrap_or_default().into();
        if !counts.balanced() {
            return Err(bad(
                "counts",
                "rows_in + rows_further is not rows_decoded + rows_dead",
            ));
        }
        Ok(Self {
            task: task_id(message.task)?,
            job: JobName::try_from(message.job).map_err(|e| bad("job", e))?,
            window: window(message.window)?,
            ranges,
            counts,
            lookups: lookups_from_wire(message.lookups),
            objects: message
                .objects
                .into_iter()
                .map(StagedObject::try_from)
                .collect::<Result<_, _>>()?,
            unmatched: message.unmatched.into_iter().map(Into::into).collect(),
            null_values: message.null_values.into_iter().map(Into::into).collect(),
            unknown_keys: message.unknown_keys.into_iter().map(Into::into).collect(),
            stages: message.stages.unwrap_or_default().into(),
            operators: message.operators.into_iter().map(Into::into).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            task: TaskId {
                term: Term(2),
                counter: 9,
            },
            job: "sales".parse().unwrap(),
            window: Window {
                start_ms: 0,
                end_ms: 10,
            },
            ranges: BTreeMap::from([(
                "s1".into(),
                ShardRange {
                    from: Position::Timestamp(5),
                    to: Position::after(3.into()),
                    records: 3,
                    bytes: 9,
                },
            )]),
            counts: Counts {
                rows_in: 3,
                bytes_in: 9,
                rows_decoded: 2,
                rows_dead: 1,
                rows_unmatched: 1,
                rows_out: 1,
                rows_late: 1,
                rows_rejected: 2,
                rows_without_arrival: 3,
                rows_failed: 1,
                rows_foreign: Some(4),
                rows_further: 0,
                values_null: 7,
            },
            lookups: BTreeMap::from([("c".into(), LookupVersion::new("v"))]),
            objects: vec![StagedObject {
                kind: ObjectKind::DeadLetter,
                location: "/tmp/x".into(),
                size: 5,
                crc32c: 6,
                rows: 1,
                table_file: None,
                staging: Staging::File {
                    staged_path: "/tmp/.x.staged".into(),
                },
            }],
            unmatched: vec![UnmatchedKey {
                lookup: "c".into(),
                key: "Russia".into(),
                rows: 1,
            }],
            null_values: vec![NullValues {
                column: "price".into(),
                values: 7,
            }],
            unknown_keys: vec![UnknownKey {
                key: "items.colour".into(),
                count: 5,
            }],
            stages: StageTimes {
                decode_us: 1,
                transform_us: 2,
                stage_us: 3,
                ..StageTimes::default()
            },
            operators: vec![OperatorFigures {
                depth: 1,
                name: "FilterExec".into(),
                detail: "a > 1".into(),
                rows: Some(0),
                compute_us: None,
            }],
        }
    }

    #[test]
    fn a_report_survives_the_wire() {
        assert_eq!(
            Report::try_from(v1::Report::from(&report())).unwrap(),
            report()
        );
    }

    #[test]
    fn a_report_whose_counts_do_not_add_up_is_refused() {
        let mut wire = v1::Report::from(&report());
        wire.counts.as_mut().unwrap().rows_dead = 0;
        assert_eq!(Report::try_from(wire).unwrap_err().field, "counts");
    }

    #[test]
    fn every_position_survives_the_wire() {
        for at in [
            Position::Start,
            Position::Timestamp(-1),
            Position::after(7.into()),
            Position::End,
        ] {
            assert_eq!(Position::try_from(v1::Position::from(&at)).unwrap(), at);
        }
    }
}
