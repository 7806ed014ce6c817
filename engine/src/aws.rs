//! Clients of AWS services and of their replacements.
//!
//! Owns: credentials, regions, endpoints, timeouts and the SDK's retries. Does not own: the
//! requests to a service (`storage::s3`, `catalog`, the Kinesis reader), when the keys of a role
//! are renewed ([`roles`]).
//! Rule: the environment's settings are loaded once, with the first client; a job without AWS
//! services never looks for credentials.

#[cfg(any(test, feature = "test-util"))]
pub mod fake_sts;
mod roles;

pub use roles::{ROLE_RENEW_BEFORE, ROLES_MAX, RoleCause, RoleError, RoleKeys, role_error};

use crate::calls::InFlight;
use crate::clock::{Clock, system_clock};
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use futures::future::BoxFuture;
use roles::RoleProvider;
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::AssumedRole;
use tokio::sync::{Mutex, OnceCell};

/// Attempts of one call to S3 or Glue, including the first.
pub const ATTEMPTS_MAX: u32 = 4;
/// Longest wait of the SDK between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time of one attempt; a part of 8 MiB needs 280 KB/s.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time of one call to Kinesis: a response has up to 10 MiB.
pub const KINESIS_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Most cached Kinesis clients, one per stream's address: all readers of a stream share connections
/// and the credentials of an assumed role.
pub const KINESIS_CLIENTS_MAX: usize = 64;
/// Session name of an assumed role if the job names none.
pub const SESSION_NAME_DEFAULT: &str = "streamctl";

/// Settings besides the environment's AWS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// Name buckets in the path instead of the host; servers other than AWS need that.
    pub s3_path_style: bool,
    /// What messages call this program; empty: it has no name.
    program: String,
}

impl AwsSettings {
    /// Uses path style if the environment names another S3 endpoint. Call it once, in `main`.
    #[allow(clippy::disallowed_methods)]
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        Self {
            s3_path_style: set("AWS_ENDPOINT_URL_S3") || set("AWS_ENDPOINT_URL"),
            program: String::new(),
        }
    }

    /// The same, of a program with a name: `worker`, `w-1`.
    pub fn of(self, kind: &str, name: &str) -> Self {
        let program = format!("{kind} {name}");
        Self { program, ..self }
    }

    fn program(&self) -> &str {
        match self.program.as_str() {
            "" => "this program",
            name => name,
        }
    }
}

/// Makes clients; a clone shares the loaded settings.
#[derive(Clone, Debug)]
pub struct Aws {
    shared: Arc<Shared>,
}

struct Shared {
    settings: AwsSettings,
    /// When keys of roles are renewed.
    clock: Clock,
    config: OnceCell<SdkConfig>,
    s3: OnceCell<aws_sdk_s3::Client>,
    kinesis: Mutex<Vec<(StreamAddress, aws_sdk_kinesis::Client)>>,
    /// The last used ones.
    roles: Mutex<Vec<(RoleSession, Arc<RoleProvider>)>>,
    /// S3 by these roles; the last used ones.
    s3_by_role: Mutex<Vec<(AssumedRole, aws_sdk_s3::Client)>>,
    /// The only authority that is trusted, in PEM; `None`: the system's.
    authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.settings).finish()
    }
}

/// A session of a role, and the region whose STS gives its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RoleSession {
    role: AssumedRole,
    region: Option<String>,
}

/// The value of a key, which is now the last used one.
fn recent<K: PartialEq, V: Clone>(kept: &mut Vec<(K, V)>, key: &K) -> Option<V> {
    let index = kept.iter().position(|(other, _)| other == key)?;
    let entry = kept.remove(index);
    let value = entry.1.clone();
    kept.push(entry);
    Some(value)
}

/// Keeps a value; if there are too many, the one that was not used for longest goes.
fn keep<K, V>(kept: &mut Vec<(K, V)>, key: K, value: V) {
    if kept.len() >= ROLES_MAX {
        kept.remove(0);
    }
    kept.push((key, value));
}

impl Aws {
    pub fn new(settings: AwsSettings) -> Self {
        Self::with(settings, None, system_clock())
    }

