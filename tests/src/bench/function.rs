//! Calls of a team's own function: their overhead, and how fast rows go through.
//!
//! Owns: which figures are shown, and their targets. Does not own: the calls (`python/bench.py`,
//! over a socket pair as in a worker), Spark's (`support/py/spark_function.py`).
//! Rule: the peer does the same to the same number of rows, in the same run.

use super::Options;
use super::sheet::{Mark, Sheet};
use crate::places::{function_python, inherited};
use crate::python::Python;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Milliseconds that 99 of 100 calls of 1,000 rows may take.
const CALL_P99_MS_MAX: f64 = 10.0;
/// MB of JSON per second and core, of a function that touches two columns.
const PANDAS_MB_MIN: f64 = 150.0;
const PYARROW_MB_MIN: f64 = 300.0;

/// Measures each kind of frame, and Spark's pandas function if Spark is a peer.
///
/// # Errors
/// A measurement failed.
pub fn function(options: &Options) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("function");
    for figures in calls(options)? {
        let frame = figures["frame"].as_str().context("no kind of frame")?;
        let value = |name: &str| figures[name].as_f64().with_context(|| format!("no {name}"));
        let speed = match frame {
            "pandas" => Mark::AtLeast(PANDAS_MB_MIN),
            "pyarrow" => Mark::AtLeast(PYARROW_MB_MIN),
            _ => Mark::None,
        };
        let tail = match frame {
            // DuckDB plans a query for each call.
            "pyspark" => Mark::None,
            _ => Mark::AtMost(CALL_P99_MS_MAX),
        };
        let per_core = value("json_mb_per_cpu_s")?;
        sheet.add(
            format!("{frame}: rows"),
            per_core,
            "MB/s of JSON per core",
            speed,
        );
        sheet.add(
            format!("{frame}: a call of 1,000 rows, p50"),
            value("p50_ms")?,
            "ms",
            Mark::None,
        );
        sheet.add(
            format!("{frame}: a call of 1,000 rows, p99"),
            value("p99_ms")?,
            "ms",
            tail,
        );
    }
    if options.peers.iter().any(|peer| peer == "spark") {
        let rows = options.records.to_string();
        let answer = Python::new(vec![])
            .try_ask_in("peers", "spark_function.py", &[&rows])
            .map_err(anyhow::Error::msg)?;
        let speed = answer["json_mb_per_s"]
            .as_f64()
            .context("no speed of Spark")?;
        sheet.add(
            "Spark: mapInPandas",
            speed,
            "MB/s of JSON per core",
            Mark::None,
        );
        let call = answer["batch_ms"]
            .as_f64()
            .context("no micro-batch of Spark")?;
        sheet.add(
            "Spark: a micro-batch of 1,000 rows, p50",
            call,
            "ms",
            Mark::None,
        );
    }
    Ok(sheet)
}

/// The figures of `python/bench.py`, one per kind of frame.
fn calls(options: &Options) -> anyhow::Result<Vec<Value>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/bench.py");
    let file = options.folder.join("function.json");
    let output = Command::new(function_python())
        .arg(script)
        .args(["--rows", &options.records.to_string(), "--json"])
        .arg(&file)
        .env_clear()
        .envs(inherited())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "python/bench.py: {errors}");
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}
