//! Resolves what a job file leaves open, once, at submit.
//!
//! Owns: columns, stream address, starting position, the check of the query against real columns.
//! Does not own: the job file's own rules (`proto::spec`), which lookup version a window takes.
//! Rule: all problems are found in one pass; a transient failure is not a problem but a reason to
//! retry.

pub mod explore;
pub mod foreign;
mod table;

use crate::aws::Aws;
use crate::catalog::{self, CatalogError, CatalogTable};
use crate::function::{self, LearnError};
use crate::lookup::{self, Listed, LookupError, rows};
use crate::query::{self, QueryError, QueryPlan, QueryText, RecordColumn};
use crate::sink::{self, NotMade, Place, layout};
use crate::source::connector;
use crate::storage::{StorageError, Storages};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use explore::explore;
use std::collections::BTreeMap;
use streamctl_proto::function_code::CodeDigest;
use streamctl_proto::resolved::{
    ColumnType, NestedColumns, RESOLVED_VERSION, RecordKeys, StreamAddress,
};
use streamctl_proto::spec::{LookupSpec, Part, Problem, Problems, SchemaFrom, StartingPosition};
use streamctl_proto::{JobSpec, JobVersion, Position, ResolvedJob};

/// Largest file in the form of a GetTable response.
pub const SCHEMA_FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Clone, Debug)]
pub struct World {
    pub aws: Aws,
    pub storages: Storages,
    /// Which addresses a job may name.
    pub foreign: foreign::ForeignRule,
    /// The code of the job's function, and what can call it.
    pub function: function::Given,
}

/// The job cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The user must fix something. Fields are named; lines are not known here.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// A service did not respond: the same job may be submitted again.
    #[error("{field}: {reason}")]
    Unavailable {
        /// The key that needed the service: `source.catalog`.
        field: String,
        reason: String,
    },
}

/// Resolves a job at `now_ms`. `spec_digest` is the SHA-256 of the job file's text.
///
/// # Errors
/// [`ResolveError::Unavailable`] if a service may respond later; else every problem that was found.
pub async fn resolve(
    world: &World,
    spec: JobSpec,
    spec_digest: String,
    now_ms: i64,
) -> Result<ResolvedJob, ResolveError> {
    explore(world, &spec, true)
        .await
        .job(spec, spec_digest, now_ms)
}

/// Makes what the job's sink lacks, such as a table, and pins it. Idempotent; for a submit that is
/// not a dry run.
///
/// # Errors
/// As for [`resolve`].
pub async fn make_sink(world: &World, job: &mut ResolvedJob) -> Result<(), ResolveError> {
    let result = output_schema(job).map_err(|error| {
        let message = format!("its columns cannot be read: {error}");
        Problems(vec![Problem::new(result_field(&job.spec), message, None)])
    })?;
    let place = Place {
        storages: &world.storages,
        foreign: &world.foreign,
        spec: &job.spec,
    };
    match layout(&job.spec.sink).make(place, &result).await {
        Ok(None) => Ok(()),
        Ok(Some(sink)) => {
            job.spec.sink = sink;
            Ok(())
        }
        Err(NotMade::Problems(problems)) => Err(Problems(problems).into()),
        Err(NotMade::Unavailable { field, reason }) => {
            Err(ResolveError::Unavailable { field, reason })
        }
    }
}

/// The problems of a job that its file alone shows; sends no requests.
pub fn check_text(spec: &JobSpec) -> Vec<Problem> {
    let lookups: Vec<&str> = spec
        .lookups
        .iter()
        .map(|lookup| lookup.name.as_str())
        .collect();
    let names = match query::check(QueryText::submitted(spec), &lookups) {
        Ok(Some(names)) => names,
        Ok(None) => return vec![],
        Err(error) => return vec![error.problem()],
    };
    if spec.function.is_some() {
        // The columns of the result are the function's.
        return vec![];
    }
    let mut log = Log::default();
    // Only names are checked: any text can name a folder.
    let text = names
        .into_iter()
        .map(|name| Field::new(name, DataType::Utf8, true));
    let text = SchemaRef::new(Schema::new(text.collect::<Vec<_>>()));
    log.problems(layout(&spec.sink).refused_names(&text));
    log.apart().0
}

