//! The check before every call: identifies the caller and checks its permission.
//!
//! Owns: reading the header, the response of a refusal, counting refusals. Does not own:
//! permissions (`access`), the role of a method (`methods`).
//! Rule: nothing of a call is read before its caller is known, and a refusal contains advice.

use super::accept::{CallGuard, Peer};
use super::access::{Caller, Policy, Role};
use super::grant::Grant;
use super::judge::{Shown, judge, permitted, unauthenticated};
use super::methods::{self, Need};
use super::refusals::{Refusals, Refused};
use super::revoked::{End, Pass};
use super::same_user::PeerUser;
use super::token::{Proof, TOKEN_CHARS_MAX};
use super::turns::{CountedFor, Turn, Turns};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use streamctl_proto::refusal::{CallRefusal, Reason};
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Status};

/// The challenge for a browser: any name, and the token as its password.
const CHALLENGE: &str =
    r#"Basic realm="streamctl: any name, and a token as password", charset="UTF-8""#;

/// Most concurrent calls of one caller, until the response begins; calls of workers are not
/// counted.
pub const QUESTIONS_PER_CALLER_MAX: usize = 32;

/// The caller of a page, for requests on its behalf: the token of the request, if it has one.
#[derive(Clone, Debug, Default)]
pub struct CallerToken(Option<HeaderValue>);

impl CallerToken {
    /// The header with the token.
    pub fn header(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }

    fn of(headers: &HeaderMap) -> Self {
        let bearer = token_text(headers, true).and_then(|token| {
            let mut value = HeaderValue::try_from([b"Bearer ", &*token].concat()).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self(bearer)
    }
}

impl From<&MetadataMap> for CallerToken {
    fn from(metadata: &MetadataMap) -> Self {
        Self::of(metadata.as_ref())
    }
}

impl<S: Sync> FromRequestParts<S> for CallerToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[derive(Clone)]
pub struct Gate {
    policy: watch::Receiver<Arc<Policy>>,
    refusals: Arc<Refusals>,
    questions: Turns,
    /// Without token authentication, loopback connections of other users of this machine are
    /// refused.
    own_user_only: bool,
}

impl Default for Gate {
    /// Open to every connection.
    fn default() -> Self {
        Self::new(watch::channel(Arc::new(Policy::Open)).1)
    }
}

impl Gate {
    /// Uses this policy, as it changes.
    pub fn new(policy: watch::Receiver<Arc<Policy>>) -> Self {
        let questions = Turns::new(QUESTIONS_PER_CALLER_MAX);
        Self {
            policy,
            refusals: Arc::default(),
            questions,
            own_user_only: false,
        }
    }

    /// The same; without token authentication, only this program's user (and root) is admitted over
    /// loopback.
    pub fn for_own_user(self) -> Self {
        Self {
            own_user_only: true,
            ..self
        }
    }

    /// The services behind the gate.
    pub fn before_services(&self, routes: Routes) -> Routes {
        routes
            .into_axum_router()
            .layer(from_fn_with_state(self.clone(), check_call))
            .into()
    }

    /// The pages behind the gate: viewing them needs the role `view`.
    pub fn before_pages(&self, app: Router) -> Router {
        app.layer(from_fn_with_state(self.clone(), check_page))
    }

    /// The caller, if it has permission.
    fn check(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        need: Need,
        basic: bool,
    ) -> Result<Judged, Status> {
        let policy = Arc::clone(&self.policy.borrow());
        let table = match &*policy {
            Policy::Open => return self.check_user(peer).map(Judged::of),
            Policy::Closed(why) => {
                return Err(Status::from(CallRefusal::new(Reason::NotReady, *why)));
            }
            Policy::Table(table) => table,
        };
        if let Some(text) = presented(headers, basic) {
            let shown = Shown::of(&text, table)?;
            let caller = judge(table, &shown, need)?;
            return Ok(Judged {
                caller,
                shown: Some(shown),
                certificate: None,
            });
        }
        let certificate = peer.and_then(|peer| table.certificate_proof(&peer.names));
        let caller = certificate
            .as_ref()
            .and_then(|proof| table.by_proof(proof))
            .ok_or_else(|| {
                unauthenticated(
                    "the caller is not authenticated",
                    "use a token (--token-file), or a certificate that has a role here",
                )
            })?;
        Ok(Judged {
            caller: permitted(caller, need)?,
            shown: None,
            certificate,
        })
    }

    /// Without token authentication: checks that the connection belongs to this program's user.
    fn check_user(&self, peer: Option<&Peer>) -> Result<Caller, Status> {
        let user = peer.filter(|_| self.own_user_only).and_then(Peer::user);
        let who = match user {
            None | Some(PeerUser::Same) => return Ok(Caller::ANYBODY),
            Some(PeerUser::Other(user)) => format!("this connection is of user {user}"),
            Some(PeerUser::Unknown) => {
                "this system does not report the user of this connection".to_owned()
            }
        };
        Err(Status::from(
            CallRefusal::new(
                Reason::PermissionDenied,
                format!(
                    "this program requires no token, so it serves only the user who \
                 runs it, and {who}"
                ),
            )
            .hint(
                "run it with --access and use a token (docs/security.md), or with \
                 --insecure if every user of this machine may use it",
            ),
        ))
    }

    /// Counts a call of this caller until its response begins; `None`: calls of workers are not
    /// counted.
    fn begin_question(
        &self,
        caller: &Caller,
        peer: Option<&Peer>,
        need: Need,
    ) -> Result<Option<Turn>, Status> {
        let of_a_worker = match need {
            Need::Worker => true,
            Need::WorkerOr(_) => caller.may_work(),
            Need::Least(_) | Need::Granted(_) => false,
        };
        if of_a_worker {
            return Ok(None);
        }
        let counted_for = CountedFor::of(caller, peer.map(|peer| peer.address.ip()));
        self.questions.take(&counted_for).map(Some).ok_or_else(|| {
            Status::from(
                CallRefusal::new(
                    Reason::TooManyCalls,
                    format!(
                        "{QUESTIONS_PER_CALLER_MAX} calls of this caller are worked on \
                 already"
                    ),
                )
                .hint(
                    "wait for their answers, make fewer calls at once, or give each \
                 program a token of its own",
                ),
            )
        })
    }

    /// Logs a refusal; returns whether its connection should be closed.
    fn note(&self, peer: Option<&Peer>, path: &str, status: &Status) -> bool {
        let Some(peer) = peer else { return false };
        match self.refusals.note(peer.address.ip()) {
            Refused::HangUp => {
                peer.hang_up();
                true
            }
            Refused::Respond { first } => {
                let address = peer.address;
                let reason = status.message().lines().next().unwrap_or_default();
                if first {
                    tracing::warn!(%address, path, reason, "a call is refused");
                } else {
                    tracing::debug!(%address, path, reason, "a call is refused");
                }
                false
            }
        }
    }
}

#[derive(Debug)]
struct Judged {
    caller: Caller,
    /// The proof by token or grant, if there is one.
    shown: Option<Shown>,
    /// The proof by certificate, if there is one.
    certificate: Option<Proof>,
}

impl Judged {
    fn of(caller: Caller) -> Self {
        Self {
            caller,
            shown: None,
            certificate: None,
        }
    }

    /// Adds to a request what services need to know about its caller: the caller, its count, its
    /// proof, and its grant.
    fn annotate(&self, request: &mut Request, peer: Option<&Peer>) {
        let extensions = request.extensions_mut();
        extensions.insert(self.caller.clone());
        extensions.insert(CountedFor::of(
            &self.caller,
            peer.map(|peer| peer.address.ip()),
        ));
        match &self.shown {
            Some(Shown::Token(digest)) => drop(extensions.insert(Proof::Token(*digest))),
            Some(Shown::Grant(grant)) => drop(extensions.insert(Grant::clone(grant))),
            None => {}
        }
        if let Some(proof) = &self.certificate {
            extensions.insert(proof.clone());
        }
    }

    /// Watches the call, if a token or grant authorized it.
    fn pass(&self, gate: &Gate, need: Need) -> Option<Pass> {
        let shown = self.shown.clone()?;
        Some(Pass {
            policy: gate.policy.clone(),
            shown,
            need,
        })
    }
}

/// The token or grant of the call. An invalid token is handled like an unknown one.
fn presented(headers: &HeaderMap, basic: bool) -> Option<Vec<u8>> {
    headers.get(AUTHORIZATION)?;
    Some(token_text(headers, basic).unwrap_or_default())
}

fn token_text(headers: &HeaderMap, basic: bool) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if rest.len() > 2 * TOKEN_CHARS_MAX {
        return None;
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if basic && scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).ok()?;
        return Some(decoded.splitn(2, |byte| *byte == b':').nth(1)?.to_vec());
    }
    None
}

