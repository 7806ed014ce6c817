//! What keeps a function in.
//!
//! Owns: the layers that a child puts around itself before it becomes Python, their order, and the
//! report of what holds. Does not own: starting the child ([`super::process`], [`super::launch`]).
//! Rule: each layer is put on where the kernel has it and is reported as held only after the kernel
//! confirmed it. All is done by a process with one thread that has not yet run a line of the user.

mod calls;
mod landlock;
mod limits;
mod namespaces;
mod root;
mod seccomp;
mod user;

pub use user::own_user;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The layers to try. A layer that is off counts as one that the kernel does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Mounts, network, System V objects, and the user where the worker is not root.
    pub namespaces: bool,
    /// Which files may be opened.
    pub landlock: bool,
    /// Which system calls may be used.
    pub seccomp: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            namespaces: true,
            landlock: true,
            seccomp: true,
        }
    }
}

/// Whether a layer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// With what is particular on this machine.
    Held(String),
    /// With the reason.
    Missing(String),
}

impl Part {
    fn off() -> Self {
        Self::Missing("it is switched off".into())
    }

    fn of(put_on: Result<String, String>) -> Self {
        put_on.map_or_else(Self::Missing, Self::Held)
    }

    pub fn holds(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    fn text(&self) -> &str {
        match self {
            Self::Held(text) | Self::Missing(text) => text,
        }
    }
}

/// What holds around a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// It has no capability, and if possible a user of its own.
    pub user: Part,
    pub namespaces: Part,
    /// A file tree of its own, without what it does not need.
    pub root: Part,
    pub landlock: Part,
    pub seccomp: Part,
}

/// What a function could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    Privileges,
    Files,
    Network,
    Processes,
}

/// A promise that nothing keeps on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub promise: Promise,
    pub reason: String,
}

impl Missing {
    pub fn list(missing: &[Self]) -> String {
        let texts: Vec<String> = missing.iter().map(Self::to_string).collect();
        texts.join("; ")
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let could = match self.promise {
            Promise::Privileges => "it would have the rights of root",
            Promise::Files => "it could open files of others",
            Promise::Network => "it could open connections",
            Promise::Processes => "it could start, signal and inspect processes",
        };
        write!(f, "{could} ({})", self.reason)
    }
}

impl Protection {
    /// The promises that nothing keeps. `network`: the function may open connections.
    pub fn missing(&self, network: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut check = |promise, kept_by: &[&Part]| {
            if !kept_by.iter().any(|part| part.holds()) {
                let reasons: Vec<&str> = kept_by.iter().map(|part| part.text()).collect();
                let reason = reasons.join(", ");
                missing.push(Missing { promise, reason });
            }
        };
        check(Promise::Privileges, &[&self.user]);
        check(Promise::Files, &[&self.landlock, &self.root]);
        check(Promise::Processes, &[&self.seccomp]);
        if !network {
            check(Promise::Network, &[&self.seccomp, &self.namespaces]);
        }
        missing
    }
}

impl std::fmt::Display for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("user", &self.user),
            ("namespaces", &self.namespaces),
            ("own root", &self.root),
            ("Landlock", &self.landlock),
            ("seccomp", &self.seccomp),
        ];
        for (index, (name, part)) in parts.into_iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let no = if part.holds() { "" } else { "no " };
            write!(f, "{comma}{no}{name} ({})", part.text())?;
        }
        Ok(())
    }
}

/// What a function may see and use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Allowed {
    /// Folders to read: Python, the environment, the code.
    pub folders: Vec<PathBuf>,
    /// The only folder to write to.
    pub home: PathBuf,
    /// An empty folder, where a root of its own is put together.
    pub root: PathBuf,
    pub memory_bytes: u64,
    pub network: bool,
    pub layers: Layers,
    /// The child's user has no other process.
    pub has_own_user: bool,
    /// The process that must not be outlived.
    pub worker: i32,
}

/// What every Python needs of the system.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/locale.alias",
    "/etc/ssl/openssl.cnf",
    "/sys/devices/system/cpu",
];
/// For names and certificates.
const FOR_NETWORK: [&str; 10] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
];
/// Its own process, and what allocators and thread pools read. DuckDB ends the process if it may not
/// read the limits of its control group.
const PROCESS: [&str; 6] = [
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
];
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

