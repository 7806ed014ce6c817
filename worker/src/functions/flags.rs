//! The flags of a worker that runs functions.

use super::{Functions, Settings};
use clap::Args;
use std::path::PathBuf;
use streamctl_engine::security::dial::DialerFiles;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Functions")]
pub struct FunctionFlags {
    /// Run functions of jobs, in sandboxed processes: code of users who may submit jobs with them.
    #[arg(long, env = "STREAMCTL_FUNCTIONS")]
    functions: bool,
    /// Python interpreter of functions, with pyarrow.
    #[arg(
        long,
        env = "STREAMCTL_FUNCTION_PYTHON",
        value_name = "FILE",
        default_value = "python3"
    )]
    function_python: PathBuf,
    /// Program that reads the locks of functions (`uv.lock`, PEP 723).
    #[arg(
        long,
        env = "STREAMCTL_FUNCTION_UV",
        value_name = "FILE",
        default_value = "uv"
    )]
    function_uv: PathBuf,
    /// Folder for code and environments of functions, of this worker alone (default: a private
    /// one that is removed at the end).
    #[arg(long, env = "STREAMCTL_FUNCTION_FOLDER", value_name = "DIR")]
    function_folder: Option<PathBuf>,
    /// Folder of wheels to install requirements from, for jobs that name none (default: the package
    /// index of pip).
    #[arg(long, env = "STREAMCTL_FUNCTION_WHEELS", value_name = "DIR")]
    function_wheels: Option<PathBuf>,
    /// Authorities that sign the certificates of function servers (default: the system's).
    #[arg(long, env = "STREAMCTL_FUNCTION_SERVER_CA_FILE", value_name = "FILE")]
    function_server_ca_file: Option<PathBuf>,
    /// Token that is shown to function servers.
    #[arg(
        long,
        env = "STREAMCTL_FUNCTION_SERVER_TOKEN_FILE",
        value_name = "FILE"
    )]
    function_server_token_file: Option<PathBuf>,
    /// Run functions also where the machine cannot keep every promise of the sandbox.
    #[arg(long, env = "STREAMCTL_FUNCTION_SANDBOX_OPTIONAL")]
    function_sandbox_optional: bool,
}

impl FunctionFlags {
    /// # Errors
    /// The folder cannot be made.
    pub fn open(self) -> anyhow::Result<Functions> {
        if !self.functions {
            return Ok(Functions::default());
        }
        let folder = self.function_folder;
        let shown = folder.clone();
        Functions::allowed(Settings {
            python: self.function_python,
            uv: self.function_uv,
            folder,
            wheels: self.function_wheels,
            servers: DialerFiles {
                ca: self.function_server_ca_file,
                token: self.function_server_token_file,
                ..DialerFiles::default()
            },
            require_sandbox: !self.function_sandbox_optional,
        })
        .map_err(|error| match shown {
            Some(folder) => anyhow::anyhow!(
                "--function-folder {} cannot be used: {error}",
                folder.display()
            ),
            None => anyhow::anyhow!("functions cannot be run: {error}"),
        })
    }
}
