//! A file's bytes as numbered lines, decompressed on the way.
//!
//! Owns: gzip and zstd (by extension or magic), line ends, quoted line ends in CSV, the limit of a
//! line.
//! Does not own: what a line means.
//! Rule: memory is bounded by the longest line that is allowed, not by the file.

use super::RECORD_BYTES_MAX;
use bytes::{Buf, Bytes};
use std::io::{BufRead, BufReader, Read};

const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
const BUFFER_BYTES: usize = 64 << 10;

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1. For CSV: the row's number.
    pub number: u64,
    /// At most [`RECORD_BYTES_MAX`].
    pub bytes: Vec<u8>,
    pub cut: bool,
}

/// The lines of one file.
pub struct Lines {
    input: Box<dyn BufRead + Send>,
    quoted: bool,
    number: u64,
    limit: usize,
}

impl Lines {
    /// `quoted`: a line end between quotes belongs to its row.
    pub fn open(name: &str, bytes: Bytes, quoted: bool) -> std::io::Result<Self> {
        let gzip = name.ends_with(".gz") || bytes.starts_with(GZIP_MAGIC);
        let zstd = name.ends_with(".zst") || bytes.starts_with(ZSTD_MAGIC);
        let empty = bytes.is_empty();
        let input: Box<dyn Read + Send> = match (empty, gzip, zstd) {
            (false, true, _) => Box::new(flate2::read::MultiGzDecoder::new(bytes.reader())),
            (false, _, true) => Box::new(zstd::stream::read::Decoder::new(bytes.reader())?),
            _ => Box::new(bytes.reader()),
        };
        let input = Box::new(BufReader::with_capacity(BUFFER_BYTES, input));
        Ok(Self {
            input,
            quoted,
            number: 0,
            limit: RECORD_BYTES_MAX,
        })
    }

    /// The same with another limit of a line.
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The next line; `None` at the end of the file.
    pub fn next_line(&mut self) -> std::io::Result<Option<Line>> {
        let mut line = Line {
            number: self.number + 1,
            bytes: Vec::new(),
            cut: false,
        };
        let mut any = false;
        let mut inside = false;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            any = true;
            let found = buffer.iter().position(|b| *b == b'\n');
            let part = &buffer[..found.unwrap_or(buffer.len())];
            if self.quoted {
                inside ^= part.iter().filter(|b| **b == b'"').count() % 2 == 1;
            }
            let taken = part.len() + usize::from(found.is_some());
            let goes_on = found.is_none() || (inside && !line.cut);
            let wanted = if goes_on { &buffer[..taken] } else { part };
            let room = self.limit - line.bytes.len();
            line.cut |= wanted.len() > room;
            line.bytes
                .extend_from_slice(&wanted[..wanted.len().min(room)]);
            self.input.consume(taken);
            // A row that is too long ends at its next line end, so that a lost quote does not
            // swallow the file.
            if found.is_some() && (!inside || line.cut) {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if line.bytes.last() == Some(&b'\r') {
            line.bytes.pop();
        }
        self.number = line.number;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(
        name: &str,
        bytes: impl Into<Bytes>,
        quoted: bool,
        limit: usize,
    ) -> Vec<(u64, String, bool)> {
        let mut lines = Lines::open(name, bytes.into(), quoted).unwrap();
        lines.limit = limit;
        let mut out = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            out.push((
                line.number,
                String::from_utf8(line.bytes).unwrap(),
                line.cut,
            ));
        }
        out
    }

    fn texts(lines: Vec<(u64, String, bool)>) -> Vec<String> {
        lines.into_iter().map(|(_, text, _)| text).collect()
    }

    #[test]
    fn lines_are_numbered_from_one_and_the_last_needs_no_end() {
        assert_eq!(texts(all("a", "x\r\n\ny", false, 100)), ["x", "", "y"]);
        assert_eq!(all("a", "x\n", false, 100), [(1, "x".to_owned(), false)]);
        assert_eq!(all("a.gz", "", false, 100), []);
    }

    #[test]
    fn gzip_and_zstd_are_known_by_their_magic() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"x\ny\n").unwrap();
        assert_eq!(
            texts(all("a", gzip.finish().unwrap(), false, 100)),
            ["x", "y"]
        );
        let zstd = zstd::encode_all(&b"x\ny\n"[..], 1).unwrap();
        assert_eq!(texts(all("a", zstd, false, 100)), ["x", "y"]);
    }

    #[test]
    fn a_damaged_file_is_an_error_not_an_end() {
        let zstd = zstd::encode_all(&[b'x'; 1000][..], 1).unwrap();
        let mut lines =
            Lines::open("a", Bytes::from(zstd[..zstd.len() - 3].to_vec()), false).unwrap();
        assert!(lines.next_line().is_err());
    }

    #[test]
    fn a_quoted_line_end_is_part_of_its_row() {
        assert_eq!(
            texts(all("a", "h\n\"a\nb\",c\nd\n", true, 100)),
            ["h", "\"a\nb\",c", "d"]
        );
        assert_eq!(texts(all("a", "\"a\nb\"", false, 100)), ["\"a", "b\""]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let got = all("a", "12345678\nxy\n", false, 4);
        assert_eq!(
            got,
            [(1, "1234".to_owned(), true), (2, "xy".to_owned(), false)]
        );
        let got = all("a", "\"2345\n678\nxy\n", true, 4);
        assert_eq!(got[0], (1, "\"234".to_owned(), true));
        assert_eq!(got.last().unwrap().1, "xy");
    }
}
