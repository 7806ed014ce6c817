//! Whether any visible object is in no manifest.
//!
//! Owns: the names in manifests, the listing. Does not own: the objects themselves (`objects`).
//! Rule: memory is 16 bytes per named object, as much per object that no manifest names, and a page
//! of the listing. Jobs may share a folder: objects without this job's name are counted, not
//! reported.

use super::finding::{Finding, Kind};
use crate::sink::Committer;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use streamctl_engine::storage::ObjectInfo;
use streamctl_proto::rewrite::is_rewritten;
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::{made_for_job, window_start_ms};
use streamctl_proto::{JobName, JobSpec, count, describe};

/// Objects of a job whose names are compared with a listing: about 130 MiB.
pub const NAMES_MAX: usize = 4_000_000;
/// Strays that are reported individually.
pub const STRAYS_MAX: usize = 1_000;

/// Names of objects, each as 128 bits of its SHA-256.
#[derive(Default)]
pub struct Names {
    hashes: HashSet<u128>,
    too_many: bool,
}

impl Names {
    /// Adds a name; returns false if it is a duplicate.
    pub fn add(&mut self, location: &str) -> bool {
        if self.hashes.len() >= NAMES_MAX {
            self.too_many = true;
            return true;
        }
        self.hashes.insert(hash(location))
    }

    /// Some names are missing because there are too many.
    pub fn too_many(&self) -> bool {
        self.too_many
    }
}

fn hash(location: &str) -> u128 {
    let digest = Sha256::digest(location.as_bytes());
    let (first, _) = digest
        .split_first_chunk::<16>()
        .expect("a SHA-256 has 32 bytes");
    u128::from_be_bytes(*first)
}

/// Objects of a listing that are not among the names.
#[derive(Debug, Default)]
pub struct Listed {
    /// Locations with the job's name, at most [`STRAYS_MAX`].
    pub strays: Vec<String>,
    /// Hashes of further ones, at most [`NAMES_MAX`].
    more: HashSet<u128>,
    /// Objects without the job's name.
    pub foreign: u64,
    /// Objects of windows before those that were checked: their manifests are not kept.
    pub before: u64,
}

/// What a listing is compared with.
pub struct Named<'a> {
    pub job: &'a JobName,
    pub names: &'a Names,
    /// Windows that begin earlier have no manifest any more; `None`: all have.
    pub since_ms: Option<i64>,
}

impl Named<'_> {
    /// Whether the object belongs to a window whose manifest is not kept.
    fn is_before(&self, file: &str) -> bool {
        let Some(since_ms) = self.since_ms else {
            return false;
        };
        // Only builds of long ago wrote another form.
        window_start_ms(file, self.job).is_none_or(|start_ms| start_ms < since_ms)
    }
}

/// The folders in which these versions of a job make objects visible, rows first. A folder inside
/// another is listed with it.
pub fn folders<'a>(versions: impl Iterator<Item = &'a JobSpec>) -> Vec<Location> {
    let mut all: Vec<Location> = vec![];
    let mut dead = vec![];
    for spec in versions {
        let folders = spec.sink.folders().into_iter();
        all.extend(folders.map(|(_, folder)| folder.clone()));
        dead.push(spec.dead_letters());
    }
    all.extend(dead);
    let inside = |folder: &Location| {
        all.iter()
            .any(|o| o != folder && folder.as_str().starts_with(o.as_str()))
    };
    let mut folders: Vec<Location> = vec![];
    for folder in all.iter().filter(|folder| !inside(folder)) {
        if !folders.contains(folder) {
            folders.push(folder.clone());
        }
    }
    folders
}

impl Listed {
    /// Whether an object with the job's name is in no known manifest.
    pub fn has_strays(&self) -> bool {
        !self.strays.is_empty() || !self.more.is_empty()
    }

    fn add(&mut self, location: String, named: &Named<'_>) {
        let name = location.rsplit('/').next().unwrap_or_default();
        if !made_for_job(name, named.job.as_str()) {
            self.foreign += 1;
        } else if named.names.hashes.contains(&hash(&location)) {
        } else if named.is_before(name) {
            self.before += 1;
        } else if self.strays.len() < STRAYS_MAX {
            self.strays.push(location);
        } else if self.more.len() < NAMES_MAX {
            self.more.insert(hash(&location));
        }
    }

    /// Removes objects that are named by manifests written meanwhile.
    pub fn remove<'a>(&mut self, locations: impl Iterator<Item = &'a str>) {
        let hashes: HashSet<u128> = locations.map(hash).collect();
        self.strays.retain(|stray| !hashes.contains(&hash(stray)));
        self.more.retain(|stray| !hashes.contains(stray));
    }
}

/// Lists a job's folders, page by page.
pub async fn list(
    committer: &dyn Committer,
    folders: &[Location],
    named: &Named<'_>,
) -> Result<Listed, Finding> {
    let mut listed = Listed::default();
    for folder in folders {
        let mut visit = |page: Vec<ObjectInfo>| {
            for object in page {
                // Rows of many epochs: the table shows them, or a record names them.
                if !is_rewritten(&object.location, &[folder.as_str()]) {
                    listed.add(object.location, named);
                }
            }
        };
        let visited = committer.visit(folder, &mut visit).await;
        visited.map_err(|error| {
            Finding::new(Kind::NotChecked, 0, folder.as_str(), describe(&error))
        })?;
    }
    Ok(listed)
}

/// The findings about strays.
pub fn findings(listed: &Listed) -> Vec<Finding> {
    let stray = |location: &String| {
        Finding::new(
            Kind::ObjectStray,
            0,
            location,
            "it carries this job's name, and no manifest names it",
        )
    };
    let mut found: Vec<Finding> = listed.strays.iter().map(stray).collect();
    if !listed.more.is_empty() {
        found.push(Finding::new(
            Kind::ObjectStray,
            0,
            "",
            format!(
                "and {} like these",
                count(listed.more.len() as u64, "more object")
            ),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::committer;
    use crate::store::contract;
    use streamctl_engine::storage::{MemoryStorage, Storages};

    #[tokio::test]
    async fn what_was_committed_meanwhile_is_no_stray_however_many_there_are() {
        let memory = MemoryStorage::default();
        let name = |n: usize| format!("memory://out/20261124T004500Z-sales-t1.1-{n}.json");
        let locations: Vec<String> = (0..STRAYS_MAX + 500).map(name).collect();
        for location in &locations {
            memory.put(location, "{}");
        }
        let storages = Storages::memory(memory);
        let job: JobName = "sales".parse().unwrap();
        let committer = committer(&storages, &contract::job("sales"));
        let names = Names::default();
        let named = |since_ms| Named {
            job: &job,
            names: &names,
            since_ms,
        };
        let folders = [Location::folder("memory://out/")];
        let begins_ms = 1_795_481_100_000;
        let later = named(Some(begins_ms + 1));
        let before = list(&*committer, &folders, &later).await.unwrap();
        assert!(!before.has_strays(), "nothing is known of their window");
        assert_eq!(before.before, locations.len() as u64);
        let mut listed = list(&*committer, &folders, &named(Some(begins_ms)))
            .await
            .unwrap();
        assert_eq!((listed.strays.len(), listed.more.len()), (STRAYS_MAX, 500));
        listed.remove(locations[1..].iter().map(String::as_str));
        assert!(listed.has_strays());
        listed.remove(locations[..1].iter().map(String::as_str));
        assert!(!listed.has_strays() && findings(&listed).is_empty());
    }
}
