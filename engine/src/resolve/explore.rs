//! Explores a job file when parts of the outside world are unavailable.
//!
//! Owns: continuing after a failure, reporting what was not available. Does not own: any check
//! (`resolve`).
//! Rule: it sends the same requests as a submit, reports with the same texts, and changes nothing.

use super::{
    Failure, Log, Pinned, ResolveError, World, check_arrival_time, check_places, pinned,
    result_field, result_schema, schema_field, source_table, table,
};
use super::{lookup_rows, stream_address};
use crate::catalog::{self, Asked};
use crate::lookup::{rows, trial};
use crate::query::{QueryPlan, QueryText};
use crate::sink::{self, Place, layout};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use streamctl_proto::function_code::{CodeDigest, FunctionCode};
use streamctl_proto::resolved::{ColumnType, NestedColumns, RecordKeys, StreamAddress};
use streamctl_proto::spec::{LookupSpec, Problem, Problems};
use streamctl_proto::{Duplicates, JobSpec, ResolvedJob};

/// What is known of a job: each part that was available.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    pub columns: Option<Vec<ColumnType>>,
    /// What those of nested types are.
    pub nested: NestedColumns,
    /// Which keys of a record hold them.
    pub keys: RecordKeys,
    /// For a Kinesis source: the stream.
    pub stream: Option<StreamAddress>,
    /// The current state of each lookup, by name; those that could not be read are missing.
    pub lookups: BTreeMap<String, ExploredLookup>,
    /// The plan, if columns and lookups are known and the query is valid.
    pub plan: Option<QueryPlan>,
    /// The columns of the result, if the plan and the function, if there is one, are known.
    pub result: Option<SchemaRef>,
    /// The code of the job's function.
    pub function_code: Option<CodeDigest>,
    /// What is known of the place where the rows go.
    pub sink: sink::Found,
    /// What is right, but may not be expected.
    pub notes: Vec<String>,
    /// The problems that the user must fix.
    pub problems: Vec<Problem>,
    /// Unavailable parts: the key that needed them, and the reason.
    pub unavailable: Vec<(String, String)>,
}

/// A lookup in its current state.
#[derive(Clone, Debug)]
pub struct ExploredLookup {
    /// Files below its path, and their bytes.
    pub files: usize,
    pub bytes: u64,
    pub rows: RecordBatch,
    /// Keys that more than one row has, of the query's joins.
    pub duplicates: Duplicates,
}

impl ExploredLookup {
    /// What the user should know about its rows.
    pub fn remarks(&self, spec: &LookupSpec) -> Vec<String> {
        let mut remarks = rows::remarks(spec, &self.rows);
        remarks.extend(self.duplicates.text());
        remarks
    }
}

impl Explored {
    /// The job as a submit at `now_ms` pins it. `spec_digest` is the SHA-256 of the job file's
    /// text.
    ///
    /// # Errors
    /// Every problem; if there is none, the unavailable parts.
    pub fn job(
        self,
        mut spec: JobSpec,
        spec_digest: String,
        now_ms: i64,
    ) -> Result<ResolvedJob, ResolveError> {
        // A problem remains however often the job is retried, so problems come before transient
        // failures.
        if !self.problems.is_empty() {
            return Err(Problems(self.problems).into());
        }
        if let Some((field, reason)) = self.unavailable.into_iter().next() {
            return Err(ResolveError::Unavailable { field, reason });
        }
        let (Some(columns), Some(plan), Some(result)) = (self.columns, self.plan, self.result)
        else {
            return Err(Problems(vec![Problem::new(
                "",
                "it cannot be planned, and nothing says why",
                None,
            )])
            .into());
        };
        if let Some(sink) = self.sink.sink {
            spec.sink = sink;
        }
        let lookups = self.lookups.iter();
        let lookups = lookups
            .map(|(name, lookup)| (name.clone(), lookup.rows.schema()))
            .collect();
        let source = Pinned {
            columns,
            nested: self.nested,
            keys: self.keys,
            stream: self.stream,
            function_code: self.function_code,
        };
        pinned(spec, spec_digest, now_ms, source, &plan, &result, lookups)
    }

    /// What the user should know and need not fix, each with its lookup's name.
    pub fn remarks(&self, spec: &JobSpec) -> Vec<String> {
        let of = |lookup: &LookupSpec| -> Vec<String> {
            let found = self.lookups.get(&lookup.name);
            let remarks = found.map(|found| found.remarks(lookup)).unwrap_or_default();
            let named = |remark| format!("lookup {}: {remark}", lookup.name);
            remarks.into_iter().map(named).collect()
        };
        spec.lookups.iter().flat_map(of).collect()
    }
}

