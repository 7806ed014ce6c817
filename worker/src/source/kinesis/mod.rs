//! Kinesis shards by polling.
use super::*;
use std::time::Duration;
/// Allowances.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// x
    pub grace_ms: i64,
    /// y
    pub wait_max: Duration,
}
impl Default for Settings {
    fn default() -> Self {
        Self { grace_ms: 500, wait_max: Duration::from_secs(1) }
    }
}
/// Reader.
pub struct KinesisReader;
impl KinesisReader {
    /// Opens.
    pub async fn open(
        _j: &ResolvedJob,
        shard: &ShardToRead,
        _a: &Aws,
        _c: Clock,
        _s: Settings,
    ) -> Result<Self, ReadError> {
        Err(ReadError::Refused { shard: shard.shard.clone(), reason: "not yet".into(), hint: String::new() })
    }
}
#[async_trait]
impl ShardReader for KinesisReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        Ok(Chunk::default())
    }
    fn stats(&self) -> ReaderStats {
        ReaderStats::default()
    }
}
