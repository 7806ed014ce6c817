//! Runs the list of faults, prints the table, writes the JSON: `make chaos`.
//!
//!     streamctl-chaos [--only NAME[,NAME...]] [--json FILE] [--folder FOLDER] [--seed N]
//!
//! Owns: the selection of faults, and the output. Does not own: any fault
//! (`streamctl_tests::chaos`).
//! Rule: a fault whose run fails is a line of the table, and the next one gets a freshly started
//! system.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use streamctl_tests::chaos::fault::Strike;
use streamctl_tests::chaos::{Fault, Row, System, disk, fault, report, run};
use streamctl_tests::soak::stall;

#[derive(Default)]
struct Options {
    faults: Vec<Fault>,
    json: Option<PathBuf>,
    /// Keeps data and logs there; otherwise they are deleted at the end.
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = options()?;
    let temporary = tempfile::Builder::new()
        .prefix("streamctl-chaos-")
        .tempdir()?;
    let root = options
        .folder
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    println!("{}", report::head());
    let mut rows = vec![];
    let mut system = None;
    for (number, fault) in options.faults.iter().enumerate() {
        let one = || {
            if fault.strike == Strike::FillDisk {
                return disk::run(&root, fault);
            }
            if fault.strike == Strike::StopSink {
                return stall::run(&root, fault);
            }
            let system = system.get_or_insert_with(|| {
                let folder = root.join(format!("from-{number}"));
                std::fs::create_dir_all(&folder).expect("the folder takes folders");
                System::start(&folder)
            });
            run::run(system, fault)
        };
        let row = catch_unwind(AssertUnwindSafe(one)).unwrap_or_else(|panic| {
            system = None;
            Row::broken(fault.name, words_of(&*panic))
        });
        println!("{}", report::table_line(&row));
        std::io::stdout().flush()?;
        rows.push(row);
    }
    let value = report::json(&rows);
    if let Some(path) = options.json {
        std::fs::write(path, serde_json::to_string_pretty(&value)?)?;
    }
    Ok(if value["ok"] == true {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        faults: fault::LIST.to_vec(),
        ..Options::default()
    };
    let mut seed = None;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| anyhow::anyhow!("{flag} needs a value"))?;
        match flag.as_str() {
            "--only" => {
                let found: Result<_, _> = value.split(',').map(Fault::named).collect();
                options.faults = found.map_err(anyhow::Error::msg)?;
            }
            "--json" => options.json = Some(value.into()),
            "--folder" => options.folder = Some(value.into()),
            "--seed" => seed = Some(value.parse()?),
            _ => anyhow::bail!("there is no flag {flag}: --only, --json, --folder, --seed"),
        }
    }
    if let Some(seed) = seed {
        let storms = options
            .faults
            .iter_mut()
            .filter(|fault| matches!(fault.strike, Strike::Storm(_)));
        storms.for_each(|fault| fault.strike = Strike::Storm(seed));
    }
    Ok(options)
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("a panic without words").replace('\n', " ");
    text.chars().take(400).collect()
}