/// Runs the query on each lookup's rows alone, as it is done with every later version.
async fn try_lookups(
    spec: &JobSpec,
    plan: &QueryPlan,
    lookups: &mut BTreeMap<String, ExploredLookup>,
    log: &mut Log,
) {
    for (index, lookup) in spec.lookups.iter().enumerate() {
        let Some(found) = lookups.get_mut(&lookup.name) else {
            continue;
        };
        let before = log.failures.len();
        match trial::run(plan, &lookup.name, &found.rows).await {
            Ok(duplicates) => found.duplicates = duplicates,
            Err(reason) => {
                let message = format!("the query cannot run on it: {reason}");
                let hint = "fix the value in its files, or cast it with TRY_CAST in the query";
                log.problem("lookup.path", message, Some(hint.to_owned()));
            }
        }
        log.of_element(before, index);
    }
}

/// Sends all requests that a submit sends. Checks the output locations only if `places` is true.
pub async fn explore(world: &World, spec: &JobSpec, places: bool) -> Explored {
    let roles = world.foreign.check_roles(spec);
    if !roles.is_empty() {
        // No request is sent by a role that the caller may not name.
        return Explored {
            problems: roles,
            ..Explored::default()
        };
    }
    let mut log = Log::default();
    let table = source_table(world, spec, &mut log).await;
    let nested = table.as_ref().map_or(NestedColumns::Text, |table| {
        table::nested_columns(spec, &table.columns)
    });
    let schema = table.as_ref().and_then(|table| {
        let field = schema_field(&spec.source.schema);
        log.ok(catalog::arrow_schema(&table.columns, nested), |error| {
            Failure::of_catalog(field, &error)
        })
    });
    let stream = stream_address(spec, table.as_ref(), &mut log);
    let mut asked = Asked::default();
    if let Some(table) = &table {
        check_arrival_time(spec, &table.columns, &mut log);
        asked = table::asked(spec, table, &mut log);
    }
    let mut lookups = BTreeMap::new();
    for (index, lookup) in spec.lookups.iter().enumerate() {
        let before = log.failures.len();
        if let Some((listed, rows)) = lookup_rows(&world.storages, lookup, &mut log).await {
            let explored = ExploredLookup {
                files: listed.objects.len(),
                bytes: listed.bytes,
                rows,
                duplicates: Duplicates::default(),
            };
            lookups.insert(lookup.name.clone(), explored);
        }
        log.of_element(before, index);
    }
    let all = lookups.len() == spec.lookups.len();
    let plan = match schema.filter(|_| all) {
        None => None,
        Some(schema) => {
            let schemas = lookups
                .iter()
                .map(|(name, lookup)| (name.clone(), lookup.rows.schema()))
                .collect();
            let keys = table
                .as_ref()
                .map_or(&[][..], |table| &table.partition_keys);
            let planned = table::plan(schema, schemas, QueryText::submitted(spec), keys).await;
            log.ok(planned, |failure| failure)
        }
    };
    let mut result = None;
    if let Some(plan) = &plan {
        try_lookups(spec, plan, &mut lookups, &mut log).await;
        let schema =
            |(name, found): (&String, &ExploredLookup)| (name.clone(), found.rows.schema());
        let columns = lookups.iter().map(schema).collect();
        result = result_schema(world, spec, plan, &columns, &mut log).await;
    }
    let mut found = sink::Found::default();
    if let Some(result) = &result {
        let layout = layout(&spec.sink);
        let mut names = layout.refused_names(result);
        for problem in &mut names {
            if problem.field == "transform.sql" {
                problem.field = result_field(spec).to_owned();
            }
        }
        let types = layout.refused_types(result);
        if names.is_empty() && types.is_empty() {
            let place = Place {
                storages: &world.storages,
                foreign: &world.foreign,
                spec,
            };
            found = layout.find(place, result).await;
        }
        log.problems(names);
        log.problems(types);
        log.found(&mut found);
    }
    if places {
        check_places(world, spec, &mut log).await;
    }
    let (problems, unavailable) = log.apart();
    let code = spec.function.as_ref().and(world.function.code.as_ref());
    Explored {
        columns: table.map(|table| table.columns),
        nested,
        keys: asked.keys,
        notes: asked.notes,
        stream,
        lookups,
        plan,
        result,
        sink: found,
        function_code: code.map(FunctionCode::digest),
        problems,
        unavailable,
    }
}
