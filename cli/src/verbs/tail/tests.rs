//! Following a job whose controller and worker are one fake Flight service.

use super::*;
use crate::output::tests::captured;
use arrow::array::{Int64Array, StringArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde_json::json;
use std::sync::{Arc, Mutex};
use streamctl_engine::security::grant::{Granter, Use};
use streamctl_engine::security::{Dialer, Token};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// A completed job of three epochs; the ticket of each is its number, and so is its only row.
#[derive(Default)]
struct FakeFlight {
    /// The locations of the rows; the first does not answer.
    locations: Vec<String>,
    /// A ticket whose rows break off after the first batch.
    broken: Option<u64>,
    /// Grants that callers get for workers: in order, the last one repeatedly.
    grants: Mutex<Vec<String>>,
    /// The accepted credential for rows; none: any.
    takes: Option<String>,
    /// The credentials that callers presented for rows.
    shown: Arc<Mutex<Vec<Option<String>>>>,
}

const EPOCHS: u64 = 3;

fn rows_of(epoch: i64) -> RecordBatch {
    RecordBatch::try_from_iter([("epoch", Arc::new(Int64Array::from(vec![epoch])) as _)]).unwrap()
}

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of this test"))
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for FakeFlight {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let command: serde_json::Value = serde_json::from_slice(&request.into_inner().cmd).unwrap();
        let from = command["from"].as_u64().unwrap();
        let limit = command["limit"].as_u64().unwrap();
        let last = EPOCHS.min(from + limit - 1);
        let mut info = FlightInfo::new();
        for epoch in from..=last {
            let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(epoch.to_string()));
            let endpoint = endpoint.with_app_metadata(json!({"epoch": epoch}).to_string());
            info = info.with_endpoint(
                self.locations
                    .iter()
                    .fold(endpoint, |endpoint, uri| endpoint.with_location(uri)),
            );
        }
        let mut grants = self.grants.lock().unwrap();
        let grant = if grants.len() > 1 {
            Some(grants.remove(0))
        } else {
            grants.first().cloned()
        };
        let next = json!({"next_epoch": from.max(last + 1), "state": "completed", "grant": grant});
        Ok(Response::new(info.with_app_metadata(next.to_string())))
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let shown = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        self.shown.lock().unwrap().push(shown.clone());
        if self.takes.is_some() && self.takes != shown {
            return Err(Status::unauthenticated(
                "this grant is not of a controller that leads here",
            ));
        }
        let epoch = std::str::from_utf8(&request.into_inner().ticket)
            .unwrap()
            .parse::<u64>()
            .unwrap();
        let broken = self.broken == Some(epoch);
        let tail = broken.then(|| {
            Err(arrow_flight::error::FlightError::Tonic(Box::new(
                Status::aborted("gone"),
            )))
        });
        let batches = stream::iter([Ok(rows_of(epoch as i64))].into_iter().chain(tail));
        let messages = FlightDataEncoderBuilder::new()
            .build(batches)
            .map(|message| message.map_err(Status::from));
        Ok(Response::new(messages.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        no()
    }
    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        no()
    }
    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        no()
    }
    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        no()
    }
    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        no()
    }
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        no()
    }
    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        no()
    }
    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        no()
    }
}

async fn tail(
    flight: FakeFlight,
    from: u64,
    to: Option<u64>,
) -> (Result<(), CliError>, String, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let controller = Controller::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let server = tonic::transport::Server::builder().add_service(FlightServiceServer::new(flight));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (mut out, data, notes) = captured(Format::Json);
    let args = TailArgs {
        job: "sales".into(),
        from: Some(from),
        to,
        epochs: 1,
        committed: false,
        reread: false,
    };
    (
        run(&args, &controller, &mut out).await,
        data.text(),
        notes.text(),
    )
}

#[tokio::test]
async fn every_epoch_is_printed_once_until_the_job_ends() {
    let (result, data, notes) = tail(FakeFlight::default(), 1, None).await;
    result.unwrap();
    assert_eq!(data, "{\"epoch\":1}\n{\"epoch\":2}\n{\"epoch\":3}\n");
    assert_eq!(notes, "job sales is completed; the next epoch would be 4\n");
}

#[tokio::test]
async fn the_last_epoch_wanted_is_the_last_one_printed() {
    let (result, data, _) = tail(FakeFlight::default(), 2, Some(2)).await;
    result.unwrap();
    assert_eq!(data, "{\"epoch\":2}\n");
}

