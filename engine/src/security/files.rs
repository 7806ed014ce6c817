//! Small files that are reloaded while a program runs.
//!
//! Owns: detecting changes, keeping the last valid content. Does not own: the content.
//! Rule: an invalid file changes nothing; it is logged once, and the last valid content stays in
//! use.

use super::SecurityError;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Interval between two checks of the files.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// Largest file of certificates, keys, tokens or roles.
pub const SECURITY_FILE_BYTES_MAX: u64 = 1 << 20;

/// Makes the value from the contents of the files, in their order.
type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, SecurityError> + Send + Sync>;

/// A value made from files, and remade when they change.
pub struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    /// Digest of the last content, valid or not.
    seen: Mutex<[u8; 32]>,
    current: watch::Sender<Arc<T>>,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// If one of them cannot be read, or `make` refuses them.
    pub fn load(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, SecurityError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, SecurityError> {
        let contents = read_all(&files)?;
        let first = make(&contents).map_err(|error| named(&files, error))?;
        let (current, _) = watch::channel(Arc::new(first));
        let seen = Mutex::new(digest(&contents));
        Ok(Arc::new(Self {
            what,
            files,
            make: Box::new(make),
            seen,
            current,
        }))
    }

    /// The last valid value.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }

    /// Reads the files again. Logs and ignores invalid content.
    pub fn reload(&self) {
        let read = read_all(&self.files);
        let now = match &read {
            Ok(contents) => digest(contents),
            Err(error) => digest(&[error.to_string().into_bytes()]),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *seen, now) == now {
            return;
        }
        match read
            .and_then(|contents| (self.make)(&contents).map_err(|error| named(&self.files, error)))
        {
            Ok(value) => {
                self.current.send_replace(Arc::new(value));
                tracing::info!(what = self.what, "files were read again and are in use");
            }
            Err(SecurityError { problem, hint }) => {
                tracing::error!(
                    what = self.what,
                    problem,
                    hint,
                    "changed files are not used, the old ones stay"
                );
            }
        }
    }

    /// Checks periodically, until the value is dropped.
    pub fn keep_fresh(self: &Arc<Self>) {
        let held = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RELOAD_INTERVAL).await;
                let Some(files) = held.upgrade() else { return };
                // A file may lie on a disk that hangs.
                let _reloaded = tokio::task::spawn_blocking(move || files.reload()).await;
            }
        });
    }
}

/// Reads one small file.
///
/// # Errors
/// If it cannot be read or is too large; the error never contains its content.
pub fn read_small(path: &Path) -> Result<Vec<u8>, SecurityError> {
    let failed = |error: std::io::Error| {
        let hint = "check that the path is right and that this user may read it";
        SecurityError::new(format!("{}: cannot be read: {error}", path.display()), hint)
    };
    let mut content = vec![];
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(SECURITY_FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > SECURITY_FILE_BYTES_MAX {
        let problem = format!(
            "{}: has more than {SECURITY_FILE_BYTES_MAX} bytes",
            path.display()
        );
        return Err(SecurityError::new(problem, "is it the right file?"));
    }
    Ok(content)
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, SecurityError> {
    files.iter().map(|path| read_small(path)).collect()
}

fn named(files: &[PathBuf], error: SecurityError) -> SecurityError {
    let names: Vec<_> = files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    SecurityError::new(
        format!("{}: {}", names.join(", "), error.problem),
        error.hint,
    )
}

fn digest(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut all = Sha256::new();
    for content in contents {
        all.update(content.len().to_le_bytes());
        all.update(content);
    }
    all.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> Result<u32, SecurityError> {
        let text = String::from_utf8_lossy(&contents[0]);
        text.trim()
            .parse()
            .map_err(|_| SecurityError::new("is no number", "write one"))
    }

    #[test]
    fn a_change_is_taken_and_a_broken_file_changes_nothing() {
        let folder = std::env::temp_dir().join(format!("streamctl-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("n");
        std::fs::write(&path, "1").unwrap();
        let files = Reloading::load("a number", vec![path.clone()], number).unwrap();
        let mut changes = files.subscribe();
        changes.mark_unchanged();
        files.reload();
        assert!(!changes.has_changed().unwrap(), "nothing changed");
        std::fs::write(&path, "2").unwrap();
        files.reload();
        assert_eq!(
            (*files.current(), changes.has_changed().unwrap()),
            (2, true)
        );
        for broken in ["x", ""] {
            std::fs::write(&path, broken).unwrap();
            files.reload();
            assert_eq!(*files.current(), 2);
        }
        std::fs::remove_file(&path).unwrap();
        files.reload();
        assert_eq!(*files.current(), 2, "a file that is gone is a broken one");
        std::fs::write(&path, "3").unwrap();
        files.reload();
        assert_eq!(*files.current(), 3);
        std::fs::write(&path, "x").unwrap();
        let error = Reloading::load("a number", vec![path.clone()], number)
            .map(drop)
            .unwrap_err();
        assert!(error.to_string().contains("n: is no number"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
