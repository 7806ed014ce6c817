//! Compares a job file with the running job of the same name, and applies the change.
//!
//! Owns: the comparison and its description, waiting until the store holds the change. Does not
//! own: which fields may change (`proto::change`), when a version takes over (`core::versions`).
//! Rule: a version takes over only after a `change` request; a successful answer is durable. The
//! previous version is in the checkpoint location before the store replaces it.

use super::standing::{Standing, resumed, standing};
use super::submit::{
    Submitter, code_of, parse, refused, response, set_apart, there_already, was_refused, with_code,
};
use super::{RECORD_TIMEOUT, missing, not_found};
use crate::checkpoints::Checkpoints;
use crate::handle::Handle;
use crate::job_files::submitted_digest;
use std::collections::BTreeMap;
use streamctl_core::versions::NoTakeOver;
use streamctl_core::view::Submitted;
use streamctl_core::{Core, Event};
use streamctl_engine::resolve::{
    World, make_sink, output_columns, plan_text, resolve, schema_text,
};
use streamctl_proto::change::{FieldChange, compare};
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::v1::SubmitOutcome;
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
        let Some(standing) = standing(handle, &name).await? else {
            return Err(missing(handle, &name).await);
        };
        let code = code_of(&spec, function_code)?;
        let digest = submitted_digest(&spec_toml, code.as_ref().map(FunctionCode::digest).as_ref());
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
            return Ok(response(&standing.job, there_already(resumed)));
        }
        if request.dry_run && !request.change {
            return Ok(response(&next, SubmitOutcome::Checked));
        }
        may_take_over(&standing, &changes)?;
        if !request.change {
            return Err(change_required(&standing, &changes));
        }
        let mut after = standing.epoch;
        let mut remarks = vec![];
        if !request.dry_run {
            let checkpoints = Checkpoints::of(&self.world.storages, &standing.job);
            let written = checkpoints.write_version(&standing.job).await;
            next.previous = Some(written.map_err(|error| {
                Status::from(CallRefusal::new(
                    Reason::CheckpointUnavailable,
                    describe(&error),
                ))
            })?);
            let found = next.spec.sink.clone();
            let made = make_sink(&self.world, &mut next).await;
            made.map_err(|error| refused(error, &request.spec_toml))?;
            // What was found already has its own place.
            if next.spec.sink != found {
                set_apart(&mut next);
            }
            self.prepare_consumer(handle, &mut next, &request.spec_toml)
                .await?;
            let keeps = next.consumer == standing.job.consumer;
            match take_over(handle, &next).await {
                Ok(epoch) => after = epoch,
                Err(status) => {
                    if !keeps && was_refused(&status) {
                        self.release_consumer(&next).await;
                    }
                    return Err(status);
                }
            }
            if !keeps {
                remarks.extend(self.release_consumer(&standing.job).await);
            }
        }
        let changes = changes.into_iter().map(Into::into).collect();
        Ok(v1::SubmitResponse {
            changes,
            after_epoch: after.0,
            remarks,
            ..response(&next, SubmitOutcome::Changed)
        })
    }
}

/// The version after the current one. It continues from the current position, so the starting point
/// of new shards, which was set at submit, stays.
fn next_version(old: &ResolvedJob, job: ResolvedJob, now_ms: i64) -> ResolvedJob {
    let mut next = ResolvedJob {
        job_version: old.job_version.next(),
        previous: None,
        changed_ms: now_ms,
        after_epoch: None,
        submitted_ms: old.submitted_ms,
        start: old.start.clone(),
        stream_identity: old.stream_identity.clone().or(job.stream_identity),
        consumer: None,
        ..job
    };
    // A consumer that stays is not registered again.
    if next.spec.source.kind.consumer() == old.spec.source.kind.consumer() {
        next.consumer = old.consumer.clone();
    }
    set_apart(&mut next);
    next
}

/// All differences: keys of the file, columns, how the query is distributed.
fn changes(standing: &Standing, next: &ResolvedJob) -> Vec<FieldChange> {
    differences(&standing.job, next, standing.boundary_ms)
}

