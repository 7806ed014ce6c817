//! Payloads that are not plain UTF-8.
//!
//! Owns: byte-order marks, replacement characters, what another encoding looks like.
//! Rule: text is UTF-8; bytes that are not are replaced as Java does it, and so Spark's `from_json`.

use super::Bad;

const MARK: &str = "\u{feff}";
const REPLACEMENT: &str = "\u{fffd}";

/// The text behind a byte-order mark.
#[inline]
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// The payload as text without a byte-order mark. Each longest beginning of a character that breaks
/// off is one replacement character, and so is a whole surrogate.
#[cold]
pub(crate) fn replaced(payload: &[u8]) -> String {
    let mut text = String::with_capacity(payload.len());
    let mut rest = payload;
    loop {
        let (good, bad) = match std::str::from_utf8(rest) {
            Ok(good) => (good, None),
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                let length = error.error_len().unwrap_or(bad.len());
                (
                    std::str::from_utf8(good).unwrap_or_default(),
                    Some((bad, length)),
                )
            }
        };
        text.push_str(good);
        let Some((bad, length)) = bad else {
            break;
        };
        text.push_str(REPLACEMENT);
        rest = &bad[surrogate(bad).unwrap_or(length)..];
    }
    match without_mark(&text) {
        all if all.len() == text.len() => text,
        behind => behind.to_owned(),
    }
}

/// The length of an encoded surrogate at the beginning, possibly cut off.
fn surrogate(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => Some(3),
        [0xED, 0xA0..=0xBF, ..] => Some(2),
        _ => None,
    }
}

/// The reason why a payload is bad: its encoding, if that is why.
#[cold]
pub(super) fn explained(payload: &[u8], bad: Bad) -> Bad {
    let is_utf_16 = match payload {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => true,
        // Between the bytes of ASCII characters, in one order or the other. A line end cuts before
        // its second byte.
        [0, byte, ..] | [byte, 0, ..] => *byte != 0,
        _ => false,
    };
    match bad {
        Bad::Format(_) if is_utf_16 => Bad::Format("UTF-16; records are read as UTF-8".to_owned()),
        bad => bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of Spark 3.5.3, `from_json` of a binary column cast to text.
    #[test]
    fn p14_bytes_that_are_not_utf_8_are_replaced_as_in_java() {
        for (bytes, expected) in [
            (&b"bad \xff"[..], "bad \u{fffd}"),
            (b"latin \xe9t\xe9", "latin \u{fffd}t\u{fffd}"),
            (b"sur \xed\xa0\xbd", "sur \u{fffd}"),
            (b"\xed\xa0|", "\u{fffd}|"),
            (b"long \xf0\x9f\x98 x", "long \u{fffd} x"),
            (
                b"over \xc0\x80 \xf5\x80\x80\x80",
                "over \u{fffd}\u{fffd} \u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            (b"\xe0\x80\x80|", "\u{fffd}\u{fffd}\u{fffd}|"),
            (b"\xe0\x9f|", "\u{fffd}\u{fffd}|"),
            (
                b"\xf0\x9f|\xf0\x9f\x98|\xc3|",
                "\u{fffd}|\u{fffd}|\u{fffd}|",
            ),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xef\xbb\xbfa\xff", "a\u{fffd}"),
        ] {
            assert_eq!(replaced(bytes), expected, "{bytes:x?}");
        }
    }
}
