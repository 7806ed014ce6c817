//! What can be said of a job file when not all of the world can be asked.
//!
//! Owns: asking on after a failure, and telling what could not be had. Does not own: any check
//! (`resolve`).
//! Rule: it asks what a submit asks, in the same words, and changes nothing.

use super::{
    Failure, Log, ResolveError, World, check_arrival_time, check_partitions, check_places,
    check_types, pinned, schema_field, source_table,
};
use super::{lookup_rows, stream_address};
use crate::catalog;
use crate::query::QueryPlan;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use streamctl_proto::resolved::{ColumnType, StreamAddress};
use streamctl_proto::spec::{Problem, Problems};
use streamctl_proto::{JobSpec, ResolvedJob};

/// What is known of a job: each part that could be had.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    pub columns: Option<Vec<ColumnType>>,
    /// For a Kinesis source: the stream.
    pub stream: Option<StreamAddress>,
    /// What each lookup is now, by name; those that could not be read are not here.
    pub lookups: BTreeMap<String, ExploredLookup>,
    /// The plan, where columns and lookups are known and the query is right.
    pub plan: Option<QueryPlan>,
    /// What the user must mend.
    pub problems: Vec<Problem>,
    /// What did not answer: the key it was asked for, and why.
    pub unavailable: Vec<(String, String)>,
}

/// A lookup as it is now.
#[derive(Clone, Debug)]
pub struct ExploredLookup {
    /// Files below its path, and their bytes.
    pub files: usize,
    pub bytes: u64,
    pub rows: RecordBatch,
}

impl Explored {
    /// The job as a submit at `now_ms` pins it. `spec_digest` is the SHA-256 of the job file's
    /// text.
    ///
    /// # Errors
    /// Every problem; where there is none, what did not answer.
    pub fn job(
        self,
        spec: JobSpec,
        spec_digest: String,
        now_ms: i64,
    ) -> Result<ResolvedJob, ResolveError> {
        // A problem stays one however often it is tried, so problems go before what may pass.
        if !self.problems.is_empty() {
            return Err(Problems(self.problems).into());
        }
        if let Some((field, reason)) = self.unavailable.into_iter().next() {
            return Err(ResolveError::Unavailable { field, reason });
        }
        let (Some(columns), Some(plan)) = (self.columns, self.plan) else {
            return Err(Problems(vec![Problem::new(
                "",
                "it cannot be planned, and nothing says why",
                None,
            )])
            .into());
        };
        pinned(spec, spec_digest, now_ms, columns, self.stream, &plan)
    }
}

/// Asks the world all that a submit asks. The written places are looked at only where `places` says
/// so.
pub async fn explore(world: &World, spec: &JobSpec, places: bool) -> Explored {
    let mut log = Log::default();
    let table = source_table(world, spec, &mut log).await;
    let schema = table.as_ref().and_then(|table| {
        let field = schema_field(&spec.source.schema);
        log.ok(catalog::arrow_schema(&table.columns), |error| {
            Failure::of_catalog(field, &error)
        })
    });
    let stream = stream_address(spec, table.as_ref(), &mut log);
    if let Some(table) = &table {
        check_arrival_time(spec, &table.columns, &mut log);
    }
    let mut lookups = BTreeMap::new();
    for (index, lookup) in spec.lookups.iter().enumerate() {
        let before = log.failures.len();
        if let Some((listed, rows)) = lookup_rows(&world.storages, lookup, &mut log).await {
            let explored = ExploredLookup {
                files: listed.objects.len(),
                bytes: listed.bytes,
                rows,
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
            log.ok(QueryPlan::new(schema, schemas, &spec.sql).await, |error| {
                Failure::of_query(&error)
            })
        }
    };
    if let Some(plan) = &plan {
        check_partitions(spec, plan.output_schema(), &mut log);
        check_types(spec, plan.output_schema(), &mut log);
    }
    if places {
        check_places(world, spec, &mut log).await;
    }
    let (problems, unavailable) = log.apart();
    Explored {
        columns: table.map(|table| table.columns),
        stream,
        lookups,
        plan,
        problems,
        unavailable,
    }
}
