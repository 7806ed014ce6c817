//! Runs a soak, prints the result, writes the JSON: `make soak`.
//!
//!     streamctl-soak [--minutes N] [--rate N] [--place s3|local] [--json FILE] [--folder FOLDER]
//!
//! Owns: its settings. Does not own: the soak (`streamctl_tests::soak`).

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use streamctl_tests::soak::plan::RATE_DEFAULT;
use streamctl_tests::soak::{self, Plan};

const MINUTES_DEFAULT: f64 = 3.0;

fn main() -> anyhow::Result<ExitCode> {
    let temporary = tempfile::Builder::new()
        .prefix("streamctl-soak-")
        .tempdir()?;
    let minutes = Duration::from_secs_f64(MINUTES_DEFAULT * 60.0);
    let mut json = None;
    let mut plan = Plan {
        lasts: minutes,
        rate: RATE_DEFAULT,
        local: false,
        folder: temporary.path().to_owned(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| anyhow::anyhow!("{flag} needs a value"))?;
        match flag.as_str() {
            "--minutes" => plan.lasts = Duration::from_secs_f64(value.parse::<f64>()? * 60.0),
            "--rate" => plan.rate = value.parse()?,
            "--place" => plan.local = value == "local",
            "--json" => json = Some(PathBuf::from(value)),
            "--folder" => plan.folder = value.into(),
            _ => anyhow::bail!(
                "there is no flag {flag}: --minutes, --rate, --place, --json, --folder"
            ),
        }
    }
    std::fs::create_dir_all(&plan.folder)?;
    let outcome = soak::run(&plan);
    println!("{}", soak::run::table(&outcome));
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&outcome)?)?;
    }
    Ok(if outcome.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
