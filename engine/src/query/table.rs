//! The tables of a query: the stream's rows, and lookups.
//!
//! Owns: the provider of a table, and the leaf of the physical plan that returns its rows. Does not
//! own: the pusher of the rows (`open`).
//! Rule: the stream is read once. If a plan scans it more often, or its result depends on the order
//! of rows, it reads rows that are kept, within the memory limit, in an order that does not depend
//! on when they came.

use super::{KEPT_BATCH_ROWS, SOURCE};
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
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
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
    /// From the stream, the rows of one run of the plan.
    Run(Arc<RunRows>),
}

#[derive(Debug)]
pub(super) struct PushedRows {
    /// The shard of the batches, if rows are kept.
    pub shard: Option<String>,
    pub batches: Vec<RecordBatch>,
    /// Memory of the batches, until they are read.
    pub memory: Option<MemoryReservation>,
}

/// The rows that the next run of a plan reads in place of the stream.
#[derive(Debug)]
pub(super) struct RunRows {
    batch: Mutex<RecordBatch>,
    columns: Vec<usize>,
}

impl RunRows {
    /// `columns`: those of the source that a batch of `schema` carries, ascending.
    pub(super) fn new(schema: SchemaRef, columns: Vec<usize>) -> Self {
        Self {
            batch: Mutex::new(RecordBatch::new_empty(schema)),
            columns,
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .schema()
    }

    pub(super) fn clear(&self) {
        self.set(RecordBatch::new_empty(self.schema()));
    }

    pub(super) fn set(&self, batch: RecordBatch) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = batch;
    }

    fn projected(&self, projection: &[usize]) -> Result<RecordBatch> {
        let places = places(&self.columns, projection)?;
        let batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(batch.project(&places)?)
    }
}

/// The places of a scan's columns in a batch that carries these columns of the source.
fn places(columns: &[usize], projection: &[usize]) -> Result<Vec<usize>> {
    let place = |column: &usize| {
        let place = columns.binary_search(column);
        place.map_err(|_| {
            internal_datafusion_err!(
                "column {column} of the source is not among those that are read"
            )
        })
    };
    projection.iter().map(place).collect()
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
        while let Some(PushedRows { shard, batches, .. }) = receiver.recv().await {
            let of_shard = shards.entry(shard).or_default();
            for batch in batches {
                memory.try_grow(batch.get_array_memory_size())?;
                of_shard.push(batch);
            }
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
        places(&self.columns, projection)
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
    metrics: ExecutionPlanMetricsSet,
}

impl TableExec {
    fn new(name: String, schema: SchemaRef, projection: Vec<usize>, rows: Rows) -> Self {
        Self {
            name,
            projection,
            rows,
            properties: incremental(schema, 1),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The table's name in the query.
    pub(super) fn table_name(&self) -> &str {
        &self.name
    }

    /// Whether this is the stream.
    pub(super) fn is_source(&self) -> bool {
        matches!(self.rows, Rows::Stream(_) | Rows::Run(_))
    }

    /// The same scan of the stream, which reads the rows of one run.
    pub(super) fn of_run(&self, rows: Arc<RunRows>) -> Self {
        Self {
            name: self.name.clone(),
            projection: self.projection.clone(),
            rows: Rows::Run(rows),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Reads, in place of `replaced`, the rows that it has returned and that are pushed into `feed`.
    pub(super) fn after(replaced: &Arc<dyn ExecutionPlan>, feed: Feed) -> Self {
        Self {
            name: SOURCE.to_owned(),
            projection: feed.columns.clone(),
            rows: Rows::Stream(Arc::new(feed)),
            properties: Arc::clone(replaced.properties()),
            metrics: ExecutionPlanMetricsSet::new(),
        }
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

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            name: self.name.clone(),
            projection: self.projection.clone(),
            rows: self.rows.clone(),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let count = MetricBuilder::new(&self.metrics).output_rows(partition);
        let rows = self.stream(context)?;
        let counted = rows.inspect_ok(move |batch| count.add(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            counted,
        )))
    }
}

impl TableExec {
    fn stream(&self, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
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
                let rows = pushed.flat_map(move |PushedRows { batches, .. }| {
                    let places = places.clone();
                    let projected = move |batch: RecordBatch| Ok(batch.project(&places)?);
                    stream::iter(batches.into_iter().map(projected))
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
            }
            Rows::Run(rows) => {
                let batch = rows.projected(&self.projection)?;
                Ok(Box::pin(RecordBatchStreamAdapter::new(
                    schema,
                    stream::iter([Ok(batch)]),
                )))
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
