//! Contexts: clusters by name, in a file of the user's.
//!
//! Owns: the file, and the choice of the controller. Does not own: the connection (`client`).
//! Rule: the file holds addresses and paths, never a token or a key. A controller that is given in
//! another way never gets the credentials of a context.

use crate::error::CliError;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use streamctl_engine::security::Dialer;
use streamctl_engine::security::dial::DialerFiles;
use streamctl_engine::security::tls::Pair;

/// The controller if none is given.
pub const DEFAULT_CONTROLLER: &str = "http://127.0.0.1:7070";
/// Longest name of a context.
pub const CONTEXT_NAME_CHARS_MAX: usize = 63;
/// Longest file of contexts that is read.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The environment variables, read once in `main`.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `STREAMCTL_CONTROLLER`.
    pub controller: Option<String>,
    /// `STREAMCTL_CONTEXT`.
    pub context: Option<String>,
    /// The file of contexts: `STREAMCTL_CONFIG`, else below `XDG_CONFIG_HOME`, else below
    /// `HOME/.config`.
    pub config: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment; empty values count as not set.
    pub fn read(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let filled = |name: &str| var(name).filter(|value| !value.is_empty());
        let text = |name: &str| filled(name).map(|value| value.to_string_lossy().into_owned());
        let below = |folder: PathBuf| folder.join("streamctl").join("config.toml");
        // A relative path in XDG_CONFIG_HOME counts as not set: that is its specification's rule.
        let xdg = filled("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home = || filled("HOME").map(|home| below(PathBuf::from(home).join(".config")));
        let config = filled("STREAMCTL_CONFIG")
            .map(PathBuf::from)
            .or_else(|| xdg.map(below))
            .or_else(home);
        Self {
            controller: text("STREAMCTL_CONTROLLER"),
            context: text("STREAMCTL_CONTEXT"),
            config,
        }
    }

    /// The path of the file of contexts.
    ///
    /// # Errors
    /// The environment does not define a place for it.
    pub fn config_file(&self) -> Result<&Path, CliError> {
        self.config.as_deref().ok_or_else(|| CliError::Usage {
            message: "there is no place for contexts: neither STREAMCTL_CONFIG, XDG_CONFIG_HOME nor HOME is set".into(),
            hint: "set STREAMCTL_CONFIG to a file, or name the controller with --controller".into(),
        })
    }
}

/// One cluster, and how to connect to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Addresses of its controllers, separated by commas.
    pub controller: String,
    /// File with the certificates of those who sign the controllers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// File with the client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// File with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// File with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The name in the certificates of the cluster, where it is not the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// What protects a call, as flags and environment say it; it goes before what a context says.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Connection security")]
pub struct Files {
    /// CA certificates of controllers and workers (PEM; default: the system's)
    #[arg(long, global = true, env = "STREAMCTL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(
        long,
        global = true,
        env = "STREAMCTL_CERT",
        value_name = "FILE",
        requires = "key"
    )]
    pub cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(
        long,
        global = true,
        env = "STREAMCTL_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    pub key: Option<PathBuf>,
    /// File with the access token
    #[arg(long, global = true, env = "STREAMCTL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Server name in the cluster's certificates (default: the address)
    #[arg(
        long,
        global = true,
        env = "STREAMCTL_SERVER_NAME",
        value_name = "NAME"
    )]
    pub server_name: Option<String>,
}

impl Context {
    /// The same context, overridden by flags and environment.
    pub fn with(mut self, files: &Files) -> Self {
        let Files {
            ca,
            cert,
            key,
            token_file,
            server_name,
        } = files.clone();
        self.ca = ca.or(self.ca);
        if cert.is_some() {
            (self.cert, self.key) = (cert, key);
        }
        self.token_file = token_file.or(self.token_file);
        self.server_name = server_name.or(self.server_name);
        self
    }

