//! Where a task may stage an object so that it becomes visible.
//!
//! Owns: the check that an object lies in its folder, has its task's name, and is staged in the
//! right place. Does not own: which folder, partitions and extension a kind of object has (the kind
//! of sink; for dead letters the job).
//! Rule: pure. A worker decides what it stages, never where it becomes visible.

use crate::bad_message::BadMessage;
use crate::names::{LOCATION_BYTES_MAX, UPLOAD_BYTES_MAX, check_name, is_partition_folder};
use crate::report::{StagedObject, Staging, object_name};
use crate::{JobName, TaskId, Window};

/// Most parts of a multipart upload, the limit of S3.
pub const PARTS_MAX: usize = 10_000;

/// Who stages an object.
#[derive(Clone, Copy, Debug)]
pub struct StagedBy<'a> {
    pub job: &'a JobName,
    pub window: Window,
    pub task: TaskId,
}

/// Where a job stages objects of one kind.
#[derive(Clone, Copy, Debug)]
pub struct StagedPlace<'a> {
    pub folder: &'a str,
    /// The columns that name folders below it, one level each.
    pub partitions: &'a [&'a str],
    pub extension: &'a str,
}

impl StagedBy<'_> {
    /// Checks that the object becomes visible in this place, under a name of this task and window,
    /// and that its bytes are staged beside it.
    ///
    /// # Errors
    /// [`BadMessage`] names the field.
    pub fn check(&self, place: &StagedPlace<'_>, object: &StagedObject) -> Result<(), BadMessage> {
        let location = &object.location;
        let problem = |why| BadMessage {
            field: "object.location",
            problem: format!("{location:.200?} is none: {why}"),
        };
        check_name(location, LOCATION_BYTES_MAX).map_err(problem)?;
        let below = location.strip_prefix(place.folder);
        let parts = below.map(|below| below.rsplit_once('/').unwrap_or(("", below)));
        match parts {
            Some((folders, name))
                if are_partitions(place.partitions, folders)
                    && self.names(place.extension, name) =>
            {
                check_staging(location, name, &object.staging)
            }
            _ => bad(
                "object.location",
                format_args!("{location:?} is not where {} writes", self.task),
            ),
        }
    }

    /// Whether this is a name that the task gives its objects of this window, with any number.
    fn names(&self, extension: &str, name: &str) -> bool {
        let rest = name
            .strip_suffix(extension)
            .and_then(|rest| rest.strip_suffix('.'));
        let number = rest
            .and_then(|rest| rest.rsplit_once('-'))
            .and_then(|(_, number)| number.parse().ok());
        number.is_some_and(|number| {
            object_name(self.window, self.job, self.task, number, extension) == name
        })
    }
}

fn bad<T>(field: &'static str, problem: impl ToString) -> Result<T, BadMessage> {
    Err(BadMessage {
        field,
        problem: problem.to_string(),
    })
}

fn ensure(good: bool, field: &'static str, problem: impl ToString) -> Result<(), BadMessage> {
    if good { Ok(()) } else { bad(field, problem) }
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    check_name(text, bytes_max).is_ok()
}

/// Whether there is one folder per partition column. No such folder can be `.` or `..`.
fn are_partitions(columns: &[&str], folders: &str) -> bool {
    let parts: Vec<&str> = folders.split('/').filter(|_| !folders.is_empty()).collect();
    let mut pairs = columns.iter().zip(&parts);
    parts.len() == columns.len() && pairs.all(|(column, part)| is_partition_folder(column, part))
}

fn check_staging(location: &str, name: &str, staging: &Staging) -> Result<(), BadMessage> {
    match staging {
        Staging::Multipart { upload_id, etags } => {
            ensure(
                location.starts_with("s3://"),
                "object.staging",
                "an upload is of an object in S3",
            )?;
            let good =
                is_text(upload_id, UPLOAD_BYTES_MAX) && (1..=PARTS_MAX).contains(&etags.len());
            ensure(
                good,
                "object.upload_id",
                format_args!("no name of an upload, or {} parts", etags.len()),
            )?;
            ensure(
                etags.iter().all(|etag| is_text(etag, UPLOAD_BYTES_MAX)),
                "object.etags",
                "one is none",
            )
        }
        Staging::File { staged_path } => {
            ensure(
                !location.starts_with("s3://"),
                "object.staging",
                "a file is not staged for S3",
            )?;
            let folder = location.strip_suffix(name).unwrap_or_default();
            let beside = staged_path
                .strip_prefix(folder)
                .filter(|rest| !rest.contains('/'));
            let hidden = beside.and_then(|rest| {
                rest.strip_prefix('.')?
                    .strip_prefix(name)?
                    .strip_prefix('.')
            });
            let good = hidden.is_some_and(|rest| rest.ends_with(".staged"));
            ensure(
                (good || is_in_memory(location)) && is_text(staged_path, LOCATION_BYTES_MAX),
                "object.staging",
                "is not its staged file",
            )
        }
    }
}

/// Tests keep objects in memory; their staged form is no file.
fn is_in_memory(location: &str) -> bool {
    cfg!(any(test, feature = "test-util")) && location.starts_with("memory://")
}
