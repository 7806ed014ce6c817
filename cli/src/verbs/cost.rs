//! `streamctl cost`: what a job needs at a load, and what that costs beside other services.
//!
//! Rule: an estimate of list prices from measured capacity: every figure that it is made of is
//! printed or named.

mod prices;
mod sizes;

use super::{read, spec_of};
use crate::error::CliError;
use crate::output::{Output, table};
use clap::Args;
use prices::{PRICES, Prices, Replaced};
use serde_json::{Value, json};
use sizes::{
    BUSY_MAX, CONTROL, CONTROLLERS, ETCD_MEMBERS, HOURS, Load, OURS_MB_PER_CORE,
    SPARKS_MB_PER_CORE, TaskSize,
};
use std::path::PathBuf;
use streamctl_proto::JobSpec;
use streamctl_proto::count;
use streamctl_proto::spec::SinkFormat;

/// GB of storage that Managed Flink gives and bills with each KPU.
const FLINK_GB_PER_KPU: f64 = 50.0;

/// Of `cost`.
#[derive(Args, Debug)]
pub struct CostArgs {
    /// Job file
    pub file: PathBuf,
    /// Payload that arrives, in megabytes a second
    #[arg(long, value_name = "MB", value_parser = load)]
    pub mb_per_second: f64,
    /// Average size of a record
    #[arg(long, value_name = "BYTES", default_value_t = 324, value_parser = clap::value_parser!(u32).range(1..=10_485_760))]
    pub record_bytes: u32,
    /// Shards of the stream (default: as few as take the load)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub shards: Option<u32>,
    /// Another price: NAME=DOLLARS; may be given several times
    #[arg(long, value_name = "PRICE", value_parser = Replaced::parse)]
    pub price: Vec<Replaced>,
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(mb) if (0.000_001..=100_000.0).contains(&mb) => Ok(mb),
        _ => Err("write megabytes a second, from 0.000001 to 100000".to_owned()),
    }
}

/// A way to do the job.
struct Way {
    name: &'static str,
    needs: String,
    dollars: f64,
}

/// Prints the estimate.
pub fn run(args: &CostArgs, out: &mut Output) -> Result<(), CliError> {
    let spec = spec_of(&args.file, &read(&args.file)?)?;
    if spec.source.kind.type_name() != "kinesis" {
        return Err(CliError::Usage {
            message: format!("the source of {} is no Kinesis stream", args.file.display()),
            hint: "the other services read Kinesis: give a job file that does".into(),
        });
    }
    let load = Load {
        mb_per_second: args.mb_per_second,
        record_bytes: f64::from(args.record_bytes),
        window_seconds: spec.window.ms() as f64 / 1e3,
        shards: args.shards,
        has_consumer: spec.source.kind.consumer().is_some(),
    };
    let prices = Prices::with(&args.price);
    let ways = ways(&spec, &load, &prices);
    let stream = stream(&load, &prices);
    out.either(
        || as_text(&spec, &load, &ways, &stream),
        || as_json(&spec, &load, &prices, &ways, &stream),
    )?;
    out.note(&format!(
        "list prices of us-east-1 as of {} (-o json has them with their pages; --price replaces one), {HOURS} hours a month; \
         transfer and storage are left out. A core is taken for {OURS_MB_PER_CORE} MB/s of ours and {SPARKS_MB_PER_CORE} MB/s of \
         Spark's (BENCHMARKS.md), of which {:.0} % is used; Flink is taken to do what Spark does",
        prices::OF,
        BUSY_MAX * 100.0
    ));
    Ok(())
}

fn ways(spec: &JobSpec, load: &Load, prices: &Prices) -> Vec<Way> {
    vec![
        ours(load, prices),
        glue(load, prices),
        flink(load, prices),
        firehose(spec, load, prices),
    ]
}

fn ours(load: &Load, prices: &Prices) -> Way {
    let task = |size: TaskSize| {
        size.vcpus * prices.of(prices::FARGATE_VCPU) + size.gb * prices.of(prices::FARGATE_GB)
    };
    let (workers, size) = load.workers();
    let control = f64::from(CONTROLLERS + ETCD_MEMBERS) * task(CONTROL);
    let hourly = f64::from(workers) * task(size) + control;
    Way {
        name: "streamctl",
        needs: format!(
            "on Fargate: {} of {} vCPU and {} GB, {}, {ETCD_MEMBERS} members of etcd; {:.0} thousand PUTs to S3",
            count(u64::from(workers), "worker"),
            size.vcpus,
            size.gb,
            count(u64::from(CONTROLLERS), "controller"),
            load.thousand_puts()
        ),
        dollars: hourly * HOURS + load.thousand_puts() * prices.of(prices::S3_PUT),
    }
}

fn glue(load: &Load, prices: &Prices) -> Way {
    let (workers, kind, dpus) = load.glue();
    Way {
        name: "Glue streaming",
        needs: format!("{workers} workers {kind}: {dpus} DPU"),
        dollars: dpus * HOURS * prices.of(prices::GLUE_DPU),
    }
}

