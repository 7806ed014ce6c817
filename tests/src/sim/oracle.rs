//! The verdict at the end of a story, for each job separately: every record exactly once, in order,
//! in its window; nothing else visible.
//!
//! Owns: reading what a reader of the sink would see. Does not own: the invariants during the story
//! (`witness`, `store`, `storage`).
//! Rule: it reads the stored bytes and does not query the system.

use super::job::{self, SimJob};
use super::stream::{Put, Stream};
use super::texts::Text;
use super::weather::BEGIN_MS;
use super::world::World;
use flate2::read::MultiGzDecoder;
use futures::FutureExt;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::PoisonError;
use streamctl_controller::store::Store as _;
use streamctl_core::stored::DesiredState;
use streamctl_engine::storage::Storage;
use streamctl_proto::manifest::CheckpointNames;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::made_by;
use streamctl_proto::{JobVersion, Manifest, Position, ResolvedJob, ShardId, Window, WindowSize};

/// Judges the world; reports violations to the weather.
pub fn judge(world: &World) {
    for job in &world.jobs {
        if let Err(wrong) = verdict(world, job) {
            world.weather.broken(format!("{}: {wrong}", job.name));
        }
    }
    if let Err(wrong) = nothing_is_left_staged(world) {
        world.weather.broken(wrong);
    }
}

fn verdict(world: &World, job: &SimJob) -> Result<(), String> {
    let manifests = manifests(world, job)?;
    let texts = texts(world, job, &manifests)?;
    let stream = job.stream();
    let committed = chain(world, &stream, &manifests, &texts)?;
    let mut read = Found::default();
    let keys: Keys = stream
        .shards
        .values()
        .flat_map(|shard| &shard.puts)
        .filter_map(Put::named_key)
        .collect();
    for (manifest, text) in manifests.iter().zip(&texts) {
        objects(world, job, manifest, text, &keys, &mut read)?;
    }
    every_record_once(&stream, &committed, &read)?;
    nothing_else_is_visible(world, job, &read)
}

fn nothing_is_left_staged(world: &World) -> Result<(), String> {
    // Orphans are swept while their job runs.
    let doomed: Vec<String> = world
        .jobs
        .iter()
        .filter(|job| job.is_doomed())
        .map(|job| format!("s3://sim/{}/", job.name))
        .collect();
    let of_failed = |location: &String| doomed.iter().any(|folder| location.starts_with(folder));
    // Staged objects of a term that the store lost are swept once the terms have passed that one.
    let leader = world
        .store
        .leader()
        .now_or_never()
        .and_then(Result::ok)
        .flatten();
    let term = leader.filter(|_| world.restored).map(|(term, _)| term);
    let is_later = |location: &String| {
        let made_by = world
            .jobs
            .iter()
            .find_map(|job| made_by(location, &job.name));
        term.zip(made_by)
            .is_some_and(|(term, task)| task.term >= term)
    };
    match world
        .objects
        .staged_locations()
        .iter()
        .find(|location| !of_failed(location) && !is_later(location))
    {
        Some(orphan) => Err(format!("{orphan} is staged and nobody's, and never swept")),
        None => Ok(()),
    }
}

fn get(world: &World, location: &str) -> Result<Vec<u8>, String> {
    let bytes = world
        .objects
        .get(location, u64::MAX)
        .now_or_never()
        .and_then(Result::ok);
    bytes
        .map(|bytes| bytes.to_vec())
        .ok_or_else(|| format!("{location} is not there"))
}

/// An object, or what it was before its removal.
fn get_ever(world: &World, location: &str) -> Result<Vec<u8>, String> {
    let removed = world.removed.lock().unwrap_or_else(PoisonError::into_inner);
    match removed.get(location) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => get(world, location),
    }
}

