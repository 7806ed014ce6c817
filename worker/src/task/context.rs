//! State that all windows of a task share: the job, its plan, its lookups' rows.
//!
//! Rule: a lookup version is loaded once per worker (`lookups`); a plan is made once per task.

use super::TaskError;
use crate::function::FunctionPool;
use crate::functions::{Functions, FunctionsError};
use crate::lookups::Table;
use crate::memory::{MemoryBudget, UnpackRoom};
use crate::source::Sources;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use streamctl_engine::catalog::arrow_schema;
use streamctl_engine::format::json::with_keys;
use streamctl_engine::format::{Decoded, Decoder};
use streamctl_engine::query::{QueryError, QueryPlan, QueryText};
use streamctl_engine::resolve::{lookup_columns, output_schema};
use streamctl_engine::source::Record;
use streamctl_engine::storage::Storages;
use streamctl_proto::{LookupVersion, ResolvedJob};
use tokio::sync::{Mutex, OnceCell};

/// Lookup versions kept in memory per lookup: the current and the previous one.
const VERSIONS_KEPT: usize = 2;

/// Lookup, version, rows; in loading order.
type Loaded = Vec<(String, LookupVersion, Arc<Table>)>;

/// State that all windows of a task share.
pub struct Context {
    pub job: ResolvedJob,
    pub storages: Storages,
    pub sources: Sources,
    /// The memory budget of the worker.
    pub budget: MemoryBudget,
    record_bytes: AtomicUsize,
    loaded: Mutex<Loaded>,
    plan: Mutex<Option<Arc<QueryPlan>>>,
    /// What this worker may run.
    functions: Functions,
    pool: OnceCell<Option<Arc<FunctionPool>>>,
}

pub struct DecodedNext {
    /// Number of records, from the first.
    pub count: usize,
    pub decoded: Decoded,
    /// Room of a payload that is large when unpacked: keep it until its row is with the query.
    pub room: Option<UnpackRoom>,
}

impl Context {
    pub fn new(
        job: ResolvedJob,
        storages: Storages,
        sources: Sources,
        budget: MemoryBudget,
        functions: Functions,
    ) -> Self {
        let record_bytes = AtomicUsize::new(0);
        Self {
            job,
            storages,
            sources,
            budget,
            record_bytes,
            loaded: Mutex::default(),
            plan: Mutex::default(),
            functions,
            pool: OnceCell::new(),
        }
    }

    /// The source's columns as Arrow types.
    pub fn source_schema(&self) -> Result<SchemaRef, TaskError> {
        Ok(arrow_schema(&self.job.columns, self.job.nested)?)
    }

    /// Decodes the job's records into these columns of its source.
    pub fn decoder(&self, schema: SchemaRef, columns: &[usize]) -> Result<Decoder, TaskError> {
        let spec = &self.job.spec.source;
        let source = &spec.kind;
        let schema = with_keys(schema, &self.job.keys);
        let names = self.job.columns.iter().map(|column| column.name.trim());
        let names: Vec<&str> = names.collect();
        let decoder = Decoder::named(&source.payload_format(), &schema, &names, columns)?;
        let decoder = decoder
            .with_values(&spec.values)
            .with_compression(source.payload_compression());
        Ok(decoder.with_unpacked_bytes(self.budget.decode_bytes()))
    }

    /// Decodes the first of these records, at least one. Waits for room for a payload that is large
    /// when unpacked.
    ///
    /// # Errors
    /// This worker can never have enough room for it.
    pub async fn decode_next(
        &self,
        decoder: &mut Decoder,
        records: &[Record],
        records_max: usize,
        bytes_max: usize,
    ) -> Result<DecodedNext, TaskError> {
        let (count, decoded) = decoder.decode_first(records, records_max, bytes_max);
        let Some(large) = records.first().filter(|_| count == 0) else {
            return Ok(DecodedNext {
                count,
                decoded,
                room: None,
            });
        };
        let room = self.budget.unpacking().await;
        let too_large = || TaskError::UnpackMemory {
            most: room.bytes(),
            limit: self.budget.limit(),
        };
        let decoded = decoder
            .decode_large(large, room.bytes())
            .ok_or_else(too_large)?;
        Ok(DecodedNext {
            count: 1,
            decoded,
            room: Some(room),
        })
    }