/// What a submit keeps of a job's source.
struct Pinned {
    columns: Vec<ColumnType>,
    nested: NestedColumns,
    keys: RecordKeys,
    stream: Option<StreamAddress>,
    function_code: Option<CodeDigest>,
}

/// The job with the results of the requests.
fn pinned(
    spec: JobSpec,
    spec_digest: String,
    now_ms: i64,
    source: Pinned,
    plan: &QueryPlan,
    output: &SchemaRef,
    lookups: BTreeMap<String, SchemaRef>,
) -> Result<ResolvedJob, ResolveError> {
    let start = match spec.source.starting_position {
        StartingPosition::Latest => Position::Timestamp(now_ms),
        StartingPosition::TrimHorizon => Position::Start,
        StartingPosition::Timestamp(ms) => Position::Timestamp(ms),
    };
    let encoded = |schema: &SchemaRef| {
        encode_schema(schema).map_err(|error| {
            let message = format!("its columns cannot be written down: {error}");
            let hint = "give every column a type that Arrow's file form has".to_owned();
            Problems(vec![Problem::new(result_field(&spec), message, Some(hint))])
        })
    };
    let mut lookup_columns = BTreeMap::new();
    for (name, schema) in &lookups {
        lookup_columns.insert(name.clone(), encoded(schema)?);
    }
    Ok(ResolvedJob {
        version: RESOLVED_VERSION,
        spec_digest,
        job_version: JobVersion::FIRST,
        previous: None,
        changed_ms: 0,
        after_epoch: None,
        submitted_ms: now_ms,
        start,
        columns: source.columns,
        nested: source.nested,
        keys: source.keys,
        reads_partition_keys: plan.record_columns().contains(&RecordColumn::PartitionKey),
        stream: source.stream,
        stream_identity: None,
        whole_window: plan.whole_window() || needs_whole_window(&spec),
        query_digest: QueryText::stored(&spec).digest(),
        output_schema: encoded(output)?,
        lookup_columns,
        function_code: source.function_code,
        consumer: None,
        spec,
    })
}

/// Checks that the output locations of the job exist.
async fn check_places(world: &World, spec: &JobSpec, log: &mut Log) {
    for (key, error) in layout(&spec.sink).unreachable(&world.storages).await {
        let failure = Failure::of_storage(&format!("sink.{key}"), &error);
        log.failures.push(failure);
    }
    let dead = spec
        .dead_letter
        .as_ref()
        .map(|folder| ("dead_letter.path", folder));
    let places = [("checkpoint.location", &spec.checkpoint)];
    for (field, folder) in places.into_iter().chain(dead) {
        let checked = world
            .storages
            .for_location(folder.as_str())
            .check(folder)
            .await;
        log.ok(checked, |error| Failure::of_storage(field, &error));
    }
}

/// A schema as text: an Arrow IPC stream without batches, in base64.
fn encode_schema(schema: &SchemaRef) -> Result<String, ArrowError> {
    Ok(BASE64.encode(function::schema::encode(schema)?))
}

/// The columns of a job's result, as they were planned at submit.
///
/// # Errors
/// When the stored text is not a schema.
pub fn output_schema(job: &ResolvedJob) -> Result<SchemaRef, ArrowError> {
    decode_schema(&job.output_schema)
}

fn decode_schema(text: &str) -> Result<SchemaRef, ArrowError> {
    let bytes = BASE64
        .decode(text)
        .map_err(|error| ArrowError::ParseError(error.to_string()))?;
    function::schema::decode(&bytes)
}

