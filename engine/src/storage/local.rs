//! Folders of the local disk.
//!
//! Owns: names of staged files, what is flushed when. Does not own: write permissions (the file
//! system's).
//! Rule: a confirmed operation survives a power failure: a file is flushed before it is named, a
//! folder after. A staged file is in its object's own folder (a rename never crosses file systems)
//! as `.<name>.<random>.staged`: readers ignore names that begin with a dot, and that extension.

mod writer;

use super::{
    INSPECT_READ_BYTES_MAX, Inspected, Look, ObjectInfo, PutOutcome, RefusalCause, StagedWriter,
    Storage, StorageError,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use streamctl_proto::report::{StagedObject, Staging};
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;
use writer::{LocalWriter, Unfinished};

/// Suffix of staged files.
const STAGED_SUFFIX: &str = ".staged";
/// Bytes read at once for a checksum.
const READ_BYTES: usize = 1024 * 1024;
/// Folders deeper than this are refused: they come from a loop of mounts, not from data.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStorage;

#[async_trait]
impl Storage for LocalStorage {
    async fn check(&self, folder: &Location) -> Result<(), StorageError> {
        blocking(folder.as_str(), |path| {
            fs::create_dir_all(path).map_err(|error| failed(path, &error))
        })
        .await
    }

    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError> {
        blocking(location, move |path| read_up_to(path, limit)).await
    }

    async fn get_range(
        &self,
        location: &str,
        start: u64,
        length: u64,
    ) -> Result<Bytes, StorageError> {
        blocking(location, move |path| read_range(path, start, length)).await
    }

    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        blocking(location, |path| {
            let metadata = fs::metadata(path).map_err(|error| failed(path, &error))?;
            if metadata.is_file() {
                info(path, &metadata)
            } else {
                Err(not_found(path))
            }
        })
        .await
    }

    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError> {
        blocking(location, move |path| {
            put_new(path, &bytes).map_err(|error| failed(path, &error))
        })
        .await
    }

    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        blocking(folder.as_str(), |path| {
            let mut found = Vec::new();
            walk(path, &mut |path, metadata| {
                if !file_name(path).starts_with('.') {
                    found.push(info(path, metadata)?);
                }
                Ok(())
            })?;
            found.sort_by(|one, other| one.location.cmp(&other.location));
            Ok(found)
        })
        .await
    }

    async fn inspect(&self, location: &str, look: Look) -> Result<Inspected, StorageError> {
        blocking(location, move |path| {
            let metadata = fs::metadata(path).map_err(|error| failed(path, &error))?;
            if !metadata.is_file() {
                return Err(not_found(path));
            }
            if look == Look::Cheaply && metadata.len() > INSPECT_READ_BYTES_MAX {
                return Ok(Inspected {
                    size: metadata.len(),
                    crc32c: None,
                    read: false,
                });
            }
            let (size, crc32c) = content_of(path).map_err(|error| failed(path, &error))?;
            Ok(Inspected {
                size,
                crc32c: Some(crc32c),
                read: true,
            })
        })
        .await
    }

    async fn stage(&self, location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        let (staged, file) = blocking(location, |path| {
            let staged = staged_path(path);
            create_folder_of(path).map_err(|error| failed(path, &error))?;
            let file = File::create_new(&staged).map_err(|error| failed(&staged, &error))?;
            // Guard the file here and not after the await: the caller may be cancelled by then.
            Ok((Unfinished::new(staged), file))
        })
        .await?;
        Ok(Box::new(LocalWriter::new(
            location.to_owned(),
            staged,
            tokio::fs::File::from_std(file),
        )))
    }

    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError> {
        let staged = staged_of(object)?;
        let object = object.clone();
        blocking(&object.location.clone(), move |path| {
            publish(path, &staged, &object)
        })
        .await
    }

    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError> {
        let staged = staged_of(object)?;
        blocking(&object.location, move |path| {
            match fs::remove_file(&staged) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn delete(&self, location: &str) -> Result<(), StorageError> {
        blocking(location, |path| match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
            _ => Ok(()),
        })
        .await
    }

    async fn sweep(&self, folder: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        let orphans = orphans.clone();
        blocking(folder.as_str(), move |path| {
            let mut swept = 0;
            walk(path, &mut |path, _metadata| {
                let Some(object) = object_of_staged(path) else {
                    return Ok(());
                };
                if object
                    .to_str()
                    .is_some_and(|location| orphans.include(location))
                {
                    fs::remove_file(path).map_err(|error| failed(path, &error))?;
                    swept += 1;
                }
                Ok(())
            })?;
            Ok(swept)
        })
        .await
    }
}

/// Runs file operations on a blocking thread, with the absolute path of `location`.
async fn blocking<T: Send + 'static>(
    location: &str,
    work: impl FnOnce(&Path) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let path = PathBuf::from(location);
    if !path.is_absolute()
        || path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    {
        return Err(StorageError::Refused {
            cause: RefusalCause::Request,
            location: location.to_owned(),
            reason: "not an absolute path".to_owned(),
            hint: "write the path from the root, without `..`".to_owned(),
        });
    }
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    done.unwrap_or_else(|stopped| {
        Err(StorageError::Unavailable {
            location: location.to_owned(),
            reason: stopped.to_string(),
        })
    })
}

