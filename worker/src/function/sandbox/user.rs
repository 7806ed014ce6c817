//! The user of a function.
//!
//! Rule: a function never has a capability. If the worker is root, the function has a user that no
//! other process has, as long as that user can reach Python and the code.

use super::Allowed;
use super::namespaces::Entered;
use rustix::process::geteuid;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Users without an account: those that systemd gives to services for as long as they run.
const FIRST: u32 = 61_184;
const COUNT: u32 = 4_336;
/// What it takes to start a process of another user.
const NEEDED: [caps::Capability; 3] = [
    caps::Capability::CAP_SETUID,
    caps::Capability::CAP_SETGID,
    caps::Capability::CAP_CHOWN,
];
const READ_BY_OTHERS: u32 = 0o005;
const ENTERED_BY_OTHERS: u32 = 0o001;

/// The user that a new child gets; `None`: the worker's. `number` differs from child to child.
pub fn own_user(allowed: &Allowed, number: u32) -> Option<u32> {
    let above_home = allowed.home.parent().and_then(Path::parent);
    let folders = allowed
        .folders
        .iter()
        .map(|folder| (folder.as_path(), READ_BY_OTHERS));
    let mut reached = folders.chain(above_home.map(|folder| (folder, ENTERED_BY_OTHERS)));
    let has =
        |capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false);
    // The worker's own program starts a child.
    let program = std::fs::metadata("/proc/self/exe");
    let starts = program.is_ok_and(|program| program.mode() & READ_BY_OTHERS == READ_BY_OTHERS);
    let may = geteuid().is_root() && starts && NEEDED.into_iter().all(has);
    let is_possible = may && reached.all(|(path, bits)| is_reachable(path, bits));
    is_possible.then_some(FIRST + number % COUNT)
}

/// Gives up the capabilities, and describes the user that is left.
pub fn leave(entered: &Entered) -> Result<String, String> {
    let text = |error: caps::errors::CapsError| error.to_string();
    caps::clear(None, caps::CapSet::Ambient).map_err(text)?;
    // Those of the first process in a user namespace end with `exec`.
    if let Entered::User { user, .. } = entered {
        return Ok(format!("user {user} in a namespace"));
    }
    if !geteuid().is_root() {
        return Ok(format!("user {}", geteuid().as_raw()));
    }
    // What root gets with `exec`.
    caps::clear(None, caps::CapSet::Bounding).map_err(text)?;
    Ok("root without capabilities".into())
}

/// Whether every user can use this folder.
fn is_reachable(folder: &Path, bits: u32) -> bool {
    let has = |path: &Path, bits: u32| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bits == bits)
    };
    let Ok(folder) = std::fs::canonicalize(folder) else {
        return true;
    };
    let mut above = folder.ancestors().skip(1);
    has(&folder, bits) && above.all(|path| has(path, ENTERED_BY_OTHERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_behind_a_closed_one_is_not_reachable() {
        let base = tempfile::tempdir().unwrap();
        let inner = base.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(base.path(), Permissions::from_mode(0o711)).unwrap();
        assert!(is_reachable(&inner, READ_BY_OTHERS));
        std::fs::set_permissions(&inner, Permissions::from_mode(0o711)).unwrap();
        assert!(!is_reachable(&inner, READ_BY_OTHERS));
        assert!(is_reachable(&inner, ENTERED_BY_OTHERS));
        std::fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(base.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!is_reachable(&inner, READ_BY_OTHERS));
    }
}
