//! Following a job whose controller and worker are one fake Flight service.

use super::*;
use crate::output::tests::captured;
use arrow::array::{Int64Array, StringArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, HandshakeRequest, HandshakeResponse, PollInfo, PutResult,
    SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::sync::Arc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// A completed job of three epochs; the ticket of each is its number, and so is its only row.
struct FakeFlight {
    /// Where the rows are said to be; the first does not answer.
    locations: Vec<String>,
    /// A ticket whose rows break off after the first batch.
    broken: Option<u64>,
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

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let command: serde_json::Value = serde_json::from_slice(&request.into_inner().cmd).unwrap();
        let (from, limit) = (command["from"].as_u64().unwrap(), command["limit"].as_u64().unwrap());
        let last = EPOCHS.min(from + limit - 1);
        let mut info = FlightInfo::new();
        for epoch in from..=last {
            let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(epoch.to_string()));
            let endpoint = endpoint.with_app_metadata(json!({"epoch": epoch}).to_string());
            info =
                info.with_endpoint(self.locations.iter().fold(endpoint, |endpoint, uri| endpoint.with_location(uri)));
        }
        let next = json!({"next_epoch": from.max(last + 1), "state": "completed"});
        Ok(Response::new(info.with_app_metadata(next.to_string())))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let epoch = std::str::from_utf8(&request.into_inner().ticket).unwrap().parse::<u64>().unwrap();
        let broken = self.broken == Some(epoch);
        let tail = broken.then(|| Err(arrow_flight::error::FlightError::Tonic(Box::new(Status::aborted("gone")))));
        let batches = stream::iter([Ok(rows_of(epoch as i64))].into_iter().chain(tail));
        let messages = FlightDataEncoderBuilder::new().build(batches).map(|message| message.map_err(Status::from));
        Ok(Response::new(messages.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        no()
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        no()
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        no()
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        no()
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        no()
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        no()
    }
    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        no()
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        no()
    }
}

async fn tail(flight: FakeFlight, from: u64, to: Option<u64>) -> (Result<(), CliError>, String, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let controller = Controller::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let server = tonic::transport::Server::builder().add_service(FlightServiceServer::new(flight));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (mut out, data, notes) = captured(Format::Json);
    let args = TailArgs { job: "sales".into(), from: Some(from), to, epochs: 1, committed: false };
    (run(&args, &controller, &mut out).await, data.text(), notes.text())
}

#[tokio::test]
async fn every_epoch_is_printed_once_until_the_job_ends() {
    let (result, data, notes) = tail(FakeFlight { locations: vec![], broken: None }, 1, None).await;
    result.unwrap();
    assert_eq!(data, "{\"epoch\":1}\n{\"epoch\":2}\n{\"epoch\":3}\n");
    assert_eq!(notes, "job sales is completed; the next epoch would be 4\n");
}

#[tokio::test]
async fn the_last_epoch_wanted_is_the_last_one_printed() {
    let (result, data, _) = tail(FakeFlight { locations: vec![], broken: None }, 2, Some(2)).await;
    result.unwrap();
    assert_eq!(data, "{\"epoch\":2}\n");
}

#[tokio::test]
async fn a_location_that_does_not_answer_is_passed_over() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let locations = vec![format!("grpc://{gone}"), REUSE_CONNECTION.to_owned()];
    let (result, data, _) = tail(FakeFlight { locations, broken: None }, 3, Some(3)).await;
    result.unwrap();
    assert_eq!(data, "{\"epoch\":3}\n");
}

#[tokio::test]
async fn rows_that_break_off_are_an_error_that_says_where_to_go_on() {
    let (result, _, _) = tail(FakeFlight { locations: vec![], broken: Some(2) }, 1, None).await;
    let error = result.unwrap_err();
    assert_eq!((error.exit_code(), error.hint().unwrap().as_str()), (1, "go on with --from 2"));
}

fn batch() -> RecordBatch {
    let codes = StringArray::from(vec![Some("DE"), None]);
    RecordBatch::try_from_iter_with_nullable([("code", Arc::new(codes) as _, true)]).unwrap()
}

#[test]
fn rows_are_a_table_or_json_lines() {
    assert_eq!(batch_text(&batch(), Format::Json).unwrap(), "{\"code\":\"DE\"}\n{\"code\":null}\n");
    assert_eq!(batch_text(&batch(), Format::Table).unwrap().lines().nth(3), Some("| DE   |"));
}
