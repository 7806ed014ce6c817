//! From the text of a job file to a stored job.
//!
//! Owns: the order of the checks. Does not own: any check (`JobSpec::parse`, `engine::resolve`).
//! Rule: submitting is idempotent: the same text for the same name is the same job; a different
//! text is its next version, if the caller requests that (`change`).

use super::standing::{Standing, check_version, resumed, standing};
use super::status_text::status_text;
use crate::checkpoints::Checkpoints;
use crate::handle::Handle;
use crate::shards::{ShardLister, explore_all};
use crate::store::{CreateOutcome, STORED_JOB_BYTES_MAX, Store, StoreError, StoredJob};
use std::path::Path;
use std::sync::Arc;
use streamctl_core::Event;
use streamctl_core::stored::DesiredState;
use streamctl_engine::clock::Clock;
use streamctl_engine::function;
use streamctl_engine::resolve::{ResolveError, World, output_columns};
use streamctl_engine::security::{Caller, Role};
use streamctl_engine::source::Listing;
use streamctl_proto::describe;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::manifest::sha256_hex;
use streamctl_proto::spec::FunctionSpec;
use streamctl_proto::{JobSpec, ResolvedJob, v1};
use tonic::Status;

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
        let digest = submitted_digest(text, code.as_ref());
        let name = spec.name.clone();
        let standing = standing(handle, &name).await?;
        check_version(&name, standing.as_ref(), request.if_version)?;
        // The same text again: only a change checks whether the outside systems have changed.
        let same = |standing: &&Standing| {
            standing.job.spec_digest == digest && !dry_run && !request.change
        };
        if let Some(standing) = standing.as_ref().filter(same) {
            let resumed = resumed(handle, &name).await?;
            return Ok(v1::SubmitResponse {
                resumed,
                ..response(&standing.job, false)
            });
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
        if let Some(code) = code.filter(|_| !dry_run) {
            self.store_code(&job, &code).await?;
        }
        let answer = self.take(handle, request, standing, job).await?;
        Ok(v1::SubmitResponse { remarks, ..answer })
    }

    /// Before the job refers to it.
    async fn store_code(&self, job: &ResolvedJob, code: &FunctionCode) -> Result<(), Status> {
        let written = function::store::write(&self.world.storages, &job.spec, code).await;
        written
            .map(|_| ())
            .map_err(|error| Status::unavailable(status_text(&describe(&error))))
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
                    Ok(response(&job, false))
                } else {
                    self.create(handle, job).await
                }
            }
        }
    }

    /// Existing epochs belong to a job that this cluster has deleted, or never knew.
    async fn check_unused(&self, job: &ResolvedJob) -> Result<(), Status> {
        let name = &job.spec.name;
        let checkpoints = Checkpoints::of(&self.world.storages, job);
        let listed = checkpoints.list_epochs().await;
        if listed
            .map_err(|error| Status::failed_precondition(describe(&error)))?
            .is_empty()
        {
            return Ok(());
        }
        let checkpoint = &job.spec.checkpoint;
        let sink = job.spec.sink.place();
        Err(Status::failed_precondition(format!(
            "checkpoint.location: {checkpoint} holds epochs of a job {name} that this cluster does not know\n  hint: give the job \
             another name, or another checkpoint location and sink; or remove {checkpoint}{name}/, and what its job wrote \
             below {sink}: those rows would be there twice",
        )))
    }

    async fn create(
        &self,
        handle: &Handle,
        job: ResolvedJob,
    ) -> Result<v1::SubmitResponse, Status> {
        match self.store.create_job(handle.term, &job).await {
            Ok(CreateOutcome::Created) => {
                handle.send(Event::created(job.clone())).await?;
                Ok(response(&job, true))
            }
            Ok(CreateOutcome::Exists(stored)) => self.exists(handle, *stored, job).await,
            Ok(CreateOutcome::Fenced) => Err(crate::handle::NotLeading.into()),
            Err(StoreError::Refused { reason, hint }) => {
                Err(Status::failed_precondition(status_text(&format!(
                    "the store refused the job: {reason}\n  hint: {hint}"
                ))))
            }
            Err(error) => Err(Status::unavailable(describe(&error))),
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
            return Err(Status::already_exists(format!(
                "a job {name} was created meanwhile, with another job file (its digest is {})\n  hint: look at it with \
                 `streamctl diff`, or choose another name",
                stored.job.spec_digest
            )));
        }
        handle.send(Event::created(stored.job.clone())).await?;
        let resumed = stored.wanted != DesiredState::Running && resumed(handle, name).await?;
        Ok(v1::SubmitResponse {
            resumed,
            ..response(&stored.job, false)
        })
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
    let code = FunctionCode::try_from(files)
        .map_err(|error| Status::invalid_argument(status_text(&format!("function: {error}"))))?;
    Ok(Some(code))
}

/// Identifies what was submitted: the text, and the code of its function.
pub(super) fn submitted_digest(text: &str, code: Option<&FunctionCode>) -> String {
    match code {
        None => sha256_hex(text.as_bytes()),
        Some(code) => sha256_hex(format!("{text}\n{}", code.digest()).as_bytes()),
    }
}

/// The same outside world, with the code of this request.
pub(super) fn with_code(world: &World, code: Option<FunctionCode>) -> World {
    let mut world = world.clone();
    world.function.code = code;
    world
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
    Err(Status::invalid_argument(format!(
        "job {} has {} bytes as it is stored, with its columns; the most is {STORED_JOB_BYTES_MAX}\n  hint: make its query shorter: \
         put long lists of values into a lookup",
        job.spec.name,
        bytes.len()
    )))
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
    parsed.map_err(|problems| Status::invalid_argument(status_text(&problems.to_string())))
}

pub(super) fn refused(error: ResolveError, text: &str) -> Status {
    match error {
        ResolveError::Problems(problems) => {
            Status::invalid_argument(status_text(&problems.located(text).to_string()))
        }
        ResolveError::Unavailable { .. } => Status::aborted(status_text(&describe(&error))),
    }
}

pub(super) fn response(job: &ResolvedJob, created: bool) -> v1::SubmitResponse {
    let source = job.columns.iter().map(|c| v1::Column {
        name: c.name.clone(),
        r#type: c.type_name.clone(),
    });
    let output = output_columns(job)
        .into_iter()
        .map(|(name, r#type)| v1::Column { name, r#type });
    v1::SubmitResponse {
        job: job.spec.name.to_string(),
        created,
        source_columns: source.collect(),
        output_columns: output.collect(),
        whole_window: job.whole_window,
        job_version: job.job_version.0,
        changed: false,
        changes: vec![],
        after_epoch: 0,
        resumed: false,
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
