//! The root folder of the image, in the layout of deploy/Dockerfile: read-only, for an unprivileged
//! user.
//!
//! Owns: its content, how a program starts inside. Does not own: the programs that run there.
//! Rule: inside are our programs, their shared libraries, and one writable folder; nothing else of
//! this machine except /proc, /sys and /dev. Nothing outlives the process: the mounts are its own.

use crate::places::binary;
use crate::process::Launch;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user of the image, and of the chart.
pub const USER: u32 = 10_001;
/// The only writable folder, as seen by programs inside.
pub const DATA: &str = "/data";

/// As root if the caller has the permission, else in a user namespace: there the caller is already
/// unprivileged.
const ENTER: &str = r#"set -e
root=$1; bin=$2; data=$3; user=$4; shift 4
mount --bind "$root" "$root"
mount --bind "$bin" "$root/usr/local/bin"
mount -o remount,bind,ro "$root/usr/local/bin"
for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
mount --bind "$data" "$root/data"
mount -o remount,bind,ro "$root"
exec chroot $user "$root" "$@"
"#;

/// A root folder, and the folder that is its /data.
#[derive(Debug)]
pub struct Jail {
    root: PathBuf,
    pub data: PathBuf,
    /// The shared libraries that our programs name.
    pub libraries: BTreeSet<String>,
    as_root: bool,
}

impl Jail {
    /// Creates it below `folder`.
    pub fn new(folder: &Path) -> Self {
        let root = folder.join("root");
        let data = folder.join("data");
        for part in [
            "usr/local/bin",
            "etc",
            "home/streamctl",
            "proc",
            "sys",
            "dev",
            "data",
            "tmp",
        ] {
            fs::create_dir_all(root.join(part)).expect("the folder takes folders");
        }
        fs::create_dir_all(&data).expect("the folder takes folders");
        for open in [&root, &data, &folder.to_owned()] {
            let mode = if *open == data { 0o777 } else { 0o755 };
            fs::set_permissions(open, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        let user = format!("streamctl:x:{USER}:{USER}::/home/streamctl:/bin/sh\n");
        fs::write(root.join("etc/passwd"), user).expect("the folder takes files");
        let programs = ["streamctl", "streamctl-controller", "streamctl-worker"];
        let needed: BTreeSet<PathBuf> = programs
            .iter()
            .flat_map(|name| libraries(&binary(name)))
            .collect();
        for library in &needed {
            let inside = root.join(
                library
                    .strip_prefix("/")
                    .expect("the linker gives whole paths"),
            );
            fs::create_dir_all(inside.parent().expect("it lies in a folder"))
                .expect("the folder takes folders");
            fs::copy(library, inside).expect("a library can be read");
        }
        let name = |path: &PathBuf| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let libraries = needed.iter().map(name).collect();
        let as_root = id() == 0;
        if as_root {
            // Like useradd, so that a failed write there is not for lack of permissions.
            let home = root.join("home/streamctl");
            std::os::unix::fs::chown(&home, Some(USER), Some(USER)).expect("we are root");
        }
        Self {
            root,
            data,
            libraries,
            as_root,
        }
    }

    /// The user of the programs, as seen from outside.
    pub fn user(&self) -> u32 {
        if self.as_root { USER } else { id() }
    }

    /// A program inside. Its log is outside.
    pub fn launch(&self, name: &str, program: &str, args: &[&str], logs: &Path) -> Launch {
        let text = |path: &Path| {
            path.to_str()
                .expect("a temporary folder's path is text")
                .to_owned()
        };
        let bin = binary(program)
            .parent()
            .expect("a program lies in a folder")
            .to_owned();
        let enter: &[&str] = if self.as_root {
            &[]
        } else {
            &["--user", "--map-root-user"]
        };
        let user = if self.as_root {
            format!("--userspec={USER}:{USER}")
        } else {
            String::new()
        };
        let inside = format!("/usr/local/bin/{program}");
        let root = text(&self.root);
        let bin = text(&bin);
        let data = text(&self.data);
        let own = [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            ENTER,
            "enter",
            &root,
            &bin,
            &data,
            &user,
            &inside,
        ];
        let args = [enter, &own[..], args].concat();
        let unshare = PathBuf::from("/usr/bin/unshare");
        Launch::new(name, unshare, &args, logs).env([
            ("HOME", "/home/streamctl"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
        ])
    }
}

fn id() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .expect("a process has a user");
    line.split_whitespace()
        .next()
        .and_then(|id| id.parse().ok())
        .expect("it is a number")
}

/// The files that the dynamic linker loads for a program, including itself.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .expect("ldd is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    };
    text.lines().filter_map(path).collect()
}
