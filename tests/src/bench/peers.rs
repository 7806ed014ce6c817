//! Peers that do the same job: `tests/support/py/peers.py`, one process per run.
//!
//! Rule: only their own time counts: from the query's start to its end, without starting the
//! process.

use super::data::Files;
use crate::python::Python;
use anyhow::{Context, ensure};

/// Seconds that the peer took. Its rows are counted, so that no peer is fast by doing less.
pub fn run(peer: &str, files: &Files, rows_expected: u64) -> anyhow::Result<f64> {
    let out = files.folder.join(format!("{peer}.parquet"));
    let text = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path that is no text")
    };
    let args = [
        peer.to_owned(),
        text(&files.sales)?,
        text(&files.lookup)?,
        text(&out)?,
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let answer = Python::new(vec![])
        .try_ask_in("peers", "peers.py", &args)
        .map_err(anyhow::Error::msg)?;
    let rows = answer["rows"]
        .as_u64()
        .context("no rows in the peer's answer")?;
    ensure!(
        rows == rows_expected,
        "{peer} wrote {rows} rows, not {rows_expected}"
    );
    answer["seconds"]
        .as_f64()
        .context("no seconds in the peer's answer")
}