/// The same of any two versions, of which one begins at this boundary.
pub(super) fn differences(
    old: &ResolvedJob,
    next: &ResolvedJob,
    boundary_ms: Option<i64>,
) -> Vec<FieldChange> {
    let mut all = compare(old, next, boundary_ms);
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
    if job.whole_window {
        format!(
            "one task reads all shards: {}",
            job.spec.whole_window_reason()
        )
    } else {
        "shards are spread over all workers".to_owned()
    }
}

/// Both plans, if both can be made and they differ.
pub(super) async fn plans(
    world: &World,
    old: &ResolvedJob,
    next: &ResolvedJob,
) -> (String, String) {
    match (plan_text(world, old).await, plan_text(world, next).await) {
        (Some(was), Some(will_be)) if was != will_be => (was, will_be),
        _ => Default::default(),
    }
}

fn may_take_over(standing: &Standing, changes: &[FieldChange]) -> Result<(), Status> {
    if let Some(closed) = &standing.closed {
        let hint = "give the new job another name";
        return Err(Status::from(
            CallRefusal::new(
                Reason::ChangeRefused,
                format!("job {}: {closed}", standing.job.spec.name),
            )
            .hint(hint),
        ));
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
    Status::from(CallRefusal::new(Reason::ChangeRefused, text).hint(hints.join("; ")))
}

fn change_required(standing: &Standing, changes: &[FieldChange]) -> Status {
    let name = &standing.job.spec.name;
    let version = standing.job.job_version;
    let mut text =
        format!("a job {name} is there, at version {version}, and this job file would change it:");
    changes
        .iter()
        .for_each(|change| text.push_str(&format!("\n  {change}")));
    let hint = "`streamctl diff FILE` shows it whole; with `--change` it takes over after the last \
                epoch; a job of its own needs another name";
    Status::from(CallRefusal::new(Reason::JobExists, text).hint(hint))
}

/// Requests that the version take over. Returns the last epoch of the previous version once the
/// store holds the new one.
async fn take_over(handle: &Handle, next: &ResolvedJob) -> Result<Epoch, Status> {
    let name = next.spec.name.clone();
    handle.send(Event::change_requested(next.clone())).await?;
    let requested = next.clone();
    let stored = move |core: &Core| {
        let name = &requested.spec.name;
        let Some(job) = core.job(name) else {
            return Some(Err(not_found(name, core.job_names())));
        };
        match job.submitted(&requested) {
            Submitted::Current { after } => Some(Ok(after)),
            Submitted::Pending => None,
            Submitted::NotStored { reason } => {
                let version = requested.job_version;
                let text = format!("the store refused version {version} of job {name}: {reason}");
                let refusal = CallRefusal::new(Reason::ChangeRefused, text);
                Some(Err(Status::from(refusal)))
            }
            Submitted::Overtaken { version, reason } => Some(Err(overtaken(name, version, reason))),
        }
    };
    let late = || {
        let text = format!(
            "version {} of job {name} waits for the store to take it, which it did not within \
             {} s: it takes over when the store answers, unless the leader changes before",
            next.job_version,
            RECORD_TIMEOUT.as_secs()
        );
        let hint = format!("see `streamctl status {name}`, and submit it again");
        Status::from(CallRefusal::new(Reason::StoreUnavailable, text).hint(hint))
    };
    let waited = handle.until(RECORD_TIMEOUT, stored).await;
    waited.map_err(|error| error.or_late(late))?
}

/// The job changed between the comparison and the change: an epoch ended at another boundary, or
/// another user changed the job.
fn overtaken(name: &JobName, version: JobVersion, reason: Option<NoTakeOver>) -> Status {
    let text = match reason {
        Some(NoTakeOver::Fields(changes)) => return no_take_over(name, &changes),
        Some(reason) => format!("job {name} changed meanwhile: {reason}"),
        None => format!("another change of job {name}, at version {version}, came first"),
    };
    let hint = "look at it with `streamctl diff`, then submit again";
    Status::from(CallRefusal::new(Reason::VersionConflict, text).hint(hint))
}
