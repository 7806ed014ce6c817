//! The result rows of a window: those of the query, or those of the function that takes them.
//!
//! Owns: which rows one call gets, checking its result. Does not own: the process
//! ([`crate::functions`]), where rows go.
//! Rule: rows reach the function as the query returns them; what it returns has the columns that
//! were fixed at submit.

use crate::function::{
    Call, DeadRows, FunctionError, FunctionPool, InputError, LookupRows, Outcome,
};
use crate::functions::FunctionsError;
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::{self, Stream};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use streamctl_engine::function::fit;
use streamctl_engine::query::QueryOutput;
use streamctl_proto::spec::{FunctionSpec, Per};
use streamctl_proto::{LookupVersion, Window};

/// What a function is given besides rows.
#[derive(Clone)]
pub struct CallContext {
    pub window: Window,
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
    is_over: bool,
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
            is_over: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Produced>, TaskError> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(Some(ready));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.per {
                Per::Window => {
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
        let outcome = {
            let rows = stream::unfold((query, &mut failed), |(query, failed)| async move {
                match query.next().await {
                    Ok(Some(batch)) => Some((Ok(batch), (query, failed))),
                    Ok(None) => None,
                    Err(error) => {
                        let ends: InputError = error.to_string().into();
                        *failed = Some(error);
                        Some((Err(ends), (query, failed)))
                    }
                }
            });
            let mut rows = Box::pin(rows);
            called(&pool, call, input, &mut rows).await
        };
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.take(outcome?)
    }

    async fn call_for_batch(&mut self, batch: RecordBatch) -> Result<(), TaskError> {
        let pool = pool_of(self.context).await?;
        let mut rows = stream::iter([Ok(batch)]);
        let outcome = called(&pool, self.call(), self.input.clone(), &mut rows).await?;
        self.take(outcome)
    }

    fn call(&self) -> Call {
        let CallContext { window, lookups } = &self.given;
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
            attempt: self.context.next_attempt(),
            job: spec.name.clone(),
            lookups: match spec.function.as_ref().is_some_and(FunctionSpec::has_code) {
                true => lookups.iter().map(rows).collect(),
                // A function server has no memory of them between calls.
                false => BTreeMap::new(),
            },
            empty: false,
        }
    }

    fn take(&mut self, outcome: Outcome) -> Result<(), TaskError> {
        for line in &outcome.log {
            tracing::info!(job = %self.context.job.spec.name, line = line.text, "function");
        }
        let (_, batches) = outcome.result.unwrap_or((self.result.clone(), Vec::new()));
        for batch in batches {
            let rows = fit::cast(&batch, &self.result).map_err(FunctionsError::from)?;
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

/// Calls an idle process, or a new one.
async fn called(
    pool: &FunctionPool,
    call: Call,
    input: SchemaRef,
    rows: &mut (dyn Stream<Item = Result<RecordBatch, InputError>> + Send + Unpin),
) -> Result<Outcome, TaskError> {
    let failed = |error: FunctionError| TaskError::from(FunctionsError::from(error));
    let mut process = pool.acquire().await.map_err(failed)?;
    process.call(call, input, rows).await.map_err(failed)
}
