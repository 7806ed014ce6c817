//! The wheels of a function in a folder of a storage.
//!
//! Owns: which files of the folder are needed, fetching them. Does not own: whether they are the
//! right ones: the installer compares their hashes.
//! Rule: one file is in memory at a time, and only files of pinned packages are fetched.

use super::environment_error::EnvironmentError;
use super::pinned::{Package, normal};
use std::path::Path;
use streamctl_engine::storage::{ObjectInfo, StorageError, Storages};
use streamctl_proto::spec::Location;

/// Largest wheel that is fetched.
const WHEEL_BYTES_MAX: u64 = 1 << 30;
/// Most wheels that are fetched for one function.
const WHEELS_MAX: usize = 1_000;

/// Fetches the wheels of these packages into a folder.
pub(super) async fn fetch(
    storages: &Storages,
    from: &Location,
    packages: &[Package],
    to: &Path,
) -> Result<(), EnvironmentError> {
    let storage = storages.for_location(from.as_str());
    let unread = |error: StorageError| EnvironmentError::Wheels {
        may_pass: matches!(error, StorageError::Unavailable { .. }),
        reason: error.to_string(),
    };
    let listed = storage.list(from).await.map_err(unread)?;
    let needed = needed(&listed, packages);
    if needed.len() > WHEELS_MAX {
        return Err(EnvironmentError::Wheels {
            may_pass: false,
            reason: format!(
                "{from} has {} wheels of the packages, at most {WHEELS_MAX} are possible",
                needed.len()
            ),
        });
    }
    let failed = |error: std::io::Error| EnvironmentError::Folder(error.to_string());
    tokio::fs::create_dir_all(to).await.map_err(failed)?;
    for wheel in needed {
        let bytes = storage.get(&wheel.location, WHEEL_BYTES_MAX).await;
        let path = to.join(file_name(&wheel.location));
        let written = tokio::fs::write(path, bytes.map_err(unread)?).await;
        written.map_err(failed)?;
    }
    Ok(())
}

fn file_name(location: &str) -> &str {
    location.rsplit('/').next().unwrap_or(location)
}

/// The files of these packages: those of the pinned versions, else all of a package whose version is
/// written in another way.
fn needed<'a>(listed: &'a [ObjectInfo], packages: &[Package]) -> Vec<&'a ObjectInfo> {
    let of = |object: &ObjectInfo| {
        let name = file_name(&object.location);
        let mut parts = name.strip_suffix(".whl")?.split('-');
        Some((normal(parts.next()?), parts.next()?.to_owned()))
    };
    let wheels: Vec<(&ObjectInfo, (String, String))> = listed
        .iter()
        .filter_map(|object| Some((object, of(object)?)))
        .collect();
    let mut needed = Vec::new();
    for package in packages {
        let named = wheels.iter().filter(|(_, (name, _))| *name == package.name);
        let (exact, others): (Vec<_>, Vec<_>) =
            named.partition(|(_, (_, version))| *version == package.version);
        let chosen = if exact.is_empty() { others } else { exact };
        needed.extend(chosen.into_iter().map(|(object, _)| *object));
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use streamctl_engine::storage::{MemoryStorage, Storage as _};

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
        }
    }

    #[tokio::test]
    async fn the_wheels_of_pinned_packages_are_fetched_and_no_others() {
        let storage = MemoryStorage::default();
        let names = [
            "my_package-1.0-py3-none-any.whl",
            "my_package-1.1-py3-none-any.whl",
            "Other-2.0.0-cp312-cp312-manylinux.whl",
            "large-3.0-py3-none-any.whl",
            "my_package-1.0.tar.gz",
            "notes.txt",
        ];
        for name in names {
            let location = format!("memory://w/wheels/{name}");
            let put = storage.put_new(&location, Bytes::from(name)).await;
            put.unwrap();
        }
        let storages = Storages::memory(storage);
        let from = Location::folder("memory://w/wheels/");
        let to = tempfile::tempdir().unwrap();
        let packages = [package("my-package", "1.0"), package("other", "2.0")];
        fetch(&storages, &from, &packages, to.path()).await.unwrap();
        let mut found: Vec<String> = std::fs::read_dir(to.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, [names[2], names[0]]);
    }
}
