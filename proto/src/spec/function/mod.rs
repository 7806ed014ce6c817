//! `[function]`: the team's own function, which takes the rows of a window after the query.
//!
//! Owns: its keys, and what they mean to the rest of the system. Does not own: packing its code
//! ([`crate::function_code`]), running it (the worker).
//! Rule: what runs is named here completely; paths are those of the job file's folder and become
//! names in the packed code.

mod keys;
mod requirements;
#[cfg(test)]
mod tests;

pub(super) use keys::{FUNCTION, FUNCTION_SCHEMA, read};
pub use requirements::{Requirements, RequirementsKind};

use super::key::Fields;
use super::{AssumedRole, Location, bytes_text, duration_text};
use crate::resolved::ColumnType;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The name of a function that a job file does not name.
pub const FUNCTION_NAME_DEFAULT: &str = "process_batch";

/// Most columns of a key.
pub const KEY_COLUMNS_MAX: usize = 16;

/// A function that takes the rows of a window after the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSpec {
    pub place: FunctionPlace,
    pub name: String,
    /// `None`: that of the first parameter's annotation, else pandas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<Frame>,
    pub per: Per,
    /// The file with the packages that it needs, in the folder of the job file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// The folder with their wheels; `None`: the workers' package index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wheels: Option<Location>,
    /// The most time that one call may take.
    pub timeout: Duration,
    /// Memory of its process, and the most rows in bytes that one call is given.
    pub memory_bytes: u64,
    /// Whether it may open connections.
    pub network: bool,
    /// The role whose credentials it is given; `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AssumedRole>,
    /// The same rows give the same result, so that it can be computed again.
    pub deterministic: bool,
    /// The function that is called after an epoch was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_published: Option<String>,
    /// The columns of its result; empty: learned at submit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<ColumnType>,
}

/// Where the function is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionPlace {
    /// A file, by its path from the folder of the job file.
    File(String),
    /// A module, in a folder beside the job file.
    Module(String),
    /// A function server of the team's own: `grpc://host:port`.
    Url(String),
}

/// The kind of frame that a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    Pandas,
    Polars,
    Pyarrow,
    Pyspark,
}

impl Frame {
    /// As a job file and the runner write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pandas => "pandas",
            Self::Polars => "polars",
            Self::Pyarrow => "pyarrow",
            Self::Pyspark => "pyspark",
        }
    }
}

/// Which rows one call gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// All rows of a window, on one worker.
    Window,
    /// Some rows at a time, on all workers, while the window is open.
    Batch,
    /// The rows of a window that have the same values in these columns, on one worker.
    Key(Vec<String>),
}

impl Per {
    fn word(&self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Batch => "batch",
            Self::Key(_) => "key",
        }
    }

    /// The columns of a key; none without one.
    pub fn key_columns(&self) -> &[String] {
        match self {
            Self::Window | Self::Batch => &[],
            Self::Key(columns) => columns,
        }
    }

    /// Whether one worker must have all rows of a window.
    pub fn needs_whole_window(&self) -> bool {
        match self {
            Self::Window | Self::Key(_) => true,
            Self::Batch => false,
        }
    }
}

impl FunctionSpec {
    /// Whether its code is packed at submit.
    pub fn has_code(&self) -> bool {
        match self.place {
            FunctionPlace::File(_) | FunctionPlace::Module(_) => true,
            FunctionPlace::Url(_) => false,
        }
    }

    /// Where it is, for users.
    pub fn describe(&self) -> String {
        let place = match &self.place {
            FunctionPlace::File(place)
            | FunctionPlace::Module(place)
            | FunctionPlace::Url(place) => place,
        };
        format!("{} of {place}", self.name)
    }

    /// Keys and values, as a job file could have them.
    pub fn fields(&self) -> Fields {
        let place = match &self.place {
            FunctionPlace::File(path) => ("file", path.clone()),
            FunctionPlace::Module(name) => ("module", name.clone()),
            FunctionPlace::Url(url) => ("url", url.clone()),
        };
        let mut fields = vec![place, ("name", self.name.clone())];
        if let Some(frame) = self.frame {
            fields.push(("frame", frame.word().to_owned()));
        }
        fields.push(("per", self.per.word().to_owned()));
        if let Per::Key(columns) = &self.per {
            fields.push(("by", columns.join(", ")));
        }
        if let Some(file) = &self.requirements {
            fields.push(("requirements", file.path().to_owned()));
        }
        if let Some(folder) = &self.wheels {
            fields.push(("wheels", folder.to_string()));
        }
        fields.push(("timeout", duration_text(self.timeout)));
        fields.push(("memory", bytes_text(self.memory_bytes)));
        fields.push(("network", self.network.to_string()));
        if let Some(role) = &self.credentials {
            fields.push(("credentials", role.role_arn.clone()));
        }
        fields.push(("deterministic", self.deterministic.to_string()));
        if let Some(name) = &self.on_published {
            fields.push(("on_published", name.clone()));
        }
        if !self.schema.is_empty() {
            let column = |column: &ColumnType| format!("{} {}", column.name, column.type_name);
            let columns: Vec<String> = self.schema.iter().map(column).collect();
            fields.push(("schema", columns.join(", ")));
        }
        fields
    }
}
