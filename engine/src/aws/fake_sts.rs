//! A server of `sts:AssumeRole` for tests.
//!
//! Rule: the key of a role is `ROLE-` and the last part of its ARN; roles can be denied while it runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Largest request that is read.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// One call of `sts:AssumeRole`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    pub role_arn: String,
    pub session_name: String,
    /// The access key that signed the call.
    pub key: String,
}

#[derive(Debug)]
struct State {
    calls: Vec<Assumed>,
    denied: BTreeSet<String>,
    expires: String,
    suffix: String,
    tokens: bool,
}

/// A server that runs as long as its runtime.
#[derive(Clone, Debug)]
pub struct FakeSts {
    address: String,
    state: Arc<Mutex<State>>,
}

impl FakeSts {
    /// Starts on a free port of this machine.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let fake = Self {
            address: format!("http://127.0.0.1:{port}"),
            state: Arc::new(Mutex::new(State {
                calls: vec![],
                denied: BTreeSet::new(),
                expires: "2099-01-01T00:00:00Z".to_owned(),
                suffix: String::new(),
                tokens: true,
            })),
        };
        let served = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(stream).await });
            }
        });
        fake
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn calls(&self) -> Vec<Assumed> {
        self.state().calls.clone()
    }

    /// From now on the keys of every role end at this time, as RFC 3339, and have this behind their
    /// names.
    pub fn issue(&self, expires: &str, suffix: &str) {
        let mut state = self.state();
        state.expires = expires.to_owned();
        state.suffix = suffix.to_owned();
    }

    /// From now on keys have no session token: for services that know the keys themselves.
    pub fn issue_without_tokens(&self) {
        self.state().tokens = false;
    }

    /// From now on the role is denied.
    pub fn deny(&self, role_arn: &str) {
        self.state().denied.insert(role_arn.to_owned());
    }

    /// From now on the role is given again.
    pub fn allow(&self, role_arn: &str) {
        self.state().denied.remove(role_arn);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the requests of one connection.
    async fn serve(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        loop {
            let Some((head, body)) = request(&mut stream, &mut read).await else {
                return;
            };
            let (status, xml) = self.answer(&head, &body);
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n{xml}",
                xml.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, head: &str, form: &str) -> (&'static str, String) {
        let role_arn = field(form, "RoleArn");
        let session_name = field(form, "RoleSessionName");
        let key = head.split("Credential=").nth(1).unwrap_or_default();
        let key = key.split('/').next().unwrap_or_default().to_owned();
        let mut state = self.state();
        state.calls.push(Assumed {
            role_arn: role_arn.clone(),
            session_name: session_name.clone(),
            key: key.clone(),
        });
        if state.denied.contains(&role_arn) {
            let message = format!(
                "User: {key} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            );
            let xml = format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>AccessDenied</Code><Message>{message}</Message></Error>\
                 <RequestId>1</RequestId></ErrorResponse>"
            );
            return ("403 Forbidden", xml);
        }
        let name = role_arn.rsplit('/').next().unwrap_or_default();
        let State {
            expires,
            suffix,
            tokens,
            ..
        } = &*state;
        let token = match tokens {
            true => format!("token-{name}"),
            false => String::new(),
        };
        let xml = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
             <AssumedRoleUser><Arn>{role_arn}</Arn><AssumedRoleId>id:{session_name}</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>ROLE-{name}{suffix}</AccessKeyId><SecretAccessKey>secret-{name}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        );
        ("200 OK", xml)
    }
}

/// A field of a form; the few characters that ARNs and names have are decoded.
fn field(form: &str, name: &str) -> String {
    let pairs = form.split('&');
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value);
    value.replace("%3A", ":").replace("%2F", "/")
}

/// Head and body of the next request.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if read.len() >= whole {
                let body = String::from_utf8_lossy(&read[end + 4..whole]).into_owned();
                read.drain(..whole);
                return Some((head, body));
            }
        }
        if read.len() > REQUEST_BYTES_MAX {
            return None;
        }
        match stream.read_buf(read).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
