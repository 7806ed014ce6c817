//! A folder as a catalog, for one machine.
//!
//! Owns: `metadata/vN.metadata.json` and the hint of the newest one, as DuckDB and others read them.
//! Does not own: manifests (`files`).
//! Rule: version N+1 is made under a lock from version N, and its name is taken once: a commit
//! either is the next version or did not happen.

use super::super::metadata::{METADATA_BYTES_MAX, TableMetadata};
use super::apply::{NotApplied, apply, created, log_previous};
use super::request::{CommitRequest, NewTable};
use super::{Catalog, CatalogError, CommitOutcome, Created, TableName};
use crate::clock::Clock;
use async_trait::async_trait;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;

/// Attempts to lock a table, with a pause between two.
const LOCK_ATTEMPTS_MAX: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Versions beyond the hint that are looked for: a process died before it wrote the hint.
const BEYOND_HINT_MAX: u64 = 1000;
const HINT: &str = "version-hint.text";
/// Metadata files that fell out of the log are removed if the table states this.
const DELETE_OLD: &str = "write.metadata.delete-after-commit.enabled";

/// Tables below a folder: `<folder>/<namespace>/<table>`.
#[derive(Clone)]
pub struct LocalCatalog {
    folder: PathBuf,
    clock: Clock,
}

impl fmt::Debug for LocalCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalCatalog").field(&self.folder).finish()
    }
}

/// Why a table's folder cannot be used.
enum Failure {
    Missing,
    Io(PathBuf, io::Error),
    Damaged(PathBuf, String),
    /// No table takes the request.
    Invalid(String),
    /// Another process holds the lock.
    Locked(PathBuf),
}

impl LocalCatalog {
    pub fn new(folder: &Path, clock: Clock) -> Self {
        Self {
            folder: folder.to_owned(),
            clock,
        }
    }

    fn place(&self, table: &TableName) -> Result<Place, CatalogError> {
        let mut folder = self.folder.clone();
        for part in table.namespace.iter().chain([&table.name]) {
            let outside = part == "." || part == ".." || part.contains(['/', '\\', '\0']);
            if outside {
                return Err(CatalogError::Refused {
                    reason: format!("{part:?} is not the name of a folder"),
                    hint: "name the table with letters, digits and _".into(),
                });
            }
            folder.push(part);
        }
        Ok(Place { folder })
    }

    /// Runs on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        table: &TableName,
        work: impl FnOnce(&Place) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let place = self.place(table)?;
        let done = tokio::task::spawn_blocking(move || work(&place)).await;
        let done = done.map_err(|error| CatalogError::Unavailable {
            reason: error.to_string(),
        })?;
        done.map_err(|failure| failed(table, failure))
    }
}

fn failed(table: &TableName, failure: Failure) -> CatalogError {
    match failure {
        Failure::Missing => CatalogError::TableMissing {
            table: table.clone(),
        },
        Failure::Io(path, error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => CatalogError::Refused {
                reason: format!("{}: {error}", path.display()),
                hint: "give the process the right to write there".into(),
            },
            _ => CatalogError::Unavailable {
                reason: format!("{}: {error}", path.display()),
            },
        },
        Failure::Damaged(path, reason) => CatalogError::Refused {
            reason: format!("{}: {reason}", path.display()),
            hint: "restore the file, or remove it if an older version is the right one".into(),
        },
        Failure::Invalid(reason) => CatalogError::Refused {
            reason,
            hint: "this is a fault of streamctl; please report it".into(),
        },
        Failure::Locked(path) => CatalogError::Unavailable {
            reason: format!("{} is locked by another process", path.display()),
        },
    }
}

