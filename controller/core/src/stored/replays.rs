//! Which epochs' dead letters to replay, and which were replayed.
//!
//! Owns: the stored form. Does not own: the position of each (in the manifests), when it is read
//! (`core`).
//! Rule: an epoch is requested once, then done, and never requested again; both lists are bounded.

use serde::{Deserialize, Serialize};
use streamctl_proto::{DeadLetterShard, Epoch};

/// Epochs of one job whose dead letters may wait for their replay: about 60 KiB of JSON.
pub const REPLAYS_WANTED_MAX: usize = 1_000;
/// Ranges of epochs of one job that are kept as done. Neighbours are merged into one range,
/// regardless of epochs without dead letters between them.
pub const REPLAYS_DONE_MAX: usize = 10_000;

/// An epoch whose dead letters to replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedReplay {
    /// The first of the epochs that end with this one; only this one has dead letters.
    pub since: Epoch,
    #[serde(with = "shard_text")]
    pub letters: DeadLetterShard,
}

/// What a store holds of a job's replays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replays {
    /// Not yet committed to their end, in the order in which they are read.
    pub wanted: Vec<WantedReplay>,
    /// First and last epoch of each range that was committed to its end; sorted, without overlaps.
    pub done: Vec<(Epoch, Epoch)>,
}

impl Replays {
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.done.is_empty()
    }

    pub fn is_done(&self, epoch: Epoch) -> bool {
        let after = self.done.partition_point(|(first, _)| *first <= epoch);
        after > 0 && epoch <= self.done[after - 1].1
    }

    pub fn has(&self, epoch: Epoch) -> bool {
        self.is_done(epoch)
            || self
                .wanted
                .iter()
                .any(|wanted| wanted.letters.epoch() == epoch)
    }

    /// How many more epochs may be requested.
    pub fn room(&self) -> usize {
        if self.done.len() + self.wanted.len() >= REPLAYS_DONE_MAX {
            return 0;
        }
        REPLAYS_WANTED_MAX.saturating_sub(self.wanted.len())
    }

    /// Adds requests that are neither wanted nor done, as far as there is room.
    pub fn want(&mut self, wanted: Vec<WantedReplay>) {
        for each in wanted {
            if !self.has(each.letters.epoch()) && self.room() > 0 {
                self.wanted.push(each);
            }
        }
    }

    /// A requested epoch is committed to its end.
    pub fn finish(&mut self, letters: &DeadLetterShard) {
        let Some(at) = self
            .wanted
            .iter()
            .position(|wanted| wanted.letters == *letters)
        else {
            return;
        };
        let WantedReplay { since, letters } = self.wanted.remove(at);
        self.done
            .push((since.min(letters.epoch()), letters.epoch()));
        self.done.sort_unstable();
        let mut joined: Vec<(Epoch, Epoch)> = vec![];
        for (first, last) in self.done.drain(..) {
            match joined.last_mut() {
                Some((_, end)) if first <= end.next() => *end = (*end).max(last),
                _ => joined.push((first, last)),
            }
        }
        self.done = joined;
    }
}

/// Serializes a shard of dead letters as its name.
mod shard_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use streamctl_proto::{DeadLetterShard, ShardId};

    pub(super) fn serialize<S: Serializer>(
        letters: &DeadLetterShard,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(letters)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<DeadLetterShard, D::Error> {
        let name = String::deserialize(from)?;
        DeadLetterShard::parse(&ShardId::new(name.as_str()))
            .ok_or_else(|| D::Error::custom(format!("{name:?} is no shard of dead letters")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::ManifestRef;

    fn wanted(since: u64, epoch: u64) -> WantedReplay {
        let reference = ManifestRef {
            epoch: Epoch(epoch),
            name: String::new(),
            digest: "0123456789abcdef".repeat(4),
        };
        WantedReplay {
            since: Epoch(since),
            letters: DeadLetterShard::of(&reference),
        }
    }

    #[test]
    fn an_epoch_is_wanted_once_and_neighbours_that_are_done_are_one_range() {
        let mut replays = Replays::default();
        replays.want(vec![
            wanted(1, 3),
            wanted(4, 9),
            wanted(12, 12),
            wanted(1, 3),
        ]);
        assert_eq!(replays.wanted.len(), 3);
        replays.finish(&wanted(4, 9).letters);
        assert!(replays.has(Epoch(3)) && replays.is_done(Epoch(9)) && replays.is_done(Epoch(5)));
        assert!(!replays.has(Epoch(10)) && !replays.is_done(Epoch(3)));
        replays.finish(&wanted(1, 3).letters);
        replays.finish(&wanted(12, 12).letters);
        assert_eq!(replays.done, [(Epoch(1), Epoch(9)), (Epoch(12), Epoch(12))]);
        replays.want(vec![wanted(1, 3)]);
        assert!(
            replays.wanted.is_empty(),
            "what is done is never wanted again"
        );
    }

    #[test]
    fn no_more_are_wanted_than_there_is_room_for() {
        let mut replays = Replays::default();
        replays.want(
            (1..=REPLAYS_WANTED_MAX as u64 + 5)
                .map(|epoch| wanted(epoch, epoch))
                .collect(),
        );
        assert_eq!(
            (replays.wanted.len(), replays.room()),
            (REPLAYS_WANTED_MAX, 0)
        );
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let text = r#"{"wanted":[{"since":4,"letters":"dead-letters/000000000009-0123456789abcdef"}],"done":[[1,3]]}"#;
        let replays = Replays {
            wanted: vec![wanted(4, 9)],
            done: vec![(Epoch(1), Epoch(3))],
        };
        assert_eq!(serde_json::to_string(&replays).unwrap(), text);
        assert_eq!(serde_json::from_str::<Replays>(text).unwrap(), replays);
        let bad = text.replace("dead-letters/", "");
        assert!(
            serde_json::from_str::<Replays>(&bad)
                .unwrap_err()
                .to_string()
                .contains("no shard of dead letters")
        );
    }
}
