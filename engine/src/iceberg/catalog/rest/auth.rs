//! Tokens and signatures for a catalog.
//!
//! Owns: fetching and renewing tokens, signing for AWS. Does not own: where AWS credentials come
//! from (the SDK's providers).
//! Rule: a secret is in no message and no debug output.

use super::answer::{self, Meaning};
use super::encoded;
use super::transport::{Call, Failure, Transport};
use crate::aws::role_error;
use crate::clock::Clock;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use serde::Deserialize;
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A token is renewed this long before it expires.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// How long a token holds that states no end.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The AWS services that are Iceberg catalogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Glue,
    S3Tables,
}

impl Service {
    /// The name in signatures and in the service's address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glue => "glue",
            Self::S3Tables => "s3tables",
        }
    }

    /// The address of the service's catalog.
    pub fn uri(self, region: &str) -> String {
        format!("https://{}.{region}.amazonaws.com/iceberg", self.name())
    }
}

/// How calls are authorised.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    Bearer(Secret),
    /// OAuth 2 with client credentials.
    Client {
        /// `None`: the catalog's own.
        token_uri: Option<String>,
        id: Option<String>,
        secret: Secret,
        scope: Option<String>,
    },
    /// AWS Signature Version 4.
    Aws {
        service: Service,
        region: String,
        credentials: SharedCredentialsProvider,
    },
}

struct Token {
    text: Secret,
    until: Instant,
}

pub(super) struct Signer {
    auth: Auth,
    own_token_uri: String,
    token: Mutex<Option<Token>>,
    clock: Clock,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: Option<u64>,
}

impl Signer {
    pub(super) fn new(uri: &str, auth: Auth, clock: Clock) -> Self {
        Self {
            auth,
            own_token_uri: format!("{}/v1/oauth/tokens", uri.trim_end_matches('/')),
            token: Mutex::new(None),
            clock,
        }
    }

    /// The headers that authorise this call.
    pub(super) async fn headers(
        &self,
        transport: &Transport,
        call: &Call,
    ) -> Result<Vec<(String, String)>, Failure> {
        match &self.auth {
            Auth::None => Ok(vec![]),
            Auth::Bearer(token) => Ok(bearer(token)),
            Auth::Client {
                token_uri,
                id,
                secret,
                scope,
            } => {
                let mut kept = self.token.lock().await;
                if let Some(token) = kept.as_ref()
                    && Instant::now() < token.until
                {
                    return Ok(bearer(&token.text));
                }
                let uri = token_uri.as_ref().unwrap_or(&self.own_token_uri);
                let request = form(id.as_deref(), secret, scope.as_deref());
                let token = fetch(transport, uri, request).await?;
                let headers = bearer(&token.text);
                *kept = Some(token);
                Ok(headers)
            }
            Auth::Aws {
                service,
                region,
                credentials,
            } => {
                let found = credentials.provide_credentials().await;
                let found = found.map_err(|error| {
                    Failure::NotSent(match role_error(&error) {
                        // A trust policy comes and goes: the epoch waits for it.
                        Some(role) => format!("{role}; {}", role.hint()),
                        None => format!(
                            "there are no AWS credentials: {}",
                            streamctl_proto::describe(&error)
                        ),
                    })
                })?;
                let millis = u64::try_from((self.clock)()).unwrap_or(0);
                let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
                signed(call, &found.into(), service.name(), region, time)
            }
        }
    }

    /// Forgets the token that these headers carry, unless another call has renewed it already.
    pub(super) async fn forget(&self, headers: &[(String, String)]) {
        let mut kept = self.token.lock().await;
        let same = kept
            .as_ref()
            .is_some_and(|token| bearer(&token.text) == headers);
        if same {
            *kept = None;
        }
    }
}

fn bearer(token: &Secret) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {}", token.0))]
}

fn form(id: Option<&str>, secret: &Secret, scope: Option<&str>) -> Vec<u8> {
    let mut form = "grant_type=client_credentials".to_owned();
    let scope = scope.unwrap_or("catalog");
    let fields = [
        ("client_id", id),
        ("client_secret", Some(secret.0.as_str())),
        ("scope", Some(scope)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            form.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    form.into_bytes()
}

async fn fetch(transport: &Transport, uri: &str, form: Vec<u8>) -> Result<Token, Failure> {
    let mut call = Call::post(uri.to_owned(), form);
    call.content_type = "application/x-www-form-urlencoded";
    // The call that needs the token is not sent yet, whatever becomes of this one.
    let reply = match transport.send(&call, &[]).await {
        Ok(reply) => reply,
        Err(Failure::Unknown(reason)) => return Err(Failure::NotSent(reason)),
        Err(other) => return Err(other),
    };
    match answer::meaning(&reply) {
        Meaning::Done => {}
        Meaning::Busy(reason) | Meaning::Unknown(reason) => return Err(Failure::NotSent(reason)),
        _ => {
            return Err(Failure::Impossible {
                reason: format!("{uri} issues no token: it answers with {}", reply.status),
                hint: "check the client's id, secret and scope".into(),
            });
        }
    }
    let issued: Issued = answer::body(&reply).map_err(|error| Failure::Impossible {
        reason: format!("{uri}: {error}"),
        hint: "check the address of the token service".into(),
    })?;
    let life = issued.expires_in.map_or(TOKEN_LIFE, Duration::from_secs);
    // A token of a short life is used for half of it.
    let life = life.saturating_sub(RENEW_BEFORE).max(life / 2);
    Ok(Token {
        text: Secret(issued.access_token),
        until: Instant::now() + life,
    })
}

fn signed(
    call: &Call,
    identity: &Identity,
    service: &str,
    region: &str,
    time: SystemTime,
) -> Result<Vec<(String, String)>, Failure> {
    let failed = |error: &dyn fmt::Display| Failure::Impossible {
        reason: format!("{} cannot be signed: {error}", call.url),
        hint: "check the catalog's address and region".into(),
    };
    let params = v4::SigningParams::builder()
        .identity(identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build();
    let params = params.map_err(|error| failed(&error))?.into();
    let headers = call.headers();
    let headers = headers
        .iter()
        .filter(|(name, _)| name == "content-type")
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let body = SignableBody::Bytes(&call.body);
    let request = SignableRequest::new(call.method.name(), call.url.as_str(), headers, body);
    let request = request.map_err(|error| failed(&error))?;
    let signed = sign(request, &params).map_err(|error| failed(&error))?;
    let (instructions, _) = signed.into_parts();
    let headers = instructions.headers();
    Ok(headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests;
