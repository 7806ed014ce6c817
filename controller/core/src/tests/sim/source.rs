//! A stream of numbered records in shards that split and merge; the seed decides everything.

use super::super::*;
use fastrand::Rng;
use streamctl_proto::Clamp;

/// How far an arrival time may step back.
pub(super) const STEP_BACK_MS: i64 = 900;
/// A reader that has caught up reports it for times that are this long past.
pub(super) const GRACE_MS: i64 = 1_000;

pub(super) struct SourceShard {
    pub(super) parents: Vec<ShardId>,
    pub(super) children: Vec<(ShardId, Vec<ShardId>)>,
    /// When it can be listed and read.
    born_ms: i64,
    /// When it is closed.
    pub(super) closed_ms: Option<i64>,
    /// When a record can be read, and its arrival time.
    pub(super) records: Vec<(i64, i64)>,
    pub(super) expired: bool,
}

impl SourceShard {
    /// Records that can be read by now.
    pub(super) fn there(&self, now: i64) -> usize {
        self.records.partition_point(|(when, _)| *when <= now)
    }

    pub(super) fn is_closed(&self, now: i64) -> bool {
        self.closed_ms.is_some_and(|closed_ms| closed_ms <= now)
    }
}

pub(super) struct Source {
    pub(super) shards: BTreeMap<ShardId, SourceShard>,
    /// The last answer of a shard names its children.
    names_children: bool,
}

impl Source {
    /// Some shards; those of a Kinesis stream reshard, those of a bounded source end.
    pub(super) fn new(rng: &mut Rng, reshards: bool, length_ms: i64) -> Self {
        let mut source = Self {
            shards: BTreeMap::new(),
            names_children: rng.bool(),
        };
        let mut open = vec![];
        for _ in 0..rng.usize(1..4) {
            open.push(source.add(vec![], BEGIN_MS));
        }
        let mut at_ms = BEGIN_MS;
        let reshard_times = if reshards { rng.usize(0..5) } else { 0 };
        for _ in 0..reshard_times {
            at_ms += rng.i64(100..length_ms / 3);
            let parent = open.swap_remove(rng.usize(0..open.len()));
            source.close(&parent, at_ms);
            if rng.bool() && !open.is_empty() {
                let other = open.swap_remove(rng.usize(0..open.len()));
                source.close(&other, at_ms);
                open.push(source.add(vec![parent, other], at_ms));
            } else {
                open.push(source.add(vec![parent.clone()], at_ms));
                open.push(source.add(vec![parent], at_ms));
            }
        }
        let end_ms = at_ms.max(BEGIN_MS + length_ms);
        if !reshards {
            open.iter().for_each(|shard| source.close(shard, end_ms));
        }
        source.fill(rng, end_ms);
        source
    }

    fn add(&mut self, parents: Vec<ShardId>, born_ms: i64) -> ShardId {
        let id = shard(&format!("s{:02}", self.shards.len()));
        for parent in &parents {
            self.shards
                .get_mut(parent)
                .unwrap()
                .children
                .push((id.clone(), parents.clone()));
        }
        let (children, closed_ms, records, expired) = Default::default();
        self.shards.insert(
            id.clone(),
            SourceShard {
                parents,
                children,
                born_ms,
                closed_ms,
                records,
                expired,
            },
        );
        id
    }

    /// Dead letters that can be read again from now on.
    pub(super) fn add_letters(&mut self, id: ShardId, count: usize, now: i64) {
        let (parents, children, expired) = Default::default();
        let records = vec![(now, now); count];
        let closed_ms = Some(now);
        let shard = SourceShard {
            parents,
            children,
            born_ms: now,
            closed_ms,
            records,
            expired,
        };
        self.shards.entry(id).or_insert(shard);
    }

    fn close(&mut self, id: &ShardId, at_ms: i64) {
        self.shards.get_mut(id).unwrap().closed_ms = Some(at_ms);
    }

    fn fill(&mut self, rng: &mut Rng, end_ms: i64) {
        for shard in self.shards.values_mut() {
            let until = shard.closed_ms.unwrap_or(end_ms);
            let pause_ms = [30, 150, 1_500][rng.usize(0..3)];
            let mut when = shard.born_ms;
            loop {
                when += rng.i64(1..pause_ms);
                if when >= until || shard.records.len() >= 60 {
                    break;
                }
                let back_ms = if rng.u8(0..4) == 0 {
                    rng.i64(0..STEP_BACK_MS)
                } else {
                    0
                };
                shard.records.push((when, when - back_ms));
            }
        }
    }

    pub(super) fn list(&self, now: i64) -> Vec<KnownShard> {
        let listed = self
            .shards
            .iter()
            .filter(|(id, shard)| shard.born_ms <= now && !shard.expired && !is_dead_letters(id));
        let known = |(id, shard): (&ShardId, &SourceShard)| KnownShard {
            shard: id.clone(),
            parents: shard.parents.clone(),
            detail: String::new(),
        };
        listed.map(known).collect()
    }

    /// The window of every record: that of its arrival, never before that of the previous record,
    /// nor before the last of its parents. No fault may change it.
    pub(super) fn windows(&self) -> BTreeMap<ShardId, Vec<Window>> {
        let mut windows: BTreeMap<ShardId, Vec<Window>> = BTreeMap::new();
        let mut ends: BTreeMap<&ShardId, Watermark> = BTreeMap::new();
        // Shards are named in the order of their creation.
        for (id, shard) in &self.shards {
            let floor = shard
                .parents
                .iter()
                .map(|parent| ends[parent])
                .max()
                .unwrap_or_default();
            let mut clamp = Clamp::new(WindowSize::from_ms(WINDOW_MS).unwrap(), floor);
            let placed = shard
                .records
                .iter()
                .map(|(_, arrival_ms)| clamp.place(*arrival_ms))
                .collect();
            windows.insert(id.clone(), placed);
            ends.insert(id, clamp.floor());
        }
        windows
    }

    /// What the last answer of a shard contains.
    pub(super) fn children(&self, id: &ShardId) -> Vec<(ShardId, Vec<ShardId>)> {
        if self.names_children {
            self.shards[id].children.clone()
        } else {
            vec![]
        }
    }
}
