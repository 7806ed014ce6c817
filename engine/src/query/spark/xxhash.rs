//! `xxhash64(a, b, ...)`: XXH64 as Spark computes it.
//!
//! Rule: the bytes of a value are those of Spark's own form of it (`hash`); NULL changes nothing.

use super::call::Rows;
use super::hash::{Form, each_form};
use arrow::array::ArrayRef;
use datafusion::common::Result;

const SEED: u64 = 42;

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

pub(super) fn xxhash64(rows: &Rows<'_>) -> Result<ArrayRef> {
    let hashes = each_form(rows, SEED, |form, seed| match form {
        Form::Int(value) => of_int(value, seed),
        Form::Long(value) => of_long(value, seed),
        Form::Bytes(bytes) => of_bytes(bytes, seed),
    });
    rows.longs(|row| hashes(row).map(|hash| hash as i64))
}

fn finished(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

fn with_word(hash: u64, word: u64) -> u64 {
    let word = word.wrapping_mul(PRIME_2).rotate_left(31);
    let hash = (hash ^ word.wrapping_mul(PRIME_1)).rotate_left(27);
    hash.wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
}

fn with_half(hash: u64, half: u32) -> u64 {
    let hash = (hash ^ u64::from(half).wrapping_mul(PRIME_1)).rotate_left(23);
    hash.wrapping_mul(PRIME_2).wrapping_add(PRIME_3)
}

fn begun(seed: u64, length: u64) -> u64 {
    seed.wrapping_add(PRIME_5).wrapping_add(length)
}

fn of_int(value: i32, seed: u64) -> u64 {
    finished(with_half(begun(seed, 4), value as u32))
}

fn of_long(value: i64, seed: u64) -> u64 {
    finished(with_word(begun(seed, 8), value as u64))
}

fn lane(hash: u64, word: u64) -> u64 {
    let hash = hash.wrapping_add(word.wrapping_mul(PRIME_2));
    hash.rotate_left(31).wrapping_mul(PRIME_1)
}

fn word_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn of_bytes(bytes: &[u8], seed: u64) -> u64 {
    let length = bytes.len() as u64;
    let mut stripes = bytes.chunks_exact(32);
    let mut hash = if bytes.len() >= 32 {
        let mut lanes = [
            seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
            seed.wrapping_add(PRIME_2),
            seed,
            seed.wrapping_sub(PRIME_1),
        ];
        for stripe in &mut stripes {
            for (hash, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *hash = lane(*hash, word_of(word));
            }
        }
        let turns = [1, 7, 12, 18];
        let mixed = lanes.iter().zip(turns);
        let mixed = mixed.fold(0_u64, |sum, (hash, turn)| {
            sum.wrapping_add(hash.rotate_left(turn))
        });
        let merged = lanes.iter().fold(mixed, |hash, one| {
            let hash = hash ^ lane(0, *one);
            hash.wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
        });
        merged.wrapping_add(length)
    } else {
        begun(seed, length)
    };
    let mut words = stripes.remainder().chunks_exact(8);
    for word in &mut words {
        hash = with_word(hash, word_of(word));
    }
    let mut halves = words.remainder().chunks_exact(4);
    for half in &mut halves {
        hash = with_half(hash, word_of(half) as u32);
    }
    for byte in halves.remainder() {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIME_5)).rotate_left(11);
        hash = hash.wrapping_mul(PRIME_1);
    }
    finished(hash)
}
