//! The code of functions as files on this machine.
//!
//! Owns: the folders, one per digest. Does not own: where code comes from.
//! Rule: a folder is complete or it is not there. Only this user may write to it; the users that
//! functions run as may read what they can name.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use streamctl_proto::function_code::FunctionCode;

/// Makes a folder that others may enter and not list; returns its absolute path.
pub(super) fn own_folder(path: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)?;
    let path = path.canonicalize()?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
    Ok(path)
}

/// Writes the files of a function, unless they are there; returns their folder.
pub(super) async fn lay_out(root: &Path, code: &FunctionCode) -> io::Result<PathBuf> {
    let digest = code.digest();
    let folder = root.join(format!("code-{digest}"));
    let code = code.clone();
    let root = root.to_owned();
    let written = tokio::task::spawn_blocking(move || write(&root, &folder, &code));
    written.await.map_err(io::Error::other)?
}

fn write(root: &Path, folder: &Path, code: &FunctionCode) -> io::Result<PathBuf> {
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    let making = tempfile::Builder::new().prefix(".code-").tempdir_in(root)?;
    for (name, bytes) in code.files() {
        let path = making.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, bytes)?;
    }
    let making = making.keep();
    std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o755))?;
    match std::fs::rename(&making, folder) {
        Ok(()) => {}
        // Another task has laid out the same code.
        Err(_) if folder.is_dir() => std::fs::remove_dir_all(&making)?,
        Err(error) => return Err(error),
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn code_is_laid_out_once_and_shared() {
        let root = tempfile::tempdir().unwrap();
        let root = own_folder(&root.path().join("functions")).unwrap();
        let files = [
            ("transform.py".to_owned(), b"x = 1".to_vec()),
            ("sales/rates.csv".to_owned(), b"a,1".to_vec()),
        ];
        let code = FunctionCode::new(files.into()).unwrap();
        let (first, second) = tokio::join!(lay_out(&root, &code), lay_out(&root, &code));
        let folder = first.unwrap();
        assert_eq!(second.unwrap(), folder);
        assert_eq!(
            std::fs::read(folder.join("sales/rates.csv")).unwrap(),
            b"a,1"
        );
        assert_eq!(
            std::fs::read_dir(&root).unwrap().count(),
            1,
            "nothing is left over"
        );
        let mode = std::fs::metadata(&root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o711);
    }
}
