//! What all windows of a task share: the job, its plan, its lookups' rows.
//!
//! Rule: a lookup version is loaded once per task; a plan is made once per task.

use super::TaskError;
use crate::decode::Decoder;
use crate::source::Sources;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::catalog::arrow_schema;
use streamctl_engine::lookup;
use streamctl_engine::query::QueryPlan;
use streamctl_engine::storage::Storages;
use streamctl_proto::{LookupVersion, ResolvedJob};
use tokio::sync::Mutex;

/// Lookup versions kept in memory per lookup: the one in use and the one before.
const VERSIONS_KEPT: usize = 2;

/// What a task may use.
#[derive(Clone, Copy, Debug)]
pub struct TaskSettings {
    /// Memory of one window's query.
    pub query_bytes_max: usize,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self { query_bytes_max: 512 << 20 }
    }
}

/// Lookup, version, rows; in the order in which they were loaded.
type Loaded = Vec<(String, LookupVersion, RecordBatch)>;

/// What all windows of a task share.
pub struct Context {
    /// The job.
    pub job: ResolvedJob,
    /// Where objects are.
    pub storages: Storages,
    /// Where records are.
    pub sources: Sources,
    /// What a task may use.
    pub settings: TaskSettings,
    loaded: Mutex<Loaded>,
    plan: Mutex<Option<Arc<QueryPlan>>>,
}

impl Context {
    /// For one task.
    pub fn new(job: ResolvedJob, storages: Storages, sources: Sources, settings: TaskSettings) -> Self {
        Self { job, storages, sources, settings, loaded: Mutex::default(), plan: Mutex::default() }
    }

    /// The source's columns as Arrow types.
    pub fn source_schema(&self) -> Result<SchemaRef, TaskError> {
        Ok(arrow_schema(&self.job.columns)?)
    }

    /// Decodes the job's records into these columns of its source.
    pub fn decoder(&self, schema: SchemaRef, columns: &[usize]) -> Result<Decoder, TaskError> {
        Ok(Decoder::new(schema, columns)?.with_compression(self.job.spec.source.kind.payload_compression()))
    }

    /// The plan, and the lookups' rows of these versions.
    pub async fn plan(
        &self,
        versions: &BTreeMap<String, LookupVersion>,
    ) -> Result<(Arc<QueryPlan>, BTreeMap<String, RecordBatch>), TaskError> {
        let mut tables = BTreeMap::new();
        for (name, version) in versions {
            tables.insert(name.clone(), self.rows(name, version).await?);
        }
        let mut plan = self.plan.lock().await;
        let made = match &*plan {
            Some(plan) => Arc::clone(plan),
            None => {
                let schemas = tables.iter().map(|(name, rows)| (name.clone(), rows.schema())).collect();
                Arc::new(QueryPlan::new(self.source_schema()?, schemas, &self.job.spec.sql)?)
            }
        };
        *plan = Some(Arc::clone(&made));
        Ok((made, tables))
    }

    async fn rows(&self, name: &str, version: &LookupVersion) -> Result<RecordBatch, TaskError> {
        let mut loaded = self.loaded.lock().await;
        if let Some((.., rows)) = loaded.iter().find(|(other, kept, _)| other == name && kept == version) {
            return Ok(rows.clone());
        }
        let missing = || TaskError::Panicked(format!("the job has no lookup {name}"));
        let spec = self.job.spec.lookups.iter().find(|spec| spec.name == name).ok_or_else(missing)?;
        let (checkpoint, job) = (&self.job.spec.checkpoint, &self.job.spec.name);
        let files = lookup::fetch(&self.storages, checkpoint, job, name, version, spec.size_max).await?;
        let rows = lookup::rows::parse(spec, &files)?;
        let mut others = loaded.iter().enumerate().filter(|(_, (other, ..))| other == name).map(|(index, _)| index);
        let oldest = others.next();
        if let Some(oldest) = oldest.filter(|_| others.count() + 1 >= VERSIONS_KEPT) {
            loaded.remove(oldest);
        }
        loaded.push((name.to_owned(), version.clone(), rows.clone()));
        Ok(rows)
    }
}
