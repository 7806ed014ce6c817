//! The tables of a query: the stream's rows, and lookups.
//!
//! Owns: the provider of a table, and the leaf of the physical plan that returns its rows. Does not
//! own: the pusher of the rows (`open`).
//! Rule: the stream is read once. If a plan scans it more often, or its result depends on the order
//! of rows, it reads rows that are kept, within the memory limit, in an order that does not depend
//! on when they came.

use super::KEPT_BATCH_ROWS;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, mpsc};

/// The source of a table's rows.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// None: the table is only used for planning.
    Schema,
    /// Held in memory: a lookup.
    Held(RecordBatch),
    /// From the stream, as they are pushed.
    Stream(Arc<Feed>),
}

#[derive(Debug)]
pub(super) struct PushedRows {
    /// The shard of the batch, if rows are kept.
    pub shard: Option<String>,
    pub batch: RecordBatch,
}

/// The receiving end of the stream's rows.
#[derive(Debug)]
pub(super) struct Feed {
    receiver: Mutex<Option<mpsc::Receiver<PushedRows>>>,
    /// The columns of the source that a pushed batch carries, ascending.
    columns: Vec<usize>,
    /// For a plan that keeps its rows: the rows, and their memory.
    kept: Option<OnceCell<Arc<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

impl Feed {
    pub(super) fn new(
        receiver: mpsc::Receiver<PushedRows>,
        columns: Vec<usize>,
        keep: bool,
    ) -> Self {
        Self {
            receiver: Mutex::new(Some(receiver)),
            columns,
            kept: keep.then(OnceCell::new),
        }
    }

    fn take(&self) -> Result<mpsc::Receiver<PushedRows>> {
        let mut slot = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
            .ok_or_else(|| internal_datafusion_err!("the stream is read a second time"))
    }

    /// Shard after shard, in batches whose sizes follow from the rows alone: a window that is
    /// computed again gives the same result, however its shards interleave.
    async fn keep(&self, context: &TaskContext) -> Result<Arc<Kept>> {
        let mut receiver = self.take()?;
        let memory = MemoryConsumer::new("rows of the window, which the query needs together")
            .register(context.memory_pool());
        let mut shards: BTreeMap<Option<String>, Vec<RecordBatch>> = BTreeMap::new();
        while let Some(PushedRows { shard, batch }) = receiver.recv().await {
            memory.try_grow(batch.get_array_memory_size())?;
            shards.entry(shard).or_default().push(batch);
        }
        let mut coalesced: Option<BatchCoalescer> = None;
        let mut batches = Vec::new();
        for batch in shards.into_values().flatten() {
            let held = batch.get_array_memory_size();
            let coalescer = coalesced
                .get_or_insert_with(|| BatchCoalescer::new(batch.schema(), KEPT_BATCH_ROWS));
            coalescer.push_batch(batch)?;
            memory.shrink(held.min(memory.size()));
            while let Some(full) = coalescer.next_completed_batch() {
                memory.try_grow(full.get_array_memory_size())?;
                batches.push(full);
            }
        }
        if let Some(mut coalescer) = coalesced {
            coalescer.finish_buffered_batch()?;
            while let Some(last) = coalescer.next_completed_batch() {
                memory.try_grow(last.get_array_memory_size())?;
                batches.push(last);
            }
        }
        Ok(Arc::new(Kept {
            batches,
            _memory: memory,
        }))
    }

    /// The places of a scan's columns in a pushed batch.
    fn places(&self, projection: &[usize]) -> Result<Vec<usize>> {
        let place = |column: &usize| {
            let place = self.columns.binary_search(column);
            place.map_err(|_| {
                internal_datafusion_err!(
                    "column {column} of the source is not among those that are read"
                )
            })
        };
        projection.iter().map(place).collect()
    }
}

/// One table of a query.
#[derive(Clone, Debug)]
pub(super) struct Table {
    name: String,
    schema: SchemaRef,
    rows: Rows,
}

impl Table {
    pub(super) fn new(name: &str, schema: SchemaRef, rows: Rows) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            rows,
        }
    }
}

#[async_trait::async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let schema: SchemaRef = self.schema.project(&projection)?.into();
        Ok(Arc::new(TableExec::new(
            self.name.clone(),
            schema,
            projection,
            self.rows.clone(),
        )))
    }
}

/// The leaf of a physical plan that returns a table's rows.
#[derive(Debug)]
pub(super) struct TableExec {
    name: String,
    projection: Vec<usize>,
    rows: Rows,
    properties: Arc<PlanProperties>,
}

impl TableExec {
    fn new(name: String, schema: SchemaRef, projection: Vec<usize>, rows: Rows) -> Self {
        Self {
            name,
            projection,
            rows,
            properties: incremental(schema, 1),
        }
    }

    /// The table's name in the query.
    pub(super) fn table_name(&self) -> &str {
        &self.name
    }

    /// Whether this is the stream.
    pub(super) fn is_source(&self) -> bool {
        matches!(self.rows, Rows::Stream(_))
    }
}

/// Properties of an operator that passes rows on as they come, in no reliable order.
pub(super) fn incremental(schema: SchemaRef, partitions: usize) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for TableExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "TableExec: {}, columns={:?}", self.name, self.projection)
    }
}

impl ExecutionPlan for TableExec {
    fn name(&self) -> &'static str {
        "TableExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        match &self.rows {
            Rows::Schema => internal_err!("table {} has no rows", self.name),
            Rows::Held(batch) => {
                let batch = batch.project(&self.projection)?;
                Ok(Box::pin(RecordBatchStreamAdapter::new(
                    schema,
                    stream::iter([Ok(batch)]),
                )))
            }
            Rows::Stream(feed) if feed.kept.is_some() => {
                kept_rows(feed, schema, &self.projection, context)
            }
            Rows::Stream(feed) => {
                let places = feed.places(&self.projection)?;
                let pushed = stream::unfold(feed.take()?, |mut receiver| async {
                    receiver.recv().await.map(|rows| (rows, receiver))
                });
                let rows = pushed.map(move |PushedRows { batch, .. }| Ok(batch.project(&places)?));
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
            }
        }
    }
}

/// All rows of the window, once they are complete; the first reader collects them for all.
fn kept_rows(
    feed: &Arc<Feed>,
    schema: SchemaRef,
    projection: &[usize],
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let places = feed.places(projection)?;
    let feed = Arc::clone(feed);
    let rows = async move {
        let cell = feed
            .kept
            .as_ref()
            .ok_or_else(|| internal_datafusion_err!("rows are not kept"))?;
        let kept = Arc::clone(cell.get_or_try_init(|| feed.keep(&context)).await?);
        let batches = kept.batches.clone().into_iter().map(move |batch| {
            let _counted_while_read = &kept;
            Ok(batch.project(&places)?)
        });
        Ok::<_, DataFusionError>(stream::iter(batches))
    };
    Ok(Box::pin(RecordBatchStreamAdapter::new(
        schema,
        stream::once(rows).try_flatten(),
    )))
}
