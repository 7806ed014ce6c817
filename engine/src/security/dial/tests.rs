//! Both ends of a connection, with certificates in files that change.

use super::super::accept::{Connection, HANDSHAKE_TIMEOUT, Limits, for_grpc, incoming};
use super::super::tls::{Pair, ServerTls};
use super::*;
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::SocketAddr;
use streamctl_proto::v1::ListJobsRequest;
use streamctl_proto::v1::jobs_client::JobsClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An authority in a folder, whose certificate is `ca.pem`.
struct Authority(tempfile::TempDir, Issuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        Self(folder, Issuer::new(params, key))
    }

    fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    fn issue(&self, name: &str, names: &[&str]) -> Pair {
        let params = CertificateParams::new(
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let key = KeyPair::generate().unwrap();
        let [cert, own] = ["pem", "key"].map(|kind| self.0.path().join(format!("{name}.{kind}")));
        std::fs::write(&cert, params.signed_by(&key, &self.1).unwrap().pem()).unwrap();
        std::fs::write(&own, key.serialize_pem()).unwrap();
        Pair { cert, key: own }
    }

    fn dialer(&self, pair: Option<Pair>) -> Dialer {
        Dialer::new(DialerFiles {
            ca: Some(self.ca()),
            pair,
            ..DialerFiles::default()
        })
        .unwrap()
    }
}

type Connections = tokio_stream::wrappers::ReceiverStream<std::io::Result<Connection>>;

async fn listening(tls: &ServerTls) -> (SocketAddr, Connections) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (
        address,
        incoming(
            listener,
            for_grpc(Some(Arc::clone(tls))),
            Limits {
                connections: 8,
                first_call: None,
            },
        ),
    )
}

#[tokio::test]
async fn a_connection_that_sends_nothing_after_its_handshake_is_closed() {
    let authority = Authority::new();
    let tls = tls::server(&authority.issue("server", &["127.0.0.1"]), None, false).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        connections: 8,
        first_call: Some(std::time::Duration::from_millis(200)),
    };
    let routes = tonic::service::Routes::default();
    let connections = incoming(listener, for_grpc(Some(tls)), limits);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(connections),
    );
    let mut connection = open(&authority.dialer(None), address).await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(HANDSHAKE_TIMEOUT, connection.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "it is still open");
}

async fn open(dialer: &Dialer, at: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let mut secured = dialer
        .secured("127.0.0.1", DisconnectReason::default())
        .unwrap();
    secured
        .call(format!("http://{at}").parse().unwrap())
        .await
        .map(|connection| connection.into_inner().into_inner())
}

/// The certificate that the server sent.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let authority = Authority::new();
    let pair = authority.issue("server", &["127.0.0.1"]);
    let tls = tls::server(&pair, None, false).unwrap();
    let (at, mut connections) = listening(&tls).await;
    let dialer = authority.dialer(None);
    let mut old = open(&dialer, at).await.unwrap();
    let mut served = connections.next().await.unwrap().unwrap();

    authority.issue("server", &["127.0.0.1"]);
    tls.reload();
    let new = open(&dialer, at).await.unwrap();
    assert_ne!(shown(&old), shown(&new));
    // Half of a pair: the key of another certificate.
    std::fs::write(&pair.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    tls.reload();
    assert_eq!(
        shown(&open(&dialer, at).await.unwrap()),
        shown(&new),
        "what does not fit is not used"
    );

    old.write_all(b"still").await.unwrap();
    let mut received = [0; 5];
    served.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"still");
}

#[tokio::test]
async fn who_is_not_trusted_gets_no_line_on_either_side() {
    let ours = Authority::new();
    let theirs = Authority::new();
    let tls = tls::server(
        &ours.issue("server", &["127.0.0.1"]),
        Some(&ours.ca()),
        false,
    )
    .unwrap();
    let (at, mut connections) = listening(&tls).await;
    let reported = open(&theirs.dialer(None), at)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        trust_hint(&reported).unwrap().contains("--ca"),
        "{reported}"
    );
    let good = ours.dialer(Some(ours.issue("client", &["me", "other"])));
    let _line = open(&good, at).await.unwrap();
    let peer = connections.next().await.unwrap().unwrap().peer;
    assert_eq!(*peer.names, ["me".to_owned(), "other".to_owned()]);

    // With TLS 1.3 a client learns of it when it reads.
    for stranger in [
        ours.dialer(None),
        Dialer::new(DialerFiles {
            ca: Some(ours.ca()),
            pair: Some(theirs.issue("client", &["me"])),
            ..DialerFiles::default()
        })
        .unwrap(),
    ] {
        let mut connection = open(&stranger, at).await.unwrap();
        let reported = connection.read_u8().await.unwrap_err().to_string();
        assert!(
            reported.contains("CertificateRequired")
                || reported.contains("UnknownCA")
                || reported.contains("DecryptError"),
            "{reported}"
        );
    }

    // A call that is too late to be sent gets the reason too.
    let connection = ours
        .dialer(None)
        .connection(&format!("https://{at}"), |endpoint| endpoint)
        .unwrap();
    let disconnect_reason = connection.disconnect_reason.clone();
    let mut client = JobsClient::new(connection);
    for _ in 0..2 {
        let status = client.list_jobs(ListJobsRequest::default()).await;
        let (text, hint) = CallRefusal::text_of(&cause_of(status.unwrap_err()));
        assert!(
            text.contains("CertificateRequired") && hint.is_some(),
            "{text}"
        );
        assert!(disconnect_reason.text().is_some());
    }

    // The right authority, for another address.
    let tls = tls::server(
        &ours.issue("elsewhere", &["10.0.0.1", "streamctl"]),
        None,
        false,
    )
    .unwrap();
    let (at, _connections) = listening(&tls).await;
    let reported = open(&ours.dialer(None), at).await.unwrap_err().to_string();
    assert!(
        trust_hint(&reported).is_some_and(|hint| hint.contains("--tls-name")),
        "{reported}"
    );
    let named = DialerFiles {
        ca: Some(ours.ca()),
        peer_name: Some("streamctl".into()),
        ..DialerFiles::default()
    };
    assert!(open(&Dialer::new(named).unwrap(), at).await.is_ok());
}

