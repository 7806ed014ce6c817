//! `DoGet` against a controller that the test plays, over a real connection.

use super::*;
use crate::memory::MemoryBudget;
use crate::replay::tests::{manifest, texts};
use crate::results::Results;
use crate::source::Sources;
use crate::task::tests::{Bed, job, reports, shard};
use arrow_flight::decode::FlightRecordBatchStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::security::grant::Granter;
use streamctl_engine::source::memory::MemorySource;
use streamctl_proto::MESSAGE_BYTES_MAX;
use streamctl_proto::flight::TICKET_BYTES_MAX;
use streamctl_proto::manifest::ManifestObject;
use streamctl_proto::spec::{FilesSink, PartitionColumn, SinkFormat, SinkTypes};
use streamctl_proto::v1::jobs_server::{Jobs, JobsServer};
use streamctl_proto::verify::EpochOutcome;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// A leader that knows one epoch.
struct Controller(v1::GetEpochResponse);

fn unknown<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not in this fake"))
}

#[tonic::async_trait]
impl Jobs for Controller {
    type WatchJobStream = BoxStream<'static, Result<v1::JobStatus, Status>>;
    type VerifyStream = BoxStream<'static, Result<v1::VerifyEvent, Status>>;
    type RepairJobStream = BoxStream<'static, Result<v1::RepairEvent, Status>>;

    async fn get_epoch(
        &self,
        request: Request<v1::GetEpochRequest>,
    ) -> Result<Response<v1::GetEpochResponse>, Status> {
        if request.into_inner().epoch == 1 {
            Ok(Response::new(self.0.clone()))
        } else {
            Err(Status::not_found("epoch"))
        }
    }
    async fn submit(
        &self,
        _: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        unknown()
    }
    async fn diff(
        &self,
        _: Request<v1::DiffRequest>,
    ) -> Result<Response<v1::DiffResponse>, Status> {
        unknown()
    }
    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        unknown()
    }
    async fn preview(
        &self,
        _: Request<v1::PreviewRequest>,
    ) -> Result<Response<v1::PreviewResponse>, Status> {
        unknown()
    }
    async fn get_job(
        &self,
        _: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::JobStatus>, Status> {
        unknown()
    }
    async fn get_job_spec(
        &self,
        _: Request<v1::GetJobSpecRequest>,
    ) -> Result<Response<v1::GetJobSpecResponse>, Status> {
        unknown()
    }
    async fn list_job_versions(
        &self,
        _: Request<v1::ListJobVersionsRequest>,
    ) -> Result<Response<v1::ListJobVersionsResponse>, Status> {
        unknown()
    }
    async fn compare_job_versions(
        &self,
        _: Request<v1::CompareJobVersionsRequest>,
    ) -> Result<Response<v1::CompareJobVersionsResponse>, Status> {
        unknown()
    }
    async fn get_job_profile(
        &self,
        _: Request<v1::GetJobProfileRequest>,
    ) -> Result<Response<v1::JobProfile>, Status> {
        unknown()
    }
    async fn get_job_history(
        &self,
        _: Request<v1::GetJobHistoryRequest>,
    ) -> Result<Response<v1::JobHistory>, Status> {
        unknown()
    }
    async fn get_worker(
        &self,
        _: Request<v1::GetWorkerRequest>,
    ) -> Result<Response<v1::WorkerDetails>, Status> {
        unknown()
    }
    async fn watch_job(
        &self,
        _: Request<v1::GetJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        unknown()
    }
    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        unknown()
    }
    async fn stop_job(
        &self,
        _: Request<v1::StopJobRequest>,
    ) -> Result<Response<v1::JobStatus>, Status> {
        unknown()
    }
    async fn delete_job(
        &self,
        _: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        unknown()
    }
    async fn repair_job(
        &self,
        _: Request<v1::RepairJobRequest>,
    ) -> Result<Response<Self::RepairJobStream>, Status> {
        unknown()
    }
    async fn list_epochs(
        &self,
        _: Request<v1::ListEpochsRequest>,
    ) -> Result<Response<v1::ListEpochsResponse>, Status> {
        unknown()
    }
    async fn replay_dead_letters(
        &self,
        _: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        unknown()
    }
    async fn verify(
        &self,
        _: Request<v1::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        unknown()
    }
    async fn get_scaling(
        &self,
        _: Request<v1::GetScalingRequest>,
    ) -> Result<Response<v1::ScalingStatus>, Status> {
        unknown()
    }
    async fn list_waits(
        &self,
        _: Request<v1::ListWaitsRequest>,
    ) -> Result<Response<v1::ListWaitsResponse>, Status> {
        unknown()
    }
    async fn list_events(
        &self,
        _: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        unknown()
    }
    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        unknown()
    }
}