/// The columns of a stored schema and their types, for users.
pub fn schema_text(stored: &str) -> String {
    let schema = decode_schema(stored).unwrap_or_else(|_| SchemaRef::new(Schema::empty()));
    let column = |field: &std::sync::Arc<Field>| format!("{} {}", field.name(), field.data_type());
    let columns: Vec<String> = schema.fields().iter().map(column).collect();
    columns.join(", ")
}

/// The columns of the job's lookups at submit. Every task plans with them, whatever version it
/// meets first. `None`: the job is of an earlier build that did not keep them.
pub fn lookup_columns(job: &ResolvedJob) -> Option<Vec<(String, SchemaRef)>> {
    let of = |spec: &LookupSpec| {
        let text = job.lookup_columns.get(&spec.name)?;
        Some((spec.name.clone(), decode_schema(text).ok()?))
    };
    job.spec.lookups.iter().map(of).collect()
}

/// Name and Arrow type of each column of a job's result, as its sink writes them.
pub fn output_columns(job: &ResolvedJob) -> Vec<(String, String)> {
    let schema = output_schema(job).unwrap_or_else(|_| SchemaRef::new(Schema::empty()));
    layout(&job.spec.sink)
        .form(&schema)
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().clone(), field.data_type().to_string()))
        .collect()
}

/// The plan of a resolved job's query, as workers make it. `lookups`: name and schema of each
/// lookup's rows.
///
/// # Errors
/// [`QueryError::Sql`] if the lookups' columns changed since submit so that the query no longer
/// fits them.
pub async fn plan_of(
    job: &ResolvedJob,
    lookups: Vec<(String, SchemaRef)>,
) -> Result<QueryPlan, QueryError> {
    let schema = catalog::arrow_schema(&job.columns, job.nested)
        .map_err(|error| QueryError::Plan(error.to_string()))?;
    QueryPlan::new(schema, lookups, QueryText::stored(&job.spec)).await
}

/// The plan of a job's query on its lookups in their current state, as text; `None` if it cannot be
/// made.
pub async fn plan_text(world: &World, job: &ResolvedJob) -> Option<String> {
    let lookups = match lookup_columns(job) {
        Some(lookups) => lookups,
        None => lookup_schemas(world, &job.spec.lookups, &mut Log::default()).await?,
    };
    plan_of(job, lookups).await.ok()?.describe().await.ok()
}

/// The failures so far.
#[derive(Default)]
struct Log {
    failures: Vec<Failure>,
}

enum Failure {
    Problem(Problem),
    Unavailable { field: String, reason: String },
}

impl Log {
    fn ok<T, E>(&mut self, result: Result<T, E>, failure: impl FnOnce(E) -> Failure) -> Option<T> {
        result
            .map_err(|error| self.failures.push(failure(error)))
            .ok()
    }

    fn problem(&mut self, field: &str, message: String, hint: Option<String>) {
        self.failures.push(Failure::problem(field, message, hint));
    }

    fn problems(&mut self, problems: Vec<Problem>) {
        self.failures
            .extend(problems.into_iter().map(Failure::Problem));
    }

    /// Takes what a sink was found with.
    fn found(&mut self, found: &mut sink::Found) {
        self.problems(std::mem::take(&mut found.problems));
        let unavailable = std::mem::take(&mut found.unavailable).into_iter();
        let unavailable = unavailable.map(|(field, reason)| Failure::Unavailable { field, reason });
        self.failures.extend(unavailable);
    }

    /// Splits the log: the problems that the user must fix, and the unavailable parts with their
    /// key and reason.
    fn apart(self) -> (Vec<Problem>, Vec<(String, String)>) {
        let mut problems = vec![];
        let mut unavailable = vec![];
        for failure in self.failures {
            match failure {
                Failure::Problem(problem) => problems.push(problem),
                Failure::Unavailable { field, reason } => unavailable.push((field, reason)),
            }
        }
        (problems, unavailable)
    }

    /// Marks everything logged since `from` as about one of several tables of one name.
    fn of_element(&mut self, from: usize, index: usize) {
        for failure in self.failures.iter_mut().skip(from) {
            if let Failure::Problem(problem) = failure {
                problem.part = Some(Part::Element(index));
            }
        }
    }
}