#[tokio::test]
async fn a_location_that_does_not_answer_is_passed_over() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let locations = vec![format!("grpc://{gone}"), REUSE_CONNECTION.to_owned()];
    let (result, data, _) = tail(
        FakeFlight {
            locations,
            ..FakeFlight::default()
        },
        3,
        Some(3),
    )
    .await;
    result.unwrap();
    assert_eq!(data, "{\"epoch\":3}\n");
}

#[tokio::test]
async fn rows_that_break_off_are_an_error_that_names_where_to_continue() {
    let (result, _, _) = tail(
        FakeFlight {
            broken: Some(2),
            ..FakeFlight::default()
        },
        1,
        None,
    )
    .await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.exit_code(), error.hint().unwrap().as_str()),
        (1, "go on with --from 2")
    );
}

async fn served(flight: FakeFlight) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder().add_service(FlightServiceServer::new(flight));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn a_grant() -> String {
    let granter = Granter::new().unwrap();
    granter
        .grant("sales".parse().unwrap(), Use::Read, None, 0)
        .unwrap()
        .reveal()
        .to_owned()
}

/// Follows the job with a token of its own; returns the credentials presented to a worker that
/// `takes` this one.
async fn shown_to_a_worker(
    grants: Vec<String>,
    takes: Option<String>,
) -> (Result<(), CliError>, Vec<Option<String>>) {
    let shown = Arc::<Mutex<Vec<Option<String>>>>::default();
    let worker = served(FakeFlight {
        shown: Arc::clone(&shown),
        takes,
        ..FakeFlight::default()
    })
    .await;
    let locations = vec![format!("grpc://{worker}")];
    let controller = served(FakeFlight {
        locations,
        grants: Mutex::new(grants),
        ..FakeFlight::default()
    })
    .await;
    let own = Token::generate().unwrap();
    let controller = Controller::new(&controller)
        .unwrap()
        .through(Dialer::default().with_token(own.clone()));
    let (mut out, data, _) = captured(Format::Json);
    let args = TailArgs {
        job: "sales".into(),
        from: Some(1),
        to: Some(3),
        epochs: 1,
        committed: false,
        reread: false,
    };
    let result = run(&args, &controller, &mut out).await;
    if result.is_ok() {
        assert_eq!(data.text(), "{\"epoch\":1}\n{\"epoch\":2}\n{\"epoch\":3}\n");
    }
    let shown = shown.lock().unwrap().clone();
    assert!(
        shown
            .iter()
            .flatten()
            .all(|text| !text.contains(own.reveal()))
    );
    (result, shown)
}

#[tokio::test]
async fn a_worker_sees_the_grant_or_nothing_and_never_the_token_of_the_caller() {
    for grants in [vec![a_grant()], vec![]] {
        let expected = grants.first().map(|grant| format!("Bearer {grant}"));
        let (result, shown) = shown_to_a_worker(grants, None).await;
        result.unwrap();
        assert_eq!(shown, vec![expected; 3]);
    }
}

#[tokio::test]
async fn a_grant_that_a_worker_does_not_take_is_asked_for_again_and_not_for_ever() {
    let [old, new] = [(); 2].map(|()| a_grant());
    let header = |grant: &str| Some(format!("Bearer {grant}"));
    let (result, shown) = shown_to_a_worker(vec![old.clone(), new.clone()], header(&new)).await;
    result.unwrap();
    assert_eq!(shown, [&old, &new, &new, &new].map(|grant| header(grant)));
    let (result, shown) = shown_to_a_worker(vec![old.clone()], header(&new)).await;
    assert!(
        matches!(result, Err(CliError::Rows { epoch: 1, .. })),
        "{result:?}"
    );
    assert_eq!(shown, vec![header(&old); 1 + GRANT_RENEWALS_MAX as usize]);
}

fn batch() -> RecordBatch {
    let codes = StringArray::from(vec![Some("DE"), None]);
    RecordBatch::try_from_iter_with_nullable([("code", Arc::new(codes) as _, true)]).unwrap()
}

#[test]
fn rows_are_a_table_or_json_lines() {
    assert_eq!(
        batch_text(&batch(), Format::Json).unwrap(),
        "{\"code\":\"DE\"}\n{\"code\":null}\n"
    );
    assert_eq!(
        batch_text(&batch(), Format::Table).unwrap().lines().nth(3),
        Some("| DE   |")
    );
}
