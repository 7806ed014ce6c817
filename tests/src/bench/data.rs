//! Sales records as in the workshop's stream, in memory for us and in a file for the peers.
//!
//! Rule: all contestants get the same bytes.

use crate::places::country_lookup;
use bytes::Bytes;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use streamctl_engine::source::generator::{Options, record};
use streamctl_engine::source::{Foreign, Record};

const SEED: u64 = 7;
/// The service returns at most 10,000 at a time, so a window gets its records in chunks.
pub const CHUNK_RECORDS: usize = 5_000;

/// Records, all of them valid, each with a known country.
pub struct Sales {
    records: Vec<Record>,
    bytes: u64,
}

/// The files for the peers.
pub struct Files {
    pub sales: PathBuf,
    pub lookup: PathBuf,
    pub folder: PathBuf,
}

impl Sales {
    pub fn made(count: u64) -> Self {
        let one = |index: u64| Record {
            sequence: index.into(),
            sub_sequence: 0,
            arrival_ms: super::pipeline::WINDOW.start_ms,
            data: Bytes::from(record(SEED, 0, index, Options::default())),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        };
        let records: Vec<Record> = (1..=count).map(one).collect();
        let bytes = records.iter().map(|record| record.data.len() as u64).sum();
        Self { records, bytes }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn chunks(&self) -> impl Iterator<Item = &[Record]> {
        self.records.chunks(CHUNK_RECORDS)
    }

    /// Every record finds its country.
    pub fn rows_expected(&self) -> u64 {
        self.records.len() as u64
    }

    /// The same as a file.
    pub fn written(&self, folder: &Path) -> std::io::Result<Files> {
        let sales = folder.join("sales.ndjson");
        let mut out = BufWriter::new(File::create(&sales)?);
        for record in &self.records {
            out.write_all(&record.data)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(Files {
            sales,
            lookup: country_lookup(),
            folder: folder.to_owned(),
        })
    }
}
