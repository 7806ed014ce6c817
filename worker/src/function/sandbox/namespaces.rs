//! Namespaces of its own: mounts, network, System V objects, host name.
//!
//! Rule: a process that cannot make them has changed nothing. There is no PID namespace: the
//! function has one process, and seccomp keeps its signals inside.

use super::Part;
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare};

/// The user inside a user namespace if the worker is root: not root.
const INSIDE: u32 = 65_534;

/// What was made.
#[derive(Clone, Debug)]
pub enum Entered {
    /// By the rights of root.
    Privileged { network: bool },
    /// In a user namespace.
    User { network: bool, user: u32 },
    /// With the reason.
    Nothing(String),
}

impl Entered {
    pub fn has_mounts(&self) -> bool {
        !matches!(self, Self::Nothing(_))
    }

    pub fn part(&self) -> Part {
        match self {
            Self::Privileged { network: false } => Part::Held("mounts, network, IPC".into()),
            Self::Privileged { network: true } => Part::Held("mounts, IPC".into()),
            Self::User { network: false, .. } => Part::Held("user, mounts, network, IPC".into()),
            Self::User { network: true, .. } => Part::Held("user, mounts, IPC".into()),
            Self::Nothing(reason) => Part::Missing(reason.clone()),
        }
    }
}

/// Enters new namespaces. `network`: it keeps the machine's network.
///
/// # Errors
/// They were made and cannot be used: the process must not go on.
pub fn enter(network: bool) -> Result<Entered, String> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWNET, !network);
    let user = geteuid().as_raw();
    let group = getegid().as_raw();
    if user == 0 && unshare(flags).is_ok() {
        return Ok(Entered::Privileged { network });
    }
    if let Err(errno) = unshare(flags | UnshareFlags::NEWUSER) {
        return Ok(Entered::Nothing(format!(
            "this machine or container forbids user namespaces: {errno}"
        )));
    }
    let inside = |id: u32| if id == 0 { INSIDE } else { id };
    let write = |file: &str, text: String| {
        std::fs::write(file, text).map_err(|error| format!("{file} cannot be written: {error}"))
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("{} {user} 1", inside(user)))?;
    write("/proc/self/gid_map", format!("{} {group} 1", inside(group)))?;
    Ok(Entered::User { network, user })
}
