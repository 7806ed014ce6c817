//! The result rows of a window: those of the query, or those of the function that takes them.
//!
//! Owns: which rows one call gets, checking its result. Does not own: the process
//! ([`crate::functions`]), where rows go.
//! Rule: rows reach the function as the query returns them; what it returns has the columns that
//! were fixed at submit.

use crate::function::{
    Call, DeadRows, FunctionError, FunctionPool, InputError, Lease, LookupRows, Outcome, ResultRoom,
};
use crate::functions::{FunctionsError, log_lines};
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::{self, Stream};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_engine::function::fit;
use streamctl_engine::query::{QueryMemory, QueryOutput};
use streamctl_proto::profile::{FUNCTION_OPERATOR, OperatorFigures};
use streamctl_proto::spec::{FunctionSpec, Per};
use streamctl_proto::{LookupVersion, Window};

/// What a function is given besides rows.
#[derive(Clone)]
pub struct CallContext {
    pub window: Window,
    /// Which try at the window it is, from 1.
    pub attempt: u32,
    /// Has room for what the function returns; `None`: only the function's own limit counts.
    pub memory: Option<Arc<dyn QueryMemory>>,
    /// Version and rows of each lookup.
    pub lookups: BTreeMap<String, (LookupVersion, RecordBatch)>,
}

/// A part of the result.
pub enum Produced {
    Rows(RecordBatch),
    /// Rows that the function put aside, with the reason of each.
    Dead(DeadRows),
}

/// The result rows of a window.
pub enum Output<'a> {
    Query(QueryOutput),
    Function(Box<FunctionOutput<'a>>),
}

impl Output<'_> {
    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// The query or the function failed.
    pub async fn next(&mut self) -> Result<Option<Produced>, TaskError> {
        match self {
            Self::Query(query) => Ok(query.next().await?.map(Produced::Rows)),
            Self::Function(function) => function.next().await,
        }
    }

    /// What the job's function did so far; none without one.
    pub fn function(&self) -> Option<OperatorFigures> {
        match self {
            Self::Query(_) => None,
            Self::Function(function) => Some(function.figures()),
        }
    }
}

/// Rows of the query that go through the job's function.
pub struct FunctionOutput<'a> {
    context: &'a Context,
    query: QueryOutput,
    /// Of the rows that it is given, and of those that it returns.
    input: SchemaRef,
    result: SchemaRef,
    per: Per,
    given: CallContext,
    ready: VecDeque<Produced>,
    /// Room of what is ready.
    room: ResultRoom,
    is_over: bool,
    /// Rows that it returned, and the time of its calls without that of the query.
    rows_out: u64,
    spent: Duration,
}

impl<'a> FunctionOutput<'a> {
    pub(super) fn new(
        context: &'a Context,
        query: QueryOutput,
        input: SchemaRef,
        result: SchemaRef,
        per: Per,
        given: CallContext,
    ) -> Self {
        Self {
            context,
            query,
            input,
            result,
            per,
            given,
            ready: VecDeque::new(),
            room: ResultRoom::default(),
            is_over: false,
            rows_out: 0,
            spent: Duration::ZERO,
        }
    }

    fn figures(&self) -> OperatorFigures {
        let per = match self.per {
            Per::Window => "per window",
            Per::Key(_) => "per key",
            Per::Batch => "per batch",
        };
        OperatorFigures {
            rows: Some(self.rows_out),
            compute_us: Some(u64::try_from(self.spent.as_micros()).unwrap_or(u64::MAX)),
            ..OperatorFigures::new(0, FUNCTION_OPERATOR, per)
        }
    }

