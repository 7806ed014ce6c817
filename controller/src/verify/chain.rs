//! Checks that manifests continue each other without gap or overlap, and that their figures add up.
//!
//! Owns: every claim of a manifest that its own text and its neighbour's can prove. Does not own:
//! reading manifests, objects. Rule: pure, and from the last epoch back. Two manifests are enough
//! to check a step, so a job of any age is walked once, with two manifests in memory.

use super::finding::{Finding, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use streamctl_core::is_dead_letters;
use streamctl_proto::manifest::{Frontier, ManifestPart};
use streamctl_proto::report::ObjectKind;
use streamctl_proto::{Counts, Manifest, Position, ResolvedJob, ShardId, TaskId, count};

/// Walks a job's manifests from the last one requested back to the first.
pub struct Chain<'j> {
    job: &'j ResolvedJob,
    /// The manifest after the next one to be passed.
    later: Option<Manifest>,
    /// Shards that begin in an epoch that was passed: no earlier epoch may know them.
    began: BTreeMap<ShardId, u64>,
    pub seen: Seen,
}

/// Figures of the manifests that were passed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub epochs: u64,
    pub ranges: u64,
    /// Shards of the source with a range; replayed dead letters are not included.
    pub shards: BTreeSet<ShardId>,
    pub counts: Counts,
}

