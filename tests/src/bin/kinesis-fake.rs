//! The Kinesis fake as a program: streams are created through its API, load comes from its
//! producer.
//!
//! `kinesis-fake [--port N] [--stream NAME --shards N] [--produce RECORDS_PER_S] [--records MAX]
//! [--seed N]
//! [--bad-every N] [--unmatched-every N] [--retain-s N]`
//!
//! Rule: it prints its address once it is ready, and the number of produced records as its last
//! line; it ends at SIGTERM and SIGINT. `GET /` returns its calls so far, as JSON. Produced record
//! `n` is `generator::record(seed, 0, n, options)`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use streamctl_engine::process::stop_signal;
use streamctl_engine::source::generator::Options;
use streamctl_tests::kinesis::FakeKinesis;
use streamctl_tests::kinesis::produce::{Order, produce};

const FLAGS: [&str; 9] = [
    "port",
    "stream",
    "shards",
    "produce",
    "records",
    "seed",
    "bad-every",
    "unmatched-every",
    "retain-s",
];

struct Flags(BTreeMap<String, String>);

impl Flags {
    fn read() -> anyhow::Result<Self> {
        let mut flags = BTreeMap::new();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").filter(|name| FLAGS.contains(name));
            let name = name.ok_or_else(|| {
                anyhow::anyhow!("{arg} is no flag; flags: --{}", FLAGS.join(", --"))
            })?;
            let value = args
                .next()
                .ok_or_else(|| anyhow::anyhow!("{arg} needs a value"))?;
            flags.insert(name.to_owned(), value);
        }
        Ok(Self(flags))
    }

    fn number(&self, name: &str, default: u64) -> anyhow::Result<u64> {
        let Some(text) = self.0.get(name) else {
            return Ok(default);
        };
        text.parse()
            .map_err(|_| anyhow::anyhow!("--{name} is a number, not {text:?}"))
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::read()?;
    let port = u16::try_from(flags.number("port", 0)?)?;
    let fake = FakeKinesis::start_on(port).await?;
    let put = Arc::new(AtomicU64::new(0));
    if let Some(name) = flags.0.get("stream") {
        let stream = fake.create(name, usize::try_from(flags.number("shards", 2)?)?);
        let retain_s = flags.number("retain-s", 0)?;
        if retain_s > 0 {
            stream.retain_for(Duration::from_secs(retain_s));
        }
        let rate: f64 = flags
            .0
            .get("produce")
            .map_or(Ok(0.0), |text| text.parse())?;
        let options = Options {
            bad_every: flags.number("bad-every", 0)?,
            unmatched_every: flags.number("unmatched-every", 0)?,
        };
        let seed = flags.number("seed", 1)?;
        let records_max = flags.number("records", 0)?;
        if rate > 0.0 {
            tokio::spawn(produce(
                stream,
                Order {
                    seed,
                    rate,
                    records_max,
                    options,
                },
                Arc::clone(&put),
            ));
        }
    }
    say(fake.address())?;
    stop_signal().await;
    say(&put.load(Ordering::Acquire).to_string())
}
