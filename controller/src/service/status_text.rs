//! The message of a status.
//!
//! Rule: it arrives, however much there is to report.

/// Longest refusal message that is sent.
const STATUS_BYTES_MAX: usize = 8 << 10;

/// A refusal that fits into the headers in which it travels: clients accept 16 KiB of them, and a
/// byte that is not printable ASCII takes three bytes.
pub(super) fn status_text(text: &str) -> String {
    let mut bytes = 0;
    let cost = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            1
        } else {
            3 * c.len_utf8()
        }
    };
    let fits = |(_, c): &(usize, char)| {
        bytes += cost(*c);
        bytes <= STATUS_BYTES_MAX
    };
    let end = text
        .char_indices()
        .take_while(fits)
        .last()
        .map_or(0, |(at, c)| at + c.len_utf8());
    if end == text.len() {
        text.to_owned()
    } else {
        format!("{}\nand more", &text[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_refusal_is_cut_so_that_it_arrives() {
        assert_eq!(status_text("line 1: unknown key"), "line 1: unknown key");
        let long = status_text(&"é\n".repeat(100_000));
        assert!(long.ends_with("and more") && long.len() < STATUS_BYTES_MAX);
        assert!(status_text(&"x".repeat(1 << 20)).len() < STATUS_BYTES_MAX + 20);
    }
}
