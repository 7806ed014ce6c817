//! From the text of a job file to a stored job.
//!
//! Owns: the order of the checks. Does not own: any check (`JobSpec::parse`, `engine::resolve`).
//! Rule: submitting is idempotent: the same text for the same name is the same job; a different
//! text is its next version, if the caller requests that (`change`).

use super::standing::{Standing, check_version, resumed, standing};
use crate::checkpoints::Checkpoints;
use crate::handle::Handle;
use crate::job_files::{self, submitted_digest};
use crate::shards::{ShardLister, explore_all};
use crate::store::{CreateOutcome, STORED_JOB_BYTES_MAX, Store, StoreError, StoredJob};
use std::path::Path;
use std::sync::Arc;
use streamctl_core::Event;
use streamctl_core::stored::DesiredState;
use streamctl_engine::clock::Clock;
use streamctl_engine::function;
use streamctl_engine::resolve::{ResolveError, World, make_sink, output_columns};
use streamctl_engine::security::{Caller, Role};
use streamctl_engine::source::Listing;
use streamctl_proto::describe;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::spec::FunctionSpec;
use streamctl_proto::v1::SubmitOutcome;
use streamctl_proto::{JobSpec, ResolvedJob, v1};
use tonic::{Code, Status};

/// A service's clock has a resolution of whole seconds, and the answer takes time to arrive.
const SERVICE_SECOND_MS: i64 = 1_500;

/// Checks and stores new jobs.
#[derive(Clone)]
pub struct Submitter {
    pub store: Arc<dyn Store>,
    /// The outside systems that a job file refers to.
    pub world: World,
    pub lister: Arc<dyn ShardLister>,
    /// The source of a job's submit time.
    pub clock: Clock,
}

impl Submitter {
    /// The same for a caller: systems that the caller may not name are not contacted.
    pub(super) fn for_caller(&self, caller: &Caller) -> Self {
        let mut own = self.clone();
        if !caller.may(Role::Admin) {
            own.world.foreign = own.world.foreign.without_admin();
        }
        own
    }

    /// Starts a job, or returns everything that is wrong with it.
    pub async fn submit(
        &self,
        handle: &Handle,
        request: &v1::SubmitRequest,
    ) -> Result<v1::SubmitResponse, Status> {
        let text = &request.spec_toml;
        let dry_run = request.dry_run;
        let spec = parse(&request.spec_toml, &request.base_dir)?;
        let code = code_of(&spec, request.function_code.clone())?;
        let digest = submitted_digest(text, code.as_ref().map(FunctionCode::digest).as_ref());
        let name = spec.name.clone();
        let standing = standing(handle, &name).await?;
        check_version(handle, &name, standing.as_ref(), request.if_version).await?;
        // The same text again: only a change checks whether the outside systems have changed.
        let same = |standing: &&Standing| {
            standing.job.spec_digest == digest && !dry_run && !request.change
        };
        if let Some(standing) = standing.as_ref().filter(same) {
            let resumed = resumed(handle, &name).await?;
            return Ok(response(&standing.job, there_already(resumed)));
        }
        let world = with_code(&self.world, code.clone());
        let (found, listing) = explore_all(&world, &*self.lister, &spec, true).await;
        let now_ms = submitted_ms((self.clock)(), listing.as_ref());
        let remarks = found.remarks(&spec);
        let mut job = found
            .job(spec, digest, now_ms)
            .map_err(|error| refused(error, text))?;
        let stream = listing.and_then(|listing| listing.stream.ok().flatten());
        job.stream_identity = stream.map(|stream| stream.identity);
        check_size(&job)?;
        if !dry_run {
            self.store_files(&job, text, code.as_ref()).await?;
        }
        let mut answer = self.take(handle, request, standing, job).await?;
        answer.remarks.splice(..0, remarks);
        Ok(answer)
    }

