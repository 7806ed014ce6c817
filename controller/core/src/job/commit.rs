//! From reported windows to epochs: what may be committed, the manifest, and the state after a
//! commit.
//!
//! Does not own: the store and its readers (effects). Rule: `committed` moves when the store holds
//! the head, and only forward (I3).

use super::history::Sample;
use super::profile::WindowProfile;
use super::{Job, OpenWindow, PUBLISH_BACKLOG_MAX, RECENT_EPOCHS_MAX, Shard, is_dead_letters};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::manifest::{
    Frontier, MANIFEST_VERSION, MadeBy, ManifestObject, ManifestPart, ManifestRef,
};
use streamctl_proto::report::{
    NullValues, StageTimes, UNMATCHED_KEYS_MAX, UnknownKey, UnmatchedKey, most_null, most_unknown,
};
use streamctl_proto::{
    Counts, Epoch, JobVersion, Manifest, Position, Report, ShardId, TaskId, Term, Watermark, Window,
};

/// An epoch that is being committed.
#[derive(Clone, Debug)]
pub struct Committing {
    pub manifest: Manifest,
    /// Set once the manifest is durable.
    pub reference: Option<ManifestRef>,
    pub since_ms: i64,
}

/// Figures of a committed epoch.
#[derive(Clone, Debug)]
pub struct EpochFigures {
    /// The manifest without its long parts.
    pub epoch: Epoch,
    /// The version of the job that made it.
    pub job_version: JobVersion,
    pub window: Window,
    pub counts: Counts,
    pub objects: usize,
    pub bytes_out: u64,
    pub unmatched: Vec<UnmatchedKey>,
    pub null_values: Vec<NullValues>,
    pub unknown_keys: Vec<UnknownKey>,
    pub committed_ms: i64,
    pub manifest: String,
    pub stages: StageTimes,
    /// When this leader saw the head move. None if an earlier leader committed the epoch.
    pub head_moved_ms: Option<i64>,
    /// The tasks that staged its objects, to fetch the rows from.
    pub tasks: Vec<TaskId>,
}

impl EpochFigures {
    pub fn of(manifest: &Manifest, name: &str) -> Self {
        Self {
            epoch: manifest.epoch,
            job_version: manifest.job_version(),
            window: manifest.window,
            counts: manifest.counts,
            objects: manifest.objects.len(),
            bytes_out: manifest
                .objects
                .iter()
                .fold(0, |sum, object| object.staged.size.saturating_add(sum)),
            unmatched: manifest.unmatched.clone(),
            null_values: manifest.null_values.clone(),
            unknown_keys: manifest.unknown_keys.clone(),
            committed_ms: manifest.created_ms,
            manifest: name.to_owned(),
            stages: manifest.stages,
            head_moved_ms: None,
            tasks: manifest.parts.iter().map(|part| part.task).collect(),
        }
    }
}

impl Job {
    /// The next window that can be committed, if any: the oldest reported one, once every shard is
    /// past it (I4). For an idle job, from time to time, a window without records.
    pub fn committable(&mut self, now_ms: i64) -> Option<Window> {
        let blocked = self.committing.is_some()
            || self.changing.is_some()
            || self.publishing.len() >= PUBLISH_BACKLOG_MAX
            || self.listing.answered < self.listing.needed;
        if blocked {
            return None;
        }
        let reported = self
            .windows
            .iter()
            .find(|(_, open)| !open.reports.is_empty())
            .map(|(window, _)| *window);
        let window = match reported {
            Some(window) => window,
            None => self.idle_window(now_ms)?,
        };
        self.all_past(window).then_some(window)
    }

