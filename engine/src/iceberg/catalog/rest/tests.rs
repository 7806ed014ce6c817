use super::super::super::commit::{CommitSettings, Committer};
use super::super::super::plan::Writer;
use super::super::super::plan::tests::{epoch, table, writer};
use super::super::contract;
use super::super::memory::{Fault, MemoryCatalog, MemoryFiles};
use super::*;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Mutex;

/// A server that speaks the protocol, over a catalog in memory.
#[derive(Clone)]
struct Server {
    catalog: Arc<MemoryCatalog>,
    state: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    tokens_issued: u32,
    /// Only the token of this number is accepted; `None`: none is needed.
    accepted: Option<u32>,
    /// After so many further authorised calls the token expires.
    expires_after: Option<u32>,
    keys: Vec<String>,
}

fn error(status: u16, kind: &str, message: &str) -> Response {
    let body = json!({"error": {"type": kind, "message": message, "code": status}});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

impl Server {
    async fn start() -> (Self, String) {
        let server = Self {
            catalog: Arc::new(MemoryCatalog::new(0, 0)),
            state: Arc::default(),
        };
        let table = "/v1/some/prefix/namespaces/{namespace}/tables/{table}";
        let router = Router::new()
            .route("/v1/config", get(config))
            .route("/v1/oauth/tokens", post(token))
            .route(
                "/v1/some/prefix/namespaces/{namespace}/tables",
                post(create),
            )
            .route(table, get(load).post(commit))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, uri)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.state.lock().unwrap()
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let mut seen = self.seen();
        if let Some(rest) = seen.expires_after {
            if rest == 0 {
                seen.expires_after = None;
                seen.accepted = seen.accepted.map(|number| number + 1);
            } else {
                seen.expires_after = Some(rest - 1);
            }
        }
        let Some(accepted) = seen.accepted else {
            return Ok(());
        };
        let given = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if given == Some(&format!("Bearer token-{accepted}")) {
            return Ok(());
        }
        let refused = error(419, "AuthenticationTimeoutException", "the token expired");
        Err(Box::new(refused))
    }
}

fn refused(failure: CatalogError) -> Response {
    match failure {
        CatalogError::TableMissing { table } => error(
            404,
            "NoSuchTableException",
            &format!("{table} does not exist"),
        ),
        CatalogError::Refused { reason, .. } => error(400, "BadRequestException", &reason),
        CatalogError::Unavailable { reason } => error(429, "TooManyRequests", &reason),
    }
}

async fn config(Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    assert_eq!(
        query.get("warehouse").map(String::as_str),
        Some("arn:aws:a/b")
    );
    Json(json!({"defaults": {}, "overrides": {"prefix": "some/prefix"}}))
}

async fn token(State(server): State<Server>, body: String) -> Response {
    // A form has the syntax of a query.
    let uri = format!("/?{body}").parse().unwrap();
    let Query(form) = Query::<BTreeMap<String, String>>::try_from_uri(&uri).unwrap();
    if form["grant_type"] != "client_credentials" || form["client_secret"] != "s&cret" {
        return error(401, "unauthorized_client", "unknown client");
    }
    let mut seen = server.seen();
    seen.tokens_issued += 1;
    let token = format!("token-{}", seen.accepted.unwrap_or(0));
    Json(json!({"access_token": token, "token_type": "bearer", "expires_in": 3600})).into_response()
}

fn name(namespace: &str, name: &str) -> TableName {
    TableName {
        namespace: namespace.split('\u{1f}').map(str::to_owned).collect(),
        name: name.to_owned(),
    }
}

