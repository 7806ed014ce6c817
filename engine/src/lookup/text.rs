//! The text of a file in one of the encodings.
//!
//! Rule: a byte that is no text is an error or stays for the reader to name with its line; it is
//! never replaced.

use std::borrow::Cow;
use streamctl_proto::spec::TextEncoding;

/// The characters of 0x80 to 0x9F in Windows-1252; `None`: there is none.
const WINDOWS_1252: [Option<char>; 32] = [
    Some('€'),
    None,
    Some('‚'),
    Some('ƒ'),
    Some('„'),
    Some('…'),
    Some('†'),
    Some('‡'),
    Some('ˆ'),
    Some('‰'),
    Some('Š'),
    Some('‹'),
    Some('Œ'),
    None,
    Some('Ž'),
    None,
    None,
    Some('‘'),
    Some('’'),
    Some('“'),
    Some('”'),
    Some('•'),
    Some('–'),
    Some('—'),
    Some('˜'),
    Some('™'),
    Some('š'),
    Some('›'),
    Some('œ'),
    None,
    Some('ž'),
    Some('Ÿ'),
];

/// The file as UTF-8, without its byte-order mark.
///
/// # Errors
/// Why the bytes are not in this encoding.
pub(super) fn decoded(bytes: &[u8], encoding: TextEncoding) -> Result<Cow<'_, [u8]>, String> {
    Ok(match encoding {
        TextEncoding::Utf8 => Cow::Borrowed(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
        TextEncoding::Windows1252 => {
            let text: String = bytes.iter().copied().map(windows_1252).collect();
            Cow::Owned(text.into_bytes())
        }
        TextEncoding::Utf16 => Cow::Owned(utf_16(bytes)?.into_bytes()),
    })
}

fn windows_1252(byte: u8) -> char {
    match byte {
        // The five bytes without a character are control characters, as browsers read them.
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)].unwrap_or(char::from(byte)),
        _ => char::from(byte),
    }
}

fn utf_16(bytes: &[u8]) -> Result<String, String> {
    let (bytes, big) = match bytes {
        [0xfe, 0xff, rest @ ..] => (rest, true),
        [0xff, 0xfe, rest @ ..] => (rest, false),
        _ => (bytes, false),
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("it has an odd number of bytes, which UTF-16 never has".to_owned());
    }
    let units = pairs.iter().map(|pair| match big {
        true => u16::from_be_bytes(*pair),
        false => u16::from_le_bytes(*pair),
    });
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.map_err(|error| format!("it is not UTF-16: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p22_latin_1_and_utf_16_become_the_same_text() {
        let text = "Åland;5 €";
        let decoded = |bytes: &[u8], encoding| decoded(bytes, encoding).map(Cow::into_owned);
        assert_eq!(
            decoded(b"\xc5land;5 \x80", TextEncoding::Windows1252).unwrap(),
            text.as_bytes()
        );
        let little = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
        };
        let big = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect::<Vec<_>>()
        };
        let marked = format!("\u{feff}{text}");
        for bytes in [little(&marked), big(&marked), little(text)] {
            assert_eq!(
                decoded(&bytes, TextEncoding::Utf16).unwrap(),
                text.as_bytes()
            );
        }
        assert!(decoded(&little(text)[1..], TextEncoding::Utf16).is_err());
        assert!(decoded(b"\x00\xd8", TextEncoding::Utf16).is_err());
        assert_eq!(decoded(b"\xef\xbb\xbfa", TextEncoding::Utf8).unwrap(), b"a");
    }
}