    fn with(settings: AwsSettings, authority: Option<Vec<u8>>, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                clock,
                config: OnceCell::new(),
                s3: OnceCell::new(),
                kinesis: Mutex::default(),
                roles: Mutex::default(),
                s3_by_role: Mutex::default(),
                authority,
            }),
        }
    }

    /// HTTP connections of their own, which no other client shares.
    pub(crate) fn new_http(&self) -> SharedHttpClient {
        let builder = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        let Some(authority) = &self.shared.authority else {
            return builder.build_https();
        };
        let trusted = TrustStore::empty().with_pem_certificate(authority.as_slice());
        let context = TlsContext::builder().with_trust_store(trusted).build();
        builder
            .tls_context(context.expect("the authority is a certificate"))
            .build_https()
    }

    /// S3 at this address only, regardless of the environment.
    #[cfg(test)]
    pub(crate) async fn at(endpoint: &str) -> Self {
        let keys = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS_MAX)
            .with_initial_backoff(Duration::from_millis(1))
            .with_max_backoff(Duration::from_millis(1));
        let loader =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
        let config = loader
            .credentials_provider(keys)
            .retry_config(retries)
            .load()
            .await;
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            .endpoint_url(endpoint)
            .interceptor(InFlight)
            .force_path_style(true);
        let aws = Self::new(AwsSettings::default());
        let set = aws.shared.s3.set(aws_sdk_s3::Client::from_conf(s3.build()));
        set.expect("nobody else has these clients yet");
        aws
    }

    /// Every service at this address with these made-up keys, regardless of the environment: for
    /// fakes.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn with_fake(endpoint: &str, key: &str) -> Self {
        Self::fake(endpoint, key, AwsSettings::default(), system_clock()).await
    }

    /// The same for a program with this name and clock.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn with_fake_as(endpoint: &str, key: &str, program: &str, clock: Clock) -> Self {
        let program = program.to_owned();
        let settings = AwsSettings {
            program,
            ..AwsSettings::default()
        };
        Self::fake(endpoint, key, settings, clock).await
    }

    #[cfg(any(test, feature = "test-util"))]
    async fn fake(endpoint: &str, key: &str, settings: AwsSettings, clock: Clock) -> Self {
        let keys = aws_sdk_s3::config::Credentials::new(key, "secret", None, None, "fake");
        let loader =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
        let loader = loader
            .credentials_provider(keys)
            .endpoint_url(endpoint)
            .timeout_config(timeouts(ATTEMPT_TIMEOUT));
        let settings = AwsSettings {
            s3_path_style: true,
            ..settings
        };
        let aws = Self::with(settings, None, clock);
        aws.shared
            .config
            .set(loader.load().await)
            .expect("nobody else has these settings yet");
        aws
    }

    /// The same over TLS, for a fake whose certificate this authority signed.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn with_fake_over_tls(endpoint: &str, key: &str, authority: Vec<u8>) -> Self {
        let trusting = Self::with(AwsSettings::default(), Some(authority), system_clock());
        let fake = Self::with_fake(endpoint, key).await;
        let config = fake.config().await.to_builder();
        let config = config.http_client(trusting.new_http()).build();
        trusting
            .shared
            .config
            .set(config)
            .expect("nobody else has these settings yet");
        trusting
    }

    /// The environment's settings: variables, `~/.aws`, the instance's role. Credentials are loaded
    /// at the first call.
    async fn config(&self) -> &SdkConfig {
        let load = || async {
            let retries = RetryConfig::standard()
                .with_max_attempts(ATTEMPTS_MAX)
                .with_max_backoff(BACKOFF_MAX);
            let loader = aws_config::defaults(BehaviorVersion::latest());
            loader
                .retry_config(retries)
                .timeout_config(timeouts(ATTEMPT_TIMEOUT))
                .load()
                .await
        };
        self.shared.config.get_or_init(load).await
    }

    /// What requests are signed with that no SDK sends: the region, `None` if the environment has
    /// none, and the credentials, of this role if one is given.
    pub async fn signing(
        &self,
        role: Option<&AssumedRole>,
        region: Option<&str>,
    ) -> (Option<String>, Option<SharedCredentialsProvider>) {
        let credentials = match role {
            Some(role) => Some(self.credentials(role, region).await),
            None => self.config().await.credentials_provider(),
        };
        (self.region().await, credentials)
    }

    /// The environment's region.
    pub async fn region(&self) -> Option<String> {
        self.config().await.region().map(ToString::to_string)
    }

    /// The credentials of a role. `region`: where STS is called; `None`: in the environment's.
    pub async fn credentials(
        &self,
        role: &AssumedRole,
        region: Option<&str>,
    ) -> SharedCredentialsProvider {
        let provider = self.role_provider(role, region).await;
        SharedCredentialsProvider::new(OfRole(provider))
    }

    /// On the heap: few calls come here, and the futures of all would have room for it.
    fn role_provider<'a>(
        &'a self,
        role: &'a AssumedRole,
        region: Option<&'a str>,
    ) -> BoxFuture<'a, Arc<RoleProvider>> {
        Box::pin(self.find_role_provider(role, region))
    }

    /// Keys of a role that hold for at least this long, if the role has such.
    ///
    /// # Errors
    /// It is not assumed.
    pub async fn role_keys(
        &self,
        role: &AssumedRole,
        least: Duration,
    ) -> Result<RoleKeys, RoleError> {
        let provider = self.role_provider(role, None).await;
        provider.keys(least).await.map(RoleKeys::from)
    }

    async fn find_role_provider(
        &self,
        role: &AssumedRole,
        region: Option<&str>,
    ) -> Arc<RoleProvider> {
        let config = self.config().await;
        let region = region.map(str::to_owned);
        let session = RoleSession {
            role: role.clone(),
            region: region.or_else(|| config.region().map(ToString::to_string)),
        };
        let mut kept = self.shared.roles.lock().await;
        if let Some(provider) = recent(&mut kept, &session) {
            return provider;
        }
        let calls = SharedCredentialsProvider::new(assume(&session, config).await);
        let provider = Arc::new(RoleProvider::new(
            self.shared.settings.program().to_owned(),
            role.role_arn.clone(),
            calls,
            Clock::clone(&self.shared.clock),
        ));
        keep(&mut kept, session, Arc::clone(&provider));
        provider
    }

    /// S3, in the environment's region.
    pub async fn s3(&self) -> aws_sdk_s3::Client {
        let make = || async {
            let settings = self.s3_settings().await;
            aws_sdk_s3::Client::from_conf(settings.build())
        };
        self.shared.s3.get_or_init(make).await.clone()
    }

    /// The same by this role; `None`: with the program's own credentials.
    pub async fn s3_as(&self, role: Option<&AssumedRole>) -> aws_sdk_s3::Client {
        match role {
            None => self.s3().await,
            // On the heap: see `role_provider`.
            Some(role) => Box::pin(self.s3_by_role(role)).await,
        }
    }

    async fn s3_by_role(&self, role: &AssumedRole) -> aws_sdk_s3::Client {
        let mut kept = self.shared.s3_by_role.lock().await;
        if let Some(client) = recent(&mut kept, role) {
            return client;
        }
        let credentials = self.credentials(role, None).await;
        let settings = self.s3_settings().await;
        let settings = settings.credentials_provider(credentials).build();
        let client = aws_sdk_s3::Client::from_conf(settings);
        keep(&mut kept, role.clone(), client.clone());
        client
    }

    async fn s3_settings(&self) -> aws_sdk_s3::config::Builder {
        let config = self.config().await;
        let path_style = self.shared.settings.s3_path_style || config.endpoint_url().is_some();
        aws_sdk_s3::config::Builder::from(config)
            .interceptor(InFlight)
            .force_path_style(path_style)
    }

    /// The Data Catalog; `region` if it is not the environment's.
    pub async fn glue(&self, region: Option<&str>) -> aws_sdk_glue::Client {
        self.glue_as(None, region).await
    }

    /// The same by this role; `None`: with the program's own credentials.
    pub async fn glue_as(
        &self,
        role: Option<&AssumedRole>,
        region: Option<&str>,
    ) -> aws_sdk_glue::Client {
        let config = self.config().await;
        let mut glue = aws_sdk_glue::config::Builder::from(config).interceptor(InFlight);
        if let Some(region) = region {
            glue = glue.region(Region::new(region.to_owned()));
        }
        if let Some(role) = role {
            glue = glue.credentials_provider(self.credentials(role, region).await);
        }
        aws_sdk_glue::Client::from_conf(glue.build())
    }

    /// The stream's service. It does not retry: the reader paces and backs off itself.
    pub async fn kinesis(&self, stream: &StreamAddress) -> aws_sdk_kinesis::Client {
        let mut kept = self.shared.kinesis.lock().await;
        if let Some((_, client)) = kept.iter().find(|(address, _)| address == stream) {
            return client.clone();
        }
        let client = self.new_kinesis(stream).await;
        if kept.len() >= KINESIS_CLIENTS_MAX {
            kept.remove(0);
        }
        kept.push((stream.clone(), client.clone()));
        client
    }

    async fn new_kinesis(&self, stream: &StreamAddress) -> aws_sdk_kinesis::Client {
        let config = self.config().await;
        let mut kinesis = aws_sdk_kinesis::config::Builder::from(config)
            .interceptor(InFlight)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(KINESIS_ATTEMPT_TIMEOUT));
        if let Some(endpoint) = &stream.endpoint {
            kinesis = kinesis.endpoint_url(endpoint);
        }
        if let Some(region) = &stream.region {
            kinesis = kinesis.region(Region::new(region.clone()));
        }
        if let Some(role_arn) = &stream.role_arn {
            let role = AssumedRole {
                role_arn: role_arn.clone(),
                session_name: stream.session_name.clone(),
            };
            let credentials = self.credentials(&role, stream.region.as_deref()).await;
            kinesis = kinesis.credentials_provider(credentials);
        }
        aws_sdk_kinesis::Client::from_conf(kinesis.build())
    }
}