async fn load(
    State(server): State<Server>,
    Path((namespace, table)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = server.check(&headers) {
        return *refused;
    }
    match server.catalog.load(&name(&namespace, &table)).await {
        Ok(table) => Json(json!({"metadata-location": "m", "metadata": *table})).into_response(),
        Err(failure) => refused(failure),
    }
}

async fn create(
    State(server): State<Server>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if let Err(refused) = server.check(&headers) {
        return *refused;
    }
    let new = NewTable {
        name: name(&namespace, body["name"].as_str().unwrap()),
        location: body["location"].as_str().map(str::to_owned),
        schema: serde_json::from_value(body["schema"].clone()).unwrap(),
        spec: serde_json::from_value(body["partition-spec"].clone()).unwrap(),
        properties: serde_json::from_value(body["properties"].clone()).unwrap(),
    };
    match server.catalog.create(&new).await {
        Ok(Created::Created) => {
            let table = server.catalog.look(&new.name);
            Json(json!({"metadata": *table})).into_response()
        }
        Ok(Created::Exists) => error(409, "AlreadyExistsException", "it exists"),
        Err(failure) => refused(failure),
    }
}

async fn commit(
    State(server): State<Server>,
    Path((namespace, table)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if let Err(refused) = server.check(&headers) {
        return *refused;
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    server.seen().keys.push(key);
    assert_eq!(body["identifier"]["name"], table);
    let request: CommitRequest = serde_json::from_value(body).unwrap();
    match server
        .catalog
        .commit(&name(&namespace, &table), &request)
        .await
    {
        Ok(CommitOutcome::Committed(table)) => {
            Json(json!({"metadata-location": "m", "metadata": *table})).into_response()
        }
        Ok(CommitOutcome::Conflict { reason }) => error(409, "CommitFailedException", &reason),
        Ok(CommitOutcome::Unknown { reason }) => error(504, "CommitStateUnknownException", &reason),
        Err(failure) => refused(failure),
    }
}

fn catalog(uri: &str, auth: Auth) -> RestCatalog {
    let settings = RestSettings {
        uri: format!("{uri}/"),
        warehouse: Some("arn:aws:a/b".into()),
        auth,
    };
    RestCatalog::new(settings, Arc::new(|| 1_700_000_000_000))
}

fn client(secret: &str) -> Auth {
    Auth::Client {
        token_uri: None,
        id: Some("me".into()),
        secret: Secret::new(secret.into()),
        scope: None,
    }
}

#[tokio::test]
async fn the_contract_holds() {
    let (_server, uri) = Server::start().await;
    contract::contract(&catalog(&uri, Auth::None), "db", None).await;
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_by_all_calls() {
    let (server, uri) = Server::start().await;
    server.seen().accepted = Some(0);
    contract::contract(&catalog(&uri, client("s&cret")), "db", None).await;
    assert_eq!(server.seen().tokens_issued, 1);
}

#[tokio::test]
async fn wrong_credentials_are_refused_without_showing_them() {
    let (_server, uri) = Server::start().await;
    let catalog = catalog(&uri, client("wrong"));
    let error = catalog.load(&table().name).await.unwrap_err();
    let CatalogError::Refused { reason, hint } = &error else {
        panic!("{error}");
    };
    assert!(
        reason.contains("issues no token") && hint.contains("secret"),
        "{error}"
    );
    assert!(!format!("{error:?}{catalog:?}{:?}", client("wrong")).contains("wrong"));
}

async fn commit_all(catalog: &RestCatalog, server: &Server, files: &MemoryFiles, epochs: &[u64]) {
    let name = table().name;
    let writer = Writer {
        table_uuid: server.catalog.look(&name).table_uuid.clone(),
        ..writer()
    };
    let settings = CommitSettings::default();
    let committer = Committer {
        catalog,
        files,
        table: &name,
        writer: &writer,
        settings: &settings,
    };
    let epochs: Vec<_> = epochs.iter().copied().map(epoch).collect();
    committer
        .commit(&epochs, &|| 1_700_000_000_000)
        .await
        .unwrap();
}

#[tokio::test]
async fn i12_a_token_that_expires_in_mid_commit_is_renewed_and_the_epoch_is_added_once() {
    for calls_before in 0..4 {
        let (server, uri) = Server::start().await;
        server.catalog.make(&table(), 2);
        server.seen().accepted = Some(0);
        let files = MemoryFiles::default();
        let catalog = catalog(&uri, client("s&cret"));
        commit_all(&catalog, &server, &files, &[1]).await;
        server.seen().expires_after = Some(calls_before);
        commit_all(&catalog, &server, &files, &[1, 2]).await;
        commit_all(&catalog, &server, &files, &[2, 3]).await;
        assert_eq!(server.seen().tokens_issued, 2, "after {calls_before} calls");
        assert_eq!(server.catalog.history().len(), 3);
        assert_eq!(
            server.catalog.look(&table().name).properties["streamctl.prod.sales"],
            "3"
        );
    }
}

#[tokio::test]
async fn faults_of_the_server_reach_the_loop_with_their_meaning() {
    let (server, uri) = Server::start().await;
    server.catalog.make(&table(), 2);
    let files = MemoryFiles::default();
    let catalog = catalog(&uri, Auth::None);
    let faults = [
        Fault::LostAnswer,
        Fault::Unavailable,
        Fault::FalseConflict,
        Fault::LostRequest,
        Fault::Doubled,
    ];
    server.catalog.plan(&faults);
    for number in 1..=3 {
        commit_all(&catalog, &server, &files, &[number]).await;
    }
    assert_eq!(server.catalog.history().len(), 3);
    let keys = server.seen().keys.clone();
    assert!(keys.iter().all(|key| key.len() == 36), "{keys:?}");
}

#[tokio::test]
async fn a_server_that_does_not_listen_is_unavailable_and_one_without_a_catalog_is_refused() {
    let nothing = catalog("http://127.0.0.1:1", Auth::None);
    let error = nothing.load(&table().name).await.unwrap_err();
    assert!(matches!(error, CatalogError::Unavailable { .. }), "{error}");
    let router = Router::new().route("/", get(|| async { "a web page" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let error = catalog(&uri, Auth::None)
        .load(&table().name)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no Iceberg catalog at this address"),
        "{error}"
    );
}
