//! The file that names the packages of a function.
//!
//! Owns: which files it is made of, by its name. Does not own: making the environment (the worker).
//! Rule: whatever its kind, it pins versions and hashes: what is installed is what was submitted.

use serde::{Deserialize, Serialize};

/// What `uv lock` writes beside a `pyproject.toml`.
const LOCK: &str = "uv.lock";
const PROJECT: &str = "pyproject.toml";

/// A file with packages, by its path from the folder of the job file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirements(String);

/// How the packages are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequirementsKind {
    /// A file of requirements, each with its version and hashes.
    Pinned,
    /// A project: a `pyproject.toml` and its `uv.lock`, in this folder of the code ("" is its root).
    Project { folder: String },
    /// A Python file with a header of its packages (PEP 723), and its lock.
    Script { lock: String },
}

impl Requirements {
    /// `None`: it is no such file, by its name.
    pub fn new(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_known =
            name == LOCK || name == PROJECT || path.ends_with(".txt") || path.ends_with(".py");
        is_known.then(|| Self(path.to_owned()))
    }

    pub fn path(&self) -> &str {
        &self.0
    }

    pub fn kind(&self) -> RequirementsKind {
        let (folder, name) = match self.0.rsplit_once('/') {
            Some((folder, name)) => (format!("{folder}/"), name),
            None => (String::new(), self.0.as_str()),
        };
        match name {
            LOCK | PROJECT => RequirementsKind::Project { folder },
            name if name.ends_with(".py") => RequirementsKind::Script {
                lock: format!("{}.lock", self.0),
            },
            _ => RequirementsKind::Pinned,
        }
    }

    /// All files that it needs.
    pub fn files(&self) -> Vec<String> {
        match self.kind() {
            RequirementsKind::Pinned => vec![self.0.clone()],
            RequirementsKind::Project { folder } => {
                vec![format!("{folder}{PROJECT}"), format!("{folder}{LOCK}")]
            }
            RequirementsKind::Script { lock } => vec![self.0.clone(), lock],
        }
    }

    /// The command that writes a file of these that is missing.
    pub fn lock_command(&self) -> String {
        match self.kind() {
            RequirementsKind::Pinned => {
                "uv pip compile --generate-hashes requirements.in -o requirements.txt".to_owned()
            }
            RequirementsKind::Project { .. } => "uv lock".to_owned(),
            RequirementsKind::Script { .. } => format!("uv lock --script {}", self.0),
        }
    }
}