async fn serve(response: v1::GetEpochResponse) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server =
        tonic::transport::Server::builder().add_service(JobsServer::new(Controller(response)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// A worker that has these results and reads this source; the first controller does not exist.
fn rows(bed: &Bed, results: Arc<Results>, source: MemorySource, controller: &str) -> FlightRows {
    let storages = bed.storages();
    let sources =
        Sources::new(Aws::new(AwsSettings::default()), storages.clone()).with_memory(source);
    let network = tokio::runtime::Handle::current();
    let budget = MemoryBudget::default();
    let compute = network.clone().into();
    let settings = Settings {
        worker: "w".into(),
        flight_address: "here:1".into(),
        controllers: vec![controller.to_owned(), "http://127.0.0.1:1".to_owned()],
        protection: Default::default(),
    };
    let world = World {
        storages,
        sources,
        results,
        budget,
        compute,
        network,
        meter: Default::default(),
        functions: Default::default(),
    };
    FlightRows::new(settings, world)
}

async fn get(rows: &FlightRows, ticket: impl Into<bytes::Bytes>) -> Result<Vec<RecordBatch>, Code> {
    let given = rows
        .do_get(Request::new(Ticket {
            ticket: ticket.into(),
        }))
        .await
        .map_err(|status| status.code())?;
    let data = given
        .into_inner()
        .map_err(|status| FlightError::Tonic(Box::new(status)));
    let decoded: Result<Vec<_>, _> = FlightRecordBatchStream::new_from_flight_data(data)
        .try_collect()
        .await;
    decoded.map_err(|error| match error {
        FlightError::Tonic(status) => status.code(),
        _ => Code::Unknown,
    })
}

#[tokio::test]
async fn rows_from_memory_and_by_replay_are_the_same_and_what_is_gone_is_data_loss() {
    let mut bed = Bed::new(job("SELECT id, k FROM source WHERE id <> 1"));
    bed.push("a", 0, &[10, 20, 30]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let manifest_json = serde_json::to_string(&manifest(&report)).unwrap();
    let job_json = serde_json::to_string(&bed.job).unwrap();
    let controller = serve(v1::GetEpochResponse {
        manifest_json,
        job_json,
    })
    .await;
    let ticket = |epoch, task| {
        serde_json::to_vec(&PartTicket {
            job: report.job.clone(),
            epoch,
            task: Some(task),
            dead_letters: false,
            reread: false,
        })
        .unwrap()
    };
    let kept = rows(
        &bed,
        Arc::clone(&bed.results),
        MemorySource::default(),
        &controller,
    );
    let live = texts(&get(&kept, ticket(1, report.task)).await.unwrap());
    assert_eq!(live.len(), 2);
    let forgotten = rows(&bed, Arc::default(), bed.source.clone(), &controller);
    assert_eq!(
        texts(&get(&forgotten, ticket(1, report.task)).await.unwrap()),
        live
    );
    assert_eq!(
        get(&forgotten, ticket(2, report.task)).await.unwrap_err(),
        Code::NotFound
    );
    let other = TaskId {
        counter: 99,
        ..report.task
    };
    assert_eq!(
        get(&forgotten, ticket(1, other)).await.unwrap_err(),
        Code::NotFound
    );
    let empty = MemorySource::default();
    empty.close(&shard("a"), vec![]);
    let gone = rows(&bed, Arc::default(), empty, &controller);
    assert_eq!(
        get(&gone, ticket(1, report.task)).await.unwrap_err(),
        Code::DataLoss
    );
}

/// An answer's rows with the metadata in front of them.
async fn get_from(
    rows: &FlightRows,
    ticket: &PartTicket,
) -> Result<(PartMetadata, RecordBatch), Status> {
    let ticket = Ticket::new(serde_json::to_vec(ticket).unwrap());
    let given = rows.do_get(Request::new(ticket)).await?;
    let data: Vec<FlightData> = given.into_inner().try_collect().await?;
    let metadata = serde_json::from_slice(&data[0].app_metadata).unwrap();
    let data = futures::stream::iter(data.into_iter().map(Ok));
    let mut stream = FlightRecordBatchStream::new_from_flight_data(data);
    let mut batches = vec![];
    while let Some(batch) = stream.try_next().await.unwrap() {
        batches.push(batch);
    }
    let schema = stream.schema().unwrap();
    let all = arrow::compute::concat_batches(schema, &batches).unwrap();
    Ok((metadata, all))
}

/// A job that partitions by a column, in a format.
fn partitioned(format: SinkFormat) -> ResolvedJob {
    let mut job = job("SELECT id, id * 0.5 AS half, k FROM source WHERE id <> 1");
    job.spec.sink = FilesSink {
        format,
        types: SinkTypes::Hive,
        partition_by: vec![
            PartitionColumn::IngestDay,
            PartitionColumn::Column("k".into()),
        ],
        ..crate::task::tests::sink()
    }
    .into();
    job
}

#[tokio::test]
async fn rows_that_left_memory_come_from_the_published_objects_and_outlive_the_source() {
    for format in [SinkFormat::Parquet, SinkFormat::Json, SinkFormat::Csv] {
        let mut bed = Bed::new(partitioned(format));
        bed.push("a", 0, &[10; 20]);
        bed.source.close(&shard("a"), vec![]);
        bed.start(&["a"]);
        let report = reports(&bed.finish().await).remove(0);
        let kept = bed
            .results
            .get(&report.job, report.window, report.task)
            .unwrap();
        let schema = streamctl_engine::function::schema::encode(&kept.schema).unwrap();
        bed.job.output_schema = STANDARD.encode(schema);
        let committed = bed.publish(&report).await;
        let controller = serve(v1::GetEpochResponse {
            manifest_json: serde_json::to_string(&committed).unwrap(),
            job_json: serde_json::to_string(&bed.job).unwrap(),
        })
        .await;
        let ticket = PartTicket {
            job: report.job.clone(),
            epoch: 1,
            task: Some(report.task),
            dead_letters: false,
            reread: false,
        };
        let empty = MemorySource::default();
        empty.close(&shard("a"), vec![]);
        let live = rows(&bed, Arc::clone(&bed.results), empty.clone(), &controller);
        let (metadata, in_memory) = get_from(&live, &ticket).await.unwrap();
        assert_eq!(
            (metadata.rows_from, in_memory.num_rows()),
            (RowsFrom::Memory, 19)
        );

        let later = rows(&bed, Arc::default(), empty, &controller);
        let (metadata, published) = get_from(&later, &ticket).await.unwrap();
        assert_eq!(metadata.rows_from, RowsFrom::Objects, "{metadata:?}");
        assert_eq!(published.schema(), in_memory.schema());
        assert_eq!(by_id(&published), by_id(&in_memory), "{format:?}");
        let again = PartTicket {
            reread: true,
            ..ticket.clone()
        };
        let gone = get_from(&later, &again).await.unwrap_err();
        assert_eq!(gone.code(), Code::DataLoss, "the source keeps nothing");

        let location = &committed.objects[0].staged.location;
        let size = usize::try_from(committed.objects[0].staged.size).unwrap();
        bed.storage.delete(location);
        bed.storage.put(location, vec![0; size]);
        let changed = get_from(&later, &ticket).await.unwrap_err();
        assert_eq!(changed.code(), Code::DataLoss, "{changed}");
        bed.storage.delete(location);
        let lost = get_from(&later, &ticket).await.unwrap_err();
        assert!(
            lost.message()
                .contains("its published objects do not give these rows")
                && lost.message().contains(location),
            "{lost}"
        );
    }
}

fn by_id(rows: &RecordBatch) -> RecordBatch {
    let order = arrow::compute::sort_to_indices(rows.column(0), None, None).unwrap();
    arrow::compute::take_record_batch(rows, &order).unwrap()
}

#[tokio::test]
async fn rows_of_a_task_that_is_not_in_the_epoch_are_not_given_though_they_are_kept() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 20]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    assert!(
        bed.results
            .get(&report.job, report.window, report.task)
            .is_some(),
        "they are kept"
    );
    let mut committed = manifest(&report);
    for part in &mut committed.parts {
        part.task = TaskId {
            counter: report.task.counter + 1,
            ..report.task
        };
    }
    let manifest_json = serde_json::to_string(&committed).unwrap();
    let job_json = serde_json::to_string(&bed.job).unwrap();
    let controller = serve(v1::GetEpochResponse {
        manifest_json,
        job_json,
    })
    .await;
    let rows = rows(
        &bed,
        Arc::clone(&bed.results),
        bed.source.clone(),
        &controller,
    );
    let ticket = PartTicket {
        job: report.job.clone(),
        epoch: 1,
        task: Some(report.task),
        dead_letters: false,
        reread: false,
    };
    let response = get(&rows, serde_json::to_vec(&ticket).unwrap()).await;
    assert_eq!(response.unwrap_err(), Code::NotFound);
}

#[tokio::test]
async fn an_epoch_whose_manifest_is_larger_than_a_message_is_read() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 20]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let mut committed = manifest(&report);
    let object = ManifestObject {
        task: report.task,
        staged: report.objects[0].clone(),
    };
    let each = serde_json::to_vec(&object).unwrap().len();
    committed.objects = vec![object; MESSAGE_BYTES_MAX / each + 1];
    let manifest_json = serde_json::to_string(&committed).unwrap();
    let job_json = serde_json::to_string(&bed.job).unwrap();
    assert!(manifest_json.len() > MESSAGE_BYTES_MAX);
    let controller = serve(v1::GetEpochResponse {
        manifest_json,
        job_json,
    })
    .await;
    let rows = rows(
        &bed,
        Arc::clone(&bed.results),
        bed.source.clone(),
        &controller,
    );
    let ticket = PartTicket {
        job: report.job.clone(),
        epoch: 1,
        task: Some(report.task),
        dead_letters: false,
        reread: false,
    };
    let batches = get(&rows, serde_json::to_vec(&ticket).unwrap())
        .await
        .unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

