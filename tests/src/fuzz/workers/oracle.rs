//! An independent judge of what may be committed.
//!
//! Owns: the store of the model world and its judgement.
//! Rule: it knows the job and the earlier commits, and nothing of the core's reasons.

use std::collections::BTreeMap;
use streamctl_core::Core;
use streamctl_core::stored::DesiredState;
use streamctl_proto::report::{ObjectKind, Staging};
use streamctl_proto::{Counts, Epoch, Manifest, ManifestRef, Position, ResolvedJob, ShardId};

/// A bound on any collection in a model world of this size.
const FEW: usize = 4_000;

pub struct Oracle {
    pub job: ResolvedJob,
    pub written: BTreeMap<String, Manifest>,
    head: Option<ManifestRef>,
    pub published: Epoch,
    pub wanted: DesiredState,
}

type Judged = Result<(), String>;

fn ensure(good: bool, what: impl Fn() -> String) -> Judged {
    if good { Ok(()) } else { Err(what()) }
}

impl Oracle {
    pub fn new(job: ResolvedJob) -> Self {
        Self {
            job,
            written: BTreeMap::new(),
            head: None,
            published: Epoch(0),
            wanted: DesiredState::Running,
        }
    }

    fn last(&self) -> Option<&Manifest> {
        self.head.as_ref().map(|head| &self.written[&head.digest])
    }

    /// The head, and the epochs that are committed but not published.
    pub fn load(&self) -> (Option<Manifest>, Vec<Manifest>) {
        let mut unpublished = vec![];
        let mut next = self.head.clone();
        while let Some(reference) = next.filter(|reference| reference.epoch > self.published) {
            let manifest = self.written[&reference.digest].clone();
            next = manifest.previous.clone();
            unpublished.insert(0, manifest);
        }
        (self.last().cloned(), unpublished)
    }

    pub fn move_head(&mut self, previous: Option<&ManifestRef>, head: &ManifestRef) -> Judged {
        ensure(previous == self.head.as_ref(), || {
            format!("{head:?} does not follow {:?}", self.head)
        })?;
        ensure(self.written.contains_key(&head.digest), || {
            format!("{head:?} was not written")
        })?;
        self.head = Some(head.clone());
        Ok(())
    }

    /// Whether this can be the next epoch.
    pub fn may_commit(&self, manifest: &Manifest) -> Judged {
        let last = self.last();
        let epoch = last.map_or(Epoch(0), |last| last.epoch).next();
        ensure(manifest.epoch == epoch, || {
            format!("epoch {} follows, not {epoch}", manifest.epoch)
        })?;
        ensure(manifest.previous == self.head, || {
            "it names another one before it".into()
        })?;
        let window = manifest.window;
        let size_ms = self.job.spec.window.ms();
        let aligned =
            window.start_ms.rem_euclid(size_ms) == 0 && window.end_ms - window.start_ms == size_ms;
        ensure(aligned, || format!("{window:?} is no window of the job"))?;
        ensure(
            last.is_none_or(|last| last.window.end_ms <= window.start_ms),
            || "windows overlap".into(),
        )?;
        self.joins(manifest)?;
        adds_up(manifest, last)?;
        manifest
            .objects
            .iter()
            .try_for_each(|object| self.in_its_place(manifest, object))
    }

    /// Checks that every shard continues where the previous epoch ended.
    fn joins(&self, manifest: &Manifest) -> Judged {
        let mut stands: BTreeMap<&ShardId, &Position> = BTreeMap::new();
        if let Some(last) = self.last() {
            stands.extend(
                last.frontier
                    .iter()
                    .map(|(id, frontier)| (id, &frontier.position)),
            );
        }
        for (id, range) in manifest.parts.iter().flat_map(|part| &part.ranges) {
            let from = stands.insert(id, &range.to);
            let begins = |from: &Position| matches!(from, Position::Start | Position::Timestamp(_));
            let good = from.map_or_else(|| begins(&range.from), |from| *from == range.from);
            ensure(good, || {
                format!("{id} goes on at {}, it stood at {from:?}", range.from)
            })?;
            let forward = range.from.reaches(&range.to) && range.from != range.to;
            ensure(forward, || {
                format!("{id} goes from {} to {}", range.from, range.to)
            })?;
        }
        for (id, position) in stands {
            let after = manifest.frontier.get(id).map(|frontier| &frontier.position);
            let good = after.is_none_or(|after| after == position || *after == Position::End);
            ensure(good, || {
                format!("{id} is left at {after:?}, it was read to {position}")
            })?;
        }
        Ok(())
    }

    fn in_its_place(
        &self,
        manifest: &Manifest,
        object: &streamctl_proto::manifest::ManifestObject,
    ) -> Judged {
        let staged = &object.staged;
        let folder = match staged.kind {
            ObjectKind::Data => self.job.spec.sink.place(),
            ObjectKind::DeadLetter | ObjectKind::RejectedRow => {
                self.job.spec.checkpoint.join("sales/dead-letters/")
            }
        };
        let own = format!(
            "{}-{}-{}-",
            manifest.window.label(),
            self.job.spec.name,
            object.task
        );
        let below = staged.location.strip_prefix(&folder);
        let good = below.is_some_and(|below| {
            let (folders, name) = below
                .rsplit_once('/')
                .map_or(("", below), |(folders, name)| (folders, name));
            let climbs = folders
                .split('/')
                .any(|part| matches!(part, "." | "..") || part.contains('\0'));
            name.starts_with(&own)
                && !climbs
                && manifest.parts.iter().any(|part| part.task == object.task)
        });
        ensure(good, || {
            format!(
                "{} is not {}'s object of {}",
                staged.location, object.task, manifest.window
            )
        })?;
        let beside = match &staged.staging {
            Staging::File { staged_path } => {
                staged_path.starts_with(&folder) && !staged_path.contains("..")
            }
            Staging::Multipart { upload_id, .. } => {
                folder.starts_with("s3://") && !upload_id.is_empty()
            }
        };
        ensure(beside, || {
            format!("{:?} is not staged for {}", staged.staging, staged.location)
        })
    }
}

fn adds_up(manifest: &Manifest, last: Option<&Manifest>) -> Judged {
    let mut counts = Counts::default();
    manifest
        .parts
        .iter()
        .for_each(|part| counts.add(&part.counts));
    ensure(counts == manifest.counts && counts.balanced(), || {
        format!("{:?} do not add up", manifest.counts)
    })?;
    let records: u64 = manifest
        .parts
        .iter()
        .flat_map(|part| part.ranges.values())
        .map(|range| range.records)
        .sum();
    ensure(records == counts.rows_in, || {
        format!("{records} records were read, {} counted", counts.rows_in)
    })?;
    let mut totals = last.map(|last| last.totals).unwrap_or_default();
    totals.add(&counts);
    ensure(totals == manifest.totals, || {
        format!("the totals are {:?}, not {totals:?}", manifest.totals)
    })
}

/// Checks that the core is as small as its world.
pub fn small(core: &Core) -> Judged {
    for job in core.jobs.values() {
        let sizes = [
            job.shards.len(),
            job.tasks.len(),
            job.windows.len(),
            job.waiting.len(),
            job.task_workers.len(),
        ];
        ensure(sizes.iter().all(|size| *size < FEW), || {
            format!("the job has grown: {sizes:?}")
        })?;
    }
    ensure(core.workers.len() <= 3, || {
        format!("there are {} workers", core.workers.len())
    })
}
