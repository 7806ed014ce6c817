//! Roles, with a server of the test's own.

use super::super::fake_sts::FakeSts;
use super::super::{Aws, AwsSettings};
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use streamctl_proto::spec::AssumedRole;

const ROLE: &str = "arn:aws:iam::123456789012:role/team/writer";
const HOUR_MS: i64 = 3_600_000;

/// Issues keys that hold for an hour, and counts them.
#[derive(Debug, Default)]
struct Issuer {
    issued: AtomicUsize,
    now_ms: AtomicI64,
    fails: std::sync::atomic::AtomicBool,
}

impl ProvideCredentials for Issuer {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let ends_ms = self.now_ms.load(Ordering::Relaxed) + HOUR_MS;
        let ends = UNIX_EPOCH + Duration::from_millis(ends_ms.unsigned_abs());
        let result = match self.fails.load(Ordering::Relaxed) {
            true => Err(CredentialsError::provider_error("STS is away")),
            false => Ok(Credentials::new(
                format!("KEY-{number}"),
                "secret",
                None,
                Some(ends),
                "test",
            )),
        };
        future::ProvideCredentials::ready(result)
    }
}

#[derive(Debug, Clone)]
struct Shared(Arc<Issuer>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

fn provider() -> (RoleProvider, Arc<Issuer>) {
    let issuer = Arc::new(Issuer::default());
    let source = SharedCredentialsProvider::new(Shared(Arc::clone(&issuer)));
    let clock: Clock = Arc::new({
        let issuer = Arc::clone(&issuer);
        move || issuer.now_ms.load(Ordering::Relaxed)
    });
    let provider = RoleProvider::new("worker w-1".into(), ROLE.into(), source, clock);
    (provider, issuer)
}

async fn key(provider: &RoleProvider, least: Duration) -> String {
    let keys = provider.keys(least).await.unwrap();
    keys.access_key_id().to_owned()
}

#[tokio::test]
async fn keys_are_shared_and_renewed_before_they_expire() {
    let (provider, issuer) = provider();
    let both = tokio::join!(
        key(&provider, Duration::ZERO),
        key(&provider, Duration::ZERO)
    );
    assert_eq!(both, ("KEY-0".to_owned(), "KEY-0".to_owned()));
    let renewal_ms = HOUR_MS - ms(ROLE_RENEW_BEFORE);
    issuer.now_ms.store(renewal_ms - 1, Ordering::Relaxed);
    assert_eq!(key(&provider, Duration::ZERO).await, "KEY-0");
    issuer.now_ms.store(renewal_ms, Ordering::Relaxed);
    assert_eq!(key(&provider, Duration::ZERO).await, "KEY-1");
    assert_eq!(issuer.issued.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn clients_are_shown_the_time_of_the_renewal_as_the_end() {
    let (provider, issuer) = provider();
    let shown = async || {
        let keys = provider.provide_credentials().await.unwrap();
        expires_ms(&keys).unwrap()
    };
    assert_eq!(shown().await, HOUR_MS - ms(ROLE_RENEW_BEFORE));
    issuer.fails.store(true, Ordering::Relaxed);
    let now_ms = HOUR_MS - 60_000;
    issuer.now_ms.store(now_ms, Ordering::Relaxed);
    assert_eq!(shown().await, now_ms + ms(RENEW_AGAIN));
}

#[tokio::test]
async fn keys_that_must_hold_longer_are_renewed_sooner() {
    let (provider, issuer) = provider();
    assert_eq!(key(&provider, Duration::from_secs(600)).await, "KEY-0");
    issuer.now_ms.store(HOUR_MS / 2, Ordering::Relaxed);
    assert_eq!(key(&provider, Duration::from_secs(600)).await, "KEY-0");
    assert_eq!(key(&provider, Duration::from_secs(2_700)).await, "KEY-1");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_keys_until_they_expire() {
    let (provider, issuer) = provider();
    assert_eq!(key(&provider, Duration::ZERO).await, "KEY-0");
    issuer.fails.store(true, Ordering::Relaxed);
    issuer.now_ms.store(HOUR_MS - 60_000, Ordering::Relaxed);
    assert_eq!(key(&provider, Duration::ZERO).await, "KEY-0");
    assert_eq!(key(&provider, Duration::ZERO).await, "KEY-0");
    assert_eq!(issuer.issued.load(Ordering::Relaxed), 2, "not for each use");
    issuer.now_ms.store(HOUR_MS, Ordering::Relaxed);
    let error = provider.keys(Duration::ZERO).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(error.to_string().contains("STS is away"), "{error}");
    let again = provider.keys(Duration::ZERO).await.unwrap_err();
    assert_eq!(again, error);
    assert_eq!(
        issuer.issued.load(Ordering::Relaxed),
        3,
        "one call for both"
    );
    issuer.fails.store(false, Ordering::Relaxed);
    issuer
        .now_ms
        .fetch_add(ms(REFUSAL_HOLDS), Ordering::Relaxed);
    assert_eq!(key(&provider, Duration::ZERO).await, "KEY-3");
}

#[tokio::test]
async fn one_session_of_a_role_is_assumed_once_for_all_services() {
    let sts = FakeSts::start().await;
    let aws = Aws::with_fake(sts.address(), "OWN").await;
    let role = AssumedRole::new(ROLE);
    let keys = aws.role_keys(&role, Duration::ZERO).await.unwrap();
    assert_eq!(keys.access_key_id, "ROLE-writer");
    assert!(!format!("{keys:?}").contains("secret"), "{keys:?}");
    let first = aws.credentials(&role, None).await;
    let second = aws.credentials(&role, Some("us-east-1")).await;
    for provider in [first, second] {
        let keys = provider.provide_credentials().await.unwrap();
        assert_eq!(keys.access_key_id(), "ROLE-writer");
    }
    let other = AssumedRole {
        session_name: Some("nightly".into()),
        ..role.clone()
    };
    aws.role_keys(&other, Duration::ZERO).await.unwrap();
    let calls = sts.calls();
    let sessions: Vec<_> = calls
        .iter()
        .map(|call| call.session_name.as_str())
        .collect();
    assert_eq!(sessions, ["streamctl", "nightly"]);
    assert!(calls.iter().all(|call| call.key == "OWN"), "{calls:?}");
}

#[tokio::test]
async fn the_roles_that_are_kept_are_bounded_and_the_last_used_stay() {
    let sts = FakeSts::start().await;
    let aws = Aws::with_fake(sts.address(), "OWN").await;
    let role = |number: usize| AssumedRole::new(&format!("arn:aws:iam::1:role/r{number}"));
    let assumed = |number: usize| {
        let aws = aws.clone();
        async move { aws.role_keys(&role(number), Duration::ZERO).await.unwrap() }
    };
    for number in 0..ROLES_MAX {
        assumed(number).await;
    }
    assumed(0).await;
    assert_eq!(sts.calls().len(), ROLES_MAX);
    assumed(ROLES_MAX).await;
    assumed(0).await;
    assert_eq!(sts.calls().len(), ROLES_MAX + 1, "the first was used last");
    assumed(1).await;
    assert_eq!(sts.calls().len(), ROLES_MAX + 2, "the second made room");
}

#[tokio::test]
async fn a_denied_role_is_named_with_the_program_the_call_and_what_to_do() {
    let sts = FakeSts::start().await;
    let clock = crate::clock::system_clock();
    let aws = Aws::with_fake_as(sts.address(), "OWN", "worker w-1", clock).await;
    sts.deny(ROLE);
    let role = AssumedRole::new(ROLE);
    let error = aws.role_keys(&role, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.cause, RoleCause::Denied);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!(
            "worker w-1 cannot assume the role {ROLE}: sts:AssumeRole: AccessDenied: User: OWN"
        )),
        "{text}"
    );
    assert!(error.hint().contains("trust policy"), "{}", error.hint());
    // A client shows the same error.
    let client = aws.s3_as(Some(&role)).await;
    let failed = client.head_bucket().bucket("b").send().await.unwrap_err();
    assert_eq!(role_error(&failed), Some(&error));
    assert_eq!(role_error(&CredentialsError::provider_error("other")), None);
}

#[tokio::test]
async fn a_service_that_does_not_answer_may_answer_later() {
    let aws = Aws::with_fake("http://127.0.0.1:1", "OWN").await;
    let role = AssumedRole::new(ROLE);
    let error = aws.role_keys(&role, Duration::ZERO).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(error.to_string().contains(ROLE), "{error}");
}

#[test]
fn a_program_without_a_name_is_this_program() {
    let settings = AwsSettings::default();
    assert_eq!(settings.program(), "this program");
    assert_eq!(settings.of("worker", "w-1").program(), "worker w-1");
}
