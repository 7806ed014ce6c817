//! A file tree that holds only what a function may see.
//!
//! Rule: everything in it is a read-only bind of what lies at the same path outside, but for the
//! function's own folder. Links on the way are made again, so that paths mean the same inside.

use super::{Allowed, DEVICES};
use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_recursive_bind,
    mount_remount, unmount,
};
use rustix::process::pivot_root;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Links that are followed on the way to one path, as the kernel does.
const LINKS_MAX: usize = 40;
/// Room for mount points; no data is written there.
const OPTIONS: &str = "size=1m,nr_inodes=4096,mode=0755";

/// Moves this process into a root of its own.
pub fn build(allowed: &Allowed) -> Result<String, String> {
    let root = &allowed.root;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| format!("private mounts: {errno}"))?;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", root, "tmpfs", safe, OPTIONS)
        .map_err(|errno| format!("a new file tree: {errno}"))?;
    for path in allowed.readable() {
        carry(root, &path, Access::Read)?;
    }
    for path in DEVICES.iter().map(Path::new).filter(|path| path.exists()) {
        carry(root, path, Access::Device)?;
    }
    carry(root, &allowed.home, Access::Write)?;
    mount_remount(root, MountFlags::BIND | MountFlags::RDONLY | safe, "")
        .map_err(|errno| format!("a read-only root: {errno}"))?;
    let changed = |errno: Errno| format!("the change of the root: {errno}");
    std::env::set_current_dir(root).map_err(|error| format!("the new root: {error}"))?;
    pivot_root(".", ".").map_err(changed)?;
    unmount(".", UnmountFlags::DETACH).map_err(changed)?;
    std::env::set_current_dir("/").map_err(|error| format!("the new root: {error}"))?;
    Ok("its own files only".into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Device,
}

/// Makes a path of the machine appear in the new root, with the links on its way.
fn carry(root: &Path, path: &Path, access: Access) -> Result<(), String> {
    let failed = |problem: String| format!("{} in a new root: {problem}", path.display());
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Some((link, content, rest)) = first_link(&target) else {
            return bind(root, &target, access).map_err(failed);
        };
        let made = inside(root, &link);
        if made.symlink_metadata().is_err() {
            folders(made.parent().unwrap_or(root)).map_err(failed)?;
            symlink(&content, &made).map_err(|error| failed(error.to_string()))?;
        }
        let folder = link.parent().unwrap_or(Path::new("/"));
        target = plain(&folder.join(content).join(rest));
    }
    Err(failed("too many links".into()))
}

/// The first link on the way to a path, where it points, and the way behind it.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
    // The link to a process's own folder is one to a number: what is carried is the folder.
    if path.starts_with("/proc") {
        return None;
    }
    let mut way = PathBuf::from("/");
    let names: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        })
        .collect();
    for (index, name) in names.iter().enumerate() {
        way.push(name);
        if let Ok(content) = std::fs::read_link(&way) {
            return Some((way, content, names[index + 1..].iter().collect()));
        }
    }
    None
}

/// Without `.` and `..`: the part before them has no links.
fn plain(path: &Path) -> PathBuf {
    let mut made = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => made.push(name),
            Component::ParentDir => {
                made.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    made
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn folders(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| error.to_string())
}

fn bind(root: &Path, path: &Path, access: Access) -> Result<(), String> {
    let target = inside(root, path);
    // What lies in a folder that is there already is there, too.
    if access == Access::Read && target.exists() {
        return Ok(());
    }
    if path.is_dir() {
        folders(&target)?;
    } else {
        folders(target.parent().unwrap_or(root))?;
        File::create_new(&target).map_err(|error| error.to_string())?;
    }
    let text = |errno: Errno| errno.to_string();
    mount_recursive_bind(path, &target).map_err(text)?;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | kept(&target).map_err(text)?;
    if access != Access::Write {
        flags |= MountFlags::RDONLY;
    }
    if access != Access::Device {
        flags |= MountFlags::NODEV;
    }
    mount_remount(&target, flags, "").map_err(text)
}

/// Flags of a mount that a user namespace must not take away.
fn kept(path: &Path) -> Result<MountFlags, Errno> {
    let kept = MountFlags::RDONLY
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME
        | MountFlags::NODIRATIME
        | MountFlags::RELATIME;
    // The kernel has one set of bits for both.
    let now = u32::try_from(statvfs(path)?.f_flag.bits()).unwrap_or_default();
    Ok(MountFlags::from_bits_retain(now) & kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_to_a_path_are_found_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(base.join("real/deep")).unwrap();
        symlink("../real", base.join("real/up")).unwrap();
        symlink("real", base.join("link")).unwrap();
        let (link, content, rest) = first_link(&base.join("link/up/deep")).unwrap();
        assert_eq!(link, base.join("link"));
        assert_eq!(content, Path::new("real"));
        assert_eq!(rest, Path::new("up/deep"));
        let next = plain(&base.join(content).join(rest));
        let (link, content, rest) = first_link(&next).unwrap();
        assert_eq!(link, base.join("real/up"));
        let next = plain(&link.parent().unwrap().join(content).join(rest));
        assert_eq!(next, base.join("real/deep"));
        assert_eq!(first_link(&next), None);
        assert_eq!(plain(Path::new("/../../etc/./x")), Path::new("/etc/x"));
    }
}
