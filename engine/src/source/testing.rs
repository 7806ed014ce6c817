//! What tests of sources share: a job, a clock that is set by hand.
//!
//! Rule: nothing here is built into a program (feature `test-util`).

use crate::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use streamctl_proto::spec::{
    Compression, Dialect, FilesSink, Location, OnDataLoss, SchemaFrom, SinkFormat, SourceKind,
    SourceSpec, StartingPosition,
};
use streamctl_proto::{JobSpec, Position, ResolvedJob, WindowSize};

fn spec(kind: SourceKind) -> JobSpec {
    JobSpec {
        name: "sales".parse().expect("a job's name"),
        source: SourceSpec {
            kind,
            schema: SchemaFrom::BuiltIn,
            starting_position: StartingPosition::TrimHorizon,
            on_data_loss: OnDataLoss::Fail,
            values: Default::default(),
        },
        window: WindowSize::from_ms(60_000).expect("not zero"),
        lookups: Vec::new(),
        sql: "SELECT * FROM source".to_owned(),
        sink: sink(Location::folder("/out/")).into(),
        dead_letter: None,
        checkpoint: Location::folder("/checkpoint/"),
        dialect: Dialect::default(),
        function: None,
        retries_max: 3,
        query_errors: Default::default(),
        keep: Default::default(),
    }
}

/// JSON lines below this folder.
pub fn sink(path: Location) -> FilesSink {
    FilesSink {
        format: SinkFormat::Json,
        compression: Compression::None,
        target_size: 1 << 20,
        ..FilesSink::new(path)
    }
}

/// A job that reads from `kind`, submitted at `submitted_ms`.
pub fn job(kind: SourceKind, submitted_ms: i64) -> ResolvedJob {
    ResolvedJob {
        version: streamctl_proto::resolved::RESOLVED_VERSION,
        spec: spec(kind),
        spec_digest: String::new(),
        job_version: Default::default(),
        previous: None,
        changed_ms: 0,
        after_epoch: None,
        submitted_ms,
        start: Position::Start,
        columns: Vec::new(),
        nested: Default::default(),
        keys: Default::default(),
        reads_partition_keys: false,
        stream: None,
        stream_identity: None,
        consumer: None,
        whole_window: false,
        query_digest: String::new(),
        output_schema: String::new(),
        lookup_columns: Default::default(),
        function_code: None,
    }
}

/// A clock that does not advance until it is set.
pub fn clock_at(ms: i64) -> (Clock, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(ms));
    let read = time.clone();
    (Arc::new(move || read.load(Ordering::SeqCst)), time)
}