fn read_up_to(path: &Path, limit: u64) -> Result<Bytes, StorageError> {
    let read = || -> io::Result<(u64, Vec<u8>)> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(limit)).unwrap_or_default());
        // One byte more than the limit, to detect a file that grows meanwhile.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((size.max(bytes.len() as u64), bytes))
    };
    let (size, bytes) = read().map_err(|error| failed(path, &error))?;
    if size > limit {
        return Err(StorageError::TooLarge {
            location: path.display().to_string(),
            size,
            limit,
        });
    }
    Ok(bytes.into())
}

fn read_range(path: &Path, start: u64, length: u64) -> Result<Bytes, StorageError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 == length {
        Ok(bytes.into())
    } else {
        let location = path.display().to_string();
        Err(super::too_short(&location, start.saturating_add(length)))
    }
}

fn put_new(path: &Path, bytes: &[u8]) -> io::Result<PutOutcome> {
    create_folder_of(path)?;
    let temporary = staged_path(path);
    let write = || -> io::Result<PutOutcome> {
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link never replaces: of two at a time one fails, and the whole content appears at once.
        match fs::hard_link(&temporary, path) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(PutOutcome::Exists),
            Err(error) => Err(error),
        }
    };
    let outcome = write();
    let removed = fs::remove_file(&temporary);
    let outcome = outcome?;
    removed?;
    // Also if it exists: the other writer may not have synced yet, and the caller relies on it.
    sync_folder_of(path)?;
    Ok(outcome)
}

fn publish(path: &Path, staged: &Path, object: &StagedObject) -> Result<(), StorageError> {
    let lost = || StorageError::StagedLost {
        location: object.location.clone(),
    };
    let failed = |error: &io::Error| failed(path, error);
    match fs::metadata(staged) {
        Ok(metadata) if metadata.len() != object.size => return Err(lost()),
        Ok(_) => fs::rename(staged, path).map_err(|error| failed(&error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => match content_of(path) {
            Ok(found) if found == (object.size, object.crc32c) => {}
            Ok(_) => return Err(lost()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(lost()),
            Err(error) => return Err(failed(&error)),
        },
        Err(error) => return Err(failed(&error)),
    }
    sync_folder_of(path).map_err(|error| failed(&error))
}

/// Size and CRC-32C of a file.
fn content_of(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut size = 0;
    let mut crc32c = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, crc32c));
        }
        size += read as u64;
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
    }
}

/// `.<name>.<random>.staged` beside the object.
fn staged_path(path: &Path) -> PathBuf {
    let random = fastrand::u64(..);
    path.with_file_name(format!(".{}.{random:016x}{STAGED_SUFFIX}", file_name(path)))
}

/// The object that a staged file becomes; `None` if the file is not a staged file.
fn object_of_staged(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (object, random) = name
        .strip_prefix('.')?
        .strip_suffix(STAGED_SUFFIX)?
        .rsplit_once('.')?;
    let known = random.len() == 16 && random.chars().all(|c| c.is_ascii_hexdigit());
    (known && !object.is_empty()).then(|| path.with_file_name(object))
}

