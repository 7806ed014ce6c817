//! Measures, prints one table, writes the same as JSON to the file that `BENCH_JSON` names: `make bench`.
//!
//!     streamctl-bench [--records N] [--rounds N] [--peers duckdb,polars,spark] [--folder FOLDER]
//!
//! Owns: its settings. Does not own: what is measured (`streamctl_tests::bench`).

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use streamctl_tests::bench::{self, Options};

/// As many as the figures of the issue were measured with: 643 MB.
const RECORDS_DEFAULT: u64 = 2_000_000;
const ROUNDS_DEFAULT: usize = 3;

#[allow(clippy::disallowed_methods, reason = "read once, here, and passed down")]
fn main() -> anyhow::Result<()> {
    let temporary = tempfile::Builder::new().prefix("streamctl-bench-").tempdir()?;
    let mut options = Options {
        records: RECORDS_DEFAULT,
        rounds: ROUNDS_DEFAULT,
        folder: temporary.path().to_owned(),
        peers: vec!["duckdb".to_owned()],
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| anyhow::anyhow!("{flag} needs a value"))?;
        match flag.as_str() {
            "--records" => options.records = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--peers" => options.peers = value.split(',').filter(|peer| !peer.is_empty()).map(str::to_owned).collect(),
            "--folder" => options.folder = value.into(),
            _ => anyhow::bail!("there is no flag {flag}: --records, --rounds, --peers, --folder"),
        }
    }
    std::fs::create_dir_all(&options.folder)?;
    let table = bench::pipeline(&options)?;
    println!("{table}");
    if let Some(path) = std::env::var_os("BENCH_JSON") {
        std::fs::write(path, serde_json::to_string_pretty(&[table.json()])?)?;
    }
    Ok(())
}
