//! Functions of jobs that run in this process.
//!
//! Owns: how they run here. Does not own: running them (the worker's code).
//! Rule: the user who runs this program named their files: no permission is needed.

use std::sync::Arc;
use streamctl_engine::function::Given;
use streamctl_engine::security::dial::DialerFiles;
use streamctl_engine::storage::Storages;
use streamctl_worker::functions::{Functions, HereLearner, Settings};

/// Runs functions with the user's own Python.
pub fn here() -> Functions {
    let python = std::env::var_os("STREAMCTL_FUNCTION_PYTHON");
    let uv = std::env::var_os("STREAMCTL_FUNCTION_UV");
    let settings = Settings {
        python: python.unwrap_or_else(|| "python3".into()).into(),
        uv: uv.unwrap_or_else(|| "uv".into()).into(),
        folder: None,
        wheels: std::env::var_os("STREAMCTL_FUNCTION_WHEELS").map(Into::into),
        servers: DialerFiles {
            ca: std::env::var_os("STREAMCTL_FUNCTION_SERVER_CA_FILE").map(Into::into),
            token: std::env::var_os("STREAMCTL_FUNCTION_SERVER_TOKEN_FILE").map(Into::into),
            ..DialerFiles::default()
        },
        require_sandbox: false,
    };
    // Without a folder for temporary files there are no functions, which is then the error of a job
    // that has one.
    Functions::allowed(settings).unwrap_or_default()
}

/// Calls these functions to learn their columns.
pub fn learning(functions: &Functions, storages: &Storages) -> Given {
    Given {
        code: None,
        learner: Some(Arc::new(HereLearner {
            functions: functions.clone(),
            storages: storages.clone(),
        })),
    }
}
