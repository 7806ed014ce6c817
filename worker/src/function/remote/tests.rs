//! A client against a server of the same protocol.

use super::*;
use crate::function::{Frame, InputError, Module};
use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use std::sync::{Arc, Mutex};
use streamctl_proto::Window;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Response, Streaming};

/// What the server does with a call.
#[derive(Clone, Copy)]
enum Does {
    Echo,
    None,
    Raise,
    Refuse,
    Hang,
    Lie,
}

struct Server {
    does: Does,
    /// The commands of complete calls, with their rows.
    seen: Arc<Mutex<Vec<(serde_json::Value, usize)>>>,
}

fn note(json: serde_json::Value) -> FlightData {
    FlightData::new().with_app_metadata(json.to_string())
}

impl Server {
    async fn answer(&self, incoming: Streaming<FlightData>) -> Result<Vec<FlightData>, Status> {
        let incoming: Vec<FlightData> = incoming.try_collect().await?;
        let descriptor = incoming[0].flight_descriptor.clone().unwrap_or_default();
        let decoded = futures::stream::iter(incoming.clone().into_iter().map(Ok));
        let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(decoded);
        let batches: Vec<RecordBatch> = batches.try_collect().await?;
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let command = serde_json::from_slice(&descriptor.cmd).unwrap();
        self.seen.lock().unwrap().push((command, rows));
        let echo = incoming.into_iter().map(|mut message| {
            message.flight_descriptor = None;
            message
        });
        let log = serde_json::json!({"type": "log", "level": "info", "text": "seen"});
        match self.does {
            Does::Echo => {
                let dead = serde_json::json!({
                    "type": "dead", "reasons": ["why"], "rows_json": "{\"id\":1}",
                });
                Ok(echo.chain([note(log), note(dead)]).collect())
            }
            Does::None => Ok(vec![note(
                serde_json::json!({"type": "done", "result": "none"}),
            )]),
            Does::Raise => Err(Status::internal(
                "Flight error: {\"type\":\"error\",\"kind\":\"ValueError\",\"message\":\"no\",\"file\":\
                 \"transform.py\",\"line\":7,\"traceback\":\"...\"}. Detail: Failed",
            )),
            Does::Refuse => Err(Status::unauthenticated("no token")),
            Does::Hang => std::future::pending().await,
            Does::Lie => Ok(vec![note(log)]),
        }
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[async_trait]
impl FlightService for Server {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }
    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }
    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }
    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }
    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }
    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(Status::unimplemented("do_get"))
    }
    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented("do_put"))
    }
    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let answer = self.answer(request.into_inner()).await?;
        let answer = futures::stream::iter(answer.into_iter().map(Ok));
        Ok(Response::new(answer.boxed()))
    }
    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented("do_action"))
    }
    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }
}

type Seen = Arc<Mutex<Vec<(serde_json::Value, usize)>>>;

async fn connected(does: Does) -> (Remote, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let server = Server {
        does,
        seen: Arc::clone(&seen),
    };
    let serving = tonic::transport::Server::builder()
        .add_service(FlightServiceServer::new(server))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    let remote = Remote::connect(&settings(url), &code(), &limits()).await;
    (remote.unwrap(), seen)
}

fn settings(url: String) -> RemoteSettings {
    RemoteSettings {
        url,
        dialer: Dialer::default(),
        connect_timeout: Duration::from_secs(5),
    }
}

fn code() -> Code {
    Code {
        folder: "/code".into(),
        module: Module::File("transform.py".into()),
        name: "process_batch".into(),
        frame: Some(Frame::Pandas),
        on_published: None,
    }
}

fn limits() -> Limits {
    Limits {
        timeout: Duration::from_millis(500),
        memory_bytes: 64 << 20,
        network: false,
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))
}

fn rows(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap()
}