async fn act(rows: &FlightRows, action: &str, body: &str) -> Result<EpochOutcome, Code> {
    let action = Action {
        r#type: action.to_owned(),
        body: body.to_owned().into(),
    };
    let response = rows
        .do_action(Request::new(action))
        .await
        .map_err(|status| status.code())?;
    let results: Vec<_> = response
        .into_inner()
        .try_collect()
        .await
        .map_err(|status| status.code())?;
    assert_eq!(results.len(), 1);
    Ok(serde_json::from_slice(&results[0].body).unwrap())
}

#[tokio::test]
async fn an_epoch_is_verified_on_request() {
    let mut bed = Bed::new(job("SELECT id, k FROM source WHERE id <> 1"));
    bed.push("a", 0, &[10, 20, 30]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let manifest_json = serde_json::to_string(&manifest(&report)).unwrap();
    let job_json = serde_json::to_string(&bed.job).unwrap();
    let controller = serve(v1::GetEpochResponse {
        manifest_json,
        job_json,
    })
    .await;
    let rows = rows(&bed, Arc::default(), bed.source.clone(), &controller);
    let body = r#"{"job":"sales","epoch":1}"#;
    let EpochOutcome::Compared { rows: compared, .. } =
        act(&rows, VERIFY_ACTION, body).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (compared.replayed, compared.stored),
        (2, 0),
        "the manifest of this test names no object"
    );
    assert_eq!(
        act(&rows, VERIFY_ACTION, r#"{"job":"sales","epoch":2}"#)
            .await
            .unwrap_err(),
        Code::NotFound
    );
    for bad in [
        "",
        r#"{"job":"../x","epoch":1}"#,
        r#"{"job":"sales","epoch":1,"path":"/etc/passwd"}"#,
    ] {
        assert_eq!(
            act(&rows, VERIFY_ACTION, bad).await.unwrap_err(),
            Code::InvalidArgument,
            "{bad}"
        );
    }
    assert_eq!(
        act(&rows, "other", body).await.unwrap_err(),
        Code::Unimplemented
    );
}

#[tokio::test]
async fn dead_letters_of_an_epoch_come_whole_and_with_their_place_in_the_source() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10]);
    bed.source.push(&shard("a"), 20, "not json");
    bed.source.push(&shard("a"), 30, &b"\xFF\x00"[..]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    assert_eq!(
        (report.counts.rows_decoded, report.counts.rows_dead),
        (1, 2)
    );
    let committed = bed.publish(&report).await;
    let manifest_json = serde_json::to_string(&committed).unwrap();
    let job_json = serde_json::to_string(&bed.job).unwrap();
    let controller = serve(v1::GetEpochResponse {
        manifest_json,
        job_json,
    })
    .await;
    let rows = rows(&bed, Arc::default(), MemorySource::default(), &controller);
    let ticket = br#"{"job":"sales","epoch":1,"dead_letters":true}"#;
    let batches = get(&rows, ticket.to_vec()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let batch = &batches[0];
    let payloads = batch["payload"]
        .as_any()
        .downcast_ref::<arrow::array::BinaryArray>()
        .unwrap();
    assert_eq!(
        (payloads.value(0), payloads.value(1)),
        (&b"not json"[..], &b"\xFF\x00"[..])
    );
    let sequences = batch["sequence_number"]
        .as_any()
        .downcast_ref::<arrow::array::StringArray>()
        .unwrap();
    assert_eq!((sequences.value(0), sequences.value(1)), ("1", "2"));
    let object = committed.dead_letter_objects().next().unwrap();
    bed.storage.put(&object.location, "something else");
    assert_eq!(
        get(&rows, ticket.to_vec()).await.unwrap_err(),
        Code::DataLoss,
        "it is not what was committed"
    );
    bed.storage.delete(&object.location);
    assert_eq!(
        get(&rows, ticket.to_vec()).await.unwrap_err(),
        Code::DataLoss,
        "it is gone"
    );
}

#[tokio::test]
async fn a_caller_has_so_many_replays_at_once_and_others_do_not_notice() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &vec![10; 50_000]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let manifest_json = serde_json::to_string(&manifest(&report)).unwrap();
    let job_json = serde_json::to_string(&bed.job).unwrap();
    let controller = serve(v1::GetEpochResponse {
        manifest_json,
        job_json,
    })
    .await;
    let rows = rows(&bed, Arc::default(), bed.source.clone(), &controller);
    let ticket = PartTicket {
        job: report.job.clone(),
        epoch: 1,
        task: Some(report.task),
        dead_letters: false,
        reread: false,
    };
    let ticket = serde_json::to_vec(&ticket).unwrap();
    let get = async |name: &str| {
        let mut request = Request::new(Ticket {
            ticket: ticket.clone().into(),
        });
        request
            .extensions_mut()
            .insert(CountedFor::Name(name.to_owned()));
        rows.do_get(request).await.map(Response::into_inner)
    };
    let mut held = vec![];
    for _ in 0..REPLAYS_PER_CALLER_MAX {
        held.push(get("a").await.unwrap());
    }
    let refused = get("a").await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("hint: "), "{refused}");
    let check = async || {
        let action = Action {
            r#type: VERIFY_ACTION.to_owned(),
            body: r#"{"job":"sales","epoch":1}"#.into(),
        };
        let mut request = Request::new(action);
        request
            .extensions_mut()
            .insert(CountedFor::Name("a".to_owned()));
        rows.do_action(request).await.map(Response::into_inner)
    };
    let mut checks = vec![];
    for _ in 0..REPLAYS_PER_CALLER_MAX {
        checks.push(check().await.unwrap());
    }
    assert_eq!(
        check().await.map(|_| ()).unwrap_err().code(),
        Code::ResourceExhausted
    );
    drop(get("b").await.unwrap());
    held.pop();
    drop(get("a").await.unwrap());
}