impl<'j> Chain<'j> {
    /// A chain of a job, before the first manifest.
    pub fn new(job: &'j ResolvedJob) -> Self {
        Self {
            job,
            later: None,
            began: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// Takes the next manifest: the one before the last that was passed. `made_by`: the version of
    /// the job that it names, if that could be read.
    pub fn take(&mut self, manifest: Manifest, made_by: Option<&ResolvedJob>) -> Vec<Finding> {
        let mut found = alone(made_by, &manifest);
        found.extend(self.step(Some(&manifest)));
        self.seen.epochs += 1;
        self.seen.counts.add(&manifest.counts);
        for part in &manifest.parts {
            self.seen.ranges += part.ranges.len() as u64;
            self.seen.shards.extend(
                part.ranges
                    .keys()
                    .filter(|id| !is_dead_letters(id))
                    .cloned(),
            );
        }
        self.later = Some(manifest);
        found
    }

    /// Takes the manifest before the first one requested: only the step from it is checked.
    pub fn neighbour(&mut self, manifest: &Manifest) -> Vec<Finding> {
        self.step(Some(manifest))
    }

    /// There is no manifest before the last that was passed.
    pub fn begin(&mut self) -> Vec<Finding> {
        self.step(None)
    }

    /// The manifest before the last that was passed cannot be read, so the step from it cannot be
    /// checked.
    pub fn break_off(&mut self) {
        self.later = None;
    }

    fn step(&mut self, before: Option<&Manifest>) -> Vec<Finding> {
        let Some(later) = self.later.take() else {
            return vec![];
        };
        let mut found = step(self.job, before, &later);
        let nothing = BTreeMap::new();
        let known = before.map_or(&nothing, |before| &before.frontier);
        for shard in later
            .frontier
            .keys()
            .filter(|shard| !known.contains_key(*shard))
        {
            self.began.insert(shard.clone(), later.epoch.0);
        }
        for shard in known.keys() {
            if let Some(again) = self.began.remove(shard) {
                let text = format!(
                    "it was read before, and begins anew in epoch {again}: its records are there \
                     twice"
                );
                found.push(Finding::new(
                    Kind::RangeOverlap,
                    again,
                    shard.as_str(),
                    text,
                ));
            }
        }
        found
    }
}

/// Checks of one manifest that need no other.
fn alone(made_by: Option<&ResolvedJob>, manifest: &Manifest) -> Vec<Finding> {
    let epoch = manifest.epoch.0;
    let mut found = vec![];
    let previous = manifest
        .previous
        .as_ref()
        .map_or(0, |previous| previous.epoch.0);
    if previous + 1 != epoch {
        let text = format!(
            "it goes on from epoch {previous}, not from epoch {}",
            epoch.saturating_sub(1)
        );
        found.push(Finding::new(Kind::EpochGap, epoch, "", text));
    }
    found.extend(
        made_by
            .into_iter()
            .flat_map(|made_by| version(made_by, manifest)),
    );
    found.extend(counts(manifest));
    found.extend(objects(manifest));
    found.extend(spans(manifest).1);
    found
}

/// Checks that this version of the job made the manifest.
fn version(made_by: &ResolvedJob, manifest: &Manifest) -> Vec<Finding> {
    let epoch = manifest.epoch.0;
    let mut found = vec![];
    let aligned = made_by.spec.window.window_of(manifest.window.start_ms);
    // A repair has no records: its window is empty.
    let is_empty = manifest.repair.is_some() && manifest.window.start_ms == manifest.window.end_ms;
    if aligned != manifest.window && !is_empty {
        let text = format!(
            "its window is {} to {} ms, windows of this job begin at multiples of {} ms",
            manifest.window.start_ms,
            manifest.window.end_ms,
            made_by.spec.window.ms()
        );
        found.push(Finding::new(Kind::Window, epoch, "", text));
    }
    if manifest.query_digest != made_by.query_digest {
        let text = format!(
            "its rows were made by another query than that of version {}",
            made_by.job_version
        );
        found.push(Finding::new(Kind::Query, epoch, "", text));
    }
    if manifest.function_code != made_by.function_code {
        let text = format!(
            "its rows were made by other code of the function than that of version {}",
            made_by.job_version
        );
        found.push(Finding::new(Kind::Query, epoch, "", text));
    }
    if manifest
        .made_by
        .as_ref()
        .is_some_and(|named| named.spec_digest != made_by.spec_digest)
    {
        let text = format!(
            "version {} is of another job file than it says",
            made_by.job_version
        );
        found.push(Finding::new(Kind::JobVersion, epoch, "", text));
    }
    found
}

/// Checks that every record read became a row or a dead letter, per task and in total.
fn counts(manifest: &Manifest) -> Vec<Finding> {
    let mut found = vec![];
    let mut report = |subject: String, text: String| {
        found.push(Finding::new(Kind::Counts, manifest.epoch.0, subject, text));
    };
    let mut sum = Counts::default();
    for ManifestPart {
        task,
        ranges,
        counts,
    } in &manifest.parts
    {
        sum.add(counts);
        if !counts.balanced() {
            let Counts {
                rows_in,
                rows_decoded,
                rows_dead,
                ..
            } = counts;
            report(
                task.to_string(),
                format!(
                    "{} in are not {} and {}",
                    count(rows_in, "record"),
                    count(rows_decoded, "row"),
                    count(rows_dead, "dead letter")
                ),
            );
        }
        let records: u64 = ranges.values().map(|range| range.records).sum();
        let bytes: u64 = ranges.values().map(|range| range.bytes).sum();
        if (records, bytes) != (counts.rows_in, counts.bytes_in) {
            let Counts {
                rows_in, bytes_in, ..
            } = counts;
            let records = count(records, "record");
            let bytes = count(bytes, "byte");
            let text =
                format!("its ranges have {records} of {bytes}, it counts {rows_in} of {bytes_in}");
            report(task.to_string(), text);
        }
    }
    if sum != manifest.counts {
        report(
            String::new(),
            format!(
                "its tasks count {sum:?} together, the epoch {:?}",
                manifest.counts
            ),
        );
    }
    found
}

/// Checks that rows and dead letters of each task are in its objects.
fn objects(manifest: &Manifest) -> Vec<Finding> {
    let mut stored: BTreeMap<TaskId, Written> = BTreeMap::new();
    for object in &manifest.objects {
        let written = stored.entry(object.task).or_default();
        match object.staged.kind {
            ObjectKind::Data => written.rows += object.staged.rows,
            ObjectKind::DeadLetter => written.dead += object.staged.rows,
            ObjectKind::RejectedRow => written.rejected += object.staged.rows,
        }
    }
    let mut counted: BTreeMap<TaskId, Written> = BTreeMap::new();
    for part in &manifest.parts {
        let written = counted.entry(part.task).or_default();
        written.rows += part.counts.rows_out;
        written.dead += part.counts.rows_dead;
        written.rejected += part.counts.rows_rejected;
    }
    let tasks: BTreeSet<TaskId> = stored.keys().chain(counted.keys()).copied().collect();
    let judge = |task: TaskId| {
        let of = |map: &BTreeMap<TaskId, Written>| map.get(&task).copied().unwrap_or_default();
        let stored = of(&stored);
        let counted = of(&counted);
        let text = || format!("its objects hold {stored}, it counts {counted}");
        (stored != counted)
            .then(|| Finding::new(Kind::Counts, manifest.epoch.0, task.to_string(), text()))
    };
    tasks.into_iter().filter_map(judge).collect()
}

/// What a task wrote of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    rows: u64,
    dead: u64,
    rejected: u64,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            dead,
            rejected,
        } = self;
        write!(
            f,
            "{} and {}",
            count(*rows, "row"),
            count(*dead, "dead letter")
        )?;
        if *rejected > 0 {
            write!(f, " and {}", count(*rejected, "rejected row"))
        } else {
            Ok(())
        }
    }
}

