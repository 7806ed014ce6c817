//! Samples of streams that are made here; the system tests read from workers.

use super::*;
use crate::admission::Admission;
use crate::history::History;
use crate::leading::{Leader, Leading};
use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use futures::stream;
use streamctl_engine::security::Security;
use streamctl_engine::storage::{MemoryStorage, Storages};
use tokio::sync::watch;
use tonic::Code;

fn batch(values: &[i64]) -> RecordBatch {
    let array = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_from_iter([("n", array as _)]).unwrap()
}

fn sample(rows_max: usize) -> Sample {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    Sample {
        table: Table::new(&schema, rows_max),
        total: None,
        origin: None,
        problem: None,
    }
}

/// As a worker sends rows: where they come from, then batches.
fn sent(
    batches: Vec<Result<RecordBatch, FlightError>>,
) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let metadata = PartMetadata {
        rows_from: RowsFrom::Objects,
        not_from_objects: None,
    };
    FlightDataEncoderBuilder::new()
        .with_metadata(serde_json::to_vec(&metadata).unwrap().into())
        .with_schema(batch(&[]).schema())
        .build(stream::iter(batches))
        .map_err(Status::from)
}

fn numbers(sample: &Sample) -> Vec<&str> {
    let rows = sample.table.rows.iter();
    rows.map(|row| row[0].as_deref().unwrap()).collect()
}

#[tokio::test]
async fn rows_are_taken_until_there_are_enough() {
    let mut sample = sample(3);
    let more = stream::pending::<Result<FlightData, Status>>();
    // The stream does not end: what is enough is not waited beyond.
    let messages = sent(vec![Ok(batch(&[1, 2])), Ok(batch(&[3, 4]))]).chain(more);
    take(messages, &mut sample).await.unwrap();
    assert_eq!(numbers(&sample), ["1", "2", "3"]);
    let origin = sample.origin.expect("the worker states it");
    assert_eq!(word(origin.rows_from), "objects");
}

#[tokio::test]
async fn rows_before_a_failure_stay() {
    let mut sample = sample(10);
    let gone = FlightError::Tonic(Box::new(Status::aborted("an object is gone")));
    let failed = take(sent(vec![Ok(batch(&[1])), Err(gone)]), &mut sample).await;
    let failed = failed.unwrap_err();
    assert_eq!(failed.message(), "an object is gone");
    let shown = sample.despite(failed.clone()).unwrap();
    assert_eq!(numbers(&shown), ["1"]);
    assert_eq!(shown.problem.as_deref(), Some("an object is gone"));
    let nothing = self::sample(10).despite(failed);
    assert_eq!(nothing.unwrap_err().message(), "an object is gone");
}

/// Without workers, of a controller that knows no leader.
fn sampler() -> Sampler {
    let (_, leading) = watch::channel(Leading::Elsewhere(None));
    let locations = FlightLocations {
        leader: Leader::new(leading),
        history: History::new(Storages::memory(MemoryStorage::default())),
        admission: Admission::new(&Security::default()),
    };
    let leader = LeaderConnection::new(Dialer::default(), false, None);
    Sampler::new(locations, leader, Dialer::default())
}

#[tokio::test(start_paused = true)]
async fn a_sample_waits_for_a_place_and_not_for_ever() {
    let sampler = sampler();
    let by = CallerToken::default();
    let all = u32::try_from(SAMPLES_AT_ONCE_MAX).unwrap();
    let others = Arc::clone(&sampler.places).acquire_many_owned(all).await;
    let began = Instant::now();
    let refused = sampler.sample(&by, &wanted(7)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(began.elapsed(), SAMPLE_TIMEOUT);
    drop(others);
    let refused = sampler.sample(&by, &wanted(7)).await.unwrap_err();
    let reason = CallRefusal::read(&refused).map(|refusal| refusal.reason);
    assert_eq!(reason, Some(Reason::NoLeader), "there is a place now");
}

fn wanted(epoch: u64) -> Wanted {
    Wanted {
        job: "sales".into(),
        epoch,
        kind: Kind::Rows,
        rows_max: 1,
    }
}

fn info(next_epoch: u64) -> FlightInfo {
    let metadata = EpochsMetadata {
        next_epoch,
        state: "running".into(),
        grant: None,
    };
    FlightInfo::new().with_app_metadata(serde_json::to_vec(&metadata).unwrap())
}

#[test]
fn an_epoch_that_the_answer_does_not_reach_is_not_published() {
    assert!(published(info(8), &wanted(7)).is_ok());
    let refused = published(info(7), &wanted(7)).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let (text, hint) = CallRefusal::text_of(&refused);
    assert_eq!(text, "epoch 7 of job sales is not published");
    assert!(hint.unwrap().contains("--committed"));
}

#[test]
fn a_worker_that_refuses_the_controller_does_not_refuse_the_reader() {
    let refused = Status::from(
        CallRefusal::new(Reason::Unauthenticated, "this grant has expired").hint("retry"),
    );
    let shown = worker_failed("grpc://w:7080", &refused);
    assert_eq!(shown.code(), Code::Unavailable);
    let (text, hint) = CallRefusal::text_of(&shown);
    assert_eq!(text, "worker at grpc://w:7080: this grant has expired");
    assert_eq!(hint.as_deref(), Some("retry"));
}

#[tokio::test]
async fn a_worker_that_is_gone_is_named_after_all_its_locations() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let endpoint = FlightEndpoint::new().with_location(format!("grpc://{address}"));
    let mut sample = sample(1);
    let failed = read_part(&Dialer::default(), &endpoint, &mut sample).await;
    let text = failed.unwrap_err().message().to_owned();
    assert!(
        text.starts_with(&format!("worker at grpc://{address}: ")),
        "{text}"
    );
    let nowhere = read_part(&Dialer::default(), &FlightEndpoint::new(), &mut sample).await;
    assert_eq!(nowhere.unwrap_err().code(), Code::Unavailable);
}