/// What the gate adds to a call that this grant authorizes.
fn granted(job: &str, wanted: Use) -> Grant {
    let granter = Granter::new().unwrap();
    let token = granter
        .grant(job.parse().unwrap(), wanted, None, 0)
        .unwrap();
    granter.public_key().verify(token.reveal()).unwrap()
}

#[tokio::test]
async fn a_grant_is_for_one_use_of_one_job() {
    let bed = Bed::new(job("SELECT id FROM source"));
    // No controller responds: an admitted call becomes UNAVAILABLE.
    let rows = rows(
        &bed,
        Arc::default(),
        MemorySource::default(),
        "http://127.0.0.1:1",
    );
    let ticket = r#"{"job":"sales","epoch":1,"dead_letters":true}"#;
    let order = r#"{"job":"sales","epoch":1,"task":{"term":1,"counter":1},"lost":[]}"#;
    let actions = [
        (Use::Verify, VERIFY_ACTION, r#"{"job":"sales","epoch":1}"#),
        (Use::Rebuild, REBUILD_ACTION, order),
    ];
    for (job, shown) in [
        ("sales", Use::Read),
        ("sales", Use::Verify),
        ("sales", Use::Rebuild),
        ("other", Use::Read),
    ] {
        let expected = |fits: bool| {
            if fits {
                Code::Unavailable
            } else {
                Code::PermissionDenied
            }
        };
        let mut request = Request::new(Ticket {
            ticket: ticket.into(),
        });
        request.extensions_mut().insert(granted(job, shown));
        let code = rows.do_get(request).await.map(|_| ()).unwrap_err().code();
        assert_eq!(
            code,
            expected(job == "sales" && shown == Use::Read),
            "{job} {shown:?}"
        );
        for (wanted, action, body) in actions {
            let mut request = Request::new(Action {
                r#type: action.to_owned(),
                body: body.into(),
            });
            request.extensions_mut().insert(granted(job, shown));
            let code = rows
                .do_action(request)
                .await
                .map(|_| ())
                .unwrap_err()
                .code();
            assert_eq!(
                code,
                expected(job == "sales" && shown == wanted),
                "{job} {shown:?} {action}"
            );
        }
    }
}

#[tokio::test]
async fn a_job_to_preview_is_taken_from_a_controller_only_and_its_rows_are_the_answer() {
    let bed = Bed::new(job("SELECT id FROM source WHERE id >= 2"));
    bed.push("a", 1, &[1, 2, 3]);
    bed.source.close(&"a".into(), vec![]);
    let rows = rows(
        &bed,
        Arc::default(),
        bed.source.clone(),
        "http://127.0.0.1:1",
    );
    let order = v1::PreviewJob {
        job_json: serde_json::to_string(&job("SELECT id FROM source WHERE id >= 2")).unwrap(),
        shards: vec![v1::PreviewShard {
            shard: "a".into(),
            detail: String::new(),
        }],
        shards_in_all: 2,
        records: 10,
        from: v1::PreviewFrom::Earliest.into(),
        timeout_ms: 5_000,
        ..Default::default()
    };
    let send = async |grant: Grant| {
        let mut request = Request::new(Action {
            r#type: PREVIEW_ACTION.to_owned(),
            body: order.encode_to_vec().into(),
        });
        let operator = Caller {
            name: Some("ci".to_owned()),
            role: Some(Role::Operate),
        };
        request.extensions_mut().insert(operator);
        request.extensions_mut().insert(grant);
        let mut results = rows.do_action(request).await?.into_inner();
        results.next().await.unwrap()
    };
    let refused = send(granted("sales", Use::Function)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let result = send(granted("sales", Use::Preview)).await.unwrap();
    let previewed = v1::PreviewedJob::decode(result.body).unwrap();
    let Some(v1::previewed_job::Outcome::Preview(preview)) = previewed.outcome else {
        panic!("{previewed:?}");
    };
    assert_eq!(
        (preview.records, preview.shards, preview.shards_read),
        (3, 2, 1)
    );
    let reader = arrow::ipc::reader::StreamReader::try_new(&preview.rows[..], None).unwrap();
    let shown: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(shown, 2);
}

#[tokio::test]
async fn what_is_no_ticket_is_refused_before_anybody_is_asked() {
    let bed = Bed::new(job("SELECT id FROM source"));
    let rows = rows(
        &bed,
        Arc::default(),
        MemorySource::default(),
        "http://127.0.0.1:1",
    );
    let extra = r#"{"job":"sales","epoch":1,"task":{"term":1,"counter":1},"path":"/etc/passwd"}"#;
    let long = format!(r#"{{"job":"{}"}}"#, "x".repeat(TICKET_BYTES_MAX));
    let deep = "[".repeat(TICKET_BYTES_MAX);
    let both = r#"{"job":"sales","epoch":1,"task":{"term":1,"counter":1},"dead_letters":true}"#;
    let tickets: [&[u8]; 9] = [
        both.as_bytes(),
        br#"{"job":"sales","epoch":1}"#,
        b"",
        b"null",
        b"\xFF\xFE",
        br#"{"job":"../x","epoch":1}"#,
        extra.as_bytes(),
        long.as_bytes(),
        deep.as_bytes(),
    ];
    for ticket in tickets {
        let code = get(&rows, ticket.to_vec()).await.unwrap_err();
        assert_eq!(
            code,
            Code::InvalidArgument,
            "{}",
            String::from_utf8_lossy(ticket)
        );
    }
}
