//! Runs stories of the simulated system: `streamctl-sim [FROM..TO | SEED]`.
//!
//! Owns: seeds, threads, the report. Does not own: stories (`streamctl_tests::sim`).
//! Rule: a failing seed is reported with the command that runs it alone, with its trace.

#![allow(
    clippy::print_stdout,
    reason = "it is a tool: what it prints is what it is for"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use streamctl_tests::sim::{Story, tell};

/// Number of failing seeds after which no new story starts.
const FAILURES_MAX: usize = 20;
/// Lines of a trace that are shown.
const TRACE_LINES: usize = 400;

#[derive(Default)]
struct Report {
    stories: u64,
    records: u64,
    epochs: u64,
    simulated_ms: i64,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, String)>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "read once, here, and passed down"
)]
fn main() -> ExitCode {
    let json = std::env::var("SIM_JSON").ok();
    let whole_trace = std::env::var("SIM_TRACE").is_ok();
    let asked = std::env::args().nth(1).unwrap_or_else(|| "0..200".into());
    if let Ok(seed) = asked.parse::<u64>() {
        return alone(seed, whole_trace);
    }
    let bounds = asked
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let Some((from, to)) = bounds else {
        println!("usage: streamctl-sim FROM..TO | SEED");
        return ExitCode::from(2);
    };
    many(from, to, json.as_deref())
}

fn many(from: u64, to: u64, json_path: Option<&str>) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let report = Mutex::new(Report::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to || locked(&report).failed.len() >= FAILURES_MAX {
                        return;
                    }
                    let story = tell(seed, false);
                    if let Some(broken) = &story.broken {
                        println!("seed {seed} FAILED: {broken}\n  alone, with its trace: make sim SEED={seed}");
                    }
                    add(&mut locked(&report), story);
                }
            });
        }
    });
    let report = report.into_inner().unwrap_or_default();
    let seconds = began.elapsed().as_secs_f64();
    let Report {
        stories,
        records,
        epochs,
        simulated_ms,
        faults,
        failed,
    } = &report;
    println!(
        "{stories} stories in {seconds:.1} s: {records} records, {epochs} epochs, {} simulated s",
        simulated_ms / 1_000
    );
    for (fault, count) in faults {
        println!("  {count:>9} {fault}");
    }
    println!("{} seeds failed", failed.len());
    if let Some(path) = json_path {
        let json = serde_json::json!({
            "seeds": { "from": from, "to": to }, "stories": stories, "seconds": seconds, "records": records, "epochs": epochs,
            "simulated_ms": simulated_ms, "faults": faults,
            "failed": failed.iter().map(|(seed, broken)| serde_json::json!({ "seed": seed, "broken": broken })).collect::<Vec<_>>(),
        });
        if let Err(error) = std::fs::write(path, format!("{json:#}\n")) {
            println!("{path} cannot be written: {error}");
            return ExitCode::from(2);
        }
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn locked(report: &Mutex<Report>) -> std::sync::MutexGuard<'_, Report> {
    report
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn add(report: &mut Report, story: Story) {
    report.stories += 1;
    report.records += story.records;
    report.epochs += story.epochs;
    report.simulated_ms += story.length_ms;
    for (fault, count) in story.faults {
        *report.faults.entry(fault).or_default() += count;
    }
    report
        .failed
        .extend(story.broken.map(|broken| (story.seed, broken)));
}

fn alone(seed: u64, whole_trace: bool) -> ExitCode {
    let story = tell(seed, true);
    let skipped = if whole_trace {
        0
    } else {
        story.trace.len().saturating_sub(TRACE_LINES)
    };
    for line in &story.trace[skipped..] {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} records, {} epochs, {} ms",
        story.records, story.epochs, story.length_ms
    );
    match story.broken {
        Some(broken) => {
            println!("FAILED: {broken}\n(SIM_TRACE=1 shows the trace from the beginning)");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
