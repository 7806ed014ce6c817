//! The dead letters of one committed epoch as a shard: an ordered, bounded sequence that can be
//! read again.
//!
//! Owns: its name. Does not own: reading it (`worker::source::dead_letters`), when it is read
//! (`controller::core`).
//! Rule: the name alone leads to the manifest, and the manifest to the objects: with job and shard,
//! any process can read it, now or years later. Its sequence numbers are 1, 2, 3 ... in the order
//! of the objects in the manifest.

use crate::manifest::{
    CheckpointNames, DIGEST_CHARS, Manifest, ManifestError, ManifestRef, sha256_hex,
};
use crate::{Epoch, JobName, ShardId};
use std::fmt;

/// Prefix of the names of all such shards; no source uses it.
const PREFIX: &str = "dead-letters/";
/// Digits of the epoch.
const EPOCH_DIGITS: usize = 12;

/// Which epoch's dead letters: `dead-letters/000000000007-0123456789abcdef`, after the name of its
/// manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterShard {
    epoch: Epoch,
    digest: String,
}

impl DeadLetterShard {
    /// Of the epoch that `reference` names.
    pub fn of(reference: &ManifestRef) -> Self {
        let digest = reference.digest[..reference.digest.len().min(DIGEST_CHARS)].to_owned();
        Self {
            epoch: reference.epoch,
            digest,
        }
    }

    /// From a shard; `None`: it is a shard of the job's source.
    pub fn parse(shard: &ShardId) -> Option<Self> {
        let (epoch, digest) = shard.as_str().strip_prefix(PREFIX)?.split_once('-')?;
        let number = epoch.len() == EPOCH_DIGITS && epoch.bytes().all(|b| b.is_ascii_digit());
        let hex = digest.len() == DIGEST_CHARS
            && digest
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let epoch = Epoch(epoch.parse().ok().filter(|_| number && hex)?);
        Some(Self {
            epoch,
            digest: digest.to_owned(),
        })
    }

    /// Its name among the job's shards.
    pub fn id(&self) -> ShardId {
        ShardId::new(self.to_string())
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The place of its manifest, below the checkpoint location.
    pub fn manifest_name(&self, job: &JobName) -> String {
        CheckpointNames::new(job).manifest(self.epoch, &self.digest)
    }

    /// Its manifest, from the bytes stored under that name.
    pub fn manifest(&self, job: &JobName, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let name = self.manifest_name(job);
        let found = sha256_hex(bytes);
        if !found.starts_with(&self.digest) {
            return Err(ManifestError::Digest {
                name,
                found,
                committed: self.digest.clone(),
            });
        }
        Manifest::decode(
            bytes,
            &ManifestRef {
                epoch: self.epoch,
                name,
                digest: found,
            },
        )
    }
}

impl fmt::Display for DeadLetterShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:0EPOCH_DIGITS$}-{}", self.epoch.0, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> ManifestRef {
        ManifestRef {
            epoch: Epoch(7),
            name: "x".into(),
            digest: format!("0123456789abcdef{}", "0".repeat(48)),
        }
    }

    #[test]
    fn a_shard_of_dead_letters_leads_to_its_manifest_by_its_name() {
        let shard = DeadLetterShard::of(&reference());
        assert_eq!(
            shard.id().as_str(),
            "dead-letters/000000000007-0123456789abcdef"
        );
        assert_eq!(DeadLetterShard::parse(&shard.id()), Some(shard.clone()));
        let job = "sales".parse().unwrap();
        let digest = reference().digest;
        assert_eq!(
            shard.manifest_name(&job),
            CheckpointNames::new(&job).manifest(Epoch(7), &digest)
        );
    }

    #[test]
    fn bytes_of_another_manifest_are_refused() {
        let shard = DeadLetterShard::of(&reference());
        let error = shard
            .manifest(&"sales".parse().unwrap(), b"{}")
            .unwrap_err();
        assert!(matches!(error, ManifestError::Digest { .. }), "{error}");
    }

    #[test]
    fn what_sources_name_is_no_shard_of_dead_letters() {
        let names = [
            "shardId-000000000001",
            "dead-letters/000000000007",
            "dead-letters/000000000007-0123456789ABCDEF",
            "dead-letters/000000000007-0123456789abcdef.json",
            "dead-letters/+00000000007-0123456789abcdef",
            "a/dead-letters/000000000007-0123456789abcdef",
        ];
        for name in names {
            assert_eq!(DeadLetterShard::parse(&name.into()), None, "{name}");
        }
    }
}
