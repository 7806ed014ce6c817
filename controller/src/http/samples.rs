//! Some rows and some dead letters of an epoch over HTTP.
//!
//! Owns: the paths' parameters, the form of a sample. Does not own: reading (`sample`).
//! Rule: the only paths of the API whose answers contain rows. They are read when a user requests
//! them, never by a page on its own.

use super::State as Shared;
use super::refused::Refused;
use crate::sample::{Kind, SAMPLE_ROWS_MAX, Sample, Wanted, word};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use streamctl_engine::security::gate::CallerToken;
use streamctl_proto::refusal::{CallRefusal, Reason};
use tonic::Status;

/// Rows if the request does not set a limit.
const ROWS_SHOWN: usize = 20;

type EpochPath = Result<Path<(String, u64)>, PathRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleQuery {
    limit: Option<usize>,
}

type SampleParameters = Result<Query<SampleQuery>, QueryRejection>;

pub async fn rows(
    state: State<Shared>,
    by: CallerToken,
    path: EpochPath,
    query: SampleParameters,
) -> Result<Json<Value>, Refused> {
    sampled(state, by, wanted(path, query, Kind::Rows)?).await
}

pub async fn dead_letters(
    state: State<Shared>,
    by: CallerToken,
    path: EpochPath,
    query: SampleParameters,
) -> Result<Json<Value>, Refused> {
    sampled(state, by, wanted(path, query, Kind::DeadLetters)?).await
}

fn wanted(path: EpochPath, query: SampleParameters, kind: Kind) -> Result<Wanted, Refused> {
    let Path((job, epoch)) = path.map_err(|rejected| no_epoch(rejected.body_text()))?;
    if epoch == 0 {
        return Err(no_epoch("there is no epoch 0".to_owned()));
    }
    let Query(SampleQuery { limit }) =
        query.map_err(|rejected| Refused::query(&rejected, "limit is a number of rows"))?;
    Ok(Wanted {
        job,
        epoch,
        kind,
        rows_max: limit.unwrap_or(ROWS_SHOWN).clamp(1, SAMPLE_ROWS_MAX),
    })
}

fn no_epoch(text: String) -> Refused {
    let refusal = CallRefusal::new(Reason::InvalidArgument, text);
    Refused(Status::from(refusal.hint("an epoch is a number from 1 on")))
}

async fn sampled(
    State(shared): State<Shared>,
    by: CallerToken,
    wanted: Wanted,
) -> Result<Json<Value>, Refused> {
    let sample = shared.sampler.sample(&by, &wanted).await?;
    Ok(Json(form(&wanted, &sample)))
}

fn form(wanted: &Wanted, sample: &Sample) -> Value {
    let columns = sample.table.columns.iter();
    let columns = columns.map(|column| json!({ "name": column.name, "type": column.data_type }));
    let origin = sample.origin.as_ref();
    json!({
        "job": wanted.job,
        "epoch": wanted.epoch,
        "columns": columns.collect::<Vec<_>>(),
        "rows": sample.table.rows,
        "rows_in_epoch": sample.total,
        "rows_from": origin.map(|origin| word(origin.rows_from)),
        "not_from_objects": origin.and_then(|origin| origin.not_from_objects.as_deref()),
        "problem": sample.problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::table::Table;
    use arrow::datatypes::{DataType, Field, Schema};
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;

    fn path(epoch: u64) -> EpochPath {
        Ok(Path(("sales".to_owned(), epoch)))
    }

    fn limit(limit: Option<usize>) -> SampleParameters {
        Ok(Query(SampleQuery { limit }))
    }

    #[test]
    fn the_number_of_rows_is_bounded_whatever_the_request_names() {
        let rows = |wanted_rows| {
            let wanted = wanted(path(1), limit(wanted_rows), Kind::Rows);
            wanted.map_err(|_| ()).unwrap().rows_max
        };
        assert_eq!(rows(None), ROWS_SHOWN);
        assert_eq!(rows(Some(0)), 1);
        assert_eq!(rows(Some(usize::MAX)), SAMPLE_ROWS_MAX);
        let refused = wanted(path(0), limit(None), Kind::Rows).err().unwrap();
        assert_eq!(refused.into_response().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let wanted = wanted(path(7), limit(None), Kind::DeadLetters);
        let wanted = wanted.map_err(|_| ()).unwrap();
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let sample = Sample {
            table: Table::new(&schema, 1),
            total: None,
            origin: None,
            problem: None,
        };
        let expected = json!({
            "job": "sales", "epoch": 7, "columns": [{"name": "n", "type": "Int64"}], "rows": [],
            "rows_in_epoch": null, "rows_from": null, "not_from_objects": null, "problem": null,
        });
        assert_eq!(form(&wanted, &sample), expected);
    }
}
