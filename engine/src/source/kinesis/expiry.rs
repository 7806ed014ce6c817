//! Whether records can have expired before they were read.
//!
//! Owns: the arrival time up to which a shard is read, and what a response proves about it. Does
//! not own: calls, clocks, the handling of a loss (`reader`).
//! Rule: pure; a loss that cannot be excluded is a loss. The service reports no error for most
//! losses: `TRIM_HORIZON` and `AT_TIMESTAMP` begin at the oldest record that is left, and for an
//! expired sequence number some responses are empty.

use streamctl_proto::Position;
use streamctl_proto::manifest::TimeGap;

/// Records older than the job's submit are read as far as they are left. Among these, a gap shorter
/// than this cannot be distinguished from the time between two responses.
const BACKLOG_GAP_MIN_MS: i64 = 60_000;

/// The progress of a shard relative to its stream's retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// How long the stream keeps records; `None` if unknown, and then no loss is detected.
    pub retention_ms: Option<i64>,
    /// Every record that arrived before this is read or counted as lost; `None` if unknown.
    pub read_to_ms: Option<i64>,
    /// The progress at the last response while it is before `read_to_ms`: the reader reads records
    /// older than its job.
    pub backlog_ms: Option<i64>,
}

/// The content of a response, as far as it proves something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Arrival of its first record, whether that was read before or not.
    pub first_arrival_ms: Option<i64>,
    /// How far it is behind the tip.
    pub behind_ms: Option<u64>,
}

/// The records that may have expired unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    Yes,
    /// Records that arrived within this time.
    No(TimeGap),
}

impl Expiry {
    /// Records that arrived before this may have expired, if the service's clock shows `now_ms`.
    fn horizon_ms(&self, now_ms: i64) -> Option<i64> {
        Some(now_ms.saturating_sub(self.retention_ms?))
    }

    /// Whether all unread records are still kept, by time alone; `None` if unknown.
    pub fn keeps_unread(&self, now_ms: i64) -> Option<bool> {
        Some(self.read_to_ms? >= self.horizon_ms(now_ms)?)
    }

    /// The records that may have expired by now, if any.
    pub fn gap(&self, now_ms: i64) -> Option<TimeGap> {
        let to_ms = self.horizon_ms(now_ms)?;
        let backlog_ms = self
            .backlog_ms
            .filter(|backlog_ms| backlog_ms + BACKLOG_GAP_MIN_MS < to_ms);
        let from_ms = backlog_ms.or(self.read_to_ms)?;
        (from_ms < to_ms).then_some(TimeGap { from_ms, to_ms })
    }

    /// Judges a response to a read from `position`; `now_ms` is no earlier than the service's clock
    /// at the response.
    ///
    /// By time alone nothing is lost if all unread records are younger than the retention.
    /// Otherwise two facts still prove that nothing is lost:
    /// - The first returned record arrived before the time up to which the shard is read. The
    ///   service expires records in the order of their arrival, so nothing after it is gone.
    /// - The position is a sequence number, no record comes after it, and the response is at the
    ///   tip. For an expired position the service reports how far it is behind, not 0.
    pub fn judge(&self, position: &Position, evidence: Evidence, now_ms: i64) -> Whole {
        let Some(gap) = self.gap(now_ms) else {
            return Whole::Yes;
        };
        if evidence
            .first_arrival_ms
            .is_some_and(|arrival_ms| arrival_ms <= gap.from_ms)
        {
            return Whole::Yes;
        }
        let at_sequence = matches!(position, Position::After { .. });
        if at_sequence && evidence.first_arrival_ms.is_none() && evidence.behind_ms == Some(0) {
            return Whole::Yes;
        }
        // The first record is the oldest one left.
        let to_ms = evidence
            .first_arrival_ms
            .map_or(gap.to_ms, |arrival_ms| arrival_ms.min(gap.to_ms));
        Whole::No(TimeGap { to_ms, ..gap })
    }

    /// Whether a response without records is that of an expired position: it can stay so for ever.
    pub fn is_stuck(&self, evidence: Evidence) -> bool {
        let behind_ms = evidence
            .behind_ms
            .map(|behind_ms| i64::try_from(behind_ms).unwrap_or(i64::MAX));
        evidence.first_arrival_ms.is_none()
            && self.retention_ms.is_some()
            && behind_ms >= self.retention_ms
    }