/// Calls STS each time.
async fn assume(session: &RoleSession, config: &SdkConfig) -> AssumeRoleProvider {
    let RoleSession { role, region } = session;
    let name = role.session_name.as_deref();
    let mut provider = AssumeRoleProvider::builder(&role.role_arn)
        .session_name(name.unwrap_or(SESSION_NAME_DEFAULT))
        .configure(config);
    if let Some(region) = region {
        provider = provider.region(Region::new(region.clone()));
    }
    provider.build().await
}

/// A provider that others use too.
#[derive(Debug)]
struct OfRole(Arc<RoleProvider>);

impl ProvideCredentials for OfRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .build()
}

/// Why a service rejects the sender of a request, regardless of the request. Another machine may be
/// accepted, and this one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderRejection {
    /// The credentials are missing, expired, or do not match the signature.
    Credentials,
    /// A proxy, an endpoint policy or the role rejects the request, without a specific code.
    Unspecified,
}

/// Classifies an error of an AWS JSON service by its code and HTTP status. `None`: the error is not
/// about the sender.
pub fn sender_rejection(code: Option<&str>, status: Option<u16>) -> Option<SenderRejection> {
    match code.unwrap_or_default() {
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => Some(SenderRejection::Credentials),
        _ if matches!(status, Some(401 | 403 | 407)) => Some(SenderRejection::Unspecified),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_s_own_region_and_no_retries_reach_its_client() {
        let aws = Aws::new(AwsSettings::default());
        let stream = StreamAddress {
            name: "s".into(),
            endpoint: Some("http://127.0.0.1:1".into()),
            region: Some("eu-west-1".into()),
            ..Default::default()
        };
        let client = aws.kinesis(&stream).await;
        assert_eq!(
            client.config().region().map(|region| region.as_ref()),
            Some("eu-west-1")
        );
        assert_eq!(
            client
                .config()
                .retry_config()
                .map(|retries| retries.max_attempts()),
            Some(1)
        );
    }
}