    /// The job file and the code of its function, before the job refers to them.
    async fn store_files(
        &self,
        job: &ResolvedJob,
        text: &str,
        code: Option<&FunctionCode>,
    ) -> Result<(), Status> {
        let storages = &self.world.storages;
        if let Some(code) = code {
            let written = function::store::write(storages, &job.spec, code).await;
            written.map_err(|error| {
                Status::from(CallRefusal::new(
                    Reason::CheckpointUnavailable,
                    describe(&error),
                ))
            })?;
        }
        let written = job_files::write(storages, job, text).await;
        written.map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::CheckpointUnavailable,
                describe(&error),
            ))
        })
    }

    /// Creates the job, or changes the one that is there.
    async fn take(
        &self,
        handle: &Handle,
        request: &v1::SubmitRequest,
        standing: Option<Standing>,
        job: ResolvedJob,
    ) -> Result<v1::SubmitResponse, Status> {
        match standing {
            Some(standing) => self.change(handle, request, standing, job).await,
            None => {
                self.check_unused(&job).await?;
                if request.dry_run {
                    return Ok(response(&job, SubmitOutcome::Checked));
                }
                let mut job = job;
                make_sink(&self.world, &mut job)
                    .await
                    .map_err(|error| refused(error, &request.spec_toml))?;
                set_apart(&mut job);
                self.prepare_consumer(handle, &mut job, &request.spec_toml)
                    .await?;
                check_size(&job)?;
                let made = self.create(handle, job.clone()).await;
                if made.as_ref().is_err_and(was_refused) {
                    self.release_consumer(&job).await;
                }
                made
            }
        }
    }

    /// Existing epochs belong to a job that this cluster has deleted, or never knew.
    async fn check_unused(&self, job: &ResolvedJob) -> Result<(), Status> {
        let name = &job.spec.name;
        let checkpoints = Checkpoints::of(&self.world.storages, job);
        let listed = checkpoints.list_epochs().await;
        if listed
            .map_err(|error| Status::from(CallRefusal::new(Reason::JobState, describe(&error))))?
            .is_empty()
        {
            return Ok(());
        }
        let checkpoint = &job.spec.checkpoint;
        let sink = job.spec.sink.place();
        Err(Status::from(
            CallRefusal::new(
                Reason::CheckpointInUse,
                format!(
                    "checkpoint.location: {checkpoint} holds epochs of a job {name} \
                 that this cluster does not know"
                ),
            )
            .hint(format!(
                "give the job another name, or another checkpoint location and \
                 sink; or remove {checkpoint}{name}/, and what its job wrote below \
                 {sink}: those rows would be there twice"
            )),
        ))
    }

    async fn create(
        &self,
        handle: &Handle,
        job: ResolvedJob,
    ) -> Result<v1::SubmitResponse, Status> {
        match self.store.create_job(handle.term, &job).await {
            Ok(CreateOutcome::Created) => {
                handle.send(Event::created(job.clone())).await?;
                Ok(response(&job, SubmitOutcome::Created))
            }
            Ok(CreateOutcome::Exists(stored)) => self.exists(handle, *stored, job).await,
            Ok(CreateOutcome::Fenced) => Err(crate::handle::NotLeading.into()),
            Err(StoreError::Refused { reason, hint }) => Err(Status::from(
                CallRefusal::new(
                    Reason::JobState,
                    format!("the store refused the job: {reason}"),
                )
                .hint(hint),
            )),
            Err(error) => Err(Status::from(CallRefusal::new(
                Reason::StoreUnavailable,
                describe(&error),
            ))),
        }
    }

    async fn exists(
        &self,
        handle: &Handle,
        stored: StoredJob,
        job: ResolvedJob,
    ) -> Result<v1::SubmitResponse, Status> {
        let name = &job.spec.name;
        if stored.job.spec_digest != job.spec_digest {
            return Err(Status::from(
                CallRefusal::new(
                    Reason::JobExists,
                    format!(
                        "a job {name} was created meanwhile, with another job file (its \
                 digest is {})",
                        stored.job.spec_digest
                    ),
                )
                .hint("look at it with `streamctl diff`, or choose another name"),
            ));
        }
        handle.send(Event::created(stored.job.clone())).await?;
        let resumed = stored.wanted != DesiredState::Running && resumed(handle, name).await?;
        Ok(response(&stored.job, there_already(resumed)))
    }
}

/// The code of the job's function, as it came with the job file.
pub(super) fn code_of(
    spec: &JobSpec,
    files: Vec<v1::FunctionFile>,
) -> Result<Option<FunctionCode>, Status> {
    let has_code = spec.function.as_ref().is_some_and(FunctionSpec::has_code);
    if !has_code || files.is_empty() {
        return Ok(None);
    }
    let code = FunctionCode::try_from(files).map_err(|error| {
        Status::from(CallRefusal::new(
            Reason::InvalidJobFile,
            format!("function: {error}"),
        ))
    })?;
    Ok(Some(code))
}