/// The manifests from the first epoch to the head. Those from the anchor on must be there.
fn manifests(world: &World, job: &SimJob) -> Result<Vec<Manifest>, String> {
    let stored = world.stored(&job.name).ok_or("the job is gone")?;
    let stream_may_fail = job.stream().may_fail();
    let ends_right = match &stored.wanted {
        DesiredState::Failed { .. } => stream_may_fail,
        wanted => *wanted == DesiredState::Running && !job.is_doomed(),
    };
    if !ends_right {
        return Err(format!("the job is wanted {:?}", stored.wanted));
    }
    let mut found = vec![];
    let mut next = stored.head.clone();
    if stored
        .head
        .as_ref()
        .is_some_and(|head| head.epoch != stored.published)
    {
        return Err(format!(
            "published is {}, the head is {:?}",
            stored.published, stored.head
        ));
    }
    while let Some(reference) = next {
        let location = job::checkpoint(&job.name).join(&reference.name);
        let bytes = if reference.epoch < stored.anchors.first_kept() {
            get_ever(world, &location)?
        } else {
            get(world, &location)?
        };
        let manifest = Manifest::decode(&bytes, &reference).map_err(|error| error.to_string())?;
        if manifest
            .previous
            .as_ref()
            .map_or(0, |previous| previous.epoch.0)
            + 1
            != manifest.epoch.0
        {
            return Err(format!(
                "epoch {} follows {:?}",
                manifest.epoch, manifest.previous
            ));
        }
        next = manifest.previous.clone();
        found.push(manifest);
    }
    found.reverse();
    Ok(found)
}

/// The text of the version that made each epoch, from the store and the chain of its versions.
fn texts(world: &World, job: &SimJob, manifests: &[Manifest]) -> Result<Vec<Text>, String> {
    let stored = world.stored(&job.name).ok_or("the job is gone")?;
    let first = stored.anchors.first_kept();
    let kept = manifests.iter().find(|manifest| manifest.epoch >= first);
    let kept = kept.map_or(JobVersion::FIRST, Manifest::job_version);
    let mut version = stored.job;
    let mut digests = BTreeMap::from([(version.job_version, version.spec_digest.clone())]);
    while let Some(before) = version.previous.take() {
        let location = job::checkpoint(&job.name).join(&before.name);
        let bytes = if before.job_version < kept {
            get_ever(world, &location)?
        } else {
            get(world, &location)?
        };
        version = ResolvedJob::decode(&bytes, &before).map_err(|error| error.to_string())?;
        digests.insert(version.job_version, version.spec_digest.clone());
    }
    let mut last = JobVersion::FIRST;
    let text = |manifest: &Manifest| {
        let epoch = manifest.epoch;
        let version = manifest.job_version();
        let said = manifest
            .made_by
            .as_ref()
            .map(|made_by| &made_by.spec_digest);
        if said != digests.get(&version) || said.is_none() || version < last {
            return Err(format!(
                "epoch {epoch} is of {:?}, after version {last}: {digests:?}",
                manifest.made_by
            ));
        }
        last = version;
        let text = said.and_then(|digest| job.texts.of(digest));
        text.ok_or_else(|| format!("epoch {epoch}: nobody submitted version {version}"))
    };
    manifests.iter().map(text).collect()
}

/// The number of committed records of each shard.
type Committed = BTreeMap<ShardId, usize>;

