//! How fast it is, beside others on the same data in the same run: `make bench`.
//!
//! Owns: what is measured, and how it is told. Does not own: the code that is measured: it is the product's.
//! Rule: a figure is a ratio to a peer that ran in the same minutes; runs take turns, and the best of each counts.

pub mod data;
pub mod peers;
pub mod pipeline;
pub mod table;

use data::Sales;
use pipeline::Pipeline;
use std::path::PathBuf;
use table::{Figure, Table};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sales records.
    pub records: u64,
    /// Turns of each contestant.
    pub rounds: usize,
    /// Where data and results lie.
    pub folder: PathBuf,
    /// Peers to run beside us, by the names of `tests/support/py/peers.py`.
    pub peers: Vec<String>,
}

/// Records in memory to Parquet on disk, on one thread, and the peers that do the whole job as one query.
pub fn pipeline(options: &Options) -> anyhow::Result<Table> {
    let sales = Sales::made(options.records);
    let files = sales.written(&options.folder)?;
    let pipeline = Pipeline::of_the_model_job(&options.folder)?;
    let mut table = Table::new("pipeline", sales.bytes());
    for round in 0..options.rounds {
        let ran = pipeline.run(&sales, round)?;
        anyhow::ensure!(ran.rows_out == sales.rows_expected(), "{} rows, not {}", ran.rows_out, sales.rows_expected());
        table.add("streamctl", Figure { seconds: ran.seconds, stages: ran.stages() });
        for peer in &options.peers {
            let seconds = peers::run(peer, &files, sales.rows_expected())?;
            table.add(peer, Figure { seconds, stages: vec![] });
        }
    }
    Ok(table)
}
