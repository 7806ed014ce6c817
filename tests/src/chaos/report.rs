//! The results of the faults, as text and as JSON.
//!
//! Owns: the verdict against the targets, the table, the JSON. Does not own: any measurement.

use super::fault::{Fault, From, Notice};
use super::run::Times;
use super::scene::Verdict;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// Precision of times: a request every 50 ms, its response, and a tick of the core (100 ms).
const EXACT_TO: Duration = Duration::from_millis(250);
/// After healing any fault, windows are published again within this time plus the time for the
/// backlog.
const HEALED_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub fault: String,
    /// From the fault until the status showed it, in milliseconds.
    pub noticed_ms: Option<u64>,
    pub noticed_target_ms: Option<u64>,
    /// Until a window that ended after the fault (`again_from`: or after its healing) was
    /// published, in milliseconds.
    pub again_ms: Option<u64>,
    /// `fault` or `heal`.
    pub again_from: String,
    pub again_target_ms: Option<u64>,
    /// From its healing until any window was newly published: the first of the backlog.
    pub resumed_ms: Option<u64>,
    /// The longest time without a newly published window.
    pub still_ms: u64,
    /// Records that the stream acknowledged.
    pub sent: u64,
    /// Of these, how many are in no visible output.
    pub lost: u64,
    /// How many are visible once too often.
    pub twice: u64,
    pub ok: bool,
    /// Missed targets and other remarks.
    pub notes: Vec<String>,
}

impl Row {
    /// The verdict. `tasks`: how many ran before, and how many of them still run.
    pub fn of(fault: &Fault, times: &Times, verdict: &Verdict, tasks: (usize, usize)) -> Self {
        let mut misses = vec![];
        let late = |time: Option<Duration>, max: Option<Duration>| match (time, max) {
            (Some(time), Some(max)) => time > max + EXACT_TO,
            (None, _) => true,
            (Some(_), None) => false,
        };
        if fault.notice != Notice::Nothing && late(times.noticed, fault.noticed_max) {
            misses.push(
                if times.noticed.is_none() {
                    "never noticed"
                } else {
                    "noticed late"
                }
                .to_owned(),
            );
        }
        let again_max = fault.again_max.map(|max| {
            if fault.from == From::Heal {
                max + fault.backlog()
            } else {
                max
            }
        });
        if late(times.again, again_max) {
            misses.push(
                if times.again.is_none() {
                    "never running again"
                } else {
                    "running again late"
                }
                .to_owned(),
            );
        }
        if late(times.healed, Some(HEALED_MAX + fault.backlog())) {
            misses.push(format!("after mending {:?}", times.healed));
        }
        let (before, kept) = tasks;
        if fault.keeps_tasks && kept < before {
            misses.push(format!(
                "{} of {before} tasks were started anew",
                before - kept
            ));
        }
        if verdict.lost + verdict.twice > 0 {
            misses.push(format!("the output is wrong: {}", verdict.words));
        }
        let ok = misses.is_empty();
        let mut notes = misses;
        if ok && fault.keeps_tasks {
            notes.push(format!("{kept} of {before} tasks went on"));
        }
        Self {
            fault: fault.name.to_owned(),
            noticed_ms: times.noticed.map(ms),
            noticed_target_ms: fault.noticed_max.map(ms),
            again_ms: times.again.map(ms),
            again_from: format!("{:?}", fault.from).to_lowercase(),
            again_target_ms: again_max.map(ms),
            resumed_ms: times.resumed.map(ms),
            still_ms: ms(times.still),
            sent: verdict.sent,
            lost: verdict.lost,
            twice: verdict.twice,
            ok,
            notes,
        }
    }

    /// A fault whose run failed.
    pub fn broken(fault: &str, words: String) -> Self {
        Self {
            fault: fault.to_owned(),
            notes: vec![words],
            ..Self::default()
        }
    }

    /// A fault that this machine does not support.
    pub fn skipped(fault: &str, words: &str) -> Self {
        Self {
            fault: fault.to_owned(),
            notes: vec![format!("skipped: {words}")],
            ok: true,
            ..Self::default()
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds, followed by the target.
fn seconds(time: Option<u64>, target: Option<u64>) -> String {
    let text = |ms: u64| format!("{:.1}", ms as f64 / 1_000.0);
    match (time, target) {
        (None, _) => "-".to_owned(),
        (Some(time), None) => format!("{} s", text(time)),
        (Some(time), Some(target)) => format!("{} s (<= {})", text(time), text(target)),
    }
}

/// The header of the table.
pub fn head() -> String {
    let names = [
        "fault",
        "noticed",
        "running again",
        "from",
        "gap",
        "records",
        "lost",
        "twice",
        "",
        "",
    ];
    line(names.map(str::to_owned))
}

/// One line of the table.
pub fn table_line(row: &Row) -> String {
    line([
        row.fault.clone(),
        seconds(row.noticed_ms, row.noticed_target_ms),
        seconds(row.again_ms, row.again_target_ms),
        row.again_from.clone(),
        seconds(Some(row.still_ms), None),
        row.sent.to_string(),
        row.lost.to_string(),
        row.twice.to_string(),
        if row.ok { "ok" } else { "MISSED" }.to_owned(),
        row.notes.join("; "),
    ])
}

fn line(cells: [String; 10]) -> String {
    let widths = [26, 16, 17, 5, 7, 7, 4, 5, 6, 0];
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _infallible = write!(text, "{cell:<width$} ");
    }
    text.trim_end().to_owned()
}

/// All rows as one JSON value: `{"ok": bool, "cores": n, "load": text of /proc/loadavg, "faults":
/// [...]}`.
pub fn json(rows: &[Row]) -> serde_json::Value {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ok = rows.iter().all(|row| row.ok);
    serde_json::json!({ "ok": ok, "cores": cores, "load": load.trim(), "faults": rows })
}