/// The positions between which each shard was read in an epoch.
type Spans<'m> = BTreeMap<&'m ShardId, (&'m Position, &'m Position)>;

/// The merged ranges of each shard, in the order of the parts, and where they do not join.
fn spans(manifest: &Manifest) -> (Spans<'_>, Vec<Finding>) {
    let mut spans = Spans::new();
    let mut found = vec![];
    for (shard, range) in manifest.parts.iter().flat_map(|part| &part.ranges) {
        let epoch = manifest.epoch.0;
        if range.records == 0 {
            found.push(Finding::new(
                Kind::Counts,
                epoch,
                shard.as_str(),
                "it has a range without a record",
            ));
        }
        if !range.from.reaches(&range.to) || range.from == range.to {
            let text = format!("its range goes back: from {} to {}", range.from, range.to);
            found.push(Finding::new(
                Kind::RangeOverlap,
                epoch,
                shard.as_str(),
                text,
            ));
        }
        match spans.get_mut(shard) {
            Some((_, to)) => {
                found.extend(join(epoch, shard, to, &range.from));
                *to = &range.to;
            }
            None => _ = spans.insert(shard, (&range.from, &range.to)),
        }
    }
    (spans, found)
}

/// A range must begin exactly where the one before it ended.
fn join(epoch: u64, shard: &ShardId, left: &Position, from: &Position) -> Option<Finding> {
    if left == from {
        return None;
    }
    let (kind, what) = match left.reaches(from) {
        true => (Kind::RangeGap, "what lies between is in no epoch"),
        false => (Kind::RangeOverlap, "what lies between is there twice"),
    };
    let text = format!("its range begins {from}, the one before left it {left}: {what}");
    Some(Finding::new(kind, epoch, shard.as_str(), text))
}

/// Checks the step from one manifest to the next, or from nothing to the first.
fn step(job: &ResolvedJob, before: Option<&Manifest>, manifest: &Manifest) -> Vec<Finding> {
    let epoch = manifest.epoch.0;
    let mut found = vec![];
    if let Some(before) = before.filter(|before| before.window.end_ms > manifest.window.start_ms) {
        let text = format!(
            "its window {} is not after that of the epoch before, {}",
            manifest.window, before.window
        );
        found.push(Finding::new(Kind::Window, epoch, "", text));
    }
    if let Some(before) = before.filter(|before| before.job_version() > manifest.job_version()) {
        let version = manifest.job_version();
        let was = before.job_version();
        let text =
            format!("version {version} of the job made it, and version {was} the epoch before");
        found.push(Finding::new(Kind::JobVersion, epoch, "", text));
    }
    let mut totals = before.map(|before| before.totals).unwrap_or_default();
    totals.add(&manifest.counts);
    if totals != manifest.totals {
        let text = format!(
            "its totals are {:?}, those before and its own counts are {totals:?}",
            manifest.totals
        );
        found.push(Finding::new(Kind::Totals, epoch, "", text));
    }
    let nothing = BTreeMap::new();
    let known = before.map_or(&nothing, |before| &before.frontier);
    let (spans, _) = spans(manifest);
    found.extend(joins(job, known, &spans, epoch));
    found.extend(frontier(job, known, &spans, manifest));
    found.extend(families(known, &spans, epoch));
    found.extend(gaps(known, manifest));
    found
}