    /// The manifest of the next epoch.
    pub fn manifest(&self, window: Window, term: Term, now_ms: i64) -> Manifest {
        let empty = OpenWindow::default();
        let open = self.windows.get(&window).unwrap_or(&empty);
        let mut counts = Counts::default();
        let mut stages = StageTimes::default();
        let mut last: BTreeMap<&ShardId, &Position> = BTreeMap::new();
        for report in &open.reports {
            counts.add(&report.counts);
            stages.add(&report.stages);
            last.extend(report.ranges.iter().map(|(id, range)| (id, &range.to)));
        }
        stages.report_us =
            micros(now_ms.saturating_sub(window.end_ms)).saturating_sub(stages.staged_us());
        let mut totals = self.totals;
        totals.add(&counts);
        let part = |report: &Report| ManifestPart {
            task: report.task,
            ranges: report.ranges.clone(),
            counts: report.counts,
        };
        let objects = |report: &Report| {
            let of = |staged| ManifestObject {
                task: report.task,
                staged,
            };
            report.objects.iter().cloned().map(of).collect::<Vec<_>>()
        };
        Manifest {
            version: MANIFEST_VERSION,
            job: self.name().clone(),
            epoch: self.epoch().next(),
            window,
            term,
            created_ms: now_ms,
            previous: self.head.clone(),
            made_by: Some(MadeBy {
                job_version: self.resolved.job_version,
                spec_digest: self.resolved.spec_digest.clone(),
            }),
            stream: self.identity.clone(),
            query_digest: self.resolved.query_digest.clone(),
            function_code: self.resolved.function_code.clone(),
            lookups: open.lookups.clone(),
            parts: open.reports.iter().map(part).collect(),
            frontier: self.frontier(window, &last),
            objects: open.reports.iter().flat_map(objects).collect(),
            counts,
            totals,
            unmatched: most_frequent(open.reports.iter().flat_map(|report| &report.unmatched)),
            null_values: most_null(open.reports.iter().flat_map(|report| &report.null_values)),
            unknown_keys: most_unknown(open.reports.iter().flat_map(|report| &report.unknown_keys)),
            stages,
            repair: None,
        }
    }

    /// The position of every shard when `window` is committed and `last` is read. A shard whose
    /// parents are not at their end is not at its end either, even if it is empty; otherwise the
    /// next leader would read its children too early.
    fn frontier(
        &self,
        window: Window,
        last: &BTreeMap<&ShardId, &Position>,
    ) -> BTreeMap<ShardId, Frontier> {
        // All shards are past the window. If no later report of a shard waits, it may be known to
        // be read further.
        let at = |id: &ShardId, shard: &Shard| (*last.get(id).unwrap_or(&&shard.committed)).clone();
        let kept = self
            .shards
            .iter()
            .filter(|(_, shard)| !self.forgettable(shard));
        let stand = |(id, shard): (&ShardId, &Shard)| {
            let position = shard.position_at(&at(id, shard));
            // The detail of a file is requested again when the file is read again.
            let detail = if self.lists_again() {
                shard.detail.clone()
            } else {
                String::new()
            };
            let expires = self.lists_again() && !is_dead_letters(id);
            let floor_ms = shard.floor.time_ms().filter(|_| position == shard.reached);
            let read_to_ms = expires.then(|| window.end_ms.max(floor_ms.unwrap_or(window.end_ms)));
            (
                id.clone(),
                Frontier {
                    position,
                    parents: shard.parents.clone(),
                    detail,
                    read_to_ms,
                    lost: shard.lost,
                },
            )
        };
        let mut frontier: BTreeMap<ShardId, Frontier> = kept.map(stand).collect();
        let open = |frontier: &BTreeMap<ShardId, Frontier>, id: &ShardId| {
            frontier
                .get(id)
                .is_some_and(|parent| parent.position != Position::End)
        };
        loop {
            let early = |each: &&ShardId| {
                let stands = &frontier[*each];
                stands.position == Position::End
                    && self.shards[*each].committed != Position::End
                    && stands.parents.iter().any(|parent| open(&frontier, parent))
            };
            let early: Vec<ShardId> = frontier.keys().filter(early).cloned().collect();
            if early.is_empty() {
                return frontier;
            }
            for id in early {
                let position = at(&id, &self.shards[&id]);
                frontier
                    .entry(id)
                    .and_modify(|stands| stands.position = position);
            }
        }
    }

    /// The shard is at its end in a head and no longer listed, so it can never be mistaken for a
    /// new one.
    fn forgettable(&self, shard: &Shard) -> bool {
        self.lists_again()
            && self.listing.answered > 0
            && !shard.listed
            && shard.committed == Position::End
    }

