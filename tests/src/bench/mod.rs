//! Speed compared with peers on the same data in the same run: `make bench`.
//!
//! Owns: the measurements and their output. Does not own: the measured code: it is the product's.
//! Rule: a figure is a ratio to a peer that ran in the same minutes; runs alternate, and the best
//! of each counts.

pub mod answers;
pub mod control;
pub mod data;
pub mod function;
mod job;
pub mod latency;
mod light;
pub mod live;
pub mod nested;
pub mod peers;
pub mod pipeline;
pub mod shards;
pub mod sheet;
pub mod swarm;
pub mod table;

use answers::Answers;
use data::Sales;
use pipeline::{Pipeline, Ran};
use std::path::PathBuf;
use streamctl_engine::source::kinesis::Wire;
use table::{Figure, Table};

#[derive(Clone, Debug)]
pub struct Options {
    pub records: u64,
    pub rounds: usize,
    /// The folder of data and results.
    pub folder: PathBuf,
    /// Peers to run, by their names in `tests/support/py/peers.py`.
    pub peers: Vec<String>,
}

/// Records in memory to Parquet on disk, on one thread, and the peers that do the whole job as one
/// query.
pub fn pipeline(options: &Options) -> anyhow::Result<Table> {
    let sales = Sales::made(options.records);
    let files = sales.written(&options.folder)?;
    let answers = Answers::of(&sales, Wire::Cbor);
    let json = Answers::of(&sales, Wire::Json);
    let pipeline = Pipeline::of_the_model_job(&options.folder)?;
    let mut table = Table::new("pipeline", sales.bytes());
    let checked = |ran: Ran| {
        anyhow::ensure!(
            ran.rows_out == sales.rows_expected(),
            "{} rows, not {}",
            ran.rows_out,
            sales.rows_expected()
        );
        Ok(Figure {
            seconds: ran.seconds,
            stages: ran.stages(),
        })
    };
    for round in 0..options.rounds {
        table.add("streamctl", checked(pipeline.run(&sales, 3 * round)?)?);
        let forms = [
            (&answers, "from GetRecords", "its answers"),
            (&json, "from GetRecords, JSON", "its answers, JSON"),
        ];
        for (form, (answers, whole, decoded)) in forms.into_iter().enumerate() {
            let number = 3 * round + 1 + form;
            table.add(whole, checked(pipeline.run_from(answers, number)?)?);
            let (seconds, records) = pipeline.time(answers::by_the_product(answers))?;
            anyhow::ensure!(records as u64 == options.records, "{records} records");
            table.add(
                decoded,
                Figure {
                    seconds,
                    stages: vec![],
                },
            );
        }
        let (seconds, records) = pipeline.time(answers::by_the_sdk(&json))?;
        anyhow::ensure!(records as u64 == options.records, "{records} records");
        table.add(
            "the SDK's",
            Figure {
                seconds,
                stages: vec![],
            },
        );
        for peer in &options.peers {
            let seconds = peers::run(peer, &files, sales.rows_expected())?;
            table.add(
                peer,
                Figure {
                    seconds,
                    stages: vec![],
                },
            );
        }
    }
    Ok(table)
}