/// Each shard continues where the epoch before left it; a new one begins at the job's start or at
/// its own beginning.
fn joins(
    job: &ResolvedJob,
    known: &BTreeMap<ShardId, Frontier>,
    spans: &Spans<'_>,
    epoch: u64,
) -> Vec<Finding> {
    let judge = |(shard, (from, _)): (&&ShardId, &(&Position, &Position))| match known.get(*shard) {
        Some(stands) => join(epoch, shard, &stands.position, from),
        None if is_beginning(job, from) => None,
        None => {
            let text = format!(
                "it is new, and its first range begins {from}: what lies before is in no epoch"
            );
            Some(Finding::new(Kind::RangeGap, epoch, shard.as_str(), text))
        }
    };
    spans.iter().filter_map(judge).collect()
}

fn is_beginning(job: &ResolvedJob, position: &Position) -> bool {
    *position == Position::Start || *position == job.start
}

/// Checks that the frontier is where the ranges leave the shards. A shard's end may be known only
/// after its last record.
fn frontier(
    job: &ResolvedJob,
    known: &BTreeMap<ShardId, Frontier>,
    spans: &Spans<'_>,
    manifest: &Manifest,
) -> Vec<Finding> {
    let epoch = manifest.epoch.0;
    let mut found = vec![];
    let mut report = |shard: &ShardId, text: String| {
        found.push(Finding::new(Kind::Frontier, epoch, shard.as_str(), text));
    };
    for (shard, Frontier { position, .. }) in &manifest.frontier {
        let left = spans
            .get(shard)
            .map(|(_, to)| *to)
            .or_else(|| known.get(shard).map(|stands| &stands.position));
        match left {
            _ if *position == Position::End => {}
            Some(left) if left == position => {}
            Some(left) => report(
                shard,
                format!("it is said to stand {position}, its ranges leave it {left}"),
            ),
            None if is_beginning(job, position) => {}
            None => report(
                shard,
                format!("it is new and without a range, and is said to stand {position}"),
            ),
        }
    }
    for shard in spans
        .keys()
        .filter(|shard| !manifest.frontier.contains_key(**shard))
    {
        report(
            shard,
            "it has a range, and nothing says where it stands".to_owned(),
        );
    }
    for (shard, stands) in known
        .iter()
        .filter(|(shard, _)| !manifest.frontier.contains_key(*shard))
    {
        if stands.position != Position::End {
            report(
                shard,
                format!(
                    "it stood {} in the epoch before, and is forgotten here",
                    stands.position
                ),
            );
        }
    }
    found
}

/// Gaps of records that may have expired unread, if the previous manifest does not name them yet.
fn gaps(known: &BTreeMap<ShardId, Frontier>, manifest: &Manifest) -> Vec<Finding> {
    let new = |(shard, stands): (&ShardId, &Frontier)| {
        let gap = stands.lost?;
        let reported = known
            .get(shard)
            .is_some_and(|before| before.lost == Some(gap));
        let text = format!(
            "records that arrived {gap} may have expired before they were read: they are in no \
             epoch"
        );
        (!reported).then(|| Finding::new(Kind::DataLoss, manifest.epoch.0, shard.as_str(), text))
    };
    manifest.frontier.iter().filter_map(new).collect()
}

/// Checks that no record of a parent is in a later epoch than one of its children.
fn families(known: &BTreeMap<ShardId, Frontier>, spans: &Spans<'_>, epoch: u64) -> Vec<Finding> {
    let begun = |position: &Position| matches!(position, Position::After { .. } | Position::End);
    let mut found = vec![];
    for (child, stands) in known.iter().filter(|(_, stands)| begun(&stands.position)) {
        for parent in stands
            .parents
            .iter()
            .filter(|parent| spans.contains_key(parent))
        {
            let text = format!(
                "its records come after some of its child {child}, which was read in an earlier \
                 epoch"
            );
            found.push(Finding::new(
                Kind::ChildBeforeParent,
                epoch,
                parent.as_str(),
                text,
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests;
