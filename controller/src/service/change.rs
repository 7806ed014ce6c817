//! Compares a job file with the running job of the same name, and applies the change.
//!
//! Owns: the comparison and its description, waiting until the store holds the change. Does not
//! own: which fields may change (`proto::change`), when a version takes over (`core::versions`).
//! Rule: a version takes over only after a `change` request; a successful answer is durable. The
//! previous version is in the checkpoint location before the store replaces it.

use super::standing::{Standing, resumed, standing};
use super::status_text::status_text;
use super::submit::{Submitter, code_of, parse, refused, response, submitted_digest, with_code};
use super::{RECORD_TIMEOUT, not_found};
use crate::checkpoints::Checkpoints;
use crate::handle::Handle;
use std::collections::BTreeMap;
use streamctl_core::versions::NoTakeOver;
use streamctl_core::{Core, Event};
use streamctl_engine::resolve::{World, output_columns, plan_text, resolve, schema_text};
use streamctl_proto::change::{FieldChange, compare};
use streamctl_proto::{Epoch, JobName, JobVersion, ResolvedJob, describe, v1};
use tonic::Status;

impl Submitter {
    /// What a job file would change.
    pub async fn diff(
        &self,
        handle: &Handle,
        request: &v1::DiffRequest,
    ) -> Result<v1::DiffResponse, Status> {
        let v1::DiffRequest {
            spec_toml,
            base_dir,
            function_code,
        } = request.clone();
        let spec = parse(&spec_toml, &base_dir)?;
        let name = spec.name.clone();
        let standing = standing(handle, &name)
            .await?
            .ok_or_else(|| not_found(&name))?;
        let code = code_of(&spec, function_code)?;
        let digest = submitted_digest(&spec_toml, code.as_ref());
        let world = with_code(&self.world, code);
        let resolved = resolve(&world, spec, digest, (self.clock)()).await;
        let next = next_version(
            &standing.job,
            resolved.map_err(|error| refused(error, &spec_toml))?,
            0,
        );
        let changes = changes(&standing, &next);
        let (plan_was, plan_will_be) = match changes.is_empty() {
            true => Default::default(),
            false => plans(&self.world, &standing.job, &next).await,
        };
        Ok(v1::DiffResponse {
            job: name.to_string(),
            job_version: standing.job.job_version.0,
            changes: changes.into_iter().map(Into::into).collect(),
            plan_was,
            plan_will_be,
            refused: standing
                .closed
                .map(|closed| closed.to_string())
                .unwrap_or_default(),
            epoch: standing.epoch.0,
        })
    }

    /// Replaces the running job with the new version, if that is requested and possible.
    pub(super) async fn change(
        &self,
        handle: &Handle,
        request: &v1::SubmitRequest,
        standing: Standing,
        job: ResolvedJob,
    ) -> Result<v1::SubmitResponse, Status> {
        let mut next = next_version(&standing.job, job, (self.clock)());
        let changes = changes(&standing, &next);
        if changes.is_empty() {
            let resumed = !request.dry_run && resumed(handle, &standing.job.spec.name).await?;
            return Ok(v1::SubmitResponse {
                resumed,
                ..response(&standing.job, false)
            });
        }
        if request.dry_run && !request.change {
            return Ok(response(&next, false));
        }
        may_take_over(&standing, &changes)?;
        if !request.change {
            return Err(change_required(&standing, &changes));
        }
        let mut after = standing.epoch;
        if !request.dry_run {
            let checkpoints = Checkpoints::of(&self.world.storages, &standing.job);
            let written = checkpoints.write_version(&standing.job).await;
            next.previous =
                Some(written.map_err(|error| Status::unavailable(status_text(&describe(&error))))?);
            after = take_over(handle.clone(), &next).await?;
        }
        let changes = changes.into_iter().map(Into::into).collect();
        Ok(v1::SubmitResponse {
            changed: true,
            changes,
            after_epoch: after.0,
            ..response(&next, false)
        })
    }
}

/// The version after the current one. It continues from the current position, so the starting point
/// of new shards, which was set at submit, stays.
fn next_version(old: &ResolvedJob, job: ResolvedJob, now_ms: i64) -> ResolvedJob {
    ResolvedJob {
        job_version: old.job_version.next(),
        previous: None,
        changed_ms: now_ms,
        submitted_ms: old.submitted_ms,
        start: old.start.clone(),
        stream_identity: old.stream_identity.clone().or(job.stream_identity),
        ..job
    }
}

/// All differences: keys of the file, columns, how the query is distributed.
fn changes(standing: &Standing, next: &ResolvedJob) -> Vec<FieldChange> {
    let old = &standing.job;
    let mut all = compare(old, next, standing.boundary_ms);
    let was: BTreeMap<_, _> = output_columns(old).into_iter().collect();
    let will_be: BTreeMap<_, _> = output_columns(next).into_iter().collect();
    let gone = output_columns(old)
        .into_iter()
        .filter(|(name, _)| !will_be.contains_key(name));
    for (name, _) in output_columns(next).into_iter().chain(gone) {
        all.extend(derived(
            format!("result.{name}"),
            was.get(&name).cloned(),
            will_be.get(&name).cloned(),
        ));
    }
    for (name, columns) in &next.lookup_columns {
        // Jobs of earlier builds do not know what they were planned with.
        if let Some(before) = old
            .lookup_columns
            .get(name)
            .filter(|before| *before != columns)
        {
            let shown = |text: &String| Some(schema_text(text));
            all.extend(derived(
                format!("lookup.{name}.columns"),
                shown(before),
                shown(columns),
            ));
        }
    }
    all.extend(derived(
        "spread".to_owned(),
        Some(spread(old)),
        Some(spread(next)),
    ));
    all
}

