//! What a function has of credentials.

use super::super::credentials::FunctionRole;
use super::*;
use std::sync::atomic::{AtomicI64, Ordering};
use streamctl_engine::aws::Aws;
use streamctl_engine::aws::fake_sts::FakeSts;
use streamctl_engine::clock::{Clock, now_ms};
use streamctl_proto::spec::AssumedRole;

const ROLE: &str = "arn:aws:iam::123456789012:role/reader";

fn clock(now_ms: &Arc<AtomicI64>) -> Clock {
    let now_ms = Arc::clone(now_ms);
    Arc::new(move || now_ms.load(Ordering::Relaxed))
}

/// Raises an error that has all variables of AWS, and all with a part of the worker's key.
const SHOW: &str = "import os\n\
    def process_batch(frame, batch_id):\n\
    \x20   own = {k: v for k, v in os.environ.items() if k.startswith('AWS') or 'OWN' in v}\n\
    \x20   raise ValueError(' '.join(f'{k}={v}' for k, v in sorted(own.items())))\n";

struct Scene {
    sts: FakeSts,
    aws: Aws,
    now_ms: Arc<AtomicI64>,
}

impl Scene {
    async fn new() -> Self {
        let sts = FakeSts::start().await;
        let now_ms = Arc::new(AtomicI64::new(now_ms()));
        let clock = clock(&now_ms);
        let aws = Aws::with_fake_as(sts.address(), "OWN-KEY", "worker w-1", clock).await;
        Self { sts, aws, now_ms }
    }

    fn role(&self) -> FunctionRole {
        let timeout = Duration::from_secs(20);
        let role = FunctionRole::new(self.aws.clone(), AssumedRole::new(ROLE), timeout);
        role.with_clock(clock(&self.now_ms))
    }

    fn given(&self, text: &str) -> Given {
        let mut given = given(text);
        given.limits.network = true;
        given.settings.role = Some(self.role());
        given
    }
}

async fn shown(given: &Given) -> String {
    match given.fails().await {
        FunctionError::Raised { raised, .. } => raised.message,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_function_has_the_keys_of_its_role_and_none_of_the_worker_s() {
    let scene = Scene::new().await;
    let given = scene.given(SHOW);
    let found = shown(&given).await;
    assert_eq!(
        found,
        "AWS_ACCESS_KEY_ID=ROLE-reader AWS_DEFAULT_REGION=us-east-1 \
         AWS_EC2_METADATA_DISABLED=true AWS_REGION=us-east-1 \
         AWS_SECRET_ACCESS_KEY=secret-reader AWS_SESSION_TOKEN=token-reader"
    );
    let calls = scene.sts.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].role_arn.as_str(), calls[0].key.as_str()),
        (ROLE, "OWN-KEY")
    );
    for shown in [
        format!("{:?}", given.settings),
        format!("{:?}", scene.role().keys().await),
    ] {
        assert!(!shown.contains("secret-reader"), "{shown}");
        assert!(!shown.contains("token-reader"), "{shown}");
    }
    given.leaves_nothing().await;
}

#[tokio::test]
async fn a_function_without_a_role_has_no_keys_at_all() {
    let mut given = given(SHOW);
    given.limits.network = true;
    assert_eq!(shown(&given).await, "");
}

#[tokio::test]
async fn a_function_is_started_again_with_new_keys_before_its_own_end() {
    let scene = Scene::new().await;
    let text = "import os\n\
        calls = 0\n\
        def process_batch(head, bodies):\n\
        \x20   global calls\n\
        \x20   calls += 1\n\
        \x20   print(os.environ['AWS_ACCESS_KEY_ID'], calls)\n";
    let given = scene.given(text);
    let ends_ms = scene.now_ms.load(Ordering::Relaxed) + 3_600_000;
    let ends = chrono::DateTime::from_timestamp_millis(ends_ms).unwrap();
    let ends = ends.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    scene.sts.issue(&ends, "-1");
    let runner = Runner::Child(given.settings.clone());
    let functions = FunctionPool::new(runner, given.code(), given.limits.clone(), job(), 1);
    let mut printed = Vec::new();
    // The last call could end after the first keys do.
    for before_end_ms in [3_600_000, 100_000, 60_000] {
        if before_end_ms == 60_000 {
            scene.sts.issue("2099-01-01T00:00:00Z", "-2");
        }
        let now_ms = ends_ms - before_end_ms;
        scene.now_ms.store(now_ms, Ordering::Relaxed);
        let mut lease = functions.acquire().await.unwrap();
        let outcome = call(&mut *lease, vec![]).await.unwrap();
        printed.extend(outcome.log.last().map(|line| line.text.clone()));
    }
    let expected = ["ROLE-reader-1 1", "ROLE-reader-1 2", "ROLE-reader-2 1"];
    assert_eq!(printed, expected);
    assert_eq!(scene.sts.calls().len(), 2);
    functions.close().await;
    given.leaves_nothing().await;
}

#[tokio::test]
async fn a_denied_role_is_named_before_any_code_runs() {
    let scene = Scene::new().await;
    scene.sts.deny(ROLE);
    let given = scene.given("raise SystemExit('it ran')");
    let error = given.start().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!(
            "worker w-1 cannot assume the role {ROLE}: sts:AssumeRole"
        )),
        "{text}"
    );
    assert!(error.hint().contains("trust policy"), "{}", error.hint());
    scene.sts.allow(ROLE);
    given.leaves_nothing().await;
}
