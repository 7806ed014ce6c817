//! Iterators and page tokens: they are self-contained.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShardIterator {
    pub stream: String,
    pub shard: usize,
    /// The last record's number; 0: none.
    pub after: u64,
    pub gaps: u32,
    pub made_ms: i64,
}

impl ShardIterator {
    pub fn encode(&self) -> String {
        let Self {
            stream,
            shard,
            after,
            gaps,
            made_ms,
        } = self;
        STANDARD.encode(format!(
            "iterator:{shard}:{after}:{gaps}:{made_ms}:{stream}"
        ))
    }
    pub fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let mut parts = text.strip_prefix("iterator:")?.splitn(5, ':');
        let shard = parts.next()?.parse().ok()?;
        let after = parts.next()?.parse().ok()?;
        let gaps = parts.next()?.parse().ok()?;
        let made_ms = parts.next()?.parse().ok()?;
        Some(Self {
            stream: parts.next()?.to_owned(),
            shard,
            after,
            gaps,
            made_ms,
        })
    }
}

/// Where a listing continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    pub stream: String,
    pub from: usize,
    pub made_ms: i64,
}

impl PageToken {
    pub fn encode(&self) -> String {
        STANDARD.encode(format!(
            "page:{}:{}:{}",
            self.from, self.made_ms, self.stream
        ))
    }
    pub fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let mut parts = text.strip_prefix("page:")?.splitn(3, ':');
        let from = parts.next()?.parse().ok()?;
        let made_ms = parts.next()?.parse().ok()?;
        Some(Self {
            stream: parts.next()?.to_owned(),
            from,
            made_ms,
        })
    }
}