    /// The dialer for this cluster.
    ///
    /// # Errors
    /// A file is invalid.
    pub fn dialer(&self) -> Result<Dialer, CliError> {
        let pair = self
            .cert
            .clone()
            .zip(self.key.clone())
            .map(|(cert, key)| Pair { cert, key });
        let ca = self.ca.clone();
        let token = self.token_file.clone();
        let peer_name = self.server_name.clone();
        Ok(Dialer::new(DialerFiles {
            ca,
            pair,
            token,
            peer_name,
        })?)
    }
}

/// The file of contexts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The context in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

impl Config {
    /// Reads the file; a missing file is empty.
    ///
    /// # Errors
    /// The file cannot be read, or is not what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let failed = |reason: String| CliError::Usage {
            message: format!("{}: {reason}", path.display()),
            hint: "fix the file or remove it; STREAMCTL_CONFIG names another one".into(),
        };
        let size = match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(|error| failed(error.to_string()))?.len(),
        };
        if size > CONFIG_BYTES_MAX {
            return Err(failed(format!(
                "it has {size} bytes, the limit is {CONFIG_BYTES_MAX}"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        toml::from_str(&text).map_err(|error| failed(error.to_string().trim_end().to_owned()))
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// The file cannot be written to its folder.
    pub fn write(&self, path: &Path) -> Result<(), CliError> {
        let failed = |reason: String| CliError::Local {
            message: format!("{} cannot be written: {reason}", path.display()),
            hint: "STREAMCTL_CONFIG names another file".into(),
        };
        let text = toml::to_string(self).map_err(|error| failed(error.to_string()))?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let beside = folder.join(format!(".config.{}.toml", std::process::id()));
        let written = std::fs::create_dir_all(folder).and_then(|()| {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        });
        written.map_err(|error| failed(error.to_string()))
    }

    /// Finds a context by name.
    ///
    /// # Errors
    /// There is no such context; the hint lists the existing ones.
    pub fn find(&self, name: &str) -> Result<&Context, CliError> {
        self.contexts.get(name).ok_or_else(|| CliError::NoContext {
            name: name.to_owned(),
            known: self.contexts.keys().cloned().collect(),
        })
    }
}

/// Checks a context's name.
///
/// # Errors
/// The name has other characters than letters, digits, `-`, `_` and `.`.
pub fn check_name(name: &str) -> Result<(), CliError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.len() <= CONTEXT_NAME_CHARS_MAX && name.chars().all(fits) {
        return Ok(());
    }
    Err(CliError::Usage {
        message: format!("{name:?} is not the name of a context"),
        hint: format!("use 1 to {CONTEXT_NAME_CHARS_MAX} letters, digits, `-`, `_` and `.`"),
    })
}

/// The chosen controller, and the reason for the choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The address, and its files.
    pub context: Context,
    /// The context's name; none if the address was given in another way.
    pub name: Option<String>,
    /// `--controller`, `--context`, `STREAMCTL_CONTROLLER`, `STREAMCTL_CONTEXT`, `in use` or
    /// `default`.
    pub by: &'static str,
}

/// [`Chosen::by`] of the address that is used if none is given.
const BY_DEFAULT: &str = "default";

impl Chosen {
    /// Whether the user gave a controller: by flag, environment or context.
    pub fn is_given(&self) -> bool {
        self.by != BY_DEFAULT
    }

    /// Whether a flag of this call names it.
    pub fn is_of_this_call(&self) -> bool {
        self.by.starts_with("--")
    }

    /// The controller, with the reason for its choice.
    pub fn describe(&self) -> String {
        let address = &self.context.controller;
        match &self.name {
            Some(name) => format!("{address} (context {name}, {})", self.by),
            None => format!("{address} ({})", self.by),
        }
    }
}

/// Chooses the controller: flag before environment before the context in use before the default.
///
/// # Errors
/// The named context does not exist, or the file is needed and cannot be read.
pub fn choose(
    controller: Option<&str>,
    context: Option<&str>,
    from: &Environment,
) -> Result<Chosen, CliError> {
    let address = |address: &str, by| {
        let context = Context {
            controller: address.to_owned(),
            ..Context::default()
        };
        Chosen {
            context,
            name: None,
            by,
        }
    };
    let named = |name: &str, by| {
        let context = Config::read(from.config_file()?)?.find(name)?.clone();
        Ok(Chosen {
            context,
            name: Some(name.to_owned()),
            by,
        })
    };
    match (controller, context, &from.controller, &from.context) {
        (Some(url), ..) => Ok(address(url, "--controller")),
        (None, Some(name), ..) => named(name, "--context"),
        (None, None, Some(url), _) => Ok(address(url, "STREAMCTL_CONTROLLER")),
        (None, None, None, Some(name)) => named(name, "STREAMCTL_CONTEXT"),
        (None, None, None, None) => {
            let config = from
                .config
                .as_deref()
                .map(Config::read)
                .transpose()?
                .unwrap_or_default();
            match &config.current {
                Some(name) => Ok(Chosen {
                    context: config.find(name)?.clone(),
                    name: Some(name.clone()),
                    by: "in use",
                }),
                None => Ok(address(DEFAULT_CONTROLLER, BY_DEFAULT)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(controller: &str) -> Context {
        Context {
            controller: controller.into(),
            ca: Some("/ca.pem".into()),
            ..Context::default()
        }
    }

    /// Two contexts, the second in use.
    fn environment(folder: &Path) -> Environment {
        let contexts = [("dev", "http://dev:1"), ("prod", "http://prod:1")];
        let contexts = contexts.map(|(name, url)| (name.to_owned(), context(url)));
        let config = Config {
            current: Some("prod".into()),
            contexts: contexts.into(),
        };
        let path = folder.join("below/config.toml");
        config.write(&path).unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
        Environment {
            config: Some(path),
            ..Environment::default()
        }
    }

    #[test]
    fn flag_goes_before_environment_before_context_before_default() {
        let folder = tempfile::tempdir().unwrap();
        let in_use = environment(folder.path());
        let both = Environment {
            controller: Some("http://env:1".into()),
            context: Some("dev".into()),
            ..in_use.clone()
        };
        let named = Environment {
            controller: None,
            ..both.clone()
        };
        for (url, name, from, expected, by) in [
            (
                Some("http://flag:1"),
                Some("dev"),
                &both,
                "http://flag:1",
                "--controller",
            ),
            (None, Some("dev"), &both, "http://dev:1", "--context"),
            (None, None, &both, "http://env:1", "STREAMCTL_CONTROLLER"),
            (None, None, &named, "http://dev:1", "STREAMCTL_CONTEXT"),
            (None, None, &in_use, "http://prod:1", "in use"),
            (
                None,
                None,
                &Environment::default(),
                DEFAULT_CONTROLLER,
                "default",
            ),
        ] {
            let chosen = choose(url, name, from).unwrap();
            assert_eq!(
                (chosen.context.controller.as_str(), chosen.by),
                (expected, by)
            );
            // The files of a context are never used for an address that was given in another way.
            assert_eq!(chosen.context.ca.is_some(), chosen.name.is_some());
        }
    }

    #[test]
    fn a_context_that_is_not_there_names_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let error = choose(None, Some("prd"), &environment(folder.path())).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.hint().unwrap()),
            (3, "the contexts are: dev, prod".to_owned())
        );
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs: BTreeMap<String, String> = pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect();
            Environment::read(move |name| pairs.get(name).map(Into::into)).config
        };
        let all = [
            ("STREAMCTL_CONFIG", "/c.toml"),
            ("XDG_CONFIG_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(read(&all), Some("/c.toml".into()));
        assert_eq!(read(&all[1..]), Some("/x/streamctl/config.toml".into()));
        assert_eq!(
            read(&[("XDG_CONFIG_HOME", "relative"), all[2]]),
            Some("/h/.config/streamctl/config.toml".into())
        );
        assert_eq!(read(&[("HOME", "")]), None);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(
            &path,
            "[contexts.prod]\ncontroller = \"http://a:1\"\ntoken = \"secret\"\n",
        )
        .unwrap();
        let error = Config::read(&path).unwrap_err();
        assert!(
            error.exit_code() == 2 && error.to_string().contains("token"),
            "{error}"
        );
    }
}