fn flink(load: &Load, prices: &Prices) -> Way {
    let (kpus, more) = load.flink();
    let storage = f64::from(kpus) * FLINK_GB_PER_KPU * prices.of(prices::FLINK_STORAGE);
    Way {
        name: "Managed Flink",
        needs: format!("{kpus} KPU and {more} that orchestrates"),
        dollars: f64::from(kpus + more) * HOURS * prices.of(prices::FLINK_KPU) + storage,
    }
}

fn firehose(spec: &JobSpec, load: &Load, prices: &Prices) -> Way {
    let gb = load.firehose_gb();
    let is_parquet = spec.sink.format() == SinkFormat::Parquet;
    let converted = if is_parquet {
        prices.of(prices::FIREHOSE_PARQUET_GB)
    } else {
        0.0
    };
    Way {
        name: "Firehose",
        needs: format!(
            "{gb:.0} GB in steps of 5 KB{}; no join",
            if is_parquet { ", as Parquet" } else { "" }
        ),
        dollars: gb * (prices.of(prices::FIREHOSE_GB) + converted),
    }
}

/// The stream, which every way needs, and its consumer.
fn stream(load: &Load, prices: &Prices) -> Way {
    let shards = f64::from(load.shards());
    let consumer = if load.has_consumer {
        shards * HOURS * prices.of(prices::KINESIS_FANOUT)
            + load.gb_per_month() * prices.of(prices::KINESIS_FANOUT_GB)
    } else {
        0.0
    };
    let put = load.million_puts() * prices.of(prices::KINESIS_PUT);
    Way {
        name: "the stream itself",
        needs: format!(
            "{}, {:.0} million units put{}",
            count(u64::from(load.shards()), "shard"),
            load.million_puts(),
            if load.has_consumer {
                ", a consumer"
            } else {
                ""
            }
        ),
        dollars: shards * HOURS * prices.of(prices::KINESIS_SHARD) + put + consumer,
    }
}

fn as_text(spec: &JobSpec, load: &Load, ways: &[Way], stream: &Way) -> String {
    let row = |way: &Way| {
        [
            way.name.to_owned(),
            format!("{:.2}", way.dollars),
            way.needs.clone(),
        ]
    };
    let rows: Vec<_> = ways.iter().chain([stream]).map(row).collect();
    format!(
        "{} at {} MB/s: {:.0} records of {:.0} bytes a second, {:.0} GB a month\n\n{}",
        spec.name,
        load.mb_per_second,
        load.records_per_second(),
        load.record_bytes,
        load.gb_per_month(),
        table(["", "$ A MONTH", "NEEDS"], &rows)
    )
}

fn as_json(spec: &JobSpec, load: &Load, prices: &Prices, ways: &[Way], stream: &Way) -> Value {
    let way =
        |way: &Way| json!({"name": way.name, "dollars_per_month": way.dollars, "needs": way.needs});
    let price = |price: &prices::Price| json!({"name": price.name, "dollars": prices.of(price.name), "unit": price.unit, "page": price.page});
    let (workers, size) = load.workers();
    json!({
        "job": spec.name, "mb_per_second": load.mb_per_second, "record_bytes": load.record_bytes,
        "shards": load.shards(), "workers": workers, "vcpus_per_worker": size.vcpus, "gb_per_worker": size.gb,
        "ways": ways.iter().map(way).collect::<Vec<_>>(), "stream": way(stream),
        "prices": PRICES.iter().map(price).collect::<Vec<_>>(), "prices_of": prices::OF,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    fn args(example: &str) -> CostArgs {
        let jobs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/jobs");
        CostArgs {
            file: jobs.join(example),
            mb_per_second: 5.0,
            record_bytes: 324,
            shards: None,
            price: vec![],
        }
    }

    #[test]
    fn the_model_job_is_priced_beside_the_others() {
        let (mut out, data, notes) = captured(Format::Table);
        run(&args("sales-by-country.toml"), &mut out).unwrap();
        let text = data.text();
        let dollars = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let rest = line[name.len()..].split_whitespace().next();
            rest.unwrap().parse().unwrap()
        };
        assert_eq!(
            dollars("Glue streaming"),
            160.60,
            "two of the smallest workers"
        );
        assert_eq!(dollars("Managed Flink"), 165.60);
        assert!((60.0..90.0).contains(&dollars("streamctl")), "{text}");
        assert!(dollars("Firehose") > 6_000.0, "steps of 5 KB: {text}");
        assert!(notes.text().contains("us-east-1"), "{}", notes.text());
    }

    #[test]
    fn every_figure_is_in_the_json() {
        let (mut out, data, _) = captured(Format::Json);
        let own = CostArgs {
            price: vec![Replaced::parse("glue-dpu=0").unwrap()],
            ..args("sales-by-country.toml")
        };
        run(&own, &mut out).unwrap();
        let json: Value = serde_json::from_str(&data.text()).unwrap();
        documented("cost", &json);
        assert_eq!(json["ways"][1]["dollars_per_month"], 0.0);
        assert_eq!(json["shards"], 16);
    }

    #[test]
    fn a_source_that_others_do_not_read_is_refused() {
        let (mut out, ..) = captured(Format::Table);
        let error = run(&args("generator.toml"), &mut out).unwrap_err();
        assert!(error.to_string().contains("no Kinesis stream"), "{error}");
    }
}
