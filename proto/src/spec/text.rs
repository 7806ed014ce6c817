//! Durations and sizes as text.
//!
//! Owns: both directions of the text. Does not own: which values a key allows (`parse`).
//! Rule: a whole number and a unit; anything else is refused, never guessed.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const BYTE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `60s`, `1m`, `500ms`, `2h`, `1d`. `None` for anything else, a bare number included.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor).map(Duration::from_millis)
}

/// `256MiB`, `1GB`, `4096`; units are case-insensitive. `None` for anything else.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = BYTE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

/// The shortest text that [`parse_duration`] reads back as this; fractions of a millisecond are cut
/// off.
pub fn duration_text(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, f)| ms >= *f && ms % f == 0)
        .unwrap_or(&DURATION_UNITS[0]);
    format!("{}{unit}", ms / factor)
}

/// The shortest text with a binary unit that [`parse_bytes`] reads back as this.
pub fn bytes_text(bytes: u64) -> String {
    let binary = BYTE_UNITS
        .iter()
        .filter(|(unit, _)| *unit == "B" || unit.ends_with("iB"));
    let (unit, factor) = binary
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let good = [
            ("250ms", 250),
            ("60s", 60_000),
            ("1m", 60_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("5 s", 5_000),
        ];
        for (text, ms) in good {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for bad in [
            "",
            "60",
            "s",
            "-1s",
            "1.5s",
            "1h30m",
            "1w",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_may_go_without_a_unit() {
        let good = [
            ("4096", 4096),
            ("1B", 1),
            ("256MiB", 256 << 20),
            ("1gb", 1_000_000_000),
            ("2 KiB", 2048),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "MiB", "1.5GB", "-1", "1XB", "99999999TiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for bytes in [0, 1, 1_000, 1 << 20, 3 << 19, 128 << 20, 1 << 40] {
            assert_eq!(parse_bytes(&bytes_text(bytes)), Some(bytes), "{bytes}");
        }
        assert_eq!(bytes_text(256 << 20), "256MiB");
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for text in ["250ms", "90s", "1m", "24h", "2d"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(
                parse_duration(&duration_text(duration)),
                Some(duration),
                "{text}"
            );
        }
        assert_eq!(duration_text(Duration::from_secs(60)), "1m");
    }
}
