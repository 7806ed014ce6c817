//! Samples of the resources of processes, and the check that they are flat.
//!
//! Owns: the bound. Does not own: which processes are judged.
//! Rule: the mean of the last quarter is compared with that of the second: the first is the
//! warm-up.

use crate::procfs::Taken;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The last quarter may use this much more than the second one, plus a little for small numbers.
const GROWTH_MAX: f64 = 0.10;
const RSS_SPARE: f64 = (16 << 20) as f64;
const FILES_SPARE: f64 = 8.0;
const THREADS_SPARE: f64 = 4.0;

/// Samples of each process over time.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<String, Vec<(Duration, u32, Taken)>>);

/// The result of one process.
#[derive(Clone, Debug, Serialize)]
pub struct Flatness {
    pub process: String,
    /// Means of the second and of the last quarter: resident MiB, open files, threads.
    pub second: [f64; 3],
    /// See `second`.
    pub last: [f64; 3],
    pub rss_max: f64,
    /// It ran from the second quarter to the end, so that the two can be compared.
    pub whole: bool,
    /// Nothing grew beyond the bound.
    pub flat: bool,
}

impl Samples {
    /// Adds a sample of a process.
    pub fn add(&mut self, process: &str, at: Duration, pid: u32, taken: Taken) {
        self.0
            .entry(process.to_owned())
            .or_default()
            .push((at, pid, taken));
    }

    /// The verdict on each, for a run of this length.
    pub fn judge(&self, lasts: Duration) -> Vec<Flatness> {
        self.0
            .iter()
            .map(|(process, samples)| judge(process, samples, lasts))
            .collect()
    }
}

fn judge(process: &str, samples: &[(Duration, u32, Taken)], lasts: Duration) -> Flatness {
    let within = |from: f64, to: f64| {
        let range = lasts.mul_f64(from)..lasts.mul_f64(to);
        samples.iter().filter(move |(at, ..)| range.contains(at))
    };
    let mean = |from: f64, to: f64| {
        let taken: Vec<_> = within(from, to).map(|(_, _, taken)| *taken).collect();
        let of = |what: fn(&Taken) -> u64| {
            taken.iter().map(|taken| what(taken) as f64).sum::<f64>() / taken.len().max(1) as f64
        };
        [
            of(|taken| taken.rss_bytes),
            of(|taken| taken.files),
            of(|taken| taken.threads),
        ]
    };
    let second = mean(0.25, 0.5);
    let last = mean(0.75, 1.0);
    let mut pids: Vec<u32> = within(0.25, 1.0).map(|(_, pid, _)| *pid).collect();
    pids.dedup();
    let spare = [RSS_SPARE, FILES_SPARE, THREADS_SPARE];
    let flat = (0..3).all(|what| last[what] <= second[what] * (1.0 + GROWTH_MAX) + spare[what]);
    let shown = |[rss, files, threads]: [f64; 3]| [mib(rss), files, threads];
    let rss_max = samples
        .iter()
        .map(|(_, _, taken)| taken.rss_bytes)
        .max()
        .unwrap_or(0);
    Flatness {
        process: process.to_owned(),
        second: shown(second),
        last: shown(last),
        rss_max: mib(rss_max as f64),
        whole: pids.len() == 1,
        flat,
    }
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