    async fn next(&mut self) -> Result<Option<Produced>, TaskError> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(Some(ready));
            }
            // All that was returned is with the sink, which counts it.
            self.room = ResultRoom::default();
            if self.is_over {
                return Ok(None);
            }
            match self.per {
                Per::Window | Per::Key(_) => {
                    self.call_for_window().await?;
                    self.is_over = true;
                }
                Per::Batch => match self.query.next().await? {
                    None => self.is_over = true,
                    Some(batch) if batch.num_rows() == 0 => {}
                    Some(batch) => self.call_for_batch(batch).await?,
                },
            }
        }
    }

    /// One call with all rows of the query, which are sent while it computes.
    async fn call_for_window(&mut self) -> Result<(), TaskError> {
        let pool = pool_of(self.context).await?;
        let call = self.call();
        let input = self.input.clone();
        let query = &mut self.query;
        let mut failed = None;
        let mut waited = Duration::ZERO;
        let lease = pool.acquire_at_once().await;
        let began = Instant::now();
        let outcome = {
            let state = (query, &mut failed, &mut waited);
            let rows = stream::unfold(state, |(query, failed, waited)| async move {
                let began = Instant::now();
                let next = query.next().await;
                *waited += began.elapsed();
                match next {
                    Ok(Some(batch)) => Some((Ok(batch), (query, failed, waited))),
                    Ok(None) => None,
                    Err(error) => {
                        let ends: InputError = error.to_string().into();
                        *failed = Some(error);
                        Some((Err(ends), (query, failed, waited)))
                    }
                }
            });
            let mut rows = Box::pin(rows);
            called(lease, call, input, &mut rows).await
        };
        self.spent += began.elapsed().saturating_sub(waited);
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.take(outcome?)
    }

    async fn call_for_batch(&mut self, batch: RecordBatch) -> Result<(), TaskError> {
        let pool = pool_of(self.context).await?;
        let mut rows = stream::iter([Ok(batch)]);
        let lease = pool.acquire().await;
        let began = Instant::now();
        let outcome = called(lease, self.call(), self.input.clone(), &mut rows).await?;
        self.spent += began.elapsed();
        self.take(outcome)
    }

    fn call(&self) -> Call {
        let CallContext {
            window,
            attempt,
            memory,
            lookups,
        } = &self.given;
        let spec = &self.context.job.spec;
        let rows = |(name, (version, rows)): (&String, &(LookupVersion, RecordBatch))| {
            let rows = LookupRows {
                version: version.clone(),
                schema: rows.schema(),
                batches: vec![rows.clone()],
            };
            (name.clone(), rows)
        };
        Call {
            batch_id: window.start_ms.div_euclid(spec.window.ms()),
            window: *window,
            attempt: *attempt,
            job: spec.name.clone(),
            lookups: match spec.function.as_ref().is_some_and(FunctionSpec::has_code) {
                true => lookups.iter().map(rows).collect(),
                // A function server has no memory of them between calls.
                false => BTreeMap::new(),
            },
            empty: false,
            by: self.per.key_columns().to_vec(),
            memory: memory.clone(),
        }
    }

    fn take(&mut self, outcome: Outcome) -> Result<(), TaskError> {
        log_lines(
            &self.context.job.spec.name,
            &outcome.log,
            outcome.log_lines_dropped,
        );
        self.room = outcome.room;
        let (_, batches) = outcome.result.unwrap_or((self.result.clone(), Vec::new()));
        for batch in batches {
            let rows = fit::cast(&batch, &self.result).map_err(FunctionsError::from)?;
            self.rows_out += rows.num_rows() as u64;
            self.ready.push_back(Produced::Rows(rows));
        }
        self.ready
            .extend(outcome.dead.into_iter().map(Produced::Dead));
        Ok(())
    }
}

async fn pool_of(context: &Context) -> Result<Arc<FunctionPool>, TaskError> {
    let pool = context.function_pool().await?;
    Ok(pool.ok_or(FunctionsError::NoCode)?)
}

/// Calls a function.
async fn called(
    lease: Result<Lease, FunctionError>,
    call: Call,
    input: SchemaRef,
    rows: &mut (dyn Stream<Item = Result<RecordBatch, InputError>> + Send + Unpin),
) -> Result<Outcome, TaskError> {
    let failed = |error: FunctionError| TaskError::from(FunctionsError::from(error));
    let mut process = lease.map_err(failed)?;
    process.call(call, input, rows).await.map_err(failed)
}
