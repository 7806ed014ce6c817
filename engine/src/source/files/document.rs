//! Files that are one JSON document over several lines, or one array: not records, one per line.
//!
//! Owns: telling them by their first lines. Does not own: reading records.
//! Rule: only what cannot be a file of records with a bad one: such a record is a dead letter, and
//! costs no other.

use super::lines::{Line, Lines};
use crate::format::json::Shape;
use bytes::Bytes;

/// Lines that are looked at.
const LINES_MAX: usize = 1_000;

pub const HINT: &str = "write one JSON object per line, for example by `jq -c '.[]?' FILE`, or by `jq -c . FILE` if it has objects one \
                        after the other, and submit the job again";

/// What the file is, if its lines are not records.
pub fn found(name: &str, bytes: Bytes) -> Option<&'static str> {
    let mut lines = Lines::open(name, bytes, false).ok()?;
    let first = next(&mut lines)?;
    let second = next(&mut lines);
    match (Shape::of(&first.bytes), second) {
        (Shape::Array, None) => Some("one JSON array"),
        (Shape::OpenArray, None | Some(_)) => Some("one JSON array over several lines"),
        (Shape::OpenObject, Some(second)) if goes_on(&second.bytes) => {
            Some("a JSON object over several lines")
        }
        _ => None,
    }
}

/// The next line that is not blank.
fn next(lines: &mut Lines) -> Option<Line> {
    for _ in 0..LINES_MAX {
        let line = lines.next_line().ok()??;
        if !line.bytes.trim_ascii().is_empty() {
            return Some(line);
        }
    }
    None
}

/// Whether a line can be a part of the object that the line before it leaves open, and cannot be a
/// record.
fn goes_on(line: &[u8]) -> bool {
    matches!(line.trim_ascii().first(), Some(b'"' | b'}' | b']' | b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<&'static str> {
        found("a.json", text.to_owned().into())
    }

    #[test]
    fn p12_a_file_that_is_one_document_is_recognized_by_its_first_lines() {
        let array = Some("one JSON array");
        let open = Some("one JSON array over several lines");
        let object = Some("a JSON object over several lines");
        assert_eq!(of(r#"[{"id": 3, "city": "Oslo"}, {"id": 4}]"#), array);
        assert_eq!(of("\n\u{feff} [{\"id\": 3}]\n\n"), array);
        assert_eq!(of("[\n  {\n    \"id\": 1\n  }\n]\n"), open);
        assert_eq!(of("[{\"id\": 1},\n{\"id\": 2}]\n"), open);
        assert_eq!(of("{\n  \"id\": 1\n}\n"), object);
        assert_eq!(of("{\"id\": 1,\n \"city\": \"Oslo\"}"), object);
        assert_eq!(of("{\"a\": {\n}\n}"), object);
    }

    #[test]
    fn p12_a_file_with_a_bad_record_is_a_file_of_records() {
        for records in [
            "",
            "{\"id\": 1}",
            "{\"id\": 1}\n{\"id\": 2}",
            // The first record was cut off.
            "{\"id\":\n{\"id\": 2}",
            "{\"id\": 1,",
            "{",
            // An array among records.
            "[{\"id\": 1}]\n{\"id\": 2}",
            "not json\n\"id\": 1",
            "{\"id\": }\n\"id\": 1",
        ] {
            assert_eq!(of(records), None, "{records}");
        }
    }
}