impl Failure {
    fn problem(field: &str, message: String, hint: Option<String>) -> Self {
        Self::Problem(Problem::new(field, message, hint))
    }

    fn of_catalog(field: &str, error: &CatalogError) -> Self {
        if error.retryable() {
            return Self::Unavailable {
                field: field.to_owned(),
                reason: error.to_string(),
            };
        }
        Self::problem(field, error.to_string(), error.hint())
    }

    fn of_storage(field: &str, error: &StorageError) -> Self {
        let hint = match error {
            StorageError::Unavailable { .. } => {
                return Self::Unavailable {
                    field: field.to_owned(),
                    reason: error.to_string(),
                };
            }
            StorageError::Refused { hint, .. } => Some(hint.clone()),
            StorageError::NotFound { .. } => Some("check bucket, path and region".to_owned()),
            StorageError::TooLarge { .. } | StorageError::StagedLost { .. } => None,
        };
        Self::problem(field, error.to_string(), hint)
    }

    fn of_query(error: &QueryError) -> Self {
        match error {
            QueryError::Busy => Self::Unavailable {
                field: "transform.sql".into(),
                reason: error.to_string(),
            },
            _ => Self::Problem(error.problem()),
        }
    }

    fn of_lookup(error: &LookupError) -> Self {
        match error {
            LookupError::Storage { source, .. } => Self::of_storage("lookup.path", source),
            _ if error.may_pass() => Self::Unavailable {
                field: "lookup.path".into(),
                reason: error.to_string(),
            },
            LookupError::TooLarge { .. } => {
                let hint = "raise size_max if the workers have the memory, or give the lookup fewer columns";
                Self::problem("lookup.size_max", error.to_string(), Some(hint.into()))
            }
            LookupError::Empty { .. } => {
                let hint = "write the lookup's files there, or fix its `path`";
                Self::problem("lookup.path", error.to_string(), Some(hint.into()))
            }
            _ => Self::problem("lookup.path", error.to_string(), None),
        }
    }
}

/// The key that defines the source of the columns.
fn schema_field(schema: &SchemaFrom) -> &'static str {
    match schema {
        SchemaFrom::Catalog { .. } => "source.catalog",
        SchemaFrom::File(_) => "source.schema_file",
        SchemaFrom::Inline(_) | SchemaFrom::BuiltIn => "source.schema",
    }
}

async fn source_table(world: &World, spec: &JobSpec, log: &mut Log) -> Option<CatalogTable> {
    let from = &spec.source.schema;
    let field = schema_field(from);
    let bare = |columns| Some(CatalogTable::of_columns(columns));
    match from {
        SchemaFrom::Catalog {
            catalog_id,
            database,
            table,
            region,
            role,
        } => {
            let found = catalog::get_table(
                &world.aws,
                catalog_id.as_deref(),
                database,
                table,
                region.as_deref(),
                role.as_ref(),
            )
            .await;
            log.ok(found, |error| Failure::of_catalog(field, &error))
        }
        SchemaFrom::File(path) => {
            let bytes = world
                .storages
                .for_location(path)
                .get(path, SCHEMA_FILE_BYTES_MAX)
                .await;
            let bytes = log.ok(bytes, |error| Failure::of_storage(field, &error))?;
            let parsed = catalog::parse_get_table(&String::from_utf8_lossy(&bytes));
            log.ok(parsed, |error| {
                Failure::problem(field, format!("{path}: {error}"), error.hint())
            })
        }
        SchemaFrom::Inline(columns) => bare(columns.clone()),
        SchemaFrom::BuiltIn => {
            let text = |name: &&str| ColumnType {
                name: (*name).into(),
                type_name: "string".into(),
            };
            let columns = spec.source.kind.own_columns().unwrap_or_default();
            bare(columns.iter().map(text).collect())
        }
    }
}

