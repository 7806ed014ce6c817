//! The folder of a child.
//!
//! Owns: creating and removing it, and removing those that a killed worker left. Does not own: who
//! may see it ([`super::sandbox`]).
//! Rule: it ends with its child. Its name cannot be guessed, and other users cannot list it. Its lock
//! is held as long as its worker lives.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Folder of the function: its home, its temporary files and its working folder until the runner
/// changes that.
const HOME: &str = "home";
/// Where the root of its own is put together.
const ROOT: &str = "root";
const RUNNER: &str = "runner.py";
const LOCK: &str = "lock";
const PREFIX: &str = "streamctl-function-";
/// A child that is being killed may still write.
const REMOVALS_MAX: usize = 5;

#[derive(Debug)]
pub struct Home {
    folder: tempfile::TempDir,
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Creates it, with the runner's script.
    ///
    /// # Errors
    /// The folder for such folders is missing, full or read-only.
    pub fn create(scratch: &Path, runner: &str) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(scratch)?;
        let path = std::fs::canonicalize(folder.path())?;
        // To be entered by the function's user, who does not see the names in it.
        std::fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        for name in [HOME, ROOT] {
            DirBuilder::new().mode(0o700).create(path.join(name))?;
        }
        let lock = File::create_new(path.join(LOCK))?;
        lock.try_lock()?;
        let home = Self {
            folder,
            path,
            _lock: lock,
        };
        let mut script = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(home.runner())?;
        script.write_all(runner.as_bytes())?;
        Ok(home)
    }

    pub fn path(&self) -> PathBuf {
        self.path.join(HOME)
    }

    pub fn root(&self) -> PathBuf {
        self.path.join(ROOT)
    }

    pub fn runner(&self) -> PathBuf {
        self.path.join(HOME).join(RUNNER)
    }

    /// Gives the function's part to its user.
    ///
    /// # Errors
    /// This process may not do that.
    pub fn give_to(&self, user: u32) -> std::io::Result<()> {
        for path in [self.path(), self.runner()] {
            std::os::unix::fs::chown(path, Some(user), Some(user))?;
        }
        Ok(())
    }

    /// Removes it. It may hold any number of files: not for threads of the network.
    pub fn remove(self) {
        remove(&self.folder.keep());
    }
}

/// Removes what workers that were killed have left in this folder. Returns how many there were.
pub fn sweep(scratch: &Path) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(scratch).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_left = |file: File| file.try_lock().is_ok();
        if name.to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path().join(LOCK)).is_ok_and(is_left)
        {
            remove(&entry.path());
            removed += 1;
        }
    }
    removed
}

fn remove(folder: &Path) {
    for attempt in 1..=REMOVALS_MAX {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) if attempt == REMOVALS_MAX => {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "the folder of a function is left");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_worker_left_is_removed_and_a_living_one_keeps_its_own() {
        let scratch = tempfile::tempdir().unwrap();
        let living = Home::create(scratch.path(), "").unwrap();
        let left = scratch.path().join(format!("{PREFIX}left"));
        std::fs::create_dir_all(left.join("home/deep")).unwrap();
        File::create_new(left.join(LOCK)).unwrap();
        let other = scratch.path().join("other");
        std::fs::create_dir(&other).unwrap();
        assert_eq!(sweep(scratch.path()), 1);
        assert!(!left.exists());
        assert!(living.runner().exists() && other.exists());
        assert_eq!(sweep(scratch.path()), 0);
        living.remove();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_function_has_its_folder_for_itself() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::create(scratch.path(), "print()").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.path()), 0o700);
        assert_eq!(mode(&home.runner()), 0o600);
        assert_eq!(mode(home.path().parent().unwrap()), 0o711);
        assert_eq!(std::fs::read_to_string(home.runner()).unwrap(), "print()");
    }
}
