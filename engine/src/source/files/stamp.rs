//! The arrival time of each record of a file, also of those whose own cannot be used.
//!
//! Owns: the bounds of an arrival time, what a record without a usable one gets. Does not own: which
//! texts and numbers are times ([`super::arrival`]).
//! Rule: pure, from the file and the job alone: a replay years later gives the same.

use super::arrival;
use super::csv_row::Header;
use super::lines::Lines;
use crate::source::Extra;
use crate::values::Times;
use serde_json::{Map, Value};
use streamctl_proto::ResolvedJob;
use streamctl_proto::manifest::time_text;
use streamctl_proto::spec::{FilesSource, OnBadArrival, duration_text};

/// The end of the year 9999: no window name exists for a later arrival.
const ARRIVAL_MS_MAX: i64 = 253_402_300_799_999;
/// Lines at the beginning of a file that are searched for the first usable time.
const FIRST_LINES_MAX: usize = 10_000;
/// Characters of a value that a reason shows.
const VALUE_CHARS_MAX: usize = 80;

/// Gives records their arrival times, one after the other.
pub(super) struct Stamps {
    /// The keys that may hold it, the first that does counts.
    keys: Vec<String>,
    policy: OnBadArrival,
    /// The latest time that is taken, and why.
    bound: Option<(i64, String)>,
    /// That of the last record that has one; before the first, `None`.
    last_ms: Option<i64>,
    submitted_ms: i64,
    pub(super) times: Times,
}

/// An arrival time.
pub(super) struct Stamp {
    pub arrival_ms: i64,
    pub extra: Option<Box<Extra>>,
}

impl Stamps {
    /// `None`: records arrive when they are read.
    pub fn of(source: &FilesSource, job: &ResolvedJob) -> Option<Self> {
        let column = source.arrival_time.as_ref()?;
        let key = job.keys.of_column(column).unwrap_or(column).to_owned();
        let dotted = key.replace('_', ".");
        let is_dotted = job.keys.dots_are_underscores && dotted != key;
        let from_ms = job.submitted_ms.max(job.changed_ms);
        let bound = |ahead: std::time::Duration| {
            let ahead_ms = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
            let ahead = duration_text(ahead);
            let words = format!(
                "more than {ahead} after the job's submit at {}",
                time_text(from_ms)
            );
            (from_ms.saturating_add(ahead_ms), words)
        };
        Some(Self {
            keys: std::iter::once(key)
                .chain(is_dotted.then_some(dotted))
                .collect(),
            policy: source.on_bad_arrival_time,
            bound: source.max_arrival_ahead.map(bound),
            last_ms: None,
            submitted_ms: job.submitted_ms,
            times: Times::new(&job.spec.source.values),
        })
    }

    /// Whether a record that has no usable time needs that of a later one.
    pub fn needs_first(&self, data: &[u8]) -> bool {
        self.policy == OnBadArrival::DeadLetter && self.last_ms.is_none() && self.own(data).is_err()
    }

    /// Dead letters before the first record with a usable time are stored with the latter's window:
    /// in a later one, they would take every record behind them along.
    pub fn begin_at(&mut self, mut lines: Lines, is_csv: bool) {
        let mut header = None;
        let mut first = None;
        for _ in 0..FIRST_LINES_MAX {
            let Ok(Some(line)) = lines.next_line() else {
                break;
            };
            let data = match &header {
                None if is_csv => {
                    header = Some(Header::parse(&line.bytes));
                    continue;
                }
                None => line.bytes,
                Some(header) => header.to_json(line.bytes, line.cut),
            };
            first = self.own(&data).ok();
            if first.is_some() {
                break;
            }
        }
        self.last_ms = Some(first.unwrap_or(self.submitted_ms));
    }

    /// The arrival time of the next record.
    pub fn next(&mut self, data: &[u8]) -> Stamp {
        match self.own(data) {
            Ok(arrival_ms) => {
                self.last_ms = Some(arrival_ms);
                Stamp {
                    arrival_ms,
                    extra: None,
                }
            }
            Err(reason) => Stamp {
                arrival_ms: self.last_ms.unwrap_or(self.submitted_ms),
                extra: Some(Box::new(Extra {
                    refusal: (self.policy == OnBadArrival::DeadLetter).then_some(reason),
                    lacks_arrival: true,
                    partition_key: None,
                })),
            },
        }
    }

    /// The record's own time, or why it cannot be used.
    fn own(&self, data: &[u8]) -> Result<i64, String> {
        let found = self
            .keys
            .iter()
            .find_map(|key| arrival::of_record(data, key, &self.times));
        let Some(time_ms) = found else {
            return Err(self.unread(data));
        };
        let Some((latest_ms, words)) = &self.bound else {
            return Ok(time_ms);
        };
        if !(0..=ARRIVAL_MS_MAX).contains(&time_ms) {
            let shown = self.shown(data).unwrap_or_else(|| time_text(time_ms));
            return Err(format!(
                "arrival_time: {shown} is not within the years 1970 to 9999"
            ));
        }
        if time_ms > *latest_ms {
            let time = time_text(time_ms);
            return Err(format!(
                "arrival_time: {time} is {words} (max_arrival_ahead)"
            ));
        }
        Ok(time_ms)
    }

