//! What a job would do, as far as it can be determined.
//!
//! Owns: the answer's parts. Does not own: any check (`JobSpec::parse`, `engine::resolve`), the plan
//! (`engine::query`), how it is shown (the clients).
//! Rule: nothing is started or written; what could not be determined is named, never guessed.

mod spread;
mod stored;

use crate::shards::{ShardLister, explore_all};
use arrow::datatypes::{DataType, FieldRef, Schema};
use streamctl_engine::query::{QueryPlan, RecordColumn};
use streamctl_engine::resolve::World;
use streamctl_engine::resolve::explore::{Explored, ExploredLookup};
use streamctl_engine::sink::layout;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{FunctionSpec, Problem, Problems, left_out, summary};
use streamctl_proto::{JobSpec, v1};

/// Explains a job. `text` is its job file: lines of problems and keys that it leaves out.
pub async fn explain(
    world: &World,
    lister: &dyn ShardLister,
    spec: &JobSpec,
    text: &str,
) -> v1::ExplainResponse {
    let (mut found, listing) = explore_all(world, lister, spec, true).await;
    let shards = listing.map(|listing| listing.shards.len());
    let plan = match &found.plan {
        Some(plan) => plan.describe().await.ok(),
        None => None,
    };
    found.problems = Problems(found.problems).located(text).0;
    let whole_window = found.plan.as_ref().map(QueryPlan::whole_window);
    let sink = found.sink.sink.as_ref().unwrap_or(&spec.sink);
    let table = found.sink.facts.iter();
    let table = table.map(|(what, value)| key_value((*what, value.clone())));
    v1::ExplainResponse {
        job: spec.name.to_string(),
        summary: summary::summary(spec),
        window_ms: spec.window.ms(),
        shards: shards.map(|shards| shards as u64),
        stream: found
            .stream
            .as_ref()
            .map(|stream| stream.arn.clone().unwrap_or_else(|| stream.name.clone())),
        region: found.stream.as_ref().and_then(|one| one.region.clone()),
        source_columns: source_columns(&found),
        record_columns: record_columns(&found),
        lookups: lookups(spec, &found),
        output_columns: found
            .result
            .as_ref()
            .map(|result| columns_of(layout(sink).form(result).schema())),
        whole_window: whole_window.map(|query| query || spread::takes_windows(spec)),
        function: spec.function.as_ref().map(|one| function(one, &found)),
        plan,
        spread: spread::text(spec, whole_window, shards),
        stored: stored::stored(spec, sink),
        table: table.collect(),
        defaults: left_out(text, spec).into_iter().map(key_value).collect(),
        problems: found.problems.iter().map(problem).collect(),
        not_asked: found
            .unavailable
            .into_iter()
            .map(|(field, reason)| v1::NotAsked { field, reason })
            .collect(),
        notes: found.notes,
    }
}

fn source_columns(found: &Explored) -> Option<v1::ExplainedColumns> {
    let columns = found.columns.as_ref()?;
    let plan = found.plan.as_ref();
    let column = |(index, column): (usize, &ColumnType)| v1::ExplainedColumn {
        name: column.name.clone(),
        r#type: column.type_name.clone(),
        key: found.keys.of_column(&column.name).map(str::to_owned),
        read: plan.map(|plan| plan.source_columns().contains(&index)),
    };
    Some(v1::ExplainedColumns {
        columns: columns.iter().enumerate().map(column).collect(),
    })
}

/// The columns that a query may name besides.
fn record_columns(found: &Explored) -> Option<v1::ExplainedColumns> {
    let plan = found.plan.as_ref()?;
    let own = found.columns.iter().flatten();
    let own: Vec<_> = own.map(|column| column.name.to_lowercase()).collect();
    let is_free = |column: &RecordColumn| !own.iter().any(|own| own == column.name());
    let column = |column: RecordColumn| v1::ExplainedColumn {
        name: column.name().to_owned(),
        r#type: match column.data_type() {
            DataType::Utf8 => "string".to_owned(),
            _ => "timestamp".to_owned(),
        },
        key: None,
        read: Some(plan.record_columns().contains(&column)),
    };
    let all = RecordColumn::ALL.into_iter().filter(is_free);
    Some(v1::ExplainedColumns {
        columns: all.map(column).collect(),
    })
}

fn columns_of(schema: &Schema) -> v1::ExplainedColumns {
    let column = |field: &FieldRef| v1::ExplainedColumn {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        key: None,
        read: None,
    };
    v1::ExplainedColumns {
        columns: schema.fields().iter().map(column).collect(),
    }
}

fn lookups(spec: &JobSpec, found: &Explored) -> Vec<v1::ExplainedLookup> {
    let lookup = |(name, found): (&String, &ExploredLookup)| {
        let of = spec.lookups.iter().find(|spec| spec.name == *name);
        v1::ExplainedLookup {
            name: name.clone(),
            rows: found.rows.num_rows() as u64,
            files: found.files as u64,
            bytes: found.bytes,
            columns: columns_of(&found.rows.schema()).columns,
            remarks: of.map(|spec| found.remarks(spec)).unwrap_or_default(),
        }
    };
    found.lookups.iter().map(lookup).collect()
}

fn function(function: &FunctionSpec, found: &Explored) -> v1::ExplainedFunction {
    let given = found.plan.as_ref().map(QueryPlan::output_schema);
    v1::ExplainedFunction {
        description: function.describe(),
        fields: function.fields().into_iter().map(key_value).collect(),
        given: given.map(|schema| columns_of(schema)),
        code: found.function_code.as_ref().map(ToString::to_string),
    }
}

fn key_value((key, value): (impl Into<String>, String)) -> v1::KeyValue {
    v1::KeyValue {
        key: key.into(),
        value,
    }
}

fn problem(problem: &Problem) -> v1::JobFileProblem {
    v1::JobFileProblem {
        line: problem.line.and_then(|line| u32::try_from(line).ok()),
        field: problem.field.clone(),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}