    /// The store holds the epoch that was being committed.
    pub fn committed(&mut self, now_ms: i64) -> Option<Manifest> {
        let Committing {
            manifest,
            reference,
            since_ms,
        } = self.committing.take()?;
        let reference = reference?;
        self.not_past = None;
        for (id, frontier) in &manifest.frontier {
            if let Some(shard) = self.shards.get_mut(id) {
                if frontier.position == Position::End && shard.committed != Position::End {
                    self.plan_due = true;
                    shard.reached = Position::End;
                    shard.ended_at_listing = self.listing.asked;
                    shard.listed = true;
                }
                shard.committed = frontier.position.clone();
                shard.read_to_ms = frontier.read_to_ms.or(Some(manifest.window.end_ms));
                shard.committed_lost = frontier.lost;
            }
        }
        self.head_end = Watermark::At(manifest.window.end_ms);
        for shard in self.shards.values_mut() {
            shard.floor = shard.floor.max(self.head_end);
        }
        let forgotten: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(_, shard)| self.forgettable(shard))
            .map(|(id, _)| id.clone())
            .collect();
        for id in forgotten {
            self.shards.remove(&id);
        }
        let open = self.windows.get(&manifest.window);
        if let Some(profile) = WindowProfile::of(&manifest, open) {
            self.profiles.push(profile);
        }
        self.windows.retain(|window, _| *window > manifest.window);
        self.tries.retain(|window, _| *window > manifest.window);
        self.totals = manifest.totals;
        self.forget_failures();
        self.refusal_rounds = 0;
        let mut figures = EpochFigures::of(&manifest, &reference.name);
        figures.stages.commit_us = micros(now_ms.saturating_sub(since_ms)).max(1);
        figures.head_moved_ms = Some(now_ms);
        self.history.add(now_ms, &Sample::of_epoch(&figures));
        self.recent.push_back(figures);
        if self.recent.len() > RECENT_EPOCHS_MAX {
            self.recent.pop_front();
        }
        self.head = Some(reference);
        self.publishing.push_back(manifest.clone());
        Some(manifest)
    }

    /// The store recorded that unpublished epochs are published; update their figures.
    pub fn published(&mut self, through: Epoch, now_ms: i64) {
        let before = std::mem::replace(&mut self.published, through);
        self.publishing.retain(|manifest| manifest.epoch > through);
        self.stuck.take_if(|stuck| stuck.epoch <= through);
        let newest_first = self.recent.iter_mut().rev();
        let published = newest_first
            .skip_while(|figures| figures.epoch > through)
            .take_while(|figures| figures.epoch > before);
        for figures in published {
            if let Some(since_ms) = figures.head_moved_ms {
                figures.stages.publish_us = micros(now_ms.saturating_sub(since_ms)).max(1);
                let stages = Sample::of_stages(&figures.stages);
                self.history.add(now_ms, &stages);
            }
        }
    }

    /// The keys of staged objects that may still become visible.
    pub fn staged(&self) -> BTreeSet<String> {
        let committing = self
            .committing
            .iter()
            .map(|committing| &committing.manifest);
        let objects = |manifest: &'_ Manifest| {
            let repaired = manifest
                .repair
                .iter()
                .flat_map(|repair| repair.objects.clone());
            manifest
                .objects
                .iter()
                .cloned()
                .chain(repaired)
                .collect::<Vec<_>>()
        };
        let manifests = self.publishing.iter().chain(committing).flat_map(objects);
        let reports = self
            .windows
            .values()
            .flat_map(|open| &open.reports)
            .flat_map(|report| &report.objects);
        let reported = reports.map(|object| object.key().to_owned());
        manifests
            .map(|object| object.staged.key().to_owned())
            .chain(reported)
            .collect()
    }

    /// A bounded source is read to its end, and all of it is published.
    pub fn complete(&self) -> bool {
        self.runs()
            && !self.lists_again()
            && self.listing.answered > 0
            && self.tasks.is_empty()
            && self.shards.values().all(Shard::done)
            && self.windows.values().all(|open| open.reports.is_empty())
            && self.settled()
    }

    /// Nothing is being committed or published.
    pub fn settled(&self) -> bool {
        self.committing.is_none() && self.publishing.is_empty()
    }
}

/// Milliseconds as microseconds; 0 if the clock went back.
fn micros(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000)
}

/// The most frequent keys, most frequent first. Ties are in the order of their names, so that the
/// result is deterministic.
fn most_frequent<'a>(keys: impl Iterator<Item = &'a UnmatchedKey>) -> Vec<UnmatchedKey> {
    let mut rows: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for key in keys {
        let known = rows.entry((&key.lookup, &key.key)).or_default();
        *known = known.saturating_add(key.rows);
    }
    let mut sorted: Vec<_> = rows.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let key = |((lookup, key), rows): ((&str, &str), u64)| UnmatchedKey {
        lookup: lookup.into(),
        key: key.into(),
        rows,
    };
    sorted
        .into_iter()
        .take(UNMATCHED_KEYS_MAX)
        .map(key)
        .collect()
}