/// The same outside world, with the code of this request.
pub(super) fn with_code(world: &World, code: Option<FunctionCode>) -> World {
    let mut world = world.clone();
    world.function.code = code;
    world
}

/// Whether nothing of a request came about; of others it is not known.
pub(super) fn was_refused(status: &Status) -> bool {
    status.code() != Code::Unavailable
}

/// Gives the job's objects a place that no other job of its name has.
pub(super) fn set_apart(job: &mut ResolvedJob) {
    let name = job.spec.name.clone();
    if let Some(sink) = job.spec.sink.set_apart(&name, job.submitted_ms) {
        job.spec.sink = sink;
    }
}

/// The time of a submit: the local clock, unless the source's clock shows that it is wrong.
/// `latest` begins here, and arrival times are the source's. Its clock has a resolution of whole
/// seconds.
fn submitted_ms(local_ms: i64, listing: Option<&Listing>) -> i64 {
    let Some(service_ms) = listing.and_then(|listing| listing.service_ms) else {
        return local_ms;
    };
    let possible = service_ms..service_ms + SERVICE_SECOND_MS;
    if possible.contains(&local_ms) {
        local_ms
    } else {
        service_ms
    }
}

/// A job that is too large for the store is refused before any request to the store, so that it
/// affects no other job.
fn check_size(job: &ResolvedJob) -> Result<(), Status> {
    let (bytes, _) = job.encode();
    if bytes.len() <= STORED_JOB_BYTES_MAX {
        return Ok(());
    }
    Err(Status::from(
        CallRefusal::new(
            Reason::InvalidJobFile,
            format!(
                "job {} has {} bytes as it is stored, with its columns; the most is \
                 {STORED_JOB_BYTES_MAX}",
                job.spec.name,
                bytes.len()
            ),
        )
        .hint("make its query shorter: put long lists of values into a lookup"),
    ))
}

/// The job of a request, without contacting outside systems.
///
/// # Errors
/// `INVALID_ARGUMENT` with as many problems as fit.
pub fn parse(spec_toml: &str, base_dir: &str) -> Result<JobSpec, Status> {
    let parsed = match base_dir {
        "" => JobSpec::parse(spec_toml),
        folder => JobSpec::parse_in(spec_toml, Path::new(folder)),
    };
    parsed.map_err(|problems| Status::from(CallRefusal::of_job_file(problems)))
}

pub(super) fn refused(error: ResolveError, text: &str) -> Status {
    match error {
        ResolveError::Problems(problems) => {
            Status::from(CallRefusal::of_job_file(problems.located(text)))
        }
        ResolveError::Unavailable { .. } => Status::from(CallRefusal::new(
            Reason::ServiceUnavailable,
            describe(&error),
        )),
    }
}

/// The outcome for a job that was there, unchanged.
pub(super) fn there_already(resumed: bool) -> SubmitOutcome {
    match resumed {
        true => SubmitOutcome::Resumed,
        false => SubmitOutcome::Unchanged,
    }
}

pub(super) fn response(job: &ResolvedJob, outcome: SubmitOutcome) -> v1::SubmitResponse {
    let source = job.columns.iter().map(|c| v1::Column {
        name: c.name.clone(),
        r#type: c.type_name.clone(),
    });
    let output = output_columns(job)
        .into_iter()
        .map(|(name, r#type)| v1::Column { name, r#type });
    v1::SubmitResponse {
        job: job.spec.name.to_string(),
        outcome: outcome.into(),
        source_columns: source.collect(),
        output_columns: output.collect(),
        whole_window: job.whole_window,
        job_version: job.job_version.0,
        changes: vec![],
        after_epoch: 0,
        remarks: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_starts_by_the_clock_of_its_source_where_the_local_one_is_wrong() {
        let listing = |service_ms| Listing {
            service_ms,
            ..Listing::of(vec![])
        };
        let submitted = |local_ms, service_ms| submitted_ms(local_ms, Some(&listing(service_ms)));
        assert_eq!(submitted(100_700, Some(100_000)), 100_700);
        assert_eq!(submitted(220_000, Some(100_000)), 100_000);
        assert_eq!(submitted(99_999, Some(100_000)), 100_000);
        assert_eq!(submitted(5, None), 5);
        assert_eq!(submitted_ms(5, None), 5);
    }
}