async fn check_call(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let path = request.uri().path();
    let checked = match methods::need(path) {
        Some(need) => gate
            .check(request.headers(), peer.as_ref(), need, false)
            .map(|judged| (judged, need)),
        None => Err(Status::unimplemented("there is no such method")),
    };
    match checked {
        Ok((judged, need)) => {
            let call = peer.as_ref().map(Peer::begin_call);
            let _question = match gate.begin_question(&judged.caller, peer.as_ref(), need) {
                Ok(question) => question,
                Err(status) => return status.into_http::<Body>(),
            };
            let pass = judged.pass(&gate, need);
            judged.annotate(&mut request, peer.as_ref());
            let Some(pass) = pass else {
                return next
                    .run(request)
                    .await
                    .map(|response| during(call, response));
            };
            let request = request.map(|body| pass.watched(body, End::Error));
            next.run(request)
                .await
                .map(|response| during(call, pass.watched(response, End::Trailers)))
        }
        Err(status) => {
            let over = gate.note(peer.as_ref(), path, &status);
            let status = if over {
                Status::from(CallRefusal::new(
                    Reason::TooManyCalls,
                    "refused too often: wait a while",
                ))
            } else {
                status
            };
            status.into_http::<Body>()
        }
    }
}

/// The body of a response; the call is in flight until it is sent.
pub(crate) fn during(call: Option<CallGuard>, body: Body) -> Body {
    match call {
        Some(call) => held_by(body, call),
        None => body,
    }
}

/// A body that keeps something until it is sent.
pub fn held_by(body: Body, kept: impl Send + Unpin + 'static) -> Body {
    Body::new(Keeping { body, _kept: kept })
}

struct Keeping<K> {
    body: Body,
    _kept: K,
}

