//! Functions as real processes, with a runner that needs the standard library of Python alone.
//!
//! Rule: each test has a child of its own, and a limit on what a broken sandbox could do.

mod calls;
mod credentials;
mod failures;
mod hostile;

use super::child::ChildSettings;
use super::launch::{CHILD_ARGUMENT, become_python};
use super::process::Launcher;
use super::sandbox::Layers;
use super::*;
use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

const RUNNER: &str = include_str!("runner.py");
const MIB: u64 = 1 << 20;

/// The program that a worker's own program is in these tests: started by the other tests, it becomes
/// a child.
#[test]
fn launcher() {
    if std::env::args().any(|argument| argument == CHILD_ARGUMENT) {
        std::process::exit(become_python());
    }
}

/// This test program, started so that it has one thread and becomes a child.
fn test_launcher() -> Launcher {
    let command = [
        "/proc/self/exe",
        "function::tests::launcher",
        CHILD_ARGUMENT,
        "--exact",
        "--quiet",
        "--nocapture",
        "--test-threads=1",
    ];
    Launcher::with(command.map(Into::into).into()).unwrap()
}

/// A function of a test.
struct Given {
    code: tempfile::TempDir,
    scratch: tempfile::TempDir,
    settings: ChildSettings,
    limits: Limits,
}

fn given(text: &str) -> Given {
    let code = tempfile::tempdir().unwrap();
    std::fs::set_permissions(code.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::write(code.path().join("transform.py"), text).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let settings = ChildSettings {
        launcher: test_launcher(),
        python: "python3".into(),
        environment: None,
        runner: RUNNER,
        scratch: scratch.path().into(),
        role: None,
        extra_env: BTreeMap::new(),
        threads: 1,
        layers: Layers::default(),
        require: false,
    };
    let limits = Limits {
        timeout: Duration::from_secs(20),
        memory_bytes: 256 * MIB,
        network: false,
    };
    Given {
        code,
        scratch,
        settings,
        limits,
    }
}

impl Given {
    fn code(&self) -> Code {
        Code {
            folder: self.code.path().into(),
            module: Module::File("transform.py".into()),
            name: "process_batch".into(),
            frame: Some(Frame::Pyarrow),
            on_published: None,
        }
    }

    async fn start(&self) -> Result<Child, FunctionError> {
        Child::start(&self.settings, &self.code(), &self.limits, &job()).await
    }

    /// Starts it and calls it with three rows.
    async fn fails(&self) -> FunctionError {
        let mut child = self.start().await.unwrap();
        call(&mut child, vec![rows(&[1, 2, 3])]).await.unwrap_err()
    }

    /// No child has left its folder behind.
    async fn leaves_nothing(self) {
        let mut tries = 0;
        while std::fs::read_dir(self.scratch.path())
            .unwrap()
            .next()
            .is_some()
        {
            tries += 1;
            assert!(tries < 500, "a folder is left");
            // Folders are removed by another thread.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn job() -> JobName {
    "sales".parse().unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn rows(ids: &[i64]) -> RecordBatch {
    let names: StringArray = ids.iter().map(|id| Some(format!("name {id}"))).collect();
    let ids = Int64Array::from(ids.to_vec());
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

fn window() -> Call {
    Call {
        batch_id: 28_512_345,
        window: Window {
            start_ms: 60_000,
            end_ms: 120_000,
        },
        attempt: 1,
        job: job(),
        lookups: BTreeMap::new(),
        empty: false,
        by: Vec::new(),
        memory: None,
    }
}

async fn call(
    function: &mut dyn Function,
    batches: Vec<RecordBatch>,
) -> Result<Outcome, FunctionError> {
    call_as(function, window(), batches).await
}

async fn call_as(
    function: &mut dyn Function,
    call: Call,
    batches: Vec<RecordBatch>,
) -> Result<Outcome, FunctionError> {
    let mut input = futures::stream::iter(batches.into_iter().map(Ok));
    function.call(call, schema(), &mut input).await
}

fn texts(log: &[LogLine]) -> Vec<&str> {
    log.iter().map(|line| line.text.as_str()).collect()
}
