//! The path of a record through a worker on one thread: from memory or the service's responses,
//! through decode, query and sink.
//!
//! Owns: the order of the steps, which is that of `worker/src/task/window.rs`. Does not own: the
//! steps.
//! Rule: measures from the first record to the visible object; work that a worker does per window
//! is not prepared in advance.

use super::answers::{self, Answers};
use super::data::Sales;
use crate::places::country_lookup;
use anyhow::Context;
use arrow::array::RecordBatch;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_engine::format::Decoder;
use streamctl_engine::lookup::rows;
use streamctl_engine::query::{BATCH_ROWS, QueryPlan};
use streamctl_engine::source::Record;
use streamctl_engine::storage::{LocalStorage, Storage as _, Storages};
pub(super) use streamctl_proto::spec::GENERATOR_COLUMNS as COLUMNS;
use streamctl_proto::spec::PayloadFormat;
use streamctl_proto::{JobSpec, TaskId, Term, Window};
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::pipeline::DECODE_RECORDS_MAX;
use streamctl_worker::sink::{self, WriterContext};

/// The only window of all records: 2026-11-24T00:45:00Z.
pub const WINDOW: Window = Window {
    start_ms: 1_795_481_100_000,
    end_ms: 1_795_481_160_000,
};
pub struct Pipeline {
    spec: JobSpec,
    schema: arrow::datatypes::SchemaRef,
    plan: QueryPlan,
    lookups: BTreeMap<String, RecordBatch>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// From the first record to the visible object.
    pub seconds: f64,
    pub rows_out: u64,
    read: Duration,
    decode: Duration,
    query: Duration,
    sink: Duration,
}

impl Ran {
    pub fn stages(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("read", self.read.as_secs_f64()),
            ("decode", self.decode.as_secs_f64()),
            ("query", self.query.as_secs_f64()),
            ("sink", self.sink.as_secs_f64()),
        ]
    }
}

impl Pipeline {
    /// The model job with its sink below `folder`.
    pub fn of_the_model_job(folder: &Path) -> anyhow::Result<Self> {
        let text = include_str!("../../../deploy/jobs/sales-by-country.toml");
        let text = text.replace("s3://my-bucket/", &format!("{}/", folder.display()));
        let spec = JobSpec::parse_in(&text, folder)?;
        let field = |name: &&str| {
            arrow::datatypes::Field::new(*name, arrow::datatypes::DataType::Utf8, true)
        };
        let schema = Arc::new(arrow::datatypes::Schema::new(
            COLUMNS.iter().map(field).collect::<Vec<_>>(),
        ));
        let lookup = spec.lookups.first().context("the model job has a lookup")?;
        let content = Bytes::from(std::fs::read(country_lookup())?);
        let rows = rows::parse(lookup, &[("country_lookup.csv".to_owned(), content)])?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let schemas = vec![(lookup.name.clone(), rows.schema())];
        let plan = runtime.block_on(QueryPlan::new(
            Arc::clone(&schema),
            schemas,
            spec.sql.as_str(),
        ))?;
        let lookups = BTreeMap::from([(lookup.name.clone(), rows)]);
        Ok(Self {
            spec,
            schema,
            plan,
            lookups,
            runtime,
        })
    }

    /// A decoder of the columns that its query reads.
    pub fn decoder(&self) -> anyhow::Result<Decoder> {
        Ok(Decoder::new(
            &PayloadFormat::default(),
            Arc::clone(&self.schema),
            self.plan.source_columns(),
        )?)
    }

    /// Runs everything once, from records in memory; `round` is part of the object's name.
    pub fn run(&self, sales: &Sales, round: usize) -> anyhow::Result<Ran> {
        let mut chunks = sales.chunks();
        let next = async || Ok(chunks.next().map(Cow::Borrowed));
        self.runtime.block_on(self.window(next, task(round)))
    }

    /// Runs everything once, from the service's responses.
    pub fn run_from(&self, answers: &Answers, round: usize) -> anyhow::Result<Ran> {
        let api = answers.api();
        let mut left = answers.count();
        let next = async || {
            if left == 0 {
                return Ok(None);
            }
            left -= 1;
            answers::read(&api)
                .await
                .map(|records| Some(Cow::Owned(records)))
        };
        self.runtime.block_on(self.window(next, task(round)))
    }

    /// The seconds that `what` takes on the only thread.
    pub fn time<T>(
        &self,
        what: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(f64, T)> {
        let began = Instant::now();
        let result = self.runtime.block_on(what)?;
        Ok((began.elapsed().as_secs_f64(), result))
    }

    async fn window<'a>(
        &self,
        mut next: impl AsyncFnMut() -> anyhow::Result<Option<Cow<'a, [Record]>>>,
        task: TaskId,
    ) -> anyhow::Result<Ran> {
        let budget = MemoryBudget::default();
        let memory = budget
            .window(false, false)
            .context("a budget has a window")?;
        let context = WriterContext {
            job: self.spec.name.clone(),
            task,
            window: WINDOW,
            storages: Storages::local(),
            rejected: self.spec.dead_letters(),
            memory: Arc::clone(&memory.sink),
        };
        let began = Instant::now();
        let mut decoder = self.decoder()?;
        let mut open = self
            .plan
            .open_within(
                &self.lookups,
                Arc::clone(&memory.query) as _,
                BATCH_ROWS,
                &Arc::default(),
            )
            .await?;
        let result = self.plan.output_schema().clone();
        let mut sink = sink::of(&self.spec.sink).writer(context, result)?;
        let mut input = open.input;
        let decode_bytes = budget.decode_bytes();
        let feed = async {
            let mut read = Duration::ZERO;
            let mut decode = Duration::ZERO;
            loop {
                let begin = Instant::now();
                let Some(chunk) = next().await? else { break };
                read += begin.elapsed();
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let begin = Instant::now();
                    let (count, decoded) =
                        decoder.decode_first(rest, DECODE_RECORDS_MAX, decode_bytes);
                    decode += begin.elapsed();
                    rest = &rest[count..];
                    input.push("", decoded.batch).await?;
                }
            }
            drop(input);
            anyhow::Ok((read, decode))
        };
        let drain = async {
            let mut spent = Duration::ZERO;
            while let Some(batch) = open.output.next().await? {
                let begin = Instant::now();
                sink.write(batch).await?;
                spent += begin.elapsed();
            }
            let begin = Instant::now();
            let objects = sink.finish().await?.objects;
            for object in &objects {
                LocalStorage.publish(object).await?;
            }
            anyhow::Ok((
                objects.iter().map(|object| object.rows).sum(),
                spent + begin.elapsed(),
            ))
        };
        let ((read, decode), (rows_out, sink)) = tokio::try_join!(feed, drain)?;
        let all = began.elapsed();
        let query = all.saturating_sub(read + decode + sink);
        Ok(Ran {
            seconds: all.as_secs_f64(),
            rows_out,
            read,
            decode,
            query,
            sink,
        })
    }
}

fn task(round: usize) -> TaskId {
    TaskId {
        term: Term(1),
        counter: round as u64 + 1,
    }
}
