//! Payloads that their producer compressed.
//!
//! Owns: detecting the compression by its magic, unpacking. Does not own: whether a job enables it
//! (`[source] compression`).
//! Rule: a payload without a known magic is unchanged; one with a known magic that cannot be
//! unpacked within the limit is not a row.

use std::borrow::Cow;
use std::io::{self, Read};

/// Most bytes that one payload may have once it is unpacked.
pub const UNPACKED_BYTES_MAX: usize = 64 << 20;
/// Largest window of a zstd frame, as a power of two: its decoder keeps that much.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
/// A stream identifier chunk of the framing format.
const SNAPPY_MAGIC: &[u8] = &[0xFF, 0x06, 0x00, 0x00, b's', b'N', b'a', b'P', b'p', b'Y'];

/// Why a payload cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The payload has the magic but is not valid.
    #[error("a {format} payload that cannot be unpacked: {source}")]
    Broken {
        format: &'static str,
        source: io::Error,
    },
    #[error("a {format} payload of more than {UNPACKED_BYTES_MAX} bytes unpacked")]
    TooLarge { format: &'static str },
}

/// The payload without its compression, if it has one of gzip, zstd and snappy's framing, and at
/// most `bytes_max` bytes.
pub fn unpack(payload: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, UnpackError> {
    match decoder(payload) {
        Some((format, decoder)) => read(format, bytes_max, decoder),
        None => Ok(Cow::Borrowed(payload)),
    }
}

/// The compression of a payload by its magic, and its decoder.
fn decoder(payload: &[u8]) -> Option<(&'static str, io::Result<Box<dyn Read + '_>>)> {
    if payload.starts_with(GZIP_MAGIC) {
        Some((
            "gzip",
            Ok(Box::new(flate2::read::MultiGzDecoder::new(payload))),
        ))
    } else if payload.starts_with(ZSTD_MAGIC) {
        let decoder = zstd::stream::read::Decoder::new(payload).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(decoder) as Box<dyn Read>)
        });
        Some(("zstd", decoder))
    } else if payload.starts_with(SNAPPY_MAGIC) {
        Some((
            "snappy",
            Ok(Box::new(snap::read::FrameDecoder::new(payload))),
        ))
    } else {
        None
    }
}

/// Whether a worker with enough memory can unpack the payload. Unpacks it without keeping the
/// bytes.
///
/// # Errors
/// What every worker finds: it is broken, or has more than [`UNPACKED_BYTES_MAX`] bytes unpacked.
pub fn check(payload: &[u8]) -> Result<(), UnpackError> {
    let Some((format, decoder)) = decoder(payload) else {
        return Ok(());
    };
    let broken = |source| UnpackError::Broken { format, source };
    let mut bounded = decoder.map_err(broken)?.take(UNPACKED_BYTES_MAX as u64 + 1);
    let bytes = io::copy(&mut bounded, &mut io::sink()).map_err(broken)?;
    if bytes > UNPACKED_BYTES_MAX as u64 {
        Err(UnpackError::TooLarge { format })
    } else {
        Ok(())
    }
}

fn read<R: Read>(
    format: &'static str,
    bytes_max: usize,
    decoder: io::Result<R>,
) -> Result<Cow<'static, [u8]>, UnpackError> {
    let broken = |source| UnpackError::Broken { format, source };
    let mut out = Vec::new();
    decoder
        .map_err(broken)?
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut out)
        .map_err(broken)?;
    if out.len() > bytes_max {
        Err(UnpackError::TooLarge { format })
    } else {
        Ok(Cow::Owned(out))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn snappy(data: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(vec![]);
        encoder.write_all(data).unwrap();
        encoder.into_inner().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 3).unwrap()
    }

    #[test]
    fn line_15_each_format_is_recognized_by_its_magic() {
        let data = b"{\"id\":1}";
        for packed in [
            gzip(data),
            zstd(data),
            snappy(data),
            [gzip(b"{\"id\""), gzip(b":1}")].concat(),
            data.to_vec(),
        ] {
            assert_eq!(*unpack(&packed, UNPACKED_BYTES_MAX).unwrap(), data[..]);
        }
        assert!(unpack(b"", 0).unwrap().is_empty());
        assert!(
            matches!(unpack(data, 0), Ok(Cow::Borrowed(_))),
            "what is not packed is not copied"
        );
    }

    #[test]
    fn line_15_a_truncated_or_false_payload_is_broken() {
        for packed in [gzip(&[7; 1_000]), zstd(&[7; 1_000]), snappy(&[7; 1_000])] {
            let half = &packed[..packed.len() - 3];
            let mut wrong = packed.clone();
            assert!(
                matches!(
                    unpack(half, UNPACKED_BYTES_MAX),
                    Err(UnpackError::Broken { .. })
                ),
                "{:x?}",
                &packed[..4]
            );
            assert!(
                matches!(check(half), Err(UnpackError::Broken { .. })),
                "{:x?}",
                &packed[..4]
            );
            *wrong.last_mut().unwrap() ^= 0xFF;
            assert!(
                unpack(&wrong, UNPACKED_BYTES_MAX).map_or(true, |out| *out != [7; 1_000]),
                "{:x?}",
                &packed[..4]
            );
        }
    }

    #[test]
    fn line_15_a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; UNPACKED_BYTES_MAX];
        for pack in [gzip, zstd, snappy] {
            assert_eq!(
                unpack(&pack(&zeros), UNPACKED_BYTES_MAX).unwrap().len(),
                UNPACKED_BYTES_MAX
            );
            let bomb = [pack(&zeros), pack(b"0")].concat();
            assert!(matches!(
                unpack(&bomb, UNPACKED_BYTES_MAX),
                Err(UnpackError::TooLarge { .. })
            ));
            assert!(matches!(check(&bomb), Err(UnpackError::TooLarge { .. })));
            check(&pack(&zeros)).unwrap();
        }
    }
}