fn stream_address(
    spec: &JobSpec,
    table: Option<&CatalogTable>,
    log: &mut Log,
) -> Option<StreamAddress> {
    let kind = &spec.source.kind;
    let of_table = table.and_then(|table| table.stream.as_ref());
    let address = log.ok(connector(kind).address(of_table), Failure::Problem)?;
    // Without a table the stream is unknown, and the log already contains the failure.
    if kind.reads_stream() && address.is_none() && table.is_some() {
        let hint = "add stream = \"name\" or arn = \"...\" to [source]".to_owned();
        let message = "neither the job file nor the table names a Kinesis stream".to_owned();
        log.problem("source.stream", message, Some(hint));
    }
    address
}

/// Name and columns of every lookup; `None` if one of them is unavailable.
async fn lookup_schemas(
    world: &World,
    specs: &[LookupSpec],
    log: &mut Log,
) -> Option<Vec<(String, SchemaRef)>> {
    let mut schemas = Vec::with_capacity(specs.len());
    for spec in specs {
        let rows = lookup_rows(&world.storages, spec, log).await;
        schemas.extend(rows.map(|(_, rows)| (spec.name.clone(), rows.schema())));
    }
    (schemas.len() == specs.len()).then_some(schemas)
}

async fn lookup_rows(
    storages: &Storages,
    spec: &LookupSpec,
    log: &mut Log,
) -> Option<(Listed, RecordBatch)> {
    let listed = lookup::current_version(storages, spec).await;
    let listed = log.ok(listed, |error| Failure::of_lookup(&error))?;
    let mut files = Vec::with_capacity(listed.objects.len());
    let by_role = storages.as_role(spec.role.as_ref());
    for object in &listed.objects {
        let bytes = by_role
            .for_location(&object.location)
            .get(&object.location, object.size)
            .await;
        files.push((
            object.location.clone(),
            log.ok(bytes, |error| Failure::of_storage("lookup.path", &error))?,
        ));
    }
    let rows = log.ok(rows::read(spec, files).await, |error| {
        let hint = error.hint().map(str::to_owned);
        Failure::problem("lookup.path", error.to_string(), hint)
    })?;
    Some((listed, rows))
}

/// The column of arrival times must exist, or every record would get the time of its read.
fn check_arrival_time(spec: &JobSpec, columns: &[ColumnType], log: &mut Log) {
    let Some(name) = spec.source.kind.arrival_column() else {
        return;
    };
    if columns
        .iter()
        .any(|column| column.name.eq_ignore_ascii_case(name))
    {
        return;
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let hint = format!("the columns are: {}", names.join(", "));
    log.problem(
        "source.arrival_time",
        format!("the source has no column {name:?}"),
        Some(hint),
    );
}

/// The key that decides the columns of the result.
fn result_field(spec: &JobSpec) -> &'static str {
    match spec.function {
        Some(_) => "function",
        None => "transform.sql",
    }
}

/// Whether a call of the job's function takes all rows of a window.
fn needs_whole_window(spec: &JobSpec) -> bool {
    let function = spec.function.as_ref();
    function.is_some_and(|function| function.per.needs_whole_window())
}

/// The columns of the job's result: those of its function, if it has one.
async fn result_schema(
    world: &World,
    spec: &JobSpec,
    plan: &QueryPlan,
    lookups: &BTreeMap<String, SchemaRef>,
    log: &mut Log,
) -> Option<SchemaRef> {
    let Some(function) = &spec.function else {
        return Some(plan.output_schema().clone());
    };
    let result = function::result_schema(
        &world.function,
        spec,
        function,
        plan.output_schema(),
        lookups,
    )
    .await;
    log.ok(result, |error| match error {
        LearnError::Function { message, hint } => Failure::problem("function", message, hint),
        LearnError::Unavailable { reason } => Failure::Unavailable {
            field: "function".to_owned(),
            reason,
        },
    })
}

#[cfg(test)]
mod tests;
