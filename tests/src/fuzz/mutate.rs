//! Mutations of kept inputs, so that a test run without a fuzzer still sees new inputs.
//!
//! Owns: the mutations.
//! Rule: the same seed makes the same mutations; a run has the requested length, whatever it finds.

use fastrand::Rng;

/// Longest mutated input.
const BYTES_MAX: usize = 16 << 10;
/// Most mutations of one input.
const CHANGES_MAX: usize = 8;
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"1e400",
    b"1e-400",
    b"null",
    b"[[[[[[[[",
    b"{\"a\":",
    b"}",
    b",",
    b"\r\n",
    b"../",
    b"=",
];

/// A mutated copy of one of `corpus`.
pub fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(corpus).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..=CHANGES_MAX) {
        change(rng, &mut bytes, corpus);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.usize(0..=bytes.len());
    let end = (at + rng.usize(0..=16)).min(bytes.len());
    match rng.u8(0..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 => bytes.insert(at, rng.u8(..)),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let word = WORDS[rng.usize(0..WORDS.len())];
            bytes.splice(at..at, word.iter().copied());
        }
        5 => {
            let copied = bytes[at..end].to_vec();
            let to = rng.usize(0..=bytes.len());
            bytes.splice(to..to, copied);
        }
        6 => {
            let other = rng.choice(corpus).cloned().unwrap_or_default();
            let from = rng.usize(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        7 => bytes.truncate(at),
        _ => {
            let digits = rng.u64(..).to_string();
            bytes.splice(at..end, digits.bytes());
        }
    }
}