/// Every shard's ranges join from its first record to its last, each record in its window, children
/// after parents. Records that a failed job has not committed are ignored.
fn chain(
    world: &World,
    stream: &Stream,
    manifests: &[Manifest],
    texts: &[Text],
) -> Result<Committed, String> {
    let sizes: BTreeSet<i64> = texts.iter().map(|text| text.window_ms).collect();
    // If the size changes, the window boundaries are not known beforehand.
    let exact = world.setting.exact && sizes.len() < 2;
    let first = WindowSize::from_ms(sizes.first().copied().unwrap_or(1)).ok_or("no window size")?;
    let windows = stream.windows(first);
    let mut at: BTreeMap<&ShardId, usize> = BTreeMap::new();
    let mut last: Option<Window> = None;
    for (manifest, text) in manifests.iter().zip(texts) {
        let epoch = manifest.epoch;
        let size = WindowSize::from_ms(text.window_ms).ok_or("no window size")?;
        if last.is_some_and(|last| last.end_ms > manifest.window.start_ms)
            || !size.has(manifest.window)
        {
            return Err(format!(
                "epoch {epoch} has window {:?} of {size:?}, after {last:?}",
                manifest.window
            ));
        }
        last = Some(manifest.window);
        let mut late = 0;
        if !manifest.counts.balanced() {
            return Err(format!("epoch {epoch}: {:?}", manifest.counts));
        }
        for (id, range) in manifest.parts.iter().flat_map(|part| &part.ranges) {
            let shard = stream
                .shards
                .get(id)
                .ok_or_else(|| format!("epoch {epoch} reads {id}, there is none"))?;
            let from = *at.get(id).unwrap_or(&0);
            let to = from + range.records as usize;
            if position(&shard.puts, from) != range.from
                && !(from == 0 && range.from == Position::Start)
            {
                return Err(format!(
                    "epoch {epoch}: {id} goes on from {}, it stood at record {from}",
                    range.from
                ));
            }
            if to > shard.puts.len() || position(&shard.puts, to) != range.to {
                return Err(format!(
                    "epoch {epoch}: {id} reads {range:?}, from record {from}"
                ));
            }
            for (put, expected) in shard.puts[from..to].iter().zip(&windows[id][from..to]) {
                let own = size.window_of(put.record.arrival_ms);
                late += u64::from(own != manifest.window);
                // A clock that jumps ahead and back takes windows with it, so the oracle can only
                // check that no window is before its record's own.
                let right = if exact {
                    *expected == manifest.window
                } else {
                    own.start_ms <= manifest.window.start_ms
                };
                if !right {
                    let arrival_ms = put.record.arrival_ms - BEGIN_MS;
                    let sequence = &put.record.sequence;
                    return Err(format!(
                        "epoch {epoch}: {id} {sequence} of {arrival_ms} ms stands in {}, it belongs in {expected}",
                        manifest.window
                    ));
                }
            }
            at.insert(id, to);
        }
        if manifest.counts.rows_late != late {
            let counted = manifest.counts.rows_late;
            return Err(format!(
                "epoch {epoch} counts {counted} records outside of their window, there are {late}"
            ));
        }
        for id in manifest.parts.iter().flat_map(|part| part.ranges.keys()) {
            for parent in &stream.shards[id].parents {
                if at.get(parent).copied().unwrap_or(0) != stream.shards[parent].puts.len() {
                    return Err(format!("epoch {epoch} has {id} before the end of {parent}"));
                }
            }
        }
        for (id, frontier) in &manifest.frontier {
            let stands = at.get(id).copied().unwrap_or(0);
            let shard = &stream.shards[id];
            let ended = frontier.position == Position::End && stands == shard.puts.len();
            let begins = stands == 0 && frontier.position == Position::Start;
            if !ended && !begins && position(&shard.puts, stands) != frontier.position {
                return Err(format!(
                    "epoch {epoch}: frontier of {id} is {}, {stands} are read",
                    frontier.position
                ));
            }
        }
    }
    let unread = stream
        .shards
        .iter()
        .find(|(id, shard)| at.get(id).copied().unwrap_or(0) != shard.puts.len());
    match unread.filter(|_| !stream.may_fail()) {
        Some((id, shard)) => Err(format!(
            "{:?} of {} records of {id} are in",
            at.get(id),
            shard.puts.len()
        )),
        None => Ok(at
            .into_iter()
            .map(|(id, records)| (id.clone(), records))
            .collect()),
    }
}

/// The position after this many records.
fn position(puts: &[Put], read: usize) -> Position {
    match read.checked_sub(1).and_then(|last| puts.get(last)) {
        Some(put) => put.record.position(),
        None => Position::Start,
    }
}

/// The key of each record, by its id.
type Keys<'a> = BTreeMap<&'a str, &'static str>;

/// The content that a reader of the sink finds.
#[derive(Default)]
struct Found {
    visible: BTreeSet<String>,
    rows: BTreeMap<String, u64>,
    dead: BTreeMap<(String, String), u64>,
}