    /// The plan, and the lookups' rows of these versions.
    pub async fn plan(
        &self,
        versions: &BTreeMap<String, LookupVersion>,
    ) -> Result<(Arc<QueryPlan>, BTreeMap<String, RecordBatch>), TaskError> {
        let mut tables = BTreeMap::new();
        for (name, version) in versions {
            tables.insert(name.clone(), self.table(name, version).await?.rows.clone());
        }
        let mut plan = self.plan.lock().await;
        let made = match &*plan {
            Some(plan) => Arc::clone(plan),
            None => {
                // All tasks plan alike, whatever version each meets first.
                let met = || {
                    let schema =
                        |(name, rows): (&String, &RecordBatch)| (name.clone(), rows.schema());
                    tables.iter().map(schema).collect()
                };
                let schemas = lookup_columns(&self.job).unwrap_or_else(met);
                let text = QueryText::stored(&self.job.spec);
                Arc::new(QueryPlan::new(self.source_schema()?, schemas, text).await?)
            }
        };
        *plan = Some(Arc::clone(&made));
        Ok((made, tables))
    }

    /// The columns of the result, as they were fixed at submit.
    pub fn result_schema(&self, plan: &QueryPlan) -> Result<SchemaRef, TaskError> {
        match self.job.spec.function {
            None => Ok(plan.output_schema().clone()),
            Some(_) => {
                Ok(output_schema(&self.job)
                    .map_err(|error| QueryError::Input(error.to_string()))?)
            }
        }
    }

    /// Whether an epoch of the job gives the same rows each time.
    ///
    /// # Errors
    /// [`TaskError::NotRepeatable`]
    pub fn check_repeatable(&self) -> Result<(), TaskError> {
        match &self.job.spec.function {
            Some(function) if !function.deterministic => Err(TaskError::NotRepeatable),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this worker runs the job's function, if it has one: known before a record is read.
    ///
    /// # Errors
    /// [`FunctionsError::NotAllowed`]
    pub fn check_functions(&self) -> Result<(), TaskError> {
        match self.functions.can_run(&self.job) {
            true => Ok(()),
            false => Err(FunctionsError::NotAllowed.into()),
        }
    }

    /// The processes of the job's function; `None` if it has none.
    ///
    /// # Errors
    /// This worker cannot run it.
    pub async fn function_pool(&self) -> Result<Option<Arc<FunctionPool>>, FunctionsError> {
        let make = || self.functions.pool_of(&self.storages, &self.job);
        Ok(self.pool.get_or_try_init(make).await?.clone())
    }

    /// Notes the size of the largest new record; returns the largest so far.
    pub fn largest_record(&self, bytes: usize) -> usize {
        self.record_bytes
            .fetch_max(bytes, Ordering::Relaxed)
            .max(bytes)
    }

    async fn table(&self, name: &str, version: &LookupVersion) -> Result<Arc<Table>, TaskError> {
        let mut loaded = self.loaded.lock().await;
        if let Some((.., table)) = loaded
            .iter()
            .find(|(other, kept, _)| other == name && kept == version)
        {
            return Ok(Arc::clone(table));
        }
        let missing = || TaskError::Panicked(format!("the job has no lookup {name}"));
        let spec = self
            .job
            .spec
            .lookups
            .iter()
            .find(|spec| spec.name == name)
            .ok_or_else(missing)?;
        let mut others = loaded
            .iter()
            .enumerate()
            .filter(|(_, (other, ..))| other == name)
            .map(|(index, _)| index);
        let oldest = others.next();
        // Before the new one is loaded, so that both need not fit with it.
        if let Some(oldest) = oldest.filter(|_| others.count() + 1 >= VERSIONS_KEPT) {
            loaded.remove(oldest);
        }
        let table = self
            .budget
            .lookups()
            .get(&self.storages, &self.job, spec, version)
            .await?;
        loaded.push((name.to_owned(), version.clone(), Arc::clone(&table)));
        Ok(table)
    }
}