/// A server that answers nothing to whatever it reads.
async fn closing() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _read = stream.read(&mut [0; 1_024]).await;
            let _closed = stream.shutdown().await;
            // What is unread at the end would reset the connection.
            let _rest = stream.read_to_end(&mut vec![]).await;
        }
    });
    address
}

#[tokio::test]
async fn a_client_that_mixes_up_tls_and_plain_ports_is_shown_the_right_address() {
    let authority = Authority::new();
    let tls = tls::server(&authority.issue("server", &["127.0.0.1"]), None, false).unwrap();
    let (secured, _connections) = listening(&tls).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
    tokio::spawn(
        server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let call = async |url: String| {
        let connection = match authority
            .dialer(None)
            .connect(&url, |endpoint| endpoint)
            .await
        {
            Ok(connection) => connection,
            Err(status) => return CallRefusal::text_of(&status),
        };
        let mut client = JobsClient::new(connection);
        let answer = client.list_jobs(ListJobsRequest::default()).await;
        CallRefusal::text_of(&cause_of(answer.unwrap_err()))
    };
    assert_eq!(
        call(format!("http://{secured}")).await,
        (
            "it speaks TLS there".to_owned(),
            Some("write https:// instead of http://".to_owned())
        )
    );
    let (_, hint) = call(format!("https://{plain}")).await;
    let hint = hint.unwrap_or_default();
    assert!(
        hint.contains("it does not speak TLS there: write http://"),
        "{hint}"
    );
    // A server of HTTP/1 reads the beginning, and closes.
    let (text, hint) = call(format!("http://{}", closing().await)).await;
    assert_eq!(text, "it closed the connection without an answer");
    assert!(hint.unwrap_or_default().contains("--http-listen"));
    // A plain client to a plain server, and the other way round.
    assert!(!call(format!("http://{plain}")).await.0.contains("TLS"));
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_dropped_and_holds_up_no_others() {
    let authority = Authority::new();
    let tls = tls::server(&authority.issue("server", &["127.0.0.1"]), None, false).unwrap();
    let (at, mut connections) = listening(&tls).await;
    let mut silent = TcpStream::connect(at).await.unwrap();
    let _line = open(&authority.dialer(None), at).await.unwrap();
    assert!(
        connections.next().await.unwrap().is_ok(),
        "another one came in meanwhile"
    );
    // From here on only the time-out can happen.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(begun.elapsed() <= HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn a_token_goes_over_tls_or_loopback_only() {
    let dialer = Dialer::default().with_token(Token::generate().unwrap());
    for good in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
        assert!(
            dialer.connection(good, |endpoint| endpoint).is_ok(),
            "{good}"
        );
    }
    let refused = dialer
        .connection("http://10.0.0.1:1", |endpoint| endpoint)
        .map(drop)
        .unwrap_err();
    assert!(
        refused.message().contains("hint: write https://"),
        "{refused}"
    );
    assert!(
        Dialer::default()
            .connection("http://10.0.0.1:1", |endpoint| endpoint)
            .is_ok()
    );
    for bad in ["127.0.0.1:1", "ftp://a", "http://a b"] {
        assert!(
            dialer.connection(bad, |endpoint| endpoint).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn a_flight_address_without_a_scheme_is_plain() {
    let both = |address: &str| {
        (
            flight_location(address),
            flight_url(&flight_location(address)),
        )
    };
    assert_eq!(both("h:1"), ("grpc://h:1".into(), "http://h:1".into()));
    assert_eq!(
        both("grpc+tls://h:1"),
        ("grpc+tls://h:1".into(), "https://h:1".into())
    );
    assert_eq!(flight_url("grpc+tcp://h:1"), "http://h:1");
}

#[test]
fn a_leader_is_never_asked_over_a_worse_line_than_who_named_it() {
    assert_eq!(like("https://a:1", "b:2"), "https://b:2");
    assert_eq!(like("http://a:1", "b:2"), "http://b:2");
    assert_eq!(like("https://a:1", "http://b:2"), "https://b:2");
}
