//! Sends the reads of gRPC clients on to the leader, when this controller stands by.
//!
//! Owns: which calls are sent on, and their limit. Does not own: the connection
//! ([`crate::leader_connection`]), who may call (the gate, here and at the leader).
//! Rule: only what the role `view` may call, once, with the caller's own token. The leader
//! authorizes the caller itself; what cannot be sent on is answered with the leader's address.

use crate::leader_connection::LeaderConnection;
use crate::leading::{Leader, Who};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::security::Role;
use streamctl_engine::security::gate::{CallerToken, held_by};
use streamctl_engine::security::methods::{Need, need};
use streamctl_engine::security::token::Proof;
use streamctl_proto::refusal::{CallRefusal, Reason};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body as GrpcBody;
use tonic::codegen::Service as _;
use tonic::service::Routes;

/// Most calls that are sent on at once, until their answers end.
pub const FORWARDS_MAX: usize = 256;
/// Time in which the leader must begin its answer. Figures of old epochs are read from manifests.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Marks a call that a controller sent on: it is not sent on again.
const FORWARDED: HeaderName = HeaderName::from_static("x-streamctl-forwarded");
/// The services whose answers only the leader has.
const SERVICES: [&str; 2] = [
    "/streamctl.v1.Jobs/",
    "/arrow.flight.protocol.FlightService/",
];

/// Sends calls on while another controller leads.
#[derive(Clone)]
pub struct Forward {
    leader: Leader,
    connection: LeaderConnection,
    places: Arc<Semaphore>,
}

impl Forward {
    pub fn new(leader: Leader, connection: LeaderConnection) -> Self {
        Self {
            leader,
            connection,
            places: Arc::new(Semaphore::new(FORWARDS_MAX)),
        }
    }

    /// These services, or those of the leader.
    pub fn before_services(self, routes: Routes) -> Routes {
        routes
            .into_axum_router()
            .layer(from_fn_with_state(self, forward))
            .into()
    }

    /// The address of the leader, if this call goes there.
    fn leader_of(&self, request: &Request) -> Option<String> {
        let path = request.uri().path();
        let is_read = SERVICES.iter().any(|service| path.starts_with(service))
            && need(path) == Some(Need::Least(Role::View));
        // With a certificate alone, the leader would see this controller's.
        let by_certificate = matches!(
            request.extensions().get::<Proof>(),
            Some(Proof::Certificate(_))
        );
        if !is_read || by_certificate || request.headers().contains_key(FORWARDED) {
            return None;
        }
        match self.leader.who() {
            Who::Here(_) => None,
            Who::Elsewhere(address) => address,
        }
    }

    /// The leader does not answer: the caller may reach it, or retry.
    fn refusal(&self) -> Response {
        let status = match self.leader.handle() {
            Err(elsewhere) => elsewhere,
            Ok(_) => Status::from(CallRefusal::new(
                Reason::LeadershipLost,
                "this controller has just begun to lead; retry",
            )),
        };
        status.into_http()
    }
}

async fn forward(State(forward): State<Forward>, request: Request, next: Next) -> Response {
    let Some(leader) = forward.leader_of(&request) else {
        return next.run(request).await;
    };
    let Ok(place) = Arc::clone(&forward.places).try_acquire_owned() else {
        tracing::debug!(
            leader,
            "too many calls are sent on: a caller is sent to the leader"
        );
        return next.run(request).await;
    };
    let Ok(connection) = forward.connection.to(&leader) else {
        return next.run(request).await;
    };
    let (head, body) = request.into_parts();
    let mut there = Request::new(GrpcBody::new(body));
    *there.method_mut() = head.method.clone();
    *there.uri_mut() = path_of(&head.uri);
    *there.headers_mut() = sent_on(&head.headers);
    let by = CallerToken::from(&tonic::metadata::MetadataMap::from_headers(
        head.headers.clone(),
    ));
    let mut connection = connection.on_behalf_of(&by);
    let call = async {
        std::future::poll_fn(|context| connection.poll_ready(context)).await?;
        connection.call(there).await
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(Ok(response)) => response.map(|body| held_by(Body::new(body), place)),
        Ok(Err(error)) => {
            tracing::debug!(
                leader,
                error = error.to_string(),
                "the leader does not answer"
            );
            forward.refusal()
        }
        Err(_) => forward.refusal(),
    }
}

fn path_of(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map(|path| Uri::from(path.clone()))
        .unwrap_or_default()
}

/// The caller's headers, without those of its connection.
fn sent_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for of_connection in ["host", "connection", "content-length"] {
        headers.remove(of_connection);
    }
    headers.insert(FORWARDED, HeaderValue::from_static("1"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leading::Leading;
    use streamctl_engine::security::Dialer;
    use tokio::sync::watch;

    fn at(path: &str) -> Request {
        Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    #[test]
    fn only_reads_go_to_the_leader_and_only_once() {
        let (_sender, leading) = watch::channel(Leading::Elsewhere(Some("there:1".into())));
        let connection = LeaderConnection::new(Dialer::default(), false, None);
        let forward = Forward::new(Leader::new(leading), connection);
        let to = |request: Request| forward.leader_of(&request);
        let there = Some("there:1".to_owned());
        let info = "/arrow.flight.protocol.FlightService/GetFlightInfo";
        for read in [
            info,
            "/streamctl.v1.Jobs/ListJobs",
            "/streamctl.v1.Jobs/WatchJob",
        ] {
            assert_eq!(to(at(read)), there, "{read}");
        }
        for other in [
            "/streamctl.v1.Jobs/Submit",
            "/streamctl.v1.Jobs/StopJob",
            "/streamctl.v1.Workers/Session",
            "/grpc.health.v1.Health/Check",
        ] {
            assert_eq!(to(at(other)), None, "{other}");
        }
        let again = at(info).headers().clone();
        let mut request = at(info);
        *request.headers_mut() = sent_on(&again);
        assert_eq!(to(request), None, "it was sent on already");
        let mut request = at(info);
        let proof = Proof::Certificate("viewer".to_owned());
        request.extensions_mut().insert(proof);
        assert_eq!(
            to(request),
            None,
            "the leader would see another certificate"
        );
    }

    #[test]
    fn without_a_leader_elsewhere_calls_stay_here() {
        let (_sender, leading) = watch::channel(Leading::Elsewhere(None));
        let connection = LeaderConnection::new(Dialer::default(), false, None);
        let forward = Forward::new(Leader::new(leading), connection);
        assert_eq!(forward.leader_of(&at("/streamctl.v1.Jobs/ListJobs")), None);
    }
}
