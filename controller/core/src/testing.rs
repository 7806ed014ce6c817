//! A job and a head for tests.
//!
//! Rule: a test changes what it is about and relies on nothing else of them.

use std::time::Duration;
use streamctl_proto::resolved::RESOLVED_VERSION;
use streamctl_proto::spec::{
    Compression, Dialect, FilesSink, GRACE_DEFAULT, GeneratorSource, KinesisSource, Location,
    OnDataLoss, SchemaFrom, SinkFormat, SourceKind, SourceSpec, StartingPosition,
};
use streamctl_proto::{Epoch, JobSpec, JobVersion, ManifestRef, Position, ResolvedJob, WindowSize};

/// A reference to a manifest that does not exist.
pub fn head(epoch: u64) -> ManifestRef {
    let digest = format!("{epoch:064x}");
    ManifestRef {
        epoch: Epoch(epoch),
        name: format!("j/epochs/{epoch:012}.json"),
        digest,
    }
}

/// The same job on a Kinesis stream.
pub fn reading_kinesis(mut job: ResolvedJob) -> ResolvedJob {
    job.spec.source.kind = SourceKind::Kinesis(KinesisSource {
        stream: Some("stream".into()),
        arn: None,
        endpoint: None,
        region: None,
        role_arn: None,
        session_name: None,
        poll_interval: Duration::from_millis(200),
        consumer: None,
        grace: GRACE_DEFAULT,
        aggregates: Default::default(),
        max_records_per_read: 10_000,
        compression: Default::default(),
        format: Default::default(),
    });
    job
}

/// The sink of [`job`]: JSON lines below `/out/`.
pub fn sink() -> FilesSink {
    FilesSink {
        format: SinkFormat::Json,
        compression: Compression::None,
        target_size: 1 << 20,
        ..FilesSink::new(Location::folder("/out"))
    }
}

pub fn job(name: &str) -> ResolvedJob {
    let spec = JobSpec {
        name: name.parse().expect("tests name jobs well"),
        source: SourceSpec {
            kind: SourceKind::Generator(GeneratorSource {
                seed: 1,
                shards: 2,
                rate: 10.0,
                records_per_shard: None,
                bad_every: 0,
                unmatched_every: 0,
            }),
            schema: SchemaFrom::BuiltIn,
            starting_position: StartingPosition::TrimHorizon,
            on_data_loss: OnDataLoss::Fail,
            values: Default::default(),
        },
        window: WindowSize::from_ms(60_000).expect("a minute is a window"),
        lookups: vec![],
        sql: "select * from source".into(),
        sink: sink().into(),
        dead_letter: None,
        checkpoint: Location::folder("/checkpoint"),
        retries_max: 3,
        dialect: Dialect::default(),
        function: None,
        query_errors: Default::default(),
        keep: Default::default(),
    };
    ResolvedJob {
        version: RESOLVED_VERSION,
        spec,
        spec_digest: "d".into(),
        job_version: JobVersion::FIRST,
        previous: None,
        changed_ms: 0,
        after_epoch: None,
        submitted_ms: 1_700_000_000_000,
        start: Position::Start,
        columns: vec![],
        nested: Default::default(),
        keys: Default::default(),
        reads_partition_keys: false,
        stream: None,
        stream_identity: None,
        consumer: None,
        whole_window: false,
        query_digest: "q".into(),
        output_schema: String::new(),
        lookup_columns: Default::default(),
        function_code: None,
    }
}