    #[cold]
    fn unread(&self, data: &[u8]) -> String {
        let key = &self.keys[0];
        match (self.shown(data), object(data)) {
            (Some(value), _) => format!("arrival_time: {value} in {key} is not a time"),
            (None, Some(_)) => format!("arrival_time: the record has no {key}"),
            (None, None) => "arrival_time: the record is not strictly JSON".to_owned(),
        }
    }

    /// The value in the record, cut.
    fn shown(&self, data: &[u8]) -> Option<String> {
        let object = object(data)?;
        let is_key = |name: &str| self.keys.iter().any(|key| key.eq_ignore_ascii_case(name));
        let (_, value) = object.iter().find(|(name, _)| is_key(name))?;
        let text = value.to_string();
        let mut shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Some(shown)
    }
}

fn object(data: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::job;
    use std::time::Duration;
    use streamctl_proto::spec::{Location, RecordFormat, SourceKind};

    const SUBMITTED_MS: i64 = 1_795_478_400_000; // 2026-11-24T00:00:00Z
    const HOUR_MS: i64 = 3_600_000;

    fn stamps(policy: OnBadArrival, ahead_s: Option<u64>) -> Stamps {
        let source = FilesSource {
            role: None,
            path: Location::folder("/in/"),
            format: RecordFormat::Json,
            arrival_time: Some("at".into()),
            on_bad_arrival_time: policy,
            max_arrival_ahead: ahead_s.map(Duration::from_secs),
        };
        let job = job(SourceKind::Files(source.clone()), SUBMITTED_MS);
        Stamps::of(&source, &job).unwrap()
    }

    fn refusal(stamps: &mut Stamps, data: &str) -> String {
        let stamp = stamps.next(data.as_bytes());
        let extra = stamp.extra.expect("it has no time of its own");
        assert!(extra.lacks_arrival, "{data}");
        extra.refusal.unwrap_or_default()
    }

    #[test]
    fn p28_a_time_that_cannot_be_read_is_a_dead_letter_with_the_value() {
        let mut stamps = stamps(OnBadArrival::DeadLetter, Some(86_400));
        let first = stamps.next(br#"{"at":"2026-11-23T10:00:00Z"}"#);
        assert!(first.extra.is_none());
        for (data, reason) in [
            (
                r#"{"at":"24/11/2026 10:00:00"}"#,
                "\"24/11/2026 10:00:00\" in at is not a time",
            ),
            (r#"{"at":null}"#, "null in at is not a time"),
            (r#"{"att":"2026-11-24T10:00:00Z"}"#, "the record has no at"),
            ("broken", "the record is not strictly JSON"),
        ] {
            assert_eq!(
                refusal(&mut stamps, data),
                format!("arrival_time: {reason}")
            );
            let arrival_ms = stamps.next(data.as_bytes()).arrival_ms;
            assert_eq!(
                arrival_ms, first.arrival_ms,
                "it stays beside its neighbours"
            );
        }
    }

    #[test]
    fn p28_with_previous_it_is_a_record_of_the_time_before() {
        let mut stamps = stamps(OnBadArrival::Previous, Some(86_400));
        assert_eq!(stamps.next(br#"{"at":"soon"}"#).arrival_ms, SUBMITTED_MS);
        let good = stamps.next(br#"{"at":"2026-11-23T10:00:00Z"}"#).arrival_ms;
        let next = stamps.next(br#"{"at":"soon"}"#);
        assert_eq!(next.arrival_ms, good);
        assert_eq!(refusal(&mut stamps, "{}"), "");
    }

    #[test]
    fn p26_a_clock_in_the_future_or_an_absurd_past_is_out_of_bounds() {
        let mut stamps = stamps(OnBadArrival::DeadLetter, Some(86_400));
        let good = |stamps: &mut Stamps, at: i64| {
            let stamp = stamps.next(format!("{{\"at\":{at}}}").as_bytes());
            stamp.extra.is_none() && stamp.arrival_ms == at
        };
        assert!(good(&mut stamps, SUBMITTED_MS + 24 * HOUR_MS));
        assert_eq!(
            refusal(&mut stamps, r#"{"at":"2106-02-07T06:28:15Z"}"#),
            "arrival_time: 2106-02-07T06:28:15.000Z is more than 1d after the job's submit at \
             2026-11-24T00:00:00.000Z (max_arrival_ahead)"
        );
        for absurd in ["-62135596800000", "\"1969-12-31T23:59:59Z\""] {
            let reason = refusal(&mut stamps, &format!("{{\"at\":{absurd}}}"));
            assert!(
                reason.ends_with("is not within the years 1970 to 9999"),
                "{reason}"
            );
        }
        assert!(stamps.next(br#"{"at":0}"#).extra.is_none());
    }

    #[test]
    fn a_job_of_an_earlier_build_has_no_bounds() {
        let mut stamps = stamps(OnBadArrival::default(), None);
        let far = stamps.next(br#"{"at":"2106-02-07T06:28:15Z"}"#);
        assert!(far.extra.is_none());
        assert_eq!(stamps.next(b"{}").arrival_ms, far.arrival_ms);
    }
}