fn objects(
    world: &World,
    job: &SimJob,
    manifest: &Manifest,
    made_by: &Text,
    keys: &Keys<'_>,
    read: &mut Found,
) -> Result<(), String> {
    let epoch = manifest.epoch;
    let tag = lookup_tag(world, job, manifest)?;
    for object in &manifest.objects {
        let location = &object.staged.location;
        if !read.visible.insert(location.clone()) {
            return Err(format!("{location} is named by two manifests"));
        }
        let mut bytes = get(world, location)?;
        if object.staged.kind == ObjectKind::DeadLetter {
            let mut text = vec![];
            MultiGzDecoder::new(bytes.as_slice())
                .read_to_end(&mut text)
                .map_err(|e| format!("{location}: {e}"))?;
            bytes = text;
        }
        let lines: Vec<Value> = serde_json::Deserializer::from_slice(&bytes)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{location}: {e}"))?;
        if lines.len() as u64 != object.staged.rows {
            return Err(format!(
                "{location} has {} rows, epoch {epoch} says {}",
                lines.len(),
                object.staged.rows
            ));
        }
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for line in &lines {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            if object.staged.kind == ObjectKind::DeadLetter {
                *read
                    .dead
                    .entry((text("shard"), text("sequence_number")))
                    .or_default() += 1;
                continue;
            }
            if line["made_by"].as_u64() != Some(made_by.number) {
                return Err(format!(
                    "{location}: {line} is not of job file {}, epoch {epoch} is",
                    made_by.number
                ));
            }
            let batch_id = manifest.window.start_ms.div_euclid(made_by.window_ms);
            let expected = job.has_function.then_some(batch_id);
            if line["batch_id"].as_i64() != expected {
                return Err(format!(
                    "{location}: {line} is of another batch than {expected:?}"
                ));
            }
            let id = text("id");
            *read.rows.entry(id.clone()).or_default() += 1;
            let (shard, sequence) = id
                .rsplit_once('/')
                .ok_or_else(|| format!("{location}: {line}"))?;
            let sequence: u64 = sequence
                .parse()
                .map_err(|_| format!("{location}: {line}"))?;
            if last
                .insert(shard.to_owned(), sequence)
                .is_some_and(|before| before >= sequence)
                && job.ordered
            {
                return Err(format!("{location}: {id} is out of order"));
            }
            let key = keys
                .get(id.as_str())
                .copied()
                .ok_or_else(|| format!("{location}: {line} was not put"))?;
            let expected = tag.as_ref().filter(|_| ["a", "b", "c"].contains(&key));
            let value = line.get("v").filter(|value| !value.is_null()).map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            });
            if value.as_ref() != expected {
                return Err(format!(
                    "{location}: {line} has another lookup version than {tag:?}"
                ));
            }
        }
    }
    Ok(())
}

/// The content of the lookup version that an epoch names.
fn lookup_tag(world: &World, job: &SimJob, manifest: &Manifest) -> Result<Option<String>, String> {
    let Some((lookup, version)) = manifest.lookups.first_key_value() else {
        return Ok(None);
    };
    let folder =
        job::checkpoint(&job.name).join(&CheckpointNames::new(&job.name).lookup(lookup, version));
    let listed = world
        .objects
        .list(&Location::folder(&folder))
        .now_or_never()
        .and_then(Result::ok)
        .unwrap_or_default();
    let csv = listed
        .iter()
        .find(|info| !info.location.ends_with("_complete.json"));
    let csv = csv.ok_or_else(|| {
        format!(
            "epoch {}: lookup version {version} is not there",
            manifest.epoch
        )
    })?;
    let text = String::from_utf8_lossy(&get(world, &csv.location)?).into_owned();
    Ok(text
        .lines()
        .nth(1)
        .and_then(|line| line.split_once(','))
        .map(|(_, tag)| tag.to_owned()))
}

fn every_record_once(stream: &Stream, committed: &Committed, read: &Found) -> Result<(), String> {
    let mut rows = read.rows.clone();
    let mut dead = read.dead.clone();
    for (id, shard) in &stream.shards {
        let committed = committed.get(id).copied().unwrap_or(0);
        for put in &shard.puts[..committed] {
            let sequence = put.record.sequence.as_str();
            let times = match &put.id {
                Some(name) => rows.remove(name),
                None => dead.remove(&(id.to_string(), sequence.to_owned())),
            };
            if times != Some(1) {
                return Err(format!(
                    "record {sequence} of {id} ({:?}) is there {times:?} times",
                    put.id
                ));
            }
        }
    }
    match (rows.first_key_value(), dead.first_key_value()) {
        (None, None) => Ok(()),
        (row, dead) => Err(format!("not put, or not committed: {row:?} {dead:?}")),
    }
}

fn nothing_else_is_visible(world: &World, job: &SimJob, read: &Found) -> Result<(), String> {
    let dead = job::checkpoint(&job.name).join(&CheckpointNames::new(&job.name).dead_letters());
    for folder in [job::sink(&job.name), dead] {
        let listed = world
            .objects
            .list(&Location::folder(&folder))
            .now_or_never();
        for info in listed.and_then(Result::ok).unwrap_or_default() {
            if !read.visible.contains(&info.location) {
                return Err(format!(
                    "{} is visible and no manifest names it",
                    info.location
                ));
            }
        }
    }
    Ok(())
}
