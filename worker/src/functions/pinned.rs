//! The packages of a function, pinned: from whatever file the job names.
//!
//! Owns: which lines pin a package, and reading a lock by `uv`. Does not own: installing
//! (`environment`).
//! Rule: every package has one version and its hashes: the files that were submitted alone decide
//! what is installed.

use super::environment_error::EnvironmentError;
use super::steps::run;
use std::path::Path;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::spec::{Requirements, RequirementsKind};
use tokio::process::Command;

/// A package of pinned requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// In its normal form.
    pub name: String,
    pub version: String,
}

/// The text of pinned requirements that a file of requirements comes to. `folder`: the code on
/// this machine.
pub(super) async fn pinned(
    requirements: &Requirements,
    code: &FunctionCode,
    folder: &Path,
    uv: &Path,
    python: &Path,
) -> Result<String, EnvironmentError> {
    let mut export = Command::new(uv);
    match requirements.kind() {
        RequirementsKind::Pinned => {
            let bytes = code.get(requirements.path()).unwrap_or_default();
            return Ok(String::from_utf8_lossy(bytes).into_owned());
        }
        RequirementsKind::Project { folder: project } => {
            export.args(["export", "--no-emit-project"]);
            export.arg("--project").arg(folder.join(project));
        }
        RequirementsKind::Script { .. } => {
            export.args(["export", "--script"]);
            export.arg(folder.join(requirements.path()));
        }
    }
    // Nothing is resolved, built or fetched: the lock is written in another form.
    export.args(["--frozen", "--offline", "--no-cache", "--no-dev", "--quiet"]);
    export.args([
        "--format",
        "requirements-txt",
        "--no-header",
        "--no-annotate",
    ]);
    export.arg("--python").arg(python);
    export
        .env("UV_PYTHON_DOWNLOADS", "never")
        .current_dir(folder);
    let exported = run("reading the lock with uv", export).await;
    exported.map_err(|error| match error {
        EnvironmentError::Start { program, reason } => EnvironmentError::NoUv { program, reason },
        error => error,
    })
}

/// The packages of these requirements.
///
/// # Errors
/// One of them is not pinned, or has no hash.
pub(super) fn packages(requirements: &str) -> Result<Vec<Package>, EnvironmentError> {
    let joined = requirements.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or(line);
        let pin = first.trim_end_matches(';').split_once("==");
        let Some((name, version)) = pin.filter(|_| !line.starts_with('-')) else {
            return Err(EnvironmentError::NotPinned(first.to_owned()));
        };
        if !line.contains("--hash=sha256:") {
            return Err(EnvironmentError::NoHash(first.to_owned()));
        }
        found.push(Package {
            // Extras are of the name, not of the file's.
            name: normal(name.split('[').next().unwrap_or(name)),
            version: version.to_owned(),
        });
    }
    Ok(found)
}

/// A package's name as all files write it: `My.Package` and `my_package` are one.
pub(super) fn normal(name: &str) -> String {
    let mut normal = String::new();
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pinned_packages_with_hashes_are_installed() {
        let good = "# made by uv\nnumpy==2.0.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n\n\
                    My.Pack_age[all]==1.0 ; python_version < '3.13' --hash=sha256:cc  # via x\n";
        let found = packages(good).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|package| (package.name.as_str(), package.version.as_str()))
            .collect();
        assert_eq!(found, [("numpy", "2.0.0"), ("my-pack-age", "1.0")]);
        for (text, expected) in [
            (
                "numpy==2.0.0",
                EnvironmentError::NoHash("numpy==2.0.0".into()),
            ),
            (
                "numpy --hash=sha256:aa",
                EnvironmentError::NotPinned("numpy".into()),
            ),
            ("-r other.txt", EnvironmentError::NotPinned("-r".into())),
            (
                "--index-url=http://x/",
                EnvironmentError::NotPinned("--index-url=http://x/".into()),
            ),
            (
                "./local --hash=sha256:aa",
                EnvironmentError::NotPinned("./local".into()),
            ),
        ] {
            assert_eq!(packages(text), Err(expected), "{text}");
        }
    }
}
