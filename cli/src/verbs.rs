//! One file per verb: send requests to the controller, print the answer.

pub mod catalog;
pub mod completions;
pub mod context;
pub mod cost;
pub mod dead_letters;
pub mod delete;
pub mod demo;
pub mod diff;
pub mod epochs;
pub mod events;
pub mod explain;
pub mod get;
pub mod import;
pub mod list;
pub mod preview;
pub mod repair;
pub mod replay;
pub mod run;
pub mod scaling;
pub mod status;
pub mod stop;
pub mod submit;
pub mod tail;
pub mod token;
pub mod top;
pub mod validate;
pub mod verify;
pub mod why;
pub mod workers;

use crate::error::CliError;
use crate::function_code;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use streamctl_proto::JobSpec;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::spec::Problems;
use streamctl_proto::v1::FunctionFile;

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File {
        path: path.display().to_string(),
        source,
    })
}

/// The code of the job's function, from the folder of its job file.
fn pack(path: &Path, text: &str, spec: &JobSpec) -> Result<Option<FunctionCode>, CliError> {
    let file = std::path::absolute(path).map_err(|source| CliError::File {
        path: path.display().to_string(),
        source,
    })?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    function_code::pack(spec, folder)
        .map_err(|problems| job_file_error(path, &problems.located(text)))
}

/// A job file, as a call to the cluster takes it.
struct JobFile {
    text: String,
    spec: JobSpec,
    code: Vec<FunctionFile>,
}

/// Reads a job file for the cluster, which has no folder to resolve relative paths from. Problems of
/// the file are found here, even if no controller answers.
fn job_file(path: &Path) -> Result<JobFile, CliError> {
    let text = read(path)?;
    let spec = JobSpec::parse(&text).map_err(|problems| job_file_error(path, &problems))?;
    let code = files(pack(path, &text, &spec)?.as_ref());
    Ok(JobFile { text, spec, code })
}

/// As a request has it.
fn files(code: Option<&FunctionCode>) -> Vec<FunctionFile> {
    code.map(Vec::from).unwrap_or_default()
}

/// Writes a new file with permissions `mode`. An existing file is not overwritten; `flag` is the
/// option that sets another path.
fn create(path: &Path, text: &str, mode: u32, flag: &str) -> Result<(), CliError> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| CliError::Usage {
            message: match error.kind() {
                ErrorKind::AlreadyExists => {
                    format!("{} is there already: it is not overwritten", path.display())
                }
                _ => format!("{} cannot be written: {error}", path.display()),
            },
            hint: format!("name another file with {flag}"),
        })
}

/// The job of a file whose relative paths are resolved from its own folder.
fn spec_of(file: &Path, text: &str) -> Result<JobSpec, CliError> {
    let path = std::path::absolute(file).map_err(|source| CliError::File {
        path: file.display().to_string(),
        source,
    })?;
    let spec = JobSpec::parse_in(text, path.parent().unwrap_or(&path));
    spec.map_err(|problems| job_file_error(file, &problems))
}

fn job_file_error(path: &Path, problems: &Problems) -> CliError {
    CliError::JobFile {
        path: path.display().to_string(),
        problems: problems.to_string(),
    }
}