async fn call(
    remote: &mut Remote,
    input: Vec<Result<RecordBatch, InputError>>,
) -> Result<Outcome, FunctionError> {
    let call = Call {
        batch_id: 17,
        window: Window {
            start_ms: 60_000,
            end_ms: 120_000,
        },
        attempt: 2,
        job: "sales".parse().unwrap(),
        lookups: BTreeMap::new(),
        empty: false,
        by: Vec::new(),
        memory: None,
    };
    let mut input = futures::stream::iter(input);
    remote.call(call, schema(), &mut input).await
}

#[tokio::test]
async fn a_server_gets_the_rows_of_a_window_and_returns_a_frame_or_none() {
    let (mut remote, seen) = connected(Does::Echo).await;
    let batches = vec![Ok(rows(&[1, 2])), Ok(rows(&[3]))];
    let outcome = call(&mut remote, batches).await.unwrap();
    let (found, batches) = outcome.result.unwrap();
    assert_eq!(found, schema());
    assert_eq!(batches, [rows(&[1, 2]), rows(&[3])]);
    assert_eq!(outcome.rows_in, 3);
    assert_eq!(outcome.log[0].text, "seen");
    assert_eq!(outcome.dead[0].reasons, ["why"]);
    let outcome = call(&mut remote, vec![]).await.unwrap();
    assert_eq!(outcome.result.unwrap(), (schema(), vec![]));
    let (command, rows_seen) = seen.lock().unwrap()[0].clone();
    assert_eq!(rows_seen, 3);
    assert_eq!(command["type"], "call");
    assert_eq!(command["name"], "process_batch");
    assert_eq!(command["batch_id"], 17);
    assert_eq!(command["window_end_ms"], 120_000);

    let (mut remote, _) = connected(Does::None).await;
    let outcome = call(&mut remote, vec![Ok(rows(&[1]))]).await.unwrap();
    assert!(outcome.result.is_none());
}

#[tokio::test]
async fn an_exception_of_the_server_is_that_of_the_users_code() {
    let (mut remote, _) = connected(Does::Raise).await;
    let error = call(&mut remote, vec![Ok(rows(&[1]))]).await.unwrap_err();
    let raised = error.raised().unwrap();
    assert_eq!(raised.to_string(), "transform.py, line 7: ValueError: no");
    assert!(remote.is_usable());
}

#[tokio::test]
async fn a_server_that_refuses_hangs_misbehaves_or_is_away_is_named() {
    let (mut remote, _) = connected(Does::Refuse).await;
    let error = call(&mut remote, vec![]).await.unwrap_err();
    assert!(matches!(error, FunctionError::Server { .. }), "{error}");
    assert!(error.to_string().contains("no token"), "{error}");
    let (mut remote, _) = connected(Does::Hang).await;
    let error = call(&mut remote, vec![]).await.unwrap_err();
    assert!(matches!(error, FunctionError::TimeLimit { .. }), "{error}");
    assert!(!remote.is_usable());
    let (mut remote, _) = connected(Does::Lie).await;
    let error = call(&mut remote, vec![]).await.unwrap_err();
    assert!(matches!(error, FunctionError::Protocol { .. }), "{error}");
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", nowhere.local_addr().unwrap());
    drop(nowhere);
    for url in [url, "ftp://host:1".into()] {
        let error = Remote::connect(&settings(url.clone()), &code(), &limits()).await;
        let error = error.err().unwrap();
        assert!(error.to_string().contains(&url), "{error}");
    }
}

#[tokio::test]
async fn a_call_that_breaks_off_is_no_complete_window_for_the_server() {
    let (mut remote, seen) = connected(Does::Echo).await;
    let input = vec![Ok(rows(&[1])), Err("division by zero".into())];
    let error = call(&mut remote, input).await.unwrap_err();
    assert!(matches!(error, FunctionError::Input(_)), "{error}");
    assert!(!remote.is_usable());
    drop(remote);
    let (mut other, _) = connected(Does::Echo).await;
    call(&mut other, vec![]).await.unwrap();
    assert!(seen.lock().unwrap().is_empty());
}