/// A table's folder.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn metadata(&self) -> PathBuf {
        self.folder.join("metadata")
    }

    fn file(&self, version: u64) -> PathBuf {
        self.metadata().join(format!("v{version}.metadata.json"))
    }

    /// The newest version.
    fn newest(&self) -> Result<u64, Failure> {
        let hint = fs::read_to_string(self.metadata().join(HINT));
        let hint = hint.ok().and_then(|text| text.trim().parse::<u64>().ok());
        let known = hint.filter(|version| self.file(*version).exists());
        let mut version = match known {
            Some(version) => version,
            None => self.listed()?.ok_or(Failure::Missing)?,
        };
        for _ in 0..BEYOND_HINT_MAX {
            if !self.file(version + 1).exists() {
                break;
            }
            version += 1;
        }
        Ok(version)
    }

    /// The newest version in the folder's listing.
    fn listed(&self) -> Result<Option<u64>, Failure> {
        let entries = match fs::read_dir(self.metadata()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::Io(self.metadata(), error)),
        };
        let version = |name: &str| {
            let number = name.strip_prefix('v')?.strip_suffix(".metadata.json")?;
            number.parse::<u64>().ok()
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| version(&name)).max())
    }

    fn read(&self, version: u64) -> Result<TableMetadata, Failure> {
        let path = self.file(version);
        let mut text = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(METADATA_BYTES_MAX + 1).read_to_end(&mut text));
        read.map_err(|error| Failure::Io(path.clone(), error))?;
        if text.len() as u64 > METADATA_BYTES_MAX {
            let reason = format!("it has more than {METADATA_BYTES_MAX} bytes");
            return Err(Failure::Damaged(path, reason));
        }
        serde_json::from_slice(&text).map_err(|error| Failure::Damaged(path, error.to_string()))
    }

    /// Creates the file of a version durably, unless it exists.
    fn write(&self, version: u64, table: &TableMetadata) -> Result<Created, Failure> {
        let path = self.file(version);
        let io = |error| Failure::Io(path.clone(), error);
        let text = serde_json::to_vec(table)
            .map_err(|error| Failure::Damaged(path.clone(), error.to_string()))?;
        let mut file = self.unnamed().map_err(io)?;
        file.write_all(&text).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                return Ok(Created::Exists);
            }
            Err(error) => return Err(io(error.error)),
        }
        let folder = File::open(self.metadata());
        folder.and_then(|folder| folder.sync_all()).map_err(io)?;
        // The hint saves a listing; the files decide.
        if let Err(error) = self.hint(version) {
            tracing::debug!(path = %path.display(), %error, "the version hint was not written");
        }
        Ok(Created::Created)
    }

    /// A file without its name yet, for all that the umask lets read it.
    fn unnamed(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(self.metadata())
    }

    fn hint(&self, version: u64) -> io::Result<()> {
        let mut hint = self.unnamed()?;
        hint.write_all(version.to_string().as_bytes())?;
        hint.persist(self.metadata().join(HINT))?;
        Ok(())
    }

    /// Held until it is dropped.
    fn lock(&self) -> Result<File, Failure> {
        let path = self.metadata().join(".lock");
        let io = |error| Failure::Io(path.clone(), error);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => Failure::Missing,
                _ => io(error),
            })?;
        for _ in 0..LOCK_ATTEMPTS_MAX {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
        }
        Err(Failure::Locked(path))
    }

    fn commit(&self, request: &CommitRequest, now_ms: i64) -> Result<CommitOutcome, Failure> {
        let _lock = self.lock()?;
        let version = self.newest()?;
        let base = self.read(version)?;
        let mut next = match apply(&base, request, now_ms) {
            Ok(next) => next,
            Err(NotApplied::Conflict(reason)) => return Ok(CommitOutcome::Conflict { reason }),
            Err(NotApplied::Invalid(reason)) => {
                return Err(Failure::Invalid(reason));
            }
        };
        let path = self.file(version).to_string_lossy().into_owned();
        let old = log_previous(&mut next, &path, base.last_updated_ms);
        match self.write(version + 1, &next) {
            Ok(Created::Created) => {}
            Ok(Created::Exists) => {
                let reason = format!("version {} was written by another process", version + 1);
                return Ok(CommitOutcome::Conflict { reason });
            }
            Err(Failure::Io(path, error)) => {
                // The file may have its name already.
                let reason = format!("{}: {error}", path.display());
                return Ok(CommitOutcome::Unknown { reason });
            }
            Err(other) => return Err(other),
        }
        if next
            .properties
            .get(DELETE_OLD)
            .is_some_and(|value| value == "true")
        {
            self.remove_old(&old);
        }
        Ok(CommitOutcome::Committed(Arc::new(next)))
    }

    /// Only files of this folder: the log is text that others may have written.
    fn remove_old(&self, files: &[String]) {
        for file in files {
            let path = Path::new(file);
            if path.parent() == Some(&self.metadata()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn create(&self, new: &NewTable, now_ms: i64) -> Result<Created, Failure> {
        let io = |error| Failure::Io(self.metadata(), error);
        fs::create_dir_all(self.metadata()).map_err(io)?;
        let _lock = self.lock()?;
        if self.listed()?.is_some() {
            return Ok(Created::Exists);
        }
        let location = fs::canonicalize(&self.folder).map_err(io)?;
        let uuid = random_uuid();
        let mut table = created(new, &uuid, &location.to_string_lossy(), now_ms);
        table
            .properties
            .entry(DELETE_OLD.to_owned())
            .or_insert_with(|| "true".to_owned());
        self.write(1, &table)
    }
}

/// Version 4.
fn random_uuid() -> String {
    let random = fastrand::u128(..);
    let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{versioned:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[async_trait]
impl Catalog for LocalCatalog {
    async fn load(&self, table: &TableName) -> Result<Arc<TableMetadata>, CatalogError> {
        let load = |place: &Place| {
            let version = place.newest()?;
            match place.read(version) {
                // It fell out of the log since it was looked for: there is a newer one.
                Err(Failure::Io(_, error)) if error.kind() == ErrorKind::NotFound => {
                    place.read(place.newest()?)
                }
                read => read,
            }
        };
        self.run(table, load).await.map(Arc::new)
    }

    async fn create(&self, new: &NewTable) -> Result<Created, CatalogError> {
        if new.location.is_some() {
            return Err(CatalogError::Refused {
                reason: "a table of a local catalog is in the catalog's folder".into(),
                hint: "leave the table's location out".into(),
            });
        }
        let now_ms = (self.clock)();
        let table = new.clone();
        self.run(&new.name, move |place| place.create(&table, now_ms))
            .await
    }

    async fn commit(
        &self,
        table: &TableName,
        request: &CommitRequest,
    ) -> Result<CommitOutcome, CatalogError> {
        let now_ms = (self.clock)();
        let request = request.clone();
        self.run(table, move |place| place.commit(&request, now_ms))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    fn catalog(folder: &Path) -> LocalCatalog {
        LocalCatalog::new(folder, Arc::new(|| 1_700_000_000_000))
    }

    #[tokio::test]
    async fn the_contract_holds() {
        let folder = tempfile::tempdir().unwrap();
        contract::contract(&catalog(folder.path()), "db", None).await;
    }

    #[tokio::test]
    async fn a_lost_hint_or_a_stale_one_does_not_hide_the_newest_version() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = catalog(folder.path());
        let table = contract::new_table("db", "t", None);
        catalog.create(&table).await.unwrap();
        for number in 1..=3 {
            let request = contract::properties(&[("n", &number.to_string())]);
            catalog.commit(&table.name, &request).await.unwrap();
        }
        let hint = folder.path().join("db/t/metadata").join(HINT);
        for text in ["1", "99", "x"] {
            fs::write(&hint, text).unwrap();
            let loaded = catalog.load(&table.name).await.unwrap();
            assert_eq!(loaded.properties["n"], "3", "hint {text:?}");
        }
        fs::remove_file(&hint).unwrap();
        let loaded = catalog.load(&table.name).await.unwrap();
        assert_eq!(loaded.metadata_log.len(), 3);
    }

    #[tokio::test]
    async fn old_metadata_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = catalog(folder.path());
        let mut table = contract::new_table("db", "t", None);
        let most = "write.metadata.previous-versions-max".to_owned();
        table.properties.insert(most, "2".into());
        catalog.create(&table).await.unwrap();
        for number in 1..=6 {
            let request = contract::properties(&[("n", &number.to_string())]);
            catalog.commit(&table.name, &request).await.unwrap();
        }
        let files = fs::read_dir(folder.path().join("db/t/metadata")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with('v')).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "v5.metadata.json",
                "v6.metadata.json",
                "v7.metadata.json",
                HINT
            ]
        );
    }

    #[tokio::test]
    async fn a_name_that_leads_out_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = TableName {
            namespace: vec!["..".into()],
            name: "t".into(),
        };
        let error = catalog(folder.path()).load(&name).await.unwrap_err();
        assert!(matches!(error, CatalogError::Refused { .. }), "{error}");
    }
}