impl<K: Unpin> HttpBody for Keeping<K> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn check_page(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    // A worker without a policy yet still reports that it is alive.
    let path = request.uri().path();
    let probe = ["/healthz", "/readyz"].contains(&path);
    let for_all = match &**gate.policy.borrow() {
        Policy::Closed(_) => probe,
        // Prometheus runs as its own user; metrics contain no rows.
        Policy::Open => probe || path == "/metrics",
        Policy::Table(_) => false,
    };
    if for_all {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let need = Need::Least(Role::View);
    let checked = gate.check(request.headers(), peer.as_ref(), need, true);
    let checked = checked.and_then(|judged| {
        Ok((
            gate.begin_question(&judged.caller, peer.as_ref(), need)?,
            judged,
        ))
    });
    let status = match checked {
        Ok((_question, judged)) => {
            let pass = judged.pass(&gate, need);
            let response = next.run(request).await;
            return match pass {
                Some(pass) => response.map(|body| pass.watched(body, End::Silence)),
                None => response,
            };
        }
        Err(status) => status,
    };
    let path = request.uri().path().to_owned();
    if status.code() != Code::ResourceExhausted && gate.note(peer.as_ref(), &path, &status) {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "refused too often: wait a while\n",
        )
            .into_response();
    }
    let code = match status.code() {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = match path.starts_with("/api/") {
        true => {
            let (error, hint) = CallRefusal::text_of(&status);
            let hint = hint.unwrap_or_default();
            let json = serde_json::json!({ "error": error, "hint": hint }).to_string();
            (code, [(CONTENT_TYPE, "application/json")], json).into_response()
        }
        false => (code, format!("{}\n", status.message())).into_response(),
    };
    if code == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::access::{AccessTable, line_for};
    use super::super::refusals::REFUSALS_BURST;
    use super::super::token::Token;
    use super::*;
    use crate::clock::now_ms;

    fn guarded(role: Role) -> (Gate, Token) {
        let token = Token::generate().unwrap();
        let text = line_for("anna", role, token.digest()).unwrap()
            + "[[certificate]]\nname = \"page\"\nrole = \"view\"\ndns = \"viewer\"\n";
        let policy = Policy::Table(AccessTable::parse(&text).unwrap());
        (Gate::new(watch::channel(Arc::new(policy)).1), token)
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn peer(names: &[&str]) -> Peer {
        let mut peer = Peer::at("10.1.1.1:5".parse().unwrap());
        peer.names = names.iter().map(|name| (*name).to_owned()).collect();
        peer
    }

    #[test]
    fn a_token_lets_in_by_its_role_and_its_text_is_in_no_answer() {
        let (gate, token) = guarded(Role::View);
        let view = Need::Least(Role::View);
        let operate = Need::Least(Role::Operate);
        assert_eq!(
            gate.check(&with(&token.header()), None, view, false)
                .unwrap()
                .caller
                .name
                .as_deref(),
            Some("anna")
        );
        let refused = gate
            .check(&with(&token.header()), None, operate, false)
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(
            refused
                .message()
                .contains("anna has the role view; this needs operate\n  hint: "),
            "{refused}"
        );
        let wrong = Token::generate().unwrap();
        let refused = gate
            .check(&with(&wrong.header()), None, view, false)
            .unwrap_err();
        assert!(
            refused.code() == Code::Unauthenticated && !refused.message().contains(wrong.reveal())
        );
        for header in [
            &token.header().replace("Bearer", "Basic"),
            "Bearer",
            "x",
            &format!("Bearer {}", "a".repeat(9_000)),
        ] {
            assert_eq!(
                gate.check(&with(header), None, view, true)
                    .unwrap_err()
                    .code(),
                Code::Unauthenticated,
                "{header}"
            );
        }
        assert_eq!(
            gate.check(&HeaderMap::new(), None, view, true)
                .unwrap_err()
                .code(),
            Code::Unauthenticated
        );
    }

    #[test]
    fn a_browser_gives_the_token_as_a_password_and_no_program_does() {
        let (gate, token) = guarded(Role::View);
        let header = with(&format!(
            "Basic {}",
            STANDARD.encode(format!("me:{}", token.reveal()))
        ));
        assert!(
            gate.check(&header, None, Need::Least(Role::View), true)
                .is_ok()
        );
        assert!(
            gate.check(&header, None, Need::Least(Role::View), false)
                .is_err()
        );
    }

    #[test]
    fn a_certificate_has_the_role_of_its_name_and_a_bad_token_spoils_it() {
        let (gate, _) = guarded(Role::View);
        let viewer = peer(&["x", "viewer"]);
        let other = peer(&["x"]);
        let view = Need::Least(Role::View);
        assert!(
            gate.check(&HeaderMap::new(), Some(&viewer), view, false)
                .is_ok()
        );
        assert!(
            gate.check(&HeaderMap::new(), Some(&other), view, false)
                .is_err()
        );
        assert!(
            gate.check(&with("Bearer wrong"), Some(&viewer), view, false)
                .is_err()
        );
    }

    #[test]
    fn only_what_a_token_opened_is_watched() {
        let (gate, token) = guarded(Role::View);
        let view = Need::Least(Role::View);
        let judged = gate
            .check(&with(&token.header()), None, view, false)
            .unwrap();
        assert!(judged.pass(&gate, view).is_some());
        let judged = gate
            .check(&HeaderMap::new(), Some(&peer(&["viewer"])), view, false)
            .unwrap();
        assert!(judged.pass(&gate, view).is_none(), "a certificate stays");
    }

    #[test]
    fn a_closed_gate_admits_no_caller_and_an_open_one_admits_all() {
        let closed = Gate::new(watch::channel(Arc::new(Policy::Closed("not yet"))).1);
        let check =
            |gate: &Gate| gate.check(&HeaderMap::new(), None, Need::Least(Role::View), false);
        assert_eq!(check(&closed).unwrap_err().code(), Code::Unavailable);
        assert_eq!(check(&Gate::default()).unwrap().caller, Caller::ANYBODY);
    }

    #[test]
    fn without_authentication_another_user_of_this_machine_is_refused() {
        let gate = Gate::default().for_own_user();
        let check = |gate: &Gate, peer: &Peer| {
            gate.check(
                &HeaderMap::new(),
                Some(peer),
                Need::Least(Role::View),
                false,
            )
        };
        let unknown = Peer::at("127.0.0.1:5".parse().unwrap());
        let refused = check(&gate, &unknown).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(
            refused.message().contains("--access") && refused.message().contains("hint: "),
            "{refused}"
        );
        let elsewhere = Peer::at("192.0.2.1:5".parse().unwrap());
        assert_eq!(check(&gate, &elsewhere).unwrap().caller, Caller::ANYBODY);
        assert_eq!(
            check(&Gate::default(), &unknown).unwrap().caller,
            Caller::ANYBODY
        );
    }

    #[test]
    fn a_caller_has_so_many_questions_at_once_and_workers_as_many_as_they_have() {
        let gate = Gate::default();
        let caller = |name: &str, role| Caller {
            name: Some(name.to_owned()),
            role: Some(role),
        };
        let person = caller("p", Role::Admin);
        let worker = caller("w", Role::Worker);
        let view = Need::Least(Role::View);
        let begin = |caller: &Caller, need| gate.begin_question(caller, None, need);
        let held: Vec<_> = (0..QUESTIONS_PER_CALLER_MAX)
            .map(|_| begin(&person, view).unwrap())
            .collect();
        let refused = begin(&person, view).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("hint: "), "{refused}");
        assert!(begin(&person, Need::WorkerOr(Role::View)).is_err());
        assert!(begin(&caller("q", Role::View), view).is_ok());
        for _ in 0..2 * QUESTIONS_PER_CALLER_MAX {
            assert!(
                begin(&worker, Need::WorkerOr(Role::View))
                    .unwrap()
                    .is_none()
            );
            assert!(begin(&worker, Need::Worker).unwrap().is_none());
        }
        drop(held);
        assert!(begin(&person, view).is_ok());
    }

    #[test]
    fn a_grant_opens_its_use_alone_while_its_caller_may() {
        use super::super::grant::{GRANT_LIFETIME, Granter, Use};
        let granter = Granter::new().unwrap();
        let job = || "sales".parse().unwrap();
        let token = Token::generate().unwrap();
        let worker = |text: &str| {
            let wire = AccessTable::parse(text)
                .unwrap()
                .to_wire(granter.public_key());
            Gate::new(watch::channel(Arc::new(Policy::from_wire(wire).unwrap())).1)
        };
        let table = line_for("anna", Role::View, token.digest()).unwrap();
        let gate = worker(&table);
        let proof = Proof::Token(token.digest());
        let grant = granter
            .grant(job(), Use::Read, Some(&proof), now_ms())
            .unwrap();
        let [read, act] = [Role::View, Role::Operate].map(Need::Granted);
        let check = |gate: &Gate, grant: &Token, need| {
            gate.check(&with(&grant.header()), None, need, false)
        };
        let judged = check(&gate, &grant, read).unwrap();
        assert_eq!(
            judged.caller,
            Caller {
                name: Some("anna".into()),
                role: Some(Role::View)
            }
        );
        for need in [
            Need::Least(Role::View),
            act,
            Need::Worker,
            Need::WorkerOr(Role::View),
        ] {
            assert_eq!(
                check(&gate, &grant, need).unwrap_err().code(),
                Code::PermissionDenied,
                "{need:?}"
            );
        }
        let [gone, lowered] = ["".to_owned(), table.replace("view", "worker")];
        for left in [gone, lowered] {
            assert_eq!(
                check(&worker(&left), &grant, read).unwrap_err().code(),
                Code::Unauthenticated,
                "{left}"
            );
        }
        let old = now_ms() - i64::try_from(GRANT_LIFETIME.as_millis()).unwrap();
        let expired = granter.grant(job(), Use::Read, Some(&proof), old).unwrap();
        assert!(
            check(&gate, &expired, read)
                .unwrap_err()
                .message()
                .contains("has expired")
        );
        let foreign = Granter::new()
            .unwrap()
            .grant(job(), Use::Read, Some(&proof), now_ms())
            .unwrap();
        assert_eq!(
            check(&gate, &foreign, read).unwrap_err().code(),
            Code::Unauthenticated
        );
        let (controllers, _) = guarded(Role::View);
        assert_eq!(
            check(&controllers, &grant, read).unwrap_err().code(),
            Code::Unauthenticated,
            "for workers only"
        );
        let verify = granter.grant(job(), Use::Verify, None, now_ms()).unwrap();
        assert!(check(&gate, &verify, act).is_ok(), "a controller's own");
        assert!(check(&gate, &verify, read).is_err());
    }

    #[tokio::test]
    async fn a_question_counts_until_its_answer_begins() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio::net::{TcpListener, TcpStream};
        use tokio::sync::Semaphore;
        let began = Arc::new(Semaphore::new(0));
        let release = Arc::new(Semaphore::new(0));
        let begins = Arc::clone(&began);
        let released = Arc::clone(&release);
        let slow = move || async move {
            begins.add_permits(1);
            released.acquire().await.unwrap().forget();
            "done"
        };
        let app =
            Gate::default().before_pages(Router::new().route("/slow", axum::routing::get(slow)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::http::serve(listener, app, std::future::pending()));
        let fetch = move || async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        };
        let requests: Vec<_> = (0..QUESTIONS_PER_CALLER_MAX)
            .map(|_| tokio::spawn(fetch()))
            .collect();
        let all = u32::try_from(QUESTIONS_PER_CALLER_MAX).unwrap();
        began.acquire_many(all).await.unwrap().forget();
        let refused = fetch().await;
        assert!(
            refused.starts_with("HTTP/1.1 429") && refused.contains("hint: "),
            "{refused}"
        );
        release.add_permits(QUESTIONS_PER_CALLER_MAX + 1);
        for response in requests {
            assert!(response.await.unwrap().starts_with("HTTP/1.1 200"));
        }
        assert!(fetch().await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn who_is_refused_too_often_loses_the_connection() {
        let (gate, _) = guarded(Role::View);
        let peer = peer(&[]);
        let status = unauthenticated("no", "x");
        let over = (0..=REFUSALS_BURST)
            .filter(|_| gate.note(Some(&peer), "/x", &status))
            .count();
        assert_eq!(over, 1);
    }
}