impl Allowed {
    /// All that may be read, as far as it is there.
    fn readable(&self) -> Vec<PathBuf> {
        let network: &[&str] = if self.network { &FOR_NETWORK } else { &[] };
        let fixed = SYSTEM.iter().chain(network).chain(&PROCESS).map(Path::new);
        let folders = self.folders.iter().map(PathBuf::as_path);
        fixed
            .chain(folders)
            // A prefix of the whole machine is no folder of Python.
            .filter(|path| path.is_absolute() && path.parent().is_some() && path.exists())
            .map(Path::to_owned)
            .collect()
    }
}

/// Puts all layers around this process. The next step is `exec`.
///
/// # Errors
/// A step failed half-way, or a limit is refused: the process must not go on. With the step's name.
pub fn enter(allowed: &Allowed) -> Result<Protection, (&'static str, String)> {
    limits::close_inherited();
    limits::prefer_for_the_oom_killer();
    limits::yield_to_the_worker();
    let entered = match allowed.layers.namespaces {
        true => namespaces::enter(allowed.network).map_err(|problem| ("namespaces", problem))?,
        false => namespaces::Entered::Nothing("it is switched off".into()),
    };
    let root = match entered.has_mounts() {
        true => Part::of(root::build(allowed)),
        false => Part::Missing("it needs namespaces".into()),
    };
    let user = user::leave(&entered).map_err(|problem| ("user", problem))?;
    let is_alone = allowed.has_own_user || matches!(entered, namespaces::Entered::User { .. });
    limits::set(allowed.memory_bytes, is_alone).map_err(|problem| ("limits", problem))?;
    limits::die_with(allowed.worker).map_err(|problem| ("parent", problem))?;
    limits::no_new_privileges().map_err(|problem| ("privileges", problem))?;
    limits::write_for_itself();
    std::env::set_current_dir(&allowed.home).map_err(|error| ("home", error.to_string()))?;
    let landlock = match allowed.layers.landlock {
        true => Part::of(landlock::restrict(allowed)),
        false => Part::off(),
    };
    let seccomp = match allowed.layers.seccomp {
        true => Part::of(seccomp::restrict(allowed.network)),
        false => Part::off(),
    };
    Ok(Protection {
        user: Part::Held(user),
        namespaces: entered.part(),
        root,
        landlock,
        seccomp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protection(held: bool) -> Protection {
        let part = match held {
            true => Part::Held("here".into()),
            false => Part::Missing("not here".into()),
        };
        Protection {
            user: Part::Held("user 61184".into()),
            namespaces: part.clone(),
            root: part.clone(),
            landlock: part.clone(),
            seccomp: part,
        }
    }

    #[test]
    fn a_promise_is_kept_if_one_of_its_layers_holds() {
        assert_eq!(protection(true).missing(false), []);
        let promises = |protection: &Protection, network| -> Vec<Promise> {
            let missing = protection.missing(network);
            missing.into_iter().map(|missing| missing.promise).collect()
        };
        let none = protection(false);
        let all = [Promise::Files, Promise::Processes, Promise::Network];
        assert_eq!(promises(&none, false), all);
        assert_eq!(promises(&none, true), all[..2]);
        let mut no_landlock = protection(true);
        no_landlock.landlock = Part::off();
        assert_eq!(no_landlock.missing(false), []);
        no_landlock.root = Part::off();
        assert_eq!(promises(&no_landlock, false), [Promise::Files]);
        let list = Missing::list(&none.missing(false));
        assert!(
            list.contains("open connections (not here, not here)"),
            "{list}"
        );
    }

    #[test]
    fn the_whole_machine_is_never_readable() {
        let allowed = Allowed {
            folders: vec!["/".into(), "relative".into(), "/nonexistent".into()],
            home: "/tmp".into(),
            root: "/tmp".into(),
            memory_bytes: 1,
            network: false,
            layers: Layers::default(),
            has_own_user: false,
            worker: 1,
        };
        let readable = allowed.readable();
        assert!(readable.contains(&"/usr".into()));
        assert!(readable.iter().all(|path| path.parent().is_some()));
        assert!(!readable.contains(&"/nonexistent".into()));
        assert!(!readable.contains(&"/etc/hosts".into()));
    }
}