/// The staged file. Refused unless it belongs to this object, so that no manifest can move or
/// delete other files.
fn staged_of(object: &StagedObject) -> Result<PathBuf, StorageError> {
    if let Staging::File { staged_path } = &object.staging {
        let path = PathBuf::from(staged_path);
        if object_of_staged(&path).is_some_and(|becomes| becomes == Path::new(&object.location)) {
            return Ok(path);
        }
    }
    Err(StorageError::Refused {
        cause: RefusalCause::Request,
        location: object.location.clone(),
        reason: "its staging does not name a staged file of it".to_owned(),
        hint: "publish it where it was staged".to_owned(),
    })
}

/// The callback for each file below a folder.
type Visit<'a> = &'a mut dyn FnMut(&Path, &Metadata) -> Result<(), StorageError>;

/// Every file below `folder`, including hidden files but not the content of hidden folders. A
/// symbolic link counts if it leads to a file inside the folder, as in a mounted ConfigMap. A
/// missing folder has no files.
fn walk(folder: &Path, visit: Visit<'_>) -> Result<(), StorageError> {
    match fs::canonicalize(folder) {
        Ok(root) => walk_below(&root, folder, 0, visit),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(folder, &error)),
    }
}

fn walk_below(
    root: &Path,
    folder: &Path,
    depth: usize,
    visit: Visit<'_>,
) -> Result<(), StorageError> {
    if depth > DEPTH_MAX {
        return Err(failed(
            folder,
            &io::Error::new(ErrorKind::InvalidInput, "folders are nested too deep"),
        ));
    }
    // A folder that disappears meanwhile is treated as absent.
    let Some(entries) = if_there(fs::read_dir(folder), folder)? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        let path = entry.path();
        let Some(metadata) = if_there(entry.metadata(), &path)? else {
            continue;
        };
        if metadata.is_dir() && !file_name(&path).starts_with('.') {
            walk_below(root, &path, depth + 1, visit)?;
        } else if metadata.is_file() {
            visit(&path, &metadata)?;
        } else if metadata.is_symlink() {
            let Some(target) = if_there(fs::canonicalize(&path), &path)? else {
                continue;
            };
            let Some(metadata) = if_there(fs::metadata(&target), &path)? else {
                continue;
            };
            if target.starts_with(root) && metadata.is_file() {
                visit(&path, &metadata)?;
            }
        }
    }
    Ok(())
}

fn if_there<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>, StorageError> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some).map_err(|error| failed(path, &error)),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn info(path: &Path, metadata: &Metadata) -> Result<ObjectInfo, StorageError> {
    let Some(location) = path.to_str() else {
        return Err(failed(
            path,
            &io::Error::new(ErrorKind::InvalidFilename, "its name is not UTF-8"),
        ));
    };
    let etag = format!(
        "{:x}-{:x}.{:09}-{:x}",
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino()
    );
    Ok(ObjectInfo {
        location: location.to_owned(),
        size: metadata.len(),
        etag,
    })
}

/// Creates the folders of `path`; each new one is durable in its parent.
fn create_folder_of(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    let made: Vec<&Path> = folder
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    fs::create_dir_all(folder)?;
    made.iter().try_for_each(|folder| sync_folder_of(folder))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn not_found(path: &Path) -> StorageError {
    StorageError::NotFound {
        location: path.display().to_string(),
    }
}

/// Maps a file system error to the caller's error.
fn failed(path: &Path, error: &io::Error) -> StorageError {
    let location = path.display().to_string();
    let reason = error.to_string();
    let (cause, hint) = match error.kind() {
        ErrorKind::NotFound => return StorageError::NotFound { location },
        ErrorKind::PermissionDenied => (
            RefusalCause::Environment,
            "give this user the right to read and write there",
        ),
        ErrorKind::ReadOnlyFilesystem => (
            RefusalCause::Environment,
            "name a folder that can be written to",
        ),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => (
            RefusalCause::Environment,
            "a file stands where a folder is wanted, or the other way round; name another folder",
        ),
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => {
            (RefusalCause::Request, "rename it, or name another folder")
        }
        // A full disk may be cleared: retry.
        _ => return StorageError::Unavailable { location, reason },
    };
    StorageError::Refused {
        cause,
        location,
        reason,
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests;
