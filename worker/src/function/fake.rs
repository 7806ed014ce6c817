//! A function without a process, for tests.
//!
//! Owns: the ends that a call can have, at a moment that a script names. Does not own: when each
//! happens (the script).
//! Rule: it keeps to the trait as the real kinds do: a function that was killed or timed out takes
//! no further call.

use super::error::{Exit, Phase};
use super::{
    Call, Function, FunctionError, Input, LogLine, Outcome, Published, Raised, ResultRoom,
};
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The column that the fake adds to its rows.
pub const BATCH_ID: &str = "batch_id";

/// The end of a call, after its last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It returns its rows, each with the number of its batch.
    Returns,
    Raises,
    /// Its process is killed.
    IsKilled,
    TimesOut,
}

/// Decides what happens.
pub trait Script: Send + Sync + fmt::Debug {
    fn next(&self, call: &Call) -> Ending;
}

/// A function that follows a script.
pub struct FakeFunction {
    script: Arc<dyn Script>,
    timeout: Duration,
    is_usable: bool,
}

impl FakeFunction {
    pub fn new(script: Arc<dyn Script>, timeout: Duration) -> Self {
        Self {
            script,
            timeout,
            is_usable: true,
        }
    }
}

fn raised() -> FunctionError {
    FunctionError::Raised {
        raised: Raised {
            kind: "ValueError".into(),
            message: "the script of the test".into(),
            file: Some("transform.py".into()),
            line: Some(1),
            traceback: String::new(),
        },
        phase: Phase::Call,
        log: vec![],
    }
}

/// The rows with the number of their batch.
fn numbered(schema: &SchemaRef, batch: &RecordBatch, batch_id: i64) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    let numbers = Int64Array::from(vec![batch_id; batch.num_rows()]);
    columns.push(Arc::new(numbers) as ArrayRef);
    RecordBatch::try_new(Arc::clone(schema), columns).expect("one column more, of as many rows")
}

#[async_trait]
impl Function for FakeFunction {
    async fn call(
        &mut self,
        call: Call,
        schema: SchemaRef,
        input: Input<'_>,
    ) -> Result<Outcome, FunctionError> {
        assert!(self.is_usable, "it is never called again after it broke");
        self.is_usable = false;
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(BATCH_ID, DataType::Int64, false)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut batches = Vec::new();
        let mut rows_in = 0;
        while let Some(batch) = input.next().await {
            let batch = batch.map_err(FunctionError::Input)?;
            rows_in += batch.num_rows() as u64;
            batches.push(numbered(&schema, &batch, call.batch_id));
        }
        match self.script.next(&call) {
            Ending::Returns => {}
            Ending::Raises => {
                self.is_usable = true;
                return Err(raised());
            }
            Ending::IsKilled => {
                return Err(FunctionError::Ended {
                    exit: Exit::Signal(libc::SIGKILL),
                    phase: Phase::Call,
                    log: vec![],
                });
            }
            Ending::TimesOut => {
                tokio::time::sleep(self.timeout).await;
                return Err(FunctionError::TimeLimit {
                    limit: self.timeout,
                    phase: Phase::Call,
                    log: vec![],
                });
            }
        }
        self.is_usable = true;
        Ok(Outcome {
            result: Some((schema, batches)),
            result_bytes: 0,
            room: ResultRoom::default(),
            dead: vec![],
            log: vec![],
            log_lines_dropped: 0,
            rows_in,
            bytes_in: 0,
            elapsed: Duration::ZERO,
            peak_memory: None,
        })
    }

    async fn published(&mut self, _: Published) -> Result<Vec<LogLine>, FunctionError> {
        Ok(vec![])
    }

    fn is_usable(&self) -> bool {
        self.is_usable
    }

    async fn close(self: Box<Self>) {}
}