fn derived(field: String, was: Option<String>, will_be: Option<String>) -> Option<FieldChange> {
    (was != will_be).then_some(FieldChange {
        field,
        was,
        will_be,
        refused: None,
    })
}

fn spread(job: &ResolvedJob) -> String {
    let whole = "one task reads all shards: the query needs whole windows";
    if job.whole_window {
        whole.to_owned()
    } else {
        "shards are spread over all workers".to_owned()
    }
}

/// Both plans, if both can be made and they differ.
async fn plans(world: &World, old: &ResolvedJob, next: &ResolvedJob) -> (String, String) {
    match (plan_text(world, old).await, plan_text(world, next).await) {
        (Some(was), Some(will_be)) if was != will_be => (was, will_be),
        _ => Default::default(),
    }
}

fn may_take_over(standing: &Standing, changes: &[FieldChange]) -> Result<(), Status> {
    if let Some(closed) = &standing.closed {
        let hint = "give the new job another name";
        return Err(Status::failed_precondition(format!(
            "job {}: {closed}\n  hint: {hint}",
            standing.job.spec.name
        )));
    }
    match changes.iter().any(|change| change.refused.is_some()) {
        true => Err(no_take_over(&standing.job.spec.name, changes)),
        false => Ok(()),
    }
}

fn no_take_over(job: &JobName, changes: &[FieldChange]) -> Status {
    let mut text = format!("job {job} cannot take over:");
    let mut hints: Vec<&str> = vec![];
    for (change, refusal) in changes
        .iter()
        .filter_map(|change| Some((change, change.refused.as_ref()?)))
    {
        text.push_str(&format!("\n  {change}: {}", refusal.reason));
        if !hints.contains(&refusal.hint.as_str()) {
            hints.push(&refusal.hint);
        }
    }
    text.push_str(&format!("\n  hint: {}", hints.join("; ")));
    Status::failed_precondition(status_text(&text))
}

fn change_required(standing: &Standing, changes: &[FieldChange]) -> Status {
    let name = &standing.job.spec.name;
    let version = standing.job.job_version;
    let mut text =
        format!("a job {name} is there, at version {version}, and this job file would change it:");
    changes
        .iter()
        .for_each(|change| text.push_str(&format!("\n  {change}")));
    text.push_str(
        "\n  hint: `streamctl diff FILE` shows it whole; with `--change` it takes over after the last epoch; a job of its own \
         needs another name",
    );
    Status::already_exists(status_text(&text))
}

/// What is known of a change.
struct Seen {
    version: JobVersion,
    is_this: bool,
    after: Epoch,
    waits: bool,
    recording: bool,
    refused: Option<NoTakeOver>,
    /// The store refused this very version.
    not_stored: Option<String>,
}

/// Requests that the version take over. Returns the last epoch of the previous version once the
/// store holds the new one.
async fn take_over(mut handle: Handle, next: &ResolvedJob) -> Result<Epoch, Status> {
    let name = next.spec.name.clone();
    handle.send(Event::change_requested(next.clone())).await?;
    let stored = async {
        loop {
            let requested = next.clone();
            let read = move |core: &Core| {
                let job = core.jobs.get(&requested.spec.name)?;
                let is_this = |other: &ResolvedJob| {
                    (&other.spec_digest, other.changed_ms)
                        == (&requested.spec_digest, requested.changed_ms)
                };
                Some(Seen {
                    version: job.resolved.job_version,
                    is_this: is_this(&job.resolved),
                    after: job.took_over_after,
                    waits: job
                        .changing
                        .as_ref()
                        .is_some_and(|change| is_this(&change.next)),
                    recording: job.recording,
                    refused: job.may_change(&requested).err(),
                    not_stored: job
                        .refused_change
                        .as_ref()
                        .filter(|refused| refused.changed_ms == requested.changed_ms)
                        .map(|refused| refused.reason.clone()),
                })
            };
            let Some(seen) = handle.query(read).await? else {
                return Err(not_found(&name));
            };
            if let Some(reason) = seen.not_stored {
                let text = format!(
                    "the store refused version {} of job {name}: {reason}",
                    next.job_version
                );
                return Err(Status::failed_precondition(status_text(&text)));
            }
            match (seen.is_this, seen.waits) {
                (true, _) if !seen.recording => return Ok(seen.after),
                (true, _) | (false, true) => handle.changed().await?,
                (false, false) => return Err(overtaken(&name, seen)),
            }
        }
    };
    let late = |_| {
        Status::unavailable(format!(
            "version {} of job {name} waits for the store to take it, which it did not within {} s: it takes over when the \
             store answers, unless the leader changes before\n  hint: see `streamctl status {name}`, and submit it again",
            next.job_version,
            RECORD_TIMEOUT.as_secs()
        ))
    };
    tokio::time::timeout(RECORD_TIMEOUT, stored)
        .await
        .map_err(late)?
}

/// The job changed between the comparison and the change: an epoch ended at another boundary, or
/// another user changed the job.
fn overtaken(name: &JobName, seen: Seen) -> Status {
    match seen.refused {
        Some(NoTakeOver::Fields(changes)) => no_take_over(name, &changes),
        Some(refused) => Status::aborted(format!(
            "job {name} changed meanwhile: {refused}\n  hint: look at it with `streamctl diff`, \
             then submit again"
        )),
        None => Status::aborted(format!(
            "another change of job {name}, at version {}, came first\n  hint: look at it with \
             `streamctl diff`, then submit again",
            seen.version
        )),
    }
}
