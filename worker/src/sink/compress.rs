//! Text formats through a compressor, into memory.
//!
//! Rule: bytes from [`Compressed::take`] are no longer held here; the pieces in order are the
//! object.

use bytes::Bytes;
use flate2::write::GzEncoder;
use std::io::{self, Write};
use streamctl_proto::spec::Compression;

/// Level 3 is the library's own default: near gzip's size at a tenth of its time.
const ZSTD_LEVEL: i32 = 3;
/// Memory of a compressor: at zstd's level a window of 2 MiB and its tables; for gzip a window of
/// 32 KiB and its tables.
const ZSTD_BYTES: usize = 3_500 << 10;
const GZIP_BYTES: usize = 320 << 10;

pub(crate) enum Compressed {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressed {
    /// Snappy applies to Parquet only: a text format with it is written uncompressed, as its
    /// extension shows.
    pub fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None | Compression::Snappy => Self::Plain(Vec::new()),
            Compression::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            Compression::Zstd => {
                Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?)
            }
        })
    }

    /// The bytes that are ready.
    pub fn take(&mut self) -> Bytes {
        let ready = match self {
            Self::Plain(out) => out,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(ready).into()
    }

    pub fn memory(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Gzip(_) => GZIP_BYTES,
            Self::Zstd(_) => ZSTD_BYTES,
        }
    }

    /// Memory of a compressor for this compression.
    pub fn memory_of(compression: Compression) -> usize {
        match compression {
            Compression::None | Compression::Snappy => 0,
            Compression::Gzip => GZIP_BYTES,
            Compression::Zstd => ZSTD_BYTES,
        }
    }

    /// The last bytes.
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Plain(out) => out,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

impl Write for Compressed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Not passed on: a flush in the middle of a stream worsens compression and has no benefit.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
