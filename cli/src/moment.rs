//! A point in time on the command line: a time, or how long ago.

use chrono::DateTime;
use std::time::Duration;
use streamctl_engine::clock::system_clock;
use streamctl_proto::spec::parse_duration;

/// A point in time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Milliseconds since the Unix epoch.
    At(i64),
    Ago(Duration),
}

impl Moment {
    /// Reads `2026-11-24T03:00:00Z`, or `2h` for two hours ago.
    ///
    /// # Errors
    /// What can be written instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return match time.timestamp_millis() {
                ms @ 1.. => Ok(Self::At(ms)),
                _ => Err("write a time after 1970".to_owned()),
            };
        }
        let ago = parse_duration(text).map(Self::Ago);
        ago.ok_or_else(|| {
            "write a time with its zone, such as 2026-11-24T03:00:00Z, or how long ago, such as \
             30m or 2h"
                .to_owned()
        })
    }

    /// Milliseconds since the Unix epoch, at least 1.
    pub fn ms(self) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => {
                let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                (system_clock())().saturating_sub(ago_ms).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_a_span_is_read_and_anything_else_is_explained() {
        let three = Moment::parse("2026-11-24T03:00:00+01:00").unwrap();
        assert_eq!(three.ms(), 1_795_485_600_000);
        assert_eq!(
            Moment::parse("2h"),
            Ok(Moment::Ago(Duration::from_secs(7_200)))
        );
        let now = (system_clock())();
        assert!((now - Moment::parse("2h").unwrap().ms() - 7_200_000).abs() < 60_000);
        for wrong in [
            "yesterday",
            "2026-11-24",
            "2026-11-24T03:00:00",
            "1960-01-01T00:00:00Z",
            "",
        ] {
            let hint = Moment::parse(wrong).unwrap_err();
            assert!(hint.starts_with("write a time"), "{wrong}: {hint}");
        }
    }
}