    /// All records that arrived before this are read.
    pub fn advance(&mut self, to_ms: i64) {
        if self.read_to_ms.is_none_or(|read_to_ms| read_to_ms <= to_ms) {
            self.read_to_ms = Some(to_ms);
            self.backlog_ms = None;
        } else {
            self.backlog_ms = Some(
                self.backlog_ms
                    .map_or(to_ms, |backlog_ms| backlog_ms.max(to_ms)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000_000;

    /// A stream that keeps records for 100,000 ms: the horizon is 900,000.
    fn read_to(read_to_ms: i64) -> Expiry {
        Expiry {
            retention_ms: Some(100_000),
            read_to_ms: Some(read_to_ms),
            backlog_ms: None,
        }
    }

    fn evidence(first_arrival_ms: Option<i64>, behind_ms: u64) -> Evidence {
        Evidence {
            first_arrival_ms,
            behind_ms: Some(behind_ms),
        }
    }

    fn lost(from_ms: i64, to_ms: i64) -> Whole {
        Whole::No(TimeGap { from_ms, to_ms })
    }

    const AFTER: fn() -> Position = || Position::after(7.into());

    #[test]
    fn what_is_younger_than_the_retention_is_there_whatever_the_position() {
        for position in [Position::Start, Position::Timestamp(900_000), AFTER()] {
            for answer in [
                evidence(None, 0),
                evidence(None, 100_000),
                evidence(Some(950_000), 0),
            ] {
                assert_eq!(
                    read_to(900_000).judge(&position, answer, NOW_MS),
                    Whole::Yes,
                    "{position} {answer:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_older_than_the_retention_is_lost_unless_the_answer_proves_otherwise() {
        for position in [Position::Start, Position::Timestamp(899_999), AFTER()] {
            let judge = |answer| read_to(899_999).judge(&position, answer, NOW_MS);
            assert_eq!(
                judge(evidence(Some(950_000), 0)),
                lost(899_999, 900_000),
                "{position}"
            );
            assert_eq!(
                judge(evidence(None, 100_000)),
                lost(899_999, 900_000),
                "{position}"
            );
            assert_eq!(
                judge(evidence(Some(899_999), 5)),
                Whole::Yes,
                "{position}: the oldest record is still there"
            );
        }
    }

    #[test]
    fn nothing_after_a_sequence_number_at_the_tip_is_proof_and_nothing_after_a_time_is_not() {
        assert_eq!(
            read_to(1).judge(&AFTER(), evidence(None, 0), NOW_MS),
            Whole::Yes
        );
        assert_eq!(
            read_to(1).judge(&AFTER(), evidence(Some(950_000), 0), NOW_MS),
            lost(1, 900_000)
        );
        assert_eq!(
            read_to(1).judge(&Position::Start, evidence(None, 0), NOW_MS),
            lost(1, 900_000)
        );
        assert_eq!(
            read_to(1).judge(&Position::Timestamp(1), evidence(None, 0), NOW_MS),
            lost(1, 900_000)
        );
    }

    #[test]
    fn a_service_that_keeps_more_than_it_must_ends_the_gap_at_its_oldest_record() {
        assert_eq!(
            read_to(1).judge(&Position::Start, evidence(Some(800_000), 5), NOW_MS),
            lost(1, 800_000)
        );
    }

    #[test]
    fn without_a_retention_or_a_time_nothing_is_reported() {
        let unknown = [
            Expiry {
                retention_ms: None,
                ..read_to(1)
            },
            Expiry {
                read_to_ms: None,
                ..read_to(1)
            },
        ];
        for expiry in unknown {
            assert_eq!(
                expiry.judge(&Position::Start, evidence(None, 0), NOW_MS),
                Whole::Yes
            );
            assert_eq!(expiry.keeps_unread(NOW_MS), None);
        }
        assert_eq!(
            (
                read_to(900_000).keeps_unread(NOW_MS),
                read_to(1).keeps_unread(NOW_MS)
            ),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn a_backlog_from_before_the_job_that_expires_while_it_is_read_is_lost_too() {
        let mut expiry = read_to(990_000);
        expiry.advance(850_000);
        assert_eq!(
            expiry.judge(&AFTER(), evidence(Some(905_000), 5), NOW_MS),
            Whole::Yes,
            "that is within a minute"
        );
        expiry.advance(820_000);
        assert_eq!(expiry.backlog_ms, Some(850_000), "it never goes back");
        assert_eq!(
            expiry.judge(&AFTER(), evidence(Some(930_000), 5), NOW_MS + 20_000),
            lost(850_000, 920_000)
        );
        expiry.advance(990_000);
        assert_eq!(
            (expiry.read_to_ms, expiry.backlog_ms),
            (Some(990_000), None)
        );
    }

    #[test]
    fn an_expired_position_is_stuck() {
        assert!(read_to(950_000).is_stuck(evidence(None, 100_000)));
        assert!(!read_to(950_000).is_stuck(evidence(None, 99_999)));
        assert!(!read_to(950_000).is_stuck(evidence(Some(1), 100_000)));
        assert!(!Expiry::default().is_stuck(evidence(None, 100_000)));
    }
}
