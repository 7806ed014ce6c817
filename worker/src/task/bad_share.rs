//! How many records of a window the query cannot take.
//!
//! Owns: the share of a task's part of a window, the limit. Does not own: which records these are
//! (`pipeline`).
//! Rule: replayed dead letters do not count: most of them may be bad still, whatever the query does
//! with the records of now.

use super::TaskError;
use crate::pipeline::{Cause, Taken, place};
use streamctl_engine::source::Record;
use streamctl_proto::ShardId;
use streamctl_proto::spec::QueryErrors;

/// From so many records on the share is that of the window, although more may come: a query that
/// takes nothing must not go on for an hour.
const RECORDS_ENOUGH: u64 = 100_000;

/// The share of one window.
pub(super) struct BadShare {
    errors: QueryErrors,
    records: u64,
    bad: u64,
    /// The first bad record, with its reason.
    example: String,
}

impl BadShare {
    pub fn new(errors: QueryErrors) -> Self {
        Self {
            errors,
            records: 0,
            bad: 0,
            example: String::new(),
        }
    }

    /// Counts `records`, the first of which were taken.
    ///
    /// # Errors
    /// [`TaskError::TooManyFailed`], if it is clear before the window's end.
    pub fn add(
        &mut self,
        shard: &ShardId,
        records: &[Record],
        taken: &Taken,
    ) -> Result<(), TaskError> {
        let is_live = |record: &&Record| record.origin.is_none();
        self.records += records.iter().filter(is_live).count() as u64;
        for dead in taken.dead.iter().filter(|dead| dead.cause == Cause::Query) {
            let record = &records[dead.index];
            if record.origin.is_some() {
                continue;
            }
            if self.bad == 0 {
                self.example = format!("record {}: {}", place(shard, record), dead.reason);
            }
            self.bad += 1;
        }
        if self.records < RECORDS_ENOUGH {
            return Ok(());
        }
        self.check()
    }

    /// # Errors
    /// [`TaskError::TooManyFailed`].
    pub fn check(&self) -> Result<(), TaskError> {
        if !self.errors.are_too_many(self.bad, self.records) {
            return Ok(());
        }
        Err(TaskError::TooManyFailed {
            bad: self.bad,
            records: self.records,
            max_bad_share: self.errors.max_bad_share(),
            example: self.example.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::DeadRecord;
    use streamctl_engine::source::{Foreign, Origin};
    use streamctl_proto::Epoch;

    fn records(count: u64, replayed: bool) -> Vec<Record> {
        let origin = || {
            Some(Box::new(Origin {
                epoch: Epoch(1),
                shard: "old".into(),
                sequence: 9.into(),
                sub_sequence: 0,
                arrival_ms: 0,
            }))
        };
        let record = |sequence: u64| Record {
            sequence: sequence.into(),
            sub_sequence: 0,
            arrival_ms: 0,
            data: bytes::Bytes::new(),
            origin: if replayed { origin() } else { None },
            extra: None,
            foreign: Foreign::No,
        };
        (0..count).map(record).collect()
    }

    fn dead(count: usize, cause: Cause) -> Taken {
        let dead = |index| DeadRecord {
            index,
            reason: "total / qty fails".into(),
            cause,
        };
        Taken {
            dead: (0..count).map(dead).collect(),
            ..Taken::default()
        }
    }

    #[test]
    fn a_share_above_the_limit_stops_the_job_and_names_a_record() {
        let mut share = BadShare::new(QueryErrors::default());
        share
            .add(&"s".into(), &records(110, false), &dead(11, Cause::Query))
            .unwrap();
        share.check().expect("11 of 110 are 10 %");
        share
            .add(&"s".into(), &records(9, false), &dead(1, Cause::Query))
            .unwrap();
        let error = share.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the query cannot take 12 of 119 records of a window, transform.max_bad_share is 0.1; \
             the first is record 0 of shard s: total / qty fails"
        );
        assert!(error.is_fatal());
    }

    #[test]
    fn a_few_records_records_of_another_cause_and_replayed_ones_stop_nothing() {
        let mut share = BadShare::new(QueryErrors::default());
        let shard = "s".into();
        let few = records(10, false);
        share.add(&shard, &few, &dead(10, Cause::Query)).unwrap();
        share.check().expect("so few stop no job");
        let more = records(50, false);
        share.add(&shard, &more, &dead(50, Cause::Format)).unwrap();
        let replayed = records(500, true);
        share
            .add(&shard, &replayed, &dead(500, Cause::Query))
            .unwrap();
        share.check().unwrap();
    }

    #[test]
    fn a_query_that_takes_nothing_stops_before_the_window_is_over() {
        let mut share = BadShare::new(QueryErrors::default());
        let many = records(RECORDS_ENOUGH, false);
        assert!(
            share
                .add(&"s".into(), &many, &dead(many.len(), Cause::Query))
                .is_err()
        );
    }
}
